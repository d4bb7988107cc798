"""psplit_eval on the checkpoints of a training, and which of them is the best.

An evaluation is `psplit-eval run` in a process of its own: it leaves the training's memory and
random numbers alone, and whatever becomes of it, the training goes on.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from psplit_eval.adapters import with_adapter
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import (
    CheckpointError,
    DataError,
    InfrastructureError,
    PsplitError,
    UnknownNameError,
    UsageError,
)
from psplit_eval.files import disk_errors, write_text
from psplit_eval.leaderboard import csv_number, csv_text
from psplit_eval.manifest import read_manifest
from psplit_eval.modes import Mode, checkpoint_modes
from psplit_eval.text import shortened
from psplit_eval.yamlfile import composed
from psplit_train.cards import Measured
from psplit_train.checkpoints import adapter_base
from psplit_train.config import EvaluateSettings

__all__ = [
    "Evaluated",
    "best",
    "check_evaluation",
    "evaluate_checkpoint",
    "evaluate_or_say",
    "last_words",
    "read_evaluations",
]

_FOLDER, _TABLE = "evaluations", "evaluations.csv"
_COLUMNS = ("step", "mode", "task", "metric", "value", "ci_low", "ci_high", "higher_is_better")
_OWN = ("model", "adapter", "modes", "suite", "tasks", "seed", "out", "shard", "json", "help")
"""Options that psplit-train sets itself, or that would make no evaluation of a training."""
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
_LAUNCHERS = (*_LAUNCHED, "ACCELERATE_", "FSDP_", "TORCH_NCCL_")
"""What launchers tell their processes: an evaluation is none of them."""
_HIGHER: Mapping[str, bool | None] = {"true": True, "false": False, "": None}


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found of the checkpoint of a step; `run` is psplit_eval's run folder.

    Of a pool of tasks only the pool is in `rows`: the members' docs are its own.
    """

    step: int
    run: Path
    rows: tuple[Measured, ...]

    @property
    def values(self) -> dict[str, dict[str, float]]:
        """Mode → metric → plain mean over the tasks that have it; NaN where one is undefined."""
        found: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            found.setdefault(row.mode, {}).setdefault(row.metric, []).append(row.value)
        return {m: {name: fmean(v) for name, v in metrics.items()} for m, metrics in found.items()}


def evaluate_checkpoint(
    folder: Path,
    settings: EvaluateSettings,
    modes: Sequence[Mode],
    task_folder: Path | None,
    out: Path,
    seed: int,
    *,
    step: int | None = None,
    thinking: bool | None = None,
) -> Evaluated:
    """Run psplit-eval on a checkpoint, and note what it finds in `out`/evaluations.

    `modes` are those trained, which the folder's psplit_modes.json has to declare; `task_folder`
    holds the task of the held-out prompts (None: there are none); `out` is the training's folder;
    `step` None: that of the folder's name, checkpoint-N. The run is in evaluations/step-N, what it
    says on the way in step-N.log, its numbers in evaluations.csv. One that was cut off goes on
    where it was; one of other weights of the same step is made anew. Raises UsageError,
    CheckpointError or, where psplit-eval fails, InfrastructureError with its last words.
    """
    number = _step(folder) if step is None else step
    _check_modes(folder, modes)
    run = out / _FOLDER / f"step-{number}"
    arguments = _arguments(folder, settings, modes, task_folder, thinking)
    _clear_other(run, folder)
    with disk_errors(run.parent):
        run.parent.mkdir(parents=True, exist_ok=True)
    said = _psplit_eval([*arguments, "--seed", str(seed), "--out", str(run), "--json"], run, number)
    _note(out, number, _own_rows(json.loads(said)["results"], run))
    return next(found for found in read_evaluations(out) if found.step == number)


def evaluate_or_say(
    folder: Path,
    settings: EvaluateSettings,
    modes: Sequence[Mode],
    task_folder: Path | None,
    out: Path,
    seed: int,
    say: Callable[[str], None],
    *,
    step: int | None = None,
    thinking: bool | None = None,
) -> Evaluated | None:
    """As `evaluate_checkpoint`; what goes wrong is said in one line, and None returned: a training
    is worth more than one of its evaluations."""
    try:
        return evaluate_checkpoint(
            folder, settings, modes, task_folder, out, seed, step=step, thinking=thinking
        )
    except PsplitError as error:
        say(f"{folder.name} is not evaluated, training goes on: {error}")
        return None


