"""How often the rank intervals of a board hold all true ranks, and how long they are.

    python benchmarks/rank_intervals.py

Rows answer the same docs, four samples each; the hard docs are hard for all. For every case, boards
are simulated anew. `coverage`: share of boards on which every interval holds its row's true ranks
(ties: all ranks that are shared); 95 % are promised. `length`: mean number of ranks of an interval;
`truth` the number that a row truly shares. `pairwise`: coverage if pairs were tested at 5 % each,
uncorrected. Writes benchmarks/results/rank_intervals.csv; some minutes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psplit_eval.ranks import Contrast, rank_intervals
from psplit_eval.stats import Difference, paired_mean_difference, stratified_difference

RESULT = Path(__file__).parent / "results" / "rank_intervals.csv"
HEADER = ("case", "rows", "docs", "boards", "coverage", "pairwise", "length", "truth")
BOARDS = 1000
CASES: Mapping[str, Sequence[float]] = {
    "all equal": [0.0] * 6,
    "two groups": [0.0, 0.0, 0.0, 0.7, 0.7, 0.7],
    "a step each": [0.0, 0.3, 0.6, 0.9, 1.2, 1.5],
    "one is the best": [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    "many rows, all equal": [0.0] * 12,
}
DOCS: Mapping[str, Sequence[int]] = {
    "60": [60],
    "500": [500],
    "average of 60, 200, 200": [60, 200, 200],
}

Rows = NDArray[np.float64]


def answers(rng: np.random.Generator, skill: Sequence[float], docs: int) -> Rows:
    """(rows, docs): share of four samples that are right."""
    hard = rng.normal(size=docs)
    chance = 1 / (1 + np.exp(hard - np.array(skill)[:, None]))
    return rng.binomial(4, chance) / 4


def contrast(tasks: Sequence[Rows], i: int, j: int) -> Contrast:
    gaps = [paired_mean_difference(task[i], task[j], fraction=True) for task in tasks]
    found: Difference = gaps[0] if len(gaps) == 1 else stratified_difference(gaps)
    return Contrast(found.difference, found.p)


def true_ranks(skill: Sequence[float]) -> list[tuple[int, int]]:
    return [
        (1 + sum(x > own for x in skill), len(skill) - sum(x < own for x in skill)) for own in skill
    ]


def holds(found: Sequence[tuple[int, int]], truth: Sequence[tuple[int, int]]) -> bool:
    pairs = zip(found, truth, strict=True)
    return all(low <= first and last <= high for (low, high), (first, last) in pairs)


def uncorrected(count: int, contrasts: Mapping[tuple[int, int], Contrast]) -> list[tuple[int, int]]:
    better, worse = [0] * count, [0] * count
    for (i, j), found in contrasts.items():
        if found.p < 0.05:
            winner, loser = (j, i) if found.gain > 0 else (i, j)
            better[loser] += 1
            worse[winner] += 1
    return [(1 + better[row], count - worse[row]) for row in range(count)]


def measured(name: str, docs: str, seed: int) -> tuple[object, ...]:
    skill, truth = CASES[name], true_ranks(CASES[name])
    rng, count = np.random.default_rng(seed), len(CASES[name])
    held, naive, lengths = 0, 0, []
    for _ in range(BOARDS):
        tasks = [answers(rng, skill, number) for number in DOCS[docs]]
        contrasts = {(i, j): contrast(tasks, i, j) for i, j in combinations(range(count), 2)}
        found = [(one.low, one.high) for one in rank_intervals(count, contrasts)]
        held += holds(found, truth)
        naive += holds(uncorrected(count, contrasts), truth)
        lengths += [high - low + 1 for low, high in found]
    shared = np.mean([last - first + 1 for first, last in truth])
    shares = (f"{part / BOARDS:.4f}" for part in (held, naive))
    return (name, count, docs, BOARDS, *shares, f"{np.mean(lengths):.2f}", f"{shared:.2f}")


def main() -> None:
    with RESULT.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for seed, (name, docs) in enumerate((name, docs) for name in CASES for docs in DOCS):
            row = measured(name, docs, seed)
            writer.writerow(row)
            print(*row, sep="  ", flush=True)


if __name__ == "__main__":
    main()
