"""What vLLM is asked for in training, and what becomes of its answers.

vLLM itself is not installed. TRL's own code runs, but for its start: a stand-in takes the place of
the client of a server, or of the engine in process, records what it is asked, and answers.
"""

import hashlib
import random
from types import SimpleNamespace

import pytest
import torch
from training_cases import Watched, model, plain_scores, trainer
from trl import GRPOTrainer
from trl.generation import vllm_generation

STRONG = {"eta": 0.5, "kappa": 0.0}


def answer(prompt, number):
    """Ids of the answer `number` to a prompt, and their log-probabilities as vLLM would say."""
    chance = random.Random(hashlib.sha256(repr((list(prompt), number)).encode()).digest())
    ids = [*(chance.randrange(5, 28) for _ in range(chance.randrange(1, 7))), 1]
    return ids, [-chance.uniform(1.5, 4.0) for _ in ids]


class Client:
    """Of a vLLM server."""

    def __init__(self):
        self.asked, self.synced = [], 0

    def get_server_info(self):
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata, parameters):
        self.synced += sum(1 for _ in parameters) == len(metadata) > 0

    def reset_prefix_cache(self):
        pass

    def generate(self, prompts, n, **settings):
        self.asked.append((prompts, n))
        found = [answer(prompt, number) for prompt in prompts for number in range(n)]
        return {
            "prompt_ids": prompts,
            "completion_ids": [ids for ids, _ in found],
            "logprobs": [[[value] for value in values] for _, values in found],
        }


class Engine:
    """vLLM in process: one answer to each prompt it is given, in order."""

    def __init__(self):
        self.asked, self.loaded = [], 0
        model = SimpleNamespace(load_weights=self._load)
        runner = SimpleNamespace(model_runner=SimpleNamespace(model=model))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))

    def _load(self, weights):
        self.loaded += len(weights)

    def reset_prefix_cache(self):
        pass

    def generate(self, prompts, sampling_params, use_tqdm):
        assert sampling_params.n == 1
        prompts = [tuple(prompt["prompt_token_ids"]) for prompt in prompts]
        self.asked.append((prompts, 1))
        return [
            self._output(prompt, prompts[:row].count(prompt)) for row, prompt in enumerate(prompts)
        ]

    def _output(self, prompt, number):
        ids, values = answer(prompt, number)
        said = [
            {token: SimpleNamespace(rank=1, logprob=value)}
            for token, value in zip(ids, values, strict=True)
        ]
        output = SimpleNamespace(token_ids=ids, logprobs=said)
        return SimpleNamespace(prompt_token_ids=list(prompt), outputs=[output])


@pytest.fixture
def standing_in(monkeypatch):
    def start(self):
        self.vllm_client, self.llm, self._llm_weights_sleeping = Client(), Engine(), False

    monkeypatch.setattr(vllm_generation.VLLMGeneration, "_init_vllm", start)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)


def with_vllm(folder, method=STRONG, mode="server", kind=Watched, **more):
    return trainer(folder, method, kind=kind, use_vllm=True, vllm_mode=mode, **more)


def asked_of(made):
    """All prompts of all requests, with how many answers each got."""
    generation = made.vllm_generation
    place = generation.vllm_client if generation.mode == "server" else generation.llm
    return [(tuple(prompt), n) for prompts, n in place.asked for prompt in prompts]


@pytest.mark.parametrize("mode", ["server", "colocate"])
def test_every_mode_of_every_query_is_asked_and_answered(standing_in, tmp_path, mode):
    made = with_vllm(tmp_path, mode=mode)
    made.train()
    queries = made._drawn.prompts
    expected = [prompt for query in queries for prompt in query]
    if mode == "server":
        assert asked_of(made) == [(prompt, 4) for prompt in expected]
        assert made.vllm_generation.vllm_client.synced == 1
    else:
        assert asked_of(made) == [(prompt, 1) for prompt in expected for _ in range(4)]
        assert made.vllm_generation.llm.loaded > 10
    (inputs, taken), flat = made.batches[0], made.flat[0]
    for query, prompts in enumerate(queries):
        for sampler, prompt in enumerate(prompts):
            own = (inputs["queries"] == query) & (inputs["samplers"] == sampler)
            rows = [inputs["completions"][row][inputs["mask"][row]] for row in own.nonzero()[:, 0]]
            found = sorted(row.tolist() for row in rows)
            assert found == sorted(answer(prompt, number)[0] for number in range(4))
    assert taken.all()
    assert len(flat["completion_ids"]) == 64


