"""A/A truth: how often do tests claim a difference between arms that do not differ?

From one stored run of real samples, arms are drawn again and again so that the null hypothesis is
true; a test of nominal level 5 % may then reject 5 % of the time. Steps, one command each:

    python benchmarks/aa.py rows /tmp/aa.jsonl          # the 256 rows of the run
    psplit-eval run --model smollm2-135m --modes normal,high --tasks psplit_reading \\
        --data psplit_reading=/tmp/aa.jsonl --samples 16 --out /tmp/aa
    python benchmarks/aa.py extract /tmp/aa             # tests/data/aa_reading.csv
    python benchmarks/aa.py study                       # benchmarks/results/aa.csv and aa.png
    python benchmarks/aa.py table                       # the tables of docs/aa.md

The extract is committed: `study` needs neither the run nor a model. What the designs are, and what
came out, is in docs/aa.md.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import runpy
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from psplit_eval.protocol import compare_docs, rule_of
from psplit_eval.stats import (
    Estimate,
    holm,
    mean_estimate,
    ratio_estimate,
)
from psplit_eval.store import Sample, Store

ROOT = Path(__file__).resolve().parent.parent
EXTRACT = ROOT / "tests" / "data" / "aa_reading.csv"
RESULTS = ROOT / "benchmarks" / "results" / "aa.csv"
FIGURE = RESULTS.with_suffix(".png")

TASK, MODES, ROWS, SAMPLES = "psplit_reading", ("normal", "high"), 256, 16
METRICS = ("accuracy_avg", "tokens_mean", "entropy_bits")
SEED, ALPHA, REPETITIONS = 20260411, 0.05, 10_000
FAMILY, FAMILIES = 20, 3_000

Array = NDArray[np.float64]
Data = dict[str, Array]
"""Metric → (2, 4, docs, samples): numerators and denominators (1 for a plain mean).

Axis 1: the two modes as sampled, then the two modes shifted so that their means are equal.
"""
Index = tuple[Any, Any, Any]
"""Where an arm's samples lie: modes, docs and sample numbers that broadcast to (docs, samples)."""
Row = dict[str, str]


# --- rows and extract: from the stored run to the committed extract ---


def write_rows(path: Path) -> None:
    generate = runpy.run_path(str(ROOT / "tasks" / "generate.py"))
    rows = generate["reading"](random.Random(f"{generate['SEED']}/aa"), ROWS)
    path.write_text(generate["lines"](rows))


def extract(run: Path) -> int:
    """Write EXTRACT, one line a mode and doc; returns the number of docs."""
    with Store(run / "samples.sqlite") as store:
        right = {
            (m.mode, m.doc_id, m.sample_idx): int(m.value)
            for m in store.metrics(TASK)
            if m.metric == "correct"
        }
        samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        for sample in store.samples(TASK):
            if sample.error is None:
                samples[sample.mode, sample.doc_id].append(sample)
    whole = {key for key, members in samples.items() if len(members) == SAMPLES}
    docs = sorted({doc for _, doc in whole if {(mode, doc) for mode in MODES} <= whole})
    with EXTRACT.open("w", newline="") as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(["mode", "doc_id", "correct", "completion_tokens", "entropy_sum_bits"])
        for mode in MODES:
            for doc in docs:
                write([mode, doc, *_extract_line(samples[mode, doc], right)])
    return len(docs)


def _extract_line(
    samples: Sequence[Sample], right: Mapping[tuple[str, int, int | None], int]
) -> list[str]:
    columns = (
        (right[s.mode, s.doc_id, s.sample_idx] for s in samples),
        (s.completion_tokens for s in samples),
        (f"{s.entropy_sum_bits:.4f}" for s in samples),
    )
    return [" ".join(map(str, column)) for column in columns]


