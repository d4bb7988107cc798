"""Advantages of Policy Split: pure functions of tensors (arXiv 2604.11510, Eqs. 2-6).

Axes: M modes, R rows (responses; those of a query are together, `group` of them), T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from psplit_train.config import MethodSettings

__all__ = ["Bonus", "Rollouts", "group_advantages", "policy_split", "rarity_rewards"]

_TINY = 1e-4
"""Added to a standard deviation or range before dividing, as TRL does for rewards."""


@dataclass(frozen=True)
class Rollouts:
    """Responses of whole groups, and what is known of them.

    samplers (R,): the mode that drew each. taken (M, R): whether mode m trains on it.
    advantages (M, R): A, see `group_advantages`. even (M, R): whether all rewards of its group, as
    mode m sees them, are equal. mask (R, T): tokens that were drawn. log_probs, entropies
    (M, R, T): of each token under each mode's prompt, in nats; anything where not scored.
    """

    group: int
    samplers: torch.Tensor
    taken: torch.Tensor
    advantages: torch.Tensor
    even: torch.Tensor
    mask: torch.Tensor
    log_probs: torch.Tensor
    entropies: torch.Tensor

    @property
    def tokens(self) -> torch.Tensor:
        """Tokens that each mode trains on: (M, R, T)."""
        return self.taken[..., None] & self.mask


@dataclass(frozen=True)
class Bonus:
    """Token advantages (M, R, T), 0 where nothing is trained; and of what the bonus changed them:
    its size |advantage − A| and whether the clamp limited it, both (M, R, T)."""

    advantages: torch.Tensor
    size: torch.Tensor
    clamped: torch.Tensor


def group_advantages(
    rewards: torch.Tensor, taken: torch.Tensor, group: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards (M, R) standardised within the group of each mode: A (M, R), and whether the rewards
    of the group are all equal (M, R).

    A = (r − mean) / (std + 1e-4), std with Bessel's correction, over the rows of a query that mode
    m takes (Eq. 2; TRL's GRPO). 0 for rows that are not taken or have no reward (NaN), and in
    groups of one. Rows without a reward are in no mean.
    """
    values = _by_query(rewards, group)
    known = _by_query(taken, group) & ~values.isnan()
    mean, std = _moments(values, known, dims=(2,))
    standard = torch.where(known, (values - mean) / (std + _TINY), 0.0)
    low = values.masked_fill(~known, torch.inf).amin(2, keepdim=True)
    high = values.masked_fill(~known, -torch.inf).amax(2, keepdim=True)
    even = (high <= low).expand_as(values)
    return standard.flatten(1), even.flatten(1)


def rarity_rewards(rewards: torch.Tensor, answers: torch.Tensor, group: int) -> torch.Tensor:
    """Each reward (R,) divided by how often its answer occurs in its group.

    `answers` (R,): equal numbers are equal answers; below 0: no answer, reward as it is. Not the
    paper's: it asks an exploring mode for answers that others do not give.
    """
    grouped = answers.view(-1, group)
    counts = (grouped[:, :, None] == grouped[:, None, :]).sum(2).flatten()
    return torch.where(answers >= 0, rewards / counts, rewards)


def policy_split(
    rollouts: Rollouts, etas: torch.Tensor, references: torch.Tensor, method: MethodSettings
) -> Bonus:
    """Token advantages of every mode (M, R, T): A plus a clipped entropy bonus (Eqs. 3-6).

    etas (M,): weight of each mode's bonus, its sign included; references (M,): the mode whose
    log-probabilities are mixed in. With kappa the bonus keeps the sign of A, and a group whose
    rewards are all equal learns nothing. Where all etas are 0 the rows need not be whole groups.
    `method.clip_form` says where eta stands: the paper's
    form changes an advantage by at most eta·|A|/kappa, the authors' code by |A|/kappa.
    """
    tokens, plain = rollouts.tokens, rollouts.advantages[..., None]
    bonus = torch.zeros_like(rollouts.log_probs)
    if etas.any():  # else rows need not be whole groups
        bonus = _normalised(_raw_bonus(rollouts, references, method), rollouts, method)
    if method.correctness_mask == "all_same":
        bonus = bonus * rollouts.even[..., None]
    weights = etas[:, None, None].to(bonus)
    whole = torch.where(weights != 0, weights * bonus, 0.0)
    limited = _limited(whole, bonus, weights, plain, method)
    advantages = torch.where(tokens, plain + limited, 0.0)
    return Bonus(
        _off_policy(advantages, rollouts, method),
        torch.where(tokens, limited.abs(), 0.0),
        tokens & (limited != whole),
    )


