"""Pages in a real Chromium, with a listener for all that a page must not do.

    with visited(chromium, folder / "report.html") as visit:   # `chromium`: a fixture of conftest
        visit.check_quiet()

Questions to the page go through `Visit.ask`, whose scripts are told apart from the page's own;
Playwright's `evaluate` would be heard as a script of the page.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = 390
"""Width of a phone, in CSS pixels."""
_SETTLED = 0.3
"""Seconds after loading in which scripts, timers and requests would show themselves."""
_OWN = ("data:", "blob:", "about:")
_ASKED = "asked-by-the-test"


def find_chromium() -> Path | None:
    """PSPLIT_CHROMIUM, or one that is installed."""
    named = os.environ.get("PSPLIT_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, INSTALLED)), None)
    return Path(found) if found else None


@contextmanager
def started() -> Iterator[Any]:
    """A headless Chromium, or a skipped test where there is none."""
    import pytest

    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium (install it, or set PSPLIT_CHROMIUM)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that was opened, and all that happened since.

    `requests`: addresses asked for beyond the page's own; `scripts`: sources of scripts that ran in
    the page; `said`: what came to the console, errors, dialogs, downloads, new windows, and what
    the page's policy had to stop. `seconds`: from the first request until all of it was laid out.
    """

    page: Any
    status: int | None = None
    requests: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _devtools: Any = None

    def check_quiet(self) -> None:
        """Nothing ran, nothing was fetched, nothing was said, nothing had to be stopped."""
        assert (self.scripts, self.requests, self.said) == ([], [], [])
        assert self.ask("window.pwned") is None

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        script = f"{expression}\n//# sourceURL={_ASKED}"
        found = self._devtools.send(
            "Runtime.evaluate", {"expression": script, "returnByValue": True}
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    @property
    def overflow(self) -> float:
        """By how many CSS pixels the page is wider than its window."""
        found = self._devtools.send("Page.getLayoutMetrics")
        return float(found["cssContentSize"]["width"] - found["cssLayoutViewport"]["clientWidth"])

    def ground(self, selector: str = "body") -> tuple[int, ...]:
        """Background colour of an element: red, green, blue of 255."""
        found = f"getComputedStyle(document.querySelector({selector!r})).backgroundColor"
        colour = str(self.ask(found))
        return tuple(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])

    def focused(self, presses: int) -> list[str]:
        """Where the focus is after each press of the tab key: tag and name or text."""
        return [self._next_focus() for _ in range(presses)]

    def _next_focus(self) -> str:
        self.page.keyboard.press("Tab")
        place = "`${e.tagName} ${e.name || e.ariaLabel || e.innerText}`.trim()"
        return str(self.ask(f"(e => {place})(document.activeElement)"))

    def pdf(self) -> bytes:
        """The page as it is printed, on A4."""
        return bytes(self.page.pdf(format="A4"))

    def picture(self, path: Path, whole: bool = True) -> Path:
        """A PNG of the page."""
        self.page.screenshot(path=path, full_page=whole)
        return path


@contextmanager
def visited(
    chromium: Any,
    address: str | Path,
    *,
    dark: bool = False,
    width: int = 1280,
    height: int = 900,
    settle: float = _SETTLED,
) -> Iterator[Visit]:
    """Open a file or an address in a profile of its own, and let it settle."""
    scheme = "dark" if dark else "light"
    context = chromium.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, accept_downloads=False
    )
    try:
        yield opened(context, address, settle=settle)
    finally:
        context.close()


def opened(context: Any, address: str | Path, *, settle: float = _SETTLED) -> Visit:
    """Open a page in a context of Playwright's, which keeps cookies from page to page."""
    target = address.absolute().as_uri() if isinstance(address, Path) else address
    page = context.new_page()
    visit = Visit(page, _devtools=context.new_cdp_session(page))
    _listen(visit)
    begun = time.perf_counter()
    answer = page.goto(target, wait_until="load", timeout=60_000)
    visit._devtools.send("Page.getLayoutMetrics")  # waits until all is laid out
    visit.seconds = time.perf_counter() - begun
    visit.status = answer.status if answer else None
    page.wait_for_timeout(settle * 1000)
    _forget_own(visit, answer, target)
    return visit


def _listen(visit: Visit) -> None:
    page, devtools, say = visit.page, visit._devtools, visit.said.append
    page.on("request", lambda request: _asked_for(visit, request.url))
    page.on("console", lambda message: say(f"console: {message.text}"))
    page.on("pageerror", lambda error: say(f"error: {error}"))
    page.on("download", lambda download: say(f"download: {download.url}"))
    page.on("dialog", lambda dialog: (say(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("popup", lambda window: say(f"window: {window.url}"))
    devtools.on("Debugger.scriptParsed", lambda event: _heard(visit, event))
    devtools.on("Audits.issueAdded", lambda event: _stopped(visit, event["issue"]))
    for domain in ("Debugger", "Runtime", "Page", "Audits"):
        devtools.send(f"{domain}.enable")


def _asked_for(visit: Visit, url: str) -> None:
    if not url.startswith(_OWN):
        visit.requests.append(_bare(url))


def _heard(visit: Visit, event: dict[str, Any]) -> None:
    """Playwright's own scripts run in worlds beside the page's."""
    own = event.get("executionContextAuxData", {}).get("isDefault", True)
    if own and event["url"] != _ASKED:
        visit.scripts.append(event["url"] or "inline")


def _stopped(visit: Visit, issue: dict[str, Any]) -> None:
    """Content that the page's policy stops was not escaped."""
    if issue["code"] == "ContentSecurityPolicyIssue":
        visit.said.append(f"stopped: {issue['details']['contentSecurityPolicyIssueDetails']}")


def _forget_own(visit: Visit, answer: Any, target: str) -> None:
    """What was asked for by the visitor is no request of the page: its address, and where a server
    sends him from there."""
    own = {_bare(target)}
    request = answer.request if answer else None
    while request is not None:
        own.add(_bare(request.url))
        request = request.redirected_from
    for url in own & set(visit.requests):
        visit.requests.remove(url)  # once: a page that loads itself again is heard


def _bare(url: str) -> str:
    return url.partition("#")[0]
