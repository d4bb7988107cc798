"""Measure a checkpoint with psplit_eval: held-out, trained and creative docs, in both modes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.records import Creative, Evaluation, Means, Values
from experiments.study import MODES, Study
from psplit_eval.arms import Arm
from psplit_eval.backends import EngineOptions
from psplit_eval.diverging import DivergeOptions, diverge_run
from psplit_eval.modes import Mode
from psplit_eval.run import RunOptions, Screen, run
from psplit_eval.store import Store
from psplit_eval.stored import RunResult, stored_arms
from psplit_eval.suites import TaskSettings
from psplit_train.config import Config
from psplit_train.data import read_data, write_held_out

__all__ = [
    "HELD_OUT",
    "PROMPTS",
    "TRAINED",
    "at_temperatures",
    "creative",
    "evaluate",
    "reported_means",
    "reported_splits",
    "splits",
    "stored_creative",
    "write_tasks",
]

HELD_OUT, TRAINED = "held_out", "trained"
PROMPTS = ("high", "high_rewritten", "low")
"""What `splits` sets beside the normal mode."""
_COMPARISON, _BEHAVIOUR = "comparison.json", "divergence.json"
_SCORED = 8
"""Samples a doc that are scored under every prompt."""
_BATCH_MEMORY = 2**32
"""Bytes: cells that are measured side by side would each take half of what is free."""
_KEPT = ("accuracy_avg", "accuracy_unique", "accuracy_pass_at_8")
_REPORTED = (*_KEPT, "entropy_bits")
_CREATIVE = (
    "quality",
    "passing",
    "dispersion_beyond_prompt",
    "div_bleu_4",
    "tokens_mean",
    "truncated",
)


def write_tasks(config: Config, study: Study, folder: Path) -> Path:
    """Two tasks: held-out docs, and as many of those that are trained on."""
    data = read_data(config.data, lambda _: None)
    tokens, samples = config.train.max_new_tokens, study.evaluate.samples
    count = study.evaluate.docs or len(data.held_out)
    for name, docs in ((HELD_OUT, data.held_out), (TRAINED, data.train)):
        write_held_out(folder, replace(data, held_out=docs[:count]), name, tokens, samples)
    return folder


def evaluate(
    checkpoint: Path, config: Config, study: Study, tasks: Path, out: Path, step: int
) -> Evaluation:
    """Sample both modes on both tasks."""
    options = _options(checkpoint, config, out, step)
    options = replace(options, include=(tasks,), tasks=(HELD_OUT, TRAINED))
    return _evaluation(run(options, Screen()), step)


def at_temperatures(
    checkpoint: Path, config: Config, study: Study, tasks: Path, out: Path, step: int
) -> dict[str, Values]:
    """Sample held-out docs in the normal mode at each of the study's temperatures."""
    options = _options(checkpoint, config, out, step)
    normal = [mode.mode() for mode in config.modes if mode.name == MODES[0]]
    options = replace(options, include=(tasks,), tasks=(HELD_OUT,), given_modes=normal)
    found = {}
    for name in (f"{temperature:g}" for temperature in study.evaluate.temperatures):
        settings = {"": TaskSettings(sampling={"temperature": float(name)})}
        done = run(replace(options, out=out / name, settings=settings), Screen())
        found[name] = _evaluation(done, step).values[HELD_OUT][MODES[0]]
    return found


def splits(
    checkpoint: Path, config: Config, study: Study, tasks: Path, out: Path
) -> list[dict[str, Any]]:
    """Each prompt against the normal mode, beyond placebos, at what normal says of held-out docs:
    the high mode, and the prompts that nothing was trained on."""
    options = _options(checkpoint, config, out, 0)
    options = replace(options, include=(tasks,), tasks=(HELD_OUT,))
    run(replace(options, settings={"": TaskSettings(samples=_SCORED)}), Screen())
    prompts = study.prompts
    found = diverge_run(
        DivergeOptions(
            out,
            given_modes=(
                Mode("high_rewritten", prompts.rewritten, "high"),
                Mode("low", prompts.low, "low"),
            ),
            placebos=0,
            given_placebos=prompts.placebos,
        ),
        Screen(),
    )
    return list(_results(found).behaviour.to_dict()["splits"])


