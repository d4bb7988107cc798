"""What is measured of creative answers: how much a doc's samples differ, and how good they are.

One scorer for all forms of creative tasks; a form adds what only its answers have. What needs a
model (embeddings, surprisals) is left out where the evidence has none. docs/metrics.md lists all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from psplit_eval import diversity, semantic, syntactic
from psplit_eval.errors import DataError
from psplit_eval.quality import Quality, effective_diversity, passes, passing_share, quality
from psplit_eval.richness import hd_d, mtld
from psplit_eval.scoring import (
    NOTHING,
    Array,
    Chain,
    Evidence,
    MetricInfo,
    Wanted,
    all_texts,
    of_doc,
    of_sample,
    truncated_share,
)
from psplit_eval.store import Doc, Metric, Sample

__all__ = ["FORMS", "CreativityScorer"]

_VOCABULARY = 50_000
"""Different words that expectation-adjusted distinct reckons with."""
_CUT = "_cut"
"""Marks a value at equal length: of the first tokens that most samples of all modes have."""
_OVERLAP = "ngram_overlap_2_with_"
_HEADLINE = (
    *("div_bleu_4", "semantic_dispersion", "quality", "passing", "effective_dispersion"),
    *("tokens_mean", "truncated", "entropy_bits", "entropy_bits_estimate"),
)
"""Diversity never without quality, nor without length."""

_HIGHER, _LOWER = MetricInfo("fraction", True), MetricInfo("fraction", False)
_INFO: Mapping[str, MetricInfo] = {
    "div_bleu_4": MetricInfo("fraction", True, needs_equal_samples=True),
    "distinct_2": MetricInfo("fraction", True, needs_equal_samples=True),
    "ead_1": MetricInfo("number", True, needs_equal_samples=True),
    "self_repetition_4": MetricInfo("number", False, needs_equal_samples=True),
    "compression_ratio": MetricInfo("number", False, needs_equal_samples=True),
    "mtld": MetricInfo("tokens", True),
    "pos_compression_ratio": MetricInfo("number", False, needs_equal_samples=True),
    "pos_templates": MetricInfo("fraction", False, needs_equal_samples=True),
    "semantic_dispersion": MetricInfo("number", True),
    "effective_dispersion": MetricInfo("number", True),
    "vendi": MetricInfo("number", True, needs_equal_samples=True),
    "fluency_bits": MetricInfo("bits", None),
    "tokens_mean": MetricInfo("tokens", None),
    "cut_tokens": MetricInfo("tokens", None),
    "truncated": _LOWER,
}

Values = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class _Form:
    """What a task asks for: its deciding metric, and parts of quality that say nothing of it."""

    primary: str
    without: tuple[str, ...] = ()


FORMS: Mapping[str, _Form] = {
    "story": _Form("div_bleu_4"),
    "uses": _Form("div_bleu_4"),
    "words": _Form("div_bleu_4", without=("fluency", "predictability", "on_topic")),
    "open": _Form("div_bleu_4"),
    "solve": _Form("div_bleu_4"),
    "prompts": _Form("div_bleu_4"),
}
"""By name; 'prompts' is anything."""


@dataclass(frozen=True)
class CreativityScorer:
    """How much the samples of one doc differ, and how good they are.

    `prompt` is the task's template of the user's message (Jinja, over the doc's fields); quality
    asks whether an answer fits it. Per doc the metrics of docs/metrics.md, NaN where undefined; per
    sample `quality`. Also lm-eval's `process_results(doc, results)`, with the lexical metrics.
    """

    form: str = "story"
    prompt: str = ""
    kind: str = field(default="diversity", init=False)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise DataError(f"creative form {self.form!r}: expected one of {', '.join(FORMS)}")

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        return dict(_lexical([diversity.tokenise(text) for text in all_texts(results)]))

    @property
    def primary(self) -> str:
        return FORMS[self.form].primary

    @property
    def headline(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.primary, *_HEADLINE]))

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        if metric.startswith(_OVERLAP):
            return MetricInfo("fraction", None, needs_equal_samples=True)
        return _INFO.get(metric.removesuffix(_CUT), _HIGHER)

    def wanted(self, doc: Doc, by_mode: Mapping[str, Sequence[Sample]]) -> Wanted:
        """Embeddings of the prompt, of texts and of their equal beginnings; surprisals of texts."""
        prompt = self._prompt(doc)
        said = [sample.text or "" for samples in by_mode.values() for sample in samples]
        texts = [text for text in said if text.strip()]
        tokens = [_tokens(samples) for samples in by_mode.values()]
        length = diversity.equal_length(*tokens)
        cut = [text for of_mode in tokens for text in _beginnings(of_mode, length)]
        chains = [_answer(prompt, text) for text in texts]
        return Wanted([*([prompt] if prompt else []), *texts, *cut], chains)

    def score(
        self, doc: Doc, samples: Sequence[Sample], evidence: Evidence = NOTHING
    ) -> Iterator[Metric]:
        answers = _Answers(FORMS[self.form], self._prompt(doc), samples, evidence)
        for sample, found in zip(samples, answers.qualities, strict=True):
            yield of_sample(sample, "quality", found.value)
        for name, value in answers.values():
            yield of_doc(samples, name, value)
        yield truncated_share(samples)

    def _prompt(self, doc: Doc) -> str:
        """Empty where it is not known: a task may make it by code, an import may lack fields."""
        try:
            template = jinja2.Template(self.prompt, undefined=jinja2.StrictUndefined)
            return str(template.render(doc.doc))
        except jinja2.TemplateError:
            return ""

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "form": self.form, "prompt": self.prompt}


class _Answers:
    """The samples of a doc in one mode, and what is known of them."""

    def __init__(
        self, form: _Form, prompt: str, samples: Sequence[Sample], evidence: Evidence
    ) -> None:
        self.form, self.prompt, self.samples, self.evidence = form, prompt, samples, evidence
        self.texts = [sample.text or "" for sample in samples]
        self.tokens = _tokens(samples)

    def values(self) -> Values:
        """Every number of the doc: diversity beside quality, raw and at equal length."""
        yield from _lexical(self.tokens)
        yield from _richness(self.tokens)
        yield from _syntactic(self.texts)
        yield from self._overlaps()
        yield from self._semantic()
        yield from self._quality()
        yield from self._at_equal_length()
        lengths = [s.completion_tokens for s in self.samples if s.completion_tokens is not None]
        if lengths:  # imported samples come without
            yield "tokens_mean", fmean(lengths)

    @cached_property
    def qualities(self) -> list[Quality]:
        return [
            quality(
                text,
                self.prompt,
                self._bits(text),
                self._cosine(text),
                sample.truncated,
                self.form.without,
            )
            for text, sample in zip(self.texts, self.samples, strict=True)
        ]

    def _bits(self, text: str) -> Array:
        pieces = self.evidence.surprisals.get(_answer(self.prompt, text))
        return pieces[0] if pieces else np.zeros(0, np.float32)

    def _cosine(self, text: str) -> float:
        both = self.evidence.embed([text, self.prompt]) if text.strip() and self.prompt else None
        return math.nan if both is None else float(both[0] @ both[1])

    def _overlaps(self) -> Values:
        for mode, samples in self.evidence.others.items():
            yield f"{_OVERLAP}{mode}", diversity.ngram_overlap(self.tokens, _tokens(samples), 2)

    def _semantic(self) -> Values:
        vectors = self.evidence.embed([text for text in self.texts if text.strip()])
        if vectors is None:
            return
        yield "semantic_dispersion", semantic.mean_pairwise_distance(vectors)
        yield "vendi", semantic.vendi_score(vectors)
        passing = [passes(found.value) for found in self.qualities]
        yield "effective_dispersion", effective_diversity(self._distances(vectors), passing)

    def _distances(self, vectors: Array) -> NDArray[np.float64]:
        """(k, k) over all samples; those without words, which have no vector, never pass."""
        rows = np.zeros((len(self.texts), vectors.shape[1]))
        rows[[bool(text.strip()) for text in self.texts]] = vectors
        return np.clip(1.0 - rows @ rows.T, 0.0, 2.0)

    def _quality(self) -> Values:
        values = [found.value for found in self.qualities]
        yield "quality", _mean(values)
        yield "passing", passing_share(values)
        for part in self.qualities[0].parts:
            yield f"quality_{part}", _mean(found.parts[part] for found in self.qualities)
        bits = [self._bits(text) for text in self.texts]
        if any(len(each) for each in bits):
            yield "fluency_bits", _mean(each.mean() for each in bits if len(each))

    def _at_equal_length(self) -> Values:
        others = [_tokens(samples) for samples in self.evidence.others.values()]
        length = diversity.equal_length(self.tokens, *others)
        if length is None:
            return
        yield "cut_tokens", float(length)
        for name, value in _lexical(diversity.truncated(self.tokens, length)):
            yield name + _CUT, value
        vectors = self.evidence.embed(_beginnings(self.tokens, length))
        if vectors is not None:
            yield "semantic_dispersion" + _CUT, semantic.mean_pairwise_distance(vectors)


def _answer(prompt: str, text: str) -> Chain:
    return Chain(prompt, (text,), chat=bool(prompt))


def _tokens(samples: Sequence[Sample]) -> list[list[str]]:
    return [diversity.tokenise(sample.text or "") for sample in samples]


def _beginnings(tokens: Sequence[Sequence[str]], length: int | None) -> list[str]:
    return [] if length is None else [" ".join(t) for t in diversity.truncated(tokens, length)]


def _lexical(tokens: Sequence[Sequence[str]]) -> Values:
    yield "div_ngram_2", diversity.div_ngram(tokens, 2)
    yield "div_bleu_4", diversity.div_bleu(tokens, 4)
    yield "distinct_2", diversity.distinct(tokens, 2)
    yield "ead_1", diversity.expectation_adjusted_distinct(tokens, _VOCABULARY)
    yield "self_repetition_4", diversity.self_repetition(tokens, 4)
    yield "compression_ratio", diversity.compression_ratio([" ".join(t) for t in tokens])


def _richness(tokens: Sequence[Sequence[str]]) -> Values:
    yield "mtld", _mean(map(mtld, tokens))
    yield "hd_d", _mean(map(hd_d, tokens))


def _syntactic(texts: Sequence[str]) -> Values:
    if syntactic.available():
        tags = [syntactic.pos_tags(text) for text in texts]
        yield "pos_templates", syntactic.templates_per_token(tags)
        yield "pos_compression_ratio", syntactic.pos_compression_ratio(tags)


def _mean(values: Iterable[Any]) -> float:
    """Of those that are defined; NaN where none is."""
    kept = [float(value) for value in values if not math.isnan(value)]
    return fmean(kept) if kept else math.nan
