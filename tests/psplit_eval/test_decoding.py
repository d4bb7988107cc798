"""One decoding step: transformers' own distributions, and exact draws from them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from psplit_eval.decoding import Distribution, draw, noise_size, race
from psplit_eval.requests import Sampling

torch.set_num_threads(1)
SETTINGS = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(temperature=0.6, top_k=20, top_p=0.95),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(top_k=1),
    Sampling(top_k=7, min_p=0.2),
    Sampling(top_p=0.5, min_p=0.1),
    Sampling(top_p=1e-9),
    Sampling(min_p=1.0),
]


def logits(rows, vocabulary, seed=0, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, vocabulary, generator=generator)


def by_transformers(values, sampling):
    """Probabilities after transformers' own warpers, in the order that psplit states."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers(None, values.clone()).double().softmax(dim=-1)


def noise(rows, vocabulary, seed=0):
    numbers = np.random.default_rng(seed).standard_exponential((rows, noise_size(vocabulary)))
    return torch.from_numpy(numbers.astype(np.float32))


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_only_what_transformers_would_leave_is_drawn(sampling):
    values = logits(400, 3001)
    left = by_transformers(values, sampling) > 0
    found = draw(Distribution(values), [sampling] * 400, noise(400, 3001))
    assert left.gather(1, found[:, None]).all()


@pytest.mark.parametrize("sampling", [SETTINGS[0], SETTINGS[2], SETTINGS[5]], ids=str)
def test_draws_follow_the_distribution(sampling):
    values = logits(1, 1500, spread=2.0).repeat(20000, 1)
    drawn = draw(Distribution(values), [sampling] * 20000, noise(20000, 1500))
    counts = np.bincount(drawn, minlength=1500)
    expected = by_transformers(values[:1], sampling)[0].numpy() * 20000
    assert counts[expected == 0].sum() == 0
    often = expected >= 5
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    kept = wanted > 0
    if kept.sum() > 1:
        assert stats.chisquare(observed[kept], wanted[kept]).pvalue > 1e-3


def test_greedy_takes_the_first_of_the_most_probable():
    values = torch.tensor([[0.0, 2.0, 2.0], [5.0, 1.0, 5.0]])
    greedy = [Sampling(temperature=0)] * 2
    assert draw(Distribution(values), greedy, noise(2, 3)).tolist() == [1, 0]


@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_entropy_and_nll_are_those_of_scipy(spread):
    values = logits(50, 5000, spread=spread)
    distribution = Distribution(values)
    p = values.double().softmax(dim=-1)
    expected = stats.entropy(p.numpy(), base=2, axis=-1)
    assert distribution.entropy_bits.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    tokens = torch.arange(50)
    nll = -p.log().gather(1, tokens[:, None])[:, 0]
    assert distribution.nll_nats(tokens).numpy() == pytest.approx(nll.numpy(), rel=1e-5, abs=1e-5)


def test_forbidden_tokens_and_lone_ones_have_defined_values():
    inf = float("inf")
    distribution = Distribution(torch.tensor([[0.0, -inf, 0.0], [-inf, 3.0, -inf]]))
    assert distribution.entropy_bits.tolist() == pytest.approx([1.0, 0.0])
    for seed in range(20):
        first, second = draw(distribution, [Sampling()] * 2, noise(2, 3, seed)).tolist()
        assert first in (0, 2)
        assert second == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_seen_in_the_entropy(bad):
    assert Distribution(torch.tensor([[0.0, bad]])).entropy_bits.isnan().all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 1500), st.integers(0, 2**31))
def test_what_has_no_weight_is_never_drawn(n, seed):
    numbers = np.random.default_rng(seed)
    weights = numbers.choice([0.0, 1e-30, 0.1, 7.0], size=(3, n), p=[0.9, 0.04, 0.03, 0.03])
    weights[:, numbers.integers(n)] = 1e-30
    drawn = race(torch.tensor(weights, dtype=torch.float32), noise(3, n, seed))
    assert (weights[range(3), drawn.tolist()] > 0).all()


def test_a_random_number_that_is_zero_gives_no_token_without_weight():
    weights = torch.zeros(1, 1000)
    weights[0, 700] = 1e-30
    for place in range(noise_size(1000)):
        zero = noise(1, 1000)
        zero[0, place] = 0.0
        assert race(weights, zero).tolist() == [700]


@pytest.mark.slow
def test_rounding_changes_a_draw_as_rarely_as_can_be():
    """Changes of 1e-6 move a total probability of about 1e-6; 10000 draws should all stay."""
    values = logits(2000, 20000)
    random = noise(10000, 20000)
    numbers = torch.Generator().manual_seed(3)
    moved = values + 1e-6 * torch.randn(values.shape, generator=numbers)
    others = 0
    for part in random.split(2000):
        before, after = (draw(Distribution(v), [Sampling()] * 2000, part) for v in (values, moved))
        others += int((before != after).sum())
    assert others <= 1


def test_rows_of_different_settings_draw_as_they_would_apart():
    values = torch.randn(6, 300, generator=torch.Generator().manual_seed(1))
    u = noise(6, 300)
    kinds = [Sampling(), Sampling(temperature=0), Sampling(top_k=5, temperature=0.7)] * 2
    together = draw(Distribution(values), kinds, u).tolist()
    apart = [
        int(draw(Distribution(values[i : i + 1]), [kind], u[i : i + 1]))
        for i, kind in enumerate(kinds)
    ]
    assert together == apart
