"""How well answers foretell each other: what is read, what is made of it, a model's own bits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.surprise import SHOWN_WORDS, foretold, layouts, mutual_bits

texts = st.lists(st.text(alphabet="ab \n", max_size=12), max_size=6)


def reading(alone, given):
    """Token bits of one layout: its first text's other words, and its second's."""
    return [[1.0], alone, [0.5, 0.5], [1.0], given]


def test_two_answers_are_read_in_both_orders():
    assert layouts(" Name a fruit. ", ["an apple", "a ripe\n pear"]) == [
        ("Name a fruit.\n1.", (" an", " apple", "\n2.", " a", " ripe pear")),
        ("Name a fruit.\n1.", (" a", " ripe pear", "\n2.", " an", " apple")),
    ]


@given(texts)
def test_every_text_with_words_is_read_after_two_others(answers):
    found = layouts("x", answers)
    kept = [" " + " ".join(text.split()) for text in answers if text.split()]
    k = len(kept)
    assert len(found) == k * min(2, k - 1) if k > 1 else found == []
    seconds = ["".join(pieces[3:]) for _, pieces in found]
    assert sorted(seconds) == sorted(kept * min(2, max(k - 1, 0)))
    pairs = [(i, (i + step) % k) for step in range(1, min(2, k - 1) + 1) for i in range(k)]
    assert len(set(pairs)) == len(found)
    assert [("".join(p[:2]), "".join(p[3:])) for _, p in found] == [
        (kept[i], kept[j]) for i, j in pairs
    ]


def test_only_the_beginning_of_a_long_text_is_read():
    (_, pieces), _ = layouts("x", ["word " * 10_000, "y"])
    assert len("".join(pieces[:2]).split()) == SHOWN_WORDS


def test_saved_bits_are_counted_by_hand():
    # b costs 8 + 8 bits alone and 4 + 4 after a: 8 / √2; a costs 9 alone, 3 after b: 6 / √1
    pairs = foretold([reading([9.0], [4.0, 4.0]), reading([8.0, 8.0], [3.0])])
    assert pairs.alone.tolist() == [16.0, 9.0]
    assert pairs.given.tolist() == [8.0, 3.0]
    assert mutual_bits(pairs) == pytest.approx((8 / math.sqrt(2) + 6) / 2)


def test_every_pair_finds_its_second_text_alone():
    k = 5
    alone = [[10.0 + i] * 2 for i in range(k)]
    read = [reading(alone[i], [float((i + step) % k)] * 2) for step in (1, 2) for i in range(k)]
    pairs = foretold(read)
    assert (pairs.alone - pairs.given).tolist() == [20.0] * (2 * k)


def test_texts_of_one_word_and_texts_cut_by_the_context_are_left_out():
    one_word = foretold([reading([], [4.0]), reading([5.0], [])])
    assert one_word.alone.tolist() == [5.0]
    cut = foretold([reading([9.0, 9.0], [4.0]), reading([8.0, 8.0], [3.0, 3.0])])
    assert cut.alone.tolist() == [18.0]


@pytest.mark.parametrize("read", [[], [reading([], []), reading([], [])]])
def test_without_pairs_nothing_is_known(read):
    assert math.isnan(mutual_bits(foretold(read)))


@given(st.lists(st.floats(0, 40), min_size=3, max_size=3), st.floats(-5, 5))
def test_what_is_saved_everywhere_is_what_comes_out(costs, saved):
    read = [
        reading([costs[i]], [costs[(i + step) % 3] - saved]) for step in (1, 2) for i in range(3)
    ]
    assert mutual_bits(foretold(read)) == pytest.approx(saved, abs=1e-9)


@pytest.mark.slow
def test_a_model_finds_that_paraphrases_foretell_each_other(smollm2):
    from psplit_eval.reference import ReferenceModel
    from psplit_eval.scoring import Chain

    alike = [
        "She gave up and went home.",
        "She quit and went back home.",
        "She gave up, went home.",
    ]
    apart = ["She gave up and went home.", "Her sister lent her the car.", "Rain stopped the race."]
    prompt = "Ann wanted to watch the race. She was late, and the bus was gone."
    model = ReferenceModel()
    bits = [
        mutual_bits(foretold(model.surprisals([Chain(*each) for each in layouts(prompt, answers)])))
        for answers in (alike, apart)
    ]
    assert bits[0] > bits[1] + 1
    assert np.isfinite(bits).all()
