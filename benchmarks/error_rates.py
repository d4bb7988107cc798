"""Do the statistics keep their promises? Error rates on simulated data whose truth is known.

    python benchmarks/error_rates.py study              # benchmarks/results/error_rates.csv
    python benchmarks/error_rates.py study claims power # these parts again, all others as they are
    python benchmarks/error_rates.py table              # the tables of docs/error_rates.md
    python benchmarks/error_rates.py speed              # benchmarks/results/error_rates_speed.csv

Every data set goes through psplit's own functions, one call each; nothing is computed again here.
The populations are in simulated.py; what came out, and what it means, is in docs/error_rates.md.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bootstrap_speed import measured
from error_rates_tables import BELOW, INTERVAL, NAIVE, tables
from scipy import stats
from simulated import (
    Binary,
    Normal,
    Population,
    Seeds,
    Skewed,
    Tokens,
    crossed,
    delta_of,
    mirrored,
    truth_of,
)

from psplit_eval.effects import cliffs_delta, cohens_dz, odds_ratio
from psplit_eval.margins import Claim, Verdict, decide
from psplit_eval.power import docs_needed, needed, power
from psplit_eval.protocol import compare_docs, rule_of
from psplit_eval.resampling import (
    MEAN,
    RATIO,
    Array,
    bca_interval,
    difference_of,
    studentised_interval,
    swap_test,
)
from psplit_eval.stats import (
    Difference,
    Estimate,
    crossed_difference,
    fixed_docs_difference,
    holm,
    mcnemar_difference,
    mean_estimate,
    paired_mean_difference,
    paired_ratio_difference,
    ratio_estimate,
    stratified_difference,
    wilcoxon_p,
)

RESULTS = Path(__file__).resolve().parent / "results" / "error_rates.csv"
SPEED = RESULTS.with_name("error_rates_speed.csv")
SEED, ALPHA = 20261125, 0.05
REPETITIONS, BOOTSTRAPS, RESAMPLES = 10_000, 2_000, 2_000
FAMILY, FAMILIES = 20, 5_000
LEVELS, MANY = (0.05, 0.0112, 0.0025), 40_000
DOCS = (30, 100, 500)
SHIFT = 0.4

Rng = np.random.Generator
Row = dict[str, str]
Outcome = Mapping[str, float | None]
"""Of one data set: what was asked → 1 where it came true, else 0; None where there is no answer.
DIFFERING is a number."""
Wanted = tuple[float, float]

DIFFERING = "docs that differ"
LEVEL, EXACT, COVER, ANY = (0.04, 0.06), (0.0, 0.06), (0.93, 0.97), (0.0, 1.0)


@dataclass(frozen=True)
class Cell:
    """One setting. `once`: draws one data set and asks of it; `wanted`: range of the rates."""

    part: str
    population: str
    docs: str
    k: int
    case: str
    once: Callable[[Rng], Outcome]
    wanted: Wanted = LEVEL
    repetitions: int = REPETITIONS
    predicted: float = math.nan

    @property
    def name(self) -> str:
        return f"{self.part}/{self.population}/{self.docs}/{self.k}/{self.case}"


# --- a: false claims where nothing differs; the interval of the same call has to cover 0 ---


def once_paired(
    population: Population, docs: int, k: int, ranks: bool, swaps: bool, rng: Rng
) -> Outcome:
    samples = population.draw(rng, docs, k)
    a, b = samples.mean(axis=2)
    found = paired_mean_difference(a, b, population.fraction)
    asked = {"paired t-test": found.p < ALPHA}
    if k == 1 and population.fraction:  # as a report compares right and wrong
        single = mcnemar_difference(a, b)
        asked["McNemar mid-p"] = single.p < ALPHA
        asked["interval: paired single answers"] = _covers(single, 0)
    else:
        asked["interval: paired difference"] = _covers(found, 0)
    if ranks:
        asked["Wilcoxon"] = wilcoxon_p(a, b) < ALPHA
    if swaps:
        p = swap_test(a[:, None], b[:, None], resamples=RESAMPLES, seed=_seed(rng))
        asked["swap test"] = p < ALPHA
    if k > 1:
        naive = paired_mean_difference(*samples.reshape(2, -1), population.fraction)
        asked[f"{NAIVE}paired t-test"] = naive.p < ALPHA
    return asked | {DIFFERING: float((a != b).sum())}


def once_ratio(population: Tokens, docs: int, k: int, rng: Rng) -> Outcome:
    bits, tokens = population.draw(rng, docs, k)
    arms = list(zip(bits.sum(axis=2), tokens.sum(axis=2), strict=True))
    found, truth = paired_ratio_difference(*arms), population.ratios
    asked = {"interval: paired ratio difference": _covers(found, truth[1] - truth[0])}
    asked["interval: ratio of one arm"] = _covers(ratio_estimate(*arms[0]), truth[0])
    if population.shift == 0:
        asked["paired ratio t-test"] = found.p < ALPHA
        if k > 1:
            flat = list(zip(bits.reshape(2, -1), tokens.reshape(2, -1), strict=True))
            asked[f"{NAIVE}paired ratio t-test"] = paired_ratio_difference(*flat).p < ALPHA
    return asked


def once_given(population: Binary | Normal, docs: int, k: int, same: bool, rng: Rng) -> Outcome:
    """`same`: docs do not differ between arms at all; else they do, by 0 on average exactly."""
    if same:
        means = np.repeat(population.means(rng, docs, 1), 2, axis=0)
    else:
        means = mirrored(population, rng, docs)
    samples = population.sampled(rng, means, k)
    (a, b), noise = samples.mean(axis=2), samples.var(axis=2, ddof=1) / k
    counts = np.full(docs, k)
    found = fixed_docs_difference(a, b, (noise[0], noise[1]), (counts, counts))
    naive = paired_mean_difference(*samples.reshape(2, -1))
    return {
        "t-test given the docs": found.p < ALPHA,
        "interval: given the docs": _covers(found, 0),
        f"{NAIVE}t-test given the docs": naive.p < ALPHA,
        DIFFERING: float((a != b).sum()),
    }


def once_stratified(
    tasks: Sequence[tuple[Population, int, bool]], truth: float, k: int, rng: Rng
) -> Outcome:
    """Tasks are (population, docs, whether its arms are swapped)."""
    drawn = [
        population.draw(rng, docs, k)[:: -1 if swapped else 1]
        for population, docs, swapped in tasks
    ]
    found, naive = (
        stratified_difference(
            [
                paired_mean_difference(*arm, population.fraction)
                for arm, (population, *_) in zip(arms, tasks, strict=True)
            ]
        )
        for arms in ([x.mean(axis=2) for x in drawn], [x.reshape(2, -1) for x in drawn])
    )
    asked = {"interval: stratified": _covers(found, truth)}
    if truth == 0:
        asked["stratified t-test"] = found.p < ALPHA
        asked[f"{NAIVE}stratified t-test"] = naive.p < ALPHA
    return asked


def once_crossed(case: Seeds, docs: int, k: int, rng: Rng) -> Outcome:
    a, b = crossed(rng, case, docs, k)
    found = crossed_difference(a, b, case.paired)
    kind = _pairing(case)
    asked = {f"interval: crossed, {kind}": _covers(found, case.shift)}
    if case.shift == 0:
        naive = paired_mean_difference(a.ravel(), b.ravel())
        asked[f"crossed, {kind}"] = found.p < ALPHA
        asked[f"{NAIVE}crossed, {kind}"] = naive.p < ALPHA
    return asked


def once_levels(case: Seeds, docs: int, k: int, rng: Rng) -> Outcome:
    """At the levels that Holm's correction leaves, two-sided."""
    p = crossed_difference(*crossed(rng, case, docs, k), case.paired).p
    return {f"{BELOW}{level:g}": p < level for level in LEVELS}


