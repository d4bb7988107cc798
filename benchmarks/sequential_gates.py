"""Does a gate keep its promises that samples as it goes? By simulation, the truth being known.

    python -m benchmarks.sequential_gates    # results/sequential_gates.csv and …_families.csv
    python -m benchmarks.gates_tables        # the tables of docs/gates_evidence.md

Populations are tables of docs with the chance of a right answer in either run; docs are drawn from
them with replacement, k samples each, and decided by the bets of `psplit_eval.sequential`. The rule
is 'non-inferior'; what the other kinds ask is the same question at other boundaries.
"""

from __future__ import annotations

import csv
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from benchmarks.aa import load
from psplit_eval.betting import sequential_p
from psplit_eval.gate import Check, Outcome, decide_rules
from psplit_eval.gate_rules import Kind, Rule
from psplit_eval.power import Components, docs_needed

RESULTS = Path(__file__).parent / "results" / "sequential_gates.csv"
FAMILIES = RESULTS.with_name("sequential_gates_families.csv")
SEED, ALPHA, POWER = 20261126, 0.05, 0.8
ROUND = 32
CAPS = (1.5, 2.0)
"""The most docs, over those of the fixed design."""
LARGE = 400
"""Designs of more docs get half the repetitions."""
REPETITIONS = 4000
AT_ONCE = 2_000_000
POOL = 20_000
SIZES = ((0.02, (4, 8)), (0.05, (1, 4, 8)), (0.1, (1, 4, 8)))
TRUTHS = {"boundary": -1.0, "half as far": -0.5, "equal": 0.0, "twice as far": 1.0, "worse": -2.0}
"""True difference over the margin. 'equal' is what the fixed design is sized for."""
FEW = 100
"""Designs of fewer docs are told apart in the tables."""

Array = NDArray[Any]
Rng = np.random.Generator
Row = dict[str, str]


class Population(NamedTuple):
    """Docs with their chance of a right answer (docs,) in two runs of equal means."""

    name: str
    a: Array
    b: Array

    def components(self) -> Components:
        noise = self.a * (1 - self.a) + self.b * (1 - self.b)
        return Components(float(np.mean((self.b - self.a) ** 2)), float(noise.mean()))

    def docs(self, margin: float, k: int, alpha: float = ALPHA, power: float = POWER) -> int:
        """Of the fixed design: equal runs pass with a chance of `power`."""
        found = docs_needed(margin, self.components().variance(k), power, alpha, sides=1)
        assert found is not None
        return found

    def differences(self, rng: Rng, shape: tuple[int, int], k: int, truth: float) -> Array:
        """Docs' differences (repetitions, docs) of k samples each, of mean `truth`."""
        moved = shifted(self.b, truth)
        drawn = rng.integers(len(self.a), size=shape)
        found: Array = (rng.binomial(k, moved[drawn]) - rng.binomial(k, self.a[drawn])) / k
        return found


def shifted(chances: Array, gap: float) -> Array:
    """Their mean moved by `gap`: the same share of every doc's right answers becomes wrong, or of
    its wrong ones right."""
    mean = float(chances.mean())
    return chances * (1 + gap / mean) if gap < 0 else chances + (1 - chances) * gap / (1 - mean)


