"""The one place that talks to lm-eval's tasks: their docs, their prompts, their measures.

lm-eval's evaluator keeps no finish reason, token ids or partial results, and scores a doc once
per filter. So psplit takes docs and prompts from lm-eval's task objects and samples into its own
store. psplit's tasks name a scorer as `process_results`; for all others `HarnessScorer` asks
lm-eval's own filters and metrics.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import numbers
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import jinja2
import jinja2.meta

from psplit_eval.catalog import TaskSource
from psplit_eval.errors import DataError, TemplateError, UsageError
from psplit_eval.modes import Mode
from psplit_eval.requests import Sampling, digest
from psplit_eval.scoring import (
    MetricInfo,
    Scorer,
    of_doc,
    of_sample,
    scorer_from_dict,
    truncated_share,
)
from psplit_eval.store import Doc, Metric, Sample

__all__ = [
    "HarnessScorer",
    "Question",
    "Render",
    "Task",
    "imported_task",
    "load_task",
    "read_rows",
    "restore_scorer",
    "task_summary",
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


@dataclass(frozen=True)
class Task:
    """A loaded task: its docs, scorer and own settings.

    `scored`: given answers are scored by their log-probability, nothing is generated. `left_out`
    names metrics of lm-eval's that are no mean over docs. `sha256` covers the task's files and all
    rows, so it names the exact task.
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
    sha256: str
    _task: Any

    def questions(
        self, docs: Iterable[Doc], mode: Mode, render: Render
    ) -> Iterator[tuple[Doc, list[Question]]]:
        """What a mode is asked for each of the first docs.

        As by lm-eval with a chat template: few-shot examples are turns of their own, drawn in the
        order of the docs. Raises TemplateError when the mode's system prompt is not in a prompt.
        """
        self._task.set_fewshot_seed(_FEWSHOT_SEED)
        for doc in docs:
            context = self._context(doc, mode, render)
            for text in [context] if isinstance(context, str) else context:
                _check_system_prompt(mode, text)
            yield doc, list(self._questions(doc, context))

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
    is the mean over its samples; a filter that votes among responses gets all of them. Given
    answers are measured together. A truncated response is measured as it is, as lm-eval does, and
    `truncated` counted apart. Metrics are named `METRIC`, or `METRIC_FILTER` where a task has
    several filters. Nothing is yielded for a doc of which a given answer's score is missing.
    """

    source: TaskSource
    primary: str
    directions: Mapping[str, bool]
    kind: str = field(default="lm-eval", init=False)
    _built: Any = field(default=None, init=False, repr=False, compare=False)

    def fields(self) -> tuple[str, ...]:
        return ()

    def info(self, metric: str) -> MetricInfo:
        if metric == "truncated":
            return MetricInfo("fraction", False)
        plain = next((name for name in _FRACTIONS if re.match(rf"{name}(_|$)", metric)), None)
        return MetricInfo("fraction" if plain else "number", self.directions.get(metric))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.source.name,
            "file": str(self.source.path),
            "overrides": dict(self.source.overrides),
            "primary": self.primary,
            "higher_is_better": dict(self.directions),
        }

    def score(self, doc: Doc, samples: Sequence[Sample]) -> Iterator[Metric]:
        task = self._task(doc)
        if samples[0].finish_reason == "scored":
            yield from self._of_answers(task, doc, samples)
            return
        yield truncated_share(samples)
        for name, votes, found in _filtered(task, doc, [sample.text or "" for sample in samples]):
            values = [self._kept(task, name, doc, response) for response in found]
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
            name: float(value)
            for name, value in named.items()
            if name in self.directions and isinstance(value, numbers.Real)
        }

    def _task(self, doc: Doc) -> Any:
        """lm-eval's task on a stored doc in place of its data set, which may be out of reach."""
        if self._built is None:
            if not self.source.path.is_file():
                raise DataError(
                    f"task {self.source.name!r}: its file {str(self.source.path)!r} is gone, and "
                    "with it the way to score; put it back (psplit-eval report does without)"
                )
            self._built = _build(self.source.name, _on_docs(self.source.config(), doc))
        return self._built


