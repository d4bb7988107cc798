"""A board over checkpoints and modes: values, averages, who can be ranked with whom, and ranks.

Data only; how it is shown is the business of `board_pages` and `board_plots`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from psplit_eval.arms import MAX_MISSING, Arm, Value, arm_values, renumbered, with_pools
from psplit_eval.comparable import Standing, standings
from psplit_eval.comparison import difference
from psplit_eval.conditions import numbered
from psplit_eval.entrants import Entrant
from psplit_eval.errors import RunMismatchError, UnknownNameError
from psplit_eval.files import defined
from psplit_eval.published import AVERAGED, SOURCE, published, published_creative
from psplit_eval.ranks import Contrast, Ranks, mean_of_columns, rank_intervals
from psplit_eval.scoring import MetricInfo
from psplit_eval.stats import Difference, Estimate, stratified_difference

__all__ = [
    "AVERAGE",
    "Board",
    "BoardRow",
    "Cell",
    "Column",
    "PublishedRow",
    "Section",
    "make_board",
]

AVERAGE = "average"
"""What the plain mean of the four published tasks is called in the place of a task."""

_POOLS = {"psplit_aime": ("psplit_aime24", "psplit_aime25")}
"""Pooled on a board wherever a row has all of their tasks, be it from several runs."""
_TITLES = {
    "psplit_math500": "MATH-500",
    "psplit_aime": "AIME",
    "psplit_gpqa_diamond": "GPQA-Diamond",
    "psplit_mmlu_pro": "MMLU-Pro",
    AVERAGE: "Average",
}
_STORY, _PUBLISHED_DIVERSITY = "psplit_story", ("div_ngram_2", "div_bleu_4")
_ENTROPIES = ("entropy_bits", "entropy_bits_estimate")

Key = tuple[str, str]
"""Task and metric."""


class Section:
    """Which table a column stands in."""

    ACCURACY = "accuracy"
    ENTROPY = "entropy"
    CREATIVE = "creative"


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
    and why a value is undefined."""

    value: Value
    ranks: Ranks | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardRow:
    """A checkpoint in a mode. `values`: of every metric of every task, shown or not; `notes`: what
    is worth knowing of the whole row."""

    entrant: Entrant
    cells: Mapping[Key, Cell]
    values: Sequence[Value]
    notes: tuple[str, ...] = ()


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


def make_board(
    entrants: Sequence[Entrant],
    published_models: Sequence[str] | None = None,
    strict: bool = False,
    allow_missing: bool = False,
) -> Board:
    """Values, averages and rank intervals of all rows.

    `published_models`: whose published rows are shown, as far as the board has their tasks; None:
    those of models that a row's checkpoint is called after. `strict`: raise RunMismatchError for
    the first row that cannot be compared, else it is marked and not ranked. `allow_missing`: infer
    though more than MAX_MISSING of a row's samples are missing. Raises UnknownNameError for a model
    that has no published rows.
    """
    models = _known_models(entrants, published_models)
    pools = _pools(entrants)
    arms = _arms(entrants, pools)
    standing = _standings(entrants, arms, pools)
    if strict:
        _refuse(standing)
    values = [
        {key: value for arm in own.values() for key, value in _values(arm, allow_missing)}
        for own in arms
    ]
    columns = list(_columns(arms, values))
    table = _Table(arms, values, standing, allow_missing)
    cells: list[dict[Key, Cell]] = [{} for _ in entrants]
    for column in columns:
        for row, cell in table.cells(column):
            cells[row][column.key] = cell
    rows = [
        BoardRow(
            entrant,
            cells[i],
            list(values[i].values()),
            tuple(dict.fromkeys(s[i].remark for s in standing.values() if i in s and s[i].remark)),
        )
        for i, entrant in enumerate(entrants)
    ]
    theirs = [row for row in _published(models, columns) if row.values]
    return Board(columns, _sorted(rows, columns), theirs)


def _known_models(entrants: Sequence[Entrant], given: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(row.model for row in published()))
    if given is None:
        names = [f"{entrant.model} {entrant.checkpoint}".lower() for entrant in entrants]
        return [model for model in known if any(model in name for name in names)]
    for model in given:
        if model not in known:
            raise UnknownNameError("published model", model, known)
    return list(given)


def _pools(entrants: Sequence[Entrant]) -> dict[str, Sequence[str]]:
    """Pools of all runs, those aside whose tasks are not the same everywhere."""
    found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for pools in [_POOLS, *(entrant.pools for entrant in entrants)]:
        for name, tasks in pools.items():
            found[name].add(tuple(tasks))
    return {name: next(iter(forms)) for name, forms in found.items() if len(forms) == 1}


