"""A key-value cache that rows join and leave in place.

transformers' own dynamic cache copies all it holds to append one position, to drop a row or to add
one: a quarter of the time of decoding 64 short rows on a CPU. Here these are writes into room that
is there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    import torch

__all__ = ["GrowingLayer", "growing", "is_plain", "is_selectable", "side_by_side"]

_ROOM = 64
"""Positions to be appended before the buffer is made larger."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values (rows, heads, positions, size), as a corner of a buffer."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: int = 0) -> None:
        """Hold these states, with room for `rows` rows in all."""
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._hold(keys, values, max(rows, keys.shape[0]))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append positions; returns all keys and values, as views."""
        rows, _heads, start, _size = self.keys.shape
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._hold(self.keys, self.values, self._buffers[0].shape[0], end - start)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, start:end] = states
        self._show(rows, end)
        return self.keys, self.values

    def keep(self, order: Sequence[int]) -> None:
        """Keep rows by their old places, in this order; one that stays in place costs nothing."""
        length = self.keys.shape[-2]
        moves = [(old, new) for new, old in enumerate(order) if old != new]
        if moves:
            sources, targets = map(list, zip(*moves, strict=True))
            for buffer in self._buffers:
                buffer[targets, :, :length] = buffer[sources, :, :length]
        self._show(len(order), length)

    def join(self, keys: torch.Tensor, values: torch.Tensor, positions: int) -> None:
        """Add rows at the end; all rows have `positions` then, with zeros put in front.

        Where there are more than `positions` now, the first ones are dropped.
        """
        rows, _heads, length, _size = self.keys.shape
        total = rows + keys.shape[0]
        if positions != length or total > self._buffers[0].shape[0]:
            room = max(total, self._buffers[0].shape[0])
            self._hold(_fit(self.keys, positions), _fit(self.values, positions), room)
        for buffer, states in zip(self._buffers, (keys, values), strict=True):
            buffer[rows:total, :, :positions] = _fit(states, positions)
        self._show(total, positions)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Any rows, in any order and number: copies."""
        self._hold(self.keys[indices], self.values[indices], len(indices))

    def _hold(
        self, keys: torch.Tensor, values: torch.Tensor, rows: int, positions: int = 0
    ) -> None:
        """Make buffers with room for `rows` rows and some positions more than `positions` more."""
        held, heads, length, size = keys.shape
        room = (rows, heads, length + positions + _ROOM)
        self._buffers = keys.new_empty(*room, size), values.new_empty(*room, values.shape[-1])
        for buffer, states in zip(self._buffers, (keys, values), strict=True):
            buffer[:held, :, :length] = states
        self._show(held, length)

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self._buffers)


def _fit(states: torch.Tensor, positions: int) -> torch.Tensor:
    """These states with `positions` positions: the last ones, or all with zeros in front."""
    from torch.nn.functional import pad

    return pad(states, (0, 0, positions - states.shape[-2], 0))


def is_plain(cache: Any) -> bool:
    """Whether every layer keeps all positions of every row, so that rows can join one by one."""
    layers = getattr(cache, "layers", None) or ()
    return bool(layers) and all(type(layer) in (DynamicLayer, GrowingLayer) for layer in layers)


def is_selectable(cache: Any) -> bool:
    """Whether rows can leave: every layer is made of keys and values by row."""
    kinds = (DynamicLayer, GrowingLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(type(layer) in kinds for layer in cache.layers)


def growing(cache: Any, places: torch.Tensor, rows: int) -> Any:
    """A cache of the rows at `places` of a plain one, with room for `rows` rows."""
    made = copy.copy(cache)
    made.layers = [
        GrowingLayer(layer.keys[places], layer.values[places], rows) for layer in cache.layers
    ]
    return made


def side_by_side(caches: Sequence[Any], positions: int) -> Any:
    """One plain cache of the rows of several, zeros put in front up to `positions`."""
    import torch

    made = copy.copy(caches[0])
    made.layers = [
        GrowingLayer(
            torch.cat([_fit(layer.keys, positions) for layer in layers]),
            torch.cat([_fit(layer.values, positions) for layer in layers]),
        )
        for layers in zip(*(cache.layers for cache in caches), strict=True)
    ]
    return made