def _covers(found: Difference | Estimate | tuple[float, float], truth: float) -> bool | None:
    """None where no interval is given."""
    low, high = found if isinstance(found, tuple) else (found.ci_low, found.ci_high)
    return None if math.isnan(low) else bool(low <= truth <= high)


def _seed(rng: Rng) -> int:
    return int(rng.integers(1 << 31))


BINARY = (Binary(0.5, 0.3), Binary(0.8, 2.0), Binary(0.95, 2.0))
CONTINUOUS = (Normal(), Skewed())


def paired_cells() -> Iterator[Cell]:
    for population in (*BINARY, *CONTINUOUS):
        wanted = EXACT if population.fraction else LEVEL
        sizes = [(n, k) for n in DOCS for k in ((1, 8) if population.fraction else (8,))]
        for n, k in [*sizes, (100, 64) if population.fraction else (30, 1)]:
            ranks, swaps = k == 8 and n == 30, k == 8 and n == 100 and population != BINARY[-1]
            once = partial(once_paired, population, n, k, ranks, swaps)
            yield Cell("paired", population.name, str(n), k, "equal", once, wanted)


def ratio_cells() -> Iterator[Cell]:
    for n in DOCS:
        for k in (1, 8):
            once = partial(once_ratio, Tokens(), n, k)
            yield Cell("ratio", Tokens().name, str(n), k, "equal", once)
    shifted = partial(once_ratio, Tokens(0.2), 100, 8)
    yield Cell("ratio", Tokens().name, "100", 8, "shifted", shifted)


