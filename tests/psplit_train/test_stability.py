"""Alarms on made series, each on its kind and none on healthy ones; the controller on plants."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_train.config import AlarmSettings, ControllerSettings
from psplit_train.stability import LEAST_ENTROPY_BITS, EntropyController, Monitor

MODES = ("normal", "high")
QUICK = AlarmSettings(window=4)


def rung(series, settings=QUICK, metric=None, modes=MODES, **others):
    """(step, name) of every alarm on one metric, a value a step."""
    monitor = Monitor(settings, modes)
    return [
        (alarm.step, alarm.name)
        for step, value in enumerate(series)
        for alarm in monitor.observe(step, {metric: value, **others})
    ]


# -- each alarm on its own kind of series ---------------------------------------------------------


def test_inflation_is_measured_from_the_first_window():
    # start .5, limit 2 bits; 10 s: means .5, 2.875 (the first of them) and on
    assert rung([0.5] * 4 + [10] * 9, metric="entropy_bits/high") == [(4, "inflation")]
    assert rung([0.5] * 4 + [2] * 9, metric="entropy_bits/high") == []  # at the limit, not above
    assert rung([0.5] * 4 + [2.1] * 9, metric="entropy_bits/high") == [(7, "inflation")]
    assert rung([5.0] * 20, metric="entropy_bits/high") == []  # it is what it was


def test_a_mode_that_starts_at_nearly_no_entropy_may_have_some():
    assert rung([0.01] * 4 + [3.9 * LEAST_ENTROPY_BITS] * 9, metric="entropy_bits/high") == []
    assert rung([0.01] * 4 + [4.1 * LEAST_ENTROPY_BITS] * 9, metric="entropy_bits/high") != []


def test_collapse_is_measured_from_the_best_window():
    # best .8, limit .4; then .2: window means .65 .5 .35, but .35 has not fallen by 6 errors yet
    series = [0.1] * 4 + [0.8] * 4 + [0.2] * 6
    assert rung(series, metric="reward/normal") == [(11, "collapse")]
    assert rung([0.8] * 4 + [0.41] * 9, metric="reward/normal") == []


def test_rewards_that_were_never_above_0_cannot_collapse():
    assert rung([0.0] * 30, metric="reward/normal") == []
    assert rung([-0.1] * 8 + [-5.0] * 8, metric="reward/normal") == []


def test_half_of_a_rare_reward_can_be_gone_by_chance():
    rng = np.random.default_rng(0)
    rare = rng.binomial(64, 0.02, size=(20, 300)) / 64
    assert not any(rung(series, AlarmSettings(), metric="reward/normal") for series in rare)
    # though there are windows below half of the best
    means = np.lib.stride_tricks.sliding_window_view(rare, 20, axis=1).mean(-1)
    assert (means < np.maximum.accumulate(means, axis=1) / 2).any()


def test_a_noisy_reward_that_is_lost_is_a_collapse():
    rng = np.random.default_rng(0)
    for before, after in [(0.5, 0.15), (0.9, 0.4), (0.15, 0.02)]:
        levels = np.repeat([before, after], 100)
        found = rung(rng.binomial(64, levels) / 64, AlarmSettings(), metric="reward/high")
        assert [name for _, name in found][:1] == ["collapse"]
        assert 100 < found[0][0] < 130


@pytest.mark.parametrize("metric", ["kl_bits/high_normal", "kl_bits/normal_high"])
def test_runaway_needs_a_window_but_no_start(metric):
    assert rung([2.5] * 8, metric=metric) == [(3, "runaway")]
    assert rung([1.0, 1.0, 5.0, 0.9] * 3, metric=metric) == []  # a mean, not a peak: at most 1.975
    assert rung([2.0] * 9, metric=metric) == []


def test_dead_groups_are_told_with_the_mean_reward():
    assert rung([0.9] * 9, metric="dead_groups") == []
    monitor = Monitor(QUICK, MODES)
    seen = {"dead_groups": 1.0, "reward/normal": 0.0, "reward/high": 0.02}
    (alarm,) = [alarm for step in range(9) for alarm in monitor.observe(step, seen)]
    assert (alarm.name, alarm.metric, alarm.step) == ("dead", "dead_groups", 3)
    assert "mean reward is 0.01" in alarm.message


def test_an_alarm_is_one_line_with_value_limit_step_and_help():
    monitor = Monitor(QUICK, MODES)
    series = [0.5] * 4 + [3.0] * 4
    found = [a for i, v in enumerate(series) for a in monitor.observe(i, {"entropy_bits/high": v})]
    (alarm,) = found
    assert (alarm.value, alarm.limit) == (2.375, 2.0)  # (.5 + 3 + 3 + 3) / 4
    assert str(alarm) == (
        "step 6: inflation: the entropy of mode 'high' is 2.38 bits a token (a mean over 4 steps), "
        "above 2 (4 times its start of 0.5); lower eta, set kappa above 0, or give "
        "stability.controller a target"
    )


def test_every_line_is_one_line_and_says_what_helps():
    monitor = Monitor(QUICK, MODES)
    healthy = {"entropy_bits/high": 0.5, "reward/normal": 0.8}
    ill = {
        "entropy_bits/high": 9.0,
        "reward/normal": 0.0,
        "kl_bits/high_normal": 9.0,
        "dead_groups": 1.0,
    }
    found = [a for i in range(8) for a in monitor.observe(i, healthy if i < 4 else ill)]
    assert {alarm.name for alarm in found} == {"inflation", "collapse", "runaway", "dead"}
    for alarm in found:
        head, _, advice = str(alarm).partition("; ")
        assert head.startswith(f"step {alarm.step}: {alarm.name}: ")
        assert f"{alarm.value:.3g}" in head
        assert f"{alarm.limit:.3g}" in head
        assert advice
        assert "\n" not in str(alarm)


def test_an_alarm_rings_once_and_again_after_a_window_of_quiet():
    loud, low = [5.0] * 10, [0.0] * 12
    assert [step for step, _ in rung(loud + low + loud, metric="kl_bits/high_normal")] == [3, 23]
    # around its limit it does not ring at every turn
    turning = [5.0, 5.0, 0.0, 0.0, 0.0] * 12
    assert (
        len(rung(turning, AlarmSettings(window=4, kl_bits=2.4), metric="kl_bits/high_normal")) == 1
    )


def test_each_alarm_can_be_turned_off():
    off = AlarmSettings(
        window=4, entropy_factor=None, collapse_share=None, kl_bits=None, dead_share=None
    )
    for metric in ("entropy_bits/high", "reward/high", "kl_bits/high_normal", "dead_groups"):
        series = [1.0] * 4 + [99.0] * 4 + [0.0] * 9
        assert rung(series, metric=metric)
        assert rung(series, off, metric=metric) == []


def test_only_the_run_s_own_modes_and_pairs_are_watched():
    assert rung([9.0] * 9, metric="kl_bits/low_normal") == []
    three = ("normal", "high", "low")
    assert rung([9.0] * 9, metric="kl_bits/low_normal", modes=three) != []
    assert rung([9.0] * 9, metric="kl_bits/low_high", modes=three) == []
    monitor = Monitor(QUICK, three, {"low": "high"})
    seen = {"kl_bits/low_high": 9.0, "kl_bits/low_normal": 9.0, "kl_bits/high_normal": 9.0}
    rang = [alarm.metric for step in range(9) for alarm in monitor.observe(step, seen)]
    assert sorted(rang) == ["kl_bits/high_normal", "kl_bits/low_high"]


# -- healthy series, and those with holes ---------------------------------------------------------


@st.composite
def healthy_runs(draw):
    """Logs in whose numbers nothing can go wrong by the default limits, noisy and with holes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = draw(st.integers(1, 120))
    rise = np.linspace(draw(st.floats(0.01, 1)), 1, steps)
    entropy, reward = draw(st.floats(0.01, 3)), draw(st.floats(0.001, 1))
    log = {
        # within a factor of 4 of any start
        "entropy_bits/normal": entropy * rng.uniform(0.5, 2, steps),
        "entropy_bits/high": entropy * rng.uniform(0.5, 2, steps),
        # .7 / 1.3 is above a half, and it rises
        "reward/normal": reward * rise * rng.uniform(0.7, 1.3, steps),
        "reward/high": reward * rise * rng.uniform(0.7, 1.3, steps),
        "kl_bits/high_normal": 2 * rng.uniform(0, 1, steps) ** 3,
        "kl_bits/normal_high": 2 * rise * rng.uniform(0, 1, steps),
        "dead_groups": rng.uniform(0, 0.94, steps),
    }
    holes = rng.random((len(log), steps)) < draw(st.sampled_from([0.0, 0.1, 0.9]))
    unknown = draw(st.sampled_from([math.nan, math.inf, -math.inf, None]))
    return [
        {
            name: (unknown if holes[i, step] else float(values[step]))
            for i, (name, values) in enumerate(log.items())
            if unknown is not None or not holes[i, step]
        }
        for step in range(steps)
    ]


