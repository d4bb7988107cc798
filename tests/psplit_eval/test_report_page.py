"""report.html in a real Chromium: nothing runs, nothing is fetched, everything can be read."""

import pytest
from browser import PHONE, visited
from hostile import LONG, TEXTS, make_run

from psplit_eval.documents import Document, Section, to_html
from psplit_eval.excerpts import Excerpt, Said
from psplit_eval.margins import Verdict
from psplit_eval.stored import report_run
from psplit_eval.tables import Table
from psplit_eval.verdicts import Answer


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a run whose texts want to run."""
    folder = make_run(tmp_path_factory.mktemp("hostile") / "run")
    report_run(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    """A page with every hostile text at every place that has words."""
    texts = [text[:2_000] for text in (*TEXTS, *LONG)]
    first = texts[0]
    said = [
        (Said("normal", text, text, "1 token"), Said(f"high {text}", text, first, ""))
        for text in texts
    ]
    table = Table(first, first, (first, "b", "c", "d"), tuple((t, t, t, t) for t in texts[:20]))
    document = Document(
        title=first,
        verdict=" ".join(texts),
        about=texts[:5],
        answers=[Answer("split", t, t, Verdict.NO, t) for t in texts[:10]],
        found=[table],
        sections=[Section("Accuracy", texts[:10], [table], (), [table])],
        excerpts=[Excerpt(f"task {t}", 0, t, s) for t, s in zip(texts, said, strict=True)],
        details=[table],
    )
    path = tmp_path_factory.mktemp("everywhere") / "report.html"
    path.write_text(to_html(document))
    return path


@pytest.mark.parametrize("page", ["report", "everywhere"])
def test_hostile_text_runs_nothing_and_fetches_nothing(page, request, chromium):
    with visited(chromium, request.getfixturevalue(page), settle=1.0) as visit:
        visit.check_quiet()
        assert (
            visit.ask("document.querySelectorAll('script, iframe, object, embed, form').length")
            == 0
        )
        assert visit.ask("document.querySelector('h1').offsetHeight") > 0  # no style hid it


def test_texts_are_all_there(everywhere, chromium):
    with visited(chromium, everywhere) as visit:
        seen = visit.ask("document.body.textContent")
    for text in TEXTS[:18]:
        assert text.strip() in seen
    assert "\u202e" not in seen
    assert "U+202E" in seen


@pytest.mark.parametrize("page", ["report", "everywhere"])
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_no_page_is_wider_than_its_window(page, width, request, chromium):
    with visited(chromium, request.getfixturevalue(page), width=width) as visit:
        assert visit.overflow == 0


def test_light_and_dark(report, chromium):
    with visited(chromium, report) as light, visited(chromium, report, dark=True) as dark:
        assert min(light.ground()) > 240
        assert max(dark.ground()) < 40


def test_the_keyboard_reaches_contents_tables_and_details(report, chromium):
    with visited(chromium, report) as visit:
        stops = visit.focused(60)
    assert stops[0] == "A To the content"
    assert any(stop.startswith("A Details") for stop in stops)
    assert any(stop.startswith("DIV Results by mode") for stop in stops)
    assert any(stop.startswith("SUMMARY") for stop in stops)


def test_a_print_has_what_a_page_folds_away(report, chromium, tmp_path):
    with visited(chromium, report) as visit:
        visit.page.emulate_media(media="print")
        folded = "[...document.querySelectorAll('details table')].map(t => t.offsetHeight)"
        heights = visit.ask(folded)
        assert heights
        assert min(heights) > 0
        assert visit.pdf().startswith(b"%PDF")


def test_every_plot_is_seen(report, chromium):
    with visited(chromium, report) as visit:
        widths = visit.ask("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
        alts = visit.ask("[...document.images].map(i => i.alt)")
    assert widths
    assert min(widths) > 100
    assert all(alts)
