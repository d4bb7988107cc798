"""A supervised stage before training: TRL's SFTTrainer on worked answers, in every mode's prompt.

Each example stands under the prompt of a mode that is drawn at random. So the weights know all
prompts, and the system role where the template has just been given one, and the modes still do the
same. What is trained is what would have been generated: the prompt's tokens as sampling has them,
the response's, and the token that ends its turn; the loss is on the last two. Where something else
is to be kept, a share of the examples is what the model says by itself (`keeping`).
"""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psplit_eval.errors import (
    CheckpointError,
    DataError,
    InfrastructureError,
    RunMismatchError,
    UsageError,
)
from psplit_eval.files import new_folder, write_json, write_text
from psplit_eval.modes import Mode
from psplit_eval.requests import digest
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking
from psplit_train.checkpoints import write_modes
from psplit_train.config import WarmupSettings
from psplit_train.keeping import check_requests, own_answers, read_requests
from psplit_train.processes import launch
from psplit_train.system_role import check_modes, default_system_prompt
from psplit_train.turns import Example, Row, Turns

__all__ = ["warm_up"]

Draw = Callable[[random.Random], Example]
"""Makes an example with the random numbers that it is given."""
Say = Callable[[str], None]

_RECORD, _LOG = "psplit_warmup.json", "warmup_log.jsonl"
_IGNORED = -100  # no loss there
_LOGGED, _SAID = 100, 10  # entries of a warm-up's log, and lines said on the way, about
_RAMP = 0.1  # share of the steps on which the learning rate rises


def warm_up(
    folder: Path,
    settings: WarmupSettings,
    examples: Sequence[Example] | Draw,
    modes: Sequence[Mode],
    out: Path,
    say: Say,
    *,
    chat_template: str | None = None,
    thinking: Thinking | None = None,
    mixed: bool = False,
    micro_batch: int | None = None,
    of: Mapping[str, str] | None = None,
) -> Path:
    """Train the checkpoint in `folder` on `examples`, write it into `out`, and return `out`.

    `settings.steps` updates (0: `folder` is returned) of `settings.batch` examples over all
    processes: those that a callable draws, or a list's, again and again in random order. The
    learning rate rises over the first tenth and falls to 0 along a cosine. Weights are float32;
    `mixed`: computed with in bfloat16. `micro_batch`: examples that a process computes at once
    (None: all of its batch). `chat_template` replaces the tokenizer's, in `out`, too. `of` names
    the weights and the examples: a finished warm-up of others is refused, too. With
    `settings.keep`, that share of the examples is what the model in `folder` answers to the
    requests, each drawn at random with its mode; the loss is a mean over tokens, so long answers
    count for more than short ones.

    `out` is written whole or not at all, and holds `psplit_warmup.json` (what was asked for, the
    system prompt that the template adds by itself, seconds), `warmup_log.jsonl` ("step", "loss"
    in nats a token, "entropy_bits", "token_accuracy", "learning_rate") and `psplit_modes.json`, as
    trained checkpoints do: whoever evaluates the start asks it under the prompts that it was shown,
    and not under built-in ones of the same names. A finished one is not done again. Every process
    calls it, and `say` hears the same in each. Raises CheckpointError, RunMismatchError where `out`
    holds something else, DataError for an example without room in the model's context or with
    characters that have no token, TemplateError as `check_modes`, UsageError for a batch that the
    processes cannot share.
    """
    if not settings.steps:
        return folder
    requests = read_requests(settings.keep.requests) if settings.keep else []
    wanted = _wanted(settings, requests, modes, chat_template, thinking, mixed) | dict(of or {})
    if out.is_dir() and any(out.iterdir()):
        _check_same(out, wanted)
        say(f"warm-up: done before, in {out}")
        return out
    started = time.monotonic()
    model, turns = _opened(folder, chat_template, thinking)
    check_modes(turns.template, modes)
    check_requests(requests, modes, turns.template, _context(model))
    kept = _kept(settings, requests, modes)
    rows = turns.rows(_drawn(settings, examples, modes, len(kept)))
    _check_room(rows, model)
    if settings.keep:
        rows += _answered(
            folder, kept, say,
            max_tokens=settings.keep.max_tokens, seed=settings.seed,
            chat_template=chat_template, thinking=thinking, mixed=mixed,
        )  # fmt: skip
    names = ", ".join(mode.name for mode in modes)
    say(f"warm-up: {settings.steps} steps of {settings.batch} examples, modes {names}")
    trainer, log = _trained(model, turns, settings, rows, say, mixed, micro_batch)
    seconds = round(time.monotonic() - started, 1)
    added = default_system_prompt(turns.template)
    record = {**wanted, "added_system_prompt": added, "seconds": seconds}
    _save(trainer, turns.template.tokenizer, modes, out, record, log)
    say(f"warm-up: loss {log[-1]['loss']:.3f} nats a token at the end, {seconds:.0f} s, in {out}")
    return out


