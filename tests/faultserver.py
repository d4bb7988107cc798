"""A chat server that speaks OpenAI's protocol, answers by seed, and fails on purpose.

Its answers are made of random words that depend on the messages, the settings and the seed; every
word is a token. All that arrives is kept in `seen`, in its order, with the server's own clock.
"""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

FAULTS = (
    *("429", "429-after", "500", "cut", "cut-body", "html", "broken-json", "null", "no-choices"),
    "stall",
)
NAMES = (" red", " blue", " stone", " river", " seven", " sings")
WORDS = (*NAMES, " 3", " 12", " over", " under", " night", " and")


@dataclass
class Seen:
    """One request that arrived: when (seconds), what it asked, and the fault that it met."""

    at: float
    body: dict[str, Any]
    headers: Mapping[str, str]
    fault: str | None = None
    port: int = 0

    @property
    def messages(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.body["messages"]
        return found


@dataclass
class FaultServer:
    """Use as a context manager; `url` is what to give as --base-url.

    `script`: a fault or None for each request in its order, then none; or `rate`: the share of
    requests that fail, as `seed` has it, with one of `kinds`. `refuses`: parameter → (status, body)
    for requests that have it. `judge` may answer a body with (status, JSON) or None. `thinks`:
    'field', 'tags' or 'open' (no opening tag). `takes`: seconds an answer takes.
    """

    script: Iterable[str | None] = ()
    rate: float = 0.0
    kinds: tuple[str, ...] = FAULTS
    seed: int = 0
    key: str | None = None
    models: tuple[str, ...] = ("m",)
    refuses: Mapping[str, tuple[int, Any]] = field(default_factory=dict)
    judge: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda body: None
    ignores_seed: bool = False
    repeats: bool = True
    drops_system: bool = False
    thinks: str | None = None
    logprobs: bool = True
    ids: bool = False
    honours_stop: bool = True
    retry_after: tuple[str, str] = ("retry-after-ms", "300")
    port: int = 0
    url: str = ""
    takes: float = 0.0
    busiest: int = 0
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._script = deque(self.script)
        self._random = random.Random(self.seed)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._in_flight = 0
        self._server = _Server(self)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Gone at once: connections that are open are cut."""
        self._stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def faults(self) -> int:
        return sum(seen.fault is not None for seen in self.seen)

    def arrived(self, body: dict[str, Any], headers: Mapping[str, str]) -> str | None:
        """Note a request; the fault that it meets."""
        with self._lock:
            fault = self._script.popleft() if self._script else None
            if self.rate and self._random.random() < self.rate:
                fault = self._random.choice(self.kinds)
            self.seen.append(
                Seen(
                    time.monotonic(),
                    body,
                    {k.lower(): v for k, v in headers.items()},
                    fault,
                    self.port,
                )
            )
            return fault

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._lock:
            self._in_flight += 1
            self.busiest = max(self.busiest, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def stall(self) -> None:
        self._stop.wait(60)

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.models and body["model"] not in self.models:
            return 404, _error(f"The model `{body['model']}` does not exist.")
        for name, refusal in self.refuses.items():
            if name in body:
                return refusal
        judged = self.judge(body)
        if judged is not None:
            return judged
        time.sleep(self.takes)
        return 200, self._completion(body)

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = body["messages"]
        if self.drops_system:
            messages = [message for message in messages if message["role"] != "system"]
        words, finish = self._words(body, messages)
        content = "".join(words)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self.thinks == "field":
            message |= {"reasoning_content": "Let me see."}
        elif self.thinks:
            message |= {"content": "<think>" * (self.thinks == "tags") + f"Hm.\n</think>{content}"}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {"content": [_position(word, body) for word in words]}
        if body.get("return_token_ids") and self.ids:
            choice["token_ids"] = [WORDS.index(word) for word in words]
        prompt = sum(3 + len(message["content"].split()) for message in messages)
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words)}
        return {"object": "chat.completion", "choices": [choice], "usage": usage}

    def _words(self, body: dict[str, Any], messages: Any) -> tuple[list[str], str]:
        seed = 0 if self.ignores_seed or not body.get("temperature", 1.0) else body.get("seed")
        again = None if self.repeats and seed is not None else random.random()
        source = random.Random(json.dumps([messages, seed, again, body.get("temperature")]))
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        wanted = source.randint(1, 60)
        words = [source.choice(WORDS) for _ in range(min(limit, wanted))]
        finish = "stop" if wanted < limit else "length"
        for i in range(len(words) if self.honours_stop else 0):
            text = "".join(words[: i + 1])
            if any(stop in text for stop in body.get("stop", [])):
                return words[:i], "stop"
        return words, finish


def _position(word: str, body: dict[str, Any]) -> dict[str, Any]:
    """Every word has probability 1 / 16; the 12 that there are come to less than 1."""
    logprob = -math.log(16)
    tops = [{"token": w, "logprob": logprob} for w in WORDS[: body.get("top_logprobs", 0)]]
    return {"token": word, "logprob": logprob, "bytes": None, "top_logprobs": tops}


def _error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": None, **more}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, owner: FaultServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", owner.port), _Handler)

    def process_request(self, request: Any, address: Any) -> None:
        self._open.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            self.shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is nothing to talk about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        listed = {"data": [{"id": name} for name in self.server.owner.models]}
        self.reply(*((200, listed) if self.path == "/v1/models" else (404, _error("no"))))

    def do_POST(self) -> None:
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self.reply(404, {"detail": "Not Found"})
        given = self.headers.get("Authorization")
        if owner.key is not None and given != f"Bearer {owner.key}":
            return self.reply(401, _error(f"Incorrect API key provided: {given}"))
        fault = owner.arrived(body, self.headers)
        with owner.busy():
            if fault is None:
                reply = owner.answer(body)
            else:
                return self.fail(fault)
        return self.reply(*reply)

    def fail(self, fault: str) -> None:
        if fault == "stall":
            self.server.owner.stall()
        if fault in ("stall", "cut"):
            self.cut()
        elif fault == "cut-body":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")
            self.cut()
        elif fault == "html":
            self.reply(200, b"<html>busy</html>", "text/html")
        elif fault == "broken-json":
            self.reply(200, b'{"choices": [')
        elif fault in ("null", "no-choices"):
            message = {"role": "assistant", "content": None}
            choices = [{"message": message, "finish_reason": "stop"}] * (fault == "null")
            self.reply(200, {"choices": choices})
        elif fault == "429-after":
            self.reply(429, _error("slow down"), more=self.server.owner.retry_after)
        else:
            self.reply(int(fault), _error(f"made to fail with {fault}"))

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reply(
        self,
        status: int,
        content: Any,
        kind: str = "application/json",
        more: tuple[str, str] | None = None,
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        fields = [("Content-Type", kind), ("Content-Length", str(len(data)))]
        head = "".join(f"{k}: {v}\r\n" for k, v in [*fields, *([more] if more else [])])
        self.wfile.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + data)

    def log_message(self, *_: Any) -> None:
        """Silent."""
