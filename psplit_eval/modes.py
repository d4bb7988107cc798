"""Modes: named ways to prompt one checkpoint.

A mode is data: a name, a system prompt (or none) and sampling overrides. Only the built-in table
and the verdict's roles know `normal` and `high`; everything else treats modes alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psplit_eval.errors import DataError, UnknownNameError, UsageError

__all__ = [
    "BUILTIN_MODES",
    "ROLES",
    "Mode",
    "checkpoint_modes",
    "holds_system_prompt",
    "parse_mode",
    "resolve_modes",
]

ROLES = ("normal", "high", "low", "other")
_MODES_FILE = "psplit_modes.json"


@dataclass(frozen=True)
class Mode:
    """One way to prompt a checkpoint.

    `system_prompt` None means that no system message is sent (a template may still add its own).
    `sampling` overrides a task's sampling settings; `role` is what a verdict takes the mode for.
    """

    name: str
    system_prompt: str | None
    role: str = "other"
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("_", "").replace("-", "").isalnum():
            raise UsageError(
                f"mode name {self.name!r}: expected letters, digits, '-' and '_'; rename the mode"
            )
        if self.role not in ROLES:
            raise UnknownNameError("mode role", self.role, ROLES)

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the system prompt (hex); 'none' where there is no system message."""
        if self.system_prompt is None:
            return "none"
        return hashlib.sha256(self.system_prompt.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The form used in manifests and `psplit_modes.json`."""
        return {
            "name": self.name,
            "system_prompt": self.system_prompt,
            "role": self.role,
            "sampling": dict(self.sampling),
        }


BUILTIN_MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("normal", None, "normal"),
        Mode(
            "high",
            "Explore widely before you settle. Prefer lines of thought that most people would "
            "not try first, and let each attempt at a task take a different road, but never "
            "give up correctness: whatever you answer must still be true and fit the request.",
            "high",
        ),
        Mode(
            "high_rewritten",
            "Be adventurous in how you reason. Look for the uncommon angle, vary your approach "
            "from one attempt to the next, and stay exact all the same: the result has to be "
            "right and has to do what was asked.",
            "high",
        ),
        Mode(
            "low",
            "Answer in the most usual and predictable way. Follow the standard method step by "
            "step, choose the plainest wording, and do not try alternatives.",
            "low",
        ),
    )
}


def checkpoint_modes(folder: Path) -> dict[str, Mode]:
    """Modes a checkpoint declares in `psplit_modes.json` beside its weights; {} without the file.

    Raises DataError when the file is not of format 1.
    """
    path = folder / _MODES_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != 1:
            raise ValueError(f"format {content['format']!r}, expected 1")
        modes = [_mode_from_dict(entry) for entry in content["modes"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: not a modes file of format 1 ({error!r}); expected "
            '{"format": 1, "modes": [{"name", "system_prompt", "role", "sampling"}]}'
        ) from error
    return {mode.name: mode for mode in modes}


def _mode_from_dict(entry: Mapping[str, Any]) -> Mode:
    prompt = entry["system_prompt"]
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError(f"system_prompt {prompt!r} is neither text nor null")
    return Mode(
        entry["name"], prompt, entry.get("role", "other"), dict(entry.get("sampling") or {})
    )


def holds_system_prompt(mode: Mode, text: str) -> bool:
    """Whether a rendered prompt, or messages as JSON, holds the mode's system prompt.

    White space does not count: templates trim. A mode without a system prompt is in any text, and
    one of a character in most.
    """
    said = mode.system_prompt or ""
    quoted = json.dumps(said.strip(), ensure_ascii=False)[1:-1]  # in messages for a server
    return _squeezed(said) in _squeezed(text) or quoted in text


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def parse_mode(text: str) -> Mode:
    """Read a `--mode` option: NAME=TEXT or NAME=@FILE; an empty text means no system message."""
    name, separator, prompt = text.partition("=")
    if not separator:
        raise UsageError(f"--mode {text!r}: expected NAME=TEXT or NAME=@FILE")
    if prompt.startswith("@"):
        prompt = _read_prompt(Path(prompt[1:]))
    known = BUILTIN_MODES.get(name)
    return Mode(name, prompt or None, known.role if known else "other")


def _read_prompt(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"mode prompt file {str(path)!r}: cannot be read as UTF-8 text "
            f"({error.__class__.__name__}); give an existing text file"
        ) from error


def resolve_modes(
    names: Sequence[str], given: Iterable[Mode] = (), declared: Mapping[str, Mode] | None = None
) -> list[Mode]:
    """The modes called `names`, in that order.

    Later wins: built-in, declared by the checkpoint, given on the command line. Modes that are
    given but not named are added at the end. Raises UnknownNameError, or UsageError for a repeat.
    """
    extra = {mode.name: mode for mode in given}
    table = {**BUILTIN_MODES, **(declared or {}), **extra}
    wanted = [*names, *(name for name in extra if name not in names)]
    if not wanted:
        raise UsageError("no modes: expected at least one name in --modes, such as normal,high")
    for name in wanted:
        if name not in table:
            raise UnknownNameError("mode", name, table)
        if wanted.count(name) > 1:
            raise UsageError(f"mode {name!r} is named twice in --modes; name it once")
    return [table[name] for name in wanted]
