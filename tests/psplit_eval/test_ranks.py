"""Ranks that tests allow, and means of columns."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from psplit_eval.ranks import Contrast, Ranks, mean_of_columns, rank_intervals
from psplit_eval.stats import Estimate, paired_mean_difference


def spans(count, contrasts):
    return [(found.low, found.high) for found in rank_intervals(count, contrasts)]


def test_ranks_by_hand():
    """Six one-sided hypotheses: 0.0005 × 6, 0.005 × 5 and 0.1 × 4 are Holm's adjusted p."""
    contrasts = {(0, 1): Contrast(-2, 0.001), (0, 2): Contrast(-1, 0.01), (1, 2): Contrast(1, 0.2)}
    assert spans(3, contrasts) == [(1, 1), (2, 3), (2, 3)]


def test_holms_second_step_decides():
    """0.01 × 6 would not do, 0.0095 × 5 does, once the first is rejected."""
    sure, next_ = Contrast(-2, 0.001), Contrast(-1, 0.019)
    assert spans(3, {(0, 1): sure, (0, 2): next_})[0] == (1, 1)
    assert spans(3, {(0, 1): Contrast(-2, 0.02), (0, 2): next_})[0] == (1, 3)


def test_a_pair_that_is_not_tested_rules_out_nothing_and_still_counts():
    unknown = Contrast(math.nan, math.nan)
    assert spans(2, {(0, 1): unknown}) == spans(2, {}) == [(1, 2), (1, 2)]
    assert spans(2, {(0, 1): Contrast(1, 0.04)}) == [(2, 2), (1, 1)]
    assert spans(3, {(0, 1): Contrast(1, 0.04)}) == [(1, 3)] * 3


def test_small_boards():
    assert rank_intervals(0, {}) == []
    assert rank_intervals(1, {}) == [Ranks(1, 1, 1)]
    assert [str(Ranks(2, 2, 5)), str(Ranks(1, 3, 5))] == ["2", "1–3"]
    with pytest.raises(ValueError, match="expected pairs i < j of 2 rows"):
        rank_intervals(2, {(1, 0): Contrast(1, 0.5)})


@st.composite
def cases(draw):
    count = draw(st.integers(1, 6))
    p = st.floats(0, 1) | st.just(math.nan) | st.floats(0, 1e-4)
    contrast = st.builds(Contrast, st.sampled_from([-1.0, 0.0, 1.0]), p)
    return count, {pair: draw(contrast) for pair in combinations(range(count), 2)}


@given(cases())
def test_intervals_are_not_empty_and_turn_with_the_sign(case):
    count, contrasts = case
    found = rank_intervals(count, contrasts)
    assert all(1 <= one.low <= one.high <= count for one in found)
    turned = {pair: Contrast(-one.gain, one.p) for pair, one in contrasts.items()}
    expected = [(count + 1 - one.high, count + 1 - one.low) for one in found]
    assert [(one.low, one.high) for one in rank_intervals(count, turned)] == expected


def simulated(rng, truth, docs=60):
    """Rows whose docs are the same: the hard ones are hard for all."""
    hard = rng.normal(size=docs)
    chance = 1 / (1 + np.exp(-(np.array(truth)[:, None] - hard)))
    right = rng.binomial(4, chance) / 4
    contrasts = {}
    for i, j in combinations(range(len(truth)), 2):
        found = paired_mean_difference(right[i], right[j], fraction=True)
        contrasts[i, j] = Contrast(found.difference, found.p)
    return rank_intervals(len(truth), contrasts)


def holds(found, truth):
    """Whether every interval holds all ranks that the row's true value has."""
    return all(
        one.low <= 1 + sum(other > value for other in truth)
        and one.high >= len(truth) - sum(other < value for other in truth)
        for one, value in zip(found, truth, strict=True)
    )


@pytest.mark.parametrize("truth", [[0.0] * 5, [0.0, 0.0, 0.8, 0.8, 1.6]])
def test_intervals_hold_all_true_ranks_at_once(truth):
    """95 % or more; the limit is the 99.9 % quantile of failures at 5 %."""
    rng = np.random.default_rng(1)
    runs = [simulated(rng, truth) for _ in range(500)]
    failures = sum(not holds(found, truth) for found in runs)
    assert failures <= stats.binom.ppf(0.999, len(runs), 0.05)
    shortened = sum(one.high - one.low < len(truth) - 1 for found in runs for one in found)
    assert (shortened > 0.9 * 5 * len(runs)) == (len(set(truth)) > 1)


def wilson(right, docs):
    limits = stats.binomtest(right, docs).proportion_ci(method="wilson")
    return Estimate(right / docs, limits.low, limits.high, docs)


def test_the_mean_of_two_wilson_intervals_is_newcombes():
    """Newcombe 1998, Statistics in Medicine 17, table II, example (a), method 10: of 56/70 and
    48/80 the difference is 0.0524 to 0.3339. It is twice the mean of p1 and 1 − p2, less 1."""
    one, other = wilson(56, 70), wilson(32, 80)
    found = mean_of_columns([one, other])
    assert [2 * found.ci_low - 1, 2 * found.ci_high - 1] == pytest.approx(
        [0.0524, 0.3339], abs=5e-5
    )
    assert (found.value, found.n) == (pytest.approx(0.6), 150)


def test_undefined_columns_have_no_mean():
    nan = math.nan
    bare, known = Estimate(0.5, nan, nan, 3), Estimate(0.7, 0.6, 0.8, 9)
    found = mean_of_columns([bare, known])
    assert found.value == pytest.approx(0.6)
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert math.isnan(mean_of_columns([Estimate(nan, nan, nan, 0), known]).value)
    with pytest.raises(ValueError, match="one column"):
        mean_of_columns([])
    assert mean_of_columns([known]) == Estimate(0.7, pytest.approx(0.6), pytest.approx(0.8), 9)
