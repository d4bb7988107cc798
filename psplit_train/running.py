"""A training run from its config to a finished model.

A run's folder is its state: the resolved config, the log, whole checkpoints. The same call again
goes on from the last one, and ends as it would have without the break.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from psplit_eval.errors import InfrastructureError, RunMismatchError, UsageError
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.manifest import locked
from psplit_eval.modes import Mode
from psplit_train.cards import Facts, Measured, model_card
from psplit_train.checkpoints import (
    commit,
    complete,
    full_disk,
    latest,
    publish,
    rotate,
    sweep_partial,
    write_modes,
)
from psplit_train.config import Config
from psplit_train.evaluate import Evaluated, best, evaluate_or_say, read_evaluations
from psplit_train.loading import differences, read_config, write_config
from psplit_train.processes import launch
from psplit_train.seams import steps_of_responses
from psplit_train.stability import EntropyController, Monitor
from psplit_train.starting import Start, prepare, trainer_for

__all__ = ["Screen", "run"]

_CONFIG, _LOG, _STATE = "config.yaml", "training_log.jsonl", "psplit_state.json"


class Screen(Protocol):
    """What a run says while it works; `cli.Terminal` is one."""

    def say(self, text: str) -> None:
        """One line."""

    def steps(
        self, total: int, done: int = 0
    ) -> AbstractContextManager[Callable[[int, str], None]]:
        """Progress: what is given is called with steps that were made, and a note."""


def run(config: Config, out: Path, screen: Screen) -> Path:
    """Train by `config` in the folder `out`, or go on there; returns out/final, the model.

    Every process of a launcher calls it. Raises UsageError for what cannot be trained,
    too where `out` is in use, RunMismatchError where it has other settings, InfrastructureError
    where the machine fails: finished checkpoints are kept then.
    """
    state = launch()
    with ExitStack() as held:
        if state.is_main_process:
            held.enter_context(locked(out))
            _claim(config, out)
        state.wait_for_everyone()
        held.enter_context(full_disk(out))
        return _run(config, out, screen)


def _run(config: Config, out: Path, screen: Screen) -> Path:
    import torch

    start = prepare(config, out, screen.say)
    session = _Session(config, out, start, screen)
    try:
        session.train()
    except torch.OutOfMemoryError as error:
        raise InfrastructureError(
            f"out of memory ({str(error).splitlines()[0]}); lower train.micro_batch or turn on "
            "train.gradient_checkpointing, then give the command again"
        ) from error
    state = launch()
    if state.is_main_process:
        session.finish()
    state.wait_for_everyone()
    return out / "final"


def _claim(config: Config, out: Path) -> None:
    """Make a folder this run's, or find that it is.

    What does not touch the weights may differ from before, and with a constant learning rate there
    may be more steps.
    """
    kept = out / _CONFIG
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        unlike = differences(read_config(kept), config)
        unlike = [change for change in unlike if not _harmless(change, config)]
        if unlike:
            raise RunMismatchError(
                f"{out}: begun with other settings ({'; '.join(unlike)}); give those again, or "
                "another --out"
            )
    write_config(config, kept)
    sweep_partial(out)


def _harmless(change: str, config: Config) -> bool:
    longer = config.train.schedule == "constant" and change.startswith("train.steps:")
    return longer or change.startswith(("checkpoints.", "evaluate", "log."))


@dataclass
class _Session:
    """What happens around the trainer's steps."""

    config: Config
    out: Path
    start: Start
    screen: Screen
    said: list[str] = field(default_factory=list)
    """All alarms."""
    good_until: int | None = None
    """The last step that the window of the first alarm does not reach."""

    def __post_init__(self) -> None:
        self.trainer = trainer_for(
            self.config,
            self.out,
            self.start,
            step_end=self._step_end,
            keep_rollouts=self._keep_rollouts,
            finish_checkpoint=self._finish_checkpoint,
        )
        split = self.trainer.split
        references = {
            name: split.names[r] for name, r in zip(split.names, split.references, strict=True)
        }
        self.monitor = Monitor(self.config.stability.alarms, split.names, references)
        self.controllers = {
            number: controller
            for number, explores in enumerate(split.explores)
            if explores and (controller := self._controller(split.etas[number]))
        }
        self.trainer.add_callback(_log_file(self.out / _LOG, self.trainer.accelerator))
        self.trainer.add_callback(_last_checkpoint())
        self._watch: Callable[[int, str], None] = lambda steps, note: None
        self._latest: dict[str, float] = {}
        self._unsure = ""

    @property
    def modes(self) -> list[Mode]:
        """Of the checkpoint: all of the config, trained or not."""
        return [mode.mode() for mode in self.config.modes]

    def train(self) -> None:
        """To the last step, from the last checkpoint where there is one."""
        begun = latest(self.out)
        done = self._load(begun) if begun else 0
        self._cut_log(done)
        if begun and self.trainer.accelerator.is_main_process and self._is_missed(done):
            self._evaluate(done, begun)
        if self._is_over(done):
            return
        if done % (window := steps_of_responses(self.trainer.args)):
            raise UsageError(
                f"train.steps {self.config.train.steps}: the run ended with step {done}, and "
                f"cannot go on exactly but from a multiple of {window}, the steps that train on "
                "the same responses; train anew, in another --out"
            )
        with self.screen.steps(self.config.train.steps, done) as self._watch:
            self.trainer.train(resume_from_checkpoint=str(begun) if begun else None)

    def _is_over(self, done: int) -> bool:
        stopped = self.config.stability.stop and bool(self.said)
        return done >= self.config.train.steps or stopped

    def finish(self) -> None:
        """Evaluate what was not, and publish the model."""
        step, folder = self._result()
        found = self._evaluate(step, folder) if self.config.evaluate else None
        if found:
            self._say_found(found)
        elif self.said:  # its card may be older than the alarm
            self._write_card(folder, step)
        publish(folder, self.out / "final")
        if found:
            self._publish_best(step)

    def _publish_best(self, final: int) -> None:
        """The checkpoint that evaluation found best, where it is another than the last."""
        assert self.config.evaluate is not None
        metric, first = self.config.evaluate.metric, self.config.modes[0].name
        step = self._best()
        folder = dict(complete(self.out)).get(-1 if step is None else step)
        if folder and step != final:
            publish(folder, self.out / "best")
            self.screen.say(f"best by {metric} in {first}: step {step}, in {self.out / 'best'}")

    def _best(self) -> int | None:
        """The step that evaluation found best; None, and a line, where none can be called so."""
        assert self.config.evaluate is not None
        try:
            return best(self._evaluated(), self.config.evaluate.metric, self.config.modes[0].name)
        except UsageError as error:
            said = f"no checkpoint is called best: {error}"
            if said != self._unsure:
                self.screen.say(said)
            self._unsure = said
            return None

    def _say_found(self, found: Evaluated) -> None:
        assert self.config.evaluate is not None
        metric = self.config.evaluate.metric
        for row in found.rows:
            if row.metric in (metric, "accuracy_unique", "entropy_bits"):
                limits = f"[{row.ci_low:.3g}, {row.ci_high:.3g}]"
                self.screen.say(f"{row.task}, {row.mode}: {row.metric} {row.value:.3g} {limits}")
        self.screen.say(f"report: {found.run / 'report.html'}")

    def _result(self) -> tuple[int, Path]:
        """The last checkpoint, or where an alarm stopped training the last one before it."""
        found = complete(self.out)
        if not found:
            raise InfrastructureError(
                f"{self.out}: no checkpoint was written; give the command again"
            )
        if not (self.config.stability.stop and self.said):
            return found[-1]
        good = [pair for pair in found if pair[0] <= (self.good_until or 0)]
        step, folder = good[-1] if good else found[0]
        without = "" if good else ", the earliest that is left: the alarm's window reaches it"
        self.screen.say(
            f"stopped by an alarm: the result is the checkpoint of step {step}{without}"
        )
        return step, folder

    # Steps

    def _step_end(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Watch, steer, and say whether to stop."""
        names = self.trainer.split.names
        bits = [metrics.get(f"entropy_bits/{name}", math.nan) for name in names]
        below = bits[0] if self.config.method.target_gap_bits else 0.0
        for number, controller in self.controllers.items():
            controller.update(bits[number] - below)
        self._steer()
        for alarm in self.monitor.observe(step, metrics):
            if self.good_until is None:
                self.good_until = alarm.step - self.config.stability.alarms.window
            self.said.append(str(alarm))
            self.screen.say(str(alarm))
        self._watch(1, self._note(metrics))
        return bool(self.config.stability.stop and self.said)

    def _controller(self, eta: float) -> EntropyController | None:
        method, settings = self.config.method, self.config.stability.controller
        if method.splits and method.target_gap_bits:
            return EntropyController.of_gap(method.target_gap_bits, eta)
        return EntropyController(settings, eta) if settings else None

    def _steer(self) -> None:
        """Controllers' etas to the trainer; where they hold a gap, the others' in proportion, so
        that bonuses that balance go on doing so."""
        start = self.trainer.split.etas
        moved = {number: controller.eta for number, controller in self.controllers.items()}
        if self.config.method.target_gap_bits and moved:
            strength = fmean(eta / start[number] for number, eta in moved.items())
            self.trainer.etas[:] = [eta * strength for eta in start]
        for number, eta in moved.items():
            self.trainer.etas[number] = eta

    def _note(self, metrics: Mapping[str, float]) -> str:
        self._latest.update(metrics)  # rewards are those of the last generation
        known = self._latest

        def mode(name: str) -> str:
            reward, bits = known[f"reward/{name}"], known[f"entropy_bits/{name}"]
            return f"{name}: reward {reward:.2f}, {bits:.2f} bits"

        return "; ".join(map(mode, self.trainer.split.names))

    def _keep_rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        folder = self.out / "rollouts"
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(folder / f"step-{step}.jsonl", lines)

    # Checkpoints

    def _finish_checkpoint(self, step: int, folder: Path) -> None:
        """Add what psplit knows, give it its name, evaluate it, and make room."""
        write_modes(folder, self.modes)
        write_json(folder / _STATE, self._state(step))
        log = self.out / _LOG
        if log.exists():
            write_text(folder / _LOG, log.read_text(encoding="utf-8"))
        self._write_card(folder, step)
        done = commit(folder, self.out, step)
        if self._is_due(step):
            self._evaluate(step, done)
        rotate(self.out, self.config.checkpoints.keep, self._protected(step))

    def _is_due(self, step: int) -> bool:
        """Whether a checkpoint is evaluated on the way; the last one is at the end."""
        every = self.config.evaluate.every if self.config.evaluate else None
        return bool(every) and step % (every or 1) == 0 and step < self.config.train.steps

    def _is_missed(self, step: int) -> bool:
        """A kill may have come between a checkpoint and its evaluation."""
        return self._is_due(step) and all(found.step != step for found in self._evaluated())

    def _write_card(self, folder: Path, step: int, evaluated: Sequence[Measured] = ()) -> None:
        data, log = self.start.data, folder / _LOG
        facts = Facts(
            step,
            len(data.train),
            len(data.held_out),
            data.dropped,
            data.sha256,
            log=log if log.exists() else None,
            alarms=self.said,
            evaluated=evaluated,
        )
        write_text(folder / "README.md", model_card(self.config, facts))

    def _protected(self, step: int) -> set[int]:
        """Steps whose checkpoints stay: the best one, and those to go back to from an alarm.

        The next alarm's window begins at `step` + 2 - window or later, so the last checkpoint
        before that is good whenever it comes; the one after it takes its place in time.
        """
        found = [each for each, _ in complete(self.out)]
        kept = set()
        if self.config.evaluate and self._evaluated() and (known := self._best()) is not None:
            kept.add(known)
        good = self.good_until
        if good is None:
            good = step + 1 - self.config.stability.alarms.window
            kept.update([each for each in found if each > good][:1])
        kept.update([each for each in found if each <= good][-1:])
        return kept

    def _evaluated(self) -> list[Evaluated]:
        return read_evaluations(self.out)

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "format": 1,
            "step": step,
            "monitor": self.monitor.state(),
            "controllers": {str(n): c.state() for n, c in self.controllers.items()},
            "alarms": self.said,
            "good_until": step if self.good_until is None else self.good_until,
            "failures": self.trainer.reward.failures,
        }

    def _load(self, folder: Path) -> int:
        """Remember what was known at a checkpoint; returns its step."""
        state = _read_state(folder)
        self.monitor.load(state["monitor"])
        for number, controller in self.controllers.items():
            controller.load(state["controllers"][str(number)])
        self._steer()
        self.said = list(state["alarms"])
        self.good_until = state["good_until"] if self.said else None
        self.trainer.reward.failures = state["failures"]
        return int(state["step"])

    def _cut_log(self, done: int) -> None:
        """What came after the checkpoint comes again: lines of the log, and rollouts."""
        if not self.trainer.accelerator.is_main_process:
            return
        log = self.out / _LOG
        if log.exists():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(log, "".join(line for line in lines if _step_of(line) <= done))
        for path in (self.out / "rollouts").glob("step-*.jsonl"):
            if int(path.stem.removeprefix("step-")) > done:
                path.unlink()

    def _evaluate(self, step: int, folder: Path) -> Evaluated | None:
        """Measure a checkpoint, and have its card say so."""
        assert self.config.evaluate is not None
        found = evaluate_or_say(
            folder,
            self.config.evaluate,
            self.modes,
            self.start.held_out,
            self.out,
            self.config.train.seed,
            self.screen.say,
            thinking=self.config.model.enable_thinking,
        )
        if found:
            self._write_card(folder, step, found.rows)
        return found


def _step_of(line: str) -> float:
    """Of a line of the log; infinity for one that a power cut left half."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _read_state(folder: Path) -> dict[str, Any]:
    with disk_errors(folder / _STATE):
        content: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return content


def _log_file(path: Path, accelerator: Any) -> Any:
    """A callback that appends every logged step to a file; undefined values are null."""
    from transformers import TrainerCallback

    class LogFile(TrainerCallback):  # type: ignore[misc]
        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
        ) -> None:
            if not accelerator.is_main_process or not logs or "train_runtime" in logs:
                return
            known = {name: _finite(value) for name, value in logs.items()}
            line = json.dumps({"step": state.global_step, **known}, ensure_ascii=False)
            with disk_errors(path), path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    return LogFile()


def _last_checkpoint() -> Any:
    """A callback that saves where training is stopped, so that it is known to be over."""
    from transformers import TrainerCallback

    class LastCheckpoint(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_save |= control.should_training_stop
            return control

    return LastCheckpoint()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
