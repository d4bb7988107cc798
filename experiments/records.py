"""Records: all that a study keeps of one training, small enough to be committed.

Numbers are by doc and seed, so whatever is compared later is paired by doc and clustered by seed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from psplit_eval.errors import DataError
from psplit_eval.files import write_bytes

__all__ = [
    "STOPPED",
    "Creative",
    "Evaluation",
    "Means",
    "Record",
    "read_records",
    "read_stopped",
    "record_path",
    "write_record",
]

STOPPED = "stopped"

Values = Mapping[str, Sequence[float]]
"""Metric → a value a doc."""

Creative = Mapping[str, Mapping[str, Values]]
"""Task → mode → metric → a value a doc, NaN where it is not defined. A task's first metric is the
one that decides a comparison."""


@dataclass(frozen=True)
class Evaluation:
    """Of one checkpoint. `docs`: task → the docs' hashes, in the order of all values. `values`:
    task → mode → metric → a value a doc; `bits` and `tokens` are sums over a doc's samples, whose
    ratio is the entropy."""

    step: int
    docs: Mapping[str, Sequence[str]]
    values: Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True)
class Means:
    """What the report on a checkpoint said, of which the answers are gone. `values`: task → mode →
    metric, as psplit_eval calls it → mean over docs."""

    step: int
    values: Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Record:
    """One training. `config`: SHA-256 of what it was given (`study.digest`); `study`: of what else
    it depends on (`Study.frame`), empty where it was not written down. `log`: measure → a mean a
    window of `window` steps, NaN of one without entries. `alarms`: what the monitor said.
    `splits`: psplit_eval's findings on each other prompt at the last checkpoint, on held-out docs
    (KL and entropy gap to normal, beyond each placebo). `creative`: of creative tasks there, where
    the study has any. `temperatures`: each of the study's → values of held-out docs, by the normal
    mode there. `seconds`: of training.

    Of a training that was stopped, `steps` is how far it came, in its evaluations' place there are
    `means`, as far as it was measured, and no alarms are known of it."""

    arm: str
    seed: int
    settings: Mapping[str, str]
    config: str
    versions: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    splits: Sequence[Mapping[str, Any]]
    window: int
    log: Values = field(default_factory=dict)
    alarms: Sequence[str] = field(default_factory=list)
    seconds: float = 0.0
    steps: int | None = None
    creative: Creative = field(default_factory=dict)
    temperatures: Mapping[str, Values] = field(default_factory=dict)
    means: Sequence[Means] = field(default_factory=list)
    study: str = ""


def record_path(folder: Path, arm: str, seed: int) -> Path:
    """Where the record of a training is."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in arm.lower())
    return folder / f"{safe}-{seed}.json.gz"


def write_record(folder: Path, record: Record) -> Path:
    """Write it whole or not at all; the same record gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_path(folder, record.arm, record.seed)
    text = json.dumps({"format": 1, **asdict(record)}, ensure_ascii=False)
    write_bytes(path, gzip.compress(text.encode(), mtime=0))
    return path


def read_records(folder: Path) -> list[Record]:
    """All records of a study, by arm and seed. Raises DataError for a file that is none."""
    records = [_read(path) for path in sorted(folder.glob("*.json.gz"))]
    return sorted(records, key=lambda record: (record.arm, record.seed))


def read_stopped(folder: Path) -> list[Record]:
    """Those of trainings that were stopped and not gone on with since; they are kept apart."""
    stopped = read_records(folder / STOPPED)
    return [each for each in stopped if not record_path(folder, each.arm, each.seed).is_file()]


def _read(path: Path) -> Record:
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content.pop("format") != 1:
            raise ValueError("another format")
        content["evaluations"] = [Evaluation(**each) for each in content["evaluations"]]
        content["means"] = [Means(**each) for each in content.get("means", ())]
        return Record(**content)
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: no record of a training ({error}); restore it") from error
