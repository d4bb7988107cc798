"""The sections of a report on one run, from all that the run says."""

from __future__ import annotations

from collections.abc import Sequence

from psplit_eval.behaviour_tables import behaviour_tables
from psplit_eval.comparison import AVERAGE
from psplit_eval.documents import Document, Section
from psplit_eval.excerpts import Excerpt
from psplit_eval.figures import Plot
from psplit_eval.judge_tables import judge_tables
from psplit_eval.results import Results
from psplit_eval.run_tables import (
    completeness_table,
    further_tables,
    headline,
    in_words,
    primary_tables,
    values_table,
)
from psplit_eval.settings import about, settings_table, title
from psplit_eval.tables import Table

__all__ = ["run_document", "summary_tables"]

_SENTENCES = 8
"""So many comparisons are put into words; the tables have all."""


def summary_tables(results: Results) -> list[Table]:
    """What a terminal shows."""
    values = values_table(list(headline(results.arms, results.values)))
    return [values, *primary_tables(results.comparisons)]


def run_document(results: Results, plots: Sequence[Plot], excerpts: Sequence[Excerpt]) -> Document:
    """The whole report; `plots` go to the sections that they belong to."""
    by_name = {plot.name: plot for plot in plots}
    graded, creative = _tasks(results, creative=False), _tasks(results, creative=True)
    sections = [
        _measured(results, "Accuracy", graded, _take(by_name, *_OF_ACCURACY)),
        _measured(results, "Creativity", creative, _take(by_name, *_OF_CREATIVITY)),
        _judges(results, _take(by_name, *_OF_JUDGES)),
        _behaviour(results, _take(by_name, *_OF_BEHAVIOUR)),
        Section("Training", said=results.notes, plots=_take(by_name, *_OF_TRAINING)),
        Section("Further plots", plots=list(by_name.values())),
    ]
    return Document(
        title=title(results.manifest),
        verdict=results.verdict,
        about=about(results.manifest),
        answers=results.behaviour.answers,
        found=_filled(primary_tables(results.comparisons)),
        sections=sections,
        excerpts=excerpts,
        details=_details(results),
    )


_OF_ACCURACY = ("accuracy", "pass_at_k", "overlap", "complement")
_OF_CREATIVITY = ("tradeoff", "diversity")
_OF_JUDGES = ("judge_scores", "win_rates")
_OF_BEHAVIOUR = (
    "beyond_placebos",
    "entropy",
    "entropy_by_position",
    "kl_by_position",
    "modes_matrix",
)
_OF_TRAINING = ("training",)


def _take(plots: dict[str, Plot], *names: str) -> list[Plot]:
    """Those that are there, in this order, and out of the dictionary."""
    return [plots.pop(name) for name in names if name in plots]


def _tasks(results: Results, creative: bool) -> list[str]:
    of_kind = (a.task for a in results.arms if (a.scorer.kind == "diversity") is creative)
    return list(dict.fromkeys(of_kind))


def _measured(results: Results, name: str, tasks: Sequence[str], plots: Sequence[Plot]) -> Section:
    shown = [v for v in headline(results.arms, results.values) if v.task in tasks]
    if not shown:
        return Section(name, plots=plots)
    metrics = {arm.scorer.primary for arm in results.arms if arm.task in tasks}
    decisive = [
        c
        for c in results.comparisons
        if c.primary and (c.task in tasks or (c.task == AVERAGE and c.metric in metrics))
    ]
    return Section(
        name,
        said=[in_words(c) for c in decisive[:_SENTENCES]],
        tables=[values_table(shown)],
        plots=plots,
    )


def _judges(results: Results, plots: Sequence[Plot]) -> Section:
    *tables, measures = judge_tables(results.judged, results.cards)
    return Section("Judges", tables=_filled(tables), plots=plots, details=_filled([measures]))


def _behaviour(results: Results, plots: Sequence[Plot]) -> Section:
    first, *others = behaviour_tables(results.behaviour)
    return Section(
        "How the modes behave",
        tables=_filled([first, *others[:1]]),
        plots=plots,
        details=_filled(others[1:]),
    )


def _details(results: Results) -> list[Table]:
    return _filled(
        [
            *further_tables(results.comparisons),
            values_table(results.values, "All metrics"),
            completeness_table(results.arms),
            settings_table(results.manifest),
        ]
    )


def _filled(tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if table.rows]
