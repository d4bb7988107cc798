"""The `hf` engine: a Hugging Face model in process.

Rows join and leave a running batch (`batch`); a model whose cache cannot do that is decoded by
transformers' own loop (`stock`). Either way every row draws its tokens from random numbers of its
own.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any

from psplit_eval.backends import Case, Completion, Crossed, Messages, Numbers, Result, Watch
from psplit_eval.checkpoints import Checkpoint
from psplit_eval.decoding import DRAWS
from psplit_eval.errors import CheckpointError, InfrastructureError, UsageError
from psplit_eval.memory import memory_bytes
from psplit_eval.requests import Request, work_groups
from psplit_eval.responses import Responses, Row
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking

if TYPE_CHECKING:
    import torch

    from psplit_eval.crossing import Room

__all__ = ["HFBackend", "require_hf"]

Ids = tuple[int, ...]
Work = Callable[[Sequence[Request], Watch], Sequence[Completion]]

_GROUP_WORK, _GROUP_WORK_ELSEWHERE = 2**41, 2**50
"""Parameters times new tokens in a work group: a minute or two on a CPU, and on an accelerator."""
_GROUP_TOKENS, _GROUP_TOKENS_ELSEWHERE = 2**14, 2**20
_LEAST_ROWS, _LEAST_ROWS_ELSEWHERE = 16, 64
_MOST_ROWS, _MOST_ROWS_ELSEWHERE = 96, 512
_BY_COLUMN = ("mpt", "gpt_neo")
"""Models whose attention counts distances by cache column: shared beginnings leave gaps there."""
_PIECE, _PIECE_ELSEWHERE, _LEAST_PIECE = 512, 8192, 16
"""Contexts whose logits are there at once in cross-scoring."""
_PREFILL_TOKENS = 2**14
"""Prompts are run in pieces of about this many tokens: their activations take memory, too."""


class HFBackend:
    """A causal language model or an encoder-decoder by transformers, on one device."""

    exact = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        batch_memory: int | None = None,
        chat_template: str | None = None,
        trust_remote_code: bool = False,
        thinking: Thinking | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Load weights and tokenizer.

        `dtype` auto: float32 on a CPU (exactly repeatable), the checkpoint's own on an
        accelerator. `device` auto: an accelerator where there is one. `batch_size`: rows decoded
        together; None: as many as `batch_memory` bytes (None: half of what is free) have room for.
        `chat_template` replaces the tokenizer's. `say` hears what the user may not expect.
        Raises CheckpointError, TemplateError (no template) or UsageError.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import transformers

        transformers.utils.logging.disable_progress_bar()
        self.device = _device(device)
        self._say = say
        self._open(checkpoint, _dtype(dtype, self.device), trust_remote_code)
        self._template = ChatTemplate(self.tokenizer, checkpoint.name, chat_template, thinking)
        config = self.model.config.get_text_config()
        self.context_length = int(getattr(config, "max_position_embeddings", None) or 2**31)
        apart = bool(self.model.config.is_encoder_decoder)  # prompt and response, each of its own
        room = 2**31 if apart else self.context_length
        self._responses = Responses(self._template, self._end_tokens(), room)
        self._batch_size = batch_size
        self._batch_memory = batch_memory or _batch_memory(self.device)
        self._most_rows: int | None = None  # found out by running out of memory
        self._beginnings: dict[Ids, Any] = {}
        self._starts: dict[Ids, Any] = {}  # the same of cross-scoring
        self._halvings = 0  # of what is cross-scored at once, found out likewise
        self._look_at_cache(checkpoint.name)

    def _open(self, checkpoint: Checkpoint, dtype: Any, trust_remote_code: bool) -> None:
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
        )

        trust = {"trust_remote_code": trust_remote_code}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **trust)
            config = AutoConfig.from_pretrained(checkpoint.folder, **trust)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            self.model = kind.from_pretrained(checkpoint.folder, dtype=dtype, **trust).to(
                self.device
            )
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
        if self.device.type == "cuda":  # it plans anew for every length: 10.7 s in place of 3.3 s
            torch.backends.cuda.enable_cudnn_sdp(False)

    def _look_at_cache(self, name: str) -> None:
        """Find out, from one token, what the cache can do and how much a position of it weighs."""
        import torch

        from psplit_eval.kvcache import is_plain, is_selectable

        cache = None
        self.can_score = not self.model.config.is_encoder_decoder
        if self.can_score:
            token = torch.tensor([[self._padding_id()]], device=self.device)
            with torch.inference_mode():
                cache = getattr(self.model(input_ids=token, use_cache=True), "past_key_values", 0)
        known = type(self.model).__module__.startswith("transformers.")
        last_only = "logits_to_keep" in signature(self.model.forward).parameters
        self._plain = is_plain(cache)
        self._shares = self._plain and known and self.model.config.model_type not in _BY_COLUMN
        self._stock = not (last_only and (self._plain or is_selectable(cache)))
        layers = [layer for layer in getattr(cache, "layers", ()) if hasattr(layer, "keys")]
        self._position_bytes = sum(
            states.nbytes for layer in layers for states in (layer.keys, layer.values)
        ) or 8 * int(getattr(self.model.config, "hidden_size", 1024))
        if self._stock:
            self._say(
                f"model {name}: rows cannot leave its cache, so transformers' own loop decodes it; "
                "the samples mean the same, it takes longer"
            )

    def _end_tokens(self) -> frozenset[int]:
        configured = self.model.generation_config.eos_token_id
        several = configured if isinstance(configured, list) else [configured]
        return frozenset(int(i) for i in [*several, self.tokenizer.eos_token_id] if i is not None)

    def describe(self) -> dict[str, Any]:
        import torch

        return {
            "backend": "hf",
            "device": self.device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
            "parameters": int(self.model.num_parameters()),
            "context_length": self.context_length,
            "batch_memory": self._batch_memory,
            "draws": DRAWS,
            **self._template.describe(),
        }

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        return self._template.render(messages, add_generation_prompt)

    def encode(self, text: str) -> Ids:
        return self._template.encode(text)

    def groups(self, requests: Iterable[Request]) -> list[list[Request]]:
        """At most two minutes of work, roughly; with a batch size given, at most four batches."""
        cpu = self.device.type == "cpu"
        work = _GROUP_WORK if cpu else _GROUP_WORK_ELSEWHERE
        most = _GROUP_TOKENS if cpu else _GROUP_TOKENS_ELSEWHERE
        tokens = min(most, work // int(self.model.num_parameters()))
        if self._batch_size:
            return work_groups(requests, tokens, self._batch_size, 4 * self._batch_size)
        return work_groups(requests, tokens, _LEAST_ROWS if cpu else _LEAST_ROWS_ELSEWHERE)

    def run(self, groups: Sequence[Sequence[Request]], watch: Watch) -> Iterator[list[Result]]:
        for group in groups:
            work = self.complete if group[0].answer is None else self.score
            yield list(zip(group, self._attempted(work, group, watch), strict=True))

    def _attempted(
        self, work: Work, requests: Sequence[Request], watch: Watch
    ) -> Sequence[Completion | Exception]:
        """The requests' completions. Where one fails, halves go on alone, so it fails alone."""
        import torch

        finished = 0

        def watching(tokens: int, samples: int) -> None:
            nonlocal finished
            finished += samples
            watch(tokens, samples)

        try:
            return work(requests, watching)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            watch(0, -finished)
            short_of_memory = _is_out_of_memory(error)
            if isinstance(error, torch.AcceleratorError) and not short_of_memory:
                raise self._failed(error) from error
            if len(requests) == 1 and not short_of_memory:
                watch(0, 1)
                return [error]
            failed = f"{error.__class__.__name__}: {error}"
        # only here the error, and with it the tensors of its frames, is gone
        if short_of_memory:
            self._take_fewer_rows(requests, failed)
            return self._attempted(work, requests, watch)
        half = len(requests) // 2
        return [
            result
            for part in (requests[:half], requests[half:])
            for result in self._attempted(work, part, watch)
        ]

    def _failed(self, error: Exception) -> InfrastructureError:
        return InfrastructureError(
            f"{self.device} failed ({' '.join(str(error).split())[:200]}); what was done is kept: "
            "give the same command again to go on"
        )

    def _take_fewer_rows(self, requests: Sequence[Request], failed: str) -> None:
        import torch

        rows = self._rows(requests)
        self._beginnings.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if rows == 1:
            raise InfrastructureError(
                f"out of memory on {self.device} with one row ({failed[:200]}); take a smaller "
                "model, --dtype bfloat16 or shorter responses: what was done is kept"
            )
        self._most_rows = rows // 2
        while not self._batch_size and self._fitting_rows(requests) > self._most_rows:
            self._batch_memory //= 2  # the manifest keeps it, so a run that goes on begins with it
        self._say(f"out of memory with {rows} rows; going on with {self._most_rows}")

    def _rows(self, requests: Sequence[Request]) -> int:
        """How many rows are run at once: as asked for, or as many as fit into memory."""
        rows = self._batch_size or self._fitting_rows(requests)
        rows = min(rows, self._most_rows or rows)
        turns = -(-len(requests) // rows)
        return -(-len(requests) // turns)  # equal turns, not a small one at the end

    def _fitting_rows(self, requests: Sequence[Request]) -> int:
        """How many rows there is memory for, their longest responses included."""
        most = _MOST_ROWS if self.device.type == "cpu" else _MOST_ROWS_ELSEWHERE
        width = max(len(r.prompt_ids) + _new_tokens(r) for r in requests)
        cache = min(width, self.context_length) * self._position_bytes
        logits = 24 * int(self.model.config.get_text_config().vocab_size)  # some float32 copies
        return max(1, min(most, self._batch_memory // (2 * cache + logits)))

    def complete(self, requests: Sequence[Request], watch: Watch) -> list[Completion]:
        """Draw responses, in the order of the requests."""
        import torch

        started = time.monotonic()
        rows = [self._responses.row(request) for request in requests]
        with torch.inference_mode():
            (self._decode_stock if self._stock else self._decode)(rows, watch)
        seconds = (time.monotonic() - started) / len(rows)
        return [self._responses.completion(row, seconds) for row in rows]

    def _decode(self, rows: list[Row], watch: Watch) -> None:
        """Decode rows, as many at once as there is room for; waiting ones take free places."""
        from psplit_eval.batch import Batch

        requests = [row.request for row in rows]
        room = self._rows(requests)
        shared = self._shared(requests)
        batch = Batch(self.model, self._padding_id(), room, self._beginnings)
        waiting, active = deque(rows), list[Row]()
        while waiting or active:
            free = room - len(active)
            if waiting and (not active or (free >= max(1, room // 8) and self._plain)):
                for joining in self._pieces(waiting, free):
                    prompts = [row.request.prompt_ids for row in joining]
                    batch.admit(prompts, [shared.get(prompt, ()) for prompt in prompts])
                    active += joining
            tokens = self._responses.draw(active, batch.logits)
            going = [i for i, row in enumerate(active) if not row.finish_reason]
            watch(len(active), len(active) - len(going))
            order = _closed_up(going)
            if len(order) < len(active):
                batch.keep(order)
                active = [active[i] for i in order]
            if active:
                batch.step(tokens[order])

    def _pieces(self, waiting: deque[Row], free: int) -> Iterator[list[Row]]:
        """Rows for the free places, in pieces to be run one by one; one where none can join."""
        while free and waiting:
            piece: list[Row] = []
            prompts: set[Ids] = set()
            longest = 0
            while len(piece) < free and waiting:
                ids = waiting[0].request.prompt_ids
                longest = max(longest, len(ids))
                prompts.add(ids)
                if piece and len(prompts) * longest > _PREFILL_TOKENS:
                    break
                piece.append(waiting.popleft())
            free -= len(piece)
            yield piece
            if not self._plain:
                return

    def _shared(self, requests: Sequence[Request]) -> dict[Ids, Ids]:
        """Prompt → what it begins with like all others of its mode and task, run once for all."""
        from psplit_eval.batch import common_prefix

        if not self._shares:
            return {}
        families: dict[tuple[str, str], set[Ids]] = {}
        for request in requests:
            families.setdefault((request.mode, request.task), set()).add(request.prompt_ids)
        found: dict[Ids, Ids] = {}
        for prompts in families.values():
            found |= dict.fromkeys(prompts, common_prefix(prompts))
        for old in self._beginnings.keys() - found.values():
            del self._beginnings[old]
        return found

    def _decode_stock(self, rows: list[Row], watch: Watch) -> None:
        """Decode by transformers' loop, equal lengths together: a recurrent state pads badly."""
        from psplit_eval.stock import generate

        size = self._rows([row.request for row in rows])
        alike: dict[int, list[Row]] = {}
        for row in rows:
            both = self.model.config.is_encoder_decoder
            alike.setdefault(0 if both else len(row.request.prompt_ids), []).append(row)
        for part in (p[i : i + size] for p in alike.values() for i in range(0, len(p), size)):
            generate(self.model, self._padding_id(), part, self._responses, watch)

    def score(self, requests: Sequence[Request], watch: Watch) -> list[Completion]:
        """Log-probabilities of the requests' answers; equal prompts run once."""
        import torch

        started = time.monotonic()
        with torch.inference_mode():
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

    def _log_probabilities(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        """Of every answer: its log-probability in nats, and whether it is the greedy one."""
        from psplit_eval.batch import Batch
        from psplit_eval.stock import score_whole

        if self._stock:
            return score_whole(self.model, requests)
        room, shared = self._rows(requests), self._shared(requests)
        found: list[tuple[float, bool]] = []
        waiting = deque(self._responses.row(request) for request in requests)
        while waiting:
            for rows in self._pieces(waiting, room):
                batch = Batch(self.model, self._padding_id(), len(rows), self._beginnings)
                prompts = [row.request.prompt_ids for row in rows]
                batch.admit(prompts, [shared.get(prompt, ()) for prompt in prompts])
                found += batch.score([row.request.answer_ids for row in rows])
        return found

    def cross_score(self, cases: Sequence[Case], watch: Watch) -> Iterator[tuple[int, Crossed]]:
        """See `backends.CrossScoring`. Raises UsageError for an encoder-decoder."""
        from psplit_eval.crossing import fitting, with_unfitting

        if not self.can_score:
            raise UsageError(
                "an encoder-decoder's tokens cannot be scored under other prompts; expected a "
                "causal model; give --no-divergence"
            )
        parts = [fitting(case, self.context_length) for case in cases]
        fit = {number: part for number, (part, some) in enumerate(parts) if some}
        nothing = ((number, ()) for number in range(len(cases)) if number not in fit)
        for number, rows in chain(nothing, self._crossed(fit)):
            responses = cases[number].responses
            watch(sum(map(len, responses)), len(responses))
            yield number, with_unfitting(cases[number], rows, parts[number][1])

    def _crossed(self, left: dict[int, Case]) -> Iterator[tuple[int, Sequence[Numbers]]]:
        """Rows of every case by its number; where memory is short, with less at once."""
        import torch

        from psplit_eval.crossing import cross, cross_whole

        while left:
            numbers, asked = list(left), list(left.values())
            room = self._room(asked)
            try:
                found = (
                    cross_whole(self.model, asked)
                    if self._stock or not self._shares
                    else cross(self.model, self._padding_id(), asked, room, self._starts)
                )
                for place, crossed in found:
                    del left[numbers[place]]
                    yield numbers[place], crossed.rows
            except RuntimeError as error:
                short_of_memory = _is_out_of_memory(error)
                if isinstance(error, torch.AcceleratorError) and not short_of_memory:
                    raise self._failed(error) from error
                if not short_of_memory:
                    raise
                failed = f"{error.__class__.__name__}: {error}"
            else:
                return
            self._take_less(room, failed)

    def token_text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    def _room(self, cases: Sequence[Case]) -> Room:
        """A quarter of the memory for logits, some of which are copied, half for the caches."""
        from psplit_eval.crossing import Room

        cpu, policies = self.device.type == "cpu", len(cases[0].policies)
        row = 4 * int(self.model.config.get_text_config().vocab_size) * (2 * policies + 4)
        most = _PIECE if cpu else _PIECE_ELSEWHERE
        logits = max(_LEAST_PIECE, min(most, self._batch_memory // 4 // row))
        positions = self._batch_memory // (4 * self._position_bytes)
        less = self._halvings
        contexts = (8 if cpu else 32) * most >> less
        return Room(max(_LEAST_PIECE, logits >> less), positions >> less, max(1, contexts))

    def _take_less(self, room: Room, failed: str) -> None:
        import torch

        self._starts.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        alone = self._stock or not self._shares  # every response by itself: there is no less
        if alone or (room.logits <= _LEAST_PIECE and room.contexts <= 1):
            raise InfrastructureError(
                f"out of memory on {self.device} ({failed[:200]}); take --dtype bfloat16 or fewer "
                "modes at a time: what was done is kept"
            )
        self._halvings += 1
        self._say("out of memory; going on with half as much at once")

    def _padding_id(self) -> int:
        """Any token that the model has: padding is masked."""
        pad, size = self.tokenizer.pad_token_id, self.model.get_input_embeddings().num_embeddings
        return int(pad) if pad is not None and pad < size else min(self._end_tokens(), default=0)


def _new_tokens(request: Request) -> int:
    return request.sampling.max_tokens if request.answer is None else len(request.answer_ids)


def _closed_up(going: Sequence[int]) -> list[int]:
    """An order of the places `going` in which as few as possible move: last ones fill the gaps."""
    staying = {i for i in going if i < len(going)}
    movers = iter(i for i in going if i >= len(going))
    return [i if i in staying else next(movers) for i in range(len(going))]


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _batch_memory(device: torch.device) -> int:
    """Bytes that rows may take: half of an accelerator's free memory, half of a machine's.

    A power of two, so that it is the same the next time, though a little more or less is free.
    """
    import torch

    room = 2**31
    if device.type == "cuda":
        room = int(torch.cuda.mem_get_info(device)[0]) // 2
    elif device.type == "cpu":
        total, available = memory_bytes()
        room = min((total or 2**32) // 2, available or 2**31)
    return 1 << (max(room, 2).bit_length() - 1)


def require_hf() -> None:
    """Raise UsageError where the libraries of `HFBackend` are not installed."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the hf backend needs {' and '.join(missing)}, not installed here; "
            "pip install '.[hf]' in psplit's source folder"
        )


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
