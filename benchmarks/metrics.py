"""What the metrics of diversity cost, Self-BLEU against nltk's, and what length does to them.

    python benchmarks/metrics.py     # about two minutes; kept in benchmarks/results/metrics*.csv

Texts are made up (seeded): sentences of words drawn by Zipf's law from the tagger's lexicon, some
shared between the samples of a doc. One process and one thread; processor seconds.
"""

from __future__ import annotations

import csv
import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import fmean

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from psplit_eval import diversity, richness, semantic, syntactic

RESULTS = Path(__file__).parent / "results"
TEXTS, WORDS, MEASURED = 1000, 200, 20
DOCS, SAMPLES, LENGTH = 1000, 8, 128
LENGTHS = (32, 64, 128)
VECTORS, DIMENSIONS = 5000, 384
SEED = 2026


@dataclass(frozen=True)
class Row:
    part: str
    work: str
    cpu_seconds: float
    peak_mb: float | None = None
    """Growth of the process's resident memory at its highest."""
    nltk_cpu_seconds: float | None = None
    """Extrapolated from MEASURED of TEXTS texts."""
    largest_difference: float | None = None


@dataclass(frozen=True)
class Doc:
    texts: list[str]
    tokens: list[list[str]]
    tags: list[list[str]]
    vectors: semantic.Array


LEXICAL_AND_SYNTACTIC: dict[str, Callable[[Doc, Doc], float]] = {
    "div_ngram_2": lambda doc, _: diversity.div_ngram(doc.tokens, 2),
    "distinct_1": lambda doc, _: diversity.distinct(doc.tokens, 1),
    "distinct_2": lambda doc, _: diversity.distinct(doc.tokens, 2),
    "distinct_3": lambda doc, _: diversity.distinct(doc.tokens, 3),
    "expectation_adjusted_distinct": lambda doc, _: diversity.expectation_adjusted_distinct(
        doc.tokens, 5_000
    ),
    "div_bleu_4": lambda doc, _: diversity.div_bleu(doc.tokens),
    "self_repetition_4": lambda doc, _: diversity.self_repetition(doc.tokens),
    "compression_ratio": lambda doc, _: diversity.compression_ratio(doc.texts),
    "ngram_overlap_1": lambda doc, other: diversity.ngram_overlap(doc.tokens, other.tokens, 1),
    "ngram_overlap_2": lambda doc, other: diversity.ngram_overlap(doc.tokens, other.tokens, 2),
    "mtld": lambda doc, _: fmean(map(richness.mtld, doc.tokens)),
    "hd_d": lambda doc, _: fmean(map(richness.hd_d, doc.tokens)),
    "templates_per_token": lambda doc, _: syntactic.templates_per_token(doc.tags),
    "pos_compression_ratio": lambda doc, _: syntactic.pos_compression_ratio(doc.tags),
}
SEMANTIC: dict[str, Callable[[Doc, Doc], float]] = {
    "mean_pairwise_distance": lambda doc, _: semantic.mean_pairwise_distance(doc.vectors),
    "vendi_score": lambda doc, _: semantic.vendi_score(doc.vectors),
    "semantic_clusters": lambda doc, _: semantic.semantic_clusters(doc.vectors, 0.3),
}


def main() -> None:
    docs = made_up_docs()
    keep("metrics.csv", [asdict(row) for row in (self_bleu(), *many_vectors(), *costs(docs))])
    keep("metrics_length.csv", list(by_length(docs[:100])))


