"""OpenAI's chat protocol: what is sent for a sample, and what an answer says. No network.

Servers differ in the parameters that they take and have defaults of their own, so everything that
changes a distribution is sent explicitly, and `Form` holds what a server turned out not to take.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psplit_eval.backends import Completion, Messages, cut_at_stops
from psplit_eval.logprobs import entropy_estimate_bits
from psplit_eval.requests import Sampling
from psplit_eval.servers import shown_text
from psplit_eval.thinking import Thinking, Thought

__all__ = [
    "FailedRequestError",
    "Form",
    "Sign",
    "message_of",
    "named_parameters",
    "needed",
    "read_completion",
    "read_sign",
    "server_seed",
]

Answer = Mapping[str, Any]

_STEPS: Mapping[str, int] = {
    **dict.fromkeys(("return_token_ids", "repeat_penalty", "repetition_penalty"), 1),
    **dict.fromkeys(("min_p", "stop", "top_p", "temperature", "seed", "max_tokens"), 1),
    "top_k": 2,
    "logprobs": 3,
}
"""Parameter → how often it can be asked for in another way, the last of which is not at all."""

_FEWER_LOGPROBS = (5, 0, None)
_LENGTH_NAMES = ("max_tokens", "max_completion_tokens")
_ALIASES = {"top_logprobs": "logprobs"}
_STOPS_SENT = 4
_SEEDS = 2**31 - 1
_LEAST_LOGPROB = -9000.0  # some servers write -9999 for 'not known' or minus infinity

_BAD_REQUEST = (400, 403, 422)
_ABOUT_LENGTH = re.compile(r"context|too (long|large)|maximum.{0,20}length", re.IGNORECASE)
_NOT_TAKEN = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|not permitted|validation", re.IGNORECASE
)
_OUT_OF_RANGE = re.compile(
    r"must be|should be|(greater|less|more) than|at (most|least)|invalid value|not allowed|range"
    r"|use '?\w+_\w+",
    re.IGNORECASE,
)
_RETRIED = (408, 409, 425, 429)

_FINISHED = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}


class FailedRequestError(Exception):
    """One request that came to nothing; the text is one line, without the key.

    `status` None: there was no answer, or one of status 200 that says nothing. `retry`: the same
    request may fare better later; `pause`: seconds to leave the server alone, where it says so.
    `parameters`: what the server does not take. `unreachable`: no connection could be made.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        body: str = "",
        pause: float | None = None,
        retry: bool | None = None,
        unreachable: bool = False,
        url: str = "",
    ) -> None:
        super().__init__(text)
        self.status, self.pause, self.unreachable, self.url = status, pause, unreachable, url
        self.parameters = named_parameters(status, body)
        later = status is None or status in _RETRIED or status >= 500
        self.retry = (later and not self.parameters) if retry is None else retry


def message_of(body: str) -> str:
    """The message in an error's body, in whatever form; else the body."""
    message, _, places = _complaint(body)
    return " ".join([message, *(f"({place})" for place in places)])


def named_parameters(status: int | None, body: str) -> tuple[str, ...]:
    """The parameters of ours that an error is about; () where it is about something else.

    Some servers say it with status 500, so there the words must say so, too.
    """
    message, parameter, places = _complaint(body)
    if status is None or (status not in _BAD_REQUEST and status < 500):
        return ()
    said = _NOT_TAKEN.search(message) or (status < 500 and _OUT_OF_RANGE.search(message))
    named = (parameter or places) and status < 500
    if _ABOUT_LENGTH.search(message) or not (said or named):
        return ()
    found = [parameter] if parameter is not None else [*places] or re.findall(r"\w+", message)
    known = (_ALIASES.get(name, name) for name in found)
    return tuple(dict.fromkeys(name for name in known if name in _STEPS))


