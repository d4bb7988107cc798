"""The engine draws from the model's own distribution, whoever shares the batch."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import CheckpointError, TemplateError
from psplit_eval.hf import HFBackend
from psplit_eval.requests import Request, Sampling

QUESTIONS = ["What is 3 + 4?", "Name a colour.", "Hi", "How many days has a week? Answer briefly."]


@pytest.fixture(scope="module")
def backend(tiny):
    return HFBackend(resolve_checkpoint(str(tiny)), device="cpu")


@pytest.fixture(scope="module")
def real(smollm2):
    return HFBackend(smollm2, device="cpu")


def request(backend, question, sampling, seed=0):
    ids = backend.encode(backend.render([{"role": "user", "content": question}]))
    return Request("m", "t", 0, 0, "doc", "prompt", ids, sampling, seed)


def complete(backend, requests):
    return backend.complete(requests, lambda tokens, samples: None)


def test_greedy_text_equals_lm_evals_own_model(real, smollm2):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    stock = HFLM(pretrained=str(smollm2.folder), device="cpu", dtype="float32", batch_size=4)
    settings = {"until": [], "max_gen_toks": 24, "do_sample": False}
    prompts = [real.render([{"role": "user", "content": q}]) for q in QUESTIONS]
    expected = stock.generate_until(
        [Instance("generate_until", {}, (prompt, settings), i) for i, prompt in enumerate(prompts)],
        disable_tqdm=True,
    )
    greedy = Sampling(temperature=0, max_tokens=24)
    found = complete(real, [request(real, q, greedy) for q in QUESTIONS])
    assert [c.text for c in found] == expected


def test_a_sample_is_the_same_alone_and_in_company(real):
    sampling = Sampling(temperature=1, max_tokens=12)
    requests = [request(real, q, sampling, seed) for q in QUESTIONS for seed in (1, 2)]
    together = complete(real, requests)
    for number in (0, 3, 6):
        (alone,) = complete(real, [requests[number]])
        assert alone.ids == together[number].ids
        assert alone.entropy_sum_bits == pytest.approx(together[number].entropy_sum_bits, rel=1e-4)


def test_entropy_and_nll_equal_one_pass_over_the_whole_text(real):
    sampling = Sampling(temperature=0.7, top_k=20, max_tokens=16)
    requests = [request(real, q, sampling, seed=5) for q in QUESTIONS]
    for asked, found in zip(requests, complete(real, requests), strict=True):
        ids = torch.tensor([[*asked.prompt_ids, *found.ids]])
        with torch.inference_mode():
            logits = real.model(ids).logits[0, len(asked.prompt_ids) - 1 : -1].double()
        log_probs = logits.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum() / math.log(2)
        nll = -log_probs[range(len(found.ids)), list(found.ids)].sum()
        assert found.entropy_sum_bits == pytest.approx(float(entropy), rel=1e-4)
        assert found.nll_sum_nats == pytest.approx(float(nll), rel=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=1),
        Sampling(max_tokens=1, temperature=0.5, top_k=12),
        Sampling(max_tokens=1, top_p=0.8),
        Sampling(max_tokens=1, min_p=0.2),
    ],
)
def test_first_tokens_fit_the_truncated_softmax(backend, sampling):
    asked = request(backend, "Hi", sampling)
    draws = 3000
    requests = [request(backend, "Hi", sampling, seed) for seed in range(draws)]
    tokens = [c.ids[0] for c in complete(backend, requests)]
    with torch.inference_mode():
        logits = backend.model(torch.tensor([asked.prompt_ids])).logits[0, -1].double().numpy()
    expected = _softmax(logits, sampling)
    counts = np.bincount(tokens, minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    often = expected * draws >= 5
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum()) * draws
    kept = wanted > 0
    assert stats.chisquare(observed[kept], wanted[kept]).pvalue > 1e-3


def _softmax(logits, sampling):
    """Temperature, then top-k, top-p and min-p, written out by their definitions."""
    p = np.exp((logits - logits.max()) / sampling.temperature)
    p /= p.sum()
    if sampling.top_k:
        p[p < np.sort(p)[-sampling.top_k]] = 0
        p /= p.sum()
    if sampling.top_p < 1:
        order = np.argsort(-p)
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= sampling.top_p]] = 0
        p /= p.sum()
    p[p < sampling.min_p * p.max()] = 0
    return p / p.sum()


def test_the_token_limit_truncates(backend):
    (found,) = complete(backend, [request(backend, "Hi", Sampling(max_tokens=3), 1)])
    assert (len(found.ids), found.finish_reason) == (3, "length")


def test_a_stop_string_ends_the_text_before_it(real):
    free = complete(real, [request(real, QUESTIONS[0], Sampling(temperature=0, max_tokens=12))])[0]
    stop = free.text[2:4]
    cut = Sampling(temperature=0, max_tokens=12, until=(stop,))
    found = complete(real, [request(real, QUESTIONS[0], cut)])[0]
    assert found.text == free.text[: free.text.index(stop)]
    assert found.finish_reason == "stop"
    assert len(found.ids) < len(free.ids)


def test_the_context_is_never_overrun(backend):
    asked = request(backend, "x" * 600, Sampling(max_tokens=5000), 1)
    (found,) = complete(backend, [asked])
    assert len(asked.prompt_ids) + len(found.ids) <= backend.context_length


def test_a_model_of_broken_numbers_is_an_error_not_text(tiny):
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu")
    backend.model.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        complete(backend, [request(backend, "Hi", Sampling(max_tokens=2))])


def test_a_tokenizer_without_template_is_refused(tiny, tmp_path):
    import shutil

    folder = tmp_path / "bare"
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(TemplateError, match="--chat-template"):
        HFBackend(resolve_checkpoint(str(folder)), device="cpu")


def test_weights_that_cannot_be_read_are_a_checkpoint_error(tiny, tmp_path):
    import shutil

    folder = tmp_path / "torn"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot open it"):
        HFBackend(resolve_checkpoint(str(folder)), device="cpu")
