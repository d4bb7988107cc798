"""Inference on arrays, against scipy, hand calculations and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from psplit_eval.stats import (
    benjamini_hochberg,
    holm,
    mean_estimate,
    paired_mean_difference,
    paired_ratio_difference,
    ratio_estimate,
)

A = [0.25, 0.5, 0.75, 1.0, 0.0, 0.5, 0.25]
B = [0.5, 0.5, 1.0, 1.0, 0.25, 0.25, 0.75]


def test_the_paired_difference_equals_scipys_paired_t_test():
    expected = scipy_stats.ttest_rel(B, A)
    interval = expected.confidence_interval(0.95)
    found = paired_mean_difference(A, B)
    assert found.difference == pytest.approx(np.mean(B) - np.mean(A))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    gaps = np.subtract(B, A)
    assert found.effect_size == pytest.approx(gaps.mean() / gaps.std(ddof=1))


def test_the_mean_has_scipys_t_interval():
    found = mean_estimate(A)
    expected = scipy_stats.ttest_1samp(A, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


def test_a_ratio_is_pooled_and_its_error_close_to_the_jackknifes():
    rng = np.random.default_rng(0)
    down = rng.integers(5, 40, 60).astype(float)
    up = down * rng.normal(2, 0.4, 60)
    found = ratio_estimate(up, down)
    assert found.value == pytest.approx(up.sum() / down.sum())
    left_out = (up.sum() - up) / (down.sum() - down)
    jackknife = math.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    half = (found.ci_high - found.ci_low) / 2 / scipy_stats.t.ppf(0.975, 59)
    assert half == pytest.approx(jackknife, rel=0.03)


def test_a_ratio_with_equal_denominators_is_the_mean():
    ratio = paired_ratio_difference((A, [1] * 7), (B, [1] * 7))
    mean = paired_mean_difference(A, B)
    assert (ratio.p, ratio.ci_low) == pytest.approx((mean.p, mean.ci_low))


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then made monotone."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_equals_scipys(p):
    assert benjamini_hochberg(p) == pytest.approx(scipy_stats.false_discovery_control(p))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_a_correction_never_helps(p):
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert all(a >= b - 1e-12 for a, b in zip(adjusted, p, strict=True))
        assert max(adjusted) <= 1


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_an_undefined_p_stays_undefined_and_counts(correct):
    with_nan = correct([0.01, math.nan])
    assert with_nan[0] == pytest.approx(0.02)
    assert math.isnan(with_nan[1])
    assert correct([]) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=5, max_size=30))
def test_swapping_the_arms_flips_the_sign_only(pairs):
    a, b = (list(side) for side in zip(*pairs, strict=True))
    one, two = paired_mean_difference(a, b), paired_mean_difference(b, a)
    assert one.difference == pytest.approx(-two.difference)
    assert one.p == pytest.approx(two.p, nan_ok=True)
    assert one.ci_low == pytest.approx(-two.ci_high, nan_ok=True)


@pytest.mark.parametrize(("a", "b"), [(A[:4], B[:4]), (A, A), (A, [x + 0.5 for x in A])])
def test_without_spread_or_docs_nothing_is_claimed(a, b):
    found = paired_mean_difference(a, b)
    assert found.difference == pytest.approx(np.mean(b) - np.mean(a))
    assert math.isnan(found.p)
    assert math.isnan(found.ci_low)


def test_no_docs_at_all_is_undefined():
    assert math.isnan(mean_estimate([]).value)
    assert math.isnan(ratio_estimate([], []).value)


@pytest.mark.parametrize("kind", ["mean", "ratio"])
def test_intervals_cover_and_tests_keep_their_level(kind):
    """2 000 runs of 40 docs, 4 samples a doc, doc effects shared by both modes, true gap 0."""
    rng = np.random.default_rng(7)
    runs, docs, samples = 2000, 40, 4
    skill = rng.beta(0.6, 0.6, (runs, docs))
    a, b = (rng.binomial(samples, skill) / samples for _ in range(2))
    tokens = rng.integers(10, 60, (2, runs, docs)).astype(float)
    covered = rejected = 0
    for run in range(runs):
        if kind == "mean":
            found = paired_mean_difference(a[run], b[run])
        else:
            left, right = tokens[0, run], tokens[1, run]
            found = paired_ratio_difference((a[run] * left, left), (b[run] * right, right))
        covered += found.ci_low <= 0 <= found.ci_high
        rejected += found.p < 0.05
    assert 0.935 <= covered / runs <= 0.965
    assert 0.035 <= rejected / runs <= 0.065
