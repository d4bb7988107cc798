"""What all plots share: grids of panels, a style for every mode, pictures and numbers as files.

One style: colours of Okabe and Ito, which the colour-blind can tell apart, and a marker and line
style of its own for every mode, so that a print in black and white reads as well. Drawn without a
display.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any, cast

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import imsave

from psplit_eval.files import write_bytes, write_text
from psplit_eval.stats import Estimate

__all__ = [
    "LETTERS_AN_INCH",
    "SHOWN_DOCS",
    "STYLES",
    "Plot",
    "add_legend",
    "bar_lengths",
    "blank_figure",
    "draw_curve",
    "finish_panel",
    "fold",
    "legend_name",
    "legend_room",
    "mode_style",
    "panel_grid",
    "plain",
    "set_heading",
    "some_of",
    "widen",
    "write_figure",
]

LETTERS_AN_INCH = 10
"""Of a figure's heading, and of labels that are a little smaller, at least."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
SHOWN_DOCS = 100
"""Of one mode in one panel so many docs are drawn as points of their own."""
STYLES = len(_COLOURS)
"""So many modes have a colour of their own."""
_TITLE_WIDTH = 26
"""Letters in a line of a panel's title."""
_LEGEND_WIDTH = 34
_LEGEND_LINE = 0.19
"""Inches; a long legend makes its figure higher."""
_VECTOR_POINTS = 1500
"""More dots of a figure are an image in its SVG, too, which would have a line of text for each."""
_DPI = 160


@dataclass(frozen=True)
class Plot:
    """A picture in a folder. `caption` says what it shows and how to read it, `alt` the main
    numbers for those who cannot see it."""

    folder: Path
    name: str
    caption: str
    alt: str

    @property
    def png(self) -> Path:
        return self.folder / f"{self.name}.png"

    @property
    def svg(self) -> Path:
        return self.folder / f"{self.name}.svg"

    @property
    def csv(self) -> Path:
        """The numbers behind it."""
        return self.folder / f"{self.name}.csv"


def plain(text: str) -> str:
    """`text` as a picture can show it: on one line, no letter of it read as mathematics.

    A letter that the font lacks, or that shows nothing or turns others round, stands as its code,
    such as \\u9ad8, so that names stay apart.
    """
    shown = "".join(
        c if c.isprintable() and _in_font(c) else c.encode("unicode_escape").decode() for c in text
    )
    return shown.replace("$", r"\$")


def legend_name(text: str) -> str:
    """`plain` for a curve's label; matplotlib keeps those that begin with '_' out of legends."""
    return f" {plain(text)}" if text.startswith("_") else plain(text)


@cache
def _in_font(letter: str) -> bool:
    return bool(get_font(findfont("DejaVu Sans")).get_char_index(ord(letter)))


def fold(text: str, width: int) -> str:
    """Every line of `text` on lines of `width` letters: after a space, '-' or '_' if possible."""
    # textwrap breaks at white space, and drops it there; \\v marks the places after '_'
    lines = (line.replace("_", "_\v") for line in text.split("\n"))
    folded = (fill(line, max(1, width), replace_whitespace=False) for line in lines)
    return "\n".join(folded).replace("\v", "")


def mode_style(modes: Sequence[str], mode: str) -> dict[str, Any]:
    """Colour, marker and line of a mode among `modes`; beyond STYLES, of other combinations."""
    round_, number = divmod(modes.index(mode), STYLES)
    return {
        "color": _COLOURS[number],
        "marker": _MARKERS[(number + round_) % len(_MARKERS)],
        "linestyle": _LINES[(number + round_) % len(_LINES)],
    }


def blank_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, for a file."""
    figure = Figure((width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel_grid(
    count: int,
    label: str,
    sharey: bool,
    beside: float = 1.6,
    size: tuple[float, float] = (2.7, 3.2),
    across: int = 4,
) -> tuple[Figure, list[Any]]:
    """`count` panels of a size, at most `across` in a row; `label` is that of the y axes, `beside`
    the width of a legend. All in inches."""
    columns, rows = min(count, across), math.ceil(count / across)
    figure = blank_figure(beside + size[0] * columns, 0.5 + size[1] * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[:count:across]:
        axis.set_ylabel(label)
    return figure, axes[:count]


def finish_panel(axis: Any, *titles: str) -> None:
    """Titles, one below the other, and the lines that all panels have."""
    folded = [fold(plain(title), _TITLE_WIDTH) for title in titles]
    axis.set_title("\n".join(folded), fontsize=10)
    axis.grid(axis="y", color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)


def set_heading(figure: Figure, text: str) -> None:
    """Above all panels, on as many lines as it takes."""
    figure.suptitle(fold(text, round(LETTERS_AN_INCH * figure.get_figwidth())), fontsize=11)


def legend_room(names: Iterable[str]) -> float:
    """Inches that a legend of these names takes beside the panels."""
    lines = [line for name in names for line in fold(name, _LEGEND_WIDTH).split("\n")]
    return 1.1 + max(map(len, lines), default=0) / LETTERS_AN_INCH


def add_legend(figure: Figure, axes: Sequence[Any]) -> None:
    """Name the curves beside the panels, each once; dots are named on their own axis."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    names = [fold(name, _LEGEND_WIDTH) for name in found]
    if found:
        lines = sum(1 + name.count("\n") for name in names)
        figure.set_figheight(max(figure.get_figheight(), 0.6 + _LEGEND_LINE * lines))
        figure.legend(
            list(found.values()),
            names,
            loc="outside right center",
            frameon=False,
            fontsize=9,
            handlelength=3.2,
        )


