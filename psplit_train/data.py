"""The prompts of a training run: read, cleaned, kept apart from what evaluates it.

In this order: rows are read; repeated questions are dropped; so are those that an evaluation set
holds, too; a seed chooses which are held out and, with a limit, which are trained on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.errors import DataError, InfrastructureError, UnknownNameError, UsageError
from psplit_eval.files import disk_errors, write_text
from psplit_eval.rows import read_rows
from psplit_eval.text import shortened
from psplit_train.config import DataSettings
from psplit_train.contamination import (
    OverlapIndex,
    evaluation_files,
    evaluation_texts,
    overlapping,
)
from psplit_train.tasks import TASKS

__all__ = ["Prompt", "TrainingData", "read_data", "to_dataset", "write_held_out"]

Say = Callable[[str], None]
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A question as it is asked (the instruction included) and its reference answer.

    `key` names it: 16 hexadecimal digits of the SHA-256 of both. `extra`: the row's other fields.
    `solution`: the whole answer field, of which the reference may be a part.
    """

    question: str
    answer: str
    key: str
    extra: Mapping[str, Any]
    solution: str = ""

    @classmethod
    def of(cls, question: str, answer: str, extra: Mapping[str, Any], solution: str = "") -> Prompt:
        """With its key."""
        return cls(question, answer, _sha256([(question, answer)])[:16], extra, solution)


@dataclass(frozen=True)
class TrainingData:
    """Prompts to train on and to evaluate with, in the order of their source; no question is in
    both, or twice in one.

    `dropped`: how many an evaluation set holds, too; `repeated`: how many asked what another one
    asks. `sha256` (hex) of the training rows: questions and answers, in order.
    """

    name: str
    train: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    answer_format: AnswerFormat
    dropped: int
    repeated: int

    @property
    def sha256(self) -> str:
        """Of questions and answers that are trained on, in order."""
        return _sha256((prompt.question, prompt.answer) for prompt in self.train)


def _sha256(pairs: Iterable[tuple[str, str]]) -> str:
    found = hashlib.sha256()
    for pair in pairs:
        found.update(json.dumps(pair).encode() + b"\n")
    return found.hexdigest()


def read_data(settings: DataSettings, say: Say) -> TrainingData:
    """The prompts that the settings name; `say` is told what was left out.

    `answer_format` is a generated task's own, else `answer_pattern`'s. The instruction is the
    setting's; of a generated task without the setting, the task's own (`instruction: ""`: none).
    Raises DataError for rows that lack a field or an answer and for too few prompts, UsageError for
    a pattern that is none, UnknownNameError for a task, InfrastructureError for a hub out of reach.
    """
    answer_format = _answer_format(settings)
    rows = _rows(settings)
    questions = _questions(settings, rows)
    first: dict[str, int] = {}
    for number, question in enumerate(questions):
        first.setdefault(_same(question), number)
    fresh = list(first.values())
    clean = _clean(settings, questions, fresh, say)
    if repeated := len(rows) - len(fresh):
        say(f"{_name(settings)}: {repeated} of {len(rows)} prompts repeat another one; dropped")
    held_out, train = _split(settings, clean)
    made = {n: _prompt(settings, n, rows[n], questions[n]) for n in sorted([*held_out, *train])}
    return TrainingData(
        _name(settings),
        tuple(made[number] for number in train),
        tuple(made[number] for number in held_out),
        answer_format,
        dropped=len(fresh) - len(clean),
        repeated=repeated,
    )


def _name(settings: DataSettings) -> str:
    file = settings.file.name.split(".jsonl")[0] if settings.file else None
    return settings.task or file or str(settings.hub)


def _answer_format(settings: DataSettings) -> AnswerFormat:
    if settings.task is None:
        return AnswerFormat(settings.answer_pattern)
    if settings.task not in TASKS:
        raise UnknownNameError("generated task", settings.task, TASKS)
    if settings.answer_pattern is not None:
        raise UsageError(
            f"answer_pattern {settings.answer_pattern!r}: the task {settings.task!r} has its own; "
            "leave it out"
        )
    return TASKS[settings.task].answer_format


