"""The main job: one checkpoint in its modes, from a command to a finished run folder.

Everything is checked before anything is written. A run folder may be continued and extended by the
same command; a command that would mix other settings into it is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from psplit_eval.arms import restricted
from psplit_eval.backends import Backend, CrossScoring, EngineOptions, Watch
from psplit_eval.catalog import TaskSource
from psplit_eval.checkpoints import Checkpoint
from psplit_eval.choosing import chosen_tasks
from psplit_eval.diverging import Diverging, add_divergence
from psplit_eval.engines import check_engine, find_model, open_backend
from psplit_eval.errors import PsplitError
from psplit_eval.files import write_json
from psplit_eval.harness import Task, load_task
from psplit_eval.manifest import (
    Manifest,
    check_form,
    locked,
    merged_manifest,
    new_manifest,
    read_manifest,
)
from psplit_eval.modes import Mode, checkpoint_modes, resolve_modes
from psplit_eval.paired_runs import StoredRun
from psplit_eval.requests import Request, Shard, digest, plan_sum
from psplit_eval.rescoring import Yardsticks, score_store
from psplit_eval.sampling import Plan, Tally, asked_for, fill, missing, plan, random_order
from psplit_eval.store import Store
from psplit_eval.stored import RunResult, as_stored, conclude
from psplit_eval.suites import TaskSettings
from psplit_eval.training_curves import keep_training_log

__all__ = ["Rounds", "RunOptions", "Screen", "run"]


@dataclass(frozen=True)
class RunOptions:
    """What the command line says. `settings` are by task; the key '' is for every task.

    `divergence`: score every sample under every mode and under placebos, where the engine can.
    """

    model: str
    modes: Sequence[str]
    given_modes: Sequence[Mode] = ()
    suite: str | None = None
    tasks: Sequence[str] = ()
    prompts: Sequence[Path] = ()
    include: Sequence[Path] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, TaskSettings] = field(default_factory=dict)
    seed: int = 0
    out: Path | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    allow_missing: bool = False
    measured_by: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    shard: Shard | None = None
    divergence: bool = True


@dataclass(frozen=True)
class Rounds:
    """Sampling that may end early: in every round `docs` more of each task that is open, in random
    order. `still_open` is shown the docs of finished rounds and says which tasks are; without one
    the run ends."""

    docs: int
    still_open: Callable[[StoredRun], Collection[str]]


class Screen:
    """What a run says while it works; the silent one. `cli` has the one that prints."""

    def say(self, text: str) -> None:
        """A step that takes a while has begun."""

    @contextmanager
    def sampling(self, total: int, done: int) -> Iterator[Watch]:
        """Progress over `total` samples to draw; `done` are there already."""
        yield lambda tokens, samples: None

    @contextmanager
    def scoring(self, total: int) -> Iterator[Watch]:
        """Progress over `total` tokens to score under other prompts."""
        yield lambda tokens, samples: None


def run(options: RunOptions, screen: Screen, rounds: Rounds | None = None) -> RunResult:
    """Sample what is missing, score, compare and report; of a shard, sample its part only.

    `rounds`: a part of it is sampled after the other, as long as it takes.

    Raises UsageError or InfrastructureError (see `errors`); before the first sample is drawn,
    nothing is written for a usage error.
    """
    folder = options.out or _default_folder(options)
    before = read_manifest(folder)  # an unusable folder is found out before anything is loaded
    engine = _as_before(options.engine, before, folder)
    check_engine(engine)
    known = (before or {}).get("yardsticks", {})
    yardsticks = Yardsticks.named({**known, **options.measured_by}, screen.say)
    chosen, pools = chosen_tasks(options)
    checkpoint = find_model(options.model, engine, screen.say)
    modes = resolve_modes(options.modes, options.given_modes, _declared(checkpoint))
    tasks = [(_loaded(source, options.data), settings) for source, settings in chosen]
    for task, settings in tasks:
        for remark in _remarks(task, settings, options.data):
            screen.say(f"{task.name}: {remark}")
    backend = open_backend(checkpoint, engine, screen.say)
    work = _work(plan(backend, modes, tasks, options.seed), backend, options.shard)
    parts = _parts(options, checkpoint, backend, modes, tasks)
    parts |= {"pools": pools, "yardsticks": yardsticks.to_dict(), **work.shard}
    if not work.groups:
        screen.say(
            f"shard {options.shard}: there are fewer work groups than shards, so nothing is left "
            "for this one; merge takes it as it is"
        )
    manifest = merged_manifest(before, new_manifest(parts), folder)
    with locked(folder), Store(folder / "samples.sqlite") as store:
        sampled = _Sampled(store, folder, manifest, backend, tasks, screen)
        if rounds:
            tally = _in_rounds(sampled, work.plan, options.seed, rounds, yardsticks)
        else:
            tally = sampled.draw(work)
        if options.shard:
            return _part_result(folder, options, options.shard, work, tally)
        notes = []
        if options.divergence and _can_diverge(backend, manifest):
            prompted = any(mode["system_prompt"] for mode in manifest["modes"])
            wanted = Diverging(placebos=None if prompted else 0)
            try:
                add_divergence(store, folder, manifest, backend, wanted, yardsticks, screen)
            except PsplitError as error:  # nobody asked for it, and the samples are there
                notes.append(f"the modes' divergence is not measured: {error}")
        try:
            if checkpoint.folder:
                keep_training_log(checkpoint.folder, folder)
        except PsplitError as error:  # likewise
            notes.append(f"no training curves: {error}")
        screen.say("scoring and writing the report")
        scorers = {task.name: task.scorer for task, _ in tasks}
        return conclude(
            store, folder, manifest, options.allow_missing, scorers, yardsticks, tally, notes
        )


def _can_diverge(backend: Backend, manifest: Manifest) -> bool:
    """Whether samples are scored under all modes without being asked: in full, and where there
    are several."""
    scores = isinstance(backend, CrossScoring) and backend.exact and backend.can_score
    return scores and len(manifest["modes"]) > 1


def _as_before(engine: EngineOptions, before: Manifest | None, folder: Path) -> EngineOptions:
    """A run that goes on decodes as many rows at once as before: sums keep their last bits."""
    memory = check_form(before, folder)["model"].get("batch_memory") if before else None
    return replace(engine, batch_memory=memory) if memory else engine


def _declared(checkpoint: Checkpoint) -> dict[str, Mode]:
    """Modes of the checkpoint, and of its adapter, which wins."""
    folders = [folder for folder in (checkpoint.folder, checkpoint.adapter) if folder]
    return {name: mode for folder in folders for name, mode in checkpoint_modes(folder).items()}


@dataclass(frozen=True)
class _Work:
    """What this command is to draw: all groups of the plan, or those of a shard.

    `cells`: task → modes of the whole plan; `shard`: what the manifest says of one.
    """

    plan: Plan
    groups: Sequence[Sequence[Request]]
    cells: Mapping[str, Iterable[str]]
    shard: Mapping[str, Any]


def _work(whole: Plan, backend: Backend, shard: Shard | None) -> _Work:
    groups = backend.groups(whole.requests)
    asked = whole.counts()
    if shard is None:
        return _Work(whole, groups, asked, {})
    entry = {**asdict(shard), "plan": plan_sum(groups), "asked": asked}
    mine = shard.of(groups)
    return _Work(whole.part(mine), mine, asked, {"shard": entry})


def _part_result(
    folder: Path, options: RunOptions, shard: Shard, work: _Work, tally: Tally
) -> RunResult:
    """Nothing is compared yet: a shard is not a random part of the samples."""
    asked = work.shard["shard"]["asked"]
    planned = sum(count for modes in asked.values() for count in modes.values())
    others, out = "SHARD...", "RUN"
    if options.out is None:
        whole = _default_folder(replace(options, shard=None))
        others, out = f"{whole}-shard-*-of-{shard.count}", str(whole)
    return RunResult(
        folder,
        f"A part of a run: nothing is compared yet. When all shards are done, join them: "
        f"psplit-eval merge {others} --out {out}",
        tally.samples,
        tally.failed,
        f"shard {shard}: {len(work.plan.requests)} of {planned} samples, {len(work.groups)} work "
        f"groups, in {folder}",
    )


def _loaded(source: TaskSource, data: Mapping[str, Path]) -> Task:
    return load_task(source, data.get(source.name), data.get(f"{source.name}:shots"))


def _remarks(task: Task, settings: TaskSettings, data: Mapping[str, Path]) -> Iterator[str]:
    """What the user may not expect of a task."""
    if task.left_out:
        yield f"left out {', '.join(task.left_out)} (no mean over docs)"
    if task.few_shot and task.few_shot["from"] == str(data.get(task.name)):
        yield (
            f"its {task.few_shot['examples']} examples before each question are taken from the "
            f"same file; --data {task.name}:shots=FILE gives others"
        )
    if task.scored and (settings.samples or settings.sampling):
        yield "scores given answers, so samples and settings do not apply"


@dataclass(frozen=True)
class _Sampled:
    """A run whose store is being filled."""

    store: Store
    folder: Path
    manifest: Manifest
    backend: Backend
    tasks: Sequence[tuple[Task, TaskSettings]]
    screen: Screen

    def draw(self, work: _Work) -> Tally:
        """What is missing of some work; the manifest says what was asked for."""
        requests = work.plan.requests
        wanted = missing(self.store, requests)
        counts = asked_for(self.store, wanted)
        for name, modes in work.cells.items():
            asked = {mode: counts[mode, name] for mode in modes}
            self.manifest["tasks"][name].setdefault("asked", {}).update(asked)
        write_json(self.folder / "manifest.json", self.manifest)
        planned = set(work.plan.docs)
        self.store.add_plan(
            work.plan.prompts,
            (d for task, _ in self.tasks for d in task.docs if (task.name, d.doc_id) in planned),
        )
        wall, cpu = time.monotonic(), time.process_time()
        try:
            with self.screen.sampling(len(wanted), len(requests) - len(wanted)) as watch:
                return fill(self.store, self.backend, work.groups, watch, wanted)
        finally:
            self.manifest["wall_seconds"] += round(time.monotonic() - wall, 2)
            self.manifest["cpu_seconds"] += round(time.process_time() - cpu, 2)
            self.manifest["tokens"] = self.store.tokens()
            self.manifest["model"] |= self.backend.describe()  # with what sampling found out
            write_json(self.folder / "manifest.json", self.manifest)


def _in_rounds(
    sampled: _Sampled, whole: Plan, seed: int, rounds: Rounds, yardsticks: Yardsticks
) -> Tally:
    """Rounds depend on the plan and what they find alone, so a killed run goes on as it was."""
    scorers = {task.name: task.scorer for task, _ in sampled.tasks}
    left = {
        task.name: random_order(task.name, {d.doc_id: d.doc_hash for d in task.docs}, seed)
        for task, _ in sampled.tasks
    }
    planned, total = set(whole.docs), Tally()
    done: dict[str, set[int]] = {task: set() for task in left}
    left = {task: [doc for doc in docs if (task, doc) in planned] for task, docs in left.items()}
    open_tasks: Collection[str] = left.keys()
    while any(left[task] for task in open_tasks):
        now = {task: set(left[task][: rounds.docs]) for task in open_tasks if left[task]}
        chosen = [r for r in whole.requests if r.doc_id in now.get(r.task, ())]
        part = whole.part([chosen])
        total += sampled.draw(_work(part, sampled.backend, None))
        for task, docs in now.items():
            left[task] = left[task][rounds.docs :]
            done[task] |= docs
        score_store(sampled.store, {task: scorers[task] for task in now}, yardsticks)
        found = as_stored(sampled.folder, sampled.manifest, sampled.store)
        arms = [restricted(arm, done[arm.task]) for arm in found.arms]
        open_tasks = rounds.still_open(replace(found, arms=arms))
    return total


def _default_folder(options: RunOptions) -> Path:
    model = Path(options.model).name or "model"
    if options.engine.adapter:
        model += f"+{options.engine.adapter.resolve().name}"
    named = "-".join([*options.tasks, *(path.name.partition(".")[0] for path in options.prompts)])
    what = options.suite or named or "quick"
    name = re.sub(r"[^\w.-]+", "_", f"{model}-{what}")
    name = name if len(name) <= 80 else f"{name[:70]}-{digest(name)[:8]}"
    shard = options.shard
    return Path("runs") / (f"{name}-shard-{shard.index}-of-{shard.count}" if shard else name)


def _parts(
    options: RunOptions,
    checkpoint: Checkpoint,
    backend: Backend,
    modes: Sequence[Mode],
    tasks: Sequence[tuple[Task, TaskSettings]],
) -> dict[str, Any]:
    return {
        "command": list(options.command),
        "checkpoint": {
            "name": checkpoint.name,
            "path": str(checkpoint.folder.resolve()) if checkpoint.folder else None,
            "fingerprint": checkpoint.fingerprint,
            "files": dict(checkpoint.files),
            "adapter": str(checkpoint.adapter.resolve()) if checkpoint.adapter else None,
        },
        "model": backend.describe(),
        "modes": [mode.to_dict() for mode in modes],
        "suite": options.suite,
        "tasks": {task.name: _task_entry(task, settings, modes) for task, settings in tasks},
        "base_seed": options.seed,
        "batch_size": options.engine.batch_size,
    }


def _sampling(task: Task, settings: TaskSettings, mode: Mapping[str, Any]) -> dict[str, Any]:
    return task.sampling.updated(settings.effective(mode)).to_dict()


def _task_entry(task: Task, settings: TaskSettings, modes: Sequence[Mode]) -> dict[str, Any]:
    return {
        "title": task.title,
        "source": task.source,
        "sha256": task.sha256,
        "scorer": task.scorer.to_dict(),
        "sampling": {} if task.scored else _sampling(task, settings, {}),
        "sampling_by_mode": {
            mode.name: _sampling(task, settings, mode.sampling)
            for mode in modes
            if mode.sampling and not task.scored
        },
        "samples": 1 if task.scored else settings.samples or task.samples,
        "docs": len(task.docs[: settings.limit]),
        "docs_in_all": len(task.docs),
        "few_shot": task.few_shot,
    }
