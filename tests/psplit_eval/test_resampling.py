"""Resampling of docs, against scipy's bootstrap and permutation test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from psplit_eval.resampling import (
    MEAN,
    RATIO,
    bca_interval,
    difference_of,
    error,
    studentised_interval,
    swap_test,
)

RNG = np.random.default_rng(5)
A, B = RNG.lognormal(size=(60, 1)), RNG.lognormal(0.2, size=(60, 1))
PAIRED = np.hstack([A, B])
TOKENS = RNG.integers(5, 40, (60, 2)).astype(float)
RATIO_A, RATIO_B = np.hstack([A * TOKENS[:, :1], TOKENS[:, :1]]), np.hstack([B, TOKENS[:, 1:]])


def test_bca_agrees_with_scipys():
    expected = scipy_stats.bootstrap(
        ((B - A)[:, 0],), np.mean, n_resamples=40_000, method="BCa", rng=1
    ).confidence_interval
    found = bca_interval(PAIRED, difference_of(MEAN), resamples=40_000, expanded=False)
    assert found == pytest.approx((expected.low, expected.high), abs=0.025)  # 2 % of its width


def test_bca_of_a_ratio_agrees_with_scipys():
    def gap(*columns, axis=-1):
        sums = [column.sum(axis=axis) for column in columns]
        return sums[2] / sums[3] - sums[0] / sums[1]

    rows = np.hstack([RATIO_A, RATIO_B])
    expected = scipy_stats.bootstrap(
        tuple(rows.T), gap, n_resamples=20_000, method="BCa", paired=True, rng=1
    ).confidence_interval
    found = bca_interval(rows, difference_of(RATIO), resamples=20_000, expanded=False)
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def test_expanded_limits_are_those_of_a_higher_confidence():
    """For 60 docs: √(60 / 59) t₅₉ as a normal quantile."""
    quantile = math.sqrt(60 / 59) * scipy_stats.t.ppf(0.975, 59)
    higher = 1 - 2 * scipy_stats.norm.sf(quantile)
    wide = bca_interval(PAIRED, difference_of(MEAN))
    assert wide == pytest.approx(
        bca_interval(PAIRED, difference_of(MEAN), confidence=higher, expanded=False)
    )


def test_the_studentised_interval_by_a_plain_loop():
    gaps = (B - A)[:, 0]
    rng = np.random.default_rng(2)
    drawn = gaps[rng.integers(0, 60, (20_000, 60))]
    t = (drawn.mean(1) - gaps.mean()) / (drawn.std(1, ddof=1) / math.sqrt(60))
    scale = gaps.std(ddof=1) / math.sqrt(60)
    low, high = gaps.mean() - np.quantile(t, [0.975, 0.025]) * scale
    found = studentised_interval(PAIRED, difference_of(MEAN), resamples=20_000)
    assert found == pytest.approx((low, high), abs=0.02)


def test_the_error_of_a_mean_and_of_a_ratio():
    assert error(A, MEAN) == pytest.approx(scipy_stats.sem(A[:, 0]))
    up, down = RATIO_A.T
    left_out = (up.sum() - up) / (down.sum() - down)
    jackknife = math.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    assert error(RATIO_A, RATIO) == pytest.approx(jackknife, rel=0.05)
    assert math.isnan(error(A[:1], MEAN))


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_all_swaps_are_scipys_exact_permutation_test(n):
    gaps = (B - A)[:n, 0]
    if n == 1:
        assert swap_test(A[:1], B[:1]) == 1
        return
    expected = scipy_stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert swap_test(A[:n], B[:n]) == pytest.approx(expected.pvalue)


def test_random_swaps_agree_with_the_exact_ones():
    """18 docs: all 262 144 swaps; with docs added that hardly differ, more than are counted out."""
    a, b = A[:18], B[:18] + 0.6
    exact = swap_test(a, b)
    same = np.zeros((8, 1)) + np.linspace(1e-9, 2e-9, 8)[:, None]
    drawn = swap_test(np.vstack([a, same]), np.vstack([b, same * 2]), resamples=50_000)
    assert drawn == pytest.approx(exact, abs=0.004)


def test_the_arms_of_a_ratio_are_swapped_whole():
    """By a plain loop over all 2^8 swaps."""
    a, b = RATIO_A[:8], RATIO_B[:8]

    def gap(swapped):
        left = np.where(swapped[:, None], b, a).sum(0)
        right = np.where(swapped[:, None], a, b).sum(0)
        return abs(right[0] / right[1] - left[0] / left[1])

    every = [gap(np.array([(i >> bit) & 1 for bit in range(8)], dtype=bool)) for i in range(256)]
    expected = np.mean(np.array(every) >= every[0] - 1e-12)
    assert swap_test(a, b, RATIO) == pytest.approx(expected)


def test_a_ratio_with_equal_denominators_is_swapped_like_the_mean():
    ones = np.ones((14, 1))
    ratio = swap_test(np.hstack([A[:14], ones]), np.hstack([B[:14], ones]), RATIO)
    assert ratio == swap_test(A[:14], B[:14])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
    st.integers(0, 3),
)
def test_p_is_a_chance_and_does_not_know_the_arms(pairs, seed):
    a, b = (np.array(side, dtype=float)[:, None] / 4 for side in zip(*pairs, strict=True))
    p = swap_test(a, b, resamples=500, seed=seed)
    assert 0 < p <= 1
    if int((a != b).sum()) <= 20:
        assert p == pytest.approx(swap_test(b, a, resamples=500, seed=seed))


@pytest.mark.parametrize("interval", [bca_interval, studentised_interval])
def test_the_same_seed_gives_the_same_interval(interval):
    one = interval(PAIRED, difference_of(MEAN), resamples=500, seed=3)
    assert one == interval(PAIRED, difference_of(MEAN), resamples=500, seed=3)
    assert one != interval(PAIRED, difference_of(MEAN), resamples=500, seed=4)


@pytest.mark.parametrize("interval", [bca_interval, studentised_interval])
@pytest.mark.parametrize(
    "rows", [np.zeros((0, 1)), np.ones((1, 1)), np.ones((2, 1)), np.ones((9, 1))]
)
def test_without_spread_or_docs_there_is_no_interval(interval, rows):
    assert all(map(math.isnan, interval(rows, MEAN)))


def test_degenerate_swaps():
    assert math.isnan(swap_test(np.zeros((0, 1)), np.zeros((0, 1))))
    assert swap_test(A, A) == 1
    nothing = np.zeros((6, 2))
    assert math.isnan(swap_test(nothing, nothing, RATIO))


def test_a_swap_after_which_a_ratio_is_undefined_is_no_evidence():
    """One doc has all tokens of an arm. Of the 4 swaps of the docs that differ, two leave an arm
    without any: those count as no less extreme than what was seen."""
    a = np.array([[1.0, 4.0], [0.0, 0.0]])
    b = np.array([[0.0, 0.0], [8.0, 4.0]])
    assert swap_test(a, b, RATIO) == 1


def test_bootstrap_of_a_ratio_that_one_doc_carries_is_undefined():
    rows = np.array([[1.0, 1.0], [2, 0], [3, 0], [1, 0], [2, 0]])
    assert all(map(math.isnan, bca_interval(rows, RATIO, resamples=200)))
    both = np.hstack([rows, rows[::-1]])
    assert all(map(math.isnan, bca_interval(both, difference_of(RATIO), resamples=200)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: swap_test(np.zeros((3, 1)), np.zeros((4, 1))),
        lambda: swap_test(np.zeros(3), np.ones(3)),
        lambda: bca_interval(PAIRED, difference_of(MEAN), resamples=0),
        lambda: studentised_interval(PAIRED, difference_of(MEAN), resamples=0),
    ],
)
def test_input_that_makes_no_sense_is_one_line(call):
    with pytest.raises(ValueError, match="expected"):
        call()
