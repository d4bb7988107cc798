"""The options of `leaderboard`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from psplit_eval.errors import UsageError

__all__ = ["add_board_options", "published_models"]


def add_board_options(parser: argparse.ArgumentParser) -> None:
    """Runs, and what is made of them."""
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        metavar="[NAME=]RUN",
        help="a run's folder; NAME: what its model is called",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="write leaderboard.csv, .md, .html, .json and plots into a folder of its own",
    )
    add(
        "--published",
        default="auto",
        metavar="MODEL",
        help="show published rows of these models (names, separated by commas), of 'all' or of "
        "'none'; auto (the default): of models that the board has, going by their names",
    )
    add("--strict", action="store_true", help="refuse runs that cannot be compared (default: mark)")
    add("--allow-missing", action="store_true", help="rank even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the board as JSON")


def published_models(given: str, known: Sequence[str]) -> list[str] | None:
    """The models of `--published`; None for 'auto'. Raises UsageError for an empty name."""
    if given == "auto":
        return None
    if given in ("all", "none"):
        return list(known) if given == "all" else []
    names = [name.strip().lower() for name in given.split(",")]
    if not all(names):
        raise UsageError(f"--published {given!r}: expected all, none, auto, or names of models")
    return names
