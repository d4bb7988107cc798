"""The engine draws from the model's own distribution, whoever shares the batch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from psplit_eval.backends import Case, Crossed
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import CheckpointError, InfrastructureError, TemplateError, UsageError
from psplit_eval.hf import HFBackend
from psplit_eval.requests import Request, Sampling
from psplit_eval.thinking import Thinking

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
    (found,) = complete(backend, [request(backend, "Hi", Sampling(max_tokens=3), 2)])
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


def test_a_template_is_told_to_think_or_not(tiny):
    template = (
        "{{ messages[0]['content'] }}{% if enable_thinking is defined %}{{ enable_thinking }}"
    )
    said = {}
    for switch in ("auto", "on", "off"):
        backend = HFBackend(
            resolve_checkpoint(str(tiny)),
            device="cpu",
            chat_template=template + "{% endif %}",
            thinking=Thinking.parse(switch),
        )
        said[switch] = backend.render([{"role": "user", "content": "Hi"}])
    assert said == {"auto": "Hi", "on": "HiTrue", "off": "HiFalse"}


def test_weights_that_cannot_be_read_are_a_checkpoint_error(tiny, tmp_path):
    import shutil

    folder = tmp_path / "torn"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot open it"):
        HFBackend(resolve_checkpoint(str(folder)), device="cpu")


def some(backend, number, max_tokens=12, **settings):
    """Requests of several prompts, lengths and seeds."""
    sampling = Sampling(max_tokens=max_tokens, **settings)
    asked = [QUESTIONS[i % 4] + " Be brief." * (i % 3) for i in range(number)]
    return [request(backend, text, sampling, seed) for seed, text in enumerate(asked)]


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_waiting_rows_take_the_places_of_finished_ones(tiny, rows):
    """Few rows at a time, with others joining, give what all rows at once give."""
    whole = HFBackend(resolve_checkpoint(str(tiny)), device="cpu", batch_size=64)
    few = HFBackend(resolve_checkpoint(str(tiny)), device="cpu", batch_size=rows)
    requests = some(whole, 150, max_tokens=60, until=("a", "e", "o"))
    expected = complete(whole, requests)
    assert len({len(c.ids) for c in expected}) > 5, "rows must finish at different times"
    steps = []
    found = few.complete(requests, lambda tokens, samples: steps.append(tokens))
    assert [c.ids for c in found] == [c.ids for c in expected]
    assert [c.entropy_sum_bits for c in found] == pytest.approx(
        [c.entropy_sum_bits for c in expected], rel=1e-4
    )
    assert max(steps) <= rows
    assert sum(steps) == sum(len(c.ids) for c in expected)


def test_rows_of_a_group_have_settings_of_their_own(backend):
    kinds = [{"temperature": 0}, {"top_k": 3}, {"max_tokens": 2}, {"until": ["e"]}]
    mixed = [request(backend, "Hi", Sampling().updated({"max_tokens": 9, **k}), 5) for k in kinds]
    together = complete(backend, mixed)
    apart = [complete(backend, [asked])[0] for asked in mixed]
    assert [(c.ids, c.text) for c in together] == [(c.ids, c.text) for c in apart]


def test_one_bad_request_fails_alone(backend, monkeypatch):
    requests = some(backend, 9)
    good = complete(backend, requests)
    bad = requests[4].seed
    row = backend._responses.row
    monkeypatch.setattr(backend._responses, "row", lambda r: _broken(row, r, bad))
    (found,) = backend.run([requests], lambda tokens, samples: None)
    assert [type(result).__name__ for _, result in found].count("ValueError") == 1
    kept = [(r.seed, c.ids) for r, c in found if r.seed != bad]
    assert kept == [(r.seed, c.ids) for r, c in zip(requests, good, strict=True) if r.seed != bad]


def _broken(row, asked, bad):
    if asked.seed == bad:
        raise ValueError("this one")
    return row(asked)


def test_too_little_memory_means_fewer_rows_not_a_failure(tiny, monkeypatch):
    said = []
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu", say=said.append)
    requests = some(backend, 24)
    expected = [c.ids for c in complete(backend, requests)]
    from psplit_eval.batch import Batch

    admit = Batch.admit

    def small(self, prompts, shared=()):
        if len(prompts) > 5:
            raise torch.OutOfMemoryError("no room")
        admit(self, prompts, shared)

    monkeypatch.setattr(Batch, "admit", small)
    (found,) = backend.run([requests], lambda tokens, samples: None)
    assert [c.ids for _, c in found] == expected
    assert "out of memory" in said[0]
    monkeypatch.setattr(Batch, "admit", lambda *_: small(None, [0] * 9))
    with pytest.raises(InfrastructureError, match="with one row"):
        list(backend.run([requests], lambda tokens, samples: None))


def test_rows_are_as_many_as_memory_has_room_for(tiny):
    roomy, tight = (
        HFBackend(resolve_checkpoint(str(tiny)), device="cpu", batch_memory=size)
        for size in (2**33, 2**20)
    )
    seen = {}
    for name, backend in (("roomy", roomy), ("tight", tight)):
        steps = []
        backend.complete(some(backend, 60), lambda tokens, _, steps=steps: steps.append(tokens))
        seen[name] = max(steps)
    # 2 layers × keys and values × 32 numbers × 4 bytes, twice, and logits of 300 tokens
    assert seen["roomy"] == 60
    assert 1 <= seen["tight"] < 30
    assert tight.describe()["batch_memory"] == 2**20


@pytest.mark.parametrize("kind", ["sliding", "recurrent", "encoder-decoder"])
def test_other_models_give_their_own_greedy_tokens(other_models, kind):
    said = []
    backend = HFBackend(
        resolve_checkpoint(str(other_models[kind])), device="cpu", batch_size=3, say=said.append
    )
    requests = some(backend, 8, max_tokens=10, temperature=0)
    found = complete(backend, requests)
    for asked, completion in zip(requests, found, strict=True):
        ids = torch.tensor([asked.prompt_ids])
        expected = backend.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False
        )[0].tolist()
        start = 1 if kind == "encoder-decoder" else ids.shape[1]
        assert list(completion.ids) == expected[start : start + len(completion.ids)]
        ended = completion.ids[-1] == 2
        assert (completion.finish_reason == "stop") == ended
    assert bool(said) == (kind != "sliding")


@pytest.mark.parametrize("kind", ["sliding", "recurrent", "encoder-decoder"])
def test_other_models_draw_by_seed_whoever_shares_the_batch(other_models, kind):
    backend = HFBackend(resolve_checkpoint(str(other_models[kind])), device="cpu", batch_size=4)
    requests = some(backend, 9, max_tokens=8)
    together = complete(backend, requests)
    assert [complete(backend, [r])[0].ids for r in requests] == [c.ids for c in together]
    assert len({c.ids for c in together}) > 4
    assert all(c.entropy_sum_bits > 0 for c in together)


def test_a_recurrent_model_scores_answers(other_models):
    backend = HFBackend(resolve_checkpoint(str(other_models["recurrent"])), device="cpu")
    asked = request(backend, "Hi", Sampling())
    asked = replace(asked, seed=None, answer="a b", answer_ids=backend.encode("a b"))
    (found,) = backend.score([asked], lambda tokens, samples: None)
    with torch.inference_mode():
        ids = torch.tensor([[*asked.prompt_ids, *asked.answer_ids]])
        logits = backend.model(ids).logits[0, len(asked.prompt_ids) - 1 : -1]
    chosen = logits.log_softmax(-1)[range(len(asked.answer_ids)), list(asked.answer_ids)]
    assert found.nll_sum_nats == pytest.approx(-float(chosen.sum()), rel=1e-4)


def test_an_encoder_decoder_cannot_score(other_models):
    folder = other_models["encoder-decoder"]
    assert not HFBackend(resolve_checkpoint(str(folder)), device="cpu").can_score


# Cross-scoring: what `crossing` finds is tested there; here, what the engine makes of it


@pytest.fixture(scope="module")
def gpt2(tiny, tmp_path_factory):
    """Learned positions, of which there are few."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=40, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=1, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


