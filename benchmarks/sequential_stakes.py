"""Would other stakes do better? The bets of `psplit_eval.betting` beside what else was tried.

    python -m benchmarks.sequential_stakes    # benchmarks/results/sequential_stakes.csv

On the same draws, looked at after every doc up to twice the fixed design's docs. Every variant is
as valid: a stake that is set before the doc is seen, or a mean of capitals, cannot gain on average.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from benchmarks.sequential_gates import (
    SEED,
    TRUTHS,
    Array,
    Looks,
    Row,
    populations,
    rate,
    tally,
    write,
)
from psplit_eval import betting

RESULTS = Path(__file__).parent / "results" / "sequential_stakes.csv"
REPETITIONS = 2000
DESIGNS = ((0, 0.05, 4), (0, 0.1, 1), (1, 0.1, 4), (2, 0.05, 8))
"""Number of the population, margin, k."""


class Stakes(NamedTuple):
    """`gaps`: that are planned for, over the margin, the capital split evenly. `prior` and `most`:
    as in `betting`."""

    name: str
    gaps: tuple[float, ...] = (1.0,)
    prior: float = 0.25
    most: float = 0.95

    def p(self, x: Array, boundary: float) -> Array:
        """As of `betting.sequential_p`, the boundary being the margin or less the margin."""
        margin = abs(boundary)
        with patch.multiple(betting, _PRIOR=self.prior, _MOST=self.most):
            capitals = [betting.log_wealth(x, boundary, gap * margin) for gap in self.gaps]
        joint = np.logaddexp.reduce(capitals, axis=0) - math.log(len(self.gaps))
        return np.minimum(1.0, np.exp(-np.maximum.accumulate(joint, axis=-1)))


VARIANTS = (
    Stakes("as it is"),
    Stakes("prior variance 0.05", prior=0.05),
    Stakes("prior variance 0.5", prior=0.5),
    Stakes("stake up to 0.8", most=0.8),
    Stakes("stake up to 0.99", most=0.99),
    Stakes("half the gap", (0.5,)),
    Stakes("twice the gap", (2.0,)),
    Stakes("half the gap and the gap", (0.5, 1.0)),
    Stakes("the gap and twice the gap", (1.0, 2.0)),
)


def rows() -> Iterator[Row]:
    for number, margin, k in DESIGNS:
        population = populations()[number]
        fixed = population.docs(margin, k)
        looks = np.arange(1, 2 * fixed + 1)
        for truth in ("equal", "twice as far", "half as far", "boundary"):
            rng = np.random.default_rng([SEED, number, k, list(TRUTHS).index(truth)])
            shape = REPETITIONS, 2 * fixed
            x = population.differences(rng, shape, k, TRUTHS[truth] * margin)
            head = {"population": population.name, "margin": f"{margin:g}", "k": str(k)}
            head |= {"fixed_docs": str(fixed), "truth": truth, "repetitions": str(REPETITIONS)}
            for stakes in VARIANTS:
                path = Looks(stakes.p(x, -margin), stakes.p(-x, margin))
                found = tally(path, looks, 2 * fixed)
                used = f"{found.docs.mean() / fixed:.3f}"
                yield head | {"stakes": stakes.name} | rate("passed", found.passed) | {"docs": used}


def main() -> None:
    begun, found = time.process_time(), list(rows())
    write(RESULTS, found)
    print(f"{len(found)} rows, {time.process_time() - begun:.0f} s")


if __name__ == "__main__":
    main()
