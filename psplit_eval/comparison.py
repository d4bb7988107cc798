"""Two arms compared on every metric that both have: differences, families, what it would take."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from psplit_eval.arms import MAX_MISSING, Arm, samples_a_doc
from psplit_eval.effects import cliffs_delta, cohens_dz, odds_ratio
from psplit_eval.files import defined
from psplit_eval.margins import Claim, Decision, Verdict, decide
from psplit_eval.power import Components, Need, needed
from psplit_eval.protocol import Estimand, compare_docs, rule_of
from psplit_eval.resampling import (
    MEAN,
    RATIO,
    Array,
    bca_interval,
    difference_of,
    studentised_interval,
    swap_test,
)
from psplit_eval.stats import (
    GIVEN_TEST,
    MINIMUM_DOCS,
    Difference,
    Estimate,
    benjamini_hochberg,
    fixed_docs_difference,
    holm,
    stratified_difference,
    wilcoxon_p,
)

__all__ = [
    "ALPHA",
    "AVERAGE",
    "POWER",
    "Checks",
    "Comparison",
    "Design",
    "Left",
    "compare_metric",
    "compare_modes",
    "compare_pairs",
    "components",
    "difference",
]

ALPHA = 0.05
POWER = 0.8
"""The chance to tell a difference from its boundary that 'how much more' aims at."""

AVERAGE = "average of tasks"
"""What the plain mean over tasks is called in the place of a task."""

_NOT_COMPARED = ("accuracy_pass_at_1",)  # the same number as accuracy_avg


@dataclass(frozen=True)
class Design:
    """How arms are compared.

    `estimand`: of what the docs tell. `margin` (≥ 0, of metrics that are fractions) and `claim`:
    what is decided of every primary metric beside whether it differs. `allow_missing`: test though
    more than MAX_MISSING of the samples are missing.
    """

    allow_missing: bool = False
    estimand: Estimand = Estimand.SAMPLE
    claim: Claim | None = None
    margin: float = 0.0


class Left(NamedTuple):
    """Docs that are left out of a comparison, by reason."""

    only_a: int = 0
    """Arm b has no sample of them."""
    only_b: int = 0
    neither: int = 0
    undefined: int = 0
    """The metric is undefined in an arm."""
    unequal: int = 0
    """The metric depends on how many, or how long, samples are, and the arms differ in that."""

    def said(self, arm_a: str, arm_b: str) -> str:
        """In words; '' where no doc is left out."""
        said = {
            f"only in {arm_a}": self.only_a,
            f"only in {arm_b}": self.only_b,
            "in neither": self.neither,
            "undefined": self.undefined,
            "unequal samples": self.unequal,
        }
        return ", ".join(f"{count} {why}" for why, count in said.items() if count)


class Checks(NamedTuple):
    """The same question by other methods: two p-values (the second NaN for a ratio), and 95 %
    intervals by bootstrap over docs."""

    swap_test_p: float
    wilcoxon_p: float
    bootstrap_bca: tuple[float, float]
    bootstrap_studentised: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """One metric in two arms of one task: b − a.

    `samples`: a doc, in either arm ('8', or '3 to 8'). Of primary comparisons: `parts` of the
    variance of docs' differences; `effects`: effect sizes by name; `checks`: the same question by
    other methods; `decision` about the design's claim; `need`: what it would take to tell the
    difference from 0, or from the margin, where that is open.
    """

    task: str
    metric: str
    unit: str
    arm_a: str
    arm_b: str
    result: Difference
    estimand: Estimand
    family: str
    correction: str
    left: Left
    n_samples: int
    samples: tuple[str, ...]
    p_adjusted: float = math.nan
    withheld: str = ""
    remedy: str = ""
    effects: Mapping[str, Estimate] = field(default_factory=dict)
    checks: Checks | None = None
    parts: Components | None = None
    need: Need | None = None
    decision: Decision | None = None

    @property
    def primary(self) -> bool:
        """Whether it is of the family that decides."""
        return self.family == "primary"

    @property
    def n_docs_dropped(self) -> int:
        """Docs that are left out, whatever the reason."""
        return sum(self.left)

    @property
    def verdict(self) -> str:
        """'higher', 'lower' (b against a), 'inconclusive', or 'not tested' with the reason."""
        if self.withheld:
            return f"not tested: {self.withheld}"
        if not self.p_adjusted < ALPHA:
            return "inconclusive"
        return "higher" if self.result.difference > 0 else "lower"

    def to_dict(self) -> dict[str, Any]:
        """An entry of comparison.json; undefined numbers are null."""
        result, decision, need = self.result, self.decision, self.need
        low, high = result.spread.limits()
        entry = {
            "task": self.task,
            "metric": self.metric,
            "arm_a": self.arm_a,
            "arm_b": self.arm_b,
            "value_a": result.value_a,
            "value_b": result.value_b,
            "difference": result.difference,
            "ci_low": low,
            "ci_high": high,
            "estimand": self.estimand.value,
            "pairing": "by doc",
            "test": result.test,
            "alternative": "two-sided",
            "alpha": ALPHA,
            "p": result.p,
            "p_adjusted": self.p_adjusted,
            "family": self.family,
            "primary": self.primary,
            "correction": self.correction,
            "effect_size": result.effect_size,
            "effects": {name: _shown(effect) for name, effect in self.effects.items()},
            "checks": _of_checks(self.checks) if self.checks else {},
            "n_docs": result.n,
            "n_docs_differing": result.differing,
            "n_docs_dropped": self.n_docs_dropped,
            "dropped": self.left._asdict(),
            "n_samples": self.n_samples,
            "samples_a_doc": list(self.samples),
            "verdict": self.verdict,
            "margin": decision.margin if decision else None,
            "claim": _of_decision(decision) if decision else None,
            "needed": _of_need(need) if need else None,
        }
        return {name: defined(value) for name, value in entry.items()}


def _of_checks(checks: Checks) -> dict[str, Any]:
    return {name: defined(value) for name, value in checks._asdict().items()}


def _shown(effect: Estimate) -> dict[str, Any]:
    values = {"value": effect.value, "ci_low": effect.ci_low, "ci_high": effect.ci_high}
    return {name: defined(value) for name, value in values.items()}


def _of_decision(decision: Decision) -> dict[str, Any]:
    return {
        "claim": decision.claim.value,
        "family": "claims",
        "correction": "Holm",
        "margin": decision.margin,
        "alternative": "two one-sided" if decision.claim is Claim.EQUIVALENT else "one-sided",
        "alpha": decision.alpha,
        "p": defined(decision.p),
        "p_adjusted": defined(decision.p_adjusted),
        "p_against": defined(decision.p_against),
        "p_against_adjusted": defined(decision.p_against_adjusted),
        "verdict": decision.verdict.value,
    }


def _of_need(need: Need) -> dict[str, Any]:
    return {
        "power": POWER,
        "if": "the true difference is the one seen",
        "docs": need.docs,
        "samples_a_doc": need.samples,
        "samples_known": need.samples_known,
    }


def compare_modes(arms: Sequence[Arm], design: Design | None = None) -> list[Comparison]:
    """Compare every pair of modes on every task and pool; see `compare_pairs`."""
    by_task: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        by_task[arm.task].append(arm)
    pairs = [pair for members in by_task.values() for pair in combinations(members, 2)]
    return compare_pairs(pairs, design)


def compare_pairs(
    pairs: Iterable[tuple[Arm, Arm]], design: Design | None = None
) -> list[Comparison]:
    """Compare the second arm of every pair with the first, doc by doc, by `protocol.PROTOCOL`.

    The primary family is one metric a task and pair, Holm-corrected; of a pool it is the pool's,
    not its members'. Where two or more tasks of a pair are decided by one fraction, their plain
    mean is compared, too, and is one of the family. All else is exploratory,
    Benjamini–Hochberg-corrected. Above MAX_MISSING missing samples in an arm nothing is inferred
    from it, unless the design allows it.
    """
    design, pairs = design or Design(), list(pairs)
    found = [comparison for a, b in pairs for comparison in _compare(a, b, design)]
    return _corrected([*found, *_averages(pairs, found, design)])


def components(a: Arm, b: Arm, metric: str) -> Components | None:
    """Where the variance of docs' differences between two arms comes from; None below MINIMUM_DOCS
    docs that have the metric in both."""
    pair = _Pair.of(a, b, metric)
    return pair.components() if len(pair.docs) >= MINIMUM_DOCS else None


def difference(a: Arm, b: Arm, metric: str) -> Difference:
    """b − a on one metric by its default test, docs as a sample; NaN where there is no such doc."""
    return _Pair.of(a, b, metric).tested(Estimand.SAMPLE)


def _compare(a: Arm, b: Arm, design: Design) -> Iterator[Comparison]:
    deciding = "" if a.pool and b.pool else a.scorer.primary
    shared = [name for name in a.values if name in b.values]
    entropy = [a.entropy] if a.tokens and b.tokens and a.entropy == b.entropy else []
    for metric in dict.fromkeys([a.scorer.primary, *shared, *entropy]):
        if metric in _NOT_COMPARED:
            continue
        pair = _Pair.of(a, b, metric)
        primary = metric == deciding
        if not (pair.docs or primary):  # undefined for every doc of an arm
            continue
        comparison = _of_pair(pair, design, primary)
        if primary and not comparison.withheld:
            yield _in_depth(comparison, pair, design)
        else:
            yield comparison


def compare_metric(a: Arm, b: Arm, metric: str, design: Design | None = None) -> Comparison:
    """One metric of two arms, b − a: tested or withheld as a primary one, p not corrected."""
    return _of_pair(_Pair.of(a, b, metric), design or Design(), primary=True)


def _of_pair(pair: _Pair, design: Design, primary: bool) -> Comparison:
    a, b = pair.a, pair.b
    comparison = Comparison(
        task=a.task,
        metric=pair.metric,
        unit=a.info(pair.metric).unit,
        arm_a=a.name,
        arm_b=b.name,
        result=pair.tested(design.estimand),
        estimand=design.estimand,
        family="primary" if primary else "exploratory",
        correction="Holm" if primary else "Benjamini-Hochberg",
        left=pair.left,
        n_samples=a.planned - a.missing + b.planned - b.missing,
        samples=(samples_a_doc(a), samples_a_doc(b)),
    )
    reason = _reason_to_withhold(pair, design, primary)
    return _withheld(comparison, *reason) if reason else comparison


def _reason_to_withhold(pair: _Pair, design: Design, primary: bool) -> tuple[str, str] | None:
    a, b, metric = pair.a, pair.b, pair.metric
    share = max(a.missing_share, b.missing_share)
    if share > MAX_MISSING and not design.allow_missing:
        return f"{share:.1%} of the samples are missing", "Give the run's command again to go on."
    measured = pair.ratio or (metric in a.values and metric in b.values)
    if primary and not measured:
        return f"{metric} is not measured", "psplit-eval score RUN says why."
    if not pair.docs and a.info(metric).needs_equal_samples:
        return (
            f"{samples_a_doc(a)} samples a doc against {samples_a_doc(b)}",
            "Take as many samples a doc in both arms.",
        )
    if not pair.docs and a.scorer.kind == "diversity":
        return (
            f"{metric} is undefined for every doc",
            "Diversity needs two samples a doc or more.",
        )
    if design.estimand is Estimand.GIVEN and pair.docs and pair.noise is None:
        return (
            f"how much {metric} varies given a doc is not known",
            "Docs can be taken as given for means of two samples a doc or more.",
        )
    if len(pair.docs) < MINIMUM_DOCS:
        return f"docs: {len(pair.docs)}, expected {MINIMUM_DOCS} or more", "Take more docs."
    return None


@dataclass(frozen=True)
class _Pair:
    """One metric on the docs that two arms can be compared on.

    `rows_…`: (docs, 1), or numerators and denominators (docs, 2). `noise`: variance that sampling
    adds to every doc's difference; None where it is not known of every doc.
    """

    a: Arm
    b: Arm
    metric: str
    docs: Sequence[int]
    rows_a: Array
    rows_b: Array
    noise_a: Array | None
    noise_b: Array | None
    left: Left

    @classmethod
    def of(cls, a: Arm, b: Arm, metric: str) -> _Pair:
        """Docs that both arms have the metric of, under equal conditions where those matter."""
        ratio = rule_of(metric).ratio
        known = [_defined_docs(arm, metric) for arm in (a, b)]
        info = a.info(metric)
        docs, unequal = [], 0
        for doc in sorted(known[0] & known[1]):
            equal = a.good.get(doc) == b.good.get(doc) or not info.needs_equal_samples
            if equal and all(_at(a, name, doc) == _at(b, name, doc) for name in info.taken_at):
                docs.append(doc)
            else:
                unequal += 1
        left = Left(
            len(a.good.keys() - b.good.keys()),
            len(b.good.keys() - a.good.keys()),
            len((a.docs | b.docs) - a.good.keys() - b.good.keys()),
            len((a.good.keys() & b.good.keys()) - (known[0] & known[1])),
            unequal,
        )
        rows = [_rows(arm, metric, docs, ratio) for arm in (a, b)]
        noise = [_noise(arm, metric, docs) for arm in (a, b)]
        return cls(a, b, metric, docs, rows[0], rows[1], noise[0], noise[1], left)

    @property
    def ratio(self) -> bool:
        return rule_of(self.metric).ratio

    @property
    def noise(self) -> Array | None:
        if self.noise_a is None or self.noise_b is None:
            return None
        return self.noise_a + self.noise_b

    @property
    def samples(self) -> float:
        """Samples a doc, as many in both arms, that make as much noise as those there are.

        The mean over docs and arms where no noise is known, NaN without docs.
        """
        counts = np.array([[arm.good.get(doc, 0) for doc in self.docs] for arm in (self.a, self.b)])
        if self.noise is not None and self.noise.sum() > 0:
            noise = np.array([self.noise_a, self.noise_b])
            return float((noise * counts).sum() / noise.sum())
        return float(counts.mean()) if counts.size else math.nan

    def tested(self, estimand: Estimand) -> Difference:
        if estimand is Estimand.SAMPLE:
            return self._compared()
        if self.noise_a is None or self.noise_b is None:  # how its docs' samples vary is not known
            return replace(self._compared().bare(), test=GIVEN_TEST)
        counts = [np.array([arm.good[doc] for doc in self.docs]) for arm in (self.a, self.b)]
        noise = self.noise_a, self.noise_b
        arms = self.rows_a[:, 0], self.rows_b[:, 0]
        return fixed_docs_difference(*arms, noise, (counts[0], counts[1]))

    def _compared(self) -> Difference:
        rule, left, right = rule_of(self.metric), self.rows_a[:, 0], self.rows_b[:, 0]
        if rule.ratio:
            down = self.rows_a[:, 1], self.rows_b[:, 1]
            return compare_docs(rule, (left, down[0]), (right, down[1]))
        one = all(arm.good.get(doc) == 1 for arm in (self.a, self.b) for doc in self.docs)
        return compare_docs(rule, left, right, self.a.info(self.metric).unit == "fraction", one)

    def components(self) -> Components:
        """Where the variance of docs' differences comes from; of a ratio: linearised ones."""
        rows = np.hstack([self.rows_a, self.rows_b])
        slope = difference_of(RATIO if self.ratio else MEAN).gradient(rows.mean(axis=0))
        return Components.estimated(rows @ slope, self.noise, self.samples)


