"""Inference on arrays, against scipy, hand calculations and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from psplit_eval.stats import (
    benjamini_hochberg,
    crossed_difference,
    fixed_docs_difference,
    holm,
    mcnemar_difference,
    mean_estimate,
    paired_mean_difference,
    paired_ratio_difference,
    ratio_estimate,
    stratified_difference,
    wilcoxon_p,
)

RNG = np.random.default_rng(11)
A = RNG.normal(0.4, 0.2, 14).round(3)
B = (A + RNG.normal(0.1, 0.15, 14)).round(3)
TWO = np.full(14, 2)
FEW_A, FEW_B = [0.25, 0.5, 0.75, 1.0, 0.0, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0, 0.25, 0.25, 0.75]


def test_the_paired_difference_equals_scipys_paired_t_test():
    expected = scipy_stats.ttest_rel(B, A)
    interval = expected.confidence_interval(0.95)
    found = paired_mean_difference(A, B)
    assert found.difference == pytest.approx(np.mean(B) - np.mean(A))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    gaps = np.subtract(B, A)
    assert found.effect_size == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert found.spread.p_below(0.05) == pytest.approx(
        scipy_stats.ttest_1samp(gaps, 0.05, alternative="greater").pvalue
    )


def test_where_few_docs_differ_p_is_scipys_exact_permutation_test():
    gaps = np.subtract(FEW_B, FEW_A)
    expected = scipy_stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    found = paired_mean_difference(FEW_A, FEW_B)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.test == "swap test of docs"
    interval = scipy_stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))


def test_many_docs_that_agree_make_no_evidence_of_four_that_differ():
    a, b = np.zeros(500), np.zeros(500)
    b[:4] = 1.0
    assert paired_mean_difference(a, b).p == 2 / 2**4


def test_the_mean_has_scipys_t_interval():
    found = mean_estimate(A)
    expected = scipy_stats.ttest_1samp(A, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


def test_a_fractions_interval_is_wilsons_where_docs_are_single_answers():
    """Wilson's is scipy's, but for Student's quantile and n − 1: nearly so at 2 000 docs."""
    right = np.repeat([1.0, 0.0], [1900, 100])
    expected = scipy_stats.binomtest(1900, 2000).proportion_ci(method="wilson")
    found = mean_estimate(right, fraction=True)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), abs=2e-5)


@pytest.mark.parametrize("n", [5, 30, 500])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_wrong_or_all_right_has_the_exact_binomial_interval(n, value):
    expected = scipy_stats.binomtest(int(value) * n, n).proportion_ci()
    found = mean_estimate([value] * n, fraction=True)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


def test_a_fractions_interval_stays_in_its_range():
    for share in np.linspace(0, 1, 21):
        for spread in (0.0, 0.2):
            values = np.clip(share + spread * np.linspace(-1, 1, 9), 0, 1)
            found = mean_estimate(values, fraction=True)
            assert -1e-12 <= found.ci_low <= found.value <= found.ci_high <= 1 + 1e-12


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
    ones = [1] * len(A)
    ratio = paired_ratio_difference((A, ones), (B, ones))
    mean = paired_mean_difference(A, B)
    assert (ratio.p, ratio.ci_low) == pytest.approx((mean.p, mean.ci_low))


def test_mcnemars_mid_p_by_hand():
    """Airway data of Fagerland et al. (2014), table 5: 1 and 7 of 21 pairs are discordant.

    Mid-p: 2 (P(X ≤ 0) + P(X = 1) / 2) for X of 8 fair coins = 2 (1 + 8 / 2) / 256.
    """
    a = [1] * 7 + [0] * 1 + [0] * 12 + [1]
    b = [0] * 7 + [1] * 1 + [0] * 12 + [1]
    found = mcnemar_difference(a, b)
    assert found.p == pytest.approx(2 * (1 + 4) / 256)
    assert found.difference == pytest.approx(-6 / 21)
    assert mcnemar_difference(b, a).p == found.p


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=40))
def test_mcnemars_mid_p_is_the_exact_one_less_half_the_chance_of_what_was_seen(pairs):
    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    up, down = int((b > a).sum()), int((a > b).sum())
    p = mcnemar_difference(a, b).p
    if up + down == 0:
        assert p == 1
    elif up == down:
        assert p == 1 or p == pytest.approx(1)
    else:
        exact = scipy_stats.binomtest(up, up + down).pvalue
        assert p == pytest.approx(exact - scipy_stats.binom.pmf(up, up + down, 0.5))


