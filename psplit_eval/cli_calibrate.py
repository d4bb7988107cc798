"""The options of `calibrate`, and what it has done as text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.cli_run import names_in
from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.labelling import Drawn, DrawOptions, Taken

__all__ = [
    "add_calibrate_options",
    "calibrate_draw",
    "drawn_json",
    "drawn_text",
    "taken_text",
]


def add_calibrate_options(parser: argparse.ArgumentParser) -> None:
    """What is drawn for people, or which labels are taken."""
    parser.description = (
        "Make people's labels count: draw samples for them to score, blind; then calibrate with "
        "their scores what judges said of all samples."
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's folder")
    add("--rubric", default="story", metavar="NAME", help="story, uses, solve, answer or a file")
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--draw", type=int, metavar="N", help="write N samples of every mode and task to --out"
    )
    either.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="take the labels in FILE: rows that were drawn and filled in, or with mode, task, "
        "doc_id, sample_idx, dimension and value",
    )
    add("--json", action="store_true", help="print the result as JSON")
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add = parser.add_argument_group("with --draw").add_argument
    add("--out", type=Path, metavar="FILE", help="JSON Lines to fill in; never overwritten")
    add("--tasks", default="", help="task names (default: those that the rubric is for)")
    add("--dimensions", default="", help="of the rubric (default: the one that decides)")
    add("--seed", type=int, default=0, metavar="N", help="of the draw (0)")


def calibrate_draw(options: argparse.Namespace) -> DrawOptions | None:
    """What is to be drawn; None where labels are taken. Raises UsageError."""
    from psplit_eval.labelling import DrawOptions
    from psplit_eval.rubrics import find_rubric

    if options.draw is None:
        if options.out or options.tasks or options.dimensions:
            raise UsageError("--out, --tasks and --dimensions go with --draw; leave them out")
        return None
    if options.out is None:
        raise UsageError(f"--draw {options.draw}: give --out FILE, which people fill in")
    return DrawOptions(
        folder=options.run,
        rubric=find_rubric(options.rubric),
        samples=options.draw,
        out=options.out,
        tasks=names_in("--tasks", options.tasks),
        dimensions=names_in("--dimensions", options.dimensions),
        seed=options.seed,
    )


def drawn_json(options: DrawOptions, drawn: Drawn) -> dict[str, Any]:
    """What was written, for machines."""
    return {
        "file": str(options.out),
        "rows": drawn.rows,
        "samples": {task: dict(modes) for task, modes in drawn.samples.items()},
    }


def drawn_text(options: DrawOptions, drawn: Drawn, rubric_as_given: str) -> str:
    """The same for a terminal, with what is to be done."""
    samples = "; ".join(
        f"{task}: {', '.join(f'{number} of {mode}' for mode, number in modes.items())}"
        for task, modes in drawn.samples.items()
    )
    rubric = options.rubric
    return (
        f"{options.out}: {drawn.rows} rows to score ({samples}), mixed; no row shows its mode.\n"
        f'For every row, put a number from {rubric.low} to {rubric.high} in the place of "value": '
        "null. Those who score shall not know the modes. Rows are in random order: who stops early "
        "stops after any row.\n"
        f"Then: psplit-eval calibrate {options.folder} --rubric {rubric_as_given} --labels "
        f"{options.out}"
    )


def taken_text(taken: Taken) -> str:
    """How many labels there are."""
    return f"{taken.read} labels read; the run has {taken.kept} by this rubric (labels.jsonl)"
