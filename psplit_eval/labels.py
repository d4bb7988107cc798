"""People's scores of samples: read from a file, and kept in a run's folder."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.errors import DataError
from psplit_eval.files import write_text
from psplit_eval.text import shortened, wellformed

__all__ = [
    "LABELS",
    "Frame",
    "LabelKey",
    "Labels",
    "Scale",
    "keep_labels",
    "kept_labels",
    "read_labels",
    "sample_id",
]

LABELS = "labels.jsonl"
"""Name of the file in a run's folder."""

_EXAMPLE = (
    '{"mode": "high", "task": "psplit_stories", "doc_id": 0, "sample_idx": 0, '
    '"dimension": "creativity", "value": 7}'
)


class LabelKey(NamedTuple):
    """What a label is of: one sample, one dimension of a rubric."""

    mode: str
    task: str
    doc_id: int
    sample_idx: int
    dimension: str


Of = tuple[str, str, int, int]
"""(mode, task, doc_id, sample_idx)."""
Row = dict[str, Any]


class Scale(NamedTuple):
    """By what people scored: a rubric's name and the ends of its scale."""

    rubric: str
    low: int
    high: int


Labels = Mapping[Scale, Mapping[LabelKey, float]]
"""All labels of a run."""


@dataclass(frozen=True)
class Frame:
    """What labels can be of: `samples`, `dimensions` of a rubric, values from `low` to `high`."""

    samples: Sequence[Of]
    dimensions: Sequence[str]
    low: float
    high: float

    @cached_property
    def by_id(self) -> Mapping[str, Of]:
        """`sample_id` → sample."""
        return {sample_id(*sample): sample for sample in self.samples}

    @cached_property
    def known(self) -> frozenset[Of]:
        """The samples, to look one up."""
        return frozenset(self.samples)


def sample_id(mode: str, task: str, doc_id: int, sample_idx: int) -> str:
    """Sixteen characters that stand for a sample and do not show its mode."""
    parts = json.dumps([mode, task, doc_id, sample_idx])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def read_labels(path: Path, frame: Frame | None = None) -> dict[LabelKey, float]:
    """Human scores by what they are of, in the order of the file.

    JSON Lines in UTF-8; an object has mode, task and dimension (texts), doc_id and sample_idx
    (whole numbers from 0) and value (a finite number); other fields are ignored, and so are empty
    lines and rows whose value is null: they are not labelled yet. With a `frame` an `id` (see
    `sample_id`) may stand for mode, task, doc_id and sample_idx, and what is not in the frame is
    refused. Raises DataError, one line with the file, the line and what to do: for a file that
    cannot be read or has no label, a row that is no such object, and a second label of one sample
    and dimension.
    """
    labels: dict[LabelKey, float] = {}
    lines: dict[LabelKey, int] = {}
    blank = 0
    for place, number, row in _rows(path):
        if "value" in row and row["value"] is None:
            blank += 1
            continue
        key, value = _label(row, place, frame)
        if key in labels:
            raise DataError(
                f"{place}: {value:g} is a second label of {_named(key)} (the first is on line "
                f"{lines[key]}); expected one; keep one of the two, or their mean"
            )
        labels[key], lines[key] = value, number
    if not labels:
        found = f"{blank} rows, none with a value; fill in some" if blank else "empty"
        raise DataError(
            f"labels {str(path)!r}: {found}; expected one JSON object a line, such as {_EXAMPLE}"
        )
    return labels


def keep_labels(folder: Path, scale: Scale, labels: Mapping[LabelKey, float]) -> int:
    """Add labels to those of a run, where they replace earlier ones of the same key.

    Returns how many labels by this scale there are now. Raises DataError as `kept_labels`,
    InfrastructureError.
    """
    kept = {name: dict(known) for name, known in kept_labels(folder).items()}
    kept[scale] = {**kept.get(scale, {}), **labels}
    rows = (
        {"rubric": name.rubric, "scale": [name.low, name.high], **key._asdict(), "value": value}
        for name, known in kept.items()
        for key, value in known.items()
    )
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    write_text(folder / LABELS, "".join(f"{wellformed(line)}\n" for line in lines))
    return len(kept[scale])


