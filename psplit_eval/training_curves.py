"""Training curves of a checkpoint, from the log that its training left beside the weights.

Two forms are read: `trainer_state.json` of Hugging Face's Trainer (and TRL's), and JSON Lines with
an object a line. Both have numbers by name and step; names stay as the log has them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from psplit_eval.captions import listed
from psplit_eval.errors import DataError
from psplit_eval.figures import (
    Plot,
    add_legend,
    finish_panel,
    legend_name,
    legend_room,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    write_figure,
)
from psplit_eval.files import disk_errors, write_bytes

__all__ = [
    "LOG_NAMES",
    "TrainingLog",
    "draw_training",
    "find_training_log",
    "keep_training_log",
    "kept_training_log",
    "read_training_log",
]

LOG_NAMES = ("training_log.jsonl", "trainer_state.json")
"""What a training log is called; the first that is there is taken."""
_HEADER = ("measure", "line", "step", "value", "points")
_HOUSEKEEPING = re.compile(
    r"(.*[_/])?(epoch|learning_rate|lr|runtime|step_time|total_flos|num_tokens|num_input_tokens_seen"
    r"|samples_per_second|steps_per_second|tokens_per_second|seconds|time)(/.*)?"
)
_TOLD_FIRST = ("reward", "accuracy", "entropy", "kl", "unique", "length", "clip", "loss")
"""Measures whose names hold such a word come in this order, before all others."""
_PANELS = 12
_POINTS = 100
"""Of a line; of more logged steps windows are averaged."""
_GAP = 2.5
"""So many times the usual distance between two points of a line, and it is broken."""
_ALL = "all"
"""What the line is called that is of no mode, beside lines of modes."""
_GREY = "#555555"

Points = Sequence[tuple[float, float]]
"""(step, value) by step; NaN where the log says that there was none."""


@dataclass(frozen=True)
class TrainingLog:
    """Numbers that a training wrote down: name → points by step, as `path` has them."""

    path: Path
    series: Mapping[str, Points]


class _Line(NamedTuple):
    """Points of one mode; `each` of them is the mean of so many logged ones."""

    name: str
    points: Points
    each: int


def find_training_log(checkpoint_folder: Path) -> Path | None:
    """The log in a checkpoint's folder, of its newest `checkpoint-N`, or beside such a one.

    None where there is none, and for what is no folder, such as a hub id.
    """
    steps = [path for path in checkpoint_folder.glob("checkpoint-*") if _step_of(path) >= 0]
    above = [checkpoint_folder.parent] if _step_of(checkpoint_folder) >= 0 else []
    folders = [checkpoint_folder, *sorted(steps, key=_step_of, reverse=True), *above]
    candidates = (folder / name for folder in folders for name in LOG_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def kept_training_log(run_folder: Path) -> Path | None:
    """The log that a run keeps."""
    return next((run_folder / name for name in LOG_NAMES if (run_folder / name).is_file()), None)


def keep_training_log(checkpoint_folder: Path, run_folder: Path) -> None:
    """Copy a checkpoint's log into a run, so that its report can be made again without the
    checkpoint. Raises DataError for a log that cannot be read; then nothing is copied."""
    log = find_training_log(checkpoint_folder)
    if log is None:
        return
    read_training_log(log)
    with disk_errors(run_folder):
        write_bytes(run_folder / log.name, log.read_bytes())


def _step_of(folder: Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1


def read_training_log(path: Path) -> TrainingLog:
    """Read a log: `log_history` of a .json file, else an object a line.

    Every entry needs a number "step"; other entries that are no numbers are passed over, null and
    what is not finite are NaN. Of a name that comes twice at one step the later one counts. A last
    line that has no end, as a killed training leaves it, is passed over. Raises DataError for
    everything else: file, line, what was expected.
    """
    series: dict[str, dict[float, float]] = {}
    for place, entry in _entries(path):
        step: Any = entry.get("step") if isinstance(entry, dict) else None
        if not _is_number(step) or math.isnan(_finite(step)):
            raise DataError(
                f"{place}: {_shortened(json.dumps(entry))}; expected an object with a number "
                '"step", such as {"step": 10, "reward/high": 0.4}; repair the log or move it away'
            )
        for name, value in entry.items():
            if name != "step" and (value is None or _is_number(value)):
                series.setdefault(name, {})[float(step)] = _finite(value)
    ordered = {name: tuple(sorted(points.items())) for name, points in series.items()}
    told = {name: points for name, points in ordered.items() if _any_known(points)}
    return TrainingLog(path, told)


def _finite(value: float | None) -> float:
    """NaN where it is not finite, or too great to be a float."""
    try:
        return math.nan if value is None or not math.isfinite(value) else float(value)
    except OverflowError:
        return math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _any_known(points: Points) -> bool:
    return any(math.isfinite(value) for _, value in points)


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each entry stands, and the entry."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"training log {str(path)!r}: cannot be read as UTF-8 text "
            f"({error.__class__.__name__}); give an existing log"
        ) from error
    if path.suffix == ".json":
        yield from _history(path, text)
        return
    *lines, last = text.split("\n")  # no other letter ends a line of JSON
    for number, line in enumerate([*lines, last], start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number > len(lines):
                return
            raise DataError(
                f"{path}, line {number}: {_shortened(line.strip())}; expected a JSON object; "
                "repair the log or move it away"
            ) from error
        yield f"{path}, line {number}", entry


def _history(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    try:
        entries = json.loads(text)["log_history"]
        if not isinstance(entries, list):
            raise TypeError("log_history is no list")
    except (ValueError, KeyError, TypeError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(
            f"{path}{line}: not a trainer_state.json ({error!r}); expected an object with a list "
            '"log_history"; repair the log or move it away'
        ) from error
    for number, entry in enumerate(entries, start=1):
        yield f"{path}, log_history entry {number}", entry


def _shortened(text: str, letters: int = 80) -> str:
    return text if len(text) <= letters else f"{text[:letters]} …"


def draw_training(log: TrainingLog, modes: Sequence[str], folder: Path) -> list[Plot]:
    """Write `training`: a panel a measure over the step, a line for each mode; [] without numbers.

    A name such as `reward/high` is the measure `reward` of the mode `high` where there is such a
    mode, and `kl_bits/high_normal` of two of them; any other name is a measure of its own.
    Housekeeping (epochs, learning rates, run times) is drawn only where nothing else is there.
    At most 12 measures are drawn, those that tell most of modes first; the log has all. Steps
    without a value are gaps. Long lines are means of windows; the CSV has what is drawn, and of how
    many logged points each is.
    """
    measures = _measures(log, modes)
    if not measures:
        return []
    shown = dict(list(measures.items())[:_PANELS])
    figure = _figure(shown, modes)
    rows = [
        (measure, line.name, f"{step:g}", value, line.each)
        for measure, lines in shown.items()
        for line in lines
        for step, value in line.points
    ]
    words = _caption(log, shown, len(measures)), _alt(shown)
    return [write_figure(folder, "training", figure, words, _HEADER, rows)]


def _measures(log: TrainingLog, modes: Sequence[str]) -> dict[str, list[_Line]]:
    """Measure → its lines, in the order in which they are drawn."""
    known = {*modes, *(f"{a}_{b}" for a in modes for b in modes)}
    found: dict[str, list[_Line]] = {}
    for name, points in log.series.items():
        head, _, tail = name.rpartition("/")
        measure, line = (head, tail) if head and tail in known else (name, "")
        found.setdefault(measure, []).append(_line(line, points))
    told = {name: lines for name, lines in found.items() if not _HOUSEKEEPING.fullmatch(name)}
    chosen = told or found
    return {name: chosen[name] for name in sorted(chosen, key=lambda n: _rank(n, chosen[n]))}


def _rank(name: str, lines: Sequence[_Line]) -> tuple[bool, bool, int]:
    """Modes first, what never changes last."""
    words = [place for place, word in enumerate(_TOLD_FIRST) if word in name]
    still = all(len({v for _, v in line.points if math.isfinite(v)}) == 1 for line in lines)
    of_no_mode = all(not line.name for line in lines)
    return of_no_mode, still, min(words, default=len(_TOLD_FIRST))


def _line(name: str, points: Points) -> _Line:
    """Windows of equally many points, each at its mean step; the last one may have fewer."""
    each = math.ceil(len(points) / _POINTS)
    if each == 1:
        return _Line(name, points, 1)
    windows = [points[start : start + each] for start in range(0, len(points), each)]
    means = []
    for window in windows:
        values = [value for _, value in window if math.isfinite(value)]
        means.append((fmean(step for step, _ in window), fmean(values) if values else math.nan))
    return _Line(name, means, each)


def _broken(points: Points) -> tuple[list[float], list[float]]:
    """Steps and values, with a NaN in between where points are missing."""
    usual = median(b - a for (a, _), (b, _) in pairwise(points)) if len(points) > 1 else 0.0
    steps, values = [points[0][0]], [points[0][1]]
    for (before, _), (step, value) in pairwise(points):
        if step - before > _GAP * usual:
            steps.append((before + step) / 2)
            values.append(math.nan)
        steps.append(step)
        values.append(value)
    return steps, values


def _style(modes: Sequence[str], line: str) -> dict[str, Any]:
    """A mode's own; of two modes, such as high_normal, another one; of all a grey."""
    if not line:
        return {"color": _GREY, "linestyle": "-"}
    pairs = [f"{a}_{b}" for a in modes for b in modes]
    names = modes if line in modes else [*modes, *pairs]
    style = mode_style(names, line)
    return {"color": style["color"], "linestyle": style["linestyle"]}


