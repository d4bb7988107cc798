"""Text for one line of a terminal, a table or an error."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

__all__ = [
    "columns",
    "cut",
    "markdown_text",
    "one_line",
    "shortened",
    "shortened_inside",
    "visible",
    "wellformed",
]

_MARKUP = re.compile(r"[\\`*\[\]|]|(?<!\w)_|_(?!\w)")
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]+"
)
"""Letters that show nothing, break lines, play with a terminal or turn the order of those around
them; a tab and a line feed are what they seem. Joiners (U+200C, U+200D) belong to scripts and
emoji."""


def one_line(value: object) -> str:
    """Without line breaks and control characters, which could play with a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(value).split()))


def visible(text: str, code: Callable[[str, int], str] | None = None) -> str:
    """The text with codes, such as ⟨U+202E⟩, for letters that cannot be seen or that move others.

    `code` writes one for a letter and how often it stands there in a row.
    """
    coded = code or _code

    def of(found: re.Match[str]) -> str:
        return "".join(coded(letter, len(list(same))) for letter, same in groupby(found[0]))

    return _UNSEEN.sub(of, text)


def _code(letter: str, count: int) -> str:
    return f"⟨U+{ord(letter):04X}{f' ×{count:,}' if count > 1 else ''}⟩"


def shortened(value: object, width: int) -> str:
    """One line of at most `width` characters; None is empty."""
    text = one_line("" if value is None else value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def cut(text: str, length: int) -> str:
    """At most so many characters of the text, and how many there are if that is not all."""
    if len(text) <= length:
        return text
    return f"{text[:length]} … ({len(text):,} characters in all)"


def shortened_inside(value: object, width: int) -> str:
    """One line of at most `width` characters, of which the first and the last ones are kept."""
    text = one_line(value)
    end = width // 2
    return text if len(text) <= width else f"{text[: width - end - 1]}…{text[len(text) - end :]}"


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Lines with columns of equal width; those in `right` end flush."""
    numbers = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown_text(text: str) -> str:
    """One line of text for Markdown, also inside a table: nothing in it is markup.

    Underscores inside words are none in GitHub's Markdown, so names keep them.
    """
    safe = html.escape(" ".join(text.split()), quote=False)
    return _MARKUP.sub(r"\\\g<0>", safe)


def wellformed(text: str) -> str:
    """The text with '?' for lone halves of surrogate pairs, which models write and UTF-8 lacks."""
    return text.encode("utf-8", "replace").decode("utf-8")