def _arms(entrants: Sequence[Entrant], pools: Mapping[str, Sequence[str]]) -> list[dict[str, Arm]]:
    """Of every row its arms by task or pool; the same doc has the same number in all rows."""
    places: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
    made = []
    for entrant in entrants:
        for task, arm in entrant.arms.items():
            of_task, docs = places[task], entrant.conditions[task].docs
            number = {doc: of_task.setdefault(key, len(of_task)) for key, doc in numbered(docs)}
            made.append(renumbered(arm, number))
    rows: dict[str, dict[str, Arm]] = {entrant.name: {} for entrant in entrants}
    for arm in with_pools(made, pools):
        rows[arm.run][arm.task] = arm
    return list(rows.values())


def _standings(
    entrants: Sequence[Entrant],
    arms: Sequence[Mapping[str, Arm]],
    pools: Mapping[str, Sequence[str]],
) -> dict[str, dict[int, Standing]]:
    """Task or pool → row → standing."""
    names = {i: entrant.name for i, entrant in enumerate(entrants)}
    found = {}
    for task in dict.fromkeys(task for own in arms for task in own):
        of_task = {
            i: [entrants[i].conditions[part] for part in _parts(task, own, pools)]
            for i, own in enumerate(arms)
            if task in own
        }
        found[task] = standings(of_task, names)
    return found


def _parts(task: str, own: Mapping[str, Arm], pools: Mapping[str, Sequence[str]]) -> Sequence[str]:
    pooled = any(arm.pool == task for arm in own.values())
    return pools[task] if pooled else [task]


def _refuse(standing: Mapping[str, Mapping[int, Standing]]) -> None:
    for task, rows in standing.items():
        for found in rows.values():
            if found.obstacle:
                raise RunMismatchError(
                    f"{task}: {found.obstacle}; leave the run out, or --strict, which then marks it"
                )


def _values(arm: Arm, allow_missing: bool) -> Iterator[tuple[Key, Value]]:
    for value in arm_values(arm, allow_missing):
        yield (value.task, value.metric), value


def _columns(
    arms: Sequence[Mapping[str, Arm]], values: Sequence[Mapping[Key, Value]]
) -> Iterator[Column]:
    """The paper's four tasks and their average first, then all others as they come."""
    first: dict[str, Arm] = {}
    for own in arms:
        for task, arm in own.items():
            if task not in first or not arm.pool:
                first[task] = arm
    shown = {task: arm for task, arm in first.items() if not arm.pool}
    tasks = [task for task in AVERAGED if task in shown]
    tasks += [AVERAGE] if tasks else []
    tasks += [task for task in shown if task not in tasks]
    known = {key for own in values for key in own}
    entropies = [name for name in _ENTROPIES if any(metric == name for _, metric in known)]
    for task in tasks:
        if task == AVERAGE:
            yield Column(task, "accuracy_avg", Section.ACCURACY, MetricInfo("fraction", True))
            yield from (
                Column(task, name, Section.ENTROPY, MetricInfo("bits", None)) for name in entropies
            )
            continue
        arm = shown[task]
        creative = arm.scorer.kind == "diversity"
        section = Section.CREATIVE if creative else Section.ACCURACY
        metrics = [arm.scorer.primary, *(["quality"] if creative else [])]
        metrics += _PUBLISHED_DIVERSITY if task == _STORY else ()
        for metric in metrics:
            if (task, metric) in known:
                yield Column(task, metric, section, arm.scorer.info(metric))
        for name in entropies:
            if (task, name) in known:
                yield Column(task, name, Section.ENTROPY, MetricInfo("bits", None))


