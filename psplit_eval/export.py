"""A table of a run (samples, metrics, judgements, …) as one file: JSON Lines, CSV or Parquet.

Rows are streamed from the store: memory doesn't grow with the run. The store is only read.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.files import disk_errors
from psplit_eval.glance import sample_metrics, stored_rows
from psplit_eval.ledger import LEDGER, Call, Ledger
from psplit_eval.replies import FIRST

__all__ = ["ENDINGS", "TABLES", "Exported", "export_run"]

Row = tuple[Any, ...]
Columns = Mapping[str, str]
"""Name → 'text', 'integer', 'number' or 'flag'."""

TABLES: Mapping[str, Columns] = {
    "samples": {
        "mode": "text",
        "task": "text",
        "doc_id": "integer",
        "sample_idx": "integer",
        "doc": "text",
        "target": "text",
        "prompt": "text",
        "text": "text",
        "thought": "text",
        "finish_reason": "text",
        "truncated": "flag",
        "error": "text",
        "prompt_tokens": "integer",
        "completion_tokens": "integer",
        "entropy_sum_bits": "number",
        "nll_sum_nats": "number",
        "seed": "integer",
        "attempt": "integer",
        "seconds": "number",
        "created_at": "text",
        "doc_hash": "text",
        "prompt_hash": "text",
        "request_hash": "text",
        "completion_ids": "text",
        "is_greedy": "flag",
        "entropy_estimate_sum_bits": "number",
    },
    "metrics": {
        "mode": "text",
        "task": "text",
        "doc_id": "integer",
        "sample_idx": "integer",
        "metric": "text",
        "value": "number",
    },
    "prompts": {"mode": "text", "prompt_hash": "text", "text": "text", "token_ids": "text"},
    "cross_scores": {
        "mode": "text",
        "task": "text",
        "doc_id": "integer",
        "sample_idx": "integer",
        "policy": "text",
        "tokens": "integer",
        "entropy_sum_bits": "number",
        "nll_sum_bits": "number",
        "kl_sum_bits": "number",
        "kl_back_sum_bits": "number",
        "js_sum_bits": "number",
    },
    "judgements": {
        "judge": "text",
        "rubric": "text",
        "kind": "text",
        "task": "text",
        "doc_id": "integer",
        "mode": "text",
        "sample_idx": "integer",
        "other_mode": "text",
        "other_idx": "integer",
        "dimension": "text",
        "value": "number",
        "unreadable": "text",
        "error": "text",
        "reply": "text",
        "detail": "text",
        "tries": "integer",
        "prompt_tokens": "integer",
        "completion_tokens": "integer",
        "rubric_hash": "text",
        "call_hash": "text",
        "created_at": "text",
    },
}
"""What can be exported, and its columns. Samples have their metrics as further columns."""

_BATCH = 1024


@dataclass(frozen=True)
class Exported:
    """What was written."""

    file: Path
    what: str
    rows: int
    columns: tuple[str, ...]
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        return {**asdict(self), "file": str(self.file), "columns": list(self.columns)}


def export_run(run: Path, out: Path, what: str = "samples", force: bool = False) -> Exported:
    """Write one table of the run to `out`, whole or not at all; its ending says the format.

    Samples come in the order of their key (mode, task, doc_id, sample_idx), failed ones included;
    judgements have a row a dimension, of which a missing verdict has no value.
    `doc`, `token_ids` and `completion_ids` are JSON text, `truncated` is undefined where the finish
    reason is not known. Undefined (NaN or absent) is null, and an empty cell in CSV; JSON has no
    infinity either, so that is null there, too. Text is written as it is, null bytes and newlines
    included. A lone surrogate, which UTF-8 cannot hold, is an escape (\\udXXX) in JSON Lines, and
    U+FFFD in CSV and Parquet.

    Raises UsageError for a folder without a store, for another ending, and for an existing `out`
    unless `force`; CorruptStoreError or InfrastructureError.
    """
    if what not in TABLES:
        raise UnknownNameError("table", what, TABLES)
    write = _writer(out)
    store = _store_of(run)
    _check_out(out, force)
    metrics = sample_metrics(store) if what == "samples" else []
    columns = {**TABLES[what], **{_metric_column(name): "number" for name in metrics}}
    found = _judgements(run) if what == "judgements" else stored_rows(store, what, metrics)
    rows = _Counted(_typed(found, columns))
    with _whole(out) as file:
        write(file, columns, rows)
    return Exported(out, what, rows.count, tuple(columns), out.stat().st_size)


def _judgements(run: Path) -> Iterator[Row]:
    if not (run / LEDGER).is_file():
        raise UsageError(f"{str(run)!r}: nothing is judged yet; psplit-eval judge {run}")
    with Ledger(run / LEDGER) as ledger:
        rubrics = ledger.rubrics()
        for judge, rubric_hash, kind, task in ledger.panels():
            rubric = rubrics[rubric_hash]
            names = list(rubric["dimensions"]) if kind == "scores" else [FIRST]
            for judgement, call in ledger.judged(judge, rubric_hash, kind, task):
                about = (*astuple(judgement)[3:9],)
                known = (call.unreadable, call.error, call.reply, _detail(call))
                spent = (call.tries, call.prompt_tokens, call.completion_tokens)
                for name in names:
                    value = call.verdict[name] if call.verdict else None
                    yield (
                        *(judge, rubric["name"], kind, *about, name, value, *known, *spent),
                        *(rubric_hash, call.call_hash, call.created_at),
                    )


def _detail(call: Call) -> str | None:
    return None if call.detail is None else json.dumps(call.detail, ensure_ascii=False)


def _metric_column(name: str) -> str:
    return f"metric_{name}" if name in TABLES["samples"] else name


def _store_of(run: Path) -> Path:
    store = run / "samples.sqlite"
    if not store.is_file():
        raise UsageError(
            f"{str(run)!r}: no run (expected a folder with samples.sqlite); psplit-eval runs list "
            "shows those below a folder"
        )
    return store


def _check_out(out: Path, force: bool) -> None:
    if out.is_dir():
        raise UsageError(f"--out {str(out)!r}: a folder, expected a file; give a file's name")
    if not out.parent.is_dir():
        raise UsageError(f"--out {str(out)!r}: no folder {str(out.parent)!r}; make it first")
    if out.exists() and not force:
        raise UsageError(f"--out {str(out)!r}: is there already; give another, or --force")


@contextmanager
def _whole(out: Path) -> Iterator[IO[bytes]]:
    """A hidden file beside `out` that takes its place when all is written."""
    partial = out.with_name(f".{out.name}.partial")
    with disk_errors(out):
        try:
            with partial.open("wb") as file:
                yield file
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)


class _Counted:
    """Rows that are counted as they pass."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row = next(self._rows)
        self.count += 1
        return row