def _defined_docs(arm: Arm, metric: str) -> set[int]:
    if rule_of(metric).ratio:
        return set(arm.tokens)
    return {doc for doc, value in arm.values.get(metric, {}).items() if not math.isnan(value)}


def _rows(arm: Arm, metric: str, docs: Sequence[int], ratio: bool) -> Array:
    if ratio:
        rows = [(arm.bits[doc], float(arm.tokens[doc])) for doc in docs]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)
    values = arm.values.get(metric, {})
    return np.array([values[doc] for doc in docs], dtype=np.float64).reshape(-1, 1)


def _noise(arm: Arm, metric: str, docs: Sequence[int]) -> Array | None:
    known = arm.noise.get(metric, {}) if rule_of(metric).given else {}
    if not docs or any(doc not in known for doc in docs):
        return None
    return np.array([known[doc] for doc in docs])


def _at(arm: Arm, metric: str, doc: int) -> float | None:
    return arm.values.get(metric, {}).get(doc)


def _in_depth(comparison: Comparison, pair: _Pair, design: Design) -> Comparison:
    """What is worth its time for a primary comparison alone."""
    found = comparison
    if design.claim and comparison.unit == "fraction":
        better = pair.a.info(pair.metric).higher_is_better is not False
        decision = decide(comparison.result, design.claim, design.margin, better, ALPHA)
        found = replace(found, decision=decision)
    if len(pair.docs) < MINIMUM_DOCS:
        return found
    found = replace(found, parts=pair.components())
    if design.estimand is Estimand.GIVEN:  # the rest takes docs as a sample
        return found
    return replace(found, effects=_effects(pair), checks=_checks(pair))