class AsTRL(Watched):
    """TRL's own number of generations: that of all modes."""

    def _generate_single_turn(self, *given):
        return GRPOTrainer._generate_single_turn(self, *given)


def test_with_trls_own_number_the_high_prompts_would_vanish(standing_in, tmp_path):
    """The negative control of the test above: a server is sent the first prompt of each query."""
    made = with_vllm(tmp_path, kind=AsTRL)
    made.train()
    normal = [(query[0], 8) for query in made._drawn.prompts]
    assert asked_of(made) == normal


def test_both_quarters_of_a_response_have_the_ratio_of_its_own_mode(standing_in, tmp_path):
    """exp(log pi(o | own prompt) - vLLM's), at most 2; by transformers' plain logits."""
    made = with_vllm(
        tmp_path,
        vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_max=2.0,
    )
    made.train()
    network = model()
    (inputs, taken), flat = made.batches[0], made.flat[0]
    ratios = flat["importance_sampling_ratio"]
    cross = 0
    for place, (mode, row) in enumerate(taken.nonzero().tolist()):
        query, sampler = int(inputs["queries"][row]), int(inputs["samplers"][row])
        prompt = made._drawn.prompts[query][sampler]
        ids = inputs["completions"][row][inputs["mask"][row]].tolist()
        said = next(
            values for n in range(4) for known, values in [answer(prompt, n)] if known == ids
        )
        expected = (plain_scores(network, prompt, ids)[0] - torch.tensor(said)).exp().clamp(max=2)
        torch.testing.assert_close(ratios[place, : len(ids)], expected, rtol=1e-4, atol=1e-5)
        cross += mode != sampler
    assert cross == 32
    assert (ratios == 2).any()
    assert (ratios < 2).any()


@pytest.mark.parametrize(
    ("method", "case", "modes_scored"),
    [
        (STRONG, {"parts": 8}, {(0, 1), (1, 0)}),
        ({"sharing": "off", **STRONG}, {"parts": 8}, {(0, 1)}),
        ({"sharing": "off", "eta": 0.0}, {"iterations": 2}, set()),
        ({"estimate": "entropy", **STRONG}, {"parts": 8}, {(0, 0), (0, 1), (1, 0), (1, 1)}),
        ({"name": "kl_cov"}, {"iterations": 2}, set()),
        ({"name": "forking_tokens"}, {"iterations": 2}, {(0, 0)}),
    ],
    ids=["shared", "off", "off_reused", "entropies", "kl_cov", "forking_tokens"],
)
def test_what_trl_scored_is_not_scored_again(standing_in, tmp_path, method, case, modes_scored):
    """(mode, sampler) of what is scored before the update; and weights are the same without."""

    class Counted(Watched):
        def _scored_ahead(self, batch, matrix, *rest):
            pairs = enumerate(matrix)
            self.ahead = {(m, s) for m, row in pairs for s, wanted in enumerate(row) if wanted}
            return super()._scored_ahead(batch, matrix, *rest)

    class Anew(Watched):
        def _scored_before(self, batch, found, needed):
            return self._scored_ahead(batch, needed)

    made = with_vllm(tmp_path, method, kind=Counted, **case)
    made.train()
    assert made.ahead == modes_scored
    anew = with_vllm(tmp_path, method, kind=Anew, **case)
    anew.train()
    for one, other in zip(made.flat, anew.flat, strict=True):
        torch.testing.assert_close(one["advantages"], other["advantages"], rtol=1e-4, atol=1e-5)
        ours, theirs = one["old_per_token_logps"], other["old_per_token_logps"]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
