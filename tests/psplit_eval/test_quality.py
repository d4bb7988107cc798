"""Quality by rules: its parts, good and broken texts, and diversity among what passes."""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.quality import (
    FLOOR,
    TRUNCATED,
    Observed,
    echo,
    effective_distinct,
    effective_diversity,
    is_english,
    known_share,
    passes,
    passing_share,
    quality,
    repeated_share,
    surprise,
    topicality,
)

EXAMPLES = Path(__file__).parent.parent / "data" / "quality_examples.jsonl"
"""Texts of psplit's own, read by SmolLM2 and MiniLM: benchmarks/validity_quality.py examples."""

PROMPT = "Write a short story about a baker."
STORY = (
    "The ovens were hot when Tomas came down the stairs. His grandmother pushed the bowl towards "
    "him and told him to put both hands in. The dough was warm, like something asleep."
)
HALF = "They have asked her for forty years, and she has never said a word about it to anyone. "
texts = st.one_of(st.text(max_size=300), st.lists(st.sampled_from("a the dog xq ok")).map("".join))
token_bits = st.lists(st.floats(0, 40), max_size=60)
cosines = st.floats(-1, 1)


def rows():
    return [json.loads(line) for line in EXAMPLES.read_text().splitlines()]


def judged(row):
    without = ("fluency",) if "nouns" in row["prompt"] else ()
    names = ("text", "prompt", "bits", "cosine", "truncated")
    return quality(Observed(*(row[name] for name in names)), without)


# --- good and broken texts, as the models read them ---


@pytest.mark.parametrize(
    "row", [r for r in rows() if r["kind"] == "good"], ids=lambda r: r["text"][:24]
)
def test_good_texts_pass(row):
    """A story, steps, lists, verse, one word, a number, a picture sign, Spanish, Chinese."""
    assert passes(judged(row).value), judged(row)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("shuffle", "fluency"),
        ("shuffle_half", "fluency"),
        ("random_words", "fluency"),
        ("random_words_half", "fluency"),
        ("random_characters", "words"),
        ("replaced_20", "fluency"),
        ("replaced_40", "fluency"),
        ("loop_sentence", "repetition"),
        ("loop_word", "repetition"),
        ("echo", "echo"),
    ],
)
def test_broken_texts_fail_by_the_part_that_is_meant_for_them(kind, part):
    broken = [judged(row) for row in rows() if row["kind"] == kind]
    assert len(broken) == 2
    assert all(not passes(found.parts[part]) and not passes(found.value) for found in broken)


def test_a_text_on_another_subject_is_less_on_topic():
    own, other = (
        [judged(row).parts["on_topic"] for row in rows()[:2]],
        [judged(row).parts["on_topic"] for row in rows() if row["kind"] == "other_prompt"],
    )
    assert max(other) < min(own)


def test_a_text_that_was_cut_passes_and_is_not_whole():
    for row in rows():
        if row["kind"] == "cut":
            found = judged(row)
            assert passes(found.value)
            assert found.value <= TRUNCATED == found.parts["whole"]


def test_quality_falls_with_temperature_and_noise_does_not_pass():
    by_heat = defaultdict(list)
    for row in rows():
        if row["kind"] == "temperature":
            by_heat[row["value"]].append(judged(row).value)
    means = [np.mean(by_heat[heat]) for heat in sorted(by_heat)]
    assert means == sorted(means, reverse=True)
    assert passing_share(by_heat[0.7]) == 1
    assert passing_share(by_heat[1.5]) == passing_share(by_heat[2.0]) == 0


# --- quality as a whole ---


@given(texts, texts, token_bits, cosines, st.booleans())
def test_any_text_has_a_quality_and_parts_in_range(text, prompt, bits, cosine, truncated):
    found = quality(Observed(text, prompt, bits, cosine, truncated))
    assert 0 <= found.value <= 1
    assert all(math.isnan(part) or 0 <= part <= 1 for part in found.parts.values())
    known = [part for part in found.parts.values() if not math.isnan(part)]
    assert found.value == (min(known) if text.strip() else 0)


@given(texts, token_bits, cosines, cosines)
def test_nearer_to_the_prompt_is_no_worse(text, bits, one, other):
    low, high = sorted((one, other))
    far, near = (quality(Observed(text, PROMPT, bits, cosine)) for cosine in (low, high))
    assert far.value <= near.value


