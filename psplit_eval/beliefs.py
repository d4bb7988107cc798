"""Which audits are of the judges of a run, and what they say: cards lie in the run's folder.

A card is of one judge, as it was asked (model, settings, checkpoint), by one rubric. A judge that
was asked otherwise, or by other words, is another one and is not audited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from psplit_eval.errors import DataError
from psplit_eval.files import disk_errors, write_json
from psplit_eval.inquiry import asked_as
from psplit_eval.judged import Belief
from psplit_eval.ledger import Ledger

__all__ = ["AUDITS", "read_beliefs", "read_card_file", "take_cards"]

AUDITS = "audits"
"""Folder of cards, of a run and by default of `psplit-eval audit`."""


def read_beliefs(folder: Path, ledger: Ledger) -> dict[tuple[str, str], Belief]:
    """(judge, rubric hash) → what the cards in `folder` say of the ledger's judges, as asked.

    Where several fit, the newest counts. Raises DataError for what is no card.
    """
    found: dict[tuple[str, str], Belief] = {}
    for _, card in _fitting(folder, ledger):
        purposes = {name: str(entry["verdict"]) for name, entry in card["purposes"].items()}
        known = {kind: purposes[kind] for kind in Belief._fields if kind in purposes}
        found[card["judge"], card["rubric_hash"]] = Belief(**known)
    return found


def take_cards(source: Path, run: Path, ledger: Ledger) -> list[str]:
    """Copy cards in `source` that are of the run's judges into the run; the names of these judges.

    A folder that is not there has none. Raises DataError for what is no card.
    """
    taken = []
    for path, card in _fitting(source, ledger):
        with disk_errors(run / AUDITS):
            (run / AUDITS).mkdir(parents=True, exist_ok=True)
        write_json(run / AUDITS / path.name, card)
        taken.append(str(card["judge"]))
    return taken


def _fitting(folder: Path, ledger: Ledger) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Cards of the ledger's judges and rubrics, the oldest first."""
    keys = {name: asked_as(name, settings) for name, settings in ledger.judges().items()}
    rubrics = ledger.rubrics()
    cards = [(path, card) for path in sorted(folder.glob("*.json")) if (card := _card(path))]
    for path, card in sorted(cards, key=lambda item: str(item[1].get("created_at", ""))):
        same = card["judge_key"] == keys.get(card["judge"])
        if same and card["rubric_hash"] in rubrics:
            yield path, card


def _card(path: Path) -> dict[str, Any] | None:
    """None for a file that is something else on purpose, such as a panel's."""
    card = read_card_file(path)
    return card if "purposes" in card else None


def read_card_file(path: Path) -> dict[str, Any]:
    """A card's JSON, of which the format is checked. Raises DataError."""
    try:
        with disk_errors(path):
            card = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != 1:
            raise ValueError(f"format {card['format']}")
        if "purposes" in card:
            _check(card)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no audit of format 1 ({error!r}); make it again with psplit-eval audit"
        ) from error
    return dict(card)


def _check(card: Mapping[str, Any]) -> None:
    for name in ("judge", "judge_key", "rubric_hash"):
        if not isinstance(card[name], str):
            raise TypeError(f"{name} is no text")
    for entry in card["purposes"].values():
        if not isinstance(entry["verdict"], str):
            raise TypeError("a verdict that is no text")
