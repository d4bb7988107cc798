"""How modes behave beside each other, as pictures, with the numbers behind each as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from psplit_eval.behaviour import Behaviour
from psplit_eval.captions import listed, number_text
from psplit_eval.divergence import Stretch
from psplit_eval.figures import (
    LETTERS_AN_INCH,
    STYLES,
    Plot,
    add_legend,
    bar_lengths,
    blank_figure,
    draw_curve,
    finish_panel,
    fold,
    legend_name,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    write_figure,
)
from psplit_eval.stats import Difference, Estimate
from psplit_eval.verdicts import Excess

__all__ = ["draw_behaviour"]

_CAPTIONS = {
    "kl_by_position": "How far two modes' next-token distributions are apart as a response goes "
    "on: KL(mode‖other) at the contexts of the mode's own samples, over stretches of positions "
    "that double in length, the first token being 0. A line that falls says that the prompt acts "
    "on how a response begins. Later stretches are of those docs alone whose responses are that "
    "long.",
    "entropy_by_position": "Entropy of each mode's next-token distribution (temperature 1, all of "
    "the vocabulary) as its own responses go on, over stretches of positions that double in "
    "length, the first token being 0. Later stretches are of those docs alone whose responses are "
    "that long. Modes read their own texts here, so part of a difference comes from what those "
    "say.",
    "modes_matrix": "KL(row‖column) in bits a token: how far the column's next-token distribution "
    "is from the row's at the contexts of the row's samples; dark is far. In brackets 95 % "
    "intervals over docs. KL is not symmetric, and never 0 between two prompts: what matters is "
    "whether it exceeds that of neutral prompts.",
    "beyond_placebos": "Any prompt moves a model. So each mode is held against neutral prompts of "
    "equal length at the same contexts: points are by how much its distance (KL) and its entropy "
    "exceed theirs, with 95 % intervals over docs. A mode is split where every point is shown to "
    "lie beyond the dashed margin, in both measures.",
}
_UNIT = "bits a token"
_NUMBERS = ("value", "ci_low", "ci_high", "n_docs")
_OF_POSITION = "95 % bands over the docs that reach a position; hollow: too few docs for a band"
_BEYOND = (
    "Modes beside placebos, at {}'s contexts (95 % intervals over docs; dashed: the margin that "
    "has to be exceeded)"
)
_POSITIONS = 8
"""So many stretches are named on an axis."""
_NAME_WIDTH = 24
"""Letters in a line of a mode's name beside or below a panel."""
_UPRIGHT = 9
"""Letters that fit below a cell."""
_TITLE_WIDTH = 36
_ROW_HEIGHT = 0.22
"""Inches."""
_GREY = 0.46
"""On grey of this brightness black and white letters are equally easy to read (WCAG 2.2: the same
contrast where the relative luminance is 0.179)."""
_SMALL = 0.02
"""Bits a token; where no mode is farther from another, cells have five places."""
_OF_EXCESS = ("margin", "direction", "p", "p_against")
_MEASURES = {"kl": "KL from {}, less the placebo's", "entropy": "entropy, less the placebo's"}

_Drawn = tuple[str, str, Figure, tuple[str, ...], Sequence[tuple[Any, ...]]]
_Styles = Mapping[tuple[str, ...], dict[str, Any]]


class _Curve(NamedTuple):
    """Numbers over stretches of positions, each from its first to its last token."""

    task: str
    pair: tuple[str, ...]
    stretches: Sequence[tuple[int, int]]
    values: Sequence[Estimate]


def draw_behaviour(behaviour: Behaviour, folder: Path) -> list[Plot]:
    """Write every plot that there are numbers for, each with its CSV.

    `kl_by_position`: KL(mode‖policy) at the mode's own contexts, a line for each two modes (of more
    than STYLES pairs those of the reference alone; the CSV has all). `entropy_by_position`: of each
    mode at its own contexts. `modes_matrix`: KL(row‖column), mean over tasks.
    `beyond_placebos`: by how much each mode exceeds each placebo, and the margin. All in bits a
    token, with 95 % intervals over docs. Undefined numbers are not drawn, and are empty cells in
    the CSV; without defined ones there is no plot.
    """
    return [
        write_figure(folder, name, figure, (_CAPTIONS[name], alt), header, rows)
        for name, alt, figure, header, rows in _drawn(behaviour, _modes(behaviour))
    ]


