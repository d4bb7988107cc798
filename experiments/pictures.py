"""Pictures of a study, made of its records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from operator import attrgetter, itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from experiments.analysis import (
    METRICS,
    Trained,
    creative_summary,
    creative_tasks,
    excess,
    summary,
)
from experiments.measuring import PROMPTS
from experiments.records import Record
from experiments.study import MODES, Ablation, Study
from psplit_eval.figures import (
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
    write_figure,
)
from psplit_eval.stats import Difference, Estimate

__all__ = ["draw_creative", "draw_stopped", "draw_study", "draw_temperatures"]

_CURVES = (
    ("entropy_bits/normal", "entropy, normal"),
    ("entropy_bits/high", "entropy, high"),
    ("kl_bits/normal_high", "KL(normal‖high)"),
    ("kl_bits/high_normal", "KL(high‖normal)"),
    ("reward/normal", "right, normal"),
    ("reward/high", "right, high"),
    ("unique/normal", "different right answers, normal"),
    ("unique/high", "different right answers, high"),
    ("eta/high", "η, where it is steered"),
)
_UNITS = {
    "accuracy": "share of samples",
    "entropy": "bits a token",
    "unique": "of a question's samples",
    "best of 8": "share of questions",
}
_LEAST_SPAN = 0.05
"""Of the x axis of a dot plot, in the metric's unit."""
_POLICY_LINES = (
    {"color": "#222222", "marker": ".", "linestyle": "-"},
    {"color": "#888888", "marker": ".", "linestyle": "--"},
)
_Panel = tuple[str, str, str, Callable[..., Difference]]
"""Key, title, unit, and what it shows of an arm in a `mode`."""
_BAND = "its band reaches from the lowest seed to the highest and is no confidence interval"


def draw_study(
    study: Study, arms: Sequence[Trained], prompted: Sequence[Trained], folder: Path
) -> list[Plot]:
    """All pictures that the records allow, into `folder`; `prompted`: arms of which is known what
    other prompts do."""
    folder.mkdir(parents=True, exist_ok=True)
    main = [each for each in arms if each.arm.main]
    others = [each for each in arms if not each.arm.main]
    logged = [each for each in main if any(record.log for record in each.records)]
    asked = (
        (_curves, logged, "curves"),
        (_values, main, "arms"),
        (_values, others, "others"),
        (_prompts, [each for each in prompted if each.arm.main], "prompts"),
    )
    plots = [draw(chosen, folder, name) for draw, chosen, name in asked if chosen]
    ablations = ((each, _by_setting(study, each, arms)) for each in study.ablations)
    return [*plots, *(_ablation(each, by, folder) for each, by in ablations if len(by) > 1)]


def draw_stopped(arms: Sequence[Trained], folder: Path) -> Plot:
    """Curves of trainings that were stopped, as far as all seeds of an arm came."""
    folder.mkdir(parents=True, exist_ok=True)
    return _curves(arms, folder, "stopped")


def _estimate(each: Trained, found: Difference) -> Estimate:
    """Of so many seeds."""
    return Estimate(found.difference, found.ci_low, found.ci_high, len(each.records))


