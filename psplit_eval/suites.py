"""Suites: which tasks are run together, and with which sampling settings.

A task is named as in the catalog; a group's name stands for all of its tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psplit_eval.errors import UnknownNameError, UsageError

__all__ = ["SUITES", "Suite", "TaskSettings", "shipped_folder", "suite_named"]


@dataclass(frozen=True)
class TaskSettings:
    """How a task is run: at most `limit` docs, `samples` a doc, sampling settings to override.

    None and {} leave it to the task. `defaults` are a suite's settings, in place of the task's own;
    a mode's stand above them, and `sampling`, what the user said, above all.
    """

    limit: int | None = None
    samples: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("samples", self.samples)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: expected 1 or more; give a positive number")

    def updated(self, other: TaskSettings) -> TaskSettings:
        """These settings with those of `other` that are given in their place."""
        return TaskSettings(
            self.limit if other.limit is None else other.limit,
            self.samples if other.samples is None else other.samples,
            {**self.sampling, **other.sampling},
            {**self.defaults, **other.defaults},
        )

    def effective(self, mode: Mapping[str, Any]) -> dict[str, Any]:
        """What overrides a task's own settings in a mode that has settings of its own."""
        return {**self.defaults, **mode, **self.sampling}


@dataclass(frozen=True)
class Suite:
    """A named set of tasks and their settings."""

    name: str
    about: str
    tasks: Mapping[str, TaskSettings]


# Policy Split (arXiv 2604.11510), evaluation settings of the general tasks.
_PUBLISHED = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_tokens": 32768}

_GENERAL = ("psplit_math500", "psplit_aime", "psplit_gpqa_diamond", "psplit_mmlu_pro")
_CREATIVE = ("story", "uses", "words", "open", "solve")

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "quick",
            "two easy accuracy tasks and eight short stories; minutes on a laptop",
            {
                "psplit_sums": TaskSettings(limit=48, samples=4),
                "psplit_reading": TaskSettings(limit=48, samples=4),
                "psplit_story": TaskSettings(limit=8, samples=4, defaults={"max_tokens": 96}),
            },
        ),
        Suite(
            "general",
            "accuracy on published problems, each task by its own settings",
            {name: TaskSettings() for name in ("psplit_gsm8k", *_GENERAL)},
        ),
        Suite(
            "creative",
            "stories, unusual uses, unlike words, open questions and odd solutions, 8 samples",
            {f"psplit_{form}": TaskSettings() for form in _CREATIVE},
        ),
        Suite(
            "paper",
            "as published: four general tasks at T 0.6, top-k 20, top-p 0.95, up to 32 768 tokens, "
            "8 samples; stories, 8 samples",
            {name: TaskSettings(samples=8, defaults=_PUBLISHED) for name in _GENERAL}
            | {"psplit_story": TaskSettings(samples=8)},
        ),
    )
}


def suite_named(name: str) -> Suite:
    """The suite called `name`; raises UnknownNameError."""
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    return SUITES[name]


def shipped_folder(kind: str) -> Path:
    """Where `kind` ('tasks' or 'judges') lies: inside a wheel, or beside the package's source."""
    package = Path(__file__).parent
    packed = package / "_shipped" / kind
    return packed if packed.is_dir() else package.parent / kind
