"""The options that say how arms are compared: `report` and `compare` have them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.comparison import Design
    from psplit_eval.protocol import Estimand

__all__ = ["CLAIMS", "add_design", "add_docs", "design", "estimand"]

CLAIMS = ("superior", "non-inferior", "equivalent")


def add_docs(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --docs."""
    parser.add_argument(
        "--docs",
        default="sample",
        choices=("sample", "given"),
        help="a sample of questions like these (the default), or given: all there is, so that only "
        "their samples are random",
    )


def estimand(options: argparse.Namespace) -> Estimand:
    """What --docs says."""
    from psplit_eval.protocol import Estimand

    return Estimand.GIVEN if options.docs == "given" else Estimand.SAMPLE


def add_design(parser: argparse.ArgumentParser) -> None:
    """Add --docs, --margin and --claim."""
    add_docs(parser)
    add = parser.add_argument
    add(
        "--margin",
        type=float,
        metavar="M",
        help="decide a claim about every primary metric that is a fraction, such as 0.02",
    )
    add(
        "--claim",
        choices=CLAIMS,
        help="what is claimed of the second arm: non-inferior (the default with --margin), "
        "equivalent or superior",
    )


def design(options: argparse.Namespace) -> Design:
    """How to compare; raises UsageError for a margin that leaves no room."""
    from psplit_eval.comparison import Design
    from psplit_eval.margins import Claim

    docs = estimand(options)
    if options.margin is None:
        if options.claim and options.claim != "superior":
            raise UsageError(f"--claim {options.claim}: expected a margin, too; add --margin 0.02")
        claim = Claim(options.claim) if options.claim else None
        return Design(options.allow_missing, docs, claim)
    claim = Claim(options.claim or "non-inferior")
    least = 0.0 if claim is Claim.SUPERIOR else 1e-9
    if not least <= options.margin < 1:
        raise UsageError(
            f"--margin {options.margin}: expected a fraction above 0 and below 1, such as 0.02"
        )
    return Design(options.allow_missing, docs, claim, options.margin)