def _wanted(
    settings: WarmupSettings,
    requests: Sequence[str],
    modes: Sequence[Mode],
    chat_template: str | None,
    thinking: Thinking | None,
    mixed: bool,
) -> dict[str, Any]:
    return {
        "format": 1,
        "settings": settings.model_dump(
            mode="json", exclude={"folder": True, "keep": {"requests"}}, exclude_none=True
        ),
        "modes": [mode.to_dict() for mode in modes],
        "chat_template": chat_template,
        "mixed": mixed,
        **({"requests": digest(requests)} if requests else {}),
        **(thinking or Thinking()).describe(),
    }


def _check_same(out: Path, wanted: Mapping[str, Any]) -> None:
    record = out / _RECORD
    try:
        found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    except (OSError, ValueError):
        found = {}
    other = [name for name, value in wanted.items() if found.get(name) != value]
    if other:
        raise RunMismatchError(
            f"{out}: holds no warm-up of the same {', '.join(other)}; give another folder, or "
            "delete it"
        )


def _opened(
    folder: Path, chat_template: str | None, thinking: Thinking | None
) -> tuple[Any, Turns]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and others
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"model {str(folder)!r}: transformers cannot open it as a causal language model "
            f"({error.__class__.__name__}: {reason})"
        ) from error
    template = ChatTemplate(tokenizer, str(folder), chat_template, thinking)
    return model, Turns(template, _ends(model, tokenizer, folder))


def _ends(model: Any, tokenizer: Any, folder: Path) -> list[int]:
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    ends = [int(i) for i in (tokenizer.eos_token_id, *several) if i is not None]
    if not ends:
        raise CheckpointError(
            f"model {str(folder)!r}: neither its tokenizer nor its generation_config.json has an "
            "end-of-sequence token; write eos_token_id there"
        )
    return ends


def _kept(
    settings: WarmupSettings, requests: Sequence[str], modes: Sequence[Mode]
) -> list[tuple[Mode, str]]:
    """What the model is asked for answers that it is to keep; its draws are no other's."""
    if settings.keep is None:
        return []
    numbers = random.Random(f"keep {settings.seed}")
    every = settings.steps * settings.batch
    count = min(round(settings.keep.share * every), every - 1)  # the task has one at least
    return [(numbers.choice(modes), numbers.choice(requests)) for _ in range(count)]


def _answered(folder: Path, asked: Sequence[tuple[Mode, str]], say: Say, **how: Any) -> list[Row]:
    """One process asks, all hear the same."""
    from accelerate.utils import broadcast_object_list

    say(f"warm-up: drawing {len(asked)} of its own answers to keep")
    answers = [own_answers(folder, asked, say, **how) if launch().is_main_process else []]
    broadcast_object_list(answers)
    return answers[0]


def _drawn(
    settings: WarmupSettings, examples: Sequence[Example] | Draw, modes: Sequence[Mode], kept: int
) -> list[tuple[Mode, Example]]:
    """As many as the steps take beside what is kept, each under a mode drawn at random."""
    numbers = random.Random(settings.seed)
    count = settings.steps * settings.batch - kept
    if callable(examples):
        chosen = [examples(numbers) for _ in range(count)]
    else:
        if not examples:
            raise DataError("warm-up: no examples, expected at least one; set warmup.steps to 0")
        chosen = []
        for _ in range(math.ceil(count / len(examples))):
            chosen += numbers.sample(examples, len(examples))
    return [(numbers.choice(modes), example) for example in chosen[:count]]


