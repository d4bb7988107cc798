"""Patterns of part-of-speech tags: by hand, and what the tagger makes of odd text."""

import importlib.util
import math
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.syntactic import (
    available,
    pos_compression_ratio,
    pos_tags,
    templates_per_token,
)

tag_lists = st.lists(st.lists(st.sampled_from(["DT", "NN", "VB", "."]), max_size=12), max_size=5)
tagger = pytest.mark.skipif(not available(), reason="textblob is not installed")


def test_available_says_whether_textblob_is_there(monkeypatch):
    assert available() == (importlib.util.find_spec("textblob") is not None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not available()


@tagger
def test_tags_of_plain_sentences():
    tags = pos_tags("The cat sat on the mat. Two quiet dogs don't bark!")
    assert " ".join(tags) == "DT NN VBD IN DT NN . CD JJ NNS VBP RB NN ."


@tagger
@pytest.mark.parametrize(
    ("typographic", "plain"),
    [
        ("“I can’t,” she said.", '"I can\'t," she said.'),
        ("Wait … then — go.", "Wait ... then -- go."),
    ],
)
def test_typographic_signs_are_plain_ones(typographic, plain):
    assert pos_tags(typographic) == pos_tags(plain)


@tagger
def test_full_stops_part_from_words_inside_a_text():
    tags = pos_tags('He left. "Come back!" she cried. Nobody came.\nThen night fell')
    assert tags.count(".") == 4


@tagger
def test_a_capital_at_the_head_of_a_sentence_makes_no_name():
    assert pos_tags("Whispering")[0] == "VBG"
    assert pos_tags("He saw Whispering")[2] == "NNP"
    for before in ("He left.", '"Go!"', "(Really?)"):
        assert pos_tags(f"{before} Whispering rain fell.")[-4:] == pos_tags("Whispering rain fell.")


@tagger
def test_unknown_signs_are_no_nouns():
    assert pos_tags("~~ │ ^^^") == ["SYM"] * 3
    assert pos_tags("a/b") == pos_tags("word")  # a slash inside a word parts nothing


@tagger
@pytest.mark.parametrize(
    "text", ["你好,世界。再见。", "Привет, мир", "مرحبا بالعالم", "नमस्ते दुनिया", "", " \n"]
)
def test_texts_that_are_not_english_have_no_tags_rather_than_nouns_only(text):
    assert pos_tags(text) == []
    for metric in (templates_per_token, pos_compression_ratio):
        assert math.isnan(metric([pos_tags(text)] * 4))


@tagger
@given(st.text(max_size=80))
@settings(deadline=None)
def test_any_text_can_be_tagged(text):
    assert all(tag and not tag.isspace() for tag in pos_tags(text))


@tagger
def test_ten_thousand_words_are_tagged_one_by_one():
    assert len(pos_tags("the old dog sleeps. " * 2500)) == 12_500


def test_templates_by_hand():
    # 'DT NN VB' is in two texts, twice in the first; 'VB VB VB' repeats within one text only
    texts = [
        ["DT", "NN", "VB", "DT", "NN", "VB"],
        ["RB", "DT", "NN", "VB"],
        ["VB", "VB", "VB", "VB"],
        ["DT", "NN"],
    ]
    assert templates_per_token(texts, 3) == pytest.approx((2 / 6 + 1 / 4 + 0) / 3)


def test_equal_texts_are_all_template_and_unlike_ones_have_none():
    text = ["DT", "JJ", "NN", "VBZ", "RB", "."]
    assert templates_per_token([text, text], 4) == 3 / 6
    assert templates_per_token([text, text[::-1]], 4) == 0


def test_the_compression_ratio_is_of_the_tags():
    joined = b"DT NN VB . DT NN VB ."
    expected = len(joined) / (len(zlib.compress(joined, 9)) - 6)
    value = pos_compression_ratio([["DT", "NN", "VB", "."]] * 2)
    assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("texts", [[], [[]], [["DT"] * 9], [["DT"] * 9, ["DT"] * 3]])
def test_fewer_than_two_texts_share_nothing(texts):
    assert math.isnan(templates_per_token(texts, 4))


@given(tag_lists, st.integers(1, 5))
def test_values_lie_in_range_and_do_not_depend_on_order(texts, n):
    value = templates_per_token(texts, n)
    assert math.isnan(value) or 0 <= value <= 1
    assert templates_per_token(texts[::-1], n) == pytest.approx(value, nan_ok=True)
    value = pos_compression_ratio(texts)
    assert math.isnan(value) == (not any(texts))
    assert math.isnan(value) or value > 0
