"""What is measured of creative answers: how much a doc's samples differ, and how good they are.

One scorer for all forms of creative tasks; a form adds what only its answers have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psplit_eval.diversity import div_bleu, div_ngram, tokenise
from psplit_eval.errors import DataError
from psplit_eval.scoring import (
    NOTHING,
    Evidence,
    MetricInfo,
    Wanted,
    all_texts,
    of_doc,
    truncated_share,
)
from psplit_eval.store import Doc, Metric, Sample

__all__ = ["FORMS", "CreativityScorer"]

FORMS = ("story", "uses", "words", "open", "solve", "prompts")
"""What a task asks for; 'prompts' is anything."""

_INFO: Mapping[str, MetricInfo] = {
    "tokens_mean": MetricInfo("tokens", None),
    "truncated": MetricInfo("fraction", False),
    "div_bleu_4": MetricInfo("fraction", True, needs_equal_samples=True),
}


@dataclass(frozen=True)
class CreativityScorer:
    """How much the samples of one doc differ, and how good they are.

    Per doc `div_ngram_2` and `div_bleu_4` in [0, 1] (NaN where undefined, see `diversity`),
    `truncated` in [0, 1] and `tokens_mean`, the mean length in the model's own tokens. Also
    lm-eval's `process_results(doc, results)`.
    """

    form: str = "story"
    kind: str = field(default="diversity", init=False)
    primary: str = field(default="div_bleu_4", init=False)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise DataError(f"creative form {self.form!r}: expected one of {', '.join(FORMS)}")

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        return self._values(all_texts(results))

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        return _INFO.get(metric, MetricInfo("fraction", True))

    def wanted(self, doc: Doc, samples: Sequence[Sample]) -> Wanted:
        return Wanted()

    def score(
        self, doc: Doc, samples: Sequence[Sample], evidence: Evidence = NOTHING
    ) -> Iterator[Metric]:
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
        return {"kind": self.kind, "form": self.form}
