"""Curves of single trainings, as means over a hundred steps: `python benchmarks/first_runs.py
NAME=RUN...` writes benchmarks/results/first_runs.csv, of which docs/stability.md has rows.

One seed each: enough to see that something happens, not how often.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

RESULTS = Path(__file__).parent / "results" / "first_runs.csv"
MEASURES = (
    "reward/normal",
    "reward/high",
    "entropy_bits/normal",
    "entropy_bits/high",
    "kl_bits/normal_high",
    "kl_bits/high_normal",
    "unique/normal",
    "unique/high",
    "dead_groups",
)
WINDOW = 100


def windows(name: str, run: Path) -> Iterator[list[str | int]]:
    """A row for every whole window of the log."""
    lines = (run / "training_log.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    for start in range(0, len(steps) - WINDOW + 1, WINDOW):
        part = steps[start : start + WINDOW]
        means = [f"{fmean(step[measure] for step in part):.3f}" for measure in MEASURES]
        yield [name, part[0]["step"], part[-1]["step"], *means]


def main(given: Sequence[str]) -> None:
    """Write the rows of all runs."""
    named = [one.partition("=") for one in given]
    with RESULTS.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["run", "first_step", "last_step", *MEASURES])
        for name, _, run in named:
            table.writerows(windows(name, Path(run)))


if __name__ == "__main__":
    main(sys.argv[1:])
