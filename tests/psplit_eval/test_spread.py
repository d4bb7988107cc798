"""Limits and p of single answers, against published numbers and their own definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from psplit_eval.spread import Composite, Discordant, Share, Spread

NORMAL = 1e9
"""Degrees of freedom that make Student's quantile the normal one, as Tango has it."""


def counted(n, gains, losses, freedom=NORMAL):
    return Discordant((gains - losses) / n, 0.1, freedom, n, gains=gains, losses=losses)


def test_tangos_interval_as_published():
    """Airway data of Fagerland, Lydersen and Laake (2014): 1 and 7 of 21 pairs are discordant."""
    low, high = counted(21, 1, 7).limits()
    assert (low, high) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_without_a_difference_it_is_mcnemars_asymptotic_test():
    for gains, losses in ((3, 9), (12, 5), (1, 0)):
        expected = stats.norm.sf((gains - losses) / math.sqrt(gains + losses))
        assert counted(40, gains, losses).p_below(0.0) == pytest.approx(expected)


def test_where_no_doc_differs_it_is_wilsons_limit():
    wilson = stats.binomtest(0, 30).proportion_ci(method="wilson").high
    assert counted(30, 0, 0).limits() == pytest.approx((-wilson, wilson))


@given(st.integers(5, 300), st.integers(0, 300), st.integers(0, 300), st.floats(0.5, 0.999))
def test_limits_are_where_p_says_so(n, gains, losses, confidence):
    gains = min(gains, n)
    losses = min(losses, n - gains)
    spread = counted(n, gains, losses, freedom=n - 1)
    low, high = spread.limits(confidence)
    assert -1 <= low <= spread.centre <= high <= 1
    tail = (1 - confidence) / 2
    if low > -1:
        assert spread.p_below(low) == pytest.approx(tail, abs=1e-6)
    if high < 1:
        assert spread.p_above(high) == pytest.approx(tail, abs=1e-6)
    mirrored = spread.mirrored().limits(confidence)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


@given(st.integers(5, 60), st.integers(0, 60), st.floats(-1, 1), st.floats(-1, 1))
def test_a_higher_value_is_less_surely_exceeded(n, gains, one, other):
    spread = counted(n, min(gains, n), 0)
    low, high = sorted((one, other))
    assert spread.p_below(low) <= spread.p_below(high) + 1e-9
    assert spread.p_below(low) + spread.p_above(low) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("n", [60, 100, 200, 300])
@pytest.mark.parametrize("margin", [0.015, 0.03, 0.1])
def test_hardly_ever_is_a_loss_called_none(n, margin):
    """Exactly, by the binomial: docs are lost at the margin and none is won, the hardest case. By
    Student's t, 'not worse by the margin' is said in up to 20 %."""
    claimed = sum(
        stats.binom.pmf(lost, n, margin)
        for lost in range(n + 1)
        if counted(n, 0, lost, freedom=n - 1).p_below(-margin) < 0.05
    )
    assert claimed <= 0.065


def test_a_confidence_is_a_chance():
    with pytest.raises(ValueError, match="confidence"):
        counted(10, 1, 1).limits(1.0)


# A variance of several parts


@pytest.mark.parametrize("tail", [0.4, 0.025, 0.0056, 0.00125, 1e-8, 1e-30])
def test_at_every_level_the_parts_quantiles_are_weighted_by_variance(tail):
    """Cochran and Cox: scipy's quantiles of 2 and 99 degrees of freedom, 0.3 and 0.1 of 0.4."""
    spread = Composite.of(0.5, 0.2, 100, [(0.3, 2), (0.1, 99)])
    quantile = 0.75 * stats.t.isf(tail, 2) + 0.25 * stats.t.isf(tail, 99)
    assert spread.p_below(0.5 - 0.2 * quantile) == pytest.approx(tail, rel=1e-8)
    assert spread.p_above(0.5 + 0.2 * quantile) == pytest.approx(tail, rel=1e-8)
    assert spread.p_above(0.5 - 0.2 * quantile) == pytest.approx(1 - tail, rel=1e-8)
    if tail > 1e-4:
        limits = 0.5 - 0.2 * quantile, 0.5 + 0.2 * quantile
        assert spread.limits(1 - 2 * tail) == pytest.approx(limits)


PARTS = st.lists(
    st.tuples(
        st.floats(0, 1) | st.sampled_from([1e-12, 1e12]),
        st.floats(1, 1000) | st.sampled_from([1.0, math.inf]),
    ),
    min_size=1,
    max_size=3,
).filter(lambda parts: any(variance > 0 for variance, _ in parts))


