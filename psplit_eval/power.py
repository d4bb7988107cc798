"""What a comparison of so many docs and samples can find out. Numbers in, numbers out.

The variance of one doc's difference has two parts: what stays however many samples are drawn (the
arms differ from doc to doc), and what shrinks with the number of samples. Docs as a sample of a
population face both; docs as given face the second alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "Components",
    "Need",
    "detectable",
    "docs_needed",
    "least",
    "needed",
    "power",
    "samples_needed",
]

MOST = 10**9
"""More docs or samples than this are called out of reach."""


@dataclass(frozen=True)
class Components:
    """Variance of one doc's difference b − a.

    `crossing`: of the docs' true differences (≥ 0). `noise`: what one sample a doc in each arm adds
    (≥ 0; the sum over both arms); NaN where it is not known apart, and then `crossing` is all.
    `samples`: how many samples a doc in each arm the estimate is from.
    """

    crossing: float
    noise: float
    samples: float = 1.0

    def variance(self, samples: float, given: bool = False) -> float:
        """With so many samples a doc; `given`: the docs are all there is."""
        if math.isnan(self.noise):
            return math.nan if given else self.crossing
        return (0.0 if given else self.crossing) + self.noise / samples

    @property
    def now(self) -> float:
        """Variance of one doc's difference as it was measured."""
        return self.variance(self.samples)

    @classmethod
    def estimated(cls, gaps: ArrayLike, noise: ArrayLike | None, samples: float) -> Components:
        """From docs' differences and the variances that sampling adds to each; both (docs,).

        By moments: a crossing below 0 is 0. Without noise everything counts as crossing.
        """
        total = float(np.asarray(gaps, dtype=float).var(ddof=1))
        if noise is None:
            return cls(total, math.nan, samples)
        drawn = float(np.asarray(noise, dtype=float).mean())
        return cls(max(0.0, total - drawn), drawn * samples, samples)


@dataclass(frozen=True)
class Need:
    """What it takes to tell a difference from a boundary.

    `docs`: with as many samples a doc as now. `samples` a doc: with the docs at hand. None: more
    than a billion, or no number does. `samples_known` False: nothing is known of what samples do.
    """

    docs: int | None
    samples: int | None
    samples_known: bool


def power(gap: float, docs: int, variance: float, alpha: float = 0.05, sides: int = 2) -> float:
    """Chance that Student's paired test claims a true difference of `gap`, in [0, 1].

    `variance`: of one doc's difference. From the noncentral t distribution; exact for normal
    differences. NaN for fewer than 2 docs.
    """
    from scipy.special import nctdtr, stdtrit

    if docs < 2:
        return math.nan
    if variance <= 0:
        return float(gap != 0)
    freedom = docs - 1
    critical = float(stdtrit(freedom, 1 - alpha / sides))
    shift = abs(gap) * math.sqrt(docs / variance)
    if shift > critical + 30:  # beyond what the function can do, and beyond doubt
        return 1.0
    claimed = 1 - float(nctdtr(freedom, shift, critical))
    if sides == 1 or shift > 5:  # a claim of the wrong sign is then beyond the function's range
        return claimed
    return claimed + float(nctdtr(freedom, shift, -critical))


def docs_needed(
    gap: float, variance: float, wanted: float = 0.8, alpha: float = 0.05, sides: int = 2
) -> int | None:
    """Docs for a chance of `wanted` to claim a true difference of `gap`; None beyond a billion."""
    return least(lambda docs: power(gap, docs, variance, alpha, sides) >= wanted, 2)


def samples_needed(
    gap: float,
    docs: int,
    parts: Components,
    wanted: float = 0.8,
    alpha: float = 0.05,
    sides: int = 2,
    given: bool = False,
) -> int | None:
    """Samples a doc for the same with `docs` docs; None where no number (up to a billion) does."""

    def enough(samples: int) -> bool:
        return power(gap, docs, parts.variance(samples, given), alpha, sides) >= wanted

    return None if math.isnan(parts.noise) or docs < 2 else least(enough)


def needed(
    gap: float,
    docs: int,
    parts: Components,
    wanted: float = 0.8,
    alpha: float = 0.05,
    sides: int = 2,
    given: bool = False,
) -> Need:
    """Both: docs at the samples of `parts`, samples at `docs` docs; of given docs, samples only."""
    known = not math.isnan(parts.noise)
    more = None if given else docs_needed(gap, parts.now, wanted, alpha, sides)
    return Need(more, samples_needed(gap, docs, parts, wanted, alpha, sides, given), known)


def detectable(
    docs: int, variance: float, wanted: float = 0.8, alpha: float = 0.05, sides: int = 2
) -> float:
    """Smallest true difference that is claimed with a chance of `wanted`; NaN below 2 docs."""
    from scipy.optimize import brentq

    if docs < 2 or math.isnan(variance):
        return math.nan
    if variance <= 0:
        return 0.0
    high = math.sqrt(variance / docs)
    while power(high, docs, variance, alpha, sides) < wanted:
        high *= 2
    return float(brentq(lambda gap: power(gap, docs, variance, alpha, sides) - wanted, 0.0, high))


def least(enough: Callable[[int], bool], start: int = 1) -> int | None:
    """The smallest number from `start` on that is enough, which more must be, too; None beyond a
    billion."""
    high = start
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = max(start, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
