"""What psplit's trainer takes for granted in TRL, held to the TRL that is installed.

A failure here says what moved: `psplit_train.seams` and `psplit_train.trainer` rest on it.
"""

import inspect
import re
from dataclasses import fields

import accelerate.utils
import pytest
import torch
import trl
import trl.generation.vllm_generation
import trl.models.utils
import trl.trainer.utils
from training_cases import trainer
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer

from psplit_train.seams import SEAMS

FUNCTIONS = {
    (trl.models.utils, "disable_gradient_checkpointing"): (
        "model",
        "gradient_checkpointing_kwargs",
    ),
    (trl.models.utils, "unwrap_model_for_generation"): (
        "model",
        "accelerator",
        "gather_deepspeed3_params",
        "generation_kwargs",
        "gradient_checkpointing_kwargs",
    ),
    (trl.trainer.utils, "use_adapter"): ("model", "adapter_name"),
    (trl.trainer.utils, "add_fused_lm_head"): ("model", "temperature"),
    (accelerate.utils, "gather_object"): ("object",),
    (trl.generation.vllm_generation.VLLMGeneration, "generate"): (
        "self",
        "prompts",
        "images",
        "num_generations",
    ),
}
ATTRIBUTES = (
    "_metrics",
    "_step",
    "accelerator",
    "beta",
    "current_gradient_accumulation_steps",
    "epsilon_high",
    "epsilon_low",
    "eos_token_ids",
    "loss_type",
    "max_completion_length",
    "min_p",
    "model_wrapped",
    "num_generations",
    "num_iterations",
    "ref_model",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "use_transformers_continuous_batching",
    "use_vllm",
    "vllm_importance_sampling_correction",
)
SETTINGS = (
    "beta",
    "cache_implementation",
    "epsilon_high",
    "generation_kwargs",
    "gradient_checkpointing_kwargs",
    "loss_type",
    "max_completion_length",
    "multi_objective_aggregation",
    "num_generations",
    "num_iterations",
    "off_policy_mask_threshold",
    "per_device_train_batch_size",
    "save_steps",
    "scale_rewards",
    "steps_per_generation",
    "top_entropy_quantile",
    "use_adaptive_entropy",
)
GIVEN_TO_LOSS = (
    "advantages",
    "completion_ids",
    "completion_mask",
    "importance_sampling_ratio",
    "num_items_in_batch",
    "old_per_token_logps",
    "prompt_ids",
    "prompt_mask",
    "ref_per_token_logps",
)
FROM_SAMPLING = (
    "completion_ids",
    "completion_mask",
    "importance_sampling_ratio",
    "old_per_token_logps",
)


def moved(trainer_class):
    """What is not where psplit looks for it in a GRPOTrainer: one line each."""
    for name, expected in SEAMS.items():
        method = getattr(trainer_class, name, None)
        if method is None:
            yield f"GRPOTrainer.{name} is gone"
            continue
        found = tuple(inspect.signature(inspect.unwrap(method)).parameters)
        if found[: len(expected)] != expected:
            yield f"GRPOTrainer.{name} begins with {found[: len(expected)]}, was {expected}"
    yield from unread(trainer_class)
    yield from misplaced(trainer_class)


def unread(trainer_class):
    """Of a batch, what the loss no longer reads, and sampling no longer returns."""
    places = {"_compute_loss": GIVEN_TO_LOSS, "_generate_and_score_completions": FROM_SAMPLING}
    for method, keys in places.items():
        text = source(trainer_class, method)
        for key in keys:
            if f'"{key}"' not in text:
                yield f"GRPOTrainer.{method} has no {key!r} in a batch any more"


def misplaced(trainer_class):
    loss, forward = source(trainer_class, "_compute_loss"), "_get_per_token_logps_and_entropies("
    if f"self.{forward}" not in loss:
        yield "GRPOTrainer._compute_loss has log-probabilities of another method"
    elif loss.index(forward) > loss.index('inputs["advantages"]'):
        yield "GRPOTrainer._compute_loss reads advantages before its forward pass"
    if "self._prepare_inputs" not in source(Trainer, "training_step"):
        yield "Trainer.training_step no longer calls _prepare_inputs"


def source(kind, name):
    method = getattr(kind, name, None)
    return inspect.getsource(inspect.unwrap(method)) if method else ""


