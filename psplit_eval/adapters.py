"""LoRA adapters: weights in a small folder that change a checkpoint, and so are part of it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from psplit_eval.checkpoints import Checkpoint, file_sums
from psplit_eval.errors import CheckpointError, UsageError

__all__ = ["adapter_rank", "merge_adapter", "require_peft", "with_adapter"]

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_FILES = (_CONFIG, *_WEIGHTS, "psplit_modes.json")  # what else is there changes no sample


def with_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """The checkpoint with a PEFT adapter on it: another name, another fingerprint.

    Prompts are made by the checkpoint's own tokenizer. Raises CheckpointError for a folder that
    PEFT did not write, or whose adapter is no LoRA.
    """
    adapter_rank(folder)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise _unusable(folder, f"has no {_WEIGHTS[0]}")
    sums = {f"adapter/{name}": value for name, value in file_sums(folder, _FILES).items()}
    name = f"{checkpoint.name}+{folder.resolve().name}"
    return replace(checkpoint, name=name, files={**checkpoint.files, **sums}, adapter=folder)


def adapter_rank(folder: Path) -> int:
    """The greatest rank of an adapter's matrices. Raises CheckpointError."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind, ranks = (
            config["peft_type"],
            [config["r"], *(config.get("rank_pattern") or {}).values()],
        )
    except OSError as error:
        raise _unusable(folder, f"{_CONFIG}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(folder, f"{_CONFIG} is not PEFT's ({error!r})") from error
    if kind != "LORA" or not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise _unusable(folder, f"{_CONFIG} has peft_type {kind!r} and ranks {ranks}")
    return int(max(ranks))


def _unusable(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"adapter {str(folder)!r}: {what}; give a folder in which PEFT's save_pretrained put a "
        "LoRA adapter"
    )


def require_peft() -> None:
    """Raise UsageError where the library of `merge_adapter` is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise UsageError(
            "--adapter on the hf backend needs peft, not installed here; pip install '.[hf]' in "
            "psplit's source folder"
        )


def merge_adapter(model: Any, folder: Path) -> Any:
    """A transformers model with the adapter's weights added to its own; `model` is used up.

    Raises UsageError without peft, CheckpointError where the adapter does not fit the model.
    """
    require_peft()
    import peft

    try:
        return peft.PeftModel.from_pretrained(model, folder).merge_and_unload().eval()
    except Exception as error:  # peft raises ValueError, RuntimeError, KeyError and others
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"adapter {str(folder)!r}: does not fit the model ({error.__class__.__name__}: "
            f"{reason}); give the checkpoint that it was trained on"
        ) from error
