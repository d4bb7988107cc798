"""What an engine is: it turns requests into completions.

The engines are `hf` (a Hugging Face model in process), `vllm` and `served` (servers that speak
OpenAI's protocol). Every sample has random numbers of its own, so what it says does not depend on
who shares its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from psplit_eval.requests import Request
from psplit_eval.thinking import Thinking

__all__ = [
    "Backend",
    "Case",
    "Completion",
    "CrossScoring",
    "Crossed",
    "EngineOptions",
    "Numbers",
    "cut_at_stops",
]

Messages = list[dict[str, str]]
Watch = Callable[[int, int], None]
"""Hears of progress: new tokens, and samples that have finished."""


@dataclass(frozen=True)
class EngineOptions:
    """How a model is opened and asked.

    `backend`: hf, vllm or openai. `batch_size` None: as many rows as fit into `batch_memory` bytes
    (None: half of what is free). `dtype` auto: float32 on a CPU (exactly repeatable), the
    checkpoint's own elsewhere. `adapter`: a folder with a LoRA adapter. `tensor_parallel` GPUs hold
    one copy of the model, of which there are `data_parallel`; these and `engine_arg` (vLLM's own
    arguments, by name) are for vllm. From `base_url` on: for servers; None is the default of
    `served.ServedBackend`.
    """

    backend: str = "hf"
    batch_size: int | None = None
    batch_memory: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    chat_template: Path | None = None
    trust_remote_code: bool = False
    thinking: Thinking = field(default_factory=Thinking)
    adapter: Path | None = None
    tensor_parallel: int = 1
    data_parallel: int = 1
    engine_arg: tuple[tuple[str, Any], ...] = ()
    base_url: tuple[str, ...] = ()
    concurrency: int | None = None
    requests_per_minute: float | None = None
    timeout: float | None = None
    retries: int | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True)
class Completion:
    """What a backend gave for one request; see `store.Sample` for the fields.

    `ids` None: the engine does not give them. `prompt_tokens` None: as many as were sent.
    """

    text: str
    finish_reason: str
    ids: tuple[int, ...] | None
    tokens: int | None
    nll_sum_nats: float | None
    seconds: float
    entropy_sum_bits: float | None = None
    entropy_estimate_sum_bits: float | None = None
    thought: str | None = None
    prompt_tokens: int | None = None
    is_greedy: bool | None = None


Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Responses to one doc, to be scored under the prompts of several policies.

    `responses` and `prompts` (policy → prompt) are token ids, `texts` and `prompt_texts` the same
    as text, for servers; `pairs` are policies to be compared.
    """

    responses: Sequence[tuple[int, ...]]
    prompts: Mapping[str, tuple[int, ...]]
    pairs: Sequence[tuple[str, str]]
    texts: Sequence[str] = ()
    prompt_texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(self.prompts)

    @property
    def numbered_pairs(self) -> list[tuple[int, int]]:
        """The pairs by the policies' numbers."""
        number = {name: i for i, name in enumerate(self.prompts)}
        return [(number[a], number[b]) for a, b in self.pairs]

    @property
    def length(self) -> int:
        """Tokens of all prompts."""
        return sum(map(len, self.prompts.values()))


@dataclass(frozen=True)
class Crossed:
    """What was found of a case, in bits, token by token.

    `rows`: of every response (numbers, tokens): entropy of each policy, surprisal of the token
    under each, then of every pair (a, b) KL(a‖b), of every pair KL(b‖a), and Jensen–Shannon.
    """

    policies: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    rows: Sequence[Numbers]

    def entropy(self, response: int, policy: str) -> Numbers:
        return self._row(response, self.policies.index(policy))

    def surprisal(self, response: int, policy: str) -> Numbers:
        return self._row(response, len(self.policies) + self.policies.index(policy))

    def between(self, response: int, pair: tuple[str, str]) -> tuple[Numbers, Numbers, Numbers]:
        """KL(a‖b), KL(b‖a) and Jensen–Shannon."""
        first = 2 * len(self.policies) + self.pairs.index(pair)
        kl, back, js = (self._row(response, first + i * len(self.pairs)) for i in range(3))
        return kl, back, js

    def _row(self, response: int, row: int) -> Numbers:
        numbers: Numbers = self.rows[response][row]
        return numbers


Result = tuple[Request, Completion | Exception]
"""A request and what became of it; an exception is stored as the sample's error."""


class Backend(Protocol):
    """What sampling needs of an engine."""

    context_length: int
    can_score: bool

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """The prompt text that the model's chat template makes of `messages`.

        Without a generation prompt the last message is left open, to be continued.
        """

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt, no special tokens added; () where a server makes them."""

    def groups(self, requests: Iterable[Request]) -> list[list[Request]]:
        """Cut a plan into work groups (`requests.work_groups`), by the plan alone.

        Raises UsageError for sampling settings that the engine does not have.
        """

    def run(self, groups: Sequence[Sequence[Request]], watch: Watch) -> Iterator[list[Result]]:
        """Draw, or score where a request has an answer; yields what may be committed together.

        Every request comes back once, as a completion or as its error. Raises UsageError or
        InfrastructureError for what would fail every other request, too.
        """

    def describe(self) -> dict[str, Any]:
        """Settings that a result depends on, for the manifest."""


@runtime_checkable
class CrossScoring(Protocol):
    """An engine that can score responses under other prompts than their own."""

    exact: bool
    """Over the full vocabulary; else estimates from the most probable tokens."""

    def cross_score(self, cases: Sequence[Case], watch: Watch) -> Iterator[tuple[int, Crossed]]:
        """Score cases of equal policies and pairs; yields each with its number, in any order.

        Raises UsageError where the model cannot be asked, InfrastructureError where it fails.
        """

    def token_text(self, token: int) -> str:
        """A token of the vocabulary as text."""


def cut_at_stops(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    found = [text.find(stop) for stop in until]
    return text[: min((place for place in found if place >= 0), default=len(text))]
