"""The one place that talks to lm-eval's tasks: their docs, their prompts, their measures.

lm-eval's evaluator keeps no finish reason, token ids or partial results, and scores a doc once
per filter. So psplit takes docs and prompts from lm-eval's task objects and samples into its own
store. psplit's tasks name a scorer as `process_results`; for all others `HarnessScorer` asks
lm-eval's own filters and metrics.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import jinja2
import jinja2.meta

from psplit_eval.catalog import Catalog, TaskSource
from psplit_eval.errors import (
    DataError,
    PsplitError,
    TemplateError,
    UnknownNameError,
    UsageError,
)
from psplit_eval.modes import Mode
from psplit_eval.requests import Sampling, digest
from psplit_eval.rows import GivenRows, check_rows, new_doc, read_rows
from psplit_eval.scoring import (
    MetricInfo,
    Scorer,
    of_doc,
    of_sample,
    scorer_from_dict,
    truncated_share,
)
from psplit_eval.store import Doc, Metric, Sample
from psplit_eval.text import shortened

__all__ = [
    "HarnessScorer",
    "Question",
    "Render",
    "Task",
    "imported_task",
    "load_task",
    "stored_scorer",
    "task_summary",
    "working_scorer",
]

_GENERATION_NAMES = {
    "max_gen_toks": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "until": "until",
}
_SCORED_TYPES = ("multiple_choice", "loglikelihood")
_FRACTIONS = ("acc", "acc_norm", "acc_bytes", "exact_match", "em", "f1")
_MANY_RESPONSES = ("take_first_k", "majority_vote")
_OWN_NAMES = ("correct", "truncated", "entropy_bits", "tokens_mean")
_FEWSHOT_SEED = 1234  # lm-eval's default


class Render(Protocol):
    """Chat messages to the prompt text of a model."""

    def __call__(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Without a generation prompt the last message is left open, to be continued."""


@dataclass(frozen=True)
class Question:
    """A prompt, and the answer to score after it; None where a response is to be generated."""

    text: str
    answer: str | None = None

    def split(self) -> Question:
        """As lm-eval cuts it before it makes tokens: spaces at a prompt's end are the answer's."""
        if self.answer is None:
            return self
        bare = self.text.rstrip()
        return Question(bare, self.text[len(bare) :] + self.answer)


