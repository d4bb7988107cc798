"""Diversity among the samples of one doc: pure functions over token lists.

Texts are never joined: an n-gram lies inside one text. A text without tokens says nothing about
diversity and is left out; a value that too few texts are left for is NaN, never a spurious 1.

The length of texts confounds every value here: the longer they are, the more repeats. Compare
modes on texts of equal length (`equal_length`, `truncated`) beside the raw values.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

__all__ = [
    "LENGTHS",
    "compression_ratio",
    "cross_bleu",
    "distinct",
    "div_bleu",
    "div_ngram",
    "equal_length",
    "expectation_adjusted_distinct",
    "ngram_overlap",
    "ngrams",
    "self_bleu",
    "self_repetition",
    "tokenise",
    "truncated",
]

Tokens = Sequence[str]
_SMOOTHING = 0.1
"""Matches that an order of n-grams without any counts as: nltk's smoothing method 1."""

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Lengths in tokens that texts are cut to. Few and fixed, so that the docs of a run share them."""


_FULL_STOP = re.compile(r"(?<=[^.\s])\.(?=[\"')\]]*(?:\s|$))")
_PLAIN_SIGNS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": " -- ", "—": " -- ", "…": " ... "}
)


@lru_cache(maxsize=1)
def _tokeniser() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


def tokenise(text: str, *, lower: bool = True) -> list[str]:
    """The default tokens of a text: nltk's rule-based word tokeniser, lower-cased.

    It needs no download. Its rules take a sentence at a time and part the last full stop only, so
    every full stop at the end of a word is parted before; typographic quotes and dashes count as
    plain ones. Metrics take token lists, so another tokenisation is the caller's choice.
    """
    plain = _FULL_STOP.sub(" .", text.translate(_PLAIN_SIGNS))
    return [str(token) for token in _tokeniser().tokenize(plain.lower() if lower else plain)]


def equal_length(*groups: Sequence[Tokens], share: float = 0.75) -> int | None:
    """The length to compare groups of texts at (the samples of a doc in each mode), in tokens.

    The greatest of `LENGTHS` that at least `share` of the texts with tokens reach in every group,
    so no single short text decides. None where a group has no such length. ValueError for a share
    outside (0, 1].

    >>> equal_length([["a"] * 40, ["b"] * 33, ["c"] * 70, ["d"]], [["e"] * 20])
    16
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share}: expected a part of the texts, above 0 and up to 1")
    kept = [[len(tokens) for tokens in texts if tokens] for texts in groups]
    if not kept or not all(kept):
        return None
    reached = min(sorted(lengths)[math.floor((1 - share) * len(lengths))] for lengths in kept)
    return max((length for length in LENGTHS if length <= reached), default=None)


def truncated(texts: Sequence[Tokens], length: int) -> list[Tokens]:
    """The first `length` tokens of each text; shorter texts are left out.

    The difference of the two numbers of texts is how many were left out. A value that depends on
    the number of texts (all but `div_ngram`) is compared on equal numbers: `[:m]` of both modes.
    """
    return [tokens[:length] for tokens in texts if len(tokens) >= length]


def div_ngram(texts: Sequence[Tokens], n: int = 2) -> float:
    """Mean over texts of unique n-grams / n-grams within the text; in (0, 1], higher is better.

    Policy Split (arXiv 2604.11510), Eq. 11. Measures repetition inside each text, so it is defined
    for a single text. Texts shorter than n tokens are left out; NaN where none is left.

    >>> div_ngram([["a", "b", "a", "b"]])
    0.6666666666666666
    """
    shares = []
    for tokens in texts:
        grams = list(ngrams(tokens, n))
        if grams:
            shares.append(len(set(grams)) / len(grams))
    return fmean(shares) if shares else math.nan


def distinct(texts: Sequence[Tokens], n: int = 2) -> float:
    """Unique n-grams of all texts / n-grams of all texts; in (0, 1], higher is more diverse.

    Distinct-n (Li et al. 2016, arXiv 1510.03055). Defined for a single text, too. It falls with
    the number and length of texts. NaN for fewer than two n-grams in all: one alone cannot repeat.
    """
    unique, total = _unique_and_total(texts, n)
    return unique / total if total > 1 else math.nan


