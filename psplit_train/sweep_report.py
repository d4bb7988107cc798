"""What a sweep found: means and spread over seeds, as tables and pictures. Never the best seed.

A setting is judged by all of its seeds that were finished, and the tables say how many these are:
one lucky seed of three would otherwise win every sweep. Nothing is trained or sampled here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from psplit_eval.captions import listed
from psplit_eval.figures import (
    Plot,
    add_legend,
    draw_curve,
    finish_panel,
    legend_name,
    legend_room,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    widen,
    write_figure,
)
from psplit_eval.files import disk_errors, write_text
from psplit_eval.leaderboard import csv_number, csv_text
from psplit_eval.modes import checkpoint_modes
from psplit_eval.stats import Estimate
from psplit_eval.tables import Table, tables_text
from psplit_eval.text import markdown_text
from psplit_eval.training_curves import TrainingLog, read_training_log
from psplit_train.cards import markdown_table
from psplit_train.evaluate import read_evaluations
from psplit_train.sweep import Cell, Sweep, read_sweep

__all__ = ["Outcome", "SweepReport", "outcomes", "write_sweep_report"]

Panel = tuple[str, str]
"""Measure, and mode or modes."""

_LOG = "training_log.jsonl"
_EVALUATION, _LAST_TENTH = "evaluation", "log"
_LOGGED = ("reward", "entropy_bits", "kl_bits", "unique", "length")
_TOLD = ("accuracy_avg", "accuracy_unique", "reward", "entropy_bits", "kl_bits", "unique")
"""Measures that tables and pictures have; sweep.csv has all."""
_DRAWN = ("reward", "entropy_bits", "kl_bits")
_PART = 10
_WINDOWS = 60
"""Points of a curve: of more logged steps windows are averaged."""
_PANELS = 12
_TICKS = 8
"""At most so many values of a setting are named on its axis."""
_LEAST_SPAN = 0.02
"""Of a y axis: less is no difference worth a picture."""
_LOG_SCALE = 8.0
"""Positive values of a setting so many times apart stand on a logarithmic axis."""


@dataclass(frozen=True)
class Outcome:
    """One number of one setting, with a value a finished seed; undefined ones are left out.

    `mode` is the one measured, of a KL the one that it is taken over, and `to` the other one.
    `source`: `evaluation`, the last one of each training (a mean over its tasks), or `log`, the
    mean over the last tenth of the training's log, which is of its own batches.
    """

    label: str
    settings: Mapping[str, str]
    source: str
    measure: str
    mode: str
    to: str
    values: Mapping[int, float]

    @property
    def panel(self) -> Panel:
        return self.measure, f"{self.mode} to {self.to}" if self.to else self.mode

    @property
    def mean(self) -> float:
        return fmean(self.values.values()) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds (n − 1); NaN below two seeds, which have no spread."""
        return stdev(self.values.values()) if len(self.values) > 1 else math.nan

    @property
    def estimate(self) -> Estimate:
        """The mean between the lowest and the highest seed: a range, no confidence interval."""
        known = sorted(self.values.values())
        low, high = (known[0], known[-1]) if len(known) > 1 else (math.nan, math.nan)
        return Estimate(self.mean, low, high, len(known))


@dataclass(frozen=True)
class SweepReport:
    """`text` is for a terminal; `file` the same in Markdown, beside `table` (CSV). `exit_code`: 0
    where all cells are finished, else 4."""

    folder: Path
    text: str
    outcomes: tuple[Outcome, ...]
    plots: tuple[Plot, ...]
    exit_code: int

    @property
    def file(self) -> Path:
        return self.folder / "sweep.md"

    @property
    def table(self) -> Path:
        return self.folder / "sweep.csv"


