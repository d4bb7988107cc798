"""Pages of HTML: one look, nothing from a network, no script, and text that stays text.

Templates lie in `html/`; `page.html` is what all of them extend. A page's policy forbids whatever
it does not need, so that even text which was not escaped could not run or fetch anything.
"""

from __future__ import annotations

import base64
import unicodedata
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

from psplit_eval.text import one_line, visible

if TYPE_CHECKING:
    from psplit_eval.figures import Plot

__all__ = ["POLICY", "render", "shown"]

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'self'"
)
"""Content-Security-Policy of every page: no script, no request but the page's own forms."""

_MOST_CODES = 1_000
_SVG_UP_TO, _CSV_UP_TO = 300_000, 400_000
"""Bytes: greater ones are embedded as PNG, or not at all."""


def render(template: str, **content: Any) -> str:
    """A page from one of the templates; an undefined name in it raises jinja2.UndefinedError."""
    return _environment().get_template(template).render(**content)


def shown(text: object) -> Markup:
    """`text` as HTML that shows every letter of it, and nothing else.

    What cannot be seen, or would change the order of other letters, stands as its code. Only the
    first `_MOST_CODES` are elements with a name, so that no text makes a page that never opens.
    """
    safe, number = str(escape(str(text))), count()

    def coded(letter: str, times: int) -> str:
        return _code(letter, times, named=next(number) < _MOST_CODES)

    return Markup(visible(safe, coded))


def _code(letter: str, times: int, named: bool) -> str:
    code = f"U+{ord(letter):04X}" + (f" ×{times:,}" if times > 1 else "")
    if not named:
        return f"[{code}]"
    name = escape(unicodedata.name(letter, "control character").lower())
    return f'<span class="code" title="{name}">{code}</span>'


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("psplit_eval", "html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.globals["POLICY"] = POLICY
    found.filters |= {
        "embedded": _embedded,
        "numbers": _numbers,
        "plain": one_line,
        "shown": shown,
    }
    return found


def _embedded(plot: Plot) -> str:
    """The picture as an address that holds all of it."""
    if plot.svg.stat().st_size <= _SVG_UP_TO:
        return f"data:image/svg+xml;base64,{_base64(plot.svg.read_bytes())}"
    return f"data:image/png;base64,{_base64(plot.png.read_bytes())}"


def _numbers(plot: Plot) -> str:
    """Likewise its numbers; empty where they are too many."""
    if plot.csv.stat().st_size > _CSV_UP_TO:
        return ""
    return f"data:text/csv;base64,{_base64(plot.csv.read_bytes())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
