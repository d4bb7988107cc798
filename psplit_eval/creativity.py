"""The scorer of creative tasks: diversity beside quality, and what a form of task adds.

docs/reference/metrics.md lists every metric; docs/validity.md says which of them agree with people.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import fmean
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from psplit_eval.diversity import tokenise
from psplit_eval.errors import DataError
from psplit_eval.lists import List, UseList, WordList
from psplit_eval.quality import passes
from psplit_eval.sampleset import CUT, CUT_AT, OVERLAP, SampleSet, lexical, wanted_of_samples
from psplit_eval.scoring import (
    NOTHING,
    Evidence,
    MetricInfo,
    Wanted,
    all_texts,
    of_doc,
    of_sample,
    truncated_share,
)
from psplit_eval.store import Doc, Metric, Sample

__all__ = ["FORMS", "CreativityScorer", "Form"]


@dataclass(frozen=True)
class Form:
    """What a task asks for: an answer each time, or a list (`of_list` measures one).

    `primary` decides a comparison; `without` names parts of quality that say nothing here.
    """

    primary: str
    of_list: List | None = None
    without: tuple[str, ...] = ()


FORMS: Mapping[str, Form] = {
    "story": Form("effective_dispersion"),
    "uses": Form("effective_originality", UseList()),
    "words": Form("effective_association", WordList(), without=("fluency",)),
    "open": Form("utility_k"),
    "solve": Form("utility_k"),
    "prompts": Form("effective_dispersion"),
}
"""By name; 'prompts' is anything."""

_HEADLINE = (
    *("quality", "passing", "effective_dispersion", "dispersion_beyond_prompt", "distinct_k"),
    *("content_diversity", "div_bleu_4", "div_ngram_2"),
    *("tokens_mean", "truncated", "entropy_bits", "entropy_bits_estimate"),
)
"""Diversity never without quality, nor without length."""


def _info(
    unit: str, higher: bool | None, *names: str, equal: bool = False
) -> dict[str, MetricInfo]:
    return {name: MetricInfo(unit, higher, needs_equal_samples=equal) for name in names}


_INFO: Mapping[str, MetricInfo] = {
    **_info("fraction", True, "div_bleu_4", "distinct_2", "utility_k", equal=True),
    **_info("fraction", False, "pos_templates", equal=True),
    **_info("number", True, "ead_1", "vendi", "semantic_clusters", "use_kinds_k", equal=True),
    **_info("number", True, "distinct_k", "effective_distinct_k", equal=True),
    **_info("number", False, "self_repetition_4", "compression_ratio", equal=True),
    **_info("number", False, "pos_compression_ratio", equal=True),
    **_info("number", True, "semantic_dispersion", "dispersion_beyond_prompt"),
    **_info("number", True, "effective_dispersion", "effective_association"),
    **_info("number", True, "divergent_association", "valid_words", "use_originality"),
    **_info("number", True, "effective_originality", "use_fluency", "use_flexibility"),
    **_info("number", False, "mutual_bits", "invalid_words"),
    **_info("fraction", False, "truncated"),
    **_info("bits", None, "fluency_bits"),
    **_info("tokens", True, "mtld"),
    **_info("tokens", None, "tokens_mean", "cut_tokens"),
    **_info("number", None, "cut_samples"),
}
"""Others are fractions of which more is better."""


@dataclass(frozen=True)
class CreativityScorer:
    """How much the samples of one doc differ, and how good they are.

    `prompt` is the task's template of the user's message (Jinja, over the doc's fields): quality
    asks whether an answer fits it. Also lm-eval's `process_results(doc, results)`, with the lexical
    metrics.
    """

    form: str = "story"
    prompt: str = ""
    kind: str = field(default="diversity", init=False)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise DataError(f"creative form {self.form!r}: expected one of {', '.join(FORMS)}")

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        return dict(lexical([tokenise(text) for text in all_texts(results)]))

    @property
    def primary(self) -> str:
        return FORMS[self.form].primary

    @property
    def headline(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.primary, *_HEADLINE]))

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        if metric.startswith(OVERLAP):
            return MetricInfo("fraction", None, needs_equal_samples=True)
        found = _INFO.get(metric.removesuffix(CUT), MetricInfo("fraction", True))
        return replace(found, taken_at=CUT_AT) if metric.endswith(CUT) else found

    def wanted(self, doc: Doc, by_mode: Mapping[str, Sequence[Sample]]) -> Wanted:
        of_list = FORMS[self.form].of_list
        found = wanted_of_samples(self.asked(doc), by_mode, answers=of_list is None)
        if of_list is None:
            return found
        texts = [sample.text or "" for samples in by_mode.values() for sample in samples]
        more = [of_list.wanted(doc, text) for text in texts]
        return Wanted(
            [*found.texts, *(text for each in more for text in each.texts)],
            found.chains,
            [word for each in more for word in each.words],
        )

    def score(
        self, doc: Doc, samples: Sequence[Sample], evidence: Evidence = NOTHING
    ) -> Iterator[Metric]:
        form = FORMS[self.form]
        answers = SampleSet(
            self.asked(doc), samples, evidence, form.without, listed=form.of_list is not None
        )
        for sample, found in zip(samples, answers.qualities, strict=False):
            yield of_sample(sample, "quality", found.value)
        values = dict(answers.values())
        if form.of_list is None:
            values |= answers.answer_values()
        else:
            yield from _of_lists(form.of_list, doc, answers)
        for name, value in values.items():
            yield of_doc(samples, name, value)
        yield truncated_share(samples)

    def asked(self, doc: Doc) -> str:
        """The message that asks a doc; empty where it is not known.

        A task may make it by code, an import may lack fields.
        """
        try:
            return str(_template(self.prompt).render(doc.doc))
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError):
            return ""  # a filter raises whatever the field's value makes it raise

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "form": self.form, "prompt": self.prompt}


@lru_cache(maxsize=16)
def _template(text: str) -> jinja2.Template:
    """In a sandbox, as a run's manifest may come from elsewhere; blanks as lm-eval keeps them."""
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(text)


def _of_lists(of_list: List, doc: Doc, answers: SampleSet) -> Iterator[Metric]:
    """Of every list its numbers, their means where they are defined, and those of all lists."""
    unknown: list[bool | None] = [None] * len(answers.texts)
    passing = [passes(found.value) for found in answers.qualities] or unknown
    each = [
        dict(of_list.values(doc, text, answers.evidence, passed))
        for text, passed in zip(answers.texts, passing, strict=True)
    ]
    for sample, values in zip(answers.samples, each, strict=True):
        for name, value in values.items():
            yield of_sample(sample, name, value)
    for name in dict.fromkeys(name for values in each for name in values):
        kept = [values[name] for values in each if not math.isnan(values.get(name, math.nan))]
        yield of_doc(answers.samples, name, fmean(kept) if kept else math.nan)
    for name, value in of_list.values_of_all(doc, answers.texts, answers.evidence):
        yield of_doc(answers.samples, name, value)
