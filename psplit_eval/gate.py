"""Whether a checkpoint may pass: rules decided on two runs, each passed, failed or inconclusive.

A rule holds where the data rule out its opposite, fails where they rule out the rule, and is open
otherwise. Runs that differ in anything but the checkpoint are refused, and so are judges that did
not pass their audit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm
from psplit_eval.behaviour import Compared, read_behaviour
from psplit_eval.comparison import POWER, Comparison, Design, compare_metric, components
from psplit_eval.errors import RunMismatchError, UnknownNameError, UsageError
from psplit_eval.files import defined
from psplit_eval.gate_rules import Falls, Kind, Rule, Rules
from psplit_eval.judged_arms import judged_runs
from psplit_eval.margins import Claim, Verdict, decide
from psplit_eval.paired_runs import PairedRuns, StoredRun
from psplit_eval.power import Components, Need, needed
from psplit_eval.protocol import Estimand
from psplit_eval.spread import Share
from psplit_eval.stats import Difference, holm
from psplit_eval.stored import opened_run, paired_arms
from psplit_eval.suites import suite_named
from psplit_eval.verdicts import LEAST_PLACEBOS, Split

__all__ = ["Check", "Gate", "Outcome", "check_arms", "decide_rules", "gate", "rule_arms"]


class Outcome(Enum):
    """What became of a rule, or of a gate."""

    PASS = "pass"
    FAIL = "fail"
    OPEN = "inconclusive"


_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.OPEN: 3}
_WIDEST = {"bound": 1.0, "margin": 0.99}
"""Of fractions."""
_CLAIMS = {
    Kind.NON_INFERIOR: Claim.NON_INFERIOR,
    Kind.SUPERIOR: Claim.SUPERIOR,
    Kind.EQUAL: Claim.EQUIVALENT,
    Kind.AT_LEAST: Claim.SUPERIOR,
    Kind.AT_MOST: Claim.SUPERIOR,
}


@dataclass(frozen=True)
class Check:
    """A rule on one task in one mode.

    `found`: the candidate less the baseline, or less the bound; None for splits. `p`: of the rule's
    opposite, `p_against` of the rule itself, both one-sided; `…_adjusted` over all checks (Holm).
    NaN where nothing is known, and `why` says why; for a split it has the evidence. `limits`: of
    the difference, 95 %; of a gate that samples as it goes, such that hold whenever one looks.
    `boundaries`: what the difference has to be told from, and `parts` where its variance comes
    from; `need`: what it would take where it is open.
    """

    rule: Rule
    task: str
    mode: str
    metric: str
    unit: str
    found: Difference | None
    p: float
    p_against: float
    limits: tuple[float, float] = (math.nan, math.nan)
    why: str = ""
    p_adjusted: float = math.nan
    p_against_adjusted: float = math.nan
    outcome: Outcome = Outcome.OPEN
    boundaries: Sequence[float] = ()
    parts: Components | None = None
    need: Need | None = None

    def to_dict(self) -> dict[str, Any]:
        """An entry of gate.json; undefined numbers are null."""
        found, (low, high) = self.found, self.limits
        bounded = self.rule.kind.bounded
        entry = {
            "rule": self.rule.name,
            "line": self.rule.line,
            "kind": self.rule.kind.value,
            "task": self.task,
            "mode": self.mode,
            "metric": self.metric,
            "unit": self.unit,
            "margin": None if bounded else self.rule.margin,
            "bound": self.rule.bound if bounded else None,
            "baseline": found.value_a if found and not bounded else None,
            "candidate": found.value_b if found else None,
            "difference": found.difference if found else None,
            "ci_low": low,
            "ci_high": high,
            "n_docs": found.n if found else None,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "p_against": self.p_against,
            "p_against_adjusted": self.p_against_adjusted,
            "outcome": self.outcome.value,
            "why": self.why,
            "needed": _of_need(self.need) if self.need else None,
        }
        return {
            name: defined(value) if isinstance(value, float) else value
            for name, value in entry.items()
        }


def _of_need(need: Need) -> dict[str, Any]:
    return {
        "power": POWER,
        "if": "the true difference is the one seen",
        "docs": need.docs,
        "samples_a_doc": need.samples,
        "samples_known": need.samples_known,
    }


@dataclass(frozen=True)
class Gate:
    """What became of all rules. `facts`: what differs between the runs: (what, in the baseline, in
    the candidate)."""

    rules: Rules
    baseline: str
    candidate: str
    checks: Sequence[Check]
    facts: Sequence[tuple[str, str, str]] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Fail if any check does, pass if all do."""
        outcomes = {check.outcome for check in self.checks}
        if Outcome.FAIL in outcomes:
            return Outcome.FAIL
        return Outcome.OPEN if Outcome.OPEN in outcomes else Outcome.PASS

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, unless the rules say which way that falls."""
        falls = self.rules.falls
        if self.outcome is Outcome.OPEN and falls is not Falls.SAID:
            return _CODES[Outcome(falls.value)]
        return _CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """gate.json."""
        return {
            "format": 1,
            "outcome": self.outcome.value,
            "exit_code": self.exit_code,
            "inconclusive": self.rules.falls.value,
            "alpha": self.rules.alpha,
            "correction": "Holm",
            "docs": self.rules.estimand.value,
            "rules": str(self.rules.path),
            "baseline": self.baseline,
            "candidate": self.candidate,
            "checks": [check.to_dict() for check in self.checks],
            "differences": [
                dict(zip(("what", "a", "b"), fact, strict=True)) for fact in self.facts
            ],
        }


def gate(
    baseline: Path,
    candidate: Path,
    rules: Rules,
    allowed: Iterable[str] = (),
    allow_missing: bool = False,
) -> Gate:
    """Decide every rule on two stored runs; nothing is sampled or judged.

    Raises UsageError or RunMismatchError for runs that cannot be compared (see `paired_runs`), for
    a rule on what is not in them, and for a judge that did not pass its audit.
    """
    if baseline.resolve() == candidate.resolve():
        raise UsageError(
            f"candidate {str(candidate)!r}: the baseline's own folder, expected another run; give "
            "the run of what wants to be"
        )
    with opened_run(baseline) as a, opened_run(candidate) as b:
        both = PairedRuns(a, b, _paired_modes(rules, a, b))
        both.check(allowed)
        checks = decide_rules(list(_checks(both, rules, allow_missing)), rules.alpha)
        checks = [replace(c, need=_needed(c, rules, len(checks))) for c in checks]
        return Gate(rules, *both.labels, checks, both.facts())


def _needed(check: Check, rules: Rules, members: int) -> Need | None:
    """At the level that Holm's correction leaves at worst; None where nothing is open or known."""
    if check.outcome is not Outcome.OPEN or not check.parts or not check.found:
        return None
    gaps = [abs(check.found.difference - boundary) for boundary in check.boundaries]
    if math.isnan(check.p) or min(gaps) < 1e-12 or not check.found.spread.error > 0:
        return None
    given = rules.estimand is Estimand.GIVEN
    return needed(gaps, check.found.n, check.parts, POWER, rules.alpha / members, 1, given)