def _rows(settings: DataSettings) -> Sequence[_Row]:
    if settings.task is not None:
        return TASKS[settings.task].rows(settings.seed)
    if settings.file is not None:
        return read_rows(settings.file)
    return _hub_rows(str(settings.hub), settings.subset, settings.split)


def _hub_rows(name: str, subset: str | None, split: str) -> list[_Row]:
    import datasets

    datasets.disable_progress_bars()
    try:
        return [dict(row) for row in datasets.load_dataset(name, subset, split=split)]
    except ConnectionError as error:
        raise InfrastructureError(
            f"data set {name!r}: the hub cannot be reached; give its rows as a JSON Lines file: "
            "data.file in place of data.hub"
        ) from error
    except Exception as error:  # datasets and the hub client raise dozens of kinds
        raise DataError(
            f"data set {name!r}, subset {subset!r}, split {split!r}: cannot be loaded "
            f"({error.__class__.__name__}: {shortened(error, 160)}); correct data.hub, data.subset "
            "or data.split"
        ) from error


def _questions(settings: DataSettings, rows: Sequence[_Row]) -> list[str]:
    field = "question" if settings.task else settings.prompt_field
    return [_text(settings, number, row, field) for number, row in enumerate(rows, 1)]


def _text(settings: DataSettings, number: int, row: _Row, field: str) -> str:
    """A text or a number, as text without spaces at its ends."""
    value = row.get(field)
    known = isinstance(value, str | int | float) and not isinstance(value, bool)
    known = known and value == value  # NaN, as pandas writes what is missing
    if not known or not str(value).strip():
        shown = f"{field} is {shortened(repr(value), 40)}" if field in row else f"no {field}"
        raise DataError(
            f"data {_name(settings)!r}, row {number}: {shown}, expected a text or a number; it has "
            f"{', '.join(map(str, row)) or 'no fields'}: name data.prompt_field, data.answer_field"
        )
    return str(value).strip()


def _same(question: str) -> str:
    """Equal for questions that differ in spaces only."""
    return " ".join(question.split())


def _clean(
    settings: DataSettings, questions: Sequence[str], fresh: Sequence[int], say: Say
) -> list[int]:
    """Of those numbers the ones whose question no evaluation set holds."""
    if not settings.decontaminate:
        return list(fresh)
    files = evaluation_files(settings.against)
    index = OverlapIndex.of(evaluation_texts(files))
    found = overlapping([questions[number] for number in fresh], index)
    clean = [number for number, dirty in zip(fresh, found, strict=True) if not dirty]
    if len(clean) < len(fresh):
        say(
            f"{_name(settings)}: {len(fresh) - len(clean)} of {len(fresh)} prompts share 13 words "
            f"in a row with one of {len(files)} evaluation files; dropped"
        )
    return clean


