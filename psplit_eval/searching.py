"""Words that are searched for in texts of any script, and where they stand.

An index gets texts as `folded` makes them, and a search is folded likewise; so both agree on what a
word is, whatever the index's own idea of words. SQLite's tokenizers have none for scripts without
spaces: `unicode61` takes a Chinese sentence for one word, and `trigram` finds nothing of two
characters, at five times the time and six times the room (docs/benchmarks.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from psplit_eval.pages import shown

__all__ = ["LONGEST_SEARCH", "Phrase", "Search", "folded", "parsed"]

LONGEST_SEARCH = 500
"""Characters of a search that are read."""

_BETWEEN = (
    r"\s\x00-\x1f!-/:-@\[-`{-~\x7f-\xbf\u2000-\u200b\u200e-\u206f\u3000-\u303f\ud800-\udfff\ufeff"
    r"\uff01-\uff0f"
)
_ONE_EACH = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
"""Letters of scripts that put no space between words: each counts as a word."""
_WORD = re.compile(rf"[{_ONE_EACH}]|[^{_BETWEEN}{_ONE_EACH}]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_PART = re.compile(r'"([^"]*)"?|([^\s"]+)')


def folded(text: str) -> str:
    """The words of a text with one space between: small letters, without accents, in their plain
    form (`unicodedata`'s NFKD, case folded)."""
    words = " ".join(_WORD.findall(text))
    if words.isascii():
        return words.lower()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", words).casefold())
    return " ".join(_WORD.findall(unicodedata.normalize("NFC", plain)))


@dataclass(frozen=True)
class Phrase:
    """Folded words in a row; of an `open` one the last may go on."""

    words: tuple[str, ...]
    open: bool = False

    def stands_at(self, words: Sequence[str], place: int) -> bool:
        """Whether it begins at this place of a text's folded words."""
        found = words[place : place + len(self.words)]
        if not self.open:
            return tuple(found) == self.words
        same = tuple(found[:-1]) == self.words[:-1] and len(found) == len(self.words)
        return same and found[-1].startswith(self.words[-1])


@dataclass(frozen=True)
class Search:
    """Phrases that all have to be found; there is nothing to look for without any."""

    phrases: tuple[Phrase, ...] = ()

    @property
    def expression(self) -> str:
        """For SQLite's FTS5. Folded words hold no sign that means anything there."""
        return " AND ".join(
            f'"{" ".join(phrase.words)}"{" *" if phrase.open else ""}' for phrase in self.phrases
        )

    def places(self, text: str) -> list[tuple[int, int]]:
        """Start and end of every hit of any phrase in the text, by start; they may overlap."""
        words, spans = [], []
        for found in _WORD.finditer(text):
            for word in folded(found[0]).split():
                words.append(word)
                spans.append(found.span())
        return [
            (spans[place][0], spans[place + len(phrase.words) - 1][1])
            for place in range(len(words))
            for phrase in self.phrases
            if phrase.stands_at(words, place)
        ]

    def marked(self, text: str) -> Markup:
        """The text, shown as by `pages.shown`, with a `<mark>` around every hit."""
        parts, done = [], 0
        for start, end in _joined(self.places(text) if self.phrases else ()):
            mark = Markup("<mark>%s</mark>") % shown(text[start:end])
            parts += [shown(text[done:start]), mark]
            done = end
        return Markup("").join([*parts, shown(text[done:])])


def parsed(query: str) -> Search:
    """What is looked for by words and "phrases in quotes"; a star ends a word that may go on.

    Signs mean nothing: `don't` looks for the words don and t in a row. Only the first
    `LONGEST_SEARCH` characters are read.
    """
    phrases = []
    for part in _PART.finditer(query[:LONGEST_SEARCH]):
        text = part[1] if part[1] is not None else part[2]
        if words := tuple(folded(text).split()):
            phrases.append(Phrase(words, text.endswith("*")))
    return Search(tuple(dict.fromkeys(phrases)))


def _joined(places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Places that overlap become one."""
    start = end = -1
    for begins, ends in places:
        if begins >= end:
            if end > start:
                yield start, end
            start = begins
        end = max(end, ends)
    if end > start:
        yield start, end
