"""Where the tests find real data."""

import gzip
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import started
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # no test may depend on the time it takes
settings.load_profile("no deadline")

ROOT = Path(__file__).parent.parent

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def real_rows() -> Callable[[str], Iterator[dict[str, Any]]]:
    """Rows of a file of real data (PSPLIT_TEST_DATA); skips the test where it is absent."""
    folder = Path(os.environ.get("PSPLIT_TEST_DATA", ROOT.parent / "shared" / "data"))

    def rows(name: str) -> Iterator[dict[str, Any]]:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} under PSPLIT_TEST_DATA ({folder})")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    return rows


@pytest.fixture(scope="session")
def task_module() -> Callable[[str], Any]:
    """Load a Python file of tasks/, which is no package."""

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(
            f"tasks_{name}", ROOT / "tasks" / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium (see `browser`); a module's own, as its event loop must end with it."""
    with started() as found:
        yield found


GENERAL = {
    "psplit_gsm8k": "gsm8k/test.jsonl",
    "psplit_math500": "math500/test.jsonl",
    "psplit_aime24": "aime/aime24.jsonl",
    "psplit_aime25": "aime/aime25.jsonl",
    "psplit_mmlu_pro": "mmlu_pro/sample_1400.jsonl",
    "psplit_gpqa_diamond": "",  # may not be shown: rows of our own in its format
}


@pytest.fixture(params=GENERAL)
def general_task(request: pytest.FixtureRequest) -> str:
    """The name of a published general task, one after the other."""
    return str(request.param)


@pytest.fixture
def general_rows(general_task: str, real_rows: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Real rows of that task."""
    if GENERAL[general_task]:
        return real_rows(GENERAL[general_task])
    lines = (ROOT / "tests" / "data" / "gpqa_format.jsonl").read_text().splitlines()
    return iter(map(json.loads, lines))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A random two-layer chat model with a ChatML template: seconds where SmolLM2 takes minutes."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    bpe = ByteLevelBPETokenizer()
    text = ["How many books does Anna have? What is 3 + 4? Answer in one line with a number."]
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(text, vocab_size=300, min_frequency=1, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("tiny-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(tiny, tmp_path_factory) -> Path:
    """A random LoRA adapter for `tiny`, that knows a mode."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = peft.LoraConfig(
        r=4,
        rank_pattern={"v_proj": 5},
        lora_alpha=16,
        target_modules=["q_proj", "v_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), settings)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    mode = {"name": "bold", "system_prompt": "Be bold.", "role": "high"}
    (folder / "psplit_modes.json").write_text(json.dumps({"format": 1, "modes": [mode]}))
    return folder


@pytest.fixture(scope="session")
def other_models(tiny, tmp_path_factory) -> dict[str, Path]:
    """Random models of other families with the tiny one's tokenizer."""
    import torch
    from transformers import (
        AutoTokenizer,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        MambaConfig,
        MambaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    common = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    gemma = Gemma3TextConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=8, initializer_range=0.3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], **common,
    )  # fmt: skip
    mamba = MambaConfig(hidden_size=32, state_size=4, num_hidden_layers=2, **common)
    t5 = T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, **common
    )
    made = {
        "sliding": Gemma3ForCausalLM(gemma),
        "recurrent": MambaForCausalLM(mamba),
        "encoder-decoder": T5ForConditionalGeneration(t5),
    }
    folders = {}
    for name, model in made.items():
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.3)
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def split_model(tmp_path_factory) -> Path:
    """A tiny model whose built-in modes are two policies; see `splitting`."""
    from splitting import train

    return train(tmp_path_factory.mktemp("split-model"), CHATML)


@pytest.fixture
def vllm(monkeypatch) -> Any:
    """A stand-in for vLLM, in its place."""
    spec = importlib.util.spec_from_file_location("vllm_standin", ROOT / "tests/vllm_standin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm_standin", module)
    spec.loader.exec_module(module)
    return module.install(monkeypatch)


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """The built-in checkpoint; skips where it is neither cached nor to be had."""
    import torch

    from psplit_eval.checkpoints import resolve_checkpoint
    from psplit_eval.errors import InfrastructureError

    torch.set_num_threads(1)
    try:
        return resolve_checkpoint("smollm2-135m")
    except InfrastructureError as error:
        pytest.skip(str(error))