def _context(model: Any) -> int | None:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _check_room(rows: Sequence[Row], model: Any) -> None:
    context = _context(model)
    longest = max(len(row.prompt) + len(row.response) for row in rows)
    if context and longest > context:
        raise DataError(
            f"warm-up: an example of {longest} tokens with its mode's prompt, expected at most "
            f"{context} (the model's context); leave long ones out, or take a shorter prompt"
        )


def _trained(
    model: Any,
    turns: Turns,
    settings: WarmupSettings,
    rows: Sequence[Row],
    say: Say,
    mixed: bool,
    micro_batch: int | None,
) -> tuple[Any, list[dict[str, float]]]:
    """The trainer when it is done, and the entries of its log."""
    from transformers import PrinterCallback
    from trl import SFTTrainer

    log: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=_arguments(settings, Path(scratch), mixed, micro_batch),
            train_dataset=_dataset(rows),
            processing_class=turns.template.tokenizer,
            callbacks=[_logger(log, settings.steps, say)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer, log


def _dataset(rows: Sequence[Row]) -> Any:
    """Rows of input_ids and labels. Arrays: lists of numbers would take ten times the memory."""
    import numpy as np
    from datasets import Dataset

    ids = [np.array([*row.prompt, *row.response], np.int32) for row in rows]
    labels = [np.array([*[_IGNORED] * len(row.prompt), *row.response], np.int32) for row in rows]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def _arguments(
    settings: WarmupSettings, scratch: Path, mixed: bool, micro_batch: int | None
) -> Any:
    import torch
    from trl import SFTConfig

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    own, left = divmod(settings.batch, processes)
    if left:
        raise UsageError(
            f"warmup.batch {settings.batch}: expected a multiple of the {processes} processes"
        )
    most = min(micro_batch or own, own)
    at_once = next(rows for rows in range(most, 0, -1) if own % rows == 0)
    arguments = SFTConfig(
        output_dir=str(scratch),
        max_steps=settings.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=own // at_once,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(_RAMP * settings.steps),
        logging_steps=max(1, settings.steps // _LOGGED),
        seed=settings.seed,
        bf16=mixed,
        activation_checkpointing=False,
        packing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},  # tokens and labels are there
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        save_strategy="no",
        ddp_find_unused_parameters=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=torch.accelerator.current_accelerator(check_available=True) is None,
    )
    if arguments.world_size != processes:
        raise InfrastructureError(
            f"warm-up: {processes} processes were started, of which each works alone; start them "
            "by torchrun"
        )
    return arguments


def _logger(log: list[dict[str, float]], steps: int, say: Say) -> Any:
    """A callback that keeps what the trainer measures, and says how far it is."""
    from transformers import TrainerCallback

    every = max(1, steps // _SAID)

    class Logger(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            entry = kwargs.get("logs") or {}
            if "loss" not in entry:  # the summary at the end
                return
            line = _entry(state.global_step, entry)
            if log and line["step"] // every > log[-1]["step"] // every:
                say(f"warm-up: step {line['step']}/{steps}, loss {line['loss']:.3f}")
            log.append(line)

    return Logger()


def _entry(step: int, measured: Mapping[str, float]) -> dict[str, float]:
    return {
        "step": step,
        "loss": float(measured["loss"]),
        "entropy_bits": float(measured["entropy"]) / math.log(2),
        "token_accuracy": float(measured["mean_token_accuracy"]),
        "learning_rate": float(measured["learning_rate"]),
    }


def _save(
    trainer: Any,
    tokenizer: Any,
    modes: Sequence[Mode],
    out: Path,
    record: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
) -> None:
    """All processes give their part of the weights, one writes."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        with new_folder(out) as partial:
            trainer.accelerator.unwrap_model(trainer.model_wrapped).save_pretrained(
                partial, state_dict=state
            )
            tokenizer.save_pretrained(partial)
            write_modes(partial, modes)
            write_text(partial / _LOG, "".join(json.dumps(line) + "\n" for line in log))
            write_json(partial / _RECORD, dict(record))
    trainer.accelerator.wait_for_everyone()
