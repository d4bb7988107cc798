"""leaderboard.csv: one line a model, mode, task and metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from psplit_eval.arms import Value

__all__ = ["COLUMNS", "csv_line", "csv_number", "csv_text", "leaderboard_csv"]

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
    return csv_text(COLUMNS, (csv_line(model, value) for value in values))


def csv_line(model: str, value: Value) -> list[str]:
    """The cells of COLUMNS."""
    estimate = value.estimate
    better = "" if value.higher_is_better is None else str(value.higher_is_better).lower()
    numbers = map(csv_number, (estimate.value, estimate.ci_low, estimate.ci_high))
    counts = str(estimate.n), str(value.n_samples)
    return [model, value.mode, value.task, value.metric, *numbers, *counts, value.unit, better]


def csv_text(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A file with that header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return out.getvalue()


def csv_number(number: float) -> str:
    """Six digits; undefined is empty."""
    return "" if math.isnan(number) else f"{number:.6g}"
