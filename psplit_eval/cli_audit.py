"""The options of `audit`, and its cards as text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.cli_judge import add_judges, asked_of, bill_json, bill_text

if TYPE_CHECKING:
    from psplit_eval.audit import Audit, AuditOptions

__all__ = ["add_audit_options", "audit_json", "audit_options", "audit_text"]


def add_audit_options(parser: argparse.ArgumentParser) -> None:
    """Who is measured, and by which texts."""
    add_judges(parser)
    add = parser.add_argument
    add(
        "--gold",
        action="append",
        default=[],
        metavar="FILE",
        help="labelled pairs as JSON Lines (prompt, better, worse), in the place of psplit's own; "
        "several are joined, and 'shipped' are psplit's",
    )
    add("--pairs", type=int, metavar="N", help="at most N gold pairs (all)")
    add("--repeats", type=int, default=3, metavar="N", help="some are asked N times again (3)")
    add("--no-injections", action="store_true", help="no texts that speak to the judge")
    add("--out", type=Path, default=Path("audits"), metavar="DIR", help="folder of cards (audits)")
    add("--json", action="store_true", help="print the cards as JSON")


def audit_options(options: argparse.Namespace) -> AuditOptions:
    """What was given, by the names of `audit`. Raises UsageError."""
    from psplit_eval.audit import AuditOptions

    return AuditOptions(
        **asked_of(options),
        gold=options.gold,
        pairs=options.pairs,
        repeats=options.repeats,
        attacks=not options.no_injections,
        folder=options.out,
    )


def audit_json(found: Audit) -> dict[str, Any]:
    """Cards, what was asked and how far the judges agree, for machines."""
    return {
        "audits": str(found.folder),
        "judges": bill_json(found.judged),
        "cards": [card.to_dict() for card in found.cards],
        "panel": found.panel,
    }


def audit_text(found: Audit, dry: bool) -> str:
    """The same for a terminal."""
    if dry:
        return bill_text(found.judged, dry)
    parts = [card.text() for card in found.cards]
    if found.panel:
        parts.append(_panel_text(found.panel))
    parts.append(f"{bill_text(found.judged, dry)}\ncards: {found.folder}")
    return "\n\n".join(parts)


def _panel_text(panel: dict[str, Any]) -> str:
    said = []
    for kind in ("scores", "choice"):
        for scale, alpha in panel[kind].items():
            value, low, high = (alpha[name] for name in ("value", "ci_low", "ci_high"))
            limits = "" if low is None else f" [{low:.2f}, {high:.2f}]"
            shown = "—" if value is None else f"{value:.2f}{limits}"
            said.append(f"{kind} ({scale}) {shown}")
    return f"Krippendorff's α of {len(panel['judges'])} judges: {', '.join(said)}"
