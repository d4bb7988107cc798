"""A stored run as pages on this machine alone: the server of `psplit-eval view`.

It listens on 127.0.0.1 and answers nobody who does not know the token in the address that it
prints: other users of the machine and pages of other sites can reach the port, too. It only reads.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from psplit_eval.browsing import StoredSamples
from psplit_eval.errors import PsplitError, UsageError
from psplit_eval.pages import POLICY
from psplit_eval.text import one_line
from psplit_eval.view_frame import Answer
from psplit_eval.view_pages import answer

__all__ = ["Viewer"]

_HOST = "127.0.0.1"
_SECONDS = 60
"""How long a connection may say nothing."""
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Viewer:
    """A run's pages at `address`, while `serve` runs.

    `port` 0 takes any that is free. Raises UsageError where there is no run or the port cannot be
    had, CorruptStoreError and InfrastructureError for a store that cannot be read.
    """

    folder: Path
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UsageError(
                f"--port {self.port}: expected 1 to 65535; leave it out for any free one"
            )
        self.samples = StoredSamples(self.folder)
        try:
            self._server = _Server((_HOST, self.port), _Handler)
        except OSError as error:
            self.samples.close()
            raise UsageError(_refused(self.port, error)) from error
        self._server.viewer = self
        self.port = self._server.server_port

    @property
    def address(self) -> str:
        """Where a browser begins: with the token, which nobody else knows."""
        return f"http://{_HOST}:{self.port}/?token={self.token}"

    def serve(self) -> None:
        """Answer until `stop` is called, or Ctrl-C is pressed; then close."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def stop(self) -> None:
        """From another thread: have `serve` end."""
        self._server.shutdown()

    def close(self) -> None:
        """Give back the port and stop what is being built."""
        self._server.server_close()
        self.samples.close()


def _refused(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: in use by another program; give another, or none for any free one"
    return f"--port {port}: {error.strerror or error}; leave --port out for any free one"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    viewer: Viewer

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            kind = type(error).__name__
            print(f"psplit-eval: a page failed ({kind}: {one_line(error)})", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    timeout = _SECONDS
    server_version, sys_version = "psplit", ""

    def do_GET(self) -> None:
        if not self._local():
            self._say(HTTPStatus.FORBIDDEN, "This address is not the one that was printed.")
            return
        try:
            target = urlsplit(self.path)
            asked = dict(parse_qsl(target.query, keep_blank_values=True, max_num_fields=100))
        except ValueError:
            self._say(HTTPStatus.BAD_REQUEST, "This is no address.")
            return
        if "token" in asked:
            self._enter(target.path, asked)
        elif not self._known():
            self._say(HTTPStatus.FORBIDDEN, _CLOSED)
        else:
            self._answer(target.path, asked)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _other(self) -> None:
        """Nothing can be changed here."""
        if not (self._local() and self._known()):
            self._say(HTTPStatus.FORBIDDEN, _CLOSED)
            return
        only = {"Allow": "GET, HEAD"}
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "These pages can only be read.", only)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _other  # noqa: N815

    def _viewer(self) -> Viewer:
        return cast(_Server, self.server).viewer

    def _local(self) -> bool:
        """Whether the page was asked for by the address that was printed: a name of another site
        can be made to point here, but a browser says it."""
        port = self._viewer().port
        return self.headers.get_all("Host") in ([f"{_HOST}:{port}"], [f"localhost:{port}"])

    def _known(self) -> bool:
        """Whether the browser has the cookie."""
        name, token = self._cookie(), self._viewer().token
        cookies = ";".join(self.headers.get_all("Cookie") or ()).split(";")
        given = [
            value for key, _, value in (c.strip().partition("=") for c in cookies) if key == name
        ]
        return any(_same(value, token) for value in given)

    def _cookie(self) -> str:
        """Cookies of a host are those of all its ports: two viewers must not take each other's."""
        return f"psplit_view_{self._viewer().port}"

    def _enter(self, path: str, asked: Mapping[str, str]) -> None:
        """Change the token in the address for a cookie, so that it is in no history or log."""
        token = self._viewer().token
        if not _same(asked["token"], token):
            self._say(HTTPStatus.FORBIDDEN, _CLOSED)
            return
        rest = urlencode({key: value for key, value in asked.items() if key != "token"})
        place = "/" + path.lstrip("/\\")  # never another host's
        headers = {
            "Location": f"{place}?{rest}" if rest else place,
            "Set-Cookie": f"{self._cookie()}={token}; HttpOnly; SameSite=Strict; Path=/",
        }
        self._say(HTTPStatus.SEE_OTHER, "", headers)

    def _answer(self, path: str, asked: Mapping[str, str]) -> None:
        try:
            found = answer(self._viewer().samples, path, asked)
        except PsplitError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, one_line(error))
            return
        except Exception:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "This page failed; the terminal says why.")
            raise
        if isinstance(found.content, Path):
            self._send_file(found.content)
        else:
            self._send(found)

    def _send(self, found: Answer) -> None:
        content = str(found.content).encode("utf-8", "replace")
        self._begin(found.status, "text/html; charset=utf-8", len(content))
        self._write(content)

    def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            self._begin(HTTPStatus.OK, "text/html; charset=utf-8", path.stat().st_size)
            if self.command != "HEAD":
                shutil.copyfileobj(cast(BinaryIO, file), cast(BinaryIO, self.wfile))

    def _say(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        content = f"{text}\n".encode()
        self._begin(status, "text/plain; charset=utf-8", len(content), headers)
        self._write(content)

    def _begin(
        self, status: int, kind: str, length: int, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        own = {"Content-Type": kind, "Content-Length": str(length)}
        for name, value in (_HEADERS | own | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, content: bytes) -> None:
        if self.command != "HEAD":
            with suppress(ConnectionError):
                self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server says by itself, of a malformed request, say."""
        self._say(code, message or HTTPStatus(code).phrase)

    def log_message(self, *_: object) -> None:
        """Nothing: addresses say what was looked for."""


_CLOSED = (
    "Closed: open the address that psplit-eval view printed, with its token, in this browser. "
    "(A link from another site loses the cookie: load this page again.)"
)


def _same(given: str, token: str) -> bool:
    return compare_digest(given.encode("utf-8", "replace"), token.encode())
