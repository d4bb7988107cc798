"""The responses of a generation, while they are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psplit_eval.templates import ChatTemplate
from psplit_train.rewards import Graded
from psplit_train.system_role import Messages

if TYPE_CHECKING:
    import torch

__all__ = ["Drawn", "cut"]


@dataclass
class Drawn:
    """Of a process's responses: prompts by query and mode, as token ids; texts; grades; and the
    rewards of all processes."""

    template: ChatTemplate
    prompts: list[list[tuple[int, ...]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    graded: Sequence[Graded] = ()
    rewards: torch.Tensor | None = None
    _rendered: dict[str, str] = field(default_factory=dict)
    _encoded: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self, messages: Messages) -> tuple[int, ...]:
        """The very tokens that evaluation would send; rendered once for the rows that share it."""
        text = self._render(messages)
        if text not in self._encoded:
            self._encoded[text] = self.template.encode(text)
        return self._encoded[text]

    def read(
        self, prompts: Sequence[Messages], responses: Sequence[Sequence[int]], ends: Sequence[int]
    ) -> None:
        """Take the texts of responses as evaluation reads them: no thought, no text after a stop;
        `ends` are the ids that end one."""
        self.texts = [
            self.template.reply(self._render(prompt), ids, _finish(ids, ends), ()).text
            for prompt, ids in zip(prompts, responses, strict=True)
        ]

    def _render(self, messages: Messages) -> str:
        key = str(messages)
        if key not in self._rendered:
            self._rendered[key] = self.template.render(list(messages))
        return self._rendered[key]

    def rows(
        self, asked: Sequence[Mapping[str, Any]], modes: Sequence[str], lengths: Sequence[int]
    ) -> list[dict[str, Any]]:
        """One for each response, as `rollouts/` keeps them: what was asked in which mode, what was
        said, in how many tokens, and what it was worth."""
        return [
            {
                "mode": mode,
                "question": row.get("question", row["prompt"][-1]["content"]),
                "text": text,
                "tokens": length,
                "correct": graded.correct,
                "answer": graded.key,
            }
            for row, mode, text, length, graded in zip(
                asked, modes, self.texts, lengths, self.graded, strict=True
            )
        ]


def cut(batch: Mapping[str, torch.Tensor], size: int, group: int) -> list[dict[str, torch.Tensor]]:
    """Micro-batches of `size` shuffled rows; whole groups stay together where they fit in one.
    Values without rows are in each."""
    import torch

    rows, block = len(batch["samplers"]), group if size % group == 0 else 1
    order = torch.randperm(rows // block)[:, None] * block + torch.arange(block)
    order = order.flatten().to(batch["samplers"].device)
    return [
        {name: values[part] if values.ndim else values for name, values in batch.items()}
        for part in torch.split(order, size)
    ]


def _finish(ids: Sequence[int], ends: Sequence[int]) -> str:
    return "stop" if ids and ids[-1] in ends else "length"
