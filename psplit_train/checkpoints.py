"""A training run's checkpoints: written whole or not at all, kept, and made a model to hand on.

What is not finished lies in hidden folders, so whatever is called checkpoint-N is whole.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from psplit_eval.adapters import adapter_rank
from psplit_eval.errors import CheckpointError, InfrastructureError
from psplit_eval.files import disk_errors, sync, write_json
from psplit_eval.modes import Mode

__all__ = [
    "adapter_base",
    "commit",
    "complete",
    "full_disk",
    "latest",
    "publish",
    "rotate",
    "staged",
    "sweep_partial",
    "write_modes",
]

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_PARTIAL, _REPLACED, _REMOVED = ".partial-", ".replaced-", ".removed-"
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_MODEL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_STATE = (
    *("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json"),
    *("training_args.bin", "global_step*", "latest", "zero_to_fp32.py", "pytorch_model_fsdp*"),
    *("entropy_ctrl_state.json", "psplit_state*", ".*"),
)
"""What only going on needs: of Trainer, TRL, DeepSpeed, FSDP and psplit."""
_FULL = re.compile(
    rf"os error ({errno.ENOSPC}|{errno.EDQUOT})\b"
    r"|PytorchStreamWriter failed writing|unexpected pos \d"
)
"""What safetensors and torch say where a file cannot be written to its end."""
_MODEL_FOLDERS = ("additional_chat_templates",)


@contextmanager
def full_disk(place: Path) -> Iterator[None]:
    """Raise InfrastructureError where libraries in the block find no more room to write `place`.

    Each has an error of its own for that, and the disk's is behind it or nowhere.
    """
    try:
        yield
    except Exception as error:
        if not any(map(_is_full, _causes(error))):
            raise
        raise InfrastructureError(
            f"{place}: no space left on the disk; free some, then give the command again: what was "
            "done is kept"
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return bool(_FULL.search(str(error)))


def staged(out: Path, step: int) -> Path:
    """Make the folder that a checkpoint of `step` is written into, and return it.

    It is `.partial-checkpoint-N/checkpoint-N` in `out`: transformers' Trainer appends the second
    name to what its `_get_output_dir` returns, which has to be this folder's parent. Every process
    may call it; what lies there already stays (see `sweep_partial`).
    """
    folder = out / f"{_PARTIAL}checkpoint-{step}" / f"checkpoint-{step}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def commit(staged: Path, out: Path, step: int) -> Path:
    """Make what was written into `staged` the checkpoint of `step`, and return its folder.

    Its files are on the disk before it gets its name, in one step, so neither a kill nor a power
    cut leaves half of one. For the main process alone, once all processes have written. Raises
    CheckpointError where nothing was written, InfrastructureError where the disk fails.
    """
    if not any(path.is_file() for path in staged.rglob("*")):
        raise CheckpointError(
            f"{staged}: nothing was written there, expected the files of step {step}; have the "
            "trainer's _get_output_dir return its parent while it saves"
        )
    place = out / f"checkpoint-{step}"
    with disk_errors(place):
        _put(staged, place)
        if staged.parent.name.startswith(_PARTIAL):
            shutil.rmtree(staged.parent, ignore_errors=True)
    return place


def complete(out: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every finished checkpoint, by step; [] where there is no folder."""
    found = ((_CHECKPOINT.fullmatch(path.name), path) for path in out.glob("checkpoint-*"))
    return sorted((int(name[1]), path) for name, path in found if name and path.is_dir())


def latest(out: Path) -> Path | None:
    """The finished checkpoint of the highest step."""
    found = complete(out)
    return found[-1][1] if found else None


def rotate(out: Path, keep: int, protected: Collection[int] = ()) -> list[int]:
    """Delete all finished checkpoints but the newest `keep` and the `protected` steps; returns
    the steps that went."""
    found = complete(out)
    newest = {step for step, _ in found[-keep:]} if keep > 0 else set()
    gone = [(step, path) for step, path in found if step not in newest | set(protected)]
    for _, path in gone:
        _remove(path)
    return [step for step, _ in gone]