@given(PARTS, st.floats(-1, 1), st.floats(0.01, 2), st.floats(0.2, 0.9999))
def test_limits_of_parts_are_where_p_says_so(parts, centre, error, confidence):
    spread = Composite.of(centre, error, 50, parts)
    low, high = spread.limits(confidence)
    tail = (1 - confidence) / 2
    assert spread.p_below(low) == pytest.approx(tail, rel=1e-6)
    assert spread.p_above(high) == pytest.approx(tail, rel=1e-6)
    assert spread.p_below(low - error / 100) < tail < spread.p_below(low + error / 100)
    mirrored = spread.mirrored()
    assert mirrored.limits(confidence) == pytest.approx((-high, -low), abs=1e-9)
    assert mirrored.p_below(-high) == pytest.approx(tail, rel=1e-6)


@given(PARTS, st.floats(0, 1e60), st.floats(0, 1e60))
def test_further_off_is_surer_however_far(parts, one, other):
    spread = Composite.of(0.0, 1.0, 50, parts)
    near, far = sorted((one, other))
    assert 0 < spread.p_below(-far) <= spread.p_below(-near) * (1 + 1e-9) <= 0.5 * (1 + 1e-9)
    assert spread.p_below(far) == pytest.approx(1 - spread.p_below(-far))


def test_the_only_part_that_counts_is_students_t():
    alone = Composite.of(0.3, 0.1, 12, [(0.2, 11), (0.0, math.inf)])
    student = Spread(0.3, 0.1, 11, 12)
    for value in (-1.0, 0.0, 0.3, 0.5):
        assert alone.p_below(value) == student.p_below(value)
    assert alone.limits(0.99) == pytest.approx(student.limits(0.99), rel=1e-12)


# A share less a bound


def share(values, bound):
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / math.sqrt(len(values))
    return Share.of(Spread(values.mean() - bound, error, len(values) - 1, len(values)), bound)


@pytest.mark.parametrize("right", [1, 17, 50, 93, 99])
def test_a_share_of_many_docs_has_wilsons_interval(right):
    """scipy's, whose quantile is the normal one: so with no end of degrees of freedom."""
    mean = right / 100
    found = Share(mean - 0.3, math.sqrt(mean * (1 - mean) / 100), 1e9, 100, bound=0.3)
    for confidence in (0.8, 0.95):
        wilson = stats.binomtest(right, 100).proportion_ci(confidence, method="wilson")
        low, high = found.limits(confidence)
        assert (low + 0.3, high + 0.3) == pytest.approx((wilson.low, wilson.high), rel=1e-6)


def test_limits_and_p_of_a_share_agree():
    found = share([0, 0.25, 1, 1, 0.75, 0.5, 1, 1], 0.6)
    low, high = found.limits(0.9)
    assert found.p_below(low) == pytest.approx(0.05)
    assert found.p_above(high) == pytest.approx(0.05)
    assert found.p_below(-0.6) == 0
    assert found.p_above(0.4) == 0
    assert found.p_below(0.4) == 1


def test_a_share_seen_from_the_other_end():
    found = share([0, 0.25, 1, 1, 0.75, 0.5, 1, 1], 0.6)
    other = share([1, 0.75, 0, 0, 0.25, 0.5, 0, 0], 0.4)
    mirrored = found.mirrored()
    assert mirrored.limits() == pytest.approx(other.limits())
    assert mirrored.p_below(0.0) == pytest.approx(other.p_below(0.0))
    assert mirrored.p_below(0.1) == pytest.approx(found.p_above(-0.1))


def test_a_share_that_is_the_same_for_all_docs():
    found = share([1.0] * 40, 0.9)
    assert found.p_below(0.0) == pytest.approx(0.9**40)
    assert found.p_above(0.0) == 1
    with pytest.raises(ValueError, match="confidence 1"):
        share([0.0, 1.0, 1.0], 0.5).limits(1)


@pytest.mark.parametrize(
    ("docs", "samples", "truth"), [(100, 1, 0.95), (400, 1, 0.98), (30, 4, 0.9)]
)
def test_a_bound_that_is_the_truth_is_rarely_passed(docs, samples, truth):
    """Where docs are of unlike difficulty, and the nominal level is 5 %."""
    draws = np.random.default_rng(0)
    passed = {"score": 0, "student": 0}
    for _ in range(1500):
        hard = draws.beta(truth, 1 - truth, docs) if samples > 1 else np.full(docs, truth)
        found = share(draws.binomial(samples, hard) / samples, truth)
        if found.error > 0:
            student = Spread(found.centre, found.error, found.freedom, found.n)
            passed["score"] += found.p_below(0.0) < 0.05
            passed["student"] += student.p_below(0.0) < 0.05
    assert 0.02 < passed["score"] / 1500 < 0.085
    assert passed["student"] / 1500 > 0.075
