"""A chat server that is a judge: it answers questions as it is told, and all else as usual."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from faultserver import FaultServer

from psplit_eval.rubrics import find_rubric

STORY = find_rubric("story")
SEVENS = dict.fromkeys(STORY.names, 7)
GOOD = json.dumps({"reason": "Fine."} | SEVENS)
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


def said(content: Any, finish: str = "stop", usage: Any = USAGE, **more: Any) -> tuple[int, Any]:
    message = {"role": "assistant", "content": content, **more}
    return 200, {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def is_question(body: dict[str, Any]) -> bool:
    return "writing prompt" in body["messages"][0]["content"]


def way(body: dict[str, Any]) -> str:
    """How a server is told the form of an answer."""
    form = body.get("response_format", {})
    return form.get("type", "words") + (" with schema" if "schema" in form else "")


class Server(FaultServer):
    """Questions are answered by `say(body, number)`, all else as usual; `takes` ways of asking."""

    def __init__(
        self,
        say: Callable[[dict[str, Any], int], Any] = lambda body, number: said(GOOD),
        takes: set[str] | None = None,
        refusal: tuple[int, Any] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(judge=self.said, **more)
        self.say, self.ways, self.refusal = say, takes, refusal
        self.number, self.counting = 0, threading.Lock()

    def said(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        if not is_question(body):
            return None
        if self.ways is not None and way(body) not in self.ways:
            return self.refusal or (400, {"error": {"message": "unknown response_format"}})
        with self.counting:
            self.number += 1
            number = self.number
        found: tuple[int, Any] = self.say(body, number)
        return found

    @property
    def questions(self) -> list[dict[str, Any]]:
        return [seen.body for seen in self.seen if is_question(seen.body)]
