"""A config as TRL's GRPOConfig."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from psplit_eval.errors import UsageError
from psplit_eval.text import one_line
from psplit_train.checks import micro_batch, update_share
from psplit_train.config import Config

__all__ = ["grpo_config"]


def grpo_config(config: Config, out: Path, processes: int = 1) -> Any:
    """TRL's settings for a run in `out`; `train.trl` adds to them.

    Raises UsageError for a setting in `train.trl` that psplit sets itself, or that TRL
    does not have, and for a schedule or a reporter that is none.
    """
    from trl import GRPOConfig

    _check_schedule(config.train.schedule)
    _check_reporters(config.log.report_to)
    own = {**_batch(config, processes), **_training(config), **_engine(config), **_log(config, out)}
    for name in config.train.trl:
        if name in own:
            raise UsageError(
                f"train.trl {name!r}: psplit sets it from other settings; leave it out there"
            )
        known = [field.name for field in fields(GRPOConfig)]
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.7)
            hint = f": did you mean {close[0]!r}?" if close else ""
            raise UsageError(
                f"train.trl {name!r}: TRL's GRPOConfig has no such setting{hint}; correct the name"
            )
    try:
        return GRPOConfig(**own, **config.train.trl)
    except (TypeError, ValueError) as error:
        raise UsageError(f"train.trl: {error}") from error


def _check_schedule(name: str) -> None:
    from transformers import SchedulerType

    known = [str(kind.value) for kind in SchedulerType]
    if name not in known:
        raise UsageError(
            f"train.schedule {name!r}: expected one of {', '.join(known)}; correct the name"
        )


def _check_reporters(names: Sequence[str]) -> None:
    """Trainer would look for them after the warm-up."""
    from transformers.integrations import get_reporting_integration_callbacks

    for name in names:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ValueError, RuntimeError, ImportError) as error:
            raise UsageError(f"log.report_to {name!r}: {one_line(str(error))}") from error


def _batch(config: Config, processes: int) -> dict[str, Any]:
    size = micro_batch(config, processes)
    return {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": update_share(config, processes) // size,
        "num_generations": config.train.rollouts,
        "num_iterations": config.train.iterations,
        "max_steps": config.train.steps,
    }


def _training(config: Config) -> dict[str, Any]:
    import torch

    train, method = config.train, config.method
    return {
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.schedule,
        "warmup_steps": train.warmup_steps,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "epsilon": math.inf if method.name == "kl_cov" else train.epsilon,  # its loss has no clip
        "epsilon_high": method.epsilon_high if method.name == "clip_higher" else None,
        "beta": train.beta,
        "loss_type": train.loss,
        "temperature": train.temperature,
        "top_p": train.top_p,
        "top_k": train.top_k,
        "max_completion_length": train.max_new_tokens,
        "activation_checkpointing": train.gradient_checkpointing,
        "disable_dropout": True,
        "bf16": config.model.dtype == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": train.seed,
        "chat_template_kwargs": {},
    }


def _engine(config: Config) -> dict[str, Any]:
    engine = config.engine
    if engine.name == "hf":
        return {"use_vllm": False}
    return {
        "use_vllm": True,
        "vllm_mode": engine.name.removeprefix("vllm_"),
        "vllm_server_host": engine.host,
        "vllm_server_port": engine.port,
        "vllm_gpu_memory_utilization": engine.gpu_memory,
        "vllm_tensor_parallel_size": engine.tensor_parallel,
    }


def _log(config: Config, out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "logging_steps": config.log.every,
        "report_to": list(config.log.report_to) or "none",
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": config.checkpoints.every or config.train.steps,
        "save_total_limit": None,
        "eval_strategy": "no",
    }
