"""How far verdicts and scores can be relied on: against gold labels, each other and themselves.

One item (a pair of texts, a text) is one unit, drawn as a whole where an interval is a bootstrap.
What was not given is None and never guessed. What is undefined is NaN: no two raters on any item,
no variation (raters that always say the same cannot agree more than by chance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from psplit_eval.resampling import Array, bca_limits
from psplit_eval.stats import MINIMUM_DOCS, Estimate, mean_estimate

__all__ = [
    "RESAMPLES",
    "GoldAccuracy",
    "Ratings",
    "cohen_kappa",
    "correlation",
    "fleiss_kappa",
    "gold_accuracy",
    "intraclass_correlation",
    "krippendorff_alpha",
]

Ratings = Sequence[Sequence[Any]]
"""(items, raters): what each rater said of an item; None or NaN where one said nothing. Where the
order of raters is of no account, items may have different numbers of ratings."""

RESAMPLES = 2000
"""Resamples of items behind an interval, unless told otherwise: their seed is 0."""

_UNDEFINED_SHARE = 0.025
"""With more resamples undefined than lie below a 95 % interval, there is none."""


@dataclass(frozen=True)
class GoldAccuracy:
    """Pairwise verdicts in two orders against gold labels.

    `first`, `swapped`: share of right verdicts in either order; `average`: mean of the two; `both`:
    share of items that are right in both. All over every item: a missing verdict is not right.
    `same`: share of items with the same verdict in both orders, and `kappa`: Cohen's κ of the two,
    over the items that have both verdicts (their n): a missing verdict agrees with nothing, nor
    does it disagree. Chance is at 0.5, 0.5, 0.5 and 0.25 for a judge that tosses a coin.
    """

    first: Estimate
    swapped: Estimate
    average: Estimate
    both: Estimate
    same: Estimate
    kappa: Estimate
    missing_first: int
    missing_swapped: int
    missing_both: int

    @property
    def items(self) -> int:
        return self.average.n


def gold_accuracy(
    first: Sequence[Hashable | None],
    swapped: Sequence[Hashable | None],
    gold: Sequence[Hashable],
    resamples: int = RESAMPLES,
) -> GoldAccuracy:
    """Verdicts of one judge against `gold`, one an item in each order; all (items,).

    Verdicts name the text, not its place: a judge that always takes the text shown first says '1'
    in the first order and '2' in the swapped one. None: no verdict could be read. Raises ValueError
    for different numbers of items.
    """
    if len({len(first), len(swapped), len(gold)}) > 1:
        raise ValueError(
            f"expected one verdict an item in both orders, got {len(first)} and {len(swapped)} for "
            f"{len(gold)} gold labels"
        )
    pairs = list(zip(first, swapped, strict=True))
    gone = np.array([(x is None, y is None) for x, y in pairs], dtype=bool).reshape(-1, 2)
    hits = [(x == g, y == g) for (x, y), g in zip(pairs, gold, strict=True)]
    right = np.array(hits, dtype=bool).reshape(-1, 2) & ~gone
    said = [(x, y) for x, y in pairs if x is not None and y is not None]
    return GoldAccuracy(
        first=_share(right[:, 0]),
        swapped=_share(right[:, 1]),
        average=_share(right.mean(axis=1)),
        both=_share(right.all(axis=1)),
        same=_share([x == y for x, y in said]),
        kappa=cohen_kappa(first, swapped, resamples),
        missing_first=int(gone[:, 0].sum()),
        missing_swapped=int(gone[:, 1].sum()),
        missing_both=int(gone.all(axis=1).sum()),
    )


def cohen_kappa(
    a: Sequence[Hashable | None], b: Sequence[Hashable | None], resamples: int = RESAMPLES
) -> Estimate:
    """Cohen's κ (1960) of two raters' labels, with a bootstrap interval over items; both (items,).

    (p_o − p_e) / (1 − p_e), p_e by the raters' own shares; at most 1, 0 by chance. Items that lack
    a label are left out; n counts those that stay. NaN without items, or where both raters give one
    and the same label to all.
    """
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    codes = {label: code for code, label in enumerate(dict.fromkeys(x for p in pairs for x in p))}
    rows = np.array([[codes[x], codes[y]] for x, y in pairs], dtype=np.int64).reshape(-1, 2)

    def kappa(drawn: NDArray[Any]) -> float:
        table = np.zeros((len(codes), len(codes)))
        np.add.at(table, (drawn[:, 0], drawn[:, 1]), 1 / len(drawn))
        chance = float(table.sum(axis=0) @ table.sum(axis=1))
        return _above_chance(float(np.trace(table)), chance)

    return _estimate(kappa, rows, resamples)


def fleiss_kappa(ratings: Ratings, resamples: int = RESAMPLES) -> Estimate:
    """Fleiss' κ (1971): chance-corrected agreement of raters who may differ from item to item.

    With a bootstrap interval over items. At most 1, 0 by chance. NaN where all ratings are the
    same. Raises ValueError where items have different numbers of ratings, or fewer than two.
    """
    counts, _ = _counted(ratings, "nominal")
    raters = counts.sum(axis=1)
    if len(set(raters)) > 1 or len(counts) < len(ratings):
        raise ValueError(
            "Fleiss' κ: expected two or more ratings, and as many, of every item; "
            "use krippendorff_alpha where some are missing"
        )

    def kappa(drawn: NDArray[Any]) -> float:
        k = float(drawn[0].sum())
        agreeing = (drawn * (drawn - 1)).sum(axis=1) / (k * (k - 1))
        shares = drawn.sum(axis=0) / drawn.sum()
        return _above_chance(float(agreeing.mean()), float(shares @ shares))

    return _estimate(kappa, counts, resamples)


def krippendorff_alpha(
    ratings: Ratings,
    level: Literal["nominal", "ordinal", "interval"] = "nominal",
    resamples: int = RESAMPLES,
) -> Estimate:
    """Krippendorff's α, with a bootstrap interval over items.

    1 − D_o / D_e from coincidences (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011,
    section C): at most 1, 0 by chance. Any numbers of raters, and missing ratings: items with
    fewer than two stay out, n counts the others. `ordinal` and `interval` need numbers (ValueError
    else). NaN without an item of two ratings, or where all ratings are the same. The interval is
    over items (Zapf, Castell, Morawietz and Karch 2016, doi 10.1186/s12874-016-0200-9), not
    Krippendorff's, which draws single pairs of ratings as if each were independent of the rest.
    """
    counts, values = _counted(ratings, level)

    def alpha(drawn: NDArray[Any]) -> float:
        weights = 1 / (drawn.sum(axis=1) - 1)
        met = (drawn.T * weights) @ drawn - np.diag(drawn.T @ weights)
        totals = drawn.sum(axis=0)
        apart = _squared_distances(level, values, totals)
        by_chance = float(totals @ apart @ totals) / (totals.sum() - 1)
        return 1 - float((met * apart).sum()) / by_chance if by_chance > 0 else math.nan

    return _estimate(alpha, counts, resamples)


def _squared_distances(level: str, values: Array, totals: Array) -> Array:
    if level == "nominal":
        return 1 - np.eye(len(totals))
    # ordinal: the number of ratings between two ranks, half of those at either end included
    places = values if level == "interval" else np.cumsum(totals) - totals / 2
    return np.asarray((places[:, None] - places) ** 2)


def intraclass_correlation(ratings: Ratings, resamples: int = RESAMPLES) -> Estimate:
    """ICC(1): the share of single scores' variance that is between items, not within them.

    Of scores given again and again to the same texts: how consistent a judge is with itself. The
    one-way random model, (MSB − MSW) / (MSB + (k − 1) MSW) (Shrout and Fleiss 1979, ICC(1,1)), with
    k₀ = (N − Σ k² / N) / (n − 1) in the place of k where numbers of scores differ (Donner 1986).
    At most 1; below 0 where items differ less than chance has it. With a bootstrap interval over
    items. Items with fewer than two scores stay out. NaN with fewer than two items, or without any
    variation. Raises ValueError for what is no number.
    """
    kept = [given for row in ratings if len(given := _numbers(row)) > 1]
    moments = np.array([[len(x), np.mean(x), np.var(x) * len(x)] for x in kept]).reshape(-1, 3)

    def icc(drawn: NDArray[Any]) -> float:
        k, means, squares = drawn.T
        items, scores = len(k), float(k.sum())
        if items < 2:
            return math.nan
        centre = float(k @ means) / scores
        between = float(k @ (means - centre) ** 2) / (items - 1)
        within = float(squares.sum()) / (scores - items)
        size = (scores - float(k @ k) / scores) / (items - 1)
        total = between + (size - 1) * within
        return (between - within) / total if total > 0 else math.nan

    return _estimate(icc, moments, resamples)


def correlation(
    x: Sequence[float | None],
    y: Sequence[float | None],
    kind: Literal["pearson", "spearman", "kendall"] = "spearman",
    resamples: int = RESAMPLES,
) -> Estimate:
    """Correlation of two scores of the same items, with a bootstrap interval; both (items,).

    In [−1, 1]; Kendall's is τ-b, which corrects for ties. Items that lack a score (None or NaN) are
    left out; n counts those that stay. NaN with fewer than two of them, or where one of the scores
    does not vary.
    """
    rows = np.array([(_number(a), _number(b)) for a, b in zip(x, y, strict=True)]).reshape(-1, 2)
    compute = _CORRELATIONS[kind]

    def value(drawn: NDArray[Any]) -> float:
        if len(drawn) < 2 or (drawn == drawn[0]).all(axis=0).any():
            return math.nan
        return compute(drawn[:, 0], drawn[:, 1])

    return _estimate(value, rows[~np.isnan(rows).any(axis=1)], resamples)


def _pearson(x: Array, y: Array) -> float:
    left, right = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(left @ left) * float(right @ right))
    return max(-1.0, min(1.0, float(left @ right) / scale)) if scale > 0 else math.nan


def _spearman(x: Array, y: Array) -> float:
    from scipy.stats import rankdata

    return _pearson(rankdata(x), rankdata(y))


def _kendall(x: Array, y: Array) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(x, y, method="asymptotic").statistic)


_CORRELATIONS = {"pearson": _pearson, "spearman": _spearman, "kendall": _kendall}


def _share(values: Any) -> Estimate:
    return mean_estimate(np.asarray(values, dtype=np.float64), fraction=True)


def _above_chance(agreed: float, chance: float) -> float:
    return (agreed - chance) / (1 - chance) if 1 - chance > 1e-12 else math.nan


def _counted(ratings: Ratings, level: str) -> tuple[Array, Array]:
    """How often an item got a value (items, values), and the values as numbers, in their order.

    Of the items with two ratings or more. Labels are numbered.
    """
    rows = [_said(row) if level == "nominal" else _numbers(row) for row in ratings]
    kept = [row for row in rows if len(row) > 1]
    values = list(dict.fromkeys(value for row in kept for value in row))
    if level != "nominal":
        values.sort()
    column = {value: number for number, value in enumerate(values)}
    counts = np.zeros((len(kept), len(values)))
    for number, row in enumerate(kept):
        for value in row:
            counts[number, column[value]] += 1
    return counts, np.array(list(column.values()) if level == "nominal" else values, dtype=float)


def _said(row: Sequence[Any]) -> list[Any]:
    return [value for value in row if value is not None and value == value]  # NaN is not itself


def _numbers(row: Sequence[Any]) -> list[float]:
    return [_number(value) for value in _said(row)]


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.inf
    if math.isinf(found):
        raise ValueError(f"{value!r}: expected a finite number, or None where there is none")
    return found


def _estimate(
    statistic: Callable[[NDArray[Any]], float], rows: NDArray[Any], resamples: int
) -> Estimate:
    """The statistic of rows (items, …) and its 95 % interval, items drawn again (seed 0).

    BCa, expanded for few items (`resampling.bca_limits`). Limits are NaN below MINIMUM_DOCS items,
    where the statistic is undefined without one of them, or in too many of the resamples.
    """
    n = len(rows)
    found = statistic(rows) if n else math.nan
    if n < MINIMUM_DOCS or math.isnan(found):
        return Estimate(found, math.nan, math.nan, n)
    rng = np.random.Generator(np.random.SFC64(0))
    drawn = np.array([statistic(rows[rng.integers(0, n, n)]) for _ in range(resamples)])
    if np.isnan(drawn).mean() > _UNDEFINED_SHARE:
        return Estimate(found, math.nan, math.nan, n)
    without = np.array([statistic(np.delete(rows, item, axis=0)) for item in range(n)])
    return Estimate(found, *bca_limits(found, drawn, without), n)
