"""Calibrated means and differences: hand calculation, a library's numbers, properties, coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from psplit_eval.calibration import (
    FEW_LABELLED,
    Scores,
    calibrated_difference,
    calibrated_mean,
    draw_to_label,
)
from psplit_eval.stats import MINIMUM_DOCS, Difference, mean_estimate, paired_mean_difference

NAN = math.nan


def estimates(found):
    parts = (found.estimate, found.judge_mean, found.human_mean, found.judge_bias)
    return np.array([(each.value, each.ci_low, each.ci_high) for each in parts])


def half(found):
    return (found.ci_high - found.ci_low) / 2


# --- by hand ---


def test_a_hand_calculation():
    """Six docs with a sample each, five labelled; λ 1/2.

    Judge 1 2 3 4 5 9, mean 4; on the labelled 3. Human 2 2 5 4 7, mean 4. So θ = 4 + (4 − 3) / 2.
    With J − 4 = −3 −2 −1 0 1 5 a sixth each (times √(6/5)), G − 3 = −2 −1 0 1 2 and
    H − 4 = −2 −2 1 0 3 a fifth each (times √(5/4)).
    """
    scores = Scores(range(6), [1, 2, 3, 4, 5, 9], [2, 2, 5, 4, 7, NAN])
    found = calibrated_mean(scores, judge_weight=0.5)
    assert found.estimate.value == pytest.approx(4.5)
    every = np.array([-3, -2, -1, 0, 1, 5]) / 6 * math.sqrt(6 / 5)
    judged = np.array([-2, -1, 0, 1, 2, 0]) / 5 * math.sqrt(5 / 4)
    human = np.array([-2, -2, 1, 0, 3, 0]) / 5 * math.sqrt(5 / 4)
    squares = (0.5 * (every - judged) + human) ** 2
    inside, outside = squares[:5].sum(), squares[5]
    freedom = (inside + outside) ** 2 / (inside**2 / 4 + outside**2 / 1)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(inside + outside)
    assert half(found.estimate) == pytest.approx(reach)
    assert found.equivalent_labels == pytest.approx(5 * (human**2).sum() / squares.sum())
    assert (found.judge_bias.value, found.labels) == (pytest.approx(-1), 5)
    assert half(found.judge_bias) == pytest.approx(
        stats.t.ppf(0.975, 4) * math.sqrt(((judged - human) ** 2).sum())
    )


def test_tuned_by_hand_every_doc_with_the_weight_of_the_others():
    """Each doc's λ is the least-squares slope of −β on α without that doc."""
    scores = Scores(range(8), [1, 2, 3, 4, 5, 9, 6, 2], [2, 2, 4, 3, 4, 5, NAN, NAN])
    found = calibrated_mean(scores)
    judge, human = np.array(scores.judge), np.array(scores.human)[:6]
    every = (judge - judge.mean()) / 8
    judged = np.concatenate([(judge[:6] - judge[:6].mean()) / 6, [0, 0]])
    alpha = every * math.sqrt(8 / 7) - judged * math.sqrt(6 / 5)
    beta = np.concatenate([(human - human.mean()) / 6 * math.sqrt(6 / 5), [0, 0]])
    gamma = every - np.concatenate([(judge[:6] - judge.mean()) / 6, [0, 0]])
    weights = []
    for doc in range(8):
        rest = np.arange(8) != doc
        slope = np.linalg.lstsq(alpha[rest, None], -beta[rest], rcond=None)[0][0]
        weights.append(min(1, max(0, slope)))
    assert 0 < min(weights) < max(weights) < 1  # the case tests what it says
    assert found.estimate.value == pytest.approx(human.mean() + weights @ gamma)
    assert found.judge_weight == pytest.approx(np.linalg.lstsq(alpha[:, None], -beta)[0][0])
    squares = (beta + weights * alpha) ** 2
    parts = squares[:6].sum(), squares[6:].sum()
    freedom = squares.sum() ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 1)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(squares.sum())
    assert half(found.estimate) == pytest.approx(reach)