def kept_labels(folder: Path) -> Labels:
    """The labels in a run's folder; none where there is no such file. Raises DataError."""
    found: dict[Scale, dict[LabelKey, float]] = defaultdict(dict)
    path = folder / LABELS
    for place, _, row in _rows(path) if path.exists() else ():
        key, value = _label(row, place, None)
        found[_scale(row, place)][key] = value
    return dict(found)


def _scale(row: Row, place: str) -> Scale:
    rubric, ends = _text(row, "rubric", place), _field(row, "scale", place)
    try:
        low, high = map(int, ends)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{place}: scale is {_short(ends)}; expected two whole numbers, as psplit-eval "
            "calibrate writes them; take its labels from their own file again"
        ) from error
    return Scale(rubric, low, high)


def _rows(path: Path) -> Iterator[tuple[str, int, Row]]:
    for number, line in _lines(path):
        place = f"labels {str(path)!r}, line {number}"
        yield place, number, _row(line, place)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(
            f"labels {str(path)!r}: cannot be read ({reason}); expected a file of JSON Lines in "
            "UTF-8; check the path"
        ) from error
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{place}: {_short(line.strip())} is not JSON; expected an object such as {_EXAMPLE}"
        ) from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: {_short(row)}; expected an object such as {_EXAMPLE}")
    return row


def _label(row: Row, place: str, frame: Frame | None) -> tuple[LabelKey, float]:
    if frame and "id" in row and "mode" not in row:
        sample = _by_id(row, place, frame)
    else:
        mode, task = (_text(row, name, place) for name in ("mode", "task"))
        doc_id, sample_idx = (_whole(row, name, place) for name in ("doc_id", "sample_idx"))
        sample = (mode, task, doc_id, sample_idx)
    key = LabelKey(*sample, _text(row, "dimension", place))
    value = _number(row, place)
    if frame:
        _check(key, value, place, frame)
    return key, value


def _by_id(row: Row, place: str, frame: Frame) -> Of:
    name = _text(row, "id", place)
    if name not in frame.by_id:
        raise DataError(
            f"{place}: id {_short(name)} is of no sample of this run; expected one that "
            "psplit-eval calibrate --draw wrote for it; give that run"
        )
    return frame.by_id[name]


def _check(key: LabelKey, value: float, place: str, frame: Frame) -> None:
    """Raise DataError for what is not in the frame."""
    if key[:4] not in frame.known:
        modes = dict.fromkeys(mode for mode, *_ in frame.samples)
        tasks = dict.fromkeys(task for _, task, *_ in frame.samples)
        raise DataError(
            f"{place}: the run has no answer of {_named(key)}; expected one of its modes "
            f"({', '.join(modes)}) and tasks ({', '.join(tasks)}); correct the row, or give its run"
        )
    if key.dimension not in frame.dimensions:
        raise DataError(
            f"{place}: dimension {_short(key.dimension)}; expected one of the rubric "
            f"({', '.join(frame.dimensions)}); correct it, or give another --rubric"
        )
    if not frame.low <= value <= frame.high:
        raise DataError(
            f"{place}: value is {value:g}; expected a number on the rubric's scale, from "
            f"{frame.low:g} to {frame.high:g}; correct it"
        )


def _text(row: Row, name: str, place: str) -> str:
    value = _field(row, name, place)
    if not isinstance(value, str) or not value:
        raise DataError(f"{place}: {name} is {_short(value)}; expected a text that is not empty")
    return value


def _whole(row: Row, name: str, place: str) -> int:
    value = _field(row, name, place)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(
            f"{place}: {name} is {_short(value)}; expected a whole number from 0, as the run has it"
        )
    return value


def _number(row: Row, place: str) -> float:
    value = _field(row, "value", place)
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{place}: value is {_short(value)}; expected a finite number; leave out samples that "
            "were not labelled"
        )
    return number


def _field(row: Row, name: str, place: str) -> Any:
    if name not in row:
        raise DataError(
            f"{place}: no {name} in {_short(row)}; expected an object such as {_EXAMPLE}"
        )
    return row[name]


def _named(key: LabelKey) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in key._asdict().items())


def _short(value: Any) -> str:
    return shortened(repr(value), 80)