def test_mcnemars_test_wants_single_answers():
    with pytest.raises(ValueError, match="per-doc means"):
        mcnemar_difference([0, 1, 0.5, 1, 1], [1, 1, 1, 1, 1])


def test_wilcoxon_is_scipys():
    gaps = np.subtract(B, A)
    assert wilcoxon_p(A, B) == scipy_stats.wilcoxon(gaps, method="exact").pvalue
    tied = scipy_stats.wilcoxon(np.subtract(FEW_B, FEW_A), method="asymptotic")
    assert wilcoxon_p(FEW_A, FEW_B) == tied.pvalue
    assert wilcoxon_p(A, A) == 1
    assert math.isnan(wilcoxon_p(A[:4], B[:4]))


def test_given_docs_by_hand():
    """Two samples of every doc in each arm: s² / 2 is a quarter of the squared difference.

    Five of the ten variances are 1 / 4, the others 0: 25 / 16 over 5 / 16 / 3 degrees of freedom.
    """
    a = np.array([[0.0, 1], [1, 1], [0, 0], [0, 1], [1, 0]])
    b = np.array([[1.0, 1], [0, 1], [1, 0], [1, 1], [1, 1]])
    noise = [(x[:, 0] - x[:, 1]) ** 2 / 4 for x in (a, b)]
    found = fixed_docs_difference(a.mean(1), b.mean(1), noise, (TWO[:5], TWO[:5]))
    error = math.sqrt(5 * 0.25) / 5
    assert found.spread.error == pytest.approx(error)
    assert found.spread.freedom == pytest.approx(15)
    expected = 2 * scipy_stats.t.sf(abs(b.mean() - a.mean()) / error, 15)
    assert found.p == pytest.approx(expected)


def test_given_docs_whose_samples_agree_nothing_is_known():
    found = fixed_docs_difference(A, B, (np.zeros(14), np.zeros(14)), (TWO, TWO))
    assert math.isnan(found.p)
    assert math.isnan(found.ci_low)


def test_one_stratum_is_the_paired_difference():
    plain = paired_mean_difference(A, B)
    one = stratified_difference([plain])
    assert (one.p, one.ci_low, one.difference) == pytest.approx(
        (plain.p, plain.ci_low, plain.difference)
    )


def test_every_task_weighs_the_same():
    """Two tasks of 10 and 200 docs: the mean of two means, errors added in squares by hand."""
    rng = np.random.default_rng(3)
    tasks = [(rng.normal(0, 1, n), rng.normal(shift, 1, n)) for n, shift in ((10, 1), (200, 0))]
    found = stratified_difference([paired_mean_difference(a, b) for a, b in tasks])
    gaps = [b - a for a, b in tasks]
    assert found.difference == pytest.approx(np.mean([gap.mean() for gap in gaps]))
    error = math.sqrt(sum(gap.var(ddof=1) / len(gap) for gap in gaps)) / 2
    assert found.spread.error == pytest.approx(error)
    assert found.n == 210


def test_a_task_whose_docs_all_differ_alike_is_not_certain():
    """Five docs that all gain everything are p 1/16 alone: their mean has an error of 2/7, by hand
    of five docs of 1, one of 1 and one of -1: mean 5/7, variance 4/7, over seven docs."""
    five = paired_mean_difference([0.0] * 5, [1.0] * 5, fraction=True)
    gaps = np.resize([0.02, 0.03], 300)
    many = paired_mean_difference([0.5] * 300, 0.5 + gaps, fraction=True)
    found = stratified_difference([five, many])
    error = math.hypot(2 / 7, many.spread.error) / 2
    assert found.spread.error == pytest.approx(error)
    assert found.spread.centre == pytest.approx((5 / 7 + 0.025) / 2)
    assert found.p > 0.01
    nobody = paired_mean_difference([0.0] * 12, [0.0] * 12, fraction=True)
    average = stratified_difference([nobody, nobody])
    assert (average.difference, average.p) == (0, 1)
    assert average.ci_low == -average.ci_high < 0


