"""How well one answer foretells another, in bits of a language model: pure functions.

Answers that say the same make each other easy to guess; answers that go different ways don't. A
language model reads two answers to a prompt as a numbered list. What counts is how many bits the
second one costs less there than it costs as the first. `layouts` says what is to be read,
`foretold` orders what was measured, and the metrics are means over the pairs. Nothing here is
fitted to labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SHOWN_WORDS", "Foretold", "foretold", "layouts", "mutual_bits"]

Array = NDArray[np.float64]

SHOWN_WORDS = 40
"""Of each answer, the words that are read: the longest answer that this was validated on has 39."""
_OTHERS = 2
"""Answers that every answer is read after. Two do nearly what all do, at a cost of k, not k²."""


def layouts(prompt: str, texts: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """What is to be read, min(2, k − 1) pairs for each of the k texts that have words.

    Each is what stands before (the prompt and '1.'), and five pieces: first word of a text, its
    other words, '2.', and the same two of one of the texts after it, around the end. Each piece is
    cut into tokens by itself. In the order that `foretold` expects; empty for k < 2.
    """
    shown = [_first_and_others(text) for text in texts if text.split()]
    k = len(shown)
    return [
        (f"{prompt.strip()}\n1.", (*shown[i], "\n2.", *shown[(i + step) % k]))
        for step in range(1, min(_OTHERS, k - 1) + 1)
        for i in range(k)
    ]


def _first_and_others(text: str) -> tuple[str, str]:
    """Apart, since answers begin alike: first words foretell each other whatever is said then."""
    first, *others = text.split()[:SHOWN_WORDS]
    return f" {first}", "".join(f" {word}" for word in others)


@dataclass(frozen=True)
class Foretold:
    """Bits of the second text of every pair: after the prompt alone, and with the first in between.

    Without their first words. All arrays have shape (pairs,).
    """

    alone: Array
    given: Array
    tokens: NDArray[np.int64]


def foretold(read: Sequence[Sequence[ArrayLike]]) -> Foretold:
    """Of every layout, in order, −log2 p of the tokens of its five pieces; by pair.

    A pair is left out where its second text has one word, or did not fit into the model's context.
    """
    k = 2 if len(read) == 2 else len(read) // _OTHERS
    pairs = []
    for place, pieces in enumerate(read):
        step, first = divmod(place, k)
        # where text j is the first of a layout, it stands after the prompt alone
        alone, given = (np.asarray(bits) for bits in (read[(first + step + 1) % k][1], pieces[4]))
        if len(alone) == len(given) > 0:
            pairs.append((float(alone.sum()), float(given.sum()), len(given)))
    table = np.array(pairs, np.float64).reshape(-1, 3)
    return Foretold(table[:, 0], table[:, 1], table[:, 2].astype(np.int64))


def mutual_bits(pairs: Foretold) -> float:
    """Mean over pairs of (alone − given) / √tokens, in bits; LOWER is more diverse.

    The pointwise mutual information of two answers given the prompt, log2 p(b | x, a) / p(b | x),
    as the model sees it: about 0 for answers that have nothing to do with each other, negative
    where one makes the other less likely; unbounded. All its bits favour short answers, bits a
    token long ones; the root lies between. Answers that are no surprise to begin with have few bits
    to save, and noise foretells noise: at low and at very high temperatures it errs. Does not
    depend on k in expectation. NaN without pairs.
    """
    saved = (pairs.alone - pairs.given) / np.sqrt(pairs.tokens)
    return float(saved.mean()) if len(saved) else math.nan
