"""The options that say how arms are compared: `report` and `compare` have them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.comparison import Design
    from psplit_eval.protocol import Estimand
    from psplit_eval.verdicts import Margins

__all__ = ["CLAIMS", "add_answers", "add_design", "add_docs", "design", "estimand", "margins"]

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


def add_answers(parser: argparse.ArgumentParser) -> None:
    """Add what the answers about the modes need."""
    add = parser.add_argument_group("split, accuracy kept, more creative").add_argument
    add("--split-kl", type=float, default=0.1, metavar="BITS", help="KL beyond placebos (0.1)")
    add(
        "--split-entropy",
        type=float,
        default=0.05,
        metavar="BITS",
        help="entropy gap beyond placebos (0.05), bits a token",
    )
    add("--keep-accuracy", type=float, default=0.02, metavar="M", help="may be lost (0.02)")
    add("--keep-quality", type=float, default=0.05, metavar="M", help="the same of quality (0.05)")
    add(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="a run of another checkpoint that this one's reference mode is held against",
    )


def margins(options: argparse.Namespace) -> Margins:
    """What was given; raises UsageError for a margin that leaves no room."""
    from psplit_eval.verdicts import Margins

    for name, most in (("split_kl", 100), ("split_entropy", 100), ("keep_accuracy", 1)):
        _check_margin(name, getattr(options, name), most)
    _check_margin("keep_quality", options.keep_quality, 1)
    return Margins(
        options.split_kl, options.split_entropy, options.keep_accuracy, options.keep_quality
    )


def _check_margin(name: str, value: float, most: float) -> None:
    if not 0 < value < most:
        raise UsageError(
            f"--{name.replace('_', '-')} {value:g}: expected more than 0 and less than {most}"
        )
