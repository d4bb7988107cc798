"""The first plots of a run: PNG for people, and the numbers behind each as CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from psplit_eval.arms import Arm, Value, arm_values
from psplit_eval.figures import (
    Plot,
    add_legend,
    bar_lengths,
    draw_curve,
    finish_panel,
    legend_name,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    write_figure,
)
from psplit_eval.stats import Estimate

__all__ = ["draw"]

_HEADER = ("task", "mode", "metric", "x", "value", "ci_low", "ci_high", "n_docs")
_PASS_AT = "accuracy_pass_at_"
_DIVERSITY = ("div_ngram_2", "div_bleu_4")
_DISPERSION = "dispersion_beyond_prompt"
_PLAIN = ("accuracy_avg", "entropy_bits", _DISPERSION)
"""Metrics that a plot's title names already."""
_CAPTIONS = {
    "accuracy": "Mean accuracy of each mode, with 95 % intervals over docs",
    "pass_at_k": "Chance that at least one of k samples is right (unbiased pass@k)",
    "entropy": "Entropy of the model's own next-token distribution, one point a doc",
    "tradeoff": "Difference in meaning (mean cosine distance of embeddings) against quality",
    "diversity": "Diversity among the samples of one doc, with 95 % intervals over docs",
}

Line = tuple[str, str, str, float, float, float, float, int]
"""A CSV row, see _HEADER. `x` is k or a doc's id; NaN (an empty cell) for a mean over docs."""
Panel = Callable[[Any, Sequence[Line], Sequence[str]], None]

_LINEAR_TO = 16
"""Up to so many samples every k is reported; more are on an axis of powers of two."""


def draw(arms: Sequence[Arm], folder: Path, allow_missing: bool = False) -> list[Plot]:
    """Write every plot that `arms` have data for, each with its CSV.

    `accuracy`, `pass_at_k`, `entropy`, `diversity` and `tradeoff`. Fractions run from 0 to 1;
    intervals are 95 % over docs; an undefined interval is drawn as a point without a bar, an
    undefined value not at all. In the CSV undefined is an empty cell.
    """
    modes = list(dict.fromkeys(arm.mode for arm in arms))
    values = [value for arm in arms for value in arm_values(arm, allow_missing)]
    made: list[Plot] = []
    diversity = _means(values, _DIVERSITY) + _docs(arms, _DIVERSITY)
    for name, lines, panel, title, label in (
        ("accuracy", _accuracies(arms, values), _dots, "Mean accuracy", "fraction right"),
        ("pass_at_k", _pass_at_k(values), _curves, "pass@k", "chance of one right answer"),
        ("entropy", _entropies(arms), _strips, "Entropy by doc", "bits a token"),
        ("diversity", diversity, _dots_on_docs, "Diversity", "fraction"),
        ("tradeoff", _tradeoffs(arms, values), _crosses, "Diversity beside quality", _DISPERSION),
    ):
        if lines:
            figure = _picture(lines, modes, panel, title, label)
            words = _CAPTIONS[name], _CAPTIONS[name]
            made.append(write_figure(folder, name, figure, words, _HEADER, lines))
    return made


def _means(values: Sequence[Value], metrics: Sequence[str]) -> list[Line]:
    return [_line(value, math.nan) for value in values if value.metric in metrics]


def _accuracies(arms: Sequence[Arm], values: Sequence[Value]) -> list[Line]:
    """The primary metric of every task that has right and wrong answers."""
    graded = {
        (arm.task, arm.scorer.primary)
        for arm in arms
        if arm.scorer.kind != "diversity" and arm.info(arm.scorer.primary).unit == "fraction"
    }
    return [_line(value, math.nan) for value in values if (value.task, value.metric) in graded]


def _docs(arms: Sequence[Arm], metrics: Sequence[str]) -> list[Line]:
    nan = math.nan
    return [
        (arm.task, arm.mode, metric, float(doc), number, nan, nan, 1)
        for arm in arms
        for metric in metrics
        for doc, number in sorted(arm.values.get(metric, {}).items())
        if not math.isnan(number)
    ]


def _tradeoffs(arms: Sequence[Arm], values: Sequence[Value]) -> list[Line]:
    """Dispersion with quality as x: of every mode, and of every doc (`n_docs` 1)."""
    means = {(v.task, v.mode, v.metric): v for v in values}
    found = []
    for arm in arms:
        value, good = (means.get((arm.task, arm.mode, name)) for name in (_DISPERSION, "quality"))
        if value and good and not math.isnan(value.estimate.value):
            found.append(_line(value, good.estimate.value))
            quality = arm.values["quality"]
            found += [
                (*line[:3], quality[int(line[3])], *line[4:])
                for line in _docs([arm], [_DISPERSION])
            ]
    return found


def _line(value: Value, x: float) -> Line:
    e = value.estimate
    return (value.task, value.mode, value.metric, x, e.value, e.ci_low, e.ci_high, e.n)


def _pass_at_k(values: Sequence[Value]) -> list[Line]:
    found = [value for value in values if value.metric.startswith(_PASS_AT)]
    return [_line(value, float(value.metric.removeprefix(_PASS_AT))) for value in found]


def _entropies(arms: Sequence[Arm]) -> list[Line]:
    nan = math.nan
    return [
        (arm.task, arm.mode, arm.entropy, float(doc), arm.bits[doc] / tokens, nan, nan, 1)
        for arm in arms
        for doc, tokens in sorted(arm.tokens.items())
        if tokens
    ]


