"""Decoding by transformers' own `generate`, for models whose cache cannot lose or gain rows.

Encoder-decoders and models with recurrent states. Tokens are drawn as everywhere else, so seeds,
entropies and settings mean the same; equal prompts are not shared and finished rows stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psplit_eval.backends import Watch
from psplit_eval.batch import padded
from psplit_eval.requests import Request
from psplit_eval.responses import Responses, Row

if TYPE_CHECKING:
    import torch

__all__ = ["generate", "score_whole"]


def generate(
    model: Any, padding: int, rows: Sequence[Row], responses: Responses, watch: Watch
) -> None:
    """Decode rows until all have finished. Raises FloatingPointError as `Responses.draw`."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    def drawn(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        going = [i for i, row in enumerate(rows) if not row.finish_reason]
        tokens = torch.full((len(rows), 1), padding, device=scores.device)
        tokens[going, 0] = responses.draw([rows[i] for i in going], scores[going])
        watch(len(going), sum(bool(rows[i].finish_reason) for i in going))
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens, 0.0)

    def stopped(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        done = all(row.finish_reason for row in rows)
        return torch.full((ids.shape[0],), done, device=ids.device)

    both = bool(model.config.is_encoder_decoder)
    prompts = [row.request.prompt_ids for row in rows]
    ids, mask = padded(prompts, padding, model.device, right=both)
    own = model.generation_config
    # a model's own defaults (penalties, forbidden tokens) would change the distribution
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )
    try:
        model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max(row.request.sampling.max_tokens for row in rows),
            pad_token_id=padding,
            logits_processor=LogitsProcessorList([drawn]),
            stopping_criteria=StoppingCriteriaList([stopped]),
        )
    finally:
        model.generation_config = own


def score_whole(model: Any, requests: Sequence[Request]) -> list[tuple[float, bool]]:
    """Of every answer: its log-probability in nats, and whether it is the greedy one.

    Each prompt is run with its answer, alone: a recurrent state knows no padding.
    """
    import torch

    found = []
    for request in requests:
        ids = torch.tensor([[*request.prompt_ids, *request.answer_ids]], device=model.device)
        start = len(request.prompt_ids)
        logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1]
        tokens = ids[0, start:]
        chosen = torch.log_softmax(logits.float(), dim=-1).gather(1, tokens[:, None])
        greedy = bool((logits.argmax(dim=-1) == tokens).all())
        found.append((float(chosen.double().sum()), greedy))
    return found
