"""A run folder's manifest: with what the run was made, and whether a command fits to it.

Formats are in docs/architecture.md. Nothing here knows models or samples.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from psplit_eval import __version__
from psplit_eval.errors import RunMismatchError, UsageError
from psplit_eval.files import disk_errors
from psplit_eval.text import shortened

__all__ = [
    "Manifest",
    "check_form",
    "locked",
    "merged_manifest",
    "new_manifest",
    "open_manifest",
    "open_run",
    "read_manifest",
    "unlike",
]

Manifest = dict[str, Any]

_LIBRARIES = (
    "torch",
    "transformers",
    "lm_eval",
    "datasets",
    "numpy",
    "scipy",
    "nltk",
    "math-verify",
    "openai",
    "vllm",
    "peft",
)
_FIRST = (".", "samples.sqlite")
_MODEL_KEYS = (
    *("backend", "dtype", "quantization", "chat_template", "thinking", "think_tags"),
    *("top_logprobs", "engine_arguments", "draws"),
)
_KEPT = ("created_at", "wall_seconds", "cpu_seconds", "tokens", "shards", "divergence")


def new_manifest(parts: Mapping[str, Any]) -> Manifest:
    """The manifest of a new run: `parts` with what is true of every run on this machine.

    `parts` has command, checkpoint, model, modes, suite, tasks, pools, base_seed and batch_size.
    """
    return {
        "format": 1,
        "psplit_version": __version__,
        "psplit_git": _git_hash(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **parts,
        "libraries": {name: _library_version(name) for name in _LIBRARIES},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cpus": os.cpu_count(),
            "python": sys.version.split()[0],
        },
        "wall_seconds": 0.0,
        "cpu_seconds": 0.0,
        "tokens": 0,
    }


def open_manifest(folder: Path) -> Manifest:
    """The manifest of an existing run; raises UsageError where there is none."""
    if not (folder / "manifest.json").is_file() or not (folder / "samples.sqlite").is_file():
        raise UsageError(
            f"{str(folder)!r}: no run (expected a folder with manifest.json and samples.sqlite); "
            "psplit-eval runs list shows those that there are"
        )
    found = read_manifest(folder)
    assert found is not None
    return found


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder to run in; None where a new run may begin.

    Raises UsageError for a folder with other files, RunMismatchError for an unreadable manifest.
    """
    path = folder / "manifest.json"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {str(folder)!r}: a file, expected a folder; give another --out")
    if not path.exists():
        # a run killed in its first moments leaves a lock and an empty store
        if folder.is_dir() and any(not p.name.startswith(_FIRST) for p in folder.iterdir()):
            raise UsageError(
                f"--out {str(folder)!r}: holds other files and no manifest.json, expected a run "
                "folder or an empty one; give another --out"
            )
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != 1:
            raise ValueError(f"format {content['format']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunMismatchError(
            f"{path}: no manifest of format 1 ({error!r}); give another --out"
        ) from error
    return dict(content)


def check_form(content: Manifest, folder: Path) -> Manifest:
    """The manifest, if it has what all work with a run needs; else raises RunMismatchError."""
    try:
        for mode in content["modes"]:
            mode["name"], mode["system_prompt"], mode["sampling"]
        for task in content["tasks"].values():
            task["scorer"]["kind"], task["sampling"], int(task["samples"]), int(task["docs"])
        content["checkpoint"]["name"], content["model"]["backend"], content["machine"]
        if shard := content.get("shard"):
            int(shard["index"]), int(shard["count"]), shard["plan"], shard["asked"].items()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunMismatchError(
            f"{folder / 'manifest.json'}: not of the form that psplit writes ({error!r}); restore "
            "it from a copy"
        ) from error
    return content


def open_run(folder: Path) -> Manifest:
    """The checked manifest of a run that can be scored and compared.

    Raises UsageError where there is none and for a shard, RunMismatchError for a form of its own.
    """
    content = check_form(open_manifest(folder), folder)
    if content.get("shard"):
        raise UsageError(
            f"{str(folder)!r}: shard {_shard(content)} of a run, expected a whole run; join all "
            "shards first: psplit-eval merge SHARD... --out RUN"
        )
    return content


