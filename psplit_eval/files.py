"""Write a file, or a folder, whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psplit_eval.errors import InfrastructureError

__all__ = [
    "defined",
    "disk_errors",
    "new_folder",
    "sync",
    "write_bytes",
    "write_json",
    "write_text",
]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def defined(value: Any) -> Any:
    """Undefined and infinite numbers as None, in tuples, too: JSON has none of them."""
    if isinstance(value, tuple):
        return [defined(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into one line that says what to do."""
    try:
        yield
    except OSError as error:
        fix = "free disk space" if error.errno in _FULL else "give a path that can be written"
        raise InfrastructureError(
            f"{path}: {error.strerror or error}; {fix}, then give the command again: what was done "
            "is kept"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8 in one step; raises InfrastructureError."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step; raises InfrastructureError."""
    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Replace `path` by `content` as indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder to write into that is called `place` once the block has ended without an error.

    `place` must not exist, or be empty. Raises InfrastructureError where the disk fails.
    """
    partial = place.with_name(f".{place.name}.partial")
    with disk_errors(place):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for path in [*partial.rglob("*"), partial]:
                sync(path)
            os.replace(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the disk hold a file or folder: no power cut leaves a name without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
