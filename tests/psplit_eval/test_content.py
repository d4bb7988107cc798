"""What answers add to their prompt: geometry by hand, bounds, and the fitted model's sense."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from psplit_eval.content import (
    _fitted,
    beyond_prompt,
    closeness_to_prompt,
    content_diversity,
    content_features,
    distance_beyond_prompt,
    distances_beyond_prompt,
    in_context,
)
from psplit_eval.semantic import mean_pairwise_distance
from psplit_eval.surprise import foretold

PROMPT = np.array([1.0, 0.0, 0.0])
vectors = arrays(np.float64, st.tuples(st.integers(2, 6), st.just(4)), elements=st.floats(-1, 1))


def test_what_all_answers_share_with_the_prompt_does_not_count():
    # 0.8 of each is the prompt; what they add is at right angles
    answers = [[0.8, 0.6, 0.0], [0.8, 0.0, 0.6]]
    assert mean_pairwise_distance(answers) == pytest.approx(1 - 0.64)
    assert distance_beyond_prompt(answers, PROMPT) == pytest.approx(1)


def test_answers_that_add_the_same_have_no_distance():
    answers = [[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [-0.6, 0.8, 0.0]]
    assert distance_beyond_prompt(answers, PROMPT) == pytest.approx(0, abs=1e-12)


def test_an_answer_that_repeats_the_prompt_or_is_blank_is_left_out():
    answers = [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.8, 0.0, 0.6]]
    assert len(beyond_prompt(answers, PROMPT)) == 2
    assert distance_beyond_prompt(answers, PROMPT) == pytest.approx(1)
    assert math.isnan(distance_beyond_prompt(answers[:3], PROMPT))


@given(vectors, arrays(np.float64, 4, elements=st.floats(-1, 1)))
@settings(deadline=None)
def test_values_lie_in_range_and_rests_at_right_angles(answers, prompt):
    rest = beyond_prompt(answers, prompt)
    assert np.abs(rest @ prompt).max(initial=0) < 1e-9
    value = distance_beyond_prompt(answers, prompt)
    assert math.isnan(value) if len(rest) < 2 else 0 <= value <= len(rest) / (len(rest) - 1) + 1e-9
    again = distance_beyond_prompt(3 * answers[::-1], 2 * prompt)
    assert again == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_closeness_is_the_mean_cosine_of_answers_with_words():
    answers = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert closeness_to_prompt(answers, PROMPT) == pytest.approx(0.5)
    assert math.isnan(closeness_to_prompt(answers[2:], PROMPT))
    assert math.isnan(closeness_to_prompt(answers, 0 * PROMPT))


def test_text_in_context_stands_after_its_prompt():
    assert in_context("Say it. ", " Now.\n") == "Say it. Now."


def features(share):
    """All features this far between their bounds, in the direction of more diversity."""
    terms = _fitted()["features"]
    return {
        name: term["low"]
        + (term["high"] - term["low"]) * (share if term["weight"] > 0 else 1 - share)
        for name, term in terms.items()
    }


def test_each_feature_has_the_sign_that_its_meaning_asks_for():
    signs = {name: math.copysign(1, term["weight"]) for name, term in _fitted()["features"].items()}
    assert signs == {
        "distance_beyond_prompt": 1,
        "distance_in_context": 1,
        "closeness_to_prompt": 1,  # nor is leaving the topic
        "mutual_bits": -1,  # answers that foretell each other say the same
    }


def test_more_of_everything_is_more_diverse_up_to_the_bounds():
    values = [content_diversity(features(share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert values == sorted(values)
    assert 0 <= values[0] < 0.1 < 0.9 < values[-1] <= 1
    assert content_diversity(features(100)) == values[-1]
    assert content_diversity(features(-100)) == values[0]


@pytest.mark.parametrize("name", ["distance_beyond_prompt", "mutual_bits"])
def test_an_unknown_feature_makes_the_value_unknown(name):
    assert math.isnan(content_diversity({**features(0.5), name: math.nan}))


def test_features_have_the_names_of_the_fitted_model():
    answers = [[0.8, 0.6, 0.0], [0.8, 0.0, 0.6]]
    read = [[[1.0], [2.0], [1.0], [1.0], [2.0]]] * 2
    made = content_features(answers, answers, PROMPT, foretold(read))
    assert made.keys() == _fitted()["features"].keys()
    assert 0 <= content_diversity(made) <= 1


def test_the_fit_says_what_it_was_made_of():
    fit = _fitted()
    assert fit["sets"] > 300
    assert all(0.8 < value < 1 for value in fit["auc_out_of_fold"].values())


def test_distances_are_those_of_the_mean():
    rng = np.random.default_rng(0)
    vectors, prompt = rng.normal(size=(6, 16)), rng.normal(size=16)
    distances = distances_beyond_prompt(vectors, prompt)
    assert distances.shape == (6, 6)
    assert distances[np.triu_indices(6, 1)].mean() == pytest.approx(
        distance_beyond_prompt(vectors, prompt)
    )
    nothing = distances_beyond_prompt([vectors[0], prompt, np.zeros(16)], prompt)
    assert not nothing[1:].any()
