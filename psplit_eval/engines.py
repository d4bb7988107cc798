"""Open a model with the engine that the user chose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from psplit_eval.backends import Backend, EngineOptions
from psplit_eval.checkpoints import Checkpoint, resolve_checkpoint
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.hf import HFBackend, require_hf

__all__ = ["check_engine", "find_model", "open_backend"]

Say = Callable[[str], None]


def check_engine(options: EngineOptions) -> None:
    """Raise UsageError for an engine that is not there or options that cannot be honoured."""
    if options.backend != "hf":
        raise UnknownNameError("backend", options.backend, ["hf"])
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"--batch-size {options.batch_size}: expected 1 or more")
    _template(options.chat_template)
    require_hf()


def find_model(name: str, options: EngineOptions, say: Say) -> Checkpoint:
    """What is to be measured; raises as `checkpoints.resolve_checkpoint`."""
    return resolve_checkpoint(name, say)


def open_backend(checkpoint: Checkpoint, options: EngineOptions, say: Say) -> Backend:
    """Load the model, or reach its servers. Raises UsageError or InfrastructureError."""
    say(f"loading {checkpoint.name}")
    return HFBackend(
        checkpoint,
        dtype=options.dtype,
        device=options.device,
        batch_size=options.batch_size,
        batch_memory=options.batch_memory,
        chat_template=_template(options.chat_template),
        trust_remote_code=options.trust_remote_code,
        thinking=options.thinking,
        say=say,
    )


def _template(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"chat template {str(path)!r}: cannot be read as UTF-8 text "
            f"({error.__class__.__name__}); give an existing Jinja file"
        ) from error
