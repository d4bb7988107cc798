"""From stored samples and metrics to numbers with intervals: arms, values, comparisons, verdicts.

An arm is one mode on one task. Values are per doc, so that everything downstream is paired by doc
and clustered by doc.
"""

from __future__ import annotations

import math
from collections import ChainMap, Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from operator import add
from typing import Any

import numpy as np

from psplit_eval.scoring import MetricInfo, Scorer
from psplit_eval.stats import (
    Difference,
    Estimate,
    benjamini_hochberg,
    holm,
    mean_estimate,
    paired_mean_difference,
    paired_ratio_difference,
    ratio_estimate,
)
from psplit_eval.store import Outcome, Store

__all__ = [
    "ALPHA",
    "MAX_MISSING",
    "Arm",
    "Comparison",
    "Value",
    "arm_values",
    "compare_modes",
    "compare_pairs",
    "read_arms",
    "renumbered",
    "runs_verdict",
    "samples_a_doc",
    "verdict",
    "with_pools",
]

ALPHA = 0.05
MAX_MISSING = 0.01
"""Above this share of missing samples nothing is inferred."""

_NOT_COMPARED = ("accuracy_pass_at_1",)  # the same number as accuracy_avg
_EXACT, _ESTIMATED = "entropy_bits", "entropy_bits_estimate"
_MANY_CUT = 0.2
"""From this share of truncated answers on, the verdict warns."""


@dataclass(frozen=True)
class Arm:
    """One mode on one task, or on a pool of tasks.

    `values`: metric → doc_id → value. `bits` and `tokens`: doc_id → sums over the doc's samples of
    which the entropy is known; `entropy` is what the metric is called: estimates, from a server's
    most probable tokens, have a name of their own. Samples of `docs` were asked for, `planned` of
    them in all; `missing` could not be had, `truncated` were cut by the token limit (None: not
    known), `right` are right answers (None: nothing is graded); `good`: doc_id → samples that are
    there. `pool`: the pool that the task belongs to. `run`: the run's label, where arms of several
    are compared.
    """

    task: str
    mode: str
    scorer: Scorer
    values: Mapping[str, Mapping[int, float]]
    bits: Mapping[int, float]
    tokens: Mapping[int, int]
    planned: int
    missing: int
    truncated: int | None
    right: int | None
    docs: frozenset[int] = frozenset()
    good: Mapping[int, int] = field(default_factory=dict)
    pool: str = ""
    run: str = ""
    entropy: str = _EXACT

    @property
    def name(self) -> str:
        """What the arm is called in a comparison."""
        return f"{self.run}/{self.mode}" if self.run else self.mode

    def info(self, metric: str) -> MetricInfo:
        """Unit and direction of one of its metrics."""
        return MetricInfo("bits", None) if metric == self.entropy else self.scorer.info(metric)

    @property
    def missing_share(self) -> float:
        """Missing samples / planned samples, in [0, 1]."""
        return self.missing / self.planned if self.planned else 0.0

    @property
    def accuracy_bounds(self) -> tuple[float, float] | None:
        """Share of right samples if all missing ones were wrong, and if all were right."""
        if self.right is None or not self.planned:
            return None
        return self.right / self.planned, (self.right + self.missing) / self.planned


@dataclass(frozen=True)
class Value:
    """One line of the leaderboard."""

    task: str
    mode: str
    metric: str
    estimate: Estimate
    n_samples: int
    unit: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Comparison:
    """One metric in two arms of one task: b − a."""

    task: str
    metric: str
    unit: str
    arm_a: str
    arm_b: str
    result: Difference
    test: str
    family: str
    primary: bool
    correction: str
    n_docs_dropped: int
    n_samples: int
    p_adjusted: float = math.nan
    withheld: str = ""
    remedy: str = ""

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
        result = self.result
        entry = {
            "task": self.task,
            "metric": self.metric,
            "arm_a": self.arm_a,
            "arm_b": self.arm_b,
            "value_a": result.value_a,
            "value_b": result.value_b,
            "difference": result.difference,
            "ci_low": result.ci_low,
            "ci_high": result.ci_high,
            "estimand": "difference of means over a population of docs",
            "pairing": "by doc",
            "test": self.test,
            "alternative": "two-sided",
            "margin": None,
            "alpha": ALPHA,
            "p": result.p,
            "p_adjusted": self.p_adjusted,
            "family": self.family,
            "primary": self.primary,
            "correction": self.correction,
            "effect_size": result.effect_size,
            "n_docs": result.n,
            "n_docs_dropped": self.n_docs_dropped,
            "n_samples": self.n_samples,
            "verdict": self.verdict,
        }
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in entry.items()}


