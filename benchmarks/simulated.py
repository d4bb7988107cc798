"""Populations of docs with a known truth, for the study of error rates (error_rates.py).

A population says what docs are like and how arms answer them. Arm 0 is the baseline; all others are
shifted alike. Without a shift all arms are exchangeable, so no quantity differs between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from psplit_eval.power import Components
from psplit_eval.resampling import Array

__all__ = [
    "Binary",
    "Normal",
    "Population",
    "Seeds",
    "Skewed",
    "Tokens",
    "Truth",
    "crossed",
    "delta_of",
    "mirrored",
    "truth_of",
]

Rng = np.random.Generator

TRUTH_DOCS = 4_000_000
"""Docs from which a truth without a closed form is computed: its error is below a hundredth of the
standard error of any estimate in the study."""
DELTA_DOCS = 400_000


class Population(Protocol):
    """`fraction`: values lie in [0, 1]."""

    @property
    def name(self) -> str: ...
    @property
    def fraction(self) -> bool: ...
    @property
    def shift(self) -> float: ...
    def means(self, rng: Rng, docs: int, arms: int = 2) -> Array:
        """True means of drawn docs (arms, docs)."""
        ...

    def noise(self, means: Array) -> Array:
        """Variance of one sample, given its doc's true mean; same shape."""
        ...

    def draw(self, rng: Rng, docs: int, k: int, arms: int = 2) -> Array:
        """Samples (arms, docs, k)."""
        ...


@dataclass(frozen=True)
class Binary:
    """Right or wrong. A doc's chance is Beta(mu c, (1 − mu) c); every arm's log odds are its own.

    Small `c`: most docs are nearly always right or nearly always wrong. `crossing`: standard
    deviation of an arm's log odds around the doc's.
    """

    mu: float
    c: float
    shift: float = 0.0
    crossing: float = 0.5
    fraction: bool = True

    @property
    def name(self) -> str:
        return f"binary, mean {self.mu:g}, c {self.c:g}"

    def means(self, rng: Rng, docs: int, arms: int = 2) -> Array:
        skill = rng.beta(self.mu * self.c, (1 - self.mu) * self.c, docs)
        moved = rng.normal(0, self.crossing, (arms, docs))
        moved[1:] += self.shift
        odds = np.exp(moved)
        chances: Array = skill * odds / (1 - skill + skill * odds)
        return chances

    def noise(self, means: Array) -> Array:
        variance: Array = means * (1 - means)
        return variance

    def draw(self, rng: Rng, docs: int, k: int, arms: int = 2) -> Array:
        return self.sampled(rng, self.means(rng, docs, arms), k)

    @staticmethod
    def sampled(rng: Rng, means: Array, k: int) -> Array:
        """k answers a doc and arm with the given chances (arms, docs) → (arms, docs, k)."""
        right = rng.random((*means.shape, k), dtype=np.float32) < means[..., None]
        return right.astype(np.float64)


@dataclass(frozen=True)
class Normal:
    """Normal doc effects (s.d. 1), doc-by-arm effects and samples."""

    shift: float = 0.0
    crossing: float = 0.5
    sampling: float = 1.0
    fraction: bool = False
    name: str = "normal"

    def means(self, rng: Rng, docs: int, arms: int = 2) -> Array:
        means = rng.normal(0, 1, docs) + rng.normal(0, self.crossing, (arms, docs))
        means[1:] += self.shift
        return means

    def noise(self, means: Array) -> Array:
        return np.full_like(means, self.sampling**2)

    def draw(self, rng: Rng, docs: int, k: int, arms: int = 2) -> Array:
        return self.sampled(rng, self.means(rng, docs, arms), k)

    def sampled(self, rng: Rng, means: Array, k: int) -> Array:
        samples: Array = means[..., None] + rng.normal(0, self.sampling, (*means.shape, k))
        return samples


@dataclass(frozen=True)
class Skewed:
    """Lognormal: doc effects (s.d. 0.7), doc-by-arm effects and samples multiply."""

    shift: float = 0.0
    crossing: float = 0.4
    sampling: float = 0.7
    fraction: bool = False
    name: str = "lognormal"

    def means(self, rng: Rng, docs: int, arms: int = 2) -> Array:
        logs = rng.normal(0, 0.7, docs) + rng.normal(0, self.crossing, (arms, docs))
        logs[1:] += self.shift
        means: Array = np.exp(logs)
        return means

    def noise(self, means: Array) -> Array:
        variance: Array = means**2 * math.expm1(self.sampling**2)
        return variance

    def draw(self, rng: Rng, docs: int, k: int, arms: int = 2) -> Array:
        return self.sampled(rng, self.means(rng, docs, arms), k)

    def sampled(self, rng: Rng, means: Array, k: int) -> Array:
        spread = self.sampling
        factors = np.exp(rng.normal(-(spread**2) / 2, spread, (*means.shape, k)))
        samples: Array = means[..., None] * factors
        return samples


