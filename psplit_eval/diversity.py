"""Diversity among the samples of one doc: pure functions over token lists.

Texts are never joined: an n-gram lies inside one text. A text without tokens says nothing about
diversity and is left out; a value that too few texts are left for is NaN, never a spurious 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any

__all__ = ["div_bleu", "div_ngram", "tokenise"]

Tokens = Sequence[str]


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
        grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
        if grams:
            shares.append(len(set(grams)) / len(grams))
    return fmean(shares) if shares else math.nan


def div_bleu(texts: Sequence[Tokens], n: int = 4) -> float:
    """1 − mean BLEU-n of each text against all others as references; in [0, 1], higher is better.

    Policy Split (arXiv 2604.11510), Eq. 12, after Self-BLEU (Zhu et al. 2018); nltk's sentence
    BLEU with uniform weights and smoothing method 1. NaN for fewer than two texts with tokens.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    kept = [list(tokens) for tokens in texts if tokens]
    if len(kept) < 2:
        return math.nan
    weights, smoothing = [1 / n] * n, SmoothingFunction().method1
    bleu = [
        float(sentence_bleu(kept[:i] + kept[i + 1 :], text, weights, smoothing))
        for i, text in enumerate(kept)
    ]
    return 1.0 - fmean(bleu)