def expectation_adjusted_distinct(texts: Sequence[Tokens], vocabulary: int, n: int = 1) -> float:
    """Unique n-grams of all texts / the number expected of as many uniform draws; > 0, higher is
    more diverse.

    EAD (Liu et al. 2022, arXiv 2202.13587): N / (V (1 − ((V − 1) / V)^C)) with N different among C
    n-grams. `vocabulary` is V, the number of n-grams that could occur (for n = 1 the different
    tokens of the tokenisation); every value that is compared needs the same. Above 1 (at most 1.59
    while N ≤ V) where fewer n-grams repeat than by chance. It depends less on length than
    `distinct`, but it does. NaN for fewer than two n-grams in all; ValueError for V < 1.
    """
    if vocabulary < 1:
        raise ValueError(f"vocabulary {vocabulary}: expected a number of n-grams, 1 or more")
    unique, total = _unique_and_total(texts, n)
    if total < 2:
        return math.nan
    missed = total * math.log1p(-1 / vocabulary) if vocabulary > 1 else -math.inf
    return unique / (-vocabulary * math.expm1(missed))


def self_repetition(texts: Sequence[Tokens], n: int = 4) -> float:
    """Mean over texts of ln(1 + how often other texts hold one of its n-grams); ≥ 0, lower is more
    diverse.

    Salkar et al. 2022 (Self-Repetition in Abstractive Neural Summarizers): every other
    text counts once for each different n-gram that it shares. Grows with the number and length of
    texts. Texts shorter than n tokens are left out; the published code counts them as texts that
    repeat nothing. NaN for fewer than two texts with n tokens.
    """
    grams = [found for tokens in texts if (found := set(ngrams(tokens, n)))]
    if len(grams) < 2:
        return math.nan
    holders = Counter(chain.from_iterable(grams))
    return fmean(math.log1p(sum(holders[gram] - 1 for gram in found)) for found in grams)


