"""The vllm engine, on a stand-in that has vLLM's names and really draws (tests/vllm_standin.py)."""

import importlib.util
import json
import math
import os
import signal
import sys
from itertools import count

import pytest

from psplit_eval.adapters import with_adapter
from psplit_eval.backends import Completion, EngineOptions
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.cli import main
from psplit_eval.errors import (
    CheckpointError,
    InfrastructureError,
    TemplateError,
    UnknownNameError,
    UsageError,
)
from psplit_eval.hf import HFBackend
from psplit_eval.requests import Request, Sampling
from psplit_eval.store import Store
from psplit_eval.thinking import Thinking
from psplit_eval.vllm_engine import VLLMBackend

QUESTIONS = ["What is 3 + 4?", "Name a colour.", "Hi", "How many days has a week?"]
GREEDY = Sampling(temperature=0, max_tokens=12)


@pytest.fixture
def opened(vllm, tiny):
    """Opens the tiny model by the stand-in; takes EngineOptions' arguments."""
    return lambda **options: VLLMBackend(
        resolve_checkpoint(str(tiny)), EngineOptions(backend="vllm", **options)
    )


@pytest.fixture(scope="module")
def hf(tiny):
    return HFBackend(resolve_checkpoint(str(tiny)), device="cpu")


def request(backend, question, sampling=GREEDY, seed=0, index=0, answer=None):
    prompt = backend.render([{"role": "user", "content": question}])
    ids, answer_ids = backend.encode(prompt), ()
    if answer is not None:
        answer_ids = backend.encode(prompt + answer)[len(ids) :]
    return Request(
        *("m", "t", QUESTIONS.index(question), index, "doc", "prompt", ids, sampling, seed),
        answer=answer,
        answer_ids=answer_ids,
        prompt=prompt,
    )


def drawn(backend, requests, seen=None):
    """Key → result, as `run` gives them in whatever order."""
    results = {}
    for batch in backend.run(
        backend.groups(requests), lambda *new: seen.append(new) if seen is not None else None
    ):
        results |= {request.key: result for request, result in batch}
    assert set(results) == {request.key for request in requests}
    return [results[request.key] for request in requests]


def evaluate(*arguments):
    return main(["run", "--backend", "vllm", *map(str, arguments)])


def stored(run):
    with Store(run / "samples.sqlite") as store:
        return {s.key: s for s in store.samples()}


def test_greedy_samples_and_likelihoods_equal_the_hf_engines(opened, hf):
    backend = opened()
    requests = [request(backend, question) for question in QUESTIONS]
    assert [r.prompt_ids for r in requests] == [request(hf, q).prompt_ids for q in QUESTIONS]
    expected = hf.complete(requests, lambda tokens, samples: None)
    for found, wanted in zip(drawn(backend, requests), expected, strict=True):
        assert (found.text, found.ids) == (wanted.text, wanted.ids)
        assert (found.finish_reason, found.tokens) == (wanted.finish_reason, wanted.tokens)
        assert found.nll_sum_nats == pytest.approx(wanted.nll_sum_nats, rel=1e-4)


def test_entropy_is_a_lower_bound_that_says_so(opened, hf):
    backend = opened()
    requests = [request(backend, q, Sampling(max_tokens=12), seed=3) for q in QUESTIONS]
    for asked, found in zip(requests, drawn(backend, requests), strict=True):
        assert found.entropy_sum_bits is None
        exact = exact_entropy_bits(hf, asked.prompt_ids, found.ids)
        assert 0.2 * exact < found.entropy_estimate_sum_bits <= exact + 1e-6


def exact_entropy_bits(hf, prompt_ids, ids):
    import torch

    with torch.inference_mode():
        logits = hf.model(torch.tensor([[*prompt_ids, *ids]])).logits[0]
    logprobs = logits[len(prompt_ids) - 1 : -1].double().log_softmax(-1)
    return float(-(logprobs.exp() * logprobs).sum() / math.log(2))


