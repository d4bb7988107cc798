"""Diversity against quality: points of modes or checkpoints, joined over temperatures.

More temperature buys diversity with quality. So one point says little of a mode: a mode is better
than another where its whole line lies above, at equal quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from psplit_eval.captions import INTERVALS, listed, number_text
from psplit_eval.figures import (
    SHOWN_DOCS,
    Plot,
    add_legend,
    bar_lengths,
    finish_panel,
    legend_name,
    legend_room,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    some_of,
    widen,
    write_figure,
)
from psplit_eval.stats import Estimate

__all__ = ["FrontierPoint", "draw_frontier", "on_frontier"]

_HEADER = (
    *("task", "series", "name", "label", "doc", "quality", "quality_ci_low", "quality_ci_high"),
    *("diversity", "diversity_ci_low", "diversity_ci_high", "n_docs", "on_frontier"),
)
_ENOUGH = 3
"""Points of a panel; the frontier of fewer is seen without a line."""
_CROWD = 8
"""Points of a panel; of more only the best are labelled, and panels are larger."""
_LEAST_SPAN = 0.1
"""Of the axis of diversity."""
_PLACES = ((6, 5), (6, -5), (-6, 5), (-6, -5), (0, 9), (0, -9), (6, 14), (6, -14), (-6, 14))
"""Where a label may stand, in points of a 72nd inch from its point; the first free one is taken."""
_LETTER, _LINE = 4.6, 9.0
"""Width and height of a letter of a label, at the most, in the same unit."""


@dataclass(frozen=True)
class FrontierPoint:
    """One mode of one checkpoint on one task: quality to the right, diversity upwards.

    Points of one `series` on a task are joined in the order that they are given in. `label` is
    written beside the point ('' for nothing), such as its temperature. `name` stands in the legend
    and has a colour and marker of its own; by default it is the series. `docs`: (doc id,
    quality, diversity) of docs, drawn faintly. Points without a defined quality and diversity are
    left out.
    """

    series: str
    label: str
    quality: Estimate
    diversity: Estimate
    task: str
    name: str = ""
    docs: Sequence[tuple[int, float, float]] = ()

    @property
    def shown_name(self) -> str:
        """What the legend calls it."""
        return self.name or self.series

    @property
    def defined(self) -> bool:
        """Whether it has a place."""
        return math.isfinite(self.quality.value + self.diversity.value)


def on_frontier(points: Sequence[FrontierPoint]) -> list[bool]:
    """Of every point whether no other of its task is better in one value and no worse in the other.

    By the values alone, whatever their intervals. Undefined points are never on it.
    """
    return [point.defined and not any(_beats(other, point) for other in points) for point in points]


def _beats(one: FrontierPoint, other: FrontierPoint) -> bool:
    values = [(p.quality.value, p.diversity.value) for p in (one, other)]
    return (
        one.task == other.task
        and values[0] != values[1]
        and all(a >= b for a, b in zip(*values, strict=True))
    )


def draw_frontier(
    points: Sequence[FrontierPoint],
    folder: Path,
    name: str = "frontier",
    quality: str = "quality",
    diversity: str = "diversity",
    heading: str = "Diversity beside quality",
) -> Plot | None:
    """Write the picture, a panel a task, and its numbers; None where no point is defined.

    `quality` and `diversity` name the axes; quality is a fraction and always drawn from 0 to 1, so
    that pictures can be held beside each other. Grey steps join the points of a panel that no other
    point beats (see `on_frontier`), where it has three or more. Bars are 95 % intervals over docs.
    """
    shown = [point for point in points if point.defined]
    if not shown:
        return None
    figure = _figure(shown, (quality, diversity), heading)
    words = _caption(shown, quality, diversity), _alt(shown, quality, diversity)
    return write_figure(folder, name, figure, words, _HEADER, _rows(shown))


def _caption(points: Sequence[FrontierPoint], quality: str, diversity: str) -> str:
    parts = [
        f"Each point is a mode: its {quality} to the right, its {diversity} upwards, so that up "
        "and right is better in both.",
        INTERVALS,
    ]
    if any(point.docs for point in points):
        parts.append(f"Faint points are docs, at most {SHOWN_DOCS} of a mode.")
    if _joined(points):
        parts.append(
            "Lines join one prompt at several temperatures: a mode is better where its line lies "
            "above another's at the same quality, not where one of its points does."
        )
    if any(point.label for point in points) and any(map(_crowded, _by_task(points).values())):
        parts.append("Of many points the best are labelled.")
    if any(_steps(of_task) for of_task in _by_task(points).values()):
        parts.append(
            "Grey steps: the points that no other beats in one value without losing in the other, "
            "by the values alone."
        )
    return " ".join(parts)


def _alt(points: Sequence[FrontierPoint], quality: str, diversity: str) -> str:
    return listed(
        f"Scatter plot of {diversity} against {quality}.",
        (
            f"{point.task}, {_full_name(point)}: {quality} {number_text(point.quality)}, "
            f"{diversity} {number_text(point.diversity)}"
            for point in points
        ),
    )


def _full_name(point: FrontierPoint) -> str:
    return f"{point.shown_name} ({point.label})" if point.label else point.shown_name


def _rows(points: Sequence[FrontierPoint]) -> list[tuple[Any, ...]]:
    """Of every point, and of its docs, whose id stands in the column `doc`."""
    rows: list[tuple[Any, ...]] = []
    nan = math.nan
    for point, best in zip(points, on_frontier(points), strict=True):
        named = (point.task, point.series, point.shown_name, point.label)
        x, y = point.quality, point.diversity
        limits = (y.value, y.ci_low, y.ci_high, y.n, int(best))
        rows.append((*named, "", x.value, x.ci_low, x.ci_high, *limits))
        rows += [(*named, doc, a, nan, nan, b, nan, nan, 1, "") for doc, a, b in point.docs]
    return rows


def _by_task(points: Sequence[FrontierPoint]) -> dict[str, list[FrontierPoint]]:
    tasks: dict[str, list[FrontierPoint]] = {}
    for point in points:
        tasks.setdefault(point.task, []).append(point)
    return tasks


def _figure(points: Sequence[FrontierPoint], labels: tuple[str, str], heading: str) -> Figure:
    names = list(dict.fromkeys(point.shown_name for point in points))
    tasks = _by_task(points)
    size = (3.8, 3.8) if any(map(_crowded, tasks.values())) else (2.7, 3.2)
    room = legend_room(names)
    figure, axes = panel_grid(len(tasks), labels[1], sharey=False, beside=room, size=size)
    joined = _joined(points)
    for axis, (task, of_task) in zip(axes, tasks.items(), strict=True):
        _panel(axis, of_task, names, joined)
        axis.set_xlabel(labels[0])
        finish_panel(axis, task)
    set_heading(figure, f"{heading} (up and right is better)")
    add_legend(figure, axes)
    if any(point.label for point in points):
        figure.draw_without_rendering()  # labels go where there is room: places have to be known
        figure.set_layout_engine("none")
        for axis, of_task in zip(axes, tasks.values(), strict=True):
            _write_labels(axis, of_task)
    return figure


def _crowded(points: Sequence[FrontierPoint]) -> bool:
    return len(points) > _CROWD


def _joined(points: Sequence[FrontierPoint]) -> bool:
    """Whether any series has several points on a task, so that there are lines."""
    return len({(point.task, point.series) for point in points}) < len(points)


def _panel(axis: Any, points: Sequence[FrontierPoint], names: Sequence[str], joined: bool) -> None:
    axis.set_xlim(-0.03, 1.03)
    for series in dict.fromkeys(point.series for point in points):
        of_series = [point for point in points if point.series == series]
        line = mode_style(names, of_series[0].shown_name) | {"marker": "", "linewidth": 1}
        xs, ys = [p.quality.value for p in of_series], [p.diversity.value for p in of_series]
        axis.plot(xs, ys, **line, zorder=3)
    for point in points:
        _draw_point(axis, point, mode_style(names, point.shown_name), joined)
    axis.margins(y=0.12)
    widen(axis, _LEAST_SPAN)
    if steps := _steps(points):
        _draw_steps(axis, steps)


def _draw_point(axis: Any, point: FrontierPoint, style: dict[str, Any], joined: bool) -> None:
    alone = style | {"linestyle": "none"}
    faint = alone | {"markersize": 4, "alpha": 0.25, "markeredgewidth": 0}
    docs = some_of(point.docs)
    axis.plot([x for _, x, _ in docs], [y for *_, y in docs], **faint)
    axis.errorbar(
        [point.quality.value],
        [point.diversity.value],
        xerr=bar_lengths([point.quality]),
        yerr=bar_lengths([point.diversity]),
        capsize=3,
        elinewidth=1,
        markersize=8,
        markeredgecolor="white",
        zorder=4,
        **alone,
    )
    shown = style if joined else alone
    axis.plot([], [], markersize=7, label=legend_name(point.shown_name), **shown)


def _steps(points: Sequence[FrontierPoint]) -> list[tuple[float, float]]:
    """The corners of a panel's frontier from left to right; [] where it needs no line."""
    if len(points) < _ENOUGH:
        return []
    best = on_frontier(points)
    return sorted(
        {(p.quality.value, p.diversity.value) for p, on in zip(points, best, strict=True) if on}
    )


