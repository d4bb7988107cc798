"""Join the shards of one evaluation into the run that was never split.

Everything is checked before anything is written; the new store appears whole, in one step.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psplit_eval.catalog import Catalog
from psplit_eval.errors import RunMismatchError, UsageError
from psplit_eval.files import disk_errors, write_json
from psplit_eval.glance import count_samples
from psplit_eval.manifest import (
    Manifest,
    check_form,
    locked,
    open_manifest,
    read_manifest,
    unlike,
)
from psplit_eval.measures import source_of
from psplit_eval.store import Store
from psplit_eval.stored import RunResult, score_run

__all__ = ["merge_shards"]

_SUMMED = ("wall_seconds", "cpu_seconds")
_SAID = ("command", "created_at", *_SUMMED, "tokens", "machine")
"""What the merged manifest says of every shard."""


@dataclass(frozen=True)
class _Part:
    """A shard's folder and manifest."""

    folder: Path
    manifest: Manifest

    @property
    def index(self) -> int:
        return int(self.manifest["shard"]["index"])

    @property
    def count(self) -> int:
        return int(self.manifest["shard"]["count"])

    def __str__(self) -> str:
        return f"{str(self.folder)!r} (shard {self.index}/{self.count})"


def merge_shards(
    folders: Sequence[Path],
    out: Path,
    include: Sequence[Path] = (),
    allow_missing: bool = False,
    command: Sequence[str] = (),
) -> RunResult:
    """Make a run of all shards of one evaluation, score and report.

    The shards' samples stay as they are, and nobody may write there meanwhile. Raises UsageError or
    RunMismatchError for shards that are no whole together, and for samples that are not drawn yet
    unless `allow_missing`. An interrupted merge leaves no run and can be repeated.
    """
    _check_new(out)
    parts = [_part(folder) for folder in folders]
    _check_together(parts)
    if not allow_missing:
        _check_all_there(parts)
    catalog = Catalog(include)
    for entry in parts[0].manifest["tasks"].values():
        source_of(entry["scorer"], catalog)
    with ExitStack() as locks:
        for part in parts:
            locks.enter_context(locked(part.folder))
        if not allow_missing:
            _check_all_drawn(parts)
        locks.enter_context(locked(out))
        _join(parts, out, command)
    result = score_run(out, allow_missing, include)
    return replace(result, notes=[*_notes(parts), *result.notes])


def _check_new(out: Path) -> None:
    """Raise UsageError where there is a run; a killed merge leaves a manifest or an empty store."""
    manifest, store = read_manifest(out), out / "samples.sqlite"
    if store.is_file() and (manifest or count_samples(store)):
        raise UsageError(
            f"--out {str(out)!r}: a run already; psplit-eval score scores it again, or give "
            "another --out"
        )


def _part(folder: Path) -> _Part:
    manifest = check_form(open_manifest(folder), folder)
    if not manifest.get("shard"):
        raise UsageError(
            f"{str(folder)!r}: a whole run, expected a shard, made by psplit-eval run --shard I/N; "
            "leave it out"
        )
    return _Part(folder, manifest)


def _check_together(parts: Sequence[_Part]) -> None:
    """Raise RunMismatchError unless all are parts of one split, each given once."""
    first, seen = parts[0], dict[int, _Part]()
    for part in parts:
        if part.count != first.count:
            raise RunMismatchError(f"{first} and {part}: of other splits; give shards of one")
        found = unlike(first.manifest, part.manifest)
        if found:
            raise RunMismatchError(
                f"{first} and {part}: made with {found[0]} {found[1]} and {found[2]}; give shards "
                "of one command"
            )
        if part.manifest["shard"]["plan"] != first.manifest["shard"]["plan"]:
            raise RunMismatchError(
                f"{first} and {part}: other docs, samples, modes, tasks or work groups "
                "(--limit, --samples, --modes, --tasks, --batch-size); give shards of one command"
            )
        other = seen.setdefault(part.index, part)
        if other is not part:
            raise UsageError(f"{other} and {part}: one shard twice; give each once")


def _check_all_there(parts: Sequence[_Part]) -> None:
    count = parts[0].count
    absent = sorted(set(range(1, count + 1)) - {part.index for part in parts})
    if absent:
        names = ", ".join(f"{index}/{count}" for index in absent[:10])
        more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        raise UsageError(
            f"shard {names}{more}: missing; give the folders of all {count} shards, or "
            "--allow-missing to join what is there"
        )


def _check_all_drawn(parts: Sequence[_Part]) -> None:
    for part in parts:
        asked = sum(sum(task["asked"].values()) for task in part.manifest["tasks"].values())
        stored = sum(cell.stored for cell in count_samples(part.folder / "samples.sqlite"))
        if stored < asked:
            raise UsageError(
                f"{part}: {stored} of {asked} samples are drawn; go on with "
                f"{shlex.join(map(str, part.manifest['command']))}, or give --allow-missing to "
                "join what is there"
            )


def _join(parts: Sequence[_Part], out: Path, command: Sequence[str]) -> None:
    """The manifest first: without its store beside it, it is no run yet."""
    partial = out / ".samples.sqlite.partial"
    try:
        _remove(partial)
        with Store(partial) as store:
            for part in parts:
                store.absorb(part.folder / "samples.sqlite")
            tokens = int(store.tokens())
        write_json(out / "manifest.json", _manifest(parts, command, tokens))
        with disk_errors(out):
            os.replace(partial, out / "samples.sqlite")
    finally:
        _remove(partial)


def _remove(partial: Path) -> None:
    with disk_errors(partial):
        for path in (partial, partial.with_name(f"{partial.name}-journal")):
            path.unlink(missing_ok=True)


def _manifest(parts: Sequence[_Part], command: Sequence[str], tokens: int) -> Manifest:
    """That of the run which was never split, but for times, command and the list of shards."""
    ordered = sorted(parts, key=lambda part: part.index)
    manifests = [part.manifest for part in ordered]
    first = manifests[0]
    asked = first["shard"]["asked"]
    tasks = {
        name: {**entry, "asked": asked.get(name, {})} for name, entry in first["tasks"].items()
    }
    merged = {key: value for key, value in first.items() if key != "shard"}
    return {
        **merged,
        "command": list(command),
        "tasks": tasks,
        "created_at": min(manifest["created_at"] for manifest in manifests),
        **{key: round(sum(m[key] for m in manifests), 2) for key in _SUMMED},
        "tokens": tokens,
        "shards": [_said(part) for part in ordered],
    }


def _said(part: _Part) -> dict[str, Any]:
    known = {key: part.manifest[key] for key in _SAID}
    return {"index": part.index, "count": part.count, "folder": str(part.folder), **known}


def _notes(parts: Sequence[_Part]) -> Iterator[str]:
    """What differs between the shards, so that samples may differ from an unsplit run's by it."""
    for key, what in (("batch_memory", "memory for a batch"), ("threads", "numbers of threads")):
        values = {str(part.manifest["model"].get(key)) for part in parts}
        if len(values) > 1:
            yield f"shards were drawn with different {what}: {', '.join(sorted(values))}"
    for name in dict.fromkeys(name for part in parts for name in part.manifest["libraries"]):
        versions = {str(part.manifest["libraries"].get(name)) for part in parts}
        if len(versions) > 1:
            yield f"shards were drawn with different {name}: {', '.join(sorted(versions))}"
