"""What the records of a study say: values of arms, differences between them, claims.

Values are (seeds, docs): each the mean over the evaluated checkpoints of one training on one doc.
Seeds and docs are both samples, so a statement is about a way to train on questions like these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from experiments.measuring import HELD_OUT, TRAINED
from experiments.records import Record, record_path
from experiments.records import Values as Stored
from experiments.study import BASE, MODES, Arm, Study
from psplit_eval.errors import DataError
from psplit_eval.spread import Spread
from psplit_eval.stats import Difference, crossed_difference, holm, paired_mean_difference

__all__ = [
    "METRICS",
    "MODES",
    "Claim",
    "Compared",
    "Matched",
    "Trained",
    "claims",
    "comparisons",
    "creative_comparisons",
    "creative_summary",
    "creative_tasks",
    "excess",
    "matched",
    "seed_mean",
    "summary",
    "trained_arms",
]

Values = NDArray[np.float64]

METRICS = ("accuracy", "entropy", "unique", "best of 8")
_STORED = {
    "accuracy": "accuracy_avg",
    "unique": "accuracy_unique",
    "best of 8": "accuracy_pass_at_8",
}
LEAST_GAP, LEAST_KL, LEAST_SHARE, LEAST_RATIO = 0.3, 0.1, 0.9, 2.0
"""What two modes worth the name should have: bits a token of entropy gap and of KL beyond
placebos, high's share of normal's accuracy, times as many different right answers."""

MOST_LOSS = 0.05
"""Of accuracy from trained docs to held-out ones, where these are like those."""


@dataclass(frozen=True)
class Trained:
    """An arm and its records, which all are of the same docs."""

    arm: Arm
    records: Sequence[Record]

    def values(self, metric: str, mode: str, task: str = HELD_OUT) -> Values:
        """(seeds, docs). `entropy`: bits a token of a doc's samples; others as psplit_eval has
        them, fractions and, of `unique`, a number of answers."""
        if metric == "entropy":
            return self._mean("bits", mode, task) / self._mean("tokens", mode, task)
        return self._mean(_STORED[metric], mode, task)

    def creative(self, metric: str, mode: str, task: str) -> Values:
        """(seeds, docs) of a creative task, NaN where a doc's value is not defined."""
        if metric == "entropy":
            return self.creative("bits", mode, task) / self.creative("tokens", mode, task)
        rows = [record.creative[task][mode][metric] for record in self.records]
        return np.array(rows, dtype=np.float64)

    def entropy_gap(self) -> Difference:
        """Bits a token, high less normal."""
        normal, high = (self.values("entropy", mode) for mode in MODES)
        return crossed_difference(normal, high, paired=True)

    def at_last(self, metric: str, mode: str) -> Values:
        """(seeds, docs) of held-out docs at the last checkpoint, by a stored metric."""
        last = [max(record.evaluations, key=lambda e: e.step) for record in self.records]
        return np.array([e.values[HELD_OUT][mode][_STORED[metric]] for e in last], dtype=np.float64)

    def warmed(self, metric: str) -> dict[float, Values]:
        """The same of the normal mode, by temperature, the coolest first; {} where the records have
        no other than 1."""
        known = set.intersection(*(set(record.temperatures) for record in self.records))
        found = {
            float(name): np.array(
                [record.temperatures[name][_STORED[metric]] for record in self.records],
                dtype=np.float64,
            )
            for name in known
        }
        return dict(sorted({**found, 1.0: self.at_last(metric, MODES[0])}.items())) if found else {}

    def _mean(self, stored: str, mode: str, task: str) -> Values:
        rows = [
            np.mean([each.values[task][mode][stored] for each in record.evaluations], axis=0)
            for record in self.records
        ]
        return np.array(rows, dtype=np.float64)


def trained_arms(study: Study, records: Sequence[Record]) -> list[Trained]:
    """Arms that have a record, in the study's order. Raises DataError for records of another study
    than this is now, and where docs differ."""
    for record in records:
        _check_record(study, record)
    found = [
        Trained(arm, [record for record in records if record.arm == arm.name]) for arm in study.arms
    ]
    docs = {str(e.docs): _file(record) for record in records for e in record.evaluations}
    if len(docs) > 1:
        raise DataError(
            f"records {' and '.join(docs.values())}: of different docs; delete those of an earlier "
            "config"
        )
    return [each for each in found if each.records]