def ngram_overlap(a: Sequence[Tokens], b: Sequence[Tokens], n: int = 2) -> float:
    """Share of n-grams that two sets of texts have in common; in [0, 1], higher is more alike.

    Σ over n-grams of the smaller of the two relative frequencies (1 − total variation distance).
    Symmetric, as no mode is the reference; relative, so that more text on one side does not bound
    it below 1, as it does Jaccard's index. Two draws of one mode stay below 1, the further the less
    text: compare with the overlap of its own halves. NaN where a side has no text with n tokens.
    """
    left, right = (Counter(chain.from_iterable(ngrams(t, n) for t in side)) for side in (a, b))
    if not left or not right:
        return math.nan
    total_left, total_right = left.total(), right.total()
    shared = left.keys() & right.keys()
    # whole numbers until the end: the sum does not depend on the order of the set
    common = sum(min(left[gram] * total_right, right[gram] * total_left) for gram in shared)
    return common / (total_left * total_right)


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes of the texts / bytes compressed; > 0, higher is more repetitive: LOWER is more diverse.

    Shaib et al. 2024 (arXiv 2403.00553), over the UTF-8 of all texts joined by spaces: only here
    are texts joined, since the compressor has to see repeats between them. Raw DEFLATE at
    level 9: the 18 bytes that gzip adds (zlib: 6) say nothing of the texts and outweigh short ones.
    Even so texts of a few words lie below 1, long ones above 2: compare at equal length only
    (of tokens: `" ".join(tokens)`). Repeats more than 32 kB apart are not seen, and the order of
    the texts moves it a little. NaN where all texts are blank.
    """
    raw = " ".join(text for text in texts if text.strip()).encode("utf-8", "surrogatepass")
    if not raw:
        return math.nan
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(raw) / (len(compressor.compress(raw)) + len(compressor.flush()))


def div_bleu(texts: Sequence[Tokens], n: int = 4) -> float:
    """1 − mean of `self_bleu`; in [0, 1], higher is better.

    Policy Split (arXiv 2604.11510), Eq. 12. NaN for fewer than two texts with tokens.
    """
    bleu = self_bleu(texts, n)
    return 1.0 - fmean(bleu) if bleu else math.nan


def self_bleu(texts: Sequence[Tokens], n: int = 4) -> list[float]:
    """BLEU-n of each text with tokens against all others as references; in [0, 1], 1 is a copy.

    Self-BLEU (Zhu et al. 2018, arXiv 1802.01886); to the last digit nltk's sentence BLEU with
    uniform weights and smoothing method 1, but every n-gram is counted once, not once for each pair
    of texts. Empty for fewer than two texts with tokens.
    """
    kept = [list(tokens) for tokens in texts if tokens]
    return _bleu(kept, kept, n) if len(kept) > 1 else []


def cross_bleu(texts: Sequence[Tokens], references: Sequence[Tokens], n: int = 4) -> list[float]:
    """BLEU-n of each text against all references but that at its own place; in [0, 1].

    So each has as many references as `self_bleu` gives it among `texts`, on which BLEU depends: if
    texts and references are drawn alike, both are the same in expectation. Else as `self_bleu`.
    Empty for fewer than two texts. ValueError for different numbers of texts and references, and
    for those without tokens.
    """
    if len(texts) != len(references):
        raise ValueError(f"{len(texts)} texts, {len(references)} references: expected equally many")
    if not all(map(len, chain(texts, references))):
        raise ValueError("a text without tokens: leave it out beforehand")
    return _bleu(texts, references, n) if len(texts) > 1 else []


def _bleu(texts: Sequence[Tokens], references: Sequence[Tokens], n: int) -> list[float]:
    """Of text i against all references but the i-th."""
    from nltk.translate.bleu_score import brevity_penalty

    matches = _matches(texts, references, n)
    lengths = Counter(map(len, references))
    bleu = []
    for found, text, own in zip(matches, texts, references, strict=True):
        penalty = brevity_penalty(_closest_other(lengths, len(own), len(text)), len(text))
        bleu.append(_mean_precision(found) * float(penalty))
    return bleu


def _closest_other(lengths: Counter[int], left_out: int, length: int) -> int:
    """Of the lengths but one the closest to `length`; of two the shorter, as nltk does."""
    others = (other for other, count in lengths.items() if count > (other == left_out))
    return min(others, key=lambda other: (abs(other - length), other))


def _matches(
    texts: Sequence[Tokens], references: Sequence[Tokens], n: int
) -> list[list[tuple[int, int]]]:
    """Of text i and every order up to n: its n-grams that a reference but the i-th has, too, and
    all (1 if it has none).

    An n-gram counts as often as the reference that has it most often.
    """
    import numpy as np

    k, same = len(texts), references is texts
    orders = []
    for grams, of in _numbered_ngrams(texts if same else [*texts, *references], n):
        size = 1 + int(grams.max(initial=0))
        pairs, counts = np.unique(of * size + grams, return_counts=True)
        of, grams = np.divmod(pairs, size)
        held = slice(None) if same else of >= k
        best, holder, second = _most(grams[held], of[held] - (0 if same else k), counts[held], size)
        own = of < k
        of, grams, counts = of[own], grams[own], counts[own]
        elsewhere = np.where(holder[grams] == of, second[grams], best[grams])
        shared = np.bincount(of, np.minimum(counts, elsewhere), k)
        all_ = np.maximum(1, np.bincount(of, counts, k))
        orders.append(
            list(zip(shared.astype(int).tolist(), all_.astype(int).tolist(), strict=True))
        )
    return [list(of_text) for of_text in zip(*orders, strict=True)]


def _numbered_ngrams(texts: Sequence[Tokens], n: int) -> Iterator[tuple[Numbers, Numbers]]:
    """For order 1 to n: all n-grams as numbers, equal ones alike, and whose text each is of."""
    import numpy as np

    known: dict[str, int] = {}
    flat = np.array(
        [known.setdefault(token, len(known)) for token in chain(*texts)], dtype=np.int64
    )
    of = np.repeat(np.arange(len(texts)), [len(tokens) for tokens in texts])
    grams, start = flat, np.arange(len(flat))
    for order in range(1, n + 1):
        yield grams, of[start]
        inside = start + order < len(flat)
        inside[inside] = of[start[inside]] == of[start[inside] + order]
        start = start[inside]
        longer = grams[inside] * len(known) + flat[start + order]
        grams = np.unique(longer, return_inverse=True)[1]


def _most(
    grams: Numbers, of: Numbers, counts: Numbers, size: int
) -> tuple[Numbers, Numbers, Numbers]:
    """Of every n-gram (size,) the greatest count in a text, that text, and the next greatest."""
    import numpy as np

    best, holder, second = (np.full(size, empty) for empty in (0, -1, 0))
    order = np.lexsort((counts, grams))
    grams, of, counts = grams[order], of[order], counts[order]
    last = np.append(grams[1:] != grams[:-1], True)[: len(grams)]
    best[grams[last]], holder[grams[last]] = counts[last], of[last]
    next_ = np.append(last[1:] & (grams[1:] == grams[:-1]), False)[: len(grams)]
    second[grams[next_]] = counts[next_]
    return best, holder, second


def _mean_precision(precisions: Sequence[tuple[int, int]]) -> float:
    """Geometric mean; no match counts as a tenth of one, but 0 where not even a token matches."""
    if not precisions[0][0]:
        return 0.0
    weight = 1 / len(precisions)
    return math.exp(
        math.fsum(weight * math.log((found or _SMOOTHING) / all_) for found, all_ in precisions)
    )


def _unique_and_total(texts: Sequence[Tokens], n: int) -> tuple[int, int]:
    grams = list(chain.from_iterable(ngrams(tokens, n) for tokens in texts))
    return len(set(grams)), len(grams)


def ngrams(tokens: Tokens, n: int) -> Iterator[tuple[str, ...]]:
    """All runs of n tokens of one text, in order; none where it is shorter."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)
