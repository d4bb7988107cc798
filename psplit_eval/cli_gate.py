"""The options of `gate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from psplit_eval.errors import UsageError

__all__ = ["add_gate_options", "check_sequential"]

_ROUND = 32


def add_gate_options(parser: argparse.ArgumentParser) -> None:
    """Two runs, rules, and where results go."""
    parser.description = (
        "Exit code 0: every rule is fulfilled; 1: a rule failed; 3: inconclusive; 2: something in "
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
    add(
        "--explain",
        action="store_true",
        help="say what the rules can find out at this size, and decide nothing (exit code 0)",
    )
    add(
        "--sequential",
        action="store_true",
        help="sample the candidate in rounds, until every rule is decided; what follows -- are the "
        "options of its run",
    )
    add("--round", type=int, default=_ROUND, metavar="DOCS", help=f"docs a round ({_ROUND})")
    add("run", nargs="*", metavar="-- OPTION", help="with --sequential: options of psplit-eval run")
    add("--json", action="store_true", help="print the result as JSON")


def check_sequential(options: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if options.explain and (options.sequential or options.out):
        other = "--sequential" if options.sequential else "--out"
        raise UsageError(f"--explain: decides nothing, so {other} is not for it; leave one out")
    if options.run and not options.sequential:
        raise UsageError(
            f"{options.run[0]!r}: options of a run are for --sequential; add it, or leave them out"
        )
    if options.sequential and not options.run:
        raise UsageError(
            "--sequential: samples the candidate, expected the options of its run behind --, such "
            "as -- --model CKPT --suite general"
        )
    if options.round < 1:
        raise UsageError(f"--round {options.round}: expected 1 or more; give a positive number")
