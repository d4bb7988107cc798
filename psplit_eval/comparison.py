"""From stored samples and metrics to numbers with intervals: arms, values, comparisons, verdicts.

An arm is one mode on one task. Values are per doc, so that everything downstream is paired by doc
and clustered by doc.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from psplit_eval.scoring import Scorer
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
from psplit_eval.store import Metric, Sample, Store

__all__ = [
    "ALPHA",
    "MAX_MISSING",
    "Arm",
    "Comparison",
    "Value",
    "arm_values",
    "compare_modes",
    "read_arms",
    "score_store",
    "verdict",
]

ALPHA = 0.05
MAX_MISSING = 0.01
"""Above this share of missing samples nothing is inferred."""

_NOT_COMPARED = ("accuracy_pass_at_1",)  # the same number as accuracy_avg
_NO_DIRECTION = ("entropy_bits", "tokens_mean")
_LOWER_IS_BETTER = ("truncated",)


@dataclass(frozen=True)
class Arm:
    """One mode on one task.

    `values`: metric → doc_id → value. `bits` and `tokens`: doc_id → sums over the doc's samples.
    Samples of `docs` were asked for, `planned` of them in all; `missing` could not be had,
    `truncated` were cut by the token limit, `right` are right answers (None: nothing is graded).
    """

    task: str
    mode: str
    values: Mapping[str, Mapping[int, float]]
    bits: Mapping[int, float]
    tokens: Mapping[int, int]
    planned: int
    missing: int
    truncated: int
    right: int | None
    docs: frozenset[int] = frozenset()

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
    """One metric in two modes of one task: b − a."""

    task: str
    metric: str
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


def score_store(store: Store, scorers: Mapping[str, Scorer], watch: Any = lambda _: None) -> None:
    """Compute every metric of every task again from the stored samples, and store it."""
    for task, scorer in scorers.items():
        targets = {doc.doc_id: doc.target for doc in store.docs(task)}
        cells: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        for sample in store.samples(task):
            if sample.error is None:
                cells[sample.mode, sample.doc_id].append(sample)
        metrics: list[Metric] = []
        for (_, doc_id), samples in cells.items():
            metrics += scorer.score(targets[doc_id], samples)
            watch(1)
        store.replace_metrics(task, metrics)


def read_arms(store: Store, tasks: Iterable[str], modes: Sequence[str]) -> list[Arm]:
    """Arms of the named tasks and modes, tasks first, in the order given."""
    return [arm for task in tasks for arm in _task_arms(store, task, modes)]


def _task_arms(store: Store, task: str, modes: Sequence[str]) -> list[Arm]:
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    right: dict[str, int] = defaultdict(int)
    graded = set()
    for metric in store.metrics(task):
        if metric.sample_idx is None:
            values[metric.mode][metric.metric][metric.doc_id] = metric.value
        elif metric.metric == "correct":
            graded.add(metric.mode)
            right[metric.mode] += int(metric.value)
    arms = []
    for mode in modes:
        samples = list(store.samples(task, mode))
        if not samples:  # a mode that was never asked for on this task
            continue
        good = [sample for sample in samples if sample.error is None]
        bits: dict[int, float] = defaultdict(float)
        tokens: dict[int, int] = defaultdict(int)
        for sample in good:
            bits[sample.doc_id] += sample.entropy_sum_bits or 0.0
            tokens[sample.doc_id] += sample.completion_tokens or 0
        arms.append(
            Arm(
                task=task,
                mode=mode,
                values={name: dict(docs) for name, docs in values[mode].items()},
                bits=dict(bits),
                tokens=dict(tokens),
                planned=len(samples),
                missing=len(samples) - len(good),
                truncated=sum(sample.truncated for sample in good),
                right=right[mode] if mode in graded else None,
                docs=frozenset(sample.doc_id for sample in samples),
            )
        )
    return arms


def arm_values(arm: Arm) -> list[Value]:
    """Every metric of an arm with its 95 % interval over docs; NaN docs are left out."""
    found = []
    for metric, docs in arm.values.items():
        kept = [value for value in docs.values() if not math.isnan(value)]
        found.append(_value(arm, metric, mean_estimate(kept)))
    docs_in_order = sorted(arm.tokens)
    entropy = ratio_estimate(
        [arm.bits[doc] for doc in docs_in_order], [arm.tokens[doc] for doc in docs_in_order]
    )
    found.append(_value(arm, "entropy_bits", entropy))
    return found


def _value(arm: Arm, metric: str, estimate: Estimate) -> Value:
    better = None if metric in _NO_DIRECTION else metric not in _LOWER_IS_BETTER
    unit = {"entropy_bits": "bits", "tokens_mean": "tokens"}.get(metric, "fraction")
    if unit == "fraction":  # the mean cannot leave [0, 1], so neither need its interval
        low, high = (float(np.clip(x, 0.0, 1.0)) for x in (estimate.ci_low, estimate.ci_high))
        estimate = replace(estimate, ci_low=low, ci_high=high)
    return Value(arm.task, arm.mode, metric, estimate, arm.planned - arm.missing, unit, better)


def compare_modes(
    arms: Sequence[Arm], scorers: Mapping[str, Scorer], allow_missing: bool = False
) -> list[Comparison]:
    """Compare every pair of modes on every task.

    The primary family is one metric a task and mode pair, Holm-corrected. All else is exploratory,
    Benjamini–Hochberg-corrected. Above MAX_MISSING missing samples in an arm nothing is inferred
    from it, unless `allow_missing`.
    """
    found = []
    by_task: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        by_task[arm.task].append(arm)
    for task, members in by_task.items():
        for a, b in combinations(members, 2):
            found += _compare(a, b, scorers[task].primary, allow_missing)
    return _corrected(found)


def _compare(a: Arm, b: Arm, primary: str, allow_missing: bool) -> list[Comparison]:
    share = max(a.missing_share, b.missing_share)
    withheld = f"{share:.1%} of the samples are missing" if share > MAX_MISSING else ""
    found = []
    shared = [name for name in a.values if name in b.values]
    for metric in dict.fromkeys([primary, *shared, "entropy_bits"]):
        if metric in _NOT_COMPARED:
            continue
        result, dropped, test = _paired(a, b, metric)
        comparison = Comparison(
            task=a.task,
            metric=metric,
            arm_a=a.mode,
            arm_b=b.mode,
            result=result,
            test=test,
            family="primary" if metric == primary else "exploratory",
            primary=metric == primary,
            correction="Holm" if metric == primary else "Benjamini-Hochberg",
            n_docs_dropped=dropped,
            n_samples=a.planned - a.missing + b.planned - b.missing,
        )
        if withheld and not allow_missing:
            comparison = _withhold(comparison, withheld)
        found.append(comparison)
    return found


def _paired(a: Arm, b: Arm, metric: str) -> tuple[Difference, int, str]:
    if metric == "entropy_bits":
        everywhere = a.docs | b.docs
        docs = sorted(a.tokens.keys() & b.tokens.keys())
        sums = [([x.bits[d] for d in docs], [x.tokens[d] for d in docs]) for x in (a, b)]
        name = "paired t-test on linearised ratios"
        return paired_ratio_difference(sums[0], sums[1]), len(everywhere) - len(docs), name
    left, right = a.values.get(metric, {}), b.values.get(metric, {})
    docs = sorted(
        doc
        for doc in left.keys() & right.keys()
        if not (math.isnan(left[doc]) or math.isnan(right[doc]))
    )
    result = paired_mean_difference(
        np.array([left[doc] for doc in docs]), np.array([right[doc] for doc in docs])
    )
    return result, len(a.docs | b.docs) - len(docs), "paired t-test on per-doc values"


def _withhold(comparison: Comparison, reason: str) -> Comparison:
    nan = math.nan
    result = replace(comparison.result, ci_low=nan, ci_high=nan, p=nan, effect_size=nan)
    return replace(comparison, result=result, withheld=reason)


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    adjusted = list(comparisons)
    for family, correct in (("primary", holm), ("exploratory", benjamini_hochberg)):
        places = [i for i, c in enumerate(comparisons) if c.family == family]
        values = correct([comparisons[i].result.p for i in places])
        for place, value in zip(places, values, strict=True):
            adjusted[place] = replace(comparisons[place], p_adjusted=value)
    return adjusted


def verdict(comparisons: Sequence[Comparison]) -> str:
    """The run in a few sentences: what differs between its modes, and what that means."""
    primary = [c for c in comparisons if c.primary]
    if not primary:
        return "One mode only: there is nothing to compare."
    return " ".join(part for part in (_of_withheld(primary), _of_tested(primary)) if part)


def _of_withheld(primary: Sequence[Comparison]) -> str:
    withheld = [c for c in primary if c.withheld]
    if not withheld:
        return ""
    return (
        f"{len(withheld)} of {len(primary)} primary comparisons are not tested "
        f"({withheld[0].withheld}). Give the same command again to sample what is missing."
    )


def _of_tested(primary: Sequence[Comparison]) -> str:
    tested = [c for c in primary if not c.withheld]
    if not tested:
        return ""
    if all(math.isnan(c.result.p) for c in tested):
        return (
            "Nothing can be said: in every primary comparison the docs are too few, or their "
            "differences do not vary at all (no answer right in any mode, say). Take more docs or "
            "a task of fitting difficulty."
        )
    differing = [c for c in tested if c.verdict in ("higher", "lower")]
    if not differing:
        return (
            f"Little differs: none of {len(tested)} primary comparisons is significant "
            f"(two-sided, Holm-corrected, alpha {ALPHA}). This is what a checkpoint shows that was "
            "never trained in modes: a system prompt alone changes little. It is no proof of "
            "equality: the intervals say how large a difference could still be."
        )
    claims = "; ".join(
        f"{c.task} {c.metric}: {c.arm_b} is {c.verdict} than {c.arm_a} by "
        f"{abs(c.result.difference):.3f} (p {c.p_adjusted:.2g})"
        for c in differing
    )
    return (
        f"{len(differing)} of {len(tested)} primary comparisons are significant (two-sided, "
        f"Holm-corrected, alpha {ALPHA}): {claims}. A system prompt alone can do that: whether "
        "two policies were learnt takes a placebo comparison."
    )
