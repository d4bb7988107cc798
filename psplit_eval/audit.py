"""What a judge is worth, measured before it is believed: gold texts, repeats, attacks, a card.

Answers lie in a ledger in the folder of audits, so an audit that was stopped goes on, and each
question is paid for once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psplit_eval import __version__
from psplit_eval.asking import Asking, Judged, Screen
from psplit_eval.audit_answers import Answers, winner
from psplit_eval.audit_attacks import attack_tables
from psplit_eval.audit_measures import kind_table, measures
from psplit_eval.cards import Card, rulings
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.files import write_json, write_text
from psplit_eval.goldset import GoldPair, gold_pairs, injections, read_labelled
from psplit_eval.inquiry import Inquiry, judge_key
from psplit_eval.judges import UNRECORDED, Judge, JudgeName
from psplit_eval.ledger import Call
from psplit_eval.probes import Probe, Probes
from psplit_eval.reliability import krippendorff_alpha
from psplit_eval.requests import digest
from psplit_eval.rubrics import Question, Rubric

__all__ = [
    "FOLDER",
    "SHIPPED",
    "Audit",
    "AuditOptions",
    "audit",
    "audit_judge",
    "gold_of",
    "panel_agreement",
]

FOLDER = Path("audits")
SHIPPED = "shipped"
"""Names the gold that psplit ships, among files."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions(Asking):
    """What the command line says, beside who is asked.

    `gold` (): the shipped one; else labelled files (`goldset.read_labelled`), or SHIPPED. `pairs`:
    at most so many gold pairs; None: all. `repeats`: how often some are asked again. `attacks`:
    whether texts speak to the judge, too.
    """

    gold: Sequence[str] = ()
    pairs: int | None = None
    repeats: int = 3
    attacks: bool = True
    folder: Path = FOLDER


@dataclass(frozen=True)
class Audit:
    """What came of it: of every judge a card and what it took, and how far the judges agree.

    Without cards after a dry run; `panel` None of a single judge.
    """

    folder: Path
    judged: list[Judged]
    cards: list[Card]
    panel: dict[str, Any] | None = None


def audit(options: AuditOptions, screen: Screen) -> Audit:
    """Ask every judge, and write a card of each into the folder, and the panel's agreement.

    Raises UsageError or DataError for gold that cannot be had; as `Judge.ask` where a judge cannot
    be asked: what was done is kept.
    """
    _check(options)
    gold = gold_of(options.rubric, options.gold)
    attacks = injections() if options.attacks else ()
    probes = Probes(options.rubric, gold, options.pairs, options.repeats, attacks)
    prices = options.priced()
    total = sum(1 for _ in probes)
    found = Audit(options.folder, [], [])
    everyone = []
    with options.ledger(options.folder) as ledger:
        for name, judge in options.opened(screen.say):
            inquiry = Inquiry(judge, ledger, options.rubric, prices[name], options.max_cost)
            if options.dry_run:
                bill = inquiry.expected(_questions(probes, judge))
                found.judged.append(Judged(judge.name, total, bill, prices[name]))
                continue
            inquiry.introduce()
            with screen.judging(total) as heard:
                answers, spent = audit_judge(inquiry, probes, heard)
            inquiry.introduce()  # with what was found out about it
            found.judged.append(Judged(judge.name, total, inquiry.bill, prices[name]))
            card = _card(judge, answers, options, _bill(found.judged[-1], spent))
            found.cards.append(card)
            everyone.append(answers)
            _write(options.folder, name, card)
    if len(everyone) < 2:
        return found
    names = [one.judge for one in found.judged]
    panel = {"rubric": options.rubric.name, "judges": names} | panel_agreement(everyone)
    write_json(options.folder / f"panel-{options.rubric.name}.json", {"format": 1} | panel)
    return replace(found, panel=panel)


def _check(options: AuditOptions) -> None:
    if options.pairs is not None and options.pairs < 1:
        raise UsageError(f"--pairs {options.pairs}: expected 1 or more")
    if options.repeats < 0:
        raise UsageError(f"--repeats {options.repeats}: expected 0 or more")


def _write(folder: Path, name: JudgeName, card: Card) -> None:
    """The card and its page. What a judge's answers depend on, and every word of the rubric, are in
    the files' name, so no card takes the place of another judge's."""
    shown = JudgeName("recorded", Path(name.model).stem) if name.kind == "recorded" else name
    whose = digest(card.judge_key, card.rubric_hash)[:8]
    path = folder / f"{shown.slug}-{card.rubric}-{whose}"
    write_json(path.with_name(f"{path.name}.json"), card.to_dict())
    write_text(path.with_name(f"{path.name}.md"), card.markdown())


def gold_of(rubric: Rubric, named: Sequence[str] = ()) -> list[GoldPair]:
    """Gold pairs from labelled files and, by SHIPPED or where nothing is named, from psplit.

    Raises UsageError where psplit has none for the rubric, DataError for an id that is there twice.
    """
    found: dict[str, GoldPair] = {}
    for name in named or (SHIPPED,):
        for pair in _shipped_gold(rubric) if name == SHIPPED else read_labelled(Path(name)):
            if pair.id in found:
                raise DataError(f"--gold {name!r}: id {pair.id!r} is in two sets; rename one")
            found[pair.id] = pair
    return list(found.values())


