"""Which runs there are, what is in each, and which can go.

A run folder holds `samples.sqlite` and `manifest.json` of format 1. Nothing is loaded or migrated
to look at it, and nothing that psplit did not write is ever deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from psplit_eval.errors import InfrastructureError, PsplitError, RunMismatchError, UsageError
from psplit_eval.files import disk_errors
from psplit_eval.glance import SampleCount, count_samples
from psplit_eval.manifest import Manifest, locked, open_manifest
from psplit_eval.text import columns, one_line, shortened

__all__ = [
    "Cell",
    "Pruned",
    "Run",
    "describe_run",
    "description_text",
    "find_runs",
    "prune_runs",
    "pruned_text",
    "runs_text",
]

_STORE = "samples.sqlite"
_FILES = frozenset(
    {
        "manifest.json",
        *(f"{_STORE}{ending}" for ending in ("", "-journal", "-wal", "-shm")),
        "leaderboard.csv",
        "comparison.json",
        "divergence.json",
        "report.md",
        "report.html",
        *("training_log.jsonl", "trainer_state.json"),  # the checkpoint's
    }
)
_PLOTS = frozenset(
    f"{name}{ending}"
    for name in (
        *("accuracy", "pass_at_k", "entropy", "diversity", "tradeoff", "kl_by_position"),
        *("entropy_by_position", "modes_matrix", "beyond_placebos", "overlap", "complement"),
        *("judge_scores", "win_rates", "training"),
    )
    for ending in (".png", ".svg", ".csv")
)
_VIEWED = frozenset({"list.sqlite", "words.sqlite"})
_FOLDERS = {"plots": _PLOTS, ".view": _VIEWED}
_NO_MANIFEST = "no manifest.json: killed before its first sample"
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Cell:
    """One mode on one task: samples asked for, and what became of them.

    `not_drawn` is what was asked for, less those that were tried. Where the manifest does not say
    how many were asked for, docs × samples a doc are taken for it (of scored answers: docs).
    """

    mode: str
    task: str
    good: int
    failed: int
    not_drawn: int
    truncated: int
    tokens: int

    @property
    def missing(self) -> int:
        """Samples that are asked for and not there."""
        return self.failed + self.not_drawn


@dataclass(frozen=True)
class Run:
    """A run folder at a glance; `problem` says why one cannot be read, `cells` is None then.

    `shard`: 'I/N' of a part that `psplit-eval merge` joins with the others.
    """

    folder: Path
    size_bytes: int
    created: datetime | None = None
    model: str = ""
    modes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    cells: tuple[Cell, ...] | None = None
    problem: str | None = None
    shard: str | None = None

    @property
    def good(self) -> int | None:
        """Samples without an error; None where the store cannot be read."""
        return None if self.cells is None else sum(cell.good for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` prints; numbers that are not known are null."""
        cells = self.cells
        return {
            "run": str(self.folder),
            "model": self.model or None,
            "modes": list(self.modes),
            "tasks": list(self.tasks),
            "samples": self.good,
            "missing": None if self.problem else sum(cell.missing for cell in cells or ()),
            "failed": None if cells is None else sum(cell.failed for cell in cells),
            "created_at": self.created.isoformat() if self.created else None,
            "size_bytes": self.size_bytes,
            "problem": self.problem,
            "shard": self.shard,
        }


def find_runs(root: Path) -> list[Run]:
    """Every run in `root` and below, newest first, those that cannot be read last.

    Hidden folders, links and the insides of runs are not searched. Raises UsageError where `root`
    is no folder.
    """
    if not root.is_dir():
        raise UsageError(
            f"{str(root)!r}: no such folder, expected one that holds runs; give its path, or make "
            "a run with psplit-eval run"
        )
    found = [_look_at(folder) for folder in _run_folders(root)]
    return sorted(found, key=_newest_first)


def _newest_first(run: Run) -> tuple[bool, timedelta, str]:
    age = _LATEST - run.created if run.created else timedelta.max
    return run.problem is not None, age, str(run.folder)


