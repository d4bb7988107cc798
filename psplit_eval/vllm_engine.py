"""The `vllm` engine: vLLM in process, on one or more GPUs.

vLLM's asynchronous engine takes single requests and gives each back when it is done, so the GPUs
stay full and finished samples are stored while others run. Names are those of vLLM 0.33.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain, count
from typing import Any, TypeVar

from psplit_eval.adapters import adapter_rank
from psplit_eval.backends import (
    Case,
    Completion,
    Crossed,
    EngineOptions,
    Messages,
    Result,
    Watch,
)
from psplit_eval.checkpoints import Checkpoint
from psplit_eval.errors import (
    CheckpointError,
    InfrastructureError,
    UnknownNameError,
    UsageError,
)
from psplit_eval.estimates import Estimates, Given, Question
from psplit_eval.logprobs import TopTokens, entropy_estimate_bits
from psplit_eval.requests import Request, Sampling, work_groups
from psplit_eval.templates import ChatTemplate

__all__ = ["VLLMBackend", "require_vllm"]

T = TypeVar("T")
R = TypeVar("R")

_IN_FLIGHT = 2048  # a copy of the model: twice the requests that vLLM runs at once, at most
_COMMIT_SECONDS = 1.0
_GROUP_TOKENS = 2**20
_TOP = 20  # log-probabilities a token; more need another limit of the engine
_COLDEST, _HOTTEST = 0.01, 2.0  # vLLM raises a temperature below, and refuses one above
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for
_OWN = {
    "model": "--model",
    "tokenizer": "--model",
    "dtype": "--dtype",
    "trust_remote_code": "--trust-remote-code",
    "max_num_seqs": "--batch-size",
    "tensor_parallel_size": "--tensor-parallel",
    "data_parallel_size": "--data-parallel",
    "enable_lora": "--adapter",
    "max_lora_rank": "--adapter",
    "hf_token": "the environment variable HF_TOKEN",  # manifests keep engine arguments
    "logprobs_mode": "nothing: likelihoods are the model's own",
    "max_logprobs": f"nothing: entropy is estimated from {_TOP} tokens",
}
"""Engine argument → where the user says it instead."""


class VLLMBackend:
    """A causal language model by vLLM.

    Text is cut into tokens, and tokens are made text, by the checkpoint's own tokenizer as in the
    `hf` engine; vLLM sees token ids only.
    """

    can_score = True
    exact = False

    def __init__(
        self, checkpoint: Checkpoint, options: EngineOptions, chat_template: str | None = None
    ) -> None:
        """Start the engine, which takes minutes. `chat_template` replaces the tokenizer's.

        Raises UsageError, CheckpointError, TemplateError, or InfrastructureError where vLLM does
        not start.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # --json has the other
        self._options = options
        self._template = ChatTemplate(
            _tokenizer(checkpoint, options), checkpoint.name, chat_template, options.thinking
        )
        self._engine = _started(checkpoint, _arguments(checkpoint, options))
        self._adapter = _adapter_request(checkpoint)
        self._numbers = count()
        self._runner = asyncio.Runner()
        weakref.finalize(self, _stop, self._engine, self._runner)
        self.context_length = int(self._engine.model_config.max_model_len)

    def describe(self) -> dict[str, Any]:
        import vllm

        config, options = self._engine.model_config, self._options
        return {
            "backend": "vllm",
            "version": vllm.__version__,
            "device": self._engine.vllm_config.device_config.device_type,
            "dtype": str(config.dtype).removeprefix("torch."),
            "quantization": config.quantization,
            "tensor_parallel": options.tensor_parallel,
            "data_parallel": options.data_parallel,
            "engine_arguments": dict(options.engine_arg),
            "parameters": None,
            "context_length": self.context_length,
            **self._template.describe(),
        }

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        return self._template.render(messages, add_generation_prompt)

    def encode(self, text: str) -> tuple[int, ...]:
        return self._template.encode(text)

    def groups(self, requests: Iterable[Request]) -> list[list[Request]]:
        planned = list(requests)
        for sampling in {request.sampling for request in planned if request.answer is None}:
            _check_sampling(sampling)
        return work_groups(planned, _GROUP_TOKENS)

    def run(self, groups: Sequence[Sequence[Request]], watch: Watch) -> Iterator[list[Result]]:
        """Groups are no barrier: their order is that in which requests are sent."""

        def work(request: Request) -> Awaitable[Completion]:
            return self._complete(request) if request.answer is None else self._score(request)

        def heard(result: Completion | Exception) -> None:
            watch((result.tokens or 0) if isinstance(result, Completion) else 0, 1)

        yield from self._asking(chain.from_iterable(groups), work, heard)

    def token_text(self, token: int) -> str:
        return self._template.decode([token])

    def cross_score(self, cases: Sequence[Case], watch: Watch) -> Iterator[tuple[int, Crossed]]:
        """See `backends.CrossScoring`: estimates, from the 20 most probable tokens.

        A response that vLLM does not take under some policy (behind a longer prompt it may not fit
        into the context) has NaN rows. Tried with vLLM's names only, not on a GPU.
        """
        estimates = Estimates(cases)
        yield from estimates.unasked()

        def work(question: Question) -> Awaitable[Given]:
            case = cases[question.case]
            return self._given(case.prompts[question.policy], case.responses[question.response])

        for done in self._asking(estimates.questions(), work, lambda _: None):
            for question, found in done:
                if whole := estimates.take(question, found):
                    case = cases[question.case]
                    watch(sum(map(len, case.responses)), len(case.responses))
                    yield whole

    def _asking(
        self,
        items: Iterable[T],
        work: Callable[[T], Awaitable[R]],
        heard: Callable[[R | Exception], None],
    ) -> Iterator[list[tuple[T, R | Exception]]]:
        """Work on many items at once; yields once a second what is done. `heard` has each first."""
        waiting = deque(items)
        done: list[tuple[T, R | Exception]] = []

        async def send() -> None:
            while waiting:
                item = waiting.popleft()
                result: R | Exception
                try:
                    result = await work(item)
                except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
                    result = error
                done.append((item, result))
                heard(result)

        senders = min(len(waiting), _IN_FLIGHT * self._options.data_parallel)
        loop = self._runner.get_loop()
        tasks = [loop.create_task(send()) for _ in range(senders)]
        running = set(tasks)
        stopped: BaseException | None = None
        try:
            while running and not stopped:
                try:
                    running = self._runner.run(_unfinished(running))
                except (InfrastructureError, KeyboardInterrupt) as error:
                    stopped = error
                if done:
                    yield done[:]
                    done.clear()
            if stopped:
                raise stopped
        finally:
            self._runner.run(_settled(tasks))

    async def _complete(self, request: Request) -> Completion:
        """All that decides about a sample is said: no default of the checkpoint's is used."""
        started, sampling = time.monotonic(), request.sampling
        stop = [] if self._template.may_think(request.prompt) else list(sampling.until)
        output = await self._asked(
            request.prompt_ids,
            temperature=float(sampling.temperature),
            top_k=sampling.top_k,
            top_p=float(sampling.top_p),
            min_p=float(sampling.min_p),
            seed=request.seed,
            max_tokens=min(sampling.max_tokens, self.context_length - len(request.prompt_ids)),
            stop=stop,
            detokenize=bool(stop),  # text is made here; the engine needs it for stop strings only
            logprobs=_TOP,
        )
        drawn = output.outputs[0]
        ids = tuple(drawn.token_ids)
        reply = self._template.reply(request.prompt, ids, drawn.finish_reason, sampling.until)
        nll, entropy = 0.0, 0.0
        for token, known in zip(ids[: reply.tokens], drawn.logprobs, strict=False):
            nll -= known[token].logprob
            entropy += entropy_estimate_bits([k.logprob for k in known.values() if k.rank <= _TOP])
        return Completion(
            text=reply.text,
            thought=reply.thought,
            finish_reason=reply.finish_reason,
            ids=ids[: reply.tokens],
            tokens=reply.tokens,
            nll_sum_nats=_finite(nll),
            entropy_estimate_sum_bits=entropy,
            seconds=time.monotonic() - started,
        )

    async def _score(self, request: Request) -> Completion:
        """The log-probability of a given answer; greedy: no token was more probable, as in lm-eval.

        vLLM's ranks would not do: of two equally probable tokens none is the first.
        """
        started, ids = time.monotonic(), request.answer_ids
        nll, greedy = 0.0, True
        answered = await self._prompt_logprobs(request.prompt_ids, ids, 1)
        for token, known in zip(ids, answered, strict=True):
            nll -= known[token].logprob
            greedy &= all(other.logprob <= known[token].logprob for other in known.values())
        return Completion(
            text=request.answer or "",
            finish_reason="scored",
            ids=ids,
            tokens=len(ids),
            nll_sum_nats=_finite(nll),
            seconds=time.monotonic() - started,
            is_greedy=greedy,
        )

    async def _given(self, prompt_ids: Sequence[int], ids: tuple[int, ...]) -> Given:
        known = await self._prompt_logprobs(prompt_ids, ids, _TOP)
        listed = [{token: other.logprob for token, other in each.items()} for each in known]
        return Given(ids, TopTokens.of(listed))

    async def _prompt_logprobs(
        self, prompt_ids: Sequence[int], ids: Sequence[int], top: int
    ) -> Sequence[Mapping[int, Any]]:
        """Of every token of `ids` behind the prompt: itself and the `top` most probable ones.

        vLLM reads no prefix cache for such a request: it has no log-probabilities of cached tokens.
        """
        output = await self._asked(
            (*prompt_ids, *ids),
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=top,
            detokenize=False,
        )
        known: Sequence[Mapping[int, Any]] = output.prompt_logprobs[len(prompt_ids) :]
        return known

    async def _asked(self, prompt_ids: Sequence[int], **settings: Any) -> Any:
        """What vLLM gives back for one request, when it is done.

        Raises RuntimeError for a request that failed, InfrastructureError for an engine that did.
        """
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        try:
            params = SamplingParams(
                output_kind=RequestOutputKind.FINAL_ONLY,
                flat_logprobs=True,  # an object for each of them would fill the memory
                **settings,
            )
            outputs = self._engine.generate(
                tokens_input(list(prompt_ids)),
                params,
                str(next(self._numbers)),
                lora_request=self._adapter,
            )
            output = [output async for output in outputs][-1]
        except Exception as error:  # vLLM's own kinds, which come and go
            if self._engine.errored:
                raise _stopped(_reason(error)) from error
            raise RuntimeError(_reason(error)) from error
        ended = output.outputs[0].finish_reason
        if ended == "abort":  # nobody asked for it: the engine is going down
            raise _stopped("it aborted a request")
        if ended not in ("stop", "length"):
            raise RuntimeError(f"vLLM ended it with finish reason {ended!r}")
        return output


