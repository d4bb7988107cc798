"""Look into a store without writing: counts, and rows for other tools. Nothing is migrated."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psplit_eval.database import damaged, store_errors
from psplit_eval.errors import CorruptStoreError, InfrastructureError
from psplit_eval.schema import MIGRATIONS
from psplit_eval.store import unpack_ids

__all__ = ["SampleCount", "count_samples", "few_rows", "reading", "sample_metrics", "stored_rows"]

_TABLES_OF_A_STORE = frozenset({"samples", "docs", "prompts", "metrics"})


@dataclass(frozen=True, slots=True)
class SampleCount:
    """What is stored of one mode on one task.

    `good` samples have no error; `truncated` and `scored` ones are among them. `tokens` sums their
    lengths as far as these are known. `docs` have a sample, good or failed.
    """

    mode: str
    task: str
    docs: int
    stored: int
    good: int
    truncated: int
    scored: int
    tokens: int


def count_samples(path: Path) -> list[SampleCount]:
    """Count by (task, mode), reading only: no sample is loaded, no store migrated.

    Empty for a store in which nothing was written yet. Each cell is a query of its own, so that a
    run that is writing is never held up for long. Raises CorruptStoreError, InfrastructureError.
    """
    with reading(path) as db:
        cells = few_rows(db, "SELECT DISTINCT task, mode FROM samples ORDER BY task, mode")
        return [
            SampleCount(*row)
            for cell in cells
            for row in few_rows(
                db,
                "SELECT mode, task, count(DISTINCT doc_id), count(*), "
                "count(*) FILTER (WHERE error IS NULL), "
                "count(*) FILTER (WHERE finish_reason = 'length'), "
                "count(*) FILTER (WHERE finish_reason = 'scored'), "
                "ifnull(sum(completion_tokens), 0) FROM samples WHERE task = ? AND mode = ?",
                cell,
            )
        ]


def sample_metrics(path: Path) -> list[str]:
    """Names of the metrics that single samples have, sorted. Reads only, like `count_samples`."""
    with reading(path) as db:
        query = "SELECT DISTINCT metric FROM metrics WHERE sample_idx IS NOT NULL ORDER BY metric"
        return [str(name) for (name,) in few_rows(db, query)]


# What `stored_rows` gives: a table's columns, where they come from, and its key.
_TABLES: Mapping[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "samples": (
        (
            *("s.mode", "s.task", "s.doc_id", "s.sample_idx", "d.doc", "d.target", "p.text"),
            *("s.text", "s.thought", "s.finish_reason", "s.finish_reason = 'length'", "s.error"),
            *("s.prompt_tokens", "s.completion_tokens", "s.entropy_sum_bits", "s.nll_sum_nats"),
            *("s.seed", "s.attempt", "s.seconds", "s.created_at", "s.doc_hash", "s.prompt_hash"),
            *("s.request_hash", "s.completion_ids", "s.is_greedy", "s.entropy_estimate_sum_bits"),
        ),
        "samples s LEFT JOIN docs d ON d.task = s.task AND d.doc_id = s.doc_id "
        "LEFT JOIN prompts p ON p.prompt_hash = s.prompt_hash AND p.mode = s.mode",
        ("s.mode", "s.task", "s.doc_id", "s.sample_idx"),
    ),
    "metrics": (
        ("mode", "task", "doc_id", "sample_idx", "metric", "value"),
        "metrics",
        ("mode", "task", "metric", "doc_id", "ifnull(sample_idx, -1)"),
    ),
    "prompts": (
        ("mode", "prompt_hash", "text", "token_ids"),
        "prompts",
        ("prompt_hash", "mode"),
    ),
    "cross_scores": (
        (
            *("mode", "task", "doc_id", "sample_idx", "policy", "tokens", "entropy_sum_bits"),
            *("nll_sum_bits", "kl_sum_bits", "kl_back_sum_bits", "js_sum_bits"),
        ),
        "cross_scores",
        ("mode", "task", "doc_id", "sample_idx", "policy"),
    ),
}
_CROSS_SCORES_SINCE = 5
_METRIC_OF_SAMPLE = (
    "(SELECT value FROM metrics m WHERE m.mode = s.mode AND m.task = s.task AND m.metric = ? "
    "AND m.doc_id = s.doc_id AND ifnull(m.sample_idx, -1) = s.sample_idx)"
)
_PAGE = 256


def stored_rows(path: Path, table: str, metrics: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows of 'samples', 'metrics', 'prompts' or 'cross_scores' by their key, reading only.

    A sample comes with doc (JSON text), target and prompt beside its own columns, and then its
    value of each of `metrics` (None where there is none). Token ids are JSON text. A page is read
    at a time: memory is bounded, and a run that is writing is never held up for long.
    Raises CorruptStoreError, InfrastructureError.
    """
    columns, source, key = _TABLES[table]
    selected = ", ".join((*key, *columns, *(_METRIC_OF_SAMPLE for _ in metrics)))
    order = ", ".join(key)
    place = f"WHERE ({order}) > ({', '.join('?' for _ in key)})"
    last: tuple[Any, ...] = ()
    with reading(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for since, column in ((2, "s.is_greedy"), (3, "s.entropy_estimate_sum_bits")):
            if version < since:
                selected = selected.replace(column, "NULL")
        if table == "cross_scores" and version < _CROSS_SCORES_SINCE:
            return
        while page := few_rows(
            db,
            f"SELECT {selected} FROM {source} {place if last else ''} ORDER BY {order} "
            f"LIMIT {_PAGE}",
            (*metrics, *last),
        ):
            last = page[-1][: len(key)]
            yield from (tuple(map(_ids_as_text, row[len(key) :])) for row in page)


def _ids_as_text(value: Any) -> Any:
    return json.dumps(unpack_ids(value)) if isinstance(value, bytes) else value


@contextmanager
def reading(
    path: Path, newest: int = len(MIGRATIONS), tables: frozenset[str] = _TABLES_OF_A_STORE
) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; text comes as it is, lone surrogates included.

    Of a store of samples, or of another database: its newest version, and tables that it has.
    Raises CorruptStoreError, InfrastructureError.
    """
    with store_errors(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        db.text_factory = _text
        try:
            _check_readable(db, path, newest, tables)
            yield db
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
                raise InfrastructureError(
                    f"store {path}: its run was killed in the middle of a write; give the run's "
                    "command again, or psplit-eval report RUN: both put it right"
                ) from error
            raise
        finally:
            db.close()


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError(f"text that is not UTF-8: {error.reason}") from error


def _check_readable(
    db: sqlite3.Connection, path: Path, newest: int, expected: frozenset[str]
) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version > newest:
        raise CorruptStoreError(
            f"store {path}: version {version}, expected at most {newest}; open it with a "
            "newer psplit"
        )
    if (tables or version) and not expected <= tables:
        raise CorruptStoreError(damaged(path, "tables are missing"))


def few_rows(
    db: sqlite3.Connection, query: str, values: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """All rows at once, so that no lock stays; none from a store that has no tables yet."""
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        return []
    return db.execute(query, values).fetchall()
