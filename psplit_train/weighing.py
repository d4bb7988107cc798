"""What every token of a batch weighs in the loss, by the method that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from psplit_train.advantages import Rollouts, policy_split
from psplit_train.baselines import (
    clip_cov,
    entropy_advantage,
    entropy_driven,
    forking_tokens,
    kl_cov,
)
from psplit_train.config import MethodSettings
from psplit_train.sharing import Split

__all__ = ["Weights", "needs_entropies", "needs_groups", "needs_scores", "weigh"]

_PLAIN = ("grpo", "clip_higher", "entropy_regularisation")
"""Methods whose advantages are GRPO's; they differ in the loss."""

_OF_ENTROPIES = ("forking_tokens", "entropy_driven", "entropy_advantage")


@dataclass(frozen=True)
class Weights:
    """Advantages (M, R, T). Of a bonus its size and where the clamp held it, (M, R, T); of KL-Cov
    the tokens that are penalised, (R, T). None where the method has no such thing."""

    advantages: torch.Tensor
    size: torch.Tensor | None = None
    clamped: torch.Tensor | None = None
    penalised: torch.Tensor | None = None


def needs_scores(method: MethodSettings, etas: Sequence[float]) -> bool:
    """Whether log-probabilities or entropies of responses enter the weights."""
    if method.splits:
        return any(etas) or method.truncated_weights is not None
    return method.name not in _PLAIN


def needs_entropies(method: MethodSettings) -> bool:
    """Whether entropies of the whole vocabulary enter the weights."""
    if method.splits:
        return method.estimate == "entropy"
    return method.name in _OF_ENTROPIES


def needs_groups(method: MethodSettings, etas: Sequence[float]) -> bool:
    """Whether they enter as statistics over all responses to a query."""
    return any(etas) if method.splits else method.name == "entropy_driven"


def weigh(
    method: MethodSettings,
    split: Split,
    etas: Sequence[float],
    rollouts: Rollouts,
    generator: torch.Generator,
) -> Weights:
    """The weights of `rollouts`; `generator` draws where a method draws (Clip-Cov)."""
    if method.splits:
        weights = torch.tensor(etas, device=rollouts.mask.device)
        references = torch.tensor(split.references, device=rollouts.mask.device)
        bonus = policy_split(rollouts, weights, references, method)
        return Weights(bonus.advantages, bonus.size, bonus.clamped)
    plain = rollouts.advantages[0]
    log_probs, entropies, mask = rollouts.log_probs[0], rollouts.entropies[0], rollouts.mask
    spread = plain[:, None] * mask
    if method.name == "forking_tokens":
        return _of_one(spread * forking_tokens(entropies, mask, method.top_share))
    if method.name == "clip_cov":
        low, high = method.covariance_low, method.covariance_high
        share = method.covariance_share
        return _of_one(clip_cov(spread, log_probs, mask, share, low, high, generator))
    if method.name == "kl_cov":
        chosen = kl_cov(spread, log_probs, mask, method.covariance_share)
        return Weights(spread[None], penalised=chosen)
    if method.name == "entropy_driven":
        driven = entropy_driven(plain, entropies, mask, rollouts.group)
        return _of_one(driven[:, None] * mask)
    if method.name == "entropy_advantage":
        coefficient, kappa = method.advantage_coefficient, method.advantage_kappa
        return _of_one(entropy_advantage(spread, entropies, mask, coefficient, kappa))
    return _of_one(spread)


def _of_one(advantages: torch.Tensor) -> Weights:
    """Of the one mode that a baseline trains."""
    return Weights(advantages[None])
