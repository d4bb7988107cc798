"""Resampling of whole docs: bootstrap intervals and a permutation test.

A doc is one row of numbers, made of all its samples, and a row is drawn, or its two arms are
swapped, as a whole: samples inside a doc are never drawn again. What is estimated is a `Quantity`,
a function of column means, so a mean, a ratio of sums and a difference of either go one way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MEAN",
    "RATIO",
    "RESAMPLES",
    "Array",
    "Quantity",
    "bca_interval",
    "bca_limits",
    "difference_of",
    "error",
    "studentised_interval",
    "swap_test",
]

Array = NDArray[np.float64]

RESAMPLES = 10_000
_EXACT_DOCS = 20
"""With so many differing docs or fewer, all 2^n swaps are looked at."""
_CELLS = 1 << 18
"""Numbers held at once while resampling: 2 MiB, which stays in the processor's cache."""


@dataclass(frozen=True)
class Quantity:
    """A smooth function of column means.

    `value`: means (..., columns) → (...); `gradient`: means (..., columns) → (..., columns).
    """

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]


def _ratio(means: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = means[..., 0] / means[..., 1]
    return ratio


def _ratio_gradient(means: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        down = 1 / means[..., 1]
        return np.stack([down, -_ratio(means) * down], axis=-1)


MEAN = Quantity(lambda means: means[..., 0], np.ones_like)
"""The mean of one column."""

RATIO = Quantity(_ratio, _ratio_gradient)
"""Sum of the first column over sum of the second; NaN or infinite where that is 0."""


def difference_of(quantity: Quantity) -> Quantity:
    """b − a: the columns of arm a, then as many of arm b."""

    def value(means: Array) -> Array:
        a, b = np.split(means, 2, axis=-1)
        with np.errstate(invalid="ignore"):  # infinite less infinite is undefined
            return quantity.value(b) - quantity.value(a)

    def gradient(means: Array) -> Array:
        a, b = np.split(means, 2, axis=-1)
        return np.concatenate([-quantity.gradient(a), quantity.gradient(b)], axis=-1)

    return Quantity(value, gradient)


def error(rows: Array, quantity: Quantity) -> float:
    """Standard error of the quantity, docs being a sample; rows (docs, columns).

    Linearisation (delta method); for a mean it is the usual s / √n, for a ratio Cochran's
    (Sampling Techniques, 1977, section 6.3). NaN for one doc or where the quantity is undefined.
    """
    n = len(rows)
    if n < 2:
        return math.nan
    linear = rows @ quantity.gradient(rows.mean(axis=0))
    return float(linear.std(ddof=1)) / math.sqrt(n)


def bca_interval(
    rows: Array,
    quantity: Quantity,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    expanded: bool = True,
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval over docs; rows (docs, columns).

    Efron 1987, 'Better bootstrap confidence intervals'; `expanded` by √(n / (n − 1)) times
    Student's quantile in the place of the normal one (Hesterberg 2015, arXiv 1411.5279), without
    which it is too short with few docs. NaN limits with fewer than 3 docs, or where the quantity
    does not vary, or is undefined without one of the docs. Resamples in which it is undefined are
    left out.
    """
    n = len(rows)
    found = float(quantity.value(rows.mean(axis=0))) if n else math.nan
    if n < 3 or not math.isfinite(found):
        return math.nan, math.nan
    drawn = np.concatenate([quantity.value(means) for means, _ in _redrawn(rows, resamples, seed)])
    without = quantity.value((rows.sum(axis=0) - rows) / (n - 1))
    return bca_limits(found, drawn, without, confidence, expanded)


def bca_limits(
    found: float, drawn: Array, without: Array, confidence: float = 0.95, expanded: bool = True
) -> tuple[float, float]:
    """The limits of `bca_interval`, from values that were computed elsewhere.

    `found`: the value of all docs; `drawn` (resamples,): of the resamples; `without` (docs,): of
    all docs but one. For what is no function of column means. NaN as there.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    n, drawn = len(without), drawn[np.isfinite(drawn)]
    if n < 3 or not (math.isfinite(found) and np.isfinite(without).all() and len(drawn)):
        return math.nan, math.nan
    below = ((drawn < found).mean() + (drawn <= found).mean()) / 2
    pull = without.mean() - without
    spread = float((pull**2).sum())
    if not (0 < below < 1 and spread > 0):
        return math.nan, math.nan
    acceleration = float((pull**3).sum()) / (6 * spread**1.5)
    bias = ndtri(below)
    half = float(ndtri((1 + confidence) / 2))
    if expanded:
        half = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + confidence) / 2))
    z = bias + np.array([-half, half])
    low, high = np.quantile(drawn, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def studentised_interval(
    rows: Array,
    quantity: Quantity,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap-t interval over docs, by linearised standard errors; rows (docs, columns).

    Efron and Tibshirani 1993, section 12.5. Infinite limits where resamples without spread are
    common; NaN with fewer than 3 docs, or where the quantity does not vary.
    """
    n = len(rows)
    centre = float(quantity.value(rows.mean(axis=0))) if n else math.nan
    scale = error(rows, quantity)
    if n < 3 or not (math.isfinite(centre) and scale > 0):
        return math.nan, math.nan
    parts = []
    for means, products in _redrawn(rows, resamples, seed, products=True):
        slope = quantity.gradient(means)
        square = np.einsum("ri,rij,rj->r", slope, products, slope)
        square -= np.einsum("ri,ri->r", slope, means) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            off = quantity.value(means) - centre
            parts.append(off / np.sqrt(np.maximum(square, 0) / (n - 1)))
    t = np.concatenate(parts)
    t = np.sort(t[~np.isnan(t)])
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = (np.quantile(t, tail, method="higher") for tail in tails)
    return centre - float(high) * scale, centre - float(low) * scale


def _redrawn(
    rows: Array, resamples: int, seed: int, products: bool = False
) -> Iterator[tuple[Array, Array]]:
    """Parts of the resamples: column means (r, c) and, if wanted, means of products (r, c, c)."""
    if resamples < 1:
        raise ValueError(f"resamples {resamples}: expected 1 or more")
    n, columns = rows.shape
    kinds, sizes = np.unique(rows, axis=0, return_counts=True)
    table = kinds
    if products:
        squares = (kinds[:, :, None] * kinds[:, None, :]).reshape(len(kinds), -1)
        table = np.concatenate([kinds, squares], axis=1)
    rng = np.random.Generator(np.random.SFC64(seed))
    for counts in _drawn(n, sizes, resamples, rng):
        means = counts @ table / n
        yield means[:, :columns], means[:, columns:].reshape(len(counts), columns, -1)


def _drawn(
    n: int, kinds: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Iterator[Array]:
    """How often every kind of doc is drawn (r, kinds), `kinds` saying how many docs are of it.

    Docs with equal rows are drawn together: of accuracies there are few kinds.
    """
    step, small = max(1, _CELLS // n), np.uint16 if n <= 1 << 16 else np.uint32
    counts, all_differ = np.empty((step, len(kinds))), len(kinds) == n
    kind_of = np.repeat(np.arange(len(kinds)), kinds)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        if 8 * len(kinds) < n:
            yield rng.multinomial(n, kinds / n, size=size).astype(np.float64)
            continue
        for row, drawn in enumerate(rng.integers(0, n, (size, n), dtype=small)):
            of = drawn if all_differ else kind_of[drawn]
            counts[row] = np.bincount(of, minlength=len(kinds))
        yield counts[:size]


def swap_test(
    a: Array, b: Array, quantity: Quantity = MEAN, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Two-sided p-value of 'the arms of a doc could as well be swapped'; a, b (docs, columns).

    For means it is the sign-flip test. All swaps are looked at where 20 docs differ or fewer: then
    it is exact. Else `resamples` random ones, and the swap that was seen counts as one of them
    (Phipson and Smyth 2010), so p is never 0. A swap after which the quantity is undefined counts
    as no less extreme. 1 where no doc differs; NaN without docs or where the quantity is undefined.
    Raises ValueError for arms of different shapes.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"expected the same docs in both arms, got {a.shape} and {b.shape}")
    if not len(a):
        return math.nan
    gap_of = difference_of(quantity).value
    seen = abs(float(gap_of(np.concatenate([a.mean(axis=0), b.mean(axis=0)]))))
    if not math.isfinite(seen):
        return math.nan
    moved = (b - a)[np.any(a != b, axis=1)]
    if not len(moved):
        return 1.0
    exact = len(moved) <= _EXACT_DOCS
    sums = _all_swaps(moved) if exact else _random_swaps(moved, resamples, seed)
    extreme = total = 0
    for part in sums:
        means = np.concatenate([a.sum(axis=0) + part, b.sum(axis=0) - part], axis=-1) / len(a)
        less = np.abs(gap_of(means)) < seen * (1 - 1e-9) - 1e-12  # never of NaN
        extreme += int((~less).sum())
        total += len(part)
    return extreme / total if exact else (extreme + 1) / (total + 1)


def _all_swaps(moved: Array) -> Iterator[Array]:
    """Sums of what moves from b to a, over every set of docs that swap (2^docs, columns)."""
    sums = np.zeros((1, moved.shape[1]))
    for row in moved:
        sums = np.concatenate([sums, sums + row])
    yield sums


def _random_swaps(moved: Array, resamples: int, seed: int) -> Iterator[Array]:
    n = len(moved)
    rng = np.random.Generator(np.random.SFC64(seed))
    step = max(8, _CELLS // n // 8 * 8)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        bits = np.unpackbits(np.frombuffer(rng.bytes(step * n // 8), dtype=np.uint8))
        yield bits.reshape(step, n)[:size].astype(np.float64) @ moved
