"""Alternate uses of an object: the uses in a response, how many, of how many kinds, and how rare.

Fluency, flexibility and originality are Guilford's (1967) three counts of divergent thinking.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psplit_eval.equivalence import same_answer_classes

__all__ = ["SAME_USE", "parse_uses", "rarities", "use_kinds"]

Embed = Callable[[Sequence[str]], NDArray[Any]]

SAME_USE = 0.44
"""Mean cosine from which two groups of uses are one kind.

With it, sets of 20 ideas of SocialMuse fall into as many kinds as two people put them in, on
average (benchmarks/validity_aut.py).
"""

_MARK = re.compile(r"^(\s*)(?:\(?\d{1,3}[.):]\s*(?=[^\s\d])|(?:[-*+•‣▪–—]|[a-zA-Z][.)])\s+(?=\S))")
_INLINE = re.compile(r"(?:^|(?<=\s))\(?\d{1,3}[.)]\s+")
_COMMA = re.compile(r"\s*[,;]\s*(?:(?:and|or)\s+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_LONG_PART = 6
"""Words: a comma between longer parts belongs to a sentence, not to a list."""


def parse_uses(text: str) -> list[str]:
    """The distinct uses that a response lists, in their order; [] where it lists none.

    What is taken for a list, the first that there is: marked lines (numbers, letters, bullets;
    those indented under others explain them and are left out), numbers within a line, lines, parts
    between commas or semicolons that are all short, sentences. Lines without a mark beside a marked
    list, and lines that end with a colon, are no uses. Emphasis and end marks are removed; uses
    that differ in case and punctuation alone count once.
    """
    found: dict[tuple[str, ...], str] = {}
    for part in _parts(text):
        use = _clean(part)
        words = tuple(re.findall(r"\w+", use.lower()))
        if any(any(letter.isalpha() for letter in word) for word in words):
            found.setdefault(words, use)
    return list(found.values())


def use_kinds(
    item: str, uses: Sequence[str], embed: Embed, threshold: float = SAME_USE
) -> list[int]:
    """The kind of each use of `item`, numbered as they come; how many there are is the flexibility.

    Average linkage (see `same_answer_classes`) on cosines of embeddings without their part along
    the item's. `embed` gives MiniLM's unit vector a text. Flexibility is in 0 … number of uses,
    higher is better, and grows with that number: report both.
    """
    if not uses:
        return []
    vectors = np.asarray(embed([item, *uses]), dtype=np.float64)
    rest = vectors[1:] - np.outer(vectors[1:] @ vectors[0], vectors[0])
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-4)
    return same_answer_classes(rest @ rest.T, threshold)


def rarities(kinds: Sequence[int]) -> list[float]:
    """Of each use, the share of the others that are of another kind: in [0, 1], higher is rarer.

    Over the pooled uses of all responses to one object, this is statistical originality: what few
    say is original. It depends on who else was asked, so compare only within one pool. NaN where
    there is no other use.
    """
    if len(kinds) < 2:
        return [math.nan] * len(kinds)
    sizes = Counter(kinds)
    return [1.0 - (sizes[kind] - 1) / (len(kinds) - 1) for kind in kinds]


def _parts(text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    marks = [mark for line in lines if (mark := _MARK.match(line))]
    if len(marks) > 1 or (marks and len(lines) > 1):
        outer = min(len(mark[1].expandtabs()) for mark in marks)
        for line in lines:
            mark = _MARK.match(line)
            if mark and len(mark[1].expandtabs()) <= outer:
                yield _MARK.sub("", line)
        return
    lines = [line for line in lines if not line.rstrip(" *_").endswith(":")]
    if len(lines) == 1:
        yield from _parts_of_line(lines[0])
    else:
        yield from lines


def _parts_of_line(line: str) -> list[str]:
    if len(_INLINE.findall(line)) > 1:
        return _INLINE.split(line)[1:]
    line = line.split(":", 1)[-1] if "," in line or ";" in line else line
    listed = _COMMA.split(line)
    if len(listed) > 2 and all(len(part.split()) <= _LONG_PART for part in listed):
        return listed
    return _SENTENCE.split(line)


def _clean(part: str) -> str:
    plain = re.sub(r"[*_`#]+", "", _MARK.sub("", part))
    return " ".join(plain.split()).strip(" .,;:!?\"'“”‘’-–—")