def restore_scorer(content: Mapping[str, Any]) -> Scorer:
    """The scorer that a manifest describes; raises DataError for an unknown kind."""
    if content.get("kind") != "lm-eval":
        return scorer_from_dict(content)
    source = TaskSource(content["name"], Path(content["file"]), content["overrides"])
    return HarnessScorer(source, content["primary"], content["higher_is_better"])


def _filtered(
    task: Any, doc: Doc, texts: Sequence[str]
) -> Iterator[tuple[str, bool, list[list[Any]]]]:
    """Per filter: its name, whether it votes among responses, what it makes of each response."""
    from lm_eval.api.instance import Instance

    for pipeline in task._filters:
        votes = _votes(task, pipeline.name)
        given = [list(texts)] if votes else [[text] for text in texts]
        instances = [Instance("generate_until", doc.doc, (), 0, resps=resps) for resps in given]
        pipeline.apply(instances)
        yield pipeline.name, votes, [[made.filtered_resps[pipeline.name]] for made in instances]


def _votes(task: Any, filter_name: str) -> bool:
    steps = [
        step["function"]
        for entry in task.config.filter_list or []
        if entry["name"] == filter_name
        for step in entry["filter"]
    ]
    return any(step in _MANY_RESPONSES for step in steps)


def _metric_name(metric: str, filter_name: str, several: bool) -> str:
    name = f"{metric}_{filter_name}" if several and filter_name else metric
    return re.sub(r"\W+", "_", name.replace("@", "_at_")).lower()


def load_task(source: TaskSource, data: Path | None = None) -> Task:
    """Load a task: psplit's own, the user's or one of lm-eval's.

    `data` replaces its rows with those of a JSONL file; few-shot examples are then taken from
    them, too. Raises DataError for rows that cannot be had or lack fields, UsageError for a task
    that psplit cannot run.
    """
    config = source.config()
    _check_runnable(source, config)
    about = _about(config)
    if data is not None:
        rows = _checked(read_rows(data), _needed(config, about), data, source.name)
        config = _on_rows(config, rows)
    task = _build(source.name, config)
    scorer, left_out = _scorer(source, config, task)
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
        left_out=left_out,
        sha256=digest(_definition(source), [doc.doc_hash for doc in docs]),
        _task=task,
    )


def imported_task(
    source: TaskSource, docs: Sequence[Doc], generation: Mapping[str, Any]
) -> dict[str, Any]:
    """What a manifest says of a task whose docs are given: title, source, scorer, settings, sum."""
    config = source.config()
    _check_runnable(source, config)
    about = _about(config)
    task = _build(source.name, _on_docs(config, docs[0]))
    scorer, _ = _scorer(source, config, task)
    scored = config.get("output_type") in _SCORED_TYPES
    return {
        "title": str(about.get("title", "lm-eval's own task")),
        "source": "logged by lm_eval",
        "sha256": digest(_definition(source), [doc.doc_hash for doc in docs]),
        "scorer": scorer.to_dict(),
        "sampling": {} if scored else _sampling(source.name, generation).to_dict(),
    }


def _definition(source: TaskSource) -> str:
    """SHA-256 of the task's file; what a group overrides goes in, too."""
    file = hashlib.sha256(source.path.read_bytes()).hexdigest()
    return digest(file, dict(source.overrides)) if source.overrides else file


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


def _scorer(
    source: TaskSource, config: Mapping[str, Any], task: Any
) -> tuple[Scorer, tuple[str, ...]]:
    """psplit's scorer where the task names one, else lm-eval's metrics that are means over docs."""
    own = config.get("process_results")
    if isinstance(own, Scorer):
        return own, ()
    from lm_eval.api.registry import get_aggregation

    means = [get_aggregation("mean"), get_aggregation("nanmean")]
    kept = [metric for metric, how in task.aggregation().items() if how in means]
    left_out = tuple(metric for metric in task.aggregation() if metric not in kept)
    if not kept:
        raise UsageError(
            f"task {source.name!r}: its metrics ({', '.join(left_out)}) are taken over all docs at "
            "once, expected one that is a mean over docs; run it with lm_eval itself"
        )
    filters = [pipeline.name for pipeline in task._filters]
    better = task.higher_is_better()
    directions = {
        _metric_name(metric, name, len(filters) > 1): bool(better.get(metric, True))
        for name in filters
        for metric in kept
    }
    return HarnessScorer(source, next(iter(directions)), directions), left_out