def test_docs_weigh_the_same_however_many_samples_they_have():
    """Five docs with one labelled sample of one, one with two labelled of four."""
    docs = [0, 1, 2, 3, 4, 5, 5, 5, 5]
    human = [1, 2, 3, 4, 5, 10, 20, NAN, NAN]
    found = calibrated_mean(Scores(docs, np.zeros(9), human))
    assert found.human_mean.value == pytest.approx((1 + 2 + 3 + 4 + 5 + 10 / 4 + 20 / 4) / 5.5)
    assert found.estimate.value == found.human_mean.value


# --- against ppi-python ---

# ppi-python 0.2.3 with numpy 2.4.6, human and judge from library_case() below, n = 12 of 40:
#     ppi_mean_pointestimate(human[:n], judge[:n], judge[n:], lam=lam)
#     ppi_mean_ci(human[:n], judge[:n], judge[n:], alpha=0.05, lam=lam)
PPI_PYTHON = {
    0.0: (5.168333333333334, 4.0090380770029626, 6.327628589663705),
    0.5: (4.8290476190476195, 4.04299063724481, 5.615104600850429),
    0.7: (4.6933333333333325, 3.7298510475778808, 5.656815619088785),
}
# n = 400 of 2 000 and λ tuned (no lam given), from library_case(2000):
PPI_PYTHON_TUNED = (5.680557012381913, 5.557943924957104, 5.803170099806722)


def library_case(docs=40):
    i = np.arange(docs)
    if docs == 40:
        judge = (7 * i * i + 3 * i) % 23 / 2
        return np.round(0.6 * judge + 1 + (5 * i * i + i) % 7 / 3, 2), judge
    judge = (7 * i * i + 3 * i) % 1009 / 100
    return 0.6 * judge + 1 + (5 * i * i + i) % 997 / 300, judge


@pytest.mark.parametrize("lam", PPI_PYTHON)
def test_without_clusters_it_is_what_the_library_computes(lam):
    """There, labelled samples are no part of the others: its λ is ours × 28 / 40.

    It takes the normal quantile and divides variances by n; with n − 1 they are by 12 / 11 greater,
    those of the 28 by 28 / 27. It takes the labelled and the other docs' means apart, psplit takes
    one mean of all, so errors agree within 0.5 %, and exactly without a judge.
    """
    human, judge = library_case()
    shown = np.where(np.arange(40) < 12, human, NAN)
    arm = Scores(range(40), judge, shown)
    found = calibrated_difference(  # of a constant 0 and the case: it gives the standard error
        Scores(range(40), np.zeros(40), 0 * shown), arm, judge_weight=lam * 40 / 28
    ).difference
    value, low, high = PPI_PYTHON[lam]
    assert calibrated_mean(arm, judge_weight=lam * 40 / 28).estimate.value == pytest.approx(value)
    assert found.value_b == pytest.approx(value)
    theirs = ((high - low) / 2 / stats.norm.ppf(0.975)) ** 2
    others = (lam * judge[12:]).var() / 28
    unbiased = (theirs - others) * 12 / 11 + others * 28 / 27
    assert found.spread.error == pytest.approx(math.sqrt(unbiased), rel=1e-9 if lam == 0 else 0.005)


def test_tuned_on_many_docs_it_is_what_the_library_computes():
    human, judge = library_case(2000)
    shown = np.where(np.arange(2000) < 400, human, NAN)
    found = calibrated_mean(Scores(range(2000), judge, shown)).estimate
    value, low, high = PPI_PYTHON_TUNED
    assert found.value == pytest.approx(value, abs=0.05 * (high - low))
    assert half(found) == pytest.approx((high - low) / 2, rel=0.02)


# --- where the answer is known ---


@pytest.fixture
def case():
    """Thirty docs of four samples, every third sample labelled."""
    rng = np.random.default_rng(5)
    docs = np.repeat(np.arange(30), 4)
    human = np.round(5 + rng.normal(0, 1, 30)[docs] + rng.normal(0, 1, 120), 1)
    judge = human + 2 + rng.normal(0, 1, 120)
    return docs, judge, human, np.where(np.arange(120) % 3 == 0, human, NAN)