@dataclass(frozen=True)
class _Trained:
    """A finished cell; `evaluated`: mode → metric → value of its last evaluation."""

    cell: Cell
    modes: Sequence[str]
    log: TrainingLog
    evaluated: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def write_sweep_report(folder: Path) -> SweepReport:
    """Read what a sweep has trained so far, and write sweep.md, sweep.csv and plots/.

    Raises UsageError where there is no sweep, DataError for logs and tables that cannot be read,
    InfrastructureError where a file cannot be written.
    """
    swept = read_sweep(folder)
    trained = [_trained(swept, cell) for cell in swept.cells if swept.finished(cell)]
    found = tuple(_outcomes(trained))
    tables = [_table(swept, found, source) for source in (_EVALUATION, _LAST_TENTH)]
    plots = tuple(_plots(swept.folder / "plots", trained, found))
    missing = list(_missing(swept))
    said = tables_text(tables) if found else "No cell is finished yet."
    alike = f"In all cells: {', '.join(swept.fixed)}." if swept.fixed else ""
    text = "\n\n".join(part for part in (said, alike, "\n".join(missing)) if part)
    report = SweepReport(folder, text, found, plots, swept.exit_code)
    write_text(report.table, _csv(found))
    write_text(report.file, _markdown(tables, alike, missing, plots))
    return report


def outcomes(folder: Path) -> list[Outcome]:
    """All numbers of a sweep's finished cells, setting by setting. Raises as the report does."""
    swept = read_sweep(folder)
    return list(_outcomes([_trained(swept, cell) for cell in swept.cells if swept.finished(cell)]))


def _trained(swept: Sweep, cell: Cell) -> _Trained:
    place = swept.place(cell)
    log = place / _LOG if (place / _LOG).is_file() else place / "final" / _LOG
    evaluations = read_evaluations(place)
    values = evaluations[-1].values if evaluations else {}
    return _Trained(cell, list(checkpoint_modes(place / "final")), read_training_log(log), values)


def _outcomes(trained: Sequence[_Trained]) -> Iterator[Outcome]:
    by_setting: dict[str, list[_Trained]] = {}
    for each in trained:
        by_setting.setdefault(each.cell.label, []).append(each)
    for label, group in by_setting.items():
        settings = group[0].cell.settings
        numbers = {each.cell.seed: dict(_numbers(each)) for each in group}
        for key in dict.fromkeys(key for found in numbers.values() for key in found):
            values = {seed: found[key] for seed, found in numbers.items() if key in found}
            known = {seed: value for seed, value in values.items() if math.isfinite(value)}
            yield Outcome(label, settings, *key, known)


