"""Several servers side by side: which is asked next, which is left alone, which is given up.

A request that fails is sent again, to another server where there is one, after a random wait that
grows (full jitter). A server that says how long to leave it alone is left alone by all. One that
fails many times in a row gets no more requests until it answers a small question of our own, so an
outage costs samples nothing; when no server comes back, the run ends.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random,
    wait_random_exponential,
)

from psplit_eval.chat import FailedRequestError, message_of
from psplit_eval.errors import InfrastructureError, PsplitError
from psplit_eval.servers import api_key, shown_text, shown_url

__all__ = ["Fleet", "Server", "pause_seconds"]

Answer = Mapping[str, Any]
Body = Callable[[], Mapping[str, Any]]
T = TypeVar("T")
Check = Callable[["Server"], Awaitable[None]]
"""Asks a server that is left out whether it may come back; raises FailedRequestError if not,
PsplitError to end the work."""

_LONGEST_WAIT = 60.0
_LONGEST_PAUSE = 600.0
_MOST_PAUSES = 1000
_THOUGHT_TOO_LONG = "max_tokens or model output limit was reached"
"""OpenAI's reasoning models refuse, after the fact, what others call a truncated answer."""
_CUT: Mapping[str, Any] = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
_TRIALS = 10
_TRIALS_UNREACHED = 3
_CONNECT_SECONDS = 30.0


class Server:
    """One URL and its client. Its attributes are the fleet's to change."""

    def __init__(self, url: str, timeout: float) -> None:
        import openai

        self.url = shown_url(url)
        self.timeout = timeout
        self.in_flight = 0
        self.ready_at = 0.0
        self.failures = 0
        self.out = False
        self.trials = 0
        key = api_key()
        self._headers = {} if key else {"Authorization": openai.Omit()}
        self._client: Any = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=url,
            max_retries=0,
            timeout=openai.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
        )

    async def ask(self, body: Mapping[str, Any]) -> Answer:
        """Send one request; its JSON answer, or FailedRequestError."""
        import openai

        more = {k: v for k, v in body.items() if k not in ("model", "messages")}
        try:
            async with asyncio.timeout(self.timeout):
                answer = await self._client.chat.completions.with_raw_response.create(
                    model=body["model"],
                    messages=body["messages"],
                    extra_body=more,
                    extra_headers=self._headers,
                )
            content = json.loads(answer.text)
        except openai.APIStatusError as error:
            if _THOUGHT_TOO_LONG in error.response.text:
                return _CUT
            raise self._status(error.status_code, error.response) from error
        except (TimeoutError, openai.APITimeoutError) as error:
            raise self._failed(f"no answer in {self.timeout:g} s", error) from error
        except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError
            raise self._failed("an answer that is not JSON", error) from error
        except Exception as error:  # the client and its transport raise dozens of kinds
            reason = error.__cause__ or error
            text = f"{type(reason).__name__}: {reason}".removesuffix(": ")
            raise self._failed(f"no connection, or a cut one ({text})", error) from error
        if not isinstance(content, dict):
            raise self._failed("an answer that is no JSON object")
        return content

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _failed(self, text: str, error: Exception | None = None) -> FailedRequestError:
        cause = type(error.__cause__ if error else None).__name__
        unreachable = cause in ("ConnectError", "ConnectTimeout")
        return FailedRequestError(shown_text(text, 200), unreachable=unreachable, url=self.url)

    def _status(self, status: int, response: Any) -> FailedRequestError:
        body = response.text
        text = f"status {status}: {shown_text(message_of(body) or 'no message', 240)}"
        pause = pause_seconds(response.headers, time.time())
        return FailedRequestError(text, status=status, body=body, pause=pause, url=self.url)


