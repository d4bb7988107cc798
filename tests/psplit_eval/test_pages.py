"""Pages: text stays text, and nothing comes from elsewhere."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.pages import POLICY, shown


class Reader(HTMLParser):
    """What a browser would show, and which elements there are."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def read(markup):
    reader = Reader()
    reader.feed(str(markup))
    reader.close()
    return reader


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</pre><style>*{}</style>",
        "a & b",
    ],
)
def test_markup_is_shown_and_not_obeyed(text):
    reader = read(shown(text))
    assert reader.tags == []
    assert reader.text == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\u202eb", "aU+202Eb"),
        ("\0\0\0x\0", "U+0000 ×3xU+0000"),
        ("a\u200b\ufeffb", "aU+200BU+FEFFb"),
        ("a\rb\x1b[31m", "aU+000DbU+001B[31m"),
        ("tab\tline\n", "tab\tline\n"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_letters_that_cannot_be_seen_stand_as_codes(text, seen):
    assert read(shown(text)).text == seen


def test_a_text_of_nothing_but_codes_makes_a_bounded_number_of_elements():
    reader = read(shown("\u202e\0" * 60_000))
    assert len(reader.tags) == 1_000
    assert reader.text.count("U+202E") == reader.text.count("U+0000") == 60_000


@given(st.text())
def test_only_codes_are_elements_and_nothing_is_lost(text):
    reader = read(shown(text))
    assert set(reader.tags) <= {"span"}
    whole = re.sub(r"U\+([0-9A-F]{4,6})(?: ×([\d,]+))?", "", reader.text)
    assert len(whole) <= len(text)
    if not reader.tags:
        assert reader.text == text


def test_the_policy_allows_no_script_and_no_network():
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules
