"""The numbers of a doc's samples, on evidence made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.sampleset import SampleSet, wanted_of_samples
from psplit_eval.scoring import Evidence
from psplit_eval.store import Sample

PROMPT = "Suggest a name for a cat."
STORY = (
    "The old sailor opened the door of the lighthouse and looked at the grey sea. Nobody had "
    "come to the island for a year, and the lamp had only oil for one more night. He wrote a "
    "letter to his daughter, put it into a bottle and threw it into the waves."
)


def sample(text, index=0, mode="normal", reason="stop"):
    return Sample(
        *(mode, "t", 0, index, "h", "r", "p", 1, 1, text, None, (1, 2), reason, 5, 2),
        *(1.0, 1.0, None, 0.1, "now"),
    )


def samples(*texts, mode="normal"):
    return [sample(text, index, mode) for index, text in enumerate(texts)]


def direction(text, size=16):
    """A vector of a text's own, equal for equal texts; all have something of the first axis."""
    rng = np.random.default_rng(list(text.encode("utf-8", "surrogatepass")) or [0])
    vector = rng.normal(size=size).astype(np.float32)
    vector[0] = 4.0
    return vector / np.linalg.norm(vector)


def evidence(wanted, others=None, bits=3.0):
    """What models would say: random directions, and `bits` for every word."""
    return Evidence(
        {text: direction(text) for text in wanted.texts},
        {
            chain: [np.full(len(piece.split()), bits, np.float32) for piece in chain.pieces]
            for chain in wanted.chains
        },
        others=others or {},
    )


def values_of(mine, others=None, bits=3.0, prompt=PROMPT):
    by_mode = {"mine": mine, **(others or {})}
    known = evidence(wanted_of_samples(prompt, by_mode), others, bits)
    found = SampleSet(prompt, mine, known)
    return {**dict(found.values()), **dict(found.answer_values())}


def test_one_answer_given_again_is_no_diversity():
    found = values_of(samples(STORY, STORY, STORY))
    assert found["distinct_k"] == 1
    assert found["semantic_dispersion"] == pytest.approx(0, abs=1e-6)
    assert found["effective_dispersion"] == pytest.approx(0, abs=1e-6)
    assert found["vendi"] == pytest.approx(1, abs=1e-5)
    assert found["semantic_clusters"] == 1
    assert found["div_bleu_4"] == pytest.approx(0, abs=1e-9)
    assert found["pos_templates"] > 0.9
    assert found["quality_words"] == 1
    assert found["fluency_bits"] == 3.0


def test_different_answers_are_counted_by_hand():
    found = values_of(samples("Whiskers", "Ink", "Whiskers!", "Bell"))
    assert found["distinct_k"] == 3
    assert found["effective_distinct_k"] == 3
    weights = [1, 0.8, 0.64, 0.512]  # the third repeats the first
    worth = found["quality"] * (weights[0] + weights[1] + weights[3]) / sum(weights)
    assert found["utility_k"] == pytest.approx(worth, abs=0.1)


def test_noise_does_not_win():
    noise = ["qzxv wkjh " * 9, "plof grbn mmtz " * 7, "xx yyq zzw vvk " * 8, "bcdf ghjk " * 9]
    good = values_of(samples(STORY, STORY + " Then it rained.", STORY[:120], STORY[90:]))
    bad = values_of(samples(*noise), bits=12.0)
    assert bad["semantic_dispersion"] > 0.5
    assert (bad["passing"], bad["effective_dispersion"]) == (0, 0)
    assert (bad["utility_k"], bad["effective_distinct_k"]) == (0, 0)
    assert good["passing"] == 1
    assert good["effective_dispersion"] > 0
    assert good["utility_k"] > 0


def test_values_at_equal_length_are_of_equal_beginnings():
    """Both modes say the same at first; one goes on and on."""
    short, longer = samples(STORY, STORY[::-1]), samples(*[STORY + " More." * 60] * 2, mode="high")
    one, other = values_of(short, {"high": longer}), values_of(longer, {"normal": short})
    assert one["cut_tokens"] == other["cut_tokens"] == 32
    assert other["distinct_2_cut"] == pytest.approx(0.5)
    assert one["distinct_2_cut"] != one["distinct_2"]
    of_words = {"div_bleu_4", "mtld", "hd_d", "pos_templates", "pos_compression_ratio"}
    of_meaning = {"semantic_dispersion", "vendi", "semantic_clusters", "dispersion_beyond_prompt"}
    assert {f"{name}_cut" for name in of_words | of_meaning} <= other.keys()
    assert other["vendi"] == other["vendi_cut"] == pytest.approx(1, abs=1e-5)
    assert other["pos_compression_ratio_cut"] < other["pos_compression_ratio"]