def _drawn(behaviour: Behaviour, modes: Sequence[str]) -> Iterator[_Drawn]:
    positions = ("first_token", "last_token", *_NUMBERS)
    if kl := _kl_curves(behaviour):
        columns: tuple[str, ...] = ("task", "mode", "policy", *positions)
        figure = _kl_figure(kl, modes, behaviour.reference)
        yield "kl_by_position", _curves_alt("KL", kl), figure, columns, _curve_rows(kl)
    if entropy := _entropy_curves(behaviour):
        styles: _Styles = {(mode,): mode_style(modes, mode) for mode in modes}
        figure = _curves_figure(entropy, styles, f"Entropy ({_OF_POSITION})")
        columns, alt = ("task", "mode", *positions), _curves_alt("entropy", entropy)
        yield "entropy_by_position", alt, figure, columns, _curve_rows(entropy)
    if matrix := _defined_matrix(behaviour):
        cells = [(*pair, *_numbers(kl)) for pair, kl in behaviour.matrix.items()]
        columns, figure = ("mode", "policy", *_NUMBERS), _matrix(matrix, modes)
        yield "modes_matrix", _matrix_alt(matrix), figure, columns, cells
    if beyond := _beyond_rows(behaviour):
        columns = ("mode", "placebo", "measure", *_NUMBERS, *_OF_EXCESS)
        figure = _beyond(beyond, modes, behaviour.reference)
        yield "beyond_placebos", _beyond_alt(beyond), figure, columns, _excesses(behaviour)


def _curves_alt(measure: str, curves: Sequence[_Curve]) -> str:
    """The first and the last defined number of every curve."""
    parts = []
    for curve in curves:
        both = zip(curve.stretches, curve.values, strict=True)
        known = [(span, e) for span, e in both if math.isfinite(e.value)]
        ends = dict.fromkeys([known[0], known[-1]])
        said = ", ".join(f"{number_text(e)} at tokens {_span(span)}" for span, e in ends)
        parts.append(f"{curve.task}, {_pair_text(curve.pair)}: {said}")
    start = f"Line plot of {measure} in bits a token over the position in the response."
    return listed(start, parts)


def _span(span: tuple[int, int]) -> str:
    first, last = span
    return f"{first}" if first == last else f"{first}–{last}"


def _pair_text(pair: Sequence[str]) -> str:
    return pair[0] if len(pair) == 1 else f"KL({pair[0]}‖{pair[1]})"


def _matrix_alt(found: Mapping[tuple[str, str], Difference]) -> str:
    parts = (f"{_pair_text(pair)} {_difference_text(kl)}" for pair, kl in found.items())
    return listed("Table of KL between modes in bits a token.", parts)


def _difference_text(found: Difference, places: int = 3) -> str:
    value = Estimate(found.difference, found.ci_low, found.ci_high, found.n)
    return number_text(value, places=places)


def _beyond_alt(rows: Sequence[_Row]) -> str:
    parts = []
    for row in rows:
        said = (
            f"{'KL' if measure == 'kl' else measure} {_difference_text(e.difference)} "
            f"(margin {e.margin:g})"
            for measure, e in row.excesses.items()
        )
        parts.append(f"{row.mode} less {row.placebo}: {', '.join(said)}")
    return listed("Dot plot of modes less placebos, bits a token.", parts)


def _modes(behaviour: Behaviour) -> list[str]:
    """In the order of the run's modes, as far as anything is known of them."""
    sampled = [mode for mode, _ in behaviour.matrix] + [mode for _, mode, _ in behaviour.curves]
    others = [policy for _, policy in behaviour.matrix] + [p for _, _, p in behaviour.curves]
    split = [found.answer.mode_b for found in behaviour.splits]
    return list(dict.fromkeys([*sampled, *others, *split]))


