"""Responses scored under several prompts at once, by a model in process.

The responses of a doc are a prefix tree, of which every context is run once a prompt. The trees of
several docs walk side by side, under all prompts in step: so the distributions of all policies over
the same contexts are there together, are contrasted, and are gone before the next piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from psplit_eval.backends import Case, Crossed, Numbers
from psplit_eval.batch import Batch, common_prefix
from psplit_eval.contrasts import Contrast, contrast
from psplit_eval.trees import PrefixTree, split

if TYPE_CHECKING:
    import torch

__all__ = ["Room", "cross", "cross_whole", "fitting", "with_unfitting"]

Ids = tuple[int, ...]

_TREE = 1024
"""Contexts in a tree, about: each looks at all that were run before it, its own or not."""


@dataclass(frozen=True)
class Room:
    """What may be held at once: `logits` of so many contexts a policy, and the keys and values of
    so many `positions`, over all policies; `contexts` are run side by side at most."""

    logits: int
    positions: int
    contexts: int


@dataclass
class _Tree:
    """Some responses of a case, by their numbers, and what is found of their contexts."""

    case: int
    numbers: list[int]
    tree: PrefixTree
    entropy: NDArray[np.float64]
    between: NDArray[np.float64]
    surprisal: NDArray[np.float64]

    @classmethod
    def of(cls, number: int, case: Case, responses: list[int]) -> _Tree:
        tree = PrefixTree.of([case.responses[i] for i in responses])
        policies, pairs = len(case.policies), len(case.pairs)
        return cls(
            number,
            responses,
            tree,
            np.full((policies, len(tree)), np.nan),
            np.full((3, pairs, len(tree)), np.nan),
            np.full((policies, len(tree.steps)), np.nan),
        )

    def keep(self, start: int, stop: int, found: Contrast, contexts: slice, steps: slice) -> None:
        """Take what was found of contexts start … stop − 1."""
        self.entropy[:, start:stop] = found.entropy[:, contexts]
        for row, part in zip(self.between, (found.kl, found.back, found.js), strict=True):
            row[:, start:stop] = part[:, contexts]
        self.surprisal[:, self.tree.steps_in(start, stop)] = found.surprisal[:, steps]

    def of_responses(self) -> Iterator[tuple[int, Numbers]]:
        """Of every response its number and (rows, tokens), in the order of `Crossed.rows`."""
        for number, path in zip(self.numbers, self.tree.paths, strict=True):
            contexts = self.tree.steps[path, 0]
            parts = [self.entropy[:, contexts], self.surprisal[:, path]]
            yield number, np.concatenate([*parts, *self.between[:, :, contexts]])


def cross(
    model: Any,
    padding: int,
    cases: Sequence[Case],
    room: Room,
    beginnings: dict[Ids, Any],
) -> Iterator[tuple[int, Crossed]]:
    """Score every case; yields its number and what was found, as soon as it is whole.

    All cases have the same policies and pairs. `beginnings` keeps what the prompts of a policy
    begin with. The model's cache must be plain, and its attention take any mask.
    """
    import torch

    policies, pairs = cases[0].policies, cases[0].pairs
    trees = [
        _Tree.of(number, case, part)
        for number, case in enumerate(cases)
        for part in split(case.responses, _TREE)
    ]
    missing = [sum(tree.case == number for tree in trees) for number in range(len(cases))]
    done: dict[int, dict[int, Numbers]] = {number: {} for number in range(len(cases))}
    starts = {name: common_prefix({case.prompts[name] for case in cases}) for name in policies}
    for together in _batches(trees, cases, room):
        with torch.inference_mode():  # not around a yield, where it would reach the caller
            _walk(model, padding, together, cases, room, starts, beginnings)
        for tree in together:
            done[tree.case].update(tree.of_responses())
            missing[tree.case] -= 1
            if not missing[tree.case]:
                found = done.pop(tree.case)
                yield tree.case, Crossed(policies, pairs, [found[i] for i in sorted(found)])


def _batches(trees: list[_Tree], cases: Sequence[Case], room: Room) -> Iterator[list[_Tree]]:
    """Trees to walk side by side, long ones first; one at least, whatever the room."""

    def fits(together: list[_Tree]) -> bool:
        positions = max(len(t.tree) * len(t.entropy) + cases[t.case].length for t in together)
        contexts = len(together) * len(together[0].tree)
        return len(together) * positions <= room.positions and contexts <= room.contexts

    together: list[_Tree] = []
    for tree in sorted(trees, key=lambda tree: -len(tree.tree)):
        if together and not fits([*together, tree]):
            yield together
            together = []
        together.append(tree)
    if together:
        yield together


def _walk(
    model: Any,
    padding: int,
    trees: list[_Tree],
    cases: Sequence[Case],
    room: Room,
    starts: Mapping[str, Ids],
    kept: dict[Ids, Any],
) -> None:
    """Run the trees, longest first, under the prompts of all policies: one batch, of which every
    policy has as many rows as there are trees."""
    policies = len(starts)
    for old in kept.keys() - set(starts.values()):
        del kept[old]
    batch = Batch(model, padding, policies * len(trees), kept)
    asked = [(name, tree) for name in starts for tree in trees]
    prompts = [cases[tree.case].prompts[name] for name, tree in asked]
    batch.admit(prompts, [starts[name] for name, _ in asked])
    pairs = cases[trees[0].case].numbered_pairs
    _contrast(batch.logits.chunk(policies), trees, (0, 1), pairs)
    stop = 1
    while going := [tree for tree in trees if len(tree.tree) > stop]:
        rows = len(batch.logits) // policies
        batch.keep([row + i for row in range(0, policies * rows, rows) for i in range(len(going))])
        first, stop = stop, min(stop + max(1, room.logits // len(going)), len(going[0].tree))
        piece = _Piece(going, first, stop, batch.logits.device)
        inputs = (part.repeat(policies, *[1] * (part.dim() - 1)) for part in piece.inputs)
        logits = [piece.of_trees(part) for part in batch.extend(*inputs).chunk(policies)]
        _contrast(logits, going, (first, stop), pairs)


class _Piece:
    """Contexts start … stop − 1 of some trees as a rectangle of rows and positions.

    `inputs` as `Batch.extend` takes them. What is behind the end of a tree sees itself alone.
    """

    def __init__(self, trees: list[_Tree], start: int, stop: int, device: Any) -> None:
        import torch

        def padded(values: Sequence[Any], first: int, filling: int) -> torch.Tensor:
            rows = np.full((len(trees), stop - first), filling, np.int64)
            for row, numbers in zip(rows, values, strict=True):
                row[: max(0, len(numbers) - first)] = numbers[first:stop]
            return torch.from_numpy(rows).to(device)

        ids = padded([tree.tree.tokens for tree in trees], start, 0)
        depths = padded([tree.tree.depths for tree in trees], start, 1) - 1
        sizes = padded([tree.tree.sizes for tree in trees], 1, 1)[:, None, :]
        asking = torch.arange(start, stop, device=device)[None, :, None]
        asked = torch.arange(1, stop, device=device)[None, None, :]
        self.inputs = ids, depths, (asked <= asking) & (asking < asked + sizes)
        ends = torch.tensor([len(tree.tree) for tree in trees], device=device)
        self._there = asking[..., 0] < ends[:, None]

    def of_trees(self, logits: torch.Tensor) -> torch.Tensor:
        """(rows, positions, vocabulary) → (contexts, vocabulary), tree by tree."""
        return logits[self._there] if not self._there.all() else logits.flatten(0, 1)


def _contrast(
    logits: Sequence[torch.Tensor],
    trees: Sequence[_Tree],
    bounds: tuple[int, int],
    pairs: Sequence[tuple[int, int]],
) -> None:
    """Contrast the policies at contexts of the trees, and keep what is found with each."""
    import torch

    start, stop = bounds
    steps = [tree.tree.steps[tree.tree.steps_in(start, stop)] for tree in trees]
    lengths = [min(stop, len(tree.tree)) - start for tree in trees]
    firsts = np.cumsum([0, *lengths])
    places = np.concatenate([s[:, 0] - start + f for s, f in zip(steps, firsts, strict=False)])
    tokens = np.concatenate([s[:, 1] for s in steps])
    device = logits[0].device
    found = contrast(
        logits, pairs, (torch.from_numpy(places).to(device), torch.from_numpy(tokens).to(device))
    )
    step = 0
    for tree, first, length, own in zip(trees, firsts, lengths, steps, strict=False):
        ends = first + length, step + len(own)
        tree.keep(start, start + length, found, slice(first, ends[0]), slice(step, ends[1]))
        step = ends[1]


def fitting(case: Case, context: int) -> tuple[Case, list[int]]:
    """The case with those responses alone that a context of so many tokens has room for, behind
    every prompt; and their numbers in the whole case."""
    room = context - max(map(len, case.prompts.values()))
    numbers = [i for i, response in enumerate(case.responses) if len(response) <= room]
    return replace(case, responses=[case.responses[i] for i in numbers]), numbers


def with_unfitting(case: Case, found: Sequence[Numbers], numbers: Sequence[int]) -> Crossed:
    """What was found of the responses of these numbers; of others all is NaN: no model says what a
    token is worth beyond its context."""
    height = 2 * len(case.policies) + 3 * len(case.pairs)
    rows = [np.full((height, len(response)), np.nan) for response in case.responses]
    for number, known in zip(numbers, found, strict=True):
        rows[number] = known
    return Crossed(case.policies, case.pairs, rows)


def cross_whole(model: Any, cases: Sequence[Case]) -> Iterator[tuple[int, Crossed]]:
    """The same, every response alone behind its prompt: for models that `cross` is not for."""
    import torch

    for number, case in enumerate(cases):
        with torch.inference_mode():
            known = {response: _whole(model, case, response) for response in set(case.responses)}
        yield number, Crossed(case.policies, case.pairs, [known[r] for r in case.responses])


def _whole(model: Any, case: Case, response: Ids) -> Numbers:
    """One row of `Crossed.rows`."""
    import torch

    logits = [_own_logits(model, prompt, response) for prompt in case.prompts.values()]
    places = torch.arange(len(response), device=model.device)
    tokens = torch.tensor(response, dtype=torch.long, device=model.device)
    found = contrast(logits, case.numbered_pairs, (places, tokens))
    parts = [found.entropy, found.surprisal, found.kl, found.back, found.js]
    return torch.cat(parts).numpy()


def _own_logits(model: Any, prompt: Ids, response: Ids) -> torch.Tensor:
    """Logits of every token of the response: (tokens, vocabulary)."""
    import torch

    ids = torch.tensor([[*prompt, *response]], device=model.device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return logits
