"""People's scores of samples, read from a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.errors import DataError
from psplit_eval.text import shortened

__all__ = ["LabelKey", "read_labels"]

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


def read_labels(path: Path) -> dict[LabelKey, float]:
    """Human scores by what they are of, in the order of the file.

    JSON Lines in UTF-8; an object has mode, task and dimension (texts), doc_id and sample_idx
    (whole numbers from 0) and value (a finite number); other fields are ignored, and so are empty
    lines. Raises DataError, one line with the file, the line and what to do: for a file that cannot
    be read or has no rows, a row that is no such object, and a second label of one sample and
    dimension.
    """
    labels: dict[LabelKey, float] = {}
    lines: dict[LabelKey, int] = {}
    for number, line in _lines(path):
        place = f"labels {str(path)!r}, line {number}"
        key, value = _label(line, place)
        if key in labels:
            raise DataError(
                f"{place}: {value:g} is a second label of {_named(key)} (the first is on line "
                f"{lines[key]}); expected one; keep one of the two, or their mean"
            )
        labels[key], lines[key] = value, number
    if not labels:
        raise DataError(
            f"labels {str(path)!r}: empty; expected one JSON object a line, such as {_EXAMPLE}"
        )
    return labels


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


def _label(line: str, place: str) -> tuple[LabelKey, float]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{place}: {_short(line.strip())} is not JSON; expected an object such as {_EXAMPLE}"
        ) from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: {_short(row)}; expected an object such as {_EXAMPLE}")
    mode, task, dimension = (_text(row, name, place) for name in ("mode", "task", "dimension"))
    doc_id, sample_idx = (_whole(row, name, place) for name in ("doc_id", "sample_idx"))
    return LabelKey(mode, task, doc_id, sample_idx, dimension), _number(row, place)


def _text(row: dict[str, Any], name: str, place: str) -> str:
    value = _field(row, name, place)
    if not isinstance(value, str) or not value:
        raise DataError(f"{place}: {name} is {_short(value)}; expected a text that is not empty")
    return value


def _whole(row: dict[str, Any], name: str, place: str) -> int:
    value = _field(row, name, place)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(
            f"{place}: {name} is {_short(value)}; expected a whole number from 0, as the run has it"
        )
    return value


def _number(row: dict[str, Any], place: str) -> float:
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


def _field(row: dict[str, Any], name: str, place: str) -> Any:
    if name not in row:
        raise DataError(
            f"{place}: no {name} in {_short(row)}; expected an object such as {_EXAMPLE}"
        )
    return row[name]


def _named(key: LabelKey) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in key._asdict().items())


def _short(value: Any) -> str:
    return shortened(repr(value), 80)
