"""A training again and again: a grid or a list of settings × seeds, each cell in a process.

A cell is `psplit_train run CONFIG --set … --out OUT/cells/NAME`. What is finished is not run again,
so a sweep that was stopped, or gets more values or seeds, goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from psplit_eval.errors import (
    DataError,
    InfrastructureError,
    RunMismatchError,
    UsageError,
)
from psplit_eval.files import disk_errors, write_json
from psplit_eval.manifest import locked
from psplit_eval.text import shortened
from psplit_train.evaluate import last_words

__all__ = ["Cell", "Sweep", "cells", "read_sweep", "sweep"]

Say = Callable[[str], None]
Settings = Mapping[str, Sequence[str]] | Sequence[Mapping[str, str]]
"""Name → its values, of which every combination is a setting; or the settings themselves."""

COMMAND = (sys.executable, "-m", "psplit_train")
_FILE = "sweep.json"
_SEED = "train.seed"
_NAME_LETTERS = 80
_PAUSE = 0.1


@dataclass(frozen=True)
class Cell:
    """One training: what it sets on top of the config, and the seed of its training."""

    settings: Mapping[str, str]
    seed: int

    @property
    def label(self) -> str:
        """The settings in words, the same for all seeds."""
        leaves = [name.rpartition(".")[2] for name in self.settings]
        names = leaves if len(set(leaves)) == len(leaves) else list(self.settings)
        said = (f"{n}={value}" for n, value in zip(names, self.settings.values(), strict=True))
        return ", ".join(said) or "as given"

    @property
    def name(self) -> str:
        """Its folder's: letters that every file system takes; a sum where that is not enough."""
        whole = self.label.replace(", ", ",") if self.settings else "base"
        safe = re.sub(r"[^\w.,=+-]", "_", whole)[:_NAME_LETTERS]
        digest = f"-{hashlib.sha256(whole.encode()).hexdigest()[:6]}" if safe != whole else ""
        return f"{safe}{digest}-seed-{self.seed}"

    @property
    def sets(self) -> list[str]:
        """As `--set` takes them."""
        return [
            *(f"{name}={value}" for name, value in self.settings.items()),
            f"{_SEED}={self.seed}",
        ]


@dataclass(frozen=True)
class Sweep:
    """What is known of a sweep. `fixed`: what all cells set alike ("name=value"). `failures`: the
    name of a cell → its exit code and the last words of its log; a cell that is neither finished
    nor failed was never run to its end."""

    folder: Path
    cells: tuple[Cell, ...]
    fixed: tuple[str, ...] = ()
    failures: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def place(self, cell: Cell) -> Path:
        """The folder of its training."""
        return self.folder / "cells" / cell.name

    def log(self, cell: Cell) -> Path:
        """What its process printed."""
        return self.folder / "logs" / f"{cell.name}.log"

    def finished(self, cell: Cell) -> bool:
        """Whether its training came to its end."""
        return (self.place(cell) / "final").is_dir()

    @property
    def unfinished(self) -> list[Cell]:
        return [cell for cell in self.cells if not self.finished(cell)]

    @property
    def exit_code(self) -> int:
        """0 where all cells are finished, else 4."""
        return InfrastructureError.exit_code if self.unfinished else 0


def cells(settings: Settings, seeds: Sequence[int]) -> tuple[Cell, ...]:
    """Every setting with every seed, the seeds of a setting one after the other.

    Raises UsageError where there is nothing to run, or something twice.
    """
    _check_seeds(seeds)
    found = [Cell(setting, seed) for setting in _each(settings) for seed in seeds]
    for cell in found:
        for name in cell.settings:
            if name in ("seed", _SEED):
                raise UsageError(f"--set {name}: a sweep's seeds are given by --seeds")
    repeated = {c.label for c in found if sum(c.settings == o.settings for o in found) > len(seeds)}
    if repeated:
        raise UsageError(f"setting {min(repeated)!r} is given twice; give it once")
    return tuple(found)


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        shown = ", ".join(map(str, seeds)) or "none"
        raise UsageError(f"seeds {shown}: expected at least one, each once")


def _each(settings: Settings) -> Iterator[Mapping[str, str]]:
    if not isinstance(settings, Mapping):
        if not settings:
            raise UsageError("a list of settings without any: expected at least one")
        yield from settings
        return
    for name, values in settings.items():
        if not values:
            raise UsageError(f"--set {name}: expected values, separated by commas")
    for values in itertools.product(*settings.values()):
        yield dict(zip(settings, values, strict=True))