def require_vllm() -> None:
    """Raise UsageError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UsageError(
            "the vllm backend needs vllm, not installed here; pip install '.[vllm]' in psplit's "
            "source folder, in an environment of its own on a machine with a GPU"
        )


def _finite(nll_nats: float) -> float:
    if not math.isfinite(nll_nats):
        raise FloatingPointError("the model gave logits that are not finite")
    return nll_nats


def _stopped(reason: str) -> InfrastructureError:
    return InfrastructureError(
        f"vLLM stopped ({reason}); its own messages are above: what was done is kept, give the "
        "same command again to go on"
    )


def _check_sampling(sampling: Sampling) -> None:
    """vLLM would silently draw at another temperature, or fail every request."""
    temperature = sampling.temperature
    if temperature != 0 and not _COLDEST <= temperature <= _HOTTEST:
        raise UsageError(
            f"temperature {temperature:g}: vLLM knows 0 and {_COLDEST:g} to {_HOTTEST:g}; give "
            "another --set temperature, or the hf backend"
        )


def _arguments(checkpoint: Checkpoint, options: EngineOptions) -> dict[str, Any]:
    """What vLLM is started with; raises UsageError for a name it does not know."""
    try:
        from vllm import AsyncEngineArgs
    except Exception as error:  # vLLM loads CUDA libraries, which may not fit the machine's
        raise UsageError(
            f"vLLM is installed, but cannot be imported ({_reason(error)}); pip install '.[vllm]' "
            "in an environment of its own"
        ) from error
    known = [field.name for field in fields(AsyncEngineArgs)]
    for name, _ in options.engine_arg:
        if name in _OWN:
            raise UsageError(f"--engine-arg {name}: psplit sets it; give {_OWN[name]}")
        if name not in known:
            raise UnknownNameError("engine argument", name, known, listed=["those of vllm serve"])
    adapted = _lora_arguments(checkpoint)
    rows = {} if options.batch_size is None else {"max_num_seqs": options.batch_size}
    return {
        "disable_log_stats": True,
        **dict(options.engine_arg),
        **adapted,
        **rows,
        "model": str(checkpoint.folder),
        "dtype": options.dtype,
        "trust_remote_code": options.trust_remote_code,
        "tensor_parallel_size": options.tensor_parallel,
        "data_parallel_size": options.data_parallel,
        "logprobs_mode": "raw_logprobs",  # before temperature and truncation
        "max_logprobs": _TOP,
    }


def _lora_arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.adapter is None:
        return {}
    rank = adapter_rank(checkpoint.adapter)
    room = next((fitting for fitting in _RANKS if fitting >= rank), rank)
    return {"enable_lora": True, "max_lora_rank": room}


def _adapter_request(checkpoint: Checkpoint) -> Any:
    from vllm.lora.request import LoRARequest

    if checkpoint.adapter is None:
        return None
    return LoRARequest("adapter", 1, str(checkpoint.adapter.resolve()))


def _started(checkpoint: Checkpoint, arguments: Mapping[str, Any]) -> Any:
    from vllm import AsyncEngineArgs, AsyncLLMEngine
    from vllm.usage.usage_lib import UsageContext

    try:
        return AsyncLLMEngine.from_engine_args(
            AsyncEngineArgs(**arguments),
            usage_context=UsageContext.LLM_CLASS,  # batches for throughput, not for a server
        )
    except (RuntimeError, OSError, MemoryError) as error:
        raise InfrastructureError(
            f"model {checkpoint.name!r}: vLLM did not start ({_reason(error)}); its own messages "
            "are above. Where memory is short: --engine-arg max_model_len=N, --engine-arg "
            "gpu_memory_utilization=0.8 or --tensor-parallel N"
        ) from error
    except Exception as error:  # ValueError, pydantic's and vLLM's own kinds
        raise CheckpointError(
            f"model {checkpoint.name!r}: vLLM refuses it or its settings ({_reason(error)})"
        ) from error


def _tokenizer(checkpoint: Checkpoint, options: EngineOptions) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=options.trust_remote_code
        )
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and others
        raise CheckpointError(
            f"model {checkpoint.name!r}: transformers cannot open its tokenizer ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """One line; vLLM wraps what it did not expect in errors without a text."""
    told = error.__cause__ if not str(error) and error.__cause__ else error
    return f"{told.__class__.__name__}: {' '.join(str(told).split())[:300]}"


async def _unfinished(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those that are not done after a while; raises what one of them raised."""
    finished, unfinished = await asyncio.wait(
        tasks, timeout=_COMMIT_SECONDS, return_when=asyncio.FIRST_EXCEPTION
    )
    for task in finished:
        task.result()
    return unfinished


async def _settled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Stop them all; what they raised is known."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stop(engine: Any, runner: asyncio.Runner) -> None:
    """In a thread, since the collector may come by while another loop runs in this one."""
    try:
        engine.shutdown()
    finally:
        closing = threading.Thread(target=runner.close)
        closing.start()
        closing.join()
