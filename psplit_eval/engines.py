"""Open a model with the engine that the user chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from psplit_eval.adapters import merge_adapter, require_peft, with_adapter
from psplit_eval.backends import Backend, EngineOptions
from psplit_eval.checkpoints import Checkpoint, resolve_checkpoint
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.hf import HFBackend, require_hf
from psplit_eval.served import ServedBackend
from psplit_eval.servers import api_key, check_url, shown_url
from psplit_eval.vllm_engine import VLLMBackend, require_vllm

__all__ = ["check_engine", "find_model", "open_backend"]

Say = Callable[[str], None]

_LOCAL = ("batch_size", "dtype", "chat_template", "trust_remote_code", "adapter")
_VLLM = ("tensor_parallel", "data_parallel", "engine_arg")
_SERVED = ("concurrency", "requests_per_minute", "timeout", "retries", "top_logprobs")
_MAY_BE_ZERO = ("retries", "top_logprobs")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "hf": (*_LOCAL, "device"),
    "vllm": (*_LOCAL, *_VLLM),
    "openai": ("base_url", *_SERVED),
}
"""Backend → the options that not every backend has."""


def check_engine(options: EngineOptions) -> None:
    """Raise UsageError for an engine that is not there or options that cannot be honoured."""
    if options.backend not in _OPTIONS:
        raise UnknownNameError("backend", options.backend, _OPTIONS)
    _check_fits(options)
    if options.backend == "openai":
        _check_servers(options)
        return
    _template(options.chat_template)
    for name in ("batch_size", "tensor_parallel", "data_parallel"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    {"hf": require_hf, "vllm": require_vllm}[options.backend]()
    if options.adapter and options.backend == "hf":
        require_peft()


def _check_fits(options: EngineOptions) -> None:
    """Refuse what another backend's option says."""
    own = _OPTIONS[options.backend]
    others = {name for names in _OPTIONS.values() for name in names if name not in own}
    for option in fields(options):
        if option.name in others and getattr(options, option.name) != option.default:
            able = " or ".join(name for name, names in _OPTIONS.items() if option.name in names)
            raise UsageError(
                f"--{option.name.replace('_', '-')} is for the {able} backend, not for "
                f"{options.backend}; leave it out, or give --backend {able}"
            )


def _check_servers(options: EngineOptions) -> None:
    if not options.base_url:
        raise UsageError(
            "--backend openai: expected a server; give --base-url, such as http://localhost:8000/v1"
        )
    for url in options.base_url:
        check_url(url)
        if urlsplit(url).query or urlsplit(url).fragment:
            raise UsageError(f"--base-url {shown_url(url)!r}: expected it without ? and #")
    if len(set(options.base_url)) < len(options.base_url):
        raise UsageError("--base-url: one server is named twice; name it once")
    for name in _SERVED:
        value, least = getattr(options, name), 0 if name in _MAY_BE_ZERO else 1e-3
        if value is not None and not least <= value < 1e9:
            allowed = "more than 0" if least else "0 or more"
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected {allowed}")
    api_key()


def find_model(name: str, options: EngineOptions, say: Say) -> Checkpoint:
    """What is to be measured.

    Raises as `checkpoints.resolve_checkpoint`, and CheckpointError for an unusable adapter.
    """
    if options.backend == "openai":
        return Checkpoint(name, None, {})
    checkpoint = resolve_checkpoint(name, say)
    return with_adapter(checkpoint, options.adapter) if options.adapter else checkpoint


def open_backend(checkpoint: Checkpoint, options: EngineOptions, say: Say) -> Backend:
    """Load the model, or make ready to ask servers. Raises UsageError or InfrastructureError."""
    if options.backend == "openai":
        say(f"asking {checkpoint.name} at {', '.join(map(shown_url, options.base_url))}")
        given = {name: getattr(options, name) for name in _SERVED}
        limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        thinking = options.thinking
        return ServedBackend(
            checkpoint.name, options.base_url, thinking=thinking, say=say, **limits
        )
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
