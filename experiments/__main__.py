"""`python -m experiments STUDY.yaml`: train and evaluate what is missing, then write the page.

Records are in `records/` beside the study, and are all that a page is made of; the weights of a
tiny start are in `starts/`. What is trained is in runs/experiments, and is not needed any more
once its record is there. Where a machine has to be given back, `--stopped` keeps what unfinished
trainings have logged, and what was measured of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from experiments.analysis import trained_arms
from experiments.cell import measure_base, stopped_record
from experiments.page import write_page
from experiments.records import STOPPED, read_records, read_stopped, record_path, write_record
from experiments.study import BASE, Study, read_study
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.commandline import OneLineParser, exit_code
from psplit_eval.errors import DataError
from psplit_eval.files import new_folder
from psplit_eval.modes import Mode
from psplit_eval.training_curves import LOG_NAMES
from psplit_train.config import Config
from psplit_train.data import read_data
from psplit_train.loading import differences, read_config
from psplit_train.sweep import Cell, sweep
from psplit_train.tasks import TASKS
from psplit_train.tiny import make_tiny
from psplit_train.warmup import warm_up

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "experiments"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where every record is there, else 4."""
    parser = OneLineParser(prog="python -m experiments", description="Run a study.")
    parser.add_argument("study", type=Path, help="a YAML file (experiments/*.yaml)")
    parser.add_argument("--jobs", type=int, help="trainings at a time (as many as cores)")
    parser.add_argument("--arms", default="", help="only these, separated by commas")
    parser.add_argument("--report", action="store_true", help="only write the page anew")
    parser.add_argument(
        "--stopped",
        action="store_true",
        help="keep what unfinished trainings logged and measured; train nothing",
    )
    parser.add_argument("--pages", type=Path, default=PAGES, help="folder of the page")
    return exit_code(
        "experiments", lambda: _work(parser.parse_args(arguments)), "give the same command to go on"
    )


def _work(options: argparse.Namespace) -> int:
    study = read_study(options.study)
    records = options.study.parent / "records" / options.study.stem
    if options.stopped:
        _keep_stopped(study, options.study, records)
    elif not options.report:
        chosen = [study.arm(name).name for name in options.arms.split(",") if name]
        study.check()
        trained_arms(study, [*read_records(records), *read_stopped(records)])  # none is stale
        _run(study, options.study, records, options.jobs, chosen)
    page = write_page(study, options.study, records, options.pages)
    _say(f"page: {page}")
    reported = options.report or options.stopped
    return 0 if reported or not _missing(study, records) else 4


def _run(study: Study, path: Path, records: Path, jobs: int | None, chosen: Sequence[str]) -> None:
    out = Path("runs/experiments") / path.stem
    start = kept_start(study, path.parent / "starts" / path.stem, out)
    if not chosen or BASE in chosen:
        _measure_base(study, start, records, out)
    arms = {cell.name: arm for arm, cell in study.cells()}

    def done(cell: Cell) -> bool:
        arm = arms.get(cell.name)
        return arm is None or record_path(records, arm.name, cell.seed).is_file()

    command = (sys.executable, "-m", "experiments.cell", str(path), str(records))
    for first in (True, False):
        group = [a for a in study.trained if a.main is first and (not chosen or a.name in chosen)]
        if group:
            seeds = range(max(arm.seeds for arm in group))
            settings = [arm.settings for arm in group]
            sweep(
                study.config, settings, seeds, out, jobs, _say,
                common=[_checkpoint(start)], command=command, done=done,
            )  # fmt: skip


