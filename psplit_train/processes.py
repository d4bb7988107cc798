"""The processes of a run."""

from __future__ import annotations

from typing import Any

__all__ = ["launch"]


def launch() -> Any:
    """accelerate's PartialState: which process this is, of how many. Without a GPU it takes itself
    for the only one, unless it is told that CPUs are meant."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