def sweep(
    config_path: Path,
    sets: Settings,
    seeds: Sequence[int],
    out: Path,
    jobs: int | None,
    say: Say,
    *,
    fixed: Sequence[str] = (),
    common: Sequence[str] = (),
    command: Sequence[str] = COMMAND,
    devices: Sequence[str] | None = None,
    patience: float = 30.0,
    done: Callable[[Cell], bool] | None = None,
) -> Path:
    """Run what is missing of a sweep, at most `jobs` cells at a time, and return its folder.

    `jobs` None: one a GPU, or a core where there is no GPU. A seed is that of the training
    (train.seed): data, start and warm-up are the same in all cells. `fixed`: settings on top of
    the config's in every cell ("name=value"), told once; `common`: such as are not told of, as they
    change no result. `command` is what `run` and
    its arguments are put after; `devices`: the GPUs' names for CUDA_VISIBLE_DEVICES, of which a
    cell has one (None: those that torch sees). `done` tells whether nothing is left to do of a cell
    (None: its training came to its end). A cell that fails is said, with the last line of
    its log, and the others go on: `read_sweep` tells which. Ctrl-C and SIGTERM stop the cells in
    good order, for which they have `patience` seconds, and raise KeyboardInterrupt.

    Raises UsageError, or RunMismatchError where a cell was begun with another config.
    """
    wanted = cells(sets, seeds)
    content = _fingerprint(config_path, fixed)
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: expected 1 or more")
    with locked(out):
        record = _Record.opened(out, config_path, wanted, content, fixed)
        done = done or record.sweep.finished
        # a seed of every setting before the next seed: one that is stopped has something of all
        ordered = sorted(wanted, key=lambda cell: seeds.index(cell.seed))
        left = [cell for cell in ordered if not done(cell)]
        if len(left) < len(wanted):
            say(f"{len(wanted) - len(left)} of {len(wanted)} cells are finished already")
        slots = _slots(jobs, len(left), devices) if left else []
        with _stoppable():
            settings = (*fixed, *common)
            runner = _Runner(record, config_path, settings, command, slots, patience, say, done)
            runner.run(left)
    return out


