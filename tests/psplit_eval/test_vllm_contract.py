"""What psplit uses of vLLM, held against vLLM itself, and a real run: where vLLM and a GPU are."""

import importlib.util
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import psplit_eval.vllm_engine
from psplit_eval.cli import main
from psplit_eval.store import Store

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)


def parameters(function):
    return set(inspect.signature(function).parameters)


def test_the_engine_takes_what_it_is_given():
    from vllm import AsyncEngineArgs, AsyncLLMEngine
    from vllm.usage.usage_lib import UsageContext

    names = {field.name for field in fields(AsyncEngineArgs)}
    assert names >= {"model", "dtype", "trust_remote_code", "disable_log_stats", "max_num_seqs"}
    assert names >= {"tensor_parallel_size", "data_parallel_size", "logprobs_mode", "max_logprobs"}
    assert names >= {"enable_lora", "max_lora_rank"}
    assert names >= set(psplit_eval.vllm_engine._OWN)
    assert {"engine_args", "usage_context"} <= parameters(AsyncLLMEngine.from_engine_args)
    needed = {"prompt", "sampling_params", "request_id", "lora_request"}
    assert needed <= parameters(AsyncLLMEngine.generate)
    assert inspect.isasyncgenfunction(AsyncLLMEngine.generate)
    assert isinstance(AsyncLLMEngine.errored, property)
    assert callable(AsyncLLMEngine.shutdown)
    assert hasattr(UsageContext, "LLM_CLASS")


def test_a_request_is_made_of_known_settings():
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind

    given = SamplingParams(
        temperature=0.7,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=2**63 - 1,
        max_tokens=9,
        stop=["\n"],
        detokenize=True,
        logprobs=20,
        prompt_logprobs=1,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    assert (given.top_k, given.temperature) == (0, 0.7)
    assert given.skip_reading_prefix_cache  # cached tokens would have no log-probabilities
    assert tokens_input([1, 2])["prompt_token_ids"] == [1, 2]
    assert LoRARequest("adapter", 1, "folder").lora_path == "folder"


def test_an_output_has_what_is_read():
    from vllm.logprobs import FlatLogprobs, Logprob
    from vllm.outputs import CompletionOutput, RequestOutput

    assert {"token_ids", "logprobs", "finish_reason"} <= {f.name for f in fields(CompletionOutput)}
    assert {"outputs", "prompt_logprobs"} <= parameters(RequestOutput.__init__)
    flat = FlatLogprobs()
    flat.append(None)
    flat.append({5: Logprob(-0.5, 3), 7: Logprob(-0.1, 1)})
    assert [sorted(position) for position in flat] == [[], [5, 7]]
    assert flat[1][5].rank == 3
    assert {token: known.logprob for token, known in flat[1:][0].items()} == {5: -0.5, 7: -0.1}


def test_the_server_takes_and_gives_what_cross_scoring_needs():
    from vllm.entrypoints.openai.chat_completion import protocol
    from vllm.logprobs import Logprob

    taken = set(protocol.ChatCompletionRequest.model_fields)
    assert taken >= {"prompt_logprobs", "return_token_ids", "max_tokens", "chat_template_kwargs"}
    assert taken >= {"add_generation_prompt", "continue_final_message"}
    given = set(protocol.ChatCompletionResponse.model_fields)
    assert given >= {"prompt_logprobs", "prompt_token_ids"}
    assert {"logprob", "decoded_token"} <= {field.name for field in fields(Logprob)}


@pytest.mark.slow
def test_a_real_run_on_a_gpu(smollm2, tmp_path):
    """Greedy text on vLLM is the hf engine's, for most of its length; scores are close."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("vLLM needs a GPU")
    runs = {}
    for backend in ("vllm", "hf"):
        out = Path(tmp_path / backend)
        command = ["--model", str(smollm2.folder), "--backend", backend, "--dtype", "float32"]
        small = ["--tasks", "psplit_sums", "--limit", "8", "--samples", "2", "--out", str(out)]
        settings = ["--set", "temperature=0", "--set", "max_tokens=24"]
        assert main(["run", *command, *small, *settings]) == 0
        with Store(out / "samples.sqlite") as store:
            runs[backend] = {s.key: s for s in store.samples()}
    same = 0
    for key, found in runs["vllm"].items():
        wanted = runs["hf"][key]
        assert found.error is None
        if found.completion_ids == wanted.completion_ids:
            same += 1
            assert found.nll_sum_nats == pytest.approx(wanted.nll_sum_nats, rel=1e-2, abs=1e-2)
            assert found.entropy_estimate_sum_bits <= wanted.entropy_sum_bits * 1.01
    assert same >= 0.8 * len(runs["hf"])
