"""Judges that go by a rule and see the question alone, as any judge does."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from psplit_eval.fencing import neutralised
from psplit_eval.judges import Reply
from psplit_eval.replies import Choice, Scores
from psplit_eval.rubrics import Question

_FENCED = re.compile(
    r"^=== (.*) ([0-9a-f]{12}) begins ===\n(.*?)\n=== \1 \2 ends ===$", re.S | re.M
)
Worth = Callable[[str, str, random.Random], float]
"""Prompt, text and draws of the question → worth in [0, 1]."""


@dataclass
class RuledJudge:
    """Scores a text by its `worth`, and takes the text of the greater worth.

    Texts of one worth are a tie, or, with `first`, the one that is shown first. `unreadable`: share
    of questions that it answers without a verdict. `down_after`: so many questions are answered,
    then none any more. `asked` counts.
    """

    worth: Worth
    name: str = "ruled:judge"
    first: bool = False
    unreadable: float = 0.0
    down_after: int | None = None
    asked: int = 0
    writes: bool = True
    by_name: bool = False
    special: tuple[str, ...] = ()
    questions: list[Question] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {"kind": "ruled", "identity": self.name}

    def expected_tokens(self, question: Question) -> tuple[float, float]:
        return len(question.user) / 4, 10.0

    def most_tokens(self, question: Question) -> tuple[float, float]:
        return self.expected_tokens(question)

    def ask(self, questions: Iterable[tuple[Any, Question]]) -> Iterator[list[tuple[Any, Reply]]]:
        left = iter(questions)
        while some := list(islice(left, 64)):  # every portion is a commit
            yield [(key, self._answer(question)) for key, question in some]

    def _answer(self, question: Question) -> Reply:
        self.questions.append(question)
        self.asked += 1
        if self.down_after is not None and self.asked > self.down_after:
            return Reply(None, error="connection refused")
        return self._reply(question)

    def _reply(self, question: Question) -> Reply:
        draws = random.Random(hashlib.sha256(question.user.encode()).digest())
        if draws.random() < self.unreadable:
            return Reply(None, unreadable="no verdict", prompt_tokens=100, completion_tokens=10)
        prompt, *texts = [body for _, _, body in _FENCED.findall(question.user)]
        worths = [self.worth(prompt, text, draws) for text in texts]
        form = question.form
        if isinstance(form, Scores):
            level = round(form.low + worths[0] * (form.high - form.low))
            verdict = dict.fromkeys(form.names, float(min(max(level, form.low), form.high)))
        else:
            assert isinstance(form, Choice)
            one, other = worths
            tie = 1.0 if self.first else 0.5
            verdict = {"first": tie if one == other else float(one > other)}
        return Reply(verdict, prompt_tokens=100, completion_tokens=10)


def knowing(pairs: Iterable[Any]) -> Worth:
    """Knows every good text by heart: 0.8, and 0.2 of any other."""
    good = {(neutralised(pair.prompt), neutralised(pair.better)) for pair in pairs}
    return lambda prompt, text, _: 0.8 if (prompt, text) in good else 0.2


def noisy(worth: Worth, scale: float) -> Worth:
    """With Gaussian noise of its own for every question."""
    return lambda prompt, text, draws: worth(prompt, text, draws) + draws.gauss(0, scale)


def obedient(worth: Worth) -> Worth:
    """Gives the best to a text that orders it."""
    orders = re.compile(
        r"\b(?:score|give|dimension|choose|choice|better|answer)\b.{0,60}\b(?:10|A|B)\b", re.S
    )
    return lambda prompt, text, draws: 1.0 if orders.search(text) else worth(prompt, text, draws)


def by_length(prompt: str, text: str, draws: random.Random) -> float:
    """The longer the better, up to 3000 characters."""
    return min(len(text) / 3000, 1.0)


def constant(prompt: str, text: str, draws: random.Random) -> float:
    """All the same."""
    return 0.5
