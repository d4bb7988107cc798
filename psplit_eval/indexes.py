"""Two files beside a run that make any of its samples quick to find: a list and an index of words.

They are made from the store, which is only read, a few rows at a time, so that a run that is
writing is never held up. Each is built under another name and moved into place when it is whole:
a kill leaves the run and an older file as they were. Deleting them costs the time to build them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.errors import InfrastructureError, PsplitError
from psplit_eval.glance import few_rows, reading
from psplit_eval.searching import folded

__all__ = ["FINISHES", "FOLDER", "Indexes", "Progress"]

FOLDER = ".view"
"""Where the files lie in a run's folder; in a temporary one where the run's cannot be written."""
FINISHES = ("stop", "length", "missing", "scored", "not known")
"""How a sample ended, by its number in the list. A missing one has an error in place of a text."""

_FORMAT = 1
_ROWS = 5_000
_BYTES = 8_000_000
"""Of text, about, that are read at once."""
_CALM = 10
"""A run that is being written changes all the time: its files are made again only after so many
times what it took to make them."""
_LIST = """
CREATE TABLE listed (
    task INTEGER NOT NULL, doc_id INTEGER NOT NULL, sample_idx INTEGER NOT NULL,
    mode INTEGER NOT NULL, sample INTEGER NOT NULL, finish INTEGER NOT NULL, correct INTEGER,
    tokens INTEGER, bits REAL, PRIMARY KEY (task, doc_id, sample_idx, mode)) WITHOUT ROWID;
CREATE TABLE cells (
    task INTEGER NOT NULL, mode INTEGER NOT NULL, docs INTEGER NOT NULL, samples INTEGER NOT NULL,
    missing INTEGER NOT NULL, truncated INTEGER NOT NULL, graded INTEGER NOT NULL,
    correct INTEGER NOT NULL, tokens INTEGER NOT NULL, measured INTEGER NOT NULL,
    bits REAL NOT NULL, PRIMARY KEY (task, mode)) WITHOUT ROWID;
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE raw (
    task INTEGER, doc_id INTEGER, sample_idx INTEGER, mode INTEGER, sample INTEGER, finish INTEGER,
    tokens INTEGER, bits REAL);
CREATE TEMP TABLE graded (
    task INTEGER, doc_id INTEGER, sample_idx INTEGER, mode INTEGER, correct INTEGER,
    PRIMARY KEY (task, doc_id, sample_idx, mode)) WITHOUT ROWID;
"""
_JOIN = """
INSERT INTO listed SELECT r.task, r.doc_id, r.sample_idx, r.mode, sample, finish,
    CASE WHEN finish = 2 THEN NULL ELSE correct END, tokens, bits
    FROM raw r LEFT JOIN graded USING (task, doc_id, sample_idx, mode) ORDER BY 1, 2, 3, 4;
INSERT INTO cells SELECT task, mode, count(DISTINCT doc_id), count(*), sum(finish = 2),
    sum(finish = 1), count(correct), total(correct), total(tokens),
    total(CASE WHEN bits IS NOT NULL THEN tokens END), total(bits) FROM listed GROUP BY task, mode;
"""
_WORDS = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(text, thought, content='', columnsize=0, tokenize='ascii');
"""
Said = Callable[[int], None]


@dataclass(frozen=True)
class Progress:
    """What is being built, and how many samples of how many have been read for it."""

    what: str
    done: int
    of: int


