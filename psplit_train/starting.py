"""What a run starts from: weights, chat template, prompts, and the trainer of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.files import disk_errors
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking
from psplit_train.config import Config
from psplit_train.data import TrainingData, read_data, to_dataset
from psplit_train.grpo import grpo_config
from psplit_train.processes import launch
from psplit_train.rehearsal import (
    chat_template,
    check_evaluations,
    check_prompts,
    hold_out,
    template_file,
)
from psplit_train.rewards import Reward, Verifier
from psplit_train.sharing import split_of
from psplit_train.tasks import TASKS
from psplit_train.tiny import make_tiny
from psplit_train.warmup import warm_up

__all__ = ["Start", "prepare", "trainer_for"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """`folder`: the weights; `held_out`: the folder of the held-out prompts' task, if any."""

    folder: Path
    template: ChatTemplate
    data: TrainingData
    held_out: Path | None


def prepare(config: Config, out: Path, say: Say) -> Start:
    """Read the data and make the start. Every process calls it; what one can do, the first does.

    What can be known to go wrong later is found here (see `rehearsal`). Raises UsageError where a
    mode's prompt does not reach the model or an evaluation would fail, DataError for data.
    """
    state = launch()
    grpo_config(config, out, state.num_processes)  # so that it is refused now
    data = read_data(config.data, say)
    held_out = out / "held_out" if data.held_out else None
    if state.is_main_process:
        if held_out:
            hold_out(config, data, held_out)
        check_evaluations(config, held_out)
    folder = _weights(config, out, data, say)
    return Start(folder, _template(config, folder), data, held_out)


def _weights(config: Config, out: Path, data: TrainingData, say: Say) -> Path:
    """The checkpoint's folder, or that of a new model, after a warm-up where one is asked for."""
    place = config.warmup.folder or out
    with _alone(place, say):
        start, fingerprint = _start(config, place, say)
        taught = _taught(config, start)
        check_prompts(config, _template(config, start, taught), data, _context(start))
        if not config.warmup.steps:
            return start
        return warm_up(
            start,
            config.warmup,
            _examples(config, data),
            [mode.mode() for mode in config.modes],
            place / "warmed",
            say,
            chat_template=taught,
            thinking=Thinking(config.model.enable_thinking),
            mixed=config.model.dtype == "bfloat16",
            of={"weights": fingerprint, "examples": _digest(data)},
        )


@contextmanager
def _alone(place: Path, say: Say) -> Iterator[None]:
    """One run at a time makes a start in a folder: its first process keeps others out.

    Its processes work together in here, so only one of them may hold the lock.
    """
    from filelock import FileLock, Timeout

    state = launch()
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".start.lock")
        if state.is_main_process:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                say(f"another run makes the start in {place}: waiting for it")
                lock.acquire()
    try:
        state.wait_for_everyone()
        yield
    finally:
        lock.release()


def _start(config: Config, place: Path, say: Say) -> tuple[Path, str]:
    """The folder of the weights before any training, and what tells them from others."""
    state = launch()
    if config.model.tiny is not None:
        with state.main_process_first():
            folder = make_tiny(config.model.tiny, place / "start")
        return folder, repr(config.model.tiny)
    with state.local_main_process_first():
        found = resolve_checkpoint(str(config.model.checkpoint), say)
    assert found.folder is not None  # only a checkpoint on a server has none
    return found.folder, found.fingerprint


def _context(folder: Path) -> int | None:
    """Tokens that a model of this folder has places for; None: it does not say."""
    from transformers import AutoConfig

    known = AutoConfig.from_pretrained(folder).get_text_config()
    return getattr(known, "max_position_embeddings", None)


def _digest(data: TrainingData) -> str:
    """SHA-256 (hex) of what a warm-up shows."""
    shown = [(prompt.question, prompt.solution) for prompt in data.train]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


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
    """The template in place of the tokenizer's own, if any."""
    from transformers import AutoTokenizer

    return chat_template(config, AutoTokenizer.from_pretrained(folder))


def _template(config: Config, folder: Path, given: str | None = None) -> ChatTemplate:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    thinking = Thinking(config.model.enable_thinking)
    return ChatTemplate(tokenizer, str(folder), given or template_file(config), thinking)


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
    dtype = config.model.dtype if config.model.lora else "float32"  # computed in by autocast
    model = AutoModelForCausalLM.from_pretrained(start.folder, dtype=dtype, **given)
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