def _figure(measures: Mapping[str, Sequence[_Line]], modes: Sequence[str]) -> Figure:
    lines = {line.name for of_measure in measures.values() for line in of_measure}
    named = lines != {""}
    room = legend_room(plain(name or _ALL) for name in lines) if named else 0.6
    figure, axes = panel_grid(len(measures), "", sharey=False, beside=room, size=(2.8, 2.5))
    for axis, (measure, of_measure) in zip(axes, measures.items(), strict=True):
        for line in of_measure:
            label = legend_name(line.name or _ALL) if named else None
            _draw_line(axis, line, _style(modes, line.name), label)
        finish_panel(axis, measure)
        axis.set_xlabel("step", fontsize=9)
        axis.tick_params(labelsize=9)
        axis.locator_params(axis="x", nbins=5, integer=True)
    set_heading(figure, "Training, as logged")
    if named:
        add_legend(figure, axes)
    return figure


def _draw_line(axis: Any, line: _Line, style: dict[str, Any], label: str | None) -> None:
    steps, values = _broken(line.points)
    axis.plot(steps, values, linewidth=1.4, label=label, **style)
    ends = [math.nan, *values, math.nan]
    alone = [
        i
        for i, value in enumerate(values)
        if math.isfinite(value) and not math.isfinite(ends[i]) and not math.isfinite(ends[i + 2])
    ]
    lone = {"marker": "o", "markersize": 4, "linestyle": "none", "color": style["color"]}
    axis.plot([steps[i] for i in alone], [values[i] for i in alone], **lone)


