"""`psplit-train`: train a checkpoint in modes; the only module here that prints or exits.

Nothing heavy is imported before a command needs it, so `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval import __version__
from psplit_eval.commandline import OneLineParser, exit_code
from psplit_eval.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from psplit_train.config import Config
    from psplit_train.estimates import Facts

__all__ = ["Terminal", "command_parser", "main"]

Command = Callable[[argparse.Namespace], int]
Say = Callable[[str], None]

_CONFIG = "config.yaml"
_EXAMPLES = 3
_PAUSE_IN_FILES = 30.0
"""Seconds between two states of a bar that nobody watches: each is kept in the file."""


class Terminal:
    """Steps and a progress bar on standard error, of the first process only."""

    def __init__(self) -> None:
        self._shown = _is_first()

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        if self._shown:
            from tqdm import tqdm

            with tqdm.external_write_mode(file=sys.stderr):
                print(f"psplit-train: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def steps(self, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """A bar with the time that is left: `watch(steps, note)` for so many more steps."""
        from tqdm import tqdm

        form = "{l_bar}{bar}| {n}/{total} steps, {elapsed}, {remaining} left{postfix}"
        pause = 0.1 if sys.stderr.isatty() else _PAUSE_IN_FILES
        with tqdm(
            total=total,
            initial=done,
            desc="training",
            bar_format=form,
            mininterval=pause,
            maxinterval=math.inf,
            disable=not self._shown,
        ) as bar:

            def watch(steps: int, note: str = "") -> None:
                if note:
                    bar.set_postfix_str(note, refresh=False)
                bar.update(steps)

            yield watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (0 done, 2 usage, 4 infrastructure, 130 Ctrl-C)."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        options = command_parser().parse_args(given)
        return int(options.command(options))

    return exit_code(
        "psplit-train",
        work,
        "the checkpoints are kept: give the same command again (without --fresh) to go on from "
        "the last one",
    )


def command_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = OneLineParser(
        prog="psplit-train",
        description="Train a chat checkpoint to hold two modes, or more, in one set of weights.",
    )
    parser.add_argument("--version", action="version", version=f"psplit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    known: tuple[tuple[str, str, Command, Callable[[argparse.ArgumentParser], None]], ...] = (
        ("run", "train as a config file says, or go on with it", _run, _add_run_options),
        ("sweep", "a grid of settings and seeds", _sweep, _add_sweep_options),
        ("tasks", "list the generated tasks with examples", _tasks, _add_json),
    )
    for name, about, command, add_options in known:
        added = commands.add_parser(name, help=about)
        added.set_defaults(command=command)
        add_options(added)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a YAML file of settings (configs/ has some)")
    _add_set(parser, "NAME=VALUE", "a setting on top of the file's: eta=0.1, train.seed=1")
    add("--out", type=Path, metavar="DIR", help="the run's folder (runs/train/NAME)")
    add("--fresh", action="store_true", help="begin; a run that is there is not gone on with")
    add("--overwrite", action="store_true", help="with --fresh: delete the run that is there")
    _add_json(parser)
    add = parser.add_argument_group("before it is begun").add_argument
    add("--dry-run", action="store_true", help="check all, print settings, tokens and memory")
    add("--processes", type=int, metavar="N", help="estimate for so many (those of the launcher)")
    add("--sharded", action="store_true", help="estimate for FSDP2 or DeepSpeed ZeRO-3")


def _add_sweep_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a YAML file of settings")
    _add_set(parser, "NAME=V1,V2", "values of a setting; several settings make a grid")
    add("--seeds", default="3", metavar="N", help="so many seeds, or a list such as 0,7 (3)")
    add("--out", type=Path, metavar="DIR", help="folder of all runs (runs/sweeps/NAME)")
    add("--jobs", type=int, metavar="N", help="runs at a time (as many as GPUs, or else cores)")
    _add_json(parser)


def _add_set(parser: argparse.ArgumentParser, form: str, about: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar=form, dest="sets", help=about)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _run(options: argparse.Namespace) -> int:
    from psplit_train.checks import check_config
    from psplit_train.loading import read_config

    config = read_config(options.config, options.sets)
    out = options.out or Path("runs/train") / options.config.stem
    processes = _processes(options)
    notes = check_config(config, processes)
    screen = Terminal()
    for note in notes:
        screen.say(f"note: {note}")
    if options.dry_run:
        return _dry_run(options, config, out, notes, processes)
    _begin(out, options)
    _prepare()
    from transformers.utils.logging import disable_progress_bar

    from psplit_train.running import run

    disable_progress_bar()  # of every file that is read or written; the run has a bar of its own

    final = run(config, out, screen)
    if options.json and _is_first():
        print(json.dumps({"out": str(out), "final": str(final)}))
    elif _is_first():
        print(f"\nmodel: {final}\nevaluate it: {shlex.join(_evaluation(out, final))}")
    return 0


def _evaluation(out: Path, final: Path) -> list[str]:
    """The command that asks what was held out, where something was."""
    command = ["psplit-eval", "run", "--model", str(final)]
    held_out = out / "held_out"
    if held_out.is_dir():
        command += ["--include-path", str(held_out), "--tasks", "held_out"]
    return command


def _is_first() -> bool:
    """Of the launcher's processes."""
    return os.environ.get("RANK", "0") == "0"


