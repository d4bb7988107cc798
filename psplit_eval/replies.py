"""The forms that a judge's answer has, and what is read from its words: never a guess.

A form says how the answer is to look (a JSON schema, an example), reads what a judge wrote, and
lists every answer that there is, for judges that are asked for probabilities.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from psplit_eval.text import shortened

__all__ = ["FIRST", "LABELS", "Choice", "Form", "Scores", "UnreadableError", "Verdict"]

Verdict = Mapping[str, float]
"""Of scores: dimension → score. Of a choice: `FIRST` → 1 if the text shown first is better, 0 if
the other one is, 0.5 if neither."""

FIRST = "first"
LABELS = ("A", "B")
"""What the two texts of a comparison are called, in the order in which they are shown."""

_REASON, _BETTER, _TIE = "reason", "better", "tie"
_MOST_CHARACTERS = 200_000
_NOT = "not|no|never|hardly|scarcely|barely|neither|far"
_NO_OBJECT = f"of|than|to|over|between|from|among|either|or|{_NOT}"
_IN_PART = "at|written|told|structured|suited|known"
_DECORATION = re.compile(r"[*_`\"“”]+")
_NEAR = 120
_DENIAL = re.compile(
    r"(?:\b(?:not|cannot|never|nor|neither|either|doubt|or)|n['’]t)\s+(?:\w+\s+){0,5}$"
    r"|\b(?:whether|if|unless)\b[^.!?\n]*$",
    re.IGNORECASE,
)
_THOUGHT = re.compile(
    r"\A(?:(?!</?think>).)*+</think>|<think>(?:(?!</think>).)*+(?:</think>|\Z)", re.DOTALL
)
_JSON_BEGINS = re.compile(r"\{(?=\s*+[\"'“}])")
_TRAILING = re.compile(r",(?=\s*+[}\]])")
_ESCAPE = re.compile(r"\\([\"\\/bfnrt]|u[0-9a-fA-F]{4})?")
_QUOTE = re.compile(r"(?<=[{,:\[])(\s*+)'|'(?=\s*+[:,}\]])")
_ITEM = r"(?:^|[\n,;|([{•·#-]|\d[.)]|\b(?:and|are|scores?:))"
_FRACTION = r"\s*(?:/|out of)\s*"


class UnreadableError(ValueError):
    """An answer that says no verdict, several, or one out of range; the text says which."""


class Form(Protocol):
    """How an answer is to look."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The keys of a verdict."""

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value of a verdict."""

    def schema(self) -> dict[str, Any]:
        """JSON schema of the answer."""

    def example(self) -> str:
        """An answer as JSON, with what stands for what."""

    def read(self, text: str) -> Verdict:
        """What a judge's words say. Raises UnreadableError."""

    def answers(self, dimension: str) -> tuple[str, Mapping[str, float]]:
        """How an answer about one dimension begins, and every ending with its value.

        No ending is the beginning of another, so their probabilities are of whole answers.
        """


@dataclass(frozen=True)
class Scores:
    """A whole number from `low` to `high` for each of `names`.

    `reason`: a sentence of reasons comes first.
    """

    names: tuple[str, ...]
    low: int
    high: int
    reason: bool = False

    @property
    def dimensions(self) -> tuple[str, ...]:
        return self.names

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return _object(dict.fromkeys(self.names, number), self.reason)

    def example(self) -> str:
        parts = [f'"{name}": {self.low} to {self.high}' for name in self.names]
        return _shown(parts, self.reason)

    def read(self, text: str) -> Verdict:
        """From JSON, wherever it stands, or from lines such as 'creativity: 7/10'."""
        said, rest = _objects(_answer(text, self.example()), self.names)
        found = said or [dict(_lines(rest, self.names))]
        verdicts = {tuple(self._checked(values).items()) for values in found}
        if len(verdicts) > 1:
            raise UnreadableError(f"{len(verdicts)} different verdicts in one answer")
        return dict(verdicts.pop())

    def _checked(self, values: Mapping[str, Any]) -> dict[str, float]:
        found = {}
        for name in self.names:
            if name not in values:
                raise UnreadableError(f"no score for {name}")
            value = _number(values[name], self.high)
            if value is None:
                raise UnreadableError(f"{name} {shortened(values[name], 40)!r} is no number")
            if not self.low <= value <= self.high:
                raise UnreadableError(f"{name} {value:g} is not from {self.low} to {self.high}")
            found[name] = value
        return found

    def answers(self, dimension: str) -> tuple[str, Mapping[str, float]]:
        levels = range(self.low, self.high + 1)
        return f'{{"{dimension}": ', {f"{level}}}": float(level) for level in levels}


