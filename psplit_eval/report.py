"""What a run leaves for people and tools: leaderboard, comparison, plots, report.md, report.html;
and what a comparison of two runs leaves.

All of it is made again from the store and the manifest. The two reports show the same sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm
from psplit_eval.behaviour import Compared
from psplit_eval.behaviour_plots import draw_behaviour
from psplit_eval.comparison import Comparison
from psplit_eval.documents import Document, Section, to_html, to_markdown
from psplit_eval.excerpts import select
from psplit_eval.figures import Plot
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.judge_plots import draw_judges
from psplit_eval.judge_tables import calibrated_table, judge_tables
from psplit_eval.leaderboard import leaderboard_csv
from psplit_eval.overlap_plots import draw_overlap
from psplit_eval.plots import draw
from psplit_eval.results import Results, read_results
from psplit_eval.run_tables import further_tables, primary_tables
from psplit_eval.sections import run_document, summary_tables
from psplit_eval.store import Store
from psplit_eval.tables import Table, tables_text
from psplit_eval.training_curves import draw_training

__all__ = ["COMPARISON_FILES", "Written", "write_comparison", "write_report"]

COMPARISON_FILES = ("comparison.json", "report.md", "report.html")
"""What `write_comparison` writes."""


@dataclass(frozen=True)
class Written:
    """What a run was found to say; `summary`, `judges` and `calibrated` are tables for a terminal.

    The last is one of `judges`'.
    """

    summary: str
    judges: str
    calibrated: str
    results: Results


def write_report(
    folder: Path,
    manifest: Mapping[str, Any],
    store: Store,
    arms: Sequence[Arm],
    compared: Compared | None = None,
) -> Written:
    """Write every result file into the run folder. Raises InfrastructureError for a full disk."""
    compared = compared or Compared()
    results = read_results(folder, manifest, store, arms, compared)
    _write_numbers(folder, results)
    plots = _draw(folder / "plots", results, compared.design.allow_missing)
    _write_document(folder, run_document(results, plots, select(store, arms, manifest["tasks"])))
    of_judges = judge_tables(results.judged, results.cards)
    return Written(
        summary=tables_text(summary_tables(results)),
        judges=tables_text(table for table in of_judges if not table.prose),
        calibrated=tables_text([calibrated_table(results.judged)]),
        results=results,
    )


def _write_numbers(folder: Path, results: Results) -> None:
    model = str(results.manifest["checkpoint"]["name"])
    write_text(folder / "leaderboard.csv", leaderboard_csv(model, results.values))
    _write_comparisons(folder, results.comparisons)
    write_json(folder / "divergence.json", results.behaviour.to_dict())
    judgements = folder / "judgements.json"
    if results.judged.judges:
        write_json(judgements, results.judged.to_dict())
    else:
        with disk_errors(judgements):
            judgements.unlink(missing_ok=True)  # of a ledger that is gone


def _draw(folder: Path, results: Results, allow_missing: bool) -> list[Plot]:
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        plots = [
            *draw(results.arms, folder, allow_missing, results.manifest),
            *draw_overlap(results.behaviour.findings, results.modes, folder),
            *draw_judges(results.judged, folder),
            *draw_behaviour(results.behaviour, folder),
            *(draw_training(results.training, results.modes, folder) if results.training else []),
        ]
        drawn = {path for plot in plots for path in (plot.png, plot.svg, plot.csv)}
        for path in set(folder.iterdir()) - drawn:  # those of a report before
            if path.suffix in (".png", ".svg", ".csv"):
                path.unlink()
        return plots


def write_comparison(
    folder: Path | None,
    title: str,
    conclusion: str,
    facts: Sequence[tuple[str, ...]],
    comparisons: Sequence[Comparison],
) -> str:
    """Two runs compared: comparison.json, report.md and report.html in `folder`, if there is one.

    `facts` has rows of (what differs, run A, run B). Returns the same for a terminal. Raises
    InfrastructureError when the disk is full.
    """
    differing = Table(
        "What differs between the runs",
        "As far as the manifests and stores of the two runs say.",
        ("what", "run A", "run B"),
        tuple(facts),
    )
    found = [table for table in primary_tables(comparisons) if table.rows]
    further = [table for table in further_tables(comparisons) if table.rows]
    if folder is not None:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _write_comparisons(folder, comparisons)
        about = Section("What differs", tables=[differing] if differing.rows else [])
        document = Document(title, conclusion, found=found, sections=[about], details=further)
        _write_document(folder, document)
    return tables_text([*found, *further, differing])


def _write_comparisons(folder: Path, comparisons: Sequence[Comparison]) -> None:
    entries = [comparison.to_dict() for comparison in comparisons]
    write_json(folder / "comparison.json", {"format": 1, "comparisons": entries})


def _write_document(folder: Path, document: Document) -> None:
    write_text(folder / "report.md", to_markdown(document))
    write_text(folder / "report.html", to_html(document))
