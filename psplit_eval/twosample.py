"""Do two modes answer alike? Two-sample tests on embeddings and words of samples, docs as units.

The design is paired: both modes have samples of every doc. Under the hypothesis that they answer
alike, the two arms of a doc could as well be swapped, so every p-value is that of swapping whole
docs; samples of one doc are never parted. Arms are cut to equal numbers of samples first, without
which swapped arms would not be equally likely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psplit_eval.diversity import Tokens, cross_bleu, self_bleu, tokenise
from psplit_eval.findings import Finding
from psplit_eval.resampling import RESAMPLES, Array
from psplit_eval.stats import (
    MINIMUM_DOCS,
    Estimate,
    mean_estimate,
    paired_mean_difference,
    ratio_estimate,
)

__all__ = [
    "BLEU_TOKENS",
    "CLASSIFIER_SWAPS",
    "DOCS_AT_MOST",
    "FOLDS",
    "PENALTY",
    "ClassifierTest",
    "DocVectors",
    "bleu_findings",
    "classifier_test",
    "energy_kernel",
    "gaussian_kernel",
    "mean_off_diagonal",
    "median_distance",
    "paired_vectors",
    "swap_matrices",
    "swap_p_value",
    "vector_findings",
    "within_doc_distance",
]

Kernel = Callable[[Array], Array]
"""Squared distances to similarities, of any shape."""

DOCS_AT_MOST = 500
"""Docs that a test looks at: its cost grows with their square."""
CLASSIFIER_SWAPS = 999
FOLDS = 5
PENALTY = 0.3
"""Of the classifier's weights, in mean eigenvalues of the samples' covariance. It depends on no
label, so it is the same after every swap. Between 0.1 and 1 accuracies hardly change."""
BLEU_TOKENS = 256
"""Tokens of a text that BLEU looks at: the first ones."""

_EXACT_DOCS = 12
"""With so many docs or fewer, all swaps are looked at."""
_SAMPLES_AT_MOST = 8_000
_ROWS = 512
"""Samples whose distances to all others are held at a time."""
_SAME = 1e-12
"""Squared distances up to this are rounding."""
_TIE = 1e-10
_BLEU_CHARACTERS = 8 * BLEU_TOKENS
_MEDIAN_OF = 1_000
"""Samples that the median distance is taken of."""
_SWAP = "swap test of docs, one-sided"


@dataclass(frozen=True, eq=False)
class DocVectors:
    """Embeddings of one doc's samples: `a` and `b` (samples, dimensions), equally many."""

    a: Array
    b: Array


def paired_vectors(docs: Sequence[tuple[ArrayLike, ArrayLike]]) -> list[DocVectors]:
    """What the tests use: the first DOCS_AT_MOST docs with samples in both arms.

    Vectors are brought to length 1. A sample without direction (zero, not finite: an empty text) is
    left out. Of the longer arm the first samples are kept, as many as the other has, and no more
    than 4 000 / docs (2 or more): the cost is bounded.
    """
    kept = [(left, right) for a, b in docs if len(left := _unit(a)) and len(right := _unit(b))]
    kept = kept[:DOCS_AT_MOST]
    most = max(2, _SAMPLES_AT_MOST // (2 * max(1, len(kept))))
    sizes = [min(len(a), len(b), most) for a, b in kept]
    return [DocVectors(a[:k], b[:k]) for (a, b), k in zip(kept, sizes, strict=True)]


def _unit(vectors: ArrayLike) -> Array:
    rows = np.asarray(vectors, dtype=np.float64)
    if not len(rows):
        return np.zeros((0, 0))
    if rows.ndim != 2:
        raise ValueError(f"expected vectors of shape (samples, dimensions), got {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1)
    directed = np.isfinite(lengths) & (lengths > 0)
    unit: Array = rows[directed] / lengths[directed, None]
    return unit


def energy_kernel(squared: Array) -> Array:
    """− distance: with it the quadratic form is the energy distance."""
    return -np.sqrt(squared)


def gaussian_kernel(bandwidth: float) -> Kernel:
    """exp(− distance² / (2 bandwidth²)); with bandwidth 0 (no two samples differ) 1 everywhere."""
    if bandwidth == 0:
        return np.ones_like
    return lambda squared: np.exp(squared / (-2 * bandwidth**2))


def median_distance(docs: Sequence[DocVectors]) -> float:
    """Median distance of two samples, whatever their doc and arm: the bandwidth's usual heuristic.

    Gretton et al. 2012 (JMLR 13), section 8. Of all pairs of up to 1 000 samples, evenly taken. It
    does not know the arms, so it is the same after every swap. NaN for fewer than two samples.
    """
    rows = np.concatenate([arm for doc in docs for arm in (doc.a, doc.b)]) if docs else np.empty(0)
    if len(rows) < 2:
        return math.nan
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MEDIAN_OF)).round().astype(int)]
    squared = _squared_distances(rows, rows)[np.triu_indices(len(rows), 1)]
    return math.sqrt(float(np.median(squared)))


