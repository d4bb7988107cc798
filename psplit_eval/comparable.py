"""Which rows of a board can be held against each other on a task, and why others cannot.

Rows differ in checkpoint and mode: that is what a board is about. Whatever else differs makes
numbers that say nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from psplit_eval.conditions import (
    MODE_PROMPT,
    TEMPLATE,
    Conditions,
    Difference,
    differences,
    numbered,
)
from psplit_eval.text import shortened

__all__ = ["Standing", "standings"]

_SHOWN = 60
_WHAT = {"data": "docs", "scorer": "scorer", "prompts": "prompt texts"}


@dataclass(frozen=True)
class Standing:
    """How a row stands on a task. `obstacle`: why it is not of the reference group, '' where it is;
    `remark`: what is worth knowing all the same."""

    obstacle: str = ""
    remark: str = ""


def standings(
    rows: Mapping[int, Sequence[Conditions]], names: Mapping[int, str]
) -> dict[int, Standing]:
    """Of every row its standing on a task (one of `Conditions`), or on a pool (those of its tasks).

    The reference group is the largest set of rows that can all be compared with each other: of most
    runs, then of most rows, then of those given first. Every other row is not ranked, and the note
    says in what it differs from the first row of the group that it cannot be compared with.
    """
    clear = {i: set(rows) - {i} for i in rows}
    for i, j in combinations(rows, 2):
        if any(_between(rows[i], rows[j], _obstacles)):
            clear[i].discard(j)
            clear[j].discard(i)
    group = _reference(clear, {i: rows[i][0].run for i in rows})
    return {i: _standing(i, group, clear[i], rows, names) for i in rows}


def _standing(
    row: int,
    group: Sequence[int],
    clear: set[int],
    rows: Mapping[int, Sequence[Conditions]],
    names: Mapping[int, str],
) -> Standing:
    if row not in group:
        other = next(i for i in group if i not in clear)
        return Standing(obstacle=_note("not comparable with", row, other, rows, names, _obstacles))
    alike = [i for i in group if rows[i][0].mode == rows[row][0].mode]
    if row == alike[0] or not any(_between(rows[row], rows[alike[0]], _remarks)):
        return Standing()
    return Standing(remark=_note("beside", row, alike[0], rows, names, _remarks))


_Find = Callable[[Conditions, Conditions], Iterator[str]]


def _between(one: Sequence[Conditions], other: Sequence[Conditions], find: _Find) -> Iterator[str]:
    for a, b in zip(one, other, strict=True):
        yield from (f"{a.task}: {text}" if len(one) > 1 else text for text in find(a, b))


def _note(
    start: str,
    row: int,
    other: int,
    rows: Mapping[int, Sequence[Conditions]],
    names: Mapping[int, str],
    find: _Find,
) -> str:
    found = "; ".join(_between(rows[row], rows[other], find))
    runs = [rows[i][0].run for i in (row, other)]
    return f"{start} {names[other]}: {found} ({runs[0]} against {runs[1]})"


def _reference(clear: Mapping[int, set[int]], runs: Mapping[int, Path]) -> list[int]:
    """The best of all largest sets of mutually comparable rows, in the order given."""
    sets = [sorted(found) for found in _cliques([], list(clear), [], clear)]
    return min(sets, key=lambda found: (-len({runs[i] for i in found}), -len(found), found))


def _cliques(
    chosen: list[int], open_: list[int], done: list[int], clear: Mapping[int, set[int]]
) -> Iterator[list[int]]:
    """Every set of mutually comparable rows that no other row fits into (Bron and Kerbosch 1973).

    Differences are mostly those between a few groups, so there are few such sets.
    """
    if not open_ and not done:
        yield chosen
        return
    pivot = max([*open_, *done], key=lambda row: len(clear[row].intersection(open_)))
    for row in [row for row in open_ if row not in clear[pivot]]:
        near = clear[row]
        yield from _cliques(
            [*chosen, row], [i for i in open_ if i in near], [i for i in done if i in near], clear
        )
        open_ = [i for i in open_ if i != row]
        done = [*done, row]


def _obstacles(a: Conditions, b: Conditions) -> Iterator[str]:
    """What makes the numbers of two rows say nothing of each other."""
    for found in differences(a, b):
        if not _meant(found, a, b):
            what = found.where.removeprefix(a.where).lstrip(", ") or _WHAT[found.kind]
            yield f"{what}: {_text(found.a)} against {_text(found.b)}"
    ours, theirs = ({key for key, _ in numbered(side.docs)} for side in (a, b))
    if ours & theirs and ours != theirs:
        yield f"docs: {len(ours)} against {len(theirs)}, {len(ours & theirs)} of them the same"
    told = [side.model.get("thinking") for side in (a, b)]
    if None not in told and told[0] != told[1]:
        yield f"told to think: {_text(told[0])} against {_text(told[1])}"


def _meant(found: Difference, a: Conditions, b: Conditions) -> bool:
    """A mode is its prompt, and a checkpoint has a template of its own."""
    if found.kind != "prompts" or not found.because:
        return False
    return TEMPLATE not in found.because or a.fingerprint != b.fingerprint


def _remarks(a: Conditions, b: Conditions) -> Iterator[str]:
    """What is worth knowing of two rows in one mode."""
    if a.system_prompt != b.system_prompt:
        prompts = f"{_text(a.system_prompt)} against {_text(b.system_prompt)}"
        yield f"{MODE_PROMPT.removeprefix('the ')}: {prompts}"
    if a.model.get("chat_template") != b.model.get("chat_template"):
        yield f"{TEMPLATE.removeprefix('the ')}: another one"


def _text(value: object) -> str:
    return "none" if value in (None, "") else shortened(value, _SHOWN)
