"""Samples that lm_eval logged (`--log_samples`) as modes, docs, prompts and samples of a run.

lm_eval writes `samples_TASK_DATE.jsonl` and beside it `results_DATE.json`. It logs no token ids,
finish reasons or seeds: those stay unknown, and with them entropy and truncation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psplit_eval.catalog import Catalog
from psplit_eval.errors import DataError, UsageError
from psplit_eval.harness import Question, imported_task
from psplit_eval.modes import BUILTIN_MODES, Mode
from psplit_eval.requests import digest
from psplit_eval.rows import new_doc, read_rows
from psplit_eval.store import Doc, Prompt, Sample
from psplit_eval.text import shortened

__all__ = ["Imported", "Log", "find_logs", "read_logs"]

_NAME = re.compile(r"samples_(.+)_(\d{4}-\d{2}-\d{2}T[\d.-]+)\.jsonl")
_NO_ANSWER = ""  # lm_eval's stand-in for a null answer of a chat server
_MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class Log:
    """One samples file of one task in one mode; `results` is {} where lm_eval's are not there."""

    mode: Mode
    task: str
    path: Path
    results: Mapping[str, Any]

    @property
    def model(self) -> str | None:
        """The model's name; None where there are no results to say it."""
        return self.results.get("model_name")

    @property
    def is_chat_server(self) -> bool:
        return "chat" in str((self.results.get("config") or {}).get("model", ""))


@dataclass(frozen=True)
class Imported:
    """A run made of logs: what its manifest says, and what goes into its store."""

    manifest: Mapping[str, Any]
    docs: Sequence[Doc]
    prompts: Sequence[Prompt]
    samples: Sequence[Sample]
    notes: Sequence[str]


def find_logs(arguments: Iterable[str]) -> list[Log]:
    """Logs named as PATH or MODE=PATH, a samples file or a folder to be searched.

    Without MODE a log without system prompt is `normal`, one with a built-in mode's prompt that
    mode. Raises UsageError where nothing is found, or where two logs are of one mode and task.
    """
    found: dict[tuple[str, str], Log] = {}
    for argument in arguments:
        label, path = _labelled(argument)
        for log in [_log(file, label) for file in _files(path)]:
            same = [known for known in found.values() if known.path.samefile(log.path)]
            if same:
                raise UsageError(
                    f"{str(log.path)!r}: named twice, as mode {same[0].mode.name!r} and as "
                    f"{log.mode.name!r}; name each log once"
                )
            other = found.setdefault((log.mode.name, log.task), log)
            if other is not log:
                raise UsageError(
                    f"{str(log.path)!r} and {str(other.path)!r} are both task {log.task!r} in mode "
                    f"{log.mode.name!r}; give one of the two, or name their modes: MODE=PATH"
                )
    models = {log.model for log in found.values() if log.model}
    if len(models) > 1:
        raise UsageError(
            f"logs of {len(models)} models ({', '.join(sorted(models))}): a run has one; import "
            "each into a run of its own, then psplit-eval compare"
        )
    return list(found.values())


def _labelled(argument: str) -> tuple[str, Path]:
    label, separator, rest = argument.partition("=")
    if separator and not Path(argument).exists():
        return label, Path(rest)
    return "", Path(argument)


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))
    if not files:
        raise UsageError(
            f"{str(path)!r}: no samples that lm_eval logged (expected samples_TASK_DATE.jsonl, as "
            "written by lm_eval --log_samples --output_path FOLDER)"
        )
    return files


def _log(path: Path, label: str) -> Log:
    name = _NAME.fullmatch(path.name)
    if name is None:
        raise UsageError(
            f"{str(path)!r}: expected a name as lm_eval gives it, samples_TASK_DATE.jsonl; rename "
            "the file back"
        )
    task, date = name.groups()
    results = _results(path.with_name(f"results_{date}.json"))
    return Log(_mode(label, results.get("system_instruction"), path), task, path, results)


def _results(path: Path) -> Mapping[str, Any]:
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        _check_results(content)
        return content
    except FileNotFoundError:
        return {}
    except (OSError, *_MALFORMED) as error:
        raise DataError(
            f"{path}: not lm_eval's results ({shortened(error, 80)}); delete it to import the "
            "samples without it"
        ) from error


def _check_results(content: Mapping[str, Any]) -> None:
    """Raise ValueError where what is read of lm_eval's results has another form."""
    for name, kind in _RESULTS.items():
        if not isinstance(content.get(name), kind | None):
            raise ValueError(f"{name} {content[name]!r:.40}, expected {kind.__name__}")
    datetime.fromtimestamp(float(content.get("date") or 0), UTC)