def _draw_steps(axis: Any, corners: Sequence[tuple[float, float]]) -> None:
    """From the left edge along the best diversity, down to the lower edge behind the best
    quality."""
    bottom, top = axis.get_ylim()
    xs = [-1.0, *(x for x, _ in corners), corners[-1][0]]
    ys = [corners[0][1], *(y for _, y in corners), bottom - (top - bottom)]
    axis.step(xs, ys, where="pre", color="#999999", linewidth=1, linestyle=":", zorder=2)
    axis.set_ylim(bottom, top)


def _write_labels(axis: Any, points: Sequence[FrontierPoint]) -> None:
    """Each at the first place beside its point where it covers no other point or label."""
    scale = 72 / axis.figure.dpi
    spots = axis.transData.transform([(p.quality.value, p.diversity.value) for p in points]) * scale
    taken: list[_Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    taken += _outside(axis, scale)
    best = on_frontier(points)
    for point, (x, y), on in zip(points, spots, best, strict=True):
        if not point.label or (_crowded(points) and not on):
            continue
        boxes = [(place, _box(x, y, place, len(point.label))) for place in _PLACES]
        place, box = min(boxes, key=lambda found: sum(_meet(found[1], other) for other in taken))
        taken.append(box)
        _annotate(axis, point, place)


def _annotate(axis: Any, point: FrontierPoint, place: tuple[int, int]) -> None:
    axis.annotate(
        plain(point.label),
        (point.quality.value, point.diversity.value),
        xytext=place,
        textcoords="offset points",
        fontsize=8,
        color="#333333",
        ha="left" if place[0] > 0 else "right" if place[0] < 0 else "center",
        va="center",
        zorder=5,
    )


def _outside(axis: Any, scale: float) -> list[tuple[float, float, float, float]]:
    """What lies left and right of a panel, its y labels or the next panel."""
    box = axis.get_window_extent()
    wide = 1e9
    return [
        (-wide, -wide, box.x0 * scale, wide),
        (box.x1 * scale + 8, -wide, wide, wide),
    ]


_Box = tuple[float, float, float, float]


def _box(x: float, y: float, place: tuple[int, int], letters: int) -> _Box:
    """Left, bottom, right and top of a label."""
    width = letters * _LETTER
    left = x + place[0] - (width if place[0] < 0 else width / 2 if not place[0] else 0)
    middle = y + place[1]
    return left, middle - _LINE / 2, left + width, middle + _LINE / 2


def _meet(one: _Box, other: _Box) -> bool:
    apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
    return not apart