def test_with_all_samples_labelled_it_is_the_human_mean(case):
    docs, judge, human, _ = case
    found = calibrated_mean(Scores(docs, judge, human))
    wanted = mean_estimate(human.reshape(30, 4).mean(axis=1))
    for estimate in (found.estimate, found.human_mean):
        assert (estimate.value, estimate.ci_low, estimate.ci_high) == pytest.approx(
            (wanted.value, wanted.ci_low, wanted.ci_high)
        )
    assert found.equivalent_labels == pytest.approx(120)
    assert found.judge_weight == 0
    assert found.note.startswith("all samples are labelled: the human mean")


@pytest.mark.parametrize("constant", [0.0, 7.3])
def test_with_a_judge_that_says_one_thing_it_is_the_human_mean(case, constant):
    docs, _, _, shown = case
    found = calibrated_mean(Scores(docs, np.full(120, constant), shown))
    assert found.judge_weight == 0
    assert (found.estimate.ci_low, found.estimate.ci_high) == pytest.approx(
        (found.human_mean.ci_low, found.human_mean.ci_high)
    )
    assert found.equivalent_labels == pytest.approx(found.labels)


def test_without_the_judge_it_is_students_interval():
    """One label a doc, other docs without: the classical interval of the labelled docs."""
    human = [3, 1, 4, 1, 5, 9, 2, 6, NAN, NAN, NAN]
    found = calibrated_mean(Scores(range(11), np.arange(11.0) ** 2, human), judge_weight=0)
    wanted = mean_estimate(human[:8])
    for estimate in (found.estimate, found.human_mean):
        assert (estimate.value, estimate.ci_low, estimate.ci_high) == pytest.approx(
            (wanted.value, wanted.ci_low, wanted.ci_high)
        )


def test_a_judge_against_people_is_not_used(case):
    docs, judge, _, shown = case
    found = calibrated_mean(Scores(docs, -judge, shown))
    assert found.judge_weight == 0
    assert found.estimate.value == pytest.approx(found.human_mean.value)


def test_a_judge_that_is_always_right_but_for_a_bias_stands_for_all_labels(case):
    docs, _, human, shown = case
    found = calibrated_mean(Scores(docs, human + 3, shown))
    assert found.judge_weight == 1
    assert found.estimate.value == pytest.approx(human.mean(), abs=half(found.estimate) / 20)
    assert (found.judge_bias.value, found.judge_bias.ci_low) == pytest.approx((3, 3))
    whole = mean_estimate(human.reshape(30, 4).mean(axis=1))
    assert half(found.estimate) == pytest.approx(half(whole), rel=0.05)


def test_no_calibrated_mean_of_too_few_docs(case):
    docs, judge, human, _ = case
    shown = np.where(docs < MINIMUM_DOCS - 1, human, NAN)
    found = calibrated_mean(Scores(docs, judge, shown))
    assert np.isnan(
        [found.estimate.value, found.estimate.ci_low, found.judge_weight, found.equivalent_labels]
    ).all()
    assert found.human_mean.value == pytest.approx(human[: 4 * (MINIMUM_DOCS - 1)].mean())
    assert math.isnan(found.human_mean.ci_low)
    assert found.judge_mean.value == pytest.approx(judge.mean())
    assert found.note.startswith("undefined: 4 labelled docs, expected 5 or more")


def test_without_labels_and_without_samples_nothing_is_known():
    found = calibrated_mean(Scores(range(9), range(9), [NAN] * 9))
    assert np.isnan([found.estimate.value, found.human_mean.value, found.judge_bias.value]).all()
    nothing = calibrated_mean(Scores([], [], []))
    assert (math.isnan(nothing.estimate.value), nothing.estimate.n) == (True, 0)


def test_few_labelled_docs_are_said():
    def note(labelled):
        human = np.where(np.arange(80) < labelled, np.arange(80.0), NAN)
        return calibrated_mean(Scores(range(80), np.arange(80.0) ** 2, human)).note

    assert f"{FEW_LABELLED - 1} labelled docs: with fewer than" in note(FEW_LABELLED - 1)
    assert note(FEW_LABELLED) == ""