def _raw_bonus(
    rollouts: Rollouts, references: torch.Tensor, method: MethodSettings
) -> torch.Tensor:
    """b (Eq. 6), or the same mix of full-vocabulary entropies (the authors' code)."""
    own = rollouts.entropies if method.estimate == "entropy" else -rollouts.log_probs
    if method.alpha == 1:
        return own
    return method.alpha * own + (1 - method.alpha) * own[references]


def _normalised(bonus: torch.Tensor, rollouts: Rollouts, method: MethodSettings) -> torch.Tensor:
    """B (Eq. 4): by all valid tokens of the rows of a query that the mode takes."""
    values = _by_query(bonus, rollouts.group)
    valid = _by_query(rollouts.tokens, rollouts.group)
    mean, std = _moments(values, valid, dims=(2, 3))
    if method.normalise == "zscore":
        values = (values - mean) / (std + _TINY)
    elif method.normalise == "mean":
        low = values.masked_fill(~valid, torch.inf).amin((2, 3), keepdim=True)
        high = values.masked_fill(~valid, -torch.inf).amax((2, 3), keepdim=True)
        values = (values - mean) / (high - low + _TINY)
    values = torch.where(valid, values, 0.0)
    if method.lowest_entropy_mask_ratio:
        values = _without_lowest(values, valid, method.lowest_entropy_mask_ratio)
    return values.flatten(1, 2)


def _without_lowest(values: torch.Tensor, valid: torch.Tensor, share: float) -> torch.Tensor:
    """0 in place of what lies below the group's quantile `share`."""
    spread = values.masked_fill(~valid, torch.nan).flatten(2)
    limits = [torch.nanquantile(one, share) for one in spread.flatten(0, 1)]  # 2^24 values at once
    return torch.where(values < torch.stack(limits).view(*spread.shape[:2], 1, 1), 0.0, values)


def _limited(
    whole: torch.Tensor,
    bonus: torch.Tensor,
    weights: torch.Tensor,
    plain: torch.Tensor,
    method: MethodSettings,
) -> torch.Tensor:
    """eta · B within ±|A| / kappa, or eta times B within it."""
    if not method.kappa:
        return whole
    limit = plain.abs() / method.kappa
    if method.clip_form == "code":
        return whole.clamp(-limit, limit)
    return torch.where(weights != 0, weights * bonus.clamp(-limit, limit), 0.0)


def _off_policy(
    advantages: torch.Tensor, rollouts: Rollouts, method: MethodSettings
) -> torch.Tensor:
    """What a shared row counts: only where it is good; truncated importance weights."""
    modes, rows = rollouts.taken.shape
    numbers = torch.arange(modes, device=advantages.device)
    shared = (numbers[:, None] != rollouts.samplers)[..., None]
    if method.positive_only:
        advantages = torch.where(shared & (rollouts.advantages[..., None] <= 0), 0.0, advantages)
    if method.truncated_weights is not None:
        sampled = rollouts.log_probs[rollouts.samplers, torch.arange(rows, device=numbers.device)]
        ratio = torch.exp(rollouts.log_probs - sampled).clamp(max=method.truncated_weights)
        weighed = shared & rollouts.tokens
        advantages = torch.where(weighed, advantages * ratio, advantages)
    return advantages


def _by_query(values: torch.Tensor, group: int) -> torch.Tensor:
    """(M, R, ...) as (M, queries, group, ...)."""
    return values.reshape(values.shape[0], -1, group, *values.shape[2:])


def _moments(
    values: torch.Tensor, valid: torch.Tensor, dims: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (Bessel's correction) over `dims`, which are kept; 0 for none
    and for one."""
    count = valid.sum(dims, keepdim=True)
    mean = torch.where(valid, values, 0.0).sum(dims, keepdim=True) / count.clamp(min=1)
    squares = torch.where(valid, (values - mean) ** 2, 0.0).sum(dims, keepdim=True)
    return mean, (squares / (count - 1).clamp(min=1)).sqrt()
