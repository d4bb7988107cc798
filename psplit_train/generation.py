"""Rollouts drawn in process, as transformers' `generate` draws them, in less time.

Equal prompts are run once, keys and values are appended in place, and rows that have ended leave.
Every row gets the random numbers that transformers' loop would give it: from the same state of
torch's generator come the same tokens, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from trl.models.utils import unwrap_model_for_generation

from psplit_eval.batch import Batch

__all__ = ["decode", "rollouts", "settings_are_known", "warper"]

Ids = Sequence[int]
Warper = Callable[[torch.Tensor], torch.Tensor]

_LEAVE = 8
"""Rows leave when an eighth of all that there are has ended: the others are moved each time."""


def settings_are_known(trainer: Any) -> bool:
    """Whether a trainer of TRL's draws in process, with settings that `rollouts` knows."""
    return not (
        trainer.use_vllm
        or trainer.use_transformers_continuous_batching
        or trainer.args.generation_kwargs
        or trainer.args.cache_implementation
        or trainer.repetition_penalty != 1
    )


def rollouts(trainer: Any, prompts: Sequence[Ids]) -> list[list[int]]:
    """A response to each prompt by such a trainer's model, as its own settings say."""
    with unwrap_model_for_generation(
        trainer.model_wrapped,
        trainer.accelerator,
        gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
    ) as model:
        return decode(
            model,
            prompts,
            trainer.max_completion_length,
            trainer.eos_token_ids,
            trainer.processing_class.pad_token_id,
            warper(trainer.temperature, trainer.top_k, trainer.top_p, trainer.min_p),
        )


def warper(temperature: float, top_k: int, top_p: float, min_p: float | None) -> Warper:
    """Logits (rows, vocabulary) as transformers changes them before it draws, in its order."""
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps = LogitsProcessorList()
    if temperature != 1:
        steps.append(TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        steps.append(TopPLogitsWarper(top_p))
    if min_p is not None:
        steps.append(MinPLogitsWarper(min_p))
    return lambda logits: steps(None, logits)


@torch.no_grad()
def decode(
    model: Any, prompts: Sequence[Ids], most: int, ends: Collection[int], padding: int, warp: Warper
) -> list[list[int]]:
    """Token ids of one response to each prompt: up to and with one of `ends`, or `most` tokens.

    `model`: a causal one whose cache holds all positions (`scoring.holds_positions`).
    """
    batch = Batch(model, padding, len(prompts))
    batch.admit([tuple(prompt) for prompt in prompts])
    device = batch.logits.device
    stops = torch.tensor(sorted(ends), device=device)
    drawn = torch.full((len(prompts), most), padding, device=device)
    rows = torch.arange(len(prompts), device=device)  # those that the batch still has
    ended = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(most):
        tokens = _draw(warp(batch.logits.float()), rows, len(prompts))
        drawn[rows, step] = tokens
        ended |= torch.isin(tokens, stops)
        done = int(ended.sum())
        if step + 1 == most or done == len(rows):
            break
        if done * _LEAVE >= len(rows):
            going = (~ended).nonzero()[:, 0]
            batch.keep(going.tolist())
            rows, tokens, ended = rows[going], tokens[going], ended[going]
        batch.step(tokens)
    return [_until(ids, ends) for ids in drawn.tolist()]


def _draw(logits: torch.Tensor, rows: torch.Tensor, among: int) -> torch.Tensor:
    """One token a row. torch.multinomial's way, with the noise that it would make for all rows, so
    that a row draws the same whether or not others have left."""
    noise = logits.new_empty(among, logits.shape[1]).exponential_()
    if len(rows) < among:
        noise = noise[rows]
    return (logits.softmax(dim=-1) / noise).argmax(dim=-1)


def _until(ids: list[int], ends: Collection[int]) -> list[int]:
    """Up to and with the first end."""
    return ids[: next((place for place, token in enumerate(ids, 1) if token in ends), len(ids))]
