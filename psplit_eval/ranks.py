"""What several rows of a board say together: the ranks that the data allow, and means over columns.

Pure statistics of what tests and intervals have found; knows nothing of models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from psplit_eval.stats import Estimate, holm

__all__ = ["Contrast", "Ranks", "mean_of_columns", "rank_intervals"]


class Contrast(NamedTuple):
    """Row j against row i: by how much j is better, and the two-sided p-value of the test."""

    gain: float
    p: float


class Ranks(NamedTuple):
    """Ranks `low` to `high` of `rows` rows; 1 is the best."""

    low: int
    high: int
    rows: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


def rank_intervals(
    count: int, contrasts: Mapping[tuple[int, int], Contrast], level: float = 0.05
) -> list[Ranks]:
    """Of every row 0 … count − 1 the ranks that the data allow, all of them at once.

    `contrasts` are of pairs (i, j), i < j. The rank of a row lies between 1 + the rows that are
    significantly better and `count` − those that are significantly worse. Where true values are
    equal, a row has all the ranks that they share, and the interval holds all of them.

    With probability 1 − `level` or more every interval holds its row's true ranks, whatever the
    dependence of the tests: each pair is two one-sided hypotheses, 'i is not better than j' and the
    reverse, and Holm's correction over all count · (count − 1) of them keeps the chance of any
    false rejection below `level` (Al Mohamad, Goeman and van Zwet 2022, Simultaneous confidence
    intervals for ranks, Biometrics 78, by pairwise tests; Mogstad, Romano, Shaikh and Wilhelm 2024,
    Inference for ranks, Review of Economic Studies 91, by one-sided ones). The tests' own p-values
    have to hold, and be symmetric: the smaller one-sided one is half the two-sided one.

    A pair that is absent or has no p (NaN: no docs in common, too few docs) rules out no rank and
    counts in the correction. One row has rank 1. Raises ValueError for other pairs than i < j.
    """
    if any(not 0 <= i < j < count for i, j in contrasts):
        raise ValueError(f"expected pairs i < j of {count} rows, got {sorted(contrasts)}")
    unknown = Contrast(math.nan, math.nan)
    pairs = [(pair, contrasts.get(pair, unknown)) for pair in combinations(range(count), 2)]
    one_sided = [half for _, found in pairs for half in _halves(found)]
    adjusted = iter(holm(one_sided))
    better: Counter[int] = Counter()
    worse: Counter[int] = Counter()
    for (i, j), _ in pairs:
        for winner, loser in ((i, j), (j, i)):
            if next(adjusted) < level:
                better[loser] += 1
                worse[winner] += 1
    return [Ranks(1 + better[row], count - worse[row], count) for row in range(count)]


def _halves(found: Contrast) -> tuple[float, float]:
    """One-sided p-values of 'i is not better than j' and of 'j is not better than i'."""
    if math.isnan(found.p) or math.isnan(found.gain):
        return math.nan, math.nan
    small, large = found.p / 2, 1 - found.p / 2
    if found.gain == 0:  # no direction to claim
        return 1.0, 1.0
    return (large, small) if found.gain > 0 else (small, large)


def mean_of_columns(columns: Sequence[Estimate]) -> Estimate:
    """The plain mean of independent columns: each weighs the same, whatever its number of docs.

    The limits are put together from those of the columns, each side by itself: distances to the
    means add up in squares (MOVER; Zou and Donner 2008, Statistics in Medicine 27, equation 4; of
    two Wilson intervals it is Newcombe's hybrid score interval). So the interval of fractions stays
    within [0, 1]. A value or limit is NaN where one of the columns' is; `n` counts all docs. Raises
    ValueError without columns.
    """
    if not columns:
        raise ValueError("expected one column or more, got none")
    value = math.fsum(column.value for column in columns) / len(columns)
    low = _joint([column.value - column.ci_low for column in columns])
    high = _joint([column.ci_high - column.value for column in columns])
    return Estimate(value, value - low, value + high, sum(column.n for column in columns))


def _joint(distances: Sequence[float]) -> float:
    return math.sqrt(math.fsum(distance**2 for distance in distances)) / len(distances)