def test_every_setting_is_said_and_every_sample_is_a_request_of_its_own(opened, vllm):
    sampling = Sampling(0.7, 20, 0.95, 0.1, 9, ("\n",))
    backend = opened()
    requests = [
        request(backend, "Hi", sampling, seed=seed, index=seed - 2**62)
        for seed in (2**62, 2**62 + 1)
    ]
    seen = []
    results = drawn(backend, requests, seen)
    assert sum(samples for _, samples in seen) == 2
    assert sum(tokens for tokens, _ in seen) == sum(result.tokens for result in results)
    (engine,) = vllm.ENGINES
    assert {asked.params.seed for asked in engine.asked} == {2**62, 2**62 + 1}
    assert len({asked.id for asked in engine.asked}) == 2
    params = engine.asked[0].params
    assert (params.n, params.temperature, params.top_k) == (1, 0.7, 20)
    assert (params.top_p, params.min_p, params.max_tokens) == (0.95, 0.1, 9)
    assert (params.stop, params.detokenize, params.logprobs) == (["\n"], True, 20)
    assert params.output_kind == vllm.RequestOutputKind.FINAL_ONLY
    assert (params.repetition_penalty, params.presence_penalty) == (1.0, 0.0)


def test_a_missing_sample_can_be_drawn_alone(opened):
    backend = opened()
    requests = [
        request(backend, q, Sampling(max_tokens=8), seed=seed, index=seed)
        for q in QUESTIONS
        for seed in (1, 2)
    ]
    together = drawn(backend, requests)
    assert together[0].ids != together[1].ids
    (alone,) = drawn(backend, [requests[5]])
    assert alone.ids == together[5].ids


def test_the_token_limit_and_the_context_truncate(opened):
    backend = opened(engine_arg=(("max_model_len", 40),))
    assert backend.context_length == 40
    short = request(backend, "Hi", Sampling(max_tokens=3), seed=1)
    long = request(backend, "Name a colour.", Sampling(max_tokens=5000), seed=7)
    found = drawn(backend, [short, long])
    assert (found[0].tokens, found[0].finish_reason) == (3, "length")
    assert len(long.prompt_ids) + found[1].tokens <= 40


def test_a_prompt_that_is_too_long_fails_alone(opened):
    backend = opened(engine_arg=(("max_model_len", 30),))
    good = request(backend, "Hi")
    bad = request(backend, "How many days has a week?")
    assert len(good.prompt_ids) < 30 <= len(bad.prompt_ids)
    found = drawn(backend, [good, bad])
    assert isinstance(found[0], Completion)
    assert "longer than" in str(found[1]) or "max_tokens" in str(found[1])


def test_stop_strings_end_the_text_before_them_as_in_the_hf_engine(opened, hf):
    backend = opened()
    (free,) = drawn(backend, [request(backend, QUESTIONS[0])])
    stop = free.text[3:5]
    cut = Sampling(temperature=0, max_tokens=12, until=(stop,))
    asked = request(backend, QUESTIONS[0], cut)
    (found,) = drawn(backend, [asked])
    (wanted,) = hf.complete([asked], lambda tokens, samples: None)
    assert (found.text, found.ids, found.finish_reason) == (wanted.text, wanted.ids, "stop")
    assert found.nll_sum_nats == pytest.approx(wanted.nll_sum_nats, rel=1e-4)


def test_given_answers_are_scored_as_by_the_hf_engine(opened, hf, vllm):
    backend = opened()
    (greedy,) = drawn(backend, [request(backend, "Hi")])
    answers = ["Anna", " days", greedy.text[:2], "seven books"]
    requests = [
        request(backend, question, index=index, answer=answer)
        for question in ("Hi", "Name a colour.")
        for index, answer in enumerate(answers)
    ]
    wanted = hf.score(requests, lambda tokens, samples: None)
    for found, expected in zip(drawn(backend, requests), wanted, strict=True):
        assert found.finish_reason == "scored"
        assert found.nll_sum_nats == pytest.approx(expected.nll_sum_nats, rel=1e-4)
        assert found.is_greedy == expected.is_greedy
        assert (found.text, found.ids) == (expected.text, expected.ids)
    assert all(a.params.max_tokens == 1 for a in vllm.ENGINES[0].asked[1:])