def _keep_stopped(study: Study, path: Path, records: Path) -> None:
    for arm, cell in study.cells():
        out = Path("runs/experiments") / path.stem / "cells" / cell.name
        known = record_path(records, arm.name, cell.seed).is_file()
        if known or not (out / LOG_NAMES[0]).is_file():
            continue
        if changed := _changed(study.configured(arm, cell.seed), out):
            _say(f"{arm.name}, seed {cell.seed}: not kept, as it was given {changed[0]}")
            continue
        kept = stopped_record(study, arm, cell.seed, out)
        write_record(records / STOPPED, kept)
        _say(f"{arm.name}, seed {cell.seed}: stopped at step {kept.steps}, what there is is kept")


def _changed(config: Config, out: Path) -> list[str]:
    """In what a training in `out` was given something else, but for where its start lay."""
    found = differences(read_config(out / "config.yaml"), config)
    return [each for each in found if not each.startswith("model.checkpoint:")]


def _checkpoint(start: Path) -> str:
    return f"model.checkpoint={json.dumps(str(start.absolute()))}"


def _missing(study: Study, records: Path) -> bool:
    """Whether any arm, the base too, lacks a record."""
    asked = ((arm.name, seed) for arm in study.arms for seed in range(arm.seeds))
    return any(not record_path(records, name, seed).is_file() for name, seed in asked)


def kept_start(study: Study, kept: Path, out: Path) -> Path:
    """A tiny start is committed: made on another machine, it may differ in its last digits."""
    if study.start.model is None:
        return _start(study, out)
    if not kept.is_dir():
        made = _start(study, out)
        with new_folder(kept) as partial:
            shutil.copytree(made, partial, dirs_exist_ok=True)
    _check_start(study, kept)
    return kept


def _check_start(study: Study, kept: Path) -> None:
    """By what its warm-up wrote down, which is nothing where there was none."""
    record = kept / "psplit_warmup.json"
    asked = study.start.warmup.model_dump(
        mode="json", exclude={"folder": True, "keep": {"requests"}}, exclude_none=True
    )
    asked = asked if asked["steps"] else {}
    found = json.loads(record.read_text(encoding="utf-8"))["settings"] if record.is_file() else {}
    if found != asked:
        raise DataError(
            f"start {kept}: warm-up {found or 'none'}, expected the study's {asked or 'none'}; "
            "delete it, and it is made again"
        )


def _start(study: Study, out: Path) -> Path:
    """A model that has learnt the task under every prompt of the study, all of them alike; without
    a warm-up the model as it is."""
    config, given = read_config(study.config, []), study.start
    folder = make_tiny(given.model, out / "tiny") if given.model else _found(str(given.checkpoint))
    if not given.warmup.steps:
        return folder
    task, prompts = TASKS[str(config.data.task)], read_data(config.data, _say).train

    def draw(random: Random) -> tuple[str, str]:
        prompt = random.choice(prompts)
        return prompt.question, task.worked({"answer": prompt.answer}, random)

    modes, mixed = _prompts(study, config), config.model.dtype == "bfloat16"
    return warm_up(folder, given.warmup, draw, modes, out / "start", _say, mixed=mixed)


def _found(checkpoint: str) -> Path:
    folder = resolve_checkpoint(checkpoint, _say).folder
    assert folder is not None  # only a checkpoint on a server has none
    return folder


def _prompts(study: Study, config: Config) -> list[Mode]:
    given = study.prompts
    placebos = [Mode(f"placebo_{i}", text) for i, text in enumerate(given.placebos, 1)]
    own = [mode.mode() for mode in config.modes]
    return [*own, Mode("high_rewritten", given.rewritten), Mode("low", given.low), *placebos]


def _measure_base(study: Study, start: Path, records: Path, out: Path) -> None:
    for seed in range(next((arm.seeds for arm in study.arms if arm.name == BASE), 0)):
        if not record_path(records, BASE, seed).is_file():
            given = [_checkpoint(start), f"train.seed={seed}"]
            config = read_config(study.config, given)
            place = out / "base" / str(seed)
            write_record(records, measure_base(study, config, start, place))
            _say(f"base, seed {seed}: measured")


def _say(text: str) -> None:
    print(f"experiments: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
