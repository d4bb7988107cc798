"""Diversity among the samples of one doc: pure functions over token lists.

Texts are never joined: an n-gram lies inside one text. A text without tokens says nothing about
diversity and is left out; a value that too few texts are left for is NaN, never a spurious 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any

__all__ = ["div_bleu", "div_ngram", "tokenise"]

Tokens = Sequence[str]
_SMOOTHING = 0.1
"""Matches that an order of n-grams without any counts as: nltk's smoothing method 1."""


@lru_cache(maxsize=1)
def _tokeniser() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


def tokenise(text: str) -> list[str]:
    """The default tokens of a text: nltk's rule-based word tokeniser, lower-cased.

    It needs no download. Metrics take token lists, so another tokenisation is the caller's choice.
    """
    return [str(token) for token in _tokeniser().tokenize(text.lower())]


def div_ngram(texts: Sequence[Tokens], n: int = 2) -> float:
    """Mean over texts of unique n-grams / n-grams within the text; in (0, 1], higher is better.

    Policy Split (arXiv 2604.11510), Eq. 11. Measures repetition inside each text, so it is defined
    for a single text. Texts shorter than n tokens are left out; NaN where none is left.

    >>> div_ngram([["a", "b", "a", "b"]])
    0.6666666666666666
    """
    shares = []
    for tokens in texts:
        grams = list(_ngrams(tokens, n))
        if grams:
            shares.append(len(set(grams)) / len(grams))
    return fmean(shares) if shares else math.nan


def div_bleu(texts: Sequence[Tokens], n: int = 4) -> float:
    """1 − mean BLEU-n of each text against all others as references; in [0, 1], higher is better.

    Policy Split (arXiv 2604.11510), Eq. 12, after Self-BLEU (Zhu et al. 2018); to the last digit
    nltk's sentence BLEU with uniform weights and smoothing method 1, but every n-gram is counted
    once, not once for each pair of texts. NaN for fewer than two texts with tokens.
    """
    from nltk.translate.bleu_score import brevity_penalty, closest_ref_length

    kept = [list(tokens) for tokens in texts if tokens]
    if len(kept) < 2:
        return math.nan
    matches = [_matches(kept, order) for order in range(1, n + 1)]
    bleu = []
    for i, text in enumerate(kept):
        closest = closest_ref_length(kept[:i] + kept[i + 1 :], len(text))
        precisions = [found[i] for found in matches]
        bleu.append(_mean_precision(precisions) * brevity_penalty(closest, len(text)))
    return 1.0 - fmean(bleu)


def _matches(texts: Sequence[Tokens], n: int) -> list[tuple[int, int]]:
    """Of every text: its n-grams that another text has, too, and all (1 if it has none).

    An n-gram counts as often as the text that has it most often among the others.
    """
    counts = [Counter(_ngrams(tokens, n)) for tokens in texts]
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for i, grams in enumerate(counts):
        for gram, count in grams.items():
            best, holder, second = most.get(gram, (0, -1, 0))
            if count > best:
                most[gram] = (count, i, best)
            elif count > second:
                most[gram] = (best, holder, count)

    def elsewhere(gram: tuple[str, ...], i: int) -> int:
        best, holder, second = most[gram]
        return second if holder == i else best

    return [
        (
            sum(min(count, elsewhere(gram, i)) for gram, count in grams.items()),
            max(1, grams.total()),
        )
        for i, grams in enumerate(counts)
    ]


def _mean_precision(precisions: Sequence[tuple[int, int]]) -> float:
    """Geometric mean; no match counts as a tenth of one, but 0 where not even a token matches."""
    if not precisions[0][0]:
        return 0.0
    weight = 1 / len(precisions)
    return math.exp(
        math.fsum(weight * math.log((found or _SMOOTHING) / all_) for found, all_ in precisions)
    )


def _ngrams(tokens: Tokens, n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[start:] for start in range(n)), strict=False)