def _run_folders(root: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(root):
        if _STORE in files:
            folders.clear()
            yield Path(name)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))


def _look_at(folder: Path) -> Run:
    """A run that may be broken."""
    size = sum(_size(path) for path in _contents(folder))
    try:
        counts = count_samples(folder / _STORE)
    except PsplitError as error:
        return Run(folder, size, problem=one_line(str(error)))
    if not (folder / "manifest.json").exists():
        good = sum(count.good for count in counts)
        problem = "no manifest.json" if good else _NO_MANIFEST
        return Run(folder, size, cells=tuple(_cells({}, counts)), problem=problem)
    try:
        return _readable(folder, size, _manifest(folder), counts)
    except PsplitError as error:
        return Run(folder, size, cells=tuple(_cells({}, counts)), problem=one_line(str(error)))


def _manifest(folder: Path) -> Manifest:
    try:
        return open_manifest(folder)
    except RunMismatchError as error:
        raise RunMismatchError(
            f"{folder / 'manifest.json'}: no manifest of format 1 ({error.__cause__!r}); restore "
            "it from a copy"
        ) from error


def _readable(folder: Path, size: int, manifest: Manifest, counts: Iterable[SampleCount]) -> Run:
    try:
        return Run(
            folder,
            size,
            created=_created(manifest),
            model=one_line(str((manifest.get("checkpoint") or {}).get("name") or "")),
            modes=tuple(str(mode["name"]) for mode in manifest["modes"]),
            tasks=tuple(manifest["tasks"]),
            cells=tuple(_cells(manifest, counts)),
            shard=_shard(manifest),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunMismatchError(
            f"{folder / 'manifest.json'}: not of the form that psplit writes ({error!r}); restore "
            "it from a copy"
        ) from error


def _shard(manifest: Manifest) -> str | None:
    shard = manifest.get("shard")
    return f"{int(shard['index'])}/{int(shard['count'])}" if shard else None


def _created(manifest: Manifest) -> datetime | None:
    given = manifest.get("created_at")
    if given is None:
        return None
    made = datetime.fromisoformat(given)
    return made.astimezone(UTC) if made.tzinfo else made.replace(tzinfo=UTC)


def _cells(manifest: Manifest, counts: Iterable[SampleCount]) -> Iterator[Cell]:
    """Cells of the manifest's tasks and modes, in its order; then any others of the store."""
    stored = {(count.task, count.mode): count for count in counts}
    planned = {
        (task, mode["name"]): entry
        for task, entry in manifest.get("tasks", {}).items()
        for mode in manifest.get("modes", [])
    }
    for task, mode in {**planned, **stored}:
        count = stored.get((task, mode), SampleCount(mode, task, 0, 0, 0, 0, 0, 0))
        failed, left = count.stored - count.good, _not_drawn(planned.get((task, mode), {}), count)
        yield Cell(mode, task, count.good, failed, left, count.truncated, count.tokens)


def _not_drawn(entry: Mapping[str, Any], count: SampleCount) -> int:
    asked = (entry.get("asked") or {}).get(count.mode)
    if asked is not None:
        return max(int(asked) - count.stored, 0)
    docs, samples = int(entry.get("docs") or 0), int(entry.get("samples") or 0)
    return max(docs - count.docs if count.scored else docs * samples - count.stored, 0)


def runs_text(runs: Sequence[Run], root: Path) -> str:
    """`runs list` for people."""
    if not runs:
        return f"no runs in {root}"
    head = ("run", "model", "modes", "tasks", "samples", "missing", "created (UTC)", "size")
    lines = columns([head, *(_run_row(run) for run in runs if not run.problem)], right={4, 5, 7})
    broken = [run for run in runs if run.problem]
    if len(broken) == len(runs):
        lines = []
    if broken:
        lines += ["", "broken:"] if lines else ["broken:"]
        lines += [f"  {run.folder} ({_size_text(run.size_bytes)}): {run.problem}" for run in broken]
    return "\n".join(lines)


def _run_row(run: Run) -> tuple[str, ...]:
    entry = run.to_dict()
    missing = str(entry["missing"]) + (f" ({entry['failed']} failed)" if entry["failed"] else "")
    return (
        f"{run.folder} (shard {run.shard})" if run.shard else str(run.folder),
        run.model if len(run.model) <= 28 else f"…{run.model[-27:]}",
        shortened(",".join(run.modes), 28),
        shortened(",".join(run.tasks), 40),
        str(entry["samples"]),
        missing,
        f"{run.created:%Y-%m-%d %H:%M}" if run.created else "-",
        _size_text(run.size_bytes),
    )


def describe_run(folder: Path) -> dict[str, Any]:
    """What a run is and how far it got, from its manifest and counts of its store.

    Raises UsageError where there is no run, RunMismatchError for a manifest and
    CorruptStoreError or InfrastructureError for a store that cannot be read.
    """
    manifest = _manifest(folder)
    size = sum(_size(path) for path in _contents(folder))
    run = _readable(folder, size, manifest, count_samples(folder / _STORE))
    model = manifest.get("model") or {}
    facts = ("backend", "dtype", "device", "parameters", "context_length")
    kept = ("suite", "base_seed", "batch_size", "wall_seconds", "cpu_seconds", "tokens")
    return {
        **run.to_dict(),
        "command": manifest.get("command") or [],
        "checkpoint": {k: v for k, v in (manifest.get("checkpoint") or {}).items() if k != "files"},
        "backend": {key: model.get(key) for key in facts},
        "modes": manifest["modes"],
        "tasks": manifest["tasks"],
        "cells": [
            {**asdict(cell), "missing": cell.missing, **_unknown(model)} for cell in run.cells or ()
        ],
        **{key: manifest.get(key) for key in kept},
        "psplit_version": manifest.get("psplit_version"),
        "libraries": manifest.get("libraries") or {},
        "machine": manifest.get("machine") or {},
    }


def _unknown(model: Mapping[str, Any]) -> dict[str, None]:
    """What lm_eval does not log of the samples that were imported."""
    return {"truncated": None, "tokens": None} if model.get("backend") == "lm-eval" else {}


def description_text(found: Mapping[str, Any]) -> str:
    """`runs describe` for people: one screen of what `describe_run` gives."""
    facts = [(label, value) for label, value in _facts(found) if value]
    sections = [
        [f"{label:11} {value}" for label, value in facts],
        columns([("mode", "role", "system prompt", "sampling"), *map(_mode_row, found["modes"])]),
        columns(
            [("task", "docs", "samples", "sampling"), *map(_task_row, found["tasks"].items())],
            right={1, 2},
        ),
        _cell_table(found["cells"]),
    ]
    return "\n\n".join("\n".join(section) for section in sections)


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    checkpoint, backend, machine = found["checkpoint"], found["backend"], found["machine"]
    yield "run", f"{found['run']} ({_size_text(found['size_bytes'])})"
    yield "shard", _shard_text(found["shard"])
    yield "created", str(found["created_at"] or "")
    yield "command", shortened(" ".join(map(str, found["command"])), 400)
    yield "checkpoint", shortened(checkpoint.get("name"), 80)
    yield "", shortened(checkpoint.get("path"), 120)
    yield "fingerprint", str(checkpoint.get("fingerprint") or "")[:12]
    size = backend["parameters"]
    parameters = f"{size:,} parameters" if isinstance(size, int) else ""
    parts = [*(backend[key] for key in ("backend", "dtype", "device")), parameters]
    yield "backend", ", ".join(shortened(part, 40) for part in parts if part)
    yield "suite", shortened(found["suite"], 40)
    yield "seed", "" if found["base_seed"] is None else str(found["base_seed"])
    yield "time", _times(found)
    yield "tokens", f"{found['tokens']:,} drawn" if found["tokens"] else ""
    libraries = {"psplit": found["psplit_version"], **found["libraries"]}
    versions = [f"{name} {version}" for name, version in libraries.items() if version]
    yield "versions", shortened(", ".join(versions), 200)
    about = [machine.get("system"), machine.get("cpus") and f"{machine['cpus']} CPUs"]
    python = machine.get("python")
    yield "machine", ", ".join(filter(None, [*about, python and f"Python {python}"]))


def _shard_text(shard: str | None) -> str:
    return f"{shard} of a run; psplit-eval merge joins all shards" if shard else ""


def _times(found: Mapping[str, Any]) -> str:
    wall, cpu = found["wall_seconds"], found["cpu_seconds"]
    return f"{wall:,.0f} s wall, {cpu or 0:,.0f} s CPU while sampling" if wall else ""


def _mode_row(mode: Mapping[str, Any]) -> tuple[str, ...]:
    prompt = mode.get("system_prompt")
    shown = "(no system message)" if prompt is None else f'"{shortened(prompt, 64)}"'
    return mode["name"], mode.get("role") or "", shown, _settings(mode.get("sampling"))


def _task_row(item: tuple[str, Mapping[str, Any]]) -> tuple[str, ...]:
    name, entry = item
    docs = "-" if entry.get("docs") is None else str(entry["docs"])
    if entry.get("docs_in_all") not in (None, entry.get("docs")):
        docs += f" of {entry['docs_in_all']}"
    samples = "-" if entry.get("samples") is None else str(entry["samples"])
    return name, docs, samples, _settings(entry.get("sampling"))


def _settings(sampling: Mapping[str, Any] | None) -> str:
    """Settings that do something."""
    idle = {"top_k": 0, "top_p": 1, "min_p": 0, "until": []}
    shown = {k: v for k, v in (sampling or {}).items() if k not in idle or v != idle[k]}
    return shortened(", ".join(f"{name} {value}" for name, value in shown.items()), 80)


def _cell_table(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ("task", "mode", "good", "missing", "of which failed", "truncated", "tokens")
    names = ("good", "missing", "failed", "truncated", "tokens")
    rows = [(c["task"], c["mode"], *(_count(c[name]) for name in names)) for c in cells]
    lines = columns([head, *rows], right={2, 3, 4, 5, 6})
    if any(not (cell["good"] or cell["failed"] or cell["missing"]) for cell in cells):
        lines.append("a mode without any sample on a task was not asked there")
    return lines


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


@dataclass(frozen=True)
class Pruned:
    """A run that is due, and what became of it: 'deleted', 'due' (a dry run), 'kept' or 'failed'.

    `reason` says why it is due, `obstacle` why it was kept, or could not be deleted.
    """

    run: Run
    reason: str
    outcome: str
    obstacle: str = field(default="")

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        return {
            "run": str(self.run.folder),
            "size_bytes": self.run.size_bytes,
            "reason": self.reason,
            "outcome": self.outcome,
            "obstacle": self.obstacle or None,
        }


def prune_runs(root: Path, older_than: float | None = None, delete: bool = False) -> list[Pruned]:
    """Runs without a good sample, and those made more than `older_than` days ago.

    They are deleted with `delete` only. A run that cannot be read, is in use, or lies in a folder
    with files that psplit doesn't write is kept. Raises UsageError for a `root` that is no folder
    and an `older_than` that is no number of days. Where deleting fails, the others are still done.
    """
    if older_than is not None and not 0 <= older_than <= 10**6:
        raise UsageError(f"--older-than {older_than:g}: expected a number of days, 0 or more")
    now = datetime.now(UTC)
    return [
        _prune(run, reason, delete)
        for run in find_runs(root)
        if (reason := _reason(run, older_than, now))
    ]


def _reason(run: Run, older_than: float | None, now: datetime) -> str:
    """Why a run is due; empty where it is not. What cannot be read is never due."""
    if run.problem is not None:
        never_began = run.problem == _NO_MANIFEST and (run.folder / ".lock").is_file()
        return "killed before its first sample" if never_began else ""
    if not run.good:
        return "no good sample"
    if older_than is None or run.created is None:
        return ""
    age = now - run.created
    return f"{age.days} days old" if age >= timedelta(days=older_than) else ""


def _prune(run: Run, reason: str, delete: bool) -> Pruned:
    """Under the run's lock, so that no other psplit writes into what is deleted."""
    foreign = _foreign(run.folder)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        return Pruned(run, reason, "kept", f"holds other files: {', '.join(foreign[:3])}{more}")
    if not delete and not (run.folder / ".lock").exists():
        return Pruned(run, reason, "due")
    try:
        with locked(run.folder):
            if not delete:
                return Pruned(run, reason, "due")
            if _look_at(run.folder).good != run.good or _foreign(run.folder):
                return Pruned(run, reason, "kept", "something has just been written into it")
            _delete(run.folder)
    except UsageError:
        return Pruned(run, reason, "kept", "in use by another psplit")
    except InfrastructureError as error:
        return Pruned(run, reason, "failed", one_line(str(error)))
    return Pruned(run, reason, "deleted")


def _delete(folder: Path) -> None:
    """Manifest, store and lock last: what a torn deletion leaves is still known as a run."""
    order = {_STORE: 1, "manifest.json": 2, ".lock": 3}
    with disk_errors(folder):
        for path in sorted(_contents(folder), key=lambda path: order.get(path.name, 0)):
            path.unlink()
        for name in _FOLDERS:
            with suppress(FileNotFoundError):
                (folder / name).rmdir()
        folder.rmdir()


def _foreign(folder: Path) -> list[str]:
    """Names in a run folder that psplit does not write."""
    if folder.is_symlink():
        return ["(the folder is a link)"]
    return sorted(
        str(path.relative_to(folder)) for path in _entries(folder) if not _is_ours(path, folder)
    )


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in a run folder and in the folders that psplit makes there; others as such."""
    for path in folder.iterdir():
        if path.name in _FOLDERS and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def _is_ours(path: Path, folder: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    if path.parent != folder:
        half_built = path.parent.name == ".view" and path.suffix == ".new"
        return half_built or path.name in _FOLDERS[path.parent.name]
    written = path.name
    if written.startswith(".") and written.endswith(".partial"):
        written = written[1:].removesuffix(".partial")
    return written in _FILES or written == ".lock"


def pruned_text(pruned: Sequence[Pruned], root: Path) -> str:
    """`runs prune` for people."""
    if not pruned:
        return f"nothing to delete in {root}"
    words = {"due": "would delete", "kept": "left alone", "failed": "NOT deleted"}
    lines = columns([_pruned_row(item, words.get(item.outcome, item.outcome)) for item in pruned])
    gone = [item for item in pruned if item.outcome in ("due", "deleted")]
    size = _size_text(sum(item.run.size_bytes for item in gone))
    runs = f"{len(gone)} run{'' if len(gone) == 1 else 's'}"
    if any(item.outcome == "due" for item in gone):
        lines.append(f"\n{runs}, {size}: nothing is deleted yet; add --yes to delete")
    else:
        lines.append(f"\n{runs} deleted, {size} freed")
    return "\n".join(lines)


def _pruned_row(item: Pruned, word: str) -> tuple[str, ...]:
    why = f"{item.reason}; {item.obstacle}" if item.obstacle else item.reason
    return word, str(item.run.folder), _size_text(item.run.size_bytes), why


def _contents(folder: Path) -> list[Path]:
    return [Path(name) / file for name, _, files in os.walk(folder) for file in files]


def _size(path: Path) -> int:
    """Bytes of a file; 0 for one that has just gone."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}; fix its permissions") from error


def _size_text(size: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return (
        f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 99.95 else f"{size:.1f} {units[0]}"
    )
