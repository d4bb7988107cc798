"""Whether a mean lies beyond a boundary, by betting: an answer that holds whenever one looks.

A bettor starts with capital 1 and stakes a part of it, before every observation, on the mean lying
above the boundary. If it does not, no scheme makes the capital grow on average, so it reaches 1/α
at any time with a probability of α at most (Ville 1939). So one may look after every doc and stop,
which a fixed test does not survive. Waudby-Smith and Ramdas (2024), 'Estimating means of bounded
random variables by betting'; the stakes are Kelly's for a gap that is planned for.
"""

from __future__ import annotations

import numpy as np

from psplit_eval.resampling import Array

__all__ = ["confidence_sequence", "log_wealth", "sequential_p"]

_MOST = 0.95
"""Of the stake that could lose everything at once."""
_PRIOR = 0.25
"""Variance that is believed before there are observations; counts as one."""
_STEPS = 40
"""Halvings in search of a limit: far below any rounding of a report."""


def log_wealth(x: Array, boundary: float, gap: float) -> Array:
    """Log of the capital against 'the mean is `boundary` or less', after each observation.

    `x` (..., n): observations in [−1, 1], independent with one mean, in the order they came, such
    as differences of docs in random order. `gap` > 0: how far above the boundary the mean is
    thought to be; another gap makes it slower, not wrong. Returns (..., n); of no observation it is
    empty. The stake is the gap over the variance of what came before, plus its square. Raises
    ValueError for observations or a boundary outside [−1, 1], and a gap that is not positive.
    """
    if not (-1 <= boundary <= 1 and gap > 0):
        raise ValueError(f"boundary {boundary}, gap {gap}: expected one in [-1, 1], and above 0")
    if x.size and not np.all(np.abs(x) <= 1):
        raise ValueError(f"observation {np.abs(x).max()}: expected in [-1, 1]")
    most = _MOST / (1 + boundary) if boundary > -1 else np.inf  # nothing lies below -1
    stake = np.minimum(gap / (_variance_before(x) + gap**2), most)
    gains = np.log1p(stake * (x - boundary))
    return np.cumsum(gains, axis=-1)


def _variance_before(x: Array) -> Array:
    """Of all observations before each, with one of variance _PRIOR believed beforehand."""
    n = x.shape[-1]
    before = np.zeros_like(x, dtype=np.float64), np.zeros_like(x, dtype=np.float64)
    for sums, power in zip(before, (x, x**2), strict=True):
        sums[..., 1:] = np.cumsum(power, axis=-1)[..., :-1]
    count = 1.0 + np.arange(n)
    mean = before[0] / count
    found: Array = np.maximum((_PRIOR + before[1]) / count - mean**2, 1e-6)
    return found


def sequential_p(x: Array, boundary: float, gap: float) -> Array:
    """p of 'the mean is `boundary` or less' after each observation; it never rises.

    At any stopping time the chance of p ≤ α is α at most where the hypothesis is true. Shapes,
    assumptions and errors as of `log_wealth`.
    """
    best = np.maximum.accumulate(log_wealth(x, boundary, gap), axis=-1)
    return np.minimum(1.0, np.exp(-best))


def confidence_sequence(x: Array, gap: float, alpha: float = 0.05) -> tuple[float, float]:
    """Limits of the mean, after all of `x` (n,): right at all times at once with chance 1 − α.

    (−1, 1) where nothing is excluded. Each side has α/2. Errors as of `log_wealth`.
    """
    return _below(x, gap, alpha / 2), -_below(-x, gap, alpha / 2)


def _below(x: Array, gap: float, alpha: float) -> float:
    """The greatest boundary that is excluded, from below; −1 where none is.

    A higher boundary is harder to exclude, so a search by halves finds it.
    """

    def excluded(boundary: float) -> bool:
        return bool(x.size) and sequential_p(x, boundary, gap)[-1] <= alpha

    low, high = -1.0, 1.0
    if not excluded(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excluded(middle) else (low, middle)
    return low