def check_evaluation(
    settings: EvaluateSettings, modes: Sequence[Mode], task_folder: Path | None
) -> None:
    """Raise UsageError for an evaluation that would fail hours later: unknown options, tasks or
    suites, wrong values, nothing to ask."""
    from psplit_eval.choosing import chosen_tasks
    from psplit_eval.cli import command_parser
    from psplit_eval.cli_run import run_options
    from psplit_eval.engines import check_engine
    from psplit_eval.modes import resolve_modes

    arguments = _arguments(Path("checkpoint-0"), settings, modes, task_folder, None)
    options = run_options(command_parser().parse_args(["run", *arguments]), arguments)
    resolve_modes(options.modes, options.given_modes, {mode.name: mode for mode in modes})
    check_engine(options.engine)
    chosen_tasks(options)


def read_evaluations(out: Path) -> list[Evaluated]:
    """All evaluations of a training so far, by step; [] where there is none.

    Raises DataError for a table that psplit did not write.
    """
    path = out / _FOLDER / _TABLE
    if not path.is_file():
        return []
    found: dict[int, list[Measured]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, strict=True):
                found.setdefault(int(row["step"]), []).append(_measured(row))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: not a table of evaluations ({error!r}); move it away, and the evaluations "
            "are made again"
        ) from error
    return [
        Evaluated(step, out / _FOLDER / f"step-{step}", tuple(rows))
        for step, rows in sorted(found.items())
    ]


def best(evaluated: Iterable[Evaluated], metric: str, mode: str) -> int:
    """The step whose checkpoint has the best mean of `metric` over the tasks in `mode`; of equal
    ones the earliest. Undefined values are never the best.

    Raises UnknownNameError where no evaluation has the metric, UsageError where it is undefined in
    all of them or no value of it is better than another.
    """
    every = sorted(evaluated, key=lambda each: each.step)
    rows = [row for each in every for row in each.rows if row.mode == mode]
    known = {row.metric for row in rows}
    if metric not in known:
        raise UnknownNameError(f"metric of mode {mode!r}", metric, known)
    better = {row.higher_is_better for row in rows if row.metric == metric}
    if better not in ({True}, {False}):
        raise UsageError(f"metric {metric!r}: no value is better than another; name another metric")
    sign = 1 if better == {True} else -1
    values = {each.step: sign * each.values.get(mode, {}).get(metric, math.nan) for each in every}
    defined = {step: value for step, value in values.items() if not math.isnan(value)}
    if not defined:
        raise UsageError(
            f"metric {metric!r}: undefined in mode {mode!r} at every step; name another"
        )
    return max(defined, key=lambda step: (defined[step], -step))


def last_words(log: Path) -> str:
    """The last line of what a process wrote that says something, in at most 200 characters.

    Progress bars write several on one; who speaks is known, so a program's name is left out.
    """
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return shortened(re.sub(r"^psplit-\w+: ", "", lines[-1]), 200) if lines else "it said nothing"


def _step(folder: Path) -> int:
    kind, _, number = folder.name.rpartition("-")
    if kind != "checkpoint" or not number.isdigit():
        raise UsageError(f"{str(folder)!r}: expected a folder checkpoint-N; give its step")
    return int(number)


def _check_modes(folder: Path, modes: Sequence[Mode]) -> None:
    declared = checkpoint_modes(folder)
    for mode in modes:
        if declared.get(mode.name) != mode:
            raise CheckpointError(
                f"checkpoint {str(folder)!r}: its psplit_modes.json does not declare the mode "
                f"{mode.name!r} as it was trained; write the file before the evaluation"
            )


def _arguments(
    folder: Path,
    settings: EvaluateSettings,
    modes: Sequence[Mode],
    task_folder: Path | None,
    thinking: bool | None,
) -> list[str]:
    """Of psplit-eval run, but for --seed, --out and --json."""
    names = settings.modes or [mode.name for mode in modes]
    chosen = [*_opened(folder), "--modes", ",".join(names), "--samples", str(settings.samples)]
    if settings.limit is not None:
        chosen += ["--limit", str(settings.limit)]
    if thinking is not None and "thinking" not in settings.options:
        chosen += ["--thinking", "on" if thinking else "off"]
    if not settings.placebo:
        chosen.append("--no-divergence")
    return [*chosen, *_tasks(settings, task_folder), *_more(settings.options)]


def _opened(folder: Path) -> list[str]:
    """An adapter's base has a tokenizer of its own; the template is that of the training."""
    base = adapter_base(folder)
    if base is None:
        return ["--model", str(folder)]
    template = folder / "chat_template.jinja"
    given = ["--chat-template", str(template)] if template.is_file() else []
    return ["--model", base, "--adapter", str(folder), *given]


