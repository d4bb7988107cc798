"""The server answers this machine's own browser alone, only reads, and shows text as text."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from urllib.parse import quote, urlencode, urlsplit

import hostile
import judgeable
import pytest
from browser import PHONE, opened

from psplit_eval.cli import main
from psplit_eval.errors import UsageError
from psplit_eval.pages import POLICY
from psplit_eval.viewing import Viewer


class Visitor:
    """A browser without a window: keeps a cookie if told to."""

    def __init__(self, viewer):
        self.port, self.cookie = viewer.port, ""
        self.host = f"127.0.0.1:{viewer.port}"

    def ask(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {}), **headers}
        connection.request(method, path, headers=given)
        answer = connection.getresponse()
        answer.content = answer.read()
        connection.close()
        return answer

    def enter(self, viewer):
        answer = self.ask(f"/?token={viewer.token}")
        self.cookie = answer.headers["Set-Cookie"].split(";")[0]
        return self

    def page(self, path):
        """The page itself, after those that say that something is being made."""
        while b'http-equiv="refresh"' in (answer := self.ask(path)).content:
            time.sleep(0.05)
        return answer

    def text(self, path):
        answer = self.page(path)
        assert answer.status == 200, answer.content
        return answer.content.decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = hostile.make_run(tmp_path_factory.mktemp("runs") / "hostile")
    (made / "report.html").write_text("<!doctype html><title>r</title><p>the report, as it is")
    return made


@pytest.fixture(scope="module")
def viewer(folder):
    made = Viewer(folder)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.stop()
    thread.join()


@pytest.fixture
def visitor(viewer):
    return Visitor(viewer).enter(viewer)


def test_the_token_is_changed_for_a_cookie(viewer):
    stranger = Visitor(viewer)
    answer = stranger.ask(f"/samples?task=sums&token={viewer.token}")
    assert (answer.status, answer.headers["Location"]) == (303, "/samples?task=sums")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"psplit_view_{viewer.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    stranger.cookie = f"other=1; {cookie.split(';')[0]}; more=2"
    assert stranger.ask("/").status == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/samples", "/report", "/doc?task=sums&doc=0", "/nothing", "/?token=", "/?token=x"],
)
@pytest.mark.parametrize("cookie", ["", "none", "psplit_view={}", "psplit_view_{}=é", "{}=", "a;b"])
def test_nobody_without_the_token_learns_anything(viewer, path, cookie):
    stranger = Visitor(viewer)
    stranger.cookie = quote(cookie.format(viewer.port), safe="=; {}_")
    for method in ("GET", "HEAD", "POST"):
        answer = stranger.ask(path, method)
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
        assert b"psplit_story" not in answer.content


def test_tokens_of_two_viewers_differ_and_are_long(folder, viewer):
    other = Viewer(folder)
    try:
        assert other.token != viewer.token
        assert len(other.token) >= 32
        assert other.token not in repr(other)
        visitor = Visitor(viewer)
        visitor.cookie = f"psplit_view_{viewer.port}={other.token}"
        assert visitor.ask("/").status == 403
    finally:
        other.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1", "localhost:1", "127.0.0.1:{}.evil", ""]
)
def test_a_name_that_was_made_to_point_here_is_refused(viewer, visitor, host):
    for path in ("/", f"/?token={viewer.token}"):
        assert visitor.ask(path, Host=host.format(viewer.port)).status == 403
    assert visitor.ask("/", Host=f"localhost:{viewer.port}").status == 200


def test_two_hosts_or_none_are_refused(viewer, visitor):
    for hosts in (b"", f"Host: {visitor.host}\r\nHost: evil\r\n".encode()):
        with socket.create_connection(("127.0.0.1", viewer.port)) as raw:
            cookie = visitor.cookie.encode()
            raw.sendall(b"GET / HTTP/1.1\r\n" + hosts + b"Cookie: " + cookie + b"\r\n\r\n")
            assert b" 403 " in raw.recv(100)


def test_a_redirect_stays_here(viewer):
    for path in ("//evil.example/x", "/\\evil.example", "///evil"):
        answer = Visitor(viewer).ask(f"{path}?token={viewer.token}")
        assert re.match(r"/[^/\\]*", answer.headers["Location"])
        assert not answer.headers["Location"].startswith(("//", "/\\"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(visitor, method):
    answer = visitor.ask("/samples", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_only_this_machine_is_listened_to(viewer):
    assert viewer._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/", "/report", "/nothing", "/samples"])
def test_every_answer_has_its_headers(visitor, path):
    answer = visitor.page(path)
    assert answer.headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Python" not in answer.headers["Server"]
    head = visitor.ask(path, "HEAD")
    assert (head.status, head.content) == (answer.status, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))


def test_what_is_no_address_is_refused(viewer):
    answer = Visitor(viewer).ask("/?" + "&".join(f"x{i}=1" for i in range(200)))
    assert (answer.status, answer.content) == (400, b"This is no address.\n")


def test_a_page_of_a_doc_that_is_not_there_is_the_last(visitor):
    last = visitor.text("/doc?task=sums&doc=3&page=1")
    assert visitor.text("/doc?task=sums&doc=3&page=99") == last


def test_the_report_is_served_as_it_is(folder, visitor):
    assert visitor.ask("/report").content == (folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nothing", "no page /nothing"),
        ("/../../etc/passwd", "no page"),
        ("/doc?task=sums&doc=999", "has no doc 999"),
        ("/doc?task=<b>&doc=0", "&lt;b&gt;"),
        ("/doc?task=sums&doc=x", "a number in this address"),
        ("/sample?task=sums&doc=0&mode=high&sample=99", "no sample"),
        ("/samples?page=" + "9" * 30, "a number in this address"),
        ("/samples?doc=1.5", "a number in this address"),
    ],
)
def test_what_is_not_there_is_said(visitor, path, said):
    answer = visitor.page(quote(path, safe="/?=&"))
    assert answer.status == 404
    assert said in answer.content.decode()


def test_malformed_requests_are_refused_in_plain_text(viewer):
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", viewer.port)) as raw:
            raw.sendall(request)
            answer = raw.recv(4_000)
            assert b"<" not in answer.partition(b"\r\n\r\n")[2]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.links = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "action", "src")]


ADDRESSES = [
    "/",
    *(f"/samples?page={number}" for number in range(1, 8)),
    "/samples?words=script&finish=stop",
    f"/samples?{urlencode({'words': hostile.TEXTS[13], 'task': hostile.TEXTS[14]})}",
    *(f"/doc?task=sums&doc={doc}" for doc in range(len(hostile.TEXTS))),
    *(f"/doc?task=stock&doc={doc}" for doc in range(len(hostile.LONG))),
    *(
        f"/sample?task=psplit_story&mode=high&doc={doc}&sample={index}&words=alert"
        for doc in range(len(hostile.TEXTS))
        for index in (0, 2)
    ),
    "/sample?task=stock&mode=high&doc=1&sample=0&text=2&prompt=3",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_text_becomes_markup(visitor, address):
    reader = Reader()
    reader.feed(visitor.text(address))
    assert not reader.tags & {
        "script",
        "img",
        "svg",
        "iframe",
        "object",
        "base",
        "marquee",
        "video",
    }
    assert (
        not {name for name in reader.attributes if name.startswith("on")}
        | {
            "autofocus",
            "srcdoc",
        }
        & reader.attributes
    )
    assert all(link.startswith(("/", "#", "data:,")) for link in reader.links)
    assert not any(link.startswith("//") for link in reader.links)


def test_long_texts_come_in_pages_that_have_all_of_it(visitor):
    place = "/sample?task=stock&mode=normal&doc=3&sample=0"
    words = 0
    for number in range(1, 21):
        page = visitor.text(f"{place}&text={number}")
        assert f"page {number} of 20" in page
        part = page.partition('id="text"')[2].partition("</pre>")[0].partition("<pre>")[2]
        words += part.count("word")
        assert len(page) < 1_000_000
    assert words == 200_000


def test_links_lead_from_page_to_page_through_all_samples(visitor):
    seen, address = set(), "/samples?task=sums"
    while address:
        page = visitor.text(address)
        links = re.findall(r'href="([^"]+)"', page)
        seen |= {link for link in links if link.startswith("/sample?")}
        following = re.search(r'rel="next"[^>]*href="([^"]+)"', page)
        address = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(hostile.TEXTS) * 2 * 3


def test_docs_follow_one_another(visitor):
    seen, address = [], "/doc?task=psplit_story&doc=0"
    while address:
        page = visitor.text(address)
        seen.append(address)
        following = re.search(r'rel="next" accesskey="n" href="([^"]+)">Next doc', page)
        address = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(hostile.TEXTS)


def test_a_search_without_a_word_in_it_says_so(visitor):
    assert "there is no word" in visitor.text("/samples?words=%22%3F%22")


def test_a_filter_stays_chosen_and_counts(visitor):
    page = visitor.text("/samples?task=sums&mode=high&finish=missing")
    assert f"{len(hostile.TEXTS)} samples" in page
    assert page.count("selected") == 3


def test_differing_words_are_marked_beside_each_other(tmp_path):
    told = judgeable.sample("high", "sums", 0, 0, "p", text="A story 0-0 that was sung.")
    made = Viewer(judgeable.make_run(tmp_path / "run", more=(told,)))
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        visitor = Visitor(made).enter(made)
        page = visitor.text("/doc?task=sums&doc=0")
        assert "was <mark>told in the 6th hour</mark>." in page
        assert "was <mark>sung</mark>." in page
        assert "<mark>" not in visitor.text("/doc?task=sums&doc=0&marks=no")
        assert "There is no report yet" in visitor.text("/")
        assert visitor.page("/report").status == 404
    finally:
        made.stop()
        thread.join()


def test_a_store_that_is_damaged_meanwhile_is_one_line(tmp_path):
    folder = judgeable.make_run(tmp_path / "run")
    made = Viewer(folder)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        visitor = Visitor(made).enter(made)
        visitor.text("/samples")
        (folder / "samples.sqlite").write_bytes(b"no database" * 999)
        answer = visitor.page("/sample?task=sums&doc=0&mode=high&sample=0")
        assert answer.status == 500
        assert answer.content.count(b"\n") == 1
        assert b"samples.sqlite" in answer.content
    finally:
        made.stop()
        thread.join()


def test_a_port_that_is_taken_is_one_line(folder, viewer, capsys):
    assert main(["view", str(folder), "--port", str(viewer.port)]) == 2
    assert f"--port {viewer.port}: in use" in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected 1 to 65535"):
        Viewer(folder, 70_000)


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 2
    assert "no run" in capsys.readouterr().err


def hears_ctrl_c():
    """As in a terminal, also where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_command_prints_the_address_and_ends_in_good_order(folder):
    command = [sys.executable, "-c", "import psplit_eval.cli as c, sys; sys.exit(c.main())"]
    server = subprocess.Popen(
        [*command, "view", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=hears_ctrl_c,
    )
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", server.stdout.readline())[0]
        assert "Ctrl-C" in server.stdout.readline()
        target = urlsplit(address)
        connection = http.client.HTTPConnection(target.netloc, timeout=60)
        connection.request("GET", f"/?{target.query}")
        assert connection.getresponse().status == 303
        connection.close()
    finally:
        server.send_signal(signal.SIGINT)
        out, errors = server.communicate(timeout=60)
    assert (server.returncode, errors) == (0, "")
    assert "stopped" in out


def test_the_run_is_left_as_it_was(folder, visitor):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.iterdir() if p.is_file()}
    for address in ADDRESSES[:12]:
        visitor.text(address)
    after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.iterdir() if p.is_file()}
    assert before == after


