"""Numbers in words, and lists of them that end in time."""

import math

from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.captions import listed, number_text, share_text
from psplit_eval.stats import Estimate

NAN = math.nan


def test_numbers_are_said_with_their_interval_if_they_have_one():
    assert share_text(Estimate(0.4375, 0.347, 0.532, 96)) == "43.8 % [34.7, 53.2]"
    assert share_text(Estimate(1.0, NAN, NAN, 1)) == "100.0 %"
    assert number_text(Estimate(-2.5, -2.6, -2.41, 9), "bits") == "-2.50 [-2.60, -2.41] bits"
    assert number_text(Estimate(0.1234, NAN, NAN, 2), places=3) == "0.123"


def test_undefined_is_said():
    assert share_text(Estimate(NAN, NAN, NAN, 0)) == "undefined"
    assert number_text(Estimate(NAN, NAN, NAN, 0), "bits") == "undefined"


@given(st.lists(st.text("ab", min_size=1, max_size=50), min_size=1, max_size=60))
def test_a_list_says_how_many_of_its_parts_are_left_out(parts):
    text = listed("All.", parts, letters=200)
    assert len(text) <= 200
    said, _, end = text.removeprefix("All. ").partition(" more: see")
    shown = said.split("; ")
    if end:
        left = int(shown.pop())
        assert shown == parts[: len(parts) - left]
    else:
        assert shown == [*parts[:-1], f"{parts[-1]}."]


def test_one_part_is_always_there():
    assert "x" * 700 in listed("All.", ["x" * 700, "y"])
    assert listed("Nothing.", []) == "Nothing."