def bar_lengths(estimates: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """Lengths below and above the points; 0 where the interval is undefined."""
    below = [0.0 if math.isnan(e.ci_low) else e.value - e.ci_low for e in estimates]
    above = [0.0 if math.isnan(e.ci_high) else e.ci_high - e.value for e in estimates]
    return below, above


def draw_curve(
    axis: Any, x: Sequence[float], estimates: Sequence[Estimate], label: str, style: dict[str, Any]
) -> None:
    """A line in the band of its interval; a point without neighbours in a band gets a bar.

    Undefined values and limits are not drawn.
    """
    colour = style["color"]
    axis.plot(x, [e.value for e in estimates], markersize=5, label=label, zorder=3, **style)
    known = [False, *(math.isfinite(e.ci_low + e.ci_high) for e in estimates), False]
    lone = [i for i in range(len(x)) if known[i : i + 3] == [False, True, False]]
    if lone:
        alone = [estimates[i] for i in lone]
        axis.errorbar(
            [x[i] for i in lone],
            [e.value for e in alone],
            yerr=bar_lengths(alone),
            capsize=4,
            color=colour,
            linestyle="none",
        )
    low, high = [e.ci_low for e in estimates], [e.ci_high for e in estimates]
    axis.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)


def some_of(docs: Sequence[Any], most: int = SHOWN_DOCS) -> list[Any]:
    """At most so many of them, at even distances: thousands of points hide each other and the
    mean."""
    return list(docs[:: math.ceil(len(docs) / most)]) if docs else []


def widen(axis: Any, least: float) -> None:
    """Let the y axis span at least so much, so that it does not blow up what is hardly different;
    where nothing is negative it does not go far below 0."""
    low, high = axis.get_ylim()
    span = max(high - low, least)
    bottom = (low + high - span) / 2
    if axis.dataLim.y0 >= 0:
        bottom = max(bottom, -0.05 * span)
    axis.set_ylim(bottom, bottom + span)


def write_figure(
    folder: Path,
    name: str,
    figure: Figure,
    words: tuple[str, str],
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> Plot:
    """Write a picture, as PNG and SVG, and the numbers behind it; `words` are caption and alt text.

    Undefined numbers are empty cells. The same figure gives the same bytes. Raises
    InfrastructureError where a file cannot be written.
    """
    plot = Plot(folder, name, *words)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow("" if isinstance(x, float) and math.isnan(x) else x for x in row)
    write_text(plot.csv, table.getvalue())
    write_bytes(plot.png, _png(figure))
    write_bytes(plot.svg, _svg(figure))
    return plot


def _png(figure: Figure) -> bytes:
    """Lays the figure out, once for both pictures: that takes longer than drawing."""
    canvas: Any = FigureCanvasAgg(figure)
    made, metadata = io.BytesIO(), {"Software": cast(str, None)}  # as savefig has it: no such entry
    canvas.draw()
    figure.set_layout_engine("none")
    imsave(made, canvas.buffer_rgba(), format="png", dpi=_DPI, metadata=metadata)
    return made.getvalue()


def _svg(figure: Figure) -> bytes:
    from matplotlib import rc_context

    axes: list[Any] = figure.axes
    dots = [line for axis in axes for line in axis.lines if line.get_linestyle() == "None"]
    if sum(len(line.get_xdata()) for line in dots) > _VECTOR_POINTS:
        for line in dots:
            line.set_rasterized(len(line.get_xdata()) > 1)
    canvas: Any = FigureCanvasSVG(figure)
    made = io.BytesIO()
    with rc_context({"svg.hashsalt": "psplit", "svg.fonttype": "path"}):  # else ids are random
        canvas.print_svg(made, metadata={"Date": None, "Creator": None})
    return made.getvalue()