def _seeds(values: Sequence[float]) -> Estimate:
    """Mean between the lowest and the highest seed."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if len(known) > 1 else (math.nan, math.nan)
    return Estimate(fmean(known) if known else math.nan, low, high, len(known))


def _rows(keys: Iterable[Sequence[Any]], found: Iterable[Estimate]) -> list[Sequence[Any]]:
    """Of a CSV file: what each value is of, then its numbers."""
    return [(*key, e.value, e.ci_low, e.ci_high, e.n) for key, e in zip(keys, found, strict=True)]


def _drawn(record: Record) -> set[str]:
    """Measures that there is a curve of: of an η only where it moves."""
    return {
        measure
        for measure, values in record.log.items()
        if not measure.startswith("eta/") or len(set(values)) > 1
    }


def _line(each: Trained, measure: str) -> dict[float, Estimate]:
    """By step, as far as all seeds came that have a curve."""
    known = [record.log[measure] for record in each.records if measure in _drawn(record)]
    width = each.records[0].window
    return {width * (i + 0.5): _seeds(found) for i, found in enumerate(zip(*known, strict=False))}


def _curves(logged: Sequence[Trained], folder: Path, name: str) -> Plot:
    names = [each.arm.name for each in logged]
    measured = {measure for each in logged for record in each.records for measure in _drawn(record)}
    curves = [(measure, title) for measure, title in _CURVES if measure in measured]
    room = legend_room(names)
    figure, axes = panel_grid(len(curves), "", sharey=False, beside=room, size=(2.7, 2.4))
    rows = []
    for axis, (measure, title) in zip(axes, curves, strict=True):
        lines = {each.arm.name: _line(each, measure) for each in logged}
        for arm, line in lines.items():
            if line:
                style = {**mode_style(names, arm), "marker": ""}
                draw_curve(axis, list(line), list(line.values()), legend_name(arm), style)
            rows += _rows(((measure, arm, step) for step in line), line.values())
        _finish_curves(axis, measure, title)
    set_heading(figure, "Training: both modes over steps (bits a token; shares; answers)")
    add_legend(figure, axes)
    caption = (
        "What the trainings logged of their own batches, means over 20 steps: a line is the mean "
        f"over an arm's seeds, {_BAND}. GRPO draws all responses to a question in its one mode, "
        "so its different right answers are of more responses than others' and do not compare; its "
        "other mode is not logged."
    )
    alt = "Line plots over steps, a line an arm; the numbers are in the CSV file beside it."
    header = ("measure", "arm", "step", "mean", "lowest", "highest", "seeds")
    return write_figure(folder, name, figure, (caption, alt), header, rows)


def _finish_curves(axis: Any, measure: str, title: str) -> None:
    finish_panel(axis, title)
    if measure.startswith("eta/"):
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])  # one that hardly moves is not blown up
    axis.set_xlabel("step", fontsize=9)
    axis.tick_params(labelsize=9)
    axis.locator_params(axis="x", nbins=4, integer=True)


def _draw_dots(axis: Any, found: Mapping[str, Sequence[Estimate]], apart: float) -> None:
    """A row an arm, in which each group has a dot with its bar, so many rows from the next."""
    for number, (group, estimates) in enumerate(found.items()):
        offset = apart * (number - (len(found) - 1) / 2)
        axis.errorbar(
            [e.value for e in estimates],
            [row + offset for row in range(len(estimates))],
            xerr=bar_lengths(estimates),
            label=group,
            markersize=4,
            capsize=2,
            **{**mode_style(tuple(found), group), "linestyle": "none"},
        )


def _dot_rows(
    key: str, names: Sequence[str], found: Mapping[str, Sequence[Estimate]]
) -> Iterable[Sequence[Any]]:
    for group, estimates in found.items():
        yield from _rows(((key, name, group) for name in names), estimates)


def _finish_dots(axis: Any, title: str, unit: str) -> None:
    finish_panel(axis, title)
    axis.grid(axis="x", color="#dddddd", linewidth=0.7)
    axis.set_xlabel(unit, fontsize=9)
    axis.tick_params(labelsize=9)
    low, high = axis.get_xlim()
    spare = max(0.0, _LEAST_SPAN - (high - low)) / 2  # what hardly differs is not blown up
    axis.set_xlim(low - spare, high + spare)
    axis.locator_params(axis="x", nbins=4)


def _room(found: Sequence[Estimate]) -> tuple[float, float]:
    """Limits of an axis that hold all values, and of intervals what is not far out."""
    values = [e.value for e in found if math.isfinite(e.value)] or [0.0]
    span = max(max(values) - min(values), _LEAST_SPAN)
    low = min([*values, *(e.ci_low for e in found if math.isfinite(e.ci_low))])
    high = max([*values, *(e.ci_high for e in found if math.isfinite(e.ci_high))])
    low, high = max(low, min(values) - span / 4), min(high, max(values) + span / 4)
    return low - span / 20, high + span / 20


def _name_rows(axis: Any, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), [plain(name) for name in names])
    axis.invert_yaxis()


def _values(arms: Sequence[Trained], folder: Path, name: str) -> Plot:
    """A row an arm, both modes, with intervals."""
    caption = (
        "Held-out questions; means over checkpoints, seeds and questions, with 95 % intervals over "
        "seeds and questions (base: over questions), cut where they leave the picture."
    )
    panels = [
        (metric, metric, _UNITS[metric], partial(summary, metric=metric)) for metric in METRICS
    ]
    what = {"arms": "the main arms", "others": "other methods and ablations"}[name]
    heading = f"Held-out questions, both modes: {what}"
    return _both_modes(arms, folder, name, panels, (heading, caption))


def draw_creative(arms: Sequence[Trained], folder: Path) -> Plot:
    """Both modes of every arm on every creative task, by the metric that decides."""
    folder.mkdir(parents=True, exist_ok=True)
    caption = (
        "The measure that decides a comparison, by task; means over seeds and questions with 95 % "
        "intervals over both (base: over questions), cut where they leave the picture."
    )
    panels = [
        (task, task, metric, partial(creative_summary, metric=metric, task=task))
        for task, (metric, *_) in creative_tasks(arms).items()
    ]
    heading = "Creative tasks, which were not trained on"
    return _both_modes(arms, folder, "creative", panels, (heading, caption))


def draw_temperatures(arms: Sequence[Trained], folder: Path) -> Plot:
    """Different right answers over accuracy: one policy along its temperatures, and both modes of
    every other main arm."""
    folder.mkdir(parents=True, exist_ok=True)
    main = [each for each in arms if each.arm.main]
    names = [each.arm.name for each in main if not each.warmed("unique")]
    room = legend_room([each.arm.name for each in main])
    figure, (axis,) = panel_grid(1, "", sharey=False, beside=room, size=(5.2, 4.2))
    lines, rows = cycle(_POLICY_LINES), []
    for each in main:
        points, name = _policies(each), legend_name(each.arm.name)
        rows += [(each.arm.name, key, *point, len(each.records)) for key, point in points.items()]
        if each.arm.name in names:
            style = {**mode_style(names, each.arm.name), "linestyle": "none", "markersize": 7}
            axis.plot(*points[MODES[0]], fillstyle="none", **style)
            axis.plot(*points[MODES[1]], label=name, **style)
        else:
            shown = _past_the_most(points)
            axis.plot(*zip(*shown.values(), strict=True), label=name, **next(lines))
            for temperature, point in shown.items():
                axis.annotate(
                    temperature, point, (-5, -9), textcoords="offset points", fontsize=7, ha="right"
                )
    finish_panel(axis, "")
    axis.set_xlabel("accuracy, share of samples", fontsize=9)
    axis.set_ylabel("different right answers a question", fontsize=9)
    axis.tick_params(labelsize=9)
    set_heading(figure, "Two modes beside one policy, sampled cooler and warmer")
    add_legend(figure, [axis])
    caption = (
        "Held-out questions at the last checkpoint, means over seeds. A line is one policy, the "
        "normal mode, sampled at the temperatures beside its dots, to one step past its most; a "
        "pair of marks is an arm with two modes at temperature 1: hollow for normal, full for "
        "high. Further up and further right is better."
    )
    alt = "Different right answers over accuracy; the numbers are in the CSV file beside it."
    header = ("arm", "mode_or_temperature", "accuracy", "unique", "seeds")
    return write_figure(folder, "temperatures", figure, (caption, alt), header, rows)


def _past_the_most(points: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Up to one temperature beyond that with the most different right answers."""
    counts = [unique for _, unique in points.values()]
    return dict(list(points.items())[: counts.index(max(counts)) + 2])


