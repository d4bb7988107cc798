"""Open a model with the engine that the user chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from psplit_eval.adapters import merge_adapter, require_peft, with_adapter
from psplit_eval.backends import Backend, EngineOptions
from psplit_eval.checkpoints import Checkpoint, resolve_checkpoint
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.hf import HFBackend, require_hf
from psplit_eval.vllm_engine import VLLMBackend, require_vllm

__all__ = ["check_engine", "find_model", "open_backend"]

Say = Callable[[str], None]

_REQUIRED: Mapping[str, Callable[[], None]] = {"hf": require_hf, "vllm": require_vllm}


def check_engine(options: EngineOptions) -> None:
    """Raise UsageError for an engine that is not there or options that cannot be honoured."""
    if options.backend not in _REQUIRED:
        raise UnknownNameError("backend", options.backend, _REQUIRED)
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"--batch-size {options.batch_size}: expected 1 or more")
    _template(options.chat_template)
    _REQUIRED[options.backend]()
    if options.backend == "vllm":
        _check_vllm(options)
    elif options != replace(options, tensor_parallel=1, data_parallel=1, engine_arg=()):
        raise UsageError(
            "--tensor-parallel, --data-parallel and --engine-arg are for the vllm engine; add "
            "--backend vllm, or leave them out"
        )
    if options.adapter and options.backend == "hf":
        require_peft()


def find_model(name: str, options: EngineOptions, say: Say) -> Checkpoint:
    """What is to be measured.

    Raises as `checkpoints.resolve_checkpoint`, and CheckpointError for an unusable adapter.
    """
    checkpoint = resolve_checkpoint(name, say)
    return with_adapter(checkpoint, options.adapter) if options.adapter else checkpoint


def open_backend(checkpoint: Checkpoint, options: EngineOptions, say: Say) -> Backend:
    """Load the model, or reach its servers. Raises UsageError or InfrastructureError."""
    say(f"loading {checkpoint.name}")
    template = _template(options.chat_template)
    if options.backend == "vllm":
        return VLLMBackend(checkpoint, options, template)
    backend = HFBackend(
        checkpoint,
        dtype=options.dtype,
        device=options.device,
        batch_size=options.batch_size,
        batch_memory=options.batch_memory,
        chat_template=template,
        trust_remote_code=options.trust_remote_code,
        thinking=options.thinking,
        say=say,
    )
    if checkpoint.adapter:
        backend.model = merge_adapter(backend.model, checkpoint.adapter)
    return backend


def _check_vllm(options: EngineOptions) -> None:
    for option, value in (
        ("--tensor-parallel", options.tensor_parallel),
        ("--data-parallel", options.data_parallel),
    ):
        if value < 1:
            raise UsageError(f"{option} {value}: expected 1 or more")
    if options.device != "auto":
        raise UsageError(
            f"--device {options.device}: vLLM takes the GPUs that CUDA_VISIBLE_DEVICES lists; "
            "leave --device out"
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