def load(path: Path = EXTRACT) -> Data:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))

    def column(name: str) -> Array:
        values = [[float(x) for x in line[name].split()] for line in lines]
        return np.array(values).reshape(len(MODES), -1, SAMPLES)

    correct, tokens, bits = map(column, ("correct", "completion_tokens", "entropy_sum_bits"))
    ones = np.ones_like(correct)
    pairs = ((correct, ones), (tokens, ones), (bits, tokens))
    return {name: _with_equal_means(*pair) for name, pair in zip(METRICS, pairs, strict=True)}


def _with_equal_means(up: Array, down: Array) -> Array:
    each = up.sum((1, 2), keepdims=True) / down.sum((1, 2), keepdims=True)
    shifted = up + (up.sum() / down.sum() - each) * down
    return np.stack([np.concatenate([up, shifted]), np.concatenate([down, down])])


# --- designs: two arms that do not differ, drawn at random; and one that does ---


def split(rng: np.random.Generator, docs: int, n: int, k: int) -> tuple[Index, Index]:
    """The same n docs in one mode; each doc's samples are dealt to two arms of k."""
    chosen, dealt = rng.permutation(docs)[:n, None], _dealt(rng, n)
    return (0, chosen, dealt[:, :k]), (0, chosen, dealt[:, k : 2 * k])


def halves(rng: np.random.Generator, docs: int, n: int, k: int) -> tuple[Index, Index]:
    """One mode; two arms of n docs each that share no doc."""
    chosen = rng.permutation(docs)[:, None]
    return (0, chosen[:n], _dealt(rng, n)[:, :k]), (0, chosen[n : 2 * n], _dealt(rng, n)[:, :k])


def swap(rng: np.random.Generator, docs: int, n: int, k: int) -> tuple[Index, Index]:
    """Two modes on the same n docs; a fair coin a doc decides which mode is in which arm."""
    chosen, coin = rng.permutation(docs)[:n, None], rng.integers(2, size=(n, 1))
    return (coin, chosen, _dealt(rng, n)[:, :k]), (1 - coin, chosen, _dealt(rng, n)[:, :k])


def swap_equal_means(rng: np.random.Generator, docs: int, n: int, k: int) -> tuple[Index, Index]:
    """As `swap`, after the modes' means were made equal: only doc by mode is left."""
    (one, *a), (two, *b) = swap(rng, docs, n, k)
    return (one + 2, *a), (two + 2, *b)


def real(rng: np.random.Generator, docs: int, n: int, k: int) -> tuple[Index, Index]:
    """Two modes on the same n docs as they are. Not A/A: what is rejected here is power."""
    chosen = rng.permutation(docs)[:n, None]
    return (0, chosen, _dealt(rng, n)[:, :k]), (1, chosen, _dealt(rng, n)[:, :k])


def _dealt(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    return rng.permuted(np.tile(np.arange(SAMPLES), (n, 1)), axis=1)


Design = Callable[[np.random.Generator, int, int, int], tuple[Index, Index]]
DESIGNS: dict[str, Design] = {f.__name__: f for f in (split, halves, swap, swap_equal_means, real)}
SIZES = {
    "split": ((30, 60, 120, 240), (1, 4, 8)),  # two arms of 8 are all 16 samples
    "halves": ((30, 60, 120), (1, 4, 8, 16)),  # two arms of 120 are nearly all docs
    "swap": ((30, 60, 120, 240), (1, 4, 8, 16)),
    "swap_equal_means": ((30, 60, 120, 240), (1, 4, 8, 16)),
    "real": ((30, 60, 120), (4, 16)),
}


# --- tests: the same functions, given one number a doc or (naively) one number a sample ---


@dataclass(frozen=True)
class Test:
    """`unit`: what counts as one observation; `paired`: whether units are compared one to one."""

    unit: str
    paired: bool

    def p(self, metric: str, a: Array, b: Array) -> float:
        """p-value of two arms, both (2, docs, samples)."""
        left, right = (x.sum(2) if self.unit == "docs" else x.reshape(2, -1) for x in (a, b))
        return (_paired_p if self.paired else _unpaired_p)(metric, left, right)


DOCS, DOCS_UNPAIRED = Test("docs", True), Test("docs", False)
NAIVE, NAIVE_UNPAIRED = Test("samples", True), Test("samples", False)
COMPARED: dict[str, tuple[Test, Test | None, Test]] = {
    "split": (DOCS, NAIVE, NAIVE_UNPAIRED),
    "halves": (DOCS_UNPAIRED, None, NAIVE_UNPAIRED),
    "swap": (DOCS, NAIVE, NAIVE_UNPAIRED),
    "swap_equal_means": (DOCS, NAIVE, NAIVE_UNPAIRED),
    "real": (DOCS, NAIVE, NAIVE_UNPAIRED),
}
"""By design: docs as units, then samples as units, paired and unpaired."""


def _paired_p(metric: str, a: Array, b: Array) -> float:
    rule = rule_of(metric)
    if rule.ratio:
        return compare_docs(rule, (a[0], a[1]), (b[0], b[1])).p
    return compare_docs(rule, a[0] / a[1], b[0] / b[1], one_sample=True).p


def _unpaired_p(metric: str, a: Array, b: Array) -> float:
    """Welch's test on psplit's own standard errors, which its comparisons never join unpaired."""
    moments = [x for arm in (a, b) for x in _moments(_estimate(metric, arm))]
    return float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)


