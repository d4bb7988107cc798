"""Claims against a margin, against statsmodels 0.15.0, scipy, hand calculations and simulation.

Numbers of statsmodels (ttost_paired) were computed once, in an environment of their own; it is no
dependency.
"""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from psplit_eval.margins import Claim, Verdict, decide
from psplit_eval.spread import Spread
from psplit_eval.stats import (
    Difference,
    mcnemar_difference,
    paired_mean_difference,
    stratified_difference,
)

A = np.array([0.25, 0.5, 0.75, 1, 0, 0.5, 0.25, 0.75, 0.5, 0.25, 1, 0.5])
B = np.array([0.5, 0.5, 0.75, 0.75, 0.25, 0.5, 0, 1, 0.5, 0.5, 1, 0.25])
YES, NO, OPEN = Verdict.YES, Verdict.NO, Verdict.INCONCLUSIVE


def of_spread(centre, error, freedom=20, reach=(math.inf, math.inf), n=21):
    spread = Spread(centre, error, freedom, n, reach)
    return Difference(0.5, 0.5 + centre, spread, math.nan, n)


@pytest.mark.parametrize(
    ("margin", "p", "lower", "upper"),
    [
        (0.05, 0.31017763776353335, 0.120786941266106, 0.31017763776353335),
        (0.1, 0.09699008918186729, 0.029213811836975405, 0.09699008918186729),
        (0.2, 0.004781975129589169, 0.0013291814636118336, 0.004781975129589169),
    ],
)
def test_equivalence_is_statsmodels_tost(margin, p, lower, upper):
    found = paired_mean_difference(A, B)
    decision = decide(found, Claim.EQUIVALENT, margin)
    assert decision.p == pytest.approx(p)
    assert decision.verdict is (YES if p < 0.05 else OPEN)
    assert decide(found, Claim.NON_INFERIOR, margin).p == pytest.approx(lower)
    mirrored = decide(found, Claim.NON_INFERIOR, margin, higher_is_better=False)
    assert mirrored.p == pytest.approx(upper)


def test_superiority_is_scipys_one_sided_t_test():
    rng = np.random.default_rng(2)
    a = rng.normal(0, 1, 40)
    b = a + rng.normal(0.4, 1, 40)
    for margin in (0.0, 0.2):
        expected = scipy_stats.ttest_1samp(b - a, margin, alternative="greater").pvalue
        found = decide(paired_mean_difference(a, b), Claim.SUPERIOR, margin)
        assert found.p == pytest.approx(expected)
        assert found.boundary == margin


@pytest.mark.parametrize(
    ("claim", "centre", "verdict"),
    [
        (Claim.SUPERIOR, 0.2, YES),
        (Claim.SUPERIOR, 0.1, OPEN),
        (Claim.SUPERIOR, 0.0, NO),
        (Claim.NON_INFERIOR, 0.0, YES),
        (Claim.NON_INFERIOR, -0.1, OPEN),
        (Claim.NON_INFERIOR, -0.2, NO),
        (Claim.EQUIVALENT, 0.0, YES),
        (Claim.EQUIVALENT, 0.1, OPEN),
        (Claim.EQUIVALENT, -0.1, OPEN),
        (Claim.EQUIVALENT, 0.2, NO),
        (Claim.EQUIVALENT, -0.2, NO),
    ],
)
def test_every_claim_has_three_answers(claim, centre, verdict):
    """Error 0.04, 20 degrees of freedom: 0.1 off the margin of 0.1 is t 2.5, one-sided p 0.011."""
    assert decide(of_spread(centre, 0.04), claim, 0.1).verdict is verdict
    mirrored = decide(of_spread(-centre, 0.04), claim, 0.1, higher_is_better=False)
    assert mirrored.verdict is verdict


def test_a_no_to_equivalence_may_come_from_either_side_and_pays_for_both():
    """t of 1.9 beyond the margin: p 0.036 one-sided, 0.072 for two sides."""
    assert decide(of_spread(0.1 + 1.9 * 0.04, 0.04), Claim.NON_INFERIOR, 0.1).verdict is YES
    assert decide(of_spread(-0.1 - 1.9 * 0.04, 0.04), Claim.NON_INFERIOR, 0.1).verdict is NO
    assert decide(of_spread(-0.1 - 1.9 * 0.04, 0.04), Claim.EQUIVALENT, 0.1).verdict is OPEN
    assert decide(of_spread(0.1 + 2.2 * 0.04, 0.04), Claim.EQUIVALENT, 0.1).verdict is NO