def _picture(
    lines: Sequence[Line], modes: Sequence[str], panel: Panel, title: str, label: str
) -> Figure:
    """One panel a task and, where metrics are not points of one curve, a metric."""
    panels = list(_panels(lines))
    free = panel in (_dots_on_docs, _crosses)
    figure, axes = panel_grid(len(panels), label, sharey=not free)
    for axis, (titles, members) in zip(axes, panels, strict=True):
        panel(axis, members, modes)
        finish_panel(axis, *titles)
    if not free:
        top = max(line[4] for line in lines) * 1.08 if panel is _strips else 1.02
        top = top or 1.0  # where every entropy is 0
        axes[0].set_ylim(-0.02 * top, top)
    set_heading(figure, f"{title} ({_NOTES.get(panel, '95 % intervals over docs')})")
    add_legend(figure, axes)
    return figure


def _panels(lines: Sequence[Line]) -> Iterator[tuple[list[str], list[Line]]]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        named = line[2] in _PLAIN or line[2].startswith(_PASS_AT)
        metric = "" if named else line[2]
        groups.setdefault((line[0], metric), []).append(line)
    for (task, metric), members in groups.items():
        yield [task, metric] if metric else [task], members


def _dots(axis: Any, lines: Sequence[Line], modes: Sequence[str]) -> None:
    for line in lines:
        style = mode_style(modes, line[1]) | {"linestyle": "none"}
        place = [modes.index(line[1])]
        axis.errorbar(
            place,
            [line[4]],
            yerr=bar_lengths([_estimate(line)]),
            capsize=4,
            markersize=7,
            zorder=4,
            **style,
        )
    _mode_ticks(axis, modes)


def _dots_on_docs(axis: Any, lines: Sequence[Line], modes: Sequence[str]) -> None:
    """Means before their docs, on an axis that does not start at 0: differences are small."""
    for mode in modes:
        docs = sorted(line[4] for line in lines if line[1] == mode and not math.isnan(line[3]))
        _scatter(axis, docs, modes, mode, alpha=0.25)
    _dots(axis, [line for line in lines if math.isnan(line[3])], modes)
    axis.margins(y=0.1)


def _crosses(axis: Any, lines: Sequence[Line], modes: Sequence[str]) -> None:
    """One point a mode among its docs: up is more diverse, to the right is better."""
    for mode in modes:
        style = mode_style(modes, mode) | {"linestyle": "none"}
        of_mode = [line for line in lines if line[1] == mode]
        docs = [line for line in of_mode if line[7] == 1]
        faint = {"markersize": 4, "alpha": 0.25, "markeredgewidth": 0}
        axis.plot([line[3] for line in docs], [line[4] for line in docs], **style | faint)
        for line in of_mode[:1]:
            axis.errorbar(
                [line[3]],
                [line[4]],
                yerr=bar_lengths([_estimate(line)]),
                capsize=4,
                markersize=8,
                zorder=4,
                label=legend_name(mode),
                **style,
            )
    axis.set_xlabel("quality")
    axis.set_xlim(-0.03, 1.03)  # of all panels and runs the same
    axis.margins(y=0.1)


def _estimate(line: Line) -> Estimate:
    return Estimate(*line[4:])


def _mode_ticks(axis: Any, modes: Sequence[str]) -> None:
    crowded = sum(map(len, modes)) > 16
    axis.set_xticks(
        range(len(modes)), list(map(plain, modes)), rotation=30 if crowded else 0, fontsize=9
    )
    for text in axis.get_xticklabels():
        text.set_horizontalalignment("right" if crowded else "center")
    axis.set_xlim(-0.6, len(modes) - 0.4)


def _curves(axis: Any, lines: Sequence[Line], modes: Sequence[str]) -> None:
    shown = _shown_ks(sorted({int(line[3]) for line in lines}))
    for mode in modes:
        points = sorted((line for line in lines if line[1] == mode), key=lambda line: line[3])
        if points:
            marked = [place for place, line in enumerate(points) if line[3] in shown]
            style = mode_style(modes, mode) | {"markevery": marked}
            ks, estimates = [line[3] for line in points], list(map(_estimate, points))
            draw_curve(axis, ks, estimates, legend_name(mode), style)
    if shown[-1] > _LINEAR_TO:
        axis.set_xscale("log", base=2)
    axis.set_xticks(shown, [str(k) for k in shown])
    axis.set_xlabel("k samples")


def _shown_ks(ks: Sequence[int]) -> Sequence[int]:
    """Which k get a mark and a label: about eight, or powers of two where those go on alone."""
    if ks[-1] > _LINEAR_TO:
        return [k for k in ks if not k & (k - 1)]
    return ks[:: math.ceil(len(ks) / 8)]


def _strips(axis: Any, lines: Sequence[Line], modes: Sequence[str]) -> None:
    for place, mode in enumerate(modes):
        values = sorted(line[4] for line in lines if line[1] == mode)
        if not values:
            continue
        _scatter(axis, values, modes, mode, alpha=0.55)
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        axis.hlines(middle, place - 0.3, place + 0.3, color="black", linewidth=2, zorder=4)
    _mode_ticks(axis, modes)


def _scatter(
    axis: Any, values: Sequence[float], modes: Sequence[str], mode: str, alpha: float
) -> None:
    """Every value a point, spread sideways in a fixed pattern so that close ones stay apart."""
    place = modes.index(mode)
    spread = [place + 0.36 * ((7 * i % 11) / 10 - 0.5) for i in range(len(values))]
    style = mode_style(modes, mode) | {"linestyle": "none"}
    axis.plot(spread, values, markersize=4, alpha=alpha, markeredgewidth=0, **style)


_NOTES: dict[Panel, str] = {
    _strips: "one point a doc, bar: median",
    _crosses: "95 % intervals over docs; faint: docs; up and right is better",
    _dots_on_docs: "95 % intervals over docs; faint: docs; axes need not start at 0",
}
