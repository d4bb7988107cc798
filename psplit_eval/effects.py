"""Effect sizes of two paired arms, each with a 95 % interval over docs. Arrays in, numbers out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from psplit_eval.resampling import Array
from psplit_eval.stats import HUGE, MINIMUM_DOCS, Estimate

__all__ = ["cliffs_delta", "cohens_dz", "odds_ratio"]

_NO_SPREAD = 1e-12
_LARGE_T = 1e3
"""From this t on the library's search for the noncentral t is inexact, and then endless."""


def cohens_dz(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean over standard deviation of b − a; both (docs,), any real number.

    The interval inverts the noncentral t distribution (Cumming and Finch 2001): exact for normal
    differences, to 0.02 % where |d_z| √n is above 1 000. NaN where the differences do not vary,
    limits NaN below MINIMUM_DOCS.
    """
    gaps = _paired(a, b)
    n = len(gaps)
    spread = float(gaps.std(ddof=1)) if n > 1 else 0.0
    if not spread > _NO_SPREAD:
        return Estimate(math.nan, math.nan, math.nan, n)
    size = float(gaps.mean()) / spread
    if n < MINIMUM_DOCS:
        return Estimate(size, math.nan, math.nan, n)
    # by symmetry of |size|: the function is steadiest for t of one sign
    low, high = (x / math.sqrt(n) for x in _noncentrality(abs(size) * math.sqrt(n), n, confidence))
    return Estimate(size, low, high, n) if size >= 0 else Estimate(size, -high, -low, n)


def _noncentrality(t: float, n: int, confidence: float) -> tuple[float, float]:
    from scipy.special import chdtri, nctdtrinc, ndtri

    tails = (1 + confidence) / 2, (1 - confidence) / 2
    if t < _LARGE_T:
        low, high = (float(nctdtrinc(n - 1, tail, t)) for tail in tails)
        return low, high
    # t χ / √freedom − z: the two parts' distances from t, added in squares
    parts = (t * (1 - math.sqrt(float(chdtri(n - 1, tail)) / (n - 1))) for tail in tails)
    low, high = (math.hypot(part, float(ndtri(tails[0]))) for part in parts)
    return t - low, t + high


def cliffs_delta(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """P(b > a) − P(b < a) for docs drawn apart, in [−1, 1]; both (docs,).

    Cliff 1993. Docs are paired, so the interval takes each doc's part in both arms together
    (linearised U-statistic, Student's t), cut at ±1. NaN without docs, limits NaN below
    MINIMUM_DOCS or where nothing varies.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    n = len(_paired(left, right))
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    above, below = _dominance(right, left), _dominance(left, right)
    delta = float(above.mean())
    return _interval(delta, above - below, confidence, (-1.0, 1.0))


def _dominance(values: Array, others: Array) -> Array:
    """Of every value the share of others below it, less that above it."""
    ordered = np.sort(others)
    under = np.searchsorted(ordered, values, side="left")
    over = len(others) - np.searchsorted(ordered, values, side="right")
    share: Array = (under - over) / len(others)
    return share


def odds_ratio(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Odds of the mean of b over odds of the mean of a, in (0, ∞); both (docs,), in [0, 1].

    The marginal odds ratio; the interval is Student's on linearised log odds, docs as clusters.
    NaN where a mean is 0 or 1, limits NaN below MINIMUM_DOCS. Raises ValueError for values outside
    [0, 1].
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    n = len(_paired(left, right))
    if n and not (min(left.min(), right.min()) >= 0 and max(left.max(), right.max()) <= 1):
        raise ValueError("odds ratio: expected numbers in [0, 1], the share of a doc's samples")
    means = [float(arm.mean()) if n else math.nan for arm in (left, right)]
    if not all(_NO_SPREAD < mean < 1 - _NO_SPREAD for mean in means):
        return Estimate(math.nan, math.nan, math.nan, n)
    slopes = [1 / (mean * (1 - mean)) for mean in means]
    logs = [math.log(mean / (1 - mean)) for mean in means]
    found = _interval(logs[1] - logs[0], right * slopes[1] - left * slopes[0], confidence)
    value, low, high = (math.exp(x) for x in (found.value, found.ci_low, found.ci_high))
    return Estimate(value, low, high, n)


def _interval(
    centre: float,
    linear: Array,
    confidence: float,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    from scipy.special import stdtrit

    n = len(linear)
    scale = float(linear.std(ddof=1)) / math.sqrt(n) if n >= MINIMUM_DOCS else 0.0
    if not scale > _NO_SPREAD:
        return Estimate(centre, math.nan, math.nan, n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * scale
    return Estimate(centre, max(centre - half, within[0]), min(centre + half, within[1]), n)


def _paired(a: ArrayLike, b: ArrayLike) -> Array:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(
            f"expected one number a doc in both arms, got shapes {left.shape} and {right.shape}"
        )
    if not (np.abs(left) < HUGE).all() or not (np.abs(right) < HUGE).all():
        raise ValueError(f"expected finite numbers below {HUGE:g}; leave out undefined docs")
    gaps: Array = right - left
    return gaps
