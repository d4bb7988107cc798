"""Lexical diversity against vectors computed with other packages, and at the edges."""

import gzip
import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from psplit_eval.diversity import (
    LENGTHS,
    compression_ratio,
    cross_bleu,
    distinct,
    div_bleu,
    div_ngram,
    equal_length,
    expectation_adjusted_distinct,
    ngram_overlap,
    self_bleu,
    self_repetition,
    tokenise,
    truncated,
)

token_lists = st.lists(st.lists(st.sampled_from("abcde"), max_size=12), max_size=5)
VECTORS = "metric_vectors/lexical_diversity.jsonl"

any_text = st.one_of(
    st.text(max_size=60),
    st.text("абв 你好 مرحبا ।é\n", max_size=60),
    st.builds(
        lambda word, times: " ".join([word] * times),
        st.sampled_from(["a", "é", "好"]),
        st.integers(0, 90),
    ),
)
any_texts = st.lists(any_text, max_size=6)


def within(value, low, high):
    return math.isnan(value) or low <= value <= high


def test_values_equal_the_reference_vectors(real_rows):
    """Self-BLEU by nltk and distinct-n by its definition, computed when the data was built."""
    rows = list(real_rows(VECTORS))
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
        assert self_bleu(texts, n) == []
        return
    smoothing = SmoothingFunction().method1
    bleu = [
        float(sentence_bleu(kept[:i] + kept[i + 1 :], text, [1 / n] * n, smoothing))
        for i, text in enumerate(kept)
    ]
    assert self_bleu(texts, n) == bleu
    assert div_bleu(texts, n) == 1.0 - fmean(bleu)


full_lists = st.lists(st.sampled_from("abcde"), min_size=1, max_size=12)


@given(st.lists(st.tuples(full_lists, full_lists), min_size=2, max_size=5), st.integers(1, 5))
@settings(deadline=None, max_examples=300)
def test_cross_bleu_is_nltks_without_the_reference_at_the_same_place(pairs, n):
    texts, references = map(list, zip(*pairs, strict=True))
    smoothing = SmoothingFunction().method1
    bleu = [
        float(sentence_bleu(references[:i] + references[i + 1 :], text, [1 / n] * n, smoothing))
        for i, text in enumerate(texts)
    ]
    assert cross_bleu(texts, references, n) == bleu
    assert cross_bleu(texts, list(texts), n) == self_bleu(texts, n)


def test_cross_bleu_needs_equally_many_texts_with_tokens():
    assert cross_bleu([["a"]], [["a"]]) == []
    with pytest.raises(ValueError, match="2 texts, 1 references: expected equally many"):
        cross_bleu([["a"], ["b"]], [["a"]])
    with pytest.raises(ValueError, match="without tokens"):
        cross_bleu([["a"], []], [["a"], ["b"]])


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
    assert tokenise("He ran. It’s 3.5 m. She left.") == (
        ["he", "ran", ".", "it", "'s", "3.5", "m", ".", "she", "left", "."]
    )
    assert tokenise("") == []


def test_set_wide_values_equal_the_reference_vectors(real_rows):
    """Distinct-n and EAD by their formulas, self-repetition by cshaib/diversity, zlib's bytes."""
    for row in real_rows(VECTORS):
        texts, values = [text.split() for text in row["texts"]], row["values"]
        for n in (1, 2, 3):
            expected = values[f"distinct_{n}_corpus"]
            expected = math.nan if expected is None else expected
            assert distinct(texts, n) == pytest.approx(expected, abs=1e-9, nan_ok=True), row["id"]
        adjusted = {name: value for name, value in values.items() if name.startswith("ead_")}
        assert len(adjusted) == 3
        for name, expected in adjusted.items():
            vocabulary = int(name.removeprefix("ead_unigram_V"))
            value = expectation_adjusted_distinct(texts, vocabulary)
            assert value == pytest.approx(expected, abs=1e-9), row["id"]
        if all(len(text) >= 4 for text in texts):
            expected = values["self_repetition_cshaib_n4"]
            assert self_repetition(texts) == pytest.approx(expected, abs=1e-9), row["id"]
        # without the 6 bytes that zlib puts around the same stream
        expected = values["bytes_joined"] / (values["zlib9_bytes"] - 6)
        assert compression_ratio(row["texts"]) == pytest.approx(expected, abs=1e-9), row["id"]


