"""What a run's samples are worth, as pictures: accuracy, pass@k, entropy, diversity, quality."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from psplit_eval.arms import Arm, Value, arm_values
from psplit_eval.captions import INTERVALS, listed, share_text
from psplit_eval.figures import (
    SHOWN_DOCS,
    Plot,
    add_legend,
    bar_lengths,
    draw_curve,
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
from psplit_eval.frontier import FrontierPoint, draw_frontier
from psplit_eval.stats import Estimate

__all__ = ["draw"]

_HEADER = ("task", "mode", "metric", "x", "value", "ci_low", "ci_high", "n_docs")
_PASS_AT = "accuracy_pass_at_"
_DIVERSITY = ("div_ngram_2", "div_bleu_4")
_DISPERSION = "dispersion_beyond_prompt"
_PLAIN = ("accuracy_avg", "entropy_bits")
"""Metrics that a plot's title names already."""
_CAPTIONS = {
    "accuracy": f"How many of a mode's samples are right, mean over docs. {INTERVALS} Modes answer "
    "the same docs, so whether they differ is to be read from the tables of paired differences: it "
    "may be certain although two bars overlap.",
    "pass_at_k": "How often at least one of k samples of a doc is right, unbiased, mean over docs. "
    "Bands are 95 % intervals over docs. At k = 1 it is mean accuracy; a curve that rises steeply "
    "has right answers on docs where most samples are wrong. Somebody has to know which of the k "
    "samples is right.",
    "entropy": "Entropy of the model's own next-token distribution (temperature 1, all of the "
    "vocabulary) at the tokens that each mode sampled itself. Points are docs, at most "
    f"{SHOWN_DOCS} of a mode, evenly by rank; the black bar is the median of all. Modes write "
    "other texts, so a difference may come from what they say; at equal contexts they are compared "
    "where a run was scored under its other modes.",
    "diversity": "How different the samples of one doc are from each other: 0 if they are all "
    f"alike. Faint points are docs, at most {SHOWN_DOCS} of a mode. {INTERVALS} Nonsense is "
    "diverse, too: look at quality beside it.",
}

_ESTIMATED = (
    "entropy_bits_estimate is a lower bound, made of the most probable tokens that an engine lists."
)

Line = tuple[str, str, str, float, float, float, float, int]
"""A CSV row, see _HEADER. `x` is k or a doc's id; NaN (an empty cell) for a mean over docs."""
Panel = Callable[[Any, Sequence[Line], Sequence[str]], None]

_LETTERS_BELOW = 48
"""Of all modes' names together; longer ones stand in a legend beside the panels."""
_LEAST_SPAN = 0.1
"""Of an axis that need not start at 0."""
_LINEAR_TO = 16
"""Up to so many samples every k is reported; more are on an axis of powers of two."""


