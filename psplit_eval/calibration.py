"""Means of human scores where a judge scored all samples and people a few of them.

Prediction-powered inference (Angelopoulos et al. 2023, arXiv 2301.09633) with power tuning (PPI++,
arXiv 2311.01453). Arrays in, estimates out.

What is estimated: the mean over docs, a sample of a population, of what people would say of a doc's
samples on average. What is assumed: *which* samples were labelled is a random draw, each with the
same chance (`draw_to_label`), and nobody changed the draw after a look at the scores. Nothing is
assumed of the judge. It may be biased, and differently so in two modes: a bad judge makes the
interval no shorter, a good one does.

**The estimate.** Of each of D docs: J, the judge's mean over its k samples; W, its labelled
samples, each counted as 1 / k; H and G, the sums of the human and of the judge's scores of these,
each times 1 / k. With J̄ the mean of J, S = Σ W, h = Σ H / S (people on the labelled samples) and
g = Σ G / S (the judge on them),

    θ(λ) = λ J̄ + Σ (H − λ G) / S = h + λ (J̄ − g).

**The influence of a doc** on it is λ α + β, with

    α = (J − J̄) / D − (G − g W) / S        β = (H − h W) / S.

A labelled doc is in both terms of α: labelled samples are part of all samples, so the two means are
not independent, as they are in the papers. The squares of the docs' influences add up to the
variance. Each mean's part is divided by √(1 − the doc's share in that mean): without a judge, or
with all samples labelled, that gives the usual s² / n exactly.

**λ** is that of least variance, −Σ αβ / Σ α², cut to [0, 1]. Tuned on the labels that it is used
with, it would bias the mean and make the interval too short (docs/judges_calibration.md). So every
doc is used with the λ of all *other* docs (cross-fitting, each doc a fold, nothing drawn at
random): θ = h + Σ λ₋ γ with γ = (J − J̄) / D − (G − J̄ W) / S, which add up to J̄ − g, and influences
λ₋ α + β. What is left of the bias is of a smaller order.

**The interval** is Student's. Degrees of freedom by Satterthwaite over labelled docs (their
effective number, (Σ W)² / Σ W², less 1, and 1 more for a λ that is tuned) and the other docs.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psplit_eval.resampling import Array
from psplit_eval.spread import UNKNOWN, Spread
from psplit_eval.stats import (
    HUGE,
    MINIMUM_DOCS,
    Difference,
    Estimate,
    mean_estimate,
    paired_mean_difference,
)

__all__ = [
    "FEW_LABELLED",
    "CalibratedDifference",
    "CalibratedMean",
    "Scores",
    "calibrated_difference",
    "calibrated_mean",
    "draw_to_label",
]

FEW_LABELLED = 50
"""With fewer labelled docs a result's note says that its interval is too short if scores are
skewed, as that of the labels alone is: it covers 91 % with 10 labels, 94 % with 50."""

_TEST = "prediction-powered t-test"
_NOTHING = 1e-9
"""What is left of a difference of equal numbers, as a share of them."""

Key = TypeVar("Key", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Scores:
    """One arm's samples that a judge scored: a mode on a task, one dimension.

    `docs`: which doc a sample is of, numbers or texts; `judge`: finite; `human`: NaN where not
    labelled; all (samples,). Raises ValueError for other shapes and for what is no number.
    """

    docs: ArrayLike
    judge: ArrayLike
    human: ArrayLike

    def __post_init__(self) -> None:
        docs = np.asarray(self.docs)
        judge, human = (np.asarray(x, dtype=np.float64) for x in (self.judge, self.human))
        if docs.ndim != 1 or not docs.shape == judge.shape == human.shape:
            raise ValueError(
                "expected a doc, a judge's and a human score of every sample, got shapes "
                f"{docs.shape}, {judge.shape} and {human.shape}"
            )
        if not (np.abs(judge) < HUGE).all():
            raise ValueError("expected finite judge's scores; leave out samples without one")
        if not ((np.abs(human) < HUGE) | np.isnan(human)).all():
            raise ValueError("expected finite human scores, or NaN where there is none")
        for name, values in (("docs", docs), ("judge", judge), ("human", human)):
            object.__setattr__(self, name, values)


@dataclass(frozen=True)
class CalibratedMean:
    """What people would say of an arm on average, and what the judge has to do with it.

    `estimate`: the calibrated mean; its n are the docs that the judge scored. `judge_weight`: λ, in
    [0, 1]; 0 is the human mean of the labelled samples, 1 trusts the judge but for its bias.
    `judge_mean`: of the judge alone; its interval is that of the *judge's* mean. `human_mean`: of
    the labelled samples alone. `judge_bias`: judge − human on the labelled samples. `labels`:
    labelled samples. `equivalent_labels`: how many labels, drawn likewise, would give as short an
    interval without a judge (labels × variance without / with the judge). `note`: what a reader has
    to know, or why a number is NaN.
    """

    estimate: Estimate
    judge_weight: float
    judge_mean: Estimate
    human_mean: Estimate
    judge_bias: Estimate
    labels: int
    equivalent_labels: float
    note: str


@dataclass(frozen=True)
class CalibratedDifference:
    """b − a, paired by doc; fields as in `CalibratedMean`, of the difference.

    `judge_weight` is one λ for both modes. `judge_bias`: the judge's bias in b less that in a: what
    the judge alone would get wrong. `labels`: in a, in b.
    """

    difference: Difference
    judge_weight: float
    judge_difference: Difference
    human_difference: Difference
    judge_bias: Estimate
    labels: tuple[int, int]
    equivalent_labels: float
    note: str


def calibrated_mean(
    scores: Scores, confidence: float = 0.95, judge_weight: float | None = None
) -> CalibratedMean:
    """Mean over docs of what people would say of a doc's samples (see the module).

    `judge_weight`: a λ in [0, 1] to use; None tunes it. The result is the human mean where the
    judge says the same of all samples and where all samples are labelled. With fewer than
    MINIMUM_DOCS labelled docs the calibrated mean is NaN; limits are NaN where human scores do not
    vary. Raises ValueError for another λ or confidence.
    """
    arm = _arm(scores)
    found = _measured(_influence(arm), _design(arm), judge_weight)
    docs, labelled = len(arm.judge), int(arm.labelled.sum())
    return CalibratedMean(
        _estimate(found.calibrated, docs, confidence),
        found.judge_weight,
        mean_estimate(arm.judge_means, confidence),
        _estimate(found.human, labelled, confidence),
        _estimate(found.bias, labelled, confidence),
        arm.labels,
        arm.labels * found.gain,
        _note(found, arm),
    )


def calibrated_difference(
    a: Scores, b: Scores, confidence: float = 0.95, judge_weight: float | None = None
) -> CalibratedDifference:
    """Mean of b minus mean of a over the docs that the judge scored in both.

    A doc may be labelled in both arms or in one; each needs MINIMUM_DOCS labelled docs, else the
    calibrated difference is NaN. One influence a doc, that on b less that on a, so what docs have
    in common cancels. λ as in `calibrated_mean`, one for both arms. `confidence` is that of
    `judge_bias`. Raises ValueError like `calibrated_mean`.
    """
    both = np.intersect1d(np.asarray(a.docs), np.asarray(b.docs))
    left, right = _arm(a, both), _arm(b, both)
    parts = _influence(left), _influence(right)
    found = _measured(parts[1] - parts[0], _design(left, right), judge_weight)
    values = [part.human_mean + float(found.weights @ part.gap) for part in parts]
    labels = left.labels, right.labels
    return CalibratedDifference(
        _difference(values, found.calibrated, len(both)),
        found.judge_weight,
        paired_mean_difference(left.judge_means, right.judge_means),
        _difference([part.human_mean for part in parts], found.human, len(both)),
        _estimate(found.bias, int((left.labelled | right.labelled).sum()), confidence),
        labels,
        sum(labels) * found.gain,
        _note(found, left, right),
    )


def draw_to_label(keys: Sequence[Key], n: int, seed: int) -> list[Key]:
    """n of the samples, drawn at random with equal chances and spread over docs.

    A key begins with its doc, as in (doc_id, sample_idx). Systematic sampling from docs in random
    order, and samples in random order within them: of a doc with k of N samples, k n / N are drawn,
    rounded up or down. The order is random, too: who stops early has labelled a draw. The same keys
    and seed give the same samples, in whatever order keys come, so one seed for two modes draws the
    same samples of the same docs in both, which makes their difference more certain. Raises
    ValueError for more samples than there are, and for a key that is there twice.
    """
    if len(set(keys)) < len(keys):
        raise ValueError("expected every sample once, got a key twice")
    if not 0 <= n <= len(keys):
        raise ValueError(f"{n} samples to label: expected 0 to {len(keys)}, all that there are")
    rng = random.Random(seed)
    docs: dict[Any, list[Key]] = defaultdict(list)
    for key in sorted(keys):
        docs[key[0]].append(key)
    order = [rng.sample(docs[doc], len(docs[doc])) for doc in rng.sample(list(docs), len(docs))]
    line = [key for samples in order for key in samples]
    start = rng.randrange(len(line)) if line else 0
    return [line[(i * len(line) + start) // n] for i in range(n)]


@dataclass(frozen=True)
class _Arm:
    """Of each doc (docs,): the J, W, H and G of the module; scores less an offset.

    The offset is one of the scores: equal scores become exact zeros.
    """

    judge: Array
    weight: Array
    human_sum: Array
    judge_sum: Array
    human_offset: float
    judge_offset: float
    labels: int
    samples: int

    @property
    def labelled(self) -> NDArray[np.bool_]:
        return self.weight > 0

    @property
    def judge_means(self) -> Array:
        return self.judge + self.judge_offset


def _arm(scores: Scores, only: NDArray[Any] | None = None) -> _Arm:
    """`only`: the docs to keep."""
    docs, judge, human = (np.asarray(x) for x in (scores.docs, scores.judge, scores.human))
    if only is not None:
        kept = np.isin(docs, only)
        docs, judge, human = docs[kept], judge[kept], human[kept]
    _, of, sizes = np.unique(docs, return_inverse=True, return_counts=True)
    known = ~np.isnan(human)
    human_offset = float(human[known][0]) if known.any() else 0.0
    judge_offset = float(judge[0]) if len(judge) else 0.0
    judge = judge - judge_offset

    def shared(values: Array) -> Array:
        sums: Array = np.bincount(of, values, len(sizes)) / sizes
        return sums

    return _Arm(
        shared(judge),
        shared(known.astype(np.float64)),
        shared(np.where(known, human - human_offset, 0.0)),
        shared(np.where(known, judge, 0.0)),
        human_offset,
        judge_offset,
        int(known.sum()),
        len(judge),
    )


@dataclass(frozen=True)
class _Influence:
    """Of one arm, or of b less a: h, g − h, and of each doc (docs,) γ, α, β, and that on g − h."""

    human_mean: float
    bias: float
    gap: Array
    slope: Array
    human: Array
    on_bias: Array

    def __sub__(self, other: _Influence) -> _Influence:
        return _Influence(
            self.human_mean - other.human_mean,
            self.bias - other.bias,
            self.gap - other.gap,
            self.slope - other.slope,
            self.human - other.human,
            self.on_bias - other.on_bias,
        )


def _influence(arm: _Arm) -> _Influence:
    n, total = np.float64(len(arm.judge)), arm.weight.sum()
    with np.errstate(divide="ignore", invalid="ignore"):  # no label, one doc: undefined
        human_mean, judged = (x.sum() / total for x in (arm.human_sum, arm.judge_sum))
        mean = arm.judge.sum() / n
        inflated = 1 / np.sqrt(1 - arm.weight / total)
        human = (arm.human_sum - human_mean * arm.weight) / total * inflated
        on_judged = (arm.judge_sum - judged * arm.weight) / total * inflated
        every = (arm.judge - mean) / n
        gap = every - (arm.judge_sum - mean * arm.weight) / total
        every = every / np.sqrt(1 - 1 / n)
    slope = every - on_judged
    if slope @ slope <= _NOTHING**2 * (every @ every + on_judged @ on_judged):
        slope, gap = np.zeros_like(slope), np.zeros_like(gap)  # all labelled, up to rounding
    offsets = arm.human_offset, arm.judge_offset - arm.human_offset
    bias = float(judged - human_mean) + offsets[1]
    return _Influence(float(human_mean) + offsets[0], bias, gap, slope, human, on_judged - human)


@dataclass(frozen=True)
class _Design:
    """Which docs (docs,) have a label in any arm, and how many they count for in the poorest arm.

    `enough`: every arm has MINIMUM_DOCS labelled docs.
    """

    labelled: NDArray[np.bool_]
    effective: float
    enough: bool

    def spread(self, centre: float, influence: Array, tuned: bool = False) -> Spread:
        inside, outside = (
            float((influence[docs] ** 2).sum()) for docs in (self.labelled, ~self.labelled)
        )
        total, n = inside + outside, len(influence)
        if not total > 0:
            return Spread(centre, 0.0, math.nan, n)
        freedom = (self.effective - 1 - tuned, float((~self.labelled).sum()) - 1)
        parts = zip((inside, outside), freedom, strict=True)
        shares = sum((part / total) ** 2 / max(1.0, degrees) for part, degrees in parts)
        return Spread(centre, math.sqrt(total), 1 / shares, n)


def _design(*arms: _Arm) -> _Design:
    labelled = np.logical_or.reduce([arm.labelled for arm in arms])
    effective = [arm.weight.sum() ** 2 / max((arm.weight**2).sum(), 1e-300) for arm in arms]
    enough = all(arm.labelled.sum() >= MINIMUM_DOCS for arm in arms)
    return _Design(labelled, float(min(effective)), enough)


@dataclass(frozen=True)
class _Measured:
    """λ, the λ₋ that each doc is used with (docs,), what they come to, and V(0) / V."""

    judge_weight: float
    weights: Array
    calibrated: Spread
    human: Spread
    bias: Spread
    gain: float


def _measured(parts: _Influence, design: _Design, judge_weight: float | None) -> _Measured:
    if judge_weight is not None and not 0 <= judge_weight <= 1:
        raise ValueError(f"judge's weight {judge_weight}: expected a number in [0, 1], or None")
    if not design.enough:
        human, bias = (replace(UNKNOWN, centre=x) for x in (parts.human_mean, parts.bias))
        nothing = np.full(len(parts.gap), math.nan)
        return _Measured(math.nan, nothing, UNKNOWN, human, bias, math.nan)
    weight, weights = _tuned(parts.slope, parts.human)
    if judge_weight is not None:
        weight, weights = judge_weight, np.full(len(weights), float(judge_weight))
    human = design.spread(parts.human_mean, parts.human)
    found = design.spread(
        parts.human_mean + float(weights @ parts.gap),
        parts.human + weights * parts.slope,
        tuned=bool(np.ptp(weights) > 0),
    )
    gain = (human.error / found.error) ** 2 if found.error else math.nan
    bias = design.spread(parts.bias, parts.on_bias)
    return _Measured(weight, weights, found, human, bias, gain)


def _tuned(slope: Array, human: Array) -> tuple[float, Array]:
    """λ of least variance, and without each doc; 0 where the judge has nothing to add."""
    products, squares = -slope * human, slope**2
    total, without = squares.sum(), squares.sum() - squares
    known = without > _NOTHING * total
    weights = np.where(known, (products.sum() - products) / np.where(known, without, 1.0), 0.0)
    weight = float(products.sum() / total) if total > 0 else 0.0
    return min(1.0, max(0.0, weight)), np.clip(weights, 0.0, 1.0)


def _estimate(spread: Spread, n: int, confidence: float) -> Estimate:
    return Estimate(spread.centre, *spread.limits(confidence), n)


def _difference(values: Sequence[float], spread: Spread, n: int) -> Difference:
    bare = Difference(values[0], values[1], UNKNOWN, math.nan, n, _TEST)
    if math.isnan(spread.error):
        return bare
    p = min(1.0, 2 * min(spread.p_below(0.0), spread.p_above(0.0))) if spread.error else math.nan
    return replace(bare, spread=spread, student=spread, p=p)


def _note(found: _Measured, *arms: _Arm) -> str:
    docs = min(int(arm.labelled.sum()) for arm in arms)
    if docs < MINIMUM_DOCS:
        return (
            f"undefined: {docs} labelled docs, expected {MINIMUM_DOCS} or more; label samples of "
            "more docs"
        )
    notes = []
    if found.human.error == 0:
        notes.append("human scores do not vary: no interval")
    if all(arm.labels == arm.samples for arm in arms):
        notes.append("all samples are labelled: the human mean")
    if docs < FEW_LABELLED:
        notes.append(
            f"{docs} labelled docs: with fewer than {FEW_LABELLED} the interval is too short if "
            "scores are skewed"
        )
    return "; ".join(notes)
