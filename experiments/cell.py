"""One training of a study, with its evaluations and its record:

    python -m experiments.cell STUDY RECORDS run CONFIG --set NAME=VALUE … --out DIR

From `run` on it is psplit-train's command; a sweep starts it so, a process a training.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from experiments.measuring import (
    at_temperatures,
    creative,
    evaluate,
    reported_means,
    reported_splits,
    splits,
    stored_creative,
    write_tasks,
)
from experiments.records import Record, write_record
from experiments.study import BASE, Arm, Study, digest, read_study
from psplit_eval.errors import UsageError
from psplit_eval.training_curves import LOG_NAMES, read_training_log
from psplit_train.cli import main as train
from psplit_train.config import Config
from psplit_train.loading import read_config

__all__ = ["main", "measure_base", "stopped_record"]

_COMMON = ("train.seed", "model.checkpoint")
"""What a sweep sets by itself; the rest is the arm's."""
_WINDOW = 20
_LOGGED = (
    *("reward/", "entropy_bits/", "kl_bits/", "unique/", "bonus/", "clamped/", "eta/"),
    "dead_groups",
)
_VERSIONS = ("torch", "transformers", "trl", "psplit")


def main(arguments: Sequence[str]) -> int:
    """Train, evaluate, write the record; what is there already is not done again."""
    study_path, records, *training = arguments
    if code := train(training):
        return code
    _free_memory()
    study = read_study(Path(study_path))
    given = [training[i + 1] for i, word in enumerate(training) if word == "--set"]
    config = read_config(Path(training[1]), given)
    sets = (text.partition("=") for text in given)
    settings = {name: value for name, _, value in sets if name not in _COMMON}
    out = Path(training[training.index("--out") + 1])
    record = _record(study, _arm(study, settings), config, out)
    write_record(Path(records), record)
    return 0


def _free_memory() -> None:
    """Of a training that is over: trainings side by side share a GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _arm(study: Study, settings: Mapping[str, str]) -> Arm:
    for arm in study.trained:
        if arm.settings == settings:
            return arm
    raise UsageError(f"settings {dict(settings)}: expected those of an arm of {study.title!r}")


def _record(study: Study, arm: Arm, config: Config, out: Path) -> Record:
    checkpoints = {step: _checkpoint(out, step) for step in study.evaluate.steps}
    measured = _measured(study, arm, config, checkpoints, out)
    return replace(_logged(measured, out / "final" / "training_log.jsonl"), alarms=_alarms(out))


def stopped_record(study: Study, arm: Arm, seed: int, out: Path) -> Record:
    """What is left, in `out`, of a training whose machine was taken away: what it logged on its
    way, and what reports said of it."""
    log = out / LOG_NAMES[0]
    known, said = study.digest(arm, seed), reported_splits(out / "splits")
    nothing = Record(arm.name, seed, arm.settings, known, _versions(), [], said, _WINDOW)
    nothing = replace(nothing, study=study.frame(arm))
    means = (reported_means(out / f"eval-{step}", step) for step in study.evaluate.steps)
    return replace(
        _logged(nothing, log),
        steps=len(read_training_log(log).series["step_time"]),
        means=[each for each in means if each],
        creative=stored_creative(out / "creative"),
    )


def _logged(record: Record, log: Path) -> Record:
    series = read_training_log(log).series
    logged = {name: points for name, points in series.items() if name.startswith(_LOGGED)}
    last = int(max(step for step, _ in series["step_time"]))
    return replace(
        record,
        log={name: _windows(points, last) for name, points in logged.items()},
        seconds=round(sum(value for _, value in series["step_time"]), 1),
    )


def measure_base(study: Study, config: Config, start: Path, out: Path) -> Record:
    """The start itself: as nothing is trained, the config's seed is that of sampling."""
    return _measured(study, study.arm(BASE), config, {0: start}, out)


def _measured(
    study: Study, arm: Arm, config: Config, checkpoints: Mapping[int, Path], out: Path
) -> Record:
    tasks = write_tasks(config, study, out / "tasks")
    evaluations = [
        evaluate(folder, config, study, tasks, out / f"eval-{step}", step)
        for step, folder in checkpoints.items()
    ]
    step = max(checkpoints)
    last = checkpoints[step]
    warmed = arm.name in (BASE, study.reference)
    return Record(
        arm=arm.name,
        seed=config.train.seed,
        settings=arm.settings,
        config=digest(config),
        study=study.frame(arm),
        versions=_versions(),
        evaluations=evaluations,
        splits=splits(last, config, study, tasks, out / "splits"),
        creative=creative(last, config, study, out / "creative"),
        temperatures=at_temperatures(last, config, study, tasks, out / "temperatures", step)
        if warmed
        else {},
        window=_WINDOW,
    )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _VERSIONS}


def _checkpoint(out: Path, step: int) -> Path:
    folder = out / f"checkpoint-{step}"
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: not kept, but the study evaluates step {step}; raise checkpoints.keep, or "
            "make its steps multiples of checkpoints.every"
        )
    return folder


def _windows(points: Sequence[tuple[float, float]], last: int) -> list[float]:
    """Means of whole windows of steps, of which the last logged one is `last`, so that they are the
    same steps of every measure, NaN where it has none; of what is shorter than one, its own."""
    windows: list[list[float]] = [[] for _ in range(max(1, last // _WINDOW))]
    for step, value in points:
        number = int(step - 1) // _WINDOW
        if number < len(windows) and math.isfinite(value):
            windows[number].append(value)
    return [round(fmean(window), 5) if window else math.nan for window in windows]


def _alarms(out: Path) -> list[str]:
    checkpoints = sorted(out.glob("checkpoint-*"), key=lambda folder: int(folder.name[11:]))
    return list(json.loads((checkpoints[-1] / "psplit_state.json").read_text())["alarms"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