def _complaint(body: str) -> tuple[str, str | None, list[str]]:
    """(message, parameter, fields) of an error: OpenAI's form, FastAPI's, or plain text."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return body, None, []
    if not isinstance(content, dict):
        return body, None, []
    error = content.get("error", content)
    if not isinstance(error, dict):
        return str(error), None, []
    detail = error.get("detail")
    if isinstance(detail, list):
        entries = [entry for entry in detail if isinstance(entry, dict)]
        said = "; ".join(str(entry.get("msg", "")) for entry in entries)
        fields = [entry.get("loc") for entry in entries]
        return said, None, [str(field[-1]) for field in fields if isinstance(field, list) and field]
    message = error.get("message", detail if detail is not None else body)
    parameter = error.get("param")
    return str(message), str(parameter) if parameter else None, []


def server_seed(seed: int) -> int:
    """A sample's seed in [1, 2^31): some servers keep 32 bits, and 0, -1 and 2^32 - 1 say
    'at random' to some."""
    return seed % _SEEDS + 1


@dataclass(frozen=True)
class Form:
    """How a server wants to be asked: parameter → steps taken from the best way of asking.

    `top_logprobs`: log-probabilities to list by token, 0 for none.
    """

    top_logprobs: int = 20
    steps: Mapping[str, int] = field(default_factory=dict)

    def body(
        self,
        model: str,
        messages: Messages,
        sampling: Sampling,
        seed: int | None,
        *,
        stops: bool = True,
        thinking: Thinking | None = None,
    ) -> dict[str, Any]:
        """The JSON to send. Without `stops` the server is not told the stop strings."""
        values = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": -1 if self._step("top_k") and not sampling.top_k else sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": 1.0,
            "repeat_penalty": 1.0,
            "seed": None if seed is None else server_seed(seed),
            "stop": list(sampling.until[:_STOPS_SENT]) if stops else [],
            "return_token_ids": True,
        }
        sent = {k: v for k, v in values.items() if self.takes(k) and v is not None and v != []}
        tops = (self.top_logprobs or None, *_FEWER_LOGPROBS)[self._step("logprobs")]
        listed = (
            {} if tops is None else {"logprobs": True} | ({"top_logprobs": tops} if tops else {})
        )
        length = {_LENGTH_NAMES[self._step("max_tokens")]: sampling.max_tokens}
        told = thinking.arguments() if thinking else {}
        more = {"chat_template_kwargs": told} if told else {}
        return {"model": model, "messages": messages, **sent, **listed, **length, **more}

    def takes(self, name: str) -> bool:
        """Whether the parameter is sent at all, in some way."""
        return name == "max_tokens" or self._step(name) < _STEPS[name]

    def adapted(self, parameters: Iterable[str], samplings: Iterable[Sampling]) -> Form | None:
        """A step down for what a server does not take; None where no step is left.

        Where it names several, those that `samplings` do not need go first: servers may refuse two
        together.
        """
        left = [name for name in parameters if self._step(name) < _STEPS[name]]
        used = {name for sampling in samplings for name in needed(sampling)}
        going = [name for name in left if name not in used] or left
        return self.without(going) if going else None

    def without(self, names: Iterable[str], entirely: bool = False) -> Form:
        """One step down for each of `names`, or all of its steps."""
        taken = {n: _STEPS[n] if entirely else self._step(n) + 1 for n in names}
        return replace(self, steps={**self.steps, **taken})

    def with_again(self, name: str) -> Form:
        """`name` asked for in the best way again."""
        return replace(self, steps={k: v for k, v in self.steps.items() if k != name})

    def left_out(self) -> list[str]:
        """Parameters that are not sent."""
        return sorted(name for name in _STEPS if not self.takes(name))

    def _step(self, name: str) -> int:
        return self.steps.get(name, 0)


def needed(sampling: Sampling) -> Iterator[str]:
    """Parameters without which a server would draw from another distribution, if it had no
    defaults of its own."""
    neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    yield from (name for name, value in neutral.items() if getattr(sampling, name) != value)
    yield "seed"
    yield "max_tokens"


def read_completion(
    answer: Answer, until: Sequence[str], thinking: Thinking, stops_sent: bool
) -> Completion:
    """What a server's answer says, without the time it took.

    Raises FailedRequestError for an answer that holds no text: to be tried again where the server
    failed, not where it refuses (a content filter, tools).
    """
    choice, message = _choice(answer)
    reason = choice.get("finish_reason")
    if message.get("tool_calls") or reason in ("tool_calls", "function_call"):
        raise FailedRequestError("the answer is a call of a tool, not text", retry=False)
    if reason == "content_filter":
        raise FailedRequestError("the server's content filter held the answer back", retry=False)
    finished = _FINISHED.get(str(reason))
    content, thought = _parted(message, thinking, finished == "length")
    if finished is None:
        raise FailedRequestError(f"finish reason {shown_text(reason)!r}, expected stop or length")
    if not thought.ended and finished == "stop" and stops_sent and until:
        raise FailedRequestError("a stop string cut the thought")
    text = cut_at_stops(thought.answer, until)
    counted = _counted(answer, choice)
    if len(text) < len(thought.answer):
        finished = "stop"
        if thought.answer == content:
            counted = counted.up_to(content, text, until)
    return Completion(
        text=text,
        finish_reason=finished if thought.ended else "length",
        ids=counted.ids,
        tokens=counted.tokens,
        nll_sum_nats=counted.nll_nats(),
        seconds=0.0,
        entropy_estimate_sum_bits=counted.entropy_bits(),
        thought=thought.thought,
        prompt_tokens=_usage(answer, "prompt_tokens"),
    )


@dataclass(frozen=True)
class Sign:
    """What is of interest in the answer to a question that is no sample; `text` with a thought."""

    text: str | None
    prompt_tokens: int | None
    thinks: bool


def read_sign(answer: Answer, thinking: Thinking) -> Sign:
    """Raises FailedRequestError for what is no answer at all; no text is fine."""
    choice, message = _choice(answer)
    content = message.get("content")
    if content is None and _FINISHED.get(str(choice.get("finish_reason"))) == "length":
        content = ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    parts = [part for part in (reasoning, content) if isinstance(part, str)]
    text = content if isinstance(content, str) else ""
    thinks = bool(reasoning) or text.lstrip().startswith(thinking.start) or thinking.end in text
    return Sign("".join(parts) if parts else None, _usage(answer, "prompt_tokens"), thinks)


def _choice(answer: Answer) -> tuple[Answer, Answer]:
    choices = answer.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        said = message_of(json.dumps(answer)) if "error" in answer else "no choices in it"
        raise FailedRequestError(f"an answer without text ({shown_text(said)})")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise FailedRequestError("an answer without a message")
    return choices[0], message


def _parted(message: Answer, thinking: Thinking, cut: bool) -> tuple[str, Thought]:
    """The content as sent, and its thought and answer.

    A server with a parser for thoughts sends them apart. Without one the tags are in the content,
    but for the opening tag where the template has written it: then a thought is known by its end,
    or by being cut when the model was told to think.
    """
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str) and reasoning and content in (None, ""):
        return "", Thought(reasoning.strip(), "", ended=not cut)
    if content is None and cut:  # a thought that is not shown took all the tokens
        return "", Thought(None, "", ended=False)
    if not isinstance(content, str):
        kind = "null" if content is None else f"a {type(content).__name__}"
        raise FailedRequestError(f"the answer's content is {kind}, expected text")
    if isinstance(reasoning, str) and reasoning:
        return content, Thought(reasoning.strip() or None, content.lstrip())
    opened = thinking.enabled is not False and thinking.end in content
    return content, thinking.split(content, opened or (thinking.enabled is True and cut))


@dataclass(frozen=True)
class _Counted:
    """Tokens of a completion: ids, texts, and per position the log-probabilities listed (nats)."""

    tokens: int | None
    ids: tuple[int, ...] | None
    texts: tuple[str, ...] = ()
    chosen: tuple[float, ...] = ()
    listed: tuple[tuple[float, ...], ...] = ()

    def up_to(self, content: str, text: str, until: Sequence[str]) -> _Counted:
        """Only the tokens as far as the stop string after `text`, as if it had ended there."""
        if "".join(self.texts) != content:
            return self
        stop = next(stop for stop in until if content.startswith(stop, len(text)))
        kept = length = 0
        while length < len(text) + len(stop):
            length += len(self.texts[kept])
            kept += 1
        whole = self.ids is not None and len(self.ids) >= len(self.texts)
        ids = self.ids[:kept] if self.ids is not None and whole else None
        return _Counted(kept, ids, self.texts[:kept], self.chosen[:kept], self.listed[:kept])

    def nll_nats(self) -> float | None:
        """None where a token's log-probability is not known."""
        if not self.chosen or not all(value > _LEAST_LOGPROB for value in self.chosen):
            return None
        return -math.fsum(min(value, 0.0) for value in self.chosen)

    def entropy_bits(self) -> float | None:
        """A lower bound, summed over all positions; None where one has no list."""
        if not self.listed or not all(self.listed):
            return None
        return math.fsum(map(entropy_estimate_bits, self.listed))