def _kl_curves(behaviour: Behaviour) -> list[_Curve]:
    found = (
        _curve(task, (mode, policy), stretches, "kl")
        for (task, mode, policy), stretches in behaviour.curves.items()
    )
    return [curve for curve in found if _any_defined(curve.values)]


def _entropy_curves(behaviour: Behaviour) -> list[_Curve]:
    """Of the policy beside which most docs of the mode are known."""
    best: dict[tuple[str, str], _Curve] = {}
    for (task, mode, _), stretches in behaviour.curves.items():
        curve = _curve(task, (mode,), stretches, "entropy_mode")
        known = best.get((task, mode))
        if known is None or _docs(curve) > _docs(known):
            best[task, mode] = curve
    return [curve for curve in best.values() if _any_defined(curve.values)]


def _curve(task: str, pair: tuple[str, ...], stretches: Sequence[Stretch], name: str) -> _Curve:
    spans = [(stretch.first, stretch.last) for stretch in stretches]
    return _Curve(task, pair, spans, [getattr(stretch, name) for stretch in stretches])


def _docs(curve: _Curve) -> int:
    return sum(value.n for value in curve.values)


def _any_defined(values: Sequence[Estimate]) -> bool:
    return any(math.isfinite(value.value) for value in values)


def _curve_rows(curves: Sequence[_Curve]) -> list[tuple[Any, ...]]:
    return [
        (curve.task, *curve.pair, *span, e.value, e.ci_low, e.ci_high, e.n)
        for curve in curves
        for span, e in zip(curve.stretches, curve.values, strict=True)
    ]


def _kl_figure(curves: Sequence[_Curve], modes: Sequence[str], reference: str) -> Figure:
    """More lines than there are styles cannot be told apart: those of the reference then."""
    pairs = list(dict.fromkeys(curve.pair for curve in curves))
    of_reference = [pair for pair in pairs if pair[0] == reference]
    if len(pairs) > STYLES and of_reference:
        styles = {pair: mode_style(modes, pair[1]) for pair in of_reference}
        name = plain(reference)
        heading = f"KL({name}‖mode) at {name}'s contexts; all other pairs: CSV"
    else:
        numbers = [str(number) for number in range(len(pairs))]
        styles = {pairs[int(number)]: mode_style(numbers, number) for number in numbers}
        heading = "KL of each mode from the others, at its own contexts"
    shown = [curve for curve in curves if curve.pair in styles]
    return _curves_figure(shown, styles, f"{heading} ({_OF_POSITION})")


def _curves_figure(curves: Sequence[_Curve], styles: _Styles, heading: str) -> Figure:
    """One panel a task, all from 0 and of one scale."""
    tasks = list(dict.fromkeys(curve.task for curve in curves))
    labels = {pair: _pair_name(pair) for pair in styles}
    beside = 1.2 + _longest(labels.values()) / LETTERS_AN_INCH
    figure, axes = panel_grid(len(tasks), _UNIT, sharey=True, beside=beside)
    for axis, task in zip(axes, tasks, strict=True):
        of_task = [curve for curve in curves if curve.task == task]
        for curve in of_task:
            _position_curve(axis, curve, labels[curve.pair], styles[curve.pair])
        _position_ticks(axis, of_task)
        finish_panel(axis, task)
    top = _top([value for curve in curves for value in curve.values])
    axes[0].set_ylim(-0.02 * top, top)
    figure.supxlabel("position of the token in the response", fontsize=10)
    set_heading(figure, heading)
    add_legend(figure, axes)
    return figure


def _pair_name(pair: tuple[str, ...]) -> str:
    if len(pair) == 1:
        return fold(legend_name(pair[0]), _NAME_WIDTH)
    names = [plain(name) for name in pair]
    whole = f"KL({names[0]}‖{names[1]})"
    return whole if len(whole) <= _NAME_WIDTH else fold(f"KL({names[0]} ‖ {names[1]})", _NAME_WIDTH)


def _longest(names: Iterable[str]) -> int:
    """Letters in the longest line."""
    return max(len(line) for name in names for line in name.split("\n"))