def _effects(pair: _Pair) -> dict[str, Estimate]:
    if pair.ratio:
        return {}
    left, right = pair.rows_a[:, 0], pair.rows_b[:, 0]
    found = {"cohens_dz": cohens_dz(left, right), "cliffs_delta": cliffs_delta(left, right)}
    if pair.a.info(pair.metric).unit == "fraction":
        found["odds_ratio"] = odds_ratio(left, right)
    return found


def _checks(pair: _Pair) -> Checks:
    quantity = RATIO if pair.ratio else MEAN
    rows, gap = np.hstack([pair.rows_a, pair.rows_b]), difference_of(quantity)
    return Checks(
        swap_test(pair.rows_a, pair.rows_b, quantity),
        math.nan if pair.ratio else wilcoxon_p(pair.rows_a[:, 0], pair.rows_b[:, 0]),
        bca_interval(rows, gap),
        studentised_interval(rows, gap),
    )


def _withheld(comparison: Comparison, reason: str, remedy: str) -> Comparison:
    return replace(comparison, result=comparison.result.bare(), withheld=reason, remedy=remedy)


def _averages(
    pairs: Sequence[tuple[Arm, Arm]], found: Sequence[Comparison], design: Design
) -> Iterator[Comparison]:
    """The plain mean over tasks, for every two arms whose tasks one fraction decides."""
    kinds = {a.task: a.scorer.kind for a, _ in pairs}
    groups: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
    for c in found:
        if c.primary and c.unit == "fraction" and kinds[c.task] != "diversity":
            groups[c.arm_a, c.arm_b, c.metric].append(c)
    yield from (_average(members, design) for members in groups.values() if len(members) > 1)


