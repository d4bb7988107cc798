"""The options of `psplit-eval run`: what is measured, and by which engine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.cli_design import add_answers, add_design, design, margins
from psplit_eval.errors import UsageError

if TYPE_CHECKING:
    from psplit_eval.backends import EngineOptions
    from psplit_eval.diverging import DivergeOptions
    from psplit_eval.run import RunOptions
    from psplit_eval.suites import TaskSettings

__all__ = [
    "add_diverge_options",
    "add_run_options",
    "add_task_options",
    "add_yardsticks",
    "diverge_options",
    "names_in",
    "run_options",
    "task_choice",
    "task_number",
    "yardsticks",
]


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """All that `run` can be told; what is for an engine stands in groups of its own."""
    add = parser.add_argument
    add(
        "--model",
        required=True,
        help="folder, hub id OWNER/NAME, smollm2-135m, or a server's name for it",
    )
    add("--modes", default="", help="names, separated by commas, such as normal,high")
    add(
        "--mode",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="a mode of your own, or NAME=@FILE; with --modes it is added, alone it is all",
    )
    add_task_options(parser)
    add(
        "--no-divergence",
        action="store_true",
        help="do not score the samples under all modes and placebos (hf does it unasked)",
    )
    add("--seed", type=int, default=0, help="base seed (0)")
    add("--shard", metavar="I/N", help="draw only part I of N; psplit-eval merge joins the parts")
    add("--out", type=Path, help="run folder (runs/MODEL-SUITE); an existing run is continued")
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the result as JSON")
    add_yardsticks(parser)
    _add_engine_options(parser)


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """What is run: tasks and their settings."""
    add = parser.add_argument
    add("--suite", help="quick (the default), general, creative or paper")
    add("--tasks", default="", help="task names, separated by commas")
    add(
        "--prompts",
        action="append",
        default=[],
        metavar="FILE",
        help="own prompts as a creative task: a text file, one a line, or .jsonl (field prompt)",
    )
    add("--include-path", action="append", default=[], metavar="DIR", help="own task folder")
    add(
        "--data",
        action="append",
        default=[],
        metavar="TASK=FILE",
        help="local rows, .jsonl or .jsonl.gz; TASK:shots=FILE for few-shot examples",
    )
    add("--samples", action="append", default=[], metavar="[TASK=]N", help="samples a doc")
    add("--limit", action="append", default=[], metavar="[TASK=]N", help="docs at most")
    add(
        "--set",
        action="append",
        default=[],
        metavar="[TASK.]NAME=VALUE",
        help="sampling setting: temperature, top_k, top_p, min_p, max_tokens or until",
    )


def add_yardsticks(parser: argparse.ArgumentParser) -> None:
    """Which models texts are measured by."""
    add = parser.add_argument_group("creative tasks").add_argument
    add("--encoder", metavar="NAME", help="sentence encoder: all-MiniLM-L6-v2, a folder, or none")
    add(
        "--reference",
        metavar="NAME",
        help="language model that fluency is measured by: smollm2-135m, a model, or none",
    )
    add(
        "--word-vectors",
        metavar="FILE",
        help="GloVe or word2vec text for psplit_words (default: the sentence encoder)",
    )


def yardsticks(options: argparse.Namespace) -> dict[str, str]:
    """Those that were given."""
    names = ("encoder", "reference", "word_vectors")
    given = {name: getattr(options, name) for name in names}
    return {name: model for name, model in given.items() if model is not None}


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    """In groups of their own, by what they are for."""
    add = parser.add_argument_group("engine").add_argument
    add("--backend", default="hf", help="hf (the default), vllm or openai (servers)")
    add("--thinking", default="auto", help="tell the chat template: on or off; auto: say nothing")
    add("--think-tags", metavar="START,END", help="marks of a thought (<think>,</think>)")
    add = parser.add_argument_group("a model in process").add_argument
    add(
        "--batch-size",
        type=int,
        help="samples decoded together (found from memory); a kill loses four times as many",
    )
    add("--dtype", default="auto", help="auto: float32 on a CPU, the engine's choice elsewhere")
    add("--device", default="auto", help="hf: auto, cpu, cuda, cuda:N")
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


def run_options(options: argparse.Namespace, given: Sequence[str]) -> RunOptions:
    """What was given, by the run's own names. Raises UsageError."""
    from psplit_eval.modes import parse_mode
    from psplit_eval.requests import Shard
    from psplit_eval.run import RunOptions

    return RunOptions(
        model=options.model,
        modes=names_in("--modes", options.modes) or ([] if options.mode else ["normal", "high"]),
        given_modes=[parse_mode(text) for text in options.mode],
        **task_choice(options),
        seed=options.seed,
        out=options.out,
        engine=_engine_options(options),
        allow_missing=options.allow_missing,
        measured_by=yardsticks(options),
        command=["psplit-eval", *given],
        shard=None if options.shard is None else Shard.parse(options.shard),
        divergence=not options.no_divergence,
    )