class Indexes:
    """The two files of a run. Safe to use from several threads; `close` at the end."""

    def __init__(
        self,
        store: Path,
        tasks: Sequence[str],
        modes: Sequence[str],
        graded: Mapping[str, str],
        calm: float = _CALM,
    ) -> None:
        """`tasks` and `modes` are listed in this order, and their numbers are places in it.

        `graded`: task → the metric that is 1 for a right sample and 0 for a wrong one.
        """
        self._store, self.graded, self._calm = store, dict(graded), calm
        self._names = (list(tasks), list(modes))
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.folder = self._writable(store.parent / FOLDER)
        self._lock = threading.Lock()
        self._building: dict[str, _Building] = {}
        self._stopped = threading.Event()

    def close(self) -> None:
        """Stop what is being built."""
        self._stopped.set()
        for building in list(self._building.values()):
            building.thread.join()
        if self._temporary:
            self._temporary.cleanup()

    def prepare(self, words: bool = False, patience: float = 1.5) -> Progress | None:
        """None where the list, and the `words` if wanted, are there and fit to the store.

        Else they are being built, and so far that has come, after so many seconds of `patience`.
        Raises what building raised.
        """
        until = time.monotonic() + patience
        for name in ("list", "words") if words else ("list",):
            building = self._started(name)
            if building is None:
                continue
            building.thread.join(max(0.0, until - time.monotonic()))
            if building.thread.is_alive():
                return Progress(name, building.done, building.of)
            error, building.error = building.error, None  # said once, then tried again
            if error is not None:
                raise error
        return None

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The list's tables, and `words` beside them if it was built. Call `prepare` before."""
        with closing(_opened(self._path("list"))) as db:
            if self._path("words").exists():
                db.execute("ATTACH ? AS found", (_address(self._path("words")),))
            yield db

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.sqlite"

    def _started(self, name: str) -> _Building | None:
        """The thread that builds the file; None where it is there already."""
        with self._lock:
            building = self._building.get(name)
            if building and (building.thread.is_alive() or building.error):
                return building
            state, known = self._state(name), self._known(name)
            if known == state or (known and self._just_built(building)):
                return None
            new = self._building[name] = _Building()
            new.thread = threading.Thread(target=self._build, args=(name, state, new), daemon=True)
            new.thread.start()
            return new

    def _just_built(self, building: _Building | None) -> bool:
        if building is None:
            return False
        return time.monotonic() - building.ended < self._calm * building.took

    def _state(self, name: str) -> str:
        """What the file has to be made of."""
        if name == "words":  # texts are the same after scoring
            return self._known("list", "texts") or "none"
        with self._store.open("rb") as file:
            changes = file.read(28)[24:].hex()  # SQLite's counter of transactions
        stat = self._store.stat()
        of = [_FORMAT, stat.st_size, stat.st_mtime_ns, changes]
        return json.dumps([*of, self._names, self.graded])

    def _known(self, name: str, what: str = "state") -> str | None:
        """What the file says that it was made of; None where there is none, or it is damaged."""
        if not self._path(name).exists():
            return None
        try:
            with closing(_opened(self._path(name))) as db:
                query = "SELECT value FROM about WHERE name = ?"
                found = db.execute(query, (what,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return str(found[0]) if found else None

    def _build(self, name: str, state: str, building: _Building) -> None:
        begun = time.monotonic()
        try:
            self._make(name, state, building)
        except _StoppedError:
            pass
        except PsplitError as error:
            building.error = error
        except (OSError, sqlite3.Error) as error:
            building.error = InfrastructureError(
                f"{self.folder}: {error}; free disk space or fix permissions, and load the page "
                "again: the run is as it was"
            )
        building.ended = time.monotonic()
        building.took = building.ended - begun

    def _make(self, name: str, state: str, building: _Building) -> None:
        self._sweep()
        fill = _fill_list if name == "list" else _fill_words
        new = self.folder / f"{name}.{os.getpid()}.{time.monotonic_ns()}.new"
        try:
            with closing(sqlite3.connect(new, isolation_level=None)) as db:
                # nobody sees the file before it is whole, so nothing has to be undone in it
                db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
                db.executescript(_LIST if name == "list" else _WORDS)
                with reading(self._store) as store:
                    building.of = _last_row(store)
                    names = _Names(list(self._names[0]), list(self._names[1]), self.graded)
                    about = fill(store, db, names, lambda done: self._said(building, done))
                about["state"] = state
                db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            new.replace(self._path(name))
        finally:
            new.unlink(missing_ok=True)

    def _said(self, building: _Building, done: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        building.done = done

    def _sweep(self) -> None:
        """Delete what a killed viewer left."""
        for left in self.folder.glob("*.new"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > 3_600:
                    left.unlink()

    def _writable(self, folder: Path) -> Path:
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            self._temporary = tempfile.TemporaryDirectory(prefix="psplit-view-")
            return Path(self._temporary.name)


class _Building:
    """A file that is being built in a thread of its own."""

    def __init__(self) -> None:
        self.thread = threading.Thread()
        self.done, self.of = 0, 0
        self.ended = self.took = 0.0
        self.error: PsplitError | None = None


class _Names(NamedTuple):
    """Tasks and modes; those that the manifest lacks come last."""

    tasks: list[str]
    modes: list[str]
    graded: Mapping[str, str]

    def numbers(self, mode: str, task: str) -> tuple[int, int]:
        """(task, mode) as numbers."""
        for names, name in ((self.tasks, task), (self.modes, mode)):
            if name not in names:
                names.append(name)
        return self.tasks.index(task), self.modes.index(mode)


class _StoppedError(Exception):
    """The viewer is being closed."""


def _address(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


def _opened(path: Path) -> sqlite3.Connection:
    """Files are replaced, never changed, so nobody needs a lock."""
    return sqlite3.connect(_address(path), uri=True, isolation_level=None)


def _last_row(store: sqlite3.Connection) -> int:
    found = few_rows(store, "SELECT ifnull(max(rowid), 0) FROM samples")
    return int(found[0][0]) if found else 0


def _fill_list(
    store: sqlite3.Connection, db: sqlite3.Connection, names: _Names, say: Said
) -> dict[str, str]:
    (version,) = store.execute("PRAGMA user_version").fetchone()
    estimate = "entropy_estimate_sum_bits" if version >= 3 else "NULL"
    query = (
        "SELECT rowid, mode, task, doc_id, sample_idx, finish_reason, error IS NOT NULL, "
        f"completion_tokens, ifnull(entropy_sum_bits, {estimate}), created_at, attempt "
        f"FROM samples WHERE rowid > ? ORDER BY rowid LIMIT {_ROWS}"
    )
    number, last, newest, attempts = 0, 0, "", 0
    db.execute("BEGIN")
    while page := few_rows(store, query, (last,)):
        db.executemany(
            "INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (_listed(row, names) for row in page),
        )
        last = page[-1][0]
        number += len(page)
        newest = max(newest, *(str(row[9]) for row in page))
        attempts += sum(row[10] for row in page)
        say(last)
    for task, metric in names.graded.items():
        for mode in list(names.modes):
            _grade(store, db, names, (mode, task, metric), lambda: say(last))
    for step in _JOIN.split(";")[:-1]:
        db.execute(step)
        say(last)
    db.execute("COMMIT")
    known = json.dumps([names.tasks, names.modes])
    return {"texts": f"{number}:{last}:{newest}:{attempts}", "names": known}


def _listed(row: Sequence[Any], names: _Names) -> tuple[Any, ...]:
    rowid, mode, task, doc_id, index, reason, failed, tokens, bits, *_ = row
    of_task, of_mode = names.numbers(mode, task)
    known = {"stop": 0, "length": 1, "scored": 3}
    finish = 2 if failed else known.get(reason, 4)
    return of_task, doc_id, index, of_mode, rowid, finish, tokens, bits


def _grade(
    store: sqlite3.Connection,
    db: sqlite3.Connection,
    names: _Names,
    of: tuple[str, str, str],
    say: Callable[[], None],
) -> None:
    """Which samples of a task in a mode are right; a value between is neither."""
    query = (
        "SELECT doc_id, ifnull(sample_idx, -1), value FROM metrics "
        "WHERE mode = ? AND task = ? AND metric = ? AND doc_id >= ? "
        "AND (doc_id, ifnull(sample_idx, -1)) > (?, ?) "
        f"ORDER BY doc_id, ifnull(sample_idx, -1) LIMIT {_ROWS}"
    )
    task, mode = names.numbers(of[0], of[1])
    place = (-1, -1)
    while page := few_rows(store, query, (*of, place[0], *place)):
        place = page[-1][:2]
        db.executemany(
            "INSERT INTO graded VALUES (?, ?, ?, ?, ?)",
            (
                (task, doc, index, mode, int(value))
                for doc, index, value in page
                if index >= 0 and value in (0, 1)
            ),
        )
        say()


def _fill_words(
    store: sqlite3.Connection, db: sqlite3.Connection, names: _Names, say: Said
) -> dict[str, str]:
    query = (
        "SELECT rowid, ifnull(text, ''), ifnull(thought, '') FROM samples "
        "WHERE rowid > ? ORDER BY rowid LIMIT ?"
    )
    last, rows = 0, 50
    db.execute("BEGIN")
    while page := few_rows(store, query, (last, rows)):
        db.executemany(
            "INSERT INTO words (rowid, text, thought) VALUES (?, ?, ?)",
            ((rowid, folded(text), folded(thought)) for rowid, text, thought in page),
        )
        last = page[-1][0]
        length = sum(len(text) + len(thought) for _, text, thought in page) / len(page)
        rows = int(min(2_000, max(1, _BYTES / (length + 1))))
        say(last)
    db.execute("COMMIT")
    return {}
