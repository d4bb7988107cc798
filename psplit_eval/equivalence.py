"""Functional diversity: which answers to one prompt are the same answer, how many there are, and
what they are worth to somebody who reads one after the other.

Two answers are the same if a reader of one would gain nothing by the other (NoveltyBench, Zhang et
al. 2025, arXiv 2504.05228). Whether that holds is estimated by a logistic model over a few
similarities, fitted to people's judgements of pairs; `fitted/equivalence.json` says on what, how
well it does on prompts it has not seen, and where it draws the line.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FEATURES",
    "EquivalenceModel",
    "WordWeights",
    "distinct_k",
    "equivalence_model",
    "pair_features",
    "same_answer_classes",
    "same_answer_probabilities",
    "utility_k",
]

Array = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to their sentence embeddings: (n, dimension), rows of length 1."""

FEATURES = ("meaning", "words", "order", "opening", "names", "bold", "lines", "prompt_length")
"""What is known of a pair of answers, in the order of `pair_features`.

meaning        cosine of the embeddings of the answers without their part along the prompt's: that
               part is what any answer to this prompt has
words          cosine of counts of words that are not in the prompt, (1 + ln count) · ln(N / texts)
order          longest common subsequence of the first 300 words / length of the shorter
opening        shared words / all words among the first 24, weighted by rarity; undefined where an
               answer has fewer than 48 words, since it is no opening there but the answer
names          shared / all capitalised words that are not in the prompt; undefined without any
bold           shared / all words in Markdown's bold; undefined without any
lines          − |ln (lines of one / lines of the other)|
prompt_length  ln (1 + words of the prompt)
"""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+(?:[.,]\d+)*")
_NAME = re.compile(r"\b[A-ZÀ-ÖØ-Þ][^\W\d_]+")
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_FIRST, _OPENING, _OPENED = 300, 24, 48


@dataclass(frozen=True)
class WordWeights:
    """How much a word says: ln (texts / texts that have it).

    A word that is not among the `frequencies` counts as one in `rare` texts.
    """

    texts: int
    rare: int
    frequencies: Mapping[str, int]

    @classmethod
    def counted(cls, texts: Sequence[str], common: int, rare: int) -> WordWeights:
        """From texts: how many have each of the `common` commonest words."""
        counts = Counter(word for text in texts for word in set(_words(text)))
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return cls(len(texts), rare, dict(ranked[:common]))

    def __call__(self, word: str) -> float:
        return math.log(self.texts / self.frequencies.get(word, self.rare))


@dataclass(frozen=True)
class EquivalenceModel:
    """log-odds = intercept + Σ coefficient · feature; `fill` stands where a feature is undefined.

    `threshold` is the probability above which as many pairs are called the same as people called
    the same, so that numbers of classes are neither too high nor too low.
    """

    intercept: float
    coefficients: Mapping[str, float]
    fill: Mapping[str, float]
    threshold: float
    weights: WordWeights

    def probabilities(self, features: Array) -> Array:
        """(…, features) in the order of `FEATURES` to (…): that the two answers are the same."""
        filled = np.where(np.isnan(features), [self.fill[name] for name in FEATURES], features)
        odds = self.intercept + filled @ np.array([self.coefficients[name] for name in FEATURES])
        return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=np.float64)


@lru_cache(maxsize=1)
def equivalence_model() -> EquivalenceModel:
    """The model that psplit ships."""
    text = (resources.files("psplit_eval") / "fitted" / "equivalence.json").read_text("utf-8")
    fitted = json.loads(text)
    return EquivalenceModel(
        intercept=fitted["intercept"],
        coefficients=fitted["coefficients"],
        fill=fitted["fill"],
        threshold=fitted["threshold"],
        weights=WordWeights(**fitted["weights"]),
    )