def add_diverge_options(parser: argparse.ArgumentParser) -> None:
    """What a stored run is scored under, by which engine."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's folder")
    add("--model", default="", help="where the checkpoint lies now (default: where the run says)")
    add("--modes", default="", help="other modes to try without samples, such as low")
    add(
        "--mode",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="a mode of your own to try without samples, or NAME=@FILE",
    )
    add("--placebos", type=int, metavar="N", help="neutral prompts to exceed (those before, or 3)")
    add(
        "--placebo",
        action="append",
        default=[],
        metavar="TEXT",
        help="a neutral prompt of your own, or @FILE",
    )
    add("--allow-missing", action="store_true", help="test even if over 1 %% of samples is missing")
    add("--json", action="store_true", help="print the result as JSON")
    add_yardsticks(parser)
    add_answers(parser)
    add_design(parser)
    _add_engine_options(parser)
    parser.set_defaults(backend="")


def diverge_options(options: argparse.Namespace) -> DivergeOptions:
    """What was given, by the names of `diverging`. Raises UsageError."""
    from psplit_eval.diverging import DivergeOptions
    from psplit_eval.manifest import open_run
    from psplit_eval.modes import parse_mode

    options.backend = options.backend or open_run(options.run)["model"]["backend"]
    return DivergeOptions(
        folder=options.run,
        model=options.model,
        names=names_in("--modes", options.modes),
        given_modes=[parse_mode(text) for text in options.mode],
        placebos=options.placebos,
        given_placebos=[
            parse_mode(f"placebo={text}").system_prompt or "" for text in options.placebo
        ],
        engine=_engine_options(options),
        measured_by=yardsticks(options),
        design=design(options),
        margins=margins(options),
        baseline=options.baseline,
    )


def task_choice(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_task_options` brought, by the names of `choosing.Asked`. Raises UsageError."""
    return {
        "suite": options.suite,
        "tasks": names_in("--tasks", options.tasks),
        "prompts": [Path(file) for file in options.prompts],
        "include": [Path(folder) for folder in options.include_path],
        "data": {name: Path(file) for name, file in map(_data_pair, options.data)},
        "settings": _settings(options),
    }


def names_in(option: str, text: str) -> list[str]:
    """Names, separated by commas. Raises UsageError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if text and not names:
        raise UsageError(f"{option} {text!r}: expected names, separated by commas")
    return names


def _data_pair(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise UsageError(f"--data {text!r}: expected TASK=FILE")
    return name, file


def _settings(options: argparse.Namespace) -> Mapping[str, TaskSettings]:
    from psplit_eval.suites import TaskSettings

    found: dict[str, TaskSettings] = {}

    def put(task: str, settings: TaskSettings) -> None:
        found[task] = found.get(task, TaskSettings()).updated(settings)

    for text in options.samples:
        task, number = task_number("--samples", text)
        put(task, TaskSettings(samples=number))
    for text in options.limit:
        task, number = task_number("--limit", text)
        put(task, TaskSettings(limit=number))
    for text in options.set:
        task, sampling = _sampling_setting(text)
        put(task, TaskSettings(sampling=sampling))
    return found


def task_number(option: str, text: str) -> tuple[str, int]:
    task, _, number = text.rpartition("=")
    try:
        return task, int(number)
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected N or TASK=N, N a whole number") from None


def _sampling_setting(text: str) -> tuple[str, dict[str, Any]]:
    from psplit_eval.requests import Sampling

    target, separator, value = text.partition("=")
    task, _, name = target.rpartition(".")
    if not separator:
        raise UsageError(f"--set {text!r}: expected NAME=VALUE or TASK.NAME=VALUE")
    parsed = _json_or_text(value)
    Sampling().updated({name: parsed})
    return task, {name: parsed}


def _engine_options(options: argparse.Namespace) -> EngineOptions:
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
    return name.replace("-", "_"), _json_or_text(value)


def _json_or_text(value: str) -> Any:
    """JSON where it is such, else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value