def _policies(each: Trained) -> dict[str, tuple[float, float]]:
    """Accuracy and different right answers, by temperature or by mode."""
    pairs = {
        f"{t:g}": (each.warmed("accuracy")[t], each.warmed("unique")[t])
        for t in each.warmed("unique")
    } or {mode: (each.at_last("accuracy", mode), each.at_last("unique", mode)) for mode in MODES}
    return {key: (float(x.mean()), float(y.mean())) for key, (x, y) in pairs.items()}


def _both_modes(
    arms: Sequence[Trained],
    folder: Path,
    name: str,
    panels: Sequence[_Panel],
    words: tuple[str, str],
) -> Plot:
    """A dot plot, a row an arm; `words`: heading and caption."""
    names = [each.arm.name for each in arms]
    size = (2.4, 1.0 + 0.3 * len(names))
    figure, axes = panel_grid(len(panels), "", sharey=True, beside=legend_room(names), size=size)
    rows: list[Sequence[Any]] = []
    for axis, (key, title, unit, shown) in zip(axes, panels, strict=True):
        found = {mode: [_estimate(each, shown(each, mode=mode)) for each in arms] for mode in MODES}
        _draw_dots(axis, found, 0.26)
        axis.set_xlim(*_room([e for estimates in found.values() for e in estimates]))
        _finish_dots(axis, title, unit)
        rows += _dot_rows(key, names, found)
    _name_rows(axes[0], names)
    heading, caption = words
    set_heading(figure, heading)
    add_legend(figure, axes)
    alt = "Dot plot of all arms, both modes; the numbers are in the table."
    header = ("metric", "arm", "mode", "value", "ci_low", "ci_high", "seeds")
    return write_figure(folder, name, figure, (caption, alt), header, rows)


