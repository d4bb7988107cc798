"""The `hf` engine: a Hugging Face model in process.

Equal prompts are prefilled once and fanned out to their samples; rows that have finished leave the
batch.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from psplit_eval.backends import Completion, Messages, Result, Watch, cut_at_stops
from psplit_eval.checkpoints import Checkpoint
from psplit_eval.decoding import Distribution, draw
from psplit_eval.errors import CheckpointError, InfrastructureError, TemplateError, UsageError
from psplit_eval.requests import Request, work_groups

if TYPE_CHECKING:
    import torch

__all__ = ["HFBackend", "require_hf"]

Work = Callable[[Sequence[Request], Watch], Sequence[Completion]]

_UNIFORMS_AT_ONCE = 256
_ROWS, _GROUP_TOKENS = 16, 16384


@dataclass
class _Row:
    """A sample that is being decoded."""

    request: Request
    random: np.random.Generator
    uniforms: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    entropy_bits: float = 0.0
    nll_nats: float = 0.0
    finish_reason: str = ""

    def uniform(self) -> float:
        position = len(self.ids)
        if position == len(self.uniforms):
            self.uniforms += self.random.random(_UNIFORMS_AT_ONCE).tolist()
        return self.uniforms[position]


class HFBackend:
    """A causal language model by transformers, on one device."""

    can_score = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        chat_template: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Load weights and tokenizer.

        `dtype` auto: float32 on a CPU (exactly repeatable), the checkpoint's own on an
        accelerator. `device` auto: an accelerator where there is one. `chat_template` replaces the
        tokenizer's. Raises CheckpointError, TemplateError (no template) or UsageError.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import transformers

        transformers.utils.logging.disable_progress_bar()
        self.device = _device(device)
        self._rows = batch_size
        self._open(checkpoint, _dtype(dtype, self.device), trust_remote_code)
        if chat_template is not None:
            self.tokenizer.chat_template = chat_template
        if not self.tokenizer.chat_template:
            raise TemplateError(
                f"model {checkpoint.name!r}: its tokenizer has no chat template; give one with "
                "--chat-template FILE"
            )
        self._stop_ids = self._end_tokens()
        self.context_length = int(
            getattr(self.model.config, "max_position_embeddings", None) or 2**31
        )

    def _open(self, checkpoint: Checkpoint, dtype: Any, trust_remote_code: bool) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        trust = {"trust_remote_code": trust_remote_code}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **trust)
            self.model = AutoModelForCausalLM.from_pretrained(
                checkpoint.folder, dtype=dtype, **trust
            ).to(self.device)
        except torch.OutOfMemoryError as error:
            raise InfrastructureError(
                f"model {checkpoint.name!r}: does not fit into the memory of {self.device}; give "
                "--dtype bfloat16 or another --device"
            ) from error
        except Exception as error:  # transformers raises OSError, ValueError, KeyError and others
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"model {checkpoint.name!r}: transformers cannot open it "
                f"({error.__class__.__name__}: {reason})"
            ) from error
        self.model.eval()

    def _end_tokens(self) -> frozenset[int]:
        configured = self.model.generation_config.eos_token_id
        several = configured if isinstance(configured, list) else [configured]
        return frozenset(int(i) for i in [*several, self.tokenizer.eos_token_id] if i is not None)

    def describe(self) -> dict[str, Any]:
        import torch

        template = self.tokenizer.chat_template
        return {
            "backend": "hf",
            "device": str(self.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
            "parameters": int(self.model.num_parameters()),
            "context_length": self.context_length,
            "chat_template": template if isinstance(template, str) else dict(template),
            "bare_prompt": self.render([{"role": "user", "content": "QUESTION"}]),
        }

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        import jinja2

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )
        except jinja2.exceptions.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise TemplateError(
                f"the chat template rejects messages of the roles {roles} ({error}); give one that "
                "takes a system message with --chat-template FILE"
            ) from error

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def groups(self, requests: Iterable[Request]) -> list[list[Request]]:
        return work_groups(requests, _GROUP_TOKENS, self._rows or _ROWS)

    def run(self, groups: Sequence[Sequence[Request]], watch: Watch) -> Iterator[list[Result]]:
        for group in groups:
            work = self.complete if group[0].answer is None else self.score
            yield list(zip(group, self._attempted(work, group, watch), strict=True))

    def _attempted(
        self, work: Work, requests: Sequence[Request], watch: Watch
    ) -> Sequence[Completion | Exception]:
        """The requests' completions. Where one fails, halves go on alone, so it fails alone."""
        try:
            return work(requests, watch)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            if len(requests) == 1:
                watch(0, 1)
                return [error]
        half = len(requests) // 2
        return [
            result
            for part in (requests[:half], requests[half:])
            for result in self._attempted(work, part, watch)
        ]

    def complete(self, requests: Sequence[Request], watch: Watch) -> list[Completion]:
        """Raises InfrastructureError when the device's memory is too small for the batch."""
        started = time.monotonic()
        rows = [_Row(r, np.random.Generator(np.random.Philox(r.seed))) for r in requests]
        with self._working(len(rows)):
            self._decode(rows, watch)
        seconds = (time.monotonic() - started) / len(rows)
        return [self._completion(row, seconds) for row in rows]

    def score(self, requests: Sequence[Request], watch: Watch) -> list[Completion]:
        """Equal prompts run once. Raises InfrastructureError when memory is too small."""
        started = time.monotonic()
        with self._working(len(requests)):
            found = self._log_probabilities(requests)
        watch(sum(len(request.answer_ids) for request in requests), len(requests))
        seconds = (time.monotonic() - started) / len(requests)
        return [
            Completion(
                text=request.answer or "",
                finish_reason="scored",
                ids=request.answer_ids,
                tokens=len(request.answer_ids),
                nll_sum_nats=-total,
                seconds=seconds,
                is_greedy=greedy,
            )
            for request, (total, greedy) in zip(requests, found, strict=True)
        ]

    @contextmanager
    def _working(self, rows: int) -> Iterator[None]:
        import torch

        try:
            with torch.inference_mode():
                yield
        except torch.OutOfMemoryError as error:
            raise InfrastructureError(
                f"out of memory on {self.device} with {rows} rows; give a smaller "
                "--batch-size: what was done is kept"
            ) from error

    def _log_probabilities(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        """Of every answer: its log-probability in nats, and whether it is the greedy one."""
        import torch

        logits, cache, mask = self._prefill([request.prompt_ids for request in requests])
        width = max(len(request.answer_ids) for request in requests)
        ids = torch.zeros((len(requests), width), dtype=torch.long)
        there = torch.zeros_like(ids)
        for i, request in enumerate(requests):
            ids[i, : len(request.answer_ids)] = torch.tensor(request.answer_ids)
            there[i, : len(request.answer_ids)] = 1
        ids, there = ids.to(self.device), there.to(self.device)
        steps = [logits]
        if width > 1:
            output = self.model(
                input_ids=ids[:, :-1],
                attention_mask=torch.cat([mask, there[:, :-1]], dim=1),
                position_ids=mask.sum(dim=1, keepdim=True) + torch.arange(width - 1).to(ids),
                past_key_values=cache,
                use_cache=True,
            )
            steps += list(output.logits.unbind(dim=1))
        total = torch.zeros(len(requests), dtype=torch.float64)
        greedy = torch.ones(len(requests), dtype=torch.bool)
        for step, tokens, valid in zip(steps, ids.T, there.T.bool(), strict=True):
            chosen = torch.log_softmax(step.float(), dim=-1).gather(1, tokens[:, None])[:, 0]
            total += torch.where(valid, chosen, 0.0).cpu()
            greedy &= ((step.argmax(dim=-1) == tokens) | ~valid).cpu()
        return list(zip(total.tolist(), greedy.tolist(), strict=True))

    def _completion(self, row: _Row, seconds: float) -> Completion:
        text = str(self.tokenizer.decode(row.ids, skip_special_tokens=True))
        return Completion(
            text=cut_at_stops(text, row.request.sampling.until),
            finish_reason=row.finish_reason,
            ids=tuple(row.ids),
            tokens=len(row.ids),
            nll_sum_nats=row.nll_nats,
            seconds=seconds,
            entropy_sum_bits=row.entropy_bits,
        )

    def _decode(self, rows: list[_Row], watch: Watch) -> None:
        import torch

        logits, cache, mask = self._prefill([row.request.prompt_ids for row in rows])
        positions = mask.sum(dim=1)
        while True:
            tokens = _draw(rows, logits)
            unfinished = [i for i, row in enumerate(rows) if not self._finished(row)]
            watch(len(rows), len(rows) - len(unfinished))
            if not unfinished:
                return
            if len(unfinished) < len(rows):
                kept = torch.tensor(unfinished, device=self.device)
                cache.batch_select_indices(kept)
                mask, positions, tokens = mask[kept], positions[kept], tokens[kept]
                rows = [rows[i] for i in unfinished]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            output = self.model(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            logits, positions = output.logits[:, -1], positions + 1

    def _prefill(self, rows: Sequence[tuple[int, ...]]) -> tuple[Any, Any, Any]:
        """Run each different prompt once, left-padded, and fan it out to its rows."""
        import torch

        from psplit_eval.kvcache import grow_in_place

        prompts = list(dict.fromkeys(rows))
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._padding_id())
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        number = {prompt: i for i, prompt in enumerate(prompts)}
        places = torch.tensor([number[prompt] for prompt in rows], device=self.device)
        cache = output.past_key_values
        cache.batch_select_indices(places)
        grow_in_place(cache)
        return output.logits[places, -1], cache, mask[places]

    def _padding_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(self._stop_ids, default=0)

    def _finished(self, row: _Row) -> bool:
        sampling = row.request.sampling
        if row.ids[-1] in self._stop_ids or self._has_stop_string(row, sampling.until):
            row.finish_reason = "stop"
        elif (
            len(row.ids) >= sampling.max_tokens
            or len(row.request.prompt_ids) + len(row.ids) >= self.context_length
        ):
            row.finish_reason = "length"
        return bool(row.finish_reason)

    def _has_stop_string(self, row: _Row, until: tuple[str, ...]) -> bool:
        if not until:
            return False
        longest = max(map(len, until))  # a token holds a character at least, or a part of one
        tail = self.tokenizer.decode(row.ids[-4 * longest - 4 :], skip_special_tokens=True)
        return any(stop in tail for stop in until)


def require_hf() -> None:
    """Raise UsageError where the libraries of `HFBackend` are not installed."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the hf backend needs {' and '.join(missing)}, not installed here; "
            "pip install '.[hf]' in psplit's source folder"
        )


def _draw(rows: Sequence[_Row], logits: torch.Tensor) -> torch.Tensor:
    """Append a token to every row; logits (rows, vocabulary) → tokens (rows,)."""
    import torch

    distribution = Distribution(logits)
    if not torch.isfinite(distribution.entropy_bits).all():
        raise FloatingPointError("the model gave logits that are not finite")
    uniforms = torch.tensor([row.uniform() for row in rows], dtype=torch.float64)
    tokens = draw(distribution, [row.request.sampling for row in rows], uniforms)
    found = (tokens, distribution.entropy_bits, distribution.nll_nats(tokens))
    for row, *values in zip(rows, *(tensor.tolist() for tensor in found), strict=True):
        row.ids.append(values[0])
        row.entropy_bits += values[1]
        row.nll_nats += values[2]
    return tokens


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError or its own kinds
        reason = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"--device {name!r}: not usable here ({reason}); give cpu, cuda, cuda:N or auto"
        ) from error
    return device


def _dtype(name: str, device: torch.device) -> Any:
    import torch

    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"--dtype {name!r}: expected auto, float32, bfloat16 or float16")
    return dtype