def given_cells() -> Iterator[Cell]:
    sizes = ((30, 2), (100, 8), (500, 8))
    cells = [(population, n, k) for population in (BINARY[0], Normal()) for n, k in sizes]
    for population, n, k in [*cells, (BINARY[-1], 100, 8)]:
        wanted = EXACT if population.fraction else LEVEL
        for case in ("no doc differs", "docs differ, not on average"):
            once = partial(once_given, population, n, k, case == "no doc differs")
            yield Cell("given", population.name, str(n), k, case, once, wanted)


def stratified_cells() -> Iterator[Cell]:
    """Three tasks: in 'opposed' the last two differ, one up and one down, by the same."""
    for sizes in ((5, 20, 200), (30, 100, 500)):
        for case in ("opposed", "shifted"):
            for first, other, wanted in (
                (BINARY[0], Binary(0.8, 2.0, SHIFT), EXACT),
                (Normal(), Normal(SHIFT), LEVEL),
            ):
                tasks = (first, other, other)
                truth = sum(truth_of(task).gap for task in tasks) / 3 if case == "shifted" else 0.0
                swapped = (False, False, case == "opposed")
                members = list(zip(tasks, sizes, swapped, strict=True))
                once = partial(once_stratified, members, truth, 8)
                name = "binary tasks" if first.fraction else "normal tasks"
                yield Cell("stratified", name, " + ".join(map(str, sizes)), 8, case, once, wanted)


def crossed_cells() -> Iterator[Cell]:
    for binary in (False, True):
        for seeds in (3, 5):
            for spread in (0.02, 0.2):
                for paired in (False, True):
                    yield _crossed_cell(Seeds(seeds, spread, paired, binary))
    for paired in (False, True):
        yield _crossed_cell(Seeds(3, 0.4, paired, False))
        yield _crossed_cell(Seeds(5, 0.2, paired, False, 0.2))


def _crossed_cell(seeds: Seeds) -> Cell:
    case = _pairing(seeds) + (", shifted" if seeds.shift else "")
    once, wanted = partial(once_crossed, seeds, 100, 8), EXACT if seeds.binary else LEVEL
    return Cell("crossed", seeds.name, "100", 8, case, once, wanted)


