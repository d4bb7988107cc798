"""The responses of a generation, while they are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psplit_train.rewards import Graded

if TYPE_CHECKING:
    import torch

__all__ = ["Drawn"]


@dataclass
class Drawn:
    """Of a process's responses: prompts by query and mode, as token ids; texts; grades; and the
    rewards of all processes. `rendered` and `encoded` are of each prompt, by its messages and by
    its text: many rows have the same."""

    rendered: dict[str, str] = field(default_factory=dict)
    encoded: dict[str, tuple[int, ...]] = field(default_factory=dict)
    prompts: list[list[tuple[int, ...]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    graded: Sequence[Graded] = ()
    rewards: torch.Tensor | None = None

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
