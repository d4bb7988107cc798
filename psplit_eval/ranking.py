"""From the rows of a board to its values, averages, who can be ranked with whom, and ranks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from psplit_eval.arms import (
    MAX_MISSING,
    Arm,
    Value,
    arm_values,
    renumbered,
    samples_a_doc,
    with_pools,
)
from psplit_eval.board import AVERAGE, Board, BoardRow, Cell, Column, Key, PublishedRow, Section
from psplit_eval.comparable import Standing, standings
from psplit_eval.comparison import difference
from psplit_eval.conditions import Conditions, numbered
from psplit_eval.entrants import Entrant
from psplit_eval.errors import RunMismatchError, UnknownNameError
from psplit_eval.published import AVERAGED, TASK_DOCS, published, published_creative
from psplit_eval.ranks import Contrast, Ranks, mean_of_columns, rank_intervals
from psplit_eval.scoring import MetricInfo
from psplit_eval.stats import Difference, Estimate, stratified_difference

__all__ = ["make_board"]

_POOLS = {"psplit_aime": ("psplit_aime24", "psplit_aime25")}
"""Pooled on a board wherever a row has all of their tasks, be it from several runs."""
_STORY, _PUBLISHED_DIVERSITY = "psplit_story", ("div_ngram_2", "div_bleu_4")
_ENTROPIES = ("entropy_bits", "entropy_bits_estimate")
_UNDEFINED = Estimate(math.nan, math.nan, math.nan, 0)


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
    apart = [entrant.unlike(_averaged(pools)) for entrant in entrants]
    subsets = [_subsets(entrant, own, pools) for entrant, own in zip(entrants, arms, strict=True)]
    cells = _Table(arms, values, standing, apart, subsets, allow_missing).by_row(columns)
    rows = [
        BoardRow(
            entrant,
            cells[i],
            list(values[i].values()),
            (*_row_notes(i, standing), *_unpooled(entrant, pools)),
            subsets[i],
        )
        for i, entrant in enumerate(entrants)
    ]
    theirs = [row for row in _published(models, columns) if row.values]
    return Board(columns, _sorted(rows, columns), theirs)


def _row_notes(row: int, standing: Mapping[str, Mapping[int, Standing]]) -> tuple[str, ...]:
    remarks = [rows[row].remark for rows in standing.values() if row in rows]
    return tuple(dict.fromkeys(remark for remark in remarks if remark))


def _unpooled(entrant: Entrant, pools: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for pool, tasks in pools.items():
        found = entrant.unlike(tasks)
        if found and set(tasks) <= set(entrant.arms):
            yield f"{pool} is not pooled, its tasks were run with other settings: {found}"


def _averaged(pools: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks behind the average, those of its pools one by one."""
    return [part for task in AVERAGED for part in (task, *pools.get(task, ()))]


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
    """Of every row its arms by task or pool; the same doc has the same number in all rows.

    Tasks of runs with other settings are not pooled.
    """
    places: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
    rows = []
    for entrant in entrants:
        made = []
        for task, arm in entrant.arms.items():
            of_task, docs = places[task], entrant.conditions[task].docs
            number = {doc: of_task.setdefault(key, len(of_task)) for key, doc in numbered(docs)}
            made.append(renumbered(arm, number))
        own = {pool: tasks for pool, tasks in pools.items() if not entrant.unlike(tasks)}
        rows.append({arm.task: arm for arm in with_pools(made, own)})
    return rows


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


