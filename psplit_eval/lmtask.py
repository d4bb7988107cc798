"""lm-eval's task objects: built from a task's settings, on its own rows or on given ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from psplit_eval.errors import DataError, PsplitError
from psplit_eval.store import Doc
from psplit_eval.text import shortened

__all__ = [
    "GivenRows",
    "build",
    "explained",
    "has_inline_shots",
    "on_docs",
    "on_rows",
    "without_prompt",
]

_NO_PROMPT = ("acc_mutual_info",)


class GivenRows:
    """Rows in place of a task's own, by split; lm-eval calls it as `custom_dataset`."""

    def __init__(self, **splits: Sequence[Mapping[str, Any]]) -> None:
        self._splits = splits

    def __call__(self, **_: Any) -> dict[str, Any]:
        import datasets

        return {
            name: datasets.Dataset.from_list(_rectangular(rows))
            for name, rows in self._splits.items()
        }


def _rectangular(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every row with the fields of all: a table takes its columns from the first."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def on_rows(
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    shots: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The task on other rows; its few-shot examples are `shots`, or rows (never a doc itself)."""
    splits = {"test": rows} if shots is None else {"test": rows, "shots": shots}
    changed = {**config, "custom_dataset": GivenRows(**splits), "dataset_kwargs": None}
    changed |= {"test_split": "test", "validation_split": None, "training_split": None}
    own = config.get("fewshot_config") or {}
    if config.get("num_fewshot") and not has_inline_shots(config):
        split = "test" if shots is None else "shots"
        changed["fewshot_split"] = split
        changed["fewshot_config"] = {**own, "split": split} if own else None
    return changed


def has_inline_shots(config: Mapping[str, Any]) -> bool:
    """Whether the few-shot examples stand in the task itself."""
    own = config.get("fewshot_config")
    return isinstance(own, dict) and own.get("samples") is not None


def on_docs(config: Mapping[str, Any], doc: Doc) -> dict[str, Any]:
    """The task as far as scoring needs it: on a stored doc, without few-shot examples."""
    plain = {"process_docs": None, "num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}
    return on_rows(config, [dict(doc.doc)]) | plain


def build(name: str, config: Mapping[str, Any], fix: str) -> Any:
    """lm-eval's task object of these settings.

    Raises DataError where lm-eval cannot build it, which ends with `fix`: what the user can do.
    """
    import datasets
    from lm_eval.tasks import TaskManager

    metrics = [m for m in config.get("metric_list") or () if m.get("metric") not in _NO_PROMPT]
    if without_prompt(config):
        config = {**config, "metric_list": metrics}
    datasets.disable_progress_bars()
    _keep_templates()
    random.seed(0)  # as lm-eval does: some tasks shuffle options by the global generator
    try:
        return TaskManager(include_defaults=False).load([dict(config)])["tasks"][name]
    except PsplitError:
        raise
    except Exception as error:  # datasets, the hub client and a task's code raise dozens of kinds
        rows = config.get("dataset_path")
        origin = "the given rows" if isinstance(config.get("custom_dataset"), GivenRows) else rows
        raise DataError(
            f"task {name!r}: lm-eval cannot build it on {origin or 'its own rows'} "
            f"({error.__class__.__name__}: {shortened(error, 160)}); {fix}"
        ) from error


def _keep_templates() -> None:
    """Have lm-eval compile a task's template once, not for every doc: most of a plan's time."""
    from lm_eval.utils import env

    if not hasattr(env.from_string, "cache_info"):
        env.from_string = lru_cache(maxsize=256)(env.from_string)


def without_prompt(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Metrics that `build` leaves out: they need likelihoods without any prompt."""
    named = [str(metric.get("metric")) for metric in config.get("metric_list") or ()]
    return tuple(name for name in named if name in _NO_PROMPT)


@contextmanager
def explained(task: str, doc: Doc, what: str) -> Iterator[None]:
    """Turn what a task's own code raises into one line that names task and doc."""
    try:
        yield
    except PsplitError:
        raise
    except Exception as error:  # a task's templates and functions may raise anything
        raise DataError(
            f"task {task!r}, doc {doc.doc_id}: the task cannot {what} ({error.__class__.__name__}: "
            f"{shortened(error, 160)}); correct the task or its rows"
        ) from error
