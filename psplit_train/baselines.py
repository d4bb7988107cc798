"""The published methods that Policy Split is compared with, as pure functions of tensors.

R rows (responses), T tokens, mask (R, T) bool: a response's own tokens. Entropies are of the whole
vocabulary and, like log-probabilities, in nats. What a function returns carries no gradient, unless
it says so, and masked tokens may hold anything, NaN too. Batches are taken as they come: 'all
tokens' are those of the tensors given, so one process's micro-batch, as in the authors' codes.

Two methods have no function here. GRPO is what is left without one. Clip-higher (DAPO, Yu et al.,
arXiv 2503.14476, Eq. 10) only widens the upper clip range: it is `epsilon_high` of the PPO loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = [
    "LEAST_RELATIVE_ENTROPY",
    "clip_cov",
    "covariances",
    "entropy_advantage",
    "entropy_driven",
    "entropy_regularisation",
    "forking_tokens",
    "kl_cov",
    "kl_penalty",
]

LEAST_RELATIVE_ENTROPY = 0.1
"""`entropy_driven` takes no response's entropy for a smaller share of its group's mean: it
multiplies an advantage by 10 at most. The paper has no such bound, and divides by 0 there."""


def forking_tokens(entropies: Tensor, mask: Tensor, share: float) -> Tensor:
    """(R, T) bool: the share of tokens, over all rows, that have the highest entropies.

    Wang et al., arXiv 2506.01939: only tokens with H >= tau are trained, where tau is the entropy
    that the share exceeds in a batch; here tau is the (1 - share) quantile, as in TRL's
    `top_entropy_quantile`. Tokens as high as tau all count, so there is at least one, and there
    can be more than the share; none without tokens. share 1: all tokens.
    """
    import torch

    valid = entropies.detach()[mask].float()
    if valid.numel() == 0:
        return torch.zeros_like(mask)
    # not torch.quantile, which refuses more than 2**24 values: a batch can have more tokens
    place = _ceil((1 - share) * (valid.numel() - 1))
    threshold = valid.kthvalue(place + 1).values
    return (entropies.detach().float() >= threshold) & mask


def covariances(advantages: Tensor, log_probs: Tensor, mask: Tensor) -> Tensor:
    """(R, T): each token's share of the covariance of advantage and log-probability.

    Cui et al., arXiv 2505.22617, Eq. 10: (A - mean A) * (log pi - mean log pi), means over all
    tokens. advantages and log_probs: (R, T). Their mean, not their sum, is the covariance. 0 on
    masked tokens.
    """
    a = _centred(advantages, mask)
    return a * _centred(log_probs, mask)


def clip_cov(
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    share: float,
    low: float,
    high: float,
    generator: Generator | None = None,
) -> Tensor:
    """(R, T): the advantages, 0 on some tokens of a high covariance, which so teach nothing.

    Clip-Cov, Cui et al., arXiv 2505.22617, Eqs. 11–12: of the tokens whose covariance lies in
    (low, high), share * (number of all tokens) are drawn at random, rounded down, but at least 1,
    as in the authors' code; all of them where there are fewer, none where there are none. That
    code never draws a token that PPO's own clip has stopped already; here it may be drawn, to no
    effect. The generator may live on the CPU or on the tensors' device.
    """
    covariance = covariances(advantages, log_probs, mask)
    candidates = ((covariance > low) & (covariance < high) & mask).nonzero()
    drawn = candidates[_permutation(len(candidates), generator, mask)[: _count(share, mask)]]
    kept = advantages.detach().clone()
    kept[drawn[:, 0], drawn[:, 1]] = 0
    return kept


def kl_cov(advantages: Tensor, log_probs: Tensor, mask: Tensor, share: float) -> Tensor:
    """(R, T) bool: the tokens of the highest covariance, which `kl_penalty` holds back.

    KL-Cov, Cui et al., arXiv 2505.22617, Eq. 13: share * (number of tokens) of them, rounded down,
    but at least 1, as in the authors' code; none without tokens. Between equal ones either counts.
    """
    import torch

    covariance = covariances(advantages, log_probs, mask).masked_fill(~mask, -math.inf)
    chosen = torch.zeros_like(mask)
    if mask.any():
        chosen.view(-1)[covariance.flatten().topk(_count(share, mask)).indices] = True
    return chosen


def kl_penalty(log_ratio: Tensor, tokens: Tensor, coefficient: float) -> Tensor:
    """(R, T), to be added to the loss of each token: coefficient * |log ratio| on tokens, else 0.

    KL-Cov, Cui et al., arXiv 2505.22617, Eq. 14, with the estimate of the KL divergence that the
    authors' code has. log_ratio (R, T): log pi - log pi_old; its gradient flows. It is 0, and so
    is its gradient, as long as pi is pi_old: on the first update of a batch the method is GRPO.
    """
    return coefficient * log_ratio.masked_fill(~tokens, 0).abs()


def entropy_driven(advantages: Tensor, entropies: Tensor, mask: Tensor, group: int) -> Tensor:
    """(R,): each response's advantage divided by its entropy relative to its group's.

    The entropy-driven advantage of EDGE-GRPO, Zhang et al., arXiv 2507.21848: P_i is the mean
    entropy of a response's tokens (Eq. 3), P^_i = P_i / mean P over the group (Eq. 6), and the
    advantage A_i / P^_i (Eq. 7). advantages (R,); `group` rows stand together, and R is a multiple
    of it. P^_i is at least LEAST_RELATIVE_ENTROPY. Where P^ is undefined (every entropy of a
    group is 0; a row without tokens, which is also left out of the mean) A_i is as it was.
    """
    lengths = mask.sum(-1)
    sums = entropies.detach().masked_fill(~mask, 0).sum(-1)
    means = sums / lengths.clamp(min=1)
    grouped, present = means.view(-1, group), (lengths > 0).view(-1, group)
    level = grouped.sum(-1, keepdim=True) / present.sum(-1, keepdim=True).clamp(min=1)
    relative = (grouped / level).clamp(min=LEAST_RELATIVE_ENTROPY)
    relative = relative.masked_fill(~present | (level <= 0), 1)
    return advantages.detach() / relative.view(-1)


def entropy_advantage(
    advantages: Tensor, entropies: Tensor, mask: Tensor, coefficient: float, kappa: float
) -> Tensor:
    """(R, T): A + min(coefficient * H, |A| / kappa); A as it was on masked tokens.

    Cheng et al., arXiv 2506.14758, the shaped advantage (their alpha is the coefficient). kappa
    above 1 keeps the sign of A. H is detached: it weighs tokens, and is no objective of its own.
    """
    base = advantages.detach()
    bonus = (coefficient * entropies.detach()).minimum(base.abs() / kappa)
    return base + bonus.masked_fill(~mask, 0)


def entropy_regularisation(
    entropies: Tensor, mask: Tensor, coefficient: float, tokens: Tensor | float | None = None
) -> Tensor:
    """(): coefficient * mean entropy, to be added to the objective: subtracted from the loss.

    The entropy bonus of PPO (Schulman et al., arXiv 1707.06347, Eq. 9); gradients flow through
    entropies. The mean is over `tokens` many tokens, where entropies are a part of a batch whose
    parts are summed; None: over those that mask has. 0 without tokens.
    """
    total = entropies.masked_fill(~mask, 0).sum()
    number = mask.sum().clamp(min=1) if tokens is None else tokens
    return coefficient * total / number


def _centred(values: Tensor, mask: Tensor) -> Tensor:
    """Values less their mean over mask; 0 elsewhere."""
    known = values.detach().masked_fill(~mask, 0)
    mean = known.sum() / mask.sum().clamp(min=1)
    return (known - mean).masked_fill(~mask, 0)


def _count(share: float, mask: Tensor) -> int:
    """So many tokens a share is: rounded down, where a product like 0.29 * 100 is 29, not 28."""
    return max(1, math.floor(share * int(mask.sum()) + 1e-9))


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)


def _permutation(size: int, generator: Generator | None, like: Tensor) -> Tensor:
    import torch

    device = like.device if generator is None else generator.device
    return torch.randperm(size, generator=generator, device=device).to(like.device)