def test_crossed_arms_by_hand():
    """Rows and columns that only add up: the variance is that of row means and of column means."""
    seeds, docs = np.array([0.0, 0.1, 0.3]), np.linspace(0, 1, 8)
    a = seeds[:, None] + np.zeros(8)
    b = 0.5 + seeds[::-1, None] * 2 + docs
    found = crossed_difference(a, b)
    expected = seeds.var(ddof=1) / 3 * (1 + 4) + docs.var(ddof=1) / 8
    assert found.spread.error == pytest.approx(math.sqrt(expected))
    assert found.difference == pytest.approx(b.mean() - a.mean())
    paired = crossed_difference(a, b, paired=True)
    gaps = (b - a).mean(1)
    assert paired.spread.error == pytest.approx(
        math.sqrt(gaps.var(ddof=1) / 3 + docs.var(ddof=1) / 8)
    )


def test_the_interval_of_crossed_arms_has_cochrans_and_coxs_quantile_by_hand():
    """Student's quantiles of seeds (2 degrees of freedom) and docs (7), weighted by variance."""
    seeds, docs = np.array([0.0, 0.1, 0.3]), np.linspace(0, 1, 8)
    found = crossed_difference(np.zeros((3, 8)), seeds[:, None] + docs, paired=True)
    by_seed, by_doc = seeds.var(ddof=1) / 3, docs.var(ddof=1) / 8
    quantiles = scipy_stats.t.ppf(0.975, [2, 7])
    quantile = (by_seed * quantiles[0] + by_doc * quantiles[1]) / (by_seed + by_doc)
    half = quantile * math.sqrt(by_seed + by_doc)
    assert found.ci_high - found.difference == pytest.approx(half)


@given(st.integers(0, 1000), st.sampled_from([2, 3, 5]), st.booleans())
def test_crossed_arms_differ_at_the_level_whose_interval_excludes_0(seed, checkpoints, paired):
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.3, (2, checkpoints, 1)) + rng.normal(0, 0.2, (2, 1, 12))
    a, b = effects + rng.normal(0, 0.1, (2, checkpoints, 12))
    found = crossed_difference(a, b + 0.5, paired)
    for alpha in (0.05, 0.01, 0.0025, found.p * 1.001, found.p / 1.001):
        low, high = found.spread.limits(1 - alpha)
        assert (found.p < alpha) == (low > 0 or high < 0)


def test_three_seeds_an_arm_keep_their_level():
    """Seeds that vary more than docs and are few: with Satterthwaite's degrees of freedom 172 of
    these are claimed; at a level of 6 % more than 154 are, once in a thousand."""
    rng, claimed = np.random.default_rng(6), 0
    for _ in range(2000):
        effects = rng.normal(0, 0.5, (2, 1, 40)) + rng.normal(0, 0.4, (2, 3, 1))
        a, b = effects + rng.normal(0, 0.5, (2, 3, 40))
        claimed += crossed_difference(a, b, paired=True).p < 0.05
    assert claimed < scipy_stats.binom.isf(1e-3, 2000, 0.06)


def test_one_checkpoint_says_nothing_of_others():
    assert math.isnan(crossed_difference([A], [B, B]).p)
    with pytest.raises(ValueError, match="same docs"):
        crossed_difference([A], [B[:5]])
    with pytest.raises(ValueError, match="finite"):
        crossed_difference([A, A], [B, B * math.nan])


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


def test_with_too_few_docs_only_values_are_given():
    found = paired_mean_difference(A[:4], B[:4])
    assert found.difference == pytest.approx(np.mean(B[:4]) - np.mean(A[:4]))
    assert math.isnan(found.p)
    assert math.isnan(found.ci_low)
    assert math.isnan(mcnemar_difference([0, 1], [1, 1]).p)


def test_docs_that_all_agree_are_no_difference():
    found = paired_mean_difference(A, A)
    assert found.p == 1
    assert math.isnan(found.ci_low)  # of a number without a range nothing bounds what was not seen
    assert math.isnan(found.effect_size)


