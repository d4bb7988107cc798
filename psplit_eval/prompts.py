"""Users' own prompts: a text or JSON Lines file as a task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from psplit_eval.catalog import TaskSource
from psplit_eval.errors import DataError, UsageError
from psplit_eval.rows import check_rows, read_rows
from psplit_eval.suites import shipped_folder
from psplit_eval.text import shortened

__all__ = ["prompt_source", "prompt_sources", "read_prompts"]

_JSON_LINES = (".jsonl", ".jsonl.gz")
_BREAK = "---"


def prompt_sources(paths: Iterable[Path]) -> dict[str, TaskSource]:
    """Tasks by name, one a file; raises UsageError for two files that give one name."""
    found: dict[str, TaskSource] = {}
    for path in paths:
        source = prompt_source(path)
        if source.name in found:
            raise UsageError(
                f"--prompts {str(path)!r}: another file gives the task {source.name!r}, too; "
                "rename one of them"
            )
        found[source.name] = source
    return found


def prompt_source(path: Path) -> TaskSource:
    """The task `prompts_STEM` on the prompts of a file, which is not read yet."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    about = {"title": f"prompts of {path.name}", "source": str(path)}
    return TaskSource(
        f"prompts_{re.sub(r'[^a-zA-Z0-9_-]+', '_', stem)}",
        shipped_folder("tasks") / "_prompts_yaml",  # no .yaml: it is no task without a file
        {
            "dataset_kwargs": {"file": str(path)},
            "metadata": {"version": 1.0, "psplit": about},
        },
    )


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Rows with a field `prompt`: those of a JSONL file, or one for every prompt of a text file.

    JSONL is what is called .jsonl or .jsonl.gz; its rows keep their other fields. In a text file
    every line that is not blank is a prompt; if it has lines of `---` alone, a prompt is what
    stands between two of them. Raises DataError for a file that cannot be read or has no prompts,
    for a row without one, and for a prompt that is there twice: it would count twice.
    """
    if path.name.endswith(_JSON_LINES):
        rows = read_rows(path)
        check_rows(rows, ["prompt"], path, prompt_source(path).name, filled=True)
    else:
        rows = [{"prompt": prompt} for prompt in _prompts(_text(path))]
    if not rows:
        raise DataError(f"prompt file {str(path)!r}: no prompts; expected one a line")
    _check(rows, path)
    return rows


def _text(path: Path) -> str:
    if path.suffix == ".json":
        raise DataError(
            f"prompt file {str(path)!r}: expected text, or JSON Lines in a file called .jsonl"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"prompt file {str(path)!r}: cannot be read ({error.__class__.__name__}); expected "
            "text in UTF-8, or JSON Lines in a file called .jsonl"
        ) from error


def _prompts(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    if _BREAK in lines:
        lines = re.split(rf"^{_BREAK}$", "\n".join(lines), flags=re.MULTILINE)
    return [prompt.strip() for prompt in lines if prompt.strip()]


def _check(rows: Sequence[dict[str, Any]], path: Path) -> None:
    first: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        prompt = row["prompt"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise DataError(
                f"prompt file {str(path)!r}, row {number}: prompt {shortened(prompt, 40)!r}, "
                "expected a text"
            )
        if first.setdefault(prompt.strip(), number) != number:
            raise DataError(
                f"prompt file {str(path)!r}: prompt {number} repeats prompt "
                f"{first[prompt.strip()]} ({shortened(prompt, 40)!r}); remove one of them"
            )