_RESULTS: Mapping[str, type] = {
    "model_name": str,
    "system_instruction": str,
    "config": dict,
    "chat_template": str,
    "n-samples": dict,
}


def _mode(label: str, prompt: str | None, path: Path) -> Mode:
    known = {mode.system_prompt: name for name, mode in BUILTIN_MODES.items()}
    name = label or known.get(prompt or None)
    if name is None:
        raise UsageError(
            f"{str(path)!r} was sampled with the system prompt {prompt!r:.60}; name its mode: "
            "MODE=PATH"
        )
    builtin = BUILTIN_MODES.get(name)
    return Mode(name, prompt or None, builtin.role if builtin else "other")


def read_logs(logs: Sequence[Log], catalog: Catalog) -> Imported:
    """Read all logs. Raises UnknownNameError for a task that is in no folder, DataError for rows
    that are not as lm_eval writes them, or docs that differ between modes."""
    docs: dict[tuple[str, int], Doc] = {}
    prompts: dict[tuple[str, str], Prompt] = {}
    samples: list[Sample] = []
    first_rows: dict[str, Mapping[str, Any]] = {}
    for log in logs:
        now = _logged_at(log)
        for row in _one_filter(read_rows(log.path)):
            doc = _doc(log, row)
            _check_same(docs.setdefault((log.task, doc.doc_id), doc), doc, log)
            prompt, found = _answers(log, row, doc, now)
            prompts.setdefault((prompt.prompt_hash, prompt.mode), prompt)
            samples += found
            first_rows.setdefault(log.task, row)
    tasks = {
        task: _task_entry(row, [doc for doc in docs.values() if doc.task == task], catalog, logs)
        for task, row in first_rows.items()
    }
    every = list(docs.values()), list(prompts.values()), samples
    return Imported({**_parts(logs), "tasks": tasks}, *every, list(_notes(logs, samples)))


def _check_same(known: Doc, doc: Doc, log: Log) -> None:
    if known.doc_hash != doc.doc_hash:
        raise DataError(
            f"{str(log.path)!r}: doc {doc.doc_id} of task {log.task!r} is another one in another "
            "mode; import logs of the same rows"
        )


