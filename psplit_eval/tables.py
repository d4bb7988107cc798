"""A table of text, for every form of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import fill

from psplit_eval.text import columns, visible

__all__ = ["Table", "tables_text"]

_WIDTH = 100
"""Letters in a line of a terminal."""


@dataclass(frozen=True)
class Table:
    """A titled table; every cell is text. `grey`: rows that are shown, and are no evidence."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    grey: frozenset[int] = frozenset()
    prose: bool = False
    """Its last column has sentences: a page breaks them into lines, a terminal has no room."""


def tables_text(tables: Iterable[Table]) -> str:
    """For a terminal: title, what it means, and columns; a table without rows is left out."""
    return "\n\n".join(_text(table) for table in tables if table.rows)


def _text(table: Table) -> str:
    rows = [tuple(map(visible, row)) for row in (table.header, *table.rows)]
    return "\n".join([table.title, fill(table.note, _WIDTH), "", *columns(rows)])