@given(healthy_runs())
@settings(max_examples=60)
def test_a_healthy_run_rings_nothing(log):
    monitor = Monitor(AlarmSettings(), MODES)
    assert [a for step, metrics in enumerate(log) for a in monitor.observe(step, metrics)] == []


@given(
    healthy_runs(),
    st.sampled_from(["inflation", "collapse", "runaway", "dead"]),
    st.integers(1, 30),
)
@settings(max_examples=60)
def test_an_ill_end_of_a_healthy_run_rings_its_own_alarm(log, kind, window):
    metric, ill = {
        "inflation": ("entropy_bits/high", 100.0),
        "collapse": ("reward/normal", 0.0),
        "runaway": ("kl_bits/high_normal", 50.0),
        "dead": ("dead_groups", 1.0),
    }[kind]
    monitor = Monitor(AlarmSettings(window=window), MODES)
    healthy = {"entropy_bits/high": 1.0, "reward/normal": 0.5}
    log = [{**metrics, **healthy} for metrics in log] + [healthy] * window
    log += [{**healthy, metric: ill}] * window
    found = [a.name for step, metrics in enumerate(log) for a in monitor.observe(step, metrics)]
    assert kind in found


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.data())
def test_unknown_values_are_as_if_they_were_not_there(values, data):
    metrics = ("entropy_bits/high", "reward/high", "kl_bits/high_normal", "dead_groups")
    gaps = data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    holed = [x for v, n in zip(values, gaps, strict=True) for x in [*[math.nan] * n, v]]
    for metric in metrics:
        names = [name for _, name in rung(values, metric=metric)]
        assert [name for _, name in rung(holed, metric=metric)] == names


