"""`psplit-eval plan`: its options, and the plan as text."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.cli_design import CLAIMS, add_docs, estimand
from psplit_eval.cli_run import add_task_options, names_in, task_choice
from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.planning import Plan, Planned, PlanOptions

__all__ = ["add_plan_options", "plan_json", "plan_options", "plan_text"]


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What is to be run, what is to be found out, and what is known."""
    add_task_options(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    group = parser.add_argument_group("what is to be found out")
    add_docs(group)
    add = group.add_argument
    add("--modes", default="normal,high", help="the modes, or checkpoints, that are compared")
    add(
        "--mde",
        action="append",
        default=[],
        metavar="[TASK=]D",
        help="smallest difference that matters (of a claim: the margin), a fraction such as 0.015; "
        "of a creative task in its metric's unit",
    )
    add("--claim", choices=CLAIMS, help="plan for a claim against the margin, one-sided")
    add("--power", type=float, default=0.8, metavar="P", help="chance to find it (0.8)")
    add("--alpha", type=float, default=0.05, metavar="A", help="level of the whole family (0.05)")
    add = parser.add_argument_group("what is known").add_argument
    add("--pilot", type=Path, metavar="RUN", help="a stored run: how docs vary, tokens, speed")
    add("--published", default="qwen3-8b", metavar="MODEL", help="published accuracies (qwen3-8b)")
    add(
        "--crossing",
        type=float,
        metavar="S",
        help="share of a sample's variance by which docs differ between arms (0.032, measured)",
    )
    add = parser.add_argument_group("what it costs").add_argument
    add(
        "--tokens",
        action="append",
        default=[],
        metavar="[TASK=]N",
        help="tokens of an answer (the pilot's, else the limit)",
    )
    add("--tokens-per-second", type=float, metavar="N", help="drawn in all (the pilot's)")
    add("--judges", type=int, default=1, metavar="N", help="that read every creative answer (1)")
    add(
        "--judge-price",
        metavar="IN,OUT",
        help="of a million tokens that a judge reads, and writes",
    )


def plan_options(options: argparse.Namespace) -> PlanOptions:
    """What was given, by the plan's own names. Raises UsageError."""
    from psplit_eval.margins import Claim
    from psplit_eval.planning import CROSSING, NOISE, Goal, PlanOptions, Spending

    for name, value in (("power", options.power), ("alpha", options.alpha)):
        if not 0 < value < 1:
            raise UsageError(f"--{name} {value}: expected a number above 0 and below 1")
    crossing = CROSSING if options.crossing is None else options.crossing
    if not 0 <= crossing <= 1 - NOISE:
        raise UsageError(
            f"--crossing {crossing}: expected a share from 0 to {1 - NOISE:.3f}, as the samples' "
            f"share is {NOISE}"
        )
    if options.judges < 0:
        raise UsageError(f"--judges {options.judges}: expected 0 or more")
    goal = Goal(
        mde=_by_task("--mde", options.mde),
        claim=Claim(options.claim) if options.claim else None,
        estimand=estimand(options),
        wanted=options.power,
        alpha=options.alpha,
    )
    spending = Spending(
        tokens=_by_task("--tokens", options.tokens),
        per_second=_positive("--tokens-per-second", options.tokens_per_second),
        judges=options.judges,
        price=_price(options.judge_price),
    )
    return PlanOptions(
        **task_choice(options),
        modes=names_in("--modes", options.modes),
        pilot=options.pilot,
        published=options.published,
        crossing=crossing,
        goal=goal,
        spending=spending,
    )


def _by_task(option: str, given: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in given:
        task, _, number = text.rpartition("=")
        found[task] = _number(option, text, number)
    return found


def _number(option: str, text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{option} {text!r}: expected a number above 0, or TASK=NUMBER")
    return value


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise UsageError(f"{option} {value}: expected a number above 0")
    return value


def _price(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        read, written = map(float, text.split(","))
    except ValueError:
        read = written = math.nan
    if not (0 <= read < math.inf and 0 <= written < math.inf):
        raise UsageError(f"--judge-price {text!r}: expected IN,OUT, such as 0.4,1.6")
    return read, written


def plan_json(plan: Plan) -> str:
    """The plan for machines."""
    from psplit_eval.files import defined

    content: dict[str, Any] = {
        "tasks": [row.to_dict() for row in plan.rows],
        "family": plan.family,
        "alpha": plan.goal.alpha,
        "power": plan.goal.wanted,
        "sides": plan.goal.sides,
        "estimand": plan.goal.estimand.value,
        "answers": plan.answers,
        "tokens": plan.tokens,
        "tokens_at_most": plan.at_most,
        "seconds": defined(plan.seconds),
        "judge_calls": plan.judge_calls,
        "judge_tokens_read": plan.judge_tokens[0],
        "judge_tokens_written": plan.judge_tokens[1],
        "judge_cost": defined(plan.cost),
    }
    return json.dumps(content, indent=1)


def plan_text(plan: Plan) -> str:
    """The plan for a terminal."""
    from psplit_eval.text import columns

    header = ("task", "docs", "samples", "goal", "detectable", "at best", "chance", "verdict")
    lines = columns([header, *map(_line, plan.rows)])
    return "\n".join([*lines, "", *_explained(plan), "", *_costs(plan)])


def _line(row: Planned) -> tuple[str, ...]:
    facts = row.facts
    return (
        facts.task,
        "?" if facts.docs is None else f"{facts.docs:,}",
        str(facts.samples),
        *(_shown(value, facts.fraction) for value in (row.mde, row.detectable, row.at_best)),
        "–" if math.isnan(row.chance) else f"{row.chance:.0%}",
        row.verdict,
    )


def _shown(value: float, fraction: bool) -> str:
    if math.isnan(value):
        return "–"
    return f"{value * 100:.2f}" if fraction else f"{value:.3g}"


def _explained(plan: Plan) -> list[str]:
    from psplit_eval.margins import Claim

    goal = plan.goal
    sides = "one-sided" if goal.sides == 1 else "two-sided"
    sources = dict.fromkeys(row.facts.source for row in plan.rows if row.facts.source)
    of_gap = goal.claim in (None, Claim.SUPERIOR)
    what = "true difference" if of_gap else "margin, arms truly equal,"
    lines = [
        f"Goal and detectable: {what} (accuracy: times 100) found with a chance of "
        f"{goal.wanted:.0%}, {sides}, {goal.estimand.value}; at best: with endless samples a doc.",
        f"Level {goal.alpha:g} for the whole family of {plan.family} comparisons: a single one may "
        f"be left {goal.alpha / plan.family:.2g} by Holm's correction.",
    ]
    if sources:
        lines.append(f"How docs vary: {'; '.join(sources)}.")
    if any("published" in source for source in sources):
        lines.append(
            "What is the docs', the docs' by arm and the samples' share of that variance was "
            "measured on SmolLM2 (docs/aa.md); a pilot run has your model's, --crossing sets it."
        )
    return lines


def _costs(plan: Plan) -> list[str]:
    most = "at most " if plan.at_most else ""
    lines = [f"{plan.answers:,} answers in {plan.arms} arms, {most}{plan.tokens:,.0f} tokens."]
    if math.isnan(plan.seconds):
        lines.append("Time: give --tokens-per-second, or a pilot run.")
    else:
        lines.append(f"Time: {most}{_duration(plan.seconds)}.")
    if plan.judge_calls:
        read, written = plan.judge_tokens
        price = "" if math.isnan(plan.cost) else f", {most}{plan.cost:,.2f} at your price"
        lines.append(
            f"Judging: {plan.judge_calls:,} calls, {most}{read:,.0f} tokens read and about "
            f"{written:,.0f} written{price}."
        )
    return lines


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
