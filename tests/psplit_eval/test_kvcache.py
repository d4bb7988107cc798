"""The growing cache holds what transformers' own would hold."""

import torch
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from psplit_eval.kvcache import GrowingLayer, grow_in_place


def states(rows, positions, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 2, positions, 4, generator=generator) for _ in range(2)]


def test_steps_and_leaving_rows_give_the_same_contents_as_the_dynamic_cache():
    plain, growing = DynamicCache(), DynamicCache()
    for cache in (plain, growing):
        for layer in range(3):
            cache.update(*states(6, 5, layer), layer)
    grow_in_place(growing)
    assert all(type(layer) is GrowingLayer for layer in growing.layers)
    rows, leaving = 6, {3: [4, 0, 2], 150: [1]}
    for step in range(200):  # beyond the room that is there at first
        for layer in range(3):
            new = states(rows, 1 + (step == 7) * 90, 100 * step + layer)
            expected = plain.update(*new, layer)
            found = growing.update(*new, layer)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        if step in leaving:
            kept = torch.tensor(leaving[step])
            plain.batch_select_indices(kept)
            growing.batch_select_indices(kept)
            rows = len(kept)
        assert growing.get_seq_length() == plain.get_seq_length()


def test_layers_of_other_kinds_stay():
    cache = DynamicCache()
    cache.update(*states(1, 2, 0), 0)
    sliding = DynamicSlidingWindowLayer(sliding_window=4)
    cache.layers.append(sliding)
    grow_in_place(cache)
    assert cache.layers[1] is sliding
