"""Words are found in any script, by an index as by reading, and marked where they stand."""

import html
import re
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.searching import LONGEST_SEARCH, folded, parsed

letters = st.text(
    st.sampled_from(list("abAßéÉñ中国人가か゛がไทยж йё ½ﬁ12 _-'\".,*()^:\u0301\u202e\0\ud800\n"))
)
seen = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))
anything = st.one_of(letters, st.text())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP, “now”!", "don t stop now"),
        ("Crème BRÛLÉE, naïve", "creme brulee naive"),
        ("红色的 door", "红 色 的 door"),
        ("Straße İstanbul ﬁne ①", "strasse istanbul fine 1"),
        ("over_the\x00edge\u200band\u202eback", "over the edge and back"),
        (r"\frac{1}{2}", "frac 1 2"),
        ("가다 がか", "가다 が か"),
        ("... !? \n", ""),
    ],
)
def test_words_are_plain_small_letters(text, words):
    assert folded(text) == words


@pytest.mark.parametrize(
    ("query", "expression"),
    [
        ("red door", '"red" AND "door"'),
        ('"Red  door" opens', '"red door" AND "opens"'),
        ("don't", '"don t"'),
        ("elephan*", '"elephan" *'),
        ('"an elephan*"', '"an elephan" *'),
        ('un"closed quote', '"un" AND "closed quote"'),
        ("红色", '"红 色"'),
        ("red red", '"red"'),
        ("AND OR NOT NEAR", '"and" AND "or" AND "not" AND "near"'),
        ("\" * - ( ) ^ : '", ""),
    ],
)
def test_signs_mean_nothing_but_quotes_and_a_star_at_the_end(query, expression):
    assert parsed(query).expression == expression


def index_of(texts):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE w USING fts5(t, content='', columnsize=0, tokenize='ascii')")
    rows = [(number, folded(text)) for number, text in enumerate(texts)]
    db.executemany("INSERT INTO w (rowid, t) VALUES (?, ?)", rows)
    return db


@given(st.lists(anything, max_size=6), anything)
def test_an_index_finds_what_reading_finds(texts, query):
    search = parsed(query)
    if not search.phrases:
        return
    db = index_of(texts)
    found = db.execute("SELECT rowid FROM w WHERE w MATCH ? ORDER BY rowid", (search.expression,))
    read = [number for number, text in enumerate(texts) if all_in(search, text)]
    assert [row[0] for row in found] == read
    for number in read:
        assert search.places(texts[number])


def all_in(search, text):
    """By regular expression on the folded text, which knows nothing of places."""
    words = f" {folded(text)} "
    ends = {False: " ", True: ""}
    return all(
        re.search(re.escape(f" {' '.join(phrase.words)}") + ends[phrase.open], words)
        for phrase in search.phrases
    )


def test_hits_are_marked_and_overlapping_ones_share_a_mark():
    assert str(parsed("door").marked("A Door, <b>door</b> indoors")) == (
        "A <mark>Door</mark>, &lt;b&gt;<mark>door</mark>&lt;/b&gt; indoors"
    )
    assert str(parsed('"red old" "old door"').marked("red old door")) == "<mark>red old door</mark>"
    assert str(parsed("brul*").marked("Crème brûlée")) == "Crème <mark>brûlée</mark>"
    assert str(parsed("色的").marked("红色的门")) == "红<mark>色的</mark>门"


def test_nothing_to_look_for_marks_nothing():
    assert str(parsed("?!").marked("what?!")) == "what?!"


@given(anything, seen)
def test_marking_loses_no_letter(query, text):
    marked = str(parsed(query).marked(text))
    assert html.unescape(re.sub("</?mark>", "", marked)) == text


def test_a_search_of_any_length_is_read_to_a_limit():
    assert len(parsed("word " * 10_000).phrases) == 1
    assert len(parsed(" ".join(map(str, range(10_000)))).phrases) <= LONGEST_SEARCH
