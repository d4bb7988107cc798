"""Drawing in process against transformers' own `generate`, from the same state of the generator."""

import pytest
import torch
from training_cases import model

from psplit_train.generation import decode, warper

PROMPTS = [[2, 5, 6, 3]] * 6 + [[4, *range(5, 25), 2, 7, 8, 3]] * 6
SETTINGS = {
    "plain": (1.0, 0, 1.0, None),
    "truncated": (0.7, 12, 0.9, None),
    "min_p": (1.3, 0, 1.0, 0.05),
    "greedy": (1.0, 1, 1.0, None),
}


def theirs(network, prompts, most, ends, temperature, top_k, top_p, min_p):
    """transformers' loop over left-padded rows, cut after the first end."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    known = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    found = network.generate(
        input_ids=ids,
        attention_mask=known,
        do_sample=True,
        max_new_tokens=most,
        eos_token_id=ends,
        pad_token_id=0,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
    )[:, width:].tolist()
    return [
        row[: min((row.index(end) + 1 for end in ends if end in row), default=len(row))]
        for row in found
    ]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("ends", [[1], [1, 9, 20, 21]], ids=["few_end", "many_end"])
def test_tokens_are_those_of_transformers_loop(settings, ends):
    network = model()
    for seed in range(5):
        torch.manual_seed(seed)
        expected = theirs(network, PROMPTS, 40, ends, *settings)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        found = decode(network, PROMPTS, 40, ends, 0, warper(*settings))
        assert found == expected
        assert torch.equal(torch.get_rng_state(), state), "later draws would differ"
    if ends != [1] and settings[1] != 1:
        assert len({len(row) for row in found}) > 3, "rows have to leave at different steps"


def test_a_prompt_is_run_once_for_all_its_responses():
    network, seen = model(), []
    network.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    decode(network, PROMPTS, 3, [1], 0, warper(*SETTINGS["plain"]))
    assert seen[0] == (2, 25)
    assert seen[1:] == [(12, 1)] * (len(seen) - 1)
