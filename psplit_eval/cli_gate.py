"""The options of `gate`."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_gate_options"]


def add_gate_options(parser: argparse.ArgumentParser) -> None:
    """Two runs, rules, and where results go."""
    parser.description = (
        "Exit code 0: every rule is fulfilled; 1: a regression; 3: inconclusive; 2: something in "
        "the command, the rules or the runs; 4: the machine."
    )
    add = parser.add_argument
    add("--baseline", type=Path, required=True, metavar="RUN", help="run of what is in use")
    add("--candidate", type=Path, required=True, metavar="RUN", help="run of what wants to be")
    add("--rules", type=Path, required=True, metavar="FILE", help="YAML (see docs/gates.md)")
    add("--out", type=Path, metavar="DIR", help="write gate.json, gate.md and junit.xml")
    add(
        "--allow-different",
        default="",
        metavar="WHAT",
        help="compare though they differ: prompts, sampling, or prompts,sampling",
    )
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the result as JSON")
