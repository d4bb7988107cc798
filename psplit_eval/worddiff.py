"""Two texts with the words marked that only one of them has, as HTML."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from psplit_eval.pages import shown

__all__ = ["marked_differences"]

_PUNCTUATION = r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u2027\u2030-\u205e\u3000-\u303f\uff01-\uff0f"
_ONE_EACH = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and Chinese characters: no space tells words apart, so each is one."""
_WORD = re.compile(rf"[{_ONE_EACH}]|[{_PUNCTUATION}]+|[^\s{_PUNCTUATION}{_ONE_EACH}]+")
_MOST_WORDS, _MOST_PAIRS = 4_000, 400_000
"""What is compared in order: words of each text, and pairs of equal ones. Takes up to a second."""


def marked_differences(a: str, b: str) -> tuple[Markup, Markup]:
    """Both texts, shown as by `pages.shown`, with a `<mark>` around the words that differ.

    A word is what stands between spaces and punctuation; a run of punctuation is one, too, and so
    is every Chinese character. White space is never a difference. Words are compared in order
    (`difflib.SequenceMatcher`, no word is junk). Where that would take too long, what both texts
    begin and end with is left unmarked, and of the middle the words that the other text has not, or
    has fewer times. Linear in the texts' length beyond that.
    """
    words = [list(_WORD.finditer(text)) for text in (a, b)]
    differs = _differing(*([word[0] for word in found] for found in words))
    one, other = (
        _marked(text, found, flags)
        for text, found, flags in zip((a, b), words, differs, strict=True)
    )
    return one, other


def _differing(a: Sequence[str], b: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Of every word, whether it is one that the other text has not at its place."""
    start = _shared(a, b)
    end = _shared(a[start:][::-1], b[start:][::-1])
    middles = a[start : len(a) - end], b[start : len(b) - end]
    compare = _in_order if _affordable(*middles) else _by_number
    one, other = ([False] * start + flags + [False] * end for flags in compare(*middles))
    return one, other


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def _affordable(a: Sequence[str], b: Sequence[str]) -> bool:
    if max(len(a), len(b)) > _MOST_WORDS:
        return False
    counts = Counter(b)
    return sum(counts[word] for word in a) <= _MOST_PAIRS


def _in_order(a: Sequence[str], b: Sequence[str]) -> tuple[list[bool], list[bool]]:
    one, other = [True] * len(a), [True] * len(b)
    for i, j, size in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        one[i : i + size] = [False] * size
        other[j : j + size] = [False] * size
    return one, other


def _by_number(a: Sequence[str], b: Sequence[str]) -> tuple[list[bool], list[bool]]:
    return _not_among(a, Counter(b)), _not_among(b, Counter(a))


def _not_among(words: Sequence[str], others: Counter[str]) -> list[bool]:
    """The first words that `others` has are no differences, as many as it has of each."""
    flags = []
    for word in words:
        flags.append(others[word] <= 0)
        others[word] -= 1
    return flags


def _marked(text: str, words: Sequence[re.Match[str]], differs: Sequence[bool]) -> Markup:
    """Neighbours share a mark, with the space between them."""
    parts, done, place = [], 0, 0
    while place < len(words):
        last = place
        while last + 1 < len(words) and differs[last + 1] == differs[place]:
            last += 1
        if differs[place]:
            start, end = words[place].start(), words[last].end()
            parts += [shown(text[done:start]), Markup("<mark>%s</mark>") % shown(text[start:end])]
            done = end
        place = last + 1
    return Markup("").join([*parts, shown(text[done:])])
