"""The options of commands on runs that are there, and of `tasks` and `doctor`."""

from __future__ import annotations

import argparse
from pathlib import Path

from psplit_eval.cli_design import add_answers, add_design
from psplit_eval.cli_run import add_yardsticks, names_in
from psplit_eval.errors import UnknownNameError

__all__ = [
    "add_compare_options",
    "add_doctor_options",
    "add_export_options",
    "add_import_options",
    "add_merge_options",
    "add_report_options",
    "add_score_options",
    "add_tasks_options",
    "add_view_options",
    "allowed_differences",
]


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """A run that is scored again, and by what."""
    _add_again(parser)
    parser.add_argument(
        "--include-path", action="append", default=[], metavar="DIR", help="own task folder"
    )
    add_yardsticks(parser)


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """A run that is reported again, and how to decide."""
    _add_again(parser)
    add_design(parser)
    add_answers(parser)


def _add_again(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_merge_options(parser: argparse.ArgumentParser) -> None:
    """Shards, and the run that they become."""
    add = parser.add_argument
    add("shards", nargs="+", type=Path, metavar="SHARD", help="folder of a run with --shard")
    add("--out", type=Path, required=True, metavar="RUN", help="folder of the whole run")
    add("--include-path", action="append", default=[], metavar="DIR", help="own task folder")
    add(
        "--allow-missing",
        action="store_true",
        help="join what is there; test even if over 1 %% of samples is missing",
    )
    add("--json", action="store_true", help="print the result as JSON")


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Two runs, and what to decide about them."""
    add = parser.add_argument
    add("run_a", type=Path, metavar="RUN_A", help="folder of the run to compare with")
    add("run_b", type=Path, metavar="RUN_B", help="folder of the run that is judged")
    add("--modes", default="", help="names, separated by commas (all that both runs have)")
    add("--out", type=Path, metavar="DIR", help="write comparison.json, report.md and report.html")
    add(
        "--allow-different",
        default="",
        metavar="WHAT",
        help="compare though they differ: prompts, sampling, or prompts,sampling",
    )
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the result as JSON")
    add_design(parser)


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """Logs of lm_eval, and the run that they become."""
    add = parser.add_argument
    add("logs", nargs="+", metavar="[MODE=]PATH", help="samples_*.jsonl, or a folder to search")
    add("--out", type=Path, required=True, metavar="RUN", help="folder of the new run")
    add("--include-path", action="append", default=[], metavar="DIR", help="own task folder")
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the result as JSON")


def add_tasks_options(parser: argparse.ArgumentParser) -> None:
    """Which tasks are listed."""
    parser.add_argument(
        "pattern", nargs="?", help="name or pattern, such as 'gsm8k*', looked up in lm-eval, too"
    )
    parser.add_argument("--include-path", action="append", default=[], metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """What of a run is written, and to which file."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's folder")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="ends in .jsonl, .jsonl.gz, .csv or .parquet",
    )
    add(
        "--what",
        default="samples",
        help="samples (the default), metrics, prompts, cross_scores or judgements",
    )
    add("--force", action="store_true", help="replace FILE if it is there")
    add("--json", action="store_true", help="print what was written as JSON")


def add_doctor_options(parser: argparse.ArgumentParser) -> None:
    """Servers to be looked at."""
    parser.add_argument(
        "--base-url",
        action="append",
        default=[],
        metavar="URL",
        help="an OpenAI-compatible server, such as http://localhost:8000/v1; the key is taken "
        "from OPENAI_API_KEY",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """A run to look at, and where."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (any that is free)")


def allowed_differences(options: argparse.Namespace) -> list[str]:
    """Differences between runs that are meant. Raises UnknownNameError."""
    from psplit_eval.paired_runs import ALLOWABLE

    allowed = list(names_in("--allow-different", options.allow_different))
    for name in allowed:
        if name not in ALLOWABLE:
            raise UnknownNameError("difference", name, ALLOWABLE)
    return allowed