def _tasks(settings: EvaluateSettings, task_folder: Path | None) -> Iterator[str]:
    names = list(settings.tasks)
    if task_folder:
        yield from ("--include-path", str(task_folder))
    if settings.suite:
        yield from ("--suite", settings.suite)
    if not names and not settings.suite:
        names = _task_names(task_folder) if task_folder else []
        if not names:
            raise UsageError(
                "evaluate: no prompts to ask, expected held-out ones, a suite or tasks; set "
                "data.held_out above 0, or evaluate.suite or evaluate.tasks"
            )
    if names:
        yield from ("--tasks", ",".join(names))


def _task_names(folder: Path) -> list[str]:
    """Of the tasks that the YAML files of a folder define, without running code of theirs."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        node = composed(path)
        entries = getattr(node, "value", None)
        pairs = entries if isinstance(entries, list) else []
        found += [str(v.value) for k, v in pairs if k.value == "task" and isinstance(v.value, str)]
    return found


def _more(options: Mapping[str, Any]) -> Iterator[str]:
    """Options by their names; true is a flag, a list is given item by item."""
    for name, value in options.items():
        key = name.replace("-", "_")
        if key in _OWN:
            raise UsageError(
                f"evaluate.options.{name}: psplit-train sets it itself; leave it out, or use the "
                "evaluate section's own settings"
            )
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is None or item is False:
                continue
            yield f"--{key.replace('_', '-')}"
            if item is not True:
                yield str(item)


def _clear_other(run: Path, folder: Path) -> None:
    """A training that went on from an earlier step comes by a step again, with other files."""
    manifest = read_manifest(run)
    if manifest is None:
        return
    base = adapter_base(folder)
    found = resolve_checkpoint(str(folder) if base is None else base)
    now = with_adapter(found, folder) if base else found
    if manifest.get("checkpoint", {}).get("fingerprint") != now.fingerprint:
        with disk_errors(run):
            shutil.rmtree(run)


def _psplit_eval(arguments: Sequence[str], run: Path, step: int) -> str:
    """The last line that `psplit-eval run` prints; the rest of what it says is in a file."""
    log = run.with_name(f"{run.name}.log")
    command = [sys.executable, "-m", "psplit_eval.cli", "run", *arguments]
    with disk_errors(log), log.open("wb") as said:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=said, env=_environment(), check=False
        )
    if done.returncode:
        raise InfrastructureError(
            f"evaluation of step {step}: psplit-eval ended with exit code {done.returncode} "
            f"({last_words(log)}); {log} has all that it said"
        )
    return done.stdout.decode("utf-8").strip().split("\n")[-1]


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(_LAUNCHERS)}


def _own_rows(results: Sequence[Mapping[str, Any]], run: Path) -> list[Mapping[str, Any]]:
    """All but what is told of a pool's members."""
    pools = (read_manifest(run) or {}).get("pools", {})
    members = {task for tasks in pools.values() for task in tasks}
    return [row for row in results if row["task"] not in members]


def _note(out: Path, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the rows of a step into the table, in the place of older ones."""
    before = [each for each in read_evaluations(out) if each.step != step]
    new = Evaluated(step, out, tuple(map(_from_json, rows)))
    lines = [
        _line(each.step, row)
        for each in sorted([*before, new], key=lambda each: each.step)
        for row in each.rows
    ]
    write_text(out / _FOLDER / _TABLE, csv_text(_COLUMNS, lines))


def _from_json(row: Mapping[str, Any]) -> Measured:
    numbers = (row[name] for name in ("value", "ci_low", "ci_high"))
    value, low, high = (math.nan if number is None else float(number) for number in numbers)
    return Measured(
        row["task"], row["mode"], row["metric"], value, low, high, row["higher_is_better"]
    )


def _line(step: int, row: Measured) -> list[str]:
    better = "" if row.higher_is_better is None else str(row.higher_is_better).lower()
    numbers = map(csv_number, (row.value, row.ci_low, row.ci_high))
    return [str(step), row.mode, row.task, row.metric, *numbers, better]


def _measured(row: Mapping[str, str]) -> Measured:
    numbers = (row[name] for name in ("value", "ci_low", "ci_high"))
    value, low, high = (float(text) if text else math.nan for text in numbers)
    better = _HIGHER[row["higher_is_better"]]
    return Measured(row["task"], row["mode"], row["metric"], value, low, high, better)
