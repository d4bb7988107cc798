"""What a run takes: counts by hand, parameters of published models, memory as torch keeps it."""

import dataclasses

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from psplit_eval.errors import CheckpointError
from psplit_train.config import Config
from psplit_train.estimates import (
    Facts,
    Shape,
    estimate,
    estimate_text,
    model_shape,
    prompt_tokens,
)

SHAPE = Shape(1000, 1000, 2, 8, 32, 8, 8, 2, 50)
SMALL = {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6, "head_dim": 8}


def config(**sections):
    return Config(**{"model": {"tiny": {}}, "data": {"task": "sums"}, **sections})


def of(processes=1, sharded=False, prompts=None, shape=SHAPE, on_cpu=False, **sections):
    facts = Facts(shape, prompts or {}, processes, sharded, on_cpu)
    return estimate(config(**sections), facts)


@pytest.mark.parametrize(
    ("sections", "rows"),
    [
        ({}, 128),  # 64 responses under both modes
        ({"method": {"sharing": "off"}}, 64),
        ({"method": {"sharing": "to_normal"}}, 96),  # normal on 64, high on its 32
        ({"method": {"sharing": "from_normal"}}, 96),  # high on 64, normal on its 32
        ({"method": "grpo"}, 64),
        ({"modes": ["a", "b", "c"], "train": {"rollouts": 9}}, 216),
        # a on all 72, b and c on their 24 each
        (
            {
                "modes": ["a", "b", "c"],
                "train": {"rollouts": 9},
                "method": {"sharing": "to_normal"},
            },
            120,
        ),
    ],
)
def test_rows_that_are_trained(sections, rows):
    assert of(**sections).rows == rows


def test_tokens_of_a_step():
    # 8 prompts, 8 responses of 10 tokens each, trained in two modes; a prompt's 5 or 25 tokens run
    # once for the 8 rows of a mode.
    train = {"max_new_tokens": 10}
    found = of(train=train, prompts={"normal": 5, "high": 25})
    assert found.drawn_tokens == 640
    assert found.trained_tokens == 2 * 640 + 8 * (5 + 25)
    apart = of(train={**train, "share_prefixes": False}, prompts={"normal": 5, "high": 25})
    assert apart.trained_tokens == 2 * 640 + 64 * (5 + 25)
    cut = of(train={**train, "micro_batch": 4}, prompts={"normal": 5, "high": 25})
    assert cut.trained_tokens == 2 * 640 + 16 * (5 + 25)
    kept = of(train={**train, "gradient_checkpointing": True}, prompts={"normal": 5, "high": 25})
    assert kept.trained_tokens == apart.trained_tokens


def test_prompts_that_nobody_counted_are_said_to_be_assumed():
    assert of().assumed
    assert "(assumed)" in estimate_text(config(), of())
    counted = of(prompts={"normal": 5, "high": 25})
    assert not counted.assumed
    assert "normal 5, high 25" in estimate_text(config(), counted)


@pytest.mark.parametrize(
    ("sections", "processes", "before"),
    [
        ({}, 1, False),
        ({"train": {"micro_batch": 8}}, 1, False),
        ({"train": {"micro_batch": 4}}, 1, True),
        ({}, 16, True),  # 4 of a group's 8 responses each
        ({"train": {"micro_batch": 4}, "method": "grpo"}, 1, False),
        ({"train": {"micro_batch": 4}, "method": "entropy_driven"}, 1, True),
        ({"train": {"iterations": 2}, "method": "grpo"}, 1, True),
    ],
)
def test_a_pass_before_the_update(sections, processes, before):
    assert of(processes=processes, **sections).before is before


def test_generations_and_micro_batches():
    found = of(processes=2, train={"steps": 10, "iterations": 4, "micro_batch": 8})
    assert (found.generations, found.micro_batches) == (3, 4)


def test_weights_gradients_and_optimiser_of_a_process():
    plain = of().memory
    assert (plain.weights, plain.gradients, plain.optimiser) == (4000, 4000, 8000)
    half = of(model={"checkpoint": "x", "dtype": "bfloat16"}).memory
    assert (half.weights, half.gradients, half.optimiser) == (4000, 4000, 8000)
    # Float32 whatever the passes are in; split over four.
    split = of(4, True, model={"checkpoint": "x", "dtype": "bfloat16"}).memory
    assert (split.weights, split.gradients, split.optimiser) == (1000, 1000, 2000)
    assert split.gathered > 0
    lora = of(
        model={"checkpoint": "x", "dtype": "bfloat16", "lora": {}},
        shape=dataclasses.replace(SHAPE, trained=100),
    ).memory
    assert (lora.weights, lora.gradients, lora.optimiser) == (4000, 400, 800)
    assert of(train={"beta": 0.1}).memory.reference == 4000
    assert of(train={"beta": 0.1}, model={"tiny": {}, "lora": {}}).memory.reference == 0


def test_keys_and_values_are_kept_where_transformers_draws():
    # 2 (keys, values) × 8 × 4 bytes × 2 layers × 64 responses × (10 + 20 tokens)
    prompts = {"normal": 20, "high": 20}
    assert of(prompts=prompts, train={"max_new_tokens": 10}).memory.cache == 245_760
    assert of(engine={"name": "vllm_server"}).memory.cache == 0


def test_the_peak_is_while_drawing_or_while_training():
    memory = of().memory
    kept = memory.weights + memory.optimiser
    assert memory.peak == kept + memory.gradients + memory.activations + memory.head
    larger = dataclasses.replace(memory, cache=1e12)
    assert larger.peak == kept + 1e12