CROSSED = [("a", "b")]


def ids(length, seed):
    numbers = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 200, (length,), generator=numbers).tolist())


def crossing_case(seed, *responses):
    return Case(responses, {"a": ids(6, seed), "b": (*ids(4, 99), *ids(8, seed + 1))}, CROSSED)


def cases():
    return [
        crossing_case(1, ids(9, 10), ids(9, 10)[:5], (5,)),
        crossing_case(2, ids(20, 11), ids(12, 12)),
        crossing_case(3, (2,), ids(3, 13)),
    ]


def check_crossed(backend, asked, found):
    """Every number by one plain call with the whole sequence."""
    found = dict(found)
    assert sorted(found) == list(range(len(asked)))
    for number, case in enumerate(asked):
        for place, response in enumerate(case.responses):
            logs = {}
            for name, prompt in case.prompts.items():
                with torch.inference_mode():
                    logits = backend.model(torch.tensor([[*prompt, *response]])).logits
                logs[name] = logits[0, len(prompt) - 1 : -1].double().log_softmax(-1) / math.log(2)
            for name, log in logs.items():
                entropy = -(log.exp2() * log).sum(-1)
                surprisal = -log[range(len(response)), list(response)]
                close = {"rtol": 1e-4, "atol": 1e-5}
                np.testing.assert_allclose(found[number].entropy(place, name), entropy, **close)
                np.testing.assert_allclose(found[number].surprisal(place, name), surprisal, **close)
            kl, back, _ = found[number].between(place, ("a", "b"))
            for one, other, given in (("a", "b", kl), ("b", "a", back)):
                expected = (logs[one].exp2() * (logs[one] - logs[other])).sum(-1)
                np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["sliding", "recurrent", "gpt2", "llama"])
