"""Semantic diversity against vectors, scipy's pair by pair, closed forms, and at the edges."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from psplit_eval.semantic import (
    mean_pairwise_distance,
    semantic_clusters,
    vendi_score,
)

VECTORS = "metric_vectors/lexical_diversity.jsonl"
ONE_NUMBER = {
    "distance": mean_pairwise_distance,
    "vendi": vendi_score,
    "clusters": lambda vectors: semantic_clusters(vectors, 0.3),
}
embeddings = arrays(
    np.float32,
    st.tuples(st.integers(0, 8), st.integers(1, 5)),
    elements=st.floats(-1, 1, width=32),
)


def random_vectors(k, d=16, seed=0):
    return np.random.default_rng(seed).normal(size=(k, d)).astype(np.float32)


def test_vendi_equals_the_reference_vectors(real_rows):
    """Cosine of token counts; by numpy from the definition, and by the package vendi-score."""
    for row in real_rows(VECTORS):
        texts = [text.split() for text in row["texts"]]
        types = sorted({token for text in texts for token in text})
        counts = [[text.count(token) for token in types] for text in texts]
        for name in ("numpy", "pkg"):
            expected = row["values"][f"vendi_q1_countcosine_{name}"]
            assert vendi_score(counts) == pytest.approx(expected, abs=1e-9), row["id"]


@pytest.mark.parametrize("q", [0, 0.5, 1, 2, math.inf])
def test_vendi_of_groups_is_hills_number_of_their_sizes(q):
    """Equal within and orthogonal between groups: the eigenvalues are the groups' shares."""
    sizes = np.array([1, 2, 5])
    turned, _ = np.linalg.qr(random_vectors(7, 7).astype(float))
    vectors = np.repeat(turned[:3], sizes, axis=0)
    shares = sizes / sizes.sum()
    expected = {
        1: math.exp(-sum(p * math.log(p) for p in shares)),
        math.inf: 1 / max(shares),
    }.get(q) or sum(shares**q) ** (1 / (1 - q))
    assert vendi_score(vectors, q) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (12, 12)])
def test_vendi_does_not_depend_on_which_gram_matrix_is_smaller(shape):
    vectors = random_vectors(*shape).astype(float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / len(unit)).clip(1e-300)
    assert vendi_score(vectors) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_opposite_vectors_have_negative_cosines_and_a_defined_vendi_score():
    assert vendi_score([[1.0, 0.0], [-1.0, 0.0]]) == 1  # one direction
    assert mean_pairwise_distance([[1.0, 0.0], [-1.0, 0.0]]) == 2


@pytest.mark.parametrize("k", [2, 3, 50])
def test_distances_are_scipys(k):
    vectors = random_vectors(k).astype(float)
    assert mean_pairwise_distance(vectors) == pytest.approx(pdist(vectors, "cosine").mean())


@pytest.mark.parametrize("method", ["complete", "average"])
def test_clusters_are_scipys_over_more_than_one_block(method):
    vectors = random_vectors(700, 8).astype(float)
    tree = linkage(pdist(vectors, "cosine"), method)
    for distance in (0.2, 0.5, 1.0):
        expected = len(set(fcluster(tree, distance, "distance")))
        assert semantic_clusters(vectors, distance, method) == expected


@pytest.mark.parametrize("k", [2, 5, 600])
def test_equal_texts_are_one_text(k):
    vectors = np.repeat(random_vectors(1, 384), k, axis=0)
    assert mean_pairwise_distance(vectors) == pytest.approx(0, abs=1e-12)
    assert vendi_score(vectors) == pytest.approx(1)
    many = [np.repeat(random_vectors(1, 384, seed), k, axis=0) for seed in range(20)]
    assert [semantic_clusters(vectors, 0.0) for vectors in many] == [1] * 20


def test_unrelated_texts_are_all_different():
    assert mean_pairwise_distance(np.eye(6)) == pytest.approx(1)
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert semantic_clusters(np.eye(6), 0.9) == 6
    assert semantic_clusters(np.eye(6), 1.0) == 1


@pytest.mark.parametrize("name", ONE_NUMBER)
@pytest.mark.parametrize(
    "vectors",
    [[], np.empty((0, 3)), [[1.0, 2.0]], [[1.0, 2.0], [0.0, 0.0]], [[1.0, 2.0], [math.nan, 1.0]]],
)
def test_undefined_vectors_have_no_value(name, vectors):
    assert math.isnan(ONE_NUMBER[name](vectors))


def test_a_wrong_shape_and_a_negative_order_are_refused():
    with pytest.raises(ValueError, match="texts, dimensions"):
        mean_pairwise_distance([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="0 or more"):
        vendi_score(np.eye(2), -1)


@given(embeddings, st.randoms())
@settings(deadline=None)
def test_values_lie_in_range_and_do_not_depend_on_order_or_scale(vectors, random):
    k, d = vectors.shape
    defined = k >= 2 and bool(np.linalg.norm(vectors.astype(float), axis=1).all())
    mixed = vectors[random.sample(range(k), k)] * np.float32(4)
    ranges = {"distance": (0, 2), "vendi": (1, min(k, d)), "clusters": (1, k)}
    for name, (low, high) in ranges.items():
        value = ONE_NUMBER[name](vectors)
        assert math.isnan(value) == (not defined), name
        if defined:
            assert low - 1e-9 <= value <= high + 1e-9, name
    for name in ("distance", "vendi"):
        again = ONE_NUMBER[name](mixed)
        assert again == pytest.approx(ONE_NUMBER[name](vectors), abs=1e-9, nan_ok=True), name


def test_thousands_of_texts_need_no_matrix_of_all_pairs():
    vectors = random_vectors(3000, 64)
    tracemalloc.start()
    vendi_score(vectors)
    mean_pairwise_distance(vectors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3000 * 3000 * 8 / 2
