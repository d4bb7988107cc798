"""The estimate is a lower bound of the entropy, whatever is listed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.logprobs import entropy_estimate_bits

masses = st.lists(st.floats(0, 1), min_size=1, max_size=40).filter(lambda m: sum(m) > 1e-3)


def distribution(weights):
    total = sum(weights)
    return sorted((weight / total for weight in weights), reverse=True)


def entropy_bits(probabilities):
    return -sum(p * math.log2(p) for p in probabilities if p > 0)


def logs(probabilities):
    return [math.log(p) if p > 0 else -math.inf for p in probabilities]


@given(masses, st.integers(1, 40))
def test_never_above_the_entropy(weights, listed):
    p = distribution(weights)
    found = entropy_estimate_bits(logs(p[:listed]))
    assert 0 <= found <= entropy_bits(p) + 1e-9


@given(masses)
def test_equal_where_all_are_listed(weights):
    p = distribution(weights)
    assert entropy_estimate_bits(logs(p)) == pytest.approx(entropy_bits(p), abs=1e-6)


@given(masses, st.integers(1, 39))
def test_more_listed_tokens_never_lower_it(weights, listed):
    p = logs(distribution(weights))
    assert entropy_estimate_bits(p[:listed]) <= entropy_estimate_bits(p[: listed + 1]) + 1e-9


def test_by_hand():
    assert entropy_estimate_bits([math.log(0.5)]) == pytest.approx(1.0)
    assert entropy_estimate_bits([math.log(0.25)] * 2) == pytest.approx(1.5)
    assert entropy_estimate_bits([0.0]) == 0.0


@pytest.mark.parametrize(
    "logprobs", [[0.0, -math.inf], [1e-6], [math.log(0.6), math.log(0.4000001)]]
)
def test_sums_that_rounding_pushed_over_one_are_harmless(logprobs):
    assert 0 <= entropy_estimate_bits(logprobs) < 1


def test_nothing_listed_is_undefined():
    assert math.isnan(entropy_estimate_bits([]))


def test_what_is_no_number_stays_none():
    assert math.isnan(entropy_estimate_bits([math.nan, -1.0]))