def _shipped_gold(rubric: Rubric) -> list[GoldPair]:
    try:
        return gold_pairs(rubric.name)
    except UnknownNameError as error:
        raise UsageError(
            f"rubric {rubric.name!r}: psplit ships no gold for it; give --gold FILE with labelled "
            "pairs"
        ) from error


def _questions(probes: Probes, judge: Judge) -> Iterator[tuple[Probe, Question]]:
    for probe in probes:
        yield probe, probes.question(probe, judge.writes, judge.special)


def audit_judge(
    inquiry: Inquiry, probes: Probes, heard: Callable[[int], None] = lambda _: None
) -> tuple[Answers, list[Call]]:
    """Ask all that the ledger lacks; what came of it, and its calls, each once.

    `heard` is told how many questions are settled. Raises as `Judge.ask`.
    """
    calls: dict[Probe, Call] = {}
    for settled in inquiry.settle(_questions(probes, inquiry.judge), heard):
        calls.update(settled)
    verdicts = {probe: call.verdict for probe, call in calls.items() if call.error is None}
    unasked: dict[str, bool] = {}
    for probe, call in calls.items():
        unasked[probe.part] = unasked.get(probe.part, True) and call.unreadable == UNRECORDED
    absent = frozenset(part for part, never in unasked.items() if never)
    once = {call.call_hash: call for call in calls.values()}
    return Answers(probes, verdicts, absent), list(once.values())


def _bill(judged: Judged, calls: Sequence[Call]) -> dict[str, Any]:
    """What this command took, and in `whole` what all answers of the audit did, whenever."""
    read, written = (
        sum(getattr(call, name) or 0 for call in calls)
        for name in ("prompt_tokens", "completion_tokens")
    )
    cost = judged.price.of(read, written) if judged.price else math.nan
    told = all(call.prompt_tokens is not None for call in calls)
    whole = {"calls": len(calls), "prompt_tokens": read, "completion_tokens": written}
    whole |= {"cost": cost, "estimated": not told, "seconds": sum(c.seconds for c in calls)}
    bill = vars(judged.bill) | {"questions": judged.items, "whole": whole}
    if judged.price is None:
        return bill | {"cost": math.nan, "earlier": math.nan}
    return bill | {"currency": judged.price.currency}


def _card(judge: Judge, answers: Answers, options: AuditOptions, bill: Mapping[str, Any]) -> Card:
    found = measures(answers)
    return Card(
        judge=judge.name,
        judge_key=judge_key(judge),
        settings=judge.describe(),
        rubric=options.rubric.name,
        rubric_hash=options.rubric.hash,
        version=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        gold=_gold_used(answers.probes, options.gold or (SHIPPED,)),
        asked=answers.counts(),
        measures=found,
        by_kind=kind_table(answers),
        attacks=attack_tables(answers),
        purposes=rulings(found),
        bill=bill,
    )


def _gold_used(probes: Probes, named: Sequence[str]) -> dict[str, Any]:
    """Files by their names alone; `sha256` is of the pairs that were asked."""
    return {
        "sources": [name if name == SHIPPED else Path(name).name for name in named],
        "pairs": len(probes.pairs),
        "prompts": len({pair.prompt for pair in probes.pairs}),
        "texts": len(probes.texts),
        "repeats": probes.repeats,
        "attacks": len(probes.score_attacks) + len(probes.choice_attacks),
        "sha256": digest(*(astuple(pair) for pair in probes.pairs)),
    }


def panel_agreement(panel: Sequence[Answers]) -> dict[str, Any]:
    """Krippendorff's α of several judges on the same probes: of mean scores (interval), and of
    choices (nominal and ordinal).

    A choice is for the text of a pair that an arbitrary rule names, not for the better one: where
    all judges are right, the right answer would hardly vary, and α would be low. Intervals are over
    prompts, as texts of one are no independent witnesses. NaN where fewer than two judges gave
    verdicts.
    """
    probes = panel[0].probes
    scores = [[one.score(Probe("scores", text)) for one in panel] for text in probes.texts]
    choices = [[_side(one, pair) for one in panel] for pair in probes.pairs]
    of_texts = [prompt for prompt, _ in probes.texts.values()]
    of_pairs = [pair.prompt for pair in probes.pairs]
    interval = krippendorff_alpha(scores, "interval", clusters=of_texts)
    nominal = krippendorff_alpha(choices, "nominal", clusters=of_pairs)
    ordinal = krippendorff_alpha(choices, "ordinal", clusters=of_pairs)
    return {
        "scores": {"interval": interval.to_dict()},
        "choice": {"nominal": nominal.to_dict(), "ordinal": ordinal.to_dict()},
    }


def _side(answers: Answers, pair: GoldPair) -> float:
    """1 for one text, 0 for the other, 0.5 for neither, mean of both orders; by a hash which."""
    share = math.fsum(answers.shares(pair)) / 2
    mine = digest(pair.better) < digest(pair.worse)
    return winner(share - 0.5 if mine else 0.5 - share)
