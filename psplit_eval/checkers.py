"""Checkers of questions that have many right answers: the reference says what a right one is.

`accuracy.AnswerFormat` names one. Answers to such a question are the same where their texts are,
spaces aside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import mul

from psplit_eval.errors import DataError

__all__ = [
    "CHECKERS",
    "GRID",
    "MOVES",
    "Checker",
    "adds_up",
    "arrives",
    "asked_amounts",
    "asked_sum",
    "asked_walk",
    "solves",
]

Checker = Callable[[str, str], bool]
"""(reference, answer without spaces at its ends) → whether the answer is right."""

GRID = 4
"""Rows and columns of the grid of walks: a1 to d4."""

MOVES: Mapping[str, tuple[int, int]] = {"u": (0, 1), "d": (0, -1), "r": (1, 0), "l": (-1, 0)}
"""What a step does to (column, row)."""

_SUM = re.compile(r"([1-9][0-9]?)(?: without ([1-9]+))?")
_DIGITS = re.compile(r"[1-9](?:\+[1-9]){1,2}")
_WALK = re.compile(r"([a-d][1-4]) to ([a-d][1-4]) not ([a-d][1-4])")
_STEPS_AT_MOST = 8
_EQUATION = re.compile(r"a ([+-]) b( \+ c)? = ([1-9][0-9]?)")
_AMOUNTS = re.compile(r"[1-9][0-9]?(?:and[1-9][0-9]?)+")


def asked_sum(reference: str) -> tuple[int, frozenset[int]]:
    """`17 without 46` → (17, {4, 6}); `17` → (17, {}). Raises DataError."""
    found = _SUM.fullmatch(reference)
    if not found:
        raise DataError(f"reference {reference!r}: expected a sum like '17' or '17 without 46'")
    return int(found[1]), frozenset(map(int, found[2] or ""))


def adds_up(reference: str, answer: str) -> bool:
    """Whether two or three digits from 1 to 9, joined by `+`, have the sum that is asked for, and
    no digit that is forbidden is among them.

    >>> adds_up("17 without 46", "8 + 9"), adds_up("17 without 46", "4+4+9")
    (True, False)
    """
    total, forbidden = asked_sum(reference)
    plain = re.sub(r"\s+", "", answer)
    if not _DIGITS.fullmatch(plain):
        return False
    digits = [int(digit) for digit in plain.split("+")]
    return sum(digits) == total and not forbidden & set(digits)


def asked_walk(reference: str) -> tuple[tuple[int, int], ...]:
    """`a1 to c3 not b2` → start, end and wall as (column, row), both from 0. Raises DataError."""
    found = _WALK.fullmatch(reference)
    if not found:
        raise DataError(f"reference {reference!r}: expected a walk like 'a1 to c3 not b2'")
    return tuple(("abcd".index(place[0]), int(place[1]) - 1) for place in found.groups())


def arrives(reference: str, answer: str) -> bool:
    """Whether at most eight steps (u: next row, d: row before, r: next column, l: column before)
    lead from start to end, never off the grid and never onto the wall.

    >>> arrives("a1 to c2 not b1", "urr"), arrives("a1 to c2 not b1", "rru")
    (True, False)
    """
    here, end, wall = asked_walk(reference)
    steps = re.sub(r"\s+", "", answer)
    if not 0 < len(steps) <= _STEPS_AT_MOST or not set(steps) <= set(MOVES):
        return False
    for step in steps:
        here = (here[0] + MOVES[step][0], here[1] + MOVES[step][1])
        if here == wall or not all(0 <= part < GRID for part in here):
            return False
    return here == end


def asked_amounts(reference: str) -> tuple[tuple[int, ...], int]:
    """`a - b = 4` → ((1, -1), 4): the amounts' signs and what they make. Raises DataError."""
    found = _EQUATION.fullmatch(reference)
    if not found:
        raise DataError(
            f"reference {reference!r}: expected an equation like 'a + b = 9', 'a + b + c = 9' or "
            "'a - b = 9'"
        )
    signs = (1, 1 if found[1] == "+" else -1, *([1] if found[2] else []))
    return signs, int(found[3])


def solves(reference: str, answer: str) -> bool:
    """Whether whole numbers from 1 to 99, joined by `and`, solve the equation in their order.

    >>> solves("a - b = 4", "9 and 5"), solves("a - b = 4", "5 and 9")
    (True, False)
    """
    signs, total = asked_amounts(reference)
    plain = re.sub(r"\s+", "", answer)
    if not _AMOUNTS.fullmatch(plain):
        return False
    amounts = [int(amount) for amount in plain.split("and")]
    return len(amounts) == len(signs) and total == sum(map(mul, signs, amounts))


CHECKERS: Mapping[str, Checker] = {"sum": adds_up, "walk": arrives, "amounts": solves}
