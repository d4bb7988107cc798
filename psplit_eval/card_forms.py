"""Is a file's content a judge's card, and what is wrong with it: before anything is read from it.

A file can stand among cards by chance, and is none then; one that is a card and broken has a fault.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from psplit_eval.text import shortened

__all__ = ["LEVELS", "fault", "is_card", "parsed"]

LEVELS = ("usable", "usable with care", "not measured", "not usable")
"""Of measures and verdicts, from the best to the worst."""
_MARKS = ("format", "judge_key", "purposes")
"""A card has all of them; with two it is one that was broken. What is said of a panel has one."""


def parsed(content: bytes) -> Any:
    """A file's JSON; raises ValueError where it is none."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_card(content: bytes) -> bool:
    """Whether a file's content is a card, be it a broken one, and not something else."""
    try:
        entry = parsed(content)
    except ValueError:
        return sum(f'"{mark}"'.encode() in content for mark in _MARKS) > 1
    return isinstance(entry, dict) and sum(mark in entry for mark in _MARKS) > 1


class _Form(NamedTuple):
    """What a value has to be, in words and as a test."""

    expected: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and math.isfinite(value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_table, value))


_TEXT = _Form("text", lambda value: isinstance(value, str))
_NOTE = _Form("text or null", lambda value: value is None or isinstance(value, str))
_NUMBER = _Form("a finite number or null", _is_number)
_COUNT = _Form("a whole number, 0 or more", _is_count)
_TIME = _Form("a time such as 2025-01-01T00:00:00+00:00", _is_time)
_TABLE = _Form("an object", _is_table)
_TABLES = _Form("a list of objects", _are_tables)
_LEVEL = _Form(f"one of {', '.join(LEVELS)}", lambda value: value in LEVELS)
_RANK = _Form(f"{_LEVEL.expected}, or null", lambda value: value is None or value in LEVELS)

_CARD: Mapping[str, _Form] = {
    **dict.fromkeys(("judge", "judge_key", "rubric", "rubric_hash", "version"), _TEXT),
    "created_at": _TIME,
    **dict.fromkeys(("settings", "gold", "asked", "attacks", "bill", "purposes"), _TABLE),
    **dict.fromkeys(("measures", "by_kind"), _TABLES),
}
_MEASURE: Mapping[str, _Form] = {
    **dict.fromkeys(("name", "unit", "about"), _TEXT),
    **dict.fromkeys(("value", "ci_low", "ci_high"), _NUMBER),
    "n": _COUNT,
    "level": _RANK,
    "note": _NOTE,
}
_RULING: Mapping[str, _Form] = {"verdict": _LEVEL, "why": _TEXT}


def fault(entry: Mapping[str, Any], purposes: Iterable[str]) -> str:
    """What is wrong with a card, and what was expected; '' of a sound one.

    `purposes`: those of which it must have a verdict; it may have more.
    """
    return next(_faults(entry, purposes), "")


def _faults(entry: Mapping[str, Any], purposes: Iterable[str]) -> Iterator[str]:
    """The first one is true; later ones rest on what was found sound."""
    yield from _misfits("", entry, _CARD)
    for number, measure in enumerate(entry["measures"]):
        yield from _misfits(f"measures[{number}].", measure, _MEASURE)
    yield from _misfits("purposes.", entry["purposes"], dict.fromkeys(purposes, _TABLE))
    for name, ruling in entry["purposes"].items():
        if not _is_table(ruling):
            yield _misfit(f"purposes.{name}", ruling, _TABLE)
        yield from _misfits(f"purposes.{name}.", ruling, _RULING)


def _misfits(place: str, entry: Mapping[str, Any], forms: Mapping[str, _Form]) -> Iterator[str]:
    for name, form in forms.items():
        if name not in entry:
            yield f"{place}{name} is missing, expected {form.expected}"
        elif not form.fits(entry[name]):
            yield _misfit(f"{place}{name}", entry[name], form)


def _misfit(place: str, value: Any, form: _Form) -> str:
    return f"{shortened(place, 60)} is {shortened(json.dumps(value), 60)}, expected {form.expected}"