@given(st.lists(st.floats(0, 40), min_size=1, max_size=60), st.floats(1, 5))
def test_more_surprising_is_no_more_fluent_and_no_less_unpredictable(bits, factor):
    before, after = (
        quality(Observed(STORY, PROMPT, some)).parts for some in (bits, [x * factor for x in bits])
    )
    assert after["fluency"] <= before["fluency"] + 1e-12
    assert after["predictability"] >= before["predictability"] - 1e-12


def test_parts_can_be_left_out():
    salad = Observed(STORY, PROMPT, [15.0] * 40)
    assert quality(salad).value == quality(salad).parts["fluency"] == 0
    assert quality(salad, without=("fluency",)).value == 1
    assert math.isnan(quality(salad, without=quality(salad).parts).value)


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_blanks_have_quality_0(text):
    assert quality(Observed(text, PROMPT)).value == 0


def test_parts_of_which_nothing_is_known_do_not_count():
    found = quality(Observed(STORY, PROMPT))
    assert {name for name, part in found.parts.items() if math.isnan(part)} == {
        "fluency",
        "predictability",
        "on_topic",
    }
    assert found.value == 1


def test_what_is_unknown_does_not_pass():
    assert passes(FLOOR)
    assert not passes(FLOOR - 1e-9)
    assert not passes(math.nan)
    assert passing_share([1.0, 0.0, FLOOR, math.nan]) == 0.5
    assert math.isnan(passing_share([]))


@pytest.mark.parametrize(
    ("text", "english"),
    [
        (STORY, True),
        ("Paris", True),
        ("42", True),
        ("mañana", True),  # one word proves nothing
        ("приvetttttt", True),  # Latin letters, no word in Latin script
        (
            "Die Bäckerin zeigt ihrem Enkel das Rezept, das sie nie teilen wollte, und er hört zu.",
            False,
        ),
        ("Ночная пекарша учит внука рецепту, которым она поклялась не делиться.", False),
        ("夜のパン職人は、誰にも教えないと誓ったレシピを孫に教えた。", False),
        ("The приvet 你好 de look what тид der und mañana ك coherent", True),
        ("no slonderglass bare we mere sidlemugh lop or raftn in chers ped darshlin findorn", True),
    ],
)
def test_only_english_is_judged_by_english_models(text, english):
    assert is_english(text) == english
    parts = quality(Observed(text, PROMPT, [15.0] * 60, 0.0)).parts
    assert math.isnan(parts["fluency"]) != english
    assert math.isnan(parts["on_topic"]) != english


# --- parts ---


def test_surprise_is_that_of_the_windows_up_to_a_share_of_the_text():
    calm, wild = [2.0] * 160, [10.0] * 160
    assert surprise(calm, 0.75) == 2
    assert surprise(calm + wild, 0.75) == 10
    assert surprise(calm + wild, 0.25) == 2
    assert surprise(calm * 4 + wild, 0.75) == 2  # a fifth of a text may be anything


def test_a_rare_name_is_no_salad():
    assert surprise([2.0] * 15 + [100.0], 0.75) == (15 * 2 + 16) / 16


def test_a_few_tokens_prove_little():
    assert surprise([12.0], 0.75) == (12 + 15 * 4) / 16
    assert math.isnan(surprise([], 0.75))


@given(st.lists(st.floats(0, 40), min_size=1), st.floats(0, 1))
def test_surprise_lies_within_the_bits_and_the_typical(bits, share):
    assert min([*bits, 4.0, 16.0]) <= surprise(bits, share) + 1e-9
    assert surprise(bits, share) <= max(*bits, 4.0) + 1e-9


def test_known_words_are_counted_by_letters():
    known = "the quick brown fox jumped over the lazy dog while nobody watched it from the house"
    assert known_share(known) == 1
    assert known_share(f"{known} {known} " + "xqzzkwv" * 10) == pytest.approx(136 / 206)
    assert known_share("Paris") == 1
    assert math.isnan(known_share("42 🙂"))


def test_short_letters_in_a_row_are_no_words():
    assert known_share(" ".join(["xk", "jq", "qz", "bfk"] * 10)) == 0


