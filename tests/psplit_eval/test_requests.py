"""Seeds, settings and work groups."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.requests import (
    Request,
    Sampling,
    Shard,
    digest,
    plan_sum,
    sample_seed,
    work_groups,
)


def request(mode, task, doc, index, length):
    return Request(mode, task, doc, index, "h", "p", (1,) * length, Sampling(), 0)


def test_every_part_of_the_key_changes_the_seed():
    parts = [
        (0, "m", "t", "d", 0),
        (1, "m", "t", "d", 0),
        (0, "n", "t", "d", 0),
        (0, "m", "u", "d", 0),
        (0, "m", "t", "e", 0),
        (0, "m", "t", "d", 1),
    ]
    seeds = [sample_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_never_change_between_versions():
    """A golden: a new seed would silently change what every old run says when it is extended."""
    assert sample_seed(0, "normal", "psplit_sums", "abc", 0) == 3048911525859520546


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": "hot"},
        {"top_k": 1.5},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": 2},
        {"max_tokens": 0},
        {"max_tokens": True},
    ],
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        Sampling().updated(bad)


def test_an_unknown_setting_gets_a_guess():
    with pytest.raises(UnknownNameError, match="did you mean 'top_p'"):
        Sampling().updated({"topp": 1})


def test_one_stop_string_may_be_given_bare():
    assert Sampling().updated({"until": "END"}).until == ("END",)


def test_the_request_hash_covers_settings_and_prompt():
    one = request("m", "t", 0, 0, 3)
    hotter = Request("m", "t", 0, 0, "h", "p", (1,) * 3, Sampling(temperature=0.5), 0)
    other = Request("m", "t", 0, 0, "h", "q", (1,) * 3, Sampling(), 0)
    assert len({r.request_hash for r in (one, hotter, other)}) == 3


def test_the_request_hash_is_that_of_its_own_settings_whatever_came_before():
    """1 and 1.0 are equal, but not written alike: old runs have the hash of what was written."""
    for temperature in (1.0, 1, 1.0):
        settings = Sampling(temperature=temperature)
        made = Request("m", "t", 0, 0, "h", "p", (1,), settings, 7)
        assert made.request_hash == digest("p", "h", settings.to_dict(), 7)


@given(
    st.sets(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from("tu"), st.integers(0, 9), st.integers(0, 3)
        )
    ),
    st.integers(1, 2000),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_groups_partition_the_plan_whatever_its_order(keys, tokens, least, rng: random.Random):
    plan = [request(*key, length=1 + key[2] % 4) for key in sorted(keys)]
    groups = work_groups(plan, tokens, least)
    assert sorted(r.key for group in groups for r in group) == sorted(keys)
    lengths = [len(r.prompt_ids) for group in groups for r in group]
    assert lengths == sorted(lengths, reverse=True)
    sizes = [len(group) for group in groups]
    assert not sizes or max(sizes) - min(sizes) <= 1, "equal requests make equal groups"
    shuffled = list(plan)
    rng.shuffle(shuffled)
    again = work_groups(shuffled, tokens, least)
    assert [[r.key for r in g] for g in again] == [[r.key for r in g] for g in groups]


@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=200),
    st.sampled_from([(1, 10**9), (16, 10**9), (8, 32)]),
)
def test_groups_are_of_about_equal_work(lengths, bounds):
    least, most = bounds
    sampling = [Sampling(max_tokens=n) for n in lengths]
    plan = [replace(request("m", "t", i, 0, length=3), sampling=s) for i, s in enumerate(sampling)]
    groups = work_groups(plan, 16384, least, most)
    costs = [
        [min(max(r.sampling.max_tokens, 16384 / most), 16384 / least) for r in group]
        for group in groups
    ]
    total, largest = sum(map(sum, costs)), max(map(max, costs))
    assert len(groups) <= max(1, round(total / 16384))
    for group in costs:
        assert sum(group) <= total / max(1, round(total / 16384)) + largest + 1e-6
    assert max(map(len, groups)) <= 1.5 * most + 1


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_shards_partition_the_groups_in_even_parts(groups, count):
    parts = [Shard(index, count).of(groups) for index in range(1, count + 1)]
    dealt = [parts[i % count][i // count] for i in range(len(groups))]
    assert dealt == groups
    assert sum(map(len, parts)) == len(groups)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_is_written_as_i_of_n():
    assert Shard.parse("2/10") == Shard.parse("02/010") == Shard(2, 10)
    assert str(Shard(2, 10)) == "2/10"
    for text in ("0/2", "3/2", "1", "1/", "/2", "x/2", "1/2/3", " 1/2", "-1/2", ""):
        with pytest.raises(UsageError, match="expected I/N"):
            Shard.parse(text)


def test_the_sum_of_a_plan_covers_its_requests_and_groups():
    requests = [request("m", "t", doc, 0, 3) for doc in range(4)]
    hotter = [replace(r, sampling=Sampling(temperature=0.5)) for r in requests]
    sums = {
        plan_sum([requests]),
        plan_sum([requests[:2], requests[2:]]),
        plan_sum([requests[:1], requests[1:]]),
        plan_sum([requests[:3]]),
        plan_sum([hotter]),
    }
    assert len(sums) == 5
    assert plan_sum([requests]) == plan_sum([list(requests)])


def test_given_answers_are_never_in_a_group_with_what_is_drawn():
    drawn = [request("m", "t", i, 0, length=3) for i in range(5)]
    given = [
        replace(request("m", "u", i, 0, length=3), answer="A", answer_ids=(1,)) for i in range(5)
    ]
    for group in work_groups([*drawn, *given], 10_000):
        assert len({r.answer is None for r in group}) == 1


@pytest.mark.parametrize(
    ("given", "kept"), [(None, ()), ("x", ("x",)), ([], ()), (["", "a"], ("a",)), ("", ())]
)
def test_stop_texts_that_are_none_stop_nothing(given, kept):
    assert Sampling().updated({"until": given}).until == kept


@pytest.mark.parametrize("bad", [5, [1], [["a"]]])
def test_a_stop_that_is_no_text_is_an_error(bad):
    with pytest.raises(UsageError, match="until"):
        Sampling().updated({"until": bad})