def merged_manifest(old: Manifest | None, new: Manifest, folder: Path) -> Manifest:
    """The manifest of a run that is continued or extended; refuses what would mix settings."""
    if old is None:
        return new
    check_form(old, folder)
    found = unlike(old, new) or _other_shard(old, new)
    if found:
        raise RunMismatchError(
            f"run folder {str(folder)!r}: made with {found[0]} {found[1]}, this command has "
            f"{found[2]}; give another --out, or the same settings"
        )
    modes = {mode["name"]: mode for mode in [*old["modes"], *new["modes"]]}
    tasks = {**old["tasks"]}
    for name, entry in new["tasks"].items():
        known = tasks.get(name, entry)
        grown: dict[str, Any] = {key: max(known[key], entry[key]) for key in ("samples", "docs")}
        for key in ("asked", "sampling_by_mode"):
            grown[key] = {**known.get(key, {}), **entry.get(key, {})}
        tasks[name] = {**entry, **grown}
    kept = {key: old[key] for key in _KEPT if key in old}
    pools = {**old.get("pools", {}), **new.get("pools", {})}
    model = {**old["model"], **new["model"]}  # with what was found out while sampling
    return {
        **new,
        **kept,
        "model": model,
        "modes": list(modes.values()),
        "tasks": tasks,
        "pools": pools,
    }


def unlike(one: Manifest, other: Manifest) -> tuple[str, str, str] | None:
    """The first thing that samples of one run have in common but these two manifests have not.

    As (what, in the one, in the other); modes and tasks of only one of them are no such thing.
    """
    for what, before, after in _fixed(one, other):
        if before != after:
            return what, shortened(repr(before), 60), shortened(repr(after), 60)
    return None


def _other_shard(old: Manifest, new: Manifest) -> tuple[str, str, str] | None:
    """A shard is dealt its groups from one plan: another deals out everything anew."""
    if _shard(old) != _shard(new):
        return "shard", _shard(old), _shard(new)
    plans = [str((manifest.get("shard") or {}).get("plan"))[:12] for manifest in (old, new)]
    if plans[0] != plans[1]:
        return "a shard of plan", plans[0], f"{plans[1]} (other docs, samples, modes or tasks)"
    return None


def _shard(manifest: Manifest) -> str:
    shard = manifest.get("shard")
    return f"{shard['index']}/{shard['count']}" if shard else "none"


def _fixed(old: Manifest, new: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """(what, before, after) of everything that one run folder has only one of."""
    prints = [manifest["checkpoint"]["fingerprint"] for manifest in (old, new)]
    yield "checkpoint of fingerprint", prints[0], prints[1]
    yield "seed", old["base_seed"], new["base_seed"]
    for key in _MODEL_KEYS:
        yield key, old["model"].get(key), new["model"].get(key)
    kinds = [str(manifest["model"].get("device")).split(":")[0] for manifest in (old, new)]
    yield "device", kinds[0], kinds[1]  # cuda:1 is as good as cuda:0
    before = {mode["name"]: mode for mode in old["modes"]}
    for mode in new["modes"]:
        known = before.get(mode["name"], mode)
        for key in ("system_prompt", "sampling"):
            yield f"mode {mode['name']!r} with {key}", known[key], mode[key]
    for name, entry in new["tasks"].items():
        known = old["tasks"].get(name, entry)
        for key, value in entry["sampling"].items():
            yield f"task {name!r} with {key}", known["sampling"].get(key), value
        yield f"task {name!r} with rows of SHA-256", known["sha256"], entry["sha256"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and keep a second psplit out of it."""
    from filelock import FileLock, Timeout

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UsageError(
                f"run folder {str(folder)!r}: in use by another psplit; wait for it, or give "
                "another --out"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _library_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_hash() -> str | None:
    """Commit of psplit's own source; None for an installed package."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None