@dataclass(frozen=True)
class Tokens:
    """Entropy-like: bits and tokens of samples. Long answers have fewer bits a token.

    Log length of a doc: s.d. 0.5; log bits a token: 0.4 and −0.3 times the log length; doc-by-arm
    effects 0.2 on both; tokens are 1 + Poisson, bits a token of one sample lognormal (0.3).
    """

    shift: float = 0.0
    name: str = "bits a token"

    LENGTH, DOC, SLOPE, RATE, ARM, SAMPLE = 3.0, 0.5, -0.3, 0.4, 0.2, 0.3

    def draw(self, rng: Rng, docs: int, k: int) -> tuple[Array, Array]:
        """Bits and tokens, both (2, docs, k)."""
        length = rng.normal(0, self.DOC, docs)
        rate = self.SLOPE * length + rng.normal(0, self.RATE, docs)
        lengths = np.exp(self.LENGTH + length + rng.normal(0, self.ARM, (2, docs)))
        rates = rate + rng.normal(0, self.ARM, (2, docs))
        rates[1] += self.shift
        tokens = 1 + rng.poisson(lengths[..., None], (2, docs, k)).astype(np.float64)
        noise = rng.normal(-(self.SAMPLE**2) / 2, self.SAMPLE, (2, docs, k))
        return tokens * np.exp(rates[..., None] + noise), tokens

    @property
    def ratios(self) -> tuple[float, float]:
        """Expected bits over expected tokens of either arm; moments of lognormal variables."""
        rate = math.exp((self.SLOPE**2 * self.DOC**2 + self.RATE**2 + self.ARM**2) / 2)
        length = math.exp(self.LENGTH + (self.DOC**2 + self.ARM**2) / 2)
        both = (1 + self.SLOPE) ** 2 * self.DOC**2 + self.RATE**2 + 2 * self.ARM**2
        baseline = (rate + math.exp(self.LENGTH + both / 2)) / (1 + length)
        return baseline, baseline * math.exp(self.shift)


@dataclass(frozen=True)
class Truth:
    """Of a population: means of the arms, and variance of one doc's difference by its parts."""

    mean_a: float
    mean_b: float
    parts: Components

    @property
    def gap(self) -> float:
        return self.mean_b - self.mean_a


@lru_cache
def truth_of(population: Population) -> Truth:
    """From the true means of TRUTH_DOCS docs; without a shift the gap is 0 by symmetry."""
    parts = [_moments(population, seed) for seed in range(TRUTH_DOCS // 500_000)]
    a, b, square, noise = np.mean(parts, axis=0)
    if population.shift == 0:
        a = b = (a + b) / 2
    return Truth(float(a), float(b), Components(float(square - (b - a) ** 2), float(noise)))


def _moments(population: Population, seed: int) -> tuple[float, float, float, float]:
    means = population.means(np.random.default_rng([7, seed]), 500_000)
    noise = population.noise(means).sum(axis=0)
    a, b = means.mean(axis=1)
    return float(a), float(b), float(((means[1] - means[0]) ** 2).mean()), float(noise.mean())


@lru_cache
def delta_of(population: Population, k: int) -> float:
    """Cliff's delta of docs' means of k samples: the Mann–Whitney U of DELTA_DOCS docs an arm."""
    from scipy.stats import rankdata

    rng, each = np.random.default_rng(8), 50_000
    drawn = [population.draw(rng, each, k).mean(axis=2) for _ in range(DELTA_DOCS // each)]
    a, b = np.concatenate(drawn, axis=1)
    n = len(a)
    u = float(rankdata(np.concatenate([a, b]))[n:].sum()) - n * (n + 1) / 2
    return 2 * u / n**2 - 1


def mirrored(population: Population, rng: Rng, docs: int) -> Array:
    """True means (2, docs) of docs that differ between the arms, their mean difference exactly 0.

    Every doc of the first half stands in the second with its arms swapped.
    """
    half = population.means(rng, docs // 2)
    return np.concatenate([half, half[::-1]], axis=1)


@dataclass(frozen=True)
class Seeds:
    """Checkpoints of several training seeds on the same docs (see `crossed`).

    `spread`: s.d. of a seed's effect on all docs; `paired`: half of its variance is shared by the
    two arms' seeds of one number.
    """

    seeds: int
    spread: float
    paired: bool
    binary: bool
    shift: float = 0.0

    @property
    def name(self) -> str:
        kind = "binary" if self.binary else "normal"
        return f"{kind}, {self.seeds} seeds an arm, seeds' s.d. {self.spread:g}"


def crossed(rng: Rng, case: Seeds, docs: int, k: int) -> Array:
    """Values (2, seeds, docs): docs s.d. 1, doc by arm 0.5, doc by seed 0.3, k samples each.

    `binary`: all this on log odds, values are shares of right samples; else normal with s.d. 1.
    """
    shape = (2, case.seeds, docs)
    effects = rng.normal(0, 1, docs) + rng.normal(0, 0.5, (2, 1, docs)) + rng.normal(0, 0.3, shape)
    own = rng.normal(0, case.spread, (2, case.seeds, 1))
    if case.paired:
        own = (own + rng.normal(0, case.spread, (1, case.seeds, 1))) * math.sqrt(0.5)
    effects += own
    effects[1] += case.shift
    if case.binary:
        chances = 1 / (1 + np.exp(-effects))
        shares: Array = rng.binomial(k, chances) / k
        return shares
    values: Array = effects + rng.normal(0, 1 / math.sqrt(k), shape)
    return values
