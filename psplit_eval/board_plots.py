"""A board's pictures: accuracy against entropy, diversity against quality, a forest a column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psplit_eval.arms import Value
from psplit_eval.board import Board, BoardRow, Cell, Column, Section
from psplit_eval.captions import INTERVALS, listed, number_text, share_text
from psplit_eval.figures import (
    Plot,
    add_legend,
    bar_lengths,
    blank_figure,
    finish_panel,
    fold,
    legend_name,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    write_figure,
)
from psplit_eval.frontier import FrontierPoint, draw_frontier
from psplit_eval.stats import Estimate
from psplit_eval.text import shortened_inside

__all__ = ["draw_board"]

_GREY = "#8a8a8a"
_DIVERSITY = ("dispersion_beyond_prompt", "div_bleu_4")
"""The first that a board has is drawn against quality."""
_SCATTER = (
    *("task", "row", "source", "accuracy", "accuracy_ci_low", "accuracy_ci_high"),
    *("entropy_bits", "entropy_ci_low", "entropy_ci_high", "n_docs"),
)
_FOREST = ("row", "value", "ci_low", "ci_high", "n_docs", "rank_low", "rank_high", "n_ranked")
_LABEL_WIDTH = 34
_NAME = 68
"""Letters of a row's name that are shown."""


def draw_board(board: Board, folder: Path) -> list[Plot]:
    """Write every picture that the board has data for, each with its numbers.

    `accuracy_entropy`, `frontier` and `forest_TASK_METRIC`. Undefined values are not drawn.
    """
    made = [_accuracy_entropy(board, folder), _frontier(board, folder)]
    made += [_forest(board, column, folder) for column in board.columns]
    return [plot for plot in made if plot is not None]


@dataclass(frozen=True)
class _Panel:
    """Accuracy and entropy of one task: (row, accuracy, entropy) of ours, and of published ones."""

    task: str
    entropy: str
    ours: Sequence[tuple[str, Estimate, Estimate]]
    theirs: Sequence[tuple[str, float, float]]


def _accuracy_entropy(board: Board, folder: Path) -> Plot | None:
    """A panel a task; the published rows are grey."""
    panels = [panel for panel in _panels(board) if panel.ours]
    if not panels:
        return None
    names = [row.entrant.name for row in board.rows]
    figure, axes = panel_grid(len(panels), "accuracy, %", sharey=False, size=(3.0, 3.2))
    for axis, panel in zip(axes, panels, strict=True):
        _crosses(axis, panel, names)
        axis.set_xlabel(f"{panel.entropy}, bits a token", fontsize=9)
        axis.margins(0.12)
        finish_panel(axis, panel.task)
    set_heading(figure, "Accuracy against entropy (95 % intervals over docs)")
    add_legend(figure, axes)
    lines = [line for panel in panels for line in _scatter_lines(panel)]
    return write_figure(folder, "accuracy_entropy", figure, _words(panels), _SCATTER, lines)


def _panels(board: Board) -> Iterator[_Panel]:
    """Every accuracy with the entropy of the same task."""
    for accuracy in board.in_section(Section.ACCURACY):
        for entropy in board.in_section(Section.ENTROPY):
            if accuracy.info.unit == "fraction" and entropy.task == accuracy.task:
                ours = list(_points(board, accuracy, entropy))
                theirs = list(_published_points(board, accuracy, entropy))
                yield _Panel(accuracy.title, entropy.metric, ours, theirs)


def _points(
    board: Board, accuracy: Column, entropy: Column
) -> Iterator[tuple[str, Estimate, Estimate]]:
    for row in board.rows:
        both = [_estimate(row.cells.get(column.key)) for column in (accuracy, entropy)]
        if all(math.isfinite(estimate.value) for estimate in both):
            yield row.entrant.name, both[0], both[1]


def _published_points(
    board: Board, accuracy: Column, entropy: Column
) -> Iterator[tuple[str, float, float]]:
    for row in board.published:
        if accuracy.key in row.values and entropy.key in row.values:
            yield row.name, row.values[accuracy.key], row.values[entropy.key]


def _estimate(cell: Cell | None) -> Estimate:
    return cell.value.estimate if cell else Estimate(math.nan, math.nan, math.nan, 0)


