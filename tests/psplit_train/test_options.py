"""Options of a run that touch many parts: adapters, checkpointing, bfloat16, reporters, extras."""

import json
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, PeftModel
from training_cases import trainer, weights

from psplit_train.config import Config
from psplit_train.running import run

STRONG = {"eta": 0.5, "kappa": 0.0}
RUN = {
    "model": {"tiny": {"layers": 1, "width": 32, "heads": 2, "characters": "0123456789+*"}},
    "data": {"task": "sums", "instruction": ""},
    "modes": ["normal", {"name": "high", "system_prompt": "*", "role": "high"}],
    "method": "policy_split_stable",
    "train": {"steps": 2, "queries": 2, "rollouts": 4, "max_new_tokens": 6, "learning_rate": 1e-3},
}


class Quiet:
    """A screen."""

    def say(self, text):
        pass

    @contextmanager
    def steps(self, total, done=0):
        yield lambda steps, note: None


def lora():
    return LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )


def test_only_adapters_are_trained(tmp_path):
    made = trainer(tmp_path, STRONG, peft_config=lora(), steps=3, beta=0.1)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.train()
    after = made.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert [row["kl"] for row in made.state.log_history[:3]][-1] > 0


def test_adapters_that_start_at_nothing_train_as_the_weights_say(tmp_path):
    """With B = 0 the adapted model is the base: the first losses are equal."""
    fresh = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    found = []
    for peft in (None, fresh):
        made = trainer(tmp_path, STRONG, peft_config=peft)
        made.train()
        found.append(made.state.log_history[0])
    for name in ("loss", "reward/normal", "entropy_bits/high", "bonus/high"):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-6), name


@pytest.mark.parametrize(
    "peft", [pytest.param(None, id="whole"), pytest.param(lora, id="lora", marks=pytest.mark.slow)]
)
def test_gradient_checkpointing_changes_nothing(tmp_path, peft):
    found = []
    for saving in (False, True):
        settings = {"activation_checkpointing": saving, "parts": 2, "optim": "sgd"}
        made = trainer(tmp_path, STRONG, peft_config=peft and peft(), learning_rate=0.1, **settings)
        assert made._share != saving
        made.train()
        found.append(weights(made))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "share",
    [pytest.param(True, id="shared"), pytest.param(False, id="padded", marks=pytest.mark.slow)],
)
def test_bfloat16_trains_float32_weights(tmp_path, share):
    """Log-probabilities are rounded to about 1 %; a ratio is not exactly 1 any more."""
    settings = {"share_prefixes": share, "steps": 2, "parts": 2}
    made = trainer(tmp_path, STRONG, bf16=True, **settings)
    start = weights(made)
    made.train()
    assert {value.dtype for value in made.model.parameters()} == {torch.float32}
    assert (weights(made) - start).abs().max() > 1e-4
    plain = trainer(tmp_path, STRONG, bf16=False, **settings)
    plain.train()
    for name in ("entropy_bits/normal", "entropy_bits/high"):
        one, other = (kind.state.log_history[0][name] for kind in (made, plain))
        assert one == pytest.approx(other, rel=0.1)
        assert one != other


def test_accumulation_and_iterations_together(tmp_path):
    """Two updates on the same responses, in one part and in four."""
    found = []
    for parts in (1, 4):
        settings = {"steps": 4, "iterations": 2, "optim": "sgd", "learning_rate": 0.1}
        made = trainer(tmp_path, STRONG, parts=parts, max_steps=2, **settings)
        made.train()
        assert made.state.global_step == 2
        found.append(weights(made))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def config(**changes):
    return Config.model_validate({**RUN, **changes})


def test_a_run_with_adapters_is_published_with_its_base(tmp_path):
    """psplit-eval opens the folder beside its base."""
    from transformers import AutoModelForCausalLM

    from psplit_eval.adapters import adapter_rank, merge_adapter
    from psplit_eval.modes import checkpoint_modes

    model = {**RUN["model"], "lora": {"rank": 4, "alpha": 8}}
    final = run(config(model=model), tmp_path / "run", Quiet())
    assert not list(final.glob("model*.safetensors"))
    assert adapter_rank(final) == 4
    assert list(checkpoint_modes(final)) == ["normal", "high"]
    base = json.loads((final / "adapter_config.json").read_text())["base_model_name_or_path"]
    ids = torch.tensor([[3, 4, 5]])
    plain = AutoModelForCausalLM.from_pretrained(base)
    merged = merge_adapter(AutoModelForCausalLM.from_pretrained(base), final)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), final)
    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits)
    assert not torch.equal(merged(ids).logits, plain(ids).logits)


def test_reporters_get_every_name_of_the_log(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(config(log={"report_to": ["tensorboard"]}), tmp_path / "run", Quiet())
    files = list((tmp_path / "run").rglob("events.out.tfevents.*"))
    assert files
    tags = set()
    for file in files:
        events = EventAccumulator(str(file))
        events.Reload()
        tags |= set(events.Tags()["scalars"])
    lines = map(json.loads, (tmp_path / "run" / "training_log.jsonl").read_text().splitlines())
    logged = {name for line in lines for name, value in line.items() if value is not None}
    missing = {name for name in logged - {"step"} if f"train/{name}" not in tags}
    assert not missing
    assert "train/entropy_bits/high" in tags


def test_more_of_trls_settings_reach_it(tmp_path):
    """Responses that were cut off count for nothing, though they were drawn."""
    train = {**RUN["train"], "trl": {"mask_truncated_completions": True}}
    run(config(train=train), tmp_path / "masked", Quiet())
    run(config(), tmp_path / "plain", Quiet())
    masked, plain = (
        json.loads((tmp_path / name / "training_log.jsonl").read_text().splitlines()[0])
        for name in ("masked", "plain")
    )
    assert masked["completions/clipped_ratio"] == plain["completions/clipped_ratio"] > 0.2
    assert masked["num_tokens"] == plain["num_tokens"]
    assert masked["length/normal"] < plain["length/normal"] - 0.5