@dataclass(frozen=True)
class Choice:
    """Which of two texts is better, called `labels` in the order in which they are shown, or
    neither."""

    labels: tuple[str, str] = LABELS
    reason: bool = False

    @property
    def dimensions(self) -> tuple[str, ...]:
        return (FIRST,)

    @property
    def ends(self) -> tuple[float, float]:
        return 0, 1

    def schema(self) -> dict[str, Any]:
        return _object({_BETTER: {"type": "string", "enum": [*self.labels, _TIE]}}, self.reason)

    def example(self) -> str:
        one, other = self.labels
        return _shown([f'"{_BETTER}": "{one}", "{other}" or "{_TIE}"'], self.reason)

    def read(self, text: str) -> Verdict:
        """From JSON; else from a sentence that calls one text the better one, or the label alone.

        Judges reason before they decide, so of several such sentences the last one counts.
        """
        said, rest = _objects(_answer(text, self.example()), (_BETTER,))
        values = {self._value(found[_BETTER]) for found in said}
        if len(values) > 1:
            raise UnreadableError("two different verdicts in one answer")
        return {FIRST: values.pop() if values else self._said(rest)}

    def _value(self, said: object) -> float:
        name = _plain(str(said))
        one, other = map(_plain, self.labels)
        if name in (one, other, _TIE):
            return {one: 1.0, other: 0.0, _TIE: 0.5}[name]
        raise UnreadableError(f"{shortened(said, 40)!r} is none of {one}, {other}, {_TIE}")

    def _said(self, text: str) -> float:
        plain = _DECORATION.sub("", text).strip()
        alone = plain.strip(" .:()[]!").casefold()
        for label, value in zip(self.labels, (1.0, 0.0), strict=True):
            if alone == label.casefold().strip(" .:()[]"):
                return value
        if alone in (_TIE, f"a {_TIE}", "neither"):
            return 0.5
        found = list(self._conclusions(plain))
        if not found:
            raise UnreadableError(f"no single verdict in {shortened(text, 60)!r}")
        return found[-1]

    def _conclusions(self, text: str) -> Iterator[float]:
        """What every sentence says that calls a text better, in their order."""
        for match in self._pattern.finditer(text):
            said = match["label"] or match["named"]
            if _denied(text[max(0, match.start() - _NEAR) : match.start()]):
                continue
            yield 0.5 if said is None else float(said.casefold() == self.labels[0].casefold())

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Matches what calls a text better, by its label, or says that neither is."""
        either = "|".join(map(re.escape, self.labels))
        if min(map(len, self.labels)) == 1:  # 'a' is a word, too
            either = f"(?-i:{either})"
        edge, end = r"(?<![\w(])", r"(?!\w|\s+or\b|\s*/)"
        subject = rf"{edge}(?P<label>{either})(?!\w)\s+(?:is|was|seems|would be)\s+"
        gap = r"(?=\W)[^\w\n.!?]*+(?:(?<=:)[^\w.!?]*+)?"
        words = rf"(?:\s+(?!(?:{_NO_OBJECT})\b)\w+){{0,2}}?(?:\W+is)?"
        object_ = rf"{words}{gap}{edge}(?P<named>{either}){end}"
        return re.compile(
            rf"{subject}(?:(?!(?:{_NOT})\b)\w+\s+){{0,2}}?(?:better|best|superior|preferred)\b"
            rf"(?!\s+(?:{_IN_PART})\b)"
            rf"|\b(?:better|winner|verdict|choice|prefer\w*){object_}"
            r"|\b(?:(?:is|was|call it|call this|declare|it['’]?s) a tie|verdict\W++tie"
            r"|equally good|neither (?:\w+ ){0,3}is better)\b",
            re.IGNORECASE,
        )

    def answers(self, dimension: str) -> tuple[str, Mapping[str, float]]:
        one, other = self.labels
        return f'{{"{_BETTER}": "', {f'{one}"}}': 1.0, f'{other}"}}': 0.0, f'{_TIE}"}}': 0.5}


def _object(properties: Mapping[str, Any], reason: bool) -> dict[str, Any]:
    named = {**({_REASON: {"type": "string"}} if reason else {}), **properties}
    return {
        "type": "object",
        "properties": named,
        "required": list(named),
        "additionalProperties": False,
    }


def _shown(parts: Sequence[str], reason: bool) -> str:
    said = [f'"{_REASON}": "one sentence"', *parts] if reason else parts
    return "{" + ", ".join(said) + "}"


def _answer(text: str, example: str) -> str:
    """Without what a model thought, to the end or not, and without the example it was given.

    Raises UnreadableError for a text that is too long to be a verdict.
    """
    if len(text) > _MOST_CHARACTERS:
        raise UnreadableError(f"an answer of {len(text):,} characters")
    return _THOUGHT.sub("", text).replace(example, "")


def _objects(text: str, names: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Every JSON object with one of these keys at its top or one object further in; and the text
    without any JSON, in whose sentences any verdict may be quoted.

    Raises UnreadableError for what looks like JSON and is none.
    """
    known = {_key(name): name for name in names}
    try:
        found = list(_decoded(text))
    except _BrokenError:
        text = _repaired(text)
        found = list(_decoded(text))
    said = [keyed for each, _, _ in found for keyed in _candidates(each, known)]
    ends = [0, *(end for _, _, end in found)]
    starts = [*(start for _, start, _ in found), len(text)]
    return said, " ".join(text[end:start] for end, start in zip(ends, starts, strict=True))