def _processes(options: argparse.Namespace) -> int:
    """Of the launcher, or those to plan for."""
    if options.processes is None:
        return int(os.environ.get("WORLD_SIZE", "1"))
    if not options.dry_run:
        raise UsageError("--processes: expected with --dry-run; torchrun starts processes")
    if options.processes < 1:
        raise UsageError(f"--processes {options.processes}: expected 1 or more")
    return int(options.processes)


def _sharded(options: argparse.Namespace) -> bool:
    """By the launcher, or to be planned for."""
    used = (os.environ.get(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED"))
    return options.sharded or "true" in used


def _begin(out: Path, options: argparse.Namespace) -> None:
    """With --fresh only an empty place will do, or one that is to be overwritten.

    The first process sees to it; the others wait for it where a run begins.
    """
    if options.overwrite and not options.fresh:
        raise UsageError("--overwrite: expected with --fresh; without it the run is gone on with")
    if not (options.fresh and _is_first() and out.exists() and any(out.iterdir())):
        return
    if not options.overwrite:
        raise UsageError(
            f"--fresh: {out} is there already; give another --out, leave out --fresh to go on, or "
            "add --overwrite to delete it"
        )
    if not (out / _CONFIG).is_file():
        raise UsageError(f"--overwrite: {out} is no training run; delete it yourself")
    from psplit_eval.manifest import locked

    with locked(out):  # not while another process trains there
        shutil.rmtree(out)


def _dry_run(
    options: argparse.Namespace, config: Config, out: Path, notes: Sequence[str], processes: int
) -> int:
    _prepare()
    from psplit_train.estimates import estimate, estimate_text
    from psplit_train.loading import config_dict, config_text

    tokens = _prompt_tokens(config, processes, Terminal().say)
    found = estimate(config, _facts(options, config, processes, tokens))
    if options.json:
        content = {"out": str(out), "settings": config_dict(config), "notes": list(notes)}
        print(json.dumps({**content, "estimate": found.to_dict()}, indent=1))
        return 0
    begun = " (begun already: it is gone on with)" if (out / _CONFIG).is_file() else ""
    print(f"{config_text(config)}\n{estimate_text(config, found)}\n\nfolder: {out}{begun}")
    return 0


def _facts(
    options: argparse.Namespace, config: Config, processes: int, tokens: Mapping[str, float]
) -> Facts:
    import torch

    from psplit_train.estimates import Facts, model_shape

    here = options.processes is None and not options.sharded
    return Facts(
        model_shape(config),
        prompt_tokens=tokens,
        processes=processes,
        sharded=_sharded(options),
        on_cpu=here and not torch.cuda.is_available(),
    )


def _prompt_tokens(config: Config, processes: int, say: Say) -> Mapping[str, float]:
    """All is checked that needs no weights, and prompts are counted; unless data or tokenizer are
    out of reach, as on a machine without a network."""
    from psplit_train.estimates import prompt_tokens
    from psplit_train.rehearsal import rehearse

    try:
        data = rehearse(config, processes, say)
        asked = config.train.queries * config.train.steps // config.train.iterations
        say(
            f"{len(data.train)} prompts to train on, {len(data.held_out)} held out; "
            f"{asked / max(len(data.train), 1):.3g} passes over them"
        )
        return prompt_tokens(config, [prompt.question for prompt in data.train])
    except InfrastructureError as error:
        say(f"note: prompts are not checked and counted: {error}")
        return {}


def _sweep(options: argparse.Namespace) -> int:
    from psplit_train.loading import list_values, read_config

    given = list_values(options.sets)
    configs = [  # every cell is checked before the first one begins
        read_config(options.config, [f"{n}={v}" for n, v in zip(given, values, strict=True)])
        for values in product(*given.values())
    ]
    seeds = _seeds(options.seeds)
    out = options.out or Path("runs/sweeps") / options.config.stem
    _prepare()
    from psplit_train.sweep import sweep
    from psplit_train.sweep_report import write_sweep_report

    swept = {name: values for name, values in given.items() if len(values) > 1}
    fixed = [f"{name}={values[0]}" for name, values in given.items() if name not in swept]
    common = _one_start(configs[0], swept, out)
    jobs, say = options.jobs, Terminal().say
    sweep(options.config, swept, seeds, out, jobs, say, fixed=fixed, common=common)
    found = write_sweep_report(out)
    if options.json:
        print(json.dumps({"out": str(out), "report": str(found.file), "table": str(found.table)}))
    else:
        print(f"\n{found.text}\n\nreport: {found.file}")
    return found.exit_code


def _one_start(config: Config, sets: Mapping[str, Sequence[str]], out: Path) -> list[str]:
    """Cells have a start in common: one warm-up for all of them. Not where what it is made of is
    swept, or the config says where it is."""
    made_of = ("warmup", "model", "data", "modes")
    swept = any(name.partition(".")[0] in made_of for name in sets)
    if swept or not config.warmup.steps or config.warmup.folder is not None:
        return []
    return [f"warmup.folder={json.dumps(str(out.absolute() / 'start'))}"]


def _seeds(text: str) -> list[int]:
    """`3` is 0, 1, 2; `0,7` is just these."""
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts) or parts == ["0"]:
        raise UsageError(f"--seeds {text}: expected a number of seeds, or a list such as 0,7")
    return [int(part) for part in parts] if len(parts) > 1 else list(range(int(text)))


def _tasks(options: argparse.Namespace) -> int:
    from psplit_train.tasks import TASKS

    shown = {name: _task(task) for name, task in TASKS.items()}
    if options.json:
        print(json.dumps({"tasks": shown}, indent=1))
        return 0
    for name, task in shown.items():
        print(f"{name}: {task['title']} ({task['prompts']} prompts)")
        for example in task["examples"]:
            print(f"  {example['question']}\n    {'   or   '.join(example['right'])}")
        print()
    print("In a config: data: {task: NAME}. Right answers are checked as in evaluation.")
    return 0


def _task(task: Any) -> Mapping[str, Any]:
    """Some prompts, each with some of its right answers."""
    import random

    rows, drawn = task.rows(0), random.Random(0)
    examples = [
        {
            "question": row["question"],
            "right": list(dict.fromkeys(task.worked(row, drawn) for _ in range(_EXAMPLES))),
        }
        for row in rows[:_EXAMPLES]
    ]
    return {"title": task.title, "prompts": len(rows), "examples": examples}


def _prepare() -> None:
    """Before the first heavy import.

    Threads that spin while they wait make decoding ten times slower beside a busy neighbour.
    Libraries warn of things that psplit checks itself.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
