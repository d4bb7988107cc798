"""What the YAML files name with `!function`: where rows come from, and each task's scorer."""

import json
from pathlib import Path
from typing import Any

import datasets

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.scoring import AccuracyScorer, DiversityScorer

_INTEGER = r"-?\d+(?:,\d{3})*"

last_number = AccuracyScorer(AnswerFormat(rf"({_INTEGER})"))
first_number = AccuracyScorer(AnswerFormat(rf"({_INTEGER})", first=True))
boxed = AccuracyScorer(AnswerFormat())
diversity = DiversityScorer()


def rows(file: str, **_: Any) -> dict[str, datasets.Dataset]:
    """The rows of a JSONL file beside this one, as the test split."""
    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}


def gsm8k_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """Reduce the published answer, a worked solution that ends in '#### 1,234', to its number."""

    def number(row: dict[str, Any]) -> dict[str, Any]:
        return {"answer": str(row["answer"]).split("####")[-1].strip().replace(",", "")}

    return dataset.map(number)


def keep_all(responses: list[list[str]], docs: list[dict[str, Any]]) -> list[list[str]]:
    """A filter that keeps every repeat (lm-eval's own keep the first, or fail below a count)."""
    return responses