@dataclass(frozen=True)
class _Table:
    """What cells are made of; rows are numbers."""

    arms: Sequence[Mapping[str, Arm]]
    values: Sequence[Mapping[Key, Value]]
    standing: Mapping[str, Mapping[int, Standing]]
    allow_missing: bool

    def cells(self, column: Column) -> list[tuple[int, Cell]]:
        """Of every row that has something to say in the column."""
        of_row = self._average if column.task == AVERAGE else self._plain
        cells = {
            row: cell for row in range(len(self.arms)) if (cell := of_row(column, row)) is not None
        }
        if column.ranked:
            members = [row for row, cell in cells.items() if not cell.notes]
            for row, ranks in zip(members, self._ranks(column, members), strict=True):
                cells[row] = replace(cells[row], ranks=ranks)
        return list(cells.items())

    def _plain(self, column: Column, row: int) -> Cell | None:
        arm, value = self.arms[row].get(column.task), self.values[row].get(column.key)
        if arm is None:
            return None
        notes = [self.standing[column.task][row].obstacle]
        if value is None:
            if column.metric in _ENTROPIES:  # the other one, or of an engine that tells none
                return None
            value = _value(column, _UNDEFINED, 0)
            notes.append(f"{column.metric} is not measured; psplit-eval score RUN says why")
        elif math.isnan(value.estimate.value):
            notes.append(f"{column.metric} is undefined for every doc")
        if arm.missing_share > MAX_MISSING and not self.allow_missing:
            notes.append(f"{arm.missing_share:.1%} of the samples are missing")
        return Cell(value, notes=tuple(note for note in notes if note))

    def _average(self, column: Column, row: int) -> Cell | None:
        own = [self._of_average(column, task, row) for task in AVERAGED]
        if not any(own):
            return None
        lacking = [_TITLES[t] for t, cell in zip(AVERAGED, own, strict=True) if cell is None]
        cells = [cell for cell in own if cell is not None]
        if lacking:
            note = f"no average without {', '.join(lacking)}"
            return Cell(_average_value(column, _UNDEFINED, cells), notes=(note,))
        estimate = mean_of_columns([cell.value.estimate for cell in cells])
        marked = [_TITLES[t] for t, cell in zip(AVERAGED, cells, strict=True) if cell.notes]
        notes = (f"marked in {', '.join(marked)}",) if marked else ()
        return Cell(_average_value(column, estimate, cells), notes=notes)

    def _of_average(self, column: Column, task: str, row: int) -> Cell | None:
        """The cell that goes into the average: an entropy of the same kind, an accuracy."""
        part = replace(column, task=task)
        return self._plain(part, row) if part.key in self.values[row] else None

    def _ranks(self, column: Column, members: Sequence[int]) -> list[Ranks]:
        contrasts = {}
        for (i, a), (j, b) in combinations(enumerate(members), 2):
            found = self._difference(column, a, b)
            sign = 1 if column.info.higher_is_better else -1
            contrasts[i, j] = Contrast(sign * found.difference, found.p)
        return rank_intervals(len(members), contrasts)

    def _difference(self, column: Column, a: int, b: int) -> Difference:
        """Row b minus row a; of the average its tasks' mean, which are independent."""
        tasks = AVERAGED if column.task == AVERAGE else (column.task,)
        found = [difference(self.arms[a][t], self.arms[b][t], column.metric) for t in tasks]
        return found[0] if len(found) == 1 else stratified_difference(found)


_UNDEFINED = Estimate(math.nan, math.nan, math.nan, 0)


def _average_value(column: Column, estimate: Estimate, cells: Iterable[Cell]) -> Value:
    return _value(column, estimate, sum(cell.value.n_samples for cell in cells))


def _value(column: Column, estimate: Estimate, samples: int) -> Value:
    info, named = column.info, (column.task, "", column.metric)
    return Value(*named, estimate, samples, info.unit, info.higher_is_better)


def _published(models: Sequence[str], columns: Sequence[Column]) -> Iterator[PublishedRow]:
    shown = {column.key for column in columns}
    for row in published():
        values = {(task, "accuracy_avg"): value for task, value in row.accuracy.items()}
        values |= {(task, "entropy_bits"): value for task, value in row.entropy.items()}
        values[AVERAGE, "accuracy_avg"] = row.average_accuracy
        values[AVERAGE, "entropy_bits"] = row.average_entropy
        if row.model in models:
            kept = {key: value for key, value in values.items() if key in shown}
            yield PublishedRow(row.model, row.method, row.mode, kept)
    for written in published_creative():
        values = {(_STORY, name): value for name, value in written.diversity.items()}
        kept = {key: value for key, value in values.items() if key in shown}
        if written.model in models:
            yield PublishedRow(
                written.model, written.method, written.mode, kept, written.judged if kept else {}
            )


def _sorted(rows: Sequence[BoardRow], columns: Sequence[Column]) -> list[BoardRow]:
    """By the average where a row has one, else by the first column that has a better side."""
    ranked = [column for column in columns if column.ranked]
    ranked.sort(key=lambda column: column.task != AVERAGE)

    def place(row: BoardRow) -> list[tuple[bool, float]]:
        return [_place(row.cells.get(column.key), column) for column in ranked]

    return sorted(rows, key=place)


def _place(cell: Cell | None, column: Column) -> tuple[bool, float]:
    if cell is None or math.isnan(cell.value.estimate.value):
        return True, 0.0
    value = cell.value.estimate.value
    return cell.ranks is None, -value if column.info.higher_is_better else value


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