def saved_bytes(model, rows, tokens):
    """Bytes that torch keeps for the backward pass of a decoder, weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(rows, tokens, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        assert found.last_hidden_state.requires_grad
    return sum(kept.values())


def small(made, layers):
    return made(vocab_size=64, num_key_value_heads=2, num_hidden_layers=layers, **SMALL)


def kept_by_four_layers(made, model, dtype, checkpointing=False):
    """What six layers keep of 8 rows of 128 tokens, less what two keep."""

    def kept(layers):
        fresh = model(small(made, layers)).to(getattr(torch, dtype)).train()
        if checkpointing:
            fresh.gradient_checkpointing_enable({"use_reentrant": False})
        return saved_bytes(fresh, 8, 128)

    return kept(6) - kept(2)


TRAIN = {"queries": 1, "rollouts": 4, "max_new_tokens": 96, "share_prefixes": False}
"""4 responses in two modes: 8 rows of 128 tokens with the prompts' 32."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("made", "model"), [(LlamaConfig, LlamaForCausalLM), (Qwen3Config, Qwen3ForCausalLM)]
)
def test_activations_are_those_that_torch_keeps(tmp_path, made, model, dtype):
    small(made, 4).save_pretrained(tmp_path)
    sections = {"model": {"checkpoint": str(tmp_path), "dtype": dtype}, "train": TRAIN}
    shape = model_shape(config(**sections))
    counted = of(shape=shape, prompts={"normal": 32, "high": 32}, **sections).memory.activations
    assert counted == kept_by_four_layers(made, model, dtype)


def test_gradient_checkpointing_keeps_the_inputs_of_layers():
    kept = kept_by_four_layers(LlamaConfig, LlamaForCausalLM, "float32", checkpointing=True)
    assert kept == 8 * 128 * 48 * 4 * 4

    def activations(layers, **more):
        shape = Shape(0, 0, layers, width=48, inner=80, query=48, key=16, heads=6, vocabulary=64)
        prompts = {"normal": 32, "high": 32}
        return of(shape=shape, prompts=prompts, train={**TRAIN, **more}).memory.activations

    # and while one layer goes back, all of that one
    assert activations(4, gradient_checkpointing=True) == kept + activations(1)


@pytest.mark.parametrize(
    ("known", "parameters"),
    [
        # Sizes of the published safetensors files, in parameters.
        (
            LlamaConfig(  # HuggingFaceTB/SmolLM2-135M-Instruct
                vocab_size=49152,
                hidden_size=576,
                intermediate_size=1536,
                num_hidden_layers=30,
                num_attention_heads=9,
                num_key_value_heads=3,
                tie_word_embeddings=True,
            ),
            134_515_008,
        ),
        (
            Qwen3Config(  # Qwen/Qwen3-8B
                vocab_size=151936,
                hidden_size=4096,
                intermediate_size=12288,
                num_hidden_layers=36,
                num_attention_heads=32,
                num_key_value_heads=8,
                head_dim=128,
                tie_word_embeddings=False,
            ),
            8_190_735_360,
        ),
    ],
    ids=["SmolLM2-135M", "Qwen3-8B"],
)
def test_parameters_of_published_models(tmp_path, known, parameters):
    known.save_pretrained(tmp_path)  # no weights are there to be read
    shape = model_shape(config(model={"checkpoint": str(tmp_path)}))
    assert (shape.parameters, shape.trained) == (parameters, parameters)
    assert shape.layers == known.num_hidden_layers
    assert shape.normed is isinstance(known, Qwen3Config)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_trained_parameters_of_adapters_are_pefts(tmp_path, targets):
    from peft import LoraConfig, get_peft_model

    known = small(LlamaConfig, 2)
    known.save_pretrained(tmp_path)
    lora = {"rank": 4, "targets": targets}
    shape = model_shape(config(model={"checkpoint": str(tmp_path), "lora": lora}))
    wanted = targets if isinstance(targets, str) else list(targets)
    peft = LoraConfig(r=4, target_modules=wanted, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_config(known), peft)
    trained, parameters = model.get_nb_trainable_parameters()
    assert (shape.trained, shape.parameters) == (trained, parameters)


def test_a_tiny_model_counts_its_characters():
    made = config(
        model={"tiny": {"characters": "0123+*", "layers": 1, "width": 8, "heads": 2}},
        modes=["normal", {"name": "high", "system_prompt": "*"}],
    )
    shape = model_shape(made)
    # 12 tokens of width 8, shared with the output; 4 · 8² of attention, 3 · 8 · 32 of the inner
    # layer and three normalisations.
    assert shape.parameters == 12 * 8 + 4 * 64 + 3 * 8 * 32 + 3 * 8
    # <user> and <assistant> around a question; <system> and its text before.
    assert prompt_tokens(made, ["12", "1"]) == {"normal": 3.5, "high": 5.5}
    assert prompt_tokens(made, []) == {}


def test_a_checkpoint_that_is_none(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="give a folder, a hub id"):
        model_shape(config(model={"checkpoint": str(tmp_path)}))


def test_an_estimate_is_data_and_a_table():
    found = of()
    content = found.to_dict()
    assert content["peak_bytes"] == found.memory.peak
    assert content["memory"]["weights"] == 4000
    text = estimate_text(config(), found)
    assert "trained rows a step    128" in text
    assert max(map(len, text.splitlines())) <= 100
