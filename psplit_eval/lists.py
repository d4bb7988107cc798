"""What is measured of one list that a model wrote: ten unlike words, or unusual uses."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Protocol

from psplit_eval.association import (
    FIRST,
    Words,
    divergent_association,
    english_dictionary,
    parse_words,
    valid_words,
)
from psplit_eval.scoring import Evidence, Wanted

__all__ = ["List", "WordList"]


class List(Protocol):
    """Measures one list."""

    def wanted(self, text: str) -> Wanted:
        """Texts and words of it whose vectors are needed."""

    def values(self, text: str, evidence: Evidence) -> Iterator[tuple[str, float]]:
        """Name and number of every metric; NaN where it is undefined."""


class WordList:
    """Words as different from each other as possible (see `association`)."""

    def wanted(self, text: str) -> Wanted:
        found = self._words(text)
        return Wanted(words=found.valid if found else ())

    def values(self, text: str, evidence: Evidence) -> Iterator[tuple[str, float]]:
        """`valid_words`, `invalid_words`, and where words have vectors `divergent_association`.

        That is NaN for too few valid words; `effective_association` is 0 then, so that a mode gains
        nothing by lists that do not count.
        """
        found = self._words(text)
        if found is None:
            return
        yield "invalid_words", float(found.invalid)
        yield "valid_words", float(len(found.valid))
        if evidence.words:
            value = divergent_association(found.valid, evidence.words, FIRST)
            yield "divergent_association", value
            yield "effective_association", 0.0 if math.isnan(value) else value

    def _words(self, text: str) -> Words | None:
        """None without a dictionary."""
        if importlib.util.find_spec("spylls") is None:
            return None
        return valid_words(parse_words(text), english_dictionary())
