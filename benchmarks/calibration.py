"""Does the calibrated mean cover what people would say? Simulated judges, and recorded ones.

    python benchmarks/calibration.py study         # benchmarks/results/calibration.csv
    python benchmarks/calibration.py study hanna   # this part again, the others as they are
    python benchmarks/calibration.py table         # the tables of docs/judges_calibration.md

Every data set goes through psplit's own functions, one call each. `hanna` needs the folder
PSPLIT_TEST_DATA with hanna/human_vs_llm_scores.jsonl.gz: 1 056 stories, 11 of each of 96 prompts,
with the mean of three people and the scores of 20 judges (Chhun et al. 2022 and 2024). What came
out, and what it means, is in docs/judges_calibration.md.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from psplit_eval.calibration import (
    Scores,
    calibrated_difference,
    calibrated_mean,
    draw_to_label,
)
from psplit_eval.resampling import Array
from psplit_eval.rows import read_rows
from psplit_eval.stats import Difference, Estimate

RESULTS = Path(__file__).resolve().parent / "results" / "calibration.csv"
SEED, REPETITIONS = 20261126, 2_000
DOCS, SAMPLES, LABELS = 100, 4, (10, 20, 50, 100)
PROMPTS, STORIES, HANNA_LABELS = 96, 11, (20, 50, 100)
CALIBRATED, HUMAN, JUDGE = "calibrated", "labels alone", "judge alone"
NAIVE, SAME = "calibrated, samples as docs", "λ from the same labels"

Rng = np.random.Generator
Row = dict[str, str]
Outcome = Mapping[str, tuple[float, float, float, float, float]]
"""Of one data set: what was asked → error, lower and upper limit less the truth, λ, equivalent
labels."""


# --- populations: two modes (2, docs, samples) of human and judge's scores, means known exactly ---

Draw = Callable[[Rng], tuple[Array, Array]]


@dataclass(frozen=True)
class Population:
    """`draw` gives (human, judge); `means`: true human means of the modes."""

    name: str
    draw: Draw
    means: tuple[float, float]


def normal_scores(rng: Rng, gap: float = 0.5, doc_sd: float = 1.0, sample_sd: float = 1.0) -> Array:
    """Around 5 and 5 + gap; modes share most of what docs have of their own."""
    docs = rng.normal(0, doc_sd, (1, DOCS, 1)) + rng.normal(0, doc_sd / 2, (2, DOCS, 1))
    means = np.array([5.0, 5.0 + gap])[:, None, None]
    return means + docs + rng.normal(0, sample_sd, (2, DOCS, SAMPLES))


def linear_judge(
    rng: Rng, slope: float, offsets: tuple[float, float], noise: float, gap: float = 0.5
) -> tuple[Array, Array]:
    human = normal_scores(rng, gap)
    shift = np.array(offsets)[:, None, None]
    return human, 5 + slope * (human - 5) + shift + rng.normal(0, noise, human.shape)


def unrelated_judge(rng: Rng) -> tuple[Array, Array]:
    return normal_scores(rng), 2 + normal_scores(rng, gap=-0.5)


def doc_bound_judge(rng: Rng) -> tuple[Array, Array]:
    """Docs differ much more than samples of a doc, and the judge errs by doc, too."""
    human = normal_scores(rng, doc_sd=1.5, sample_sd=0.5)
    errs = rng.normal(0, 0.8, (2, DOCS, 1)) + rng.normal(0, 0.3, human.shape)
    return human, human + 1 + errs


SKEW = 0.8
"""Standard deviation of the log of what is missing to 10."""


def skewed_judge(rng: Rng) -> tuple[Array, Array]:
    """Whole numbers from 0 to 10, most near 10."""
    parts = rng.normal(0, 1, (1, DOCS, 1)), rng.normal(0, 1, (2, DOCS, SAMPLES))
    logs = np.array([0.5, 0.8])[:, None, None] + SKEW * (parts[0] + parts[1]) / math.sqrt(2)
    human = np.clip(np.round(10 - np.exp(logs)), 0, 10)
    return human, np.clip(np.round(0.7 * human + 2.5 + rng.normal(0, 1, human.shape)), 0, 10)


def skewed_mean(centre: float) -> float:
    """E of the rounded score: a sum over P(score ≥ v), v from 1 to 10."""
    limits = 10 - (np.arange(1, 11) - 0.5)  # rounds to v or more where exp(log) is at most this
    return float(stats.norm.cdf((np.log(limits) - centre) / SKEW).sum())


POPULATIONS = (
    Population("good judge", partial(linear_judge, slope=1, offsets=(0, 0), noise=0.5), (5, 5.5)),
    Population("biased judge", partial(linear_judge, slope=1, offsets=(2, 2), noise=1), (5, 5.5)),
    Population(
        "compressed scale", partial(linear_judge, slope=0.4, offsets=(1, 1), noise=0.4), (5, 5.5)
    ),
    Population(
        "biased in one mode, modes equal",
        partial(linear_judge, slope=1, offsets=(0, 1), noise=1, gap=0.0),
        (5, 5),
    ),
    Population("no correlation", unrelated_judge, (5, 5.5)),
    Population("docs far apart, judge errs by doc", doc_bound_judge, (5, 5.5)),
    Population("skewed, 0 to 10", skewed_judge, (skewed_mean(0.5), skewed_mean(0.8))),
)


# --- one data set ---


def once_simulated(population: Population, labels: int, together: bool, rng: Rng) -> Outcome:
    """`together`: the same samples of the same docs are labelled in both modes."""
    human, judge = population.draw(rng)
    first = _seed(rng)
    seeds = (first, first if together else _seed(rng))
    arms = [_scores(judge[mode], human[mode], labels, seeds[mode]) for mode in (0, 1)]
    found = _difference_outcome(*arms, population.means[1] - population.means[0])
    if not together:
        return found
    return _mean_outcome(arms[0], population.means[0]) | found


def once_tuned(population: Population, labels: int, rng: Rng) -> Outcome:
    """λ of the other docs for every doc, and one λ of all labels for all docs."""
    human, judge = population.draw(rng)
    scores = _scores(judge[0], human[0], labels, _seed(rng))
    crossed = calibrated_mean(scores)
    same = calibrated_mean(scores, judge_weight=crossed.judge_weight)
    truth = population.means[0]
    return {
        f"mean: {name}": _seen(each.estimate, truth, each.judge_weight, each.equivalent_labels)
        for name, each in ((CALIBRATED, crossed), (SAME, same))
    }


def _scores(judge: Array, human: Array, labels: int, seed: int) -> Scores:
    """Both (docs, samples)."""
    docs, samples = judge.shape
    drawn = draw_to_label([(d, s) for d in range(docs) for s in range(samples)], labels, seed)
    shown = np.full(judge.shape, math.nan)
    at = tuple(np.array(drawn).T)
    shown[at] = human[at]
    return Scores(np.repeat(np.arange(docs), samples), judge.ravel(), shown.ravel())


def _mean_outcome(scores: Scores, truth: float, naive: bool = True) -> dict[str, Any]:
    found = calibrated_mean(scores)
    asked = {
        f"mean: {CALIBRATED}": _seen(
            found.estimate, truth, found.judge_weight, found.equivalent_labels
        ),
        f"mean: {HUMAN}": _seen(found.human_mean, truth),
        f"mean: {JUDGE}": _seen(found.judge_mean, truth),
    }
    if naive:
        judge = np.asarray(scores.judge)
        flat = calibrated_mean(Scores(np.arange(len(judge)), judge, scores.human))
        asked[f"mean: {NAIVE}"] = _seen(flat.estimate, truth, flat.judge_weight)
    return asked


def _difference_outcome(a: Scores, b: Scores, truth: float) -> dict[str, Any]:
    found = calibrated_difference(a, b)
    return {
        f"difference: {CALIBRATED}": _seen(
            found.difference, truth, found.judge_weight, found.equivalent_labels
        ),
        f"difference: {HUMAN}": _seen(found.human_difference, truth),
        f"difference: {JUDGE}": _seen(found.judge_difference, truth),
    }


def _seen(
    found: Estimate | Difference, truth: float, weight: float = math.nan, labels: float = math.nan
) -> tuple[float, float, float, float, float]:
    value = found.difference if isinstance(found, Difference) else found.value
    return value - truth, found.ci_low - truth, found.ci_high - truth, weight, labels


def _seed(rng: Rng) -> int:
    return int(rng.integers(1 << 31))


# --- recorded judges: prompts are docs, stories their samples ---


@dataclass(frozen=True)
class Recorded:
    """Human and judges' scores, dimension → judge → (prompts, stories).

    Story 0 of a prompt was written by people.
    """

    human: Mapping[str, Array]
    judges: Mapping[str, Mapping[str, Array]]

    def by_correlation(self) -> list[str]:
        """Judges, the best last: mean over dimensions of Pearson's r with the human scores."""

        def mean_r(judge: str) -> float:
            return float(np.mean([self.r(dimension, judge) for dimension in self.human]))

        return sorted(next(iter(self.judges.values())), key=mean_r)

    def r(self, dimension: str, judge: str) -> float:
        pair = self.human[dimension].ravel(), self.judges[dimension][judge].ravel()
        return float(np.corrcoef(*pair)[0, 1])


