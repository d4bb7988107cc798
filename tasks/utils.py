"""What the YAML files name with `!function`: where rows come from, and each task's scorer."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.creativity import CreativityScorer
from psplit_eval.lmtask import GivenRows
from psplit_eval.prompts import read_prompts
from psplit_eval.requests import digest
from psplit_eval.scoring import AccuracyScorer

SEED = 20260411
"""Part of what orders the options of psplit_gpqa_diamond."""
GPQA_COLUMNS = ("Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))

LETTERS = tuple("ABCDEFGHIJ")

_INTEGER = r"-?\d+(?:,\d{3})*"

last_number = AccuracyScorer(AnswerFormat(rf"({_INTEGER})"))
first_number = AccuracyScorer(AnswerFormat(rf"({_INTEGER})", first=True))
boxed = AccuracyScorer(AnswerFormat())
boxed_letter = AccuracyScorer(AnswerFormat(letter=True))
story = CreativityScorer("story")
uses = CreativityScorer("uses")
words = CreativityScorer("words")
open_questions = CreativityScorer("open")
solve = CreativityScorer("solve")
prompts = CreativityScorer("prompts")


def rows(file: str, **_: Any) -> dict[str, datasets.Dataset]:
    """The rows of a JSONL file beside this one, as the test split."""
    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}


def prompt_rows(file: str, **_: Any) -> dict[str, datasets.Dataset]:
    """The user's prompts as the test split."""
    return GivenRows(test=read_prompts(Path(file)))()


def gsm8k_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """Reduce the published answer, a worked solution that ends in '#### 1,234', to its number."""

    def number(row: dict[str, Any]) -> dict[str, Any]:
        return {"answer": str(row["answer"]).split("####")[-1].strip().replace(",", "")}

    return dataset.map(number)


def gpqa_docs(dataset: Iterable[dict[str, Any]]) -> datasets.Dataset:
    """Turn GPQA's columns into a question, shuffled options and the letter of the right one."""
    return datasets.Dataset.from_list([_gpqa_doc(row) for row in dataset])


def _gpqa_doc(row: dict[str, Any]) -> dict[str, Any]:
    question, right, *wrong = (str(row[column]).strip() for column in GPQA_COLUMNS)
    # one hash an option: no other row, no column's place and no Python version changes the order
    options = sorted([right, *wrong], key=lambda option: digest(SEED, question, option))
    return {"question": question, "options": options, "answer": "ABCD"[options.index(right)]}


def mmlu_pro_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """The rows as they are; ValueError for one whose options or answer are of another kind."""
    for number, row in enumerate(dataset, 1):
        options, answer = row["options"], row["answer"]
        if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
            raise ValueError(f"row {number}: options {options!r}, expected a list of 2 to 10")
        if not isinstance(answer, str) or answer not in LETTERS[: len(options)]:
            raise ValueError(f"row {number}: answer {answer!r}, expected the letter of an option")
    return dataset


def keep_all(responses: list[list[str]], docs: list[dict[str, Any]]) -> list[list[str]]:
    """A filter that keeps every repeat (lm-eval's own keep the first, or fail below a count)."""
    return responses