def _estimate(metric: str, arm: Array) -> Estimate:
    if metric == "entropy_bits":
        return ratio_estimate(arm[0], arm[1])
    return mean_estimate(arm[0] / arm[1])


def _moments(found: Estimate) -> tuple[float, float, int]:
    error = (found.ci_high - found.value) / _quantile(found.n - 1)
    return found.value, error * math.sqrt(found.n), found.n


@lru_cache
def _quantile(freedom: int) -> float:
    return float(stats.t.ppf(0.975, freedom))


# --- study ---


@dataclass(frozen=True)
class Cell:
    """n docs and k samples a doc in each arm; `family` comparisons are corrected together."""

    design: str
    n: int
    k: int
    family: int = 1

    @property
    def repetitions(self) -> int:
        return REPETITIONS if self.family == 1 else self.family * FAMILIES


CELLS = [Cell(d, n, k) for d, (ns, ks) in SIZES.items() for n in ns for k in ks]
FAMILY_CELLS = [
    Cell("split", 60, 8, FAMILY),
    Cell("halves", 60, 16, FAMILY),
    Cell("swap", 60, 16, FAMILY),
]


def p_values(
    data: Data, cell: Cell, repetitions: int, metrics: Sequence[str], tests: Sequence[Test]
) -> Array:
    """(repetitions, metrics, tests). The draws depend on the cell alone."""
    name = f"{cell.design} {cell.n} {cell.k} {cell.family}"
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    docs = data[METRICS[0]].shape[2]
    p = np.empty((repetitions, len(metrics), len(tests)))
    for row in p:
        a, b = DESIGNS[cell.design](rng, docs, cell.n, cell.k)
        for i, metric in enumerate(metrics):
            arms = (data[metric][(slice(None), *where)] for where in (a, b))
            left, right = arms
            row[i] = [test.p(metric, left, right) for test in tests]
    return p


def run_cell(data: Data, cell: Cell) -> list[Row]:
    tests = tuple(test for test in COMPARED[cell.design] if test)
    if cell.family > 1:
        tests = tuple(test for test in tests if test.paired == (cell.design != "halves"))
    p = p_values(data, cell, cell.repetitions, METRICS, tests)
    rows = []
    for i, metric in enumerate(METRICS):
        for j, test in enumerate(tests):
            for correction, rejected in _rejections(p[:, i, j], cell.family):
                rows.append(_row(cell, metric, test, correction, p[:, i, j], rejected))
    return rows


