"""Which tasks there are: the user's, psplit's own and lm-eval's, by the names their files give.

A name may stand for one task, for a tag or for a group of tasks. A group whose metrics are
averaged over docs (lm-eval's `weight_by_size`) is a pool: its members' docs are reported as one.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.suites import shipped_folder

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


class Catalog:
    """Task files of the user's folders (`include`) and psplit's; lm-eval's are read when needed."""

    def __init__(self, include: Sequence[Path] = ()) -> None:
        """Read the folders; an earlier one wins. Raises UsageError for one that does not exist."""
        for folder in include:
            if not folder.is_dir():
                raise UsageError(f"task folder {str(folder)!r}: expected an existing folder")
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
        """The user's and psplit's groups: name → names of its tasks."""
        names = [name for name, entry in sorted(self._own.items()) if entry.kind.name == "GROUP"]
        return {name: tuple(source.name for source in self.members(name)) for name in names}

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
        if self._entry(name) is None:
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
            member = given.get("group") or given.get("task", "without a name")
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


def read_yaml(path: Path) -> dict[str, Any]:
    """A task or group file as lm-eval reads it; raises UsageError for one that it cannot read."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        return dict(load_yaml(path, resolve_func=True))
    except Exception as error:  # whatever a user's YAML and the code it names may raise
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"task file {str(path)!r}: lm-eval cannot read it ({error.__class__.__name__}: "
            f"{reason}); correct the file"
        ) from error


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
