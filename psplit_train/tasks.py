"""Generated tasks: short questions that have many right answers, so that diversity has room.

A tiny model with a token for every character can read and answer most of them, `stories` are for
language models. A question, or an equation that stands for a story, is its own reference: the
checkers of `psplit_eval.checkers` read what is right from it, in training and in evaluation alike.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.checkers import (
    GRID,
    MOVES,
    asked_amounts,
    asked_sum,
    asked_walk,
    solves,
)

__all__ = ["TASKS", "Task"]

Row = dict[str, str]
_Place = tuple[int, int]

_TOTALS = range(6, 28)
_DIGITS = range(1, 10)
_ANSWERS = 4
"""Right answers that a question with forbidden digits has, at least."""
_STEPS_AT_MOST = 8
_STEPS_BETWEEN = 3
"""Fewest steps from start to end of a walk; nearer ends leave little to go round."""

_SUM_PATTERN = r"\A\s*([1-9](?:\s*\+\s*[1-9]){1,2})\s*\Z"
_WALK_PATTERN = r"\A\s*([udlr](?:\s*[udlr]){0,7})\s*\Z"
_STORY_PATTERN = r"\A\s*([1-9]\d?(?:\s+and\s+[1-9]\d?){1,2})\s*\Z"

_LARGEST = 12
"""Number in a story's worked answer; to a difference there are right ones up to 99."""

_STORIES: Mapping[str, tuple[range, tuple[str, ...]]] = {
    "a + b": (
        range(5, 13),
        (
            "Mia and Tom share {n} grapes. How many does each of them get?",
            "Two boxes hold {n} pencils together. How many are in each box?",
            "A farmer puts {n} eggs into two baskets. How many go into each?",
            "Ben read {n} pages in two days. How many did he read on each day?",
            "There are {n} birds on two trees. How many sit on each tree?",
            "Sara spent {n} dollars on a book and a pen. What did each of them cost?",
            "A class of {n} children has girls and boys. How many of each are there?",
            "A bus with {n} people stops twice, and then it is empty. How many left at each stop?",
            "We scored {n} goals in two games. How many were there in each game?",
            "A rope of {n} metres is cut into two pieces. How long is each piece?",
            "Eva had {x} stamps and found {y} more. She fills two pages with all of them. How many "
            "go on each page?",
            "One boat brings {x} people, another one {y}. All of them go to two hotels. How many "
            "go to each?",
            "Leo has {x} coins in one hand and {y} in the other. He gives them all to his two "
            "sisters. How many does each get?",
            "A shop had {x} hats and got {y} more. It sold them all in two weeks. How many in each "
            "week?",
        ),
    ),
    "a + b + c": (
        range(5, 13),
        (
            "Three friends picked {n} apples. How many did each of them pick?",
            "Lena put {n} books on three shelves. How many are on each shelf?",
            "A baker made {n} loaves in three hours. How many were there in each hour?",
            "Three cats caught {n} mice. How many did each cat catch?",
            "A vase holds {n} flowers: red, white and yellow ones. How many are of each colour?",
            "Omar walked {n} miles in three days. How far did he go on each day?",
        ),
    ),
    "a - b": (
        range(1, 7),
        (
            "Anna is {n} years older than Paul. How old are Anna and Paul?",
            "Jim has {n} more marbles than Kim. How many do Jim and Kim have?",
            "Red won against Blue by {n} points. How many points did Red and Blue score?",
            "Today is {n} degrees warmer than yesterday. How warm is it today, and was it then?",
            "A lamp costs {n} dollars more than a cup. What do the lamp and the cup cost?",
            "The oak is {n} metres taller than the fir. How tall are the oak and the fir?",
            "Nina swam {n} laps more than Max. How many laps did Nina and Max swim?",
            "The bus takes {n} minutes longer than the train. How long do bus and train take?",
        ),
    ),
}
"""Left side of an equation → what it is equal to, and what it may be the story of."""