def quiet(context, viewer, address):
    """The page after those that wait for it; it ran nothing and asked for nothing."""
    root = f"http://127.0.0.1:{viewer.port}"
    while True:
        visit = opened(context, root + address, settle=0.1)
        if not visit.ask("document.querySelector('meta[http-equiv=refresh]')"):
            break
        visit.page.close()
    visit.check_quiet()
    return visit


IN_A_BROWSER = [
    "/",
    "/samples",
    "/samples?words=script",
    "/doc?task=sums&doc=0",
    "/doc?task=sums&doc=13",
    "/sample?task=psplit_story&mode=high&doc=0&sample=0",
    "/sample?task=psplit_story&mode=high&doc=20&sample=0",
    "/sample?task=stock&mode=high&doc=0&sample=0",
    "/sample?task=stock&mode=high&doc=1&sample=0&text=2",
    "/sample?task=stock&mode=high&doc=2&sample=0",
]


def test_in_a_browser_hostile_texts_do_nothing(chromium, viewer):
    context = chromium.new_context(viewport={"width": PHONE, "height": 800}, color_scheme="dark")
    entered = opened(context, viewer.address)
    entered.check_quiet()
    assert "token" not in entered.page.url
    assert max(entered.ground()) < 60  # dark, as the visitor wants it
    for address in IN_A_BROWSER:
        visit = quiet(context, viewer, address)
        assert visit.status == 200
        assert visit.overflow == 0, address
        assert visit.seconds < 10
        visit.page.close()
    context.close()


def test_in_a_browser_links_and_forms_work_by_keyboard(chromium, viewer):
    context = chromium.new_context()
    opened(context, viewer.address)
    visit = quiet(context, viewer, "/samples?task=sums")
    assert visit.focused(3)[0] == "A To the content"
    visit.page.locator("input[name=words]").fill("far below")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_selector("mark")
    assert visit.ask("document.querySelector('[role=status]').textContent") == "2 samples"
    visit.page.locator("ol.rows a").first.press("Enter")
    visit.page.wait_for_selector("#text")
    assert "sums, doc 26" in visit.page.title()
    assert visit.said == []
    context.close()


def test_a_browser_without_the_token_sees_nothing(chromium, viewer):
    context = chromium.new_context()
    visit = opened(context, f"http://127.0.0.1:{viewer.port}/samples")
    assert visit.status == 403
    assert "psplit_story" not in visit.page.content()
    context.close()
