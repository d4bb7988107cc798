"""Stands in for vLLM, which needs a GPU: the same names and signatures (of 0.33), drawn by
transformers on a CPU.

It refuses what the real one refuses. test_vllm_contract.py holds the names against the real one,
where that is installed.
"""

import asyncio
import math
import sys
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

__version__ = "0.33.0"


class VLLMError(Exception):
    pass


class VLLMValidationError(VLLMError):
    pass


class EngineDeadError(VLLMError):
    pass


class EngineGenerateError(VLLMError):
    pass


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class UsageContext(StrEnum):
    ENGINE_CONTEXT = "ENGINE_CONTEXT"
    LLM_CLASS = "LLM_CLASS"


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    flat_logprobs: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    skip_reading_prefix_cache: bool | None = None

    def __post_init__(self):
        if self.skip_reading_prefix_cache is None:
            self.skip_reading_prefix_cache = self.prompt_logprobs is not None
        if 0 < self.temperature < 0.01:
            self.temperature = 0.01
        if not 0.0 <= self.temperature <= 2.0:
            raise VLLMValidationError(f"temperature must be in [0, 2], got {self.temperature}.")
        if not 0.0 < self.top_p <= 1.0:
            raise VLLMValidationError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.top_k < -1:
            raise VLLMValidationError(f"top_k must be 0 (disable), or at least 1, {self.top_k}.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise VLLMValidationError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        if self.stop and not self.detokenize:
            raise VLLMValidationError("stop strings are only supported when detokenize is True.")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise OverflowError("Python int too large to convert to C long")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    base_model_name: str | None = None


@dataclass
class AsyncEngineArgs:
    model: str = "facebook/opt-125m"
    tokenizer: str | None = None
    trust_remote_code: bool = False
    dtype: str = "auto"
    seed: int = 0
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_prefix_caching: bool | None = None
    gpu_memory_utilization: float = 0.92
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    max_logprobs: int = 20
    logprobs_mode: str = "raw_logprobs"
    disable_log_stats: bool = False
    quantization: str | None = None
    enforce_eager: bool = False
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    generation_config: str = "auto"
    enable_log_requests: bool = False


def tokens_input(
    prompt_token_ids: list[int], *, prompt: str | None = None, cache_salt: str | None = None
) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": prompt_token_ids}


@dataclass
class AsyncLLMEngine:
    """One sample at a time, in the caller's own loop."""

    engine_args: AsyncEngineArgs
    errored: bool = False
    asked: list[SimpleNamespace] = field(default_factory=list)
    stopped: bool = False

    @classmethod
    def from_engine_args(
        cls,
        engine_args: AsyncEngineArgs,
        start_engine_loop: bool = True,
        usage_context: UsageContext = UsageContext.ENGINE_CONTEXT,
        stat_loggers: list[Any] | None = None,
    ) -> "AsyncLLMEngine":
        if engine_args.max_lora_rank not in (1, 8, 16, 32, 64, 128, 256, 320, 512):
            raise ValueError("1 validation error for LoRAConfig\nmax_lora_rank")
        if engine_args.dtype not in ("auto", "half", "float16", "bfloat16", "float", "float32"):
            raise ValueError(f"Unknown dtype: {engine_args.dtype!r}")
        return cls(engine_args)

    def __post_init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        given = self.engine_args
        dtype = torch.float32 if given.dtype == "auto" else getattr(torch, given.dtype)
        self.model = AutoModelForCausalLM.from_pretrained(given.model, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(given.model)
        most = self.model.config.max_position_embeddings
        self.model_config = SimpleNamespace(
            max_model_len=min(given.max_model_len or most, most),
            dtype=dtype,
            quantization=given.quantization,
        )
        device = SimpleNamespace(device_type="cpu")
        self.vllm_config = SimpleNamespace(device_config=device)
        self.adapters: dict[str, Any] = {}
        self.turn = asyncio.Lock()
        ENGINES.append(self)

    def shutdown(self, timeout: float | None = None) -> None:
        self.stopped = True

    async def generate(
        self,
        prompt: Any,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        prompt_text: str | None = None,
        lora_request: LoRARequest | None = None,
        tokenization_kwargs: dict[str, Any] | None = None,
        trace_headers: Any = None,
        priority: int = 0,
        data_parallel_rank: int | None = None,
    ):
        if self.errored:
            raise EngineDeadError("EngineCore encountered an issue.")
        ids = prompt["prompt_token_ids"]
        if len(ids) >= self.model_config.max_model_len:
            raise VLLMValidationError(f"The decoder prompt (length {len(ids)}) is longer than …")
        if lora_request is not None and not self.engine_args.enable_lora:
            raise VLLMValidationError("Got lora_request but LoRA is not enabled!")
        wanted = max(sampling_params.logprobs or 0, sampling_params.prompt_logprobs or 0)
        if wanted > self.engine_args.max_logprobs:
            raise VLLMValidationError(f"Requested logprobs of {wanted}, greater than max allowed")
        self.asked.append(
            SimpleNamespace(params=sampling_params, ids=ids, lora=lora_request, id=request_id)
        )
        async with self.turn:
            await asyncio.sleep(0)  # others may ask meanwhile, or the caller be interrupted
            with torch.inference_mode():
                output = self.answer(ids, sampling_params, request_id, self._adapted(lora_request))
        yield output

    def _adapted(self, lora: LoRARequest | None) -> Any:
        if lora is None:
            return self.model
        if lora.lora_path not in self.adapters:
            import peft
            from transformers import AutoModelForCausalLM

            base = AutoModelForCausalLM.from_pretrained(
                self.engine_args.model, dtype=self.model_config.dtype
            )
            adapted = peft.PeftModel.from_pretrained(base, lora.lora_path)
            self.adapters[lora.lora_path] = adapted.eval()
        return self.adapters[lora.lora_path]

    def answer(
        self, prompt: list[int], params: SamplingParams, request_id: str, model: Any
    ) -> RequestOutput:
        prompt_logprobs = None
        if params.prompt_logprobs is not None:
            rows = model(torch.tensor([prompt])).logits[0].float().log_softmax(-1)
            after = [
                _known(r, t, params.prompt_logprobs)
                for r, t in zip(rows[:-1], prompt[1:], strict=True)
            ]
            prompt_logprobs = [None, *after]
        ids, known, finish, stop = self._draw(prompt, params, model)
        text = self.tokenizer.decode(ids, skip_special_tokens=True) if params.detokenize else ""
        if isinstance(stop, str):
            text = text[: text.index(stop)]
        total = sum(k[i].logprob for k, i in zip(known, ids, strict=True)) if known else None
        output = CompletionOutput(0, text, ids, total, known or None, finish, stop)
        return RequestOutput(request_id, None, prompt, prompt_logprobs, [output], True)

    def _draw(self, prompt: list[int], params: SamplingParams, model: Any):
        generator = torch.Generator()
        if params.seed is not None:
            generator.manual_seed(params.seed)
        configured = self.model.generation_config.eos_token_id
        ends = set(configured if isinstance(configured, list) else [configured])
        ids: list[int] = []
        known: list[dict[int, Logprob]] = []
        while True:
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, -1].float()
            token = _sampled(logits, params, generator)
            if params.logprobs is not None:
                known.append(_known(logits.log_softmax(-1), token, params.logprobs))
            ids.append(token)
            if token in ends and not params.ignore_eos:
                return ids, known, "stop", None
            text = self.tokenizer.decode(ids, skip_special_tokens=params.skip_special_tokens)
            for stop in params.stop or []:
                if stop in text:
                    return ids, known, "stop", stop
            full = len(prompt) + len(ids) >= self.model_config.max_model_len
            if len(ids) >= (params.max_tokens or math.inf) or full:
                return ids, known, "length", None


ENGINES: list[AsyncLLMEngine] = []


def _known(logprobs: torch.Tensor, token: int, top: int) -> dict[int, Logprob]:
    """The token itself with its rank (equal ones before it), then the most probable ones."""
    rank = int((logprobs >= logprobs[token]).sum())
    best = logprobs.topk(top).indices.tolist()
    ranked = {i: Logprob(float(logprobs[i]), place) for place, i in enumerate(best, 1)}
    return {token: Logprob(float(logprobs[token]), rank)} | ranked


def _sampled(logits: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    if params.temperature == 0:
        return int(logits.argmax())
    logits = logits / params.temperature
    probabilities = logits.softmax(-1)
    logits[probabilities < params.min_p * probabilities.max()] = -math.inf
    if params.top_k > 0:
        logits[logits < logits.topk(min(params.top_k, len(logits))).values[-1]] = -math.inf
    if params.top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        logits[order[ordered.cumsum(-1) - ordered >= params.top_p]] = -math.inf
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))


def install(monkeypatch) -> ModuleType:
    """Put it where `import vllm` finds it; returns this very module."""
    here = sys.modules[__name__]
    ENGINES.clear()
    for name in (
        "vllm",
        "vllm.inputs",
        "vllm.lora",
        "vllm.lora.request",
        "vllm.sampling_params",
        "vllm.usage",
        "vllm.usage.usage_lib",
    ):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        vars(module).update({k: v for k, v in vars(here).items() if not k.startswith("_")})
        module.__version__ = __version__
        monkeypatch.setitem(sys.modules, name, module)
    return here
