"""Placebos: as long as they are asked to be, neutral, distinct, the same every time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import UsageError
from psplit_eval.placebos import placebo_prompts

KINDS = 6
# what a prompt may not speak of: how an answer is found, how it is worded, whether it is right
LOADED = (
    r"creativ|origin|novel|unusual|uncommon|imagin|invent|divers|var(y|i)|differ|random|surpris|"
    r"entropy|explor|correct|accura|exact|true|truth|right answer|honest|careful|precis|reason|"
    r"think|thought|step|brief|concise|detail|lengthy|shorter|longer|thorough|style|tone|formal|"
    r"format|bullet|markdown|plain|simple|usual|standard|typical|predict|never|always|must"
)


def words(text):
    return len(text.split())


@pytest.fixture(scope="module")
def smollm2_tokens(smollm2):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


@given(st.integers(1, 600), st.integers(1, KINDS))
def test_in_words_the_length_is_exact(length, number):
    prompts = placebo_prompts(length, words, number)
    assert [words(prompt) for prompt in prompts] == [length] * number
    assert len(set(prompts)) == number
    assert all(re.search(r"[^.,;:!?]\.$", prompt) for prompt in prompts)
    assert placebo_prompts(length, words, KINDS)[:number] == prompts


@given(st.integers(1, 40), st.integers(1, 9))
def test_no_other_number_of_words_comes_nearer(length, size):
    """By trying every number of words, with tokens of `size` letters."""

    def tokens(text):
        return -(-len(text) // size)

    whole = placebo_prompts(words_needed := 8 * length + 8, words, 2)
    for prompt, text in zip(placebo_prompts(length, tokens, 2), whole, strict=True):
        cuts = [" ".join(text.split()[:n]).rstrip(".,") + "." for n in range(1, words_needed)]
        nearest = min(abs(tokens(cut) - length) for cut in cuts)
        assert abs(tokens(prompt) - length) == nearest
        assert prompt in cuts


def test_by_a_real_tokenizer_they_are_as_long_as_asked(smollm2_tokens):
    for length in (2, 3, 12, 47, 51, 128, 200, 211, 400):
        prompts = placebo_prompts(length, smollm2_tokens, KINDS)
        assert len(set(prompts)) == KINDS
        for prompt in prompts:
            assert abs(smollm2_tokens(prompt) - length) <= 1, prompt


def test_each_has_two_hundred_tokens_before_it_begins_again(smollm2_tokens):
    for prompt in placebo_prompts(200, smollm2_tokens, KINDS):
        whole = re.split(r"(?<=\.) ", prompt)
        assert len(whole) == len(set(whole)) > 10


def test_the_shortest_is_a_sentence_of_one_word(smollm2_tokens):
    prompts = placebo_prompts(1, smollm2_tokens, KINDS)
    assert [words(prompt) for prompt in prompts] == [1] * KINDS
    assert len(set(prompts)) == KINDS
    assert prompts[0] == "You."


def test_they_ask_for_nothing_and_share_no_sentence():
    prompts = placebo_prompts(185, words, KINDS)
    assert [re.findall(LOADED, prompt, re.IGNORECASE) for prompt in prompts] == [[]] * KINDS
    sentences = [sentence for prompt in prompts for sentence in re.split(r"(?<=\.) ", prompt)]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize(
    ("length", "count", "number", "said"),
    [
        (0, words, 3, "0 tokens: expected 1 or more"),
        (-5, words, 3, "-5 tokens"),
        (40, words, KINDS + 1, "7 placebos: expected 1 to 6"),
        (40, words, 0, "0 placebos"),
        (40, lambda text: 3, 1, "328 words count as 3"),
    ],
)
def test_what_cannot_be_is_refused(length, count, number, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        placebo_prompts(length, count, number)