def level_cells() -> Iterator[Cell]:
    for count in (2, 3, 5):
        for spread in (0.2, 0.4):
            for paired in (False, True):
                seeds = Seeds(count, spread, paired, binary=False)
                once = partial(once_levels, seeds, 100, 8)
                yield Cell("levels", seeds.name, "100", 8, _pairing(seeds), once, repetitions=MANY)


def _pairing(seeds: Seeds) -> str:
    return "paired" if seeds.paired else "unpaired"


# --- b: coverage where the arms differ ---


def once_covered(population: Population, docs: int, k: int, rng: Rng) -> Outcome:
    truth, delta = truth_of(population), delta_of(population, k)
    a, b = population.draw(rng, docs, k).mean(axis=2)
    found = paired_mean_difference(a, b, population.fraction)
    size = truth.gap / math.sqrt(truth.parts.variance(k))
    asked = {
        "interval: paired difference": _covers(found, truth.gap),
        "interval: Cohen's d_z": _covers(cohens_dz(a, b), size),
        "interval: Cliff's delta": _covers(cliffs_delta(a, b), delta),
        DIFFERING: float((a != b).sum()),
    }
    mean = mean_estimate(a, fraction=population.fraction)
    asked[f"interval: mean of {_unit(population)}"] = _covers(mean, truth.mean_a)
    if population.fraction:
        odds = [m / (1 - m) for m in (truth.mean_a, truth.mean_b)]
        asked["interval: odds ratio"] = _covers(odds_ratio(a, b), odds[1] / odds[0])
    return asked


def _unit(population: Population) -> str:
    return "fractions" if population.fraction else "values"


def coverage_cells() -> Iterator[Cell]:
    shifted = [replace(population, shift=SHIFT) for population in BINARY]
    for population in (*shifted, Normal(SHIFT), Skewed(SHIFT)):
        for n in DOCS if population == shifted[1] else (30, 100):
            yield _covered(population, n, 8)
    yield _covered(shifted[1], 100, 1)


def _covered(population: Population, n: int, k: int) -> Cell:
    once = partial(once_covered, population, n, k)
    return Cell("coverage", population.name, str(n), k, "shifted", once, COVER)


def once_bootstrap(population: Population, docs: int, k: int, rng: Rng) -> Outcome:
    rows = population.draw(rng, docs, k).mean(axis=2).T
    return _bootstrap(rows, difference_of(MEAN), truth_of(population).gap, rng)


def once_bootstrap_ratio(population: Tokens, docs: int, k: int, rng: Rng) -> Outcome:
    bits, tokens = (x.sum(axis=2) for x in population.draw(rng, docs, k))
    rows = np.stack([bits[0], tokens[0], bits[1], tokens[1]], axis=1)
    baseline, other = population.ratios
    return _bootstrap(rows, difference_of(RATIO), other - baseline, rng)


def _bootstrap(rows: Array, quantity: Any, truth: float, rng: Rng) -> Outcome:
    how = {"resamples": RESAMPLES, "seed": _seed(rng)}
    return {
        "interval: BCa": _covers(bca_interval(rows, quantity, **how), truth),
        "interval: studentised": _covers(studentised_interval(rows, quantity, **how), truth),
    }


def bootstrap_cells() -> Iterator[Cell]:
    for population, n in ((Binary(0.8, 2.0, SHIFT), 30), (Skewed(SHIFT), 30), (Skewed(SHIFT), 100)):
        yield _bootstrap_cell(population.name, n, partial(once_bootstrap, population, n, 8))
    yield _bootstrap_cell(Tokens().name, 30, partial(once_bootstrap_ratio, Tokens(0.2), 30, 8))


def _bootstrap_cell(name: str, n: int, once: Callable[[Rng], Outcome]) -> Cell:
    return Cell("bootstrap", name, str(n), 8, "shifted", once, COVER, BOOTSTRAPS)


# --- c: any false claim in a family ---


