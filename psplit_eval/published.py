"""Figures that others published, as data: what a plan starts from, and what a leaderboard shows
beside one's own, marked as theirs.

Source: Policy Split, arXiv 2604.11510v1 (CC BY 4.0), table of general tasks; accuracies are means
over 8 samples a question, given there in per cent, entropies in bits a token.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from psplit_eval.errors import UnknownNameError

__all__ = ["TASK_DOCS", "Published", "original", "published"]

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

_COLUMNS = ("math500", "aime", "gpqa_diamond", "mmlu_pro")


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
    text = (files("psplit_eval") / "published_figures" / "policy_split.csv").read_text()
    return tuple(map(_row, csv.DictReader(text.splitlines())))


def _row(line: Mapping[str, str]) -> Published:
    def of(what: str, scale: float) -> dict[str, float]:
        return {f"psplit_{task}": float(line[f"{task}_{what}"]) / scale for task in _COLUMNS}

    return Published(
        line["model"],
        line["method"],
        line["mode"],
        of("accuracy", 100),
        of("entropy", 1),
        float(line["average_accuracy"]) / 100,
        float(line["average_entropy"]),
    )


def original(model: str) -> Published:
    """The row of a model as it was before training; raises UnknownNameError."""
    rows = {row.model: row for row in published() if row.method == "original"}
    if model not in rows:
        raise UnknownNameError("published model", model, rows)
    return rows[model]