def task_summary(source: TaskSource) -> Mapping[str, Any]:
    """What a task's YAML says of itself without loading data: title, source, kind, samples, rows.

    `rows` is None where the rows lie on the hub.
    """
    config = source.config()
    about = _about(config)
    scorer = config.get("process_results")
    file = (config.get("dataset_kwargs") or {}).get("file")
    return {
        "title": about.get("title", ""),
        "source": about.get("source") or f"hub {config.get('dataset_path')}",
        "kind": scorer.kind if isinstance(scorer, Scorer) else "lm-eval",
        "samples": int(config.get("repeats") or 1),
        "rows": len((source.path.parent / file).read_text().splitlines()) if file else None,
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file (.jsonl or .jsonl.gz); raises DataError naming the bad line."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            lines = [line for line in file if line.strip()]
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(
            f"data file {str(path)!r}: cannot be read ({error.__class__.__name__}); expected JSON "
            "Lines in UTF-8"
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # no text: a lone surrogate
        except ValueError as error:
            raise DataError(
                f"data file {str(path)!r}, line {number}: not JSON in UTF-8 ({error})"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"data file {str(path)!r}, line {number}: expected a JSON object")
        rows.append(row)
    if not rows:
        raise DataError(f"data file {str(path)!r}: empty; expected one JSON object a line")
    return rows


class _Given:
    """Rows in place of a task's own; lm-eval calls it as `custom_dataset`."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def __call__(self, **_: Any) -> dict[str, Any]:
        import datasets

        return {"test": datasets.Dataset.from_list(self._rows)}


def _on_rows(config: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The task on other rows; its few-shot examples come from them (never a doc for itself)."""
    changed = {**config, "custom_dataset": _Given(rows), "dataset_kwargs": None}
    changed |= {"test_split": "test", "validation_split": None, "training_split": None}
    if config.get("fewshot_split"):
        changed["fewshot_split"] = "test"
    shots = config.get("fewshot_config")
    if isinstance(shots, dict) and "split" in shots:
        changed["fewshot_config"] = {**shots, "split": "test"}
    return changed


def _on_docs(config: Mapping[str, Any], doc: Doc) -> dict[str, Any]:
    """The task as far as scoring needs it: on a stored doc, without few-shot examples."""
    plain = {"process_docs": None, "num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}
    return _on_rows(config, [dict(doc.doc)]) | plain


def _build(name: str, config: Mapping[str, Any]) -> Any:
    import datasets
    from lm_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    random.seed(0)  # as lm-eval does: some tasks shuffle options by the global generator
    try:
        return TaskManager(include_defaults=False).load([dict(config)])["tasks"][name]
    except Exception as error:  # datasets, the hub client and a task's code raise dozens of kinds
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"task {name!r}: no rows from {config.get('dataset_path') or 'its file'} "
            f"({error.__class__.__name__}: {reason}); give a local file with "
            f"--data {name}=FILE.jsonl"
        ) from error


def _needed(config: Mapping[str, Any], about: Mapping[str, Any]) -> set[str]:
    """Fields that a row must have: those the task names, else those its prompt and scorer use."""
    if about.get("fields"):
        return set(about["fields"])
    scorer = config.get("process_results")
    named = set(scorer.fields()) if isinstance(scorer, Scorer) else set()
    template = config.get("doc_to_text")
    made_later = config.get("process_docs") is not None and not named
    if made_later or not isinstance(template, str):
        return named
    variables = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(template))
    return variables | named


def _checked(
    rows: list[dict[str, Any]], needed: set[str], path: Path, task: str
) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        missing = sorted(name for name in needed if row.get(name) in (None, ""))
        if missing:
            raise DataError(
                f"data file {str(path)!r}, row {number}: no {', '.join(missing)}; task {task!r} "
                f"needs {', '.join(sorted(needed))}"
            )
    return rows


def _docs(name: str, task: Any) -> Iterator[Doc]:
    for doc_id, doc in sorted(task.doc_iterator(), key=lambda item: item[0]):
        content = dict(doc)
        yield Doc(name, doc_id, digest(content), content, str(task.doc_to_target(doc)))


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
