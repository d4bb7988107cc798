"""Two runs on the same docs: what differs between them, and their arms paired doc by doc.

A doc is the same where its content is (its hash), whatever its number. What would make the
comparison one of prompts or sampling settings, not of checkpoints, is refused unless allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm, renumbered, samples_a_doc
from psplit_eval.conditions import (
    Conditions,
    Difference,
    conditions_of,
    differences,
    same_docs,
)
from psplit_eval.errors import RunMismatchError, UsageError
from psplit_eval.manifest import Manifest
from psplit_eval.store import Store
from psplit_eval.text import shortened

__all__ = ["ALLOWABLE", "PairedRuns", "StoredRun"]

ALLOWABLE = ("prompts", "sampling")
"""Differences that are refused unless the user says that they are meant."""

_OF_ANY_TRAINING = re.compile(r"final|best|warmed|checkpoint-\d+")
"""What every training calls its results; the folder that they lie in says which training."""

Fact = tuple[str, str, str]
"""What differs, and how it is in run A and in run B."""


@dataclass(frozen=True)
class StoredRun:
    """An open run, with its arms (pools aside)."""

    folder: Path
    manifest: Manifest
    store: Store
    arms: Sequence[Arm]

    def arm(self, task: str, mode: str) -> Arm | None:
        return next((a for a in self.arms if a.task == task and a.mode == mode), None)

    def conditions(self, arm: Arm) -> Conditions:
        """Under which an arm of the run was drawn and scored."""
        return conditions_of(self.folder, self.manifest, self.store, arm)


@dataclass(frozen=True)
class _Cell:
    """One task in one mode, as both runs have it; `number`: docs of B by the numbers of A."""

    a: Arm
    b: Arm
    one: Conditions
    other: Conditions
    number: Mapping[int, int]

    @property
    def where(self) -> str:
        return self.one.where

    @property
    def shared(self) -> int:
        return len(self.a.docs & set(self.number.values()))


class PairedRuns:
    """Two runs in the modes and tasks that both have."""

    def __init__(self, a: StoredRun, b: StoredRun, modes: Sequence[str] = ()) -> None:
        """`modes` empty: all that both have. Raises UsageError where nothing is in both runs."""
        self.a, self.b = a, b
        for mode in modes:
            _check_mode(mode, a, b)
        self._cells = [
            _cell(a, b, one, other)
            for one in a.arms
            if (other := b.arm(one.task, one.mode)) and (not modes or one.mode in modes)
        ]
        if not self._cells:
            raise UsageError(
                f"{str(a.folder)!r} and {str(b.folder)!r}: no task in the same mode in both; they "
                f"have tasks {', '.join(a.manifest['tasks'])} and {', '.join(b.manifest['tasks'])}"
            )

    @property
    def labels(self) -> tuple[str, str]:
        """Short different names: of the checkpoints, else of the folders, else A and B."""
        runs = (self.a, self.b)
        for one, other in (
            [_called(run.manifest["checkpoint"]["name"]) for run in runs],
            [run.folder.resolve().name for run in runs],
        ):
            if one != other:
                return one, other
        return "A", "B"

    def check(self, allowed: Iterable[str] = ()) -> None:
        """Raise RunMismatchError for a difference that is neither harmless nor `allowed`."""
        for found in self._refused():
            if found.kind not in allowed:
                raise RunMismatchError(
                    f"{found.where}: {_shown(found.a)} in {str(self.a.folder)!r} but "
                    f"{_shown(found.b)} in {str(self.b.folder)!r}; {_FIXES[found.kind]}"
                )

    def arms(self) -> list[Arm]:
        """The arms of both runs, labelled; docs of B are numbered as in A."""
        one, other = self.labels
        return [replace(cell.a, run=one) for cell in self._cells] + [
            replace(renumbered(cell.b, cell.number), run=other) for cell in self._cells
        ]

    def facts(self) -> list[Fact]:
        """Everything that differs and is worth knowing, as (what, in A, in B)."""
        rows: list[tuple[str, Any, Any]] = [("folder", self.a.folder, self.b.folder)]
        for what, path in _ORIGIN.items():
            rows.append((what, _at(self.a.manifest, path), _at(self.b.manifest, path)))
        for what in ("modes", "tasks"):
            rows.append((f"{what} in one run only", *_only(self.a, self.b, what)))
        for cell in self._cells:
            alone = [len(arm.docs) - cell.shared for arm in (cell.a, cell.b)]
            samples = [samples_a_doc(arm) for arm in (cell.a, cell.b)]
            rows.append((f"{cell.where}: docs in this run only", alone[0], alone[1]))
            rows.append((f"{cell.where}: samples a doc", samples[0], samples[1]))
            rows += _half_known(cell.where, cell.one.sampling, cell.other.sampling)
        rows += [(f"{found.where} ({found.kind})", found.a, found.b) for found in self._refused()]
        differing = [(what, _shown(x), _shown(y)) for what, x, y in rows if x != y]
        return differing + list(self._caution())

    def _caution(self) -> Iterator[Fact]:
        same = [_at(self.a.manifest, path) == _at(self.b.manifest, path) for path in _IDENTITY]
        known = _at(self.a.manifest, _IDENTITY[0]) is not None
        if all(same) and known and not list(self._refused()):
            yield "caution: the same weights, seed and settings gave the same samples", "", ""
        elif same[0] and known:
            yield "the weights are the same in both", "", ""

    def _refused(self) -> Iterator[Difference]:
        """Everything that must not differ, unless it is meant."""
        for cell in self._cells:
            yield from differences(cell.one, cell.other)


_FIXES = {
    "data": "compare runs on the same rows",
    "scorer": "compute both by one psplit: psplit-eval score RUN",
    "yardsticks": "measure both by the same models: psplit-eval score RUN --encoder --reference",
    "prompts": "if that is meant, --allow-different prompts",
    "sampling": "if that is meant, --allow-different sampling",
}


def _called(checkpoint: object) -> str:
    """The last part of a checkpoint's name, with the one before where it alone says nothing."""
    path = Path(str(checkpoint))
    several = _OF_ANY_TRAINING.fullmatch(path.name) and path.parent.name
    return f"{path.parent.name}/{path.name}" if several else path.name


