"""What judges said of a run, as pictures, and beside it whether their audit lets it be believed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from psplit_eval.calibrating import Calibrated
from psplit_eval.captions import INTERVALS, listed, number_text, share_text
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
from psplit_eval.judge_tables import unbelieved
from psplit_eval.judged import JudgedRun, Preferred, Scored
from psplit_eval.stats import Estimate

__all__ = ["draw_judges"]

_SCORES = (
    *("task", "rubric", "judge", "audit", "dimension", "decides", "mode"),
    *("value", "ci_low", "ci_high", "n_docs", "scale_low", "scale_high"),
)
_WINS = (
    *("task", "rubric", "judge", "audit", "mode_a", "mode_b", "measure"),
    *("b_preferred", "ci_low", "ci_high", "n_docs"),
)
_CALIBRATED = "calibrated with labels"
"""In the place of an audit's state: evidence whatever that is."""
_GREY = "#777777"
_UNBELIEVED_GROUND = "#f3f3f3"
_NAME_WIDTH = 30
_WIDTH, _ROW_HEIGHT, _LINE_HEIGHT = 2.9, 0.3, 0.16
"""Inches: of a panel without its names; of a mode or pair in it; of each line of its title."""
_ACROSS, _WINS_ACROSS = 4, 2
_NO_EVIDENCE = (
    "Grey and hollow, on a grey ground: that judge has failed its audit or has none, so this is no "
    "evidence, whatever the intervals are."
)
_SCORES_CAPTION = (
    "What judges gave each mode on every dimension of a rubric, on the whole scale; mean over docs "
    "of a doc's mean score. A bold name with * is the dimension that decides. The panel of judges "
    "is without those that failed, and as good as the worst of the others. Whether modes differ is "
    "to be read from the paired differences in the tables."
)
_WINS_CAPTION = (
    "How often the second mode's text is preferred to the first one's, shown in both orders, ties "
    "half. Filled: as judged; cross: what it would be if both texts were equally long. An interval "
    "that lies on one side of the line at 50 % for both of them is a preference that length does "
    "not explain. Without a cross the latter is undefined."
)


class _Panel(NamedTuple):
    """Scores of one judge, by dimension and mode."""

    task: str
    rubric: str
    judge: str
    audit: str
    scale: tuple[int, int]
    dimensions: Mapping[str, Mapping[str, Estimate]]
    decides: frozenset[str]


def draw_judges(judged: JudgedRun, folder: Path) -> list[Plot]:
    """Write what judges said: `judge_scores` and `win_rates`, each with its CSV.

    `judge_scores`: a panel for every task, rubric and judge (the panel of judges is one; scores
    that were calibrated with labels are others), dimensions on the axis, modes as markers.
    `win_rates`: mode b preferred to a, raw and at equal length, a panel for every task and rubric.
    What is no evidence by `judge_tables.unbelieved` is grey and hollow and says why. Intervals are
    95 % over docs. Undefined numbers are not drawn, and are empty cells in the CSV; without defined
    ones there is no plot.
    """
    made = []
    if panels := list(_panels(judged)):
        words = _caption(_SCORES_CAPTION, [panel.audit for panel in panels]), _scores_alt(panels)
        figure = _scores_figure(panels)
        rows = _score_rows(panels)
        made.append(write_figure(folder, "judge_scores", figure, words, _SCORES, rows))
    known = [p for p in judged.preferred if math.isfinite(p.found.rate.value)]
    if known:
        words = _caption(_WINS_CAPTION, [p.belief for p in known]), _wins_alt(known, judged)
        figure = _wins_figure(known, judged)
        rows = _win_rows(judged)
        made.append(write_figure(folder, "win_rates", figure, words, _WINS, rows))
    return made


def _caption(start: str, audits: Sequence[str]) -> str:
    ending = [_NO_EVIDENCE] if any(map(unbelieved, audits)) else []
    return " ".join([start, INTERVALS, *ending])