def swap_matrices(docs: Sequence[DocVectors], kernels: Sequence[Kernel]) -> list[Array]:
    """For each kernel k the matrix Q (docs, docs), symmetric, of which a swap only moves signs.

    Qᵢⱼ = k(Aᵢ, Aⱼ) − k(Aᵢ, Bⱼ) − k(Bᵢ, Aⱼ) + k(Bᵢ, Bⱼ), means over all pairs of samples.
    After swapping the docs with sᵢ = −1 the statistic is Σ sᵢ sⱼ Qᵢⱼ / n²: with `energy_kernel` the
    energy distance 2 E|A − B| − E|A − A′| − E|B − B′| (Székely and Rizzo 2013, J. Stat. Plan.
    Inference 143), with `gaussian_kernel` MMD² (Gretton et al. 2012). All pairs of samples are
    never held at once.
    """
    samples, weights, bounds = _stacked(docs)
    found = [np.zeros((len(docs), len(docs))) for _ in kernels]
    for first, last in pairwise(_blocks(bounds)):
        rows = slice(bounds[first], bounds[last])
        squared = _squared_distances(samples[rows], samples)
        starts = bounds[first:last] - bounds[first]
        for matrix, kernel in zip(found, kernels, strict=True):
            values = kernel(squared) * weights
            by_doc = np.add.reduceat(values, bounds[:-1], axis=1) * weights[rows, None]
            matrix[first:last] = np.add.reduceat(by_doc, starts, axis=0)
    return found


def _stacked(docs: Sequence[DocVectors]) -> tuple[Array, Array, NDArray[np.int64]]:
    """All samples, doc by doc; their weights, ± 1 / samples of the arm; where docs begin."""
    samples = np.concatenate([arm for doc in docs for arm in (doc.a, doc.b)])
    weights = np.concatenate(
        [np.full(len(arm), s / len(arm)) for doc in docs for arm, s in ((doc.a, 1), (doc.b, -1))]
    )
    sizes = [len(doc.a) + len(doc.b) for doc in docs]
    return samples, weights, np.concatenate([[0], np.cumsum(sizes)])


def _blocks(bounds: NDArray[np.int64]) -> list[int]:
    """Docs at which blocks of about _ROWS samples begin, and the end."""
    cuts = np.searchsorted(bounds, np.arange(0, bounds[-1], _ROWS))
    return [*dict.fromkeys([*cuts.tolist(), len(bounds) - 1])]


def _squared_distances(left: Array, right: Array) -> Array:
    squared: Array = 2 - 2 * (left @ right.T)
    squared[squared < _SAME] = 0
    return squared


def mean_off_diagonal(matrix: Array) -> float:
    """Mean of Qᵢⱼ over i ≠ j: the distance of the pooled arms, unbiased for a population of docs.

    The diagonal is what the arms of one doc differ by on that doc (`within_doc_distance`), with
    chance added; without it modes that answer alike give 0 in expectation, so the value may be
    negative. NaN for fewer than two docs.
    """
    n = len(matrix)
    return float(matrix.sum() - np.trace(matrix)) / (n * (n - 1)) if n > 1 else math.nan


