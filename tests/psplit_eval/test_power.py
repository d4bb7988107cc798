"""Power and what it takes, against statsmodels 0.15.0, scipy and simulation.

Numbers of statsmodels (TTestPower) were computed once, in an environment of their own; it is no
dependency.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from psplit_eval.power import (
    Components,
    Need,
    detectable,
    docs_needed,
    needed,
    power,
)

TTEST_POWER = [
    # gap, docs, variance, alpha, sides → power, docs for 0.8, detectable gap at 0.8
    ((0.1, 50, 0.09, 0.05, 2), 0.6370942697479285, 72.58390269665837, 0.12125489992133576),
    ((0.5, 10, 1.0, 0.05, 2), 0.2931756065140767, 33.36713118431779, 0.9960019107624178),
    ((0.3, 30, 1.0, 0.05, 1), 0.4839806364605739, 70.06790408991661, 0.4649472195030932),
    ((0.02, 2000, 0.16, 0.01, 2), 0.36632047495080106, 4674.905066214968, 0.030592053460794105),
    ((0.2, 6, 0.05, 0.05, 2), 0.42620375427250706, 11.873566485028642, 0.32077404487405925),
]


@pytest.mark.parametrize(("case", "chance", "docs", "gap"), TTEST_POWER)
def test_power_is_statsmodels(case, chance, docs, gap):
    true, n, variance, alpha, sides = case
    assert power(true, n, variance, alpha, sides) == pytest.approx(chance, abs=1e-6)
    assert docs_needed(true, variance, 0.8, alpha, sides) == math.ceil(docs)
    assert detectable(n, variance, 0.8, alpha, sides) == pytest.approx(gap, rel=2e-4)


@pytest.mark.parametrize(
    ("docs", "alpha", "shift"), [(2, 0.001, 700), (2, 0.05, 45), (3, 0.001, 62), (5, 1e-6, 130)]
)
def test_few_docs_leave_doubt_however_far_the_mean_is(docs, alpha, shift):
    """By integrating over the mean that happens to be drawn."""
    freedom = docs - 1
    critical = scipy_stats.t.ppf(1 - alpha / 2, freedom)
    expected, _ = integrate.quad(
        lambda z: (
            scipy_stats.chi.cdf((shift + z) / critical * math.sqrt(freedom), freedom)
            * scipy_stats.norm.pdf(z)
        ),
        -9,
        9,
    )
    assert power(shift / math.sqrt(docs), docs, 1.0, alpha) == pytest.approx(expected, abs=1e-6)


@given(
    st.floats(0.001, 3),
    st.integers(2, 400),
    st.floats(0.001, 4),
    st.sampled_from([(0.05, 1), (0.05, 2), (0.001, 2)]),
)
def test_power_is_a_chance_that_grows_with_docs_and_with_the_gap(gap, docs, variance, test):
    chance = power(gap, docs, variance, *test)
    assert 0 <= chance <= 1
    assert chance >= test[0] - 1e-7
    assert power(gap, docs + 20, variance, *test) >= chance - 1e-7
    assert power(gap * 1.5, docs, variance, *test) >= chance - 1e-7
    assert power(-gap, docs, variance, *test) == chance


@given(st.integers(2, 300), st.floats(0.001, 4), st.floats(0.2, 0.95), st.sampled_from([1, 2]))
def test_what_is_detectable_has_the_power_that_was_wanted(docs, variance, wanted, sides):
    gap = detectable(docs, variance, wanted, sides=sides)
    assert power(gap, docs, variance, sides=sides) == pytest.approx(wanted, abs=1e-6)


@given(st.floats(0.05, 3), st.floats(0.01, 2), st.floats(0.2, 0.95))
def test_docs_needed_are_the_fewest(gap, variance, wanted):
    docs = docs_needed(gap, variance, wanted)
    assert power(gap, docs, variance) >= wanted
    assert docs == 2 or power(gap, docs - 1, variance) < wanted


def test_samples_needed_are_the_fewest():
    parts = Components(crossing=0.01, noise=0.4, samples=4)
    samples = needed([0.04], 100, parts).samples
    assert power(0.04, 100, 0.01 + 0.4 / samples) >= 0.8
    assert power(0.04, 100, 0.01 + 0.4 / (samples - 1)) < 0.8
    assert needed([0.04], 100, parts, given=True).samples < samples


def test_no_number_of_samples_makes_up_for_docs_that_differ_too_much():
    """The crossing alone has the power 0.8 at a gap that `detectable` gives: just above it some
    number of samples does, just below none."""
    edge = detectable(100, 0.01)
    parts = Components(crossing=0.01, noise=0.4, samples=4)
    assert needed([edge * 1.01], 100, parts).samples > 1000
    assert needed([edge * 0.99], 100, parts).samples is None
    assert needed([edge * 0.99], 100, parts, given=True).samples < 1000
    assert needed([edge * 0.99], 104, parts).samples is not None


def test_what_is_needed_of_sampled_and_of_given_docs():
    parts = Components(crossing=0.01, noise=0.4, samples=4)
    both = needed([0.04], 100, parts)
    assert both.docs == docs_needed(0.04, 0.01 + 0.1)
    assert both.samples == needed([0.04], 100, parts).samples
    given_docs = needed([0.04], 100, parts, given=True)
    assert given_docs == Need(None, needed([0.04], 100, parts, given=True).samples, True)


def test_without_noise_only_docs_are_known():
    parts = Components.estimated([0.1, 0.3, 0.2, -0.1, 0.0], None, 1)
    assert parts.now == pytest.approx(np.var([0.1, 0.3, 0.2, -0.1, 0.0], ddof=1))
    found = needed([0.1], 5, parts)
    assert (found.samples, found.samples_known) == (None, False)
    assert found.docs is not None
    assert math.isnan(parts.variance(4, given=True))


def test_a_difference_of_nothing_is_out_of_reach():
    assert needed([0.0], 100, Components(0.01, 0.4, 4)) == Need(None, None, True)


def test_components_are_found_again_in_simulated_docs():
    """True differences of variance 0.02; two arms of 4 samples, of variance 0.25 and 0.15 each."""
    rng = np.random.default_rng(8)
    n, k = 20_000, 4
    arms = [rng.normal(0, math.sqrt(v), (n, k)) for v in (0.25, 0.15)]
    gaps = rng.normal(0.1, math.sqrt(0.02), n) + arms[1].mean(1) - arms[0].mean(1)
    noise = sum(arm.var(axis=1, ddof=1) / k for arm in arms)
    parts = Components.estimated(gaps, noise, k)
    assert parts.crossing == pytest.approx(0.02, rel=0.15)
    assert parts.noise == pytest.approx(0.4, rel=0.03)
    assert parts.now == pytest.approx(gaps.var(ddof=1))
    assert parts.variance(math.inf) == parts.crossing


def test_noise_that_explains_more_than_all_leaves_no_crossing():
    parts = Components.estimated([0.1, 0.2, 0.1, 0.2], [1.0] * 4, 2)
    assert (parts.crossing, parts.noise) == (0, 2)


@pytest.mark.parametrize(
    ("docs", "variance", "gap", "chance"),
    [
        (1, 1.0, 0.1, math.nan),
        (0, 1.0, 0.1, math.nan),
        (9, math.nan, 0.1, math.nan),
        (9, 1.0, math.nan, math.nan),
        (9, 0.0, 0.1, 1.0),
        (9, 0.0, 0.0, 0.0),
        (9, 1e-320, 0.1, 1.0),
        (9, 1.0, math.inf, 1.0),
        (9, 1e300, 0.1, 0.05),
    ],
)
def test_degenerate_power(docs, variance, gap, chance):
    assert power(gap, docs, variance) == pytest.approx(chance, nan_ok=True)


def test_degenerate_detectable_differences():
    assert math.isnan(detectable(1, 1.0))
    assert math.isnan(detectable(9, math.nan))
    assert math.isnan(detectable(9, math.inf))
    assert detectable(9, 0.0) == detectable(9, 1e-320) == 0
    assert detectable(9, 1.0, wanted=0.05) == detectable(9, 1.0, wanted=0.01) == 0


def test_degenerate_needs():
    assert docs_needed(0.1, 0.0) == 2
    assert docs_needed(math.nan, 1.0) is None
    assert docs_needed(1e-6, 1.0) is None
    assert needed([0.1], 1, Components(0.01, 0.1)).samples is None
    assert needed([0.1], 100, Components(0.0, 0.0)).samples == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: power(0.1, 9, -1.0),
        lambda: power(0.1, 9, 1.0, alpha=0),
        lambda: power(0.1, 9, 1.0, alpha=1.5),
        lambda: power(0.1, 9, 1.0, sides=3),
        lambda: docs_needed(0.1, 1.0, wanted=1.0),
        lambda: detectable(9, 1.0, wanted=0.0),
        lambda: needed([0.1], 9, Components(0.1, 0.1), wanted=1.1).samples,
        lambda: Components(0.1, 0.1).variance(0),
        lambda: Components.estimated([], None, 1),
        lambda: Components.estimated([0.1], None, 1),
        lambda: Components.estimated([0.1, 0.2], [0.1], 1),
        lambda: Components.estimated([0.1, 0.2], [-0.1, 0.1], 1),
    ],
)
def test_what_makes_no_sense_is_one_line(call):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert "\n" not in str(caught.value)
