"""Scores of responses against transformers' plain logits, and gradients through shared prompts."""

import pytest
import torch
from training_cases import model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from trl.trainer.utils import add_fused_lm_head

from psplit_train.scoring import can_share, holds_positions, score

PROMPTS = [(3, 4, 5, 6, 7), (9, 8)]
PLACES = torch.tensor([0, 1, 0, 1, 0, 0])
LENGTHS = torch.tensor([3, 9, 5, 1, 7, 2])


@pytest.fixture
def network():
    made = model()
    add_fused_lm_head(made, outputs=("log_probs", "entropy"))
    return made


@pytest.fixture
def responses():
    generator = torch.Generator().manual_seed(0)
    completions = torch.randint(2, 25, (6, 12), generator=generator)
    return completions, torch.arange(12) < LENGTHS[:, None]


@pytest.mark.parametrize("share", [True, False])
def test_scores_are_those_of_each_row_alone(network, responses, share):
    completions, mask = responses
    found = score(network, PROMPTS, PLACES, completions, mask, share)
    assert found.log_probs.shape == found.entropies.shape == (6, 12)
    for row, length in enumerate(LENGTHS.tolist()):
        prompt, ids = PROMPTS[PLACES[row]], completions[row, :length].tolist()
        with torch.no_grad():
            logits = network(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        known = logits.log_softmax(-1)
        log_probs = known.gather(1, torch.tensor(ids)[:, None])[:, 0]
        torch.testing.assert_close(found.log_probs[row, :length], log_probs, rtol=0, atol=1e-5)
        entropies = -(known.exp() * known).sum(-1)
        torch.testing.assert_close(found.entropies[row, :length], entropies, rtol=0, atol=1e-5)
        assert not found.log_probs[row, length:].any()


def test_gradients_flow_through_shared_prompts(network, responses):
    completions, mask = responses
    found = []
    for share in (True, False):
        network.zero_grad()
        scores = score(network, PROMPTS, PLACES, completions, mask, share)
        (scores.log_probs.sum() + 0.3 * scores.entropies.sum()).backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert found[0].abs().max() > 1
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_caches_that_forget_positions_and_checkpointing_share_nothing(network):
    assert can_share(network)
    network.gradient_checkpointing_enable()
    assert not can_share(network)
    assert holds_positions(network)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
    shape |= {"intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 9}
    assert holds_positions(LlamaForCausalLM(LlamaConfig(**shape)))
    sliding = MistralForCausalLM(MistralConfig(**shape, sliding_window=4))
    assert not holds_positions(sliding)
