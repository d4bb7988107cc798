"""What a run starts from: weights, chat template, prompts, and the trainer of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.files import disk_errors
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking
from psplit_train.config import Config
from psplit_train.data import TrainingData, read_data, to_dataset, write_held_out
from psplit_train.grpo import grpo_config
from psplit_train.rewards import Reward, Verifier
from psplit_train.sharing import split_of
from psplit_train.system_role import check_modes, with_system_role
from psplit_train.tasks import TASKS
from psplit_train.tiny import check_text, make_tiny
from psplit_train.warmup import warm_up

__all__ = ["Start", "launch", "prepare", "trainer_for"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """`folder`: the weights; `held_out`: the folder of the held-out prompts' task, if any."""

    folder: Path
    template: ChatTemplate
    data: TrainingData
    held_out: Path | None


def launch() -> Any:
    """accelerate's PartialState: which process this is, of how many. Without a GPU it takes itself
    for the only one, unless it is told that CPUs are meant."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def prepare(config: Config, out: Path, say: Say) -> Start:
    """Read the data and make the start, on every process; what takes long is done once.

    Raises UsageError where a mode's prompt does not reach the model, DataError for data.
    """
    data = read_data(config.data, say)
    with launch().local_main_process_first():
        folder = _weights(config, out, data, say)
    template = _template(config, folder)
    check_modes(template, [mode.mode() for mode in config.modes])
    check_text(template.tokenizer, (prompt.question for prompt in data.train), "question")
    return Start(folder, template, data, _held_out(config, out, data))


def _weights(config: Config, out: Path, data: TrainingData, say: Say) -> Path:
    """The checkpoint's folder, or that of a new model, after a warm-up where one is asked for."""
    from filelock import FileLock

    place = config.warmup.folder or out
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".start.lock"):
        if config.model.tiny is not None:
            start = make_tiny(config.model.tiny, place / "start")
        else:
            found = resolve_checkpoint(str(config.model.checkpoint), say).folder
            assert found is not None  # only a checkpoint on a server has none
            start = found
        if not config.warmup.steps:
            return start
        return warm_up(
            start,
            config.warmup,
            _examples(config, data),
            [mode.mode() for mode in config.modes],
            place / "warmed",
            say,
            chat_template=_taught(config, start),
            thinking=Thinking(config.model.enable_thinking),
            mixed=config.model.dtype == "bfloat16",
        )


def _examples(config: Config, data: TrainingData) -> Any:
    """Right responses to the training prompts: drawn anew each time for a generated task."""
    if config.data.task is None:
        return [(prompt.question, prompt.solution) for prompt in data.train]
    task, prompts = TASKS[config.data.task], data.train

    def draw(random: Random) -> tuple[str, str]:
        prompt = random.choice(prompts)
        return prompt.question, task.worked({"answer": prompt.answer}, random)

    return draw


def _taught(config: Config, folder: Path) -> str | None:
    """The template that a warm-up teaches: the one that was given, or, where the tokenizer's takes
    no system message, one that does."""
    from transformers import AutoTokenizer

    given = _override(config)
    asked = any(mode.mode().system_prompt is not None for mode in config.modes)
    if given is not None or not asked:
        return given
    return with_system_role(AutoTokenizer.from_pretrained(folder))


def _override(config: Config) -> str | None:
    path = config.model.chat_template
    if path is None:
        return None
    with disk_errors(path):
        return path.read_text(encoding="utf-8")


def _template(config: Config, folder: Path) -> ChatTemplate:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    thinking = Thinking(config.model.enable_thinking)
    return ChatTemplate(tokenizer, str(folder), _override(config), thinking)


def _held_out(config: Config, out: Path, data: TrainingData) -> Path | None:
    if not data.held_out:
        return None
    folder = out / "held_out"
    if launch().is_main_process:
        samples = config.evaluate.samples if config.evaluate else 8
        write_held_out(folder, data, "held_out", config.train.max_new_tokens, samples)
    return folder


def trainer_for(
    config: Config,
    out: Path,
    start: Start,
    *,
    step_end: Callable[..., bool],
    keep_rollouts: Callable[..., None],
    finish_checkpoint: Callable[..., None],
) -> Any:
    """The trainer of a run; what it is given is called as `PolicySplitTrainer` says."""
    from transformers import AutoModelForCausalLM, PrinterCallback, ProgressCallback
    from transformers.utils.logging import disable_progress_bar

    from psplit_train.trainer import PolicySplitTrainer

    disable_progress_bar()  # of loading and of every checkpoint
    arguments = grpo_config(config, out, launch().num_processes)
    given = (
        {} if config.model.attention is None else {"attn_implementation": config.model.attention}
    )
    model = AutoModelForCausalLM.from_pretrained(start.folder, dtype="float32", **given)
    verifier = Verifier(start.data.answer_format, time_limit=config.reward.time_limit)
    reward = Reward(config.reward, verifier, _ends(model, start.template))
    made = PolicySplitTrainer(
        model=model,
        args=arguments,
        reward=reward,
        split=split_of(config.trained_modes, config.method),
        method=config.method,
        template=start.template,
        share_prefixes=config.train.share_prefixes,
        step_end=step_end,
        keep_rollouts=keep_rollouts if config.log.rollouts_every else None,
        keep_every=max(config.log.rollouts_every, 1),
        finish_checkpoint=finish_checkpoint,
        train_dataset=to_dataset(start.data.train),
        peft_config=_lora(config),
    )
    made.remove_callback(PrinterCallback)
    made.remove_callback(ProgressCallback)
    return made


def _ends(model: Any, template: ChatTemplate) -> Sequence[int]:
    """Token ids at which a response ends by itself, as TRL has them."""
    declared = model.generation_config.eos_token_id
    ids = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    return sorted({*ids, template.tokenizer.eos_token_id})


def _lora(config: Config) -> Any:
    lora = config.model.lora
    if lora is None:
        return None
    from peft import LoraConfig

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=targets,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
