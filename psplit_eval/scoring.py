"""Scorers: what a task measures on the samples of one doc.

A task's YAML names its scorer once, as lm-eval's `process_results`; psplit calls the same object
on stored samples. So an answer is extracted in one way, whoever runs the task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from psplit_eval.accuracy import AnswerFormat, Grade, grade, maj_at_k, pass_at_k
from psplit_eval.diversity import div_bleu, div_ngram, tokenise
from psplit_eval.errors import DataError
from psplit_eval.store import Doc, Metric, Sample

__all__ = [
    "AccuracyScorer",
    "DiversityScorer",
    "MetricInfo",
    "Scorer",
    "of_doc",
    "of_sample",
    "scorer_from_dict",
    "truncated_share",
]


@dataclass(frozen=True)
class MetricInfo:
    """What a metric's numbers are.

    `unit`: 'fraction' (in [0, 1]), 'bits', 'tokens' or 'number' (nothing is known of its range).
    `higher_is_better` None: it has no better side. `needs_equal_samples`: it depends on how many
    samples a doc has, so that docs are comparable only where the numbers are equal.
    """

    unit: str
    higher_is_better: bool | None
    needs_equal_samples: bool = False


_INFO: Mapping[str, MetricInfo] = {
    "tokens_mean": MetricInfo("tokens", None),
    "truncated": MetricInfo("fraction", False),
    "div_bleu_4": MetricInfo("fraction", True, needs_equal_samples=True),
}


@runtime_checkable
class Scorer(Protocol):
    """Measures one doc; `primary` is the metric that a comparison is decided by."""

    @property
    def kind(self) -> str:
        """'accuracy', 'diversity' or 'lm-eval'."""

    @property
    def primary(self) -> str: ...

    def fields(self) -> tuple[str, ...]:
        """Doc fields that scoring needs."""

    def info(self, metric: str) -> MetricInfo:
        """Unit and direction of one of its metrics."""

    def score(self, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        """Metrics of the samples that one mode gave for one doc; none of them failed."""

    def to_dict(self) -> dict[str, Any]:
        """The form used in manifests."""


@dataclass(frozen=True)
class AccuracyScorer:
    """Right or wrong, and what k samples make of it.

    Per sample `correct`; per doc `accuracy_avg`, `accuracy_pass_at_k` for every k up to the number
    of samples n, `accuracy_maj_at_n` and `truncated`, all in [0, 1]. A truncated answer is a wrong
    answer and has no vote. Also lm-eval's `process_results(doc, results)`.
    """

    answer_format: AnswerFormat = field(default_factory=AnswerFormat)
    target: str = "answer"
    kind: str = field(default="accuracy", init=False)
    primary: str = field(default="accuracy_avg", init=False)

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        grades = [self._grade(text, str(doc[self.target])) for text in _flat(results)]
        return {"accuracy_avg": _share(grade.correct for grade in grades)}

    def fields(self) -> tuple[str, ...]:
        return (self.target,)

    def info(self, metric: str) -> MetricInfo:
        return _INFO.get(metric, MetricInfo("fraction", True))

    def score(self, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        grades = [
            Grade(None, False) if sample.truncated else self._grade(sample.text or "", doc.target)
            for sample in samples
        ]
        for sample, found in zip(samples, grades, strict=True):
            yield of_sample(sample, "correct", float(found.correct))
        n, right = len(grades), sum(found.correct for found in grades)
        yield of_doc(samples, "accuracy_avg", right / n)
        for k in range(1, n + 1):
            yield of_doc(samples, f"accuracy_pass_at_{k}", pass_at_k(n, right, k))
        yield of_doc(samples, f"accuracy_maj_at_{n}", maj_at_k(grades))
        yield truncated_share(samples)

    def _grade(self, text: str, target: str) -> Grade:
        return grade(text, target, self.answer_format)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "target": self.target, "answer": asdict(self.answer_format)}


@dataclass(frozen=True)
class DiversityScorer:
    """How much the samples of one doc differ.

    Per doc `div_ngram_2` and `div_bleu_4` in [0, 1] (NaN where undefined, see `diversity`),
    `truncated` in [0, 1] and `tokens_mean`, the mean length in the model's own tokens.
    """

    kind: str = field(default="diversity", init=False)
    primary: str = field(default="div_bleu_4", init=False)

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        return self._values(_flat(results))

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        return _INFO.get(metric, MetricInfo("fraction", True))

    def score(self, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        for name, value in self._values([sample.text or "" for sample in samples]).items():
            yield of_doc(samples, name, value)
        yield truncated_share(samples)
        lengths = [s.completion_tokens for s in samples if s.completion_tokens is not None]
        if lengths:  # imported samples come without
            yield of_doc(samples, "tokens_mean", sum(lengths) / len(lengths))

    def _values(self, texts: Sequence[str]) -> dict[str, float]:
        tokens = [tokenise(text) for text in texts]
        return {"div_ngram_2": div_ngram(tokens, 2), "div_bleu_4": div_bleu(tokens, 4)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


def scorer_from_dict(content: Mapping[str, Any]) -> Scorer:
    """The scorer that a manifest describes; raises DataError for an unknown kind."""
    if content.get("kind") == "accuracy":
        return AccuracyScorer(AnswerFormat(**content["answer"]), content["target"])
    if content.get("kind") == "diversity":
        return DiversityScorer()
    raise DataError(
        f"scorer kind {content.get('kind')!r}: expected accuracy, diversity or lm-eval; use a "
        "newer psplit"
    )


def _flat(results: Sequence[Any]) -> list[str]:
    """lm-eval hands over one string, or the list that a filter kept of all repeats."""
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