def read_arms(
    store: Store,
    scorers: Mapping[str, Scorer],
    modes: Sequence[str],
    asked: Mapping[str, Mapping[str, int]] | None = None,
) -> list[Arm]:
    """Arms of the named tasks and modes, tasks first, in the order given.

    `asked`: task → mode → samples that the run asked for; those not drawn yet are missing.
    """
    return [
        arm
        for task, scorer in scorers.items()
        for arm in _task_arms(store, task, scorer, modes, (asked or {}).get(task, {}))
    ]


def with_pools(arms: Sequence[Arm], pools: Mapping[str, Sequence[str]]) -> list[Arm]:
    """The arms, and behind its members those of every pool (name → its tasks) that can be made.

    A pool's docs are those of all its tasks. It needs all of its tasks in a mode, with one primary
    metric.
    """
    made = {pool: list(_pooled(pool, tasks, arms)) for pool, tasks in pools.items()}
    pool_of = {
        (task, arm.name): pool
        for pool, tasks in pools.items()
        for arm in made[pool]
        for task in tasks
    }
    ordered: list[Arm] = []
    for task in dict.fromkeys(arm.task for arm in arms):
        ordered += [
            replace(arm, pool=pool_of.get((task, arm.name), "")) for arm in arms if arm.task == task
        ]
        for pool, tasks in pools.items():
            ordered += made[pool] if tasks[-1] == task else []
    return ordered


def _task_arms(
    store: Store, task: str, scorer: Scorer, modes: Sequence[str], asked: Mapping[str, int]
) -> list[Arm]:
    arms = []
    for mode in modes:
        tally = _Tally()
        for outcome in store.outcomes(task, mode):
            tally.add(outcome)
        if not tally.docs:  # a mode that was never asked for on this task
            continue
        values: dict[str, dict[int, float]] = defaultdict(dict)
        for metric in store.metrics(task, mode, of_docs=True):
            values[metric.metric][metric.doc_id] = metric.value
        planned = max(asked.get(mode, 0), tally.stored)
        arms.append(
            Arm(
                task=task,
                mode=mode,
                scorer=scorer,
                values=dict(values),
                bits=dict(tally.bits[tally.entropy]),
                tokens=dict(tally.tokens[tally.entropy]),
                entropy=tally.entropy,
                planned=planned,
                missing=planned - sum(tally.good.values()),
                truncated=tally.truncated if tally.ends_known or not tally.good else None,
                right=store.right(task, mode),
                docs=frozenset(tally.docs),
                good=dict(tally.good),
            )
        )
    return arms


class _Tally:
    """Sums over the samples of one task in one mode."""

    def __init__(self) -> None:
        self.docs: set[int] = set()
        self.good: Counter[int] = Counter()
        self.bits: dict[str, dict[int, float]] = {
            name: defaultdict(float) for name in (_EXACT, _ESTIMATED)
        }
        self.tokens: dict[str, Counter[int]] = {name: Counter() for name in self.bits}
        self.stored = self.truncated = self.ends_known = 0

    def add(self, sample: Outcome) -> None:
        self.docs.add(sample.doc_id)
        self.stored += 1
        if not sample.good:
            return
        self.good[sample.doc_id] += 1
        self.truncated += sample.finish_reason == "length"
        self.ends_known += sample.finish_reason is not None
        sums = {_EXACT: sample.entropy_sum_bits, _ESTIMATED: sample.entropy_estimate_sum_bits}
        for name, bits in sums.items():
            if bits is not None:
                self.bits[name][sample.doc_id] += bits
                self.tokens[name][sample.doc_id] += sample.completion_tokens or 0

    @property
    def entropy(self) -> str:
        """Which of the two sums counts: the exact one, unless there is none."""
        return _EXACT if self.tokens[_EXACT] or not self.tokens[_ESTIMATED] else _ESTIMATED


