"""How well one answer foretells another, in bits of a language model: pure functions.

Answers that say the same make each other easy to guess; answers that go different ways don't. A
language model reads two answers to a prompt as a numbered list. What counts is how many bits the
second one costs less there than it costs as the first. `layouts` says what is to be read,
`foretold` orders what was measured, and the metrics are means over the pairs. Nothing here was
fitted to labels; why it is laid out in this way is in docs/validity.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHOWN_WORDS", "Foretold", "bits_per_token", "foretold", "layouts", "mutual_bits"]

Array = NDArray[np.float64]

SHOWN_WORDS = 40
"""Of each answer, the words that are read: about the longest answer this was validated on."""
_OTHERS = 2
"""Answers that every answer is read after. Two do nearly what all do, and cost k², not k."""


def layouts(prompt: str, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Chains of pieces to be read, min(2, k − 1) for each of the k texts that have words.

    A chain is (prompt and '1.', first word, its other words, '2.', first word, its other words) of
    a text and one of those after it, around the end; each piece is cut into tokens by itself. In
    the order that `foretold` expects. Empty for fewer than two texts with words.
    """
    shown = [_first_and_others(text) for text in texts if text.split()]
    k = len(shown)
    return [
        (f"{prompt.strip()}\n1.", *shown[i], "\n2.", *shown[(i + step) % k])
        for step in range(1, min(_OTHERS, k - 1) + 1)
        for i in range(k)
    ]


def _first_and_others(text: str) -> tuple[str, str]:
    """Apart, since lists begin alike: their first words foretell each other whatever they say."""
    first, *others = text.split()[:SHOWN_WORDS]
    return f" {first}", "".join(f" {word}" for word in others)


@dataclass(frozen=True)
class Foretold:
    """Arrays over pairs (i, j): bits of text j after the prompt alone, and with text i in between.

    `alone`, `given` and `tokens` have shape (pairs, 2): first word, other words.
    """

    alone: Array
    given: Array
    tokens: NDArray[np.int64]

    @property
    def gains(self) -> Array:
        """Bits that the text before saves, shape (pairs, 2): the pairs' mutual information."""
        return self.alone - self.given


def foretold(read: Sequence[Sequence[tuple[float, int]]]) -> Foretold:
    """What was read, by pair. `read`: of every chain of `layouts`, (bits, tokens) of its pieces.

    Pieces are those after the first, so five. A pair whose second text did not fit into the
    model's context as a whole is left out.
    """
    pieces = np.array(read, np.float64).reshape(-1, 5, 2)
    k = 2 if len(pieces) == 2 else len(pieces) // _OTHERS
    steps, firsts = np.divmod(np.arange(len(pieces)), max(k, 1))
    alone = pieces[(firsts + steps + 1) % max(k, 1), :2]  # the chain that begins with text j
    given = pieces[:, 3:]
    whole = (alone[..., 1] == given[..., 1]).all(axis=1)
    tokens = given[whole, :, 1].astype(np.int64)
    return Foretold(alone[whole, :, 0], given[whole, :, 0], tokens)


def mutual_bits(pairs: Foretold) -> float:
    """Mean over pairs of saved bits / √tokens, first words apart; lower means more diverse.

    The pointwise mutual information of two answers given the prompt, log p(b|x, a) / p(b|x), as
    the model sees it; unbounded, about 0 for answers that have nothing to do with each other, and
    negative where one makes the other less likely. All bits favour short answers, bits a token
    long ones: the root lies between. Does not depend on k in expectation. NaN where no text of two
    words or more is left in a pair.
    """
    bits, tokens = pairs.gains[:, 1], pairs.tokens[:, 1]
    return _mean(bits[tokens > 0] / np.sqrt(tokens[tokens > 0]))


def bits_per_token(pairs: Foretold) -> float:
    """Bits a token of the answers after the prompt alone, first words apart; 0 or more.

    How unusual the answers are, whatever the others say. NaN as for `mutual_bits`.
    """
    tokens = int(pairs.tokens[:, 1].sum())
    return float(pairs.alone[:, 1].sum() / tokens) if tokens else math.nan


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan
