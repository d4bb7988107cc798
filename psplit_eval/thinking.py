"""Thinking models: what is thought, and what is the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psplit_eval.errors import UsageError

__all__ = ["Thinking", "Thought"]

_SWITCH = {"auto": None, "on": True, "off": False}


@dataclass(frozen=True)
class Thought:
    """A response taken apart. `thought` None: there is none; `ended` False: it was cut off."""

    thought: str | None
    answer: str
    ended: bool = True


@dataclass(frozen=True)
class Thinking:
    """Whether a model is told to think (None: it isn't told), and how it marks its thoughts."""

    enabled: bool | None = None
    start: str = "<think>"
    end: str = "</think>"

    @classmethod
    def parse(cls, switch: str, tags: str | None = None) -> Thinking:
        """From the command line: auto, on or off; `START,END`. Raises UsageError."""
        if switch not in _SWITCH:
            raise UsageError(f"--thinking {switch!r}: expected auto, on or off")
        if tags is None:
            return cls(_SWITCH[switch])
        start, _, end = tags.partition(",")
        if not (start and end):
            raise UsageError(f"--think-tags {tags!r}: expected START,END, such as <think>,</think>")
        return cls(_SWITCH[switch], start, end)

    def describe(self) -> dict[str, Any]:
        """What a manifest keeps; `think_tags` None: the usual ones."""
        usual = (self.start, self.end) == (Thinking.start, Thinking.end)
        return {
            "thinking": self.enabled,
            "think_tags": None if usual else [self.start, self.end],
        }

    def arguments(self) -> dict[str, bool]:
        """What a chat template is given."""
        return {} if self.enabled is None else {"enable_thinking": self.enabled}

    def opens(self, prompt: str) -> bool:
        """Whether the prompt ends inside a thought, so that the response begins with one."""
        return prompt.rstrip().endswith(self.start)

    def split(self, text: str, opened: bool = False) -> Thought:
        """Take a response apart; `opened`: its prompt ended inside a thought."""
        before, end, after = text.partition(self.end)
        thought = before.strip().removeprefix(self.start).strip()
        begun = opened or before.lstrip().startswith(self.start)
        if begun and not end:
            return Thought(thought, "", ended=False)
        if not begun:
            return Thought(None, text)
        return Thought(thought or None, after.lstrip())
