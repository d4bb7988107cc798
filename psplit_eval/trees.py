"""Token sequences as a prefix tree: what several of them begin with is there once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["PrefixTree", "split"]

Ids = tuple[int, ...]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class PrefixTree:
    """The contexts in which tokens of some sequences stand, each once, in depth-first order.

    Context 0 is the empty one. `tokens` (contexts,): the token that a context ends with (of context
    0: 0, without meaning); `depths` (contexts,): its length; `sizes` (contexts,): how many contexts
    begin with it, itself included, which are those from it on. `steps` (steps, 2): every
    distinct (context, next token), by context; `paths`: of every sequence its steps, in order. The
    last token of a sequence is a step, and no context unless another sequence goes on there.
    """

    tokens: Numbers
    depths: Numbers
    sizes: Numbers
    steps: Numbers
    paths: tuple[Numbers, ...]

    @classmethod
    def of(cls, sequences: Sequence[Ids]) -> Self:
        """The tree of all prefixes; equal and empty sequences are allowed."""
        tokens, parents, depths = [0], [-1], [0]
        contexts: dict[tuple[int, int], int] = {}
        steps: dict[tuple[int, int], int] = {}
        found: dict[Ids, Numbers] = {}
        for sequence in sorted(set(sequences)):  # so that contexts come depth first
            place, path = 0, []
            for number, token in enumerate(sequence, 1):
                path.append(steps.setdefault((place, token), len(steps)))
                if number == len(sequence):
                    break
                if (place, token) not in contexts:
                    contexts[place, token] = len(tokens)
                    tokens.append(token)
                    parents.append(place)
                    depths.append(number)
                place = contexts[place, token]
            found[sequence] = np.array(path, np.int64)
        sizes = np.ones(len(tokens), np.int64)
        for place in range(len(tokens) - 1, 0, -1):
            sizes[parents[place]] += sizes[place]
        pairs = np.array(list(steps), np.int64).reshape(-1, 2)
        order = np.argsort(pairs[:, 0], kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        paths = tuple(rank[found[sequence]] for sequence in sequences)
        return cls(np.array(tokens), np.array(depths), sizes, pairs[order], paths)

    def __len__(self) -> int:
        """How many contexts there are, the empty one included."""
        return len(self.tokens)

    def steps_in(self, start: int, stop: int) -> slice:
        """The steps whose context is one of start … stop − 1."""
        low, high = np.searchsorted(self.steps[:, 0], (start, stop))
        return slice(int(low), int(high))


def split(sequences: Sequence[Ids], most: int) -> Iterator[list[int]]:
    """Numbers of the sequences in parts whose trees have about `most` contexts or fewer.

    Sequences that begin alike stay together; one that is longer than that is a part of its own.
    """
    part: list[int] = []
    size = 0
    before: Ids = ()
    for number in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        sequence = sequences[number]
        new = len(sequence) - _common(before, sequence)
        if part and size + new > most:
            yield part
            part, size, new = [], 0, len(sequence)
        part.append(number)
        size, before = size + new, sequence
    if part:
        yield part


def _common(one: Ids, other: Ids) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