@given(st.floats(-1, 1), st.floats(0.01, 0.5), st.floats(0.01, 0.8), st.sampled_from(list(Claim)))
def test_a_metric_of_which_less_is_better_is_a_mirror(centre, error, margin, claim):
    one = decide(of_spread(centre, error), claim, margin)
    other = decide(of_spread(-centre, error), claim, margin, higher_is_better=False)
    assert other.verdict is one.verdict
    assert other.p == pytest.approx(one.p)
    assert other.boundary == pytest.approx(-one.boundary) or centre == 0


@given(st.floats(-1, 1), st.floats(0.01, 0.5), st.floats(1, 60), st.sampled_from([0.8, 0.9, 0.95]))
def test_limits_are_where_the_one_sided_p_values_are_half_of_alpha(centre, error, freedom, level):
    spread = Spread(centre, error, freedom, 30)
    low, high = spread.limits(level)
    assert spread.p_below(low) == pytest.approx((1 - level) / 2)
    assert spread.p_above(high) == pytest.approx((1 - level) / 2)
    assert spread.p_below(centre) == pytest.approx(0.5)
    assert spread.p_below(low - error) < spread.p_below(low)


@given(st.floats(0, 1), st.integers(5, 200), st.floats(0, 1))
def test_constants_have_limits_where_their_p_values_are_half_of_alpha(centre, n, value):
    spread = Spread(centre, 0.0, math.nan, n, (centre, 1 - centre))
    low, high = spread.limits()
    assert 0 <= low <= centre <= high <= 1
    if centre > 0.01:
        assert spread.p_below(low) == pytest.approx(0.025)
    assert 0 <= spread.p_below(value) <= 1
    assert spread.p_below(value) == 1 or value < centre
    assert max(spread.p_below(value), spread.p_above(value)) == 1


@given(
    st.floats(-0.5, 0.5), st.floats(0.01, 0.2), st.floats(0.01, 0.6), st.sampled_from([0.05, 0.01])
)
def test_equivalence_is_the_90_percent_interval_inside_the_margin(centre, error, margin, alpha):
    found = of_spread(centre, error)
    low, high = found.spread.limits(1 - 2 * alpha)
    inside = -margin < low and high < margin
    p = decide(found, Claim.EQUIVALENT, margin, alpha=alpha).p
    assert (p < alpha) == inside or p == pytest.approx(alpha)


def test_docs_that_all_agree_by_hand():
    """Nothing differs in 14 docs: a truth at the margin needs a share m of docs that was not seen,
    which has the chance (1 − m)^14: 0.23 at 0.1, 0.044 at 0.2."""
    same = paired_mean_difference(np.ones(14), np.ones(14), fraction=True)
    for claim in (Claim.NON_INFERIOR, Claim.EQUIVALENT):
        for margin, verdict in ((0.1, OPEN), (0.2, YES)):
            found = decide(same, claim, margin)
            assert found.p == pytest.approx((1 - margin) ** 14)
            assert found.verdict is verdict
    assert decide(same, Claim.SUPERIOR, 0.1).verdict is OPEN
    assert decide(same, Claim.SUPERIOR, 0.2).verdict is NO
    assert decide(same, Claim.SUPERIOR).verdict is OPEN


def test_of_numbers_without_a_range_that_all_agree_nothing_is_claimed():
    same = paired_mean_difference(A, A)
    for claim in Claim:
        found = decide(same, claim, 0.1)
        assert found.verdict is OPEN
        assert math.isnan(found.p)


@pytest.mark.parametrize("claim", list(Claim))
def test_too_few_docs_decide_nothing(claim):
    found = decide(paired_mean_difference(A[:4], B[:4], fraction=True), claim, 0.1)
    assert found.verdict is OPEN
    assert math.isnan(found.p)


