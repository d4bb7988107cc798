"""Every error that psplit raises on purpose, and the exit code each one becomes.

    PsplitError                    exit code
    ├── UsageError                 2   wrong option, unusable input
    │   ├── UnknownNameError       2   a name that does not exist, with a guess
    │   ├── CheckpointError        2   a checkpoint that cannot be opened
    │   ├── TemplateError          2   a chat template that loses a mode's system prompt
    │   ├── DataError              2   a data file with missing or malformed fields
    │   ├── MissingExtraError      2   a part of psplit that is not installed
    │   └── RunMismatchError       2   a run folder that belongs to other settings
    └── InfrastructureError        4   disk full, server gone, out of memory
        └── CorruptStoreError      4   a store that cannot be read

A message is one line: the value, what was expected, and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "CheckpointError",
    "CorruptStoreError",
    "DataError",
    "InfrastructureError",
    "MissingExtraError",
    "PsplitError",
    "RunMismatchError",
    "TemplateError",
    "UnknownNameError",
    "UsageError",
]


class PsplitError(Exception):
    """Base of the tree; `exit_code` is API."""

    exit_code: ClassVar[int] = 1


class UsageError(PsplitError):
    """The user can fix this by changing the command or a file it names."""

    exit_code = 2


class UnknownNameError(UsageError):
    """`name` is no known `kind`; the message lists what is known and guesses at what was meant."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], listed: Iterable[str] | None = None
    ) -> None:
        """`listed` are named in the message in place of all that is `known`."""
        choices = sorted(known)
        close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        shown = ", ".join(choices if listed is None else sorted(listed))
        super().__init__(f"unknown {kind} {name!r}: {hint}known are {shown or '(none)'}")


class CheckpointError(UsageError):
    """A checkpoint that is missing, incomplete or of an unusable kind."""


class TemplateError(UsageError):
    """A chat template that rejects, drops or ignores a mode's system prompt."""


class DataError(UsageError):
    """A data file that is missing, malformed or lacks fields its task needs."""


class MissingExtraError(UsageError):
    """Libraries of one of psplit's extras are not installed."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose}: the extra {extra!r} is not installed; pip install '.[{extra}]' in "
            "psplit's source folder"
        )


class RunMismatchError(UsageError):
    """An existing run folder was made with another checkpoint or other settings."""


class InfrastructureError(PsplitError):
    """The machine failed, not the user; what was done is kept."""

    exit_code = 4


class CorruptStoreError(InfrastructureError):
    """The run's sample store is damaged or is not a store."""