def draw(
    arms: Sequence[Arm],
    folder: Path,
    allow_missing: bool = False,
    manifest: Mapping[str, Any] | None = None,
) -> list[Plot]:
    """Write every plot that `arms` have data for, each with its CSV.

    `accuracy`, `pass_at_k`, `entropy`, `diversity` and `tradeoff` (see `frontier`). Fractions run
    from 0 to 1; intervals are 95 % over docs; an undefined interval is drawn as a point without a
    bar, an undefined value not at all. In the CSV undefined is an empty cell. `manifest` says which
    modes are one prompt at several temperatures.
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
    ):
        if any(not math.isnan(line[4]) for line in lines):
            figure = _picture(lines, modes, panel, title, label)
            words = _caption(name, lines), listed(*_said(name, lines))
            made.append(write_figure(folder, name, figure, words, _HEADER, lines))
    points = _points(arms, values, manifest)
    heading = "Difference in meaning beside quality"
    tradeoff = draw_frontier(points, folder, "tradeoff", "quality", _DISPERSION, heading)
    return [*made, tradeoff] if tradeoff else made


def _caption(name: str, lines: Sequence[Line]) -> str:
    estimated = any(line[2] == "entropy_bits_estimate" for line in lines)
    return f"{_CAPTIONS[name]} {_ESTIMATED}" if estimated else _CAPTIONS[name]


def _said(name: str, lines: Sequence[Line]) -> tuple[str, list[str]]:
    """The alternative text: how it starts, and the numbers of every panel."""
    if name == "entropy":
        return "Strip plot of entropy in bits a token, by doc.", [*_medians(lines)]
    if name == "pass_at_k":
        return "Line plot of pass@k.", [*_ends(lines)]
    start = f"Dot plot of {'accuracy' if name == 'accuracy' else 'diversity'}, means over docs."
    means = [line for line in lines if math.isnan(line[3])]
    return start, [
        f"{' '.join(titles)}: {', '.join(f'{m[1]} {share_text(_estimate(m))}' for m in members)}"
        for titles, members in _panels(means)
    ]


def _ends(lines: Sequence[Line]) -> Iterator[str]:
    """Both ends of every curve."""
    for (task,), members in _panels(lines):
        for mode in dict.fromkeys(line[1] for line in members):
            curve = sorted((line for line in members if line[1] == mode), key=lambda line: line[3])
            ends = dict.fromkeys([curve[0], curve[-1]])
            said = " and ".join(f"{share_text(_estimate(e))} at k = {e[3]:.0f}" for e in ends)
            yield f"{task}: {mode} {said}"


def _medians(lines: Sequence[Line]) -> Iterator[str]:
    for titles, members in _panels(lines):
        for mode in dict.fromkeys(line[1] for line in members):
            values = [line[4] for line in members if line[1] == mode]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            name = f"{titles[0]}: {mode}"
            yield f"{name} median {median(values):.2f}, {spread}, {len(values)} docs"


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


def _points(
    arms: Sequence[Arm], values: Sequence[Value], manifest: Mapping[str, Any] | None
) -> list[FrontierPoint]:
    """Of every mode on every creative task; modes of one prompt are joined over temperatures."""
    means = {(v.task, v.mode, v.metric): v.estimate for v in values}
    found: list[FrontierPoint] = []
    for task in dict.fromkeys(arm.task for arm in arms):
        modes = {arm.mode: arm for arm in arms if arm.task == task and _DISPERSION in arm.values}
        series = _series(manifest, task, list(modes))
        for mode, (name, label) in series.items():
            pair = [means.get((task, mode, metric)) for metric in ("quality", _DISPERSION)]
            if pair[0] and pair[1]:
                of_docs = _of_docs(modes[mode])
                found.append(FrontierPoint(name, label, pair[0], pair[1], task, mode, of_docs))
    return found


def _of_docs(arm: Arm) -> list[tuple[int, float, float]]:
    """Every doc with its quality and dispersion, where both are defined."""
    quality, dispersion = arm.values["quality"], arm.values[_DISPERSION]
    pairs = [(doc, quality.get(doc, math.nan), y) for doc, y in sorted(dispersion.items())]
    return [(doc, x, y) for doc, x, y in pairs if math.isfinite(x + y)]


def _series(
    manifest: Mapping[str, Any] | None, task: str, modes: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Of every mode the first one that differs in nothing but its temperature, and a label.

    In the order of temperatures. Modes of one prompt and one temperature, such as those of an A/A
    test, are no series.
    """
    known = {entry["name"]: entry for entry in (manifest or {"modes": []})["modes"]}
    of_task = ((manifest or {}).get("tasks", {}).get(task) or {}).get("sampling") or {}
    groups: dict[str, list[tuple[float, str]]] = {}
    for mode in modes:
        sampling = {**of_task, **known.get(mode, {}).get("sampling", {})}
        temperature = float(sampling.pop("temperature", math.nan))
        prompt = known[mode]["system_prompt"] if mode in known else mode
        kin = json.dumps([prompt, sampling], sort_keys=True)
        groups.setdefault(kin, []).append((temperature, mode))
    found = {}
    for members in groups.values():
        temperatures = {temperature for temperature, _ in members if math.isfinite(temperature)}
        differ = len(temperatures) == len(members) > 1
        for temperature, mode in sorted(members) if differ else members:
            found[mode] = (members[0][1], f"T {temperature:g}") if differ else (mode, "")
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
    free = panel is _dots_on_docs
    legend = panel is _curves or _beside(modes)
    room = legend_room(map(plain, modes)) if legend else 0.6
    figure, axes = panel_grid(len(panels), label, sharey=not free, beside=room)
    for axis, (titles, members) in zip(axes, panels, strict=True):
        panel(axis, members, modes)
        finish_panel(axis, *titles)
    if not free:
        top = max(line[4] for line in lines) * 1.08 if panel is _strips else 1.03
        top = top or 1.0  # where every entropy is 0
        axes[0].set_ylim(-0.03 * top, top)
    if legend and panel is not _curves:
        for mode in modes:
            style = mode_style(modes, mode) | {"linestyle": "none"}
            axes[0].plot([], [], label=legend_name(mode), **style)
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
            markersize=8,
            markeredgecolor="white",
            zorder=4,
            **style,
        )
    _mode_ticks(axis, modes)


def _dots_on_docs(axis: Any, lines: Sequence[Line], modes: Sequence[str]) -> None:
    """Means before their docs, on an axis that does not start at 0: differences are small."""
    for mode in modes:
        docs = sorted(line[4] for line in lines if line[1] == mode and not math.isnan(line[3]))
        _scatter(axis, some_of(docs), modes, mode, alpha=0.25)
    _dots(axis, [line for line in lines if math.isnan(line[3])], modes)
    axis.margins(y=0.1)
    widen(axis, _LEAST_SPAN)


def _estimate(line: Line) -> Estimate:
    return Estimate(*line[4:])


def _beside(modes: Sequence[str]) -> bool:
    """Whether names are too long to stand below a panel."""
    return sum(map(len, modes)) > _LETTERS_BELOW


def _mode_ticks(axis: Any, modes: Sequence[str]) -> None:
    axis.set_xlim(-0.6, len(modes) - 0.4)
    if _beside(modes):
        axis.set_xticks([])
        return
    crowded = sum(map(len, modes)) > 16
    axis.set_xticks(
        range(len(modes)), list(map(plain, modes)), rotation=30 if crowded else 0, fontsize=9
    )
    for text in axis.get_xticklabels():
        text.set_horizontalalignment("right" if crowded else "center")


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
        _scatter(axis, some_of(values), modes, mode, alpha=0.55)
        axis.hlines(median(values), place - 0.3, place + 0.3, color="black", linewidth=2, zorder=4)
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
    _dots_on_docs: "95 % intervals over docs; faint: docs; axes need not start at 0",
}
