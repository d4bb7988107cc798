"""Small softmax policies whose outcomes can all be listed, and the bonus of Policy Split on them.

Torch, float64, nats. A policy is a tensor of logits, the last dimension runs over tokens. Equation
numbers are those of arXiv 2604.11510, section 3.
"""

import itertools

import numpy as np
import torch

TOKENS = 5


def policy(*probabilities):
    """Logits of a policy with these probabilities."""
    return row(*probabilities).log()


def row(*values):
    return torch.tensor(values, dtype=torch.float64)


def random_logits(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def modes(seed):
    """High and normal mode: two unlike policies of one context."""
    return random_logits(seed, TOKENS), random_logits(seed + 50, TOKENS)


def entropy(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def cross_entropy(logits, other):
    return -(logits.softmax(-1) * other.log_softmax(-1)).sum(-1)


def kl(logits, other):
    return cross_entropy(logits, other) - entropy(logits)


def covariance(law, a, b):
    return (law * a * b).sum() - (law * a).sum() * (law * b).sum()


def gradient(function, *at):
    """Exact gradient of `function` (of tensors like `at`), by automatic differentiation."""
    leaves = [value.detach().requires_grad_() for value in at]
    found = torch.autograd.grad(function(*leaves), leaves, allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
    return filled[0] if len(at) == 1 else filled


def expected_update(logits, law, advantage):
    """What a trainer's step is on average: E over `law` of advantage · ∇ log π, both detached."""
    weights = (law * advantage).detach()
    return gradient(lambda x: (weights * x.log_softmax(-1)).sum(), logits)


def jacobian(field, at):
    """(n, n) derivatives of a vector field: symmetric where it is the gradient of a function."""
    return torch.autograd.functional.jacobian(field, at)


def bonus(high, normal, alpha=0.5):
    """Eq. 6, of every token."""
    return -alpha * high.log_softmax(-1) - (1 - alpha) * normal.log_softmax(-1)


def z_scores(values, law=None):
    """Eq. 4 along the last dimension: over a group's tokens, or `law` (a group without end)."""
    if law is None:
        law = torch.full_like(values, 1 / values.shape[-1])
    centred = values - (law * values).sum(-1, keepdim=True)
    spread = (law * centred**2).sum(-1, keepdim=True).sqrt()
    return torch.where(spread > 1e-12, centred / spread.clamp_min(1e-12), 0.0)


def paper_advantage(advantage, scores, eta, kappa):
    """Eq. 3 as printed."""
    bound = advantage.abs() / kappa
    return advantage + eta * scores.clamp(-bound, bound)


def code_advantage(advantage, scores, eta, kappa):
    """Eq. 3 as in the authors' code; κ = 0 turns the clamp off."""
    if kappa == 0:
        return advantage + eta * scores
    bound = advantage.abs() / kappa
    return advantage + (eta * scores).clamp(-bound, bound)


def group_advantage(right):
    """Eq. 2 over a group of 0 and 1; all equal: 0."""
    return z_scores(torch.as_tensor(right, dtype=torch.float64))


def answer_advantage(right, probabilities):
    """Eq. 2 over a group without end: `right` marks the right tokens of a policy."""
    accuracy = (right * probabilities).sum()
    return (right - accuracy) / (accuracy * (1 - accuracy)).sqrt()


def draws(logits, n):
    """All groups of n tokens: (groups, n) tokens and (groups,) probabilities."""
    tokens = torch.tensor(list(itertools.product(range(logits.numel()), repeat=n)))
    return tokens, logits.softmax(-1)[tokens].prod(1)


def random_steps(seed, tokens, steps):
    """A policy over sequences: logits of shape (tokens,), (tokens, tokens), … by context."""
    return [random_logits(seed + 100 * i, *[tokens] * (i + 1)) for i in range(steps)]


def contexts(steps):
    """Probability of each context, step by step: shapes (), (tokens,), (tokens, tokens), …"""
    found = [torch.ones((), dtype=torch.float64)]
    for logits in steps:
        found.append(found[-1].unsqueeze(-1) * logits.softmax(-1))
    return found


def sequences(steps):
    """Logits (log-probabilities) of all whole sequences, in one row."""
    return contexts(steps)[-1].flatten().log()


def close(a, b, atol=1e-10):
    return np.allclose(a, b, rtol=1e-8, atol=atol)


def angle(a, b):
    """Degrees."""
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(max=1)
    return torch.rad2deg(torch.acos(cosine)).item()


def entropy_slope(logits, direction):
    """dH/dε at 0 of a step ε · direction, by central differences."""
    step = 1e-5
    return (entropy(logits + step * direction) - entropy(logits - step * direction)) / (2 * step)