def _position_curve(axis: Any, curve: _Curve, label: str, style: dict[str, Any]) -> None:
    x = [_place(span) for span in curve.stretches]
    draw_curve(axis, x, curve.values, label, style)
    few = [i for i, e in enumerate(curve.values) if not math.isfinite(e.ci_low + e.ci_high)]
    hollow = style | {"linestyle": "none", "markerfacecolor": "white", "markersize": 5, "zorder": 4}
    axis.plot([x[i] for i in few], [curve.values[i].value for i in few], **hollow)


def _place(span: tuple[int, int]) -> int:
    """The number of a stretch: of 0, 1, 2–3, 4–7 it is 0, 1, 2, 3."""
    return span[0].bit_length()


def _position_ticks(axis: Any, curves: Sequence[_Curve]) -> None:
    spans = sorted({span for curve in curves for span in curve.stretches})
    shown = spans[:: math.ceil(len(spans) / _POSITIONS)]
    names = [_span(span) for span in shown]
    axis.set_xticks([_place(span) for span in shown], names, rotation=45, ha="right", fontsize=8)
    axis.set_xlim(-0.4, _place(spans[-1]) + 0.4)


def _top(values: Sequence[Estimate]) -> float:
    """Above all points, and above intervals that are not wider than those are high."""
    highest = max(value.value for value in values if math.isfinite(value.value))
    limits = [value.ci_high for value in values if math.isfinite(value.ci_high)]
    return 1.06 * min(max([highest, *limits]), 2 * highest) or 1.0


def _defined_matrix(behaviour: Behaviour) -> dict[tuple[str, str], Difference]:
    found = behaviour.matrix.items()
    return {pair: kl for pair, kl in found if math.isfinite(kl.difference)}


def _numbers(found: Difference) -> tuple[float, float, float, int]:
    return found.difference, found.ci_low, found.ci_high, found.n


def _matrix(found: Mapping[tuple[str, str], Difference], modes: Sequence[str]) -> Figure:
    """Rows: modes whose samples give the contexts; a mode beside itself is 0, in grey."""
    rows = [mode for mode in modes if any(mode == pair[0] for pair in found)]
    columns = [mode for mode in modes if mode in rows or any(mode == pair[1] for pair in found)]
    names = {mode: fold(plain(mode), _NAME_WIDTH) for mode in columns}
    longest = _longest(names.values())
    beside, below = longest / LETTERS_AN_INCH, (longest > _UPRIGHT) * longest / LETTERS_AN_INCH
    figure = blank_figure(2.6 + beside + len(columns), 1.8 + below + 0.8 * len(rows))
    axis = figure.subplots()
    figure.colorbar(_colour_cells(axis, rows, columns, found), label=f"KL, {_UNIT}")
    turned = 90 if below else 0
    axis.set_xticks(range(len(columns)), list(names.values()), rotation=turned, fontsize=9)
    axis.set_yticks(range(len(rows)), [names[mode] for mode in rows], fontsize=9)
    axis.set_xlabel("policy (column)")
    axis.set_ylabel("mode that gives the contexts (row)")
    axis.spines[:].set_visible(False)
    set_heading(figure, "KL(row‖column), mean over tasks (95 % intervals over docs)")
    return figure


def _colour_cells(
    axis: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    found: Mapping[tuple[str, str], Difference],
) -> Any:
    """The image, dark where KL is great; every cell has its number."""
    from matplotlib import colormaps

    cells = [[found.get((row, column)) for column in columns] for row in rows]
    values = [[cell.difference if cell else math.nan for cell in row] for row in cells]
    top = max(kl.difference for kl in found.values())
    colours = colormaps["cividis_r"]
    image = axis.imshow(values, cmap=colours, vmin=0, vmax=top if top > 0 else 1, aspect="auto")
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            _write_cell(axis, x, y, row == column, cells[y][x], image)
    return image


