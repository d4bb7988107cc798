"""One decoding step on tensors: what the model's own distribution is, and which token is drawn.

No model is known here. The draw is exact: one uniform number a row, inverted through the cumulative
distribution in the order of the vocabulary, so that a sample does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psplit_eval.requests import Sampling

if TYPE_CHECKING:
    import torch

__all__ = ["Distribution", "draw", "inverse_cdf"]

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
        total = _blocks(self.weights).sum(dim=-1).sum(dim=-1, dtype=_wide(logits))
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


def draw(
    distribution: Distribution, samplings: Sequence[Sampling], uniforms: torch.Tensor
) -> torch.Tensor:
    """One token a row, by the row's settings: (rows,).

    `uniforms` (rows,) in [0, 1) are not used where a row is greedy.
    """
    import torch

    alike: dict[Sampling, list[int]] = {}
    for row, sampling in enumerate(samplings):
        alike.setdefault(sampling, []).append(row)
    if len(alike) == 1:
        return _drawn(distribution, samplings[0], uniforms, slice(None))
    tokens = torch.empty(len(samplings), dtype=torch.long, device=distribution.weights.device)
    for sampling, places in alike.items():
        rows = torch.tensor(places, device=tokens.device)
        tokens[rows] = _drawn(distribution, sampling, uniforms[places], rows)
    return tokens


def _drawn(
    distribution: Distribution, sampling: Sampling, uniforms: torch.Tensor, rows: Rows
) -> torch.Tensor:
    if sampling.temperature == 0:
        return distribution.greedy(rows)
    weights = distribution.tempered(sampling.temperature, rows)
    if not sampling.top_k and sampling.top_p == 1 and not sampling.min_p:
        return inverse_cdf(weights, uniforms)
    kept, tokens = _truncated(weights, sampling)
    places = inverse_cdf(kept, uniforms)
    return tokens.gather(1, places[:, None])[:, 0]


def _truncated(weights: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """What top-k, top-p and min-p leave, as (weights, tokens) in the order of the vocabulary.

    Top-p keeps the fewest most probable tokens that hold `top_p` of what top-k left; min-p those
    that have `min_p` of the most probable one's weight. One token always stays.
    """
    import torch

    vocabulary = weights.shape[-1]
    ranked, tokens = weights.topk(min(sampling.top_k or vocabulary, vocabulary), dim=-1)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if sampling.top_p < 1:
        cumulative = ranked.to(_wide(ranked)).cumsum(dim=-1)
        before = cumulative - ranked
        keep &= before < sampling.top_p * cumulative[:, -1:]
    if sampling.min_p:
        keep &= ranked >= sampling.min_p * ranked[:, :1]
    keep[:, 0] = True
    widest = int(keep.sum(dim=-1).max())
    ranked = torch.where(keep, ranked, 0.0)[:, :widest]
    tokens, order = tokens[:, :widest].sort(dim=-1)
    return ranked.gather(1, order), tokens


def inverse_cdf(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Draw one index a row by inversion: weights (rows, n), uniforms (rows,) in [0, 1) → (rows,).

    Exact sampling that needs one random number a draw. Weights need not sum to 1; an index of
    weight 0 is never drawn. First the block of indices is found, then the place in it, both by sums
    in double precision; over a whole vocabulary these would cost more than the rest of the step.
    """
    import torch

    rows = weights.shape[0]
    wide = _wide(weights)
    blocks = _blocks(weights)
    ends = blocks.sum(dim=-1).to(wide).cumsum(dim=-1)
    points = uniforms.to(device=ends.device, dtype=wide) * ends[:, -1]
    block = _first_beyond(ends, points)
    start = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    inner = blocks[torch.arange(rows, device=block.device), block].to(wide).cumsum(dim=-1)
    return block * _BLOCK + _first_beyond(inner, points - start)


def _blocks(weights: torch.Tensor) -> torch.Tensor:
    """(rows, n) → (rows, blocks, _BLOCK), with zeros at the end where they are needed."""
    from torch.nn.functional import pad

    rows, n = weights.shape
    filled = pad(weights, (0, -n % _BLOCK)) if n % _BLOCK else weights
    return filled.view(rows, -1, _BLOCK)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    """Double precision, where the device has it."""
    import torch

    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _first_beyond(cumulative: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """First index whose cumulative sum lies above the point; rounding cannot lead past the end."""
    import torch

    total = cumulative[:, -1]
    below = torch.minimum(points.clamp(min=0), torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below[:, None], right=True)[:, 0]
