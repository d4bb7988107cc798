"""A local checkpoint as judge: the probabilities of all answers, so nothing is drawn or parsed.

A score is the mean of the scale's scores weighted by the probability of each, written out as the
answer would be (compare G-Eval, arXiv 2303.16634). The same checkpoint gives the same score again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from psplit_eval.backends import Case
from psplit_eval.checkpoints import Checkpoint
from psplit_eval.errors import TemplateError
from psplit_eval.judges import Reply
from psplit_eval.rubrics import Question
from psplit_eval.thinking import Thinking

if TYPE_CHECKING:
    from psplit_eval.hf import HFBackend

__all__ = ["LocalJudge", "expected_value"]

T = TypeVar("T")

_TOGETHER = 16
_POLICY = "judge"


class LocalJudge:
    """Scores by a causal model in process.

    `detail` of a reply has of every dimension the probability of every answer (`weights`) and of
    all of them together (`mass`): how far the model wanted to answer in this form at all.
    """

    writes = by_name = False

    def __init__(self, name: str, checkpoint: Checkpoint, backend: HFBackend) -> None:
        """`name` is the judge's, such as hf:NAME."""
        self.name, self._checkpoint, self._backend = name, checkpoint, backend
        tokenizer = backend.tokenizer
        special = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        self.special = tuple(sorted(special, key=len, reverse=True))

    def describe(self) -> dict[str, Any]:
        found = self._backend.describe()
        identity = {
            "fingerprint": self._checkpoint.fingerprint,
            "dtype": found.get("dtype"),
            "chat_template": found.get("chat_template"),
        }
        return {"kind": "hf", "device": found.get("device"), "identity": identity}

    def expected_tokens(self, question: Question) -> tuple[float, float]:
        """The prompt's tokens; nothing is written."""
        return float(len(self._prompt(question))), 0.0

    def most_tokens(self, question: Question) -> tuple[float, float]:
        return self.expected_tokens(question)

    def ask(self, questions: Iterable[tuple[T, Question]]) -> Iterator[list[tuple[T, Reply]]]:
        items = iter(questions)
        while some := list(islice(items, _TOGETHER)):
            replies = self._replies([question for _, question in some])
            yield [(some[number][0], reply) for number, reply in replies]

    def _replies(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Those of one system message together: it is run once for all of them."""
        by_system: dict[str, list[int]] = {}
        for number, question in enumerate(questions):
            by_system.setdefault(question.system, []).append(number)
        for numbers in by_system.values():
            for place, reply in self._alike([questions[number] for number in numbers]):
                yield numbers[place], reply

    def _alike(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        asked = list(map(self._case, questions))
        found = self._backend.cross_score([case for case, _ in asked], lambda *_: None)
        for number, crossed in found:
            case, places = asked[number]
            bits = [crossed.surprisal(i, _POLICY) for i in range(len(case.responses))]
            yield number, _reply(case, places, bits)

    def _case(self, question: Question) -> tuple[Case, list[tuple[str, float, int]]]:
        """All answers to a question; of each its dimension, its value and where it begins."""
        responses, places = [], []
        for dimension in question.form.dimensions:
            stem, endings = question.form.answers(dimension)
            ids = [self._backend.encode(stem + ending) for ending in endings]
            shared = _common(ids)
            responses += ids
            places += [(dimension, value, shared) for value in endings.values()]
        return Case(responses, {_POLICY: self._prompt(question)}, ()), places

    def _prompt(self, question: Question) -> tuple[int, ...]:
        """The rubric as a system message; before the question where the template has none."""
        user = {"role": "user", "content": question.user}
        try:
            messages = [{"role": "system", "content": question.system}, user]
            text = self._backend.render(messages)
        except TemplateError:
            text = ""
        if question.system.strip()[:200] not in text:
            both = f"{question.system}\n\n{question.user}"
            text = self._backend.render([{"role": "user", "content": both}])
        thinking = Thinking()
        ended = f"\n{thinking.end}\n\n" if thinking.opens(text) else ""  # answers are no thoughts
        return self._backend.encode(text + ended)


def _common(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all begin with."""
    shared = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    return shared


def _reply(
    case: Case, places: Sequence[tuple[str, float, int]], bits: Sequence[np.ndarray[Any, Any]]
) -> Reply:
    by_dimension: dict[str, dict[float, float]] = {}
    for (dimension, value, shared), row in zip(places, bits, strict=True):
        by_dimension.setdefault(dimension, {})[value] = float(np.sum(row[shared:]))
    read = len(case.prompts[_POLICY])
    if not all(map(math.isfinite, (b for d in by_dimension.values() for b in d.values()))):
        reason = f"a prompt of {read} tokens, longer than the model's context"
        return Reply(None, unreadable=reason, prompt_tokens=read, completion_tokens=0)
    found = {name: expected_value(of_name) for name, of_name in by_dimension.items()}
    detail = {
        "mass": {name: mass for name, (_, mass, _) in found.items()},
        "weights": {name: weights for name, (_, _, weights) in found.items()},
    }
    verdict = {name: value for name, (value, _, _) in found.items()}
    return Reply(verdict, detail=detail, prompt_tokens=read, completion_tokens=0)


def expected_value(surprisals: Mapping[float, float]) -> tuple[float, float, list[float]]:
    """Mean of the values weighted by probability, the probability of all together, and weights.

    `surprisals`: value → bits of the answer that says it. Weights sum to 1.
    """
    bits = np.array(list(surprisals.values()))
    least = bits.min()
    relative = np.exp2(least - bits)
    weights = relative / relative.sum()
    mean = float(weights @ np.array(list(surprisals)))
    mass = min(1.0, float(np.exp2(-least) * relative.sum()))
    return mean, mass, [round(float(weight), 6) for weight in weights]