def test_human_scores_that_do_not_vary_have_no_interval(case):
    docs, judge, _, shown = case
    found = calibrated_mean(Scores(docs, judge, np.where(np.isnan(shown), NAN, 7.3)))
    assert (found.estimate.value, found.judge_weight) == (pytest.approx(7.3), 0)
    assert math.isnan(found.estimate.ci_low)
    assert found.note.startswith("human scores do not vary: no interval")


@pytest.mark.parametrize(
    ("docs", "judge", "human", "said"),
    [
        ([0, 1], [1.0], [1.0, 2.0], "shapes"),
        ([0, 1], [1.0, NAN], [1.0, 2.0], "judge's scores"),
        ([0, 1], [1.0, 2.0], [1.0, math.inf], "human scores"),
    ],
)
def test_what_is_no_score_is_refused(docs, judge, human, said):
    with pytest.raises(ValueError, match=said):
        Scores(docs, judge, human)


@pytest.mark.parametrize("weight", [-0.1, 1.1, NAN])
def test_a_weight_that_is_none_is_refused(case, weight):
    docs, judge, _, shown = case
    with pytest.raises(ValueError, match=r"expected a number in \[0, 1\]"):
        calibrated_mean(Scores(docs, judge, shown), judge_weight=weight)


# --- two modes ---


def test_a_difference_with_all_labelled_is_the_paired_difference(case):
    docs, judge, human, _ = case
    other = np.round(human + 0.3 + np.random.default_rng(1).normal(0, 1, 120), 1)
    found = calibrated_difference(Scores(docs, judge, human), Scores(docs, judge, other))
    wanted = paired_mean_difference(*(x.reshape(30, 4).mean(axis=1) for x in (human, other)))
    for each in (found.difference, found.human_difference):
        assert isinstance(each, Difference)
        assert (each.value_a, each.value_b, each.ci_low, each.ci_high, each.p) == pytest.approx(
            (wanted.value_a, wanted.value_b, wanted.ci_low, wanted.ci_high, wanted.p)
        )
    assert found.labels == (120, 120)
    assert found.difference.n == 30


