"""Semantic diversity among texts: pure functions over their sentence embeddings.

Vectors have shape (texts, dimensions), any scale: each is brought to length 1, so similarity is the
cosine. A text without words has no meaning to differ; leave it out before. Where fewer than two
vectors are left, or one has no direction (zero, not finite), values are NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["mean_pairwise_distance", "semantic_clusters", "vendi_score"]

Array = NDArray[np.float64]
_ROUNDING = 1e-12
"""Of a cosine, so that equal vectors lie within a distance of 0."""
_BLOCK = 512
"""Vectors whose distances to all others are held at a time."""


def mean_pairwise_distance(vectors: ArrayLike) -> float:
    """Mean of 1 − cosine over all pairs; in [0, k / (k − 1)] for k vectors, higher is more diverse.

    Exact, without the pairs: the squared length of the sum of k unit vectors is k plus twice the
    sum of their cosines. 0 for equal texts (to rounding); 1 means unrelated. Does not depend on k
    in expectation. NaN: see the module.
    """
    unit = _unit(vectors)
    if unit is None:
        return math.nan
    k, total = len(unit), unit.sum(axis=0)
    return max(0.0, 1.0 - float(total @ total - k) / (k * (k - 1)))


def vendi_score(vectors: ArrayLike, q: float = 1.0) -> float:
    """Effective number of different texts; in [1, min(k, dimensions)], higher is more diverse.

    Friedman & Dieng 2023 (arXiv 2210.02410), cosine kernel: exp of the entropy of the
    eigenvalues of K / k; of order q (Pasarkar & Dieng 2024, arXiv 2310.12952) where q is not 1, up
    to math.inf. K is a Gram matrix, so its eigenvalues are never negative even where cosines are.
    They are taken of the smaller of (k × k) and (dimensions × dimensions), which differ by zeros
    only: 5 000 texts need no 5 000 × 5 000. Grows with k: compare equal numbers of texts. 1 for
    equal texts. NaN: see the module. ValueError for q below 0.
    """
    if q < 0:
        raise ValueError(f"q {q}: expected an order of 0 or more")
    unit = _unit(vectors)
    if unit is None:
        return math.nan
    gram = unit @ unit.T if unit.shape[0] <= unit.shape[1] else unit.T @ unit
    values = np.linalg.eigvalsh(gram)
    # what rounding makes of a zero is no direction: order 0 would count it
    positive = values[values > values[-1] * len(values) * np.finfo(np.float64).eps]
    return math.exp(_entropy(positive / positive.sum(), q))


def _entropy(shares: Array, q: float) -> float:
    """Rényi's entropy of order q in nats; Shannon's for 1."""
    if q == 1:
        return float(-(shares * np.log(shares)).sum())
    if math.isinf(q):
        return -math.log(shares.max())
    return math.log((shares**q).sum()) / (1 - q)


def semantic_clusters(vectors: ArrayLike, distance: float, linkage: str = "complete") -> float:
    """Number of clusters no wider than `distance` (1 − cosine); in [1, k], higher is more diverse.

    Agglomerative clustering by scipy. 'complete': no two members of a cluster are further apart;
    'average': on average. What distance still means the same depends on the embeddings, so it has
    no default. Grows with k: compare equal numbers of texts. Where distances are equal, the order
    of the texts can decide. Memory: 8 k² bytes, 0.2 GB for 5 000. 1 for equal texts. NaN: see the
    module.
    """
    from scipy.cluster.hierarchy import fcluster
    from scipy.cluster.hierarchy import linkage as agglomerate

    unit = _unit(vectors)
    if unit is None:
        return math.nan
    tree = agglomerate(_condensed(unit), linkage)
    return float(fcluster(tree, distance + _ROUNDING, criterion="distance").max())


def _unit(vectors: ArrayLike, at_least: int = 2) -> Array | None:
    """Unit vectors in double precision; None where values are undefined."""
    array = np.asarray(vectors, dtype=np.float64)
    if len(array) < at_least:
        return None
    if array.ndim != 2:
        raise ValueError(f"expected vectors of shape (texts, dimensions), got {array.shape}")
    norms: Array = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        return None
    unit: Array = array / norms
    return unit


def _condensed(unit: Array) -> Array:
    """Distances of all pairs in scipy's order, (0, 1), (0, 2), ..., made block by block."""
    k = len(unit)
    distances = np.empty(k * (k - 1) // 2)
    end = 0
    for start in range(0, k, _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit[start:].T
        for row, values in enumerate(cosines):
            begin, end = end, end + k - start - row - 1
            distances[begin:end] = values[row + 1 :]
    np.subtract(1.0, distances, out=distances)
    return np.maximum(distances, 0.0, out=distances)
