"""The options of `psplit-eval run` that choose an engine and set it up."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.backends import EngineOptions

__all__ = ["add_engine_options", "engine_options", "json_or_text"]


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """In groups of their own, by what they are for."""
    add = parser.add_argument_group("engine").add_argument
    add("--backend", default="hf", help="hf (the default), vllm or openai (servers)")
    add("--thinking", default="auto", help="tell the chat template: on or off; auto: say nothing")
    add("--think-tags", metavar="START,END", help="marks of a thought (<think>,</think>)")
    add = parser.add_argument_group("a model in process").add_argument
    add(
        "--batch-size",
        type=int,
        help="samples decoded together (found from memory)",
    )
    add("--dtype", default="auto", help="auto: float32 on a CPU, the checkpoint's own elsewhere")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add("--chat-template", type=Path, metavar="FILE", help="Jinja template in place of the model's")
    add("--trust-remote-code", action="store_true", help="let the checkpoint run its own code")
    add("--adapter", type=Path, metavar="DIR", help="LoRA adapter on the model, as PEFT saves it")
    add = parser.add_argument_group("vLLM").add_argument
    add("--tensor-parallel", type=int, default=1, metavar="N", help="GPUs a copy of the model")
    add("--data-parallel", type=int, default=1, metavar="N", help="copies of the model")
    add(
        "--engine-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of its engine, such as max_model_len=8192",
    )
    add = parser.add_argument_group("a model on servers (key: OPENAI_API_KEY)").add_argument
    add(
        "--base-url",
        action="append",
        default=[],
        metavar="URL[,URL...]",
        help="OpenAI-compatible, such as http://localhost:8000/v1; several share the work",
    )
    add("--concurrency", type=int, metavar="N", help="requests in flight at each URL (32)")
    add("--requests-per-minute", type=float, metavar="N", help="sent at most, to all URLs together")
    add("--timeout", type=float, metavar="SECONDS", help="for one answer (600)")
    add("--retries", type=int, metavar="N", help="further tries of a request that failed (10)")
    add(
        "--top-logprobs",
        type=int,
        metavar="N",
        help="listed by token, for the entropy (20; 0: none)",
    )


def engine_options(options: argparse.Namespace) -> EngineOptions:
    """What was given, by the engine's own names. Raises UsageError."""
    from psplit_eval.backends import EngineOptions
    from psplit_eval.thinking import Thinking

    urls = [url.strip() for text in options.base_url for url in text.split(",")]
    return EngineOptions(
        backend=options.backend,
        batch_size=options.batch_size,
        dtype=options.dtype,
        device=options.device,
        chat_template=options.chat_template,
        trust_remote_code=options.trust_remote_code,
        thinking=Thinking.parse(options.thinking, options.think_tags),
        adapter=options.adapter,
        tensor_parallel=options.tensor_parallel,
        data_parallel=options.data_parallel,
        engine_arg=tuple(map(_engine_argument, options.engine_arg)),
        base_url=tuple(url for url in urls if url),
        concurrency=options.concurrency,
        requests_per_minute=options.requests_per_minute,
        timeout=options.timeout,
        retries=options.retries,
        top_logprobs=options.top_logprobs,
    )


def _engine_argument(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise UsageError(f"--engine-arg {text!r}: expected NAME=VALUE, VALUE as JSON or text")
    return name.replace("-", "_"), json_or_text(value)


def json_or_text(value: str) -> Any:
    """JSON where it is such, else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value