def same_answer_probabilities(
    prompt: str, texts: Sequence[str], embed: Embed, model: EquivalenceModel | None = None
) -> Array:
    """Probability that two answers to `prompt` are the same, for all pairs: (k, k), symmetric.

    The diagonal is 1, and so are answers that differ in case, punctuation and white space alone. An
    answer without words is the same as another such, and as no other: 0. `embed` is asked once, for
    the prompt and the texts.
    """
    model = model or equivalence_model()
    probabilities = model.probabilities(pair_features(prompt, texts, embed, model.weights))
    plain = [tuple(_words(text)) for text in texts]
    for i, words in enumerate(plain):
        for j, others in enumerate(plain):
            if words == others:
                probabilities[i, j] = 1.0
            elif not words or not others:
                probabilities[i, j] = 0.0
    return probabilities


def pair_features(prompt: str, texts: Sequence[str], embed: Embed, weights: WordWeights) -> Array:
    """`FEATURES` of all pairs of texts: (k, k, features), symmetric; NaN where undefined."""
    words = [_words(text) for text in texts]
    asked = set(_words(prompt))
    new = [[word for word in answer if word not in asked] for answer in words]
    short = np.array([len(answer) < _OPENED for answer in words], dtype=bool)
    names = [[name.lower() for name in _NAME.findall(text)] for text in texts]
    columns = {
        "meaning": _meaning(embed([prompt, *texts])),
        "words": _word_cosines(new, weights),
        "order": _common_orders([answer[:_FIRST] for answer in words]),
        "opening": np.where(
            short | short[:, None],
            np.nan,
            _overlaps([answer[:_OPENING] for answer in words], weights),
        ),
        "names": _overlaps([[name for name in found if name not in asked] for found in names]),
        "bold": _overlaps([_words(" ".join(_BOLD.findall(text))) for text in texts]),
        "lines": _line_ratios(texts),
        "prompt_length": np.full((len(texts), len(texts)), math.log(1 + len(_words(prompt)))),
    }
    return np.stack([columns[name] for name in FEATURES], axis=-1)


