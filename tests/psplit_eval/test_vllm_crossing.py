"""Cross-scoring by the vllm engine's stand-in, against the same model's full distributions."""

import numpy as np
import pytest
from crossing_cases import SYSTEM, TEXTS, cases, check_bounds, check_equal, exactly

from psplit_eval.backends import Case, CrossScoring, EngineOptions
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import InfrastructureError
from psplit_eval.vllm_engine import VLLMBackend


@pytest.fixture
def opened(vllm, tiny):
    return lambda **options: VLLMBackend(
        resolve_checkpoint(str(tiny)), EngineOptions(backend="vllm", **options)
    )


def quiet(tokens, responses):
    pass


def test_estimates_are_bounds_of_what_the_model_says(opened, vllm):
    backend = opened()
    assert isinstance(backend, CrossScoring)
    assert not backend.exact
    asked, seen = cases(backend), []
    found = dict(backend.cross_score(asked, lambda *new: seen.append(new)))
    wanted = exactly(vllm.ENGINES[0].model, asked)
    assert sorted(found) == list(range(len(asked)))
    for number, exact in wanted.items():
        check_bounds(found[number], exact)
    every = np.concatenate([found[number].rows[0] for number in (0, 1, 2)], axis=1)
    exact = np.concatenate([wanted[number].rows[0] for number in (0, 1, 2)], axis=1)
    assert every.sum() > 0.3 * exact.sum()  # bounds, not zeros
    assert sum(tokens for tokens, _ in seen) == sum(len(r) for c in asked for r in c.responses)


def test_they_are_exact_where_all_tokens_are_listed(opened, vllm, monkeypatch):
    from transformers import AutoConfig

    backend = opened()
    size = AutoConfig.from_pretrained(vllm.ENGINES[0].engine_args.model).vocab_size
    monkeypatch.setattr("psplit_eval.vllm_engine._TOP", size)
    backend = opened()
    asked = cases(backend)
    wanted = exactly(vllm.ENGINES[-1].model, asked)
    for number, found in backend.cross_score(asked, quiet):
        check_equal(found, wanted[number])


def test_every_distinct_response_is_one_request_a_policy(opened, vllm):
    backend = opened()
    list(backend.cross_score(cases(backend), quiet))
    sent = vllm.ENGINES[0].asked
    distinct = sum(len({text for text in texts if text}) for texts in TEXTS.values())
    assert len(sent) == distinct * len(SYSTEM) == len({tuple(each.ids) for each in sent})
    params = sent[0].params
    assert (params.prompt_logprobs, params.max_tokens, params.detokenize) == (20, 1, False)
    assert params.skip_reading_prefix_cache


def test_a_response_that_does_not_fit_behind_one_prompt_is_undefined_alone(opened, vllm):
    backend = opened()
    prompts = {"short": backend.encode("Hi"), "long": backend.encode("Hi" * 20)}
    case = Case([(5, 6), (7,) * 30], prompts, [("short", "long")])
    least = max(len(prompts["long"]) + 3, len(prompts["short"]) + 31)
    backend = opened(engine_arg=(("max_model_len", least),))
    ((_, found),) = backend.cross_score([case], quiet)
    assert np.isfinite(found.rows[0]).all()
    assert np.isnan(found.rows[1]).all()
    assert found.rows[1].shape == (7, 30)


def test_an_engine_that_stops_ends_the_work(opened, vllm, monkeypatch):
    backend = opened()
    (engine,) = vllm.ENGINES
    answer = engine.answer

    def dying(*arguments):
        if len(engine.asked) > 5:
            engine.errored = True
            raise vllm.EngineDeadError("out of memory")
        return answer(*arguments)

    monkeypatch.setattr(engine, "answer", dying)
    with pytest.raises(InfrastructureError, match="vLLM stopped"):
        list(backend.cross_score(cases(backend), quiet))


def test_nothing_to_score_asks_nothing(opened, vllm):
    backend = opened()
    assert list(backend.cross_score([], quiet)) == []
    ((number, found),) = backend.cross_score([Case([(), ()], {"a": (1,)}, [])], quiet)
    assert (number, [rows.shape for rows in found.rows]) == (0, [(2, 0), (2, 0)])
    assert vllm.ENGINES[0].asked == []
