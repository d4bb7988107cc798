"""How often does the audit call a judge of known quality usable?

    python benchmarks/audit_rates.py    # benchmarks/results/audit_rates.csv, seconds

Simulated judges compare the pairs of psplit's own gold. A judge has one opinion of a pair, which
both orders share: with the chance `by_length` the longer text is the better one, else it is right
with the chance `right`. So it has no fault but errors and the love of length, and each is drawn
apart for every pair.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.audit_answers import Answers
from psplit_eval.audit_measures import measures
from psplit_eval.cards import CARE, NOT_USABLE, PURPOSES, USABLE, Measure, rulings
from psplit_eval.goldset import GoldPair, gold_pairs
from psplit_eval.probes import ORDERS, PARTS, Probe, Probes
from psplit_eval.replies import FIRST, Verdict
from psplit_eval.rubrics import find_rubric

RESULTS = Path(__file__).parent / "results" / "audit_rates.csv"
RUBRICS = ("story", "uses")
"""The most prompts, and the fewest, that shipped gold has of a rubric."""
JUDGES = 40
LENGTH = "choice length bias"


class Kind(NamedTuple):
    """Of a judge; see above."""

    right: float
    by_length: float = 0.0


KINDS = (
    *(Kind(right) for right in (0.5, 0.65, 0.8, 0.9, 0.95)),
    *(Kind(0.95, by_length) for by_length in (0.3, 0.6, 1.0)),
)


def main() -> None:
    rows = [row_of(rubric, kind) for rubric in RUBRICS for kind in KINDS]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row_of(rubric: str, kind: Kind, judges: int = JUDGES) -> dict[str, Any]:
    """How many of so many judges get which verdict for `choice`.

    `for_length`: those that are denied 'usable' for their length bias alone. `bias_low` and
    `bias_high`: the least and the greatest length bias that was measured.
    """
    cards = list(_cards(rubric, kind, judges))
    verdicts = [rulings(card)["choice"].verdict for card in cards]
    biases = [one.estimate.value for card in cards for one in card if one.name == LENGTH]
    return {
        "rubric": rubric,
        **kind._asdict(),
        "judges": judges,
        "usable": verdicts.count(USABLE),
        "care": verdicts.count(CARE),
        "not_usable": verdicts.count(NOT_USABLE),
        "for_length": sum(_faults(card) == [LENGTH] for card in cards),
        "bias_low": f"{min(biases):.2f}",
        "bias_high": f"{max(biases):.2f}",
    }


def _cards(rubric: str, kind: Kind, judges: int) -> Iterator[tuple[Measure, ...]]:
    probes = Probes(find_rubric(rubric), gold_pairs(rubric))
    unasked = frozenset(PARTS) - {"choice"}
    for number in range(judges):
        draws = random.Random(f"{rubric} {kind.right} {kind.by_length} {number}")
        yield measures(Answers(probes, said(probes.pairs, kind, draws), unasked))


def said(pairs: Sequence[GoldPair], kind: Kind, draws: random.Random) -> dict[Probe, Verdict]:
    """What a judge says of the pairs, in both orders."""
    found: dict[Probe, Verdict] = {}
    for pair in pairs:
        right = draws.random() < kind.right
        if draws.random() < kind.by_length:
            right = len(pair.better) > len(pair.worse)
        for order in ORDERS:
            found[Probe("choice", pair.id, order)] = {FIRST: float((order == ORDERS[0]) == right)}
    return found


def _faults(card: Sequence[Measure]) -> list[str]:
    required = PURPOSES["choice"].required
    return [one.name for one in card if one.name in required and one.level != USABLE]


if __name__ == "__main__":
    main()
