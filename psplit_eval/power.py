"""What a comparison of so many docs and samples can find out. Numbers in, numbers out.

The variance of one doc's difference has two parts: what stays however many samples are drawn (the
arms differ from doc to doc), and what shrinks with the number of samples. Docs as a sample of a
population face both; docs as given face the second alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
]

MOST = 10**9
"""More docs or samples than this are called out of reach."""
_NO_VARIANCE = 1e-300


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
        """With so many samples a doc (> 0); `given`: the docs are all there is."""
        if not samples > 0:
            raise ValueError(f"samples {samples}: expected more than 0 a doc")
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

        By moments: a crossing below 0 is 0. Without noise everything counts as crossing. Raises
        ValueError for fewer than 2 docs, and for noise that is negative or of other docs.
        """
        differences = np.asarray(gaps, dtype=float)
        if differences.ndim != 1 or len(differences) < 2:
            raise ValueError(f"expected the differences of 2 docs or more, got {differences.shape}")
        total = float(differences.var(ddof=1))
        if noise is None:
            return cls(total, math.nan, samples)
        added = np.asarray(noise, dtype=float)
        if added.shape != differences.shape or not (added >= 0).all():
            raise ValueError("noise: expected one variance, not negative, a doc")
        drawn = float(added.mean())
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

    `variance` (≥ 0): of one doc's difference. From the noncentral t distribution; exact for normal
    differences. NaN for fewer than 2 docs, or where the gap or the variance is.
    Raises ValueError for an alpha outside (0, 1), sides other than 1 and 2, a negative variance.
    """
    from scipy.special import nctdtr, stdtrit

    if not 0 < alpha < 1 or sides not in (1, 2) or variance < 0:
        raise ValueError(
            f"alpha {alpha}, sides {sides}, variance {variance}: expected 0 < alpha < 1, 1 or 2 "
            "sides and no negative variance"
        )
    if docs < 2 or math.isnan(gap) or math.isnan(variance):
        return math.nan
    if variance < _NO_VARIANCE:
        return float(gap != 0)
    freedom = docs - 1
    critical = float(stdtrit(freedom, 1 - alpha / sides))
    shift = abs(gap) * math.sqrt(docs / variance)
    missed = float(nctdtr(freedom, shift, critical))
    if math.isnan(missed):  # a shift above 36: beyond what the function can do, and beyond doubt
        return 1.0
    claimed = 1 - missed
    if sides == 1 or shift > 5:  # a claim of the wrong sign is then beyond the function's range
        return claimed
    return claimed + float(nctdtr(freedom, shift, -critical))


def docs_needed(
    gap: float, variance: float, wanted: float = 0.8, alpha: float = 0.05, sides: int = 2
) -> int | None:
    """Docs for a chance of `wanted`, in (0, 1), to claim a true difference of `gap`.

    None beyond a billion, or where the gap or the variance is NaN.
    """
    _check_chance(wanted)
    return least(lambda docs: power(gap, docs, variance, alpha, sides) >= wanted, 2)


def needed(
    gaps: Sequence[float],
    docs: int,
    parts: Components,
    wanted: float = 0.8,
    alpha: float = 0.05,
    sides: int = 2,
    given: bool = False,
) -> Need:
    """Docs at the samples of `parts`, samples at `docs` docs; of given docs, samples only.

    `gaps`: to every boundary that the difference has to be told from; two for equivalence, and the
    chance to tell it from both is at least the sum of the two less 1.
    """
    _check_chance(wanted)

    def enough(docs: int, variance: float) -> bool:
        chances = [power(gap, docs, variance, alpha, sides) for gap in gaps]
        return sum(chances) - (len(chances) - 1) >= wanted

    known = not math.isnan(parts.noise)
    more = None if given else least(lambda count: enough(count, parts.now), 2)
    samples = None
    if known and docs > 1:
        samples = least(lambda count: enough(docs, parts.variance(count, given)))
    return Need(more, samples, known)


def detectable(
    docs: int, variance: float, wanted: float = 0.8, alpha: float = 0.05, sides: int = 2
) -> float:
    """Smallest true difference that is claimed with a chance of `wanted`, in (0, 1).

    0 where nothing varies or chance alone claims as often; NaN below 2 docs or where the variance
    is not finite.
    """
    from scipy.optimize import brentq

    _check_chance(wanted)
    if docs < 2 or not math.isfinite(variance):
        return math.nan
    if variance < _NO_VARIANCE or power(0.0, docs, variance, alpha, sides) >= wanted:
        return 0.0
    high = math.sqrt(variance / docs)
    while power(high, docs, variance, alpha, sides) < wanted:
        high *= 2
    return float(brentq(lambda gap: power(gap, docs, variance, alpha, sides) - wanted, 0.0, high))


def _check_chance(wanted: float) -> None:
    if not 0 < wanted < 1:
        raise ValueError(f"chance {wanted}: expected more than 0 and less than 1, such as 0.8")


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
