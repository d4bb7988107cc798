"""Who judges: a model behind servers, a checkpoint in process, or verdicts that were recorded.

A judge is named KIND:NAME, such as openai:MODEL@URL, hf:NAME or recorded:FILE. Whatever it is, it
answers questions with verdicts, or says why there is none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.files import disk_errors
from psplit_eval.replies import Verdict
from psplit_eval.requests import digest
from psplit_eval.rubrics import Question
from psplit_eval.servers import check_url, shown_url
from psplit_eval.text import shortened

__all__ = ["KINDS", "UNRECORDED", "Judge", "JudgeName", "RecordedJudge", "Reply"]

T = TypeVar("T")

KINDS = ("openai", "hf", "recorded")
UNRECORDED = "not recorded"
"""Why a recorded judge has no verdict on what it was never asked."""
_OPENAI = "https://api.openai.com/v1"
_TOGETHER = 64
_FORM = "openai:MODEL, openai:MODEL@URL, hf:NAME or recorded:FILE"


@dataclass(frozen=True)
class JudgeName:
    """A judge as it is named on a command line and in results."""

    kind: str
    model: str
    url: str = ""

    @classmethod
    def parse(cls, text: str) -> JudgeName:
        """Without a URL, that of OPENAI_BASE_URL, or else OpenAI's own.

        Raises UsageError or UnknownNameError for anything but what `KINDS` are named by.
        """
        kind, separator, rest = text.partition(":")
        if not separator or not rest.strip():
            raise UsageError(f"--judge {text!r}: expected {_FORM}")
        if kind not in KINDS:
            raise UnknownNameError("kind of judge", kind, KINDS)
        if kind != "openai":
            return cls(kind, rest)
        found = re.search(r"@(?=https?://)", rest)
        known = os.environ.get("OPENAI_BASE_URL", "").strip() or _OPENAI
        model, url = (rest[: found.start()], rest[found.end() :]) if found else (rest, known)
        if not model or "@http" in url:
            shown = re.sub(r"https?://\S+", lambda found: shown_url(found[0]), text)
            raise UsageError(f"--judge {shown!r}: expected {_FORM}")
        check_url(url, "--judge")
        return cls(kind, model, url.rstrip("/"))

    def __str__(self) -> str:
        """Without anything that a URL hides."""
        return f"{self.kind}:{self.model}" + (f"@{shown_url(self.url)}" if self.url else "")

    @property
    def slug(self) -> str:
        """For names of files."""
        return re.sub(r"[^A-Za-z0-9.-]+", "-", f"{self.kind}-{self.model}").strip("-.")[:80]


@dataclass(frozen=True)
class Reply:
    """What came of a question: a verdict, or why there is none (see `ledger.Call`)."""

    verdict: Verdict | None
    unreadable: str | None = None
    error: str | None = None
    text: str | None = None
    detail: Mapping[str, Any] | None = field(default=None)
    tries: int = 1
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0


class Judge(Protocol):
    """Answers questions."""

    name: str
    writes: bool
    """Whether it writes its answer, so that it may give a reason first."""
    special: tuple[str, ...]
    """Its own control tokens, as far as they are known."""
    by_name: bool
    """Whether it goes by a question's name (`Question.about`), which is content then."""

    def describe(self) -> dict[str, Any]:
        """Settings that a verdict depends on; what is at 'identity' is part of a call's content."""

    def ask(self, questions: Iterable[tuple[T, Question]]) -> Iterator[list[tuple[T, Reply]]]:
        """Answer questions, taken one by one as there is room; each comes back with its key, in
        any order. Raises UsageError or InfrastructureError for what would fail every other one."""

    def expected_tokens(self, question: Question) -> tuple[float, float]:
        """About how many tokens are read and written; nothing is asked."""

    def most_tokens(self, question: Question) -> tuple[float, float]:
        """What is read and written at most, all tries together."""


class RecordedJudge:
    """Verdicts that were recorded: JSON Lines of {"about": NAME, "verdict": {…} or null}.

    Answers questions that carry such a name (`Question.about`); null, and what is not recorded, is
    a missing verdict.
    """

    writes = by_name = True
    special: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        """Read the file. Raises DataError."""
        self.name = f"recorded:{path.name}"
        self._verdicts: dict[str, Verdict | None] = {}
        for about, verdict in _recorded(path):
            if self._verdicts.setdefault(about, verdict) != verdict:
                raise DataError(f"{path}: two verdicts about {about!r}; take one out")

    def describe(self) -> dict[str, Any]:
        """Another file under the same name is another judge."""
        identity = digest(self._verdicts)
        return {"kind": "recorded", "verdicts": len(self._verdicts), "identity": identity}

    def ask(self, questions: Iterable[tuple[T, Question]]) -> Iterator[list[tuple[T, Reply]]]:
        items = iter(questions)
        while some := list(islice(items, _TOGETHER)):
            yield [(key, self._reply(question)) for key, question in some]

    def _reply(self, question: Question) -> Reply:
        if question.about not in self._verdicts:
            return Reply(None, unreadable=UNRECORDED)
        verdict = self._verdicts[question.about]
        if verdict is None:
            return Reply(None, unreadable="recorded without a verdict")
        if set(verdict) != set(question.form.dimensions):
            return Reply(None, unreadable=f"recorded with {', '.join(verdict) or 'nothing'}")
        low, high = question.form.ends
        for name, value in verdict.items():
            if not low <= value <= high:
                return Reply(None, unreadable=f"{name} {value:g} is not from {low} to {high}")
        return Reply(verdict)

    def expected_tokens(self, question: Question) -> tuple[float, float]:
        return 0.0, 0.0

    def most_tokens(self, question: Question) -> tuple[float, float]:
        return 0.0, 0.0


def _recorded(path: Path) -> Iterator[tuple[str, Verdict | None]]:
    if not path.is_file():
        raise DataError(f"--judge recorded:{path}: no such file; give a JSON Lines file")
    with disk_errors(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            verdict = row["verdict"]
            known = None if verdict is None else {str(k): float(v) for k, v in verdict.items()}
            yield str(row["about"]), known
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: {shortened(line, 60)!r}, expected an object with 'about' "
                f"and 'verdict' ({error.__class__.__name__}); correct it"
            ) from error