def test_of_equally_probable_tokens_each_is_greedy(opened, vllm, monkeypatch):
    """As in lm-eval; vLLM's rank counts both before either."""
    monkeypatch.setattr(
        vllm,
        "_known",
        lambda row, token, top: {token: vllm.Logprob(-0.7, 2), token + 1: vllm.Logprob(-0.7, 1)},
    )
    backend = opened()
    (found,) = drawn(backend, [request(backend, "Hi", answer="Anna")])
    assert found.is_greedy


@pytest.fixture
def thinking_marks(opened):
    """Marks that the tiny model happens to write: a thought from the first token to a later one."""
    backend = opened()
    (free,) = drawn(backend, [request(backend, QUESTIONS[0])])
    return free, Thinking(start=free.text[:1], end=free.text[4:6])


def test_a_thought_is_kept_apart_and_stop_strings_are_for_the_answer(opened, thinking_marks, vllm):
    free, marks = thinking_marks
    thought, answer = free.text[1:].split(marks.end, 1)
    stop = answer.lstrip()[1:3]
    assert stop
    backend = opened(thinking=Thinking(True, marks.start, marks.end))
    asked = request(backend, QUESTIONS[0], Sampling(0, max_tokens=12, until=(stop, thought[:1])))
    (found,) = drawn(backend, [asked])
    assert found.thought == thought.strip()
    assert found.text == cut(answer.lstrip(), (stop, thought[:1]))
    assert found.finish_reason == "stop"
    assert vllm.ENGINES[-1].asked[0].params.stop == []
    assert found.ids == free.ids[: found.tokens]
    assert found.tokens < free.tokens


def cut(text, stops):
    return text[: min(text.index(stop) for stop in stops if stop in text)]


def test_a_thought_without_end_is_a_truncated_answer(opened, thinking_marks):
    free, marks = thinking_marks
    backend = opened(thinking=Thinking(True, marks.start, "</never>"))
    (found,) = drawn(backend, [request(backend, QUESTIONS[0])])
    assert (found.text, found.finish_reason) == ("", "length")
    assert found.thought == free.text[1:].strip()


def test_an_adapter_changes_every_sample(opened, vllm, tiny, adapter, hf):
    checkpoint = with_adapter(resolve_checkpoint(str(tiny)), adapter)
    backend = VLLMBackend(checkpoint, EngineOptions(backend="vllm", adapter=adapter))
    (engine,) = vllm.ENGINES
    assert engine.engine_args.enable_lora
    assert engine.engine_args.max_lora_rank == 8  # the next size that vLLM has above 5
    requests = [request(backend, question) for question in QUESTIONS]
    found = drawn(backend, requests)
    assert {asked.lora.lora_path for asked in engine.asked} == {str(adapter.resolve())}
    plain = hf.complete(requests, lambda tokens, samples: None)
    assert [f.ids for f in found] != [p.ids for p in plain]


def test_arguments_reach_the_engine(opened, vllm):
    backend = opened(
        tensor_parallel=2,
        data_parallel=4,
        batch_size=64,
        dtype="bfloat16",
        engine_arg=(("gpu_memory_utilization", 0.5),),
    )
    given = vllm.ENGINES[0].engine_args
    assert (given.tensor_parallel_size, given.data_parallel_size) == (2, 4)
    assert (given.max_num_seqs, given.dtype) == (64, "bfloat16")
    assert (given.gpu_memory_utilization, given.logprobs_mode) == (0.5, "raw_logprobs")
    said = backend.describe()
    assert (said["backend"], said["version"], said["dtype"]) == ("vllm", "0.33.0", "bfloat16")
    assert (said["tensor_parallel"], said["data_parallel"]) == (2, 4)
    assert said["engine_arguments"] == {"gpu_memory_utilization": 0.5}
    assert said["context_length"] == 1024
    assert "QUESTION" in said["bare_prompt"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"engine_arg": (("max_model_length", 9),)}, UnknownNameError, "max_model_len'"),
        ({"engine_arg": (("logprobs_mode", "raw_logits"),)}, UsageError, "psplit sets it"),
        ({"engine_arg": (("data_parallel_size", 2),)}, UsageError, "--data-parallel"),
        ({"dtype": "float12"}, CheckpointError, "Unknown dtype"),
    ],
)
def test_what_the_engine_does_not_take_is_said(opened, options, error, words):
    with pytest.raises(error, match=words):
        opened(**options)