@cache
def recorded() -> Recorded:
    if "PSPLIT_TEST_DATA" not in os.environ:
        raise SystemExit("PSPLIT_TEST_DATA is not set: expected the folder of the recorded scores")
    folder = Path(os.environ["PSPLIT_TEST_DATA"])
    rows = read_rows(folder / "hanna" / "human_vs_llm_scores.jsonl.gz")
    systems = list(dict.fromkeys(row["system"] for row in rows))
    at = [(row["prompt_index"], systems.index(row["system"])) for row in rows]
    assert sorted(at) == [(p, s) for p in range(PROMPTS) for s in range(STORIES)]

    def table(value: Callable[[Row], Any]) -> Array:
        filled = np.empty((PROMPTS, STORIES))
        for place, row in zip(at, rows, strict=True):
            filled[place] = value(row)
        return filled

    dimensions, judges = list(rows[0]["human"]), list(rows[0]["llm_judges"])
    return Recorded(
        {d: table(lambda row, d=d: row["human"][d]) for d in dimensions},
        {
            d: {j: table(lambda row, d=d, j=j: row["llm_judges"][j][d]) for j in judges}
            for d in dimensions
        },
    )


def once_recorded(dimension: str, best: bool, labels: int, anew: bool, rng: Rng) -> Outcome:
    """`anew`: 96 prompts are drawn from the 96 again and again, with replacement; else as given."""
    human, judge = _pair(dimension, best)
    prompts = rng.integers(0, PROMPTS, PROMPTS) if anew else np.arange(PROMPTS)
    scores = _scores(judge[prompts], human[prompts], labels, _seed(rng))
    return _mean_outcome(scores, float(human.mean()), naive=False)


