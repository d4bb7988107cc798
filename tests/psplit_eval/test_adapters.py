"""An adapter is part of a checkpoint, and merging it changes nothing but the form."""

import json
import shutil

import pytest
import torch

from psplit_eval.adapters import adapter_rank, merge_adapter, with_adapter
from psplit_eval.backends import EngineOptions
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.cli import main
from psplit_eval.engines import open_backend
from psplit_eval.errors import CheckpointError


@pytest.fixture
def model(tiny):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny).eval()


def logits(model):
    with torch.inference_mode():
        return model(torch.tensor([[1, 50, 60, 70]])).logits


def test_merged_logits_are_the_adapters_own(model, tiny, adapter):
    import peft
    from transformers import AutoModelForCausalLM

    plain = logits(model)
    base = AutoModelForCausalLM.from_pretrained(tiny)
    expected = logits(peft.PeftModel.from_pretrained(base, adapter).eval())
    merged = merge_adapter(model, adapter)
    assert type(merged) is type(base.__class__.from_pretrained(tiny))
    assert torch.allclose(logits(merged), expected, atol=1e-4)
    assert not torch.allclose(expected, plain, atol=1e-2)


def test_the_hf_engine_measures_the_adapter(tiny, adapter):
    checkpoint = with_adapter(resolve_checkpoint(str(tiny)), adapter)
    options = EngineOptions(device="cpu", adapter=adapter)
    found = open_backend(checkpoint, options, lambda text: None).model
    plain = open_backend(resolve_checkpoint(str(tiny)), EngineOptions(), lambda text: None).model
    assert not torch.allclose(logits(found), logits(plain), atol=1e-2)


def test_the_whole_command_on_the_hf_engine(tiny, adapter, tmp_path):
    small = ["--tasks", "psplit_sums", "--limit", "2", "--samples", "1", "--set", "max_tokens=4"]
    out = tmp_path / "run"
    given = ["--model", str(tiny), "--adapter", str(adapter), "--modes", "bold", "--out", str(out)]
    assert main(["run", *given, *small]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["checkpoint"]["adapter"] == str(adapter.resolve())


def test_the_identity_is_that_of_both(tiny, adapter, tmp_path):
    checkpoint = resolve_checkpoint(str(tiny))
    found = with_adapter(checkpoint, adapter)
    assert found.folder == checkpoint.folder
    assert set(found.files) - set(checkpoint.files) == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/psplit_modes.json",
    }
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    (other / "README.md").write_text("Says nothing to a model.")
    assert with_adapter(checkpoint, other).fingerprint == found.fingerprint
    (other / "psplit_modes.json").unlink()
    prints = {c.fingerprint for c in (checkpoint, found, with_adapter(checkpoint, other))}
    assert len(prints) == 3


def test_the_rank_is_the_greatest(adapter):
    assert adapter_rank(adapter) == 5  # r is 4, rank_pattern has 5


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("adapter_config.json", None, "No such file"),
        ("adapter_config.json", "{", "not PEFT's"),
        ("adapter_config.json", "[]", "not PEFT's"),
        ("adapter_config.json", '{"peft_type": "IA3", "r": 4}', "peft_type 'IA3'"),
        ("adapter_config.json", '{"peft_type": "LORA", "r": "4"}', "ranks"),
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors"),
    ],
)
def test_a_folder_that_is_no_adapter_is_refused(tiny, adapter, tmp_path, name, content, words):
    folder = tmp_path / "torn"
    shutil.copytree(adapter, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=words):
        with_adapter(resolve_checkpoint(str(tiny)), folder)


def test_an_adapter_of_another_model_is_refused(model, adapter, tmp_path):
    folder = tmp_path / "torn"
    shutil.copytree(adapter, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        merge_adapter(model, folder)
