"""The listener hears what a page must not do, and says nothing of a quiet page."""

import http.server
import threading

import pytest
from browser import PHONE, visited
from hostile import ELSEWHERE, RUNS, TEXTS

QUIET = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>t</title>
<link rel="icon" href="data:,"><style>body {{ background: #fff }}
@media (prefers-color-scheme: dark) {{ body {{ background: #000 }} }}</style></head>
<body>{0}</body></html>"""


@pytest.fixture
def page(tmp_path):
    def write(body, policy=""):
        path = tmp_path / "page.html"
        head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
        path.write_text(QUIET.format(body).replace("<head>", f"<head>{head}"))
        return path

    return write


def test_a_quiet_page_is_quiet_and_measured(chromium, page):
    path = page("<p>words</p><a href='#x'>first</a> <button>second</button>")
    with visited(chromium, path) as visit:
        visit.check_quiet()
        assert 0 < visit.seconds < 60
        assert visit.overflow == 0
        assert visit.ground() == (255, 255, 255)
        assert visit.focused(2) == ["A first", "BUTTON second"]
        assert visit.pdf().startswith(b"%PDF")
        visit.check_quiet()  # asking was no doing of the page
    with visited(chromium, path, dark=True) as visit:
        assert visit.ground() == (0, 0, 0)


@pytest.mark.parametrize(
    ("body", "heard"),
    [
        ("<img src='nowhere:x' onerror='window.pwned=1'>", "scripts"),
        ("<script>console.log('x')</script>", "said"),
        ("<script>alert('x')</script>", "said"),
        ("<script>setTimeout(() => { throw 1 }, 50)</script>", "said"),
        (f"<img src='{ELSEWHERE}.png'>", "requests"),
        (f"<style>@import url({ELSEWHERE}.css);</style>", "requests"),
        (f"<iframe src='{ELSEWHERE}'></iframe>", "requests"),
    ],
)
def test_what_a_page_must_not_do_is_heard(chromium, page, body, heard):
    with visited(chromium, page(body)) as visit:
        assert getattr(visit, heard) != []
        with pytest.raises(AssertionError):
            visit.check_quiet()


@pytest.mark.parametrize("number", [0, 4, 7, 9, 11, 12, 13])
def test_hostile_texts_do_harm_where_they_are_not_escaped(chromium, page, number):
    around = 'title="{}"' if number == 13 else "><p>{}</p"
    with (
        visited(chromium, page(f"<p {around.format(TEXTS[number])}></p>")) as visit,
        pytest.raises(AssertionError),
    ):
        visit.check_quiet()


def test_what_a_policy_stops_is_heard(chromium, page):
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for body in (f"<script>{RUNS}</script>", f"<img src='{ELSEWHERE}.png'>", TEXTS[3]):
        with visited(chromium, page(body, policy)) as visit:
            assert visit.scripts == []
            assert visit.said != []


def test_a_wide_page_overflows_on_a_phone(chromium, page):
    path = page("<pre style='width: 800px'>wide</pre>")
    with visited(chromium, path, width=PHONE) as visit:
        assert visit.overflow > 300
    with visited(chromium, path, width=1280) as visit:
        assert visit.overflow == 0


class Redirecting(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        there = self.path == "/there"
        self.send_response(200 if there else 303)
        self.send_header("Content-Type", "text/html")
        if not there:
            self.send_header("Location", "/there")
        self.end_headers()
        self.wfile.write(QUIET.format("here").encode() if there else b"")

    def log_message(self, *_):
        pass


def test_where_a_server_sends_the_visitor_is_no_request_of_the_page(chromium):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with visited(chromium, f"http://127.0.0.1:{server.server_port}/") as visit:
            visit.check_quiet()
            assert visit.status == 200
            assert visit.page.url.endswith("/there")
    finally:
        server.shutdown()
        server.server_close()
