"""The estimates are lower bounds, whatever is listed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from psplit_eval.logprobs import (
    TopTokens,
    divergence_bounds_bits,
    entropy_bounds_bits,
    entropy_estimate_bits,
)

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


# Two policies. The full numbers are scipy's: entropy(p, q) and jensenshannon(p, q)².


@st.composite
def policies(draw, least=0.0):
    """Two distributions over equal vocabularies, flat to very sharp: (2, vocabulary)."""
    size = draw(st.integers(1, 30))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharp = draw(st.sampled_from([0.1, 1.0, 5.0, 20.0]))
    apart = draw(st.sampled_from([0.0, 0.1, 3.0]))
    logits = sharp * numbers.normal(size=size) + apart * numbers.normal(size=(2, size))
    masses = np.exp(logits - logits.max(1, keepdims=True)) + least
    return masses / masses.sum(1, keepdims=True)


def top(masses, listed, drawn=None):
    """The most probable tokens, and one that was drawn."""
    best = set(np.argsort(-masses)[:listed].tolist()) | ({drawn} if drawn is not None else set())
    with np.errstate(divide="ignore"):
        return TopTokens.of([{token: float(np.log(masses[token])) for token in best}])


def full(p, q):
    with np.errstate(invalid="ignore"):  # of equal policies scipy's is the root of -1e-17 or so
        root = float(jensenshannon(p, q, base=2))
    js = 0.0 if math.isnan(root) else root**2
    return entropy(p, q, base=2), entropy(q, p, base=2), js


@given(policies(), st.integers(1, 30), st.data())
def test_divergences_are_never_above_those_of_the_full_vocabulary(masses, listed, data):
    drawn = data.draw(st.none() | st.integers(0, masses.shape[1] - 1))
    tops = [top(p, listed, drawn) for p in masses]
    found = np.concatenate(divergence_bounds_bits(*tops))
    assert (found >= 0).all()
    assert (found <= np.array(full(*masses)) + 1e-9).all()
    assert found[2] <= 1


@given(policies())
def test_divergences_are_equal_where_all_tokens_are_listed(masses):
    tops = [top(p, 30) for p in masses]
    found = np.concatenate(divergence_bounds_bits(*tops))
    np.testing.assert_allclose(found, full(*masses), rtol=1e-9, atol=1e-9)


@given(policies(), st.integers(1, 29))
def test_they_are_the_divergences_of_the_merged_outcomes(masses, listed):
    shared = set.intersection(*(set(np.argsort(-p)[:listed].tolist()) for p in masses))
    kept = sorted(shared)
    merged = np.array([[*p[kept], max(0.0, 1 - p[kept].sum())] for p in masses])
    kl, back, js = divergence_bounds_bits(*(top(p, listed) for p in masses))
    if (merged[:, -1] > 1e-3).all():  # else the bound is lower, as it doubts the rest
        np.testing.assert_allclose([kl[0], back[0]], full(*merged)[:2], atol=2e-3)
        assert js[0] == pytest.approx(full(*merged)[2], abs=1e-9)


@given(policies(), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_single_precision_costs_no_more_than_its_rounding(masses, listed, seed):
    """Sums that are off by some 1e-7, as engines give them."""
    noise = np.random.default_rng(seed).uniform(-2e-7, 2e-7, masses.shape)
    tops = []
    for p, off in zip(masses, noise, strict=True):
        exact = top(p, listed)
        here = exact.tokens[0]
        tops.append(TopTokens(exact.tokens, (exact.logprobs + off[here]).astype(np.float32)))
    found = np.concatenate(divergence_bounds_bits(*tops))
    assert np.isfinite(found).all()
    assert (found <= np.array(full(*masses)) * (1 + 1e-5) + 1e-5).all()


def test_by_hand_with_a_token_that_one_lists_alone():
    a = TopTokens.of([{7: math.log(0.5), 8: math.log(0.25)}])
    b = TopTokens.of([{7: math.log(0.25), 9: math.log(0.5)}])
    kl, back, js = divergence_bounds_bits(a, b)  # (1/2, 1/2) and (1/4, 3/4)
    assert kl[0] == pytest.approx(0.5 * 1 + 0.5 * math.log2(2 / 3), abs=1e-5)
    assert back[0] == pytest.approx(0.25 * -1 + 0.75 * math.log2(1.5), abs=1e-5)
    assert js[0] == pytest.approx(jensenshannon([0.5, 0.5], [0.25, 0.75], base=2) ** 2)


def test_a_rest_that_rounding_takes_away_is_not_impossible():
    a = TopTokens.of([{1: math.log(0.5), 2: math.log(0.3)}])
    b = TopTokens.of([{1: math.log(0.6), 2: math.log(0.4) + 1e-7}])
    kl, back, js = divergence_bounds_bits(a, b)
    assert 2 < kl[0] < 5  # 0.2 · log2(0.2 · 2²⁰) and what the two tokens add
    assert np.isfinite([back[0], js[0]]).all()


def test_what_is_not_listed_has_no_numbers():
    nothing, one = TopTokens.of([{}]), TopTokens.of([{3: -0.5}])
    assert np.isnan(divergence_bounds_bits(nothing, one)).all()
    some = divergence_bounds_bits(TopTokens.of([{}, {3: -0.5}]), TopTokens.of([{3: -0.5}] * 2))
    assert [np.isnan(found).tolist() for found in some] == [[True, False]] * 3
    assert np.isnan(entropy_bounds_bits(TopTokens.of([{}, {3: -0.5}]))).tolist() == [True, False]
    assert [
        found.shape for found in divergence_bounds_bits(TopTokens.of([]), TopTokens.of([]))
    ] == [(0,)] * 3
    with pytest.raises(ValueError, match="1 and 2 positions"):
        divergence_bounds_bits(one, TopTokens.of([{}, {}]))


@given(st.lists(policies(), min_size=1, max_size=5), st.integers(1, 30))
def test_many_positions_at_once_are_each_alone(several, listed):
    positions = [
        {t: float(v) for t, v in zip(one.tokens[0].tolist(), one.logprobs[0], strict=True)}
        for one in (top(masses[0], listed) for masses in several)
    ]
    found = entropy_bounds_bits(TopTokens.of(positions))
    alone = [entropy_estimate_bits(list(listed.values())) for listed in positions]
    np.testing.assert_allclose(found, alone, atol=1e-9)
    others = [{t + 1: v for t, v in listed.items()} for listed in positions]
    together = divergence_bounds_bits(TopTokens.of(positions), TopTokens.of(others))
    for i, (one, other) in enumerate(zip(positions, others, strict=True)):
        single = divergence_bounds_bits(TopTokens.of([one]), TopTokens.of([other]))
        np.testing.assert_allclose([x[i] for x in together], [x[0] for x in single], atol=1e-12)


def test_more_positions_than_are_compared_at_a_time(monkeypatch):
    monkeypatch.setattr("psplit_eval.logprobs._COMPARED", 20)
    numbers = np.random.default_rng(0)
    a, b = (
        TopTokens.of([dict(zip((4, 5, 6), np.log(p), strict=True)) for p in masses])
        for masses in numbers.dirichlet([1, 1, 1], (2, 11))
    )
    kl, _, _ = divergence_bounds_bits(a, b)
    expected = entropy(np.exp(a.logprobs), np.exp(b.logprobs), base=2, axis=1)
    np.testing.assert_allclose(kl, expected, atol=1e-9)


def test_log_probabilities_of_tokens():
    top = TopTokens.of([{4: -1.0, 2: -3.0}, {7: -0.1}])
    assert top.of_tokens([2, 7]).tolist() == [-3.0, -0.1]
    assert np.isnan(top.of_tokens([3, 4])).all()
