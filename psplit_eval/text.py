"""Text for one line of a terminal, a table or an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["columns", "one_line", "shortened", "shortened_inside", "wellformed"]


def one_line(value: object) -> str:
    """Without line breaks and control characters, which could play with a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(value).split()))


def shortened(value: object, width: int) -> str:
    """One line of at most `width` characters; None is empty."""
    text = one_line("" if value is None else value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


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


def wellformed(text: str) -> str:
    """The text with '?' for lone halves of surrogate pairs, which models write and UTF-8 lacks."""
    return text.encode("utf-8", "replace").decode("utf-8")