def _average(comparisons: Sequence[Comparison], design: Design) -> Comparison:
    withheld = [comparison for comparison in comparisons if comparison.withheld]
    result = stratified_difference([comparison.result for comparison in comparisons])
    average = replace(
        comparisons[0],
        task=AVERAGE,
        result=result.bare() if withheld else result,
        left=Left(*map(sum, zip(*(comparison.left for comparison in comparisons), strict=True))),
        n_samples=sum(comparison.n_samples for comparison in comparisons),
        samples=tuple(" / ".join(dict.fromkeys(c.samples[i] for c in comparisons)) for i in (0, 1)),
        effects={},
        checks=None,
        parts=None,
        decision=None,
    )
    if withheld:
        return replace(average, withheld=withheld[0].withheld, remedy=withheld[0].remedy)
    if design.claim is None:
        return average
    return replace(average, decision=decide(result, design.claim, design.margin, alpha=ALPHA))


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """p in their families; then claims, which are a family of their own; then what is open."""
    adjusted = list(comparisons)
    families = (("primary", holm), ("exploratory", benjamini_hochberg))
    for family, correct in families:
        places = [i for i, c in enumerate(comparisons) if c.family == family]
        values = correct([comparisons[i].result.p for i in places])
        for place, value in zip(places, values, strict=True):
            adjusted[place] = replace(comparisons[place], p_adjusted=value)
    decisions = iter(_decided([c.decision for c in adjusted if c.decision]))
    adjusted = [replace(c, decision=next(decisions)) if c.decision else c for c in adjusted]
    tests = sum(c.primary for c in adjusted), sum(c.decision is not None for c in adjusted)
    return [replace(c, need=_need(c, *tests)) if c.parts else c for c in adjusted]


