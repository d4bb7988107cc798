"""What is measured of lists that a model wrote: ten unlike words, or unusual uses of an object.

`effective_…` counts a list that is none, or is noise, at the bottom of its scale, so that a mode
gains nothing by it; the plain value is the mean over the lists for which it is defined.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Protocol

import numpy as np

from psplit_eval.association import (
    FIRST,
    Words,
    divergent_association,
    english_dictionary,
    parse_words,
    valid_words,
)
from psplit_eval.originality import predicted_originality
from psplit_eval.scoring import Array, Evidence, Wanted
from psplit_eval.store import Doc
from psplit_eval.uses import parse_uses, rarities, use_kinds

__all__ = ["List", "UseList", "WordList"]

Values = Iterator[tuple[str, float]]
_LEAST_RATING = 1.0
_ANY_WORD = "word"
"""Asked for with every list: its vector tells a list without valid words from words unmeasured."""
_ARTICLE = re.compile(r"^(?:an?|the|some|one)\s+", re.IGNORECASE)


class List(Protocol):
    """Measures the lists of one doc."""

    def wanted(self, doc: Doc, text: str) -> Wanted:
        """Texts and words of a list whose vectors are needed."""

    def values(self, doc: Doc, text: str, evidence: Evidence, passing: bool | None) -> Values:
        """Of one list name and number of every metric; NaN where it is undefined.

        `passing`: whether it is above the floor of quality; None where that is not known.
        """

    def values_of_all(self, doc: Doc, texts: Sequence[str], evidence: Evidence) -> Values:
        """Of all lists of a mode together."""


class WordList:
    """Words as different from each other as possible (see `association`)."""

    def wanted(self, doc: Doc, text: str) -> Wanted:
        found = self._words(text)
        return Wanted(words=(_ANY_WORD, *found.valid) if found else ())

    def values(self, doc: Doc, text: str, evidence: Evidence, passing: bool | None) -> Values:
        """`valid_words`, `invalid_words`; with vectors `divergent_association`, NaN for too few
        valid words, and `effective_association`, 0 then. Valid words are no noise."""
        found = self._words(text)
        if found is None:
            return
        yield "invalid_words", float(found.invalid)
        yield "valid_words", float(len(found.valid))
        if evidence.words:
            value = divergent_association(found.valid, evidence.words, FIRST)
            yield "divergent_association", value
            yield "effective_association", 0.0 if math.isnan(value) else value

    def values_of_all(self, doc: Doc, texts: Sequence[str], evidence: Evidence) -> Values:
        yield from ()

    def _words(self, text: str) -> Words | None:
        """None without a dictionary."""
        if importlib.util.find_spec("spylls") is None:
            return None
        return valid_words(parse_words(text), english_dictionary())


class UseList:
    """Unusual uses of the doc's `object` (see `uses`, `originality`)."""

    def wanted(self, doc: Doc, text: str) -> Wanted:
        return Wanted([_item(doc), *parse_uses(text)])

    def values(self, doc: Doc, text: str, evidence: Evidence, passing: bool | None) -> Values:
        """`use_fluency`, how many; with vectors `use_flexibility`, of how many kinds, and
        `use_originality`, the mean rating that people would give (1 to 5; NaN without uses).
        `effective_originality` is 1 without uses, and for a list that does not pass; left out where
        that is not known."""
        uses = parse_uses(text)
        yield "use_fluency", float(len(uses))
        if not self._known(doc, uses, evidence):
            return
        embed = _embedding(evidence)
        yield "use_flexibility", float(len(set(use_kinds(_item(doc), uses, embed))))
        rating = fmean(predicted_originality(_item(doc), uses, embed)) if uses else math.nan
        yield "use_originality", rating
        if passing is not None:
            yield "effective_originality", rating if uses and passing else _LEAST_RATING

    def values_of_all(self, doc: Doc, texts: Sequence[str], evidence: Evidence) -> Values:
        """`use_kinds_k`: kinds among the uses of all k lists; `use_rarity`: mean share of the other
        uses that are of another kind than a use (see `rarities`)."""
        uses = [use for text in texts for use in parse_uses(text)]
        if self._known(doc, uses, evidence):
            kinds = use_kinds(_item(doc), uses, _embedding(evidence))
            yield "use_kinds_k", float(len(set(kinds)))
            yield "use_rarity", fmean(rarities(kinds)) if kinds else math.nan

    def _known(self, doc: Doc, uses: Sequence[str], evidence: Evidence) -> bool:
        return evidence.usual_vectors and evidence.embed([_item(doc), *uses]) is not None


def _item(doc: Doc) -> str:
    return _ARTICLE.sub("", str(doc.doc.get("object", "")))


def _embedding(evidence: Evidence) -> Callable[[Sequence[str]], Array]:
    """As the function that the fitted models ask."""
    return lambda texts: np.stack([evidence.vectors[text] for text in texts])