def keep(name: str, rows: list[dict[str, object]]) -> None:
    with (RESULTS / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(", ".join(f"{k} {v}" for k, v in row.items() if v is not None))


def self_bleu() -> Row:
    """Self-BLEU of many texts; of some of them by nltk, with all others as references."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    texts = [diversity.tokenise(text) for text in made_up(TEXTS, random.Random(SEED), [])]
    with Clock() as ours:
        bleu = diversity.self_bleu(texts)
    smoothing = SmoothingFunction().method1
    differences = []
    with Clock() as theirs:
        for i in range(MEASURED):
            others = texts[:i] + texts[i + 1 :]
            expected = sentence_bleu(others, texts[i], [0.25] * 4, smoothing)
            differences.append(abs(float(expected) - bleu[i]))
    return Row(
        "self-bleu",
        f"{TEXTS} texts of {WORDS} words",
        ours.seconds,
        nltk_cpu_seconds=round(theirs.seconds * TEXTS / MEASURED, 1),
        largest_difference=max(differences),
    )


def many_vectors() -> Iterator[Row]:
    import scipy.cluster.hierarchy  # noqa: F401  # loading it is not the function's cost

    vectors = random_vectors(VECTORS, np.random.default_rng(SEED))
    doc = Doc([], [], [], vectors)
    for name, metric in SEMANTIC.items():
        before = highest_mb(reset=True)
        with Clock() as clock:
            metric(doc, doc)
        work = f"{name}, {VECTORS} vectors of {DIMENSIONS}"
        yield Row("vectors", work, clock.seconds, round(highest_mb() - before))


def costs(docs: list[Doc]) -> Iterator[Row]:
    """Every metric over all docs, whole and cut to LENGTH tokens."""
    for function in (diversity.tokenise, syntactic.pos_tags):
        with Clock() as clock:
            for doc in docs:
                for text in doc.texts:
                    function(text)
        yield Row("all", function.__name__, clock.seconds)
    yield from timed(docs, "whole", LEXICAL_AND_SYNTACTIC | SEMANTIC)
    yield from timed([cut(doc, LENGTH) for doc in docs], f"{LENGTH} tokens", LEXICAL_AND_SYNTACTIC)


def timed(
    docs: list[Doc], label: str, metrics: dict[str, Callable[[Doc, Doc], float]]
) -> Iterator[Row]:
    for name, metric in metrics.items():
        with Clock() as clock:
            values(metric, docs)
        yield Row("all", f"{name}, {label}", clock.seconds)


def by_length(docs: list[Doc]) -> Iterator[dict[str, object]]:
    """Mean values of texts that differ in nothing but where they are cut, or how many they are."""
    whole = {f"{length} tokens": [cut(doc, length) for doc in docs] for length in LENGTHS}
    halves = [cut(doc, LENGTHS[-1], SAMPLES // 2) for doc in docs]
    whole[f"{LENGTHS[-1]} tokens, {SAMPLES // 2} samples"] = halves
    for name, metric in LEXICAL_AND_SYNTACTIC.items():
        means = {label: round(fmean(values(metric, part)), 3) for label, part in whole.items()}
        yield {"metric": name} | means


def values(metric: Callable[[Doc, Doc], float], docs: list[Doc]) -> list[float]:
    """Of every doc, with the next one for the other mode."""
    return [metric(doc, other) for doc, other in zip(docs, docs[1:] + docs[:1], strict=True)]


def cut(doc: Doc, length: int, samples: int = SAMPLES) -> Doc:
    tokens = [list(text) for text in diversity.truncated(doc.tokens, length)[:samples]]
    tags = [list(text) for text in diversity.truncated(doc.tags, length)[:samples]]
    return Doc([" ".join(text) for text in tokens], tokens, tags, doc.vectors)


def made_up_docs() -> list[Doc]:
    numbers, vectors = random.Random(SEED), np.random.default_rng(SEED)
    docs = []
    for _ in range(DOCS):
        texts = made_up(SAMPLES, numbers, sentences(40, numbers))
        tokens, tags = map(diversity.tokenise, texts), map(syntactic.pos_tags, texts)
        docs.append(Doc(texts, list(tokens), list(tags), random_vectors(SAMPLES, vectors)))
    return docs


def made_up(count: int, numbers: random.Random, shared: list[str]) -> list[str]:
    """Texts of about WORDS words; a third of the sentences come from the shared ones."""
    texts = []
    for _ in range(count):
        words: list[str] = []
        while len(words) < WORDS:
            known = shared and numbers.random() < 1 / 3
            words += (numbers.choice(shared) if known else sentence(numbers)).split()
        texts.append(" ".join(words[:WORDS]))
    return texts


def sentences(count: int, numbers: random.Random) -> list[str]:
    return [sentence(numbers) for _ in range(count)]


def sentence(numbers: random.Random) -> str:
    words, weights = vocabulary()
    chosen = numbers.choices(words, cum_weights=weights, k=numbers.randint(6, 18))
    return " ".join(chosen).capitalize() + numbers.choice((".", ".", ".", "?", ", she didn't."))


@cache
def vocabulary() -> tuple[list[str], list[float]]:
    """5 000 words and the cumulated 1 / rank."""
    from textblob.en import lexicon

    known = sorted(word for word in lexicon if word.isalpha() and word.islower())
    words = random.Random(SEED).sample(known, 5000)
    return words, list(accumulate(1 / rank for rank in range(1, 5001)))


def random_vectors(count: int, numbers: np.random.Generator) -> semantic.Array:
    return numbers.normal(size=(count, DIMENSIONS)).astype(np.float32)


def highest_mb(reset: bool = False) -> float:
    """Linux only. tracemalloc would not see what scipy's compiled code takes."""
    if reset:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Clock:
    """Processor seconds of a block."""

    def __enter__(self) -> Clock:
        self._start = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = round(time.process_time() - self._start, 2)


if __name__ == "__main__":
    main()