def _paired_modes(rules: Rules, a: StoredRun, b: StoredRun) -> list[str]:
    """The modes that both runs must have: those of all rules but splits, which are the
    candidate's."""
    known = [{mode["name"] for mode in run.manifest["modes"]} for run in (a, b)]
    found: dict[str, None] = {}
    for rule in (rule for rule in rules.rules if rule.kind is not Kind.SPLIT):
        for mode in rule.modes:
            if not all(mode in names for names in known):
                place = f"mode of both runs ({_place(rule, rules)})"
                raise UnknownNameError(place, mode, known[0] & known[1])
            found[mode] = None
    return list(found)


def _checks(both: PairedRuns, rules: Rules, allow_missing: bool) -> Iterator[Check]:
    design = Design(allow_missing, rules.estimand)
    pairs = paired_arms(both)
    for rule in rules.rules:
        if rule.kind is Kind.SPLIT:
            yield from _split_checks(rule, rules, both.b)
            continue
        judged = _judged(rule, both) if rule.judge else None
        if rule.suite:
            _check_whole(rule, rules, judged or both)
        for a, b in rule_arms(rule, rules, paired_arms(judged) if judged else pairs):
            yield check_arms(rule, a, b, design)


def _judged(rule: Rule, both: PairedRuns) -> PairedRuns:
    """The runs with arms of a judge's scores on one dimension, as fractions of the scale."""
    return PairedRuns(*judged_runs(both.a, both.b, rule), rule.modes)


