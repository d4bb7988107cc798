"""A stored run, page by page: which samples there are, and everything stored of one. Reads only.

What the pages of `viewing` show, as data. Texts of megabytes are cut before they leave the store.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.errors import InfrastructureError
from psplit_eval.glance import few_rows, reading
from psplit_eval.indexes import FINISHES, Indexes, Progress
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.manifest import Manifest, check_form, open_manifest
from psplit_eval.searching import Search, parsed

__all__ = [
    "ROWS_A_PAGE",
    "Cell",
    "DocView",
    "Filter",
    "JudgedSample",
    "Page",
    "Row",
    "SampleView",
    "StoredSamples",
]

ROWS_A_PAGE = 50
_BEGINNING = 300
"""Bytes of a text that a row of the list begins with."""
_SEARCHED = 100_000
"""Bytes of a text in which the first hit is looked for, to show what stands around it."""
_CROSS_SCORES_SINCE = 5
_ORDER = "task, doc_id, sample_idx, mode"
_LEDGER_TABLES = frozenset({"judges", "rubrics", "calls", "judgements"})


@dataclass(frozen=True)
class Filter:
    """Which samples: all of them, or those of a task, mode, doc, way to end (one of
    `indexes.FINISHES`), right (True) or wrong (False), and with words (see `searching.parsed`)."""

    task: str | None = None
    mode: str | None = None
    finish: str | None = None
    right: bool | None = None
    doc: int | None = None
    words: str = ""


class Row(NamedTuple):
    """A sample in the list. `right`: None where nothing is graded. `bits`: of entropy, summed over
    `tokens`. `text`: what it begins with, or, of a search, what stands around the first hit in text
    or thought; of a missing sample, its error. `cut`: where more of it stands before and behind."""

    task: str
    mode: str
    doc_id: int
    sample_idx: int
    finish: str
    right: bool | None
    tokens: int | None
    bits: float | None
    text: str = ""
    cut: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Page:
    """Rows by task, doc, sample index and mode; `total` of them on `pages`, of which this is
    `number`, from 1."""

    rows: Sequence[Row]
    total: int
    number: int
    pages: int


class Cell(NamedTuple):
    """One task in one mode. `bits` of entropy are known of samples with `measured` tokens."""

    task: str
    mode: str
    docs: int
    samples: int
    missing: int
    truncated: int
    graded: int
    right: int
    tokens: int
    measured: int
    bits: float


class JudgedSample(NamedTuple):
    """What a judge said: a verdict, or why there is none. `against`: the other sample of a choice,
    as (mode, sample index), and whether it was shown first."""

    judge: str
    rubric: str
    verdict: Mapping[str, float] | None
    trouble: str | None
    reply: str | None
    against: tuple[str, int, bool] | None


@dataclass(frozen=True)
class SampleView:
    """Everything stored of a sample; `columns` are those of `store.Sample` without token ids."""

    columns: Mapping[str, Any]
    prompt: str | None
    metrics: Sequence[tuple[str, float | None]]
    cross_scores: Sequence[Mapping[str, Any]]
    judged: Sequence[JudgedSample] = ()


@dataclass(frozen=True)
class DocView:
    """A doc, and samples of it: sample index → mode → sample. `indices` are all that there are;
    `metrics`: of the whole doc, by mode. `before` and `after`: ids of its neighbours."""

    task: str
    doc_id: int
    doc: Mapping[str, Any]
    target: str
    prompts: Mapping[str, str]
    modes: Sequence[str]
    indices: Sequence[int]
    samples: Mapping[int, Mapping[str, SampleView]]
    metrics: Mapping[str, Sequence[tuple[str, float | None]]]
    before: int | None = None
    after: int | None = None


@dataclass
class StoredSamples:
    """The samples of a run's folder. Safe to use from several threads; `close` at the end.

    Raises UsageError where there is no run. Methods raise CorruptStoreError and
    InfrastructureError; all but `sample` need `prepare` to have returned None before.
    """

    folder: Path
    manifest: Manifest = field(init=False)
    indexes: Indexes = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = check_form(open_manifest(self.folder), self.folder)
        self._store = self.folder / "samples.sqlite"
        with reading(self._store):
            pass
        modes = [str(mode["name"]) for mode in self.manifest["modes"]]
        self.indexes = Indexes(self._store, list(self.manifest["tasks"]), modes, self._graded())

    def _graded(self) -> dict[str, str]:
        """Of tasks whose single samples are right or wrong, the metric that says so."""
        scorers = {name: entry["scorer"] for name, entry in self.manifest["tasks"].items()}
        own = {name: "correct" for name, s in scorers.items() if s["kind"] == "accuracy"}
        stock = {n: str(s["primary"]) for n, s in scorers.items() if s["kind"] == "lm-eval"}
        return own | stock

    def close(self) -> None:
        """Stop what is being built."""
        self.indexes.close()

    def prepare(self, words: str = "", patience: float = 1.5) -> Progress | None:
        """None if all is there to list samples (and to search for `words`), else how far it is."""
        return self.indexes.prepare(bool(parsed(words).phrases), patience)

    def cells(self) -> list[Cell]:
        """Counts of every task in every mode, in the manifest's order."""
        with self._listing() as (db, tasks, modes):
            rows = db.execute("SELECT * FROM cells").fetchall()
        return [Cell(tasks[row[0]], modes[row[1]], *row[2:]) for row in rows]

    def values(self) -> list[dict[str, str]]:
        """Rows of leaderboard.csv as they are; empty where the run was not reported."""
        path = self.folder / "leaderboard.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def page(self, wanted: Filter, number: int = 1) -> Page:
        """Page `number` of the samples that are wanted; the last one where there are fewer."""
        with self._listing() as (db, tasks, modes):
            where, values = _condition(wanted, tasks, modes)
            (total,) = db.execute(f"SELECT count(*) FROM listed {where}", values).fetchone()
            pages = max(1, -(-total // ROWS_A_PAGE))
            number = min(max(1, number), pages)
            found = db.execute(
                f"SELECT * FROM listed {where} ORDER BY {_ORDER} LIMIT ? OFFSET ?",
                (*values, ROWS_A_PAGE, (number - 1) * ROWS_A_PAGE),
            ).fetchall()
        texts = self._texts([row[4] for row in found], wanted.words)
        rows = [
            Row(
                *(tasks[task], modes[mode], doc, index, FINISHES[finish]),
                *(None if right is None else bool(right), tokens, bits, *texts[sample]),
            )
            for task, doc, index, mode, sample, finish, right, tokens, bits in found
        ]
        return Page(rows, total, number, pages)

    def _texts(
        self, samples: Sequence[int], words: str
    ) -> dict[int, tuple[str, tuple[bool, bool]]]:
        """What is shown of each sample, and whether more stands before and behind it."""
        looked = parsed(words)
        length = _SEARCHED if looked.phrases else _BEGINNING
        query = (
            "SELECT substr(text, 1, ?), substr(thought, 1, ?), length(text), length(thought) FROM ("
            "SELECT CAST(ifnull(text, ifnull(error, '')) AS BLOB) AS text, "
            "CAST(ifnull(thought, '') AS BLOB) AS thought FROM samples WHERE rowid = ?)"
        )
        found = dict.fromkeys(samples, ("", (False, False)))
        with reading(self._store) as db:
            for sample in samples:
                for text, thought, *lengths in few_rows(db, query, (length, length, sample)):
                    found[sample] = _excerpt((text, thought), lengths, looked)
        return found

    def neighbours(self, task: str, doc_id: int) -> tuple[int | None, int | None]:
        """The docs before and after a doc of a task, of those with samples."""
        with self._listing() as (db, tasks, _):
            number = tasks.index(task) if task in tasks else -1
            near = [
                db.execute(
                    f"SELECT {which}(doc_id) FROM listed WHERE task = ? AND doc_id {sign} ?",
                    (number, doc_id),
                ).fetchone()[0]
                for which, sign in (("max", "<"), ("min", ">"))
            ]
        return near[0], near[1]

    def place(self, task: str, doc_id: int, index: int) -> int:
        """Which of its doc's sample indices one is, from 0."""
        with self._listing() as (db, tasks, _):
            query = (
                "SELECT count(DISTINCT sample_idx) FROM listed "
                "WHERE task = ? AND doc_id = ? AND sample_idx < ?"
            )
            number = tasks.index(task) if task in tasks else -1
            return int(db.execute(query, (number, doc_id, index)).fetchone()[0])

    def doc(self, task: str, doc_id: int, first: int = 0, count: int = 10) -> DocView | None:
        """A doc with `count` of its sample indices, from the `first`-th on; None: no such doc."""
        with self._listing() as (db, tasks, modes):
            number = tasks.index(task) if task in tasks else -1
            of = "FROM listed WHERE task = ? AND doc_id = ?"
            listed = db.execute(f"SELECT sample_idx, mode {of} ORDER BY {_ORDER}", (number, doc_id))
            cells = [(index, modes[mode]) for index, mode in listed]
        with reading(self._store) as db:
            row = few_rows(
                db, "SELECT doc, target FROM docs WHERE task = ? AND doc_id = ?", (task, doc_id)
            )
            if not row and not cells:
                return None
            indices = list(dict.fromkeys(index for index, _ in cells))
            some = set(indices[first : first + count])
            samples: dict[int, dict[str, SampleView]] = {index: {} for index in sorted(some)}
            for index, mode in cells:
                if index in some and (view := _sample(db, mode, task, doc_id, index)):
                    samples[index][mode] = view
            order = [mode for mode in modes if any(mode == name for _, name in cells)]
            metrics = {mode: _metrics(db, mode, task, doc_id, None) for mode in order}
        prompts = {
            mode: view.prompt
            for views in reversed(samples.values())
            for mode, view in views.items()
            if view.prompt is not None
        }
        content = json.loads(row[0][0]) if row else {}
        return DocView(
            *(task, doc_id, content, row[0][1] if row else "", prompts, order, indices, samples),
            *(metrics, *self.neighbours(task, doc_id)),
        )

    def sample(self, mode: str, task: str, doc_id: int, index: int) -> SampleView | None:
        """Everything stored of a sample, what judges said included; None: no such sample."""
        with reading(self._store) as db:
            view = _sample(db, mode, task, doc_id, index, scored=True)
        if view is None or not (self.folder / LEDGER).exists():
            return view
        judged = self._judged(mode, task, doc_id, index)
        return SampleView(view.columns, view.prompt, view.metrics, view.cross_scores, judged)

    def _judged(self, mode: str, task: str, doc_id: int, index: int) -> list[JudgedSample]:
        newest = len(Ledger.migrations)
        with reading(self.folder / LEDGER, newest, _LEDGER_TABLES) as db:
            panels = few_rows(
                db,
                "SELECT judge, rubric_hash, kind, content FROM judges, rubrics, "
                "(SELECT 'scores' AS kind UNION SELECT 'choice') ORDER BY 1, 4, 3 DESC",
            )
            query = (
                "SELECT j.mode, j.sample_idx, j.other_mode, j.other_idx, verdict, "
                "ifnull(unreadable, error), reply FROM judgements j JOIN calls USING (call_hash) "
                "WHERE j.judge = ? AND j.rubric_hash = ? AND j.kind = ? AND j.task = ? "
                "AND j.doc_id = ?"
            )
            return [
                _said(judge, content, row, (mode, index))
                for judge, rubric, kind, content in panels
                for row in few_rows(db, query, (judge, rubric, kind, task, doc_id))
                if (mode, index) in (row[:2], row[2:4])
            ]

    @contextmanager
    def _listing(self) -> Iterator[tuple[sqlite3.Connection, list[str], list[str]]]:
        """The list, and the names of its tasks and modes by number."""
        try:
            with self.indexes.opened() as db:
                query = "SELECT value FROM about WHERE name = 'names'"
                tasks, modes = json.loads(db.execute(query).fetchone()[0])
                yield db, tasks, modes
        except sqlite3.DatabaseError as error:
            raise InfrastructureError(
                f"{self.indexes.folder}: damaged ({error}); delete this folder: it is made again"
            ) from error


def _condition(
    wanted: Filter, tasks: Sequence[str], modes: Sequence[str]
) -> tuple[str, list[object]]:
    """An SQL condition; names that are not there fit to nothing."""
    known = {
        "task": (wanted.task, tasks),
        "mode": (wanted.mode, modes),
        "finish": (wanted.finish, FINISHES),
    }
    parts, values = [], list[object]()
    for column, (name, names) in known.items():
        if name is not None:
            parts.append(f"{column} = ?")
            values.append(names.index(name) if name in names else -1)
    for column, value in (("correct", wanted.right), ("doc_id", wanted.doc)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(int(value))
    search = parsed(wanted.words)
    if search.phrases:
        parts.append("sample IN (SELECT rowid FROM found.words WHERE words MATCH ?)")
        values.append(search.expression)
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), values


def _excerpt(
    parts: tuple[bytes | None, bytes | None], lengths: Sequence[int], looked: Search
) -> tuple[str, tuple[bool, bool]]:
    """What stands around the first hit in text or thought, or the text's beginning; and whether
    more stands before and behind it. `parts` begin what is `lengths` bytes long."""
    begins = [part or b"" for part in parts]  # SQLite gives no part of nothing
    text, thought = (part.decode("utf-8", "ignore") for part in begins)
    whole, place = lengths[0] <= len(begins[0]), 0
    if looked.phrases:
        places = looked.places(text)
        if not places and (places := looked.places(thought)):
            text, whole = thought, lengths[1] <= len(begins[1])
        place = min(places)[0] if places else 0
    start = max(0, place - _BEGINNING // 4)
    end = start + _BEGINNING
    return text[start:end], (start > 0, end < len(text) or not whole)


def _sample(
    db: sqlite3.Connection, mode: str, task: str, doc_id: int, index: int, scored: bool = False
) -> SampleView | None:
    key = (mode, task, doc_id, index)
    names = [row[0] for row in few_rows(db, "SELECT name FROM pragma_table_info('samples')")]
    rows = few_rows(
        db,
        "SELECT * FROM samples WHERE mode = ? AND task = ? AND doc_id = ? AND sample_idx = ?",
        key,
    )
    if not rows:
        return None
    columns = dict(zip(names, rows[0], strict=True))
    del columns["completion_ids"]
    prompt = few_rows(
        db,
        "SELECT text FROM prompts WHERE prompt_hash = ? AND mode = ?",
        (columns["prompt_hash"], mode),
    )
    crossed = _cross_scores(db, key) if scored else []
    metrics = _metrics(db, *key)
    return SampleView(columns, prompt[0][0] if prompt else None, metrics, crossed)


def _metrics(
    db: sqlite3.Connection, mode: str, task: str, doc_id: int, index: int | None
) -> list[tuple[str, float | None]]:
    """By name; found by leaps from name to name, as the index begins with mode, task and name."""
    leap = "SELECT min(metric) FROM metrics WHERE mode = ? AND task = ? AND metric > ?"
    value = (
        "SELECT value FROM metrics WHERE mode = ? AND task = ? AND metric = ? AND doc_id = ? "
        "AND ifnull(sample_idx, -1) = ?"
    )
    found, last = [], ""
    while (name := few_rows(db, leap, (mode, task, last))[0][0]) is not None:
        place = (mode, task, name, doc_id, -1 if index is None else index)
        found += [(name, row[0]) for row in few_rows(db, value, place)]
        last = name
    return found


def _cross_scores(
    db: sqlite3.Connection, key: tuple[str, str, int, int]
) -> list[Mapping[str, Any]]:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < _CROSS_SCORES_SINCE:
        return []
    sums = ("entropy_sum_bits", "nll_sum_bits", "kl_sum_bits", "kl_back_sum_bits", "js_sum_bits")
    names = ("policy", "tokens", *sums)
    rows = few_rows(
        db,
        f"SELECT {', '.join(names)} FROM cross_scores "
        "WHERE mode = ? AND task = ? AND doc_id = ? AND sample_idx = ? ORDER BY policy",
        key,
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _said(judge: str, content: str, row: Sequence[Any], sample: tuple[str, int]) -> JudgedSample:
    mode, index, other_mode, other_index, verdict, trouble, reply = row
    first = (mode, index) == sample
    against = (other_mode, other_index, False) if first else (mode, index, True)
    return JudgedSample(
        judge,
        str(json.loads(content).get("name", "")),
        None if verdict is None else json.loads(verdict),
        trouble,
        reply,
        against if other_mode else None,
    )
