"""One SQLite file with numbered migrations: whole transactions, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from psplit_eval.errors import CorruptStoreError, InfrastructureError

__all__ = ["REMEDY", "Database", "damaged", "store_errors"]

REMEDY = "restore it from a copy, or delete the run folder and run again"


class Database:
    """An open file. Use as a context manager; raises CorruptStoreError or InfrastructureError.

    Migration n of `migrations` takes a file from version n to version n + 1; released ones never
    change.
    """

    migrations: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = REMEDY
    """What to do about a damaged file."""

    def __init__(self, path: Path) -> None:
        """Open `path`, creating or migrating it to the newest version."""
        self.path = path
        with store_errors(path, self.remedy):
            self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._migrate()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @property
    def version(self) -> int:
        """Number of migrations the file has seen."""
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        with store_errors(self.path, self.remedy):
            (state,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise CorruptStoreError(damaged(self.path, state, self.remedy))
            if self.version > len(self.migrations):
                raise CorruptStoreError(
                    f"store {self.path}: version {self.version}, expected at most "
                    f"{len(self.migrations)}; open it with a newer psplit"
                )
            for number in range(self.version, len(self.migrations)):
                self._db.executescript(
                    f"BEGIN; {self.migrations[number]} PRAGMA user_version = {number + 1}; COMMIT;"
                )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with store_errors(self.path, self.remedy):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        with store_errors(self.path, self.remedy):
            # through map, since 'yield from' closes a cursor, and a closed store's cannot be
            yield from map(tuple, self._db.execute(query, values))


def damaged(path: Path, reason: object, remedy: str = REMEDY) -> str:
    """What is said of a store that cannot be read."""
    return f"store {path}: damaged or not a psplit store ({reason}); {remedy}"


@contextmanager
def store_errors(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn SQLite's errors into one line that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InfrastructureError(
            f"store {path}: {error}; free disk space or fix permissions, then give the same "
            "command again: what was done is kept"
        ) from error
    except sqlite3.IntegrityError:  # psplit's own mistake: the file is as good as before
        raise
    except (sqlite3.DatabaseError, zlib.error) as error:
        raise CorruptStoreError(damaged(path, error, remedy)) from error