class _BrokenError(ValueError):
    """What looks like JSON and is none."""


def _decoded(text: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Every JSON object with where it begins and ends. Raises _BrokenError."""
    decoder = json.JSONDecoder(object_pairs_hook=_once, strict=False)
    place = 0
    while begun := _JSON_BEGINS.search(text, place):
        try:
            found, place = decoder.raw_decode(text, begun.start())
        except (ValueError, RecursionError) as error:
            raise _BrokenError("broken JSON") from error
        yield found, begun.start(), place


def _repaired(text: str) -> str:
    """With what weak writers get wrong and what can mean one thing only put right: commas before a
    brace, escapes that JSON lacks, single quotes, and a last brace left out after another."""
    mended = _ESCAPE.sub(lambda m: m[0] if m[1] else r"\\", _TRAILING.sub("", text))
    if '"' not in mended:
        mended = _QUOTE.sub(r'\1"', mended)
    mended = mended.rstrip("` \n")
    for tried in (mended, f"{mended}}}" if mended.endswith("}") else mended):
        with suppress(_BrokenError):
            list(_decoded(tried))
            return tried
    raise UnreadableError("broken JSON")


def _candidates(found: dict[str, Any], known: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The object, or those right inside it, where they have one of the keys."""
    inside = [value for value in found.values() if isinstance(value, dict)]
    for each in (found, *inside):
        keyed = [(known[_key(key)], value) for key, value in _items(each) if _key(key) in known]
        if len(dict(keyed)) < len(keyed):
            raise UnreadableError("one key twice")
        if keyed:
            yield dict(keyed)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; raises ValueError where a key stands there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _items(found: Any) -> Iterator[tuple[str, Any]]:
    """Of an object; an entry such as {"score": 7} counts as its number."""
    for key, value in found.items() if isinstance(found, dict) else ():
        scored = isinstance(value, dict) and "score" in value
        yield key, value["score"] if scored else value


def _key(name: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", str(name).casefold()))


def _lines(text: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """'Narrative flow: **7**/10' of each name, at the beginning of a line or of a list's item.

    One that is there twice with two numbers is none.
    """
    plain = _DECORATION.sub("", text)
    for name in names:
        words = r"[\s_-]*".join(map(re.escape, name.split("_")))
        number = (
            rf"{_ITEM}[^\S\n]*+{words}(?:\s+score)?\s*[:=|–-]\s*"
            rf"([+-]?\d{{1,9}}(?:\.\d{{1,9}})?(?:{_FRACTION}\d{{1,9}})?)"
            r"(?![\w/%]|[.,]\d|\s*(?:/|out\b|of\b)|\s*(?:[–—~-]|to|or)\s*\d)"
        )
        found = {match.strip() for match in re.findall(number, plain, re.IGNORECASE)}
        if len(found) > 1:
            raise UnreadableError(f"{len(found)} different scores for {name}")
        if found:
            yield name, found.pop()


def _number(value: Any, high: int) -> float | None:
    """A number, or text such as '7', '7/10' and '7 out of 10' (of this scale); else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        number = float(value) if abs(value) < 1e15 else math.nan
        return number if math.isfinite(number) else None
    if not isinstance(value, str):
        return None
    match = re.fullmatch(
        rf"\s*([+-]?\d{{1,9}}(?:\.\d{{1,9}})?)(?:{_FRACTION}(\d{{1,9}}))?\s*", value, re.IGNORECASE
    )
    if not match or (match[2] and int(match[2]) != high):
        return None
    return float(match[1])


def _plain(label: str) -> str:
    return _DECORATION.sub("", label).strip(" .()[]").casefold()


def _denied(before: str) -> bool:
    """Whether the words before a sentence turn it round, or make it a question."""
    return bool(_DENIAL.search(before))