@dataclass(frozen=True)
class Task:
    """A generator of questions.

    `instruction` tells a language model what a question asks for; a model that has learnt the task
    in warm-up needs none. `answer_pattern`: the whole response has to be the answer, of this form
    (first group). `checker`: name of what decides whether it is right (`psplit_eval.checkers`).
    `characters`: all that questions and answers are written in. `longest`: characters of the
    longest worked answer. `reference`: of a question what the checker reads; most are their own.
    """

    name: str
    title: str
    instruction: str
    answer_pattern: str
    checker: str
    characters: str
    longest: int
    questions: Callable[[int], Sequence[str]]
    draw: Callable[[str, Random], str]
    reference: Callable[[str], str] = str

    @property
    def answer_format(self) -> AnswerFormat:
        """How evaluation finds and checks an answer."""
        return AnswerFormat(self.answer_pattern, checker=self.checker)

    def rows(self, seed: int) -> list[Row]:
        """All questions, each once: {"question", "answer"}, the answer being the reference that
        the checker reads. The seed orders them, and chooses them where there are too many."""
        return [{"question": text, "answer": self.reference(text)} for text in self.questions(seed)]

    def worked(self, row: Mapping[str, str], random: Random) -> str:
        """One right response to a row, drawn among the many."""
        return self.draw(row["answer"], random)


def _shuffled(questions: Sequence[str], seed: int) -> list[str]:
    return Random(seed).sample(questions, len(questions))


def _plain_sums(seed: int) -> list[str]:
    return _shuffled([str(total) for total in _TOTALS], seed)


def _sums_without(seed: int) -> list[str]:
    return _shuffled(_answered(1), seed)


def _sums_avoiding(seed: int) -> list[str]:
    return _shuffled([*_answered(1), *_answered(2), *_answered(3)], seed)


def _answered(count: int) -> list[str]:
    """Sums without so many of the digits: those with four right answers or more."""
    asked = [
        f"{total} without {''.join(map(str, digits))}"
        for total in _TOTALS
        for digits in itertools.combinations(_DIGITS, count)
    ]
    return [question for question in asked if len(_sums(question)) >= _ANSWERS]


@lru_cache(maxsize=4096)
def _sums(question: str) -> tuple[str, ...]:
    """All right answers."""
    total, forbidden = asked_sum(question)
    left = [digit for digit in _DIGITS if digit not in forbidden]
    return tuple(
        "+".join(map(str, digits))
        for count in (2, 3)
        for digits in itertools.product(left, repeat=count)
        if sum(digits) == total
    )


def _drawn_sum(question: str, random: Random) -> str:
    """Each right answer has the same chance."""
    return random.choice(_sums(question))


def _walks(seed: int) -> list[str]:
    """All whose wall stands between start and end: in the rectangle that they span."""
    places = [(column, row) for column in range(GRID) for row in range(GRID)]
    asked = [
        f"{_named(start)} to {_named(end)} not {_named(wall)}"
        for start, end in itertools.permutations(places, 2)
        if abs(start[0] - end[0]) + abs(start[1] - end[1]) >= _STEPS_BETWEEN
        for wall in places
        if wall not in (start, end) and _between(start, wall, end)
    ]
    return _shuffled(asked, seed)


def _named(place: _Place) -> str:
    return f"{'abcd'[place[0]]}{place[1] + 1}"


def _between(start: _Place, wall: _Place, end: _Place) -> bool:
    return all(min(a, b) <= part <= max(a, b) for a, part, b in zip(start, wall, end, strict=True))


def _drawn_walk(question: str, random: Random) -> str:
    """Each length that is possible has the same chance, then each walk of that length."""
    here, end, wall = asked_walk(question)
    lengths = [n for n in range(1, _STEPS_AT_MOST + 1) if _ways(here, end, wall, n)]
    steps = ""
    for left in reversed(range(random.choice(lengths))):
        ahead = dict(_neighbours(here, wall))
        chances = [_ways(place, end, wall, left) for place in ahead.values()]
        steps += random.choices(list(ahead), chances)[0]
        here = ahead[steps[-1]]
    return steps