def _check_record(study: Study, record: Record) -> None:
    arm = next((arm for arm in study.arms if arm.name == record.arm), None)
    if arm is None:
        fault, fix = f"arm {record.arm!r}, which is none of the study's", "or name the arm again"
    elif record.config != study.digest(arm, record.seed):
        fault, fix = "another config than the study's", "and it is trained again"
    elif record.study not in ("", study.frame(arm)):  # empty in old ones
        fault = "another start, prompts, evaluation or model than the study's"
        fix = "and it is trained again"
    else:
        return
    raise DataError(f"record {_file(record)}: of {fault}; delete it, {fix}")


def _file(record: Record) -> str:
    return record_path(Path(), record.arm, record.seed).name


def summary(trained: Trained, metric: str, mode: str, task: str = HELD_OUT) -> Difference:
    """Mean of an arm, its interval over seeds and docs: its difference to nothing at all.

    Of the base, of which there is one checkpoint, over docs only.
    """
    values = trained.values(metric, mode, task)
    return _within(trained, np.zeros_like(values), values)


def creative_summary(trained: Trained, metric: str, mode: str, task: str) -> Difference:
    """The same of a creative task, over docs whose value is defined in all seeds."""
    values = trained.creative(metric, mode, task)
    return _within(trained, np.zeros_like(values), values)


def _within(trained: Trained, a: Values, b: Values) -> Difference:
    """b less a of one arm's checkpoints; NaN where it is defined in no doc."""
    defined = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    a, b = a[:, defined], b[:, defined]
    if trained.arm.name == BASE or not defined.any():
        return paired_mean_difference(a.mean(axis=0), b.mean(axis=0))
    return crossed_difference(a, b, paired=True)


def seed_mean(record: Record, metric: str, mode: str, task: str = HELD_OUT) -> float:
    """Mean of one training over docs and evaluated checkpoints, `entropy` over all tokens; also of
    one whose answers are gone, by its reports. NaN of one that was not measured."""
    stored = _STORED.get(metric, "entropy_bits")
    known = [each.values[task][mode][stored] for each in record.means]
    for each in record.evaluations:
        values = each.values[task][mode]
        if metric == "entropy":
            known.append(float(np.nansum(values["bits"]) / np.nansum(values["tokens"])))
        else:
            known.append(fmean(values[stored]))
    return fmean(known) if known else math.nan


@dataclass(frozen=True)
class Compared:
    """`what` of an arm beside the reference (or its own other mode); p two-sided, and by Holm over
    the whole main table."""

    arm: str
    what: str
    difference: Difference
    p_adjusted: float = math.nan


def comparisons(study: Study, arms: Sequence[Trained]) -> list[Compared]:
    """The main table's differences; the base is one checkpoint, and no sample of a method."""
    by_name = {each.arm.name: each for each in arms}
    reference = by_name.get(study.reference)
    if reference is None or len(reference.records) < 2:
        return []
    plain = {metric: reference.values(metric, "normal") for metric in METRICS}
    found = []
    for each in arms:
        if not each.arm.main or each.arm.name == BASE or len(each.records) < 2:
            continue
        found.append(Compared(each.arm.name, "entropy, high less normal", each.entropy_gap()))
        if each is reference:
            continue
        for metric, mode in (("accuracy", "normal"), ("accuracy", "high"), ("unique", "high")):
            difference = crossed_difference(plain[metric], each.values(metric, mode))
            what = f"{metric}, {mode} less {study.reference}"
            found.append(Compared(each.arm.name, what, difference))
    return _corrected(found)


