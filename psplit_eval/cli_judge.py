"""The options of `judge`, and what it has done as text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.cli_run import names_in
from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.asking import Judged
    from psplit_eval.judges import JudgeName
    from psplit_eval.judging import JudgeOptions
    from psplit_eval.served_judge import ServedOptions

__all__ = [
    "add_judge_options",
    "add_judges",
    "asked_of",
    "bill_json",
    "bill_text",
    "judge_options",
]


def add_judge_options(parser: argparse.ArgumentParser) -> None:
    """Which samples of a run are judged, and by whom."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's folder")
    add_judges(parser)
    either = parser.add_mutually_exclusive_group().add_argument
    either(
        "--pairwise",
        action="store_true",
        help="compare the samples of two modes, in both orders, instead of scoring each",
    )
    either("--both", action="store_true", help="score, and compare pairwise, too")
    add("--tasks", default="", help="task names (default: those that the rubric is for)")
    add("--samples", type=int, metavar="N", help="of every doc and mode at most the first N")
    add(
        "--audits",
        type=Path,
        default=Path("audits"),
        metavar="DIR",
        help="where psplit-eval audit put its cards (audits); those of these judges are taken",
    )
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the result as JSON")


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Who judges, by which rubric, how they are asked, and what that may cost."""
    add = parser.add_argument
    add(
        "--judge",
        action="append",
        required=True,
        metavar="KIND:NAME",
        help="openai:MODEL[@URL] (key: OPENAI_API_KEY), hf:CHECKPOINT or recorded:FILE; several "
        "are a panel",
    )
    add("--rubric", default="story", metavar="NAME", help="story, uses, solve, answer or a file")
    add = parser.add_argument_group("money").add_argument
    add("--prices", type=Path, metavar="FILE", help="YAML: MODEL: {read: 0.4, written: 1.6}")
    add("--max-cost", type=float, metavar="C", help="stop in good order before a judge costs more")
    add("--dry-run", action="store_true", help="say what it would cost; ask nothing")
    add = parser.add_argument_group("judges on servers").add_argument
    add("--concurrency", type=int, default=8, metavar="N", help="requests in flight (8)")
    add("--requests-per-minute", type=float, metavar="N", help="sent at most")
    add("--timeout", type=float, default=600.0, metavar="SECONDS", help="for one answer (600)")
    add("--retries", type=int, default=10, metavar="N", help="further tries of a request (10)")
    add("--max-tokens", type=int, default=2048, metavar="N", help="of a verdict (2048)")
    add("--temperature", type=float, default=0.0, metavar="T", help="of a verdict (0)")
    add = parser.add_argument_group("judges in process").add_argument
    add("--dtype", default="auto", help="auto: float32 on a CPU, the checkpoint's own elsewhere")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add("--trust-remote-code", action="store_true", help="let the checkpoint run its own code")


def judge_options(options: argparse.Namespace) -> JudgeOptions:
    """What was given, by the names of `judging`. Raises UsageError."""
    from psplit_eval.judging import CHOICE, SCORES, JudgeOptions

    kinds = (SCORES, CHOICE) if options.both else (CHOICE,) if options.pairwise else (SCORES,)
    return JudgeOptions(
        folder=options.run,
        **asked_of(options),
        kinds=kinds,
        tasks=names_in("--tasks", options.tasks),
        samples=options.samples,
    )


def asked_of(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_judges` brought, by the names of `asking.Asking`. Raises UsageError."""
    from psplit_eval.backends import EngineOptions
    from psplit_eval.inquiry import read_prices
    from psplit_eval.rubrics import find_rubric

    return {
        "judges": _judge_names(options.judge),
        "rubric": find_rubric(options.rubric),
        "prices": read_prices(options.prices) if options.prices else {},
        "max_cost": options.max_cost,
        "dry_run": options.dry_run,
        "served": _served_options(options),
        "engine": EngineOptions(
            dtype=options.dtype, device=options.device, trust_remote_code=options.trust_remote_code
        ),
    }


def _judge_names(given: Sequence[str]) -> list[JudgeName]:
    """Every judge once."""
    from psplit_eval.judges import JudgeName

    names = [JudgeName.parse(text) for text in given]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--judge {str(name)!r}: named twice; name it once")
    return names


def _served_options(options: argparse.Namespace) -> ServedOptions:
    from psplit_eval.served_judge import ServedOptions

    names = ("concurrency", "requests_per_minute", "timeout", "retries", "max_tokens")
    for name in names:
        value, least = getattr(options, name), 0 if name == "retries" else 1e-3
        if value is not None and not least <= value < 1e9:
            allowed = "0 or more" if name == "retries" else "more than 0"
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected {allowed}")
    if not 0 <= options.temperature <= 2:
        raise UsageError(f"--temperature {options.temperature}: expected a number from 0 to 2")
    given = {name: getattr(options, name) for name in names}
    return ServedOptions(temperature=options.temperature, **given)


def bill_json(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Of every judge what it was asked and what that took, for machines."""
    from psplit_eval.files import defined

    entries = []
    for one in judged:
        bill = vars(one.bill) | {"judge": one.judge, "questions": one.items}
        if one.price is None:
            bill |= {"cost": None, "earlier": None}
        entries.append({name: defined(value) for name, value in bill.items()})
    return entries


def bill_text(judged: Sequence[Judged], dry: bool) -> str:
    """The same for a terminal."""
    return "\n".join(_bill_line(one, dry) for one in judged)


def _bill_line(one: Judged, dry: bool) -> str:
    bill = one.bill
    asked = f"would ask {bill.asked:,}" if dry else f"asked {bill.asked:,}"
    parts = [f"{one.judge}: {one.items:,} questions, {bill.known:,} known, {asked}"]
    about = "about " if bill.estimated else ""
    read, written = bill.prompt_tokens, bill.completion_tokens
    parts.append(f"{about}{read:,.0f} tokens read and {written:,.0f} written")
    if one.price:
        earlier = f" (earlier: {one.price.shown(bill.earlier)})" if bill.earlier else ""
        parts.append(f"{about}{one.price.shown(bill.cost)}{earlier}")
    elif dry:
        parts.append("no price is known: give --prices FILE")
    if bill.unreadable:
        parts.append(f"{bill.unreadable} verdicts could not be read and are missing")
    if bill.failed:
        parts.append(f"{bill.failed} failed: give the same command again to try them again")
    if bill.left:
        most = f": one may cost up to {one.price.shown(bill.dearest)}" if one.price else ""
        parts.append(f"{bill.left:,} not asked, as --max-cost is reached{most}")
    return "; ".join(parts)
