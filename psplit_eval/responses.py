"""From logits to responses: the tokens of every row, when it ends, and what its text is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from psplit_eval.backends import Completion, cut_at_stops
from psplit_eval.decoding import Distribution, draw
from psplit_eval.requests import Request
from psplit_eval.thinking import Thinking

if TYPE_CHECKING:
    import torch

__all__ = ["Responses", "Row"]

_UNIFORMS_AT_ONCE = 256


@dataclass
class Row:
    """A sample that is being decoded. `answer_at`: where its answer begins; None in a thought."""

    request: Request
    random: np.random.Generator
    in_thought: bool
    answer_at: int | None
    uniforms: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    entropy_bits: float = 0.0
    nll_nats: float = 0.0
    finish_reason: str = ""

    def uniform(self) -> float:
        position = len(self.ids)
        if position == len(self.uniforms):
            self.uniforms += self.random.random(_UNIFORMS_AT_ONCE).tolist()
        return self.uniforms[position]


class Responses:
    """Draws tokens for rows and makes completions of them, for one tokenizer."""

    def __init__(
        self,
        tokenizer: Any,
        end_tokens: frozenset[int],
        context_length: int,
        thinking: Thinking,
    ) -> None:
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._context_length = context_length
        self._thinking = thinking
        template = tokenizer.chat_template
        self._may_think = bool(thinking.enabled) or thinking.end in str(template)
        special = set(tokenizer.all_special_ids)
        tags = {tokenizer.convert_tokens_to_ids(tag) for tag in (thinking.start, thinking.end)}
        self._shown = special & tags
        self._hidden = special - tags

    def row(self, request: Request) -> Row:
        """A row that has nothing yet."""
        opened = self._may_think and self._thinking.opens(request.prompt)
        random = np.random.Generator(np.random.Philox(request.seed))
        return Row(request, random, opened, None if self._may_think else 0)

    def draw(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        """Append a token to every row; logits (rows, vocabulary) → tokens (rows,).

        Raises FloatingPointError for logits that are not finite.
        """
        import torch

        distribution = Distribution(logits)
        if not torch.isfinite(distribution.entropy_bits).all():
            raise FloatingPointError("the model gave logits that are not finite")
        uniforms = torch.tensor([row.uniform() for row in rows], dtype=torch.float64)
        tokens = draw(distribution, [row.request.sampling for row in rows], uniforms)
        found = (tokens, distribution.entropy_bits, distribution.nll_nats(tokens))
        for row, *values in zip(rows, *(tensor.tolist() for tensor in found), strict=True):
            row.ids.append(values[0])
            row.entropy_bits += values[1]
            row.nll_nats += values[2]
            row.finish_reason = self._finish_reason(row)
        return tokens

    def completion(self, row: Row, seconds: float) -> Completion:
        """What a finished row says. A thought that was cut off is a truncated answer."""
        opened = self._thinking.opens(row.request.prompt)
        found = self._thinking.split(self._text(row.ids), opened)
        return Completion(
            text=cut_at_stops(found.answer, row.request.sampling.until),
            finish_reason=row.finish_reason if found.ended else "length",
            ids=tuple(row.ids),
            tokens=len(row.ids),
            nll_sum_nats=row.nll_nats,
            seconds=seconds,
            entropy_sum_bits=row.entropy_bits,
            thought=found.thought,
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
        tail = self._text(row.ids[max(row.answer_at, len(row.ids) - 4 * longest - 4) :])
        return any(stop in tail for stop in until)

    def _look_for_answer(self, row: Row) -> None:
        """Note where the answer begins, if it has: stop strings mean nothing in a thought."""
        if row.in_thought:
            tail = self._text(row.ids[-4 * len(self._thinking.end) - 4 :])
            row.answer_at = len(row.ids) if self._thinking.end in tail else None
            return
        begun = self._text(row.ids).lstrip()
        if begun.startswith(self._thinking.start):
            row.in_thought = True
        elif not self._thinking.start.startswith(begun):
            row.answer_at = 0

    def _text(self, ids: Sequence[int]) -> str:
        if not self._shown:
            return str(self._tokenizer.decode(ids, skip_special_tokens=True))
        shown = [i for i in ids if i not in self._hidden]
        return str(self._tokenizer.decode(shown, skip_special_tokens=False))