def pause_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """How long `retry-after-ms` or Retry-After (seconds or a date) says to wait; None: nothing.

    `now`: seconds since 1970. A date that has passed is 0.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[name]) * scale
            if 0 <= seconds < float("inf"):
                return seconds
    with suppress(KeyError, ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - now)
    return None


class Fleet:
    """All servers of a run. Lives in one event loop."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        concurrency: int,
        requests_per_minute: float | None,
        timeout: float,
        retries: int,
        scale: float,
        say: Callable[[str], None],
    ) -> None:
        """`concurrency` is by server, `requests_per_minute` over all; waits grow from `scale` s."""
        self.servers = [Server(url, timeout) for url in urls]
        self.answered = False
        self._concurrency, self._retries, self._scale, self._say = concurrency, retries, scale, say
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_turn = 0.0
        self._changed = asyncio.Event()
        self._healing: set[asyncio.Task[None]] = set()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.check: Check | None = None

    async def close(self) -> None:
        """Give up what runs in the background, and close all connections."""
        for task in self._healing:
            task.cancel()
        await asyncio.gather(*self._healing, return_exceptions=True)
        for server in self.servers:
            await server.close()
        if not self.failure.cancel() and not self.failure.cancelled():
            self.failure.exception()  # seen, or asyncio complains

    @property
    def places(self) -> int:
        """Requests that may be in flight at once."""
        return self._concurrency * len(self.servers)

    async def ask(
        self, body: Body, read: Callable[[Answer], T], at: Server | None = None
    ) -> tuple[T, float]:
        """What `read` makes of the answer, and the seconds it took; again where that may help.

        `body` is made anew for every try. `at`: of this server only. Raises FailedRequestError when
        all tries failed, InfrastructureError where every server wants to be left alone for long.
        """
        last: Server | None = None
        pauses = 0  # a server that says when to come back has not failed

        def enough(state: RetryCallState) -> bool:
            nonlocal pauses
            error = state.outcome.exception() if state.outcome else None
            pauses += getattr(error, "pause", None) is not None
            return self._enough(error, state.attempt_number, pauses, at)

        async for attempt in AsyncRetrying(
            stop=enough,
            wait=self._wait,
            retry=retry_if_exception(lambda error: getattr(error, "retry", False)),
            reraise=True,
        ):
            with attempt:
                last = server = await self._ready(last, at)
                try:
                    return await self._asked(server, body(), read)
                finally:
                    self._leave(server)
        raise AssertionError("tenacity returns or raises")

    async def _asked(
        self, server: Server, body: Mapping[str, Any], read: Callable[[Answer], T]
    ) -> tuple[T, float]:
        started = time.monotonic()
        try:
            answer = await server.ask(body)
        except FailedRequestError as error:
            self._count(server, error)
            raise
        server.failures, server.trials = 0, 0
        self.answered = True
        try:
            return read(answer), time.monotonic() - started
        except FailedRequestError as error:
            error.url = server.url
            raise

    def _enough(
        self, error: BaseException | None, tries: int, pauses: int, at: Server | None
    ) -> bool:
        unreachable = isinstance(error, FailedRequestError) and error.unreachable
        if unreachable and (at or not self.answered):  # at the start: a wrong address, most likely
            return tries >= _TRIALS_UNREACHED * (1 if at else len(self.servers))
        return tries - pauses > self._retries or pauses > _MOST_PAUSES

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, FailedRequestError) and error.pause is not None:
            return wait_random(0, self._scale)(state)  # the server's pause, but not all at once
        return wait_random_exponential(self._scale, _LONGEST_WAIT * self._scale)(state)

    async def _turn(self) -> None:
        """Wait for this request's turn where only so many may be sent a minute."""
        now = time.monotonic()
        turn = max(now, self._next_turn)
        self._next_turn = turn + self._gap
        if turn > now:
            await asyncio.sleep(turn - now)

    async def _ready(self, avoid: Server | None, at: Server | None) -> Server:
        """A place at a server, and this request's turn; anew where the server is to pause now."""
        while True:
            server = await self._slot(avoid, at)
            try:
                await self._turn()
            except BaseException:
                self._leave(server)
                raise
            if not server.out and server.ready_at <= time.monotonic():
                return server
            self._leave(server)

    def _leave(self, server: Server) -> None:
        server.in_flight -= 1
        self._wake()

    async def _slot(self, avoid: Server | None, at: Server | None) -> Server:
        """Take a place at the least busy server that may be asked, another than `avoid` if any."""
        asked = [at] if at else self.servers
        while True:
            if self.failure.done():
                self.failure.result()
            if at and at.out:
                raise FailedRequestError("it is left out", retry=False, url=at.url)
            now = time.monotonic()
            room = [s for s in asked if not s.out and s.in_flight < self._concurrency]
            free = [s for s in room if s.ready_at <= now]
            if free:
                server = min(free, key=lambda s: (s is avoid, s.in_flight))
                server.in_flight += 1
                return server
            waits = [s.ready_at - now for s in asked]
            if waits and min(waits) > _LONGEST_PAUSE:
                raise InfrastructureError(
                    f"{asked[0].url}: wants to be left alone for {min(waits):.0f} s; give the same "
                    "command again then"
                )
            wait = min((s.ready_at - now for s in room), default=None)
            changed = self._changed
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _count(self, server: Server, error: FailedRequestError) -> None:
        """A refusal is a sign of life; failures in a row are none."""
        if error.pause is not None:
            server.ready_at = max(server.ready_at, time.monotonic() + error.pause)
        server.failures = server.failures + 1 if error.retry else 0
        if server.failures >= 2 * max(self._concurrency, 4):
            self.leave_out(server, error)

    def leave_out(self, server: Server, error: FailedRequestError) -> None:
        """Ask a server no more until it passes `check`."""
        if server.out:
            return
        server.out = True
        self._say(f"{server.url} is left out until it answers again ({error})")
        self._background(self._heal(server))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._healing.add(task)
        task.add_done_callback(self._healing.discard)

    async def _heal(self, server: Server) -> None:
        while True:
            pause = server.ready_at - time.monotonic()
            await asyncio.sleep(max(pause, self._scale * min(2.0**server.trials, _LONGEST_WAIT)))
            assert self.check is not None
            try:
                await self.check(server)
                break
            except PsplitError as error:
                self._end(error)
                return
            except FailedRequestError as error:
                if not error.retry:
                    break
                server.trials += 1
                if error.pause is not None:
                    server.ready_at = time.monotonic() + error.pause
                if all(server.out and server.trials >= _TRIALS for server in self.servers):
                    self._end(_no_servers(error))
                    return
            except Exception as error:  # a mistake of ours must not leave the others waiting
                kind = type(error).__name__
                self._end(InfrastructureError(f"{server.url}: cannot be asked ({kind}: {error})"))
                return
        server.out, server.failures, server.trials = False, 0, 0
        self._say(f"{server.url} answers again")
        self._wake()

    def _end(self, error: PsplitError) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)
            self._wake()


def _no_servers(error: FailedRequestError) -> InfrastructureError:
    return InfrastructureError(
        f"no server answers any more, {error.url} says: {error}; what was done is kept: give the "
        "same command again when one is back"
    )
