"""Lexical diversity against vectors computed with other packages, and at the edges."""

import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from psplit_eval.diversity import div_bleu, div_ngram, tokenise

token_lists = st.lists(st.lists(st.sampled_from("abcde"), max_size=12), max_size=5)


def test_values_equal_the_reference_vectors(real_rows):
    """Self-BLEU by nltk and distinct-n by its definition, computed when the data was built."""
    rows = list(real_rows("metric_vectors/lexical_diversity.jsonl"))
    assert len(rows) == 18
    for row in rows:
        texts = [text.split() for text in row["texts"]]
        values = row["values"]
        for n in (2, 3, 4, 5):
            expected = 1 - values[f"self_bleu_{n}_nltk_method1"]
            assert div_bleu(texts, n) == pytest.approx(expected, abs=1e-9), row["id"]
        for n in (1, 2, 3):
            expected = values[f"distinct_{n}_per_text_mean"]
            expected = math.nan if expected is None else expected  # null: no text has n tokens
            assert div_ngram(texts, n) == pytest.approx(expected, abs=1e-9, nan_ok=True), row["id"]


@given(token_lists, st.integers(1, 5))
@settings(deadline=None, max_examples=300)
def test_self_bleu_is_nltks_to_the_last_digit(texts, n):
    kept = [text for text in texts if text]
    if len(kept) < 2:
        assert math.isnan(div_bleu(texts, n))
        return
    smoothing = SmoothingFunction().method1
    bleu = [
        float(sentence_bleu(kept[:i] + kept[i + 1 :], text, [1 / n] * n, smoothing))
        for i, text in enumerate(kept)
    ]
    assert div_bleu(texts, n) == 1.0 - fmean(bleu)


def test_a_hand_count():
    # bigrams of 'a b a b': ab ba ab -> 2/3; of 'c d e': cd de -> 1
    assert div_ngram([list("abab"), list("cde")]) == pytest.approx((2 / 3 + 1) / 2)


def test_texts_are_never_joined():
    assert div_ngram([["a"], ["b"]]) != div_ngram([["a", "b"]])
    assert math.isnan(div_ngram([["a"], ["b"]]))


def test_identical_texts_have_no_bleu_diversity_and_disjoint_ones_all_of_it():
    assert div_bleu([list("abcdef")] * 3) == pytest.approx(0)
    assert div_bleu([list("abcdef"), list("uvwxyz")]) == pytest.approx(1)


@pytest.mark.parametrize("texts", [[], [[]], [[], ["a", "b", "c"]], [["a", "b", "c"]]])
def test_fewer_than_two_texts_have_no_bleu_diversity_to_measure(texts):
    assert math.isnan(div_bleu(texts))


@given(token_lists)
@settings(deadline=None)
def test_values_lie_in_range_and_do_not_depend_on_order(texts):
    for metric in (div_ngram, div_bleu):
        value = metric(texts)
        assert math.isnan(value) or -1e-12 <= value <= 1 + 1e-12
        assert metric(texts[::-1]) == pytest.approx(value, nan_ok=True)


def test_the_default_tokens_are_lower_case_words_and_signs():
    assert tokenise("Don't stop, World!") == ["do", "n't", "stop", ",", "world", "!"]
    assert tokenise("") == []
