"""What lm-eval measures: its own filters and metrics on stored samples."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.catalog import Catalog, TaskSource
from psplit_eval.creativity import CreativityScorer
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.lmtask import build, explained, on_docs
from psplit_eval.scoring import (
    NOTHING,
    AccuracyScorer,
    Evidence,
    MetricInfo,
    Scorer,
    of_doc,
    of_sample,
    truncated_share,
)
from psplit_eval.store import Doc, Metric, Sample

__all__ = [
    "HarnessScorer",
    "completed",
    "over_all_docs",
    "scorer_of",
    "source_of",
    "stored_scorer",
    "voters",
    "working_scorer",
]

_FRACTIONS = ("acc", "acc_norm", "acc_bytes", "exact_match", "em", "f1")
_MANY_RESPONSES = ("take_first_k", "majority_vote")
_OWN_NAMES = ("correct", "truncated", "entropy_bits", "entropy_bits_estimate", "tokens_mean")


@dataclass
class HarnessScorer:
    """lm-eval's own filters and metrics, on stored samples.

    Every sample is measured alone, as lm-eval would measure it without repeats, and a doc's value
    is the mean over its samples; a filter that votes among responses gets all of them, and nothing
    is said of a doc with too few. Given answers are measured together; nothing is said of a doc of
    which one is missing. A truncated response is measured as it is, as lm-eval does, and
    `truncated` counted apart. Metrics are named `METRIC`, or `METRIC_FILTER` where a task has
    several filters; a value that is not finite is NaN.

    `definition` says by what the task was defined; `source`, which `score` needs, where it lies.
    """

    name: str
    definition: str
    overrides: Mapping[str, Any]
    primary: str
    directions: Mapping[str, bool]
    kind: str = field(default="lm-eval", init=False)
    headline: tuple[str, ...] = field(default=(), init=False)
    source: TaskSource | None = field(default=None, repr=False, compare=False)
    _built: Any = field(default=None, init=False, repr=False, compare=False)

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        if metric == "truncated":
            return MetricInfo("fraction", False)
        plain = any(re.match(rf"{name}(_|$)", metric) for name in _FRACTIONS)
        return MetricInfo("fraction" if plain else "number", self.directions.get(metric))

    def __getstate__(self) -> dict[str, Any]:
        """Another process builds lm-eval's task by itself."""
        return {**self.__dict__, "_built": None}

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "definition": self.definition,
            "overrides": dict(self.overrides),
            "primary": self.primary,
            "higher_is_better": dict(self.directions),
        }

    def score(
        self, doc: Doc, samples: Sequence[Sample], evidence: Evidence = NOTHING
    ) -> Iterator[Metric]:
        with explained(self.name, doc, "measure it"):
            task = self._task(doc)
            if samples[0].finish_reason == "scored":
                found = list(self._of_answers(task, doc, samples))
            else:
                found = [truncated_share(samples), *self._of_responses(task, doc, samples)]
        yield from found

    def _of_responses(self, task: Any, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        for name, votes, made in _filtered(task, doc, [sample.text or "" for sample in samples]):
            values = [self._kept(task, name, doc, response) for response in made]
            for metric in set.intersection(*map(set, values)):
                each = [value[metric] for value in values]
                if not votes:
                    for sample, number in zip(samples, each, strict=True):
                        yield of_sample(sample, metric, number)
                yield of_doc(samples, metric, fmean(each))

    def _of_answers(self, task: Any, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        choices = len(task.doc_to_choice(doc.doc)) if task.config.doc_to_choice else 1
        if len(samples) < choices:
            return
        results = [(-(sample.nll_sum_nats or 0.0), bool(sample.is_greedy)) for sample in samples]
        for metric, number in self._kept(task, "", doc, results).items():
            yield of_doc(samples, metric, number)

    def _kept(self, task: Any, filter_name: str, doc: Doc, results: Any) -> dict[str, float]:
        """The measures that are kept, by psplit's names; `results` as lm-eval hands them over."""
        several = len(task._filters) > 1
        found = task.process_results(doc.doc, results)
        named = {_metric_name(metric, filter_name, several): v for metric, v in found.items()}
        return {
            name: float(value) if math.isfinite(value) else math.nan
            for name, value in named.items()
            if name in self.directions and isinstance(value, numbers.Real)
        }

    def _task(self, doc: Doc) -> Any:
        """lm-eval's task on a stored doc in place of its data set, which may be out of reach."""
        if self._built is None:
            if self.source is None:
                raise DataError(f"task {self.name!r}: its file is not known; look it up first")
            self._built = build(self.name, on_docs(self.source.config(), doc), "correct its file")
        return self._built


def stored_scorer(content: Mapping[str, Any]) -> Scorer:
    """The scorer that a manifest describes, without the code of a task that lm-eval measures.

    Raises DataError for an unknown kind.
    """
    kind = content.get("kind")
    if kind == "accuracy":
        return AccuracyScorer(AnswerFormat(**content["answer"]), content["target"])
    if kind == "diversity":
        return CreativityScorer(content.get("form", "story"), content.get("prompt", ""))
    if kind != "lm-eval":
        raise DataError(
            f"scorer kind {kind!r}: expected accuracy, diversity or lm-eval; use a newer psplit"
        )
    parts = ("name", "definition", "overrides", "primary", "higher_is_better")
    return HarnessScorer(*(content[part] for part in parts))


def source_of(content: Mapping[str, Any], catalog: Catalog) -> TaskSource | None:
    """Where the task lies that a manifest's scorer measures by; None where psplit's own does.

    Raises UsageError for a task that is in no task folder.
    """
    stored = stored_scorer(content)
    if not isinstance(stored, HarnessScorer):
        return None
    try:
        found = catalog.task(stored.name)
    except UnknownNameError as error:
        raise UsageError(
            f"task {stored.name!r}: its file is in no task folder, and psplit needs it to score; "
            "give the folder by --include-path DIR"
        ) from error
    return TaskSource(stored.name, found.path, stored.overrides)


def completed(content: Mapping[str, Any], task: str, catalog: Catalog) -> Mapping[str, Any]:
    """What a manifest says of a scorer; for `diversity`, which once had neither form nor prompt,
    what the task of that name says now: without the prompt other numbers have the same names."""
    if dict(content) != {"kind": "diversity"}:
        return content
    try:
        config = catalog.task(task).config()
    except UnknownNameError:
        return content
    own = config.get("process_results")
    if not isinstance(own, CreativityScorer):
        return content
    return replace(own, prompt=_prompt_template(config)).to_dict()


def working_scorer(content: Mapping[str, Any], catalog: Catalog, doc: Doc) -> Scorer:
    """The scorer that a manifest describes, able to score by the task as it is defined now.

    The task is looked up by its name: a run may come from elsewhere, and no code is run but that
    of lm-eval, of psplit and of the folders that the user named. Raises UsageError for a task that
    is in none of them.
    """
    source = source_of(content, catalog)
    if source is None:
        return stored_scorer(content)
    config = source.config()
    return scorer_of(source, config, build(source.name, on_docs(config, doc), "correct its file"))


def _filtered(
    task: Any, doc: Doc, texts: Sequence[str]
) -> Iterator[tuple[str, bool, list[list[Any]]]]:
    """Per filter: its name, whether it votes among responses, what it makes of each response."""
    from lm_eval.api.instance import Instance

    for pipeline in task._filters:
        needed = voters(task, pipeline.name)
        if needed > len(texts):
            continue
        given = [list(texts)] if needed else [[text] for text in texts]
        instances = [Instance("generate_until", doc.doc, (), 0, resps=resps) for resps in given]
        pipeline.apply(instances)
        made = [[instance.filtered_resps[pipeline.name]] for instance in instances]
        yield pipeline.name, bool(needed), made


def voters(task: Any, filter_name: str) -> int:
    """How many responses a filter needs that votes among them; 0 for one that takes each alone."""
    steps = [
        step
        for entry in task.config.filter_list or []
        if entry["name"] == filter_name
        for step in entry["filter"]
    ]
    voting = [step for step in steps if step["function"] in _MANY_RESPONSES]
    return max((int(step.get("k", 1)) for step in voting), default=0)


def _metric_name(metric: str, filter_name: str, several: bool) -> str:
    name = f"{metric}_{filter_name}" if several and filter_name else metric
    plain = re.sub(r"\W+", "_", name.replace("@", "_at_")).lower()
    return f"task_{plain}" if plain in _OWN_NAMES else plain


def scorer_of(source: TaskSource, config: Mapping[str, Any], task: Any) -> Scorer:
    """psplit's scorer where the task names one, else lm-eval's metrics that are means over docs."""
    own = config.get("process_results")
    if isinstance(own, CreativityScorer):
        return replace(own, prompt=_prompt_template(config))
    if isinstance(own, Scorer):
        return own
    unknown = [name for name, function in task._metric_fn_list.items() if function is None]
    if unknown and own is None:
        raise UsageError(
            f"task {source.name!r}: metric {unknown[0]!r}, expected one that lm-eval knows; "
            "correct its metric_list"
        )
    kept = [metric for metric in task.aggregation() if _is_mean(task, metric)]
    filters = [pipeline.name for pipeline in task._filters]
    better = task.higher_is_better()
    directions = {
        _metric_name(metric, name, len(filters) > 1): bool(better.get(metric, True))
        for name in filters
        for metric in kept
    }
    if not kept or len(directions) < len(filters) * len(kept):
        found = ", ".join(task.aggregation()) or "none"
        raise UsageError(
            f"task {source.name!r}: metrics {found} with filters {', '.join(filters)}, expected at "
            "least one that is a mean over docs, all of different names; run it with lm_eval itself"
        )
    parts = (source.name, source.definition, source.overrides, next(iter(directions)), directions)
    return HarnessScorer(*parts, source=source)


def _prompt_template(config: Mapping[str, Any]) -> str:
    """The user's message as Jinja over the doc's fields; empty where code makes it."""
    template = config.get("doc_to_text")
    if not isinstance(template, str):
        return ""
    return f"{{{{{template}}}}}" if template.isidentifier() else template


def _is_mean(task: Any, metric: str) -> bool:
    from lm_eval.api.registry import get_aggregation

    return task.aggregation()[metric] in (get_aggregation("mean"), get_aggregation("nanmean"))


def over_all_docs(task: Any, scorer: Scorer) -> tuple[str, ...]:
    """Metrics that lm-eval takes over all docs at once: they have no number a doc."""
    if not isinstance(scorer, HarnessScorer):
        return ()
    return tuple(metric for metric in task.aggregation() if not _is_mean(task, metric))
