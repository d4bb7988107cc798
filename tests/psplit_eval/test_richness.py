"""Lexical richness against vectors of the package lexicalrichness, by hand, and at the edges."""

import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.richness import hd_d, mtld

VECTORS = "metric_vectors/lexical_diversity.jsonl"
tokens = st.lists(st.sampled_from("abcdefgh"), max_size=120)


def words(texts):
    """The reference's tokens: no digits, dashes or signs; all texts as one."""
    text = re.sub("[0-9–—-]", "", " ".join(texts).lower())
    return text.translate({ord(sign): " " for sign in string.punctuation}).split()


def test_values_equal_the_reference_vectors(real_rows):
    equal = 0
    for row in real_rows(VECTORS):
        text, values = words(row["texts"]), row["values"]
        assert len(text) == values["lexrich_words"]
        assert len(set(text)) == values["lexrich_terms"]
        if "lexrich_hdd_10" in values:
            assert hd_d(text, 10) == pytest.approx(values["lexrich_hdd_10"], abs=1e-9), row["id"]
        if "lexrich_mtld_0.72" in values and len(set(text)) < len(text):
            expected = values["lexrich_mtld_0.72"]
            assert mtld(text, minimum=1) == pytest.approx(expected, abs=1e-9), row["id"]
            equal += 1
    assert equal == 16


def test_a_text_without_repeats_has_no_mtld_where_the_reference_gives_its_length(real_rows):
    row = next(row for row in real_rows(VECTORS) if row["id"] == "disjoint")
    text = words(row["texts"])
    assert row["values"]["lexrich_mtld_0.72"] == len(text)
    assert math.isnan(mtld(text, minimum=1))


def test_factors_by_hand():
    # types/tokens of 'abab': 1, 1, 2/3: a factor after three tokens; then 'b' is left, at 1
    assert mtld(list("abab"), minimum=1) == 4
    # 'aabc' from the front: a factor after 'aa', 'bc' left at 1; from the back: 'cba' at 1, then
    # 3/4, which is (1 − 3/4) / (1 − 0.72) of a factor
    assert mtld(list("aabc"), minimum=1) == pytest.approx((4 + 4 / (0.25 / 0.28)) / 2)


def test_a_threshold_that_is_met_ends_a_factor():
    eighteen_types_of_25 = [str(i % 18) for i in range(25)]
    text = [*eighteen_types_of_25, "new"]
    # forwards a factor after 25 tokens; backwards 19 types of 26 do not reach the threshold
    assert mtld(text, minimum=1) == pytest.approx((26 + 26 / ((7 / 26) / 0.28)) / 2)


def test_hd_d_is_the_mean_over_all_draws():
    # of the three pairs from 'aab' one is 'aa' (types/tokens 1/2), two have both (1)
    assert hd_d(list("aab"), 2) == pytest.approx((0.5 + 1 + 1) / 3)
    assert hd_d(["a"] * 50, 42) == pytest.approx(1 / 42)
    assert hd_d([str(i) for i in range(50)]) == pytest.approx(1)


@pytest.mark.parametrize("length", [0, 1, 41, 49])
def test_short_texts_have_no_value(length):
    text = [str(i // 2) for i in range(length)]
    assert math.isnan(mtld(text))
    assert math.isnan(hd_d(text)) == (length < 42)


@pytest.mark.parametrize("draws", [1, 0, -1])
def test_draws_that_cannot_repeat_are_refused(draws):
    with pytest.raises(ValueError, match="2 or more"):
        hd_d(["a"] * 50, draws)


@given(tokens, st.randoms())
def test_values_lie_in_range_and_depend_on_order_as_stated(text, random):
    for value in (mtld(text, minimum=1), mtld(text)):
        assert math.isnan(value) or value > 1
    assert mtld(text[::-1]) == pytest.approx(mtld(text), nan_ok=True)
    value = hd_d(text)
    assert math.isnan(value) or 1 / 42 <= value + 1e-12 <= 1 + 2e-12
    assert hd_d(random.sample(text, len(text))) == pytest.approx(value, rel=0, nan_ok=True)


@given(tokens.filter(lambda text: len(text) >= 2), st.integers(2, 60))
def test_hd_d_falls_with_draws(text, draws):
    if len(text) > draws:
        assert hd_d(text, draws + 1) <= hd_d(text, draws) + 1e-12


@pytest.mark.parametrize("words", ["word", "один два три", "你好 世界 再见"])
def test_texts_of_ten_thousand_words(words):
    every = words.split()
    text = [every[i % len(every)] for i in range(10_000)]
    assert 1 < mtld(text) < 6
    assert hd_d(text) == pytest.approx(len(every) / 42, abs=1e-3)
