"""One training of a study, with its evaluations and its record:

    python -m experiments.cell STUDY RECORDS run CONFIG --set NAME=VALUE … --out DIR

From `run` on it is psplit-train's command; a sweep starts it so, a process a training.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
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

__all__ = ["COMMON", "main", "measure_base", "stopped_record"]

COMMON = ("train.seed", "model.checkpoint")
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
    settings = {name: value for name, _, value in sets if name not in COMMON}
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
    return replace(
        record,
        log={name: _windows([value for _, value in points]) for name, points in logged.items()},
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


def _windows(values: Sequence[float]) -> list[float]:
    """Means of whole windows; of what is shorter than one, its own."""
    whole = len(values) - len(values) % _WINDOW or len(values)
    parts = [values[i : i + _WINDOW] for i in range(0, whole, _WINDOW)]
    return [round(fmean(part), 5) for part in parts]


def _alarms(out: Path) -> list[str]:
    checkpoints = sorted(out.glob("checkpoint-*"), key=lambda folder: int(folder.name[11:]))
    return list(json.loads((checkpoints[-1] / "psplit_state.json").read_text())["alarms"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
