"""Arms: what a run's store says of one mode on one task, a number a doc, and their estimates.

Values are per doc, so that everything downstream is paired by doc and clustered by doc.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap, Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import add
from typing import Any

from psplit_eval.accuracy import pass_at_k_variance
from psplit_eval.scoring import MetricInfo, Scorer
from psplit_eval.stats import Estimate, mean_estimate, ratio_estimate
from psplit_eval.store import Moments, Outcome, Store

__all__ = [
    "MAX_MISSING",
    "Arm",
    "Value",
    "arm_values",
    "read_arms",
    "renumbered",
    "restricted",
    "samples_a_doc",
    "with_pools",
]

MAX_MISSING = 0.01
"""Above this share of missing samples nothing is inferred."""

_EXACT, _ESTIMATED = "entropy_bits", "entropy_bits_estimate"
_PASS_AT = "accuracy_pass_at_"
_OF_SAMPLE = {"accuracy_avg": "correct"}
"""What a doc's mean is called on one sample, where that is not the same."""


@dataclass(frozen=True)
class Arm:
    """One mode on one task, or on a pool of tasks.

    `values`: metric → doc_id → value; `noise`: the same of the variance that the value has given
    the doc, where samples tell (means of two samples or more, pass@k of more than k). `bits` and
    `tokens`: doc_id → sums over the doc's samples of which the entropy is known; `entropy` is what
    the metric is called: estimates, from a server's most probable tokens, have a name of their
    own. Samples of `docs` were asked for, `planned` of them in all; `missing` could not be had,
    `truncated` were cut by the token limit (None: not known), `right` are right answers (None:
    nothing is graded); `good`: doc_id → samples that are there. `pool`: the pool that the task
    belongs to. `run`: the run's label, where arms of several are compared.
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
    noise: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

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
                values={metric: values[metric] for metric in sorted(values, key=_by_number)},
                noise=_noise(values, store.moments(task, mode)),
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


def _by_number(metric: str) -> list[tuple[int, str]]:
    """Sorts names with numbers in them by those: pass@2 before pass@16."""
    parts = re.split(r"(\d+)", metric)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _noise(
    values: Mapping[str, Mapping[int, float]], moments: Mapping[str, Mapping[int, Moments]]
) -> dict[str, dict[int, float]]:
    found = {}
    for metric, docs in values.items():
        if metric.startswith(_PASS_AT):
            k = int(metric.removeprefix(_PASS_AT))
            of_docs = {
                doc: pass_at_k_variance(m.number, round(m.total), k)
                for doc, m in moments.get("correct", {}).items()
            }
        else:
            samples = moments.get(_OF_SAMPLE.get(metric, metric), {})
            of_docs = {
                doc: m.variance / m.number
                for doc, m in samples.items()
                if math.isclose(m.total / m.number, docs.get(doc, math.nan), abs_tol=1e-9)
            }
        found[metric] = {doc: noise for doc, noise in of_docs.items() if not math.isnan(noise)}
    return found


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


def restricted(arm: Arm, docs: Collection[int]) -> Arm:
    """What the arm says of these docs; how many samples are missing is still said of all."""

    def only(values: Mapping[int, Any]) -> dict[int, Any]:
        return {doc: value for doc, value in values.items() if doc in docs}

    return replace(_changed(arm, only), docs=arm.docs & frozenset(docs))


def _moved(arm: Arm, number: Callable[[int], int]) -> Arm:
    def keys(values: Mapping[int, Any]) -> dict[int, Any]:
        return {number(doc): value for doc, value in values.items()}

    return replace(_changed(arm, keys), docs=frozenset(map(number, arm.docs)))


def _changed(arm: Arm, change: Callable[[Mapping[int, Any]], dict[int, Any]]) -> Arm:
    """The arm with another selection, or other numbers, of docs in all that it says of docs."""
    return replace(
        arm,
        values={metric: change(docs) for metric, docs in arm.values.items()},
        noise={metric: change(docs) for metric, docs in arm.noise.items()},
        bits=change(arm.bits),
        tokens=change(arm.tokens),
        good=change(arm.good),
    )


def _joined(pool: str, parts: Sequence[Arm]) -> Arm:
    shared = [name for name in parts[0].values if all(name in part.values for part in parts)]
    right = [part.right for part in parts if part.right is not None]
    truncated = [part.truncated for part in parts if part.truncated is not None]
    return replace(
        parts[0],
        task=pool,
        values={name: dict(ChainMap(*(dict(p.values[name]) for p in parts))) for name in shared},
        noise={
            name: dict(ChainMap(*(dict(p.noise.get(name, {})) for p in parts))) for name in shared
        },
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
        fraction = arm.info(metric).unit == "fraction"
        found.append(_value(arm, metric, mean_estimate(kept, fraction=fraction)))
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
    n_samples = arm.planned - arm.missing
    return Value(arm.task, arm.mode, metric, estimate, n_samples, info.unit, info.higher_is_better)


def samples_a_doc(arm: Arm) -> str:
    """How many samples a doc an arm has: '8', or '3 to 8'."""
    low, high = min(arm.good.values(), default=0), max(arm.good.values(), default=0)
    return str(low) if low == high else f"{low} to {high}"