@dataclass(frozen=True)
class Task:
    """A loaded task: its docs, scorer and own settings.

    `scored`: given answers are scored by their log-probability, nothing is generated. `left_out`
    names metrics of lm-eval's that are no mean over docs. `least_samples`: what a filter that votes
    among responses needs. `sha256` names the exact task: its rows and its YAML file, or, where
    lm-eval measures, all that defines it (`TaskSource.definition`).
    """

    name: str
    title: str
    source: str
    scorer: Scorer
    sampling: Sampling
    samples: int
    scored: bool
    docs: tuple[Doc, ...]
    left_out: tuple[str, ...]
    least_samples: int
    sha256: str
    _task: Any

    def questions(
        self, docs: Iterable[Doc], mode: Mode, render: Render
    ) -> Iterator[tuple[Doc, list[Question]]]:
        """What a mode is asked for each of the first docs.

        As by lm-eval with a chat template: few-shot examples are turns of their own, drawn in the
        order of the docs. Raises TemplateError when the mode's system prompt is not in a prompt,
        DataError for a doc that the task cannot make a prompt of.
        """
        self._task.set_fewshot_seed(_FEWSHOT_SEED)
        for doc in docs:
            with _explained(self.name, doc, "make a prompt of it"):
                context = self._context(doc, mode, render)
                asked = list(self._questions(doc, context))
            for question in asked:
                _check_system_prompt(mode, question.text)
            yield doc, [question.split() for question in asked]

    def _context(self, doc: Doc, mode: Mode, render: Render) -> str | list[str]:
        def template(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return render(messages, add_generation_prompt)

        context: str | list[str] = self._task.fewshot_context(
            doc.doc,
            num_fewshot=self._task.config.num_fewshot or 0,
            system_instruction=mode.system_prompt,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            chat_template=template,
            gen_prefix=self._task.doc_to_prefix(doc.doc),
        )
        return context

    def _questions(self, doc: Doc, context: str | list[str]) -> Iterator[Question]:
        if not self.scored:
            yield Question(str(context))
            return
        instances = self._task.construct_requests(doc.doc, context, apply_chat_template=True)
        for instance in instances if isinstance(instances, list) else [instances]:
            yield Question(*instance.args)


@contextmanager
def _explained(task: str, doc: Doc, what: str) -> Iterator[None]:
    """Turn what a task's own code raises into one line that names task and doc."""
    try:
        yield
    except PsplitError:
        raise
    except Exception as error:  # a task's templates and functions may raise anything
        raise DataError(
            f"task {task!r}, doc {doc.doc_id}: the task cannot {what} ({error.__class__.__name__}: "
            f"{shortened(error, 160)}); correct the task or its rows"
        ) from error


def _check_system_prompt(mode: Mode, text: str) -> None:
    if mode.system_prompt and _squeezed(mode.system_prompt) not in _squeezed(text):
        raise TemplateError(
            f"mode {mode.name!r}: the chat template drops its system prompt; give a template "
            "that keeps system messages with --chat-template FILE"
        )


def _squeezed(text: str) -> str:
    return " ".join(text.split())


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
    source: TaskSource | None = field(default=None, repr=False, compare=False)
    _built: Any = field(default=None, init=False, repr=False, compare=False)

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        if metric == "truncated":
            return MetricInfo("fraction", False)
        plain = any(re.match(rf"{name}(_|$)", metric) for name in _FRACTIONS)
        return MetricInfo("fraction" if plain else "number", self.directions.get(metric))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "definition": self.definition,
            "overrides": dict(self.overrides),
            "primary": self.primary,
            "higher_is_better": dict(self.directions),
        }

    def score(self, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        with _explained(self.name, doc, "measure it"):
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
            self._built = _build(self.name, _on_docs(self.source.config(), doc), "correct its file")
        return self._built


def stored_scorer(content: Mapping[str, Any]) -> Scorer:
    """The scorer that a manifest describes, without the code of a task that lm-eval measures.

    Raises DataError for an unknown kind.
    """
    if content.get("kind") != "lm-eval":
        return scorer_from_dict(content)
    parts = ("name", "definition", "overrides", "primary", "higher_is_better")
    return HarnessScorer(*(content[part] for part in parts))


def working_scorer(content: Mapping[str, Any], catalog: Catalog, doc: Doc) -> Scorer:
    """The scorer that a manifest describes, able to score by the task as it is defined now.

    The task is looked up by its name: a run may come from elsewhere, and no code is run but that
    of lm-eval, of psplit and of the folders that the user named. Raises UsageError for a task that
    is in none of them.
    """
    stored = stored_scorer(content)
    if not isinstance(stored, HarnessScorer):
        return stored
    try:
        found = catalog.task(stored.name)
    except UnknownNameError as error:
        raise UsageError(
            f"task {stored.name!r}: its file is in no task folder, and psplit needs it to score; "
            "give the folder by --include-path DIR"
        ) from error
    source = TaskSource(stored.name, found.path, stored.overrides)
    config = source.config()
    return _scorer(source, config, _build(source.name, _on_docs(config, doc), "correct its file"))


def _filtered(
    task: Any, doc: Doc, texts: Sequence[str]
) -> Iterator[tuple[str, bool, list[list[Any]]]]:
    """Per filter: its name, whether it votes among responses, what it makes of each response."""
    from lm_eval.api.instance import Instance

    for pipeline in task._filters:
        needed = _voters(task, pipeline.name)
        if needed > len(texts):
            continue
        given = [list(texts)] if needed else [[text] for text in texts]
        instances = [Instance("generate_until", doc.doc, (), 0, resps=resps) for resps in given]
        pipeline.apply(instances)
        made = [[instance.filtered_resps[pipeline.name]] for instance in instances]
        yield pipeline.name, bool(needed), made


def _voters(task: Any, filter_name: str) -> int:
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


def load_task(source: TaskSource, data: Path | None = None) -> Task:
    """Load a task: psplit's own, the user's or one of lm-eval's.

    `data` replaces its rows with those of a JSONL file; few-shot examples are then taken from
    them, too. Raises DataError for rows that cannot be had or lack fields, UsageError for a task
    that psplit cannot run.
    """
    config = source.config()
    _check_runnable(source, config)
    about = _about(config)
    config, left_out = _without_corpus_metrics(config)
    fix = f"give a local file with --data {source.name}=FILE.jsonl"
    if data is not None:
        rows = read_rows(data)
        filled = isinstance(config.get("process_results"), Scorer)
        check_rows(rows, _needed(config), data, source.name, filled)
        config, fix = _on_rows(config, rows), f"correct the rows in {str(data)!r}"
    task = _build(source.name, config, fix)
    scorer = _scorer(source, config, task)
    docs = tuple(_docs(source.name, task))
    scored = config["output_type"] in _SCORED_TYPES
    return Task(
        name=source.name,
        title=str(about.get("title", "lm-eval's own task")),
        source=str(data or about.get("source") or f"hub {config.get('dataset_path')}"),
        scorer=scorer,
        sampling=Sampling() if scored else _sampling(source.name, task.config.generation_kwargs),
        samples=1 if scored else int(task.config.repeats or 1),
        scored=scored,
        docs=docs,
        left_out=left_out + _over_all_docs(task, scorer),
        least_samples=max((_voters(task, pipeline.name) for pipeline in task._filters), default=0),
        sha256=digest(_definition(source, scorer), [doc.doc_hash for doc in docs]),
        _task=task,
    )


def imported_task(
    source: TaskSource, docs: Sequence[Doc], generation: Mapping[str, Any]
) -> dict[str, Any]:
    """What a manifest says of a task whose docs are given: title, source, scorer, settings, sum."""
    config = source.config()
    _check_runnable(source, config)
    about = _about(config)
    task = _build(source.name, _on_docs(config, docs[0]), "check that the logs are of this task")
    scorer = _scorer(source, config, task)
    scored = config.get("output_type") in _SCORED_TYPES
    return {
        "title": str(about.get("title", "lm-eval's own task")),
        "source": "logged by lm_eval",
        "sha256": digest(_definition(source, scorer), [doc.doc_hash for doc in docs]),
        "scorer": scorer.to_dict(),
        "sampling": {} if scored else _logged_sampling(source.name, generation),
    }


def _definition(source: TaskSource, scorer: Scorer) -> str:
    """SHA-256 of what defines the task; of its YAML file where psplit's scorer says the rest."""
    if isinstance(scorer, HarnessScorer):
        return scorer.definition
    return hashlib.sha256(source.path.read_bytes()).hexdigest()


def _about(config: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = config.get("metadata")
    found = metadata.get("psplit") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _check_runnable(source: TaskSource, config: Mapping[str, Any]) -> None:
    """Refuse, before anything is fetched, a task that psplit has no way to run."""
    kind = config.get("output_type", "generate_until")
    reasons = {
        "is written as a Python class, not as YAML": "class" in config,
        "measures the likelihood of plain text, to which a mode cannot apply": kind
        == "loglikelihood_rolling",
        "shows pictures or sound, which psplit cannot send": bool(
            config.get("doc_to_image") or config.get("doc_to_audio")
        ),
        "runs code that the model wrote, for which psplit has no sandbox": bool(
            config.get("unsafe_code")
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise UsageError(f"task {source.name!r}: it {reason}; run it with lm_eval itself")
    known = ("generate_until", *_SCORED_TYPES)
    if kind not in known:
        raise UsageError(f"task {source.name!r}: output_type {kind!r}, expected {', '.join(known)}")
    if _functions(source.overrides):
        raise UsageError(
            f"task {source.name!r}: its group overrides it by a function, which psplit cannot "
            "store; name the task itself, or give it a file of its own"
        )


def _functions(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_functions, value.values()))
    return any(map(_functions, value)) if isinstance(value, list) else callable(value)


def _without_corpus_metrics(config: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Leave out what asks for likelihoods without any prompt: no mode can apply there."""
    metrics = config.get("metric_list") or []
    kept = [entry for entry in metrics if entry.get("metric") != "acc_mutual_info"]
    if len(kept) == len(metrics):
        return config, ()
    return {**config, "metric_list": kept}, ("acc_mutual_info",)


def _scorer(source: TaskSource, config: Mapping[str, Any], task: Any) -> Scorer:
    """psplit's scorer where the task names one, else lm-eval's metrics that are means over docs."""
    own = config.get("process_results")
    if isinstance(own, Scorer):
        return own
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


def _is_mean(task: Any, metric: str) -> bool:
    from lm_eval.api.registry import get_aggregation

    return task.aggregation()[metric] in (get_aggregation("mean"), get_aggregation("nanmean"))


def _over_all_docs(task: Any, scorer: Scorer) -> tuple[str, ...]:
    """Metrics that lm-eval takes over all docs at once: they have no number a doc."""
    if not isinstance(scorer, HarnessScorer):
        return ()
    return tuple(metric for metric in task.aggregation() if not _is_mean(task, metric))


def task_summary(source: TaskSource) -> Mapping[str, Any]:
    """What a task's YAML says of itself without loading data: title, source, kind, samples, rows.

    `rows` is None where the rows lie on the hub.
    """
    config = source.config()
    about = _about(config)
    scorer = config.get("process_results")
    file = (config.get("dataset_kwargs") or {}).get("file")
    rows = source.path.parent / file if isinstance(file, str) else None
    return {
        "title": about.get("title", ""),
        "source": about.get("source") or f"hub {config.get('dataset_path')}",
        "kind": scorer.kind if isinstance(scorer, Scorer) else "lm-eval",
        "samples": int(config.get("repeats") or 1),
        "rows": len(read_rows(rows)) if rows and rows.is_file() else None,
    }


def _on_rows(config: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The task on other rows; its few-shot examples come from them (never a doc for itself)."""
    changed = {**config, "custom_dataset": GivenRows(rows), "dataset_kwargs": None}
    changed |= {"test_split": "test", "validation_split": None, "training_split": None}
    shots = config.get("fewshot_config") or {}
    inline = isinstance(shots, dict) and shots.get("samples") is not None
    if config.get("num_fewshot") and not inline:
        changed["fewshot_split"] = "test"
        changed["fewshot_config"] = {**shots, "split": "test"} if shots else None
    return changed


def _on_docs(config: Mapping[str, Any], doc: Doc) -> dict[str, Any]:
    """The task as far as scoring needs it: on a stored doc, without few-shot examples."""
    plain = {"process_docs": None, "num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}
    return _on_rows(config, [dict(doc.doc)]) | plain


def _build(name: str, config: Mapping[str, Any], fix: str) -> Any:
    import datasets
    from lm_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    random.seed(0)  # as lm-eval does: some tasks shuffle options by the global generator
    try:
        return TaskManager(include_defaults=False).load([dict(config)])["tasks"][name]
    except Exception as error:  # datasets, the hub client and a task's code raise dozens of kinds
        rows = config.get("dataset_path")
        origin = "the given rows" if isinstance(config.get("custom_dataset"), GivenRows) else rows
        raise DataError(
            f"task {name!r}: lm-eval cannot build it on {origin or 'its own rows'} "
            f"({error.__class__.__name__}: {shortened(error, 160)}); {fix}"
        ) from error


def _needed(config: Mapping[str, Any]) -> set[str]:
    """Fields that a row must have: those the task names, else those its prompt and scorer use."""
    named = set(_about(config).get("fields") or ())
    if named:
        return named
    scorer = config.get("process_results")
    if isinstance(scorer, Scorer):
        named = set(scorer.fields())
    template = config.get("doc_to_text")
    made_later = config.get("process_docs") is not None and not named
    if made_later or not isinstance(template, str):
        return named
    try:
        tree = jinja2.Environment().parse(template)
    except jinja2.TemplateError as error:
        raise UsageError(
            f"task {config['task']!r}: doc_to_text is no Jinja template ({error}); correct it"
        ) from error
    return set(jinja2.meta.find_undeclared_variables(tree)) | named


def _docs(name: str, task: Any) -> Iterator[Doc]:
    for doc_id, doc in sorted(task.doc_iterator(), key=lambda item: item[0]):
        yield new_doc(name, doc_id, dict(doc), str(task.doc_to_target(doc)))


def _logged_sampling(task: str, generation: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that lm_eval logged, by psplit's names; what it did not log is not there."""
    logged = {_GENERATION_NAMES[name] for name in generation if name in _GENERATION_NAMES}
    whole = _sampling(task, generation).to_dict()
    return {name: value for name, value in whole.items() if name in logged | {"temperature"}}


def _sampling(task: str, generation: Mapping[str, Any]) -> Sampling:
    """lm-eval's generation_kwargs as ours; without a temperature lm-eval decodes greedily."""
    given = dict(generation)
    drawn = given.pop("do_sample", None)
    if given.pop("num_beams", 1) != 1 or given.keys() - _GENERATION_NAMES.keys():
        unknown = sorted(given.keys() - _GENERATION_NAMES.keys()) or ["num_beams"]
        raise UsageError(
            f"task {task!r}: generation_kwargs {', '.join(unknown)} cannot be honoured; known are "
            f"do_sample, {', '.join(_GENERATION_NAMES)}"
        )
    values = {_GENERATION_NAMES[name]: value for name, value in given.items()}
    if drawn is False or (drawn is None and not values.get("temperature")):
        values["temperature"] = 0
    return Sampling().updated(values)