def test_where_we_differ_from_the_reference_the_difference_is_what_we_say(real_rows):
    for row in real_rows(VECTORS):
        texts, values = [text.split() for text in row["texts"]], row["values"]
        # texts too short for an n-gram: left out here, texts that repeat nothing there
        long_enough = sum(len(text) >= 4 for text in texts)
        if long_enough >= 2:
            expected = values["self_repetition_cshaib_n4"] * len(texts) / long_enough
            assert self_repetition(texts) == pytest.approx(expected, abs=1e-9), row["id"]
        else:
            assert math.isnan(self_repetition(texts))
            assert values["self_repetition_cshaib_n4"] == 0
        # n-grams across texts and a sum over n there: ours of the joined text gives the same
        joined = [[token for text in texts for token in text]]
        total = sum(distinct(joined, n) for n in range(1, 5))
        assert round(total, 3) == pytest.approx(values["ngram_diversity_cshaib_n4"]), row["id"]
        # compressed twice there, in a file that holds its own name ('compressed' and a zero), all
        # with the time of day, which some bytes depend on
        raw = " ".join(row["texts"]).encode()
        twice = len(gzip.compress(gzip.compress(raw))) + 11
        bytes_there = len(raw) / values["compression_ratio_cshaib_gzip"]
        assert bytes_there == pytest.approx(twice, abs=3), row["id"]


def test_self_bleu_is_sacrebleus_only_where_nothing_is_smoothed(real_rows):
    """sacrebleu smooths exponentially, counts up to 100 and takes the shortest lengths apart."""
    rows = {row["id"]: row for row in real_rows(VECTORS)}
    row = rows["near_duplicates"]
    expected = 1 - row["values"]["self_bleu_4_sacrebleu_sentence_mean"] / 100
    assert div_bleu([text.split() for text in row["texts"]]) == pytest.approx(expected, abs=1e-9)


def test_hand_counts_of_sets():
    texts = [list("abab"), list("ab")]
    assert distinct(texts, 1) == 2 / 6
    assert distinct(texts, 2) == 2 / 4  # ab ba ab, ab
    assert expectation_adjusted_distinct(texts, 2) == pytest.approx(2 / (2 * (1 - 0.5**6)))
    assert expectation_adjusted_distinct(texts, 1) == 2  # one n-gram was thought possible
    # 'abcd' and 'bcde' are each in one other text, 'xbcde' shares one of its two
    texts = [list("abcde"), list("abcde"), list("xbcde")]
    expected = (2 * math.log(1 + 3) + math.log(1 + 2)) / 3
    assert self_repetition(texts) == pytest.approx(expected)


def test_overlap_of_two_sets_by_hand():
    assert ngram_overlap([["a", "b"]], [["a", "c"]], 1) == 0.5
    assert ngram_overlap([["a", "a", "a", "b"]], [["a", "b"]], 1) == 0.5 + 0.25
    assert ngram_overlap([list("abc")], [list("abc")] * 5, 2) == 1
    assert ngram_overlap([list("ab")], [list("ba")], 2) == 0


def test_texts_are_never_joined_in_sets_either():
    assert distinct([list("ab"), list("ab")], 2) == 0.5
    assert math.isnan(distinct([["a"], ["b"]], 2))
    assert math.isnan(ngram_overlap([["a"], ["b"]], [["a", "b"]], 2))
    assert math.isnan(self_repetition([list("ab")] * 4, 4))


def test_a_lone_ngram_is_no_proof_of_diversity():
    assert math.isnan(distinct([["a"]], 1))
    assert math.isnan(expectation_adjusted_distinct([["a"]], 100))


def test_copies_compress_and_headers_do_not_count():
    sentence = "the quick brown fox jumps over a lazy dog while rain falls on grey roofs"
    assert compression_ratio([sentence] * 8) > 4 * compression_ratio([sentence])
    assert 0.9 < compression_ratio([sentence]) < 2
    assert math.isnan(compression_ratio([]))
    assert math.isnan(compression_ratio(["", " \n"]))


