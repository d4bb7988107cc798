"""What psplit finds on this machine: libraries, devices, space, the model hub and servers.

Pure findings: nothing is printed, kept or downloaded. Works without torch.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from psplit_eval import __version__
from psplit_eval.checkpoints import BUILTIN_CHECKPOINTS, cache_dir
from psplit_eval.errors import UsageError
from psplit_eval.memory import memory_bytes
from psplit_eval.servers import (
    check_url,
    http_answer,
    list_models,
    shown_text,
    shown_url,
    status_fix,
)

__all__ = ["LIBRARIES", "Finding", "examine"]

LIBRARIES: Mapping[str, str] = {
    "lm-eval": "base",
    "scipy": "base",
    "nltk": "base",
    "matplotlib": "base",
    "math-verify": "base",
    "openai": "base",
    "torch": "hf",
    "transformers": "hf",
    "vllm": "vllm",
    "trl": "train",
}
"""Library → the extra that brings it: 'base' comes with psplit itself."""

_SECONDS = 3.0
_LITTLE_SPACE = 5e9
_MOST_BYTES = 4_000_000
_YES = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Finding:
    """`state` is ok, note or problem; `fix` says what to do, where something can be done.

    A problem stops some psplit command on this machine; a note may be as it should.
    `details` are for `--json`.
    """

    state: Literal["ok", "note", "problem"]
    subject: str
    text: str
    fix: str = ""
    details: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        return asdict(self)


def examine(base_urls: Sequence[str] = ()) -> Iterator[Finding]:
    """Look at everything in turn; a name that doesn't answer costs up to 3 s.

    `base_urls` are OpenAI-compatible servers, such as http://localhost:8000/v1; the key in
    OPENAI_API_KEY is sent to them and appears in no finding. Raises UsageError for a URL that is
    none before anything is looked at.
    """
    for url in base_urls:
        check_url(url)
    return _findings(base_urls)


def _findings(base_urls: Sequence[str]) -> Iterator[Finding]:
    yield Finding("ok", "python", f"{_python()}, psplit {__version__}")
    yield from (_library(name, extra) for name, extra in LIBRARIES.items())
    yield from _devices()
    yield _processors()
    yield _memory()
    yield _space("current folder", Path.cwd(), "go to another folder, or give --out")
    yield _space("cache folder", cache_dir(), "set PSPLIT_CACHE to another folder")
    yield from (_checkpoint(name) for name in BUILTIN_CHECKPOINTS)
    yield _hub()
    yield from (_server(url) for url in base_urls)


def _python() -> str:
    import platform

    return platform.python_version()


def _library(name: str, extra: str) -> Finding:
    try:
        return Finding("ok", name, metadata.version(name), details={"extra": extra})
    except metadata.PackageNotFoundError:
        details = {"extra": extra}
    if extra == "base":
        fix = "psplit cannot work without it: pip install . in psplit's source folder"
        return Finding("problem", name, "not installed", fix, details)
    fix = f"if you need it: pip install '.[{extra}]' in psplit's source folder"
    return Finding("note", name, "not installed", fix, details)


def _devices() -> Iterator[Finding]:
    """Accelerators as torch sees them."""
    try:
        import torch
    except ImportError:
        yield Finding("note", "accelerator", "not looked for: torch cannot be imported")
        return
    except OSError as error:  # a CUDA library that is missing or of another version
        yield Finding("problem", "torch", f"does not load: {shown_text(error)}", "install it again")
        return
    found = False
    for i in range(torch.cuda.device_count()):
        found = True
        yield _cuda(torch.cuda, i)
    if torch.backends.mps.is_available():
        found = True
        yield Finding("ok", "mps", "Apple GPU, shares the memory below")
    if not found:
        yield Finding("note", "accelerator", "none that torch sees: checkpoints run on the CPU")


def _cuda(cuda: Any, i: int) -> Finding:
    try:
        free, total = cuda.mem_get_info(i)
        text = f"{cuda.get_device_name(i)}, {_gb(free)} of {_gb(total)} free"
    except RuntimeError as error:  # torch's, for a device that it cannot take
        return Finding("note", f"cuda:{i}", f"cannot be used now: {shown_text(error)}")
    return Finding("ok", f"cuda:{i}", text, details={"free_bytes": free, "total_bytes": total})


def _processors() -> Finding:
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    text = f"{count}" if usable == count else f"{usable} of {count} may be used"
    return Finding("ok", "CPUs", text, details={"count": count, "usable": usable})


def _memory() -> Finding:
    total, available = memory_bytes()
    if total is None:
        return Finding("note", "memory", "not known on this system")
    text = f"{_gb(total)}" + ("" if available is None else f", {_gb(available)} available")
    details = {"total_bytes": total, "available_bytes": available}
    return Finding("ok", "memory", text, details=details)


def _space(subject: str, folder: Path, fix: str) -> Finding:
    """Free space in a folder, and whether it can be written, which only writing tells."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(place).free
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        text = f"{folder}: cannot be written ({error.strerror or error})"
        return Finding("problem", subject, text, fix, {"folder": str(folder), "free_bytes": None})
    details = {"folder": str(folder), "free_bytes": free}
    text = f"{folder}: {_gb(free)} free"
    if free < _LITTLE_SPACE:
        return Finding("note", subject, text, f"little for checkpoints and runs: {fix}", details)
    return Finding("ok", subject, text, details=details)


def _checkpoint(name: str) -> Finding:
    folder = cache_dir() / name
    details = {"folder": str(folder)}
    if (folder / "config.json").is_file():
        return Finding("ok", name, f"is in the cache ({folder})", details=details)
    return Finding("note", name, "not in the cache: fetched when first used", details=details)


def _hub() -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES:
        return Finding("note", "model hub", "not asked: HF_HUB_OFFLINE is set")
    shown = shown_url(endpoint)
    try:
        check_url(endpoint)
        http_answer(urllib.request.Request(endpoint, method="HEAD"), _SECONDS)
    except urllib.error.HTTPError as error:
        if error.code < 500:  # whatever it thinks of the page: it is there
            return Finding("ok", "model hub", f"{shown} answers")
        reason = f"status {error.code}"
    except UsageError:
        reason = "HF_ENDPOINT is no http or https URL"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = _why(error)
    else:
        return Finding("ok", "model hub", f"{shown} answers")
    fix = "checkpoints and tasks of the hub must be local folders or in its cache"
    return Finding("note", "model hub", f"{shown} cannot be reached ({reason})", fix)


def _server(url: str) -> Finding:
    """Ask an OpenAI-compatible server for its models."""
    shown = shown_url(url)
    try:
        models = list_models(url, _SECONDS)
    except urllib.error.HTTPError as error:
        text = f"{shown}/models answers with status {error.code}"
        return Finding("problem", "server", text, status_fix(error.code, url))
    except (json.JSONDecodeError, UnicodeDecodeError):
        text = f"{shown}/models answers, but not with a list of models"
        return Finding("problem", "server", text, "give the base URL, which mostly ends in /v1")
    except (OSError, ValueError, http.client.HTTPException, UsageError) as error:
        fix = "start it, or correct the host and the port"
        return Finding("problem", "server", f"{shown} cannot be reached ({_why(error)})", fix)
    few = ", ".join(shown_text(name) for name in models[:5]) or "none"
    more = f" and {len(models) - 5} more" if len(models) > 5 else ""
    details = {"url": shown, "models": models}
    return Finding("ok", "server", f"{shown} has {few}{more}", details=details)


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer in {_SECONDS:.0f} s"
    return shown_text(getattr(reason, "strerror", None) or reason)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