@pytest.mark.parametrize("temperature", [0.001, 3])
def test_a_temperature_that_vllm_would_change_is_refused(opened, temperature):
    backend = opened()
    with pytest.raises(UsageError, match=r"temperature .* 0\.01 to 2"):
        backend.groups([request(backend, "Hi", Sampling(temperature))])


def test_an_engine_that_does_not_start_is_one_line(opened, vllm, monkeypatch):
    def start(*args, **kwargs):
        raise RuntimeError("Engine core initialization failed.\nSee root cause above.")

    monkeypatch.setattr(vllm.AsyncLLMEngine, "__post_init__", start)
    with pytest.raises(InfrastructureError, match="gpu_memory_utilization"):
        opened()


def test_a_tokenizer_without_template_is_refused_before_the_engine_starts(vllm, tiny, tmp_path):
    import shutil

    folder = tmp_path / "bare"
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(TemplateError, match="--chat-template"):
        VLLMBackend(resolve_checkpoint(str(folder)), EngineOptions(backend="vllm"))
    assert not vllm.ENGINES


def test_the_engine_stops_with_its_backend(opened, vllm):
    import gc

    backend = opened()
    drawn(backend, [request(backend, "Hi")])
    (engine,) = vllm.ENGINES
    assert not engine.stopped
    del backend
    gc.collect()
    assert engine.stopped


COMMAND = ["--modes", "normal,high", "--tasks", "psplit_sums,psplit_story", "--limit", "6"]
COMMAND += ["--reference", "none"]
SHORT = ["--samples", "2", "--set", "max_tokens=6"]


@pytest.mark.slow
def test_a_run_whose_engine_dies_goes_on_where_it_stopped(
    vllm, tiny, tmp_path, monkeypatch, capsys
):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    command = ["--model", tiny, *COMMAND, *SHORT]
    assert evaluate(*command, "--out", whole) == 0
    assert json.loads((whole / "manifest.json").read_text())["model"]["backend"] == "vllm"
    assert "on cpu (vllm)" in (whole / "report.md").read_text()
    samples = stored(whole)
    assert len(samples) == 2 * 2 * 6 * 2
    assert all(s.error is None and s.entropy_estimate_sum_bits > 0 for s in samples.values())

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(vllm.AsyncLLMEngine, "answer", dying_after(9, vllm))
        assert evaluate(*command, "--out", torn) == 4
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "vLLM stopped (EngineDeadError: EngineCore" in said
    assert len(stored(torn)) == 9
    assert evaluate(*command, "--out", torn) == 0
    assert {k: (s.text, s.completion_ids, s.seed) for k, s in stored(torn).items()} == {
        k: (s.text, s.completion_ids, s.seed) for k, s in samples.items()
    }


def dying_after(requests, vllm):
    """`AsyncLLMEngine.answer`, but the engine is dead after some requests."""
    answer, left = vllm.AsyncLLMEngine.answer, iter(range(requests))

    def dying(engine, *arguments):
        if next(left, None) is None:
            engine.errored = True
            raise vllm.EngineDeadError("EngineCore encountered an issue.")
        return answer(engine, *arguments)

    return dying


