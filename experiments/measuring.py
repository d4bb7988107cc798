"""Measure a checkpoint with psplit_eval: held-out and trained docs, in both modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.records import Evaluation
from experiments.study import Study
from psplit_eval.arms import Arm
from psplit_eval.diverging import DivergeOptions, diverge_run
from psplit_eval.modes import Mode
from psplit_eval.run import RunOptions, Screen, run
from psplit_eval.store import Store
from psplit_eval.stored import RunResult
from psplit_eval.suites import TaskSettings
from psplit_train.config import Config
from psplit_train.data import read_data, write_held_out

__all__ = ["HELD_OUT", "TRAINED", "evaluate", "splits", "write_tasks"]

HELD_OUT, TRAINED = "held_out", "trained"
_SCORED = 8
"""Samples a doc that are scored under every prompt."""
_KEPT = ("accuracy_avg", "accuracy_unique", "accuracy_pass_at_8")


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
    options = _options(checkpoint, config, tasks, out, step)
    options = replace(options, tasks=(HELD_OUT, TRAINED))
    return _evaluation(run(options, Screen()), step)


def splits(
    checkpoint: Path, config: Config, study: Study, tasks: Path, out: Path
) -> list[dict[str, Any]]:
    """Each prompt against the normal mode, beyond placebos, at what normal says of held-out docs:
    the high mode, and the prompts that nothing was trained on."""
    options = replace(_options(checkpoint, config, tasks, out, 0), tasks=(HELD_OUT,))
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


def _options(checkpoint: Path, config: Config, tasks: Path, out: Path, step: int) -> RunOptions:
    """Samples differ between seeds of training and between steps."""
    return RunOptions(
        model=str(checkpoint),
        modes=(),
        given_modes=[mode.mode() for mode in config.modes],
        include=(tasks,),
        seed=10_000 * config.train.seed + step,
        out=out,
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
        values.setdefault(arm.task, {})[arm.mode] = _by_doc(arm, sorted(hashes[arm.task]))
    docs = {task: [known[doc] for doc in sorted(known)] for task, known in hashes.items()}
    return Evaluation(step, docs, values)


def _by_doc(arm: Arm, docs: Sequence[int]) -> dict[str, list[float]]:
    numbers = {name: arm.values[name] for name in _KEPT}
    numbers |= {"bits": arm.bits, "tokens": arm.tokens}
    return {
        name: [round(float(of_doc.get(doc, math.nan)), 6) for doc in docs]
        for name, of_doc in numbers.items()
    }