def _panels(judged: JudgedRun) -> Iterator[_Panel]:
    """Those with any number, judges of one task and rubric side by side."""
    found: dict[tuple[str, ...], _Panel] = {}
    of_all: list[tuple[Scored | Calibrated, str, str, Mapping[str, Estimate]]] = [
        *((s, judged.rubrics[s.rubric_hash], s.belief, s.by_mode) for s in judged.scored),
        *(
            (c, c.rubric, _CALIBRATED, {mode: mean.estimate for mode, mean in c.by_mode.items()})
            for c in judged.calibrated
        ),
    ]
    for one, rubric, audit, by_mode in of_all:
        key = (one.task, rubric, one.judge, audit)
        panel = found.get(key, _Panel(*key, one.scale, {}, frozenset()))
        found[key] = panel._replace(
            dimensions={**panel.dimensions, one.dimension: by_mode},
            decides=panel.decides | ({one.dimension} if one.primary else set()),
        )
    places = {panel[:2]: number for number, panel in reversed([*enumerate(found.values())])}
    for panel in sorted(found.values(), key=lambda panel: places[panel[:2]]):
        values = [e.value for by_mode in panel.dimensions.values() for e in by_mode.values()]
        if any(map(math.isfinite, values)):
            yield panel


def _score_rows(panels: Sequence[_Panel]) -> list[tuple[Any, ...]]:
    return [
        (
            *(panel.task, panel.rubric, panel.judge, panel.audit, dimension),
            *(int(dimension in panel.decides), mode, e.value, e.ci_low, e.ci_high, e.n),
            *panel.scale,
        )
        for panel in panels
        for dimension, by_mode in panel.dimensions.items()
        for mode, e in by_mode.items()
    ]


def _audit_words(audit: str) -> str:
    if audit == _CALIBRATED:
        return audit
    said = audit if audit.startswith("not audited") else f"audit: {audit}"
    return f"{said}, no evidence" if unbelieved(audit) else said


def _scores_alt(panels: Sequence[_Panel]) -> str:
    """The dimensions that decide first, and of each panel nothing else where there is one."""
    parts = []
    for panel in panels:
        shown = [name for name in panel.dimensions if name in panel.decides] or panel.dimensions
        said = "; ".join(_dimension_text(name, panel.dimensions[name]) for name in shown)
        about = f"{panel.task}, {panel.rubric}, {panel.judge} ({_audit_words(panel.audit)})"
        parts.append(f"{about}: {said}")
    return listed("Dot plot of judges' scores; of each judge the dimension that decides.", parts)


def _dimension_text(name: str, by_mode: Mapping[str, Estimate]) -> str:
    return f"{name} {', '.join(f'{mode} {number_text(e)}' for mode, e in by_mode.items())}"


def _scores_figure(panels: Sequence[_Panel]) -> Figure:
    modes = _modes(panels)
    names = [name for panel in panels for name in panel.dimensions]
    titles = [
        (f"{panel.task}, {panel.rubric}", panel.judge, _audit_words(panel.audit))
        for panel in panels
    ]
    lines = max(len(panel.dimensions) for panel in panels) * max(2, len(modes))
    height = 0.7 + _LINE_HEIGHT * _most_lines(titles) + 0.16 * lines
    room = legend_room(map(plain, modes))
    size = _WIDTH + _width(names), height
    of_group = Counter(panel[:2] for panel in panels)
    across = min(_ACROSS, max(of_group.values())) if len(of_group) > 1 else _ACROSS
    figure, axes = panel_grid(len(panels), "", False, beside=room, size=size, across=across)
    for axis, panel, title in zip(axes, panels, titles, strict=True):
        _scores_panel(axis, panel, modes)
        _finish(axis, title, panel.audit)
        axis.set_xlim(*_padded(panel.scale))
    for mode in modes:
        style = mode_style(modes, mode) | {"linestyle": "none"}
        axes[0].plot([], [], label=legend_name(mode), **style)
    set_heading(figure, "Judges' scores (95 % intervals over docs)")
    add_legend(figure, axes)
    return figure


def _modes(panels: Sequence[_Panel]) -> list[str]:
    every = (m for panel in panels for by_mode in panel.dimensions.values() for m in by_mode)
    return list(dict.fromkeys(every))


def _most_lines(titles: Sequence[Sequence[str]]) -> int:
    return max(sum(fold(plain(part), 26).count("\n") + 1 for part in title) for title in titles)


def _width(names: Sequence[str]) -> float:
    """Inches that names beside a panel take."""
    lines = [line for name in names for line in fold(plain(name), _NAME_WIDTH).split("\n")]
    return max(map(len, lines), default=0) / LETTERS_AN_INCH


def _padded(scale: tuple[float, float]) -> tuple[float, float]:
    room = 0.04 * (scale[1] - scale[0])
    return scale[0] - room, scale[1] + room


def _finish(axis: Any, titles: Sequence[str], audit: str) -> None:
    finish_panel(axis, *titles)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    if unbelieved(audit):
        axis.set_facecolor(_UNBELIEVED_GROUND)
        axis.title.set_color("#555555")


