"""Log-probabilities of responses under prompts, with gradients where they are wanted.

A prompt that several responses have is run once: its keys and values are computed for one row and
seen by all of them, and gradients flow back through them. That is exact, and saves the prompt's
tokens for all rows but one. A response's logits are never kept: TRL's fused head gives the
log-probability of each chosen token and the entropy, chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from psplit_eval.batch import padded
from psplit_eval.kvcache import is_plain

__all__ = ["Scores", "can_share", "holds_positions", "score", "spread"]

Ids = tuple[int, ...]


class Scores(NamedTuple):
    """Of each token of a response, in nats: (rows, tokens); 0 where nothing was drawn."""

    log_probs: torch.Tensor
    entropies: torch.Tensor


def holds_positions(model: Any) -> bool:
    """Whether the model's cache holds all positions of every layer, so that a prompt can be run
    once for several responses."""
    from transformers.cache_utils import DynamicCache

    if getattr(model.config, "is_encoder_decoder", False):
        return False
    return is_plain(DynamicCache(config=model.config))


def can_share(model: Any) -> bool:
    """Whether prompts can be run once in training: never under gradient checkpointing, which keeps
    no cache."""
    return not model.is_activation_checkpointing and holds_positions(model)


def score(
    model: Any,
    prompts: Sequence[Ids],
    places: torch.Tensor,
    completions: torch.Tensor,
    mask: torch.Tensor,
    share: bool,
) -> Scores:
    """Score `completions` (rows, tokens), valid where `mask` is, each under prompts[places[row]].

    `model` has TRL's fused head (its temperature is the model's). `share`: run each prompt once,
    in a forward pass of its own (see `can_share`); prompts have two tokens or more then.
    Padding costs nothing beyond the longest valid response and prompt.
    """
    tokens = mask.shape[1]
    used = max(int(mask.any(0).sum()), 1)
    completions, mask = completions[:, :used], mask[:, :used]
    found = (_after_shared if share else _beside)(model, prompts, places, completions, mask)
    room = (0, tokens - used)
    return Scores(*(torch.nn.functional.pad(values, room) for values in found))


def spread(values: torch.Tensor, pairs: torch.Tensor, every: bool) -> torch.Tensor:
    """Rows (n, T) at the n places where `pairs` (M, rows) is true: (M, rows, T); NaN elsewhere.
    `every`: it is true everywhere."""
    shape = (*pairs.shape, values.shape[1])
    if every:
        return values.view(shape)
    nothing = torch.full(shape, torch.nan, device=values.device)
    return nothing.masked_scatter(pairs[..., None], values)


def _beside(
    model: Any,
    prompts: Sequence[Ids],
    places: torch.Tensor,
    completions: torch.Tensor,
    mask: torch.Tensor,
) -> Scores:
    """Every row with a prompt of its own."""
    ids, known = padded(prompts, 0, completions.device)
    return _scored(model, ids[places], known[places], completions, mask, {})


def _after_shared(
    model: Any,
    prompts: Sequence[Ids],
    places: torch.Tensor,
    completions: torch.Tensor,
    mask: torch.Tensor,
) -> Scores:
    """Prompts but for their last token once, then the rest of every row after them."""
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache()
    ids, known = padded([prompt[:-1] for prompt in prompts], 0, completions.device)
    model(
        input_ids=ids,
        attention_mask=known,
        position_ids=_positions(known),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(places)
    last = torch.tensor([[prompt[-1]] for prompt in prompts], device=completions.device)
    begun = {"past_key_values": cache, "before": known[places]}
    return _scored(model, last[places], torch.ones_like(last)[places], completions, mask, begun)


def _scored(
    model: Any,
    ids: torch.Tensor,
    known: torch.Tensor,
    completions: torch.Tensor,
    mask: torch.Tensor,
    begun: dict[str, Any],
) -> Scores:
    """One forward over the rows' ids, then their completions, after what was begun. A completion's
    last token is scored, but nothing comes after it: it is not run."""
    valid = mask.to(known.dtype)
    before = begun.pop("before", known[:, :0])
    attention = torch.cat([before, known, valid[:, :-1]], dim=1)
    targets = completions.masked_fill(~mask, -100)
    found = model(
        input_ids=torch.cat([ids, completions[:, :-1]], dim=1),
        attention_mask=attention,
        position_ids=_positions(attention)[:, before.shape[1] :],
        shift_labels=torch.cat([torch.full_like(ids[:, 1:], -100), targets], dim=1),
        fused_lm_head=True,
        **begun,
    )
    count = completions.shape[1]
    log_probs = found.log_probs[:, -count:]
    unknown = found.entropy is None  # TRL gives reference models a head of log-probabilities only
    entropies = torch.full_like(log_probs, torch.nan) if unknown else found.entropy[:, -count:]
    return Scores(log_probs, entropies)


def _positions(attention: torch.Tensor) -> torch.Tensor:
    return (attention.cumsum(1) - 1).clamp(min=0)
