"""The run's SQLite file: every prompt, doc, sample and number, and nothing else.

A sample is committed with its whole work group in one transaction, so a kill leaves either all of
a group or none of it. Everything after sampling can be done again from this file alone.
"""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.database import Database, store_errors
from psplit_eval.errors import RunMismatchError
from psplit_eval.schema import MIGRATIONS
from psplit_eval.text import wellformed

__all__ = [
    "CrossScore",
    "CrossSums",
    "Doc",
    "Metric",
    "Moments",
    "Outcome",
    "Prompt",
    "Sample",
    "SampleKey",
    "Store",
    "unpack_ids",
]

SampleKey = tuple[str, str, int, int]
"""(mode, task, doc_id, sample_idx): what a sample is, whatever produced it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt as one mode sees it, with its exact token ids."""

    prompt_hash: str
    mode: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Doc:
    """One item of a task; `doc` is the row as the task sees it, `target` its reference answer."""

    task: str
    doc_id: int
    doc_hash: str
    doc: dict[str, Any]
    target: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated response, or (`error` set, `text` None) one that could not be had.

    `finish_reason` is 'stop', 'length' (truncated), 'scored' (a given answer whose log-probability
    was asked for: `sample_idx` is its number, `is_greedy` whether every token of it is the most
    probable one) or None (imported: not known). `completion_ids` are the ids as sampled, the end
    token included. `entropy_sum_bits` sums the Shannon entropy of the model's own
    next-token distribution (temperature 1, full vocabulary) over the completion's positions;
    `entropy_estimate_sum_bits` is the same sum where only the most probable tokens are known: all
    others count as one, so it is a lower bound. `nll_sum_nats` sums the negative log-probability of
    the sampled tokens. `thought` is what a thinking model wrote before its answer, `text`.
    """

    mode: str
    task: str
    doc_id: int
    sample_idx: int
    doc_hash: str
    request_hash: str
    prompt_hash: str
    seed: int | None
    attempt: int
    text: str | None
    thought: str | None
    completion_ids: tuple[int, ...] | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    entropy_sum_bits: float | None
    nll_sum_nats: float | None
    error: str | None
    seconds: float | None
    created_at: str
    is_greedy: bool | None = None
    entropy_estimate_sum_bits: float | None = None

    @property
    def key(self) -> SampleKey:
        return (self.mode, self.task, self.doc_id, self.sample_idx)

    @property
    def truncated(self) -> bool:
        """Cut by the token limit: counted as a wrong answer, and counted apart."""
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of one doc (`sample_idx` None) or of one sample; NaN where undefined."""

    mode: str
    task: str
    doc_id: int
    sample_idx: int | None
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class CrossScore:
    """One sample of `mode` under the prompt of `policy`: sums over its tokens, in bits.

    `entropy_sum_bits` and `nll_sum_bits` are the policy's; `kl_sum_bits` is KL(mode‖policy),
    `kl_back_sum_bits` KL(policy‖mode), `js_sum_bits` Jensen–Shannon, all at the sample's contexts.
    `by_token` (2, tokens), float32: KL(mode‖policy) and the policy's entropy; None where only sums
    are kept. NaN where undefined.
    """

    mode: str
    task: str
    doc_id: int
    sample_idx: int
    policy: str
    tokens: int
    entropy_sum_bits: float
    nll_sum_bits: float
    kl_sum_bits: float
    kl_back_sum_bits: float
    js_sum_bits: float
    by_token: bytes | None = None


class CrossSums(NamedTuple):
    """Sums over the samples of one doc; the fields are those of `CrossScore`."""

    policy: str
    doc_id: int
    samples: int
    tokens: int
    entropy_sum_bits: float
    nll_sum_bits: float
    kl_sum_bits: float
    kl_back_sum_bits: float
    js_sum_bits: float


class Outcome(NamedTuple):
    """What became of one sample, without its text; the fields are those of `Sample`."""

    doc_id: int
    good: bool
    finish_reason: str | None
    completion_tokens: int | None
    entropy_sum_bits: float | None
    entropy_estimate_sum_bits: float | None