def _numbers(trained: _Trained) -> Iterator[tuple[tuple[str, str, str, str], float]]:
    """(source, measure, mode, the other mode) with the value of one training."""
    for mode, metrics in trained.evaluated.items():
        for metric, value in metrics.items():
            yield (_EVALUATION, metric, mode, ""), value
    steps = sorted({step for points in trained.log.series.values() for step, _ in points})
    first = steps[-max(1, len(steps) // _PART)] if steps else 0.0
    for measure, mode, to, points in _lines(trained, _LOGGED):
        last = [value for step, value in points if step >= first and math.isfinite(value)]
        yield (_LAST_TENTH, measure, mode, to), fmean(last) if last else math.nan


def _lines(
    trained: _Trained, measures: Iterable[str]
) -> Iterator[tuple[str, str, str, Sequence[tuple[float, float]]]]:
    """(measure, mode, the other mode of a KL, points) of those that the log has."""
    modes, series = trained.modes, trained.log.series
    for measure in measures:
        for mode in modes:
            for to in modes if measure == "kl_bits" else [""]:
                points = series.get(f"{measure}/{mode}_{to}" if to else f"{measure}/{mode}")
                if points and to != mode:
                    yield measure, mode, to, points


def _table(swept: Sweep, found: Sequence[Outcome], source: str) -> Table:
    """A row a setting and mode, a column a measure."""
    shown = _ranked(each for each in found if each.source == source and each.measure in _TOLD)
    columns = list(dict.fromkeys(map(_column, shown)))
    rows = list(dict.fromkeys((e.label, e.mode) for e in found if e in shown))
    cells = {(each.label, each.mode, _column(each)): _cell(each) for each in shown}
    asked = _counted(swept.cells)
    done = _counted(cell for cell in swept.cells if swept.finished(cell))
    lines = tuple(
        (
            label,
            f"{done[label]} of {asked[label]}",
            mode,
            *(cells.get((label, mode, column), "") for column in columns),
        )
        for label, mode in rows
    )
    title, of = {
        _EVALUATION: ("Final evaluation", "the last evaluation of each training"),
        _LAST_TENTH: ("End of training", "the last tenth of each training's log, its own batches"),
    }[source]
    note = (
        f"Means of {of}, over seeds ± their standard deviation (n − 1). Fractions and bits. A "
        "spread of few seeds is known badly: ranges are in sweep.csv."
    )
    return Table(title, note, ("setting", "seeds", "mode", *columns), lines)


def _column(outcome: Outcome) -> str:
    return f"{outcome.measure} to {outcome.to}" if outcome.to else outcome.measure


def _ranked(found: Iterable[Outcome]) -> list[Outcome]:
    return sorted(found, key=lambda each: _TOLD.index(each.measure))


def _counted(cells: Iterable[Cell]) -> dict[str, int]:
    count: dict[str, int] = {}
    for cell in cells:
        count[cell.label] = count.get(cell.label, 0) + 1
    return count


def _cell(outcome: Outcome) -> str:
    if math.isnan(outcome.mean):
        return "undefined"
    spread = "" if math.isnan(outcome.deviation) else f" ± {outcome.deviation:.3f}"
    return f"{outcome.mean:.3f}{spread}"


def _missing(swept: Sweep) -> Iterator[str]:
    """What the means leave out: seeds that failed are hardly a random part."""
    for cell in swept.unfinished:
        code, words = swept.failures.get(cell.name, (None, ""))
        how = f"failed with exit code {code}: {words}" if code is not None else "not finished"
        yield f"Left out: {cell.name}, {how} (logs/{swept.log(cell).name})"


def _csv(found: Sequence[Outcome]) -> str:
    names = list(dict.fromkeys(name for each in found for name in each.settings))
    header = ("setting", *names, "source", "measure", "mode", "to")
    rows = []
    for each in found:
        low, high = each.estimate.ci_low, each.estimate.ci_high
        numbers = map(csv_number, (each.mean, each.deviation, low, high))
        given = [each.settings.get(name, "") for name in names]
        of = [each.source, each.measure, each.mode, each.to, str(len(each.values))]
        rows.append([each.label, *given, *of, *numbers])
    return csv_text([*header, "seeds", "mean", "sd", "low", "high"], rows)


def _markdown(
    tables: Sequence[Table], alike: str, missing: Sequence[str], plots: Sequence[Plot]
) -> str:
    parts = ["# Sweep", *([markdown_text(alike)] if alike else [])]
    for table in tables:
        if table.rows:
            parts += [f"## {table.title}", table.note, markdown_table(table.header, table.rows)]
    if missing:
        parts.append("\n".join(f"- {markdown_text(line)}" for line in missing))
    for plot in plots:
        picture = f"![{markdown_text(plot.alt)}](plots/{plot.png.name})"
        parts += [picture, markdown_text(plot.caption)]
    return "\n\n".join(parts) + "\n"


def _plots(folder: Path, trained: Sequence[_Trained], found: Sequence[Outcome]) -> Iterator[Plot]:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    curves = _curves(trained)
    if curves:
        yield _draw_curves(folder, curves)
    for name in _numeric(found):
        yield _draw_values(folder, name, found)


Curve = tuple[list[float], list[Estimate]]
"""Steps, and at each the mean over seeds between the lowest and the highest one."""


def _curves(trained: Sequence[_Trained]) -> dict[Panel, dict[str, Curve]]:
    """Panel → setting → curve."""
    series: dict[Panel, dict[str, list[Any]]] = {}
    for each in trained:
        for measure, mode, to, points in _lines(each, _DRAWN):
            of_setting = series.setdefault((measure, f"{mode} to {to}" if to else mode), {})
            of_setting.setdefault(each.cell.label, []).append(points)
    ranked = sorted(series.items(), key=lambda item: _DRAWN.index(item[0][0]))
    return {
        panel: {label: _curve(seeds) for label, seeds in of_setting.items()}
        for panel, of_setting in ranked[:_PANELS]
    }


def _curve(seeds: Sequence[Sequence[tuple[float, float]]]) -> Curve:
    """In each window a seed counts once, by its mean there."""
    steps = sorted({step for points in seeds for step, _ in points})
    width = math.ceil(len(steps) / _WINDOWS)
    xs, estimates = [], []
    for start in range(0, len(steps), width):
        window = steps[start : start + width]
        means = [m for m in (_mean_in(points, window) for points in seeds) if math.isfinite(m)]
        xs.append(fmean(window))
        low, high = (min(means), max(means)) if len(means) > 1 else (math.nan, math.nan)
        mean = fmean(means) if means else math.nan
        estimates.append(Estimate(mean, low, high, len(means)))
    return xs, estimates


def _mean_in(points: Sequence[tuple[float, float]], window: Sequence[float]) -> float:
    low, high = window[0], window[-1]
    values = [value for step, value in points if low <= step <= high and math.isfinite(value)]
    return fmean(values) if values else math.nan


def _draw_curves(folder: Path, curves: Mapping[Panel, Mapping[str, Curve]]) -> Plot:
    labels = list(dict.fromkeys(label for lines in curves.values() for label in lines))

    def draw(axis: Any, panel: Panel) -> None:
        for label, (steps, estimates) in curves[panel].items():
            style = {**mode_style(labels, label), "marker": ""}
            draw_curve(axis, steps, estimates, legend_name(label), style)
        axis.set_xlabel("step", fontsize=9)
        axis.locator_params(axis="x", nbins=5, integer=True)

    figure = _figure(list(curves), labels, "Training, by setting", draw)
    rows = [
        (measure, mode, label, f"{step:g}", e.value, e.ci_low, e.ci_high, e.n)
        for (measure, mode), lines in curves.items()
        for label, (steps, estimates) in lines.items()
        for step, e in zip(steps, estimates, strict=True)
    ]
    caption = (
        "What the trainings logged of their own batches, over the step: a line is the mean over a "
        "setting's seeds, its band reaches from the lowest seed to the highest and is no "
        "confidence interval; a line without a band is of one seed. Long logs are averaged in "
        f"{_WINDOWS} windows."
    )
    alt = listed(
        "Line plots over training steps, a line a setting.",
        (
            f"{measure} {mode}, {label}: from {es[0].value:.3g} to {es[-1].value:.3g}"
            for (measure, mode), lines in curves.items()
            for label, (_, es) in lines.items()
        ),
    )
    header = ("measure", "mode", "setting", "step", "mean", "lowest", "highest", "seeds")
    return write_figure(folder, "training", figure, (caption, alt), header, rows)


def _numeric(found: Sequence[Outcome]) -> list[str]:
    """Settings that have several numbers, and nothing else, as values."""
    names = dict.fromkeys(name for each in found for name in each.settings)
    values = {name: {each.settings.get(name, "") for each in found} for name in names}
    return [n for n, v in values.items() if len(v) > 1 and not any(map(math.isnan, map(_float, v)))]


def _leaf(name: str, found: Sequence[Outcome]) -> str:
    """The last part of a setting's name, where no other one has it."""
    leaf = name.rpartition(".")[2]
    names = {other for each in found for other in each.settings}
    return leaf if sum(other.rpartition(".")[2] == leaf for other in names) == 1 else name


def _float(text: str) -> float:
    try:
        return float(text) if math.isfinite(float(text)) else math.nan
    except ValueError:
        return math.nan


def _draw_values(folder: Path, name: str, found: Sequence[Outcome]) -> Plot:
    """Measures over the values of one setting, a line for each combination of the others."""
    shown = [each for each in found if each.measure in _TOLD]
    sources = {each.source for each in shown}
    shown = [e for e in shown if e.source == _EVALUATION or _only_logged(e, sources)]
    panels = list(dict.fromkeys(each.panel for each in _ranked(shown)))[:_PANELS]
    others = list(dict.fromkeys(_others(each, name) for each in shown))
    leaf = _leaf(name, shown)

    def draw(axis: Any, panel: Panel) -> None:
        for other in others:
            line = _line(shown, panel, name, other)
            xs = [_float(each.settings[name]) for each in line]
            style = mode_style(others, other)
            draw_curve(axis, xs, [e.estimate for e in line], legend_name(other), style)
            _draw_seeds(axis, xs, line, style["color"])
        _scale(axis, sorted({_float(each.settings[name]) for each in shown}))
        axis.set_xlabel(plain(leaf), fontsize=9)

    figure = _figure(panels, others, f"Means over seeds, by {plain(leaf)}", draw)
    rows = [
        (e.source, *e.panel, _others(e, name), e.settings[name], seed, value)
        for e in shown
        for seed, value in e.values.items()
    ]
    of = "the last evaluation" if _EVALUATION in sources else "the last tenth of the log"
    caption = (
        f"Numbers of {of} of each training over {leaf}: a dot is a seed, a line the mean over "
        "seeds, its band reaches from the lowest seed to the highest and is no confidence interval."
    )
    alt = listed(
        f"Plots over {leaf}.",
        (f"{' '.join(e.panel)} at {e.label}: {e.mean:.3g}, {len(e.values)} seeds" for e in shown),
    )
    header = ("source", "measure", "mode", "others", leaf, "seed", "value")
    return write_figure(folder, f"by_{leaf}", figure, (caption, alt), header, rows)


def _only_logged(outcome: Outcome, sources: set[str]) -> bool:
    """An evaluation has everything but the KL, which it measures where it is asked to."""
    return _EVALUATION not in sources or outcome.measure == "kl_bits"


def _others(outcome: Outcome, name: str) -> str:
    rest = {key: value for key, value in outcome.settings.items() if key != name}
    return Cell(rest, 0).label if rest else "all"


def _line(shown: Sequence[Outcome], panel: Panel, name: str, other: str) -> list[Outcome]:
    line = [e for e in shown if e.panel == panel and _others(e, name) == other]
    return sorted(line, key=lambda each: _float(each.settings[name]))


def _draw_seeds(axis: Any, xs: Sequence[float], line: Sequence[Outcome], colour: str) -> None:
    dots = [(x, value) for x, each in zip(xs, line, strict=True) for value in each.values.values()]
    axis.plot(
        [x for x, _ in dots],
        [y for _, y in dots],
        marker="o",
        markersize=3,
        linestyle="none",
        color=colour,
        alpha=0.5,
    )


def _scale(axis: Any, values: Sequence[float]) -> None:
    """The axis of a setting, whose values are given by rank."""
    if values[0] > 0 and values[-1] / values[0] >= _LOG_SCALE:
        axis.set_xscale("log")
    if len(values) <= _TICKS:
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.minorticks_off()
    widen(axis, _LEAST_SPAN)


def _figure(
    panels: Sequence[Panel],
    lines: Sequence[str],
    heading: str,
    draw: Callable[[Any, Panel], None],
) -> Figure:
    room = legend_room(map(plain, lines))
    figure, axes = panel_grid(len(panels), "", sharey=False, beside=room, size=(2.8, 2.5))
    for axis, panel in zip(axes, panels, strict=True):
        draw(axis, panel)
        finish_panel(axis, *panel)
        axis.tick_params(labelsize=9)
    set_heading(figure, heading)
    add_legend(figure, axes)
    return figure