def test_the_margin_has_to_be_told_from_the_nearer_side():
    assert decide(of_spread(-0.02, 0.1), Claim.EQUIVALENT, 0.1).boundary == -0.1
    assert decide(of_spread(0.02, 0.1), Claim.EQUIVALENT, 0.1).boundary == 0.1
    down = decide(of_spread(0.02, 0.1), Claim.EQUIVALENT, 0.1, higher_is_better=False)
    assert down.boundary == 0.1
    assert decide(of_spread(0.02, 0.1), Claim.NON_INFERIOR, 0.1).boundary == -0.1
    worse = decide(of_spread(0.02, 0.1), Claim.NON_INFERIOR, 0.1, higher_is_better=False)
    assert worse.boundary == 0.1


@pytest.mark.parametrize("claim", list(Claim))
@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(claim, margin):
    with pytest.raises(ValueError, match=r"margin .*: expected a finite one"):
        decide(of_spread(0.0, 0.1), claim, margin)


def test_only_superiority_needs_no_room():
    assert decide(of_spread(0.3, 0.1), Claim.SUPERIOR).verdict is YES
    for claim in (Claim.NON_INFERIOR, Claim.EQUIVALENT):
        with pytest.raises(ValueError, match=f"above 0 for {claim.value}"):
            decide(of_spread(0.0, 0.1), claim)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 2, math.nan])
def test_a_level_that_is_none_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        decide(of_spread(0.0, 0.1), Claim.EQUIVALENT, 0.1, alpha=alpha)


def false_yes(docs, margin, claim=Claim.NON_INFERIOR):
    """The exact chance of a 'yes' where every doc is lost by a chance that is the margin.

    Summed over how many docs are lost, with binomial weights.
    """
    total = 0.0
    for lost in range(min(docs, 60) + 1):
        b = np.ones(docs)
        b[:lost] = 0
        if decide(paired_mean_difference(np.ones(docs), b, True), claim, margin).verdict is YES:
            total += scipy_stats.binom.pmf(lost, docs, margin)
    return total


@pytest.mark.parametrize(
    ("docs", "margin"),
    [(30, 0.1), (100, 0.03), (100, 0.05), (300, 0.02), (1000, 0.005), (2000, 0.01)],
)
def test_a_few_lost_docs_are_not_called_harmless_too_often(docs, margin):
    """Of Student's error alone 20 % and more would be false: one lost doc hardly varies."""
    assert false_yes(docs, margin) < 0.08
    assert false_yes(docs, margin, Claim.EQUIVALENT) < 0.08


@pytest.mark.parametrize(("docs", "verdict"), [(4, OPEN), (5, YES), (9, YES)])
def test_superiority_of_few_docs_agrees_with_the_exact_test(docs, verdict):
    """However many docs agree; one-sided 1 / 2^4 = 0.0625 and 1 / 2^5 = 0.031."""
    a, b = np.zeros(500), np.zeros(500)
    b[:docs] = 1
    found = decide(paired_mean_difference(a, b, fraction=True), Claim.SUPERIOR)
    assert found.verdict is verdict
    assert found.p == pytest.approx(0.5**docs, abs=0.013)


def test_the_interval_of_few_docs_is_bonett_and_prices():
    """Their interval by hand, with Student's quantile and divisor: 6 up, 2 down of 40 docs are
    7 and 3 of 42."""
    a, b = np.zeros(40), np.zeros(40)
    b[:6], a[6:8] = 1, 1
    found = paired_mean_difference(a, b, fraction=True)
    gap = (7 - 3) / 42
    error = math.sqrt((10 / 42 - gap**2) / 41)
    half = scipy_stats.t.ppf(0.975, 41) * error
    assert (found.ci_low, found.ci_high) == pytest.approx((gap - half, gap + half))
    assert found.difference == pytest.approx(4 / 40)
    gaps = b - a
    assert found.effect_size == pytest.approx(gaps.mean() / gaps.std(ddof=1))


def test_few_docs_of_several_tasks_are_no_evidence():
    """Four docs of 500 differ, in one task of two: no evidence, as in one task alone."""
    a, b = np.zeros(500), np.zeros(500)
    b[:4] = 1
    alone = [(a, b), (np.zeros(50), np.zeros(50))]
    for compare in (mcnemar_difference, partial(paired_mean_difference, fraction=True)):
        assert stratified_difference([compare(*pair) for pair in alone]).p > 0.1