def test_an_interrupted_run_keeps_what_was_done(vllm, tiny, tmp_path, monkeypatch, capsys):
    answer, number = vllm.AsyncLLMEngine.answer, count()

    def interrupted(engine, *arguments):
        if next(number) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return answer(engine, *arguments)

    command = ["--model", tiny, *COMMAND, *SHORT, "--out", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(vllm.AsyncLLMEngine, "answer", interrupted)
        assert evaluate(*command) == 130
    assert capsys.readouterr().err.strip().endswith("give the same command again to go on")
    assert 0 < len(stored(tmp_path / "run")) < 48
    assert evaluate(*command) == 0
    assert len(stored(tmp_path / "run")) == 48


def test_what_a_stopping_engine_aborts_is_no_sample(opened, vllm, monkeypatch):
    def aborted(engine, prompt, params, model):
        return [5], [{5: vllm.Logprob(-1.0, 1)}], "abort", None

    monkeypatch.setattr(vllm.AsyncLLMEngine, "_draw", aborted)
    backend = opened()
    with pytest.raises(InfrastructureError, match="it aborted a request"):
        drawn(backend, [request(backend, "Hi")])


def test_a_request_that_fails_is_stored_and_tried_again(vllm, tiny, tmp_path, monkeypatch, capsys):
    def failing(engine, *arguments):
        raise vllm.EngineGenerateError from MemoryError("no block left")

    command = ["--model", tiny, *COMMAND, *SHORT, "--out", tmp_path / "run", "--allow-missing"]
    with monkeypatch.context() as patch:
        patch.setattr(vllm.AsyncLLMEngine, "_draw", failing)
        evaluate(*command)
    assert {s.error for s in stored(tmp_path / "run").values()} == {
        "RuntimeError: MemoryError: no block left"
    }
    assert evaluate(*command) == 0
    assert {(s.error, s.attempt) for s in stored(tmp_path / "run").values()} == {(None, 2)}


def test_an_adapter_is_part_of_what_was_measured(vllm, tiny, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["--model", tiny, "--modes", "bold", "--tasks", "psplit_sums", "--limit", "6", *SHORT]
    assert evaluate(*command, "--adapter", adapter) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == f"{tiny.name}_{adapter.name}-psplit_sums"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["modes"][0]["system_prompt"] == "Be bold."  # the adapter's psplit_modes.json
    assert {"adapter/adapter_config.json", "adapter/psplit_modes.json", "config.json"} <= set(
        manifest["checkpoint"]["files"]
    )
    assert manifest["checkpoint"]["name"].endswith(f"+{adapter.name}")
    again = [*command, "--mode", "bold=Be bold.", "--out", folder]
    assert evaluate(*again) == 2  # without the adapter it is another checkpoint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tensor-parallel", "0"], "expected 1 or more"),
        (["--device", "cuda:1"], "--device is for the hf backend"),
        (["--engine-arg", "max_model_len"], "expected NAME=VALUE"),
        (["--engine-arg", "max-model-length=9"], "did you mean 'max_model_len'"),
        (["--adapter", "nowhere"], "give a folder in which PEFT's save_pretrained"),
        (["--backend", "hf", "--data-parallel", "2"], "--data-parallel is for the vllm backend"),
        (["--set", "temperature=3"], "vLLM knows 0 and 0.01 to 2"),
    ],
)
def test_mistakes_are_one_line(vllm, tiny, tmp_path, capsys, arguments, words):
    command = ["--model", tiny, "--tasks", "psplit_sums", "--limit", "2", "--out", tmp_path / "o"]
    assert evaluate(*command, *arguments) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "o").exists()


def test_a_vllm_that_cannot_be_imported_is_one_line(vllm, tiny, tmp_path, monkeypatch, capsys):
    broken = type(sys)("vllm")
    broken.__spec__ = sys.modules["vllm"].__spec__
    monkeypatch.setitem(sys.modules, "vllm", broken)
    assert evaluate("--model", tiny, "--out", tmp_path / "o") == 2
    assert "cannot be imported (ImportError" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_install_line_is_given(tiny, tmp_path, capsys):
    assert evaluate("--model", tiny, "--out", tmp_path / "o") == 2
    assert "pip install '.[vllm]'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
