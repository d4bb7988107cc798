"""Many questions to one judge: each is paid for once, kept at once, and the budget holds.

What the ledger has is not asked again; equal questions are one. Tokens are counted for every
answer, readable or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.files import disk_errors
from psplit_eval.judges import Judge, JudgeName, Reply
from psplit_eval.ledger import ESTIMATED, Call, Ledger
from psplit_eval.replies import Choice
from psplit_eval.requests import digest
from psplit_eval.rubrics import Question, Rubric
from psplit_eval.text import shortened

__all__ = [
    "Bill",
    "Inquiry",
    "Price",
    "asked_as",
    "check_budget",
    "judge_key",
    "price_of",
    "read_prices",
]

Key = TypeVar("Key")
Heard = Callable[[int], None]

_PORTION = 256


@dataclass(frozen=True)
class Price:
    """Of a million tokens that are read and that are written."""

    read: float
    written: float
    currency: str = ""

    def of(self, read: float, written: float) -> float:
        """What so many tokens cost."""
        return (read * self.read + written * self.written) / 1e6

    def shown(self, cost: float) -> str:
        """A cost as text."""
        return f"{cost:,.{4 if cost < 1 else 2}f} {self.currency}".strip()


def read_prices(path: Path) -> dict[str, Price]:
    """Judge's model → price, from YAML or JSON such as {MODEL: {read: 0.4, written: 1.6}}.

    Per million tokens; `currency` is a word for output. Raises DataError.
    """
    form = "MODEL: {read: 0.4, written: 1.6, currency: USD}, per million tokens"
    if not path.is_file():
        raise DataError(f"--prices {str(path)!r}: no such file; give one with {form}")
    with disk_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise DataError(f"--prices {path}, line {line}: no YAML; give {form}") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"--prices {path}: no table; give {form}")
    return {str(name): _price(path, str(name), entry, form) for name, entry in content.items()}


def _price(path: Path, name: str, entry: object, form: str) -> Price:
    known = entry if isinstance(entry, dict) else {}
    values = [known.get(part) for part in ("read", "written")]
    sound = all(
        isinstance(v, int | float) and not isinstance(v, bool) and not v > 1e15 for v in values
    )
    if not sound or set(known) - {"read", "written", "currency"}:
        raise DataError(f"--prices {path}: {name}: {shortened(entry, 60)}, expected {form}")
    read, written = (float(value or 0) for value in values)
    if not (0 <= read < math.inf and 0 <= written < math.inf):
        raise DataError(f"--prices {path}: {name}: a price below 0, expected {form}")
    return Price(read, written, str(known.get("currency", "")))


def price_of(prices: Mapping[str, Price], name: JudgeName) -> Price | None:
    """Of a judge by its whole name or its model's; None without a table.

    Judges in process and recorded ones are free unless the table has them. Raises UnknownNameError
    where it has others only.
    """
    if not prices:
        return None
    found = prices.get(str(name)) or prices.get(name.model)
    if found is None and name.kind != "openai":
        return Price(0.0, 0.0, next(iter(prices.values())).currency)
    if found is None:
        raise UnknownNameError("model in --prices", name.model, prices)
    return found


def check_budget(price: Price | None, max_cost: float | None) -> None:
    """Raises UsageError for a `max_cost` that is no amount, or has no price to go with."""
    if max_cost is not None and not 0 < max_cost < math.inf:
        raise UsageError(f"--max-cost {max_cost:g}: expected a number above 0")
    if max_cost is not None and price is None:
        raise UsageError(f"--max-cost {max_cost:g}: no price is known; give --prices FILE")


def judge_key(judge: Judge) -> str:
    """What of a judge its answers depend on: its name, and what it calls its identity."""
    return asked_as(judge.name, judge.describe())


def asked_as(name: str, settings: Mapping[str, Any]) -> str:
    """The same of a judge that was asked with these settings."""
    return digest(name, settings.get("identity"))


@dataclass
class Bill:
    """What an inquiry has taken so far, beside what earlier ones of the same judge took.

    `known`: questions whose answer was there. `left`: questions that the budget did not allow, the
    dearest of which could cost `dearest`, whatever their answers take.
    `cost` and `earlier` are NaN without a price; `estimated`: some tokens were not told.
    """

    asked: int = 0
    known: int = 0
    unreadable: int = 0
    failed: int = 0
    left: int = 0
    dearest: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    cost: float = 0.0
    earlier: float = 0.0
    estimated: bool = False


class _Pass(Generic[Key]):
    """Where the items of one inquiry are: to come, waiting for an answer, by content, or ready.

    `paused`: the budget does not allow the next question before those on their way are answered.
    """

    def __init__(self, items: Iterator[tuple[Call | None, Key, Question, str]]) -> None:
        self.items, self.paused = items, False
        self.ready: list[tuple[Key, Call]] = []
        self.waiting: dict[str, list[Key]] = {}
        self.asked: dict[str, Question] = {}
        self.settled: dict[str, Call] = {}

    def settle(self, call: Call) -> None:
        self.settled[call.call_hash] = call
        self.ready += [(key, call) for key in self.waiting.pop(call.call_hash)]


class Inquiry:
    """Asks one judge by one rubric, through a ledger.

    With `max_cost`, no question is asked that could bring the costs of this judge in this ledger,
    earlier ones included, above it, whatever it and those on their way take at most.
    """

    def __init__(
        self,
        judge: Judge,
        ledger: Ledger,
        rubric: Rubric,
        price: Price | None = None,
        max_cost: float | None = None,
    ) -> None:
        """Raises as `check_budget`."""
        check_budget(price, max_cost)
        self.judge, self.rubric = judge, rubric
        self._ledger, self._price, self._max_cost = ledger, price, max_cost
        self._key = judge_key(judge)
        self.bill = Bill()
        spent = ledger.spent(judge.name)
        if price:
            self.bill.earlier = price.of(
                spent.prompt_tokens + spent.estimated_read,
                spent.completion_tokens + spent.estimated_written,
            )
        self._written = spent.completion_tokens / spent.counted if spent.counted else None
        self._on_their_way: dict[str, float] = {}
        """Content → what its answer may cost at most."""

    def introduce(self) -> bool:
        """Record the judge, as it is asked now, and the rubric (see `Ledger.introduce`)."""
        rubric = self.rubric
        settings = self.judge.describe()
        return self._ledger.introduce(self.judge.name, settings, rubric.hash, rubric.to_dict())

    def settle(
        self, items: Iterable[tuple[Key, Question]], heard: Heard = lambda _: None
    ) -> Iterator[list[tuple[Key, Call]]]:
        """The call of every item that has one; new calls are committed before they are given.

        `heard` is told how many items are settled. Raises as `Judge.ask`.
        """
        going = _Pass(self._looked_up(items))
        while True:
            going.paused = False
            for replies in chain(self.judge.ask(self._lacking(going)), [[]]):
                together = self._settled(replies, going)
                heard(len(together))
                if together:
                    yield together
            self._on_their_way.clear()
            if not going.paused:
                return

    def _settled(
        self, replies: Iterable[tuple[str, Reply]], going: _Pass[Key]
    ) -> list[tuple[Key, Call]]:
        """Keep what came of some questions; the items that have a call now."""
        calls = [self._call(content, going.asked.pop(content), reply) for content, reply in replies]
        self._ledger.add(calls)
        for call in calls:
            self._count(call)
            going.settle(call)
        together, going.ready = going.ready, []
        return together

    def _lacking(self, going: _Pass[Key]) -> Iterator[tuple[str, Question]]:
        """Questions that must be asked, each once, as far as the budget allows."""
        for known, key, question, content in going.items:
            call = known or going.settled.get(content)
            if call is not None:
                self.bill.known += 1
                going.ready.append((key, call))
            elif content in going.waiting:
                going.waiting[content].append(key)
            elif self._allowed(content, question):
                going.waiting[content] = [key]
                going.asked[content] = question
                yield content, question
            elif self._on_their_way:
                going.items = chain([(known, key, question, content)], going.items)
                going.paused = True
                return
            else:
                self.bill.left += 1

    def _looked_up(
        self, items: Iterable[tuple[Key, Question]]
    ) -> Iterator[tuple[Call | None, Key, Question, str]]:
        """Every item with its call, as far as the ledger has it, and the hash of its content."""
        left = iter(items)
        while some := list(islice(left, _PORTION)):
            hashes = [q.content_hash(self._key, self.judge.by_name) for _, q in some]
            known = self._ledger.answered(hashes)
            for (key, question), content in zip(some, hashes, strict=True):
                yield known.get(content), key, question, content

    def expected(self, items: Iterable[tuple[Key, Question]]) -> Bill:
        """What settling the items would take; nothing is asked."""
        bill, seen = Bill(earlier=self.bill.earlier, estimated=True), set[str]()
        for known, _, question, content in self._looked_up(items):
            if known or content in seen:
                bill.known += 1
                continue
            seen.add(content)
            bill.asked += 1
            read, written = self._tokens(question)
            bill.prompt_tokens += read
            bill.completion_tokens += written
        if self._price:
            bill.cost = self._price.of(bill.prompt_tokens, bill.completion_tokens)
        return bill

    def _tokens(self, question: Question) -> tuple[float, float]:
        read, written = self.judge.expected_tokens(question)
        return read, written if self._written is None else self._written

    def _allowed(self, content: str, question: Question) -> bool:
        if self._price is None:
            return True
        likely = self._price.of(*self._tokens(question))
        most = max(likely, self._price.of(*self.judge.most_tokens(question)))
        going = sum(self._on_their_way.values())
        spent = self.bill.earlier + self.bill.cost
        if self._max_cost is not None and spent + going + most > self._max_cost:
            if not going:
                self.bill.dearest = max(self.bill.dearest, most)
            return False
        self._on_their_way[content] = most
        return True

    def _call(self, content: str, question: Question, reply: Reply) -> Call:
        detail = reply.detail
        if reply.error is None and None in (reply.prompt_tokens, reply.completion_tokens):
            read, written = self._tokens(question)
            guess = [read * reply.tries, written * reply.tries]
            detail = {**(detail or {}), ESTIMATED: guess}
        return Call(
            call_hash=content,
            judge=self.judge.name,
            rubric_hash=self.rubric.hash,
            kind=_kind(question),
            verdict=reply.verdict,
            unreadable=reply.unreadable,
            error=reply.error,
            reply=reply.text,
            detail=detail,
            tries=reply.tries,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            seconds=reply.seconds,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _count(self, call: Call) -> None:
        bill = self.bill
        bill.asked += 1
        bill.unreadable += call.unreadable is not None
        bill.failed += call.error is not None
        self._on_their_way.pop(call.call_hash, None)
        guess = (call.detail or {}).get(ESTIMATED)
        bill.estimated = bill.estimated or guess is not None
        # what was not answered is not paid for
        read, written = guess or (call.prompt_tokens or 0, call.completion_tokens or 0)
        bill.prompt_tokens += read
        bill.completion_tokens += written
        bill.cost += self._price.of(read, written) if self._price else 0.0


def _kind(question: Question) -> str:
    return "choice" if isinstance(question.form, Choice) else "scores"
