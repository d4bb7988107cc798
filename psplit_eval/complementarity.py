"""Do two modes solve different questions, and is a budget shared by both worth more?

All numbers are of k samples, whatever number n ≥ k was drawn: each is the mean over all subsets of
k, so it is unbiased, and numbers of modes with unlike n can be set beside each other. The two modes
answer independently given the question, so what is asked of both is a product.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from psplit_eval.accuracy import Grade, equivalent, pass_at_k
from psplit_eval.findings import Finding
from psplit_eval.stats import Difference, mean_estimate, paired_mean_difference

__all__ = ["Budget", "SolvedDoc", "complementary_findings", "distinct_right_at_k"]


@dataclass(frozen=True)
class Budget:
    """The graded samples of one mode for one doc."""

    grades: Sequence[Grade]

    @cached_property
    def right(self) -> int:
        return sum(grade.correct for grade in self.grades)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """How often every distinct right answer was given."""
        return tuple(Counter(_right_classes(self.grades)).values())

    def solved_at(self, k: int) -> float:
        """Chance that one of k is right; 0 for k = 0."""
        return pass_at_k(len(self.grades), self.right, k) if k else 0.0

    def distinct_at(self, k: int) -> float:
        """Expected number of distinct right answers among k."""
        return distinct_right_at_k(len(self.grades), self.classes, k)


@dataclass(frozen=True)
class SolvedDoc:
    """The graded samples of modes a and b for one doc."""

    doc_id: int
    a: Sequence[Grade]
    b: Sequence[Grade]


def distinct_right_at_k(n: int, classes: Sequence[int], k: int) -> float:
    """Expected number of distinct right answers among k of n samples, from 0 to k.

    Σ 1 − C(n − c, k) / C(n, k) over the right answers, each given c times: the mean over all
    subsets of k (rarefaction: Hurlbert 1971). NaN where k > n.
    """
    if k > n:
        return math.nan
    return math.fsum(pass_at_k(n, count, k) for count in classes) if k else 0.0


def _right_classes(grades: Sequence[Grade]) -> Iterator[int]:
    """Of every right answer the number of its class; equal ones are cheap."""
    firsts: list[str] = []
    known: dict[str, int] = {}
    for grade in grades:
        if not grade.correct or grade.answer is None:
            continue
        answer = grade.answer
        if answer not in known:
            same = (i for i, first in enumerate(firsts) if equivalent(first, answer))
            known[answer] = next(same, len(firsts))
            if known[answer] == len(firsts):
                firsts.append(answer)
        yield known[answer]


def complementary_findings(
    task: str, mode_a: str, mode_b: str, docs: Sequence[SolvedDoc]
) -> list[Finding]:
    """What each mode solves that the other does not, and what a mixed budget solves; over docs.

    At k = 1 and at K, the number of samples that most docs have in both modes; docs with fewer are
    left out, and said. Of `only_a_at_k` and so on: chances that k samples of a solve a doc and k of
    b do not. `best_mixed_at_K`: K / 2 samples of each mode, an odd one left out, at the cost of
    `best_a_at_K`, `best_b_at_K` in samples (not in tokens, where one mode writes longer). It has to
    beat both: the better of two is not known beforehand. `distinct_right_…` are numbers of distinct
    right answers, 1 at most where a question has one.
    """
    sizes = Counter(min(len(doc.a), len(doc.b)) for doc in docs)
    k = max(sizes, key=lambda size: (sizes[size], size), default=0)
    kept = [(Budget(doc.a), Budget(doc.b)) for doc in docs if min(len(doc.a), len(doc.b)) >= k]
    if not kept or not k:
        return []
    left = (
        f"{len(docs) - len(kept)} docs with fewer samples left out" if len(kept) < len(docs) else ""
    )
    made = _Findings((task, mode_a, mode_b), left, kept)
    found = [finding for size in dict.fromkeys([1, k]) for finding in made.solved(size)]
    return [*found, *made.distinct(k), *(made.mixed(k - k % 2) if k > 1 else [])]


_Number = Callable[[Budget, Budget], float]


@dataclass(frozen=True)
class _Findings:
    where: tuple[str, str, str]
    note: str
    docs: Sequence[tuple[Budget, Budget]]

    def solved(self, k: int) -> Iterator[Finding]:
        """Who solves a doc with k samples."""
        shares: dict[str, Callable[[float, float], float]] = {
            "only_a": lambda a, b: a * (1 - b),
            "only_b": lambda a, b: b * (1 - a),
            "both": lambda a, b: a * b,
            "neither": lambda a, b: (1 - a) * (1 - b),
        }
        for name, share in shares.items():
            chances = [share(a.solved_at(k), b.solved_at(k)) for a, b in self.docs]
            yield self._fraction(f"{name}_at_{k}", chances)

    def distinct(self, k: int) -> Iterator[Finding]:
        """Distinct right answers among k samples."""
        a = self._of(lambda a, b: a.distinct_at(k))
        b = self._of(lambda a, b: b.distinct_at(k))
        yield self._number(f"distinct_right_a_at_{k}", a)
        yield self._number(f"distinct_right_b_at_{k}", b)
        gap = paired_mean_difference(a, b)
        yield self._difference(f"distinct_right_gap_at_{k}", "answers", gap)

    def mixed(self, k: int) -> Iterator[Finding]:
        """Half of k samples of each mode, against k of one."""
        half = k // 2
        a = self._of(lambda a, b: a.solved_at(k))
        b = self._of(lambda a, b: b.solved_at(k))
        both = self._of(lambda a, b: 1 - (1 - a.solved_at(half)) * (1 - b.solved_at(half)))
        for name, values in (("a", a), ("b", b), ("mixed", both)):
            yield self._fraction(f"best_{name}_at_{k}", values)
        for name, values in (("a", a), ("b", b)):
            gap = paired_mean_difference(values, both, fraction=True)
            yield self._difference(f"mixed_less_{name}_at_{k}", "fraction", gap)

    def _of(self, number: _Number) -> list[float]:
        return [number(a, b) for a, b in self.docs]

    def _fraction(self, measure: str, values: Sequence[float]) -> Finding:
        estimate = mean_estimate(values, fraction=True)
        return Finding(*self.where, measure, "fraction", estimate, note=self.note)

    def _number(self, measure: str, values: Sequence[float]) -> Finding:
        estimate = mean_estimate(values)
        return Finding(*self.where, measure, "answers", estimate, note=self.note)

    def _difference(self, measure: str, unit: str, found: Difference) -> Finding:
        return Finding.of_difference(*self.where, measure, unit, found, self.note)