def beta_docs(mean: float, total: float) -> Population:
    """Beta(mean total, (1 − mean) total); a tenth of docs change places in b."""
    levels = (np.arange(POOL) + 0.5) / POOL
    a = special.betaincinv(mean * total, (1 - mean) * total, levels)
    b, rng = a.copy(), np.random.default_rng(SEED)
    other = rng.permutation(POOL)[: POOL // 10]
    b[other] = a[rng.permutation(other)]
    return Population(f"Beta, mean {mean:g}", a, b)


def real_docs() -> tuple[Population, Population]:
    """Shares of right answers of real docs: one mode twice, and two modes of equal means."""
    normal, high = load()["accuracy_avg"][0, :2].mean(axis=2)
    even = shifted(high, float(normal.mean() - high.mean()))
    return Population("real, one mode", normal, normal), Population("real, two modes", normal, even)


def populations() -> list[Population]:
    return [beta_docs(0.5, 2.0), beta_docs(0.8, 2.0), *real_docs()]


# --- one rule ---


class Looks(NamedTuple):
    """p of the rule's opposite, and of the rule, at every look (repetitions, looks)."""

    p: Array
    against: Array


def bets(x: Array, margin: float) -> Looks:
    """After every doc, as `sequential` has them for a rule of kind non-inferior."""
    return Looks(sequential_p(x, -margin, margin), sequential_p(-x, margin, margin))


def t_tests(x: Array, margin: float, looks: Array) -> Looks:
    """Student's, with the docs seen at each look: not made for being looked at twice."""
    count = looks.astype(np.float64)
    sums, squares = (np.cumsum(part, axis=1)[:, looks - 1] for part in (x, x**2))
    mean = sums / count
    variance = np.maximum(squares / count - mean**2, 0) * count / (count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (mean + margin) / np.sqrt(variance / count)
    p = special.stdtr(count - 1, -np.nan_to_num(scores, nan=0.0))
    return Looks(p, 1 - p)


class Tally(NamedTuple):
    """Of repetitions: whether passed, whether failed, docs used."""

    passed: Array
    failed: Array
    docs: Array


def tally(path: Looks, looks: Array, most: int) -> Tally:
    """What becomes of a gate that looks at these docs (looks,), and stops when decided or at
    `most`."""
    seen = looks <= most
    yes, no = path.p[:, seen] < ALPHA, path.against[:, seen] < ALPHA
    decided = yes | no
    first = np.where(decided.any(axis=1), decided.argmax(axis=1), -1)  # -1: the last look
    rows = np.arange(len(yes))
    passed = yes[rows, first]
    return Tally(passed, no[rows, first] & ~passed, looks[seen][first])


def looks_at(step: int, most: int) -> Array:
    """After so many docs each, and at the end."""
    return np.unique(np.append(np.arange(step, most + 1, step), most))


def one_rule(population: Population, margin: float, k: int, truth: str) -> list[Row]:
    fixed = population.docs(margin, k)
    most = [math.ceil(cap * fixed) for cap in CAPS]
    repetitions = REPETITIONS // (2 if fixed > LARGE else 1)
    name = f"{population.name}/{margin}/{k}/{truth}"
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    found: dict[tuple[str, str, str], list[Tally]] = {}
    step = max(1, AT_ONCE // most[-1])
    for begin in range(0, repetitions, step):
        shape = min(step, repetitions - begin), most[-1]
        x = population.differences(rng, shape, k, TRUTHS[truth] * margin)
        for key, part in _tallies(x, margin, fixed, most):
            found.setdefault(key, []).append(part)
    head = {
        "population": population.name,
        "margin": f"{margin:g}",
        "k": str(k),
        "truth": truth,
        "fixed_docs": str(fixed),
        "repetitions": str(repetitions),
    }
    return [head | _counted(key, parts, fixed, truth) for key, parts in found.items()]


def _tallies(
    x: Array, margin: float, fixed: int, most: Sequence[int]
) -> Iterator[tuple[tuple[str, str, str], Tally]]:
    betted = bets(x, margin)
    for cap, end in zip(CAPS, most, strict=True):
        for looks, step in (("every doc", 1), (f"every {ROUND} docs", ROUND)):
            at = looks_at(step, end)
            path = Looks(betted.p[:, at - 1], betted.against[:, at - 1])
            yield ("bets", looks, f"{cap:g}"), tally(path, at, end)
        at = looks_at(ROUND, end)
        tested = t_tests(x, margin, at)
        yield ("t test", f"every {ROUND} docs", f"{cap:g}"), tally(tested, at, end)
    once = np.array([fixed])
    yield ("t test", "once", "1"), tally(t_tests(x, margin, once), once, fixed)


def _counted(key: tuple[str, str, str], parts: Sequence[Tally], fixed: int, truth: str) -> Row:
    passed, failed, docs = (np.concatenate(column) for column in zip(*parts, strict=True))
    row = dict(zip(("test", "looks", "cap"), key, strict=True))
    row |= rate("passed", passed) | rate("failed", failed)
    row["docs"] = f"{docs.mean() / fixed:.3f}"
    row["docs_error"] = f"{docs.std(ddof=1) / fixed / math.sqrt(len(docs)):.3f}"
    wrong = [passed] * (truth in ("boundary", "worse")) + [failed] * (truth != "worse")
    row["error_kept"] = kept(wrong, ALPHA)
    wanted = {"equal": 1.25, "twice as far": 0.5}.get(truth)
    row["docs_wanted"] = f"{wanted:g}" if wanted else ""
    row["docs_met"] = _met(float(row["docs"]) <= wanted) if wanted else ""
    return row


def rate(name: str, found: Array) -> Row:
    """With its Wilson 95 % interval."""
    count = int(found.sum())
    interval = stats.binomtest(count, len(found)).proportion_ci(method="wilson")
    return {
        name: f"{count / len(found):.4f}",
        f"{name}_low": f"{interval.low:.4f}",
        f"{name}_high": f"{interval.high:.4f}",
    }


def kept(wrong: Sequence[Array], alpha: float) -> str:
    """Whether these rates are `alpha` at most, by themselves or by their intervals."""
    rates = [rate("x", found) for found in wrong]
    if all(float(found["x"]) <= alpha for found in rates):
        return "yes"
    close = all(float(found["x_low"]) <= alpha for found in rates)
    return "within Monte-Carlo error" if close else "no"


def _met(condition: bool) -> str:
    return "yes" if condition else "no"


# --- three rules, one of which regresses ---

RULES, FAMILY_MARGIN, FAMILY_K, FAMILY_REPETITIONS = 3, 0.05, 4, 2000


def families() -> list[Row]:
    """Three tasks; the third is worse, at the boundary or by twice the margin, or it is equal."""
    three = [population for population in populations() if population.name != "real, one mode"]
    return [_family(three, truth) for truth in ("equal", "boundary", "worse")]


def _family(tasks: Sequence[Population], truth: str) -> Row:
    rng = np.random.default_rng([SEED, zlib.crc32(truth.encode())])
    fixed = [task.docs(FAMILY_MARGIN, FAMILY_K) for task in tasks]
    truths = [0.0, 0.0, TRUTHS[truth] * FAMILY_MARGIN]
    looks = [looks_at(ROUND, math.ceil(CAPS[-1] * docs)) for docs in fixed]
    paths = []
    for task, at, gap in zip(tasks, looks, truths, strict=True):
        x = task.differences(rng, (FAMILY_REPETITIONS, int(at[-1])), FAMILY_K, gap)
        path = bets(x, FAMILY_MARGIN)
        paths.append(Looks(path.p[:, at - 1], path.against[:, at - 1]))
    ends = [_gate_of(paths, number, looks) for number in range(FAMILY_REPETITIONS)]
    outcomes = np.array([[outcome.value for outcome in found] for found, _ in ends])
    passed, failed = outcomes == Outcome.PASS.value, outcomes == Outcome.FAIL.value
    good = RULES if truth == "equal" else RULES - 1
    false_pass = passed[:, -1] if truth != "equal" else np.zeros(len(passed), dtype=bool)
    false_fail = failed[:, :good] if truth == "worse" else failed
    row = {"third_rule": truth, "fixed_docs": " + ".join(map(str, fixed))}
    row |= {"repetitions": str(FAMILY_REPETITIONS)}
    row |= rate("any_false_pass", false_pass) | rate("any_false_fail", false_fail.any(axis=1))
    row |= rate("gate_passed", passed.all(axis=1)) | rate("gate_failed", failed.any(axis=1))
    row |= rate("good_rules_passed", passed[:, :good].all(axis=1))
    row["docs"] = f"{np.mean([docs for _, docs in ends]) / sum(fixed):.3f}"
    return row


def _gate_of(
    paths: Sequence[Looks], number: int, looks: Sequence[Array]
) -> tuple[list[Outcome], int]:
    """Rounds until every rule is decided or its docs are used up, through the gate's own rules."""
    places = [0] * len(paths)
    while True:
        checks = [
            _check(index, float(path.p[number, place]), float(path.against[number, place]))
            for index, (path, place) in enumerate(zip(paths, places, strict=True))
        ]
        outcomes = [check.outcome for check in decide_rules(checks, ALPHA)]
        more = [
            index
            for index, outcome in enumerate(outcomes)
            if outcome is Outcome.OPEN and places[index] + 1 < len(looks[index])
        ]
        if not more:
            return outcomes, sum(int(at[place]) for at, place in zip(looks, places, strict=True))
        for index in more:
            places[index] += 1


def _check(index: int, p: float, against: float) -> Check:
    rule = Rule(index, f"rule {index}", Kind.NON_INFERIOR, ("normal",), margin=FAMILY_MARGIN)
    return Check(rule, f"task {index}", "normal", "accuracy_avg", "fraction", None, p, against)


# --- study ---


def study() -> None:
    begun, rows = time.process_time(), []
    for population in populations():
        for margin, ks in SIZES:
            for k in ks:
                rows += [r for truth in TRUTHS for r in one_rule(population, margin, k, truth)]
        print(f"{population.name}: {time.process_time() - begun:.0f} s", flush=True)
    write(RESULTS, rows)
    write(FAMILIES, families())
    print(f"all: {time.process_time() - begun:.0f} s", flush=True)


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_results(path: Path = RESULTS) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    study()