def _subsets(
    entrant: Entrant, own: Mapping[str, Arm], pools: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Task or pool → how many of its docs the row has, where it has not all."""
    found = {}
    for task in own:
        parts = [entrant.conditions[part] for part in _parts(task, own, pools)]
        there = sum(len(part.docs) for part in parts)
        in_all = sum(map(_docs_in_all, parts))
        if there < in_all:
            found[task] = f"a subset, {there:,} of {in_all:,} docs"
    return found


def _docs_in_all(part: Conditions) -> int:
    """What the run knows of its data; a published test set has at least what is published."""
    return max(part.docs_in_all or 0, TASK_DOCS.get(part.task, 0), len(part.docs))


def _refuse(standing: Mapping[str, Mapping[int, Standing]]) -> None:
    for task, rows in standing.items():
        for found in rows.values():
            if found.obstacle:
                raise RunMismatchError(
                    f"{task}: {found.obstacle}; leave the run out, or --strict: it is marked then"
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
        else:
            yield from _of_task(task, shown[task], known)
        for name in entropies:
            if task == AVERAGE or (task, name) in known:
                yield Column(task, name, Section.ENTROPY, MetricInfo("bits", None))


def _of_task(task: str, arm: Arm, known: set[Key]) -> Iterator[Column]:
    """What decides the task, whether measured or not; of creative ones quality beside it."""
    creative = arm.scorer.kind == "diversity"
    section = Section.CREATIVE if creative else _section(arm.scorer.info(arm.scorer.primary))
    more = ["quality", *(_PUBLISHED_DIVERSITY if task == _STORY else ())] if creative else []
    for metric in dict.fromkeys([arm.scorer.primary, *more]):
        if metric == arm.scorer.primary or (task, metric) in known:
            yield Column(task, metric, section, arm.scorer.info(metric))


def _section(info: MetricInfo) -> str:
    """Only a share of which more is better is an accuracy: a perplexity, say, is none."""
    right = info.unit == "fraction" and info.higher_is_better
    return Section.ACCURACY if right else Section.OTHER


@dataclass(frozen=True)
class _Table:
    """What cells are made of; rows are numbers. `apart`: in what a row's runs differ, so that they
    have no average; `subsets`: by task what is there of it, where it was not run whole."""

    arms: Sequence[Mapping[str, Arm]]
    values: Sequence[Mapping[Key, Value]]
    standing: Mapping[str, Mapping[int, Standing]]
    apart: Sequence[str]
    subsets: Sequence[Mapping[str, str]]
    allow_missing: bool

    def by_row(self, columns: Sequence[Column]) -> list[dict[Key, Cell]]:
        found = {column.key: self._cells(column) for column in columns}
        return [
            {key: cells[row] for key, cells in found.items() if row in cells}
            for row in range(len(self.arms))
        ]

    def _cells(self, column: Column) -> dict[int, Cell]:
        """Of every row that has something to say in the column."""
        of_row = self._average if column.task == AVERAGE else self._plain
        cells = {
            row: cell for row in range(len(self.arms)) if (cell := of_row(column, row)) is not None
        }
        if column.ranked:
            members = [row for row, cell in cells.items() if not cell.notes]
            for row, ranks in zip(members, self._ranks(column, members), strict=True):
                cells[row] = replace(cells[row], ranks=ranks)
        return cells

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
        elif column.info.needs_equal_samples:
            notes.append(self._unequal(column, row))
        if arm.missing_share > MAX_MISSING and not self.allow_missing:
            notes.append(f"{arm.missing_share:.1%} of the samples are missing")
        few = self.subsets[row].get(column.task)
        return Cell(value, None, tuple(note for note in notes if note), (few,) if few else ())

    def _unequal(self, column: Column, row: int) -> str:
        """Why a row's number of samples makes its value another thing than that of most rows."""
        counts = {
            i: samples_a_doc(own[column.task])
            for i, own in enumerate(self.arms)
            if column.task in own and not self.standing[column.task][i].obstacle
        }
        ((usual, _),) = Counter(counts.values()).most_common(1)
        if counts.get(row, usual) == usual:
            return ""
        return f"{counts[row]} samples a doc against {usual}, on which {column.metric} depends"

    def _average(self, column: Column, row: int) -> Cell | None:
        own = [self._of_average(column, task, row) for task in AVERAGED]
        if not any(own):
            return None
        titles = [replace(column, task=task).title for task in AVERAGED]
        lacking = [name for name, cell in zip(titles, own, strict=True) if cell is None]
        cells = [cell for cell in own if cell is not None]
        if lacking or self.apart[row]:
            note = f"no average without {', '.join(lacking)}"
            if self.apart[row]:
                note = f"no average over runs with other settings: {self.apart[row]}"
            return Cell(_average_value(column, _UNDEFINED, cells), notes=(note,))
        estimate = mean_of_columns([cell.value.estimate for cell in cells])
        marked = [name for name, cell in zip(titles, cells, strict=True) if cell.notes]
        notes = (f"marked in {', '.join(marked)}",) if marked else ()
        few = [
            f"{name}: {remark}"
            for name, cell in zip(titles, cells, strict=True)
            for remark in cell.remarks
        ]
        return Cell(_average_value(column, estimate, cells), None, notes, tuple(few))

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