def creative(checkpoint: Path, config: Config, study: Study, out: Path) -> Creative:
    """Sample and measure the study's creative tasks; nothing where it has none."""
    given = study.creative
    if given is None:
        return {}
    settings = TaskSettings(samples=given.samples, sampling={"max_tokens": given.max_tokens})
    options = _options(checkpoint, config, out, 0)
    done = run(replace(options, tasks=given.tasks, settings={"": settings}), Screen())
    return _creative_values(_results(done).arms)


def stored_creative(folder: Path) -> Creative:
    """The same of a run that is there; {} where it has no report yet."""
    return _creative_values(stored_arms(folder)[1]) if (folder / _COMPARISON).is_file() else {}


def reported_splits(folder: Path) -> list[dict[str, Any]]:
    """What `splits` has found, by the run's report; [] where it has none yet."""
    found = _reported(folder / _BEHAVIOUR, "splits")
    return [split for split in found if split["beyond_placebos"]]


def reported_means(folder: Path, step: int) -> Means | None:
    """Means of both modes by the report on an evaluation; None where it has none yet."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for each in _reported(folder / _COMPARISON, "comparisons"):
        if each["metric"] in _REPORTED and each["task"] in (HELD_OUT, TRAINED):
            task = values.setdefault(each["task"], {})
            for arm in ("a", "b"):
                task.setdefault(each[f"arm_{arm}"], {})[each["metric"]] = each[f"value_{arm}"]
    return Means(step, values) if values else None


def _reported(path: Path, part: str) -> list[Any]:
    return list(json.loads(path.read_text(encoding="utf-8"))[part]) if path.is_file() else []


def _creative_values(arms: Iterable[Arm]) -> Creative:
    """What a record keeps of creative tasks; without what no encoder was there for."""
    found: dict[str, dict[str, Values]] = {}
    for arm in arms:
        names = [name for name in (arm.scorer.primary, *_CREATIVE) if name in arm.values]
        found.setdefault(arm.task, {})[arm.mode] = _by_doc(arm, sorted(arm.docs), names)
    return found


def _options(checkpoint: Path, config: Config, out: Path, step: int) -> RunOptions:
    """Samples differ between seeds of training and between steps."""
    return RunOptions(
        model=str(checkpoint),
        modes=(),
        given_modes=[mode.mode() for mode in config.modes],
        seed=10_000 * config.train.seed + step,
        out=out,
        engine=EngineOptions(batch_memory=_BATCH_MEMORY),
        divergence=False,
    )


def _results(result: RunResult) -> Any:
    assert result.results is not None  # only a part of a run has none
    return result.results


def _evaluation(result: RunResult, step: int) -> Evaluation:
    arms: Sequence[Arm] = _results(result).arms
    with Store(result.folder / "samples.sqlite") as store:
        hashes = {
            task: {doc.doc_id: doc.doc_hash for doc in store.docs(task)}
            for task in dict.fromkeys(arm.task for arm in arms)
        }
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for arm in arms:
        values.setdefault(arm.task, {})[arm.mode] = _by_doc(arm, sorted(hashes[arm.task]), _KEPT)
    docs = {task: [known[doc] for doc in sorted(known)] for task, known in hashes.items()}
    return Evaluation(step, docs, values)


def _by_doc(arm: Arm, docs: Sequence[int], names: Sequence[str]) -> dict[str, list[float]]:
    numbers = {name: arm.values[name] for name in names}
    numbers |= {"bits": arm.bits, "tokens": arm.tokens}
    return {
        name: [round(float(of_doc.get(doc, math.nan)), 6) for doc in docs]
        for name, of_doc in numbers.items()
    }
