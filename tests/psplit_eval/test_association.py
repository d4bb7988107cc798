"""Divergent association, against the published examples as far as they need no GloVe."""

import math
import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from psplit_eval.association import (
    FIRST,
    Words,
    divergent_association,
    english_dictionary,
    parse_words,
    valid_words,
)
from psplit_eval.errors import MissingExtraError

EXAMPLES = "dat/examples.jsonl"
TEN = ["river", "lamp", "justice", "onion", "velvet", "thunder", "clerk", "anchor", "rumor", "moss"]


@pytest.fixture(scope="module")
def english():
    return english_dictionary()


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(TEN),
        "\n".join(f"{i}. {word.title()}" for i, word in enumerate(TEN, 1)),
        "\n".join(f"{i}) {word}." for i, word in enumerate(TEN, 1)),
        "Sure! Here are ten nouns:\n\n"
        + "\n".join(f"{i}. **{word.title()}**" for i, word in enumerate(TEN, 1))
        + "\n\nThese nouns are, as asked, very different.",
        "**Ten nouns:**\n" + "\n".join(TEN),
        "\n".join(f"- {word}: as far away, as it gets" for word in TEN),
        "\n".join(f"* {word} - a noun" for word in TEN),
        "\n".join(f"• {word} (noun)" for word in TEN),
        "\n".join(f"{word}: as far away, as it gets" for word in TEN),
        ", ".join(TEN),
        "Ten nouns: " + ", ".join(TEN),
        ", ".join(f"{word} (a noun, too)" for word in TEN),
        ", ".join(TEN[:-1]) + f", and {TEN[-1]}.",
        "; ".join(word.upper() for word in TEN),
        '"' + '"\r\n"'.join(TEN) + '"',
    ],
)
def test_lists_of_all_forms_are_read(text):
    assert parse_words(text) == TEN


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("\n 1.\n- \n42, !", []),
        ("I cannot think of any noun", ["i cannot think of any noun"]),
        ("1. Ice  cream\n2. well-being\n3. river", ["ice cream", "well-being", "river"]),
        ("river\nriver", ["river", "river"]),
        ("crème, Fluß, река, 川", ["crème", "fluß", "река", "川"]),
        ("1. dog's", ["dogs"]),
        ("10 rivers", ["rivers"]),
    ],
)
def test_what_is_no_plain_list_of_words(text, entries):
    assert parse_words(text) == entries


@settings(max_examples=300)
@given(st.text(max_size=300))
def test_any_text_gives_lower_case_entries_without_signs(text):
    for entry in parse_words(text):
        assert entry == entry.strip()
        assert entry
        assert all(c.isalpha() or c in " -" for c in entry.replace("\u0307", "a"))


def test_long_texts_are_read_in_no_time():
    assert len(parse_words("word, " * 100_000)) == 100_000
    for odd in ("word ", "(", "* ", ": ", " - ", "1."):
        assert len(parse_words(odd * 100_000)) <= 1


def test_valid_words_are_counted_once_in_their_order():
    known = {"river", "ice-cream", "toothbrush", "a"}.__contains__
    entries = ["river", "xqz", "ice cream", "tooth brush", "tooth-brush", "river", "a", "no such"]
    assert valid_words(entries, known) == Words(("river", "ice-cream", "toothbrush"), 3, 2)
    assert valid_words([], known) == Words((), 0, 0)


@pytest.mark.parametrize("word", ["river", "toothbrush", "wolves", "justice", "turkey", *TEN])
def test_english_words_are_words(english, word):
    assert english(word)


@pytest.mark.parametrize(
    "word", ["xqz", "paris", "david", "fluss", "happy-table", "1st", "", "a b"]
)
def test_names_foreign_words_and_hyphened_ones_are_none(english, word):
    assert not english(word)


def test_without_the_extra_the_error_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "spylls.hunspell", None)
    english_dictionary.cache_clear()
    with pytest.raises(MissingExtraError, match="a dictionary of English words: the extra 'sem"):
        english_dictionary()


def test_the_words_of_the_published_examples_are_valid(english, real_rows):
    for row in real_rows(EXAMPLES):
        found = valid_words(row["words"], english)
        assert found == Words(tuple(row["words"]), 0, 0)


def test_what_is_a_word_is_one_in_the_published_dictionary(english, real_rows):
    """Its words are Hunspell's with more endings; of names (Olivia, Kenya) it has none."""
    published = {word for row in real_rows("dat/dictionary.jsonl.gz") for word in row["words"]}
    plain = sorted(word for word in published if word.isascii() and word.isalpha())
    tried = random.Random(0).sample(plain, 4000)
    changed = [word[1:] + word[0] for word in tried]
    taken = [word for word in tried + changed if english(word)]
    assert len(taken) > 1000
    assert sum(word in published for word in taken) / len(taken) > 0.995


def with_distance(distance, count):
    """Vectors of which any two have this cosine distance."""
    gram = np.full((count, count), 1 - distance) + np.eye(count) * distance
    return np.linalg.cholesky(gram) * np.arange(1, count + 1)[:, None]  # lengths do not count


def test_given_distances_make_the_published_values(real_rows):
    rows = list(real_rows(EXAMPLES))
    pairs = {tuple(r["words"]): r["value"] for r in rows if r["kind"] == "distance"}
    checked = 0
    for row in rows:
        if row["kind"] == "dat":
            words = row["words"]
            distance = pairs.get(tuple(words), row["value"] / 100)
            vectors = dict(zip(words, with_distance(distance, len(words)), strict=True))
            value = divergent_association(words, vectors, row["minimum"])
            assert value == pytest.approx(row["value"], abs=row["tolerance"])
            checked += 1
    assert checked == 5


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(5)
    return {f"word{i}": rng.normal(size=20) * 10.0 ** rng.integers(-3, 4) for i in range(12)}


def test_it_is_the_mean_of_scipys_cosine_distances(vectors):
    rows = [vectors[f"word{i}"] for i in range(FIRST)]
    expected = 100 * pdist(np.stack(rows), "cosine").mean()
    assert divergent_association(list(vectors), vectors) == pytest.approx(expected, rel=1e-12)


def test_words_without_a_vector_are_passed_over(vectors):
    known = {**vectors, "nought": np.zeros(20)}
    words = ["nought", "word0", "unknown", *list(vectors)[1:]]
    assert divergent_association(words, known) == divergent_association(list(vectors), vectors)


def test_fewer_than_seven_words_have_no_value(vectors):
    words = list(vectors)
    assert math.isnan(divergent_association(words[:6], vectors))
    assert math.isnan(divergent_association([], vectors))
    assert math.isnan(divergent_association([*words[:6], "unknown"], vectors))
    assert divergent_association(words[:6], vectors, 6) > 0
    with pytest.raises(ValueError, match="first 1"):
        divergent_association(words, vectors, 1)


NUMBERS = st.floats(-1e3, 1e3, width=32)


@settings(max_examples=100)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=7, max_size=9))
def test_it_stays_in_range_and_ignores_the_order_of_what_counts(rows):
    vectors = {str(i): np.array(row, np.float32) for i, row in enumerate(rows)}
    words = list(vectors)
    value = divergent_association(words, vectors)
    if sum(map(np.any, vectors.values())) < 7:
        assert math.isnan(value)
        return
    assert 0 <= value <= 200
    counted = [word for word in words if np.any(vectors[word])][:7]
    assert divergent_association(counted[::-1], vectors) == pytest.approx(value, abs=1e-6)
