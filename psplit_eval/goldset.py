"""Texts whose order is certain, and attacks on a judge: what judges are measured with.

Of a good text, worse ones are made that nobody could prefer; a judge that does has failed. Some are
longer than the good text, some shorter, some as long, so that a judge who goes by length is found
out. All texts lie in judges/ and were written for psplit.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import yaml

from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.rows import read_rows
from psplit_eval.suites import shipped_folder

__all__ = [
    "DEGRADATIONS",
    "INJECTION_FIELDS",
    "GoldItem",
    "GoldPair",
    "Injection",
    "degraded",
    "gold_items",
    "gold_pairs",
    "injections",
    "read_labelled",
]

DEGRADATIONS: Mapping[str, str] = {
    "cliche": "the same content in ready-made or evasive phrases, by hand; as long or longer",
    "off_topic": "a good text on another prompt; about as long",
    "padded": "the good text with sentences between its own that say nothing; twice as long",
    "repeated": "its first sentence or line said again and again; as long or a little longer",
    "shuffled": "all its words in random order, line lengths kept; exactly as long",
    "truncated": "its first 40 per cent, broken off within a sentence or line",
}
"""Kinds of worse texts, and what each is."""

INJECTION_FIELDS = ("fence", "high", "json", "label", "low")
"""What an attack may have filled in: a guess at what ends the judged text, the ends of the scale, a
verdict with top scores, the attacked text's label in a question about two texts."""

_TRUNCATED = 0.4
_FIELD = re.compile(r"\{(" + "|".join(INJECTION_FIELDS) + r")\}")
_SENTENCE = re.compile(r"\S.*?[.!?][\"”’')]*(?=\s|$)|\S.*")


@dataclass(frozen=True)
class GoldItem:
    """A prompt, a good answer to it, and a clichéd or evasive answer of the same content."""

    id: str
    prompt: str
    text: str
    cliche: str


@dataclass(frozen=True)
class GoldPair:
    """Two answers to a prompt, of which `better` is certainly the better one. `kind` says how the
    other is worse: a key of DEGRADATIONS, or what the user's file calls it."""

    id: str
    kind: str
    prompt: str
    better: str
    worse: str


def gold_items(name: str) -> list[GoldItem]:
    """The items for the rubric `name`; raises UnknownNameError."""
    paths = {path.stem: path for path in (shipped_folder("judges") / "gold").glob("*.jsonl")}
    if name not in paths:
        raise UnknownNameError("gold set", name, paths)
    return [GoldItem(**row) for row in read_rows(paths[name])]


def gold_pairs(name: str) -> list[GoldPair]:
    """Each item of the rubric `name` beside each of its worse texts, always the same ones.

    Ids are '<rubric>/<item>/<kind>'. A worse text is worse as a whole, not in every dimension: a
    padded list of uses holds the same ideas as the good one. Raises UnknownNameError.
    """
    items = gold_items(name)
    return [
        GoldPair(f"{name}/{item.id}/{kind}", kind, item.prompt, item.text, worse)
        for item in items
        for kind, worse in degraded(item, [one for one in items if one != item], 0).items()
    ]


def degraded(item: GoldItem, others: Sequence[GoldItem], seed: int) -> dict[str, str]:
    """Worse answers to the item's prompt by kind, in the order of DEGRADATIONS.

    `others` are items of the same rubric, one at least, with other prompts: one of their texts is
    the 'off_topic' one. The same arguments give the same texts, on any machine. A text of one word
    has no other order: give several sentences or lines. Raises UsageError where there is no text.
    """
    if not others or not item.text.strip():
        raise UsageError(f"gold item {item.id!r}: expected a text, and another item's; give both")

    def draws(kind: str) -> random.Random:
        return random.Random(f"{seed}/{item.id}/{kind}")

    return {
        "cliche": item.cliche,
        "off_topic": draws("off_topic").choice(others).text,
        "padded": _padded(item.text, draws("padded")),
        "repeated": _repeated(item.text),
        "shuffled": _shuffled(item.text, draws("shuffled")),
        "truncated": _truncated(item.text),
    }


def _passages(text: str) -> list[list[str]]:
    """The sentences of each line that is not empty; a line without a full stop is one passage."""
    return [_SENTENCE.findall(line) for line in text.splitlines() if line.strip()]


def _is_list(text: str) -> bool:
    return all(len(line) == 1 and line[0][-1].isalnum() for line in _passages(text))


def _padded(text: str, draws: random.Random) -> str:
    """After each passage fillers, until they have as many words as the text has had so far."""
    filler = _fillers(draws)
    said = added = 0
    lines = []
    for passages in _passages(text):
        line = []
        for passage in passages:
            line.append(passage)
            said += len(passage.split())
            while added < said:
                line.append(next(filler))
                added += len(line[-1].split())
        lines.append(line)
    if _is_list(text):
        return "\n".join(passage for line in lines for passage in line)
    return "\n\n".join(" ".join(line) for line in lines)


