"""How far verdicts and scores can be relied on: against gold labels, each other and themselves.

One item (a pair of texts, a text) is one unit, drawn as a whole where an interval is a bootstrap;
where items come in clusters (samples of a doc), a cluster is.
What was not given is None and never guessed. What is undefined is NaN: no two raters on any item,
no variation (raters that always say the same cannot agree more than by chance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

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
_ROUNDING = 1e-12
"""Numbers that vary less than this share of all squares cannot be told from equal ones."""
_CELLS = 1 << 20
"""Numbers held at once while clusters are drawn: 8 MiB."""


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
    counts = _counted(ratings)
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
    clusters: Sequence[Hashable] | None = None,
) -> Estimate:
    """Krippendorff's α, with a bootstrap interval over items, or over clusters of them.

    1 − D_o / D_e from coincidences (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011,
    section C): at most 1, 0 by chance. Any numbers of raters, and missing ratings: items with
    fewer than two stay out. `ordinal` and `interval` need numbers (ValueError else). NaN without an
    item of two ratings, or where all ratings are the same. The interval is over items (Zapf,
    Castell, Morawietz and Karch 2016, doi 10.1186/s12874-016-0200-9), not Krippendorff's, which
    draws single pairs of ratings as if each were independent of the rest.

    `clusters` (items,): what items belong to, such as the doc of a sample; None: each to itself.
    Clusters are drawn as a whole, for items of one are no independent witnesses (Field and Welsh
    2007, doi 10.1111/j.1467-9868.2007.00593.x), and n counts them. α itself is the same. Raises
    ValueError for another number of clusters than of items.
    """
    rated = _rated(ratings, level, clusters)
    if not rated.items:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if level == "interval":
        return _estimate_of_sums(*_by_moments(rated), resamples)
    return _estimate_of_sums(*_by_coincidences(rated, level), resamples)


class _Rated(NamedTuple):
    """Ratings of the items that have two or more, one after the other; what holds them, numbered.

    `values`, `item` (ratings,); `size`, `cluster` (items,).
    """

    values: list[Any]
    item: NDArray[np.int64]
    size: Array
    cluster: NDArray[np.int64]

    @property
    def items(self) -> int:
        return len(self.size)


def _rated(ratings: Ratings, level: str, clusters: Sequence[Hashable] | None) -> _Rated:
    if clusters is not None and len(clusters) != len(ratings):
        raise ValueError(
            f"expected a cluster for each of {len(ratings)} items, got {len(clusters)}"
        )
    read = _said if level == "nominal" else _numbers
    of = range(len(ratings)) if clusters is None else clusters
    rows = [(read(row), cluster) for row, cluster in zip(ratings, of, strict=True)]
    kept = [(row, cluster) for row, cluster in rows if len(row) > 1]
    numbers = {cluster: n for n, cluster in enumerate(dict.fromkeys(c for _, c in kept))}
    size = np.array([len(row) for row, _ in kept], dtype=np.int64)
    return _Rated(
        values=[value for row, _ in kept for value in row],
        item=np.repeat(np.arange(len(kept)), size),
        size=size.astype(float),
        cluster=np.array([numbers[cluster] for _, cluster in kept], dtype=np.int64),
    )


Sums = Callable[[Array], Array]
"""α (draws,) from sums over the clusters that were drawn (draws, columns)."""


def _by_moments(rated: _Rated) -> tuple[Any, Sums]:
    """Interval α from sums over clusters: ratings, Σ x, Σ x², and what differs inside items.

    Of all pairs of m numbers, Σ (x − y)² is 2 m times their squares around their mean: so neither
    D_o nor D_e has to look at a pair.
    """
    from scipy.sparse import csr_array

    x = np.array(rated.values, dtype=float)
    x -= np.sort(x)[len(x) // 2]  # sums of squares stay exact; not the mean: equal values are 0
    item, size = rated.item, rated.size
    means = np.bincount(item, x) / size
    apart = np.bincount(item, (x - means[item]) ** 2) * size / (size - 1)
    columns = (size, np.bincount(item, x), np.bincount(item, x * x), apart)
    table = np.stack([np.bincount(rated.cluster, column) for column in columns], axis=1)
    least = _ROUNDING * float(table[:, 2].sum())

    def alpha(sums: Array) -> Array:
        n, first, second, within = sums.T
        spread = second - first**2 / n
        defined = spread > least
        return np.asarray(1 - within * (n - 1) / (n * np.where(defined, spread, math.nan)))

    return csr_array(table), alpha


def _by_coincidences(rated: _Rated, level: str) -> tuple[Any, Sums]:
    """Nominal or ordinal α from sums over clusters: how often each value was given, and what met.

    Nominal distances need no more of the coincidences than how many are of unequal values; ordinal
    ones change with the ratings that are drawn, and need all of them.
    """
    from scipy.sparse import csr_array, hstack

    ordered = rated.values if level == "nominal" else sorted(rated.values)
    places = {value: n for n, value in enumerate(dict.fromkeys(ordered))}
    code = np.array([places[value] for value in rated.values])
    given = csr_array((np.ones(len(code)), (rated.item, code)), (rated.items, len(places)))
    given.sum_duplicates()
    members = csr_array((np.ones(rated.items), (rated.cluster, np.arange(rated.items))))
    met = _unequal(given, rated.size) if level == "nominal" else _coincidences(given, rated.size)
    table = hstack([members @ given, members @ met], format="csr")
    return table, partial(_nominal if level == "nominal" else _ordinal, len(places))


def _unequal(given: Any, size: Array) -> Any:
    """Pairs of unequal ratings of an item, by the ratings it has (items, 1)."""
    from scipy.sparse import csr_array

    equal: Array = given.multiply(given).sum(axis=1)
    return csr_array(((size**2 - equal) / (size - 1))[:, None])


def _coincidences(given: Any, size: Array) -> Any:
    """Pairs of ratings of an item, by the ratings it has (items, values × values)."""
    from scipy.sparse import csr_array

    held = np.diff(given.indptr)  # values that an item has
    item = np.repeat(np.arange(len(size)), held)
    left = np.repeat(np.arange(len(item)), held[item])
    starts = np.repeat(np.cumsum(held[item]) - held[item], held[item])
    right = given.indptr[item[left]] + np.arange(len(left)) - starts
    pairs = given.data[left] * (given.data[right] - (left == right)) / (size[item[left]] - 1)
    values = given.shape[1]
    column = given.indices[left].astype(np.int64) * values + given.indices[right]
    return csr_array((pairs, (item[left], column)), (len(size), values**2))


def _nominal(values: int, sums: Array) -> Array:
    totals, unequal = sums[:, :values], sums[:, values]
    n = totals.sum(axis=1)
    by_chance = (n**2 - (totals**2).sum(axis=1)) / (n - 1)
    return np.asarray(1 - unequal / np.where(by_chance > 0, by_chance, math.nan))


def _ordinal(values: int, sums: Array) -> Array:
    totals, met = sums[:, :values], sums[:, values:].reshape(len(sums), values, values)
    n = totals.sum(axis=1)
    # the number of ratings between two ranks, half of those at either end included; the mean is 0
    places = np.cumsum(totals, axis=1) - totals / 2 - n[:, None] / 2
    squares = (totals * places**2).sum(axis=1)
    products = ((met @ places[:, :, None])[:, :, 0] * places).sum(axis=1)
    by_chance = squares * n / (n - 1)
    return np.asarray(1 - (squares - products) / np.where(by_chance > 0, by_chance, math.nan))


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


def _counted(ratings: Ratings) -> Array:
    """How often an item got a label (items, labels), of the items with two ratings or more."""
    kept = [row for row in map(_said, ratings) if len(row) > 1]
    column = {label: n for n, label in enumerate(dict.fromkeys(x for row in kept for x in row))}
    counts = np.zeros((len(kept), len(column)))
    for number, row in enumerate(kept):
        for label in row:
            counts[number, column[label]] += 1
    return counts


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


def _estimate_of_sums(table: Any, value: Sums, resamples: int) -> Estimate:
    """`_estimate` of what depends on sums of rows alone; table (clusters, columns), sparse.

    The same draws as there; a row is left out by subtraction.
    """
    n, total = table.shape[0], np.asarray(table.sum(axis=0))
    found = float(value(total[None])[0])
    if n < MINIMUM_DOCS or math.isnan(found):
        return Estimate(found, math.nan, math.nan, n)
    step = max(1, _CELLS // max(table.shape))
    drawn = np.concatenate([value(counts @ table) for counts in _drawn(n, resamples, step)])
    if np.isnan(drawn).mean() > _UNDEFINED_SHARE:
        return Estimate(found, math.nan, math.nan, n)
    drawn[np.abs(drawn - found) < _ROUNDING] = (
        found  # ties count half: rounding must not break them
    )
    firsts = range(0, n, step)
    without = [value(total - table[first : first + step].toarray()) for first in firsts]
    return Estimate(found, *bca_limits(found, drawn, np.concatenate(without)), n)


def _drawn(n: int, resamples: int, step: int) -> Iterator[Array]:
    """How often each of n is drawn, (up to step, n) at a time."""
    rng = np.random.Generator(np.random.SFC64(0))
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        places = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(places.ravel(), minlength=size * n).reshape(size, n).astype(float)