def sweep_partial(out: Path) -> list[Path]:
    """Clear away what a kill left behind in `out`, and return what was deleted.

    A folder that was moved aside for its successor comes back where the successor never came. Not
    while something is being written there.
    """
    swept = []
    with disk_errors(out):
        for path in sorted(out.glob(f"{_REPLACED}*")):
            place = out / path.name.removeprefix(_REPLACED)
            if not place.exists():
                path.rename(place)
        for kind in (_PARTIAL, _REPLACED, _REMOVED):
            for path in sorted(out.glob(f"{kind}*")):
                shutil.rmtree(path)
                swept.append(path)
    return swept


def write_modes(folder: Path, modes: Sequence[Mode]) -> None:
    """Write `psplit_modes.json` (format 1), by which a checkpoint knows its modes; read back by
    `psplit_eval.modes.checkpoint_modes`."""
    content = {"format": 1, "modes": [mode.to_dict() for mode in modes]}
    write_json(folder / "psplit_modes.json", content)


def adapter_base(folder: Path) -> str | None:
    """What a LoRA adapter's folder says is its base checkpoint; None for a whole model.

    Raises CheckpointError for an adapter that is no LoRA or names none.
    """
    if not (folder / _ADAPTER_CONFIG).is_file():
        return None
    adapter_rank(folder)
    content = json.loads((folder / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    base = content.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(
            f"adapter {str(folder)!r}: {_ADAPTER_CONFIG} names no base_model_name_or_path; write "
            "there which checkpoint it was trained on"
        )
    return base


def publish(checkpoint: Path, final: Path) -> Path:
    """Copy what of a checkpoint is the model into `final`, which is replaced in one step.

    Weights, tokenizer, chat template, modes, card and training log; no optimiser, no random
    numbers. `psplit-eval run --model FINAL` opens it; of a LoRA adapter, with the base as --model
    and FINAL as --adapter. Raises CheckpointError where that could not be opened.
    """
    _check_model(checkpoint)
    making = final.with_name(f"{_PARTIAL}{final.name}")
    with disk_errors(final):
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        for path in _model_files(checkpoint):
            copy = making / path.relative_to(checkpoint)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy2(path, copy)
        _put(making, final)
    return final


def _check_model(folder: Path) -> None:
    for patterns, what in _needed(folder):
        if not any(found for pattern in patterns for found in folder.glob(pattern)):
            raise CheckpointError(
                f"checkpoint {str(folder)!r}: expected {what} in it; save the whole state dict "
                "(FSDP: FULL_STATE_DICT, DeepSpeed: stage3_gather_16bit_weights_on_model_save)"
            )


def _needed(folder: Path) -> Iterator[tuple[Sequence[str], str]]:
    yield ("tokenizer*",), "a tokenizer"
    if (folder / _ADAPTER_CONFIG).is_file():
        yield _ADAPTER_WEIGHTS, _ADAPTER_WEIGHTS[0]
    else:
        yield ("config.json",), "a config.json"
        yield _MODEL_WEIGHTS, "weights (model*.safetensors)"


def _model_files(checkpoint: Path) -> Iterator[Path]:
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in _STATE):
            yield path
    for name in _MODEL_FOLDERS:
        yield from (path for path in sorted((checkpoint / name).glob("*")) if path.is_file())


def _put(made: Path, place: Path) -> None:
    """Name a folder `place`; what has that name is moved aside until the new one has it."""
    for path in made.rglob("*"):
        sync(path)
    sync(made)
    aside = place.with_name(_REPLACED + place.name)
    if place.exists():
        shutil.rmtree(aside, ignore_errors=True)
        place.rename(aside)
    made.rename(place)
    sync(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _remove(folder: Path) -> None:
    """A folder that is being deleted is not to be taken for a whole one."""
    aside = folder.with_name(_REMOVED + folder.name)
    with disk_errors(folder):
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside)