def _pooled(pool: str, tasks: Sequence[str], arms: Sequence[Arm]) -> Iterator[Arm]:
    """The pool's arm of every mode (of every run) that has all of its tasks."""
    members = [arm for task in tasks for arm in arms if arm.task == task]
    if len({arm.scorer.primary for arm in members}) != 1:
        return
    first, places = 0, {}
    for task in tasks:
        docs = [doc for arm in members if arm.task == task for doc in arm.docs]
        places[task] = first
        first += max(docs, default=-1) + 1
    for name in dict.fromkeys(arm.name for arm in members):
        parts = [arm for arm in members if arm.name == name]
        if len(parts) == len(tasks):
            moved = [_moved(part, partial(add, places[part.task])) for part in parts]
            yield _joined(pool, moved)


def renumbered(arm: Arm, numbers: Mapping[int, int]) -> Arm:
    """The arm with its docs under other numbers, so that they pair with another run's."""
    return _moved(arm, numbers.__getitem__)


def _moved(arm: Arm, number: Callable[[int], int]) -> Arm:
    def keys(values: Mapping[int, Any]) -> dict[int, Any]:
        return {number(doc): value for doc, value in values.items()}

    return replace(
        arm,
        values={metric: keys(docs) for metric, docs in arm.values.items()},
        bits=keys(arm.bits),
        tokens=keys(arm.tokens),
        good=keys(arm.good),
        docs=frozenset(map(number, arm.docs)),
    )


def _joined(pool: str, parts: Sequence[Arm]) -> Arm:
    shared = [name for name in parts[0].values if all(name in part.values for part in parts)]
    right = [part.right for part in parts if part.right is not None]
    truncated = [part.truncated for part in parts if part.truncated is not None]
    return replace(
        parts[0],
        task=pool,
        values={name: dict(ChainMap(*(dict(p.values[name]) for p in parts))) for name in shared},
        bits=dict(ChainMap(*(dict(part.bits) for part in parts))),
        tokens=dict(ChainMap(*(dict(part.tokens) for part in parts))),
        planned=sum(part.planned for part in parts),
        missing=sum(part.missing for part in parts),
        truncated=sum(truncated) if len(truncated) == len(parts) else None,
        right=sum(right) if len(right) == len(parts) else None,
        docs=frozenset().union(*(part.docs for part in parts)),
        good=dict(ChainMap(*(dict(part.good) for part in parts))),
        pool="",
    )


def arm_values(arm: Arm, allow_missing: bool = False) -> list[Value]:
    """Every metric of an arm with its 95 % interval over docs; NaN docs are left out.

    Above MAX_MISSING missing samples there is no interval, unless `allow_missing`.
    """
    found = []
    for metric, docs in arm.values.items():
        kept = [value for value in docs.values() if not math.isnan(value)]
        found.append(_value(arm, metric, mean_estimate(kept)))
    if arm.tokens:
        order = sorted(arm.tokens)
        sums = [arm.bits[doc] for doc in order], [arm.tokens[doc] for doc in order]
        found.append(_value(arm, arm.entropy, ratio_estimate(*sums)))
    if arm.missing_share > MAX_MISSING and not allow_missing:
        return [replace(value, estimate=_bare(value.estimate)) for value in found]
    return found


def _bare(estimate: Estimate) -> Estimate:
    return replace(estimate, ci_low=math.nan, ci_high=math.nan)


def _value(arm: Arm, metric: str, estimate: Estimate) -> Value:
    info = arm.info(metric)
    if info.unit == "fraction":  # the mean cannot leave [0, 1], so neither need its interval
        low, high = (float(np.clip(x, 0.0, 1.0)) for x in (estimate.ci_low, estimate.ci_high))
        estimate = replace(estimate, ci_low=low, ci_high=high)
    n_samples = arm.planned - arm.missing
    return Value(arm.task, arm.mode, metric, estimate, n_samples, info.unit, info.higher_is_better)


def compare_modes(arms: Sequence[Arm], allow_missing: bool = False) -> list[Comparison]:
    """Compare every pair of modes on every task and pool; see `compare_pairs`."""
    by_task: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        by_task[arm.task].append(arm)
    pairs = [pair for members in by_task.values() for pair in combinations(members, 2)]
    return compare_pairs(pairs, allow_missing)