def test_of_fractions_that_all_agree_it_is_known_how_many_docs_could_be_otherwise():
    """The exact binomial limit for 0 of 14."""
    unseen = scipy_stats.binomtest(0, 14).proportion_ci().high
    found = paired_mean_difference(np.ones(14), np.ones(14), fraction=True)
    assert (found.ci_low, found.ci_high) == pytest.approx((-unseen, unseen))
    assert found.spread.p_below(-unseen) == pytest.approx(0.025)
    assert found.spread.p_above(unseen) == pytest.approx(0.025)
    moved = paired_mean_difference(np.zeros(14), np.ones(14), fraction=True)
    assert (moved.ci_low, moved.ci_high) == pytest.approx((1 - 2 * unseen, 1))


def test_the_interval_of_a_fraction_stays_in_its_range():
    """Student's own upper limit is above 1 here."""
    a, b = np.r_[np.zeros(18), 0.3, 0.1], np.ones(20)
    upper = scipy_stats.ttest_1samp(b - a, 0).confidence_interval().high
    assert paired_mean_difference(a, b, fraction=True).ci_high == 1 < upper


def test_a_constant_shift_is_tested_by_swaps():
    found = paired_mean_difference(FEW_A, [x + 0.5 for x in FEW_A])
    assert found.p == 2 / 2**7


def test_no_docs_at_all_is_undefined():
    assert math.isnan(mean_estimate([]).value)
    assert math.isnan(ratio_estimate([], []).value)
    assert math.isnan(ratio_estimate([1.0] * 6, [0.0] * 6).value)
    assert math.isnan(paired_mean_difference([], []).difference)


@pytest.mark.parametrize("bad", [[math.nan] * 6, [math.inf] * 6, [[1.0], [2.0]]])
def test_what_is_no_number_a_doc_is_refused(bad):
    with pytest.raises(ValueError, match="one finite number a doc"):
        mean_estimate(bad)


def test_arms_of_different_docs_are_refused():
    with pytest.raises(ValueError, match="the same docs in both arms, got 14 and 13"):
        paired_mean_difference(A, B[:13])


SIX = [0.1, 0.4, 0.2, 0.8, 0.5, 0.9]


@pytest.mark.parametrize(
    "call",
    [
        lambda: stratified_difference([]),
        lambda: fixed_docs_difference(SIX, SIX[:5], (SIX, SIX[:5]), (TWO[:6], TWO[:5])),
        lambda: fixed_docs_difference(SIX, SIX, (SIX, [0.1]), (TWO[:6], TWO[:6])),
        lambda: fixed_docs_difference(SIX, SIX, ([-0.1] * 6, SIX), (TWO[:6], TWO[:6])),
        lambda: fixed_docs_difference(SIX, SIX, (SIX, SIX), (TWO[:6], [1] * 6)),
        lambda: crossed_difference(np.zeros((2, 0)), np.zeros((2, 0))),
        lambda: crossed_difference(np.zeros((2, 3, 6)), np.zeros((2, 3, 6))),
        lambda: wilcoxon_p(SIX, [0.1]),
        lambda: wilcoxon_p(SIX, SIX[:5]),
        lambda: ratio_estimate(SIX, SIX[:5]),
        lambda: paired_ratio_difference((SIX, SIX), (SIX, SIX[:5])),
        lambda: mean_estimate([1, 2, 3, 4, 5, 6], fraction=True),
        lambda: paired_mean_difference(SIX, [1, 2, 3, 4, 5, 6], fraction=True),
        lambda: paired_mean_difference(SIX, [1e300] * 6),
        lambda: mean_estimate(SIX, confidence=1.5),
        lambda: mean_estimate(SIX, confidence=0),
        lambda: holm([2.0, 0.1]),
        lambda: benjamini_hochberg([-1.0]),
    ],
)
def test_input_that_makes_no_sense_is_one_line(call):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_below_the_minimum_no_test_infers(n):
    a, b = A[:n], B[:n]
    for found in (
        stratified_difference([paired_mean_difference(a, b)]),
        fixed_docs_difference(a, b, (a**2, b**2), (TWO[:n], TWO[:n])),
        paired_ratio_difference((a, a + 1), (b, b + 1)),
    ):
        assert math.isnan(found.p)
        assert math.isnan(found.ci_low)
        assert found.n == n


def test_numbers_with_a_large_offset_and_a_rounded_difference_do_not_vary():
    found = paired_mean_difference(np.full(12, 1e9 + 0.1), np.full(12, 1e9 + 0.3))
    assert found.p == 2 / 2**12
    assert math.isnan(found.effect_size)
