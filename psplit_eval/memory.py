"""How much memory there is, and where."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["memory_bytes", "roomy_device"]

_ROOM = 2**32
"""Bytes that a small model and its work need on an accelerator."""


def memory_bytes() -> tuple[int | None, int | None]:
    """(total, available) of the machine, or of the container where that has less; None: unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) * 1024 for name, rest in (x.split(":") for x in lines)}
        total, available = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError):
        return _pages("SC_PHYS_PAGES"), None
    limit = _container_limit()
    return (total, available) if limit is None else (min(total, limit), min(available, limit))


def _pages(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):  # absent, or 'max'
            continue
    return None


def roomy_device() -> str:
    """'cuda' where a GPU has room for one more small model, else 'cpu': engines fill GPUs."""
    import torch

    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > _ROOM:
        return "cuda"
    return "cpu"
