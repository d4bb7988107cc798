"""Rows of tasks: read from a file, checked, and named by their content."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psplit_eval.errors import DataError
from psplit_eval.requests import digest
from psplit_eval.store import Doc

__all__ = ["check_rows", "new_doc", "read_rows"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file (.jsonl or .jsonl.gz); raises DataError naming the bad line."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            lines = [line for line in file if line.strip()]
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(
            f"data file {str(path)!r}: cannot be read ({error.__class__.__name__}); expected JSON "
            "Lines in UTF-8"
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # no text: a lone surrogate
        except ValueError as error:
            raise DataError(
                f"data file {str(path)!r}, line {number}: not JSON in UTF-8 ({error})"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"data file {str(path)!r}, line {number}: expected a JSON object")
        rows.append(row)
    if not rows:
        raise DataError(f"data file {str(path)!r}: empty; expected one JSON object a line")
    return rows


def check_rows(
    rows: Sequence[Mapping[str, Any]], needed: Iterable[str], path: Path, task: str, filled: bool
) -> None:
    """Raise DataError for a row that lacks a needed field, or has another kind of value in one.

    With `filled` an empty text is no value.
    """
    needed = sorted(needed)
    empty = (None, "") if filled else (None,)
    kinds: dict[str, type] = {}
    for number, row in enumerate(rows, 1):
        missing = [name for name in needed if row.get(name) in empty]
        if missing:
            raise DataError(
                f"data file {str(path)!r}, row {number}: no {', '.join(missing)}; task {task!r} "
                f"needs {', '.join(needed)}"
            )
        for name, value in row.items():
            kind = kinds.setdefault(name, type(value)) if value is not None else type(None)
            if value is not None and kind is not type(value):
                raise DataError(
                    f"data file {str(path)!r}, row {number}: {name} is {type(value).__name__}, in "
                    f"the rows before it {kind.__name__}; give it one kind of value"
                )


def new_doc(task: str, doc_id: int, content: dict[str, Any], target: str) -> Doc:
    """A doc with the hash of its content.

    Fields without a value are not hashed: tables fill them in where another row has a value.
    """
    return Doc(task, doc_id, digest(_without_nulls(content)), content, target)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