def _split(settings: DataSettings, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """(held out, trained on), each in the order of its source."""
    if len(numbers) <= settings.held_out:
        raise DataError(
            f"data {_name(settings)!r}: {len(numbers)} prompts, of which {settings.held_out} are "
            "to be held out; give fewer in data.held_out, or more prompts"
        )
    drawn = Random(settings.seed).sample(numbers, len(numbers))
    held_out, rest = drawn[: settings.held_out], drawn[settings.held_out :]
    return sorted(held_out), sorted(rest[: settings.limit])


def _prompt(settings: DataSettings, number: int, row: _Row, question: str) -> Prompt:
    question_field, answer_field = settings.prompt_field, settings.answer_field
    instruction = settings.instruction
    if settings.task is not None:
        question_field, answer_field = "question", "answer"
        instruction = TASKS[settings.task].instruction if instruction is None else instruction
    solution = answer = _text(settings, number + 1, row, answer_field)
    if settings.target_pattern is not None:
        answer = _target(settings, number + 1, answer)
    asked = f"{question}\n\n{instruction}" if instruction else question
    used = (question_field, answer_field)
    extra = {name: row[name] for name in row if name not in used}
    return Prompt.of(asked, answer, extra, solution)


def _target(settings: DataSettings, number: int, answer: str) -> str:
    pattern = str(settings.target_pattern)
    try:
        found = re.search(pattern, answer)
        stated = (found[1] or "").strip() if found else ""
    except (re.error, IndexError) as error:
        raise UsageError(
            f"target_pattern {pattern!r}: expected a regular expression with a group ({error}); "
            "correct data.target_pattern"
        ) from error
    if not stated:
        raise DataError(
            f"data {_name(settings)!r}, row {number}: {pattern!r} finds no answer in "
            f"{shortened(answer[-60:], 60)!r}; correct data.target_pattern or the row"
        )
    return stated


def to_dataset(prompts: Sequence[Prompt]) -> Any:
    """A `datasets.Dataset` with a row a prompt: `prompt` (a list of one user's message),
    `question`, `answer` and `key`."""
    import datasets

    return datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": prompt.question}],
                "question": prompt.question,
                "answer": prompt.answer,
                "key": prompt.key,
            }
            for prompt in prompts
        ]
    )


def write_held_out(
    folder: Path, data: TrainingData, name: str, max_tokens: int = 256, samples: int = 8
) -> Path:
    """Write the held-out prompts as a task of lm-eval's form and return the folder.

    `psplit-eval run --include-path FOLDER --tasks NAME` runs it: answers are found and checked as
    in training, `samples` are drawn a doc at temperature 1, with at most `max_tokens` each. Raises
    UsageError for a name that no task can have, DataError where nothing is held out.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise UsageError(f"task name {name!r}: expected small letters, digits and '_'")
    if not data.held_out:
        raise DataError(f"data {data.name!r}: no held-out prompts; give data.held_out a number")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": prompt.question, "answer": prompt.answer} for prompt in data.held_out]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(folder / f"{name}.jsonl", lines)
    write_text(folder / f"{name}_scorer.py", _scorer(data.answer_format))
    write_text(folder / f"{name}.yaml", _task(data, name, max_tokens, samples))
    return folder


def _scorer(answer_format: AnswerFormat) -> str:
    arguments = f"{answer_format.pattern!r}, checker={answer_format.checker!r}"
    return f'''"""What the YAML file beside this one names: its rows, and what scores an answer."""

import json
from pathlib import Path

import datasets

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.scoring import AccuracyScorer

answers = AccuracyScorer(AnswerFormat({arguments}))


def rows(file, **_):
    """The rows of a JSON Lines file beside this one, as the test split."""
    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").split("\\n")
    return {{"test": datasets.Dataset.from_list([json.loads(line) for line in lines if line])}}


def keep_all(responses, docs):
    """A filter that keeps every repeat."""
    return responses
'''


def _task(data: TrainingData, name: str, max_tokens: int, samples: int) -> str:
    metrics = ["accuracy_avg", *(["accuracy_unique"] if data.answer_format.several else [])]
    listed = "".join(
        f"  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}\n"
        for metric in metrics
    )
    title = json.dumps(f"held-out prompts of {data.name}")
    return f"""task: {name}
custom_dataset: !function {name}_scorer.rows
dataset_kwargs: {{file: {name}.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  do_sample: true
  temperature: 1.0
  top_k: 0
  top_p: 1.0
  max_gen_toks: {max_tokens}
  until: []
repeats: {samples}
filter_list:
  - name: all
    filter: [{{function: custom, filter_fn: !function {name}_scorer.keep_all}}]
process_results: !function {name}_scorer.answers
metric_list:
{listed}metadata:
  version: 1.0
  psplit:
    title: {title}
    source: written by psplit-train
"""
