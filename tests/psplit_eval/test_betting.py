"""Tests of a mean that hold whenever one looks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from psplit_eval.betting import confidence_sequence, log_wealth, sequential_p

BOUNDED = arrays(float, st.integers(0, 60), elements=st.floats(-1, 1, width=32))


def by_hand(x, boundary, gap):
    """One bet after the other, as a gambler's book."""
    capital, seen, books = 1.0, [], []
    for value in x:
        mean = sum(seen) / (len(seen) + 1)
        square = (0.25 + sum(v * v for v in seen)) / (len(seen) + 1)
        stake = min(gap / (max(square - mean**2, 1e-6) + gap**2), 0.95 / (1 + boundary))
        capital *= 1 + stake * (value - boundary)
        books.append(math.log(capital))
        seen.append(value)
    return books


@given(BOUNDED, st.floats(-0.99, 1), st.floats(0.001, 1))
def test_wealth_is_that_of_a_gamblers_book(x, boundary, gap):
    assert log_wealth(x, boundary, gap) == pytest.approx(by_hand(x, boundary, gap), abs=1e-8)


@given(BOUNDED, st.floats(-1, 1), st.floats(0.001, 1))
def test_p_never_rises_and_wealth_is_never_lost_whole(x, boundary, gap):
    p = sequential_p(x, boundary, gap)
    assert np.all(np.isfinite(log_wealth(x, boundary, gap)))
    assert np.all((p >= 0) & (p <= 1))
    assert np.all(np.diff(p) <= 0)


def test_a_bet_sees_nothing_of_what_it_is_on():
    """Else capital could grow by knowing: the stake at t is the same whatever comes at t."""
    x = np.array([0.5, -0.25, 0.75, 0.1])
    for place in range(4):
        other = x.copy()
        other[place:] = -other[place:]
        gains = [np.diff(log_wealth(v, 0.0, 0.1), prepend=0.0) for v in (x, other)]
        stakes = [
            math.expm1(gain[place]) / v[place] for gain, v in zip(gains, (x, other), strict=True)
        ]
        assert stakes[0] == pytest.approx(stakes[1])


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: rng.choice([-1.0, 1.0], shape),
        lambda rng, shape: rng.choice([-1.0, 1 / 19], shape, p=[0.05, 0.95]),
        lambda rng, shape: rng.choice([1.0, -1 / 19], shape, p=[0.05, 0.95]),
        lambda rng, shape: (rng.binomial(4, 0.5, shape) - rng.binomial(4, 0.5, shape)) / 4,
        lambda rng, shape: np.zeros(shape),
    ],
)
@pytest.mark.parametrize("gap", [0.02, 0.2])
def test_looking_after_every_observation_keeps_the_level(draw, gap):
    """Ville's inequality: of 4 000 streams of mean 0 at most 5 % may ever get p ≤ 0.05; 0.061 is
    what 5 % exceeds by chance in one of 1 000 such counts."""
    x = draw(np.random.default_rng(3), (4_000, 400))
    assert np.mean(sequential_p(x, 0.0, gap)[:, -1] <= 0.05) < 0.061


def test_a_mean_beyond_the_boundary_is_found():
    rng = np.random.default_rng(5)
    x = (rng.binomial(4, 0.55, (300, 600)) - rng.binomial(4, 0.45, (300, 600))) / 4
    assert np.mean(sequential_p(x, 0.0, 0.1)[:, -1] <= 0.05) > 0.99


def test_limits_hold_at_all_times_at_once():
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(200):
        x = (rng.binomial(4, 0.6, 150) - rng.binomial(4, 0.5, 150)) / 4
        limits = [confidence_sequence(x[:n], 0.1) for n in (10, 40, 100, 150)]
        missed += any(not low < 0.1 < high for low, high in limits)
    assert missed <= 20  # 10 on average at the most


def test_limits_are_where_the_p_value_is_alpha():
    rng = np.random.default_rng(9)
    x = (rng.binomial(4, 0.6, 200) - rng.binomial(4, 0.5, 200)) / 4
    low, high = confidence_sequence(x, 0.05)
    assert -1 < low < x.mean() < high < 1
    assert sequential_p(x, low, 0.05)[-1] == pytest.approx(0.025, rel=1e-3)
    assert sequential_p(-x, -high, 0.05)[-1] == pytest.approx(0.025, rel=1e-3)


def test_without_observations_nothing_is_known():
    nothing = np.array([])
    assert log_wealth(nothing, 0.0, 0.1).shape == (0,)
    assert confidence_sequence(nothing, 0.1) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("x", "boundary", "gap"), [([1.5], 0.0, 0.1), ([0.5], 2.0, 0.1), ([0.5], 0.0, 0.0)]
)
def test_what_cannot_be_bet_on_is_an_error(x, boundary, gap):
    with pytest.raises(ValueError, match="expected"):
        log_wealth(np.array(x), boundary, gap)
