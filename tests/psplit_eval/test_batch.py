"""Rows that join, leave and share beginnings get the logits they would get alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.batch import Batch, common_prefix, padded


@pytest.fixture(scope="module")
def model(tiny):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny).eval()


def prompt(length, seed, start=()):
    numbers = torch.Generator().manual_seed(seed)
    return (*start, *torch.randint(3, 250, (length,), generator=numbers).tolist())


def alone(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0, -1]


def check(model, batch, texts):
    for logits, ids in zip(batch.logits, texts, strict=True):
        torch.testing.assert_close(logits, alone(model, ids), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_rows_come_and_go(model):
    """A long life: admit, step, leave, admit shorter and longer prompts, and so on."""
    batch = Batch(model, 0, 5)
    texts = [prompt(9, 1), prompt(4, 2), prompt(9, 1)]
    batch.admit(texts)
    for turn in range(60):
        check(model, batch, texts)
        tokens = torch.randint(3, 250, (len(texts),), generator=torch.Generator().manual_seed(turn))
        if turn % 3 == 2:
            order = [len(texts) - 1, *range(1, len(texts) - 1)]
            batch.keep(order)
            texts, tokens = [texts[i] for i in order], tokens[order]
        batch.step(tokens)
        texts = [(*ids, int(token)) for ids, token in zip(texts, tokens, strict=True)]
        if len(texts) < 4:
            new = [prompt(3 + turn % 17, 100 + turn), prompt(5, 200 + turn)]
            batch.admit(new)
            texts += new


@torch.inference_mode()
def test_what_prompts_begin_with_is_run_once(model):
    common, other = prompt(20, 1), prompt(40, 2)
    prompts = [prompt(3, 3, common), prompt(8, 4, common), prompt(5, 5, other), prompt(6, 6)]
    shared = [common, common, other, ()]
    beginnings = {}
    batch = Batch(model, 0, 9, beginnings)
    batch.admit([*prompts, prompts[1]], [*shared, common])
    assert set(beginnings) == {common, other}
    texts = [*prompts, prompts[1]]
    check(model, batch, texts)
    batch.step(torch.full((5,), 7))
    texts = [(*ids, 7) for ids in texts]
    batch.keep([0, 2, 4])
    batch.admit([prompt(2, 9, common)], [common])
    check(model, batch, [texts[0], texts[2], texts[4], prompt(2, 9, common)])


@torch.inference_mode()
def test_answers_of_different_lengths_are_scored(model):
    batch = Batch(model, 0, 3)
    prompts, answers = [prompt(6, 1), prompt(3, 2), prompt(6, 1)], [(5,), (7, 8, 9), (11, 12)]
    batch.admit(prompts)
    for ids, answer, (total, greedy) in zip(prompts, answers, batch.score(answers), strict=True):
        logits = model(torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1].double()
        chosen = logits.log_softmax(-1)[range(len(answer)), list(answer)]
        assert total == pytest.approx(float(chosen.sum()), abs=1e-4)
        assert greedy == bool((logits.argmax(-1) == torch.tensor(answer)).all())


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40).map(tuple), min_size=1))
def test_a_common_prefix_is_common_and_leaves_each_a_token(prompts):
    found = common_prefix(prompts)
    assert all(p[: len(found)] == found and len(p) > len(found) for p in prompts)
    if not found and len(set(prompts)) > 1:
        assert len({p[:16] for p in prompts}) > 1 or min(map(len, prompts)) <= 16


def test_padding_is_masked():
    ids, mask = padded([(1, 2), (3,)], 9, "cpu")
    assert ids.tolist() == [[1, 2], [9, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = padded([(1, 2), (3,)], 9, "cpu", right=True)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2], [3, 9]], [[1, 1], [1, 0]])
