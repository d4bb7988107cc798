"""Divergent association: how far apart in meaning the words of a list are.

Olson, Nahas, Chmoulevitch, Cropper and Webb (2021), 'Naming unrelated words predicts creativity',
PNAS 118 (25), e2022340118. Whether a word is a noun is asked for by the prompt and, as there, not
checked.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psplit_eval.errors import MissingExtraError

__all__ = [
    "FIRST",
    "Words",
    "divergent_association",
    "english_dictionary",
    "parse_words",
    "valid_words",
]

FIRST = 7
"""Of ten words asked for, the first valid ones that count."""

_MARK = re.compile(r"\s*(?:[-*+•·–—]\s+|\(?\d{1,3}[.):]\s*)(?=\S)")
_BRACKET = re.compile(r"\([^()]*\)")
_EXPLANATION = re.compile(r"\s[-–—]\s|[:(=→]")
_SEPARATORS = re.compile(r"[,;]")


@dataclass(frozen=True)
class Words:
    """The words of a list that count, in their order, and how many entries do not.

    `valid` are different from each other; `repeated` entries say a valid word again.
    """

    valid: tuple[str, ...]
    invalid: int
    repeated: int


def parse_words(text: str) -> list[str]:
    """The entries of a list that a model wrote, lower-cased, repeats included.

    If lines begin with a bullet or a number, they are the list; else all lines are, but those that
    end with a colon. A line ends where an explanation begins (a colon, a bracket, a dash between
    spaces), an entry at a comma or semicolon too. Entries of several words stay one entry: a
    sentence is not a list of its words. A text without letters has none.

        >>> parse_words("Ten nouns:\\n1. **River** - a stream\\n2. Ice cream")
        ['river', 'ice cream']
    """
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [_MARK.sub("", line, count=1) for line in lines if _MARK.match(line)]
    listed = marked or [_unintroduced(line) for line in lines]
    said = (_EXPLANATION.split(_BRACKET.sub("", line), maxsplit=1)[0] for line in listed)
    return [entry for line in said for part in _SEPARATORS.split(line) if (entry := _entry(part))]


def _unintroduced(line: str) -> str:
    """'Ten nouns: river, lamp' without its beginning; nothing of a line that only introduces."""
    said, colon, rest = line.partition(":")
    begins_list = any(sign in rest for sign in ",;") and " " in said.strip()
    return rest if colon and (begins_list or not rest.strip("*_ ")) else line


def _entry(part: str) -> str:
    """Its letters, with hyphens and single spaces, in lower case."""
    letters = "".join(c if c.isalpha() or c in " -" else "" for c in " ".join(part.split()))
    return " ".join(letters.lower().split()).removeprefix("and ").strip("- ")


def valid_words(entries: Sequence[str], known: Callable[[str], bool]) -> Words:
    """Which entries are words, by a dictionary that is asked for lower-case words.

    As in the authors' program an entry of several words is tried with hyphens and closed up
    ('ice cream': 'ice-cream', 'icecream'), a hyphenated one as it is and closed up, and what has
    one letter is none.
    """
    valid: dict[str, None] = {}
    invalid = repeated = 0
    for entry in entries:
        word = next((form for form in _forms(entry) if len(form) > 1 and known(form)), None)
        invalid += word is None
        repeated += word in valid
        if word is not None:
            valid[word] = None
    return Words(tuple(valid), invalid, repeated)


def _forms(entry: str) -> tuple[str, ...]:
    hyphened = entry.replace(" ", "-")
    return tuple(dict.fromkeys((hyphened, hyphened.replace("-", ""))))


def divergent_association(
    words: Sequence[str], vectors: Mapping[str, NDArray[Any]], first: int = FIRST
) -> float:
    """100 × the mean cosine distance between all pairs of the first `first` words.

    `words`: different valid words in the order of the list; those without a vector, or with one of
    zeros, are passed over. In [0, 200], higher is more divergent; values of different embeddings
    are not comparable (random nouns: 80 with MiniLM; docs/association.md). NaN with fewer
    than `first` such words: fewer words are easier to keep apart. ValueError for `first` below 2.
    """
    if first < 2:
        raise ValueError(f"first {first}: expected 2 or more words, since distances are of pairs")
    rows = [vectors[word] for word in words if word in vectors and np.any(vectors[word])][:first]
    if len(rows) < first:
        return math.nan
    stacked = np.stack(rows).astype(float)
    units = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    similar = (units @ units.T)[np.triu_indices(first, k=1)]
    return float(100 * np.mean(1 - np.clip(similar, -1, 1)))


@lru_cache(maxsize=1)
def english_dictionary() -> Callable[[str], bool]:
    """Whether a lower-case word is English: by Hunspell's American dictionary (SCOWL).

    Names are not words, nor is what is spelt as in British English only, nor what has a hyphen:
    Hunspell takes any two words that are joined by one. Raises MissingExtraError.
    """
    try:
        from spylls.hunspell import Dictionary
    except ImportError as error:
        raise MissingExtraError("semantic", "a dictionary of English words") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to be closed
        hunspell = Dictionary.from_files("en_US")
    return lru_cache(maxsize=1 << 16)(lambda word: word.isalpha() and bool(hunspell.lookup(word)))
