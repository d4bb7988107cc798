"""Text for one line of a terminal, a table or an error."""

from __future__ import annotations

__all__ = ["one_line", "shortened"]


def one_line(value: object) -> str:
    """Without line breaks and control characters, which could play with a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(value).split()))


def shortened(value: object, width: int) -> str:
    """One line of at most `width` characters; None is empty."""
    text = one_line("" if value is None else value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
