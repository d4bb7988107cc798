"""Figures that others published, as data: what a plan starts from, and what a leaderboard shows
beside one's own, marked as theirs.

Source: Policy Split, arXiv 2604.11510v1 (CC BY 4.0), tables of general tasks and of creative
writing. Accuracies are means over 8 samples a question, given there in per cent, entropies in bits
a token; diversity is of 8 stories a prompt, times 100, a judge's scores of 0 to 10 times 10.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from psplit_eval.errors import UnknownNameError

__all__ = [
    "AVERAGED",
    "SOURCE",
    "TASK_DOCS",
    "Published",
    "PublishedCreative",
    "original",
    "published",
    "published_creative",
]

SOURCE = "arXiv 2604.11510, CC BY 4.0"
AVERAGED = ("psplit_math500", "psplit_aime", "psplit_gpqa_diamond", "psplit_mmlu_pro")
"""The tasks whose plain mean is the published 'Average', in the order of the paper."""

TASK_DOCS: Mapping[str, int] = {
    "psplit_gsm8k": 1319,
    "psplit_math500": 500,
    "psplit_aime24": 30,
    "psplit_aime25": 30,
    "psplit_aime": 60,
    "psplit_gpqa_diamond": 198,
    "psplit_mmlu_pro": 12_032,
}
"""Questions in the published test sets."""


@dataclass(frozen=True)
class Published:
    """One published row. `mode` is empty where the model has one. `accuracy` (fractions) and
    `entropy` (bits a token): by psplit's name of the task; the averages as printed."""

    model: str
    method: str
    mode: str
    accuracy: Mapping[str, float]
    entropy: Mapping[str, float]
    average_accuracy: float
    average_entropy: float


@lru_cache(maxsize=1)
def published() -> tuple[Published, ...]:
    """Every row, in the order of the paper."""
    return tuple(map(_row, _lines("policy_split.csv")))


def _row(line: Mapping[str, str]) -> Published:
    def of(what: str, scale: float) -> dict[str, float]:
        named = {task: task.removeprefix("psplit_") for task in AVERAGED}
        return {task: float(line[f"{name}_{what}"]) / scale for task, name in named.items()}

    return Published(
        line["model"],
        line["method"],
        line["mode"],
        of("accuracy", 100),
        of("entropy", 1),
        float(line["average_accuracy"]) / 100,
        float(line["average_entropy"]),
    )


@dataclass(frozen=True)
class PublishedCreative:
    """One published row of creative writing: fractions of `div_ngram_2` and `div_bleu_4`, and the
    means, 0 to 10 a rubric, that the strictest of three judges gave."""

    model: str
    method: str
    mode: str
    diversity: Mapping[str, float]
    judged: Mapping[str, float]


@lru_cache(maxsize=1)
def published_creative() -> tuple[PublishedCreative, ...]:
    """Every row, in the order of the paper."""
    return tuple(map(_creative_row, _lines("policy_split_creative.csv")))


def _lines(name: str) -> list[dict[str, str]]:
    text = (files("psplit_eval") / "published_figures" / name).read_text()
    return list(csv.DictReader(text.splitlines()))


def _creative_row(line: Mapping[str, str]) -> PublishedCreative:
    named = ("model", "method", "mode")
    numbers = {name: float(value) for name, value in line.items() if name not in named}
    diversity = {name: value / 100 for name, value in numbers.items() if name.startswith("div_")}
    judged = {name: value / 10 for name, value in numbers.items() if name not in diversity}
    return PublishedCreative(line["model"], line["method"], line["mode"], diversity, judged)


def original(model: str) -> Published:
    """The row of a model as it was before training; raises UnknownNameError."""
    rows = {row.model: row for row in published() if row.method == "original"}
    if model not in rows:
        raise UnknownNameError("published model", model, rows)
    return rows[model]
