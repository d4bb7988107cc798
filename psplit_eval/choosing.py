"""Which tasks are run, with which settings: a suite's, named ones, own prompts; and their pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from psplit_eval.catalog import Catalog, TaskSource
from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.prompts import prompt_sources
from psplit_eval.suites import TaskSettings, suite_named

__all__ = ["Asked", "chosen_tasks"]


class Asked(Protocol):
    """What the command line says of tasks. `settings` are by task; the key '' is for every task."""

    @property
    def suite(self) -> str | None: ...
    @property
    def tasks(self) -> Sequence[str]: ...
    @property
    def prompts(self) -> Sequence[Path]: ...
    @property
    def include(self) -> Sequence[Path]: ...
    @property
    def data(self) -> Mapping[str, Path]: ...
    @property
    def settings(self) -> Mapping[str, TaskSettings]: ...


def chosen_tasks(
    options: Asked,
) -> tuple[list[tuple[TaskSource, TaskSettings]], dict[str, list[str]]]:
    """Every task with its settings, the suite's first, those named, then prompts; and the pools.

    What is said of a group holds for its tasks, what is said of a task wins. Raises UsageError or
    UnknownNameError for what is not there, or said of what is not run.
    """
    prompts = prompt_sources(options.prompts)
    suite = options.suite or (None if options.tasks or prompts else "quick")
    wanted = dict(suite_named(suite).tasks) if suite else {}
    wanted |= {name: TaskSettings() for name in (*options.tasks, *prompts) if name not in wanted}
    catalog = Catalog(options.include, prompts)
    members = {name: catalog.members(name) for name in wanted}
    sources = _sources(members)
    _check_named(options, {*wanted, *sources}, set(sources))
    chosen = []
    for source in sources.values():
        settings = TaskSettings()
        holders = [name for name in wanted if source in members[name]]
        for said in (
            *(wanted[name] for name in holders),
            *(options.settings.get(name, TaskSettings()) for name in ("", *holders, source.name)),
        ):
            settings = settings.updated(said)
        chosen.append((source, settings))
    pools = {
        name: [source.name for source in sources]
        for name, sources in members.items()
        if len(sources) > 1 and catalog.is_pool(name)
    }
    return chosen, pools


def _sources(members: Mapping[str, Sequence[TaskSource]]) -> dict[str, TaskSource]:
    """Every task once; one that two names describe differently is refused."""
    found: dict[str, TaskSource] = {}
    for name, sources in members.items():
        for source in sources:
            if found.setdefault(source.name, source) != source:
                raise UsageError(
                    f"task {source.name!r}: {name!r} gives it other settings than the task has by "
                    "itself or in another group; name it once"
                )
    return found


def _check_named(options: Asked, wanted: set[str], tasks: set[str]) -> None:
    for name in set(options.settings) - {""} - wanted:
        raise UnknownNameError("task (of those in this run)", name, wanted)
    for name in options.data:
        task = name.removesuffix(":shots")
        if task not in tasks:
            raise UnknownNameError("task (of those in this run)", task, tasks)
        if task not in options.data:
            raise UsageError(
                f"--data {name}: expected the task's rows, too; add --data {task}=FILE"
            )