def _prompts(arms: Sequence[Trained], folder: Path, name: str) -> Plot:
    """How far each prompt goes beyond placebos."""
    names = [each.arm.name for each in arms]
    size = (3.2, 1.2 + 0.35 * len(names))
    figure, axes = panel_grid(2, "", sharey=True, beside=legend_room(names), size=size)
    rows: list[Sequence[Any]] = []
    titles = {"kl": "KL(normal‖prompt)", "entropy": "entropy, less normal's"}
    for axis, (measure, title) in zip(axes, titles.items(), strict=True):
        found = {
            prompt: [_seeds([excess(r, prompt, measure) for r in each.records]) for each in arms]
            for prompt in PROMPTS
        }
        _draw_dots(axis, found, 0.2)
        axis.axvline(0, color="#888888", linewidth=0.8)
        _finish_dots(axis, title, "bits a token beyond the nearest placebo")
        rows += _dot_rows(measure, names, found)
    _name_rows(axes[0], names)
    set_heading(figure, "What prompts do, beyond placebos")
    add_legend(figure, axes)
    caption = (
        "How far each prompt takes a model from its normal mode at what that says of held-out "
        "questions, beyond the placebo that comes nearest. high is trained on; high_rewritten and "
        "low are known from the start's warm-up only, and low is meant to have less entropy, so to "
        "lie below 0. Dots are means over seeds, bars reach from the lowest seed to the highest."
    )
    alt = "Dot plot of three prompts and all main arms; the numbers are in the CSV beside it."
    header = ("measure", "arm", "prompt", "mean", "lowest", "highest", "seeds")
    return write_figure(folder, name, figure, (caption, alt), header, rows)


def _by_setting(
    study: Study, ablation: Ablation, arms: Sequence[Trained]
) -> list[tuple[float, Trained]]:
    """Arms by a setting that is a number, also where they have it by default; [] where it is none
    in one of them."""
    chosen = [each for name in ablation.arms for each in arms if each.arm.name == name]
    value = attrgetter(ablation.setting)
    try:
        found = [(float(value(study.configured(each.arm))), each) for each in chosen]
    except (AttributeError, TypeError, ValueError):
        return []
    return sorted(found, key=itemgetter(0))


def _ablation(ablation: Ablation, arms: Sequence[tuple[float, Trained]], folder: Path) -> Plot:
    """Values over a setting, each arm beside its number."""
    xs, leaf = [x for x, _ in arms], ablation.setting.rpartition(".")[2]
    figure, axes = panel_grid(len(METRICS), "", sharey=False, size=(2.5, 2.5))
    rows: list[Sequence[Any]] = []
    for axis, metric in zip(axes, METRICS, strict=True):
        for mode in MODES:
            found = [_seeds(list(np.mean(each.values(metric, mode), axis=1))) for _, each in arms]
            draw_curve(axis, xs, found, mode, mode_style(MODES, mode))
            rows += _rows(((metric, mode, x) for x in xs), found)
        finish_panel(axis, metric)
        axis.set_xlabel(plain(leaf), fontsize=9)
        axis.set_xticks(xs, [f"{x:g}" for x in xs])
        axis.tick_params(labelsize=9)
    set_heading(figure, ablation.title)
    add_legend(figure, axes)
    name = f"by_{leaf}" if ablation.name is None else ablation.name
    caption = f"Held-out questions over {leaf}: a line is the mean over seeds, {_BAND}."
    alt = f"Plots over {leaf}; the numbers are in the CSV beside it."
    header = ("metric", "mode", leaf, "mean", "lowest", "highest", "seeds")
    return write_figure(folder, name, figure, (caption, alt), header, rows)
