"""Where psplit's trainer takes hold of TRL's, and what of TRL it cannot go with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from psplit_eval.errors import UsageError
from psplit_train.sharing import Split

if TYPE_CHECKING:
    from trl import GRPOConfig

__all__ = ["SEAMS", "refuse", "refuse_dropout", "steps_of_responses"]

SEAMS: Mapping[str, tuple[str, ...]] = {
    "_generate_and_score_completions": ("self", "inputs"),
    "_get_train_sampler": ("self", "dataset"),
    "_prepare_inputs": ("self", "generation_batch"),
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_tokenize_prompts": ("self", "prompts"),
    "_generate_single_turn": (
        "self",
        "prompt_ids",
        "images",
        "multimodal_fields",
        "num_generations",
        "has_tool_images",
    ),
    "_get_per_token_logps_and_entropies": (
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
    ),
    "_compute_loss": ("self", "model", "inputs"),
    "_save_checkpoint": ("self", "model", "trial"),
    "_get_output_dir": ("self", "trial"),
    "create_model_card": ("self",),
}
"""Methods of GRPOTrainer that are overridden or called, with the parameters they begin with."""

_LOSSES = ("dapo", "grpo", "bnpo", "dr_grpo")


def refuse(args: GRPOConfig, split: Split, others: Mapping[str, Any]) -> None:
    """What cannot be trained in modes: UsageError, one line that says what to do."""
    for name in ("eval_dataset", "tools", "environment_factory", "rollout_func"):
        if others.get(name):
            raise UsageError(f"{name}: not supported in training modes; leave it out")
    expected: dict[str, tuple[Any, ...]] = {
        "loss_type": _LOSSES,
        "scale_rewards": ("group",),
        "multi_objective_aggregation": ("sum_then_normalize",),
        "top_entropy_quantile": (1.0,),
        "off_policy_mask_threshold": (None,),
        "entropy_coef": (0.0,),
        "use_adaptive_entropy": (False,),
    }
    for name, values in expected.items():
        value = getattr(args, name)
        if value not in values:
            wanted = " or ".join(map(str, values))
            raise UsageError(f"{name} {value!r}: expected {wanted}; leave it at its default")
    if args.num_generations % len(split.modes):
        raise UsageError(
            f"num_generations {args.num_generations}: expected a multiple of "
            f"{len(split.modes)} modes"
        )
    _refuse_saving(args)


def _refuse_saving(args: GRPOConfig) -> None:
    """A checkpoint holds no responses, so there is no going on from within their use."""
    from transformers.trainer_utils import SaveStrategy

    if args.save_strategy == SaveStrategy.NO or args.save_steps >= args.max_steps:
        return
    steps = steps_of_responses(args)
    if args.save_strategy != SaveStrategy.STEPS or args.save_steps % steps:
        raise UsageError(
            f"save_steps {args.save_steps} (checkpoints.every): expected a multiple of {steps}, "
            "the steps that train on the same responses, as resuming between them is not exact"
        )


def steps_of_responses(args: GRPOConfig) -> int:
    """Steps after which all responses that were drawn are used up, and training can go on."""
    micro_batches = args.steps_per_generation * args.num_iterations
    window = math.lcm(micro_batches, args.gradient_accumulation_steps)
    return int(window // args.gradient_accumulation_steps)


def refuse_dropout(model: Any) -> None:
    """Dropout would make two passes over the same tokens differ."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and module.p > 0:
            raise UsageError(f"dropout {module.p:g} in {name}: expected 0; set it to 0")
