"""Which audits are of the judges of a run, and what they say: cards lie in the run's folder.

A card is of one judge, as it was asked (model, settings, checkpoint), by one rubric. A judge that
was asked otherwise, or by other words, is another one and is not audited.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from psplit_eval.cards import HOSTILE, KINDS, Card, read_card
from psplit_eval.files import disk_errors, write_json
from psplit_eval.inquiry import asked_as
from psplit_eval.judged import Belief
from psplit_eval.ledger import Ledger

__all__ = ["AUDITS", "beliefs", "fitting_cards", "take_cards"]

AUDITS = "audits"
"""Folder of cards, of a run and by default of `psplit-eval audit`."""
_PANEL = "panel-"
"""Begins the name of what an audit says of several judges."""


def beliefs(cards: Iterable[Card]) -> dict[tuple[str, str], Belief]:
    """(judge, rubric hash) → what its card says of it; of several the last one counts."""
    return {
        (card.judge, card.rubric_hash): Belief(*(card.verdict(kind) for kind in (*KINDS, HOSTILE)))
        for card in cards
    }


def take_cards(source: Path, run: Path, ledger: Ledger) -> list[Card]:
    """Copy the cards in `source` that are of the run's judges into the run, and give them.

    A folder that is not there has none. Raises DataError for what is no card.
    """
    cards = fitting_cards(source, ledger)
    for path, card in cards.items():
        with disk_errors(run / AUDITS):
            (run / AUDITS).mkdir(parents=True, exist_ok=True)
        write_json(run / AUDITS / path.name, card.to_dict())
    return list(cards.values())


def fitting_cards(folder: Path, ledger: Ledger) -> dict[Path, Card]:
    """The cards in a folder of the ledger's judges and rubrics, the oldest first.

    Raises DataError for what is no card.
    """
    keys = {name: asked_as(name, settings) for name, settings in ledger.judges().items()}
    rubrics = ledger.rubrics()
    files = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(_PANEL)]
    cards = [(path, read_card(path)) for path in files]
    return {
        path: card
        for path, card in sorted(cards, key=lambda item: item[1].created_at)
        if card.judge_key == keys.get(card.judge) and card.rubric_hash in rubrics
    }
