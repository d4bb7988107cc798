"""Lexical richness of one text: how varied its words are, less bound to length than types/tokens.

Pure functions over the tokens of a text; the mean over the samples of a doc is the caller's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["hd_d", "mtld"]


def mtld(tokens: Sequence[str], threshold: float = 0.72, minimum: int = 50) -> float:
    """Mean number of successive tokens until types/tokens falls to the threshold; > 1, in tokens,
    higher is more varied.

    Measure of textual lexical diversity (McCarthy & Jarvis 2010, doi 10.3758/BRM.42.2.381), mean of
    the text read forwards and backwards; what is left at the end counts as the part of a factor
    that it has covered. NaN below `minimum` tokens, where the value still depends on length (Zenker
    & Kyle 2021, doi 10.1016/j.asw.2020.100505), and for a text that repeats no token at all: it
    never nears the threshold, so its value has no bound.
    """
    if len(tokens) < max(1, minimum):
        return math.nan
    forwards = _factors(tokens, threshold)
    backwards = _factors(reversed(tokens), threshold)
    if not forwards or not backwards:
        return math.nan
    return (len(tokens) / forwards + len(tokens) / backwards) / 2


def _factors(tokens: Iterable[str], threshold: float) -> float:
    full, length = 0, 0
    types: set[str] = set()
    for token in tokens:
        length += 1
        types.add(token)
        if len(types) / length <= threshold:
            full, length = full + 1, 0
            types.clear()
    covered = 1 - len(types) / length if length else 0.0
    return full + covered / (1 - threshold)


def hd_d(tokens: Sequence[str], draws: int = 42) -> float:
    """Expected types/tokens of `draws` tokens drawn without replacement; in (0, 1], higher is more
    varied.

    HD-D (McCarthy & Jarvis 2007, doi 10.1177/0265532207080767); 42 draws are theirs. A bag of
    words: order plays no part. NaN for fewer tokens than draws; ValueError for fewer than 2 draws,
    which cannot repeat.
    """
    if draws < 2:
        raise ValueError(f"draws {draws}: expected 2 or more")
    if len(tokens) < draws:
        return math.nan
    frequencies = Counter(Counter(tokens).values())
    missed = _missed(len(tokens), draws, max(frequencies))
    # a correctly rounded sum does not depend on the order of the types
    return math.fsum(types * (1 - missed[f]) for f, types in frequencies.items()) / draws


def _missed(total: int, draws: int, highest: int) -> list[float]:
    """Probability that no draw hits a type, by its frequency 0, 1, ..., highest.

    C(total − f, draws) / C(total, draws), from one frequency to the next.
    """
    chances = [1.0]
    for f in range(highest):
        chances.append(chances[-1] * max(0, total - draws - f) / (total - f))
    return chances
