"""Samples of a run for people to score, blind; and their labels, taken into the run.

What people see is what a judge sees: the question, the answer, the rubric's words. A row names its
sample by `labels.sample_id`, so that nobody reads a mode from it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psplit_eval.calibrating import scale_of
from psplit_eval.calibration import draw_to_label
from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.files import write_text
from psplit_eval.judging import SCORES, judged_tasks, shown_prompt
from psplit_eval.labels import (
    LABELS,
    Frame,
    LabelKey,
    keep_labels,
    kept_labels,
    read_labels,
    sample_id,
)
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.manifest import Manifest, locked, open_run
from psplit_eval.rescoring import answers_by_doc
from psplit_eval.rubrics import Rubric
from psplit_eval.store import Sample, Store
from psplit_eval.text import wellformed

__all__ = ["DrawOptions", "Drawn", "Taken", "draw_labels", "take_labels"]

Of = tuple[int, int]
"""(doc_id, sample_idx)."""


@dataclass(frozen=True)
class DrawOptions:
    """What is drawn for people: `samples` of every mode and task, scored on `dimensions` each.

    `tasks` (): those that the rubric is for; `dimensions` (): the one that decides.
    """

    folder: Path
    rubric: Rubric
    samples: int
    out: Path
    tasks: Sequence[str] = ()
    dimensions: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True)
class Drawn:
    """`samples`: task → mode → how many are in the file; `rows`: one a sample and dimension."""

    samples: Mapping[str, Mapping[str, int]]
    rows: int


@dataclass(frozen=True)
class Taken:
    """How many labels were read, and how many by this rubric the run has now."""

    read: int
    kept: int


def draw_labels(options: DrawOptions) -> Drawn:
    """Write a file of samples for people to score.

    Drawn at random from what judges scored by the rubric (from all answers where none has yet) and
    what has no label yet, in all modes the same samples of the same docs as far as they can be had;
    the rows of all modes and tasks are mixed. Raises UsageError for a file that is there, and for
    more samples than there are; UnknownNameError for a task or dimension.
    """
    manifest = open_run(options.folder)
    names = _dimensions(options)
    _check_out(options)
    with locked(options.folder), Store(options.folder / "samples.sqlite") as store:
        tasks = judged_tasks(manifest, options.rubric, options.tasks)
        drawn = {task: _drawn(store, task, options, names) for task in tasks}
        rows = [
            row for task, by_mode in drawn.items() for row in _shown(store, manifest, task, by_mode)
        ]
    random.Random(f"{options.seed} rows").shuffle(rows)
    lines = [_line(row, options.rubric, name) for row in rows for name in names]
    write_text(options.out, "".join(lines))
    counts = {task: {m: len(keys) for m, keys in modes.items()} for task, modes in drawn.items()}
    return Drawn(counts, len(lines))


def take_labels(folder: Path, rubric: Rubric, path: Path) -> Taken:
    """Read people's labels by a rubric and keep them in the run.

    Later ones replace earlier ones of the same sample and dimension. Raises DataError as
    `read_labels`, UsageError where no judge has scored any of the tasks by the rubric: nothing is
    kept then.
    """
    manifest = open_run(folder)
    with locked(folder):
        with Store(folder / "samples.sqlite") as store:
            samples = [
                sample.key
                for task in manifest["tasks"]
                for sample in store.samples(task, ids=False)
                if _can_be_scored(sample)
            ]
        labels = read_labels(path, Frame(samples, rubric.names, rubric.low, rubric.high))
        tasks = list(dict.fromkeys(key.task for key in labels))
        if not any(_judged(folder, rubric, task) for task in tasks):
            raise UsageError(
                f"run {str(folder)!r}: no judge has scored {', '.join(tasks)} by rubric "
                f"{rubric.name!r}, so there is nothing to calibrate; psplit-eval judge {folder} "
                f"--judge KIND:NAME --rubric {rubric.name} first"
            )
        return Taken(len(labels), keep_labels(folder, scale_of(rubric.to_dict()), labels))


def _can_be_scored(sample: Sample) -> bool:
    return sample.error is None and sample.finish_reason != "scored"


def _dimensions(options: DrawOptions) -> list[str]:
    for name in options.dimensions:
        if name not in options.rubric.names:
            raise UnknownNameError("dimension (of this rubric)", name, options.rubric.names)
    return list(dict.fromkeys(options.dimensions)) or [options.rubric.primary]


def _check_out(options: DrawOptions) -> None:
    if options.out.exists():
        raise UsageError(
            f"--out {str(options.out)!r}: is there already, perhaps with labels; give another --out"
        )
    if options.out.resolve() == (options.folder / LABELS).resolve():
        raise UsageError(
            f"--out {str(options.out)!r}: where the run keeps its labels; give another --out"
        )


def _drawn(
    store: Store, task: str, options: DrawOptions, names: Sequence[str]
) -> dict[str, set[Of]]:
    """Mode → what is drawn of it."""
    answered: dict[str, set[Of]] = {}
    for sample in store.samples(task, ids=False):
        if _can_be_scored(sample):
            answered.setdefault(sample.mode, set()).add((sample.doc_id, sample.sample_idx))
    judged = _judged(options.folder, options.rubric, task)
    frame = {
        mode: keys & judged.get(mode, set()) if judged else keys for mode, keys in answered.items()
    }
    known = kept_labels(options.folder).get(scale_of(options.rubric.to_dict()), {})
    left = {
        mode: {key for key in keys if not _labelled(known, (mode, task, *key), names)}
        for mode, keys in frame.items()
        if keys
    }
    for mode, keys in left.items():
        _check_number(options.samples, len(keys), f"mode {mode!r} on {task}")
    return _in_all(left, options.samples, options.seed)


def _check_number(n: int, there_are: int, of: str) -> None:
    if not there_are:
        raise UsageError(f"--draw {n}: every sample of {of} is labelled; there is nothing to draw")
    if not 1 <= n <= there_are:
        raise UsageError(
            f"--draw {n}: expected 1 to {there_are}, the samples of {of} that can be labelled; "
            "give another number"
        )


def _labelled(
    known: Mapping[LabelKey, float], sample: tuple[str, str, int, int], names: Sequence[str]
) -> bool:
    return all(LabelKey(*sample, name) in known for name in names)


def _in_all(frame: Mapping[str, set[Of]], n: int, seed: int) -> dict[str, set[Of]]:
    """n of every mode, the same ones where modes have them; each of a mode with equal chances.

    What a mode lacks of a common draw is made up from the rest of the mode.
    """
    common = set(draw_to_label(sorted(set().union(*frame.values())), n, seed)) if frame else set()
    drawn = {}
    for mode, keys in frame.items():
        have = common & keys
        drawn[mode] = have | set(draw_to_label(sorted(keys - have), n - len(have), seed))
    return drawn


def _judged(folder: Path, rubric: Rubric, task: str) -> dict[str, set[Of]]:
    """Mode → samples that some judge gave scores by the rubric; all judges' together, since what is
    drawn from these is a random draw of every judge's, too."""
    found: dict[str, set[Of]] = {}
    if not (folder / LEDGER).exists():
        return found
    scale = scale_of(rubric.to_dict())
    with Ledger(folder / LEDGER) as ledger:
        same = {name for name, content in ledger.rubrics().items() if scale_of(content) == scale}
        for judge, rubric_hash, kind, of_task in ledger.panels():
            if rubric_hash in same and (kind, of_task) == (SCORES, task):
                for one, call in ledger.judged(judge, rubric_hash, kind, task):
                    if call.verdict is not None:
                        found.setdefault(one.mode, set()).add((one.doc_id, one.sample_idx))
    return found


@dataclass(frozen=True)
class _Row:
    sample: Sample
    prompt: str


def _shown(
    store: Store, manifest: Manifest, task: str, drawn: Mapping[str, set[Of]]
) -> Iterator[_Row]:
    for answers in answers_by_doc(store, task):
        prompt = shown_prompt(store, manifest, answers)
        for mode, keys in drawn.items():
            for sample in answers.by_mode.get(mode, ()):
                if (sample.doc_id, sample.sample_idx) in keys:
                    yield _Row(sample, prompt)


def _line(row: _Row, rubric: Rubric, name: str) -> str:
    (dimension,) = (one for one in rubric.dimensions if one.name == name)
    content: dict[str, Any] = {
        "id": sample_id(*row.sample.key),
        "dimension": name,
        "question": dimension.question,
        "scale": {str(score): text for score, text in sorted(dimension.levels.items())},
        "prompt": row.prompt,
        "text": row.sample.text or "",
        "value": None,
    }
    return wellformed(json.dumps(content, ensure_ascii=False)) + "\n"
