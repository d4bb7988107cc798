"""Suites: which tasks are run together, and with which sampling settings.

Tasks are ordinary lm-eval YAML files. They are looked for in the user's folders first, then among
those that come with psplit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psplit_eval.errors import UnknownNameError, UsageError

__all__ = ["SUITES", "Suite", "TaskSettings", "shipped_folder", "suite_named", "task_files"]


@dataclass(frozen=True)
class TaskSettings:
    """How a task is run: at most `limit` docs, `samples` a doc, sampling settings to override.

    None and {} leave it to the task.
    """

    limit: int | None = None
    samples: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

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
        )


@dataclass(frozen=True)
class Suite:
    """A named set of tasks and their settings."""

    name: str
    about: str
    tasks: Mapping[str, TaskSettings]


# Policy Split (arXiv 2604.11510), evaluation settings of the general tasks.
_PUBLISHED = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_tokens": 32768}

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "quick",
            "two easy accuracy tasks and eight short stories; minutes on a laptop",
            {
                "psplit_sums": TaskSettings(limit=48, samples=4),
                "psplit_reading": TaskSettings(limit=48, samples=4),
                "psplit_story": TaskSettings(limit=8, samples=4, sampling={"max_tokens": 96}),
            },
        ),
        Suite("general", "accuracy on published problems", {"psplit_gsm8k": TaskSettings()}),
        Suite("creative", "diversity of stories", {"psplit_story": TaskSettings()}),
        Suite(
            "paper",
            "published sampling settings: T 0.6, top-k 20, top-p 0.95, 32 768 tokens, 8 samples",
            {
                "psplit_gsm8k": TaskSettings(samples=8, sampling=_PUBLISHED),
                "psplit_story": TaskSettings(samples=8),
            },
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


def task_files(include: Iterable[Path] = ()) -> dict[str, Path]:
    """YAML file of every task by name (its file's name): user folders first, then the shipped.

    Raises UsageError for a folder that does not exist.
    """
    found: dict[str, Path] = {}
    for folder in [*include, shipped_folder("tasks")]:
        if not folder.is_dir():
            raise UsageError(f"task folder {str(folder)!r}: expected an existing folder")
        for path in _yaml_files(folder):
            found.setdefault(path.stem, path)
    return found


def _yaml_files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*.yaml") if not path.name.startswith("_"))