def compare_pairs(
    pairs: Iterable[tuple[Arm, Arm]], allow_missing: bool = False
) -> list[Comparison]:
    """Compare the second arm of every pair with the first, doc by doc.

    A metric that depends on how many samples a doc has is compared on docs with equal numbers; one
    that is taken at equal length, on docs that have that length in both.

    The primary family is one metric a task and pair, Holm-corrected; of a pool it is the pool's,
    not its members'. All else is exploratory, Benjamini–Hochberg-corrected. Above MAX_MISSING
    missing samples in an arm nothing is inferred from it, unless `allow_missing`.
    """
    return _corrected([found for a, b in pairs for found in _compare(a, b, allow_missing)])


def _compare(a: Arm, b: Arm, allow_missing: bool) -> Iterator[Comparison]:
    share = max(a.missing_share, b.missing_share)
    missing = f"{share:.1%} of the samples are missing" if share > MAX_MISSING else ""
    deciding = "" if a.pool and b.pool else a.scorer.primary
    shared = [name for name in a.values if name in b.values]
    entropy = [a.entropy] if a.tokens and b.tokens and a.entropy == b.entropy else []
    for metric in dict.fromkeys([a.scorer.primary, *shared, *entropy]):
        if metric in _NOT_COMPARED:
            continue
        result, dropped, test = _paired(a, b, metric)
        primary = metric == deciding
        if not (result.n or primary):  # undefined for every doc of an arm
            continue
        comparison = Comparison(
            task=a.task,
            metric=metric,
            unit=a.info(metric).unit,
            arm_a=a.name,
            arm_b=b.name,
            result=result,
            test=test,
            family="primary" if primary else "exploratory",
            primary=primary,
            correction="Holm" if primary else "Benjamini-Hochberg",
            n_docs_dropped=dropped,
            n_samples=a.planned - a.missing + b.planned - b.missing,
        )
        if missing and not allow_missing:
            comparison = _withhold(comparison, missing, "Give the run's command again to go on.")
        elif primary and not (metric in a.values and metric in b.values):
            comparison = _withhold(
                comparison,
                f"{metric} is not measured",
                "psplit-eval score RUN says why.",
            )
        elif not result.n and a.info(metric).needs_equal_samples:
            comparison = _withhold(
                comparison,
                f"{samples_a_doc(a)} samples a doc against {samples_a_doc(b)}",
                "Take as many samples a doc in both arms.",
            )
        elif not result.n and a.scorer.kind == "diversity":
            comparison = _withhold(
                comparison,
                f"{metric} is undefined for every doc",
                "Diversity needs two samples a doc or more.",
            )
        yield comparison


def samples_a_doc(arm: Arm) -> str:
    """How many samples a doc an arm has: '8', or '3 to 8'."""
    low, high = min(arm.good.values(), default=0), max(arm.good.values(), default=0)
    return str(low) if low == high else f"{low} to {high}"


def _paired(a: Arm, b: Arm, metric: str) -> tuple[Difference, int, str]:
    if metric == a.entropy:
        everywhere = a.docs | b.docs
        docs = sorted(a.tokens.keys() & b.tokens.keys())
        sums = [([x.bits[d] for d in docs], [x.tokens[d] for d in docs]) for x in (a, b)]
        name = "paired t-test on linearised ratios"
        return paired_ratio_difference(sums[0], sums[1]), len(everywhere) - len(docs), name
    left, right = a.values.get(metric, {}), b.values.get(metric, {})
    info = a.info(metric)
    docs = sorted(
        doc
        for doc in left.keys() & right.keys()
        if not (math.isnan(left[doc]) or math.isnan(right[doc]))
        and (a.good.get(doc) == b.good.get(doc) or not info.needs_equal_samples)
        and all(_at(a, name, doc) == _at(b, name, doc) for name in info.taken_at)
    )
    result = paired_mean_difference(
        np.array([left[doc] for doc in docs]), np.array([right[doc] for doc in docs])
    )
    return result, len(a.docs | b.docs) - len(docs), "paired t-test on per-doc values"