def _fillers(draws: random.Random) -> Iterator[str]:
    sentences = list(_filler_sentences())
    draws.shuffle(sentences)
    return cycle(sentences)


@lru_cache(maxsize=1)
def _filler_sentences() -> tuple[str, ...]:
    text = (shipped_folder("judges") / "filler.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())


def _repeated(text: str) -> str:
    first = _passages(text)[0][0]
    times = -(-(len(text) + 1) // (len(first) + 1))
    return ("\n" if _is_list(text) else " ").join([first] * max(times, 2))


def _shuffled(text: str, draws: random.Random) -> str:
    words = text.split()
    draws.shuffle(words)
    left = iter(words)
    return "\n".join(" ".join(islice(left, len(line.split()))) for line in text.splitlines())


def _truncated(text: str) -> str:
    """The beginning up to the first word at 40 % after which neither a sentence nor a line ends."""
    for word in re.finditer(r"\S+(?=[ \t])", text):
        if word.end() >= _TRUNCATED * len(text) and word.group()[-1].isalnum():
            return text[: word.end()]
    return text[: round(_TRUNCATED * len(text))]


@dataclass(frozen=True)
class Injection:
    """An attack on a judge: words that a text says to get a better score.

    `kind` is what it lives on. `place` is where it stands: 'before', 'inside' or 'after' the text,
    or in its place ('replace').
    """

    id: str
    kind: str
    place: str
    text: str

    @cached_property
    def fields(self) -> frozenset[str]:
        """What has to be filled in. With 'label' the attack is for questions about two texts, with
        'high', 'low' or 'json' for scores, with none of these for both."""
        return frozenset(_FIELD.findall(self.text))

    def applied(self, text: str, **fields: object) -> str:
        """The text with the attack in it; fields that the attack does not use are ignored.

        'inside' is the end of a sentence or line that is nearest to the middle. Raises UsageError
        for a field that is needed and not given.
        """
        missing = sorted(self.fields - set(fields))
        if missing:
            raise UsageError(
                f"injection {self.id!r}: needs {', '.join(missing)}; give their values"
            )
        attack = _FIELD.sub(lambda match: str(fields[match.group(1)]), self.text)
        match self.place:
            case "before":
                return f"{attack}\n\n{text}"
            case "inside":
                cut = _middle(text)
                return f"{text[:cut]}\n{attack}\n{text[cut:]}"
            case "after":
                return f"{text}\n\n{attack}"
        return attack


def _middle(text: str) -> int:
    """Where a passage ends next to the middle; else next to it a word; else the middle."""
    middle = len(text) // 2
    for ends in (r"[.!?][\"”’')]*(?=\s)|(?=\n)", r"(?=\s)", r"$"):
        cuts = [match.end() for match in re.finditer(ends, text) if 0 < match.end() < len(text)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - middle))
    return middle


def injections() -> list[Injection]:
    """All attacks, in the order of judges/injections.yaml."""
    text = (shipped_folder("judges") / "injections.yaml").read_text(encoding="utf-8")
    return [Injection(**row) for row in yaml.safe_load(text)]


def read_labelled(path: Path) -> list[GoldPair]:
    """Pairs from a user's JSONL file: objects with prompt, better and worse, or, as in LLMBar (Zeng
    et al., arXiv 2310.07641), with input, output_1, output_2 and label (1 or 2: the better one).

    Ids are the rows' `id` or 'row-<number>', kinds their `kind`, `subset` or 'labelled'. Raises
    DataError, naming the row, for another form, equal texts or an id that is there twice.
    """
    pairs: dict[str, GoldPair] = {}
    for number, row in enumerate(read_rows(path), 1):
        place = f"gold file {str(path)!r}, line {number}"
        pair = _pair(row, number, place)
        if pair.id in pairs:
            raise DataError(f"{place}: id {pair.id!r} is there twice; give each row its own")
        pairs[pair.id] = pair
    return list(pairs.values())


def _pair(row: Mapping[str, Any], number: int, place: str) -> GoldPair:
    if "output_1" in row or "output_2" in row:
        row = _from_llmbar(row, place)
    texts = [row.get(name) for name in ("prompt", "better", "worse")]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(
            f"{place}: expected texts as prompt, better and worse, or as input, output_1, "
            f"output_2 and label; it has {', '.join(row) or 'nothing'}"
        )
    if texts[1] == texts[2]:
        raise DataError(f"{place}: better and worse are the same text; take the row out")
    kind = row.get("kind") or row.get("subset") or "labelled"
    return GoldPair(str(row.get("id", f"row-{number}")), str(kind), *map(str, texts))


def _from_llmbar(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    label = str(row.get("label"))
    if label not in ("1", "2"):
        raise DataError(f"{place}: label {row.get('label')!r}; expected 1 or 2, the better output")
    better, worse = (row.get(f"output_{one}") for one in (label, "21"[int(label) - 1]))
    return {**row, "prompt": row.get("input"), "better": better, "worse": worse}
