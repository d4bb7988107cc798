"""Scorers: what a task measures on the samples of one doc.

A task's YAML names its scorer once, as lm-eval's `process_results`; psplit calls the same object
on stored samples. So an answer is extracted in one way, whoever runs the task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from psplit_eval.accuracy import (
    AnswerFormat,
    Grade,
    Votes,
    answer_classes,
    extract_answer,
    grade,
    pass_at_k,
)
from psplit_eval.store import Doc, Metric, Sample

__all__ = [
    "NOTHING",
    "AccuracyScorer",
    "Answers",
    "Array",
    "Chain",
    "Evidence",
    "MetricInfo",
    "Scorer",
    "Wanted",
    "Witnessed",
    "all_texts",
    "of_doc",
    "of_sample",
    "truncated_share",
]

Array = NDArray[np.float32]


class Chain(NamedTuple):
    """Pieces of one text, of each of which the surprisal is asked for, given all that is before it.

    `chat`: `before` is a user's message, and stands in the reference model's chat template.
    """

    before: str
    pieces: tuple[str, ...]
    chat: bool = False


@dataclass(frozen=True)
class MetricInfo:
    """What a metric's numbers are.

    `unit`: 'fraction' (in [0, 1]), 'bits', 'tokens', 'answers' (a count of them) or 'number'
    (nothing is known of its range).
    `higher_is_better` None: it has no better side. `needs_equal_samples`: it depends on how many
    samples a doc has, so that docs are comparable only where the numbers are equal. `taken_at`:
    metrics that say at what the doc's value was taken, and have to be equal, too.
    """

    unit: str
    higher_is_better: bool | None
    needs_equal_samples: bool = False
    taken_at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a scorer needs to know of a doc's samples: vectors of texts, surprisals of chains,
    vectors of single words."""

    texts: Sequence[str] = ()
    chains: Sequence[Chain] = ()
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a doc's samples beyond their text.

    `vectors`: text → its embedding of length 1; `surprisals`: chain → of every piece −log2 of the
    probability of its tokens; empty where the model for them is not at hand.
    `words`: word → its vector of length 1, or zeros. `others`: what the other modes said to the
    same doc. `usual_…`: they are of the models that psplit's fitted measures were fitted with.
    """

    vectors: Mapping[str, Array] = field(default_factory=dict)
    surprisals: Mapping[Chain, Sequence[Array]] = field(default_factory=dict)
    words: Mapping[str, Array] = field(default_factory=dict)
    others: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    usual_vectors: bool = True
    usual_surprisals: bool = True

    def embed(self, texts: Sequence[str]) -> Array | None:
        """One row a text (n × d); None where an embedding is not known."""
        if not texts or any(text not in self.vectors for text in texts):
            return None
        return np.stack([self.vectors[text] for text in texts])


NOTHING = Evidence()


@dataclass(frozen=True, slots=True)
class Answers:
    """A doc, the samples that every mode gave for it (none of them failed), and evidence."""

    doc: Doc
    by_mode: Mapping[str, Sequence[Sample]]
    evidence: Evidence = NOTHING

    def scored_by(self, scorer: Scorer) -> Iterator[Metric]:
        """The numbers of every mode."""
        for mode, samples in self.by_mode.items():
            others = {name: given for name, given in self.by_mode.items() if name != mode}
            yield from scorer.score(self.doc, samples, replace(self.evidence, others=others))


@runtime_checkable
class Scorer(Protocol):
    """Measures one doc; `primary` is the metric that a comparison is decided by."""

    @property
    def kind(self) -> str:
        """'accuracy', 'diversity' or 'lm-eval'."""

    @property
    def primary(self) -> str: ...

    @property
    def headline(self) -> tuple[str, ...]:
        """What a short table shows, in this order; empty: everything."""

    def fields(self) -> tuple[str, ...]:
        """Doc fields that scoring needs."""

    def info(self, metric: str) -> MetricInfo:
        """Unit and direction of one of its metrics."""

    def score(
        self, doc: Doc, samples: Sequence[Sample], evidence: Evidence = NOTHING
    ) -> Iterator[Metric]:
        """Metrics of the samples that one mode gave for one doc; none of them failed."""

    def to_dict(self) -> dict[str, Any]:
        """The form used in manifests."""


@runtime_checkable
class Witnessed(Scorer, Protocol):
    """A scorer that needs evidence."""

    def wanted(self, doc: Doc, by_mode: Mapping[str, Sequence[Sample]]) -> Wanted:
        """What it needs to know of the samples that every mode gave for one doc."""


@dataclass(frozen=True)
class AccuracyScorer:
    """Right or wrong, and what k samples make of it.

    Per sample `correct`; per doc `accuracy_avg`, `accuracy_pass_at_k`, `accuracy_maj_at_k` and
    `truncated`, all in [0, 1]. Both 'at k' are means over all subsets of k of the doc's n samples,
    so n may differ between arms and docs. Which k is one list for all, cut at n: a doc that lacks
    samples lacks some metrics and has none of its own. pass@k: every k to 16, then powers of two
    (they say as much, and each metric more costs exploratory comparisons power). maj@k: powers of
    two from 4 on (of two votes it is `accuracy_avg`, where both answer). A truncated answer is a
    wrong answer and has no vote. Also lm-eval's `process_results(doc, results)`.

    Where a question has several right answers there is no vote, and `accuracy_unique` is the number
    of different right answers among all n samples, in [0, n].
    """

    answer_format: AnswerFormat = field(default_factory=AnswerFormat)
    target: str = "answer"
    kind: str = field(default="accuracy", init=False)
    primary: str = field(default="accuracy_avg", init=False)
    headline: tuple[str, ...] = field(default=(), init=False)

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        grades = [self._grade(text, str(doc[self.target])) for text in all_texts(results)]
        unique = {"accuracy_unique": float(_unique(grades))} if self.several else {}
        return {"accuracy_avg": _share(grade.correct for grade in grades)} | unique

    @property
    def several(self) -> bool:
        """Whether a question has several right answers."""
        return self.answer_format.several

    def fields(self) -> tuple[str, ...]:
        return (self.target,)

    def info(self, metric: str) -> MetricInfo:
        if metric == "accuracy_unique":
            return MetricInfo("answers", True, needs_equal_samples=True)
        return MetricInfo("fraction", metric != "truncated")

    def score(
        self, doc: Doc, samples: Sequence[Sample], evidence: Evidence = NOTHING
    ) -> Iterator[Metric]:
        grades = [
            Grade(None, False, self.several)
            if sample.truncated
            else self._grade(sample.text or "", doc.target)
            for sample in samples
        ]
        for sample, found in zip(samples, grades, strict=True):
            yield of_sample(sample, "correct", float(found.correct))
        n, right = len(grades), sum(found.correct for found in grades)
        yield of_doc(samples, "accuracy_avg", right / n)
        for k in _steps(n, every_to=16):
            yield of_doc(samples, f"accuracy_pass_at_{k}", pass_at_k(n, right, k))
        yield from self._together(samples, grades)
        yield truncated_share(samples)

    def _together(self, samples: Sequence[Sample], grades: Sequence[Grade]) -> Iterator[Metric]:
        if self.several:
            yield of_doc(samples, "accuracy_unique", float(_unique(grades)))
            return
        votes = Votes.of(grades)
        for k in _steps(len(grades), first=4):
            yield of_doc(samples, f"accuracy_maj_at_{k}", votes.maj_at(k))

    def answer(self, sample: Sample) -> str | None:
        """What a sample answers; a truncated one nothing."""
        return None if sample.truncated else extract_answer(sample.text or "", self.answer_format)

    def _grade(self, text: str, target: str) -> Grade:
        return grade(text, target, self.answer_format)

    def to_dict(self) -> dict[str, Any]:
        answer = asdict(self.answer_format)
        if not self.several:  # as manifests were before there were checkers
            del answer["checker"]
        return {"kind": self.kind, "target": self.target, "answer": answer}


def _unique(grades: Sequence[Grade]) -> int:
    """Different right answers."""
    return len(set(answer_classes([vote for vote in grades if vote.correct])))


def _steps(n: int, first: int = 1, every_to: int = 1) -> list[int]:
    """From `first` to n: every number to `every_to`, then powers of two."""
    return [k for k in range(first, n + 1) if k <= every_to or not k & (k - 1)]


def all_texts(results: Sequence[Any]) -> list[str]:
    """The texts that lm-eval hands to `process_results`.

    lm-eval hands over one string, or the list that a filter kept of all repeats."""
    return [
        text for result in results for text in ([result] if isinstance(result, str) else result)
    ]


def _share(flags: Any) -> float:
    values = [bool(flag) for flag in flags]
    return sum(values) / len(values) if values else math.nan


def of_sample(sample: Sample, name: str, value: float) -> Metric:
    """A number of one sample."""
    return Metric(sample.mode, sample.task, sample.doc_id, sample.sample_idx, name, value)


def of_doc(samples: Sequence[Sample], name: str, value: float) -> Metric:
    """A number of all samples of a doc in one mode."""
    first = samples[0]
    return Metric(first.mode, first.task, first.doc_id, None, name, value)


def truncated_share(samples: Sequence[Sample]) -> Metric:
    """`truncated`: the share of samples that the token limit cut, in [0, 1].

    NaN where no sample's end is known (imported ones).
    """
    known = [sample.truncated for sample in samples if sample.finish_reason is not None]
    return of_doc(samples, "truncated", _share(known))