# -- resume ---------------------------------------------------------------------------------------


@given(healthy_runs(), st.data())
def test_a_resumed_monitor_goes_on_exactly(log, data):
    tight = AlarmSettings(window=3, entropy_factor=1.1, collapse_share=0.9, kl_bits=0.3)
    whole, first, second = (Monitor(tight, MODES) for _ in range(3))
    cut = data.draw(st.integers(0, len(log)))
    expected = [a for step, metrics in enumerate(log) for a in whole.observe(step, metrics)]
    found = [a for step in range(cut) for a in first.observe(step, log[step])]
    second.load(json.loads(json.dumps(first.state())))
    found += [a for step in range(cut, len(log)) for a in second.observe(step, log[step])]
    assert found == expected
    assert second.state() == whole.state()


# -- the controller -------------------------------------------------------------------------------


def controlled(settings, eta, plant, steps):
    """eta and entropy a step, of a plant: entropy, eta → next entropy."""
    controller = EntropyController(settings, eta)
    entropy, etas, entropies = plant(None, controller.eta), [], []
    for _ in range(steps):
        etas.append(controller.update(entropy))
        entropy = plant(entropy, etas[-1])
        entropies.append(entropy)
    return etas, entropies


def test_a_step_is_the_rate_times_what_is_missing():
    controller = EntropyController(ControllerSettings(target_bits=1.0, rate=0.1), 0.2)
    assert controller.update(0.5) == pytest.approx(0.25)
    assert controller.update(2.0) == pytest.approx(0.15)
    assert controller.update(math.nan) == controller.update(math.inf) == pytest.approx(0.15)


def test_one_of_a_gap_begins_at_its_bound_and_shrinks_beyond_the_target():
    controller = EntropyController.of_gap(0.4, 0.3)
    assert controller.update(0.1) == 0.3
    assert controller.update(0.9) == pytest.approx(0.29)
    assert controller.update(0.4) == pytest.approx(0.29)
    assert controller.update(0.0) == pytest.approx(0.298)


@given(st.floats(0.5, 5), st.floats(0.05, 1), st.floats(0.3, 0.9), st.floats(0, 1))
def test_it_meets_a_target_that_can_be_met(gain, lag, level, start):
    """Entropy lags behind base + gain * eta."""
    base, target = 0.2, 0.2 + 0.8 * level * gain  # met at eta = .8 * level

    def plant(entropy, eta):
        goal = base + gain * eta
        return base if entropy is None else entropy + lag * (goal - entropy)

    settings = ControllerSettings(target_bits=target, rate=0.02)
    etas, entropies = controlled(settings, start, plant, 6000)
    assert entropies[-1] == pytest.approx(target, abs=0.02)
    assert etas[-1] == pytest.approx(0.8 * level, abs=0.02)


@given(st.lists(st.floats(0, 20), max_size=40), st.floats(-1, 3), st.floats(0, 0.4))
def test_eta_stays_within_its_bounds_whatever_comes(entropies, eta, low):
    settings = ControllerSettings(target_bits=2.0, low=low, high=0.5, rate=0.5)
    controller = EntropyController(settings, eta)
    assert low <= controller.eta <= 0.5
    assert all(low <= controller.update(entropy) <= 0.5 for entropy in entropies)


def test_nothing_is_wound_up_at_a_bound():
    controller = EntropyController(ControllerSettings(target_bits=1.0, high=0.5, rate=0.1), 0.1)
    for _ in range(1000):  # out of reach: it stands at its bound
        controller.update(0.0)
    assert controller.eta == 0.5
    assert controller.update(1.5) == pytest.approx(0.45)  # and leaves it at once


def test_a_resumed_controller_goes_on_exactly():
    settings = ControllerSettings(target_bits=1.0)
    first, second = EntropyController(settings, 0.1), EntropyController(settings, 0.9)
    first.update(0.3)
    second.load(json.loads(json.dumps(first.state())))
    assert second.eta == first.eta
    assert second.update(0.123) == first.update(0.123)
