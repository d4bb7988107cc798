"""A gate that samples as it goes: rounds of docs, until every rule is decided or none is left.

Docs come in random order, each once, with all its samples; a rule is decided by betting on docs'
differences (`betting`), so looking after every round costs no error. Docs are a sample of a
population: what a fixed set of docs as such would say is not asked here. The tasks of a pool are
decided one by one, as no order of their docs together is random.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from psplit_eval.arms import Arm
from psplit_eval.betting import confidence_sequence, sequential_p
from psplit_eval.comparison import Design
from psplit_eval.errors import UsageError
from psplit_eval.gate import Check, Gate, Outcome, check_arms, decide_rules, rule_arms
from psplit_eval.gate_rules import Kind, Rule, Rules
from psplit_eval.paired_runs import PairedRuns, StoredRun
from psplit_eval.protocol import Estimand
from psplit_eval.resampling import Array
from psplit_eval.run import Rounds, RunOptions, Screen, run
from psplit_eval.sampling import random_order
from psplit_eval.stored import RunResult, opened_run, paired_arms

__all__ = ["GAP", "sequential_gate"]

GAP = 0.05
"""How far beyond a boundary the truth is thought to be, where no margin says it."""


def sequential_gate(
    baseline: Path,
    rules: Rules,
    options: RunOptions,
    screen: Screen,
    docs_a_round: int,
    allowed: Sequence[str] = (),
) -> tuple[Gate, RunResult]:
    """Sample the candidate in rounds and decide the rules; `options` are those of its run.

    The same command goes on where it was stopped. Raises as `gate` and `run`, and UsageError for
    rules that cannot be decided while sampling: on judges, splits, and what is no fraction.
    """
    _check_rules(rules)
    with opened_run(baseline) as before:
        court = _Court(before, rules, options.seed, allowed)
        result = run(options, screen, Rounds(docs_a_round, court.still_open))
        if court.gate is None:
            raise UsageError(
                f"{str(baseline)!r}: nothing was sampled that rules are about; give tasks to run"
            )
        return court.gate, result


def _check_rules(rules: Rules) -> None:
    for rule in rules.rules:
        what = "a judge" if rule.judge else "a split" if rule.kind is Kind.SPLIT else ""
        if what:
            raise UsageError(
                f"{rules.path}, line {rule.line}: a rule on {what} cannot be decided while "
                "sampling; put it into rules of their own, for a gate without --sequential"
            )
    if rules.estimand is Estimand.GIVEN:
        raise UsageError(
            f"{rules.path}: docs given, expected docs: sample with --sequential, which stops "
            "before all docs are seen"
        )


@dataclass
class _Court:
    """Looks at the candidate after every round; `gate` is what it found last."""

    before: StoredRun
    rules: Rules
    seed: int
    allowed: Sequence[str]
    gate: Gate | None = None

    def still_open(self, candidate: StoredRun) -> Collection[str]:
        """Tasks that rules are still open on."""
        modes = list(dict.fromkeys(mode for rule in self.rules.rules for mode in rule.modes))
        both = PairedRuns(self.before, candidate, modes)
        if self.gate is None:
            both.check(self.allowed)
        checks = decide_rules(list(self._checks(both)), self.rules.alpha)
        self.gate = Gate(self.rules, *both.labels, checks, both.facts())
        return {check.task for check in checks if check.outcome is Outcome.OPEN}

    def _checks(self, both: PairedRuns) -> Iterator[Check]:
        pairs, pools = paired_arms(both), both.b.manifest.get("pools") or {}
        for rule in self.rules.rules:
            for a, b in rule_arms(rule, self.rules, pairs, pools):
                check = check_arms(rule, a, b, Design(allow_missing=True))
                yield self._by_betting(check, a, b, _places(self.before, a.task, self.seed))

    def _by_betting(self, check: Check, a: Arm, b: Arm, places: Mapping[int, int]) -> Check:
        if check.unit != "fraction":
            raise UsageError(
                f"{self.rules.path}, line {check.rule.line}: {check.metric} is no fraction, whose "
                "bounds betting needs; put the rule into a gate without --sequential"
            )
        better = b.info(check.metric).higher_is_better is not False
        x = _differences(check, a, b, places) * (1 if better or check.rule.kind.bounded else -1)
        p, against = _both_ways(check.rule, x)
        low, high = confidence_sequence(x, check.rule.margin or GAP)
        limits = (low, high) if better or check.rule.kind.bounded else (-high, -low)
        return replace(check, p=p, p_against=against, limits=limits, why="", parts=None)


def _places(run: StoredRun, task: str, seed: int) -> dict[int, int]:
    """Doc → its place in the random order."""
    docs = {doc.doc_id: doc.doc_hash for doc in run.store.docs(task)}
    return {doc: place for place, doc in enumerate(random_order(task, docs, seed))}


def _differences(check: Check, a: Arm, b: Arm, places: Mapping[int, int]) -> Array:
    """Of every doc that both arms have a number of, in the order drawn; against the bound if the
    rule has one."""
    left, right = a.values.get(check.metric, {}), b.values.get(check.metric, {})
    bounded = check.rule.kind.bounded
    docs = [doc for doc in right if doc in places and (bounded or doc in left)]
    found = [
        right[doc] - (check.rule.bound if bounded else left[doc])
        for doc in sorted(docs, key=places.__getitem__)
    ]
    return np.array([x for x in found if not math.isnan(x)], dtype=np.float64)


def _both_ways(rule: Rule, x: Array) -> tuple[float, float]:
    """p of the rule's opposite, and of the rule, after all of `x`; 1 of no docs."""
    margin, gap = rule.margin, rule.margin or GAP
    if rule.kind is Kind.AT_MOST:
        x = -x
    boundary = -margin if rule.kind in (Kind.NON_INFERIOR, Kind.EQUAL) else margin
    above, below = _last(x, boundary, gap), _last(-x, -boundary, gap)
    if rule.kind is not Kind.EQUAL:
        return above, below
    under = _last(-x, -margin, gap)
    over = _last(x, margin, gap)
    return max(above, under), min(1.0, 2 * min(below, over))


def _last(x: Array, boundary: float, gap: float) -> float:
    return float(sequential_p(x, boundary, gap)[-1]) if x.size else 1.0
