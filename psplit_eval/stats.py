"""Paired inference on arrays, with docs as clusters. Knows nothing of models.

One number a doc goes in, made of all its samples, so k samples of one question never count as k
questions. Unless a function says otherwise, docs are a sample of a population and the estimand is a
mean over that population.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from psplit_eval.resampling import MEAN, RATIO, Array, Quantity, difference_of, error, swap_test

__all__ = [
    "FEW_DOCS",
    "MINIMUM_DOCS",
    "Difference",
    "Estimate",
    "Spread",
    "benjamini_hochberg",
    "crossed_difference",
    "fixed_docs_difference",
    "holm",
    "mcnemar_difference",
    "mean_estimate",
    "paired_mean_difference",
    "paired_ratio_difference",
    "ratio_estimate",
    "stratified_difference",
    "wilcoxon_p",
]

MINIMUM_DOCS = 5
"""With fewer docs no interval and no p-value is given."""
FEW_DOCS = 10
"""Where fewer docs than this differ at all, p is that of the exact swap test, not Student's: four
docs that differ, all in one direction, are p 0.125 and not 0.04, however many docs agree."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval; NaN limits where the interval is undefined."""

    value: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True)
class Spread:
    """What is known of the truth around an estimate: Student's t, with `error` as its scale.

    `error` 0: all n docs gave `centre`, in a unit whose values lie within `reach` of it on each
    side. NaN: nothing is known.
    """

    centre: float
    error: float
    freedom: float
    n: int
    reach: tuple[float, float] = (math.inf, math.inf)

    def limits(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided interval; NaN where nothing is known."""
        from scipy.special import stdtrit

        if self.error != 0:
            half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
            return self.centre - half, self.centre + half
        unseen = 1 - ((1 - confidence) / 2) ** (1 / self.n)  # share of docs that may be otherwise
        low, high = (unseen * reach for reach in self.reach)
        if math.isinf(low + high):
            return math.nan, math.nan
        return self.centre - low, self.centre + high

    def p_below(self, value: float) -> float:
        """One-sided p-value of the hypothesis that the truth is at or below `value`."""
        from scipy.special import stdtr

        if self.error != 0:
            return float(stdtr(self.freedom, (value - self.centre) / self.error))
        return self._p_constant(self.centre - value, self.reach[0])

    def p_above(self, value: float) -> float:
        """One-sided p-value of the hypothesis that the truth is at or above `value`."""
        from scipy.special import stdtr

        if self.error != 0:
            return float(stdtr(self.freedom, (self.centre - value) / self.error))
        return self._p_constant(value - self.centre, self.reach[1])

    def _p_constant(self, gap: float, reach: float) -> float:
        """For the truth to lie `gap` off, a share gap / reach of docs has to be otherwise."""
        if math.isinf(reach):
            return math.nan
        return 1.0 if gap <= 0 or reach <= 0 else max(0.0, 1 - gap / reach) ** self.n


UNKNOWN = Spread(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Difference:
    """b − a over n paired docs.

    `p` is two-sided, by `test`. `effect_size` is Cohen's d_z: mean over standard deviation of the
    docs' differences. Below MINIMUM_DOCS nothing but the values is given. Where the differences do
    not vary at all, p is the swap test's; the interval of a fraction says how many docs could be
    otherwise unseen (1 − (α/2)^(1/n) of them, the exact binomial limit at 0), that of any other
    unit and the effect size are NaN.
    """

    value_a: float
    value_b: float
    spread: Spread
    p: float
    n: int
    test: str = ""
    effect_size: float = math.nan

    @property
    def difference(self) -> float:
        return self.value_b - self.value_a

    @property
    def ci_low(self) -> float:
        """Lower limit of the 95 % interval."""
        return self.spread.limits()[0]

    @property
    def ci_high(self) -> float:
        """Upper limit of the 95 % interval."""
        return self.spread.limits()[1]

    def bare(self) -> Difference:
        """The values alone, without inference."""
        return replace(self, spread=UNKNOWN, p=math.nan, effect_size=math.nan)


def mean_estimate(values: ArrayLike, confidence: float = 0.95, fraction: bool = False) -> Estimate:
    """Mean over docs; values (docs,), without NaN.

    Student's t interval. Of a `fraction`, in [0, 1], it is Wilson's score interval (1927) with the
    docs' effective number m (1 − m) / s² in the place of n and Student's quantile: Student's own is
    too short on one side near 0 and 1. All docs equal: see `Spread`.
    """
    array = _checked(values)
    centre, n = _mean(array), len(array)
    if n < MINIMUM_DOCS:
        return Estimate(centre, math.nan, math.nan, n)
    reach = (centre, 1 - centre) if fraction else None
    spread = _spread(array[:, None], MEAN, centre, reach)
    if fraction and spread.error > 0:
        return Estimate(centre, *_score_limits(spread, confidence), n)
    return Estimate(centre, *spread.limits(confidence), n)


def _score_limits(spread: Spread, confidence: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    mean, t = spread.centre, float(stdtrit(spread.freedom, (1 + confidence) / 2))
    docs = mean * (1 - mean) / spread.error**2
    middle = (mean + t * t / (2 * docs)) / (1 + t * t / docs)
    half = t / (1 + t * t / docs) * math.sqrt(mean * (1 - mean) / docs + (t / docs) ** 2 / 4)
    return middle - half, middle + half


def ratio_estimate(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """Σ numerators / Σ denominators with docs as clusters; both (docs,).

    Student's t interval on linearised values (Cochran, Sampling Techniques, 1977, section 6.3).
    NaN where the denominators sum to 0.
    """
    rows = np.stack([_checked(numerators), _checked(denominators)], axis=1)
    centre, n = _value(rows, RATIO), len(rows)
    if n < MINIMUM_DOCS or math.isnan(centre):
        return Estimate(centre, math.nan, math.nan, n)
    return Estimate(centre, *_spread(rows, RATIO, centre).limits(confidence), n)


def paired_mean_difference(a: ArrayLike, b: ArrayLike, fraction: bool = False) -> Difference:
    """Mean of b minus mean of a over the same docs; both (docs,), without NaN.

    Paired t-test on per-doc values (Miller 2024, arXiv 2411.00640, section 4.2). Where fewer than
    FEW_DOCS docs differ, p is that of the exact swap test, the interval stays Student's: the test
    decides. `fraction`: values lie in [0, 1].
    """
    left, right = _checked(a), _checked(b)
    return _paired(left[:, None], right[:, None], MEAN, fraction)


def paired_ratio_difference(
    a: tuple[ArrayLike, ArrayLike], b: tuple[ArrayLike, ArrayLike]
) -> Difference:
    """Difference of two ratios of sums, (numerators, denominators) over the same docs.

    Paired t-test on linearised per-doc values; few docs as in `paired_mean_difference`.
    """
    left, right = (np.stack([_checked(up), _checked(down)], axis=1) for up, down in (a, b))
    return _paired(left, right, RATIO, fraction=False)


def mcnemar_difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """Share of ones in b minus that in a, one 0 or 1 a doc; both (docs,).

    McNemar's test in its mid-p form (Fagerland, Lydersen and Laake 2013), which keeps its level
    where the exact one is too careful; the interval is Student's. Raises ValueError for other
    values than 0 and 1: with more than one sample a doc, compare per-doc means.
    """
    from scipy.stats import binom

    left, right = _checked(a), _checked(b)
    if not np.isin(np.concatenate([left, right]), (0.0, 1.0)).all():
        raise ValueError("McNemar's test: expected one 0 or 1 a doc; compare per-doc means instead")
    found = _paired(left[:, None], right[:, None], MEAN, fraction=True)
    if found.n < MINIMUM_DOCS:
        return found
    up, down = int((right > left).sum()), int((right < left).sum())
    tail = binom.cdf(min(up, down), up + down, 0.5) - binom.pmf(min(up, down), up + down, 0.5) / 2
    p = min(1.0, 2 * float(tail)) if up + down else 1.0
    return replace(found, p=p, test="McNemar's test, mid-p")


def fixed_docs_difference(
    a: ArrayLike, b: ArrayLike, noise_a: ArrayLike, noise_b: ArrayLike
) -> Difference:
    """Mean of b minus mean of a, the docs being all there is: only their samples are drawn.

    `noise`: of every doc the estimated variance of its value given the doc (s² / k for a mean of k
    samples); all (docs,). Student's t, degrees of freedom by Satterthwaite over docs. It answers
    whether the arms differ on *this* benchmark, not on questions like these. NaN where no doc's
    samples vary.
    """
    left, right = _checked(a), _checked(b)
    noise = _checked(noise_a) + _checked(noise_b)
    n, total = len(left), float(noise.sum())
    bare = Difference(_mean(left), _mean(right), UNKNOWN, math.nan, n, "t-test given the docs")
    if n < MINIMUM_DOCS or not total > 0:
        return bare
    scale = math.sqrt(total) / n
    freedom = max(1.0, total**2 / float((noise**2).sum()))
    spread = Spread(bare.difference, scale, freedom, n)
    return replace(bare, spread=spread, p=_two_sided(spread))


def stratified_difference(tasks: Sequence[tuple[ArrayLike, ArrayLike]]) -> Difference:
    """Plain mean over tasks of each task's paired difference; each is (a, b), both (docs,).

    Tasks are fixed and weigh the same, whatever their sizes; docs are sampled inside them. Standard
    errors add up in squares, degrees of freedom by Satterthwaite. NaN where a task has fewer than
    MINIMUM_DOCS docs, or no difference varies.
    """
    pairs = [(_checked(a), _checked(b)) for a, b in tasks]
    value_a, value_b = (
        math.fsum(_mean(pair[arm]) for pair in pairs) / len(pairs) for arm in (0, 1)
    )
    n = sum(len(a) for a, _ in pairs)
    bare = Difference(value_a, value_b, UNKNOWN, math.nan, n, "t-test stratified by task")
    if min(len(a) for a, _ in pairs) < MINIMUM_DOCS:
        return bare
    gaps = [b - a for a, b in pairs]
    squares = [float(gap.var(ddof=1)) / len(gap) / len(pairs) ** 2 for gap in gaps]
    total = sum(squares)
    if not total > _ROUNDING**2:
        return bare
    parts = zip(squares, gaps, strict=True)
    freedom = total**2 / sum(square**2 / (len(gap) - 1) for square, gap in parts)
    spread = Spread(bare.difference, math.sqrt(total), freedom, n)
    return replace(bare, spread=spread, p=_two_sided(spread))


def crossed_difference(a: ArrayLike, b: ArrayLike, paired: bool = False) -> Difference:
    """Mean of b minus mean of a, where several checkpoints (training seeds, say) answer the docs.

    Both (checkpoints, docs), of the same docs; `paired`: row i of a and of b belong together, too
    (one seed, say). Checkpoints and docs are both samples: it is a claim about the training method.
    Two-way clustered variance (Cameron, Gelbach and Miller 2011): of checkpoints, plus of docs,
    less of their crossing, never less than the largest of them. Degrees of freedom by Cochran and
    Cox: with few checkpoints the level is 5 % or below (docs/error_rates.md). One checkpoint in an
    arm tells nothing of their spread: NaN.
    """
    left, right = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (a, b))
    if left.shape[1] != right.shape[1] or (paired and len(left) != len(right)):
        raise ValueError(f"expected the same docs in both arms, got {left.shape} and {right.shape}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("expected finite numbers; leave out docs that a checkpoint did not answer")
    n = left.shape[1]
    bare = Difference(
        float(left.mean()), float(right.mean()), UNKNOWN, math.nan, n, "two-way clustered t-test"
    )
    if min(len(left), len(right)) < 2 or n < MINIMUM_DOCS:
        return bare
    arms = [right - left] if paired else [left, right]
    by_doc = float((right.mean(axis=0) - left.mean(axis=0)).var(ddof=1)) / n
    by_row = [float(arm.mean(axis=1).var(ddof=1)) / len(arm) for arm in arms]
    crossing = sum(_crossing(arm) for arm in arms)
    total = max(by_doc + sum(by_row) - crossing, by_doc, *by_row)
    if not total > _ROUNDING**2:
        return bare
    parts = zip(by_row, arms, strict=True)
    pooled = sum(s**2 / (len(arm) - 1) for s, arm in parts)
    rows = sum(by_row), sum(by_row) ** 2 / pooled if pooled else math.inf
    spread = Spread(bare.difference, math.sqrt(total), _cautious_freedom((by_doc, n - 1), rows), n)
    return replace(bare, spread=spread, p=_two_sided(spread))


def _cautious_freedom(*parts: tuple[float, float]) -> float:
    """Degrees of freedom for a sum of (variance, its degrees of freedom).

    Those whose 97.5 % quantile is the mean of the parts' quantiles, weighted by variance (Cochran
    and Cox, Experimental Designs, 1950). Satterthwaite's believe a part of two
    degrees of freedom when it comes out small by chance, and claim too often.
    """
    from scipy.special import stdtridf, stdtrit

    total = sum(variance for variance, _ in parts)
    quantile = sum(variance * float(stdtrit(f, 0.975)) for variance, f in parts) / total
    return float(stdtridf(0.975, quantile))


def _crossing(arm: Array) -> float:
    """Variance of the mean that comes from single cells: what rows and columns both count."""
    rows, columns = map(int, arm.shape)
    rest = arm - arm.mean(axis=0) - arm.mean(axis=1, keepdims=True) + arm.mean()
    freedom = (rows - 1) * (columns - 1)
    return float((rest**2).sum()) / freedom / (rows * columns)


def wilcoxon_p(a: ArrayLike, b: ArrayLike) -> float:
    """Wilcoxon's signed-rank test of per-doc values, two-sided; both (docs,).

    Its null hypothesis is that differences are symmetric around 0: a check on the mean, not a test
    of it. Exact for up to 50 docs without ties, else by the normal approximation. 1 where no doc
    differs, NaN below MINIMUM_DOCS.
    """
    from scipy.stats import wilcoxon

    gaps = _checked(b) - _checked(a)
    if len(gaps) < MINIMUM_DOCS:
        return math.nan
    if not gaps.any():
        return 1.0
    plain = len(gaps) <= 50 and len(np.unique(np.abs(gaps))) == len(gaps) and gaps.all()
    return float(wilcoxon(gaps, method="exact" if plain else "asymptotic").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given.

    Controls the chance of any false claim in the family (Holm 1979). NaN stays NaN but counts as
    a member of the family.
    """

    def step_down(ordered: Array, m: int) -> Array:
        return np.maximum.accumulate(ordered * np.arange(m, 0, -1))

    return _adjusted(p_values, step_down)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini–Hochberg adjusted p-values, in the order given.

    Controls the expected share of false claims (Benjamini and Hochberg 1995). NaN stays NaN but
    counts as a member of the family.
    """

    def step_up(ordered: Array, m: int) -> Array:
        scaled: Array = ordered * m / np.arange(1, m + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjusted(p_values, step_up)


def _adjusted(p_values: Sequence[float], method: Callable[[Array, int], Array]) -> list[float]:
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")  # NaN comes last
    ordered = np.nan_to_num(p[order], nan=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(method(ordered, len(p)), 1.0)
    adjusted[np.isnan(p)] = np.nan
    return [float(value) for value in adjusted]


def _checked(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"expected one finite number a doc, got shape {array.shape}")
    return array


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


def _paired(left: Array, right: Array, quantity: Quantity, fraction: bool) -> Difference:
    if len(left) != len(right):
        raise ValueError(f"expected the same docs in both arms, got {len(left)} and {len(right)}")
    n, test = len(left), _T_TESTS[quantity is MEAN]
    bare = Difference(_value(left, quantity), _value(right, quantity), UNKNOWN, math.nan, n, test)
    gap = bare.difference
    if n < MINIMUM_DOCS or math.isnan(gap):
        return bare
    differing = int(np.any(left != right, axis=1).sum())
    reach = (1 + gap, 1 - gap) if fraction else None
    rows = np.hstack([left, right])
    spread = _spread(rows, difference_of(quantity), gap, reach)
    if differing < FEW_DOCS or spread.error == 0:
        p, test = swap_test(left, right, quantity), "swap test of docs"
    else:
        p = _two_sided(spread)
    size = gap / (spread.error * math.sqrt(n)) if spread.error else math.nan
    return replace(bare, spread=spread, p=p, effect_size=size, test=test)


_T_TESTS = {True: "paired t-test on per-doc values", False: "paired t-test on linearised ratios"}


def _value(rows: Array, quantity: Quantity) -> float:
    value = float(quantity.value(rows.mean(axis=0))) if len(rows) else math.nan
    return value if math.isfinite(value) else math.nan


def _spread(
    rows: Array, quantity: Quantity, centre: float, reach: tuple[float, float] | None = None
) -> Spread:
    scale = error(rows, quantity)
    if not scale > _ROUNDING:
        return Spread(centre, 0.0, math.nan, len(rows), reach or (math.inf, math.inf))
    return Spread(centre, scale, len(rows) - 1, len(rows))


def _two_sided(spread: Spread) -> float:
    return min(1.0, 2 * min(spread.p_below(0.0), spread.p_above(0.0)))
