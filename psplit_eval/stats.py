"""Paired inference on arrays, with docs as clusters. Knows nothing of models.

The estimand of every function is a mean over a population of docs of which these are a sample.
One number a doc goes in, so k samples of one question never count as k questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MINIMUM_DOCS",
    "Difference",
    "Estimate",
    "benjamini_hochberg",
    "holm",
    "mean_estimate",
    "paired_mean_difference",
    "paired_ratio_difference",
    "ratio_estimate",
]

MINIMUM_DOCS = 5
"""With fewer docs no interval and no p-value is given."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval; NaN limits where the interval is undefined."""

    value: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """b − a over n paired docs.

    `p` is two-sided, from Student's t on per-doc differences; `effect_size` is Cohen's d_z (mean
    over standard deviation of the differences). Below MINIMUM_DOCS, or where the differences do
    not vary at all, interval, p and effect size are NaN: nothing is known of their spread.
    """

    value_a: float
    value_b: float
    difference: float
    ci_low: float
    ci_high: float
    p: float
    effect_size: float
    n: int


def mean_estimate(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean over docs with Student's t interval; values (docs,), without NaN."""
    array = _checked(values)
    low, high, _ = _t_interval(array, _mean(array), confidence)
    return Estimate(_mean(array), low, high, len(array))


def ratio_estimate(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """Σ numerators / Σ denominators with docs as clusters; both (docs,).

    The interval is by linearisation (Cochran, Sampling Techniques, 1977, section 6.3). NaN where
    the denominators sum to 0.
    """
    up, down = _checked(numerators), _checked(denominators)
    ratio, residuals = _linearised(up, down)
    low, high, _ = _t_interval(residuals, ratio, confidence)
    return Estimate(ratio, low, high, len(up))


def paired_mean_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Difference:
    """Mean of b minus mean of a over the same docs; both (docs,), without NaN.

    Paired t-test on per-doc values (Miller 2024, arXiv 2411.00640, section 4.2).
    """
    left, right = _checked(a), _checked(b)
    return _difference(_mean(left), _mean(right), right - left, confidence)


def paired_ratio_difference(
    a: tuple[ArrayLike, ArrayLike], b: tuple[ArrayLike, ArrayLike], confidence: float = 0.95
) -> Difference:
    """Difference of two ratio estimates (numerators, denominators) over the same docs.

    Paired t-test on the difference of the linearised per-doc values.
    """
    ratio_a, residuals_a = _linearised(_checked(a[0]), _checked(a[1]))
    ratio_b, residuals_b = _linearised(_checked(b[0]), _checked(b[1]))
    return _difference(ratio_a, ratio_b, residuals_b - residuals_a, confidence)


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


def _linearised(up: Array, down: Array) -> tuple[float, Array]:
    total = float(down.sum())
    if total == 0:
        return math.nan, np.full(len(up), np.nan)
    ratio = float(up.sum()) / total
    return ratio, (up - ratio * down) / (total / len(down))


def _t_interval(values: Array, centre: float, confidence: float) -> tuple[float, float, float]:
    """Limits around `centre` and the standard error, from the spread of `values`."""
    from scipy import stats

    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n >= MINIMUM_DOCS else math.nan
    if not error > 1e-12:  # NaN, or no spread but rounding
        return math.nan, math.nan, math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return centre - half, centre + half, error


def _difference(value_a: float, value_b: float, values: Array, confidence: float) -> Difference:
    from scipy import stats

    gap, n = value_b - value_a, len(values)
    low, high, error = _t_interval(values, gap, confidence)
    p = 2 * float(stats.t.sf(abs(gap) / error, n - 1)) if error == error else math.nan
    size = gap / (error * math.sqrt(n)) if error == error else math.nan
    return Difference(value_a, value_b, gap, low, high, p, size, n)
