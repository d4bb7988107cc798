"""Means of a step, against sums by hand."""

import math

import pytest
import torch

from psplit_train.config import MethodSettings, ModeSettings
from psplit_train.meters import Meters, TrainingMeters
from psplit_train.sharing import split_of

MODES = [ModeSettings(name="normal"), ModeSettings(name="high")]
SAMPLERS = torch.tensor([0, 0, 1, 1])
MASK = torch.tensor([[True, True], [True, False], [True, True], [True, True]])


@pytest.fixture
def meters():
    return TrainingMeters(split_of(MODES, MethodSettings()))


def test_a_mean_is_over_all_that_was_counted_since_it_was_read():
    plain = Meters()
    plain.add("a", torch.tensor([1.0, 2.0]))
    plain.add("a", torch.tensor([6.0, 100.0]), torch.tensor([True, False]))
    plain.add("none", torch.tensor([5.0]), torch.tensor([False]))
    found = plain.read()
    assert found["a"] == 3.0
    assert math.isnan(found["none"])
    assert plain.read() == {}


def test_what_is_not_counted_may_be_undefined():
    plain = Meters()
    plain.add("a", torch.tensor([1.0, math.nan]), torch.tensor([True, False]))
    assert plain.read() == {"a": 1.0}


def test_phases_add_up():
    plain = Meters()
    for _ in range(2):
        with plain.timed("seconds/a"):
            pass
    assert 0 <= plain.read()["seconds/a"] < 1


def test_rewards_right_answers_and_dead_groups(meters):
    """Two queries of four: the second one's rewards are all equal."""
    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    answers = torch.tensor([5, -1, 5, 7, -1, -1, -1, -1])
    meters.rewards(rewards, answers, SAMPLERS.repeat(2), 4)
    found = meters.read()
    assert found["dead_groups"] == 0.5
    assert (found["reward/normal"], found["reward/high"]) == (0.25, 0.5)
    assert (found["unique/normal"], found["unique/high"]) == (0.5, 1.0)


def test_kl_of_a_mode_is_on_its_own_tokens_in_bits(meters):
    """Under normal each token has log-probability -1 (nats), under high -3."""
    log_probs = torch.stack([torch.full((4, 2), -1.0), torch.full((4, 2), -3.0)])
    entropies = torch.stack([torch.full((4, 2), 2.0), torch.full((4, 2), 4.0)])
    meters.policies(entropies, SAMPLERS, MASK)
    meters.divergences(log_probs, SAMPLERS, MASK, ((True, True), (True, False)))
    found = meters.read()
    assert found["kl_bits/normal_high"] == pytest.approx(2 / math.log(2))
    assert found["kl_bits/high_normal"] == pytest.approx(-2 / math.log(2))
    assert "kl_bits/high_high" not in found
    assert found["entropy_bits/high"] == pytest.approx(4 / math.log(2))
    assert (found["length/normal"], found["length/high"]) == (1.5, 2.0)


def test_a_kl_that_was_not_scored_is_not_there(meters):
    """What high drew was not scored under normal."""
    meters.divergences(torch.zeros(2, 4, 2), SAMPLERS, MASK, ((True, False), (True, True)))
    assert set(meters.read()) == {"kl_bits/normal_high"}


def test_ratios_are_by_quarter(meters):
    ratio = torch.tensor([1.0, 2.0])[:, None, None] + SAMPLERS[None, :, None] * 10 + 0 * MASK
    meters.ratios(ratio, ratio > 11, SAMPLERS, MASK)
    found = meters.read()
    quarters = ("normal_normal", "normal_high", "high_normal", "high_high")
    assert [found[f"ratio/{name}"] for name in quarters] == [1.0, 11.0, 2.0, 12.0]
    assert [found[f"clipped/{name}"] for name in quarters] == [0.0, 0.0, 0.0, 1.0]
