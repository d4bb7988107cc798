"""From logits to responses: the tokens of every row, when it ends, and what its text is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from psplit_eval.backends import Completion
from psplit_eval.decoding import Distribution, draw, noise_size
from psplit_eval.requests import Request
from psplit_eval.templates import ChatTemplate

if TYPE_CHECKING:
    import torch

__all__ = ["Responses", "Row"]


@dataclass
class Row:
    """A sample that is being decoded. `answer_at`: where its answer begins; None in a thought."""

    request: Request
    random: np.random.Generator
    in_thought: bool
    answer_at: int | None
    ids: list[int] = field(default_factory=list)
    entropy_bits: float = 0.0
    nll_nats: float = 0.0
    finish_reason: str = ""


class Responses:
    """Draws tokens for rows and makes completions of them, for one model."""

    def __init__(
        self, template: ChatTemplate, end_tokens: frozenset[int], context_length: int
    ) -> None:
        self._template = template
        self._end_tokens = end_tokens
        self._context_length = context_length

    def row(self, request: Request) -> Row:
        """A row that has nothing yet."""
        random = np.random.Generator(np.random.Philox(request.seed))
        opened = self._template.thinking.opens(request.prompt)
        return Row(request, random, opened, None if self._template.may_think(request.prompt) else 0)

    def draw(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        """Append a token to every row; logits (rows, vocabulary) → tokens (rows,).

        Raises FloatingPointError for logits that are not finite.
        """
        import torch

        distribution = Distribution(logits)
        if not torch.isfinite(distribution.entropy_bits).all():
            raise FloatingPointError("the model gave logits that are not finite")
        size = noise_size(logits.shape[-1])
        # made in double precision: numpy's float32 ones are 0 once in 10^7, and 0 wins every race
        noise = np.stack([row.random.standard_exponential(size) for row in rows])
        samplings = [row.request.sampling for row in rows]
        tokens = draw(distribution, samplings, torch.from_numpy(noise.astype(np.float32)))
        found = (tokens, distribution.entropy_bits, distribution.nll_nats(tokens))
        for row, *values in zip(rows, *(tensor.tolist() for tensor in found), strict=True):
            row.ids.append(values[0])
            row.entropy_bits += values[1]
            row.nll_nats += values[2]
            row.finish_reason = self._finish_reason(row)
        return tokens

    def completion(self, row: Row, seconds: float) -> Completion:
        """What a finished row says. A thought that was cut off is a truncated answer."""
        request = row.request
        reply = self._template.reply(
            request.prompt, row.ids, row.finish_reason, request.sampling.until
        )
        return Completion(
            text=reply.text,
            thought=reply.thought,
            finish_reason=reply.finish_reason,
            ids=tuple(row.ids),
            tokens=len(row.ids),
            nll_sum_nats=row.nll_nats,
            seconds=seconds,
            entropy_sum_bits=row.entropy_bits,
        )

    def _finish_reason(self, row: Row) -> str:
        request, new = row.request, len(row.ids)
        if row.ids[-1] in self._end_tokens or self._has_stop_string(row):
            return "stop"
        full = len(request.prompt_ids) + new >= self._context_length
        return "length" if full or new >= request.sampling.max_tokens else ""

    def _has_stop_string(self, row: Row) -> bool:
        until = row.request.sampling.until
        if not until:
            return False
        if row.answer_at is None:
            self._look_for_answer(row)
        if row.answer_at is None:
            return False
        longest = max(map(len, until))  # a token holds a character at least, or a part of one
        start = max(row.answer_at, len(row.ids) - 4 * longest - 4)
        tail = self._template.decode(row.ids[start:])
        if row.in_thought and start == row.answer_at:  # blanks after a thought are no answer yet
            tail = tail.lstrip()
            row.answer_at = row.answer_at if tail else len(row.ids)
        return any(stop in tail for stop in until)

    def _look_for_answer(self, row: Row) -> None:
        """Note where the answer begins, if it has: stop strings mean nothing in a thought."""
        if row.in_thought:
            tail = self._template.decode(row.ids[-4 * len(self._template.thinking.end) - 4 :])
            row.answer_at = len(row.ids) if self._template.thinking.end in tail else None
            return
        begun = self._template.decode(row.ids).lstrip()
        if begun.startswith(self._template.thinking.start):
            row.in_thought = True
        elif not self._template.thinking.start.startswith(begun):
            row.answer_at = 0
