"""What two modes solve apart and together, as pictures: docs as seen, and what that is worth.

Drawn as lengths on one axis, never as circles, whose areas nobody reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from psplit_eval.captions import INTERVALS, listed, share_text
from psplit_eval.figures import (
    LETTERS_AN_INCH,
    Plot,
    add_legend,
    bar_lengths,
    finish_panel,
    fold,
    legend_name,
    legend_room,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    write_figure,
)
from psplit_eval.findings import Finding
from psplit_eval.stats import Estimate

__all__ = ["draw_overlap"]

_PARTS = ("only_a", "both", "only_b", "neither")
_ALONE = ("only_a", "only_b", "mixed_less_a", "mixed_less_b")
_SEEN = ("task", "mode_a", "mode_b", "part", "docs", "of_docs")
_APART = ("task", "mode_a", "mode_b", "measure", "k", "value", "ci_low", "ci_high", "n_docs")
_BOTH, _NEITHER = "#8a8a8a", "#eeeeee"
_NAME_WIDTH = 22
"""Letters in a line beside a panel."""
_ROW_HEIGHT, _LINE_HEIGHT = 0.34, 0.12
"""Inches; of a row with one line of text, and of each more."""
_SHORTEST = 0.08
"""Share of a bar that has room for a number."""
_CAPTIONS = {
    "overlap": "Docs by who solved them in any of their samples, counted as seen: by the first "
    "mode alone, by both, by the other alone, by neither. Lengths are shares of the docs that both "
    "have samples of, numbers in the bars are docs. More samples solve more, so these counts "
    "compare modes and estimate nothing; luck is part of what one solves alone.",
    "complement": "Above: the chance that one of k samples of the first named mode is right and "
    "none of k of the other; two times k samples of one mode, too, differ by luck. Below: how much "
    "more often a budget of k samples finds a right answer if half of it goes to each mode, less "
    f"all of it to one. Only where both of these lie above 0 do modes complement each other. "
    f"{INTERVALS}",
}


class _Pair(NamedTuple):
    """All findings on two modes on a task, by what their measure is called without its k."""

    task: str
    a: str
    b: str
    found: Mapping[str, Finding]
    k: Mapping[str, int]


def draw_overlap(findings: Sequence[Finding], modes: Sequence[str], folder: Path) -> list[Plot]:
    """Write what modes solve apart and together, for every graded task and two modes.

    `findings` are those of `complementarity`, others are passed over; `modes` are all of the run.
    `overlap`: docs as seen, as stacked bars. `complement`: the same as chances, of the largest k
    there is, and what a mixed budget gains, with 95 % intervals over docs. Undefined numbers are
    not drawn, and are empty cells in the CSV; without defined ones there is no plot.
    """
    pairs = list(_pairs(findings))
    made = []
    if seen := [pair for pair in pairs if sum(_counts(pair)) > 0]:
        figure = _bars(seen, modes)
        words = _CAPTIONS["overlap"], _seen_alt(seen)
        made.append(write_figure(folder, "overlap", figure, words, _SEEN, _seen_rows(seen)))
    if apart := [pair for pair in pairs if any(_known(pair))]:
        figure = _dots(apart, modes)
        words = _CAPTIONS["complement"], _apart_alt(apart)
        made.append(write_figure(folder, "complement", figure, words, _APART, _apart_rows(apart)))
    return made


def _pairs(findings: Sequence[Finding]) -> Iterator[_Pair]:
    groups: dict[tuple[str, str, str], dict[str, tuple[int, Finding]]] = {}
    for finding in findings:
        name, _, k = finding.measure.rpartition("_at_")
        name = name or finding.measure
        if name not in _ALONE and not re.fullmatch("seen_(only_[ab]|both|neither)", name):
            continue
        of_pair = groups.setdefault((finding.task, finding.mode_a, finding.mode_b), {})
        number = int(k) if name in _ALONE else 0
        if name not in of_pair or number > of_pair[name][0]:
            of_pair[name] = number, finding
    for cell, found in groups.items():
        by_name = {name: finding for name, (_, finding) in found.items()}
        yield _Pair(*cell, by_name, {name: k for name, (k, _) in found.items()})


def _counts(pair: _Pair) -> list[float]:
    """Docs of each of _PARTS; zeros where nothing is known."""
    found = [pair.found.get(f"seen_{part}") for part in _PARTS]
    values = [finding.estimate.value if finding else math.nan for finding in found]
    return [0.0] * len(_PARTS) if any(map(math.isnan, values)) else values


def _seen_rows(pairs: Sequence[_Pair]) -> list[tuple[Any, ...]]:
    return [
        (pair.task, pair.a, pair.b, part, int(docs), int(sum(_counts(pair))))
        for pair in pairs
        for part, docs in zip(_PARTS, _counts(pair), strict=True)
    ]


def _seen_alt(pairs: Sequence[_Pair]) -> str:
    parts = []
    for pair in pairs:
        a, both, b, neither = map(int, _counts(pair))
        solved = f"{pair.a} alone {a}, both {both}, {pair.b} alone {b}, neither {neither}"
        parts.append(f"{pair.task}: {solved}")
    return listed("Stacked bars of numbers of docs by who solved them.", parts)


def _known(pair: _Pair) -> list[bool]:
    found = [pair.found.get(name) for name in _ALONE]
    return [f is not None and math.isfinite(f.estimate.value) for f in found]


def _known_ks(pair: _Pair) -> list[int]:
    return [pair.k[name] for name, known in zip(_ALONE, _known(pair), strict=True) if known]


def _apart_rows(pairs: Sequence[_Pair]) -> list[tuple[Any, ...]]:
    return [
        (pair.task, pair.a, pair.b, name, pair.k[name], e.value, e.ci_low, e.ci_high, e.n)
        for pair in pairs
        for name in _ALONE
        if name in pair.found
        for e in [pair.found[name].estimate]
    ]


def _apart_alt(pairs: Sequence[_Pair]) -> str:
    parts = []
    for pair in pairs:
        said = [
            f"{_row_name(pair, name)} {share_text(pair.found[name].estimate)}"
            for name, known in zip(_ALONE, _known(pair), strict=True)
            if known
        ]
        parts.append(f"{pair.task}, {_ks(_known_ks(pair))}: {', '.join(said)}")
    return listed("Dot plot of what modes solve alone and mixed.", parts)


def _ks(numbers: Iterable[int]) -> str:
    low, high = min(every := set(numbers)), max(every)
    return f"k = {low}" if low == high else f"k = {low} to {high}"


def _row_name(pair: _Pair, name: str) -> str:
    return {
        "only_a": f"{pair.a}, not {pair.b}",
        "only_b": f"{pair.b}, not {pair.a}",
        "mixed_less_a": f"half of each less {pair.a}",
        "mixed_less_b": f"half of each less {pair.b}",
    }[name]


def _grid(
    pairs: Sequence[_Pair], names: Sequence[str], room: float
) -> tuple[Figure, dict[str, Any]]:
    """Panels of one y axis, a row a name; room for names on the left, and a legend."""
    tasks = list(dict.fromkeys(pair.task for pair in pairs))
    left = max(len(line) for name in names for line in name.split("\n")) / LETTERS_AN_INCH
    lines = max(name.count("\n") for name in names)
    size = 2.7, 1.0 + len(names) * (_ROW_HEIGHT + _LINE_HEIGHT * lines)
    figure, axes = panel_grid(len(tasks), "", sharey=True, beside=left + room, size=size)
    for axis, task in zip(axes, tasks, strict=True):
        finish_panel(axis, task)
        axis.grid(axis="y", visible=False)
        axis.grid(axis="x", color="#dddddd", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, dict(zip(tasks, axes, strict=True))


def _bars(pairs: Sequence[_Pair], modes: Sequence[str]) -> Figure:
    """A bar for every other mode, in a panel for every task."""
    rows = list(dict.fromkeys((pair.a, pair.b) for pair in pairs))
    names = [fold(plain(b), _NAME_WIDTH) for _, b in rows]
    firsts, others = dict.fromkeys(a for a, _ in rows), dict.fromkeys(b for _, b in rows)
    first = " or ".join(firsts)
    other = next(iter(others)) if len(others) == 1 else "the mode of the row"
    labels = {"only_a": f"{first} alone", "both": "both", "only_b": f"{other} alone"}
    labels = {part: legend_name(text) for part, text in labels.items()} | {"neither": "neither"}
    figure, panels = _grid(pairs, names, legend_room(labels.values()))
    for pair in pairs:
        _draw_bar(panels[pair.task], rows.index((pair.a, pair.b)), pair, modes, labels)
    for axis in panels.values():
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_xlabel("share of docs")
    set_heading(figure, f"Docs solved by {plain(first)} and by each other mode, as seen")
    add_legend(figure, list(panels.values()))
    return figure


def _draw_bar(
    axis: Any, row: int, pair: _Pair, modes: Sequence[str], labels: Mapping[str, str]
) -> None:
    counts = _counts(pair)
    of_a, of_b = (mode_style(modes, mode)["color"] for mode in (pair.a, pair.b))
    colours = dict(zip(_PARTS, (of_a, _BOTH, of_b, _NEITHER), strict=True))
    left = 0.0
    for part, docs in zip(_PARTS, counts, strict=True):
        share = docs / sum(counts)
        hatch = "///" if part == "only_b" else ""
        style = {"color": colours[part], "hatch": hatch, "edgecolor": "white", "linewidth": 0.8}
        axis.barh([row], [share], left=[left], height=0.62, label=labels[part], **style)
        if share >= _SHORTEST:
            _write_number(axis, left + share / 2, row, docs, part)
        left += share


def _write_number(axis: Any, x: float, row: int, docs: float, part: str) -> None:
    plate = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85}
    box = None if part == "neither" else plate
    axis.text(x, row, f"{docs:.0f}", ha="center", va="center", fontsize=8, bbox=box)


def _dots(pairs: Sequence[_Pair], modes: Sequence[str]) -> Figure:
    keys = list(dict.fromkeys((pair.a, pair.b) for pair in pairs))
    by_key = {(pair.a, pair.b): pair for pair in pairs}
    entries = [(key, name) for key in keys for name in _ALONE]
    names = [fold(plain(_row_name(by_key[key], name)), _NAME_WIDTH + 14) for key, name in entries]
    figure, panels = _grid(pairs, names, 0.4)
    for pair in pairs:
        for name, known in zip(_ALONE, _known(pair), strict=True):
            if known:
                row = entries.index(((pair.a, pair.b), name))
                style = mode_style(modes, pair.a if name.endswith("_a") else pair.b)
                hollow = name.startswith("mixed")
                _draw_dot(panels[pair.task], row, pair.found[name].estimate, style, hollow)
    low, high = _limits(pairs)
    for task, axis in panels.items():
        axis.axvline(0, color="black", linewidth=0.8, zorder=2)
        for number in range(1, len(keys)):
            axis.axhline(len(_ALONE) * number - 0.5, color="#bbbbbb", linewidth=0.8)
        axis.set_xlim(low, high)
        ks = [k for pair in pairs if pair.task == task for k in _known_ks(pair)]
        axis.set_xlabel(f"fraction, {_ks(ks)}")
    set_heading(figure, "What modes solve alone, and what a mixed budget gains")
    return figure


def _limits(pairs: Sequence[_Pair]) -> tuple[float, float]:
    """Of all panels the same, around all intervals and never narrow."""
    found = [pair.found[name].estimate for pair in pairs for name in _ALONE if name in pair.found]
    ends = [x for e in found for x in (e.value, e.ci_low, e.ci_high) if math.isfinite(x)]
    low, high = min([*ends, -0.03]), max([*ends, 0.1])
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _draw_dot(axis: Any, row: int, value: Estimate, style: dict[str, Any], hollow: bool) -> None:
    shown = style | {"linestyle": "none", "markersize": 7, "capsize": 3, "zorder": 4}
    fill = {"markerfacecolor": "white"} if hollow else {}
    axis.errorbar([value.value], [row], xerr=bar_lengths([value]), **shown, **fill)