class Moments(NamedTuple):
    """Number, sum and sum of squares of one metric over the samples of one doc."""

    number: int
    total: float
    squares: float

    @property
    def variance(self) -> float:
        """Of one sample, unbiased; NaN for fewer than two."""
        if self.number < 2:
            return math.nan
        return max(0.0, self.squares - self.total**2 / self.number) / (self.number - 1)


_METRIC = attrgetter(*(field.name for field in fields(Metric)))
_OF_CELL = "WHERE task = ? AND mode = ?"
_OF_SAMPLE = "WHERE mode = ? AND task = ? AND doc_id = ? AND sample_idx = ?"
_AT_ONCE = 500
"""Hashes looked up by one query."""
_SAMPLE_COLUMNS = ", ".join(field.name for field in fields(Sample))
_SAMPLE_SLOTS = ", ".join("?" for _ in fields(Sample))
_CROSS_COLUMNS = ", ".join(field.name for field in fields(CrossScore))
_CROSS_SLOTS = ", ".join("?" for _ in fields(CrossScore))
_CROSS = attrgetter(*(field.name for field in fields(CrossScore)))
_IDS_COLUMN, _GREEDY_COLUMN = (
    [field.name for field in fields(Sample)].index(name) for name in ("completion_ids", "is_greedy")
)