def _scores_panel(axis: Any, panel: _Panel, modes: Sequence[str]) -> None:
    dimensions = list(panel.dimensions)
    for row, by_mode in enumerate(panel.dimensions.values()):
        for mode, estimate in by_mode.items():
            place = row + 0.72 * ((modes.index(mode) + 0.5) / len(modes) - 0.5)
            _draw(axis, place, estimate, mode_style(modes, mode), unbelieved(panel.audit))
    names = [f"{name} *" if name in panel.decides else name for name in dimensions]
    axis.set_yticks(
        range(len(names)), [fold(plain(name), _NAME_WIDTH) for name in names], fontsize=9
    )
    for text, name in zip(axis.get_yticklabels(), dimensions, strict=True):
        text.set_fontweight("bold" if name in panel.decides else "normal")
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("points")


def _draw(axis: Any, row: float, value: Estimate, style: dict[str, Any], grey: bool) -> None:
    if math.isnan(value.value):
        return
    shown = style | {"linestyle": "none", "markersize": 6, "capsize": 3, "zorder": 4}
    if grey:
        shown |= {"color": _GREY, "markerfacecolor": "white"}
    axis.errorbar([value.value], [row], xerr=bar_lengths([value]), **shown)


def _rates(one: Preferred) -> dict[str, Estimate]:
    return {
        "raw": one.found.rate,
        "equal_length": one.equal_length.strengths.win_rates[one.found.b],
    }


def _win_rows(judged: JudgedRun) -> list[tuple[Any, ...]]:
    return [
        (
            *(one.task, judged.rubrics[one.rubric_hash], one.judge, one.belief),
            *(one.found.a, one.found.b, measure, e.value, e.ci_low, e.ci_high, e.n),
        )
        for one in judged.preferred
        for measure, e in _rates(one).items()
    ]


def _wins_alt(known: Sequence[Preferred], judged: JudgedRun) -> str:
    parts = []
    for one in known:
        rates = _rates(one)
        fair = f", at equal length {share_text(rates['equal_length'])}"
        about = f"{one.task}, {judged.rubrics[one.rubric_hash]}, {one.judge}"
        said = f"{one.found.b} preferred to {one.found.a} in {share_text(rates['raw'])}{fair}"
        parts.append(f"{about} ({_audit_words(one.belief)}): {said}")
    return listed("Dot plot of which mode judges prefer.", parts)


def _wins_figure(known: Sequence[Preferred], judged: JudgedRun) -> Figure:
    groups: dict[tuple[str, str], list[Preferred]] = {}
    for one in known:
        groups.setdefault((one.task, judged.rubrics[one.rubric_hash]), []).append(one)
    modes = list(dict.fromkeys(m for one in known for m in (one.found.a, one.found.b)))
    names = {id(one): _win_name(one) for one in known}
    lines = max(sum(names[id(one)].count("\n") + 1 for one in of) for of in groups.values())
    most = max(len(of_group) for of_group in groups.values())
    height = 1.2 + _LINE_HEIGHT * lines + 0.14 * most
    size = _WIDTH + _width([*names.values()]), height
    figure, axes = panel_grid(len(groups), "", False, 0.4, size=size, across=_WINS_ACROSS)
    for axis, (titles, of_group) in zip(axes, groups.items(), strict=True):
        for row, one in enumerate(of_group):
            _draw_wins(axis, row, one, modes)
        _finish(axis, titles, "")
        axis.axvline(0.5, color="black", linewidth=0.8, zorder=2)
        axis.set_yticks(range(len(of_group)), [names[id(one)] for one in of_group], fontsize=9)
        axis.set_ylim(len(of_group) - 0.5, -0.5)
        axis.set_xlim(-0.03, 1.03)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    set_heading(figure, "Which mode is preferred (filled: as judged; cross: at equal length)")
    return figure


def _win_name(one: Preferred) -> str:
    said = [f"{one.found.b} over {one.found.a}", one.judge, _audit_words(one.belief)]
    return "\n".join(fold(plain(part), _NAME_WIDTH) for part in said)


def _draw_wins(axis: Any, row: int, one: Preferred, modes: Sequence[str]) -> None:
    if grey := unbelieved(one.belief):
        axis.axhspan(row - 0.5, row + 0.5, color=_UNBELIEVED_GROUND, zorder=0)
    style = mode_style(modes, one.found.b)
    _draw(axis, row - 0.12, _rates(one)["raw"], style, grey)
    _draw(axis, row + 0.12, _rates(one)["equal_length"], style | {"marker": "x"}, grey)