def read_sweep(folder: Path) -> Sweep:
    """A sweep that is there; raises UsageError where there is none, DataError for a record that
    psplit did not write."""
    path = folder / _FILE
    if not path.is_file():
        raise UsageError(f"{str(folder)!r}: no sweep (expected a folder with {_FILE})")
    content = _read(path)
    found = tuple(Cell(entry["settings"], entry["seed"]) for entry in content["cells"])
    failures = {
        Cell(entry["settings"], entry["seed"]).name: (entry["failed"][0], entry["failed"][1])
        for entry in content["cells"]
        if entry["failed"]
    }
    return Sweep(folder, found, tuple(content.get("fixed", ())), failures)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != 1:
            raise ValueError(f"format {content['format']}")
        for entry in content["cells"]:
            dict(entry["settings"]), int(entry["seed"]), str(entry["config"])
            entry["failed"] and (int(entry["failed"][0]), str(entry["failed"][1]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not the record of a sweep of format 1 ({error!r}); restore it from a copy, "
            "or give another --out"
        ) from error
    return dict(content)


def _fingerprint(path: Path, fixed: Sequence[str]) -> str:
    """SHA-256 (hex) of a config's content, of those it is based on, and of what is set on top of
    them in all cells; comments do not count."""
    contents: list[Any] = list(fixed)
    seen: set[Path] = set()
    following: Path | None = path
    while following is not None and following.resolve() not in seen:
        seen.add(following.resolve())
        content = _yaml(following)
        contents.append(content)
        base = content.get("base") if isinstance(content, dict) else None
        following = following.parent / base if isinstance(base, str) else None
    text = json.dumps(contents, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"config {str(path)!r}: {error.strerror}; give an existing YAML file"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(
            f"config {str(path)!r}: not YAML ({shortened(error, 200)}); correct it"
        ) from error


class _Record:
    """sweep.json: cells, with what config each was begun and how it ended."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self._folder = folder
        self._content = content

    @classmethod
    def opened(
        cls,
        folder: Path,
        config: Path,
        wanted: Sequence[Cell],
        content: str,
        fixed: Sequence[str],
    ) -> _Record:
        """The record with the wanted cells in it; refuses a cell that was begun otherwise."""
        path = folder / _FILE
        before = read_sweep(folder) if path.is_file() else Sweep(folder, ())
        entries = {_of(entry).name: entry for entry in _read(path)["cells"]} if before.cells else {}
        for cell in wanted:
            begun = entries.get(cell.name)
            if begun and begun["config"] != content and before.place(cell).exists():
                raise RunMismatchError(
                    f"{before.place(cell)}: begun with another content of {config.name}; give "
                    "another --out, or delete that folder"
                )
            new = {"settings": dict(cell.settings), "seed": cell.seed, "config": content}
            entries[cell.name] = {**new, "failed": None}
        known = {"format": 1, "config": config.name, "fixed": list(fixed)}
        known["cells"] = list(entries.values())
        record = cls(folder, known)
        record._write()
        return record

    @property
    def sweep(self) -> Sweep:
        return read_sweep(self._folder)

    def failed(self, cell: Cell, code: int, words: str) -> None:
        for entry in self._content["cells"]:
            if _of(entry) == cell:
                entry["failed"] = [code, words]
        self._write()

    def _write(self) -> None:
        write_json(self._folder / _FILE, self._content)


def _of(entry: Mapping[str, Any]) -> Cell:
    return Cell(entry["settings"], entry["seed"])


def _slots(jobs: int | None, wanted: int, devices: Sequence[str] | None) -> list[Mapping[str, str]]:
    """What is in the environment of each cell that runs at a time: a GPU, or its share of cores."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    gpus = list(_devices() if devices is None else devices)
    count = min(jobs or len(gpus) or cores, wanted)
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    given = {name: value for name, value in threads.items() if name not in os.environ}
    if not gpus:
        return [given] * count
    return [{**given, "CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(count)]


def _devices() -> list[str]:
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return named[:count] if any(named) else [str(number) for number in range(count)]


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM, as job schedulers send it, is a Ctrl-C: else the cells would be left running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    slot: Mapping[str, str]
    started: float


class _Runner:
    """Cells in processes, as many at a time as there are slots."""

    def __init__(
        self,
        record: _Record,
        config: Path,
        common: Sequence[str],
        command: Sequence[str],
        slots: Sequence[Mapping[str, str]],
        patience: float,
        say: Say,
        done: Callable[[Cell], bool],
    ) -> None:
        self._record = record
        self._sweep = record.sweep
        self._config = config
        self._common = common
        self._command = command
        self._slots = list(slots)
        self._patience = patience
        self._say = say
        self._done = done
        self._running: list[_Running] = []
        self._took: list[float] = []

    def run(self, wanted: Sequence[Cell]) -> None:
        left, jobs = deque(wanted), max(1, len(self._slots))
        try:
            while left or self._running:
                while left and self._slots:
                    self._start(left.popleft(), self._slots.pop(0))
                time.sleep(_PAUSE)
                for running in [r for r in self._running if r.process.poll() is not None]:
                    self._running.remove(running)
                    self._slots.append(running.slot)
                    self._ended(running, len(left) + len(self._running), jobs)
        finally:
            self._stop()

    def _start(self, cell: Cell, slot: Mapping[str, str]) -> None:
        place, log = self._sweep.place(cell), self._sweep.log(cell)
        settings = [part for text in (*self._common, *cell.sets) for part in ("--set", text)]
        words = [*self._command, "run", str(self._config), *settings, "--out", str(place)]
        with disk_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                file.write(f"$ {' '.join(words)}\n".encode())
                file.flush()
                process = _process(words, file, slot)
        self._running.append(_Running(cell, process, slot, time.monotonic()))
        self._say(f"{cell.name}: begun")

    def _ended(self, done: _Running, left: int, jobs: int) -> None:
        cell, code, log = done.cell, done.process.returncode, self._sweep.log(done.cell)
        seconds = time.monotonic() - done.started
        if code == 0 and self._done(cell):
            self._took.append(seconds)
            mean = sum(self._took) / len(self._took)
            rest = f", {left} to go, about {_time(mean * -(-left // jobs))}" if left else ""
            self._say(f"{cell.name}: done in {_time(seconds)}{rest}")
            return
        words = last_words(log)
        self._record.failed(cell, code, words)
        self._say(f"{cell.name}: failed with exit code {code}: {words} ({log})")

    def _stop(self) -> None:
        """End what still runs: as Ctrl-C would, then less politely."""
        if not self._running:
            return
        self._say(f"stopping {len(self._running)} cells; what they kept is gone on with next time")
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                _signal(self._running, number)
                _wait(self._running, self._patience)
        finally:  # a second Ctrl-C has no patience
            _signal(self._running, signal.SIGKILL)
            _wait(self._running, 10.0)


def _process(words: Sequence[str], log: Any, slot: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C reaches it through `_stop` alone, and its children, too."""
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **slot},
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(
            f"command {words[0]!r}: {error.strerror}; give one that can be run"
        ) from error


def _signal(running: Sequence[_Running], number: int) -> None:
    for each in running:
        if each.process.poll() is None:
            try:
                os.killpg(each.process.pid, number)
            except ProcessLookupError:
                continue


def _wait(running: Sequence[_Running], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(each.process.poll() is None for each in running):
        time.sleep(_PAUSE)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
