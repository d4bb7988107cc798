"""Is a gate any good? On resamples of real samples, decided through the gate's own functions.

    python -m benchmarks.gates_resampled    # benchmarks/results/gates_resampled.csv
    python -m benchmarks.gates_tables       # the tables of docs/gates_evidence.md

The samples are those of docs/aa.md: 256 docs, 16 samples a doc, of one checkpoint in two modes. In
each try docs are drawn with replacement to the planned size; the 16 samples of each are dealt at
random, k to the baseline and k others to the candidate, which so is the same checkpoint with new
seeds. It is made worse or better by turning right answers wrong, or wrong ones right, at random.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.aa import MODES, SAMPLES, TASK, load
from benchmarks.sequential_gates import (
    ALPHA,
    CAPS,
    POWER,
    ROUND,
    Array,
    Row,
    bets,
    looks_at,
    rate,
    tally,
    write,
)
from psplit_eval.accuracy import AnswerFormat
from psplit_eval.arms import Arm
from psplit_eval.comparison import Design
from psplit_eval.gate import Outcome, check_arms, decide_rules
from psplit_eval.gate_rules import Kind, Rule
from psplit_eval.power import Components, docs_needed
from psplit_eval.scoring import AccuracyScorer

RESULTS = Path(__file__).parent / "results" / "gates_resampled.csv"
SEED, TRIES = 20261127, 1000
MORE = 0.9
"""A chance to plan for beside POWER."""
MARGINS, SIZES = (0.02, 0.05, 0.1), (4, 8)
METRIC, SCORER = "accuracy_avg", AccuracyScorer(AnswerFormat(r"(\d+)"))
CASES = {"same": 0.0, "worse": -2.0, "better": 2.0, "boundary": -1.0}
"""How far the candidate is moved, over the margin."""

Rng = np.random.Generator


class Samples(NamedTuple):
    """Right or wrong, (docs, 16) of real samples."""

    right: Array

    def components(self) -> Components:
        """Of two draws from the same samples: docs do not differ, and nothing but sampling does."""
        return Components(0.0, 2 * float(self.right.var(axis=1, ddof=1).mean()))

    def docs(self, margin: float, k: int, power: float = POWER, alpha: float = ALPHA) -> int:
        found = docs_needed(margin, self.components().variance(k), power, alpha, sides=1)
        assert found is not None
        return found

    def drawn(self, rng: Rng, chosen: Array, k: int, gap: float) -> tuple[Array, Array]:
        """Samples (docs, k) of the baseline and of a candidate moved by `gap`."""
        dealt = rng.permuted(self.right[chosen], axis=1)
        return dealt[:, :k], self.moved(rng, dealt[:, k : 2 * k], gap)

    def moved(self, rng: Rng, samples: Array, gap: float) -> Array:
        """A share of all right answers turned wrong, or of wrong ones right, so that the mean over
        all docs moves by `gap` in expectation."""
        mean = float(self.right.mean())
        share = -gap / mean if gap < 0 else gap / (1 - mean)
        turned = rng.random(samples.shape) < share
        return samples * ~turned if gap < 0 else np.maximum(samples, turned)


def arm_of(mode: str, samples: Array) -> Arm:
    """The arm that a run's store would give for these samples."""
    docs, k = samples.shape
    values, noise = samples.mean(axis=1), samples.var(axis=1, ddof=1) / k
    return Arm(
        task=TASK,
        mode=mode,
        scorer=SCORER,
        values={METRIC: dict(enumerate(map(float, values)))},
        noise={METRIC: dict(enumerate(map(float, noise)))},
        bits={},
        tokens={},
        planned=docs * k,
        missing=0,
        truncated=0,
        right=int(samples.sum()),
        docs=frozenset(range(docs)),
        good=dict.fromkeys(range(docs), int(k)),
    )


def rule_on(mode: str, margin: float) -> Rule:
    return Rule(1, f"{TASK} {mode}", Kind.NON_INFERIOR, (mode,), TASK, margin=margin)


def fixed_gate(arms: Sequence[tuple[Arm, Arm]], margin: float) -> Outcome:
    """A gate of one rule a mode; it fails if any does and passes if all do."""
    checks = [check_arms(rule_on(b.mode, margin), a, b, Design()) for a, b in arms]
    found = {check.outcome for check in decide_rules(checks, ALPHA)}
    for outcome in (Outcome.FAIL, Outcome.OPEN):
        if outcome in found:
            return outcome
    return Outcome.PASS


