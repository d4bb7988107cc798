"""A prefix tree has every context once, and every sequence can be read from it again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.trees import PrefixTree, split

SEQUENCES = st.lists(st.lists(st.integers(0, 3), max_size=6).map(tuple), min_size=1, max_size=8)


def prefixes(sequences):
    """What the sequences' tokens stand behind, by definition."""
    return {s[:i] for s in sequences for i in range(len(s))} | {()}


def read(tree, path):
    return tuple(int(tree.steps[step, 1]) for step in path)


def ancestors(tree, context):
    """Contexts that begin a context, itself included: those whose range holds it."""
    return [u for u in range(context + 1) if context < u + tree.sizes[u]]


@given(SEQUENCES)
def test_every_sequence_is_read_from_its_path(sequences):
    tree = PrefixTree.of(sequences)
    assert [read(tree, path) for path in tree.paths] == sequences


@given(SEQUENCES)
def test_contexts_are_the_distinct_prefixes_and_see_those_that_they_begin_with(sequences):
    tree = PrefixTree.of(sequences)
    found = set()
    for context in range(len(tree)):
        seen = ancestors(tree, context)
        assert list(tree.depths[seen]) == list(range(len(seen)))
        found.add(tuple(int(tree.tokens[u]) for u in seen[1:]))
    assert found == prefixes(sequences)
    assert len(tree) == len(found)


@given(SEQUENCES)
def test_steps_stand_by_context(sequences):
    tree = PrefixTree.of(sequences)
    assert list(tree.steps[:, 0]) == sorted(tree.steps[:, 0])
    assert len(tree.steps) == len({(s[:i], s[i]) for s in sequences for i in range(len(s))})
    for context in range(len(tree)):
        part = tree.steps[tree.steps_in(context, context + 1)]
        assert set(part[:, 0]) <= {context}
    parts = [tree.steps_in(i, i + 1) for i in range(len(tree))]
    assert sum(part.stop - part.start for part in parts) == len(tree.steps)


@given(SEQUENCES, st.integers(1, 8))
def test_parts_have_every_sequence_once_and_keep_to_the_size(sequences, most):
    parts = list(split(sequences, most))
    assert sorted(number for part in parts for number in part) == list(range(len(sequences)))
    for part in parts:
        tree = PrefixTree.of([sequences[number] for number in part])
        assert len(tree) <= most + 1 or len(part) == 1


def test_what_begins_alike_is_there_once():
    tree = PrefixTree.of([(5, 6, 7), (5, 6, 8), (5, 6)])
    np.testing.assert_array_equal(tree.tokens, [0, 5, 6])
    np.testing.assert_array_equal(tree.steps, [[0, 5], [1, 6], [2, 7], [2, 8]])