def test_a_few_unknown_words_prove_little():
    assert known_share("Kaelith") == pytest.approx(31 / 32)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        (STORY, 0.0),
        ("yes " * 8, 7 / 8),
        ("yes " * 50, 1.0),
        (HALF * 2, 0.5),
        (HALF * 4, 0.75),
        ("ha" * 100, 1.0),
        ("Row, row, row your boat", 0.0),
    ],
)
def test_repeated_share(text, share):
    assert repeated_share(text) == pytest.approx(share, abs=0.02)


@given(texts)
def test_what_is_said_twice_is_repeated(text):
    assert 0 <= repeated_share(text) <= 1
    assert repeated_share(text + " " + text) >= repeated_share(text) - 0.5


def test_echo_is_what_the_prompt_said():
    assert echo(PROMPT, PROMPT) == 1
    assert echo(STORY, PROMPT) == 0
    assert echo("", PROMPT) == echo("Paris", "Is it Paris or Rome?") == 0
    assert echo(PROMPT + " " + STORY, PROMPT) == 7 / 39


def test_topicality_of_short_texts_is_drawn_to_the_typical():
    assert topicality(0.1, STORY) == 0.1
    assert topicality(0.1, "Paris") == pytest.approx((0.1 + 15 * 0.45) / 16)
    assert math.isnan(topicality(math.nan, STORY))


def test_ten_thousand_words_are_no_trouble():
    long = " ".join(f"{STORY} {number}" for number in range(320))
    assert not passes(quality(Observed(long, PROMPT)).value)
    assert repeated_share(long) > 0.9


# --- people's texts pass ---


def test_people_pass(real_rows):
    """Without the models, of which validity_quality.csv tells: words, repetition, echo."""
    stories = [
        quality(Observed(row["human_story"], row["prompt"])).value
        for row in real_rows("hanna/stories.jsonl.gz")
    ]
    answers = [
        quality(Observed(text, row["prompt"])).value
        for row in real_rows("noveltybench/human_responses.jsonl")
        for text in row["generations"]
        if text.strip()
    ]
    assert passing_share(stories) > 0.98
    assert passing_share(answers) > 0.98


# --- diversity among what passes ---


def distances(k, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(k, 3))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_effective_diversity_by_hand():
    found = np.array([[0, 0.2, 0.6], [0.2, 0, 0.4], [0.6, 0.4, 0]])
    assert effective_diversity(found, [True] * 3) == pytest.approx(0.4)
    assert effective_diversity(found, [True, False, True]) == pytest.approx(0.2)
    assert effective_diversity(found, [True, False, False]) == 0
    assert effective_diversity(found, [False] * 3) == 0


def test_effective_diversity_of_fewer_than_two_samples_is_undefined():
    assert math.isnan(effective_diversity(np.zeros((0, 0)), []))
    assert math.isnan(effective_diversity(np.zeros((1, 1)), [True]))


def test_distances_and_verdicts_must_fit():
    with pytest.raises(ValueError, match=r"expected \(3, 3\)"):
        effective_diversity(np.zeros((2, 2)), [True] * 3)


@given(st.lists(st.booleans(), min_size=2, max_size=12), st.randoms())
def test_order_does_not_matter_and_a_failing_sample_never_gains(passing, random):
    k = len(passing)
    found, order = distances(k), random.sample(range(k), k)
    value = effective_diversity(found, passing)
    moved = effective_diversity(found[np.ix_(order, order)], [passing[i] for i in order])
    assert moved == pytest.approx(value)
    assert 0 <= value <= effective_diversity(found, [True] * k) + 1e-12
    for i in range(k):
        fewer = [kept and j != i for j, kept in enumerate(passing)]
        assert effective_diversity(found, fewer) <= value + 1e-12


def test_effective_distinct_counts_classes_that_have_a_passing_member():
    assert effective_distinct([0, 0, 1, 2], [False, True, True, False]) == 2
    assert effective_distinct([], []) == 0


def test_a_list_may_be_less_fluent_than_prose():
    """Bounds of fluency by hand: 1/2 at 7.6 bits in prose and at 8.3 in lists."""
    text = "hold a door open\nweigh down papers\nprop up a shelf\nmark a path\ncrush garlic on it"
    bits = [8.0] * 40
    prose, listed = (quality(Observed(text, "Uses?", bits, listed=kind)) for kind in (False, True))
    assert prose.parts["fluency"] < 0.5 < listed.parts["fluency"]
    assert not passes(quality(Observed(text, "Uses?", [8.6] * 40, listed=True)).value)
