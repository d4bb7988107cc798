"""The main job: one checkpoint in its modes, from a command to a finished run folder.

Everything is checked before anything is written. A run folder may be continued and extended by the
same command; a command that would mix other settings into it is refused.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from psplit_eval import __version__
from psplit_eval.backends import Backend, HFBackend
from psplit_eval.checkpoints import Checkpoint, resolve_checkpoint
from psplit_eval.comparison import read_arms, score_store
from psplit_eval.errors import DataError, RunMismatchError, UnknownNameError, UsageError
from psplit_eval.files import disk_errors, write_json
from psplit_eval.harness import Task, load_task
from psplit_eval.modes import Mode, checkpoint_modes, resolve_modes
from psplit_eval.report import write_report
from psplit_eval.sampling import Plan, Watch, fill, missing, plan
from psplit_eval.scoring import scorer_from_dict
from psplit_eval.store import Store
from psplit_eval.suites import TaskSettings, suite_named, task_files

__all__ = ["RunOptions", "RunResult", "Screen", "run"]

_LIBRARIES = (
    "torch",
    "transformers",
    "lm_eval",
    "datasets",
    "numpy",
    "scipy",
    "nltk",
    "math-verify",
)
_FIRST = (".", "samples.sqlite")
_MODEL_KEYS = ("backend", "dtype", "device", "chat_template")


@dataclass(frozen=True)
class RunOptions:
    """What the command line says. `settings` are by task; the key '' is for every task."""

    model: str
    modes: Sequence[str]
    given_modes: Sequence[Mode] = ()
    suite: str | None = None
    tasks: Sequence[str] = ()
    include: Sequence[Path] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, TaskSettings] = field(default_factory=dict)
    seed: int = 0
    out: Path | None = None
    batch_size: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    chat_template: Path | None = None
    trust_remote_code: bool = False
    allow_missing: bool = False
    command: Sequence[str] = ()


class Screen:
    """What a run says while it works; the silent one. `cli` has the one that prints."""

    def say(self, text: str) -> None:
        """A step that takes a while has begun."""

    @contextmanager
    def sampling(self, total: int, done: int) -> Iterator[Watch]:
        """Progress over `total` samples to draw; `done` are there already."""
        yield lambda tokens, samples: None


@dataclass(frozen=True)
class RunResult:
    """Where the run lies and what it found."""

    folder: Path
    verdict: str
    sampled: int
    failed: int
    summary: str


def run(options: RunOptions, screen: Screen) -> RunResult:
    """Sample what is missing, score, compare and report.

    Raises UsageError or InfrastructureError (see `errors`); before the first sample is drawn,
    nothing is written for a usage error.
    """
    chosen = _chosen_tasks(options)
    checkpoint = resolve_checkpoint(options.model, screen.say)
    modes = resolve_modes(options.modes, options.given_modes, checkpoint_modes(checkpoint.folder))
    tasks = [
        (load_task(name, path, options.data.get(name)), settings)
        for name, (path, settings) in chosen.items()
    ]
    screen.say(f"loading {options.model}")
    backend = HFBackend(
        checkpoint,
        dtype=options.dtype,
        device=options.device,
        chat_template=_template(options.chat_template),
        trust_remote_code=options.trust_remote_code,
    )
    whole = plan(backend, modes, tasks, options.seed)
    folder = options.out or _default_folder(options)
    manifest = _merged(
        _read_manifest(folder), _manifest(options, checkpoint, backend, modes, tasks), folder
    )
    with _locked(folder), Store(folder / "samples.sqlite") as store:
        return _carry_out(store, folder, manifest, whole, backend, tasks, options, screen)


def _carry_out(
    store: Store,
    folder: Path,
    manifest: dict[str, Any],
    whole: Plan,
    backend: Backend,
    tasks: Sequence[tuple[Task, TaskSettings]],
    options: RunOptions,
    screen: Screen,
) -> RunResult:
    wanted = missing(store, whole.requests)
    write_json(folder / "manifest.json", manifest)
    planned = set(whole.docs)
    store.add_plan(
        whole.prompts,
        (doc for task, _ in tasks for doc in task.docs if (task.name, doc.doc_id) in planned),
    )
    wall, cpu = time.monotonic(), time.process_time()
    try:
        with screen.sampling(len(wanted), len(whole.requests) - len(wanted)) as watch:
            tally = fill(store, backend, whole.requests, options.batch_size, watch)
    finally:
        manifest["wall_seconds"] += round(time.monotonic() - wall, 2)
        manifest["cpu_seconds"] += round(time.process_time() - cpu, 2)
        manifest["tokens"] = sum(sample.completion_tokens or 0 for sample in store.samples())
        write_json(folder / "manifest.json", manifest)
    screen.say("scoring and writing the report")
    scorers = {name: scorer_from_dict(t["scorer"]) for name, t in manifest["tasks"].items()}
    score_store(store, scorers)
    arms = read_arms(store, scorers, [mode["name"] for mode in manifest["modes"]])
    summary, verdict = write_report(folder, manifest, store, arms, scorers, options.allow_missing)
    return RunResult(folder, verdict, tally.samples, tally.failed, summary)


def _chosen_tasks(options: RunOptions) -> dict[str, tuple[Path, TaskSettings]]:
    """File and settings of every task: the suite's first, then those named."""
    suite = options.suite or (None if options.tasks else "quick")
    wanted = dict(suite_named(suite).tasks) if suite else {}
    wanted |= {name: TaskSettings() for name in options.tasks if name not in wanted}
    files = task_files(options.include)
    for name in wanted:
        if name not in files:
            raise UnknownNameError("task", name, files)
    for name in {*options.settings, *options.data} - {""}:
        if name not in wanted:
            raise UnknownNameError("task (of those in this run)", name, wanted)
    everywhere = options.settings.get("", TaskSettings())
    return {
        name: (
            files[name],
            settings.updated(everywhere).updated(options.settings.get(name, TaskSettings())),
        )
        for name, settings in wanted.items()
    }