def test_trl_is_the_pinned_one():
    assert re.fullmatch(r"1\.16\.\d+", trl.__version__), (
        f"TRL {trl.__version__}: psplit_train was made for 1.16; see what moved, then pin anew"
    )


def test_nothing_moved_in_the_trainer():
    assert not list(moved(GRPOTrainer))


@pytest.mark.parametrize("name", SEAMS)
def test_every_seam_is_in_use(name):
    """A name that psplit no longer uses is no seam."""
    from psplit_train.trainer import PolicySplitTrainer

    text = inspect.getsource(PolicySplitTrainer)
    assert name in vars(PolicySplitTrainer) or f"self.{name}(" in text or f"super().{name}(" in text


def test_what_moves_is_named():
    """On copies of TRL's trainer in which something moved."""
    gone = type("Gone", (Trainer,), {})
    assert "GRPOTrainer._tokenize_prompts is gone" in list(moved(gone))

    class Renamed(GRPOTrainer):
        def _calculate_rewards(self, inputs, prompts, answers, completion_ids_list):
            pass

        def _compute_loss(self, model, inputs):
            advantages = inputs["advantages"]
            return self._get_per_token_logps_and_entropies(model, inputs), advantages

    found = list(moved(Renamed))
    assert any("_calculate_rewards begins with" in line and "'answers'" in line for line in found)
    assert "GRPOTrainer._compute_loss has no 'old_per_token_logps' in a batch any more" in found
    assert "GRPOTrainer._compute_loss reads advantages before its forward pass" in found
    assert len(found) >= 4


@pytest.mark.parametrize(
    ("place", "name"), FUNCTIONS, ids=lambda part: getattr(part, "__name__", part)
)
def test_functions_beside_the_trainer_are_where_they_were(place, name):
    function = getattr(place, name, None)
    assert function is not None, f"{place.__name__}.{name} is gone"
    found, expected = tuple(inspect.signature(function).parameters), FUNCTIONS[place, name]
    assert found[: len(expected)] == expected, f"{place.__name__}.{name} begins with {found}"


def test_settings_have_their_names():
    known = {field.name for field in fields(GRPOConfig)}
    gone = [name for name in SETTINGS if name not in known]
    assert not gone, f"GRPOConfig has no {', '.join(gone)} any more"


def test_a_trainer_has_its_attributes(tmp_path):
    made = trainer(tmp_path)
    made.train()
    gone = [name for name in ATTRIBUTES if not hasattr(made, name)]
    assert not gone, f"a GRPOTrainer has no {', '.join(gone)} any more"
    assert made._step == 1, f"_step is {made._step} after one micro-batch: it counts another thing"
    assert isinstance(made._metrics["train"], dict), "_metrics is no longer by 'train' and 'eval'"
    assert isinstance(made.eos_token_ids, list), "eos_token_ids is no list any more"
    assert made.args.steps_per_generation == made.args.gradient_accumulation_steps, (
        "steps_per_generation no longer follows gradient_accumulation_steps"
    )


@pytest.mark.parametrize("shape", [(2,), (2, 3)], ids=["rows", "tokens"])
def test_the_loss_takes_weights_of_rows_and_of_tokens(tmp_path, shape):
    """A hand-made batch at ratio 1: the loss is -sum of weights over the number of tokens."""
    made = trainer(tmp_path)
    made.current_gradient_accumulation_steps = 1
    weights = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
    given = weights if len(shape) == 2 else weights[:, 0]
    log_probs = torch.full((2, 3), -1.0, requires_grad=True)

    class Forward:
        def __call__(self, model, ids, mask, keep, **settings):
            assert keep == 3
            return log_probs, torch.zeros(2, 3), None

    made._get_per_token_logps_and_entropies = Forward()
    ids = torch.ones(2, 3, dtype=torch.long)
    batch = {
        "prompt_ids": ids[:, :0],
        "prompt_mask": ids[:, :0],
        "completion_ids": ids,
        "completion_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "advantages": given,
        "old_per_token_logps": log_probs.detach(),
        "num_items_in_batch": torch.tensor(5),
    }
    loss = GRPOTrainer._compute_loss(made, made.model, batch)
    total = 6.5 if len(shape) == 2 else 4.0
    assert loss.item() == pytest.approx(-total / 5)
