"""The one place that talks to lm-eval: its task files, its prompts, nothing of its evaluator.

lm-eval's evaluator keeps no finish reason, token ids or partial results, and scores a doc once
per filter. So psplit takes docs and prompts from lm-eval's tasks, samples into its own store, and
scores with the scorer that the task's YAML names as `process_results`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta

from psplit_eval.errors import DataError, TemplateError, UsageError
from psplit_eval.modes import Mode
from psplit_eval.requests import Sampling, digest
from psplit_eval.scoring import Scorer
from psplit_eval.store import Doc

__all__ = ["Render", "Task", "load_task", "read_rows", "task_summary"]

Render = Callable[[list[dict[str, str]]], str]
"""Chat messages to the prompt text of a model."""

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


@dataclass(frozen=True)
class Task:
    """A loaded task: its docs, scorer and own settings.

    `sha256` covers the YAML file and all rows, so it names the exact task.
    """

    name: str
    title: str
    source: str
    scorer: Scorer
    sampling: Sampling
    samples: int
    docs: tuple[Doc, ...]
    sha256: str
    _task: Any

    def prompt(self, doc: Doc, mode: Mode, render: Render) -> str:
        """The prompt text of `doc` in `mode`.

        Raises TemplateError when the mode's system prompt is not in it.
        """
        text = str(
            self._task.fewshot_context(
                doc.doc,
                num_fewshot=self._task.config.num_fewshot or 0,
                system_instruction=mode.system_prompt,
                apply_chat_template=True,
                chat_template=lambda messages, **_: render(messages),
            )
        )
        if mode.system_prompt and _squeezed(mode.system_prompt) not in _squeezed(text):
            raise TemplateError(
                f"mode {mode.name!r}: the chat template drops its system prompt; give a template "
                "that keeps system messages with --chat-template FILE"
            )
        return text


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def load_task(name: str, path: Path, data: Path | None = None) -> Task:
    """Load the task that the YAML file `path` describes.

    `data` replaces its rows with those of a JSONL file. Raises DataError for rows that cannot be
    had or lack fields, UsageError for a task that psplit cannot run.
    """
    config = _config(path)
    scorer = config.get("process_results")
    if config.get("output_type") != "generate_until" or not isinstance(scorer, Scorer):
        raise UsageError(
            f"task {name!r}: expected output_type generate_until and a psplit scorer as "
            f"process_results; see {path}"
        )
    if data is not None:
        rows = _checked(read_rows(data), _needed(config, scorer), data, name)
        config |= {"custom_dataset": _Given(rows), "test_split": "test", "dataset_kwargs": None}
    task = _build(name, config)
    about = (config.get("metadata") or {}).get("psplit") or {}
    docs = tuple(_docs(name, task))
    source = path.read_bytes()
    return Task(
        name=name,
        title=str(about.get("title", "")),
        source=str(data or about.get("source", "")),
        scorer=scorer,
        sampling=_sampling(name, config.get("generation_kwargs") or {}),
        samples=int(config.get("repeats") or 1),
        docs=docs,
        sha256=digest(hashlib.sha256(source).hexdigest(), [doc.doc_hash for doc in docs]),
        _task=task,
    )


def task_summary(path: Path) -> Mapping[str, Any]:
    """What a task's YAML says of itself without loading data: title, source, kind, samples, rows.

    `rows` is None where the rows lie on the hub.
    """
    config = _config(path)
    about = (config.get("metadata") or {}).get("psplit") or {}
    scorer = config.get("process_results")
    file = (config.get("dataset_kwargs") or {}).get("file")
    return {
        "title": about.get("title", ""),
        "source": about.get("source", ""),
        "kind": scorer.kind if isinstance(scorer, Scorer) else "",
        "samples": int(config.get("repeats") or 1),
        "rows": len((path.parent / file).read_text().splitlines()) if file else None,
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
        except ValueError as error:
            raise DataError(
                f"data file {str(path)!r}, line {number}: not JSON ({error})"
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


def _config(path: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(path, resolve_func=True))


def _build(name: str, config: Mapping[str, Any]) -> Any:
    import datasets
    from lm_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    for chatty in ("lm_eval", "huggingface_hub"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        return TaskManager(include_defaults=False).load([dict(config)])["tasks"][name]
    except Exception as error:  # datasets and the hub client raise dozens of kinds
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"task {name!r}: no rows from {config.get('dataset_path') or 'its file'} "
            f"({error.__class__.__name__}: {reason}); give a local file with "
            f"--data {name}=FILE.jsonl"
        ) from error


def _needed(config: Mapping[str, Any], scorer: Scorer) -> set[str]:
    """Fields that the prompt's template and the scorer use."""
    tree = jinja2.Environment().parse(str(config.get("doc_to_text", "")))
    return jinja2.meta.find_undeclared_variables(tree) | set(scorer.fields())


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
    given = dict(generation)
    greedy = given.pop("do_sample", None) is False
    unknown = sorted(set(given) - set(_GENERATION_NAMES))
    if unknown:
        raise UsageError(
            f"task {task!r}: generation_kwargs {', '.join(unknown)} cannot be honoured; known are "
            f"do_sample, {', '.join(_GENERATION_NAMES)}"
        )
    values = {_GENERATION_NAMES[name]: value for name, value in given.items()}
    return Sampling().updated(values | ({"temperature": 0} if greedy else {}))
