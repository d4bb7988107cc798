"""Reports as a page and as Markdown: the same content, and nothing in it is obeyed."""

import re
from html.parser import HTMLParser

import pytest

from psplit_eval.documents import Document, Section, to_html, to_markdown
from psplit_eval.excerpts import Excerpt, Said
from psplit_eval.figures import blank_figure, write_figure
from psplit_eval.margins import Verdict
from psplit_eval.tables import Table
from psplit_eval.verdicts import Answer

HOSTILE = "</pre></td><script>alert(1)</script><img src=x onerror=alert(2)> | `` \u202e\x1b[2J\0"


class Page(HTMLParser):
    """Elements with their attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def table(title="Results", cell="1.0", grey=()):
    header = ("task", "metric", "normal", "high")
    return Table(title, "A note.", header, (("t", "m", "0.5", cell),), grey=frozenset(grey))


@pytest.fixture
def plot(tmp_path):
    words = "What is shown.", "normal 0.5, high 0.7"
    return write_figure(tmp_path, "accuracy", blank_figure(2, 1), words, ("x",), [(1.5,)])


def document(plots=(), word="story"):
    said = (Said("normal", f"Tell a {word}.", f"A plain {word}.", "9 tokens"),)
    said += (Said("high", f"Tell a {word}.", f"A wild {word}.", ""),)
    return Document(
        title=f"m {word}",
        verdict=f"Nothing differs {word}.",
        about=["3 tasks", word],
        answers=[Answer("split", "normal", f"high {word}", Verdict.NO, f"KL {word}")],
        found=[table("Primary")],
        sections=[
            Section("Accuracy", [f"Said of {word}."], [table(cell=word)], plots),
            Section("Training"),
        ],
        excerpts=[Excerpt("task", 3, word, said)],
        details=[table("Settings", grey=[0])],
    )


def test_both_forms_say_the_same(plot):
    for text in (to_html(document([plot])), to_markdown(document([plot]))):
        parts = ["m story", "3 tasks", "Nothing differs story.", "KL story", "Primary"]
        parts += ["Accuracy", "Said of story.", "What is shown.", "doc 3", "9 tokens", "Settings"]
        body = text[text.index("m story", text.find("<body>") + 1) :]
        places = [body.rindex(part) for part in parts]
        assert places == sorted(places)
        assert "Training" not in text  # an empty section


def test_a_page_needs_nothing_else(plot):
    page = Page(to_html(document([plot])))
    assert not page.all("script")
    assert not page.all("link") or {link["rel"] for link in page.all("link")} == {"icon"}
    places = [image["src"] for image in page.all("img")]
    places += [link["href"] for link in page.all("link") + page.all("a")]
    assert all(place.startswith(("data:", "#")) for place in places)


def test_a_page_can_be_read_without_seeing_and_by_keyboard(plot):
    page = Page(to_html(document([plot])))
    assert [image["alt"] for image in page.all("img")] == ["normal 0.5, high 0.7"]
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    inner = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert inner
    assert set(inner) <= targets
    assert page.all("html") == [{"lang": "en"}]
    assert all(th["scope"] == "col" for th in page.all("th"))
    scrolled = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert scrolled
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in scrolled)


def test_differing_words_are_marked():
    page = to_html(document())
    assert "<mark>plain</mark>" in page
    assert "<mark>wild</mark>" in page


def test_rows_that_are_no_evidence_are_grey():
    assert [row for row in Page(to_html(document())).all("tr") if row == {"class": "grey"}]


def test_hostile_text_stays_text_in_a_page(plot):
    page = Page(to_html(document([plot], HOSTILE)))
    assert not page.all("script")
    assert len(page.all("img")) == 1
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_hostile_text_stays_text_in_markdown(plot):
    text = to_markdown(document([plot], HOSTILE))
    outside = re.sub(r"(```+).*?\1|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert "Said of" in outside
    assert "<" not in outside
    assert not set("\x1b\0\u202e") & set(text)
    rows = [line for line in text.split("\n") if line.startswith("| t |")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)


def test_a_fence_is_longer_than_any_in_a_text():
    said = (Said("normal", "", "```\n# not a heading\n````", ""),)
    text = to_markdown(Document("t", "v", excerpts=[Excerpt("t", 0, "", said)]))
    assert "\n`````text\n```\n# not a heading\n````\n`````" in text


def test_markdown_fits_into_a_pull_request_and_says_what_is_cut():
    rows = tuple((str(i),) for i in range(5_000))
    said = (Said("normal", "", "word " * 300, ""),)
    long = Document(
        *("t", "v"),
        details=[Table("Long", "n", ("a",), rows)],
        excerpts=[Excerpt("t", 0, "", said)] * 24,
    )
    markdown, page = to_markdown(long), to_html(long)
    assert len(markdown) < 65_536
    assert "4,970 more rows are in report.html." in markdown
    assert "(1,500 characters in all)" in markdown
    assert "<td>4999</td>" in page
    assert "word " * 299 in page


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("[x](http://evil)", r"\[x\](http://evil)"),
        (r"a\|b", r"a\\\|b"),
        ("**bold** `code` _slanted_", r"\*\*bold\*\* \`code\` \_slanted\_"),
        ("psplit_gsm8k", "psplit_gsm8k"),
    ],
)
def test_names_are_no_markup_in_markdown(name, written):
    document = Document(name, "v", found=[table(cell=name)])
    text = to_markdown(document)
    assert text.startswith(f"# {written}\n")
    assert f"| {written} |" in text


def test_long_evidence_is_cut_in_markdown_alone():
    long = Answer("split", "a", "b", Verdict.NO, "t 0.1 to 0.2; " * 400)
    document = Document("t", "v", answers=[long])
    assert len(to_markdown(document)) < 2_000
    assert "t 0.1 to 0.2; " * 400 in to_html(document)