def once_systems(dimension: str, best: bool, labels: int, rng: Rng) -> Outcome:
    """Stories by people less those by the system listed after them, one of each a prompt."""
    human, judge = _pair(dimension, best)
    prompts, seed = rng.integers(0, PROMPTS, PROMPTS), _seed(rng)
    arms = [
        _scores(judge[prompts, story, None], human[prompts, story, None], labels, seed)
        for story in (1, 0)
    ]
    return _difference_outcome(*arms, float((human[:, 0] - human[:, 1]).mean()))


@cache
def _pair(dimension: str, best: bool) -> tuple[Array, Array]:
    data = recorded()
    name = data.by_correlation()[-1 if best else 0]
    return data.human[dimension], data.judges[dimension][name]


# --- the study ---


@dataclass(frozen=True)
class Cell:
    """One setting; `once` draws one data set and asks of it."""

    part: str
    data: str
    labels: int
    once: Callable[[Rng], Outcome]
    repetitions: int = REPETITIONS


def simulated_cells() -> Iterator[Cell]:
    for population in POPULATIONS:
        for labels in LABELS:
            once = partial(once_simulated, population, labels, True)
            yield Cell("simulated", population.name, labels, once)


def apart_cells() -> Iterator[Cell]:
    """Labels of the two modes drawn one without the other."""
    for population in POPULATIONS:
        if population.name in ("biased judge", "biased in one mode, modes equal"):
            for labels in LABELS:
                once = partial(once_simulated, population, labels, False)
                yield Cell("apart", population.name, labels, once)


def tuning_cells() -> Iterator[Cell]:
    for population in POPULATIONS:
        if population.name in ("biased judge", "skewed, 0 to 10"):
            for labels in LABELS:
                once = partial(once_tuned, population, labels)
                yield Cell("tuning", population.name, labels, once)


def hanna_cells() -> Iterator[Cell]:
    for best in (True, False):
        for dimension in recorded().human:
            name = f"{'best' if best else 'worst'} judge, {dimension}"
            for labels in HANNA_LABELS:
                once = partial(once_recorded, dimension, best, labels, True)
                yield Cell("hanna", name, labels, once)
            for labels in HANNA_LABELS[1:2]:
                yield Cell("systems", name, labels, partial(once_systems, dimension, best, labels))
            once = partial(once_recorded, dimension, best, HANNA_LABELS[-1], False)
            yield Cell("given", name, HANNA_LABELS[-1], once)


PARTS: Mapping[str, Callable[[], Iterator[Cell]]] = {
    "simulated": simulated_cells,
    "apart": apart_cells,
    "tuning": tuning_cells,
    "hanna": hanna_cells,
}
FIELDS = (
    "part",
    "data",
    "labels",
    "asked",
    "repetitions",
    "undefined",
    "coverage",
    "ci_low",
    "ci_high",
    "bias",
    "sd",
    "width",
    "judge_weight",
    "equivalent_labels",
)


def run_cell(cell: Cell) -> list[Row]:
    """Of everything asked: how often the interval covers the truth, and how long it is."""
    rng = np.random.default_rng(
        [SEED, zlib.crc32(f"{cell.part}/{cell.data}/{cell.labels}".encode())]
    )
    seen: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for _ in range(cell.repetitions):
        for asked, outcome in cell.once(rng).items():
            seen[asked].append(outcome)
    return [_row(cell, asked, np.array(outcomes)) for asked, outcomes in seen.items()]


def _row(cell: Cell, asked: str, outcomes: Array) -> Row:
    error, low, high, weight, labels = outcomes[~np.isnan(outcomes[:, 1])].T
    hits, n = int(((low <= 0) & (high >= 0)).sum()), len(error)
    wilson = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    numbers = (
        hits / n,
        wilson.low,
        wilson.high,
        error.mean(),
        error.std(ddof=1),
        (high - low).mean(),
        weight.mean(),
        np.median(labels),
    )
    undefined = str(cell.repetitions - n)
    place = (cell.part, cell.data, str(cell.labels), asked, str(cell.repetitions), undefined)
    cells = (*place, *("" if math.isnan(x) else f"{x:.4f}" for x in numbers))
    return dict(zip(FIELDS, cells, strict=True))


def read_results() -> list[Row]:
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_results(rows: Sequence[Row]) -> None:
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def study(parts: Sequence[str]) -> None:
    cells = [cell for part in parts for cell in PARTS[part]()]
    found: list[Row] = []
    for number, cell in enumerate(cells, 1):
        found += run_cell(cell)
        print(f"{number}/{len(cells)} {cell.part}: {cell.data}, {cell.labels} labels", flush=True)
    again = {cell.part for cell in cells}
    kept = [row for row in read_results() if row["part"] not in again] if RESULTS.exists() else []
    write_results([*kept, *found])


# --- the tables of docs/judges_calibration.md ---


def tables(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Simulated means and differences, labels apart, λ, recorded judges, two systems."""
    simulated, apart, tuning, hanna, given, systems = (
        [row for row in rows if row["part"] == part]
        for part in ("simulated", "apart", "tuning", "hanna", "given", "systems")
    )
    yield list(_coverage(simulated, "mean", (CALIBRATED, HUMAN, JUDGE, NAIVE)))
    yield list(_coverage(simulated, "difference", (CALIBRATED, HUMAN, JUDGE)))
    yield list(_coverage(apart, "difference", (CALIBRATED, HUMAN, JUDGE)))
    yield list(_tuning(tuning))
    yield list(_coverage(hanna, "mean", (CALIBRATED, HUMAN, JUDGE)))
    yield list(_coverage(given, "mean", (CALIBRATED, HUMAN, JUDGE)))
    yield list(_coverage(systems, "difference", (CALIBRATED, HUMAN, JUDGE)))


def _tuning(rows: Sequence[Row]) -> Iterator[str]:
    """Coverage in per cent, bias in standard deviations of the estimate."""
    kinds = (CALIBRATED, SAME)
    yield _line(("data", "labels", *kinds, *(f"bias: {kind}" for kind in kinds)))
    yield "|---" * 6 + "|"
    for row, same in zip(rows[::2], rows[1::2], strict=True):
        both = (row, same)
        shown = (f"{100 * float(each['coverage']):.1f}" for each in both)
        biases = (f"{float(each['bias']) / float(each['sd']):+.2f}" for each in both)
        yield _line((row["data"], row["labels"], *shown, *biases))


def _coverage(rows: Sequence[Row], kind: str, asked: Sequence[str]) -> Iterator[str]:
    """A line of each data: coverage in per cent by labels, then what the judge saved."""
    labels = list(dict.fromkeys(row["labels"] for row in rows))
    shown = f"data; {' / '.join(labels)} labels"
    yield _line((shown, *(f"{name} (%)" for name in asked), "width", "as good as"))
    yield "|---" * (len(asked) + 3) + "|"
    found = {(row["data"], row["labels"], row["asked"]): row for row in rows}
    for data in dict.fromkeys(row["data"] for row in rows):
        of = [[found[data, n, f"{kind}: {name}"] for n in labels] for name in asked]
        rates = [[f"{100 * float(row['coverage']):.1f}" for row in each] for each in of]
        pairs = list(zip(of[0], of[1], strict=True))
        widths = [f"{float(row['width']) / float(alone['width']):.2f}" for row, alone in pairs]
        saved = [f"{float(row['equivalent_labels']):.0f}" for row, _ in pairs]
        yield _line((data, *(" / ".join(each) for each in (*rates, widths, saved))))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("study").add_argument("parts", nargs="*", help=", ".join(PARTS))
    commands.add_parser("table")
    options = parser.parse_args()
    if options.command == "table":
        print("\n\n".join("\n".join(table) for table in tables(read_results())))
    else:
        study(options.parts or list(PARTS))


if __name__ == "__main__":
    main()