def rule_arms(
    rule: Rule,
    rules: Rules,
    pairs: Sequence[tuple[Arm, Arm]],
    members: Mapping[str, Sequence[str]] | None = None,
) -> list[tuple[Arm, Arm]]:
    """The arms that a rule is about. `members`: pools that are looked at task by task.

    Raises UnknownNameError for a task that is not there, UsageError for one in other modes.
    """
    tasks = list(dict.fromkeys(a.task for a, _ in pairs))
    if rule.task and rule.task not in tasks:
        raise UnknownNameError(f"task of both runs ({_place(rule, rules)})", rule.task, tasks)
    named = [rule.task] if rule.task else list(suite_named(rule.suite).tasks)
    wanted = {task for name in named for task in (members or {}).get(name, [name])}
    found = [(a, b) for a, b in pairs if a.task in wanted and a.mode in rule.modes]
    there = {(a.task, a.mode) for a, _ in found}
    lacking = [m for m in rule.modes if not any((task, m) in there for task in wanted)]
    if lacking:
        what = f"task {rule.task!r}" if rule.task else f"suite {rule.suite!r}"
        raise UsageError(
            f"{_place(rule, rules)}: {what} in mode {', '.join(lacking)} is not in both runs, "
            f"which have {', '.join(tasks)}; correct the rule, or run the task"
        )
    return found


def _check_whole(rule: Rule, rules: Rules, both: PairedRuns) -> None:
    """A task of the suite that one run has and the other lacks must not go unseen."""
    pools = [pool for run in (both.a, both.b) for pool in (run.manifest.get("pools") or {}).items()]
    wanted = set(suite_named(rule.suite).tasks)
    wanted |= {task for pool, tasks in pools for task in tasks if pool in wanted}
    have = [{(arm.task, arm.mode) for arm in run.arms} for run in (both.a, both.b)]
    for task, mode in sorted(have[0] ^ have[1]):
        if task in wanted and mode in rule.modes:
            run = both.a if (task, mode) in have[0] else both.b
            raise RunMismatchError(
                f"{_place(rule, rules)}: {task} of suite {rule.suite!r}, mode {mode}, is in "
                f"{str(run.folder)!r} alone; run it for both, or name the tasks"
            )


def _place(rule: Rule, rules: Rules) -> str:
    return f"{rules.path}, line {rule.line}"


def check_arms(rule: Rule, a: Arm, b: Arm, design: Design) -> Check:
    """One rule on two arms; p not corrected."""
    metric = rule.metric or a.scorer.primary
    _check_metric(rule, a, b, metric)
    _check_amount(rule, b, metric)
    if rule.kind.bounded:
        a = _constant(b, metric, rule.bound)
    found = compare_metric(a, b, metric, design)
    result = found.result
    if rule.kind.bounded and found.unit == "fraction" and design.estimand is Estimand.SAMPLE:
        result = replace(result, spread=Share.of(result.student, rule.bound))
    better = b.info(metric).higher_is_better is not False
    better = rule.kind is Kind.AT_LEAST if rule.kind.bounded else better
    decision = decide(result, _CLAIMS[rule.kind], rule.margin, better)
    p, against = decision.p, decision.p_against
    why = _untold(found) if math.isnan(p) else ""
    return Check(
        *(rule, a.task, b.mode, metric, found.unit),
        *(result, p, against, result.spread.limits(), why),
        boundaries=decision.boundaries(result),
        parts=components(a, b, metric),
    )


