"""What can be known to go wrong in a training before a weight is touched.

Hours may lie between the first step and what fails by a setting: an evaluation of a task that does
not exist, a prompt without room for an answer. It is found here, in a run and in its dry run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psplit_eval.errors import DataError, UsageError
from psplit_eval.modes import Mode
from psplit_eval.templates import ChatTemplate
from psplit_eval.text import shortened
from psplit_eval.thinking import Thinking
from psplit_train.config import Config
from psplit_train.data import TrainingData, read_data, write_held_out
from psplit_train.estimates import open_configuration, open_tokenizer
from psplit_train.evaluate import check_evaluation
from psplit_train.grpo import grpo_config
from psplit_train.keeping import check_requests, read_requests
from psplit_train.system_role import check_modes, messages_of, with_system_role
from psplit_train.tiny import check_text, tiny_tokenizer

__all__ = [
    "chat_template",
    "check_evaluations",
    "check_prompts",
    "hold_out",
    "rehearse",
    "template_file",
]

Say = Callable[[str], None]

_SAMPLES = 8
"""That the task of held-out prompts asks for where no evaluation does."""


def rehearse(config: Config, processes: int, say: Say) -> TrainingData:
    """Do all of a run that needs no weights, in no folder of its own, and return its data.

    Raises as `check_prompts` and `check_evaluations`, UsageError for settings that TRL refuses,
    InfrastructureError where the data or the tokenizer is on a hub out of reach.
    """
    data = read_data(config.data, say)
    with TemporaryDirectory() as scratch:
        grpo_config(config, Path(scratch), processes)
        held_out = Path(scratch) / "held_out" if data.held_out else None
        if held_out:
            hold_out(config, data, held_out)
        check_evaluations(config, held_out)
    tokenizer, context = _opened(config)
    thinking = Thinking(config.model.enable_thinking)
    template = ChatTemplate(tokenizer, _source(config), chat_template(config, tokenizer), thinking)
    check_prompts(config, template, data, context)
    return data


def _source(config: Config) -> str:
    return config.model.checkpoint or "model.tiny"


def _opened(config: Config) -> tuple[Any, int | None]:
    """The tokenizer, and the tokens that the model has places for."""
    if config.model.tiny:
        return tiny_tokenizer(config.model.tiny), config.model.tiny.context
    known = open_configuration(_source(config)).get_text_config()
    return open_tokenizer(_source(config)), getattr(known, "max_position_embeddings", None)


def template_file(config: Config) -> str | None:
    """The template that model.chat_template names. Raises DataError."""
    path = config.model.chat_template
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"model.chat_template {str(path)!r}: cannot be read ({error.__class__.__name__}); give "
            "a Jinja file in UTF-8"
        ) from error


def chat_template(config: Config, tokenizer: Any) -> str | None:
    """What stands in place of the tokenizer's template: the one that was given, or, where its own
    takes no system message and a warm-up can teach it, one that does; None: its own stays."""
    given = template_file(config)
    asked = any(mode.mode().system_prompt is not None for mode in config.modes)
    if given is not None or not asked or not config.warmup.steps:
        return given
    return with_system_role(tokenizer)


def hold_out(config: Config, data: TrainingData, folder: Path) -> None:
    """Write the held-out prompts as a task of psplit-eval."""
    samples = config.evaluate.samples if config.evaluate else _SAMPLES
    write_held_out(folder, data, "held_out", config.train.max_new_tokens, samples)


def check_evaluations(config: Config, held_out: Path | None) -> None:
    """Raise UsageError for an evaluation that would fail; `held_out`: the task's folder."""
    if config.evaluate:
        modes = [mode.mode() for mode in config.modes]
        check_evaluation(config.evaluate, modes, held_out)


def check_prompts(
    config: Config, template: ChatTemplate, data: TrainingData, context: int | None
) -> None:
    """Raise TemplateError as `check_modes`, DataError for characters without a token and for
    requests to be kept that can't be asked (`keeping`), UsageError
    for too few prompts, and for one that leaves no room for an answer of `train.max_new_tokens`
    in the model's `context` (tokens; None: unknown)."""
    modes = [mode.mode() for mode in config.modes]
    check_modes(template, modes)
    prompts = (mode.system_prompt or "" for mode in modes)
    check_text(template.tokenizer, prompts, "system prompt")
    questions = [prompt.question for prompt in data.train]
    check_text(template.tokenizer, questions, "question")
    if config.warmup.steps and config.warmup.keep:
        check_requests(read_requests(config.warmup.keep.requests), modes, template, context)
    if len(questions) < config.train.queries:
        raise UsageError(
            f"train.queries {config.train.queries}: expected at most the {len(questions)} prompts "
            "that are trained on; lower it, or give more data"
        )
    for mode in modes[: len(modes) if context else 0]:
        _check_room(config, template, mode, questions, context or 0)


def _check_room(
    config: Config, template: ChatTemplate, mode: Mode, questions: list[str], context: int
) -> None:
    """A token is a byte or more, so only prompts of that many bytes are looked at."""
    most = config.train.max_new_tokens
    around = len(template.render(messages_of(mode, "")).encode())
    sizes = {question: around + len(question.encode()) for question in questions}
    for question in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sizes[question] + most <= context:
            return
        tokens = len(template.encode(template.render(messages_of(mode, question))))
        if tokens + most > context:
            raise UsageError(
                f"train.max_new_tokens {most}: after {shortened(question, 60)!r} in mode "
                f"{mode.name!r} ({tokens} tokens) no room is left for it in the model's context of "
                f"{context}; lower it, or leave long questions out"
            )