def _decided(decisions: Sequence[Decision]) -> Iterator[Decision]:
    """A 'yes' has to stand Holm's correction over all claims, and so has a 'no', which claims the
    opposite."""
    for_it = holm([decision.p for decision in decisions])
    against = holm([decision.p_against for decision in decisions])
    for decision, yes, no in zip(decisions, for_it, against, strict=True):
        p = {Verdict.YES: yes, Verdict.NO: no}.get(decision.verdict, math.nan)
        verdict = decision.verdict if p < decision.alpha else Verdict.INCONCLUSIVE
        yield replace(decision, p_adjusted=yes, p_against_adjusted=no, verdict=verdict)


def _need(comparison: Comparison, tests: int, claims: int) -> Need | None:
    """What it takes where something is open, at the level that Holm's correction leaves at worst;
    None also where nothing differs from the boundary, or nothing varies."""
    decision, result = comparison.decision, comparison.result
    if decision:
        done, boundaries = (
            decision.verdict is not Verdict.INCONCLUSIVE,
            decision.boundaries(result),
        )
        level, sides = ALPHA / claims, 1
    else:
        done = comparison.verdict != "inconclusive"
        boundaries, level, sides = [0.0], ALPHA / tests, 2
    gaps = [abs(result.difference - boundary) for boundary in boundaries]
    if done or comparison.parts is None or min(gaps) < 1e-12 or not result.spread.error > 0:
        return None
    given = comparison.estimand is Estimand.GIVEN
    return needed(gaps, result.n, comparison.parts, POWER, level, sides, given)
