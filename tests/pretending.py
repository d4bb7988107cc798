"""A judge without a model: it answers by rules, several questions at once and in any order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from psplit_eval.judges import Reply
from psplit_eval.rubrics import Question


def sevens(question: Question) -> Reply:
    """The same verdict about everything, for 100 tokens read and 10 written."""
    low, high = question.form.ends
    value = low + round(0.7 * (high - low))
    verdict = dict.fromkeys(question.form.dimensions, value)
    return Reply(verdict, text="said", prompt_tokens=100, completion_tokens=10)


@dataclass
class PretendJudge:
    """`answer` makes a reply; `places` questions are on their way at once; `most`: of tokens.

    `fails_after`: so many answers, then `error` is raised. `asked` has every question.
    """

    answer: Callable[[Question], Reply] = sevens
    places: int = 1
    most: tuple[float, float] = (100.0, 10.0)
    likely: tuple[float, float] = (100.0, 10.0)
    fails_after: int | None = None
    error: BaseException = field(default_factory=KeyboardInterrupt)
    name: str = "openai:pretend"
    identity: str = "1"
    writes: bool = True
    by_name: bool = False
    special: tuple[str, ...] = ()
    asked: list[Question] = field(default_factory=list)
    busiest: int = 0

    def describe(self) -> dict[str, Any]:
        return {"kind": "pretend", "identity": self.identity}

    def expected_tokens(self, question: Question) -> tuple[float, float]:
        return self.likely

    def most_tokens(self, question: Question) -> tuple[float, float]:
        return self.most

    def ask(self, questions: Iterable[tuple[Any, Question]]) -> Iterator[list[tuple[Any, Reply]]]:
        left, going, source = iter(questions), list[tuple[Any, Question]](), random.Random(0)
        while True:
            while len(going) < self.places and (item := next(left, None)):
                going.append(item)
            self.busiest = max(self.busiest, len(going))
            if not going:
                return
            if self.fails_after is not None and len(self.asked) >= self.fails_after:
                raise self.error
            key, question = going.pop(source.randrange(len(going)))
            self.asked.append(question)
            yield [(key, self.answer(question))]