def _template(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"chat template {str(path)!r}: cannot be read as UTF-8 text "
            f"({error.__class__.__name__}); give an existing Jinja file"
        ) from error


def _default_folder(options: RunOptions) -> Path:
    model = Path(options.model).name or "model"
    what = options.suite or ("-".join(options.tasks) if options.tasks else "quick")
    return Path("runs") / f"{model}-{what}"


def _manifest(
    options: RunOptions,
    checkpoint: Checkpoint,
    backend: Backend,
    modes: Sequence[Mode],
    tasks: Sequence[tuple[Task, TaskSettings]],
) -> dict[str, Any]:
    return {
        "format": 1,
        "psplit_version": __version__,
        "psplit_git": _git_hash(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(options.command),
        "checkpoint": {
            "name": checkpoint.name,
            "path": str(checkpoint.folder.resolve()),
            "fingerprint": checkpoint.fingerprint,
            "files": dict(checkpoint.files),
        },
        "model": backend.describe(),
        "modes": [mode.to_dict() for mode in modes],
        "suite": options.suite,
        "tasks": {task.name: _task_entry(task, settings) for task, settings in tasks},
        "base_seed": options.seed,
        "batch_size": options.batch_size,
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


def _task_entry(task: Task, settings: TaskSettings) -> dict[str, Any]:
    return {
        "title": task.title,
        "source": task.source,
        "sha256": task.sha256,
        "scorer": task.scorer.to_dict(),
        "sampling": task.sampling.updated(settings.sampling).to_dict(),
        "samples": settings.samples or task.samples,
        "docs": len(task.docs[: settings.limit]),
        "docs_in_all": len(task.docs),
    }


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


def _read_manifest(folder: Path) -> dict[str, Any] | None:
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunMismatchError(
            f"{path}: no manifest of format 1 ({error!r}); give another --out"
        ) from error
    return dict(content)


def _merged(old: dict[str, Any] | None, new: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest of a run that is continued or extended; refuses what would mix settings."""
    if old is None:
        return new
    for what, before, after in _fixed(old, new):
        if before != after:
            raise RunMismatchError(
                f"run folder {str(folder)!r}: made with {what} {_short(before)}, this command has "
                f"{_short(after)}; give another --out, or the same settings"
            )
    modes = {mode["name"]: mode for mode in [*old["modes"], *new["modes"]]}
    tasks = {**old["tasks"]}
    for name, entry in new["tasks"].items():
        known = tasks.get(name, entry)
        grown = {key: max(known[key], entry[key]) for key in ("samples", "docs")}
        tasks[name] = {**entry, **grown}
    kept = {key: old[key] for key in ("created_at", "wall_seconds", "cpu_seconds", "tokens")}
    return {**new, **kept, "modes": list(modes.values()), "tasks": tasks}


def _fixed(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(what, before, after) of everything that one run folder has only one of."""
    prints = [manifest["checkpoint"]["fingerprint"] for manifest in (old, new)]
    yield "checkpoint of fingerprint", prints[0], prints[1]
    yield "seed", old["base_seed"], new["base_seed"]
    for key in _MODEL_KEYS:
        yield key, old["model"].get(key), new["model"].get(key)
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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
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
