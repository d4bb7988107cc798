"""What is known of the truth around an estimate: limits at any confidence, p against any value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["UNKNOWN", "Composite", "Discordant", "Share", "Spread"]

_TINY = 1e-50
"""No p of a `Composite` is smaller: scipy's quantiles fail further out."""


@dataclass(frozen=True)
class Spread:
    """What is known of the truth around an estimate: Student's t, with `error` as its scale.

    It lies within `reach` of `centre` on each side. `error` 0: all n docs gave `centre`. NaN:
    nothing is known. `limits` raises ValueError for a confidence outside (0, 1).
    """

    centre: float
    error: float
    freedom: float
    n: int
    reach: tuple[float, float] = (math.inf, math.inf)

    def limits(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided interval; NaN where nothing is known."""
        t = self._critical(confidence)
        if self.error != 0:
            half = t * self.error
            low, high = (min(half, reach) for reach in self.reach)
            return self.centre - low, self.centre + high
        unseen = 1 - ((1 - confidence) / 2) ** (1 / self.n)  # share of docs that may be otherwise
        low, high = (unseen * reach for reach in self.reach)
        if math.isinf(low + high):
            return math.nan, math.nan
        return self.centre - low, self.centre + high

    def p_below(self, value: float) -> float:
        """One-sided p-value of the hypothesis that the truth is at or below `value`."""
        if self.error != 0:
            return self._chance((value - self.centre) / self.error)
        return self._p_constant(self.centre - value, self.reach[0])

    def p_above(self, value: float) -> float:
        """One-sided p-value of the hypothesis that the truth is at or above `value`."""
        if self.error != 0:
            return self._chance((self.centre - value) / self.error)
        return self._p_constant(value - self.centre, self.reach[1])

    def mirrored(self) -> Spread:
        """The same of a − b."""
        low, high = self.reach
        return replace(self, centre=-self.centre, reach=(high, low))

    def _critical(self, confidence: float) -> float:
        if not 0 < confidence < 1:
            raise ValueError(f"confidence {confidence}: expected more than 0 and less than 1")
        return self._quantile((1 + confidence) / 2)

    def _quantile(self, chance: float) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, chance))

    def _chance(self, t: float) -> float:
        """The chance whose quantile is `t`."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, t))

    def _p_constant(self, gap: float, reach: float) -> float:
        """For the truth to lie `gap` off, a share gap / reach of docs has to be otherwise."""
        if math.isinf(reach):
            return math.nan
        return 1.0 if gap <= 0 or reach <= 0 else max(0.0, 1 - gap / reach) ** self.n


UNKNOWN = Spread(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Composite(Spread):
    """Of an estimate whose variance is made of several `parts`: (variance, degrees of freedom).

    At every level the quantile is the mean of the parts' own, weighted by variance (Cochran and
    Cox, Experimental Designs, 1950). Any one number of degrees of freedom is right at one level
    only: with few for one part, p is too small further out. `freedom` is the least of the parts'.
    """

    parts: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(
        cls, centre: float, error: float, n: int, parts: Iterable[tuple[float, float]]
    ) -> Composite:
        """Parts without variance do not count; expects one that does."""
        counted = tuple(part for part in parts if part[0] > 0)
        return cls(centre, error, min(freedom for _, freedom in counted), n, parts=counted)

    def _quantile(self, chance: float) -> float:
        from scipy.special import stdtrit

        total = math.fsum(variance for variance, _ in self.parts)
        return math.fsum(v * float(stdtrit(f, chance)) for v, f in self.parts) / total

    def _chance(self, t: float) -> float:
        """It lies between the chances that the parts' own distributions give."""
        from scipy.optimize import brentq
        from scipy.special import stdtr

        def off(log: float) -> float:
            return self._quantile(math.exp(log)) - t

        if t > 0:
            return 1 - self._chance(-t)
        chances = [float(stdtr(freedom, t)) for _, freedom in self.parts]
        low, high = max(min(chances), _TINY), max(chances)
        if not low < high or off(math.log(low)) >= 0:
            return low
        beyond = math.log(high) + 1e-6  # rounding may put the root just above `high`
        return math.exp(brentq(off, math.log(low), beyond))


@dataclass(frozen=True)
class Discordant(Spread):
    """Of a difference of two shares over n docs with one answer each: b was right in `gains` docs
    where a was not, and the reverse in `losses`.

    Tango's score interval (1998), with Student's quantile: the variance is that of the difference
    that is asked about, so it holds its level where hardly any docs differ.
    """

    gains: int = 0
    losses: int = 0

    def limits(self, confidence: float = 0.95) -> tuple[float, float]:
        t = self._critical(confidence)
        return self._where(t, -1.0), self._where(-t, 1.0)

    def p_below(self, value: float) -> float:
        return self._chance(-self._score(value))

    def p_above(self, value: float) -> float:
        return self._chance(self._score(value))

    def mirrored(self) -> Spread:
        return replace(self, centre=-self.centre, gains=self.losses, losses=self.gains)

    def _score(self, value: float) -> float:
        """How many standard errors the docs lie above a true difference of `value`."""
        n, gains, losses = self.n, self.gains, self.losses
        if abs(value) >= 1:
            return -math.copysign(math.inf, value)
        b = -gains - losses + (2 * n - gains + losses) * value
        c = -losses * value * (1 - value)
        # of losses, the share that is most likely then
        share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        off, variance = gains - losses - n * value, n * (2 * share + value * (1 - value))
        if variance > 0:
            return off / math.sqrt(variance)
        return math.copysign(math.inf, off) if abs(off) > 1e-9 else 0.0

    def _where(self, score: float, end: float) -> float:
        """The difference between the estimate and `end` that has this score; `end` if none has."""
        from scipy.optimize import brentq

        outer = end * (1 - 1e-12)
        if (self._score(outer) - score) * end > 0:
            return end
        return float(brentq(lambda value: self._score(value) - score, self.centre, outer))


@dataclass(frozen=True)
class Share(Spread):
    """Of a mean of fractions, in [0, 1], less a `bound` that is no estimate.

    Wilson's score interval (1927), with Student's quantile and the docs' effective number
    m (1 − m) / s² in the place of n: the variance is that of the value that is asked about, so it
    holds its level near 0 and 1, where Student's own is too short on one side.
    """

    bound: float = 0.0

    @classmethod
    def of(cls, found: Spread, bound: float = 0.0) -> Share:
        """Student's spread of the same, seen so."""
        mean = found.centre + bound
        return cls(found.centre, found.error, found.freedom, found.n, (mean, 1 - mean), bound)

    def limits(self, confidence: float = 0.95) -> tuple[float, float]:
        if not self.error > 0:
            return super().limits(confidence)
        t, mean, docs = self._critical(confidence), self._mean, self._docs
        middle = (mean + t * t / (2 * docs)) / (1 + t * t / docs)
        wide = math.sqrt(mean * (1 - mean) / docs + (t / docs) ** 2 / 4)
        half = t / (1 + t * t / docs) * wide
        return middle - half - self.bound, middle + half - self.bound

    def p_below(self, value: float) -> float:
        if not self.error > 0:
            return super().p_below(value)
        return self._chance(-self._score(value))

    def p_above(self, value: float) -> float:
        if not self.error > 0:
            return super().p_above(value)
        return self._chance(self._score(value))

    def mirrored(self) -> Spread:
        low, high = self.reach
        return replace(self, centre=-self.centre, reach=(high, low), bound=1 - self.bound)

    @property
    def _mean(self) -> float:
        return self.centre + self.bound

    @property
    def _docs(self) -> float:
        return self._mean * (1 - self._mean) / self.error**2

    def _score(self, value: float) -> float:
        """How many standard errors the docs lie above a truth of `value`."""
        truth = self.bound + value
        if not 0 < truth < 1:
            return math.copysign(math.inf, self._mean - truth)
        return (self._mean - truth) / math.sqrt(truth * (1 - truth) / self._docs)