def once_family(population: Population, docs: int, k: int, case: str, rng: Rng) -> Outcome:
    """`one baseline`: 20 arms against it on the same docs; else 20 pairs on docs of their own."""
    if case == "one baseline":
        first, *others = population.draw(rng, docs, k, FAMILY + 1).mean(axis=2)
        pairs = [(first, other) for other in others]
    else:
        pairs = [tuple(population.draw(rng, docs, k).mean(axis=2)) for _ in range(FAMILY)]
    p = [paired_mean_difference(a, b, population.fraction).p for a, b in pairs]
    return {"no correction": min(p) < ALPHA, "Holm": min(holm(p)) < ALPHA}


def family_cells() -> Iterator[Cell]:
    for case in ("independent", "one baseline"):
        population = Binary(0.8, 2.0)
        once = partial(once_family, population, 50, 8, case)
        yield Cell("family", population.name, "50", 8, case, once, EXACT, FAMILIES)


# --- d: claims against a margin, the truth being on the boundary ---


def once_claims(population: Population, docs: int, k: int, rng: Rng) -> Outcome:
    a, b = population.draw(rng, docs, k).mean(axis=2)
    better, worse = (
        compare_docs(ACCURACY, *arms, population.fraction, one_sample=k == 1)
        for arms in ((a, b), (b, a))
    )
    margin, asked = truth_of(population).gap, {}
    for claim in Claim:
        found = worse if claim is Claim.NON_INFERIOR else better
        verdict = decide(found, claim, margin, alpha=ALPHA).verdict
        asked[f"{claim.value}: false yes"] = verdict is Verdict.YES
        asked[f"{claim.value}: false no"] = verdict is Verdict.NO
    return asked | {DIFFERING: float((a != b).sum())}


def claim_cells() -> Iterator[Cell]:
    binary, hard = Binary(0.8, 2.0, SHIFT), Binary(0.95, 2.0, SHIFT)
    sizes = ((binary, 30, 8), (binary, 100, 1), (binary, 100, 8), (binary, 500, 8))
    more = ((hard, 30, 8), (hard, 100, 8), (Normal(SHIFT), 100, 8), (Skewed(SHIFT), 100, 8))
    for population, n, k in (*sizes, *more):
        once = partial(once_claims, population, n, k)
        yield Cell("claims", population.name, str(n), k, "on the boundary", once, EXACT)


# --- e: predicted and simulated power ---

ACCURACY = rule_of("accuracy_avg")


def once_power(population: Population, docs: int, k: int, rng: Rng) -> Outcome:
    a, b = population.draw(rng, docs, k).mean(axis=2)
    found = compare_docs(ACCURACY, a, b, population.fraction, one_sample=k == 1)
    return {"claimed": found.p < ALPHA}


def power_cells() -> Iterator[Cell]:
    shifted = (Binary(0.5, 0.3, 0.5), Binary(0.8, 2.0, 0.5), Normal(0.3), Skewed(0.15))
    for population in shifted:
        for n, k in ((30, 8), (100, 1), (100, 8)):
            yield _power_cell("power", population, n, k)
        truth = truth_of(population)
        for k in (1, 8):
            docs = docs_needed(truth.gap, truth.parts.variance(k))
            yield _power_cell("docs_needed", population, docs or 0, k)
        least = docs_needed(truth.gap, truth.parts.crossing)  # with samples without end
        docs = math.ceil(1.5 * (least or 0))
        yield _power_cell(
            "samples_needed", population, docs, needed([truth.gap], docs, truth.parts).samples or 0
        )


def _power_cell(case: str, population: Population, docs: int, k: int) -> Cell:
    truth = truth_of(population)
    predicted = power(truth.gap, docs, truth.parts.variance(k))
    name = f"{population.name}, gap {truth.gap:.3f}"
    once, wanted = partial(once_power, population, docs, k), (predicted - 0.03, predicted + 0.03)
    return Cell("power", name, str(docs), k, case, once, wanted, predicted=predicted)


