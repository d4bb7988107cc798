"""Contrasts over a vocabulary against direct summation in double precision, and scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from psplit_eval.contrasts import contrast

torch.set_num_threads(1)
NO_STEPS = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)


def logits(rows, vocabulary, seed, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, vocabulary, generator=generator) + 5


def masses(values):
    return softmax(values.double().numpy(), axis=-1)


@pytest.mark.parametrize("gap", [1e-3, 0.05, 1.0, 5.0])
def test_every_divergence_is_scipys(gap):
    a = logits(20, 5001, 0)
    b = a + gap * logits(20, 5001, 1, spread=1.0)
    found = contrast([a, b], [(0, 1)], NO_STEPS)
    p, q = masses(a), masses(b)
    exact = {"rtol": 1e-5, "atol": 1e-7}
    np.testing.assert_allclose(found.entropy[0], entropy(p, base=2, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(found.entropy[1], entropy(q, base=2, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(found.kl[0], entropy(p, q, base=2, axis=-1), **exact)
    np.testing.assert_allclose(found.back[0], entropy(q, p, base=2, axis=-1), **exact)
    expected = jensenshannon(p, q, axis=-1, base=2) ** 2
    np.testing.assert_allclose(found.js[0], expected, rtol=1e-4, atol=5e-7)


def test_the_surprisal_of_given_tokens():
    a, b = logits(3, 50, 0), logits(3, 50, 1)
    contexts, tokens = torch.tensor([0, 2, 2, 1]), torch.tensor([7, 7, 49, 0])
    found = contrast([a, b], [], (contexts, tokens)).surprisal
    for row, values in zip(found, (a, b), strict=True):
        expected = -log_softmax(values.double().numpy(), axis=-1)[contexts, tokens] / math.log(2)
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@given(
    arrays(np.float64, (2, 3, 7), elements=st.floats(-30, 30)),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_bounds_hold_whatever_the_logits(values, dtype):
    a, b = torch.from_numpy(values).to(dtype)
    found = contrast([a, b], [(0, 1), (1, 0)], NO_STEPS)
    assert (found.kl >= 0).all()
    assert ((found.js >= 0) & (found.js <= 1)).all()
    assert ((found.entropy >= 0) & (found.entropy <= math.log2(7) + 1e-6)).all()
    np.testing.assert_allclose(found.kl[0], found.back[1], atol=1e-9)
    np.testing.assert_allclose(found.js[0], found.js[1], atol=1e-6)


def test_equal_policies_do_not_differ_at_all():
    a = logits(4, 999, 3)
    found = contrast([a, a.clone()], [(0, 1)], NO_STEPS)
    assert not found.kl.any()
    assert not found.back.any()
    assert (found.js < 1e-6).all()


def test_a_token_that_both_forbid_says_nothing_and_one_that_a_alone_allows_says_all():
    a, b = logits(1, 10, 0), logits(1, 10, 1)
    a[0, 3] = b[0, 3] = -math.inf
    found = contrast([a, b], [(0, 1)], NO_STEPS)
    keep = [i for i in range(10) if i != 3]
    expected = entropy(masses(a[:, keep])[0], masses(b[:, keep])[0], base=2)
    assert float(found.kl[0, 0]) == pytest.approx(expected, rel=1e-5)
    b[0, a[0].argmax()] = -math.inf
    assert float(contrast([a, b], [(0, 1)], NO_STEPS).kl[0, 0]) > 100  # truly infinite


def test_logits_that_are_not_finite_are_undefined():
    a = logits(2, 10, 0)
    a[1, 2] = math.nan
    found = contrast([a, logits(2, 10, 1)], [(0, 1)], NO_STEPS)
    assert found.kl.isnan().tolist() == [[False, True]]