def _one_filter(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """lm_eval logs a row for every doc and filter; the responses are the same in all of them."""
    return list({str(row.get("doc_id")): row for row in reversed(rows)}.values())[::-1]


def _logged_at(log: Log) -> str:
    when = log.results.get("date")
    moment = datetime.fromtimestamp(float(when), UTC) if when else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")


def _doc(log: Log, row: Mapping[str, Any]) -> Doc:
    try:
        number = int(row["doc_id"])
        if not 0 <= number < 2**31:
            raise ValueError(f"doc_id {number}, expected a row's number")
        return new_doc(log.task, number, dict(row["doc"]), str(row["target"]))
    except _MALFORMED as error:
        raise _malformed(log, row, error) from error


def _malformed(log: Log, row: Mapping[str, Any], error: Exception) -> DataError:
    return DataError(
        f"{str(log.path)!r}, doc {row.get('doc_id')!r}: {error!r}; expected a row as lm_eval logs "
        "it, with doc_id, doc, target, arguments and resps"
    )


def _answers(log: Log, row: Mapping[str, Any], doc: Doc, now: str) -> tuple[Prompt, list[Sample]]:
    """The first prompt of a row, and its samples: responses, or scores of given answers."""
    try:
        asked = [tuple(arguments.values()) for arguments in row["arguments"].values()]
        scored = _is_scored(row)
        questions = [Question(str(a[0]), str(a[1]) if scored else None).split() for a in asked]
        text = questions[0].text
        prompt = Prompt(digest(text), log.mode.name, text, ())
        found = row["resps"] if scored else row["resps"][0]
        blanks = [_blank(log, doc, prompt, index, now) for index in range(len(found))]
        if not scored:
            made = [_response(log, *pair) for pair in zip(blanks, found, strict=True)]
        else:
            answers = [question.answer or "" for question in questions]
            scores = [response[0] for response in found]
            made = [_scored(*three) for three in zip(blanks, answers, scores, strict=True)]
    except _MALFORMED as error:
        raise _malformed(log, row, error) from error
    return prompt, made


def _is_scored(row: Mapping[str, Any]) -> bool:
    return isinstance(row["resps"][0][0], list)


def _response(log: Log, sample: Sample, text: str | None) -> Sample:
    if text is None or (text == _NO_ANSWER and log.is_chat_server):
        return replace(sample, error="lm_eval logged no answer")
    if not isinstance(text, str):
        raise TypeError(f"response {text!r}, expected text")
    return replace(sample, text=text)


def _scored(sample: Sample, answer: str, score: Sequence[str]) -> Sample:
    return replace(
        sample,
        text=answer,
        finish_reason="scored",
        nll_sum_nats=-float(score[0]),
        is_greedy=score[1] == "True",
    )


def _blank(log: Log, doc: Doc, prompt: Prompt, index: int, now: str) -> Sample:
    """A sample of which nothing is known yet."""
    return Sample(
        mode=log.mode.name,
        task=log.task,
        doc_id=doc.doc_id,
        sample_idx=index,
        doc_hash=doc.doc_hash,
        request_hash=digest("imported", prompt.prompt_hash, doc.doc_hash, index),
        prompt_hash=prompt.prompt_hash,
        seed=None,
        attempt=1,
        text=None,
        thought=None,
        completion_ids=None,
        finish_reason=None,
        prompt_tokens=None,
        completion_tokens=None,
        entropy_sum_bits=None,
        nll_sum_nats=None,
        error=None,
        seconds=None,
        created_at=now,
    )


def _task_entry(
    row: Mapping[str, Any], docs: Sequence[Doc], catalog: Catalog, logs: Sequence[Log]
) -> dict[str, Any]:
    task = docs[0].task
    scored = _is_scored(row)
    logged = [] if scored else list(next(iter(row["arguments"].values())).values())[1:]
    generation = dict(logged[0]) if logged and isinstance(logged[0], dict) else {}
    if generation and _drawn_by_transformers(logs):
        generation.setdefault("top_k", 50)  # transformers' default, which lm_eval does not log
    return {
        **imported_task(catalog.task(task), docs, generation),
        "samples": 1 if scored else len(row["resps"][0]),
        "docs": len(docs),
        "docs_in_all": max(_size(log, len(docs)) for log in logs if log.task == task),
    }


def _drawn_by_transformers(logs: Sequence[Log]) -> bool:
    return all((log.results.get("config") or {}).get("model") == "hf" for log in logs)


def _size(log: Log, known: int) -> int:
    """Docs in the task's whole data set, as far as lm_eval logged it."""
    sizes = (log.results.get("n-samples") or {}).get(log.task)
    size = sizes.get("original") if isinstance(sizes, dict) else None
    return size if isinstance(size, int) and size > known else known


def _parts(logs: Sequence[Log]) -> dict[str, Any]:
    """What the manifest says of an imported run, as far as lm_eval logged it."""
    first = next((log.results for log in logs if log.results), {})
    config = first.get("config") or {}
    name = first.get("model_name") or logs[0].path.parent.name
    return {
        "checkpoint": {"name": name, "path": None, "fingerprint": None, "files": {}},
        "model": {
            "backend": "lm-eval",
            "lm_eval_model": config.get("model"),
            "dtype": str(config.get("model_dtype") or "").removeprefix("torch.") or None,
            "device": config.get("device"),
            "parameters": config.get("model_num_parameters"),
            "chat_template": first.get("chat_template"),
            "lm_eval": first.get("lm_eval_version"),
        },
        "modes": list({log.mode.name: log.mode.to_dict() for log in logs}.values()),
        "suite": None,
        "pools": {},
        "base_seed": None,
        "batch_size": None,
        "imported_from": [str(log.path.resolve()) for log in logs],
    }


def _notes(logs: Sequence[Log], samples: Sequence[Sample]) -> Iterator[str]:
    for log in logs:
        if not log.results:
            yield f"{log.path.name}: no results file beside it; the model's settings are not known"
        builtin = BUILTIN_MODES.get(log.mode.name)
        prompted = log.mode.system_prompt is not None
        if log.results and builtin and prompted != (builtin.system_prompt is not None):
            how = "with" if prompted else "without"
            yield f"{log.path.name}: mode {log.mode.name!r} was sampled {how} a system prompt"
        several: dict[int, list[str | None]] = {}
        for sample in samples:
            mine = sample.task == log.task and sample.mode == log.mode.name
            if mine and sample.finish_reason != "scored":
                several.setdefault(sample.doc_id, []).append(sample.text)
        repeated = [texts for texts in several.values() if len(texts) > 1]
        if repeated and all(len(set(texts)) == 1 for texts in repeated):
            yield (
                f"{log.path.name}: the repeats of every doc are the same text; they were drawn "
                "greedily or with one seed and count as one sample"
            )