def _counted(answer: Answer, choice: Answer) -> _Counted:
    """The tokens, and their log-probabilities where all are there (an end token may be missing)."""
    given = choice.get("token_ids")
    whole = isinstance(given, list) and all(isinstance(i, int) for i in given)
    ids = tuple(given) if whole and given else None
    tokens = _usage(answer, "completion_tokens")
    positions = _positions(choice)
    if tokens is None:
        tokens = len(ids or positions) or None
    if not positions or tokens is None or not 0 <= tokens - len(positions) <= 1:
        return _Counted(tokens, ids)
    texts, chosen, listed = zip(*positions, strict=True)
    return _Counted(len(positions), ids, texts, chosen, listed)


def _positions(choice: Answer) -> list[tuple[str, float, tuple[float, ...]]]:
    """(text, log-probability, those listed with it) of every token; [] where one is not sound."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    try:
        return [
            (str(entry["token"]), _number(entry["logprob"]), tuple(_listed(entry)))
            for entry in content or ()
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _listed(entry: Answer) -> Iterator[float]:
    """What is listed at a position, the chosen token included even where it isn't in the list."""
    tops = entry.get("top_logprobs") or ()
    chosen = (entry["token"], entry.get("bytes"))
    if tops and all((top["token"], top.get("bytes")) != chosen for top in tops):
        yield _number(entry["logprob"])
    yield from (_number(top["logprob"]) for top in tops)


def _number(value: Any) -> float:
    number = float(value)
    if math.isnan(number):
        raise ValueError("a log-probability that is no number")
    return number


def _usage(answer: Answer, name: str) -> int | None:
    usage = answer.get("usage")
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None
