"""What is to be sampled: settings, seeds and requests. Pure data, no model.

A request is known before anything runs. Its seed depends on its own key only, so more samples,
docs, modes or tasks never change a sample that is there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Self, TypeVar

from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.store import SampleKey

__all__ = [
    "Request",
    "Sampling",
    "Shard",
    "digest",
    "plan_sum",
    "sample_seed",
    "work_groups",
]

_Item = TypeVar("_Item")

_RANGES: Mapping[str, tuple[Any, float, float]] = {
    "temperature": (int | float, 0, 100),
    "top_k": (int, 0, 10**9),
    "top_p": (int | float, 1e-9, 1),
    "min_p": (int | float, 0, 1),
    "max_tokens": (int, 1, 10**9),
}


@dataclass(frozen=True)
class Sampling:
    """How one response is drawn.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 switch a truncation off; they
    apply in that order, after the temperature. `max_tokens` counts the end token. A response ends
    before the first of the `until` strings.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 256
    until: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                number = "a whole number" if kind is int else "a number"
                raise UsageError(
                    f"sampling setting {name}={value!r}: expected {number} from {low:g} to {high:g}"
                )
        if not all(isinstance(stop, str) and stop for stop in self.until):
            raise UsageError(
                f"sampling setting until={list(self.until)!r}: expected texts that are not empty"
            )

    def updated(self, values: Mapping[str, Any]) -> Self:
        """A copy with `values` in place; raises UnknownNameError for a name that is no setting."""
        known = [field.name for field in fields(self)]
        for name in values:
            if name not in known:
                raise UnknownNameError("sampling setting", name, known)
        changes = dict(values)
        if "until" in changes:
            changes["until"] = _stops(changes["until"])
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The form used in manifests."""
        return {**asdict(self), "until": list(self.until)}

    @cached_property
    def _dict(self) -> Mapping[str, Any]:
        """`to_dict`, made once: a million requests may share these settings."""
        return self.to_dict()


def _stops(until: Any) -> tuple[Any, ...]:
    """Stop texts as a tuple; null and empty ones, which lm-eval ignores, are none."""
    several = list(until) if isinstance(until, list | tuple) else [until]
    return tuple(stop for stop in several if stop not in (None, ""))


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to be had: its key, the exact prompt, and how to draw or what to score.

    `prompt` is the rendered text, `prompt_ids` its tokens (none where a server makes them). With
    `answer` nothing is drawn: the log-probability of `answer_ids` after the prompt is asked
    for, `sample_idx` is the answer's number and there is no seed.
    """

    mode: str
    task: str
    doc_id: int
    sample_idx: int
    doc_hash: str
    prompt_hash: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int | None
    answer: str | None = None
    answer_ids: tuple[int, ...] = ()
    prompt: str = ""

    @property
    def key(self) -> SampleKey:
        return (self.mode, self.task, self.doc_id, self.sample_idx)

    @property
    def request_hash(self) -> str:
        """SHA-256 over all that determines the response but the weights."""
        if self.answer is not None:
            return digest(self.prompt_hash, self.doc_hash, self.answer)
        return digest(self.prompt_hash, self.doc_hash, self.sampling._dict, self.seed)


def digest(*parts: object) -> str:
    """SHA-256 (hex) of the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sample_seed(base: int, mode: str, task: str, doc_hash: str, sample_idx: int) -> int:
    """Seed of one sample, in [0, 2^63).

    The mode's label is part of it on purpose: one prompt under two labels draws independent
    samples.
    """
    return int(digest(base, mode, task, doc_hash, sample_idx)[:16], 16) >> 1


def work_groups(
    requests: Iterable[Request], tokens: int, least: int = 1, most: int = 10**9
) -> list[list[Request]]:
    """Cut the plan into groups of about equal work that are run and committed together.

    A group comes to about `tokens` new tokens at most (a prompt's tokens count an eighth, as they
    are run at once), but holds about `least` to `most` requests whatever their length. Long
    responses come first, then long prompts, whatever their mode and task; samples of one prompt
    stand side by side. Given answers are in groups of their own.

    Groups depend on the plan alone, not on what is already there: float results depend on a batch's
    shape, so this is what makes a resumed run equal an uninterrupted one.
    """
    ordered = sorted(requests, key=_by_length)
    drawn = [request for request in ordered if request.answer is None]
    given = [request for request in ordered if request.answer is not None]
    bounds = tokens / most, tokens / least
    return [group for part in (drawn, given) for group in _equal_parts(part, tokens, bounds)]


def _equal_parts(
    requests: Sequence[Request], tokens: int, bounds: tuple[float, float]
) -> list[list[Request]]:
    work = [min(max(_work(request), bounds[0]), bounds[1]) for request in requests]
    number = max(1, round(sum(work) / tokens))  # a little more in each, not a small one at the end
    parts: list[list[Request]] = [[] for _ in range(number)]
    share, before = sum(work) / number, 0.0
    for request, cost in zip(requests, work, strict=True):
        parts[min(int((before + cost / 2) / share), number - 1)].append(request)
        before += cost
    return [part for part in parts if part]


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count` parts that a plan's work groups are dealt out to.

    Whole groups are dealt out, one after the other: a group is drawn as in the run that is not
    split, so the parts together are that run; and since long groups come first, no part gets all.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `I/N`; raises UsageError."""
        found = re.fullmatch(r"0*(\d{1,9})/0*(\d{1,9})", text)
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count:
            raise UsageError(f"--shard {text!r}: expected I/N with I from 1 to N, such as 1/8")
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, groups: Sequence[_Item]) -> Sequence[_Item]:
        """Its work groups; none where there are fewer groups than shards."""
        return groups[self.index - 1 :: self.count]


def plan_sum(groups: Iterable[Iterable[Request]]) -> str:
    """SHA-256 of all requests of a plan and of how they are grouped."""
    found = hashlib.sha256()
    for group in groups:
        for request in group:
            found.update(f"{request.key!r} {request.request_hash}\n".encode())
        found.update(b"\n")
    return found.hexdigest()


def _work(request: Request) -> int:
    """What a request costs at most, in new tokens."""
    new = request.sampling.max_tokens if request.answer is None else len(request.answer_ids)
    return new + len(request.prompt_ids) // 8


def _by_length(request: Request) -> tuple[Any, ...]:
    new = request.sampling.max_tokens if request.answer is None else 0
    prompt = len(request.prompt_ids) or len(request.prompt)
    place = (request.task, request.doc_id, request.mode, request.prompt_hash)
    return (-new, -prompt, *place, -len(request.answer_ids), request.sample_idx)
