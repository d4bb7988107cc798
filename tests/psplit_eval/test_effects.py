"""Effect sizes, against scipy, plain loops, resampling and statsmodels 0.15.0.

Numbers of statsmodels were computed once, in an environment of their own; it is no dependency.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats

from psplit_eval.effects import cliffs_delta, cohens_dz, odds_ratio

A = np.array([0.25, 0.5, 0.75, 1, 0, 0.5, 0.25, 0.75, 0.5, 0.25, 1, 0.5])
B = np.array([0.5, 0.5, 0.75, 0.75, 0.25, 0.5, 0, 1, 0.5, 0.5, 1, 0.25])
EFFECTS = [cohens_dz, cliffs_delta, odds_ratio]


@pytest.mark.parametrize(("n", "shift"), [(5, 0.3), (12, -1.2), (40, 0.0), (300, 0.4)])
def test_the_interval_of_d_z_inverts_scipys_noncentral_t(n, shift):
    gaps = np.random.default_rng(n).normal(shift, 1, n)
    found = cohens_dz(np.zeros(n), gaps)
    t = gaps.mean() / gaps.std(ddof=1) * math.sqrt(n)
    limits = [
        optimize.brentq(lambda d, q=q: scipy_stats.nct.cdf(t, n - 1, d) - q, t - 6, t + 6)
        for q in (0.975, 0.025)
    ]
    assert found.value == pytest.approx(t / math.sqrt(n))
    assert (found.ci_low, found.ci_high) == pytest.approx(
        tuple(np.array(limits) / math.sqrt(n)), abs=1e-6
    )


def test_d_z_is_the_size_that_two_equal_halves_of_docs_show_by_hand():
    """Differences 1 and 3: mean 2, standard deviation √(6 / 5)."""
    found = cohens_dz([0] * 6, [1, 3] * 3)
    assert found.value == pytest.approx(2 / math.sqrt(6 / 5))
    mirrored = cohens_dz([1, 3] * 3, [0] * 6)
    assert (mirrored.ci_low, mirrored.ci_high) == pytest.approx((-found.ci_high, -found.ci_low))


@pytest.mark.parametrize(("n", "step"), [(6, 1e-6), (30, 1e-4), (2000, 1e-3)])
def test_a_difference_that_hardly_varies_has_an_interval_at_once(n, step):
    """Then d_z √n is all but (1 / sd) √n: the limits are those of the standard deviation."""
    gaps = 1 + step * np.linspace(-1, 1, n)
    found = cohens_dz(np.zeros(n), gaps)
    chi = np.sqrt(scipy_stats.chi2.ppf([0.025, 0.975], n - 1) / (n - 1))
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(found.value * chi), rel=1e-3)


def test_the_way_for_large_t_meets_the_usual_one():
    gaps = np.linspace(-1, 1, 50) + 0.0
    sd = gaps.std(ddof=1)
    near = [cohens_dz(np.zeros(50), gaps + t * sd / math.sqrt(50)) for t in (999.0, 1001.0)]
    for limit in ("ci_low", "ci_high"):
        low, high = (getattr(found, limit) for found in near)
        assert high / low == pytest.approx(1001 / 999, rel=3e-4)


def test_cliffs_delta_by_a_double_loop():
    gaps = [math.copysign(b != a, b - a) for a in A for b in B]
    assert cliffs_delta(A, B).value == pytest.approx(sum(gaps) / len(A) ** 2)
    above = scipy_stats.mannwhitneyu(B, A).statistic
    assert cliffs_delta(A, B).value == pytest.approx(2 * above / len(A) ** 2 - 1)


def test_cliffs_interval_is_close_to_a_bootstrap_over_docs():
    rng = np.random.default_rng(4)
    a = rng.normal(0, 1, 120)
    b = 0.7 * a + rng.normal(0.3, 0.7, 120)
    drawn = rng.integers(0, 120, (1000, 120))
    deltas = [np.sign(b[i][:, None] - a[i]).mean() for i in drawn]
    found = cliffs_delta(a, b)
    assert (found.ci_high - found.ci_low) / 2 == pytest.approx(1.96 * np.std(deltas), rel=0.1)
    assert found.ci_low < found.value < found.ci_high


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30),
    st.sampled_from([cohens_dz, cliffs_delta]),
)
def test_swapping_the_arms_mirrors_an_effect(pairs, effect):
    a, b = (list(side) for side in zip(*pairs, strict=True))
    one, two = effect(a, b), effect(b, a)
    assert one.value == pytest.approx(-two.value, nan_ok=True)
    assert one.ci_low == pytest.approx(-two.ci_high, nan_ok=True)
    assert not one.ci_low > one.value
    assert not one.ci_high < one.value


def test_the_odds_ratio_is_statsmodels_gee_with_docs_as_clusters():
    """GEE, binomial, independence, clusters of 2: its robust error of the log odds ratio is
    0.22002212250802292, without the factor n / (n − 1) in its square."""
    found = odds_ratio(A, B)
    assert found.value == pytest.approx(1.0872727272727272)
    error = 0.22002212250802292 * math.sqrt(12 / 11)
    half = scipy_stats.t.ppf(0.975, 11) * error
    assert math.log(found.ci_high / found.ci_low) / 2 == pytest.approx(half)


def test_the_odds_ratio_by_hand_and_its_error_by_the_jackknife():
    assert odds_ratio([0, 0, 0, 0, 1], [0, 1, 1, 1, 1]).value == pytest.approx(4 / (1 / 4))
    rng = np.random.default_rng(9)
    a, b = rng.binomial(4, 0.4, 80) / 4, rng.binomial(4, 0.6, 80) / 4
    odds = [(np.delete(a, i).mean(), np.delete(b, i).mean()) for i in range(80)]
    logs = np.array([math.log(q / (1 - q) / (p / (1 - p))) for p, q in odds])
    error = math.sqrt(79 / 80 * ((logs - logs.mean()) ** 2).sum())
    found = odds_ratio(a, b)
    half = math.log(found.ci_high / found.ci_low) / 2
    assert half == pytest.approx(scipy_stats.t.ppf(0.975, 79) * error, rel=0.03)
    swapped = odds_ratio(b, a)
    assert swapped.value == pytest.approx(1 / found.value)
    assert swapped.ci_low == pytest.approx(1 / found.ci_high)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("docs", [0, 1, 4])
def test_few_docs_have_no_interval(effect, docs):
    found = effect(A[:docs], B[:docs])
    assert found.n == docs
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_docs_that_are_all_equal_have_no_interval(effect, value):
    found = effect([value] * 8, [value] * 8)
    assert math.isnan(found.ci_low)
    assert found.value == pytest.approx(
        {cohens_dz: math.nan, cliffs_delta: 0, odds_ratio: 1 if value == 0.5 else math.nan}[effect],
        nan_ok=True,
    )


def test_arms_that_do_not_overlap_have_all_of_cliffs_delta_and_no_interval():
    found = cliffs_delta([0, 0.1, 0.2, 0.1, 0], [0.3, 0.4, 0.5, 0.3, 1])
    assert found.value == 1
    assert math.isnan(found.ci_low)


def test_odds_without_bounds_are_undefined():
    for a, b in (([0.0] * 6, [0.5] * 6), ([0.5] * 6, [1.0] * 6), ([0.0] * 5 + [5e-324], A[:6])):
        assert math.isnan(odds_ratio(a, b).value)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (A, B[:5]),
        (A[:, None], B[:, None]),
        ([math.nan] * 6, A[:6]),
        ([0.5] * 6, [math.inf] * 6),
        ([1e300] * 6, [-1e300] * 6),
    ],
)
def test_what_is_no_pair_of_finite_numbers_is_refused(effect, a, b):
    with pytest.raises(ValueError, match="expected"):
        effect(a, b)


def test_odds_are_of_shares():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        odds_ratio([-0.5, 2, 0.5, 0.5, 0.5], [0.5] * 5)
