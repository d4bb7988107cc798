"""One decoding step on tensors: what the model's own distribution is, and which token is drawn.

No model is known here. The draw is exact, from random numbers of the row's own, and as steady as a
draw can be: where rounding changes the probabilities a little, as it does when a row has other
company, another token is drawn with about the probability that has moved. (Inverting the cumulative
distribution over a vocabulary of 49152 gave 1.8 other tokens in 1000 for changes of 1e-6.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psplit_eval.requests import Sampling

if TYPE_CHECKING:
    import torch

__all__ = ["DRAWS", "Distribution", "draw", "noise_size", "race", "widest"]

DRAWS = 2
"""Counts up when the same seeds would draw other tokens, so that no run mixes two ways."""

Rows = Any
"""An index tensor of rows, or a slice of them."""

_BLOCK = 256


class Distribution:
    """The model's own next-token distribution (temperature 1, full vocabulary) of every row.

    From logits (rows, vocabulary). Rows with logits that are not finite have NaN entropies.
    """

    def __init__(self, logits: torch.Tensor) -> None:

        peak = logits.max(dim=-1, keepdim=True).values
        # a forbidden token's -inf would make 0 · -inf below; its weight is 0 all the same
        self._centred = (logits.float() - peak).clamp_(min=-1e4)
        self.weights = self._centred.exp()
        total = _blocks(self.weights).sum(dim=-1).sum(dim=-1, dtype=widest(logits))
        self._log_total = total.log()
        energy = (self.weights * self._centred).sum(dim=-1)
        self.entropy_bits = (self._log_total - energy / total) / math.log(2)

    def nll_nats(self, tokens: torch.Tensor) -> torch.Tensor:
        """Negative log-probability of one token a row: (rows,) → (rows,)."""
        return self._log_total - self._centred.gather(1, tokens[:, None])[:, 0]

    def greedy(self, rows: Rows = slice(None)) -> torch.Tensor:
        """The most probable token of every row; the first one of several."""
        return self._centred[rows].argmax(dim=-1)

    def tempered(self, temperature: float, rows: Rows = slice(None)) -> torch.Tensor:
        """Unnormalised probabilities at a temperature: (rows, vocabulary)."""
        if temperature == 1:
            return self.weights[rows]
        return (self._centred[rows] / temperature).exp()


def noise_size(vocabulary: int) -> int:
    """How many random numbers a draw needs."""
    return -(-vocabulary // _BLOCK) + _BLOCK


def draw(
    distribution: Distribution, samplings: Sequence[Sampling], noise: torch.Tensor
) -> torch.Tensor:
    """One token a row, by the row's settings: (rows,).

    `noise` (rows, noise_size(vocabulary)): standard exponential numbers, not used where a row is
    greedy.
    """
    import torch

    alike: dict[Sampling, list[int]] = {}
    for row, sampling in enumerate(samplings):
        alike.setdefault(sampling, []).append(row)
    noise = noise.to(distribution.weights.device)
    if len(alike) == 1:
        return _drawn(distribution, samplings[0], noise, slice(None))
    tokens = torch.empty(len(samplings), dtype=torch.long, device=noise.device)
    for sampling, places in alike.items():
        rows = torch.tensor(places, device=noise.device)
        tokens[rows] = _drawn(distribution, sampling, noise[rows], rows)
    return tokens


def _drawn(
    distribution: Distribution, sampling: Sampling, noise: torch.Tensor, rows: Rows
) -> torch.Tensor:
    if sampling.temperature == 0:
        return distribution.greedy(rows)
    weights = distribution.tempered(sampling.temperature, rows)
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        weights = _truncated(weights, sampling)
    return race(weights, noise)


def _truncated(weights: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The weights (rows, vocabulary) with 0 for what top-k, top-p and min-p do not leave.

    Top-p keeps the fewest most probable tokens that hold `top_p` of what top-k left; min-p those
    that have `min_p` of the most probable one's weight. One token always stays.
    """
    import torch

    vocabulary = weights.shape[-1]
    ranked, tokens = weights.topk(min(sampling.top_k or vocabulary, vocabulary), dim=-1)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if sampling.top_p < 1:
        cumulative = ranked.to(widest(ranked)).cumsum(dim=-1)
        before = cumulative - ranked
        keep &= before < sampling.top_p * cumulative[:, -1:]
    if sampling.min_p:
        keep &= ranked >= sampling.min_p * ranked[:, :1]
    keep[:, 0] = True
    return torch.zeros_like(weights).scatter_(1, tokens, torch.where(keep, ranked, 0.0))


def race(weights: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Draw one index a row in proportion to its weight: weights (rows, n) → (rows,).

    Of independent exponential times with rates w the one of rate wᵢ is the first with probability
    wᵢ / Σ w. First blocks of indices run a race, then the indices of the winner, so that a few
    hundred random numbers `noise` (rows, noise_size(n)) do for a whole vocabulary. Weights need not
    sum to 1; an index of weight 0 is never drawn.
    """
    import torch

    blocks = _blocks(weights)
    rows, number, _ = blocks.shape
    block = _winner(blocks.sum(dim=-1), noise[:, :number])
    inside = blocks[torch.arange(rows, device=block.device), block]
    return block * _BLOCK + _winner(inside, noise[:, number:])


def _winner(rates: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The first to arrive in every row; a rate of 0 never does, not even with noise 0."""
    import torch

    return torch.where(rates > 0, noise / rates, torch.inf).argmin(dim=-1)


def _blocks(weights: torch.Tensor) -> torch.Tensor:
    """(rows, n) → (rows, blocks, _BLOCK), with zeros at the end where they are needed."""
    from torch.nn.functional import pad

    rows, n = weights.shape
    filled = pad(weights, (0, -n % _BLOCK)) if n % _BLOCK else weights
    return filled.view(rows, -1, _BLOCK)


def widest(tensor: torch.Tensor) -> torch.dtype:
    """Double precision, where the tensor's device has it."""
    import torch

    return torch.float32 if tensor.device.type == "mps" else torch.float64