class Store(Database):
    """An open store, created or migrated to the newest version."""

    migrations = MIGRATIONS

    def add_plan(self, prompts: Iterable[Prompt], docs: Iterable[Doc]) -> None:
        """Record prompts and docs; those already there stay as they are."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO prompts VALUES (?, ?, ?, ?)",
                ((p.prompt_hash, p.mode, p.text, _pack(p.token_ids)) for p in prompts),
            )
            db.executemany(
                "INSERT OR IGNORE INTO docs VALUES (?, ?, ?, ?, ?)",
                ((d.task, d.doc_id, d.doc_hash, _to_json(d.doc), d.target) for d in docs),
            )

    def add_samples(self, samples: Iterable[Sample]) -> None:
        """Commit a work group, all or nothing. A sample replaces only a failed one of its key."""
        with self._transaction() as db:
            db.executemany(
                f"INSERT INTO samples ({_SAMPLE_COLUMNS}) VALUES ({_SAMPLE_SLOTS}) "
                "ON CONFLICT (mode, task, doc_id, sample_idx) DO UPDATE SET "
                + ", ".join(f"{f.name} = excluded.{f.name}" for f in fields(Sample))
                + " WHERE samples.error IS NOT NULL",
                (_sample_row(sample) for sample in samples),
            )

    def absorb(self, path: Path) -> None:
        """Copy prompts, docs and samples of another store, in one transaction.

        It is brought to the newest version, else only read. Raises RunMismatchError where both
        have the same sample.
        """
        with Store(path):
            pass
        with store_errors(path):
            self._db.execute("ATTACH ? AS part", (str(path),))
        try:
            with self._transaction() as db:
                for table in ("prompts", "docs"):
                    db.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM part.{table}")
                db.execute(
                    f"INSERT INTO samples ({_SAMPLE_COLUMNS}) "
                    f"SELECT {_SAMPLE_COLUMNS} FROM part.samples"
                )
        except sqlite3.IntegrityError as error:
            raise RunMismatchError(
                f"store {path}: has samples that {self.path} has, too; give every shard with the "
                "store that its own run wrote"
            ) from error
        finally:
            self._db.execute("DETACH part")

    def replace_metrics(self, task: str, metrics: Iterable[Metric]) -> None:
        """Put `metrics` in the place of all that are stored for `task`."""
        cells = self._cells("metrics", task)
        with self._transaction() as db:
            db.executemany("DELETE FROM metrics WHERE task = ? AND mode = ?", cells)
            db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", map(_METRIC, metrics))

    def attempts(self) -> Iterator[tuple[SampleKey, int, bool, str]]:
        """Of every sample: its key, attempts made, whether one succeeded, and its request hash."""
        rows = self._rows(
            "SELECT mode, task, doc_id, sample_idx, attempt, error IS NULL, request_hash "
            "FROM samples"
        )
        for row in rows:
            yield row[:4], row[4], bool(row[5]), row[6]

    def counts(self) -> dict[tuple[str, str], int]:
        """(mode, task) → samples, failed ones included."""
        rows = self._rows("SELECT mode, task, count(*) FROM samples GROUP BY mode, task")
        return {row[:2]: row[2] for row in rows}

    def _cells(
        self, table: str, task: str | None = None, mode: str | None = None
    ) -> list[tuple[str, str]]:
        """(task, mode) of what is stored, sorted; found by leaps, so a big table costs nothing."""
        if task is not None and mode is not None:
            return [(task, mode)]
        every = self._leaps(f"SELECT min(mode) FROM {table} WHERE mode > ?")
        modes = every if mode is None else [mode]
        tasks = f"SELECT min(task) FROM {table} WHERE mode = ? AND task > ?"
        found = [(name, of_mode) for of_mode in modes for name in self._leaps(tasks, of_mode)]
        return sorted(cell for cell in found if task in (None, cell[0]))

    def _leaps(self, query: str, *fixed: str) -> Iterator[str]:
        """Every value that a column has: what the query finds after the one before."""
        last: str | None = ""
        while (last := next(self._rows(query, (*fixed, last)))[0]) is not None:
            yield last

    def samples(
        self, task: str | None = None, mode: str | None = None, ids: bool = True
    ) -> Iterator[Sample]:
        """Samples by (task, mode, doc_id, sample_idx), failed ones included.

        Without `ids` their token ids are left out (None): they are most of what a sample weighs.
        """
        columns = _SAMPLE_COLUMNS if ids else _SAMPLE_COLUMNS.replace("completion_ids", "NULL")
        query = f"SELECT {columns} FROM samples {_OF_CELL} ORDER BY doc_id, sample_idx"
        for cell in self._cells("samples", task, mode):
            yield from map(_sample, self._rows(query, cell))

    def sample(self, key: SampleKey) -> Sample | None:
        """One sample; None where there is none."""
        query = f"SELECT {_SAMPLE_COLUMNS} FROM samples {_OF_SAMPLE}"
        return next(map(_sample, self._rows(query, key)), None)

    def sample_metric(self, key: SampleKey, metric: str) -> float | None:
        """One number of one sample; None where it is undefined or not there."""
        query = f"SELECT value FROM metrics {_OF_SAMPLE} AND metric = ?"
        for (value,) in self._rows(query, (*key, metric)):
            return None if value is None else float(value)
        return None

    def outcomes(self, task: str, mode: str) -> Iterator[Outcome]:
        """What became of every sample of a task in a mode, by (doc_id, sample_idx)."""
        rows = self._rows(
            "SELECT doc_id, error IS NULL, finish_reason, completion_tokens, entropy_sum_bits, "
            f"entropy_estimate_sum_bits FROM samples {_OF_CELL} ORDER BY doc_id, sample_idx",
            (task, mode),
        )
        return map(Outcome._make, rows)

    def doc_prompts(self, task: str, mode: str) -> dict[int, tuple[str, str]]:
        """Of every doc of a task in a mode: the doc's hash, and what names its prompts.

        A doc has several prompts where its answers are put into the question; the first and the
        last of their hashes stand for all.
        """
        rows = self._rows(
            "SELECT doc_id, min(doc_hash), min(prompt_hash) || max(prompt_hash) FROM samples "
            "WHERE task = ? AND mode = ? GROUP BY doc_id",
            (task, mode),
        )
        return {doc_id: (doc_hash, prompts) for doc_id, doc_hash, prompts in rows}

    def tokens(self) -> int:
        """Completion tokens of all samples, as far as their number is known."""
        ((total,),) = self._rows("SELECT total(completion_tokens) FROM samples")
        return int(total)

    def docs(self, task: str | None = None) -> Iterator[Doc]:
        """Docs by (task, doc_id)."""
        where, values = ("", ()) if task is None else ("WHERE task = ?", (task,))
        rows = self._rows(f"SELECT * FROM docs {where} ORDER BY task, doc_id", values)
        for name, doc_id, doc_hash, doc, target in rows:
            yield Doc(name, doc_id, doc_hash, json.loads(doc), target)

    def prompts(self, mode: str | None = None) -> Iterator[Prompt]:
        """Rendered prompts, by mode; all of them: `prompt_text` has one."""
        rows = self._rows(
            "SELECT * FROM prompts WHERE mode = ifnull(?, mode) ORDER BY mode, prompt_hash", (mode,)
        )
        for prompt_hash, name, text, ids in rows:
            yield Prompt(prompt_hash, name, text, unpack_ids(ids) or ())

    def prompt(self, prompt_hash: str, mode: str) -> Prompt | None:
        """One rendered prompt; None where there is none."""
        query = "SELECT text, token_ids FROM prompts WHERE prompt_hash = ? AND mode = ?"
        for text, ids in self._rows(query, (prompt_hash, mode)):
            return Prompt(prompt_hash, mode, text, unpack_ids(ids) or ())
        return None

    def metrics(
        self, task: str | None = None, mode: str | None = None, of_docs: bool = False
    ) -> Iterator[Metric]:
        """Stored numbers by (task, mode, metric, doc_id, sample_idx); SQL NULL reads as NaN.

        `of_docs`: only those of whole docs, not of single samples.
        """
        query = (
            f"SELECT mode, task, doc_id, sample_idx, metric, value FROM metrics {_OF_CELL} "
            f"{'AND sample_idx IS NULL ' if of_docs else ''}"
            "ORDER BY metric, doc_id, ifnull(sample_idx, -1)"
        )
        for cell in self._cells("metrics", task, mode):
            for name, of_task, doc_id, idx, metric, value in self._rows(query, cell):
                number = math.nan if value is None else value
                yield Metric(name, of_task, doc_id, idx, metric, number)

    def vectors(self, model: str, hashes: Iterable[str]) -> dict[str, bytes]:
        """Stored embeddings by text hash, as float32; those that are not there are left out."""
        found = self._of_hashes("text_hash, vector FROM embeddings", "text_hash", model, hashes)
        return dict(found)

    def add_vectors(self, model: str, vectors: Mapping[str, bytes]) -> None:
        """Keep embeddings by text hash; those already there stay as they are."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)",
                ((model, text_hash, vector) for text_hash, vector in vectors.items()),
            )

    def surprisals(self, model: str, hashes: Iterable[str]) -> dict[str, list[bytes]]:
        """Bits of every token, as float32, piece by piece, of the chains that are there."""
        query = "chain_hash, token_bits FROM surprisals"
        rows = self._of_hashes(query, "chain_hash", model, hashes, "ORDER BY chain_hash, piece")
        return {
            chain: [bits for _, bits in pieces] for chain, pieces in groupby(rows, itemgetter(0))
        }

    def add_surprisals(self, model: str, surprisals: Mapping[str, Sequence[bytes]]) -> None:
        """Keep the pieces of chains by chain hash; those already there stay as they are."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO surprisals VALUES (?, ?, ?, ?)",
                (
                    (model, chain, number, piece)
                    for chain, pieces in surprisals.items()
                    for number, piece in enumerate(pieces)
                ),
            )

    def add_cross_scores(self, scores: Iterable[CrossScore]) -> None:
        """Commit cross-scores, all or nothing; those of a key that is there are replaced."""
        with self._transaction() as db:
            db.executemany(
                f"INSERT OR REPLACE INTO cross_scores ({_CROSS_COLUMNS}) VALUES ({_CROSS_SLOTS})",
                map(_cross_row, scores),
            )

    def cross_scored(self, task: str, mode: str) -> Iterator[tuple[int, int, str]]:
        """Of every cross-score of a cell: doc, sample index and policy, by doc."""
        query = f"SELECT doc_id, sample_idx, policy FROM cross_scores {_OF_CELL} ORDER BY doc_id"
        for row in self._rows(query, (task, mode)):
            yield row[0], row[1], row[2]

    def forget_policy(self, policy: str) -> None:
        """Delete the cross-scores of a policy, whose prompt is another now."""
        with self._transaction() as db:
            db.execute("DELETE FROM cross_scores WHERE policy = ?", (policy,))

    def cross_sums(self, task: str, mode: str) -> Iterator[CrossSums]:
        """Sums by policy and doc, over the doc's samples in the mode; NaN if one is undefined."""
        names = CrossSums._fields[4:]
        sums = ", ".join(f"CASE WHEN count({n}) = count(*) THEN total({n}) END" for n in names)
        rows = self._rows(
            f"SELECT policy, doc_id, count(*), sum(tokens), {sums} FROM cross_scores {_OF_CELL} "
            "GROUP BY policy, doc_id ORDER BY policy, doc_id",
            (task, mode),
        )
        for policy, doc_id, samples, tokens, *values in rows:
            numbers = (math.nan if value is None else value for value in values)
            yield CrossSums(policy, doc_id, samples, tokens, *numbers)

    def cross_scores(self, task: str, mode: str, policy: str) -> Iterator[CrossScore]:
        """Cross-scores of a cell under one policy, by (doc_id, sample_idx)."""
        rows = self._rows(
            f"SELECT {_CROSS_COLUMNS} FROM cross_scores {_OF_CELL} AND policy = ? "
            "ORDER BY doc_id, sample_idx",
            (task, mode, policy),
        )
        for *known, blob in rows:
            values: list[Any] = [math.nan if value is None else value for value in known]
            values.append(None if blob is None else zlib.decompress(blob))
            yield CrossScore(*values)

    def _of_hashes(
        self, query: str, column: str, model: str, hashes: Iterable[str], order: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        wanted = iter(sorted(set(hashes)))
        while some := list(islice(wanted, _AT_ONCE)):
            slots = ", ".join("?" * len(some))
            where = f"WHERE model = ? AND {column} IN ({slots}) {order}"
            yield from self._rows(f"SELECT {query} {where}", (model, *some))

    def moments(self, task: str, mode: str) -> dict[str, dict[int, Moments]]:
        """metric → doc_id → moments of its values on the doc's single samples; undefined ones and
        what they are part of is left out."""
        query = (
            "SELECT metric, doc_id, count(*), total(value), total(value * value), count(value) "
            f"FROM metrics {_OF_CELL} AND sample_idx IS NOT NULL GROUP BY metric, doc_id"
        )
        found: dict[str, dict[int, Moments]] = {}
        for metric, doc_id, rows, total, squares, count in self._rows(query, (task, mode)):
            if rows == count:
                found.setdefault(metric, {})[doc_id] = Moments(count, total, squares)
        return found

    def right(self, task: str, mode: str) -> int | None:
        """Samples of a task in a mode that are graded as right; None where none is graded."""
        query = f"SELECT sum(value) FROM metrics {_OF_CELL} AND metric = 'correct'"
        (total,) = next(self._rows(query, (task, mode)))
        return None if total is None else int(total)


def _sample(row: Sequence[Any]) -> Sample:
    values = list(row)
    values[_IDS_COLUMN] = unpack_ids(values[_IDS_COLUMN])
    greedy = values[_GREEDY_COLUMN]
    values[_GREEDY_COLUMN] = None if greedy is None else bool(greedy)
    return Sample(*values)


def _sample_row(sample: Sample) -> list[Any]:
    values: list[Any] = [_storable(getattr(sample, field.name)) for field in fields(sample)]
    ids = values[_IDS_COLUMN]
    values[_IDS_COLUMN] = None if ids is None else _pack(ids)
    return values


def _cross_row(score: CrossScore) -> tuple[Any, ...]:
    *values, blob = _CROSS(score)
    return (*values, None if blob is None else zlib.compress(blob))


def _storable(value: Any) -> Any:
    return wellformed(value) if isinstance(value, str) else value


def _pack(ids: Iterable[int]) -> bytes:
    return zlib.compress(array("i", ids).tobytes())


def unpack_ids(blob: bytes | None) -> tuple[int, ...] | None:
    """Token ids as the store keeps them."""
    if blob is None:
        return None
    ids = array("i")
    ids.frombytes(zlib.decompress(blob))
    return tuple(ids)


def _to_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