def _rejections(p: Array, family: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """For every repetition, or family, whether anything is claimed; an undefined p claims none."""
    if family == 1:
        yield "none", p < ALPHA
        return
    families = p.reshape(-1, family)
    yield "none", np.any(families < ALPHA, axis=1)
    yield "Holm", np.array([any(q < ALPHA for q in holm(list(one))) for one in families])


def _row(
    cell: Cell, metric: str, test: Test, correction: str, p: Array, rejected: NDArray[np.bool_]
) -> Row:
    count = int(rejected.sum())
    interval = stats.binomtest(count, len(rejected)).proportion_ci(method="wilson")
    return {
        "design": cell.design,
        "n_docs": str(cell.n),
        "k_samples": str(cell.k),
        "family": str(cell.family),
        "metric": metric,
        "unit": test.unit,
        "pairing": "paired" if test.paired else "unpaired",
        "correction": correction,
        "repetitions": str(len(rejected)),
        "undefined_p": str(int(np.isnan(p).sum())),
        "rejected": str(count),
        "rate": f"{count / len(rejected):.4f}",
        "ci_low": f"{interval.low:.4f}",
        "ci_high": f"{interval.high:.4f}",
    }


def study() -> list[Row]:
    data = load()
    with ProcessPoolExecutor() as pool:
        cells = FAMILY_CELLS + CELLS  # the longest first
        found = list(pool.map(run_cell, [data] * len(cells), cells))
    rows = [row for part in found[len(FAMILY_CELLS) :] + found[: len(FAMILY_CELLS)] for row in part]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def read_results() -> list[Row]:
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


# --- what people read: tables in Markdown, one figure ---

TITLES = {
    "split": "same docs,\nsamples dealt to two arms",
    "halves": "two arms of\ndifferent docs",
    "swap": "two modes, labels swapped\ndoc by doc at random",
    "swap_equal_means": "labels swapped, the modes'\nmeans made equal first",
}


def _found(rows: Sequence[Row], test: Test | None, **wanted: object) -> list[Row]:
    if test is None:
        return []
    wanted |= {"unit": test.unit, "pairing": "paired" if test.paired else "unpaired"}
    return [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]


def _spread(rows: Sequence[Row]) -> str:
    """Smallest and largest rate in per cent."""
    rates = [100 * float(row["rate"]) for row in rows]
    return f"{min(rates):.1f} to {max(rates):.1f}" if rates else "–"


def single_table(rows: Sequence[Row], designs: Sequence[str]) -> Iterator[str]:
    """Smallest to largest rate over the numbers of docs; k = 4 and the largest k."""
    yield "| design | metric | k | docs (%) | samples, paired (%) | samples, unpaired (%) |"
    yield "|---|---|---|---|---|---|"
    for design in designs:
        for metric in METRICS:
            for k in (4, SIZES[design][1][-1]):
                cells = [
                    _spread(_found(rows, t, design=design, metric=metric, k_samples=k, family=1))
                    for t in COMPARED[design]
                ]
                yield f"| {design} | {metric} | {k} | " + " | ".join(cells) + " |"


def family_table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| design | metric | docs, no correction (%) | docs, Holm (%) | samples, Holm (%) |"
    yield "|---|---|---|---|---|"
    for cell in FAMILY_CELLS:
        ours, naive, unpaired = COMPARED[cell.design]
        columns = ((ours, "none"), (ours, "Holm"), (naive or unpaired, "Holm"))
        for metric in METRICS:
            wanted = {"design": cell.design, "metric": metric, "family": FAMILY}
            cells = [_rate(_found(rows, t, correction=c, **wanted)[0]) for t, c in columns]
            yield f"| {cell.design} | {metric} | " + " | ".join(cells) + " |"


def _rate(row: Row) -> str:
    rate, low, high = (100 * float(row[name]) for name in ("rate", "ci_low", "ci_high"))
    return f"{rate:.1f} [{low:.1f}, {high:.1f}]"


def variance_table(data: Data) -> Iterator[str]:
    yield "| metric | normal | high | doc (%) | mode (%) | doc by mode (%) | sampling (%) |"
    yield "|---|---|---|---|---|---|---|"
    for metric in METRICS:
        up, down = data[metric][:, :2]
        ratios = up.sum((1, 2)) / down.sum((1, 2))
        shares = 100 * variance_shares(data[metric][:, :2])
        values = [*(f"{x:.3f}" for x in ratios), *(f"{x:.1f}" for x in shares)]
        yield f"| {metric} | " + " | ".join(values) + " |"


def variance_shares(pair: Array) -> Array:
    """Shares of one sample's variance: doc, mode, doc by mode, sampling; they sum to 1.

    By the method of moments on linearised values, docs and modes crossed, samples nested.
    """
    up, down = pair
    total = down.sum((1, 2), keepdims=True)
    values = (up - up.sum() / down.sum() * down) / (total / down[0].size)
    within = float(values.var(2, ddof=1).mean())
    first, second = values.mean(2)
    mode = float((first - second).mean()) ** 2 / 2
    by_mode = float((first - second).var(ddof=1)) / 2 - within / SAMPLES
    doc = float(np.cov(first, second)[0, 1])
    parts = np.array([doc, mode, max(by_mode, 0.0), within])
    return np.asarray(parts / parts.sum())


def print_tables() -> None:
    rows = read_results()
    for lines in (
        variance_table(load()),
        single_table(rows, list(TITLES)),
        family_table(rows),
        single_table(rows, ("real",)),
    ):
        print("\n".join(lines), end="\n\n")


def plot(rows: Sequence[Row]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(3, 4, figsize=(11, 8), sharey="col", layout="constrained")
    for row, metric in zip(grid, METRICS, strict=True):
        for axis, design in zip(row, TITLES, strict=True):
            _panel(axis, rows, design, metric)
        row[0].set_ylabel(f"{metric}\nfalse positives (%)")
    for axis, title in zip(grid[0], TITLES.values(), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)  # a shared axis stops growing here: after all panels
    for axis in grid[-1]:
        axis.set_xlabel("samples a doc, k")
    figure.suptitle(
        "Side by side: 30, 60, 120 (and 240) docs in each arm. Each column has its own scale.",
        fontsize=10,
    )
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(FIGURE, dpi=150, metadata={"Software": None})


STYLES = (
    ("docs as units", "#0072B2", "o", -0.22),
    ("samples as units, paired", "#E69F00", "^", 0.0),
    ("samples as units, unpaired", "#D55E00", "s", 0.22),
)


def _panel(axis: Any, rows: Sequence[Row], design: str, metric: str) -> None:
    axis.axhline(100 * ALPHA, color="#555555", linewidth=1, linestyle="--", label="nominal 5 %")
    for test, (name, colour, marker, shift) in zip(COMPARED[design], STYLES, strict=True):
        found = _found(rows, test, design=design, metric=metric, family=1)
        if found:
            x, y = zip(*(_point(row, SIZES[design], shift) for row in found), strict=True)
            axis.plot(x, y, marker, color=colour, markersize=4, label=name, clip_on=False)
    ks = SIZES[design][1]
    axis.set_xticks(range(len(ks)), [str(k) for k in ks])
    axis.grid(axis="y", color="#dddddd", linewidth=0.7)


def _point(
    row: Row, sizes: tuple[Sequence[int], Sequence[int]], shift: float
) -> tuple[float, float]:
    place = sizes[1].index(int(row["k_samples"])) + 0.045 * (
        sizes[0].index(int(row["n_docs"])) - 1.5
    )
    return place + shift, 100 * float(row["rate"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("rows").add_argument("file", type=Path)
    steps.add_parser("extract").add_argument("run", type=Path)
    steps.add_parser("study")
    steps.add_parser("table")
    asked = parser.parse_args()
    if asked.step == "rows":
        write_rows(asked.file)
    elif asked.step == "extract":
        print(f"{extract(asked.run)} docs written to {EXTRACT}")
    elif asked.step == "study":
        plot(study())
        print_tables()
    else:
        print_tables()


if __name__ == "__main__":
    main()