def _write_cell(axis: Any, x: int, y: int, itself: bool, kl: Difference | None, image: Any) -> None:
    from matplotlib.patches import Rectangle

    if kl is None:
        colour = "#dddddd" if itself else "white"
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
        axis.text(x, y, "0" if itself else "–", ha="center", va="center", color="#555555")
        return
    red, green, blue, _ = image.cmap(image.norm(kl.difference))
    dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < _GREY
    places = 3 if image.norm.vmax >= _SMALL else 5
    said = f"{kl.difference:.{places}f}"
    if math.isfinite(kl.ci_low + kl.ci_high):
        said += f"\n[{kl.ci_low:.{places}f},\n{kl.ci_high:.{places}f}]"
    axis.text(x, y, said, ha="center", va="center", color="white" if dark else "black", fontsize=8)


class _Row(NamedTuple):
    """A mode beside a placebo; both measures."""

    mode: str
    placebo: str
    excesses: Mapping[str, Excess]


def _excesses(behaviour: Behaviour) -> list[tuple[Any, ...]]:
    return [
        (
            *(split.answer.mode_b, e.placebo, e.measure, *_numbers(e.difference)),
            *(getattr(e, name) for name in _OF_EXCESS),
        )
        for split in behaviour.splits
        for e in split.excesses
    ]


def _beyond_rows(behaviour: Behaviour) -> list[_Row]:
    rows: dict[tuple[str, str], dict[str, Excess]] = {}
    for split in behaviour.splits:
        for e in split.excesses:
            if math.isfinite(e.difference.difference):
                rows.setdefault((split.answer.mode_b, e.placebo), {})[e.measure] = e
    return [_Row(mode, placebo, excesses) for (mode, placebo), excesses in rows.items()]


def _beyond(rows: Sequence[_Row], modes: Sequence[str], reference: str) -> Figure:
    """From above: each mode's name, and below it its placebos."""
    entries = list(_entries(rows))
    names = [fold(plain(row.placebo if row.excesses else row.mode), _NAME_WIDTH) for row in entries]
    heights = [1 + name.count("\n") for name in names]
    places = [sum(heights[:i]) + heights[i] / 2 for i in range(len(heights))]
    width = 6.6 + _longest(names) / LETTERS_AN_INCH
    figure = blank_figure(width, 1.7 + _ROW_HEIGHT * sum(heights))
    panels = figure.subplots(1, len(_MEASURES), sharey=True)
    for axis, measure in zip(panels, _MEASURES, strict=True):
        for row, y, height in zip(entries, places, heights, strict=True):
            if measure in row.excesses:
                style = mode_style(modes, row.mode)
                _draw_excess(axis, y, height, row.excesses[measure], style)
        _finish_beyond(axis, _MEASURES[measure].format(plain(reference)))
    panels[0].set_yticks(places, names, fontsize=9)
    panels[0].set_ylim(sum(heights), 0)
    for text, row in zip(panels[0].get_yticklabels(), entries, strict=True):
        text.set_fontweight("normal" if row.excesses else "bold")
    set_heading(figure, _BEYOND.format(plain(reference)))
    return figure


def _entries(rows: Sequence[_Row]) -> Iterator[_Row]:
    """Rows, those of a mode below one that only names it."""
    for mode in dict.fromkeys(row.mode for row in rows):
        yield _Row(mode, "", {})
        yield from (row for row in rows if row.mode == mode)


def _finish_beyond(axis: Any, title: str) -> None:
    axis.set_title(fold(title, _TITLE_WIDTH), fontsize=10)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel(_UNIT)
    axis.margins(x=0.08)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=9)
    axis.locator_params(axis="x", nbins=6)
    axis.grid(axis="x", color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _draw_excess(axis: Any, y: float, height: float, excess: Excess, style: dict[str, Any]) -> None:
    found = excess.difference
    known = Estimate(found.difference, found.ci_low, found.ci_high, found.n)
    bars = bar_lengths([known]) if math.isfinite(known.ci_low + known.ci_high) else None
    point = style | {"linestyle": "none", "markersize": 6, "capsize": 3, "zorder": 4}
    axis.errorbar([known.value], [y], xerr=bars, **point)
    span = y - height / 2, y + height / 2
    for sign in [excess.direction] if excess.direction else [1, -1]:
        axis.vlines(sign * excess.margin, *span, color="black", linestyle="--", linewidth=1.2)