@pytest.mark.parametrize("vocabulary", [0, -3])
def test_a_vocabulary_without_words_is_refused(vocabulary):
    with pytest.raises(ValueError, match="1 or more"):
        expectation_adjusted_distinct([["a", "b"]], vocabulary)


def test_equal_length_is_not_decided_by_one_short_text():
    group = [["a"] * 40, ["b"] * 33, ["c"] * 70, ["d"]]
    assert equal_length(group) == 32
    assert equal_length(group, share=1) is None
    assert equal_length(group, [["e"] * 20] * 4) == 16
    assert equal_length(group, [["e"] * 5] * 4) is None
    assert equal_length(group, [[], []]) is None
    assert equal_length() is None
    with pytest.raises(ValueError, match="share 0"):
        equal_length(group, share=0)


@given(token_lists, st.integers(1, 8))
def test_truncated_texts_have_equal_length(texts, length):
    cut = truncated(texts, length)
    assert cut == [text[:length] for text in texts if len(text) >= length]
    assert {len(text) for text in cut} <= {length}


@given(st.lists(st.integers(0, 3000), min_size=1), st.floats(0.01, 1))
def test_enough_texts_reach_the_equal_length(lengths, share):
    texts = [range(length) for length in lengths]
    found = equal_length(texts, share=share)
    needed = share * sum(length > 0 for length in lengths)
    if found is not None:
        assert found in LENGTHS
        assert len(truncated(texts, found)) >= needed - 1e-9
    longer = [length for length in LENGTHS if length > (found or 0)]
    assert all(len(truncated(texts, length)) < needed + 1e-9 or needed == 0 for length in longer)


SETS = {
    "distinct": (distinct, 0, 1),
    "adjusted": (lambda texts, n: expectation_adjusted_distinct(texts, 5000, n), 0, 1.59),
    "self_repetition": (self_repetition, 0, math.inf),
    "overlap": (lambda texts, n: ngram_overlap(texts[:2], texts[2:], n), 0, 1),
    "div_ngram": (div_ngram, 0, 1),
    "div_bleu": (div_bleu, -1e-12, 1 + 1e-12),
}


@pytest.mark.parametrize("name", SETS)
@given(texts=any_texts, n=st.integers(1, 5))
@settings(deadline=None)
def test_any_text_has_a_value_in_range_or_nan(name, texts, n):
    metric, low, high = SETS[name]
    tokens = [tokenise(text) for text in texts]
    assert within(metric(tokens, n), low, high)


@given(any_texts)
def test_any_text_compresses_to_something(texts):
    value = compression_ratio(texts)
    assert math.isnan(value) == (not any(text.strip() for text in texts))
    assert math.isnan(value) or 0 < value < 1100  # deflate's limit is 1032


@given(token_lists, st.integers(1, 4), st.randoms())
def test_sets_have_no_order(texts, n, random):
    mixed = random.sample(texts, len(texts))
    for name in ("distinct", "adjusted", "self_repetition"):
        value = SETS[name][0](texts, n)
        assert SETS[name][0](mixed, n) == pytest.approx(value, rel=0, abs=0, nan_ok=True), name


@given(token_lists, token_lists, st.integers(1, 4))
def test_overlap_is_symmetric_and_1_with_itself(a, b, n):
    assert ngram_overlap(a, b, n) == pytest.approx(ngram_overlap(b, a, n), rel=0, nan_ok=True)
    assert within(ngram_overlap(a, a, n), 1, 1)


@pytest.mark.parametrize("words", ["word", "один два три", "你好 世界 再见"])
def test_texts_of_ten_thousand_words(words):
    every = words.split()
    text = [every[i % len(every)] for i in range(10_000)]
    for name, (metric, low, high) in SETS.items():
        value = metric([text, text, text[1:]], 2)
        assert low <= value <= high, name
    assert distinct([text, text], 1) == len(every) / 20_000
    assert div_bleu([text, text]) == pytest.approx(0)
    assert compression_ratio([" ".join(text)] * 2) > 50
    assert equal_length([text, text]) == 1024
