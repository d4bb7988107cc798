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

from psplit_eval.decoding import Distribution, draw, inverse_cdf
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


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_draws_invert_the_distribution_that_transformers_would_sample_from(sampling):
    values = logits(400, 3001)
    u = torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cumulative = by_transformers(values, sampling).cumsum(dim=-1)
    expected = torch.searchsorted(cumulative, (u * cumulative[:, -1])[:, None], right=True)[:, 0]
    found = draw(Distribution(values), [sampling] * len(u), u)
    assert (found == expected).sum() >= 399  # a near tie may fall the other way


@pytest.mark.parametrize("sampling", [SETTINGS[0], SETTINGS[2], SETTINGS[5]], ids=str)
def test_draws_follow_the_distribution(sampling):
    values = logits(1, 40).repeat(20000, 1)
    u = torch.rand(20000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    counts = np.bincount(draw(Distribution(values), [sampling] * len(u), u), minlength=40)
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
    none = torch.zeros(2, dtype=torch.float64)
    assert draw(Distribution(values), [Sampling(temperature=0)] * 2, none).tolist() == [1, 0]


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
    u = torch.tensor([0.7, 0.7], dtype=torch.float64)
    assert draw(distribution, [Sampling()] * 2, u).tolist() == [2, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_seen_in_the_entropy(bad):
    assert Distribution(torch.tensor([[0.0, bad]])).entropy_bits.isnan().all()


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 0.1, 0.5, 1.0, 7.0]), min_size=1, max_size=9).filter(any),
    st.one_of(st.floats(0, 1, exclude_max=True), st.just(1 - 2**-53)),
)
def test_inversion_never_draws_what_cannot_come(weights, uniform):
    p = torch.tensor([weights], dtype=torch.float64)
    drawn = int(inverse_cdf(p, torch.tensor([uniform], dtype=torch.float64)))
    assert weights[drawn] > 0


def test_inversion_is_the_quantile_function():
    p = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).repeat(5, 1)
    u = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71], dtype=torch.float64)
    assert inverse_cdf(p, u).tolist() == [0, 0, 2, 2, 3]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 1500), st.integers(0, 2**31), st.floats(0, 1, exclude_max=True))
def test_blocks_change_nothing(n, seed, uniform):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, n, generator=generator, dtype=torch.float64) ** 9
    u = torch.full((3,), uniform, dtype=torch.float64)
    cumulative = weights.cumsum(dim=-1)
    plain = torch.searchsorted(cumulative, (u * cumulative[:, -1])[:, None], right=True)[:, 0]
    found = inverse_cdf(weights, u)
    low = torch.where(found > 0, cumulative.gather(1, (found - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    near = (low - u * cumulative[:, -1]).abs() < 1e-12 * cumulative[:, -1]
    assert ((found == plain) | near).all()


def test_rows_of_different_settings_draw_as_they_would_apart():
    values = torch.randn(6, 300, generator=torch.Generator().manual_seed(1))
    u = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    kinds = [Sampling(), Sampling(temperature=0), Sampling(top_k=5, temperature=0.7)] * 2
    together = draw(Distribution(values), kinds, u).tolist()
    apart = [
        int(draw(Distribution(values[i : i + 1]), [kind], u[i : i + 1]))
        for i, kind in enumerate(kinds)
    ]
    assert together == apart
