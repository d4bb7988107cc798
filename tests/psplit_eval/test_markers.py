"""Reasoning markers, counted by hand."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.markers import LEXICONS, marker_counts, marker_findings, word_count


def counts(text):
    return tuple(marker_counts(text).values())


def by_measure(findings):
    return {finding.measure: finding for finding in findings}


@pytest.mark.parametrize(
    ("text", "hedging", "rechecking", "alternatives"),
    [
        ("", 0, 0, 0),
        ("The answer is 12.", 0, 0, 0),
        ("Perhaps it might be 12; I think so.", 3, 0, 0),
        ("Wait. Let me double-check: is that right?", 0, 3, 0),
        ("Alternatively, or we could try another way.", 0, 0, 3),
        ("ON THE OTHER\n  HAND it's 12, I’m not sure", 1, 0, 1),
        # parts of words are none
        ("The mighty waiter awaits unverifyable perhapses", 0, 0, 0),
        ("a wait-list, re-verify", 0, 0, 0),
        # of overlapping phrases the longest, once: 'let me verify', not 'verify' beside it
        ("let me verify", 0, 1, 0),
        ("unlikely", 1, 0, 0),
        # lexical: a noun and a bus stop count as well
        ("With all his might he could not wait.", 1, 1, 0),
        # no English
        ("Vielleicht. Warte, ich prüfe das noch einmal. 也许吧", 0, 0, 0),
    ],
)
def test_counts_by_hand(text, hedging, rechecking, alternatives):
    assert counts(text) == (hedging, rechecking, alternatives)


@pytest.mark.parametrize(
    ("marker", "phrase"), [(name, phrase) for name, all_ in LEXICONS.items() for phrase in all_]
)
def test_every_phrase_counts_once_under_its_marker(marker, phrase):
    for written in (phrase, f"So: {phrase.upper()}!", phrase.replace("'", "’")):
        assert marker_counts(written)[marker] == 1


@given(st.lists(st.sampled_from([p for all_ in LEXICONS.values() for p in all_]), max_size=6))
def test_marks_between_phrases_part_them(phrases):
    found = marker_counts("; xyz, ".join(phrases))
    for name, lexicon in LEXICONS.items():
        own = [phrase for phrase in phrases if phrase in lexicon]
        alone = sum(marker_counts(phrase)[name] for phrase in phrases)
        assert found[name] == alone >= len(own)


@given(st.text(max_size=200))
def test_any_text_has_counts_and_words(text):
    assert all(count >= 0 for count in counts(text))
    assert (word_count(text) > 0) == bool(re.search(r"[^\W_]", text))


def test_words_by_hand():
    assert word_count("I don't know: 3.5 re-tries, snake_case") == 9
    assert word_count(" -- … ") == 0


def test_rates_shares_and_lengths_by_hand():
    # a: rates 100 · 1/2 and 0, b: 100 · 2/4 once; share 1/2 and 1; words 2 and 4
    doc = (["perhaps so", "it is"], ["maybe it is likely"])
    found = by_measure(marker_findings("sums", "normal", "high", [doc] * 6))
    expected = {
        "hedging_per_100_words": 50 - 25,
        "hedging_share": 1 - 0.5,
        "rechecking_per_100_words": 0,
        "rechecking_share": 0,
        "alternatives_per_100_words": 0,
        "alternatives_share": 0,
        "words": 4 - 2,
        "characters": 18 - 7.5,
    }
    assert {name: finding.estimate.value for name, finding in found.items()} == expected
    assert found["hedging_share"].note == "normal 0.5, high 1"
    assert found["hedging_share"].p == 2 / 2**6  # all six docs one way
    assert found["rechecking_share"].p == 1
    assert found["rechecking_share"].estimate.ci_high < 0.5
    assert found["hedging_share"].estimate.n == 6


def test_a_text_without_words_has_no_rate_but_counts_as_a_text():
    docs = [(["", "perhaps"], ["perhaps"]), ([""], ["so"]), ([], ["maybe"])]
    found = by_measure(marker_findings("t", "a", "b", docs))
    rate, share = found["hedging_per_100_words"], found["hedging_share"]
    assert (rate.estimate.n, rate.estimate.value, rate.note) == (1, 0, "a 100, b 100")
    assert (share.estimate.n, share.estimate.value) == (2, 0.25)
    assert math.isnan(rate.p)
    assert rate.test == ""


def test_without_docs_all_is_nan_and_says_why():
    for found in marker_findings("t", "a", "b", [([], ["so"])]):
        assert math.isnan(found.estimate.value)
        assert found.note.startswith("undefined: needs a doc")