# --- study ---

PARTS: dict[str, Callable[[], Iterator[Cell]]] = {
    "paired": paired_cells,
    "ratio": ratio_cells,
    "given": given_cells,
    "stratified": stratified_cells,
    "crossed": crossed_cells,
    "levels": level_cells,
    "coverage": coverage_cells,
    "bootstrap": bootstrap_cells,
    "family": family_cells,
    "claims": claim_cells,
    "power": power_cells,
}


def run_cell(cell: Cell) -> list[Row]:
    """The draws depend on the cell alone."""
    rng = np.random.default_rng([SEED, zlib.crc32(cell.name.encode())])
    answers: dict[str, list[float]] = defaultdict(list)
    for _ in range(cell.repetitions):
        for asked, value in cell.once(rng).items():
            answers[asked] += [] if value is None else [value]
    differing = answers.pop(DIFFERING, None)
    mean = f"{np.mean(differing):.1f}" if differing else ""
    return [_row(cell, asked, found, mean) for asked, found in answers.items() if found]


def _row(cell: Cell, asked: str, found: Sequence[float], differing: str) -> Row:
    count = int(sum(found))
    interval = stats.binomtest(count, len(found)).proportion_ci(method="wilson")
    wanted, rate = _wanted(cell, asked), count / len(found)
    return {
        "part": cell.part,
        "case": cell.case,
        "asked": asked,
        "population": cell.population,
        "docs": cell.docs,
        "k": str(cell.k),
        "docs_that_differ": differing,
        "repetitions": str(cell.repetitions),
        "undefined": str(cell.repetitions - len(found)),
        "count": str(count),
        "rate": f"{rate:.4f}",
        "ci_low": f"{interval.low:.4f}",
        "ci_high": f"{interval.high:.4f}",
        "predicted": "" if math.isnan(cell.predicted) else f"{cell.predicted:.4f}",
        "wanted_low": f"{wanted[0]:.4f}",
        "wanted_high": f"{wanted[1]:.4f}",
        "met": judged(rate, (interval.low, interval.high), wanted),
    }


def _wanted(cell: Cell, asked: str) -> Wanted:
    if asked.startswith(INTERVAL):
        return COVER
    if asked.startswith(NAIVE) or asked == "no correction":
        return ANY
    if asked.startswith(BELOW):
        return 0.0, EXACT[1] / ALPHA * float(asked.removeprefix(BELOW))
    if asked in ("swap test", "Wilcoxon", "McNemar mid-p"):
        return EXACT
    return cell.wanted


def judged(rate: float, interval: tuple[float, float], wanted: Wanted) -> str:
    """Whether the true rate may be in the range: by the rate itself, then by its interval."""
    if wanted == ANY:
        return ""
    if wanted[0] <= rate <= wanted[1]:
        return "met"
    inside = interval[1] >= wanted[0] and interval[0] <= wanted[1]
    return "within Monte-Carlo error" if inside else "not met"


def study(parts: Sequence[str]) -> None:
    """Run the parts, and keep the others' rows as they are."""
    kept = read_results() if RESULTS.exists() else []
    for part in parts or PARTS:
        begun = time.process_time()
        rows = [row for cell in PARTS[part]() for row in run_cell(cell)]
        kept = [row for row in kept if row["part"] != part] + rows
        write(RESULTS, sorted(kept, key=lambda row: list(PARTS).index(row["part"])))
        print(f"{part}: {len(rows)} rows, {time.process_time() - begun:.0f} s", flush=True)


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_results(path: Path = RESULTS) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("study").add_argument(
        "parts", nargs="*", metavar="PART", help=", ".join(PARTS)
    )
    steps.add_parser("table")
    steps.add_parser("speed")
    asked = parser.parse_args()
    if asked.step == "study":
        study(asked.parts)
    if asked.step == "speed":
        write(SPEED, measured())
    else:
        for lines in tables(read_results()):
            print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
