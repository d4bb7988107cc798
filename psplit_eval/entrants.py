"""The rows of a board: which checkpoint in which mode each is, and the runs that it is made of.

A row is a checkpoint in a mode. Runs of one checkpoint on other tasks make its row longer; a run of
the same tasks with other settings (a temperature, say) makes a row of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm
from psplit_eval.conditions import Conditions
from psplit_eval.errors import UsageError
from psplit_eval.requests import digest
from psplit_eval.stored import opened_run
from psplit_eval.text import shortened

__all__ = ["Entrant", "read_entrants", "split_label"]


@dataclass(frozen=True)
class Entrant:
    """A row: its arms (pools aside) and their conditions by task.

    `model`: what the checkpoint is called on the board. `setting`: what tells the row from others
    of the same checkpoint and mode; mostly ''. `pools`: those of its runs, name → tasks.
    """

    model: str
    mode: str
    setting: str
    checkpoint: str
    fingerprint: str | None
    arms: Mapping[str, Arm]
    conditions: Mapping[str, Conditions]
    pools: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        """Model, mode and setting on one line; no two rows of a board have the same."""
        return _joined(self.model, self.mode, self.setting)

    @property
    def runs(self) -> tuple[Path, ...]:
        """Folders of its runs."""
        return tuple(dict.fromkeys(found.run for found in self.conditions.values()))

    def unlike(self, tasks: Iterable[str]) -> str:
        """In what settings its runs differ on these tasks, as far as it has them; '' if in none.

        Tasks of one run are one design, whatever their settings.
        """
        own = [self.conditions[task] for task in tasks if task in self.conditions]
        telling = {
            name for a, b in combinations(own, 2) if a.run != b.run for name in _differing(a, b)
        }
        return "; ".join(
            f"{name} " + " against ".join(dict.fromkeys(_with_run(each, name) for each in own))
            for name in sorted(telling)
        )


@dataclass(frozen=True)
class _Part:
    """A mode of one run. `label`: the name that the user gave the checkpoint, or ''."""

    label: str
    checkpoint: str
    mode: str
    fingerprint: str | None
    arms: Mapping[str, Arm]
    conditions: Mapping[str, Conditions]
    pools: Mapping[str, Sequence[str]]

    @property
    def key(self) -> tuple[str, str]:
        """Names the checkpoint: its label, or its files, or what its server calls it."""
        return self.label, "" if self.label else self.fingerprint or f"name {self.checkpoint}"

    def rivals(self, other: _Part) -> list[str]:
        """Tasks that both have, of the same checkpoint in the same mode."""
        if (self.key, self.mode) != (other.key, other.mode):
            return []
        return [task for task in self.arms if task in other.arms]


def read_entrants(runs: Sequence[str]) -> list[Entrant]:
    """The rows of the runs, each given as a folder or NAME=FOLDER, in the order given.

    Checkpoints are told apart by their files; the label NAME is shown in place of a checkpoint's
    name. No text of a sample is read. Raises UsageError without runs, for what is no run, for one
    label of two checkpoints, and where two runs have one checkpoint, mode and task under the same
    settings: which of them counts is not for psplit to say.
    """
    if not runs:
        raise UsageError("no run, expected one or more; give the folders of finished runs")
    parts = [part for given in runs for part in _parts(*split_label(given))]
    _check_labels(parts)
    rows: list[list[_Part]] = []
    for part in sorted(parts, key=lambda part: not _contested(part, parts)):
        _place(part, rows)
    rows.sort(key=lambda row: min(map(parts.index, row)))
    names = _names(parts)
    return _told_apart([_entrant(row, names, rows) for row in rows])


def split_label(given: str) -> tuple[str, Path]:
    """NAME=RUN as its two halves; without a name, or where a folder is called so, ''."""
    label, sign, folder = given.partition("=")
    if not sign or Path(given).is_dir():
        return "", Path(given)
    if not label or not folder:
        raise UsageError(f"{given!r}: expected a run's folder, or NAME=RUN")
    return label, Path(folder)


def _parts(label: str, folder: Path) -> list[_Part]:
    with opened_run(folder) as run:
        by_mode: dict[str, list[Arm]] = {}
        for arm in run.arms:
            by_mode.setdefault(arm.mode, []).append(arm)
        checkpoint = run.manifest["checkpoint"]
        return [
            _Part(
                label,
                str(checkpoint["name"]),
                mode,
                checkpoint.get("fingerprint"),
                {arm.task: arm for arm in arms},
                {arm.task: run.conditions(arm) for arm in arms},
                run.manifest.get("pools") or {},
            )
            for mode, arms in by_mode.items()
        ]


def _check_labels(parts: Sequence[_Part]) -> None:
    seen: dict[str, _Part] = {}
    for part in parts:
        first = seen.setdefault(part.label, part)
        if part.label and (first.fingerprint or first.checkpoint) != (
            part.fingerprint or part.checkpoint
        ):
            runs = " and ".join(repr(str(_run(each))) for each in (first, part))
            raise UsageError(
                f"label {part.label!r}: of two checkpoints, in {runs}; give each its own label"
            )


def _run(part: _Part) -> Path:
    return next(iter(part.conditions.values())).run


def _contested(part: _Part, parts: Sequence[_Part]) -> bool:
    """Whether another run has one of its tasks in its place: such runs decide which rows there are.

    So it does not matter in which order runs are given.
    """
    return any(part.rivals(other) for other in parts if other is not part)


def _place(part: _Part, rows: list[list[_Part]]) -> None:
    """Into a row of its checkpoint and mode that lacks its tasks, best one with the same sampling
    settings; else into a row of its own."""
    free = []
    for row in rows:
        rivals = [(other, task) for other in row for task in part.rivals(other)]
        if rivals and all(_same_settings(part, other, task) for other, task in rivals):
            raise _two_of_one(part, *rivals[0])
        if not rivals and (row[0].key, row[0].mode) == (part.key, part.mode):
            free.append(row)
    alike = [row for row in free if _sampling(row) & _sampling([part])]
    if free:
        (alike or free)[0].append(part)
    else:
        rows.append([part])


def _sampling(parts: Sequence[_Part]) -> set[str]:
    return {digest(found.sampling) for part in parts for found in part.conditions.values()}


def _same_settings(part: _Part, other: _Part, task: str) -> bool:
    return _settings(part.conditions[task]) == _settings(other.conditions[task])


def _two_of_one(part: _Part, other: _Part, task: str) -> UsageError:
    runs = [str(each.conditions[task].run) for each in (other, part)]
    return UsageError(
        f"{runs[0]!r} and {runs[1]!r}: both have checkpoint {part.checkpoint!r} in mode "
        f"{part.mode!r} on task {task!r} with the same settings, expected one; leave one out, or "
        f"give each a name: NAME={runs[1]}"
    )


def _settings(found: Conditions) -> dict[str, Any]:
    """What makes another row of the same checkpoint, mode and task."""
    model = found.model
    prompt = found.system_prompt
    return {
        **found.sampling,
        "precision": model.get("dtype"),
        "quantization": model.get("quantization"),
        "thinking": model.get("thinking"),
        "template": _short(model.get("chat_template")),
        "prompt": _short(prompt),
    }


def _differing(a: Conditions, b: Conditions) -> list[str]:
    ours, theirs = _settings(a), _settings(b)
    names = dict.fromkeys([*ours, *theirs])
    return [name for name in names if ours.get(name) != theirs.get(name)]


def _with_run(found: Conditions, name: str) -> str:
    return f"{_text(_settings(found).get(name))} ({found.run})"


def _short(text: object) -> str | None:
    return None if text is None else digest(str(text))[:6]


def _names(parts: Sequence[_Part]) -> dict[tuple[str, str], str]:
    """What each checkpoint is called: as shortly as it is still told from the others."""
    first = {part.key: part for part in reversed(parts)}
    forms = [
        {key: part.label or Path(part.checkpoint).name for key, part in first.items()},
        {key: part.label or part.checkpoint for key, part in first.items()},
        {
            key: part.label or f"{part.checkpoint} ({(part.fingerprint or 'no files')[:8]})"
            for key, part in first.items()
        },
    ]
    shown = {}
    for key in first:
        fitting = [form[key] for form in forms if list(form.values()).count(form[key]) == 1]
        shown[key] = fitting[0] if fitting else forms[-1][key]
    return shown


def _entrant(
    row: Sequence[_Part], names: Mapping[tuple[str, str], str], rows: Sequence[Sequence[_Part]]
) -> Entrant:
    first = row[0]
    others = [o for o in rows if o is not row and (o[0].key, o[0].mode) == (first.key, first.mode)]
    conditions = {task: each for part in row for task, each in part.conditions.items()}
    siblings = [{t: c for part in other for t, c in part.conditions.items()} for other in others]
    return Entrant(
        names[first.key],
        first.mode,
        ", ".join(_telling(conditions, siblings)),
        first.checkpoint,
        first.fingerprint,
        {task: arm for part in row for task, arm in part.arms.items()},
        conditions,
        {name: tasks for part in row for name, tasks in part.pools.items()},
    )


def _told_apart(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Rows under names of their own, which their arms have, too.

    Settings that differ may read alike: cut, rounded, or of tasks that swap them. Such rows get
    the names of their runs' folders, and a number where these are alike, too.
    """
    taken = Counter(entrant.name for entrant in entrants)
    found: list[Entrant] = []
    for entrant in entrants:
        told = entrant
        if taken[entrant.name] > 1:
            runs = " + ".join(run.resolve().name for run in entrant.runs)
            settings = (f"run {runs}", *(f"run {runs} ({n})" for n in range(2, len(entrants) + 2)))
            forms = (replace(entrant, setting=_joined(entrant.setting, each)) for each in settings)
            told = next(form for form in forms if not taken[form.name])
            taken[told.name] += 1
        arms = {task: replace(arm, run=told.name) for task, arm in told.arms.items()}
        found.append(replace(told, arms=arms))
    return found


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _telling(
    own: Mapping[str, Conditions], siblings: Sequence[Mapping[str, Conditions]]
) -> Iterator[str]:
    """The settings that differ from those of a row of the same checkpoint and mode, as they are on
    all tasks of the row."""
    settings = {task: _settings(found) for task, found in own.items()}
    telling = {
        name
        for sibling in siblings
        for task in own.keys() & sibling.keys()
        for name, value in _settings(sibling[task]).items()
        if settings[task].get(name) != value
    }
    for name in dict.fromkeys(name for of_task in settings.values() for name in of_task):
        if name in telling:
            values = dict.fromkeys(_text(of_task.get(name)) for of_task in settings.values())
            yield f"{name} {' / '.join(values)}"


def _text(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "none" if value is None else shortened(value, 30)