def _caption(log: TrainingLog, shown: Mapping[str, Sequence[_Line]], measures: int) -> str:
    each = max(line.each for lines in shown.values() for line in lines)
    parts = [
        f"What training wrote into {log.path.name}, by its own names, over the step. These are "
        "values of the training's own batches, without intervals: how good a mode is, is measured "
        "on docs that it was not trained on."
    ]
    if each > 1:
        parts.append(f"Points are means of up to {each} logged steps each.")
    if any(not math.isfinite(v) for ls in shown.values() for line in ls for _, v in line.points):
        parts.append("Where a line is broken nothing was logged.")
    if measures > len(shown):
        parts.append(f"{measures - len(shown)} more measures are in the log.")
    return " ".join(parts)


def _alt(shown: Mapping[str, Sequence[_Line]]) -> str:
    return listed(
        "Line plots over training steps.",
        (
            f"{measure}{' ' if line.name else ''}{line.name}: {_ends(line)}"
            for measure, lines in shown.items()
            for line in lines
        ),
    )


def _ends(line: _Line) -> str:
    known = [(step, value) for step, value in line.points if math.isfinite(value)]
    first, last = known[0], known[-1]
    start = f"{first[1]:.3g} at step {first[0]:.0f}"
    return start if first == last else f"{start} to {last[1]:.3g} at step {last[0]:.0f}"