def _neighbours(here: _Place, wall: _Place) -> Iterator[tuple[str, _Place]]:
    for step, (across, up) in MOVES.items():
        place = (here[0] + across, here[1] + up)
        if place != wall and all(0 <= part < GRID for part in place):
            yield step, place


@lru_cache(maxsize=65536)
def _ways(here: _Place, end: _Place, wall: _Place, steps: int) -> int:
    """How many walks of so many steps lead from here to the end."""
    if steps == 0:
        return int(here == end)
    return sum(_ways(place, end, wall, steps - 1) for _, place in _neighbours(here, wall))


def _stories(seed: int) -> list[str]:
    """Each with each of its numbers; the seed also says of which two numbers some are the sum."""
    random = Random(seed)
    told = []
    for numbers, texts in _STORIES.values():
        for text, n in itertools.product(texts, numbers):
            x = random.randint(2, n - 2) if "{x}" in text else 0
            told.append(text.format(n=n, x=x, y=n - x))
    return _shuffled(told, seed)


def _equation(story: str) -> str:
    """What a story tells: its numbers' sum is the right side."""
    left = _equations()[re.sub(r"\d+", "#", story)]
    return f"{left} = {sum(map(int, re.findall(r'[0-9]+', story)))}"


@lru_cache(maxsize=1)
def _equations() -> Mapping[str, str]:
    """Stories without their numbers → the left side."""
    return {
        text.format(n="#", x="#", y="#"): left
        for left, (_, texts) in _STORIES.items()
        for text in texts
    }


@lru_cache(maxsize=1024)
def _amounts(reference: str) -> tuple[str, ...]:
    """All right answers without a number above 12."""
    signs, _ = asked_amounts(reference)
    numbers = itertools.product(range(1, _LARGEST + 1), repeat=len(signs))
    written = (" and ".join(map(str, amounts)) for amounts in numbers)
    return tuple(text for text in written if solves(reference, text))


def _drawn_amounts(reference: str, random: Random) -> str:
    """Each right answer without a number above 12 has the same chance."""
    return random.choice(_amounts(reference))


_SUM_RULE = "Write two or three digits from 1 to 9, joined by +, whose sum is the number above"

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "sums",
            "a sum of two or three digits for each number from 6 to 27 (22 questions)",
            f"{_SUM_RULE}. Write nothing else.",
            *(_SUM_PATTERN, "sum", "0123456789+", 5),
            *(_plain_sums, _drawn_sum),
        ),
        Task(
            "sums_without",
            "the same without one of the digits (all such questions with four answers or more)",
            f"{_SUM_RULE}, without the digit that is named. Write nothing else.",
            *(_SUM_PATTERN, "sum", "0123456789+ without", 5),
            *(_sums_without, _drawn_sum),
        ),
        Task(
            "sums_avoiding",
            "the same without one, two or three of the digits (2,216 questions)",
            f"{_SUM_RULE}, without any of the digits that are named. Write nothing else.",
            *(_SUM_PATTERN, "sum", "0123456789+ without", 5),
            *(_sums_avoiding, _drawn_sum),
        ),
        Task(
            "walks",
            "a walk of at most eight steps on a grid, round a wall (696 questions)",
            "Columns are a to d, rows 1 to 4. Write at most eight steps, u (next row), d (row "
            "before), r (next column) or l (column before), that lead from the first square to "
            "the second, stay on the grid and never enter the third. Write nothing else.",
            *(_WALK_PATTERN, "walk", "1234 abcdlnortu", 8),
            *(_walks, _drawn_walk),
        ),
        Task(
            "stories",
            "word problems with small numbers and many right answers, for language models",
            "Answer with the numbers alone, joined by 'and'.",
            *(_STORY_PATTERN, "amounts", string.printable, 15),
            *(_stories, _drawn_amounts, _equation),
        ),
    )
}