def _crosses(axis: Any, panel: _Panel, names: Sequence[str]) -> None:
    x, y = [x for _, _, x in panel.theirs], [100 * y for _, y, _ in panel.theirs]
    if panel.theirs:
        label = "published, not measured here"
        axis.plot(x, y, "x", color=_GREY, markersize=5, alpha=0.7, label=label)
    for name, accuracy, entropy in panel.ours:
        scaled = _scaled(accuracy, 100.0)
        axis.errorbar(
            [entropy.value],
            [scaled.value],
            xerr=_bars(entropy),
            yerr=_bars(scaled),
            capsize=2,
            markersize=7,
            elinewidth=1,
            label=legend_name(_short(name)),
            **mode_style(names, name) | {"linestyle": "none"},
        )


def _scaled(e: Estimate, scale: float) -> Estimate:
    return Estimate(e.value * scale, e.ci_low * scale, e.ci_high * scale, e.n)


def _bars(estimate: Estimate) -> list[list[float]]:
    return list(bar_lengths([estimate]))


def _scatter_lines(panel: _Panel) -> Iterator[tuple[Any, ...]]:
    nan = math.nan
    for name, y, x in panel.ours:
        numbers = (y.value, y.ci_low, y.ci_high, x.value, x.ci_low, x.ci_high, y.n)
        yield (panel.task, name, "run", *numbers)
    for name, accuracy, entropy in panel.theirs:
        yield (panel.task, name, "published", accuracy, nan, nan, entropy, nan, nan, "")


def _words(panels: Sequence[_Panel]) -> tuple[str, str]:
    caption = (
        "Each point is a checkpoint in a mode: its entropy to the right, its accuracy upwards. "
        f"{INTERVALS}"
    )
    if any(panel.theirs for panel in panels):
        caption += " Grey crosses are published figures, not measured here."
    return caption, listed(
        "Scatter plot of accuracy against entropy.",
        (
            f"{panel.task}, {name}: accuracy {share_text(y)}, entropy {number_text(x, 'bits')}"
            for panel in panels
            for name, y, x in panel.ours
        ),
    )


def _frontier(board: Board, folder: Path) -> Plot | None:
    """Rows that differ in temperature alone are one series."""
    for metric in _DIVERSITY:
        points = [point for row in board.rows for point in _frontier_points(row, metric)]
        if any(point.defined for point in points):
            points.sort(key=lambda point: (point.task, point.series, _number(point.label)))
            crowds = _crowds(points)
            labelled = [
                point if (point.task, point.series) in crowds else _unlabelled(point)
                for point in points
            ]
            heading = "Diversity beside quality"
            return draw_frontier(labelled, folder, diversity=metric, heading=heading)
    return None


def _frontier_points(row: BoardRow, metric: str) -> Iterator[FrontierPoint]:
    known = {(value.task, value.metric): value for value in row.values}
    entrant = row.entrant
    rest = re.sub(r"(, )?temperature [^,]+", "", entrant.setting).removeprefix(", ")
    series = ", ".join(part for part in (entrant.model, entrant.mode, rest) if part)
    for task, conditions in entrant.conditions.items():
        quality: Value | None = known.get((task, "quality"))
        value = known.get((task, metric))
        if quality and value:
            label = f"T {conditions.sampling.get('temperature', '')}"
            both, name = (quality.estimate, value.estimate), _short(series)
            yield FrontierPoint(series, label, *both, task, name)


def _number(label: str) -> float:
    try:
        return float(label.removeprefix("T "))
    except ValueError:
        return math.inf


def _crowds(points: Sequence[FrontierPoint]) -> set[tuple[str, str]]:
    """Series with several points."""
    named = [(point.task, point.series) for point in points]
    return {key for key in named if named.count(key) > 1}


def _unlabelled(point: FrontierPoint) -> FrontierPoint:
    return replace(point, label="")


