"""A judge behind OpenAI-compatible servers: structured answers where they can be had.

A verdict that cannot be read is asked for once more, with what was wrong; after that it is a
failure. Tokens of both tries count.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from psplit_eval.asker import Asker, Needs
from psplit_eval.backends import Completion, Messages
from psplit_eval.chat import FailedRequestError, Form, read_completion
from psplit_eval.fleet import Fleet
from psplit_eval.inflight import InFlight, flowing
from psplit_eval.judges import JudgeName, Reply
from psplit_eval.replies import UnreadableError, Verdict
from psplit_eval.requests import Sampling
from psplit_eval.rubrics import Question
from psplit_eval.text import shortened
from psplit_eval.thinking import Thinking

__all__ = ["ServedJudge", "ServedOptions"]

T = TypeVar("T")

_SEED = 1
_TRIES = 2
_CHARACTERS_A_TOKEN = 4.0
_SHOWN_CHARACTERS = 500
_FRAME_TOKENS = 200
"""More than a chat template adds to two messages."""
_REFUSED = (500, 501)
"""What some servers say to a form of answers that they do not have (llama.cpp), and others when
they fail."""
_LONGEST_PAUSE = 60.0
_VERDICT_TOKENS = 80.0
"""Of an answer with a sentence of reasons; what an answer took is counted when it is there."""


@dataclass(frozen=True)
class ServedOptions:
    """How servers are asked; see `served.ServedBackend`. `temperature` 0 unless it is meant."""

    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout: float = 600.0
    retries: int = 10
    temperature: float = 0.0
    max_tokens: int = 2048
    scale: float = 1.0


class ServedJudge:
    """Asks one model behind one or more servers (`urls`; None: those of its name)."""

    writes, by_name = True, False
    special: tuple[str, ...] = ()

    def __init__(
        self,
        name: JudgeName,
        options: ServedOptions | None = None,
        say: Callable[[str], None] = lambda _: None,
        urls: Sequence[str] | None = None,
    ) -> None:
        """Nothing is sent yet; `say` hears notices."""
        self.name = str(name)
        self._model, self._urls = name.model, tuple(urls or (name.url,))
        self._options, self._say = options or ServedOptions(), say
        self._sampling = Sampling(
            temperature=self._options.temperature, max_tokens=self._options.max_tokens
        )
        self._thinking, self._form = Thinking(), Form(0)
        self._way: str | None = None

    def describe(self) -> dict[str, Any]:
        """`structured`: how servers are told the form of an answer, as far as that is known."""
        options = self._options
        identity = {"temperature": options.temperature, "max_tokens": options.max_tokens}
        return {"kind": "openai", "model": self._model, "identity": identity} | (
            {"structured": self._way} if self._way else {}
        )

    def expected_tokens(self, question: Question) -> tuple[float, float]:
        """By four characters a token."""
        read = (len(question.system) + len(question.user)) / _CHARACTERS_A_TOKEN
        return read, _VERDICT_TOKENS

    def most_tokens(self, question: Question) -> tuple[float, float]:
        """By a byte a token; the first question may be asked in every way."""
        tries = _TRIES if self._way else _TRIES + len(_WAYS) - 1
        said = _again("", "", question)
        more = sum(len(m["content"].encode()) for m in said) + 4 * _SHOWN_CHARACTERS
        read = len((question.system + question.user).encode("utf-8", "replace")) + _FRAME_TOKENS
        return float(tries * (read + more)), float(tries * self._options.max_tokens)

    def ask(self, questions: Iterable[tuple[T, Question]]) -> Iterator[list[tuple[T, Reply]]]:
        items = iter(questions)
        first = next(items, None)
        if first is None:
            return
        options = self._options
        keep: list[Asker] = []

        def every() -> Iterator[tuple[T, Question]]:
            yield first
            yield from items

        async def begin() -> InFlight[tuple[T, Question]]:
            fleet = Fleet(
                self._urls,
                concurrency=options.concurrency,
                requests_per_minute=options.requests_per_minute,
                timeout=options.timeout,
                retries=options.retries,
                scale=options.scale,
                say=self._say,
            )
            needs = Needs((self._sampling,), {}, seeded=False)
            asker = Asker(fleet, self._model, self._thinking, needs, self._say, self._form)
            keep.append(asker)
            asking = _Asking(asker, self._sampling)

            async def prepare() -> None:
                await asker.prepare()
                if self._way is None:
                    self._way = await asking.find_way(first[1], fleet, options)
                asking.way = self._way

            async def work(item: tuple[T, Question]) -> Reply:
                return await asking.reply(item[1])

            return InFlight(every(), fleet, prepare, work)

        try:
            for done in flowing(begin):
                yield [(key, _reply(found)) for (key, _), found in done]
        finally:
            self._form = keep[0].form if keep else self._form


def _reply(found: Reply | Exception) -> Reply:
    if isinstance(found, Reply):
        return found
    return Reply(None, error=f"{found.__class__.__name__}: {shortened(found, 200)}")


def _formatted(way: str, question: Question) -> dict[str, Any]:
    """What a server is told of the form of an answer."""
    schema = question.form.schema()
    kinds: Mapping[str, Mapping[str, Any]] = {
        "json_schema": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        },
        "json_object with schema": {"type": "json_object", "schema": schema},
        "json_object": {"type": "json_object"},
    }
    return {"response_format": kinds[way]} if way in kinds else {}


_WAYS = ("json_schema", "json_object with schema", "json_object", "words")


class _Asking:
    """One question at a time, in the way that the servers take."""

    def __init__(self, asker: Asker, sampling: Sampling) -> None:
        self._asker, self._sampling = asker, sampling
        self.way = _WAYS[-1]
        self._begun: dict[int, list[Completion]] = {}

    async def find_way(self, question: Question, fleet: Fleet, options: ServedOptions) -> str:
        """The first way whose answer is read as a verdict; else words.

        The question is asked by this: its answers are kept for `reply`.
        """
        said = self._begun[id(question)] = []
        for way in _WAYS[:-1]:
            body = self._asker.body(_messages(question), self._sampling, _SEED)
            try:
                found = await _once({**body, **_formatted(way, question)}, fleet, options)
                said.append(found)
                question.form.read(found.text)
            except FailedRequestError as error:
                if error.retry and error.status not in _REFUSED:
                    break  # no answer at all: the questions themselves are more patient
            except UnreadableError:
                continue
            else:
                return way
        return _WAYS[-1]

    async def reply(self, question: Question) -> Reply:
        """Ask, and where the answer cannot be read, ask once more."""
        messages, said = _messages(question), self._begun.pop(id(question), [])
        seconds = sum(found.seconds for found in said)
        if said:
            verdict, _ = _read(question, said[-1])
            if verdict:
                return Reply(verdict, None, None, said[-1].text, None, *_told(said), seconds)
        reason, text = "", None
        for _ in range(_TRIES):
            more = _formatted(self.way, question)
            try:
                found, took = await self._asker.answer(
                    messages, self._sampling, _SEED, more, _completion
                )
            except FailedRequestError as error:
                if not said:
                    raise
                return Reply(None, None, str(error), text, None, *_told(said), seconds)
            said.append(found)
            seconds, text = seconds + took, found.text
            verdict, reason = _read(question, found)
            if verdict:
                return Reply(verdict, None, None, text, None, *_told(said), seconds)
            messages = [*messages, *_again(text, reason, question)]
        return Reply(None, reason, None, text, None, *_told(said), seconds)


async def _once(body: Mapping[str, Any], fleet: Fleet, options: ServedOptions) -> Completion:
    """Ask the first server; again where it is only busy. Raises FailedRequestError."""
    tries = refusals = 0
    while True:
        started = time.monotonic()
        try:
            found = _completion(await fleet.servers[0].ask(body))
            return replace(found, seconds=time.monotonic() - started)
        except FailedRequestError as error:
            tries, refusals = tries + 1, refusals + (error.status in _REFUSED)
            wait = options.scale * min(2.0**tries, 60.0) if error.pause is None else error.pause
            enough = refusals >= _TRIES or tries > options.retries or wait > _LONGEST_PAUSE
            if not error.retry or enough:
                raise
        await asyncio.sleep(wait)


def _read(question: Question, found: Completion) -> tuple[Verdict | None, str]:
    """A verdict, or why there is none; of what was cut, only from whole JSON."""
    if found.finish_reason == "length" and not _is_json(found.text):
        return None, "cut by the token limit: give more --max-tokens"
    try:
        return question.form.read(found.text), ""
    except UnreadableError as error:
        return None, _reason(error, found)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _told(said: Sequence[Completion]) -> tuple[int, int | None, int | None]:
    """Answers, and tokens read and written for all of them as far as the server says."""
    return len(said), _sum(found.prompt_tokens for found in said), _sum(f.tokens for f in said)


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)


def _messages(question: Question) -> Messages:
    return [
        {"role": "system", "content": question.system},
        {"role": "user", "content": question.user},
    ]


def _again(text: str, reason: str, question: Question) -> Messages:
    asked = (
        f"That answer cannot be used ({reason}). Answer once more, with one JSON object and "
        f"nothing else: {question.form.example()}"
    )
    said = {"role": "assistant", "content": shortened(text, _SHOWN_CHARACTERS) or "(nothing)"}
    return [said, {"role": "user", "content": asked}]


def _reason(error: UnreadableError, found: Completion) -> str:
    cut = "cut by the token limit: " if found.finish_reason == "length" else ""
    return f"{cut}{error}"


def _completion(answer: Mapping[str, Any]) -> Completion:
    """An answer without words is one that cannot be read, and its tokens count.

    Raises FailedRequestError where there is no answer at all.
    """
    try:
        return read_completion(answer, (), Thinking(), stops_sent=False)
    except FailedRequestError as error:
        choices = answer.get("choices")
        message = choices[0].get("message") if isinstance(choices, list) and choices else None
        if not isinstance(message, dict):
            raise
        refusal = message.get("refusal")
        usage = answer.get("usage")
        told = usage if isinstance(usage, dict) else {}
        return Completion(
            text=refusal if isinstance(refusal, str) else f"({error})",
            finish_reason="stop",
            ids=None,
            tokens=_whole(told.get("completion_tokens")),
            nll_sum_nats=None,
            seconds=0.0,
            prompt_tokens=_whole(told.get("prompt_tokens")),
        )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
