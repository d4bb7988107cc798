"""Repetition of sentence patterns among the samples of one doc, over part-of-speech tags.

`pos_tags` needs textblob, whose English lexicon lies inside the package; without it
(`available`) callers leave these metrics out. The rest are pure functions over lists of tags.
English only: the lexicon knows no other language.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from math import nan
from statistics import fmean
from typing import Any

from psplit_eval.diversity import compression_ratio, ngrams, tokenise

__all__ = [
    "available",
    "pos_compression_ratio",
    "pos_tags",
    "templates_per_token",
]

Tags = Sequence[str]
_SENTENCE_END = re.compile(r"( [.!?](?: (?:[.!?)\]']|''))*) ")
_LATIN_SHARE = 0.5
"""Of the letters; with fewer from A to Z a text is not taken for English."""


def available() -> bool:
    """Whether the tagger is installed (`pip install 'psplit[semantic]'`)."""
    return importlib.util.find_spec("textblob") is not None


@lru_cache(maxsize=1)
def _tagger() -> Any:
    from textblob.taggers import PatternTagger

    tagger = PatternTagger()
    with warnings.catch_warnings():
        # the first word loads the lexicon, and textblob leaves closing its file to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        tagger.tag("word", tokenize=False)
    return tagger


def pos_tags(text: str) -> list[str]:
    """Penn Treebank tags of a text, one for each of its tokens, sentence after sentence.

    textblob's PatternTagger: the most frequent tag of a known word, else rules about its ending. It
    looks at no context, so an ambiguous word is mistagged the same way every time, which a measure
    of repetition can live with. Tokens are `tokenise`'s with their capitals. Empty where fewer
    than half of the letters are A to Z: every word of such a text would be unknown, thus a noun,
    and all texts would look alike. Other languages in Latin letters are not recognised. ImportError
    without textblob.
    """
    if not text.strip() or not _latin(text):
        return []
    # the tagger takes a sentence a line, tokens parted by spaces, and knows first words by place
    lines = _SENTENCE_END.sub(r"\1\n", " ".join(tokenise(text, lower=False)))
    return [_tag(token, tag) for token, tag in _tagger().tag(lines, tokenize=False)]


def _latin(text: str) -> bool:
    if text.isascii():
        return True
    letters = sum(map(str.isalpha, text))
    plain = sum(map(str.isalpha, text.encode("ascii", "ignore").decode()))
    return plain >= _LATIN_SHARE * letters


def _tag(token: str, tag: str) -> str:
    """The tagger takes signs that it does not know for nouns."""
    unknown_sign = tag == "NN" and not any(map(str.isalnum, token))
    return "SYM" if unknown_sign else str(tag)


def templates_per_token(texts: Sequence[Tags], n: int = 4) -> float:
    """Mean over texts of positions where a template begins / tokens; in [0, 1), LOWER is more
    diverse.

    Templates as in `template_rate`, per token as in the paper, as longer texts have more of them.
    That does not take all of length away (an n-gram meets more others): compare at equal
    truncation and equal numbers of texts. NaN for fewer than two texts of n tags.
    """
    found = _templates(texts, n)
    return fmean(templates / tokens for templates, tokens in found) if found else nan


def pos_compression_ratio(texts: Sequence[Tags]) -> float:
    """Compression ratio of the tags, CR-POS; > 0, higher is more repetitive: LOWER is more diverse.

    Shaib et al. 2024 (arXiv 2407.00211): `diversity.compression_ratio` of the tags of each text,
    parted by spaces. Depends on length as that does. NaN for no tags.
    """
    return compression_ratio([" ".join(tags) for tags in texts])


def _templates(texts: Sequence[Tags], n: int) -> list[tuple[int, int]]:
    """Of every text with n tags: positions where a template begins, and tags; [] for one text."""
    grams = [(list(ngrams(tags, n)), len(tags)) for tags in texts if len(tags) >= n]
    if len(grams) < 2:
        return []
    holders = Counter(chain.from_iterable(set(found) for found, _ in grams))
    return [(sum(holders[gram] > 1 for gram in found), length) for found, length in grams]
