"""Words that only one of two texts has are marked, and no letter is lost or obeyed."""

import html
import re
import time

from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.worddiff import marked_differences

words = st.lists(st.sampled_from(["the", "red", "blue", "door", "opens", "dreißig", "故", "."]))

seen = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))


def bare(markup):
    return html.unescape(re.sub("<[^>]+>", "", str(markup)))


def marked(markup):
    return [html.unescape(found) for found in re.findall("<mark>(.*?)</mark>", str(markup), re.S)]


def unmarked_words(markup):
    return re.findall(r"\w+|故|\.", re.sub("<mark>.*?</mark>", " ", str(markup), flags=re.S))


def test_only_the_words_that_differ_are_marked():
    a, b = marked_differences("The red door opens slowly.", "The blue door opens very slowly.")
    assert str(a) == "The <mark>red</mark> door opens slowly."
    assert str(b) == "The <mark>blue</mark> door opens <mark>very</mark> slowly."


def test_neighbours_share_a_mark_with_their_space():
    a, b = marked_differences("a cold grey\n morning", "a morning")
    assert marked(a) == ["cold grey"]
    assert marked(b) == []


def test_white_space_and_words_moved_by_it_are_no_difference():
    assert marked(marked_differences("one  two\nthree", "one two three")[0]) == []


def test_equal_empty_and_wholly_different_texts():
    assert [marked(m) for m in marked_differences("same words", "same words")] == [[], []]
    assert [marked(m) for m in marked_differences("", "all new")] == [[], ["all new"]]
    assert [marked(m) for m in marked_differences("x y", "p q r")] == [["x y"], ["p q r"]]


def test_chinese_is_compared_character_by_character():
    a, b = marked_differences("他打开了红色的门。", "他打开了蓝色的门。")
    assert (marked(a), marked(b)) == (["红"], ["蓝"])


def test_markup_is_shown_and_not_obeyed():
    hostile = "<script>alert(1)</script> </mark> \u202e"
    for markup in marked_differences(hostile, "<b onclick=x>"):
        assert set(re.findall("<[^>]+>", str(markup))) <= {
            "<mark>",
            "</mark>",
            "</span>",
            '<span class="code" title="right-to-left override">',
        }


@given(seen, seen)
def test_no_letter_is_lost(a, b):
    assert tuple(map(bare, marked_differences(a, b))) == (a, b)


@given(words, words)
def test_what_is_not_marked_stands_in_both_in_one_order(a, b):
    one, other = marked_differences(" ".join(a), " ".join(b))
    assert unmarked_words(one) == unmarked_words(other)


def test_a_long_text_is_marked_by_what_the_other_has_fewer_times():
    shared = " ".join(f"w{i % 700}" for i in range(9_000))
    a, b = marked_differences(f"{shared} old {shared} end", f"{shared} new new {shared} end")
    assert (marked(a), marked(b)) == (["old"], ["new new"])


def test_long_lines_without_spaces_and_many_equal_words_take_no_time():
    start = time.perf_counter()
    marked_differences("x" * 1_000_000, "<" * 1_000_000)
    marked_differences("b " + "a " * 100_000, "a " * 100_000 + "c")
    assert time.perf_counter() - start < 10  # comparing in order takes hours
