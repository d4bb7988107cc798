"""Responses under several prompts: every number as the model gives it, one response alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from psplit_eval.backends import Case
from psplit_eval.crossing import Room, cross, cross_whole

torch.set_num_threads(1)
PAIRS = [("a", "b"), ("c", "b")]
KINDS = ("llama", "qwen3", "gpt2", "gpt_neox")


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    """Small random models of several families, in double precision."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    config = AutoConfig.for_model(
        request.param,
        vocab_size=67,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
    )
    return AutoModelForCausalLM.from_config(config).double().eval()


@pytest.fixture(scope="module")
def llama(tiny):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny).double().eval()


def ids(length, seed):
    numbers = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(2, 66, (length,), generator=numbers).tolist())


def case(seed, *responses):
    start = ids(20, 0)  # what all prompts of a policy begin with
    prompts = {"a": ids(5 + seed, seed), "b": (*start, *ids(3, seed + 1)), "c": ids(2, seed + 2)}
    return Case(responses, prompts, PAIRS)


def directly(model, prompt, response):
    """Probabilities of every position, by one plain call: (tokens, vocabulary)."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.softmax(-1).numpy()


def check(model, cases, found):
    found = dict(found)
    assert sorted(found) == list(range(len(cases)))
    for number, each in enumerate(cases):
        for i, response in enumerate(each.responses):
            p = {name: directly(model, prompt, response) for name, prompt in each.prompts.items()}
            exact = {"rtol": 1e-8, "atol": 1e-9}
            for name, mass in p.items():
                expected = entropy(mass, base=2, axis=-1)
                np.testing.assert_allclose(found[number].entropy(i, name), expected, **exact)
                chosen = -np.log2(mass[range(len(response)), list(response)])
                np.testing.assert_allclose(found[number].surprisal(i, name), chosen, **exact)
            for a, b in PAIRS:
                kl, back, js = found[number].between(i, (a, b))
                np.testing.assert_allclose(kl, entropy(p[a], p[b], base=2, axis=-1), **exact)
                np.testing.assert_allclose(back, entropy(p[b], p[a], base=2, axis=-1), **exact)
                middle = (p[a] + p[b]) / 2
                parts = [entropy(p[x], middle, base=2, axis=-1) for x in (a, b)]
                np.testing.assert_allclose(js, sum(parts) / 2, **exact)


CASES = [
    case(1, ids(9, 10), ids(9, 10)[:4], (*ids(9, 10)[:4], 2, 3), ids(1, 11), ids(9, 10)),
    case(4, ids(30, 12), ids(28, 13)),
    case(7, (5,)),
    case(9, *((3, 4, token) for token in range(5, 25))),
]


@pytest.mark.parametrize(
    "room", [Room(64, 10**6, 10**6), Room(7, 10**6, 60), Room(1, 1, 1)], ids=str
)
def test_every_number_is_what_the_model_gives_the_response_alone(model, room):
    check(model, CASES, cross(model, 0, CASES, room, {}))


def test_long_trees_are_walked_in_parts(llama, monkeypatch):
    monkeypatch.setattr("psplit_eval.crossing._TREE", 12)
    check(llama, CASES, cross(llama, 0, CASES, Room(16, 10**6, 30), {}))


@settings(max_examples=15)
@given(
    st.lists(
        st.lists(st.lists(st.integers(2, 5), max_size=7).map(tuple), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 20),
)
def test_any_responses_in_any_room(llama, responses, contexts):
    cases = [case(i, *each) for i, each in enumerate(responses)]
    check(llama, cases, cross(llama, 0, cases, Room(contexts, 10**6, 3 * contexts), {}))


def test_what_prompts_begin_with_is_kept_from_call_to_call(llama):
    kept = {}
    list(cross(llama, 0, CASES, Room(64, 10**6, 10**6), kept))
    assert set(kept) == {ids(20, 0)}
    check(llama, CASES[:2], cross(llama, 0, CASES[:2], Room(64, 10**6, 10**6), kept))


def test_a_model_that_takes_no_mask_scores_every_response_alone(model):
    check(model, CASES, cross_whole(model, CASES))


def test_a_response_without_tokens_has_no_numbers(llama):
    empty = case(2, (), (7, 8))
    for found in (cross(llama, 0, [empty], Room(9, 99, 9), {}), cross_whole(llama, [empty])):
        ((_, crossed),) = list(found)
        assert crossed.entropy(0, "a").shape == (0,)
        assert crossed.entropy(1, "a").shape == (2,)


def test_single_precision_keeps_entropies_to_a_ten_thousandth(llama):
    single = llama.float()
    found = dict(cross(single, 0, CASES, Room(64, 10**6, 10**6), {}))
    llama.double()
    for i, response in enumerate(CASES[0].responses):
        mass = directly(llama, CASES[0].prompts["a"], response)
        total = float(entropy(mass, base=2, axis=-1).sum())
        assert math.isclose(found[0].entropy(i, "a").sum(), total, rel_tol=1e-4)
