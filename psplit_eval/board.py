"""A board over checkpoints and modes, as data.

`ranking` makes it; how it is shown is the business of `board_pages` and `board_plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psplit_eval.arms import Value
from psplit_eval.entrants import Entrant
from psplit_eval.files import defined
from psplit_eval.published import SOURCE
from psplit_eval.ranks import Ranks
from psplit_eval.scoring import MetricInfo

__all__ = [
    "AVERAGE",
    "Board",
    "BoardRow",
    "Cell",
    "Column",
    "Key",
    "PublishedRow",
    "Section",
]

AVERAGE = "average"
"""What the plain mean of the four published tasks is called in the place of a task."""

_TITLES = {
    "psplit_math500": "MATH-500",
    "psplit_aime": "AIME",
    "psplit_gpqa_diamond": "GPQA-Diamond",
    "psplit_mmlu_pro": "MMLU-Pro",
    AVERAGE: "Average",
}
Key = tuple[str, str]
"""Task and metric."""


class Section:
    """Which table a column stands in."""

    ACCURACY = "accuracy"
    ENTROPY = "entropy"
    CREATIVE = "creative"
    OTHER = "other"


@dataclass(frozen=True)
class Column:
    """One metric on one task, on a pool, or the average; `section`: the table that it stands in."""

    task: str
    metric: str
    section: str
    info: MetricInfo

    @property
    def key(self) -> Key:
        return self.task, self.metric

    @property
    def title(self) -> str:
        """The task's published name, where it has one."""
        return _TITLES.get(self.task, self.task)

    @property
    def ranked(self) -> bool:
        """Whether it has a better side: entropy has none."""
        return self.info.higher_is_better is not None


@dataclass(frozen=True)
class Cell:
    """A row's value in a column. `ranks` None: it takes no part in the ranking; `notes` say why,
    and why a value is undefined. `remarks`: what is worth knowing of a value all the same."""

    value: Value
    ranks: Ranks | None = None
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardRow:
    """A checkpoint in a mode. `values`: of every metric of every task, shown or not; `notes`: what
    is worth knowing of the whole row; `subsets`: of tasks that were not run whole what was."""

    entrant: Entrant
    cells: Mapping[Key, Cell]
    values: Sequence[Value]
    notes: tuple[str, ...] = ()
    subsets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedRow:
    """Others' figures, as printed: by task and metric, fractions and bits. No rank, no interval."""

    model: str
    method: str
    mode: str
    values: Mapping[Key, float]
    judged: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return ", ".join(part for part in (self.model, self.method, self.mode) if part)


@dataclass(frozen=True)
class Board:
    """Rows in the order of their average, else of their first column."""

    columns: Sequence[Column]
    rows: Sequence[BoardRow]
    published: Sequence[PublishedRow] = ()

    def in_section(self, section: str) -> list[Column]:
        return [column for column in self.columns if column.section == section]

    def to_dict(self) -> dict[str, Any]:
        """The content of leaderboard.json; undefined numbers are null."""
        return {
            "format": 1,
            "columns": [_column_entry(column) for column in self.columns],
            "rows": [_row_entry(row) for row in self.rows],
            "published": [_published_entry(row) for row in self.published],
        }


def _column_entry(column: Column) -> dict[str, Any]:
    return {
        "task": column.task,
        "metric": column.metric,
        "title": column.title,
        "section": column.section,
        "unit": column.info.unit,
        "higher_is_better": column.info.higher_is_better,
    }


def _row_entry(row: BoardRow) -> dict[str, Any]:
    entrant = row.entrant
    return {
        "model": entrant.model,
        "mode": entrant.mode,
        "setting": entrant.setting,
        "source": "run",
        "checkpoint": entrant.checkpoint,
        "fingerprint": entrant.fingerprint,
        "runs": [str(run) for run in entrant.runs],
        "notes": list(row.notes),
        "cells": [_cell_entry(key, cell) for key, cell in row.cells.items()],
    }


def _cell_entry(key: Key, cell: Cell) -> dict[str, Any]:
    estimate, ranks = cell.value.estimate, cell.ranks
    return {
        "task": key[0],
        "metric": key[1],
        "value": defined(estimate.value),
        "ci_low": defined(estimate.ci_low),
        "ci_high": defined(estimate.ci_high),
        "n_docs": estimate.n,
        "n_samples": cell.value.n_samples,
        "rank_low": ranks.low if ranks else None,
        "rank_high": ranks.high if ranks else None,
        "n_ranked": ranks.rows if ranks else None,
        "notes": list(cell.notes),
        "remarks": list(cell.remarks),
    }


def _published_entry(row: PublishedRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "method": row.method,
        "mode": row.mode,
        "source": "published",
        "from": SOURCE,
        "cells": [
            {"task": task, "metric": metric, "value": value}
            for (task, metric), value in row.values.items()
        ],
        "judged": dict(row.judged),
    }
