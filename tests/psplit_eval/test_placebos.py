"""Placebos are different, neutral, and as long as they should be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import UsageError
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.placebos import MOST_PLACEBOS, placebo_prompts

ASKED_FOR = re.compile(
    r"\b(creativ|divers|unusual|explor|varied|origin|correct|accura|careful|precis|true|right|brief|"
    r"concise|detail|step|think|reason|style|tone|safe|honest|predict|usual)",
    re.IGNORECASE,
)


def words(text):
    return len(text.split())


@given(st.integers(1, 400), st.integers(0, MOST_PLACEBOS))
def test_as_many_as_asked_for_all_different_and_of_the_length(length, number):
    found = placebo_prompts(length, words, number)
    assert len(found) == number
    assert [words(text) for text in found] == [length] * number
    assert all(text.endswith(".") and ".." not in text for text in found)
    if length > 3:
        assert len(set(found)) == number


def test_they_ask_for_nothing():
    for text in placebo_prompts(90, words, MOST_PLACEBOS):
        assert not ASKED_FOR.search(text), ASKED_FOR.search(text)


@pytest.mark.parametrize("mode", ["high", "high_rewritten", "low"])
def test_they_are_as_long_as_a_mode_by_a_real_tokenizer(smollm2, mode):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)

    def count(text):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    length = count(BUILTIN_MODES[mode].system_prompt)
    for text in placebo_prompts(length, count, MOST_PLACEBOS):
        assert abs(count(text) - length) <= 1


def test_more_than_there_are_is_an_error():
    with pytest.raises(UsageError, match=r"--placebos 99: expected 0 to 6; .*--placebo"):
        placebo_prompts(40, words, 99)