def test_a_difference_is_that_of_docs_own_differences(case):
    """With one sample a doc, labelled in both or in neither, it is the mean of b − a."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(5, 1, (2, 50))
    judged = a + rng.normal(0, 1, 50), b + rng.normal(1, 1, 50)
    shown = [np.where(np.arange(50) < 20, x, NAN) for x in (a, b)]
    arms = [Scores(range(50), *pair) for pair in zip(judged, shown, strict=True)]
    found = calibrated_difference(*arms)
    gaps = calibrated_mean(Scores(range(50), judged[1] - judged[0], shown[1] - shown[0]))
    seen = found.difference
    assert (seen.difference, seen.ci_low, seen.ci_high) == pytest.approx(
        (gaps.estimate.value, gaps.estimate.ci_low, gaps.estimate.ci_high)
    )
    assert found.judge_weight == pytest.approx(gaps.judge_weight)
    assert found.judge_bias.value == pytest.approx(gaps.judge_bias.value)
    assert found.equivalent_labels == pytest.approx(2 * gaps.equivalent_labels)


def test_docs_labelled_in_one_mode_only_count(case):
    """Modes labelled in docs apart: variances of independent human means add up."""
    docs, judge, human, _ = case
    low, high = (np.where(side, human, NAN) for side in (docs < 15, docs >= 15))
    arms = Scores(docs, judge, low), Scores(docs, judge, high)
    found = calibrated_difference(*arms, judge_weight=0).difference
    alone = [calibrated_mean(arm).human_mean for arm in arms]
    assert found.difference == pytest.approx(alone[1].value - alone[0].value)
    assert half(found) == pytest.approx(math.hypot(half(alone[0]), half(alone[1])), rel=1e-9)
    assert found.spread.freedom == pytest.approx(14)


def test_the_poorer_labelled_mode_decides_how_sure_a_difference_is(case):
    docs, judge, human, _ = case
    few, many = (np.where(docs < n, human, NAN) for n in (6, 30))
    for pair in ((few, many), (many, few)):
        arms = [Scores(docs, judge, shown) for shown in pair]
        found = calibrated_difference(*arms, judge_weight=0).difference
        assert found.spread.freedom == pytest.approx(5)


def test_docs_of_one_mode_only_are_left_out(case):
    docs, judge, human, shown = case
    part, other = docs < 20, np.where(np.arange(120) % 5 < 2, human[::-1], NAN)
    fewer = Scores(docs[part], judge[part], shown[part])
    found = calibrated_difference(fewer, Scores(docs, judge[::-1], other))
    again = calibrated_difference(fewer, Scores(docs[part], judge[::-1][part], other[part]))
    assert found == again
    assert (found.difference.n, found.difference.spread.n) == (20, 20)


def test_a_difference_needs_labels_in_both(case):
    docs, judge, _, shown = case
    unlabelled = Scores(docs, judge, np.full(120, NAN))
    found = calibrated_difference(Scores(docs, judge, shown), unlabelled)
    assert np.isnan([found.difference.difference, found.difference.ci_low]).all()
    assert math.isnan(found.difference.p)
    assert found.human_difference.value_a == pytest.approx(np.nanmean(shown), rel=0.2)
    assert found.note.startswith("undefined: 0 labelled docs")


# --- properties ---

tables = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def random_case(rng):
    docs = np.sort(rng.integers(0, 12, 40))
    human = rng.integers(0, 11, 40).astype(float)
    judge = np.clip(human + rng.integers(-3, 4, 40), 0, 10).astype(float)
    return docs, judge, np.where(rng.random(40) < rng.uniform(0.2, 1), human, NAN)


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(-50, 50), st.floats(0.1, 20), st.floats(-50, 50))
def test_shift_and_scale(rng, shift, scale, judge_shift):
    """Both scores scaled, the judge's shifted apart: only the judge's own numbers see that."""
    docs, judge, shown = random_case(rng)
    found = calibrated_mean(Scores(docs, judge, shown))
    moved = calibrated_mean(Scores(docs, scale * judge + judge_shift, scale * shown + shift))
    by = np.array([shift, judge_shift, shift, judge_shift - shift])
    wanted = scale * estimates(found) + by[:, None]
    assert estimates(moved) == pytest.approx(wanted, rel=1e-6, abs=1e-6 * scale, nan_ok=True)
    assert moved.judge_weight == pytest.approx(found.judge_weight, abs=1e-6, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_with_all_samples_labelled_no_judge_counts(rng):
    docs, judge, _ = random_case(rng)
    human = rng.normal(0, 1, 40)
    found = calibrated_mean(Scores(docs, judge + 0.1, human))
    assert (found.judge_weight, found.equivalent_labels) == (0, pytest.approx(40))
    assert found.estimate.value == pytest.approx(found.human_mean.value)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_order_and_names_of_docs_do_not_matter(rng):
    docs, judge, shown = random_case(rng)
    found = calibrated_mean(Scores(docs, judge, shown))
    order = rng.permutation(40)
    names = np.array([f"doc {(7 * d) % 13}" for d in docs])
    again = calibrated_mean(Scores(names[order], judge[order], shown[order]))
    assert estimates(again) == pytest.approx(estimates(found), rel=1e-9, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_the_other_way_round_a_difference_is_its_negative(rng):
    docs, judge, shown = random_case(rng)
    arms = Scores(docs, judge, shown), Scores(docs, judge[::-1], shown[::-1])
    one, other = (calibrated_difference(*pair) for pair in (arms, arms[::-1]))
    for a, b in (
        (one.difference, other.difference),
        (one.human_difference, other.human_difference),
        (one.judge_difference, other.judge_difference),
    ):
        assert (a.difference, a.ci_low, a.p) == pytest.approx(
            (-b.difference, -b.ci_high, b.p), rel=1e-9, abs=1e-9, nan_ok=True
        )


@settings(max_examples=100, deadline=None)
@given(tables)
def test_the_weight_stays_in_its_range_and_the_interval_around_the_value(rng):
    found = calibrated_mean(Scores(*random_case(rng)))
    if math.isnan(found.estimate.value):
        assert found.note.startswith("undefined")
        return
    assert 0 <= found.judge_weight <= 1
    if not math.isnan(found.estimate.ci_low):
        assert found.estimate.ci_low < found.estimate.value < found.estimate.ci_high
        assert found.equivalent_labels > 0


# --- draws ---

KEYS = [(doc, sample) for doc in range(10) for sample in range(4)]


@pytest.mark.parametrize(
    ("n", "a_doc"), [(0, {0}), (7, {0, 1}), (10, {1}), (25, {2, 3}), (40, {4})]
)
def test_a_draw_is_spread_over_docs(n, a_doc):
    drawn = draw_to_label(KEYS, n, seed=3)
    assert len(set(drawn)) == len(drawn) == n
    assert {sum(key[0] == doc for key in drawn) for doc in range(10)} == a_doc


def test_a_draw_depends_on_its_seed_alone():
    drawn = draw_to_label(KEYS, 9, seed=3)
    assert draw_to_label(KEYS[::-1], 9, seed=3) == drawn
    assert draw_to_label(KEYS, 9, seed=4) != drawn


def test_every_sample_is_drawn_with_the_same_chance():
    """Docs of 1, 2, 3 and 6 samples; within 4.4 standard deviations of 6 000 draws."""
    keys = [(doc, i) for doc, size in enumerate((1, 2, 3, 6)) for i in range(size)]
    counts = dict.fromkeys(keys, 0)
    for seed in range(6000):
        for key in draw_to_label(keys, 5, seed):
            counts[key] += 1
    assert np.array(list(counts.values())) / 6000 == pytest.approx(5 / 12, abs=0.028)


def test_any_beginning_of_a_draw_is_a_draw():
    counts = dict.fromkeys(KEYS, 0)
    for seed in range(4000):
        for key in draw_to_label(KEYS, 12, seed)[:4]:
            counts[key] += 1
    assert np.array(list(counts.values())) / 4000 == pytest.approx(0.1, abs=0.021)


@pytest.mark.parametrize("n", [-1, 41])
def test_more_than_there_are_cannot_be_drawn(n):
    with pytest.raises(ValueError, match="expected 0 to 40"):
        draw_to_label(KEYS, n, seed=0)


def test_a_key_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        draw_to_label([(0, 0), (0, 0)], 1, seed=0)


# --- coverage; the whole study is benchmarks/calibration.py ---


def test_intervals_cover_the_truth_and_the_judges_own_does_not():
    """400 data sets of 40 docs × 2 samples, 24 labels; the judge is 1 too kind to b, 0.5 to a.

    95 % less 4.5 standard deviations of 400 draws is 90.1 %, plus as many is 99.9 %.
    """
    rng = np.random.default_rng(7)
    hits = {"mean": 0, "difference": 0, "judge": 0, "judge's difference": 0}
    docs, keys = np.repeat(np.arange(40), 2), [(doc, i) for doc in range(40) for i in range(2)]
    for seed in range(400):
        arms = []
        shared = rng.normal(0, 1, 40)
        for bias in (0.5, 1.5):
            human = 5 + shared[docs] + rng.normal(0, 1, 80)
            judge = human + bias + rng.normal(0, 1, 80)
            drawn = [2 * doc + i for doc, i in draw_to_label(keys, 24, seed)]
            shown = np.full(80, NAN)
            shown[drawn] = human[drawn]
            arms.append(Scores(docs, judge, shown))
        mean, gap = calibrated_mean(arms[0]), calibrated_difference(*arms)
        found = (mean.estimate, gap.difference, mean.judge_mean, gap.judge_difference)
        for (name, _), each, truth in zip(hits.items(), found, (5, 0, 5, 0), strict=True):
            hits[name] += each.ci_low <= truth <= each.ci_high
    assert 361 <= hits["mean"] <= 399
    assert 361 <= hits["difference"] <= 399
    assert hits["judge"] < 250
    assert hits["judge's difference"] < 50
