"""Trains small cases in every process of a launcher, and writes down what happened in each.

    torchrun --nproc_per_node 2 tests/two_processes.py OUT NAME...

Responses are not drawn: they are made of the step, the number of a row in the batch of all
processes, and the prompt, so that any number of processes trains on the same ones. Everything
else is the trainer's own.
"""

import hashlib
import os
import random
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch.distributed.fsdp import fully_shard
from training_cases import trainer

from psplit_train.trainer import PolicySplitTrainer

STRONG = {"eta": 0.5, "kappa": 0.0}
THREE = [
    {"name": "normal"},
    {"name": "high", "system_prompt": "h", "role": "high", "eta": 0.5},
    {"name": "low", "system_prompt": "l", "role": "low", "eta": -0.3, "reference": "high"},
]
ALONE = {"queries": 1, "group": 8}  # of two processes one has the normal rows, one the high ones
QUICK = ("straddling", "to_normal", "three_modes_off", "lora")
CUT = {"queries": 3, "group": 8}  # the second group is on both

CASES = {
    "whole_groups": {"method": STRONG},
    "micro_batches": {"method": STRONG, "parts": 2},
    "smaller_than_groups": {"method": STRONG, "parts": 4},
    "straddling": {"method": STRONG, **CUT},
    "straddling_micro_batches": {"method": STRONG, "parts": 3, **CUT},
    "straddling_published": {"method": {}, **CUT},
    "straddling_reused": {"method": STRONG, "iterations": 2, **CUT},
    "straddling_truncated_only": {"method": {"eta": 0.0, "truncated_weights": 1.0}, **CUT},
    "straddling_rarity": {"method": {"rarity": True, "entropy_term": 0.1, **STRONG}, **CUT},
    "straddling_entropy": {"method": {"estimate": "entropy", **STRONG}, **CUT},
    "straddling_entropy_driven": {"method": {"name": "entropy_driven"}, **CUT},
    "sharing_off": {"method": {"sharing": "off", **STRONG}, **ALONE},
    "to_normal": {"method": {"sharing": "to_normal", **STRONG}, **ALONE},
    "from_normal": {"method": {"sharing": "from_normal", **STRONG}, **ALONE},
    "to_normal_by_rows": {
        "method": {"sharing": "to_normal", **STRONG},
        "loss_type": "grpo",
        **ALONE,
    },
    "to_normal_held": {"method": {"sharing": "to_normal", **STRONG}, "beta": 0.5, **ALONE},
    "grpo": {"method": {"name": "grpo"}, **CUT},
    "three_modes": {"method": STRONG, "modes": THREE, "queries": 1, "group": 12},
    "three_modes_off": {
        "method": {"sharing": "off", **STRONG},
        "modes": THREE,
        "queries": 1,
        "group": 12,
    },
    "lora": {"method": STRONG, "lora": True, "beta": 0.5, **CUT},
    "sharded": {"method": STRONG, "sharded": True, "share_prefixes": False, **CUT},
    "sharded_to_normal": {
        "method": {"sharing": "to_normal", **STRONG},
        "sharded": True,
        "share_prefixes": False,
        **ALONE,
    },
    "padded": {"method": STRONG, "share_prefixes": False, **CUT},
}


class Fixed(PolicySplitTrainer):
    """Its responses are made, not drawn; keeps what the loss is given."""

    def __init__(self, **settings):
        self.given = []
        super().__init__(**settings)

    def _generate_single_turn(self, prompt_ids, *_):
        first = self.accelerator.process_index * len(prompt_ids)
        return [
            _made(self.state.global_step // self.num_iterations, first + row, ids)
            for row, ids in enumerate(prompt_ids)
        ], None

    def _flat(self, inputs, taken, weights, old):
        for mode, row in taken.nonzero().tolist():
            ids = inputs["completions"][row][inputs["mask"][row]].tolist()
            sampler, query = int(inputs["samplers"][row]), int(inputs["queries"][row])
            prompt = self._drawn.prompts[query][sampler]
            key = (self.state.global_step, mode, sampler, tuple(prompt), tuple(ids))
            self.given.append((key, weights.advantages[mode, row, : len(ids)].tolist()))
        return super()._flat(inputs, taken, weights, old)


class Sharded(Fixed):
    """Its weights are split over the processes by PyTorch's FSDP2, which accelerate leaves to GPUs:
    every forward pass gathers them, and hangs where another process makes none."""

    def __init__(self, **settings):
        super().__init__(**settings)
        for layer in self.model.model.layers:
            fully_shard(layer)
        fully_shard(self.model)
        self.accelerator.prepare_model = lambda model, **_: model


def _made(step, row, prompt):
    """One to eight tokens, each one of the vocabulary; most end."""
    seed = hashlib.sha256(repr((step, row, list(prompt))).encode()).digest()
    chance = random.Random(seed)
    ids = [chance.randrange(5, 28) for _ in range(chance.randrange(1, 8))]
    return [*ids, 1] if chance.random() < 0.8 else ids


def train(name, folder):
    """Two updates, by plain gradient descent, so that equal gradients give equal weights."""
    case = dict(CASES[name])
    processes = int(os.environ.get("WORLD_SIZE", 1))
    size = case.get("queries", 4) * case.get("group", 8) // case.get("parts", 1) // processes
    sharded = case.pop("sharded", False) and processes > 1
    if case.pop("lora", False):
        from peft import LoraConfig

        case["peft_config"] = LoraConfig(
            r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
        )
    made = trainer(
        folder,
        kind=Sharded if sharded else Fixed,
        steps=2 * case.get("iterations", 1),
        per_device_train_batch_size=size,
        optim="sgd",
        learning_rate=0.1,
        ddp_timeout=60,
        **case,
    )
    assert made.accelerator.num_processes == processes
    before = weights(made)
    made.train()
    return {
        "given": made.given,
        "rewards": made._drawn.rewards.tolist(),
        "log": [row for row in made.state.log_history if "loss" in row],
        "before": before,
        "weights": weights(made),
    }


def weights(trained):
    """Whole, wherever their parts are."""
    parts = (value.detach() for value in trained.model.parameters())
    whole = (part.full_tensor() if hasattr(part, "full_tensor") else part for part in parts)
    return torch.cat([value.flatten().clone() for value in whole])


def main():
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    out, names = Path(sys.argv[1]), sys.argv[2:]
    assert int(os.environ["WORLD_SIZE"]) == 2
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = torch.distributed.get_rank()
    for name in names:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(train(name, folder), folder / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
