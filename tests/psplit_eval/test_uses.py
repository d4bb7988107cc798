"""Uses in a response, their number, kinds and rarity."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.uses import parse_uses, rarities, use_kinds

THREE = ["a hat", "a boat", "a drum"]


@pytest.mark.parametrize(
    "text",
    [
        "1. a hat\n2. a boat\n3. a drum",
        "1) a hat\n2) a boat\n3) a drum\n",
        "1.a hat\n2.a boat\n3.a drum",
        "- a hat\n- a boat\n- a drum",
        "* **a hat**\n* *a boat*\n* a drum.",
        "• a hat\n\n• a boat\n\n• a drum",
        "a) a hat\nb) a boat\nc) a drum",
        "Sure! Here are three uses for a bucket:\n\n1. a hat\n2. a boat\n3. a drum\n\nEnjoy!",
        "1. a hat\n   - it keeps the rain off\n2. a boat\n   - for ducks\n3. a drum",
        "a hat\na boat\na drum",
        "Uses:\na hat\na boat\na drum",
        "a hat, a boat, a drum",
        "a hat; a boat; a drum",
        "Uses: a hat, a boat, and a drum.",
        "1. a hat 2. a boat 3. a drum",
        "a hat. a boat. a drum.",
        "1. a hat\n2. a boat\n3. A hat!\n4. a drum",
    ],
)
def test_lists_of_all_kinds(text):
    assert parse_uses(text) == THREE


@pytest.mark.parametrize("text", ["", "  \n\t\n", "1.\n2.\n", "---", "Here are some uses:"])
def test_no_list_has_no_uses(text):
    assert parse_uses(text) == []


def test_commas_in_a_sentence_separate_nothing():
    text = (
        "Hang it from a branch, filled with seeds, so that birds have something to eat in winter."
    )
    assert parse_uses(text) == [text.rstrip(".")]


def test_an_item_keeps_its_explanation():
    assert parse_uses("1. **Doorstop**: it holds a door open, even in wind.\n2. Anchor") == [
        "Doorstop: it holds a door open, even in wind",
        "Anchor",
    ]


def test_years_and_measures_are_no_marks():
    lines = ["a vase from 1920", "3 bricks as a step", "1.5 bricks as a weight"]
    assert parse_uses("\n".join(lines)) == lines


def test_other_scripts():
    assert parse_uses("1. 帽子\n2. 太鼓\n3. шляпа") == ["帽子", "太鼓", "шляпа"]


@given(st.text())
def test_any_text_has_a_number_of_uses(text):
    uses = parse_uses(text)
    assert all(any(letter.isalpha() for letter in use) for use in uses)
    assert len({use.lower() for use in uses}) == len(uses)


@given(st.lists(st.from_regex(r"[a-z]{2,8} [a-z]{2,8}", fullmatch=True), unique=True, min_size=2))
def test_a_numbered_list_is_read_as_it_was_written(uses):
    assert parse_uses("\n".join(f"{i}. {use}" for i, use in enumerate(uses, 1))) == uses


def test_rarity_by_hand():
    assert rarities([0, 0, 1, 0]) == pytest.approx([1 / 3, 1 / 3, 1.0, 1 / 3])
    assert rarities([]) == []
    assert math.isnan(rarities([0])[0])


@given(st.lists(st.integers(0, 5), min_size=2, max_size=20))
def test_rarity_is_a_share(kinds):
    values = rarities(kinds)
    assert all(0 <= value <= 1 for value in values)
    assert (max(values) == 1.0) == any(kinds.count(kind) == 1 for kind in kinds)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_kinds_are_between_one_and_the_number_of_uses(seed, n):
    vectors = np.random.default_rng(seed).normal(size=(n + 1, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = use_kinds("item", [f"use {i}" for i in range(n)], lambda texts: vectors)
    assert kinds[0] == 0
    assert 1 <= len(set(kinds)) <= n


def test_no_uses_have_no_kinds():
    assert use_kinds("box", [], lambda texts: np.zeros((1, 3))) == []


def test_what_all_uses_share_with_the_object_makes_no_kind():
    vectors = np.array([[1, 0, 0], [0.8, 0.6, 0], [0.8, 0.59, 0.1], [0.8, 0, 0.6]], dtype=float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert use_kinds("box", ["a", "b", "c"], lambda texts: vectors) == [0, 0, 1]
