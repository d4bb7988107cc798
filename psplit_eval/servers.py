"""Servers that speak OpenAI's protocol: their addresses, the key, and the models that they list."""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from typing import Any, NoReturn

from psplit_eval.errors import UsageError
from psplit_eval.text import shortened

__all__ = [
    "api_key",
    "check_url",
    "http_answer",
    "list_models",
    "shown_text",
    "shown_url",
    "status_fix",
]

_MOST_BYTES = 4_000_000


def api_key() -> str | None:
    """The key in OPENAI_API_KEY; None without one. Raises UsageError for what cannot be sent."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if key and not (key.isascii() and key.isprintable()):  # HTTP clients would quote it in errors
        raise UsageError("OPENAI_API_KEY holds characters that cannot be sent; set it to a key")
    return key or None


def shown_text(value: object, width: int = 120) -> str:
    """One line of what a server said, without the key, which some servers quote."""
    text, key = str(value), os.environ.get("OPENAI_API_KEY", "").strip()
    return shortened(text.replace(key, "(key)") if len(key) > 3 else text, width)


def check_url(url: str, option: str = "--base-url") -> None:
    """Raise UsageError for what is no http or https URL, or carries a user or password."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            _no_url(url, option)
        if parts.username is not None:
            raise UsageError(
                f"{option} {shown_url(url)!r}: given with a user, expected none; leave it out, "
                "and put a key into OPENAI_API_KEY"
            )
    except ValueError:
        _no_url(url, option)


def _no_url(url: str, option: str) -> NoReturn:
    raise UsageError(
        f"{option} {shown_url(url)!r}: expected a URL such as http://localhost:8000/v1"
    )


def shown_url(url: str) -> str:
    """Without user, password and query, in which keys are hidden at times."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(no URL)"
    return shown_text(parts._replace(netloc=host, query="", fragment="").geturl().rstrip("/"))


def list_models(url: str, seconds: float) -> list[str]:
    """Ids of the models that a server lists.

    Raises OSError (urllib's HTTPError for a status), http.client.HTTPException, JSONDecodeError or
    UnicodeDecodeError for an answer that is no list of models, UsageError (see `api_key`).
    """
    headers, key = {"Accept": "application/json"}, api_key()
    if key:
        headers["Authorization"] = f"Bearer {key}"
    parts = urllib.parse.urlsplit(url)
    asked = parts._replace(path=f"{parts.path.rstrip('/')}/models", fragment="").geturl()
    content = json.loads(http_answer(urllib.request.Request(asked, headers=headers), seconds))
    try:
        return [str(model["id"]) for model in content["data"]]
    except (KeyError, TypeError):
        raise json.JSONDecodeError("no list of models", "", 0) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def http_answer(request: urllib.request.Request, seconds: float) -> bytes:
    """The body of an answer, its first 4 MB; redirects are not followed. Raises as urllib does."""
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(request, timeout=seconds) as response:
        return bytes(response.read(_MOST_BYTES))


def status_fix(code: int, url: str) -> str:
    """What a user can do about a status that a server answers with."""
    if code in (401, 403):
        known = "another" if os.environ.get("OPENAI_API_KEY") else "a"
        return f"it wants {known} key: set OPENAI_API_KEY"
    if code == 404 and not urllib.parse.urlsplit(url).path.rstrip("/").endswith("/v1"):
        return f"try {shown_url(url)}/v1"
    if 300 <= code < 400:
        return "it sends you elsewhere: give that address"
    return "look at the server's own log"