def _check_mode(mode: str, a: StoredRun, b: StoredRun) -> None:
    known = [[entry["name"] for entry in run.manifest["modes"]] for run in (a, b)]
    if not all(mode in names for names in known):
        one, other = (", ".join(names) for names in known)
        raise UsageError(f"mode {mode!r}: expected in both runs, which have {one} and {other}")


def _cell(a: StoredRun, b: StoredRun, one: Arm, other: Arm) -> _Cell:
    before, after = a.conditions(one), b.conditions(other)
    return _Cell(one, other, before, after, same_docs(before.docs, after.docs))


def _half_known(
    where: str, one: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Settings that only one run knows of: lm_eval does not log all."""
    for name in sorted(one.keys() ^ other.keys()):
        yield f"{where}, {name}", one.get(name, "not known"), other.get(name, "not known")


_ORIGIN = {
    "checkpoint": ("checkpoint", "name"),
    "fingerprint": ("checkpoint", "fingerprint"),
    "backend": ("model", "backend"),
    "precision": ("model", "dtype"),
    "device": ("model", "device"),
    "told to think": ("model", "thinking"),
    "log-probabilities a token": ("model", "top_logprobs"),
    "not taken by the servers": ("model", "left_out"),
    "base seed": ("base_seed",),
    "psplit": ("psplit_version",),
    "torch": ("libraries", "torch"),
    "transformers": ("libraries", "transformers"),
    "lm_eval": ("libraries", "lm_eval"),
}


_IDENTITY = (("checkpoint", "fingerprint"), ("base_seed",))


def _at(manifest: Manifest, path: Sequence[str]) -> Any:
    value: Any = manifest
    for key in path:
        value = (value or {}).get(key)
    return value


def _only(a: StoredRun, b: StoredRun, what: str) -> tuple[str, str]:
    names = [
        [entry if isinstance(entry, str) else entry["name"] for entry in run.manifest[what]]
        for run in (a, b)
    ]
    one = ", ".join(name for name in names[0] if name not in names[1])
    return one, ", ".join(name for name in names[1] if name not in names[0])


def _shown(value: object) -> str:
    return "none" if value in (None, "") else shortened(value, 60)
