"""What next-token distributions have to do with each other: pure functions on logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from psplit_eval.decoding import widest

if TYPE_CHECKING:
    import torch

__all__ = ["Contrast", "contrast"]

_LEAST = -1e4
"""A token that a model forbids has logit −∞; as this its probability is 0 all the same, and what is
multiplied with it stays a number."""
_TINY = 1e-37
_AT_ONCE_CPU, _AT_ONCE = 8, 256
"""Contexts that are looked at together: on a CPU as many as its cache has room for."""


class Contrast(NamedTuple):
    """Numbers of n contexts under some policies, in bits; on the CPU, in double precision.

    `entropy` (policies, n). Of every pair of policies (a, b): `kl` KL(a‖b) and `back` KL(b‖a), from
    0 on, and `js` the Jensen–Shannon divergence, in [0, 1]; all (pairs, n). `surprisal` (policies,
    steps): −log2 of the probability of given tokens.
    """

    entropy: torch.Tensor
    kl: torch.Tensor
    back: torch.Tensor
    js: torch.Tensor
    surprisal: torch.Tensor


def contrast(
    logits: Sequence[torch.Tensor],
    pairs: Sequence[tuple[int, int]],
    steps: tuple[torch.Tensor, torch.Tensor],
) -> Contrast:
    """Contrast policies over the full vocabulary at the same n contexts, temperature 1.

    `logits`: of every policy (n, vocabulary). `pairs`: numbers of policies (a, b). `steps`: of
    every step its context (steps,) and its token (steps,). Logits that are not finite, but for −∞,
    give NaN. Sums are of differences of logits, so that small divergences keep their digits; what
    rounding leaves below 0 is 0.
    """
    import torch

    at_once = _AT_ONCE_CPU if logits[0].device.type == "cpu" else _AT_ONCE
    parts = [
        _divergences([_Policy(rows) for rows in some], pairs)
        for some in zip(*(torch.split(each, at_once) for each in logits), strict=True)
    ]
    entropy, totals, kl, back, js = (torch.cat(rows, dim=1) for rows in zip(*parts, strict=True))
    contexts, tokens = steps
    chosen = torch.stack([each[contexts, tokens] for each in logits])
    return Contrast(
        entropy=_bits(entropy).clamp(min=0),
        kl=_bits(kl).clamp(min=0),
        back=_bits(back).clamp(min=0),
        js=_bits(js).clamp(min=0, max=1),
        surprisal=_bits(totals[:, contexts] - chosen),
    )


def _bits(nats: torch.Tensor) -> torch.Tensor:
    return nats.cpu().double() / math.log(2)


class _Policy:
    """Distributions by unnormalised weights (n, vocabulary), the greatest of which is 1."""

    def __init__(self, logits: torch.Tensor) -> None:
        import torch

        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        peak = wide.amax(dim=-1, keepdim=True)
        self.centred = (wide - peak).clamp_(min=_LEAST)
        self.weights = self.centred.exp()
        self.total = self.weights.sum(dim=-1, dtype=widest(wide))
        self.log_total = self.total.log() + peak[:, 0]
        self.scale = self.total.log()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Expectation of (n, vocabulary) → (n,)."""
        import torch

        expected: torch.Tensor = torch.linalg.vecdot(self.weights, values) / self.total
        return expected


def _divergences(
    policies: Sequence[_Policy], pairs: Sequence[tuple[int, int]]
) -> tuple[torch.Tensor, ...]:
    """Entropy and log-normaliser (policies, n), KL, KL back and JS (pairs, n), in nats."""
    import torch

    entropy = [policy.scale - policy.mean(policy.centred) for policy in policies]
    between = [_between(policies[a], policies[b]) for a, b in pairs]
    nothing = entropy[0].new_zeros((0, len(entropy[0])))
    rows = [torch.stack(row) for row in zip(*between, strict=True)] or [nothing] * 3
    return torch.stack(entropy), torch.stack([p.log_total for p in policies]), *rows


def _between(a: _Policy, b: _Policy) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """KL(a‖b), KL(b‖a) and JS."""
    gap, offset = a.centred - b.centred, a.scale - b.scale
    kl, back = a.mean(gap) - offset, offset - b.mean(gap)
    half = [(0.5 / policy.total)[:, None].to(gap.dtype) for policy in (a, b)]
    log_middle = (a.weights * half[0]).addcmul_(b.weights, half[1]).clamp_(min=_TINY).log_()
    js = [policy.mean(policy.centred - log_middle) - policy.scale for policy in (a, b)]
    return kl, back, (js[0] + js[1]) / 2
