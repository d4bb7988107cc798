"""lm-eval's tasks as psplit runs them: their docs, prompts and settings.

lm-eval's evaluator keeps no finish reason, token ids or partial results, and scores a doc once
per filter. So psplit takes docs and prompts from lm-eval's task objects and samples into its own
store. psplit's tasks name a scorer as `process_results`; all others are measured by `measures`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jinja2
import jinja2.meta

from psplit_eval.catalog import TaskSource, read_yaml
from psplit_eval.errors import TemplateError, UsageError
from psplit_eval.lmtask import (
    build,
    explained,
    has_inline_shots,
    on_docs,
    on_rows,
    without_prompt,
)
from psplit_eval.measures import HarnessScorer, over_all_docs, scorer_of, voters
from psplit_eval.modes import Mode, holds_system_prompt
from psplit_eval.requests import Sampling, digest
from psplit_eval.rows import check_rows, new_doc, read_rows
from psplit_eval.scoring import Scorer
from psplit_eval.store import Doc

__all__ = [
    "Question",
    "Render",
    "Task",
    "imported_task",
    "load_task",
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
    few_shot: Mapping[str, Any] | None
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
            with explained(self.name, doc, "make a prompt of it"):
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


def _check_system_prompt(mode: Mode, text: str) -> None:
    if not holds_system_prompt(mode, text):
        raise TemplateError(
            f"mode {mode.name!r}: the chat template drops its system prompt; give a template "
            "that keeps system messages with --chat-template FILE"
        )


def load_task(source: TaskSource, data: Path | None = None, shots: Path | None = None) -> Task:
    """Load a task: psplit's own, the user's or one of lm-eval's.

    `data` replaces its rows with those of a JSONL file, `shots` those that few-shot examples are
    taken from (without it `data`'s). Raises DataError for rows that cannot be had or lack fields,
    UsageError for a task that psplit cannot run.
    """
    _check_runnable(source, {**read_yaml(source.path, functions=False), **source.overrides})
    config = source.config()
    few_shot = _few_shot(config, data, shots)
    about = _about(config)
    fix = f"give a local file with --data {source.name}=FILE.jsonl"
    if data is not None:
        rows = read_rows(data)
        filled = isinstance(config.get("process_results"), Scorer)
        check_rows(rows, _needed(config), data, source.name, filled)
        examples = None if shots is None else read_rows(shots)
        config, fix = on_rows(config, rows, examples), f"correct the rows in {str(data)!r}"
    task = build(source.name, config, fix)
    scorer = scorer_of(source, config, task)
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
        few_shot=few_shot,
        left_out=(*without_prompt(config), *over_all_docs(task, scorer)),
        least_samples=max((voters(task, pipeline.name) for pipeline in task._filters), default=0),
        sha256=digest(_definition(source, scorer), [doc.doc_hash for doc in docs]),
        _task=task,
    )


def imported_task(
    source: TaskSource, docs: Sequence[Doc], generation: Mapping[str, Any]
) -> dict[str, Any]:
    """What a manifest says of a task whose docs are given: title, source, scorer, settings, sum."""
    _check_runnable(source, {**read_yaml(source.path, functions=False), **source.overrides})
    config = source.config()
    about = _about(config)
    task = build(source.name, on_docs(config, docs[0]), "check that the logs are of this task")
    scorer = scorer_of(source, config, task)
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


def task_summary(source: TaskSource) -> Mapping[str, Any]:
    """What a task's YAML says of itself without loading data: title, source, kind, samples, rows,
    max_tokens.

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
        "max_tokens": _sampling(source.name, config.get("generation_kwargs") or {}).max_tokens,
    }


def _few_shot(
    config: Mapping[str, Any], data: Path | None, shots: Path | None
) -> dict[str, Any] | None:
    """How many examples a prompt begins with, and where they come from; None without any."""
    if not config.get("num_fewshot"):
        return None
    origin = str(shots or data or f"split {config.get('fewshot_split') or 'of its own rows'}")
    origin = "the task's file" if has_inline_shots(config) else origin
    return {"examples": int(config["num_fewshot"]), "from": origin}


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