def _forest(board: Board, column: Column, folder: Path) -> Plot | None:
    """Values with intervals, beside them the ranks that the data allow."""
    rows = [(row.entrant.name, row.cells[column.key]) for row in _with_value(board, column)]
    if not rows:
        return None
    ranked = any(cell.ranks for _, cell in rows)
    lines = max(1 + _label(name).count("\n") for name, _ in rows)
    figure = blank_figure(8.6 if ranked else 6.6, 1.3 + max(0.42, 0.17 * lines) * len(rows))
    widths = (3, 2) if ranked else (1,)
    axes = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths).flat)
    scale = 100.0 if column.info.unit == "fraction" else 1.0
    _values_panel(axes[0], rows, scale)
    axes[0].set_xlabel(f"{column.metric}{', %' if scale > 1 else _unit(column)}", fontsize=9)
    if ranked:
        _ranks_panel(axes[1], rows)
    for axis in axes:
        axis.grid(axis="x", color="#dddddd", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_ylim(len(rows) - 0.4, -0.6)
    notes = "95 % intervals over docs" + ("; ranks at 95 % for all rows together" if ranked else "")
    set_heading(figure, f"{column.title}: {column.metric} ({notes})")
    numbers = [(name, *_forest_line(cell)) for name, cell in rows]
    words = _forest_caption(column, ranked), _forest_alt(column, rows)
    name = "forest_" + re.sub(r"[^A-Za-z0-9_]+", "_", f"{column.task}_{column.metric}")
    return write_figure(folder, name, figure, words, _FOREST, numbers)


def _short(name: str) -> str:
    """On one line, and not longer than a picture has room for; its numbers have the whole name."""
    return shortened_inside(name, _NAME)


def _label(name: str) -> str:
    return fold(plain(_short(name)), _LABEL_WIDTH)


def _unit(column: Column) -> str:
    return ", bits a token" if column.section == Section.ENTROPY else ""


def _with_value(board: Board, column: Column) -> Iterator[BoardRow]:
    for row in board.rows:
        if math.isfinite(_estimate(row.cells.get(column.key)).value):
            yield row


def _values_panel(axis: Any, rows: Sequence[tuple[str, Cell]], scale: float) -> None:
    """Rows that are not ranked have hollow marks."""
    for place, (_, cell) in enumerate(rows):
        scaled = _scaled(cell.value.estimate, scale)
        axis.errorbar(
            [scaled.value],
            [place],
            xerr=_bars(scaled),
            fmt="o",
            capsize=3,
            color=_GREY if cell.notes else "#0072B2",
            markerfacecolor="white" if cell.notes else "#0072B2",
        )
    labels = [_label(name) for name, _ in rows]
    axis.set_yticks(range(len(rows)), labels, fontsize=9)
    axis.margins(x=0.08)


def _ranks_panel(axis: Any, rows: Sequence[tuple[str, Cell]]) -> None:
    count = max(cell.ranks.rows for _, cell in rows if cell.ranks)
    for place, (_, cell) in enumerate(rows):
        if cell.ranks is None:
            style: dict[str, Any] = {"fontsize": 8, "color": "#57575c", "backgroundcolor": "white"}
            axis.text(1, place, "not ranked", va="center", **style)
            continue
        low, high = cell.ranks.low, cell.ranks.high
        bar: dict[str, Any] = {"color": "#D55E00", "linewidth": 5, "solid_capstyle": "round"}
        axis.plot([low, high], [place, place], marker="o", markersize=5, **bar)
        axis.text(high + 0.18 * max(1, count / 6), place, str(cell.ranks), va="center", fontsize=8)
    axis.set_yticks([])
    axis.set_xlim(0.6, count + 0.4 + 0.5 * max(1, count / 6))
    step = max(1, math.ceil(count / 10))
    axis.set_xticks(sorted({1, *range(step, count + 1, step)}))
    axis.set_xlabel("possible ranks (1 is the best)", fontsize=9)


def _forest_line(cell: Cell) -> tuple[Any, ...]:
    e, ranks = cell.value.estimate, cell.ranks
    places = (ranks.low, ranks.high, ranks.rows) if ranks else ("", "", "")
    return (e.value, e.ci_low, e.ci_high, e.n, *places)


def _forest_caption(column: Column, ranked: bool) -> str:
    text = f"{column.title}, {column.metric}. {INTERVALS} Hollow: marked on the board."
    if ranked:
        text += (
            " Right: the ranks that the data allow, where all intervals together hold the true "
            "ranks with a probability of 95 % or more; rows whose ranks overlap are tied."
        )
    return text


def _forest_alt(column: Column, rows: Sequence[tuple[str, Cell]]) -> str:
    shown = share_text if column.info.unit == "fraction" else number_text
    return listed(
        f"Values of {column.metric} on {column.title}.",
        (
            f"{name}: {shown(cell.value.estimate)}"
            + (f", rank {cell.ranks}" if cell.ranks else ", not ranked" if column.ranked else "")
            for name, cell in rows
        ),
    )
