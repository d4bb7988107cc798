"""leaderboard.csv: one line a model, mode, task and metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from psplit_eval.arms import Value

__all__ = ["COLUMNS", "leaderboard_csv"]

COLUMNS = (
    "model",
    "mode",
    "task",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n_docs",
    "n_samples",
    "unit",
    "higher_is_better",
)


def leaderboard_csv(model: str, values: Iterable[Value]) -> str:
    """The file's text. Fractions and bits; an undefined number or direction is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for value in values:
        estimate = value.estimate
        better = "" if value.higher_is_better is None else str(value.higher_is_better).lower()
        name = (model, value.mode, value.task, value.metric)
        numbers = map(_cell, (estimate.value, estimate.ci_low, estimate.ci_high))
        rest = (estimate.n, value.n_samples, value.unit, better)
        writer.writerow([*name, *numbers, *rest])
    return out.getvalue()


def _cell(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"