def fixed_cell(
    modes: Sequence[str], margin: float, k: int, case: str, power: float = POWER, tries: int = TRIES
) -> Row:
    """Gates of a fixed design on resamples, planned so that the same one passes with a chance of
    `power`; of two rules so that both do, whatever they have to do with each other."""
    real, rng = samples_of(modes), _rng(modes, margin, k, f"{case} {power:g}")
    rules = len(modes)
    each, alpha = 1 - (1 - power) / rules, ALPHA / rules
    docs = max(samples.docs(margin, k, each, alpha) for samples in real)
    outcomes: Counter[Outcome] = Counter()
    for _ in range(tries):
        chosen = rng.integers(len(real[0].right), size=docs)
        gap = CASES[case] * margin
        pairs = [samples.drawn(rng, chosen, k, gap) for samples in real]
        arms = [
            (arm_of(mode, a), arm_of(mode, b)) for mode, (a, b) in zip(modes, pairs, strict=True)
        ]
        outcomes[fixed_gate(arms, margin)] += 1
    passed, failed = (np.arange(tries) < outcomes[one] for one in (Outcome.PASS, Outcome.FAIL))
    return _row(f"fixed, {power:.0%}", modes, margin, k, case, docs, passed, failed, 1.0)


def sequential_cell(mode: str, margin: float, k: int, case: str, cap: float) -> Row:
    """The same in rounds of docs, decided by bets, up to `cap` times the fixed design's docs."""
    (real,), rng = samples_of([mode]), _rng([mode], margin, k, f"{case} {cap}")
    docs = real.docs(margin, k)
    most, x = math.ceil(cap * docs), []
    for _ in range(TRIES):
        chosen = rng.integers(len(real.right), size=most)
        a, b = real.drawn(rng, chosen, k, CASES[case] * margin)
        x.append(b.mean(axis=1) - a.mean(axis=1))
    betted, at = bets(np.array(x), margin), looks_at(ROUND, most)
    path = type(betted)(betted.p[:, at - 1], betted.against[:, at - 1])
    passed, failed, used = tally(path, at, most)
    share = float(used.mean()) / docs
    return _row(f"rounds, at most {cap:g}", [mode], margin, k, case, docs, passed, failed, share)


def _row(
    design: str,
    modes: Sequence[str],
    margin: float,
    k: int,
    case: str,
    docs: int,
    passed: Array,
    failed: Array,
    share: float,
) -> Row:
    row = {"design": design, "modes": " + ".join(modes), "margin": f"{margin:g}", "k": str(k)}
    row |= {"case": case, "planned_docs": str(docs), "tries": str(len(passed))}
    row |= rate("passed", passed) | rate("failed", failed)
    return row | {"docs": f"{share:.3f}", "promise_kept": kept(case, row)}


def kept(case: str, row: Row) -> str:
    """Whether the gate does what it is for, by the rate itself or by its interval."""
    at_least, at_most = {
        "same": ({"passed": 0.8}, {"failed": 0.05}),
        "worse": ({"failed": 0.8}, {"passed": 0.05}),
        "better": ({"passed": 0.8}, {"failed": 0.0}),
        "boundary": ({}, {"passed": 0.05, "failed": 0.05}),
    }[case]

    def held(low: str, high: str) -> bool:
        least = all(float(row[name + high]) >= rate for name, rate in at_least.items())
        return least and all(float(row[name + low]) <= rate for name, rate in at_most.items())

    if held("", ""):
        return "yes"
    return "within Monte-Carlo error" if held("_low", "_high") else "no"


def samples_of(modes: Sequence[str]) -> list[Samples]:
    right = load()["accuracy_avg"][0]
    return [Samples(right[MODES.index(mode)]) for mode in modes]


def _rng(modes: Sequence[str], margin: float, k: int, case: str) -> Rng:
    name = f"{'+'.join(modes)}/{margin}/{k}/{case}"
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def cells() -> Iterator[Row]:
    for margin in MARGINS:
        some = TRIES // (2 if margin == min(MARGINS) else 1)  # these take the longest
        for k in SIZES:
            assert 2 * k <= SAMPLES
            for case in CASES:
                tries = some * (3 if case == "boundary" else 1)  # rates of 5 % need more
                for mode in MODES:
                    yield fixed_cell([mode], margin, k, case, tries=tries)
                    if case in ("same", "worse"):
                        yield fixed_cell([mode], margin, k, case, MORE, tries)
                    for cap in CAPS:
                        yield sequential_cell(mode, margin, k, case, cap)
                if margin > min(MARGINS):
                    yield fixed_cell(MODES, margin, k, case, tries=tries)


def study() -> None:
    begun, rows = time.process_time(), []
    for row in cells():
        rows.append(row)
    write(RESULTS, rows)
    print(f"{len(rows)} rows, {time.process_time() - begun:.0f} s")


if __name__ == "__main__":
    study()