def _typed(rows: Iterator[Row], columns: Columns) -> Iterator[Row]:
    kinds = [_KINDS[kind] for kind in columns.values()]
    for row in rows:
        yield tuple(
            None if value is None else kind(value) for kind, value in zip(kinds, row, strict=True)
        )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "text": str,
    "integer": int,
    "number": _number,
    "flag": bool,
}


def _json_lines(columns: Columns, rows: Iterator[Row]) -> Iterator[bytes]:
    for row in rows:
        finite = (None if isinstance(x, float) and math.isinf(x) else x for x in row)
        line = json.dumps(dict(zip(columns, finite, strict=True)), ensure_ascii=False)
        # the escape of a lone surrogate is that of JSON
        yield line.encode("utf-8", "backslashreplace") + b"\n"


def _write_jsonl(file: IO[bytes], columns: Columns, rows: Iterator[Row]) -> None:
    file.writelines(_json_lines(columns, rows))


def _write_jsonl_gz(file: IO[bytes], columns: Columns, rows: Iterator[Row]) -> None:
    # no name and no time: equal rows make equal files
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.writelines(_json_lines(columns, rows))


def _write_csv(file: IO[bytes], columns: Columns, rows: Iterator[Row]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    # RFC 4180's line ends: with others Python leaves a carriage return in a cell unquoted
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(map(_cell, row))
    text.detach()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _utf8(value)


def _write_parquet(file: IO[bytes], columns: Columns, rows: Iterator[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            cells = ([_utf8(value) for value in column] for column in zip(*batch, strict=True))
            arrays = [
                pyarrow.array(column, field.type)
                for column, field in zip(cells, schema, strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _utf8(value: Any) -> Any:
    """Text with U+FFFD in the place of every lone surrogate."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_WRITERS: Mapping[str, Callable[[IO[bytes], Columns, Iterator[Row]], None]] = {
    ".jsonl": _write_jsonl,
    ".jsonl.gz": _write_jsonl_gz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
ENDINGS = tuple(_WRITERS)


def _writer(out: Path) -> Callable[[IO[bytes], Columns, Iterator[Row]], None]:
    for ending, write in _WRITERS.items():
        if out.name.lower().endswith(ending):
            return write
    raise UsageError(f"--out {str(out)!r}: expected a name that ends in {', '.join(ENDINGS)}")