def _corrected(found: Sequence[Compared]) -> list[Compared]:
    adjusted = holm([each.difference.p for each in found])
    return [replace(each, p_adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def creative_tasks(arms: Sequence[Trained]) -> dict[str, list[str]]:
    """Creative task → its metrics, the one that decides first; of both what all records have.
    Raises DataError where records are decided by different ones."""
    known = [record.creative for each in arms for record in each.records]
    tasks = [task for task in (known[0] if known else ()) if all(task in each for each in known)]
    return {
        task: _shared(task, [each[task][mode] for each in known for mode in MODES])
        for task in tasks
    }


def _shared(task: str, values: Sequence[Stored]) -> list[str]:
    deciding = {next(iter(each)) for each in values}
    if len(deciding) > 1:
        raise DataError(
            f"{task}: records are decided by {' and '.join(sorted(deciding))}, expected one of "
            "them; delete the records that have the other"
        )
    names = [name for name in values[0] if all(name in each for each in values)]
    return [*(name for name in names if name not in ("bits", "tokens")), "entropy"]


def creative_comparisons(arms: Sequence[Trained]) -> list[Compared]:
    """By the metric that decides a creative task: high less normal of every arm, and each mode less
    that of the start, which is one checkpoint, so its answers count as given."""
    base = next((each for each in arms if each.arm.name == BASE), None)
    found = []
    for task, (metric, *_) in creative_tasks(arms).items():
        for each in arms:
            normal, high = (each.creative(metric, mode, task) for mode in MODES)
            what = f"{task}, high less normal"
            found.append(Compared(each.arm.name, what, _within(each, normal, high)))
            if base is None or each is base:
                continue
            for mode, after in zip(MODES, (normal, high), strict=True):
                before = base.creative(metric, mode, task).mean(axis=0)
                difference = _within(each, np.broadcast_to(before, after.shape), after)
                found.append(Compared(each.arm.name, f"{task}, {mode} less {BASE}'s", difference))
    return _corrected(found)


@dataclass(frozen=True)
class Matched:
    """An arm's high mode beside one policy, `other`'s normal mode, sampled at the temperature at
    which that has as many different right answers a question, or the most that it has.

    `unique`: of both, that of `other` first. `difference`: of accuracy, high less that; p
    two-sided, and by Holm over all of a study."""

    arm: str
    other: str
    temperature: float
    unique: tuple[float, float]
    difference: Difference
    p_adjusted: float = math.nan


def matched(study: Study, arms: Sequence[Trained]) -> list[Matched]:
    """Every candidate beside the start and the reference; [] where these were sampled at 1 only."""
    by_name = {each.arm.name: each for each in arms}
    others = [by_name[name] for name in (BASE, study.reference) if name in by_name]
    ours = [by_name[name] for name in study.candidates if name in by_name]
    found = [_matched(each, other) for each in ours for other in others if other.warmed("unique")]
    adjusted = holm([each.difference.p for each in found])
    return [replace(each, p_adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def _matched(ours: Trained, other: Trained) -> Matched:
    unique, right = ours.at_last("unique", "high"), ours.at_last("accuracy", "high")
    counts = {t: float(values.mean()) for t, values in other.warmed("unique").items()}
    accuracies, weights = other.warmed("accuracy"), _between(counts, float(unique.mean()))
    temperature = sum(weight * t for t, weight in weights.items())
    count = sum(weight * counts[t] for t, weight in weights.items())
    theirs = np.sum([weight * accuracies[t] for t, weight in weights.items()], axis=0)
    if other.arm.name == BASE:  # one checkpoint, whose answers count as given
        before = np.broadcast_to(theirs.mean(axis=0), right.shape)
        difference = _within(ours, before, right)
    else:
        difference = crossed_difference(theirs, right)
    both = count, float(unique.mean())
    return Matched(ours.arm.name, other.arm.name, temperature, both, difference)


def _between(counts: Mapping[float, float], wanted: float) -> dict[float, float]:
    """Weights of the coolest temperatures between which a count passes what is wanted, by linear
    interpolation; of the one with the highest count where none does."""
    grid = list(counts)
    if counts[grid[0]] >= wanted:
        return {grid[0]: 1.0}
    for cool, warm in pairwise(grid):
        if counts[warm] >= wanted:
            share = (wanted - counts[cool]) / (counts[warm] - counts[cool])
            return {cool: 1 - share, warm: share}
    return {max(grid, key=counts.__getitem__): 1.0}


@dataclass(frozen=True)
class Claim:
    """Something wanted of an arm: that `value` is above `wanted`. One-sided p that it is not, by
    Holm over all claims of a study, NaN where it is not known; `low`, `high`: 95 % interval. What
    is `counted` has no p: all seeds or not."""

    arm: str
    words: str
    value: float
    low: float
    high: float
    wanted: float
    p: float
    p_adjusted: float = math.nan
    counted: bool = False

    @property
    def answer(self) -> str:
        """yes, no (shown to be below), or inconclusive."""
        if self.counted:
            return "yes" if self.value >= self.wanted else "no"
        if self.p_adjusted < 0.05:
            return "yes"
        return "no" if self.high < self.wanted else "inconclusive"


def claims(study: Study, arms: Sequence[Trained]) -> list[Claim]:
    """What the study wants of its candidates; nothing of one, or of any before the reference, has
    two seeds."""
    known = {each.arm.name: each for each in arms if len(each.records) > 1}
    plain = known.get(study.reference)
    ours = [known[name] for name in study.candidates if name in known]
    if plain is None:
        return []
    found = [claim for each in ours for claim in _claims(each, plain, study.margin)]
    adjusted = iter(holm([claim.p for claim in found if not claim.counted]))
    return [
        claim if claim.counted else replace(claim, p_adjusted=next(adjusted)) for claim in found
    ]


def _claims(ours: Trained, plain: Trained, margin: float) -> Iterator[Claim]:
    yield from _right(ours, plain, margin)
    words = f"entropy, high less normal: above {LEAST_GAP:g} bits"
    yield _of_difference(ours, words, ours.entropy_gap(), LEAST_GAP)
    yield from _diverse(ours, plain)
    yield from (_generalises(ours, mode) for mode in MODES)
    yield _beyond_placebos(ours)
    yield _stable(ours)


def _right(ours: Trained, plain: Trained, margin: float) -> Iterator[Claim]:
    normal, high = (ours.values("accuracy", mode) for mode in MODES)
    yield _of_difference(
        ours,
        f"accuracy, normal less {plain.arm.name}'s: above −{margin:g}",
        crossed_difference(plain.values("accuracy", MODES[0]), normal),
        -margin,
    )
    yield _of_difference(
        ours,
        f"accuracy, high less {LEAST_SHARE:g} × normal: above 0",
        crossed_difference(LEAST_SHARE * normal, high, paired=True),
    )


def _diverse(ours: Trained, plain: Trained) -> Iterator[Claim]:
    normal, high = (ours.values("unique", mode) for mode in MODES)
    words = f"unique right answers, high at least {LEAST_RATIO:g} × {{}}'s: difference above 0"
    yield _of_difference(
        ours,
        words.format(plain.arm.name),
        crossed_difference(LEAST_RATIO * plain.values("unique", MODES[0]), high),
    )
    yield _of_difference(
        ours, words.format("normal"), crossed_difference(LEAST_RATIO * normal, high, paired=True)
    )


def _of_difference(ours: Trained, words: str, found: Difference, wanted: float = 0.0) -> Claim:
    return replace(_of_spread(ours, words, found.spread, wanted), value=found.difference)


def _of_spread(ours: Trained, words: str, spread: Spread, wanted: float) -> Claim:
    p = spread.p_below(wanted)
    return Claim(ours.arm.name, words, spread.centre, *spread.limits(), wanted, p)


def _generalises(ours: Trained, mode: str) -> Claim:
    """Docs of the two tasks are others, so their chance is that of each task's own docs."""
    held, trained = (ours.values("accuracy", mode, task) for task in (HELD_OUT, TRAINED))
    parts = [summary(ours, "accuracy", mode, task).spread for task in (HELD_OUT, TRAINED)]
    error, freedom = math.hypot(*(p.error for p in parts)), min(p.freedom for p in parts)
    spread = Spread(float(held.mean() - trained.mean()), error, freedom, held.size)
    words = f"accuracy, {mode}, held-out less trained docs: above −{MOST_LOSS:g}"
    return _of_spread(ours, words, spread, -MOST_LOSS)


def excess(record: Record, mode: str = "high", measure: str = "kl") -> float:
    """KL (or entropy) of a prompt less that of the placebo that comes nearest, bits a token: by
    what it goes beyond all of them. So of `low`, which is meant to have less entropy than they, it
    is below 0 where it has. The normal mode, which psplit-eval's answer to *split* counts as one of
    them (of entropy), is none here. NaN where one of them is undefined."""
    split = next(each for each in record.splits if each["mode"] == mode)
    beside = (e for e in split["beyond_placebos"] if e.get("placebo") != MODES[0])
    found = [e["excess"] for e in beside if e["measure"] == measure]
    nearest = max if (mode, measure) == ("low", "entropy") else min
    return math.nan if None in found or not found else nearest(found)


def _beyond_placebos(ours: Trained) -> Claim:
    """Over seeds, as a training has one number."""
    values = np.array([excess(record) for record in ours.records], dtype=np.float64)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    spread = Spread(float(values.mean()), error, len(values) - 1, len(values))
    words = f"KL of high beyond the nearest placebo: above {LEAST_KL:g} bits"
    return _of_spread(ours, words, spread, LEAST_KL)


def _stable(ours: Trained) -> Claim:
    calm = fmean(not record.alarms for record in ours.records)
    words = "share of seeds without an alarm: all"
    return Claim(ours.arm.name, words, calm, math.nan, math.nan, 1.0, math.nan, counted=True)