def _untold(found: Comparison) -> str:
    """Why nothing is known."""
    if found.withheld:
        return f"not tested: {found.withheld}. {found.remedy}"
    if found.estimand is Estimand.GIVEN:
        return "not tested: no doc's samples vary, so nothing tells how others would"
    return "not tested: every doc differs by as much, so nothing tells how others would"


def _check_metric(rule: Rule, a: Arm, b: Arm, metric: str) -> None:
    """A metric that a rule names is in either run; that of the task may not be measured yet."""
    known = {name for arm in (a, b) for name in (*arm.values, *_entropy(arm))}
    if rule.metric and metric not in known:
        raise UnknownNameError(f"metric of {a.task} (rule {rule.name!r})", metric, known)
    directed = b.info(metric).higher_is_better is not None
    if not directed and rule.kind in (Kind.NON_INFERIOR, Kind.SUPERIOR):
        raise UsageError(
            f"rule {rule.name!r}: {metric} has no better side; use kind equal, at-least or at-most"
        )


def _check_amount(rule: Rule, arm: Arm, metric: str) -> None:
    """A margin of 2 for two points would pass anything."""
    name, amount = ("bound", rule.bound) if rule.kind.bounded else ("margin", rule.margin)
    if arm.info(metric).unit == "fraction" and not 0 <= amount <= _WIDEST[name]:
        raise UsageError(
            f"rule {rule.name!r}: {name} {amount:g} of {metric}, which is a fraction; expected "
            f"{'0 to 1' if name == 'bound' else 'one below 1'}: two points are 0.02"
        )


def _entropy(arm: Arm) -> list[str]:
    return [arm.entropy] if arm.tokens else []


def _constant(arm: Arm, metric: str, bound: float) -> Arm:
    """An arm whose every doc has the bound as its value, without noise."""
    docs = arm.values.get(metric, {})
    return replace(
        arm,
        run="bound",
        values={
            **arm.values,
            metric: {doc: v if math.isnan(v) else bound for doc, v in docs.items()},
        },
        noise={metric: dict.fromkeys(arm.noise.get(metric, {}), 0.0)},
        bits={doc: bound * tokens for doc, tokens in arm.tokens.items()},
    )


def _split_checks(rule: Rule, rules: Rules, run: StoredRun) -> Iterator[Check]:
    behaviour = read_behaviour(run.store, run.manifest, run.arms, Compared())
    known = {found.answer.mode_b: found for found in behaviour.splits}
    for mode in rule.modes:
        if mode not in known:
            place = f"mode beside {behaviour.reference} ({_place(rule, rules)})"
            raise UnknownNameError(place, mode, known)
        yield _split_check(rule, mode, known[mode], run)


def _split_check(rule: Rule, mode: str, found: Split, run: StoredRun) -> Check:
    """A split is as sure as the least of its excesses, and refuted by any of them (Bonferroni)."""
    p = max((e.p for e in found.excesses), default=math.nan)
    least = min((e.p_against for e in found.excesses), default=math.nan)
    against = least if math.isnan(least) else min(1.0, least * len(found.excesses))
    exact = (run.manifest.get("divergence") or {}).get("exact", True)
    placebos = len({e.placebo for e in found.excesses}) - 1  # the reference is one of them
    if found.answer.verdict is Verdict.NO and not found.excesses:  # one prompt is one policy
        p, against = 1.0, 0.0
    if not exact:
        p = against = math.nan
    elif placebos < LEAST_PLACEBOS:
        p = math.nan
    tasks = ", ".join(found.tasks) or "no task"
    return Check(rule, tasks, mode, "split", "bits", None, p, against, why=found.answer.evidence)


def decide_rules(checks: Sequence[Check], alpha: float) -> list[Check]:
    """Outcomes, with the chance of any false pass, and of any false fail, at α at most (Holm).

    What is not known counts as a member.
    """
    passing = holm([check.p for check in checks])
    failing = holm([check.p_against for check in checks])
    return [
        replace(
            check,
            p_adjusted=yes,
            p_against_adjusted=no,
            outcome=Outcome.PASS if yes < alpha else Outcome.FAIL if no < alpha else Outcome.OPEN,
        )
        for check, yes, no in zip(checks, passing, failing, strict=True)
    ]