def same_answer_classes(probabilities: ArrayLike, threshold: float | None = None) -> list[int]:
    """The class of each answer, numbered in the order in which they first occur: (k, k) → k.

    Average linkage: the two classes with the highest mean probability over their pairs are joined
    as long as it is at least `threshold` (that of the shipped model). So one odd pair neither
    chains two classes nor splits one, and the order of answers changes only the numbers. Both
    happen where an answer is compared with one member of each class, as NoveltyBench does.
    An empty list for no answers.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[0] != p.shape[1]:
        raise ValueError(f"expected probabilities of shape (k, k), got {p.shape}")
    limit = equivalence_model().threshold if threshold is None else threshold
    if len(p) < 2:
        return [0] * len(p)
    # Imported here: it takes a second, and no command needs it before there are answers.
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = squareform(np.maximum(1.0 - (p + p.T) / 2.0, 0.0), checks=False)
    found = fcluster(linkage(distances, "average"), 1.0 - limit, "distance").tolist()
    numbers = {group: number for number, group in enumerate(dict.fromkeys(found))}
    return [numbers[group] for group in found]


def distinct_k(classes: Sequence[int]) -> int:
    """Number of different answers among k: the number of classes; in 0 … k, higher is better.

    NoveltyBench (arXiv 2504.05228), section 3. (Its published files hold the highest class number,
    which is one less, under this name.)
    """
    return len(set(classes))


def utility_k(classes: Sequence[int], qualities: Sequence[float], patience: float = 0.8) -> float:
    """What k answers are worth to a reader who goes on to the next with probability `patience`.

    (1 − p) / (1 − pᵏ) · Σᵢ pⁱ⁻¹ · qualityᵢ · [answer i is the first of its class], NoveltyBench
    (arXiv 2504.05228), section 3: the discounted mean quality, where an answer that was given
    before is worth nothing. In the unit and range of the qualities; higher is better. `patience`
    in (0, 1). NaN for no answers, and where a quality that counts is NaN.
    """
    if len(classes) != len(qualities):
        raise ValueError(f"{len(classes)} classes, but {len(qualities)} qualities")
    if not 0.0 < patience < 1.0:
        raise ValueError(f"expected a patience between 0 and 1, got {patience}")
    if not classes:
        return math.nan
    discounts = [patience**i for i in range(len(classes))]
    worth = [
        discount * quality
        for i, (discount, quality) in enumerate(zip(discounts, qualities, strict=True))
        if classes[i] not in classes[:i]
    ]
    return math.fsum(worth) / math.fsum(discounts)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _meaning(vectors: NDArray[Any]) -> Array:
    rows = np.asarray(vectors, dtype=np.float64)
    prompt, answers = rows[0], rows[1:]
    rest = answers - np.outer(answers @ prompt, prompt)
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    # An answer that is the prompt again has nothing left: what rounding leaves has no direction.
    rest = np.where(lengths > 1e-4, rest / np.maximum(lengths, 1e-4), 0.0)
    return np.asarray(rest @ rest.T, dtype=np.float64)


def _incidence(texts: Sequence[Sequence[str]]) -> tuple[list[str], Array]:
    """All words, and how often each text has each: (texts, words)."""
    counts = [Counter(words) for words in texts]
    known = {word: i for i, word in enumerate(sorted(set().union(*counts)))}
    table = np.zeros((len(texts), len(known)))
    for row, count in zip(table, counts, strict=True):
        row[[known[word] for word in count]] = list(count.values())
    return list(known), table


def _word_cosines(texts: Sequence[Sequence[str]], weights: WordWeights) -> Array:
    """NaN where neither text has a word that the prompt has not; 0 where one has none."""
    known, counts = _incidence(texts)
    weighted = (np.log(np.maximum(counts, 1)) + 1) * (counts > 0)
    weighted *= np.array([weights(word) for word in known])
    lengths = np.linalg.norm(weighted, axis=1)
    products = np.maximum(np.outer(lengths, lengths), 1e-12)
    cosines = weighted @ weighted.T / products
    cosines[np.add.outer(lengths, lengths) == 0] = np.nan
    return np.asarray(cosines, dtype=np.float64)


def _overlaps(
    texts: Sequence[Sequence[str]], weights: Callable[[str], float] = lambda word: 1.0
) -> Array:
    """Weight of shared words / of all words of two texts; NaN where neither has any."""
    known, counts = _incidence(texts)
    present = (counts > 0).astype(np.float64)
    shared = (present * np.array([weights(word) for word in known])) @ present.T
    own = np.diag(shared)
    union = np.add.outer(own, own) - shared
    shares: Array = np.full(shared.shape, np.nan)
    np.divide(shared, union, out=shares, where=union > 0)
    return shares


def _common_orders(texts: Sequence[Sequence[str]]) -> Array:
    """Longest common subsequence / length of the shorter text; NaN where one has no words."""
    shares = np.full((len(texts), len(texts)), np.nan)
    for i, words in enumerate(texts):
        positions: dict[str, int] = {}
        for place, word in enumerate(words):
            positions[word] = positions.get(word, 0) | 1 << place
        for j, others in enumerate(texts[: i + 1]):
            if words and others:
                common = _common_subsequence(positions, len(words), others)
                shares[i, j] = shares[j, i] = common / min(len(words), len(others))
    return shares


def _common_subsequence(positions: Mapping[str, int], length: int, others: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of the table in one integer.

    Hyyrö (2004), 'Bit-parallel LCS-length computation revisited'.
    """
    full = (1 << length) - 1
    row = full
    for word in others:
        met = row & positions.get(word, 0)
        row = ((row + met) | (row - met)) & full
    return length - row.bit_count()


def _line_ratios(texts: Sequence[str]) -> Array:
    lines = np.log([1 + text.count("\n") for text in texts])
    return np.asarray(-np.abs(np.subtract.outer(lines, lines)), dtype=np.float64)
