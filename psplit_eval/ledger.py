"""What judges were asked and said: one SQLite file, beside a run's samples or of an audit.

A call is kept by its content, so that the same question to the same judge is paid for once.
Judgements say which call is about which samples. The file of samples is never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from typing import Any, NamedTuple

from psplit_eval.database import Database
from psplit_eval.text import wellformed

__all__ = ["ESTIMATED", "LEDGER", "Call", "Cell", "Judgement", "Ledger", "Spent"]

LEDGER = "judgements.sqlite"
"""Name of the file in a run's folder."""
ESTIMATED = "estimated_tokens"
"""Where a call's `detail` has about how many tokens were read and written, if it was not told."""

# Migration n takes a ledger from version n to version n + 1; released ones never change.
_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE judges (judge TEXT PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE rubrics (rubric_hash TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE calls (
        call_hash TEXT PRIMARY KEY, judge TEXT NOT NULL, rubric_hash TEXT NOT NULL,
        kind TEXT NOT NULL, verdict TEXT, unreadable TEXT, error TEXT, reply TEXT, detail TEXT,
        tries INTEGER NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER,
        seconds REAL NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE plans (
        judge TEXT NOT NULL, rubric_hash TEXT NOT NULL, kind TEXT NOT NULL, task TEXT NOT NULL,
        mode TEXT NOT NULL, other_mode TEXT NOT NULL, questions INTEGER NOT NULL,
        PRIMARY KEY (judge, rubric_hash, kind, task, mode, other_mode)) WITHOUT ROWID;
    CREATE TABLE judgements (
        judge TEXT NOT NULL, rubric_hash TEXT NOT NULL, kind TEXT NOT NULL, task TEXT NOT NULL,
        doc_id INTEGER NOT NULL, mode TEXT NOT NULL, sample_idx INTEGER NOT NULL,
        other_mode TEXT NOT NULL, other_idx INTEGER NOT NULL, call_hash TEXT NOT NULL,
        PRIMARY KEY (judge, rubric_hash, kind, task, doc_id, mode, sample_idx, other_mode,
            other_idx)) WITHOUT ROWID;
    """,
)
_AT_ONCE = 500
Cell = tuple[str, str, str, str]
"""(kind, task, mode, other mode): what questions are counted by."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a judge and what came of it.

    `kind` is 'scores' or 'choice'. `verdict` (see `replies.Verdict`), or why there is none:
    `unreadable` (the judge answered, twice, and no verdict could be read) or `error` (no answer:
    tried again later). `reply`: its last words. `detail`: what else is known, such as the
    probability that a local judge gave to all scores together. `prompt_tokens` and
    `completion_tokens` are sums over all `tries`; None: not known.
    """

    call_hash: str
    judge: str
    rubric_hash: str
    kind: str
    verdict: Mapping[str, float] | None
    unreadable: str | None
    error: str | None
    reply: str | None
    detail: Mapping[str, Any] | None
    tries: int
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    created_at: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which call is about which sample; of a choice, the sample that is shown first and the
    `other` one. Of scores `other_mode` is '' and `other_idx` −1."""

    judge: str
    rubric_hash: str
    kind: str
    task: str
    doc_id: int
    mode: str
    sample_idx: int
    other_mode: str
    other_idx: int
    call_hash: str


class Spent(NamedTuple):
    """What the calls of a judge have taken. Tokens as far as they are known, of `counted` calls;
    those of the others are estimated."""

    calls: int
    tries: int
    unreadable: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    counted: int
    estimated_read: float
    estimated_written: float


_SUMMED = ("tries", "prompt_tokens", "completion_tokens")
_CALL_COLUMNS = ", ".join(field.name for field in fields(Call))
_CALL_SLOTS = ", ".join("?" for _ in fields(Call))
_JUDGEMENT_COLUMNS = ", ".join(field.name for field in fields(Judgement))
_JUDGEMENT_SLOTS = ", ".join("?" for _ in fields(Judgement))


class Ledger(Database):
    """An open ledger, created or migrated to the newest version."""

    migrations = _MIGRATIONS
    remedy = (
        "restore it from a copy, or move it away and judge again: samples are in another file, but "
        "every answer is paid for anew"
    )

    def introduce(
        self,
        judge: str,
        settings: Mapping[str, Any],
        rubric_hash: str,
        content: Mapping[str, Any],
    ) -> bool:
        """Record who is asked by what; newer settings of a judge take the place of older ones.

        A judge whose 'identity' is another now is another judge: what it said before is no longer a
        judgement (its calls stay). Returns whether there was any.
        """
        known = self.judges().get(judge)
        other = known is not None and known.get("identity") != settings.get("identity")
        with self._transaction() as db:
            gone = 0
            for table in ("plans", "judgements") if other else ():
                gone = db.execute(f"DELETE FROM {table} WHERE judge = ?", (judge,)).rowcount
            db.execute("INSERT OR REPLACE INTO judges VALUES (?, ?)", (judge, _json(settings)))
            in_order = json.dumps(content, ensure_ascii=False)
            db.execute("INSERT OR REPLACE INTO rubrics VALUES (?, ?)", (rubric_hash, in_order))
        return gone > 0

    def plan(self, judge: str, rubric_hash: str, questions: Mapping[Cell, int]) -> None:
        """Record how many questions there are, so that those never answered can be missed."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO plans VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((judge, rubric_hash, *cell, number) for cell, number in questions.items()),
            )

    def planned(self, judge: str, rubric_hash: str) -> dict[Cell, int]:
        """How many questions there are by kind, task and mode or two modes."""
        rows = self._rows(
            "SELECT kind, task, mode, other_mode, questions FROM plans "
            "WHERE judge = ? AND rubric_hash = ?",
            (judge, rubric_hash),
        )
        return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}

    def add(self, calls: Iterable[Call], judgements: Iterable[Judgement] = ()) -> None:
        """Commit calls and what they are about, all or nothing.

        A call takes the place of a failed one of its content, and the tokens of both count.
        """
        update = ", ".join(
            f"{field.name} = excluded.{field.name}"
            for field in fields(Call)[1:]
            if field.name not in _SUMMED
        )
        sums = ", ".join(  # null only where both are
            f"{name} = coalesce(calls.{name} + excluded.{name}, calls.{name}, excluded.{name})"
            for name in _SUMMED
        )
        with self._transaction() as db:
            db.executemany(
                f"INSERT INTO calls ({_CALL_COLUMNS}) VALUES ({_CALL_SLOTS}) "
                f"ON CONFLICT (call_hash) DO UPDATE SET {update}, {sums} "
                "WHERE calls.error IS NOT NULL",
                map(_call_row, calls),
            )
            db.executemany(
                f"INSERT OR REPLACE INTO judgements ({_JUDGEMENT_COLUMNS}) "
                f"VALUES ({_JUDGEMENT_SLOTS})",
                map(astuple, judgements),
            )

    def answered(self, hashes: Iterable[str]) -> dict[str, Call]:
        """Calls by their hash, of those that are there and were answered, readably or not."""
        found: dict[str, Call] = {}
        wanted = iter(sorted(set(hashes)))
        while some := list(islice(wanted, _AT_ONCE)):
            slots = ", ".join("?" * len(some))
            rows = self._rows(
                f"SELECT {_CALL_COLUMNS} FROM calls WHERE call_hash IN ({slots}) AND error IS NULL",
                some,
            )
            found |= {row[0]: _call(row) for row in rows}
        return found

    def judged(
        self, judge: str, rubric_hash: str, kind: str, task: str
    ) -> Iterator[tuple[Judgement, Call]]:
        """Judgements of a task with their calls, by doc, modes and samples."""
        columns = ", ".join(f"j.{field.name}" for field in fields(Judgement))
        calls = ", ".join(f"c.{field.name}" for field in fields(Call))
        rows = self._rows(
            f"SELECT {columns}, {calls} FROM judgements j JOIN calls c USING (call_hash) "
            "WHERE j.judge = ? AND j.rubric_hash = ? AND j.kind = ? AND j.task = ? "
            "ORDER BY j.doc_id, j.mode, j.sample_idx, j.other_mode, j.other_idx",
            (judge, rubric_hash, kind, task),
        )
        width = len(fields(Judgement))
        for row in rows:
            yield Judgement(*row[:width]), _call(row[width:])

    def panels(self) -> list[tuple[str, str, str, str]]:
        """(judge, rubric_hash, kind, task) of all that was judged, sorted."""
        rows = self._rows(
            "SELECT DISTINCT judge, rubric_hash, kind, task FROM judgements ORDER BY 1, 2, 3, 4"
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def judges(self) -> dict[str, dict[str, Any]]:
        """Judge → its settings."""
        return {name: json.loads(text) for name, text in self._rows("SELECT * FROM judges")}

    def rubrics(self) -> dict[str, dict[str, Any]]:
        """Rubric hash → the rubric as `Rubric.to_dict` gave it."""
        return {name: json.loads(text) for name, text in self._rows("SELECT * FROM rubrics")}

    def spent(self, judge: str) -> Spent:
        """What all calls of a judge have taken, those that came to nothing included."""
        (row,) = self._rows(
            "SELECT count(*), ifnull(sum(tries), 0), count(unreadable), count(error), "
            "ifnull(sum(prompt_tokens), 0), ifnull(sum(completion_tokens), 0), "
            "count(prompt_tokens), ifnull(sum(json_extract(detail, ?)), 0), "
            "ifnull(sum(json_extract(detail, ?)), 0) FROM calls WHERE judge = ?",
            (f"$.{ESTIMATED}[0]", f"$.{ESTIMATED}[1]", judge),
        )
        return Spent(*row)


def _call_row(call: Call) -> list[Any]:
    values: list[Any] = list(astuple(call))
    for place, field in enumerate(fields(Call)):
        value = values[place]
        if field.name in ("verdict", "detail"):
            values[place] = None if value is None else _json(value)
        elif isinstance(value, str):
            values[place] = wellformed(value)
    return values


def _call(row: Sequence[Any]) -> Call:
    values = [
        json.loads(value) if field.name in ("verdict", "detail") and value is not None else value
        for field, value in zip(fields(Call), row, strict=True)
    ]
    return Call(*values)


def _json(value: object) -> str:
    return wellformed(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))