def test_values_at_equal_length_are_of_equally_many_samples():
    """Self-repetition and others grow with the number of texts, so a short one costs both modes."""
    here = samples(*[STORY] * 3, "Too short.")
    there = samples(*[STORY] * 4, mode="high")
    one, other = values_of(here, {"high": there}), values_of(there, {"normal": here})
    assert one["cut_samples"] == other["cut_samples"] == 3
    assert one["distinct_2_cut"] == other["distinct_2_cut"] == pytest.approx(1 / 3)
    assert values_of(there)["cut_samples"] == 4


def test_a_mode_that_says_nothing_has_no_diversity_rather_than_no_value():
    nothing = values_of(samples("", " "), {"high": samples(STORY, mode="high")})
    assert nothing["effective_dispersion"] == nothing["utility_k"] == 0
    assert "semantic_dispersion" not in nothing
    assert math.isnan(values_of(samples(""))["effective_dispersion"])


def test_the_other_mode_is_compared_with_both_ways():
    here, there = samples("a red cat", "a blue cat"), samples("a red cat", "the sea", mode="high")
    one, other = values_of(here, {"high": there}), values_of(there, {"normal": here})
    assert one["ngram_overlap_2_with_high"] == other["ngram_overlap_2_with_normal"] == 0.5
    assert not [name for name in values_of(here) if name.startswith("ngram_overlap")]


def test_without_evidence_there_are_the_lexical_numbers():
    found = SampleSet(PROMPT, samples("one two three", "one two four"), Evidence())
    values = {**dict(found.values()), **dict(found.answer_values())}
    assert values["distinct_2"] == 0.75
    assert not values.keys() & {"semantic_dispersion", "vendi", "distinct_k", "content_diversity"}
    assert "quality_repetition" in values
    assert math.isnan(values["quality_fluency"])


def test_what_was_fitted_with_other_models_is_left_out():
    mine = samples("Whiskers is a name.", "Call it Ink.", "Bell, of course.")
    known = evidence(wanted_of_samples(PROMPT, {"normal": mine}))
    of_usual = dict(SampleSet(PROMPT, mine, known).answer_values())
    assert of_usual.keys() >= {"distinct_k", "utility_k", "content_diversity", "mutual_bits"}
    other_bits = replace(known, usual_surprisals=False)
    found = dict(SampleSet(PROMPT, mine, other_bits).answer_values())
    assert of_usual.keys() - found.keys() == {"content_diversity", "mutual_bits"}
    other_vectors = replace(known, usual_vectors=False)
    assert not dict(SampleSet(PROMPT, mine, other_vectors).answer_values())
    assert "semantic_dispersion" in dict(SampleSet(PROMPT, mine, other_vectors).values())


def test_a_sample_without_words_is_a_loss():
    found = values_of(samples(STORY, "", " \n"))
    assert found["passing"] == pytest.approx(1 / 3)
    assert found["effective_dispersion"] == 0
    assert found["distinct_k"] == 2  # the empty ones say the same
    assert found["effective_distinct_k"] == 1


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.sampled_from(["", " ", "a", "猫が好き。" * 40, "word " * 10_000, "!?", "\ud83d", STORY]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_has_defined_numbers_or_none(mine, theirs):
    found = values_of(samples(*mine), {"high": samples(*theirs, mode="high")})
    assert found
    for name, value in found.items():
        assert math.isnan(value) or math.isfinite(value), name
    for name in ("div_bleu_4", "distinct_2", "quality", "passing", "hd_d", "content_diversity"):
        assert math.isnan(found.get(name, math.nan)) or 0 <= found[name] <= 1, name
    if len(mine) == 1:
        alone = ("div_bleu_4", "semantic_dispersion", "effective_dispersion", "pos_templates")
        assert all(math.isnan(found.get(name, math.nan)) for name in alone)
