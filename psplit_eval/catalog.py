"""Which tasks there are: the user's, psplit's own and lm-eval's, by the names their files give.

A name may stand for one task, for a tag or for a group of tasks. A group whose metrics are
averaged over docs (lm-eval's `weight_by_size`) is a pool: its members' docs are reported as one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.suites import shipped_folder
from psplit_eval.text import shortened

__all__ = ["Catalog", "TaskSource", "read_yaml"]

_TASK_KINDS = ("TASK", "PY_TASK")


@dataclass(frozen=True)
class TaskSource:
    """Where a task is described: its YAML file, and what a group says of it in `overrides`."""

    name: str
    path: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """The task's settings, the functions they name included."""
        return {**read_yaml(self.path), **self.overrides, "task": self.name}

    @property
    def definition(self) -> str:
        """SHA-256 (hex) of all that defines the task: its YAML with what that includes, the
        modules it names functions of, and what a group overrides. Equal wherever the files lie."""
        settings = {**read_yaml(self.path, functions=False), **dict(self.overrides)}
        text = json.dumps(_without_places(settings), sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Catalog:
    """Task files of the user's folders (`include`) and psplit's; lm-eval's are read when needed."""

    def __init__(
        self, include: Sequence[Path] = (), given: Mapping[str, TaskSource] | None = None
    ) -> None:
        """Read the folders; an earlier one wins, and tasks that are `given` win over all.

        Raises UsageError for a folder that does not exist.
        """
        for folder in include:
            if not folder.is_dir():
                raise UsageError(f"task folder {str(folder)!r}: expected an existing folder")
        self._include = include
        self._given = given or {}
        self._own = _index([shipped_folder("tasks"), *reversed(include)])

    @property
    def tasks(self) -> dict[str, TaskSource]:
        """The user's and psplit's tasks, by name."""
        return {
            name: TaskSource(name, entry.yaml_path)
            for name, entry in sorted(self._own.items())
            if entry.kind.name in _TASK_KINDS
        }

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The user's and psplit's groups: name → what its file says it is made of."""
        return {
            name: tuple(_named(item) for item in entry.cfg.get("task") or [])
            for name, entry in sorted(self._own.items())
            if entry.kind.name == "GROUP"
        }

    def task(self, name: str) -> TaskSource:
        """The one task of this name; raises UnknownNameError for any other name."""
        entry = self._entry(name)
        if entry is None or entry.kind.name not in _TASK_KINDS:
            raise UnknownNameError("task", name, self._all(), listed=self.tasks)
        return TaskSource(name, entry.yaml_path)

    def matching(self, pattern: str) -> dict[str, str]:
        """Names that fit a pattern (`*` and `?`), lm-eval's included → task, group or tag.

        Reading lm-eval's own 14 000 names takes about eight seconds.
        """
        known = self._all()
        found = sorted(fnmatch.filter(known, pattern))
        return {name: _kind(known[name]) for name in found}

    def members(self, name: str) -> list[TaskSource]:
        """The tasks that a name or pattern stands for, in the order of their group.

        Raises UnknownNameError, or UsageError for a group that defines a task in its own file.
        """
        if any(sign in name for sign in "*?["):
            names = [found for found, kind in self.matching(name).items() if kind == "task"]
            if not names:
                raise UnknownNameError("task pattern", name, self.tasks)
            return [source for found in names for source in self._expanded(found, {})]
        if name in self._given:
            return [self._given[name]]
        if self._entry(name) is None:
            self._check_files()
            raise UnknownNameError("task", name, self._all(), listed=[*self.tasks, *self.groups])
        return list(self._expanded(name, {}))

    def is_pool(self, name: str) -> bool:
        """Whether `name` is a group whose members' docs are reported as one, too."""
        entry = self._entry(name)
        if entry is None or entry.kind.name != "GROUP":
            return False
        metrics = entry.cfg.get("aggregate_metric_list") or []
        several = metrics if isinstance(metrics, list) else [metrics]
        return any(metric.get("weight_by_size", True) for metric in several)

    def _check_files(self) -> None:
        """Raise UsageError for a file of the user's that cannot be read: lm-eval passes it over."""
        for folder in self._include:
            for path in sorted(folder.rglob("*.yaml")):
                read_yaml(path, functions=False)

    def _all(self) -> dict[str, Any]:
        return {**_stock_index(), **self._own}

    def _entry(self, name: str) -> Any:
        return self._own[name] if name in self._own else _stock_index().get(name)

    def _expanded(self, name: str, overrides: Mapping[str, Any]) -> Iterator[TaskSource]:
        entry = self._entry(name)
        if entry.kind.name == "TAG":
            for member in sorted(entry.tags):
                yield from self._expanded(member, overrides)
        elif entry.kind.name == "GROUP":
            yield from self._of_group(name, read_yaml(entry.yaml_path), overrides)
        else:
            yield TaskSource(name, entry.yaml_path, overrides)

    def _of_group(
        self, group: str, config: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> Iterator[TaskSource]:
        from lm_eval.config.group import GroupConfig

        structure = {entry.name for entry in fields(GroupConfig)}
        own_part = {key: value for key, value in config.items() if key not in structure}
        said = {**own_part, **overrides}
        for item in config["task"]:
            given = {"task": item} if isinstance(item, str) else dict(item)
            member = _named(given)
            own = {key: value for key, value in given.items() if key not in ("task", "group")}
            if self._entry(member) is not None:
                yield from self._expanded(member, {**said, **own})
            elif "group" in given:
                yield from self._of_group(member, given, said)
            else:
                raise UsageError(
                    f"group {group!r}: its task {member!r} is defined inside the group's file, "
                    "which psplit cannot run; give that task a file of its own"
                )


def read_yaml(path: Path, functions: bool = True) -> dict[str, Any]:
    """A task or group file as lm-eval reads it, with what it includes.

    Without `functions` no code is loaded: a function is the path of its module with its name.
    Raises UsageError for a file that lm-eval cannot read.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        return dict(load_yaml(path, resolve_func=functions))
    except Exception as error:  # whatever a user's YAML and the code it names may raise
        raise UsageError(
            f"task file {str(path)!r}: lm-eval cannot read it ({error.__class__.__name__}: "
            f"{shortened(error, 200)}); correct the file"
        ) from error


def _without_places(value: Any) -> Any:
    """A function's path as its name and the sum of its module, so that no folder shows."""
    if isinstance(value, dict):
        return {str(key): _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    if isinstance(value, str) and os.path.isabs(value):
        module, _, name = value.rpartition(".")
        source = Path(f"{module}.py")
        if source.is_file():
            return [name, hashlib.sha256(source.read_bytes()).hexdigest()]
    return value


def _named(item: str | Mapping[str, Any]) -> str:
    if isinstance(item, str):
        return item
    return str(item.get("group") or item.get("task") or "without a name")


def _kind(entry: Any) -> str:
    return "task" if entry.kind.name in _TASK_KINDS else str(entry.kind.name).lower()


@lru_cache(maxsize=1)
def _stock_index() -> dict[str, Any]:
    return _index([], stock=True)


def _index(folders: Iterable[Path], stock: bool = False) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    for chatty in ("lm_eval", "huggingface_hub"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    manager = TaskManager(include_path=list(folders), include_defaults=stock)
    return dict(manager.task_index)
