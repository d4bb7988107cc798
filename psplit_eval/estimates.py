"""Cross-scoring by engines that list the most probable tokens only: from lists to `Crossed`.

Every distinct response of a case is a question of its own under every policy. Answers come in any
order; a case is put together as soon as its last one is there. The numbers are lower bounds
(`logprobs`) but for the surprisal, which is exact: engines always list the token itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from psplit_eval.backends import Case, Crossed, Numbers
from psplit_eval.logprobs import TopTokens, divergence_bounds_bits, entropy_bounds_bits

__all__ = ["Estimates", "Given", "Question"]


@dataclass(frozen=True)
class Question:
    """A response to be scored under a policy: the numbers of its case and of the response there."""

    case: int
    policy: str
    response: int


@dataclass(frozen=True)
class Given:
    """Tokens of a response, and what is listed at each, the token itself included."""

    ids: tuple[int, ...]
    top: TopTokens


class Estimates:
    """What is to be asked about some cases, and what the answers come to.

    Responses that could not be scored under every policy have NaN rows: of as many columns as they
    have tokens, of one where that is not known. `lost` counts them by reason. `recut` counts those
    that were scored in other tokens than they were drawn in, their last one aside: it ended the
    response, so it may be no part of the text.
    """

    def __init__(self, cases: Sequence[Case], by_text: bool = False) -> None:
        """`by_text`: responses are scored as texts, not as token ids."""
        self.lost: Counter[str] = Counter()
        self.recut = 0
        self._cases = cases
        self._keys = [
            [_key(case, i, by_text) for i in range(len(case.responses))] for case in cases
        ]
        self._waiting: dict[int, set[Question]] = {}
        self._found: dict[Question, Given | Exception] = {}
        for number, case in enumerate(cases):
            firsts = {key: i for i, key in reversed([*enumerate(self._keys[number])]) if key}
            asked = {Question(number, name, i) for name in case.policies for i in firsts.values()}
            self._waiting[number] = asked

    def questions(self) -> Iterator[Question]:
        """All of them, case by case, so that few cases are open at once."""
        for number, case in enumerate(self._cases):
            order = {name: place for place, name in enumerate(case.policies)}
            yield from sorted(self._waiting[number], key=lambda q: (order[q.policy], q.response))

    def unasked(self) -> Iterator[tuple[int, Crossed]]:
        """Cases that there is nothing to ask about."""
        for number in [number for number, left in self._waiting.items() if not left]:
            yield number, self._crossed(number)

    def take(self, question: Question, found: Given | Exception) -> tuple[int, Crossed] | None:
        """Keep an answer, or why there is none; gives the case where this was its last."""
        self._found[question] = found
        self._waiting[question.case].discard(question)
        if self._waiting[question.case]:
            return None
        return question.case, self._crossed(question.case)

    def _crossed(self, number: int) -> Crossed:
        case = self._cases[number]
        known: dict[Hashable, Numbers] = {}
        for i, key in enumerate(self._keys[number]):
            if key not in known:
                known[key] = self._rows(number, i) if key else _undefined(case, 0)
        return Crossed(case.policies, case.pairs, [known[key] for key in self._keys[number]])

    def _rows(self, number: int, response: int) -> Numbers:
        case = self._cases[number]
        found = {name: self._found.pop(Question(number, name, response)) for name in case.policies}
        given = {name: each for name, each in found.items() if isinstance(each, Given)}
        reason = next((str(each) for each in found.values() if isinstance(each, Exception)), None)
        if reason is None and len({each.ids for each in given.values()}) > 1:
            reason = "its tokens are others after the prompt of another mode"
        drawn = case.responses[response]
        if reason is not None:
            self.lost[reason] += 1
            return _undefined(case, len(drawn) or 1)
        ids = next(iter(given.values())).ids
        self.recut += bool(drawn) and ids not in (drawn, drawn[:-1])
        return _rows(case, ids, {name: each.top for name, each in given.items()})


def _key(case: Case, response: int, by_text: bool) -> Hashable:
    """Equal for responses that are one question; falsy where there is nothing to score."""
    if not by_text:
        return case.responses[response]
    return case.texts[response] and (case.texts[response], case.responses[response])


def _undefined(case: Case, tokens: int) -> Numbers:
    return np.full((2 * len(case.policies) + 3 * len(case.pairs), tokens), np.nan)


def _rows(case: Case, ids: Sequence[int], tops: Mapping[str, TopTokens]) -> Numbers:
    """One of `Crossed.rows`."""
    entropy = [entropy_bounds_bits(tops[name]) for name in case.policies]
    surprisal = [-tops[name].of_tokens(ids) / math.log(2) for name in case.policies]
    between = [divergence_bounds_bits(tops[a], tops[b]) for a, b in case.pairs]
    parts = [*entropy, *surprisal, *(found[i] for i in range(3) for found in between)]
    return np.maximum(np.stack(parts), 0.0)  # −0 and what rounding leaves of a sure token
