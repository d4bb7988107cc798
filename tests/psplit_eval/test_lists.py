"""Lists of words and of uses, on vectors made by hand."""

import math

import numpy as np
import pytest

from psplit_eval.lists import UseList, WordList
from psplit_eval.scoring import Evidence
from psplit_eval.store import Doc

BRICK = Doc("uses", 0, "h", {"object": "a brick", "usual": "building"}, "")
EIGHT = ["river", "lamp", "anger", "spoon", "music", "cloud", "debt", "moss"]


def axes(*texts, size=384):
    """Texts at right angles to each other."""
    return {text: row.astype(np.float32) for text, row in zip(texts, np.eye(size), strict=False)}


def test_words_by_hand():
    pytest.importorskip("spylls", reason="the extra 'semantic' is not installed")
    text = "\n".join([*EIGHT, "qzxv", "river"])
    assert WordList().wanted(BRICK, text).words == ("word", *EIGHT)
    known = Evidence(words=axes(*EIGHT))
    found = dict(WordList().values(BRICK, text, known, passing=True))
    assert found == {
        "invalid_words": 1,
        "valid_words": 8,
        "divergent_association": pytest.approx(100),
        "effective_association": pytest.approx(100),
    }
    few = dict(WordList().values(BRICK, "river, lamp", known, passing=True))
    assert math.isnan(few["divergent_association"])
    assert few["effective_association"] == 0
    assert set(dict(WordList().values(BRICK, text, Evidence(), True))) == {
        "invalid_words",
        "valid_words",
    }


def test_a_list_without_any_word_is_at_the_bottom_not_unmeasured():
    pytest.importorskip("spylls", reason="the extra 'semantic' is not installed")
    known = Evidence(words=axes(*WordList().wanted(BRICK, "qzxv\nzzkq").words))
    found = dict(WordList().values(BRICK, "qzxv\nzzkq", known, passing=False))
    assert found["effective_association"] == 0
    assert math.isnan(found["divergent_association"])


def test_uses_by_hand():
    uses = ["Hold a door open", "Weigh down papers", "Keep a door from closing"]
    text = "\n".join(f"{i}. {use}" for i, use in enumerate(uses, 1))
    wanted = UseList().wanted(BRICK, text).texts
    assert wanted == ["brick", *uses]
    vectors = axes("brick", *uses)
    vectors[uses[2]] = vectors[uses[0]]
    known = Evidence(vectors=vectors)
    found = dict(UseList().values(BRICK, text, known, passing=True))
    assert (found["use_fluency"], found["use_flexibility"]) == (3, 2)
    assert 1 <= found["use_originality"] <= 5
    assert found["effective_originality"] == found["use_originality"]
    lost = dict(UseList().values(BRICK, text, known, passing=False))
    assert lost["effective_originality"] == 1
    assert lost["use_originality"] == found["use_originality"]
    pooled = dict(UseList().values_of_all(BRICK, [text, text, "Weigh down papers"], known))
    # seven uses: four hold a door, three weigh down papers
    rarity = (4 * 3 / 6 + 3 * 4 / 6) / 7
    assert pooled == {"use_kinds_k": 2, "use_rarity": pytest.approx(rarity)}


def test_fitted_values_are_of_the_embeddings_that_they_were_fitted_to():
    """Other vectors had other dimensions than the coefficients, which stopped the scoring."""
    known = Evidence(vectors=axes("brick", "Hold a door open", size=64), usual_vectors=False)
    found = dict(UseList().values(BRICK, "1. Hold a door open", known, passing=True))
    assert found == {"use_fluency": 1}


def test_no_list_is_taken_for_good_where_quality_is_not_known():
    known = Evidence(vectors=axes("brick", "Hold a door open"))
    found = dict(UseList().values(BRICK, "1. Hold a door open", known, passing=None))
    assert "use_originality" in found
    assert "effective_originality" not in found


def test_a_response_without_uses_has_the_least_originality():
    found = dict(UseList().values(BRICK, "", Evidence(vectors=axes("brick")), passing=True))
    assert (found["use_fluency"], found["use_flexibility"]) == (0, 0)
    assert math.isnan(found["use_originality"])
    assert found["effective_originality"] == 1
