"""Paired inference on arrays, with docs as clusters. Knows nothing of models.

One number a doc goes in, made of all its samples, so k samples of one question never count as k
questions. Unless a function says otherwise, docs are a sample of a population and the estimand is a
mean over that population.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from psplit_eval.files import defined
from psplit_eval.resampling import MEAN, RATIO, Array, Quantity, difference_of, error, swap_test
from psplit_eval.spread import UNKNOWN, Composite, Discordant, Share, Spread

__all__ = [
    "FEW_DOCS",
    "GIVEN_TEST",
    "HUGE",
    "MINIMUM_DOCS",
    "Difference",
    "Estimate",
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

GIVEN_TEST = "t-test given the docs"
"""What a difference of docs as given is tested by."""

HUGE = 1e100
"""Numbers as large as this are refused: their squares would overflow."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval; NaN limits where the interval is undefined."""

    value: float
    ci_low: float
    ci_high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """For result files; undefined numbers are null."""
        return {name: defined(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Difference:
    """b − a over n paired docs.

    `p` is two-sided, by `test`. `differing`: docs that are not the same in both arms (None: not
    looked at). `student`: Student's spread, also where `spread`, which the interval is of, is
    another. `effect_size` is Cohen's d_z: mean over standard deviation of the docs' differences.
    Below MINIMUM_DOCS nothing but the values is given. Where the differences do not vary at all, p
    is the swap test's; the interval of a fraction says how many docs could be otherwise unseen
    (1 − (α/2)^(1/n) of them, the exact binomial limit at 0), that of any other unit and the effect
    size are NaN.
    """

    value_a: float
    value_b: float
    spread: Spread
    p: float
    n: int
    test: str = ""
    effect_size: float = math.nan
    differing: int | None = None
    student: Spread = UNKNOWN

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
        known = replace(self, p=math.nan, effect_size=math.nan)
        return replace(known, spread=UNKNOWN, student=UNKNOWN)


def mean_estimate(values: ArrayLike, confidence: float = 0.95, fraction: bool = False) -> Estimate:
    """Mean over docs; values (docs,), without NaN.

    Student's t interval. Of a `fraction`, in [0, 1], it is Wilson's score interval (1927) with the
    docs' effective number m (1 − m) / s² in the place of n and Student's quantile: Student's own is
    too short on one side near 0 and 1. All docs equal: see `Spread`. Raises ValueError for what is
    no finite number, and for a fraction outside [0, 1].
    """
    array = _checked(values)
    if fraction:
        _check_fractions(array)
    centre, n = _mean(array), len(array)
    if n < MINIMUM_DOCS:
        return Estimate(centre, math.nan, math.nan, n)
    reach = (centre, 1 - centre) if fraction else None
    spread = _spread(array[:, None], MEAN, centre, reach)
    if fraction and spread.error > 0:
        return Estimate(centre, *Share.of(spread).limits(confidence), n)
    return Estimate(centre, *spread.limits(confidence), n)


def ratio_estimate(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """Σ numerators / Σ denominators with docs as clusters; both (docs,).

    Student's t interval on linearised values (Cochran, Sampling Techniques, 1977, section 6.3).
    NaN where the denominators sum to 0.
    """
    rows = _columns(numerators, denominators)
    centre, n = _value(rows, RATIO), len(rows)
    if n < MINIMUM_DOCS or math.isnan(centre):
        return Estimate(centre, math.nan, math.nan, n)
    return Estimate(centre, *_spread(rows, RATIO, centre).limits(confidence), n)


def paired_mean_difference(a: ArrayLike, b: ArrayLike, fraction: bool = False) -> Difference:
    """Mean of b minus mean of a over the same docs; both (docs,), without NaN.

    Paired t-test on per-doc values (Miller 2024, arXiv 2411.00640, section 4.2). Where fewer than
    FEW_DOCS docs differ, p is that of the exact swap test; the interval stays Student's, but of a
    `fraction`, whose values lie in [0, 1], it is Bonett and Price's (2012, two docs added, that
    differ by 1 and by −1), since claims against a margin are read from it.
    """
    left, right = _checked(a), _checked(b)
    if fraction:
        _check_fractions(left, right)
    return _paired(left[:, None], right[:, None], MEAN, fraction)


def paired_ratio_difference(
    a: tuple[ArrayLike, ArrayLike], b: tuple[ArrayLike, ArrayLike]
) -> Difference:
    """Difference of two ratios of sums, (numerators, denominators) over the same docs.

    Paired t-test on linearised per-doc values; few docs as in `paired_mean_difference`.
    """
    left, right = (_columns(up, down) for up, down in (a, b))
    return _paired(left, right, RATIO, fraction=False)


def mcnemar_difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """Share of ones in b minus that in a, one 0 or 1 a doc; both (docs,).

    McNemar's test in its mid-p form (Fagerland, Lydersen and Laake 2013), which keeps its level
    where the exact one is too careful, and Tango's score interval (`Discordant`). Raises ValueError
    for other values than 0 and 1: of several samples a doc, compare per-doc means.
    """
    from scipy.special import bdtr

    left, right = _checked(a), _checked(b)
    if not np.isin(np.concatenate([left, right]), (0.0, 1.0)).all():
        raise ValueError("McNemar's test: expected one 0 or 1 a doc; compare per-doc means instead")
    found = _paired(left[:, None], right[:, None], MEAN, fraction=True)
    if found.n < MINIMUM_DOCS:
        return found
    up, down = int((right > left).sum()), int((right < left).sum())
    less, count = min(up, down), up + down
    below = float(bdtr(less - 1, count, 0.5)) if less else 0.0
    p = min(1.0, float(bdtr(less, count, 0.5)) + below)  # both tails, half of what was seen
    scale = _with_two_docs((right - left)[:, None]).error  # for whom Student's will do
    spread = Discordant(found.difference, scale, found.n - 1, found.n, gains=up, losses=down)
    return replace(found, p=p, spread=spread, test="McNemar's test, mid-p")


def fixed_docs_difference(
    a: ArrayLike,
    b: ArrayLike,
    noise: tuple[ArrayLike, ArrayLike],
    samples: tuple[ArrayLike, ArrayLike],
) -> Difference:
    """Mean of b minus mean of a, the docs being all there is: only their samples are drawn.

    `noise` of a and of b: of every doc the estimated variance of its value given the doc (s² / k
    for a mean of k samples), and `samples`: k, at least 2; all (docs,). It answers whether the arms
    differ on *this* benchmark, not on questions like these. Student's t; degrees of freedom by
    Satterthwaite over docs and arms, from unbiased squares of the variances (those of k samples are
    (k + 1) / (k − 1) times too large on average). NaN where no doc's samples vary.
    """
    left, right, *rest = (_checked(values) for values in (a, b, *noise, *samples))
    if len({len(left), len(right), *map(len, rest)}) > 1:
        raise ValueError("expected the same docs in both arms, in noise and in samples")
    noises, counts = np.array(rest[:2]), np.array(rest[2:])
    if (noises < 0).any() or (counts < 2).any():
        raise ValueError("expected of each doc a noise not below 0, from 2 samples or more")
    n, total = len(left), float(noises.sum())
    bare = Difference(_mean(left), _mean(right), UNKNOWN, math.nan, n, GIVEN_TEST)
    if n < MINIMUM_DOCS or not total > 0:
        return bare
    scale = math.sqrt(total) / n
    freedom = max(1.0, total**2 / float((noises**2 / (counts + 1)).sum()))
    spread = Spread(bare.difference, scale, freedom, n)
    return replace(bare, spread=spread, student=spread, p=_two_sided(spread))


def stratified_difference(tasks: Sequence[Difference]) -> Difference:
    """Plain mean over tasks of their differences, which are independent of each other.

    Tasks are fixed and weigh the same, whatever their sizes; docs are as each difference takes
    them. Standard errors add up in squares, degrees of freedom by Satterthwaite. Where fewer than
    FEW_DOCS docs differ in all tasks together, errors are those of their intervals, else Student's.
    A task of fractions whose docs all differ alike is not certain: two docs are added to it. NaN
    where nothing is known of a task's spread, or none of the differences varies, in units without a
    range. Raises ValueError without tasks.
    """
    if not tasks:
        raise ValueError("expected one task or more, got none")
    value_a, value_b = (
        math.fsum(values) / len(tasks) for values in zip(*map(_values, tasks), strict=True)
    )
    n, few = sum(task.n for task in tasks), sum(_differing(task) for task in tasks) < FEW_DOCS
    known = [_not_certain(task.spread if few else task.student) for task in tasks]
    bare = Difference(value_a, value_b, UNKNOWN, math.nan, n, "t-test stratified by task")
    squares = [(spread.error / len(tasks)) ** 2 for spread in known]
    total = math.fsum(squares)
    if not total > 0:
        return bare
    parts = zip(squares, known, strict=True)
    freedom = total**2 / math.fsum(part**2 / spread.freedom for part, spread in parts if part)
    centre = math.fsum(spread.centre for spread in known) / len(tasks)
    spread = Spread(centre, math.sqrt(total), freedom, n)
    return replace(bare, spread=spread, p=_two_sided(spread))


def _not_certain(spread: Spread) -> Spread:
    if spread.error != 0 or math.isinf(sum(spread.reach)):
        return spread
    return _with_two_docs(np.full((spread.n, 1), spread.centre))


def _differing(found: Difference) -> int:
    return found.n if found.differing is None else found.differing


def _values(found: Difference) -> tuple[float, float]:
    return found.value_a, found.value_b


def crossed_difference(a: ArrayLike, b: ArrayLike, paired: bool = False) -> Difference:
    """Mean of b minus mean of a, where several checkpoints (training seeds, say) answer the docs.

    Both (checkpoints, docs), of the same docs; `paired`: row i of a and of b belong together, too
    (one seed, say). Checkpoints and docs are both samples: it is a claim about the training method.
    Two-way clustered variance (Cameron, Gelbach and Miller 2011): of checkpoints, plus of docs,
    less of their crossing, never less than the largest of them. Quantiles by Cochran and Cox
    (`Composite`): Satterthwaite's degrees of freedom believe a part that has two of them when it
    comes out small by chance, and claim too often. One checkpoint in an arm tells nothing of their
    spread: NaN.
    """
    left, right = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (a, b))
    if (left.ndim, right.ndim) != (2, 2) or not left.size or not right.size:
        raise ValueError(f"expected (checkpoints, docs), got {left.shape} and {right.shape}")
    if left.shape[1] != right.shape[1] or (paired and len(left) != len(right)):
        raise ValueError(f"expected the same docs in both arms, got {left.shape} and {right.shape}")
    if not ((np.abs(left) < HUGE).all() and (np.abs(right) < HUGE).all()):
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
    spread = Composite.of(bare.difference, math.sqrt(total), n, ((by_doc, n - 1), rows))
    return replace(bare, spread=spread, p=_two_sided(spread))


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

    left, right = _checked(a), _checked(b)
    _check_same(left, right)
    gaps = right - left
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
    if (p < 0).any() or (p > 1).any():
        raise ValueError("expected p-values in [0, 1], or NaN")
    order = np.argsort(p, kind="stable")  # NaN comes last
    ordered = np.nan_to_num(p[order], nan=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(method(ordered, len(p)), 1.0)
    adjusted[np.isnan(p)] = np.nan
    return [float(value) for value in adjusted]


def _checked(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not (np.abs(array) < HUGE).all():
        raise ValueError(
            f"expected one finite number a doc, below {HUGE:g}, got shape {array.shape}"
        )
    return array


def _check_same(left: Array, right: Array) -> None:
    if len(left) != len(right):
        raise ValueError(f"expected the same docs in both arms, got {len(left)} and {len(right)}")


def _check_fractions(*arrays: Array) -> None:
    for array in arrays:
        if len(array) and not -1e-9 <= array.min() <= array.max() <= 1 + 1e-9:
            raise ValueError(
                f"expected fractions in [0, 1], got {array.min():g} to {array.max():g}"
            )


def _columns(up: ArrayLike, down: ArrayLike) -> Array:
    numerators, denominators = _checked(up), _checked(down)
    _check_same(numerators, denominators)
    return np.stack([numerators, denominators], axis=1)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


def _paired(left: Array, right: Array, quantity: Quantity, fraction: bool) -> Difference:
    _check_same(left, right)
    n, test = len(left), _T_TESTS[quantity is MEAN]
    bare = Difference(_value(left, quantity), _value(right, quantity), UNKNOWN, math.nan, n, test)
    gap = bare.difference
    if n < MINIMUM_DOCS or math.isnan(gap):
        return bare
    differing = int(np.any(left != right, axis=1).sum())
    reach = (1 + gap, 1 - gap) if fraction else None
    rows = np.hstack([left, right])
    student = spread = _spread(rows, difference_of(quantity), gap, reach)
    if differing < FEW_DOCS or spread.error == 0:
        p, test = swap_test(left, right, quantity), "swap test of docs"
    else:
        p = _two_sided(spread)
    size = gap / (spread.error * math.sqrt(n)) if spread.error else math.nan
    if fraction and differing < FEW_DOCS and spread.error:
        spread = _with_two_docs(right - left)
    found = replace(bare, spread=spread, p=p, effect_size=size, test=test)
    return replace(found, differing=differing, student=student)


_T_TESTS = {True: "paired t-test on per-doc values", False: "paired t-test on linearised ratios"}


def _value(rows: Array, quantity: Quantity) -> float:
    value = float(quantity.value(rows.mean(axis=0))) if len(rows) else math.nan
    return value if math.isfinite(value) else math.nan


def _with_two_docs(gaps: Array) -> Spread:
    """Of fractions' differences, two docs added that differ by 1 and by −1.

    Bonett and Price 2012, with Student's t. Student's own error is next to nothing where one doc of
    many differs, and four times as many false claims against a margin as α are the result.
    """
    more = np.concatenate([gaps[:, 0], [1.0, -1.0]])
    centre = float(more.mean())
    return _spread(more[:, None], MEAN, centre, (1 + centre, 1 - centre))


def _spread(
    rows: Array, quantity: Quantity, centre: float, reach: tuple[float, float] | None = None
) -> Spread:
    scale, within = error(rows, quantity), reach or (math.inf, math.inf)
    if not scale > _ROUNDING:
        return Spread(centre, 0.0, math.nan, len(rows), within)
    return Spread(centre, scale, len(rows) - 1, len(rows), within)


def _two_sided(spread: Spread) -> float:
    return min(1.0, 2 * min(spread.p_below(0.0), spread.p_above(0.0)))