def test_every_kind_of_model_is_cross_scored_as_it_speaks(kind, other_models, gpt2, tiny):
    folder = {**other_models, "gpt2": gpt2, "llama": tiny}[kind]
    backend = HFBackend(resolve_checkpoint(str(folder)), device="cpu")
    heard = []
    found = list(backend.cross_score(cases(), lambda *done: heard.append(done)))
    check_crossed(backend, cases(), found)
    assert np.sum(heard, axis=0).tolist() == [9 + 5 + 1 + 20 + 12 + 1 + 3, 7]


def test_an_encoder_decoder_is_not_cross_scored(other_models):
    backend = HFBackend(resolve_checkpoint(str(other_models["encoder-decoder"])), device="cpu")
    with pytest.raises(UsageError, match="--no-divergence"):
        next(backend.cross_score(cases(), lambda *_: None))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_beyond_the_context_nothing_is_known(kind, gpt2, tiny):
    """Prompts of 6 and 12 tokens in a context of 40: of 29 tokens the last has no place behind the
    longer one. gpt2 has no position for it at all."""
    backend = HFBackend(resolve_checkpoint(str({"gpt2": gpt2, "llama": tiny}[kind])), device="cpu")
    backend.context_length = 40
    fitting = crossing_case(1, ids(28, 20), ids(4, 21))
    mixed = crossing_case(2, ids(29, 22), ids(28, 20), ids(34, 23))
    beyond = crossing_case(3, ids(29, 24), ids(33, 25))
    heard = []
    found = dict(backend.cross_score([beyond, fitting, mixed], lambda *done: heard.append(done)))
    check_crossed(backend, [fitting], [(0, found[1])])
    whole = Crossed(found[2].policies, found[2].pairs, [found[2].rows[1]])
    check_crossed(backend, [crossing_case(2, ids(28, 20))], [(0, whole)])
    for crossed, place, length in ((found[2], 0, 29), (found[2], 2, 34), (found[0], 1, 33)):
        assert crossed.rows[place].shape == (2 * 2 + 3, length)
        assert np.isnan(crossed.rows[place]).all()
    assert np.sum(heard, axis=0).tolist() == [28 + 4 + 29 + 28 + 34 + 29 + 33, 7]


def test_short_memory_halves_what_is_cross_scored_at_once(tiny, monkeypatch):
    said, tried = [], []
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu", say=said.append)
    from psplit_eval import crossing

    walk = crossing._walk

    def small(model, padding, trees, asked, room, *rest):
        tried.append(room)
        if room.contexts > 1500 and len(tried) > 1:
            raise torch.OutOfMemoryError("no room")
        walk(model, padding, trees, asked, room, *rest)

    monkeypatch.setattr(crossing, "_TREE", 8)
    monkeypatch.setattr(crossing, "_walk", small)
    monkeypatch.setattr(crossing, "_batches", lambda trees, *_: ([tree] for tree in trees))
    found = list(backend.cross_score(cases(), lambda *_: None))
    check_crossed(backend, cases(), found)
    assert len(found) == 3, "nothing comes twice"
    assert said == ["out of memory; going on with half as much at once"] * 2
    assert [room.contexts for room in tried[:3]] == [4096, 4096, 2048]
    tried.clear()
    list(backend.cross_score(cases(), lambda *_: None))
    assert tried[0].contexts == 1024, "it is known the next time"
    assert len(said) == 2


@pytest.mark.parametrize("kind", ["llama", "recurrent"])
def test_no_memory_at_all_ends_the_work_with_one_line(kind, tiny, other_models, monkeypatch):
    folder = {**other_models, "llama": tiny}[kind]
    backend = HFBackend(resolve_checkpoint(str(folder)), device="cpu")

    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(backend.model, "forward", full)
    with pytest.raises(InfrastructureError, match=r"out of memory on cpu.*what was done is kept"):
        list(backend.cross_score(cases(), lambda *_: None))


def test_what_is_no_shortage_of_memory_is_not_taken_for_one(tiny, monkeypatch):
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu")

    def broken(*_, **__):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(backend.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(backend.cross_score(cases(), lambda *_: None))


def test_broken_numbers_are_undefined_not_zero(tiny):
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu")
    backend.model.lm_head.weight.data.fill_(math.nan)
    for _, found in backend.cross_score(cases(), lambda *_: None):
        assert all(np.isnan(row).all() for row in found.rows)
