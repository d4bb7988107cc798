"""Which audits are of the judges of a run, and what they say: cards lie in the run's folder.

A card is of one judge, as it was asked (model, settings, checkpoint), by one rubric. A judge that
was asked otherwise, or by other words, is another one and is not audited.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from psplit_eval.card_forms import is_card
from psplit_eval.cards import HOSTILE, KINDS, Card, read_card
from psplit_eval.files import disk_errors, write_json
from psplit_eval.inquiry import asked_as
from psplit_eval.judged import Belief
from psplit_eval.ledger import Ledger

__all__ = ["AUDITS", "beliefs", "check_cards", "fitting_cards", "take_cards"]

AUDITS = "audits"
"""Folder of cards, of a run and by default of `psplit-eval audit`."""


def beliefs(cards: Iterable[Card]) -> dict[tuple[str, str], Belief]:
    """(judge, rubric hash) → what its card says of it."""
    return {
        (card.judge, card.rubric_hash): Belief(*(card.verdict(kind) for kind in (*KINDS, HOSTILE)))
        for card in cards
    }


def take_cards(source: Path, run: Path, ledger: Ledger) -> list[Card]:
    """Copy the cards in `source` that are of the run's judges into the run, and give them.

    A folder that is not there has none. Raises DataError for a damaged card.
    """
    cards = fitting_cards(source, ledger)
    for path, card in cards.items():
        with disk_errors(run / AUDITS):
            (run / AUDITS).mkdir(parents=True, exist_ok=True)
        write_json(run / AUDITS / path.name, card.to_dict())
    return list(cards.values())


def check_cards(folder: Path) -> int:
    """How many cards are in a folder, whoever they are of: to be asked before money is spent.

    Other files, and a folder that is not there, are none. Raises DataError for a damaged card.
    """
    return len(_cards(folder))


def fitting_cards(folder: Path, ledger: Ledger) -> dict[Path, Card]:
    """The cards in a folder of the ledger's judges, of every judge and rubric the newest.

    Other files are skipped. Raises DataError for a damaged card.
    """
    keys = {name: asked_as(name, settings) for name, settings in ledger.judges().items()}
    rubrics = ledger.rubrics()
    newest = {
        (card.judge, card.rubric_hash): (path, card)
        for path, card in sorted(_cards(folder).items(), key=lambda item: _made(item[1]))
        if card.judge_key == keys.get(card.judge) and card.rubric_hash in rubrics
    }
    return dict(newest.values())


def _cards(folder: Path) -> dict[Path, Card]:
    return {path: read_card(path) for path in sorted(folder.glob("*.json")) if _is_card(path)}


def _is_card(path: Path) -> bool:
    """What an audit says of several judges is none, nor is a file of something else."""
    if not path.is_file():
        return False
    with disk_errors(path):
        return is_card(path.read_bytes())


def _made(card: Card) -> datetime:
    """When; a time that tells no zone is UTC's."""
    made = datetime.fromisoformat(card.created_at)
    return made if made.tzinfo else made.replace(tzinfo=UTC)