def _at(arm: Arm, metric: str, doc: int) -> float | None:
    return arm.values.get(metric, {}).get(doc)


def _withhold(comparison: Comparison, reason: str, remedy: str) -> Comparison:
    nan = math.nan
    result = replace(comparison.result, ci_low=nan, ci_high=nan, p=nan, effect_size=nan)
    return replace(comparison, result=result, withheld=reason, remedy=remedy)


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    adjusted = list(comparisons)
    for family, correct in (("primary", holm), ("exploratory", benjamini_hochberg)):
        places = [i for i, c in enumerate(comparisons) if c.family == family]
        values = correct([comparisons[i].result.p for i in places])
        for place, value in zip(places, values, strict=True):
            adjusted[place] = replace(comparisons[place], p_adjusted=value)
    return adjusted


def verdict(comparisons: Sequence[Comparison], arms: Sequence[Arm] = ()) -> str:
    """A run in a few sentences: what differs between its modes, and what that means.

    `arms`: warned of where many answers were cut.
    """
    said = _conclusion(
        comparisons,
        alone="Only one mode has samples: there is nothing to compare.",
        little="A checkpoint that was never trained in modes shows this, since a system prompt "
        "alone changes little; so does any other on too few docs.",
        much="A system prompt alone can do that: whether two policies were learnt takes a placebo "
        "comparison.",
    )
    return " ".join(part for part in (said, _of_cut(arms)) if part)


def _of_cut(arms: Sequence[Arm]) -> str:
    """A warning where the token limit decides what is right."""
    shares = {
        arm.task: (arm.truncated or 0) / max(1, arm.planned - arm.missing)
        for arm in sorted(arms, key=lambda arm: arm.truncated or 0)
        if arm.scorer.kind != "diversity"
    }
    cut = [f"{task} {share:.0%}" for task, share in shares.items() if share >= _MANY_CUT]
    if not cut:
        return ""
    return (
        f"Caution: many answers were cut at the token limit ({', '.join(cut)}) and psplit's tasks "
        "count them as wrong; raise max_tokens."
    )


def runs_verdict(comparisons: Sequence[Comparison]) -> str:
    """Two runs in a few sentences: what differs between them in the same mode."""
    return _conclusion(
        comparisons,
        alone="Nothing is in both runs: there is nothing to compare.",
        little="",
        much="The table of what differs between the runs says what else could be the reason.",
    )


def _conclusion(comparisons: Sequence[Comparison], alone: str, little: str, much: str) -> str:
    primary = [c for c in comparisons if c.primary]
    if not primary:
        return alone
    parts = _of_withheld(primary), _of_tested(primary, little, much)
    return " ".join(part for part in parts if part)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _of_withheld(primary: Sequence[Comparison]) -> str:
    withheld = [c for c in primary if c.withheld]
    if not withheld:
        return ""
    return (
        f"{len(withheld)} of {len(primary)} primary comparisons are not tested "
        f"({withheld[0].withheld}). {withheld[0].remedy}"
    )


def _of_tested(primary: Sequence[Comparison], little: str, much: str) -> str:
    tested = [c for c in primary if not c.withheld]
    if not tested:
        return ""
    if all(math.isnan(c.result.p) for c in tested):
        return (
            "Nothing can be said: in every primary comparison the docs are too few, or their "
            "differences do not vary at all (no answer right in any arm, say). Take more docs or "
            "a task of fitting difficulty."
        )
    differing = [c for c in tested if c.verdict in ("higher", "lower")]
    if not differing:
        return (
            f"No significant difference in {_counted(len(tested), 'primary comparison')} of "
            f"{min(c.result.n for c in tested)} docs or more (two-sided, Holm-corrected, alpha "
            f"{ALPHA}). {little} It is no proof of equality: the intervals say how large a "
            "difference could still be."
        ).replace("  ", " ")
    claims = "; ".join(
        f"{c.task} {c.metric}: {c.arm_b} is {c.verdict} than {c.arm_a} by "
        f"{abs(c.result.difference):.3f} (p {c.p_adjusted:.2g})"
        for c in differing
    )
    return (
        f"{len(differing)} of {len(tested)} primary comparisons are significant (two-sided, "
        f"Holm-corrected, alpha {ALPHA}): {claims}. {much}"
    )
