"""Numbers from the log-probabilities that an engine gives of its most probable tokens.

All that is not listed counts as one outcome. Merging outcomes never raises an entropy or a
divergence (the data-processing inequality; Cover and Thomas, Elements of Information Theory,
2006, section 2.8), so every number here is a lower bound of that over the full vocabulary, and
equal to it where every token is listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TopTokens", "divergence_bounds_bits", "entropy_bounds_bits", "entropy_estimate_bits"]

Numbers = NDArray[np.float64]

_NOTHING = -1
_COMPARED = 2**21  # pairs of tokens that are looked at together: some megabytes
_ROUNDING = 2.0**-20
"""How far off the sum of a list may be, as engines compute in single precision. A rest of at most
this much may be none at all, or ten times what it seems."""


def entropy_estimate_bits(top_logprobs: Sequence[float]) -> float:
    """A lower bound of one position's entropy, in bits, from log-probabilities in nats.

    All tokens that are not listed count as one outcome with the mass that is left. Equal to the
    entropy where every token is listed; nan where none is.
    """
    if not top_logprobs:
        return math.nan
    listed = [math.exp(logprob) for logprob in top_logprobs]
    total = sum(listed)
    rest = 1.0 - total if total < 1.0 else 0.0  # above 1 by rounding: nothing is left
    bits = -sum(mass * math.log2(mass) for mass in (*listed, rest) if mass != 0.0)
    return 0.0 if bits < 0.0 else bits


@dataclass(frozen=True)
class TopTokens:
    """Tokens that are listed at each position, each once: (positions, listed).

    `logprobs` are in nats. Where fewer are listed than elsewhere, `tokens` is −1 and `logprobs` −∞.
    """

    tokens: NDArray[np.int32]
    logprobs: Numbers

    @classmethod
    def of(cls, positions: Sequence[Mapping[int, float]]) -> TopTokens:
        """From token → log-probability of every position."""
        shape = len(positions), max(map(len, positions), default=0)
        tokens = np.full(shape, _NOTHING, np.int32)
        logprobs = np.full(shape, -np.inf)
        for row, listed in enumerate(positions):
            tokens[row, : len(listed)] = list(listed)
            logprobs[row, : len(listed)] = list(listed.values())
        return cls(tokens, logprobs)

    def __len__(self) -> int:
        return len(self.tokens)

    def of_tokens(self, tokens: ArrayLike) -> Numbers:
        """Log-probability of one token a position, in nats; NaN where it is not listed."""
        here = self.tokens == np.asarray(tokens)[:, None]
        found = np.where(here, self.logprobs, -np.inf).max(1, initial=-np.inf)
        return np.where(here.any(1), found, np.nan)

    def rows(self, start: int, stop: int) -> TopTokens:
        """Positions start … stop − 1."""
        return TopTokens(self.tokens[start:stop], self.logprobs[start:stop])


def entropy_bounds_bits(top: TopTokens) -> Numbers:
    """`entropy_estimate_bits` of every position: (positions,); NaN where no token is listed."""
    masses = np.exp(top.logprobs)
    rest = np.maximum(0.0, 1.0 - masses.sum(1))
    bits = -(_times_log(masses, masses).sum(1) + _times_log(rest, rest)) / math.log(2)
    return np.where(_any(top), np.maximum(bits, 0.0), np.nan)


def divergence_bounds_bits(a: TopTokens, b: TopTokens) -> tuple[Numbers, Numbers, Numbers]:
    """Lower bounds of KL(a‖b), KL(b‖a) and Jensen–Shannon, in bits: (positions,) each.

    `a` and `b` list tokens of the same positions. A token that both list is an outcome of its own.
    All others are one: of a token that only one lists, the other's mass is not known apart from
    that of the others. Jensen–Shannon is in [0, 1]. KL is in [0, ∞); where b has no rest while a
    has one, it is not infinite but computed with the most that rounding can hide in b's rest:
    what is not listed is not impossible. NaN where a or b lists nothing.

    Raises ValueError for unlike numbers of positions.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} positions, expected equal numbers")
    found = np.full((3, len(a)), np.nan)
    if compared := a.tokens.shape[1] * b.tokens.shape[1]:
        step = max(1, _COMPARED // compared)
        for i in range(0, len(a), step):
            found[:, i : i + step] = _bounds(a.rows(i, i + step), b.rows(i, i + step))
    kl, back, js = found
    return kl, back, js


def _bounds(a: TopTokens, b: TopTokens) -> Numbers:
    """KL(a‖b), KL(b‖a) and Jensen–Shannon as rows."""
    same = (a.tokens[:, :, None] == b.tokens[:, None, :]) & (a.tokens != _NOTHING)[:, :, None]
    both = same.any(2)
    log_a = np.where(both, a.logprobs, -np.inf)
    log_b = np.where(both, np.take_along_axis(b.logprobs, same.argmax(2), 1), -np.inf)
    rest_a, rest_b = _rest(a, both), _rest(b, same.any(1))
    bounds = [_kl(log_a, log_b, rest_a, rest_b), _kl(log_b, log_a, rest_b, rest_a)]
    masses_a = np.column_stack([np.exp(log_a), rest_a])
    masses_b = np.column_stack([np.exp(log_b), rest_b])
    found = np.stack([*bounds, _js(masses_a, masses_b)]) / math.log(2)
    return np.where(_any(a) & _any(b), found, np.nan)


def _rest(top: TopTokens, shared: NDArray[np.bool_]) -> Numbers:
    """Mass of all tokens but the shared ones. What is listed is known better than the difference
    to 1, which rounding can push below 0."""
    masses = np.exp(top.logprobs)
    rest: Numbers = np.where(shared, 0.0, masses).sum(1) + np.maximum(0.0, 1.0 - masses.sum(1))
    return rest


def _kl(log_p: Numbers, log_q: Numbers, rest_p: Numbers, rest_q: Numbers) -> Numbers:
    """In nats."""
    masses = np.exp(log_p)
    there = masses > 0.0
    ratios = np.subtract(log_p, log_q, out=np.zeros_like(log_p), where=there)
    rest = _times_log(rest_p, rest_p) - rest_p * np.log(rest_q + _ROUNDING)
    nats: Numbers = np.maximum(0.0, (masses * ratios).sum(1) + rest)
    return nats


def _js(p: Numbers, q: Numbers) -> Numbers:
    """In nats, of outcomes in columns."""
    middle = (p + q) / 2
    both = (_times_log(p, p) + _times_log(q, q)) / 2 - _times_log(middle, middle)
    nats: Numbers = np.clip(both.sum(1), 0.0, math.log(2))
    return nats


def _times_log(x: Numbers, y: Numbers) -> Numbers:
    """x · ln y, 0 where x is 0."""
    from scipy.special import xlogy

    product: Numbers = xlogy(x, y)
    return product


def _any(top: TopTokens) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = (top.tokens != _NOTHING).any(1)
    return there
