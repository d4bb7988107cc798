"""The growing cache holds what transformers' own would hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer, EncoderDecoderCache

from psplit_eval.kvcache import GrowingLayer, growing, is_plain, is_selectable, side_by_side


def states(rows, positions, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 2, positions, 4, generator=generator) for _ in range(2)]


def filled(rows, positions, layers=1, seed=0):
    cache = DynamicCache()
    for layer in range(layers):
        cache.update(*states(rows, positions, seed + layer), layer)
    return cache


def same(layer, keys, values):
    return torch.equal(layer.keys, keys) and torch.equal(layer.values, values)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_course_of_steps_leaving_and_joining_rows(data):
    """Against tensors that are put together anew at every turn."""
    layer = GrowingLayer(*states(3, 5, 0), rows=data.draw(st.integers(0, 8)))
    expected = states(3, 5, 0)
    for turn in range(1, data.draw(st.integers(1, 12))):
        rows, _, length, _ = expected[0].shape
        what = data.draw(st.sampled_from(["step", "keep", "join"]))
        if what == "step":
            new = states(rows, data.draw(st.sampled_from([1, 90])), turn)
            expected = [torch.cat(pair, dim=2) for pair in zip(expected, new, strict=True)]
            found = layer.update(*new)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        elif what == "keep":
            order = data.draw(st.permutations(range(rows)))[: data.draw(st.integers(1, rows))]
            layer.keep(order)
            expected = [x[order] for x in expected]
        else:
            new = states(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7)), turn)
            positions = max(length - data.draw(st.integers(0, length - 1)), new[0].shape[2])
            layer.join(*new, positions)
            expected = [
                torch.cat([fitted(x, positions) for x in pair])
                for pair in zip(expected, new, strict=True)
            ]
        assert same(layer, *expected)
        assert layer.get_seq_length() == expected[0].shape[2]


def fitted(x, positions):
    if x.shape[2] >= positions:
        return x[:, :, x.shape[2] - positions :]
    front = torch.zeros(x.shape[0], x.shape[1], positions - x.shape[2], x.shape[3])
    return torch.cat([front, x], dim=2)


def test_rows_of_a_cache_are_fanned_out():
    cache = filled(3, 4, layers=2)
    places = torch.tensor([2, 0, 0, 2, 1])
    made = growing(cache, places, rows=9)
    for before, after in zip(cache.layers, made.layers, strict=True):
        assert same(after, before.keys[places], before.values[places])
    made.update(*states(5, 1, 7), 0)
    assert cache.get_seq_length() == 4, "the cache that was fanned out stays as it is"


def test_caches_stand_side_by_side_with_zeros_in_front():
    short, long = filled(1, 2), filled(2, 5, seed=3)
    (layer,) = side_by_side([short, long], 5).layers
    assert torch.equal(layer.keys[0, :, 3:], short.layers[0].keys[0])
    assert not layer.keys[0, :, :3].any()
    assert torch.equal(layer.values[1:], long.layers[0].values)


@pytest.mark.parametrize(
    ("cache", "plain", "selectable"),
    [
        (filled(1, 2), True, True),
        (DynamicCache(), False, True),
        (EncoderDecoderCache(filled(1, 2), filled(1, 2)), False, False),
        (None, False, False),
        (((torch.zeros(1),),), False, False),
    ],
)
def test_what_a_cache_can_do(cache, plain, selectable):
    assert (is_plain(cache), is_selectable(cache)) == (plain, selectable)


def test_a_sliding_window_can_lose_rows_only():
    cache = filled(1, 2)
    cache.layers.append(DynamicSlidingWindowLayer(sliding_window=4))
    assert (is_plain(cache), is_selectable(cache)) == (False, True)