def swap_p_value(matrix: Array, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Share of swaps of docs after which Σ sᵢ sⱼ Qᵢⱼ is as great as it was seen, in (0, 1].

    Matrix (docs, docs). The diagonal plays no part: it is the same after every swap. Exact, over
    all 2ⁿ swaps, for 12 docs or fewer; else over `resamples` random ones and the one that was seen
    (Phipson and Smyth 2010). NaN for fewer than two docs.
    """
    n = len(matrix)
    if n < 2:
        return math.nan
    off = matrix - np.diag(np.diag(matrix))
    signs = _signs(n, resamples, seed)
    values = np.concatenate([_quadratic(part, off) for part in np.array_split(signs, 8)])
    return float((values >= values[0] - _TIE * n * n).mean())


def _quadratic(signs: Array, matrix: Array) -> Array:
    return np.asarray(((signs @ matrix) * signs).sum(axis=1), dtype=np.float64)


def _signs(n: int, resamples: int, seed: int) -> Array:
    """Swaps (r, docs), 1 or −1; the first is what was seen.

    Swapping every doc changes no statistic here, so of all 2ⁿ swaps one half will do.
    """
    if n <= _EXACT_DOCS:
        return np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=n - 1)])
    rng = np.random.Generator(np.random.SFC64(seed))
    drawn = rng.integers(0, 2, (resamples, n), dtype=np.int8) * 2.0 - 1.0
    return np.concatenate([np.ones((1, n)), drawn])


def within_doc_distance(doc: DocVectors, kernel: Kernel = energy_kernel) -> tuple[float, float]:
    """How far apart the two arms of one doc lie, and −2 k(A, B), which bounds the energy distance.

    The unbiased form, pairs within an arm being of two different samples (MMD² of Gretton et al.
    2012, Lemma 6; with `energy_kernel` the energy distance in [−4, 4]): 0 in expectation where both
    modes answer the doc alike, so it may be negative. NaN for arms of fewer than two samples.
    """
    k = len(doc.a)
    if k < 2:
        return math.nan, math.nan
    between = float(kernel(_squared_distances(doc.a, doc.b)).mean())
    inner = sum(_mean_of_pairs(kernel(_squared_distances(arm, arm))) for arm in (doc.a, doc.b))
    return inner - 2 * between, -2 * between


def _mean_of_pairs(values: Array) -> float:
    k = len(values)
    return float(values.sum() - np.trace(values)) / (k * (k - 1))


@dataclass(frozen=True, eq=False)
class ClassifierTest:
    """`accuracies` (docs,): share of a doc's samples whose mode was told; 0.5: cannot tell."""

    accuracies: Array
    p: float


def classifier_test(
    docs: Sequence[DocVectors], resamples: int = CLASSIFIER_SWAPS, seed: int = 0
) -> ClassifierTest:
    """Can a linear classifier tell from one sample which mode wrote it, on docs it has not seen?

    Classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545). Ridge regression on
    ± 1, which with equal arms is a linear discriminant; a doc weighs the same as any other. Cross-
    validated over FOLDS groups of whole docs, the i-th doc in group i mod FOLDS; fewer docs, as
    many groups. A sample on the border counts one half. p is one-sided: labels of whole docs are
    swapped and all folds trained again, since counts of right samples are not binomial (folds share
    training data, samples their doc). Closed form, so a swap costs a matrix product. All swaps for
    12 docs or fewer. NaN for fewer than two docs.
    """
    n = len(docs)
    if n < 2:
        return ClassifierTest(np.full(n, math.nan), math.nan)
    signs = _signs(n, resamples, seed)
    right = np.empty((len(signs), n))
    groups = min(FOLDS, n)
    for group in range(groups):
        held = list(range(group, n, groups))
        seen = [i for i in range(n) if i % groups != group]
        trained = _Trained.on([docs[i] for i in seen])
        tested = [docs[i] for i in held]
        right[:, held] = trained.accuracies(signs[:, seen], tested, signs[:, held])
    mean = right.mean(axis=1)
    return ClassifierTest(right[0], float((mean >= mean[0] - _TIE).mean()))


@dataclass(frozen=True, eq=False)
class _Trained:
    """Ridge regression whose labels are still open, up to the signs of docs."""

    centre: Array
    weights: Array
    """What each doc adds to the classifier's weights (docs, dimensions)."""

    @classmethod
    def on(cls, docs: Sequence[DocVectors]) -> _Trained:
        samples, signed, bounds = _stacked(docs)
        shares = np.abs(signed) / (2 * len(docs))
        centre: Array = shares @ samples
        centred = samples - centre
        spread = (centred * shares[:, None]).T @ centred
        spread[np.diag_indices_from(spread)] += PENALTY * np.trace(spread) / len(spread) + _SAME
        gaps = np.add.reduceat(centred * signed[:, None], bounds[:-1], axis=0) / (2 * len(docs))
        weights = np.linalg.solve(spread, gaps.T).T
        return cls(centre, np.asarray(weights, dtype=np.float64))

    def accuracies(self, signs: Array, docs: Sequence[DocVectors], truth: Array) -> Array:
        """(swaps, docs) of held-out docs; `signs` of the docs trained on, `truth` of the others."""
        samples, signed, bounds = _stacked(docs)
        scores = (samples - self.centre) @ (self.weights.T @ signs.T)
        scores *= np.repeat(truth, np.diff(bounds), axis=1).T * np.sign(signed)[:, None]
        right = (scores > _TIE) + 0.5 * (np.abs(scores) <= _TIE)
        counts = np.add.reduceat(right, bounds[:-1], axis=0).T
        return np.asarray(counts / np.diff(bounds), dtype=np.float64)


def vector_findings(
    task: str, mode_a: str, mode_b: str, docs: Sequence[tuple[ArrayLike, ArrayLike]]
) -> list[Finding]:
    """All tests on the docs' embeddings of a's and of b's samples, (samples, dimensions) each.

    A measure without docs is NaN, and its note says why; below MINIMUM_DOCS values alone.
    """
    kept = paired_vectors(docs)
    finding = partial(Finding, task, mode_a, mode_b)
    return [*_pooled(finding, kept), *_within(finding, kept), _told_apart(finding, kept)]


def _pooled(finding: Callable[..., Finding], docs: Sequence[DocVectors]) -> list[Finding]:
    if len(docs) < 2:
        note = "undefined: needs two docs with samples in both modes"
        unknown = Estimate(math.nan, math.nan, math.nan, len(docs))
        return [finding(name, unit, unknown, note=note) for name, unit in _POOLED]
    kernels = [energy_kernel, gaussian_kernel(median_distance(docs))]
    found = []
    for matrix, (name, unit) in zip(swap_matrices(docs, kernels), _POOLED, strict=True):
        value = Estimate(mean_off_diagonal(matrix), math.nan, math.nan, len(docs))
        p, test = (swap_p_value(matrix), _SWAP) if len(docs) >= MINIMUM_DOCS else (math.nan, "")
        found.append(finding(name, unit, value, p, test, "0 if modes answer alike; no interval"))
    return found


_POOLED = (("energy_distance", "distance of unit vectors"), ("mmd_squared", "squared kernel mean"))


def _within(finding: Callable[..., Finding], docs: Sequence[DocVectors]) -> list[Finding]:
    found = np.array([within_doc_distance(doc) for doc in docs]).reshape(-1, 2)
    found = found[~np.isnan(found[:, 0])]
    note = "given the doc; 0 if modes answer alike"
    if not len(found):
        note = "undefined: needs a doc with two samples in each mode"
    distance = mean_estimate(found[:, 0])
    share = ratio_estimate(found[:, 0], found[:, 1])
    if len(found) and math.isnan(share.value):
        share_note = "undefined: all samples of a doc are the same in both modes"
    else:
        share_note = note
    return [
        finding("energy_distance_within_docs", _POOLED[0][1], distance, note=note),
        finding("energy_share_within_docs", "fraction", share, note=share_note),
    ]


def _told_apart(finding: Callable[..., Finding], docs: Sequence[DocVectors]) -> Finding:
    name, unit = "classifier_accuracy", "fraction"
    if len(docs) < 2:
        unknown = Estimate(math.nan, math.nan, math.nan, len(docs))
        note = "undefined: needs two docs with samples in both modes"
        return finding(name, unit, unknown, note=note)
    found = classifier_test(docs)
    estimate = mean_estimate(found.accuracies, fraction=True)
    p, test = (found.p, _SWAP) if len(docs) >= MINIMUM_DOCS else (math.nan, "")
    note = "0.5: cannot tell; interval given the classifiers"
    return finding(name, unit, estimate, p, test, note)


def bleu_findings(
    task: str,
    mode_a: str,
    mode_b: str,
    docs: Sequence[tuple[Sequence[str], Sequence[str]]],
) -> list[Finding]:
    """Are the texts of a and b as unlike each other as those of one mode are? BLEU-4 of both.

    `docs`: the texts of a's and of b's samples. Per doc the mean of `self_bleu` in each mode and of
    `cross_bleu` both ways, with equally many references: texts without tokens are left out and the
    longer arm is cut. The gap is self (mean of both modes) − cross, in [−1, 1]: 0 in expectation if
    modes answer alike. Only BLEU_TOKENS of a text and DOCS_AT_MOST docs are looked at. A doc needs
    two texts in each mode; NaN where there is none.
    """
    rows = [row for a, b in docs[:DOCS_AT_MOST] if (row := _bleu_row(a, b))]
    self_a, self_b, cross = np.array(rows).reshape(-1, 3).T
    note = "" if rows else "undefined: needs a doc with two texts in each mode"
    values = (("self_bleu_4_a", self_a), ("self_bleu_4_b", self_b), ("cross_bleu_4", cross))
    found = [
        Finding(
            task, mode_a, mode_b, name, "fraction", mean_estimate(column, fraction=True), note=note
        )
        for name, column in values
    ]
    inner = (self_a + self_b) / 2
    gap = paired_mean_difference(cross, inner, fraction=True)
    note = note or "0 if modes answer alike"
    return [
        *found,
        Finding.of_difference(
            task, mode_a, mode_b, "bleu_4_self_minus_cross", "fraction", gap, note
        ),
    ]


def _bleu_row(a: Sequence[str], b: Sequence[str]) -> tuple[float, float, float] | None:
    left, right = ([cut for text in arm if (cut := _beginning(text))] for arm in (a, b))
    k = min(len(left), len(right))
    if k < 2:
        return None
    left, right = left[:k], right[:k]
    cross = cross_bleu(left, right) + cross_bleu(right, left)
    return fmean(self_bleu(left)), fmean(self_bleu(right)), fmean(cross)


def _beginning(text: str) -> Tokens:
    return tokenise(text[:_BLEU_CHARACTERS])[:BLEU_TOKENS]
