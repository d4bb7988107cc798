"""Do two modes solve different questions? What one adds to the other, and what a mixed budget does.

For tasks whose samples are right or wrong. Given a doc, samples are independent, so a product of
an unbiased estimate of one mode and one of the other is unbiased, too: all that follows is made of
pass@k (Chen et al. 2021, Eq. 1) of each mode on each doc, then averaged over docs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from psplit_eval.accuracy import Grade, answer_classes, answer_groups, pass_at_k
from psplit_eval.findings import Finding
from psplit_eval.resampling import Array
from psplit_eval.scoring import AccuracyScorer, Scorer
from psplit_eval.stats import (
    MINIMUM_DOCS,
    Estimate,
    mean_estimate,
    paired_mean_difference,
    ratio_estimate,
)
from psplit_eval.store import Doc, Sample, Store

__all__ = ["DocSolutions", "Solutions", "complementary_findings", "doc_solutions"]


@dataclass(frozen=True)
class Solutions:
    """What one mode made of one doc.

    `right` of `samples` are right; a truncated one is wrong wherever psplit's own scorer grades.
    `answers`: how many right samples gave each of the doc's right answers, in an order that both
    modes share (None: not known, or there is one right answer only). `tokens`: mean tokens of a
    sample (NaN: not known). Raises ValueError for counts that cannot be.
    """

    samples: int
    right: int
    answers: tuple[int, ...] | None = None
    tokens: float = math.nan

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.samples:
            raise ValueError(f"{self.right} right of {self.samples}: expected 0 to all of them")
        if self.answers is not None and (
            min(self.answers, default=0) < 0 or sum(self.answers) != self.right
        ):
            raise ValueError(f"answers {self.answers}: expected counts that sum to {self.right}")


@dataclass(frozen=True)
class DocSolutions:
    """What modes a and b made of one doc; ValueError for right answers that do not match up."""

    doc_id: int
    a: Solutions
    b: Solutions

    def __post_init__(self) -> None:
        if self.answers_known and len(self.a.answers or ()) != len(self.b.answers or ()):
            raise ValueError(f"doc {self.doc_id}: expected the same right answers in both modes")

    @property
    def answers_known(self) -> bool:
        """Whether it is known which right answers were given."""
        return self.a.answers is not None and self.b.answers is not None

    @property
    def both(self) -> int:
        """Samples that both modes have."""
        return min(self.a.samples, self.b.samples)


def complementary_findings(
    task: str, mode_a: str, mode_b: str, docs: Sequence[DocSolutions]
) -> list[Finding]:
    """What two modes solve apart and together; [] without docs.

    Every number is a mean over docs, a sample of a population of them, with its 95 % interval
    (`stats.mean_estimate`); a doc counts where both modes have the samples that a number needs, and
    the note says how many do not. k is 1 and the largest that nine docs in ten have in both modes
    (for mixed budgets: 2 and the largest even one). In the order of the list:

    - `seen_only_a`, `seen_only_b`, `seen_both`, `seen_neither`: docs by which mode solved them in
      any of its samples, counted as seen. More samples solve more, so it estimates nothing.
    - `only_a_at_k`, `only_b_at_k`, `both_at_k`, `either_at_k`, `neither_at_k`, in [0, 1]: the
      chance that one of k samples of a is right and none of k of b, and so on. Luck is part of it:
      of two times k samples of one mode, too, one may solve what the other does not. What b adds
      to a beyond that is `mixed_less_a_at_2k`, which is only_b_at_k − (pass_a@2k − pass_a@k).
    - `distinct_right_…_at_k`, in [0, k]: expected number of different right answers among k
      samples, of a and of b; b − a (paired test) and b / a (NaN where a has none); of k / 2 of each
      (`mixed`), and that less a's and b's. Unbiased: Σ over answers of
      1 − C(n − n_answer, k) / C(n, k). Only where all docs have `answers`; with one right answer
      a doc it is pass@k.
    - `pass_a_at_k`, `pass_b_at_k`, `pass_mixed_at_k`, in [0, 1]: one of k samples is right, of a,
      of b, of k / 2 of each; `mixed_less_a_at_k` and `mixed_less_b_at_k` in [−1, 1] with a paired
      test. Mixing pays where it beats the better mode. Which one that is, is seen in the same
      docs, and the larger of two estimates is optimistic: so both differences are given, and
      'mixed beats both' needs both (its p is the larger one: intersection–union).
    - `tokens_per_sample_…` of a, of b, b − a and b / a: equal numbers of samples are not equal
      cost. Docs as far as tokens are known.

    p are not adjusted: see `findings.adjusted`. Where a number or its interval is undefined (NaN)
    the note says why.
    """
    if not docs:
        return []
    known = _Between(task, mode_a, mode_b, docs)
    largest = _common(docs)
    singles, evens = sorted({1, max(1, largest)}), sorted({2, max(2, largest // 2 * 2)})
    found = [*_seen(known)]
    for k in singles:
        found += _apart(known, k)
    if all(doc.answers_known for doc in docs):
        for k in singles:
            found += _distinct(known, k)
        for k in evens:
            found += _distinct_mixed(known, k)
    for k in evens:
        found += _mixed(known, k)
    return [*found, *_cost(known)]


def _common(docs: Sequence[DocSolutions]) -> int:
    """The largest number of samples that nine docs in ten have in both modes; 0 if none has any."""
    numbers = sorted(doc.both for doc in docs if doc.both)
    return numbers[len(numbers) // 10] if numbers else 0


class _Between:
    """All docs of one task under two modes, and findings made of numbers over some of them."""

    def __init__(self, task: str, a: str, b: str, docs: Sequence[DocSolutions]) -> None:
        self.names = (task, a, b)
        self.docs = docs

    def enough(self, k: int) -> list[DocSolutions]:
        return [doc for doc in self.docs if doc.both >= k]

    def mean(
        self, measure: str, unit: str, values: Array, most: float = math.inf, note: str = ""
    ) -> Finding:
        """The mean of values in [0, most]."""
        scale = most if math.isfinite(most) else 1.0
        found = mean_estimate(values / scale, fraction=math.isfinite(most))
        return self._finding(measure, unit, _scaled(found, scale), note=note)

    def difference(
        self,
        measure: str,
        unit: str,
        arms: tuple[Array, Array],
        most: float = math.inf,
        note: str = "",
        tested: bool = True,
    ) -> Finding:
        """The mean of the second arm less that of the first; both in [0, most]."""
        scale = most if math.isfinite(most) else 1.0
        found = paired_mean_difference(
            arms[0] / scale, arms[1] / scale, fraction=math.isfinite(most)
        )
        gap = Estimate(found.difference, found.ci_low, found.ci_high, found.n)
        # what no doc can tell is no member of the family of tests
        test = found.test if tested and found.n else ""
        p = found.p if test else math.nan
        return self._finding(measure, unit, _scaled(gap, scale), p, test, note)

    def ratio(self, measure: str, arms: tuple[Array, Array], note: str) -> Finding:
        """The mean of the second arm over that of the first."""
        return self._finding(measure, "ratio", ratio_estimate(arms[1], arms[0]), note=note)

    def _finding(
        self,
        measure: str,
        unit: str,
        estimate: Estimate,
        p: float = math.nan,
        test: str = "",
        note: str = "",
    ) -> Finding:
        dropped = len(self.docs) - estimate.n
        parts = [note, f"{dropped} of {len(self.docs)} docs lack what it needs" if dropped else ""]
        parts.append(_undefined(estimate))
        return Finding(
            *self.names, measure, unit, estimate, p, test, "; ".join(filter(None, parts))
        )


def _scaled(estimate: Estimate, by: float) -> Estimate:
    low, high = estimate.ci_low * by, estimate.ci_high * by
    return Estimate(estimate.value * by, low, high, estimate.n)


def _undefined(estimate: Estimate) -> str:
    if not estimate.n:
        return "undefined: no doc has it"
    if math.isnan(estimate.value):
        return "undefined: the mode that it is divided by has 0"
    if not math.isnan(estimate.ci_low):
        return ""
    if estimate.n < MINIMUM_DOCS:
        return f"no interval of fewer than {MINIMUM_DOCS} docs"
    return "no interval: all docs are alike, in a unit without a range"


def _seen(known: _Between) -> Iterator[Finding]:
    docs = known.enough(1)
    solved = [(doc.a.right > 0, doc.b.right > 0) for doc in docs]
    note = f"as seen in all samples ({_numbers(docs)}), a count of these docs without an interval"
    note += "; unequal numbers of samples favour a mode" if _unequal(docs) else ""
    note = note if docs else "undefined: no doc has samples of both modes"
    kinds = {"only_a": (True, False), "only_b": (False, True), "both": (True, True)}
    for kind, pattern in {**kinds, "neither": (False, False)}.items():
        value = float(solved.count(pattern)) if docs else math.nan
        count = Estimate(value, math.nan, math.nan, len(docs))
        yield Finding(*known.names, f"seen_{kind}", "docs", count, note=note)


def _numbers(docs: Sequence[DocSolutions]) -> str:
    sides = [[doc.a.samples for doc in docs], [doc.b.samples for doc in docs]]
    spans = [sorted({min(side, default=0), max(side, default=0)}) for side in sides]
    of_a, of_b = (" to ".join(map(str, span)) for span in spans)
    return f"a doc {of_a} of a, {of_b} of b"


def _unequal(docs: Sequence[DocSolutions]) -> bool:
    return any(doc.a.samples != doc.b.samples for doc in docs)


def _passes(docs: Sequence[DocSolutions], k: int) -> tuple[Array, Array]:
    """pass@k of a and of b (docs,) each."""
    a = [pass_at_k(doc.a.samples, doc.a.right, k) for doc in docs]
    b = [pass_at_k(doc.b.samples, doc.b.right, k) for doc in docs]
    return np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)


def _apart(known: _Between, k: int) -> Iterator[Finding]:
    a, b = _passes(known.enough(k), k)
    shares = {
        "only_a": a * (1 - b),
        "only_b": b * (1 - a),
        "both": a * b,
        "either": 1 - (1 - a) * (1 - b),
        "neither": (1 - a) * (1 - b),
    }
    note = f"k = {k} samples of each mode, so {2 * k} in all"
    for kind, values in shares.items():
        yield known.mean(f"{kind}_at_{k}", "fraction", values, 1.0, note)


def _distinct(known: _Between, k: int) -> Iterator[Finding]:
    arms = _kinds(known.enough(k), k)[:2]
    note, most = f"k = {k} samples of each mode", float(k)
    yield known.mean(f"distinct_right_a_at_{k}", "answers", arms[0], most, note)
    yield known.mean(f"distinct_right_b_at_{k}", "answers", arms[1], most, note)
    yield known.difference(f"distinct_right_difference_at_{k}", "answers", arms, most, note)
    yield known.ratio(f"distinct_right_ratio_at_{k}", arms, note)


def _distinct_mixed(known: _Between, k: int) -> Iterator[Finding]:
    docs = known.enough(k)
    mixed, singles = _kinds(docs, k // 2)[2], _kinds(docs, k)[:2]
    note, most, name = _cost_note(known, k), float(k), "distinct_right_mixed"
    yield known.mean(f"{name}_at_{k}", "answers", mixed, most, note)
    for kind, single in zip("ab", singles, strict=True):
        arms = single, mixed
        yield known.difference(f"{name}_less_{kind}_at_{k}", "answers", arms, most, note)


def _kinds(docs: Sequence[DocSolutions], k: int) -> tuple[Array, Array, Array]:
    """Expected distinct right answers in k samples of a, in k of b, in both together; (docs,)."""
    rows = []
    for doc in docs:
        a = _chances(doc.a, k)
        b = _chances(doc.b, k)
        rows.append((a.sum(), b.sum(), (1 - (1 - a) * (1 - b)).sum()))
    of_a, of_b, of_both = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return of_a, of_b, of_both


def _chances(given: Solutions, k: int) -> Array:
    """Of every right answer the chance that it is among k samples (answers,)."""
    chances = [pass_at_k(given.samples, count, k) for count in given.answers or ()]
    return np.array(chances, dtype=np.float64)


def _mixed(known: _Between, k: int) -> Iterator[Finding]:
    docs = known.enough(k)
    (half_a, half_b), (a, b) = _passes(docs, k // 2), _passes(docs, k)
    mixed = 1 - (1 - half_a) * (1 - half_b)
    note = _cost_note(known, k)
    for kind, values in {"a": a, "b": b, "mixed": mixed}.items():
        yield known.mean(f"pass_{kind}_at_{k}", "fraction", values, 1.0, note)
    for kind, single in {"a": a, "b": b}.items():
        arms = single, mixed
        yield known.difference(f"mixed_less_{kind}_at_{k}", "fraction", arms, 1.0, note)


def _cost_note(known: _Between, k: int) -> str:
    equal = f"k = {k} samples each; mixed: {k // 2} of a and {k // 2} of b"
    tokens = _tokens(known)
    if not len(tokens[0]):
        return f"{equal}; tokens a sample are not known"
    a, b = (float(side.mean()) for side in tokens)
    return f"{equal}; equal samples, not equal tokens: {a:.4g} a sample in a, {b:.4g} in b"


def _tokens(known: _Between) -> tuple[Array, Array]:
    """Mean tokens a sample of a and of b, of the docs where both are known; (docs,) each."""
    pairs = [(doc.a.tokens, doc.b.tokens) for doc in known.docs]
    kept = [pair for pair in pairs if not math.isnan(sum(pair))]
    rows = np.array(kept, dtype=np.float64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _cost(known: _Between) -> Iterator[Finding]:
    arms, note = _tokens(known), "tokens of a mean sample of a doc, truncated ones included"
    yield known.mean("tokens_per_sample_a", "tokens", arms[0], note=note)
    yield known.mean("tokens_per_sample_b", "tokens", arms[1], note=note)
    name = "tokens_per_sample_difference"
    yield known.difference(name, "tokens", arms, note=note, tested=False)
    yield known.ratio("tokens_per_sample_ratio", arms, note)


def doc_solutions(
    store: Store,
    scorer: Scorer,
    task: str,
    mode_a: str,
    mode_b: str,
    answer: Callable[[Doc, Sample], str] | None = None,
) -> list[DocSolutions]:
    """What the store says of every doc that both modes have graded samples of, by doc id.

    [] where single samples are not right or wrong: creative tasks, given answers that were scored
    (multiple choice), lm-eval's votes and graded scores. psplit's own scorer counts truncated
    samples as wrong; lm-eval's metrics take them as they are. Failed samples are left out.

    `answer` says what a right sample answers, for tasks with several right answers to a question;
    answers that mean the same count once (`accuracy.answer_groups`), over both modes. Without it
    `answers` is None, but of psplit's accuracy tasks: there a sample is right where it means the
    one reference answer, so all right samples are one class; and where a question has several
    right answers (`AccuracyScorer.several`), every text is one, spaces aside.
    """
    several = isinstance(scorer, AccuracyScorer) and scorer.several
    if isinstance(scorer, AccuracyScorer) and several and answer is None:
        answer = partial(_stated, scorer)
    metric = "correct" if scorer.kind == "accuracy" else scorer.primary
    graded = [_graded(store, scorer, task, mode, metric) for mode in (mode_a, mode_b)]
    tokens = [_tokens_a_sample(store, task, mode) for mode in (mode_a, mode_b)]
    shared = sorted(graded[0].keys() & graded[1].keys())
    given = _right_answers(store, task, (mode_a, mode_b), metric, answer) if answer else {}
    classes = {doc_id: _counts(*both, several=several) for doc_id, both in given.items()}

    def side(arm: int, doc_id: int) -> Solutions:
        samples, right = graded[arm][doc_id]
        known = classes.get(doc_id, ((), ()))[arm] if answer else None
        if answer is None and scorer.kind == "accuracy":
            known = (right,)  # right samples mean the one reference answer
        return Solutions(samples, right, known, tokens[arm].get(doc_id, math.nan))

    return [DocSolutions(doc_id, side(0, doc_id), side(1, doc_id)) for doc_id in shared]


def _graded(
    store: Store, scorer: Scorer, task: str, mode: str, metric: str
) -> Mapping[int, tuple[int, int]]:
    """doc_id → (samples, right ones); {} where values are not all 0 or 1."""
    found = store.moments(task, mode).get(metric, {})
    if scorer.info(metric).unit != "fraction":
        return {}
    if any(m.total != m.squares or not float(m.total).is_integer() for m in found.values()):
        return {}
    return {doc_id: (m.number, int(m.total)) for doc_id, m in found.items()}


def _tokens_a_sample(store: Store, task: str, mode: str) -> Mapping[int, float]:
    numbers: dict[int, list[int]] = defaultdict(list)
    for outcome in store.outcomes(task, mode):
        if outcome.good and outcome.completion_tokens is not None:
            numbers[outcome.doc_id].append(outcome.completion_tokens)
    return {doc_id: fmean(tokens) for doc_id, tokens in numbers.items()}


def _stated(scorer: AccuracyScorer, _: Doc, sample: Sample) -> str:
    return scorer.answer(sample) or ""


def _right_answers(
    store: Store,
    task: str,
    modes: tuple[str, str],
    metric: str,
    answer: Callable[[Doc, Sample], str],
) -> Mapping[int, tuple[list[str], list[str]]]:
    """doc_id → what the right samples answered in a, and in b."""
    docs = {doc.doc_id: doc for doc in store.docs(task)}
    given: dict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for arm, mode in enumerate(modes):
        right = {
            (m.doc_id, m.sample_idx)
            for m in store.metrics(task, mode)
            if m.metric == metric and m.sample_idx is not None and m.value == 1
        }
        for sample in store.samples(task, mode, ids=False):
            if (sample.doc_id, sample.sample_idx) in right:
                given[sample.doc_id][arm].append(answer(docs[sample.doc_id], sample))
    return given


def _counts(
    a: Sequence[str], b: Sequence[str], several: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How often each right answer was given in a, and in b."""
    known = [Grade(text, True, several) for text in (*a, *b)]
    groups = answer_classes(known) if several else answer_groups([*a, *b])
    numbers = range(max((group or 0 for group in groups), default=-1) + 1)
    of_a, of_b = groups[: len(a)], groups[len(a) :]
    return tuple(map(of_a.count, numbers)), tuple(map(of_b.count, numbers))
