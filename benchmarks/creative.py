"""How long all creative metrics take once evidence is stored: `python benchmarks/creative.py`.

1 000 docs of 8 samples of about 200 words, made up of real words with real frequencies; their
embeddings and surprisals are random, since metrics do not take longer for true ones. Prints and
writes processor and wall seconds, by processes that score.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from psplit_eval.creativity import CreativityScorer
from psplit_eval.rescoring import Yardsticks, score_store
from psplit_eval.scoring import Chain
from psplit_eval.store import Doc, Sample, Store

SEED = 20260411
FORM = "story"
DIMENSIONS = 384
PLACE = Path(__file__).parent / "results" / "creative.csv"


class Made:
    """A model's stand-in that takes no time: random directions, 4 bits a token."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._random = np.random.default_rng(SEED)

    def load(self) -> None:
        """There is nothing to load."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = self._random.normal(size=(len(texts), DIMENSIONS)).astype(np.float32)
        rows[:, 0] += 20  # texts of one topic are alike
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def surprisals(self, chains: Sequence[Chain]) -> list[list[np.ndarray]]:
        return [
            [np.full(len(piece.split()) * 4 // 3, 4.0, np.float32) for piece in chain.pieces]
            for chain in chains
        ]


class MadeYardsticks(Yardsticks):
    """Yardsticks with both stand-ins."""

    _encoder = Made("made")
    _words = _encoder
    _reference = Made("made")


def stories(docs: int, samples: int, words: int) -> Iterator[Sample]:
    """Sentences of real words by Zipf's law, 8 to 16 words each."""
    from wordfreq import top_n_list

    known, random = np.array(top_n_list("en", 5000)), np.random.default_rng(SEED)
    shares = 1 / np.arange(1, len(known) + 1)
    shares /= shares.sum()
    for doc in range(docs):
        for index in range(samples):
            chosen = random.choice(
                known, size=int(random.integers(words // 2, 2 * words)), p=shares
            )
            text = " ".join(
                " ".join(chosen[start : start + 12]).capitalize() + "."
                for start in range(0, len(chosen), 12)
            )
            yield Sample(
                *("normal", FORM, doc, index, f"h{doc}", "r", "p", 1, 1, text, None, (1,)),
                *("stop", 5, len(chosen), 1.0, 1.0, None, 0.1, "now"),
            )


def fill(path: Path, docs: int, samples: int, words: int, scorer: CreativityScorer) -> None:
    with Store(path) as store:
        rows = [Doc(FORM, n, f"h{n}", {"premise": f"Ship {n} came home."}, "") for n in range(docs)]
        store.add_plan([], rows)
        given = list(stories(docs, samples, words))
        store.add_samples(given)
        for doc in rows:
            mine = given[doc.doc_id * samples : (doc.doc_id + 1) * samples]
            MadeYardsticks().make(store, scorer.wanted(doc, {"normal": mine}))


def measured(path: Path, scorer: CreativityScorer, processes: int) -> dict[str, float]:
    os.environ["PSPLIT_WORKERS"] = str(processes)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    wall = time.monotonic()
    with Store(path) as store:
        score_store(store, {FORM: scorer}, MadeYardsticks())
        metrics = len({metric.metric for metric in store.metrics(FORM)})
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(
        (b.ru_utime + b.ru_stime) - (a.ru_utime + a.ru_stime)
        for a, b in zip(usage, after, strict=True)
    )
    return {
        "processes": processes,
        "metrics": metrics,
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--words", type=int, default=160, help="a text has half to twice as many")
    options = parser.parse_args()
    scorer = CreativityScorer(FORM, "Write a short story. {{premise}}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.sqlite"
        fill(path, options.docs, options.samples, options.words, scorer)
        rows = [measured(path, scorer, processes) for processes in (0, 2)]
    for row in rows:
        print(row)
    with PLACE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["docs", "samples", *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"docs": options.docs, "samples": options.samples, **row} for row in rows)


if __name__ == "__main__":
    main()
