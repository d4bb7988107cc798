"""A reference model that runs what texts begin with once, for benchmarks that read thousands.

What `psplit_eval.reference.ReferenceModel` gives, for the built-in checkpoint only: the texts of
one call become one tree, whose tokens see their ancestors alone. In bfloat16, which recent CPUs
multiply many times faster; a token's bits then differ by a few hundredths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Layout = tuple[str, tuple[str, ...]]
"""What stands before, and the pieces that are measured."""


class Tree:
    """Pieces of token ids by what stands before them; equal beginnings are one node."""

    def __init__(self, root: Sequence[int]) -> None:
        self.ids: list[int] = list(root)
        self.parents: list[int] = list(range(-1, len(root) - 1))
        """Of every token, the place of the one before it; −1 for the first."""
        self.depths: list[int] = list(range(len(root)))
        self._known: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}
        self.end = len(root) - 1

    def add(self, end: int, piece: Sequence[int]) -> tuple[int, ...]:
        """Places of the piece's tokens behind the token at place `end`."""
        key = (end, tuple(piece))
        if key not in self._known:
            start = len(self.ids)
            self.ids += piece
            self.parents += [end, *range(start, start + len(piece) - 1)][: len(piece)]
            self.depths += range(self.depths[end] + 1, self.depths[end] + 1 + len(piece))
            self._known[key] = tuple(range(start, start + len(piece)))
        return self._known[key]

    def seen(self) -> NDArray[np.bool_]:
        """Which places (columns) every place (rows) sees: its ancestors and itself."""
        mask = np.eye(len(self.ids), dtype=bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                mask[place] |= mask[parent]
        return mask


class PrefixReference:
    """SmolLM2 as it comes with psplit; loaded at once."""

    def __init__(self, exact: bool = False) -> None:
        """`exact`: in float32."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from psplit_eval.checkpoints import resolve_checkpoint
        from psplit_eval.reference import REFERENCE

        folder = resolve_checkpoint(REFERENCE).folder
        self._dtype = torch.float32 if exact else torch.bfloat16
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=self._dtype, attn_implementation="sdpa"
        ).eval()

    def surprisals(self, layouts: Sequence[Layout]) -> list[list[Array]]:
        """Of every layout and each of its pieces, −log2 p of every token. All begin alike."""
        if not layouts:
            return []
        (before,) = {before for before, _ in layouts}
        tree = Tree([self._tokenizer.bos_token_id, *self._ids(before)])
        places = []
        for _, pieces in layouts:
            end, found = tree.end, []
            for piece in pieces:
                found.append(tree.add(end, self._ids(piece)))
                end = found[-1][-1] if found[-1] else end
            places.append(found)
        bits = self._bits(tree)
        return [[bits[list(piece)] for piece in of_layout] for of_layout in places]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _bits(self, tree: Tree) -> Array:
        """Of every token; of those that all texts begin with, 0."""
        import torch

        hidden = torch.from_numpy(~tree.seen())[None, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype)
        mask.masked_fill_(hidden, torch.finfo(self._dtype).min)
        ids, parents = torch.tensor(tree.ids), torch.tensor(tree.parents)
        start = tree.end + 1
        with torch.inference_mode():
            states = self._model.model(
                input_ids=ids[None],
                attention_mask=mask,
                position_ids=torch.tensor([tree.depths]),
                use_cache=False,
            ).last_hidden_state[0]
            logits = self._model.lm_head(states[parents[start:]]).float()
            nats = torch.nn.functional.cross_entropy(logits, ids[start:], reduction="none")
        bits: Array = np.zeros(len(tree.ids), np.float32)
        bits[start:] = nats.numpy() / math.log(2)
        return bits
