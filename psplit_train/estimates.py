"""What a training run takes, before it is begun: rows, tokens, passes and memory of a process.

Numbers are upper bounds where responses are concerned: all of them as long as they may be. Memory
is that of the tensors which a Llama or Qwen3 keeps with transformers' `sdpa` attention; see
`Memory` for the formulas and for what is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from psplit_eval.checkpoints import BUILTIN_CHECKPOINTS, resolve_checkpoint
from psplit_eval.errors import CheckpointError, InfrastructureError
from psplit_eval.files import disk_errors
from psplit_eval.modes import Mode
from psplit_eval.text import columns, one_line
from psplit_train.checks import holds_groups, micro_batch, update_share
from psplit_train.config import Config, LoraSettings, TinySettings

__all__ = [
    "Estimate",
    "Facts",
    "Memory",
    "Shape",
    "estimate",
    "estimate_text",
    "model_shape",
    "open_configuration",
    "open_tokenizer",
    "prompt_tokens",
]

_ASSUMED_PROMPT = 128
"""Tokens of a prompt where nobody has counted them."""
_COUNTED = 200
_TINY_MARKS = 6
"""Tokens of a tiny model beside its characters: three ends, and a mark for every role."""
_FLOAT, _HALF = 4, 2
_HEAD_TOKENS, _HEAD_WORDS = 4096, 32768
"""TRL computes a response's log-probabilities in tiles of so many tokens and words."""
_CPU_TILES = 9
"""Tiles at once in torch's own operations: logits, scaled, log-probabilities, probabilities,
gradient and what is in between (trl/kernels/chunked_logprob.py, `_backward_tile`)."""


@dataclass(frozen=True)
class Shape:
    """A model's parameters, and the widths that decide what a pass keeps.

    `trained`: parameters that are updated (of LoRA: the adapters'). `query`, `key`: heads times
    their width, of queries, and of keys (or values). `normed`: whether queries and keys are
    normalised, as in Qwen3.
    """

    parameters: int
    trained: int
    layers: int
    width: int
    inner: int
    query: int
    key: int
    heads: int
    vocabulary: int
    normed: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known beside the settings.

    `prompt_tokens`: mean number of tokens of a prompt by mode, with its system prompt. `sharded`:
    whether weights, gradients and optimiser are spread over the processes (FSDP2, ZeRO-3).
    `on_cpu`: without Triton, where the head needs more.
    """

    shape: Shape
    prompt_tokens: Mapping[str, float] = field(default_factory=dict)
    processes: int = 1
    sharded: bool = False
    on_cpu: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. P: parameters, T: trained ones, b: bytes of a weight (4; beside
    LoRA e), e: bytes of an activation (4; of bfloat16 2).

    - weights P·b, gradients T·4, AdamW 2·T·4, all split if sharded;
    - reference: P·e more where beta is above 0 and there is no LoRA;
    - gathered, if sharded: two layers and the embedding, whole, in e bytes;
    - activations: tokens of a micro-batch, in all modes that take them, times layers times
      e·(4·width + 2·query + 2·key + 4·inner) + 8·width + 4·heads + 8, and where queries and keys
      are normalised (e + 4)·(query + key) + 4·(heads of both) more. With gradient checkpointing:
      e·width a layer and token, and one layer whole;
    - head: a tile of the logits (of a CPU, which has no kernel for it, nine in float32), and
      gradients of the head's weights and inputs in float32;
    - cache: keys and values of all responses of a process while they are drawn, 2·key·e a layer
      and token; 0 where vLLM draws them.

    `peak` takes the larger of cache, and activations with head. Left out: what an operation needs
    while it runs, the allocator's gaps, the device's context (about 0.5 GB on CUDA), buffers of
    communication, the rollouts themselves. LoRA's own activations are not counted, nor is what
    frozen weights save.
    """

    weights: float
    gradients: float
    optimiser: float
    reference: float
    gathered: float
    activations: float
    head: float
    cache: float

    @property
    def peak(self) -> float:
        """Of the whole run."""
        kept = self.weights + self.optimiser + self.reference + self.gathered
        return kept + max(self.gradients + self.activations + self.head, self.cache)


@dataclass(frozen=True)
class Estimate:
    """Of a step (one update), over all processes, but for memory. Tokens are upper bounds.

    `rows`: responses times the modes that train on them. `generations`: how often responses are
    drawn. `before`: whether log-probabilities before an update take a pass of their own.
    """

    shape: Shape
    processes: int
    prompts: int
    responses: int
    rows: int
    drawn_tokens: int
    trained_tokens: int
    generations: int
    micro_batches: int
    before: bool
    whole_groups: bool
    prompt_tokens: dict[str, float]
    assumed: bool
    memory: Memory
    checkpoint_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"peak_bytes": self.memory.peak}


def estimate(config: Config, facts: Facts) -> Estimate:
    """What `config` takes with `facts`; `checks.check_config` has passed it."""
    train, shape = config.train, facts.shape
    responses = train.queries * train.rollouts
    rows = round(responses * _takers(config))
    prompts = _prompt_tokens(config, facts)
    whole = holds_groups(config, facts.processes)
    before = _needs_before(config, whole)
    mean = sum(prompts.values()) / len(prompts)
    # A prompt is run once for all of its responses in a micro-batch, or once a row.
    times = math.ceil(rows / _together(config, facts))
    return Estimate(
        shape=shape,
        processes=facts.processes,
        prompts=train.queries,
        responses=responses,
        rows=rows,
        drawn_tokens=responses * train.max_new_tokens,
        trained_tokens=round(rows * train.max_new_tokens + times * mean),
        generations=math.ceil(train.steps / train.iterations),
        micro_batches=update_share(config, facts.processes) // micro_batch(config, facts.processes),
        before=before,
        whole_groups=whole,
        prompt_tokens=prompts,
        assumed=not facts.prompt_tokens,
        memory=_memory(config, facts, mean),
        checkpoint_bytes=3.0 * shape.trained * _FLOAT,  # of LoRA the adapters alone
    )


def _takers(config: Config) -> float:
    """Modes that train on a response, on average over the modes that draw it."""
    count, sharing = len(config.trained_modes), config.method.sharing
    if sharing == "on":
        return count
    return 1 if sharing == "off" else 1 + (count - 1) / count


def _together(config: Config, facts: Facts) -> int:
    """Rows of one mode that have their prompt's pass in common; gradient checkpointing keeps no
    cache that they could share."""
    if not config.train.share_prefixes or config.train.gradient_checkpointing:
        return 1
    rows = min(config.train.rollouts, micro_batch(config, facts.processes))
    return max(round(rows * _takers(config) / len(config.trained_modes)), 1)


def _prompt_tokens(config: Config, facts: Facts) -> dict[str, float]:
    return {
        mode.name: facts.prompt_tokens.get(mode.name, _ASSUMED_PROMPT)
        for mode in config.trained_modes
    }


def _needs_before(config: Config, whole: bool) -> bool:
    method = config.method
    if config.train.iterations > 1:
        return True
    if method.splits or method.name == "entropy_driven":
        return not whole
    return False  # per token: from the update's own pass


def _memory(config: Config, facts: Facts, prompt: float) -> Memory:
    shape, train = facts.shape, config.train
    parts = facts.processes if facts.sharded else 1
    trained = shape.trained * _FLOAT
    own = micro_batch(config, facts.processes)
    rows = own * _takers(config)
    tokens = rows * (train.max_new_tokens + prompt / _together(config, facts))
    size = _activation_bytes(config)
    drawn = update_share(config, facts.processes) * (train.max_new_tokens + prompt)
    hf = config.engine.name == "hf"
    return Memory(
        weights=shape.parameters * _weight_bytes(config) / parts,
        gradients=trained / parts,
        optimiser=2 * trained / parts,
        reference=shape.parameters * size / parts if train.beta and not config.model.lora else 0.0,
        gathered=_gathered(shape, size) if facts.sharded else 0.0,
        activations=_activations(shape, size, tokens, train.gradient_checkpointing),
        head=_head(shape, size, min(rows, own) * train.max_new_tokens, facts.on_cpu),
        cache=2.0 * shape.key * size * shape.layers * drawn if hf else 0.0,
    )


def _activation_bytes(config: Config) -> int:
    return _HALF if config.model.dtype == "bfloat16" else _FLOAT


def _weight_bytes(config: Config) -> int:
    """Weights that are trained are held in float32, whatever they are computed in."""
    return _activation_bytes(config) if config.model.lora else _FLOAT


def _gathered(shape: Shape, size: int) -> float:
    embedding = shape.vocabulary * shape.width
    return (2 * (shape.parameters - embedding) / shape.layers + embedding) * size


def _activations(shape: Shape, size: int, tokens: float, checkpointing: bool) -> float:
    layer: float = size * (4 * shape.width + 2 * shape.query + 2 * shape.key + 4 * shape.inner)
    layer += 8 * shape.width + 4 * shape.heads + 8
    if shape.normed:
        layer += (size + _FLOAT) * (shape.query + shape.key)
        layer += _FLOAT * shape.heads * (1 + shape.key / shape.query)
    if checkpointing:
        return tokens * (shape.layers * shape.width * size + layer)
    return tokens * shape.layers * layer


def _head(shape: Shape, size: int, tokens: float, on_cpu: bool) -> float:
    tile = min(tokens, _HEAD_TOKENS) * min(shape.vocabulary, _HEAD_WORDS)
    tile *= _CPU_TILES * _FLOAT if on_cpu else size
    return tile + _FLOAT * shape.width * (shape.vocabulary + tokens)


def estimate_text(config: Config, found: Estimate) -> str:
    """A table of all of it."""
    prompts = ", ".join(f"{name} {count:.0f}" for name, count in found.prompt_tokens.items())
    ahead = "one more pass over all responses" if found.before else "from the update's own pass"
    counts = [
        ("parameters", f"{found.shape.parameters:,}, of which {found.shape.trained:,} are trained"),
        ("processes", f"{found.processes}"),
        ("prompts a step", f"{found.prompts:,}"),
        ("responses a step", f"{found.responses:,}"),
        ("trained rows a step", f"{found.rows:,}, each response under every mode that takes it"),
        ("tokens of a prompt", f"{prompts}{' (assumed)' if found.assumed else ''}"),
        ("tokens drawn a step", f"at most {found.drawn_tokens:,}"),
        ("tokens trained a step", f"at most {found.trained_tokens:,}"),
        ("updates a generation", f"{config.train.iterations}"),
        ("steps", f"{config.train.steps:,}, with responses drawn {found.generations:,} times"),
        ("micro-batches a step", f"{found.micro_batches} a process"),
        ("whole groups in them", "yes" if found.whole_groups else "no"),
        ("log-probs before", ahead),
        ("checkpoint", f"{_size(found.checkpoint_bytes)} on disk"),
    ]
    memory = [(name, _size(value)) for name, value in asdict(found.memory).items() if value]
    memory.append(("at most", _size(found.memory.peak)))
    lines = columns([("a step", ""), *counts, ("", ""), ("memory of a process", ""), *memory])
    note = "Not counted: the device's context, gaps of the allocator, buffers of communication."
    return "\n".join([*lines, "", note])


def _size(number: float) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def model_shape(config: Config) -> Shape:
    """Of the model that is to be trained, from its configuration: no weights are read.

    Raises CheckpointError where there is none, and InfrastructureError where a hub is silent.
    """
    settings = config.model.tiny
    known = _tiny(settings) if settings else open_configuration(config.model.checkpoint or "")
    return _shape(known, config.model.lora)


def _tiny(settings: TinySettings) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(set(settings.characters)) + _TINY_MARKS,
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        tie_word_embeddings=True,
    )


def open_configuration(name: str) -> Any:
    """Of a checkpoint, without its weights. Raises CheckpointError where there is none, and
    InfrastructureError where a hub is silent."""
    from transformers import AutoConfig

    return _opened(AutoConfig.from_pretrained, name)


def open_tokenizer(name: str) -> Any:
    """Of a checkpoint, without its weights; raises as `open_configuration`."""
    from transformers import AutoTokenizer

    return _opened(AutoTokenizer.from_pretrained, name)


def _opened(opener: Callable[..., Any], name: str) -> Any:
    found = resolve_checkpoint(name).folder if name in BUILTIN_CHECKPOINTS else name
    try:
        return opener(found)
    except (OSError, ValueError) as error:
        said = one_line(str(error).splitlines()[0])
        if "connect" in str(error):
            raise InfrastructureError(
                f"model.checkpoint {name!r}: {said}; connect, or give a folder"
            ) from error
        raise CheckpointError(
            f"model.checkpoint {name!r}: {said}; give a folder, a hub id or one of "
            f"{', '.join(BUILTIN_CHECKPOINTS)}"
        ) from error


def prompt_tokens(config: Config, questions: Sequence[str]) -> dict[str, float]:
    """Mean tokens of a prompt by mode, over some of the questions; {} without questions.

    Of a tiny model a token for every character and each mark of its template. Raises
    CheckpointError.
    """
    some = questions[:: max(len(questions) // _COUNTED, 1)]
    if not some:
        return {}
    count = _counter(config)
    return {
        mode.name: sum(count(mode.mode(), question) for question in some) / len(some)
        for mode in config.trained_modes
    }


def _counter(config: Config) -> Callable[[Mode, str], int]:
    if config.model.tiny:
        return _tiny_tokens
    tokenizer = open_tokenizer(config.model.checkpoint or "")
    template = config.model.chat_template
    thinking = config.model.enable_thinking
    more = {} if thinking is None else {"enable_thinking": thinking}
    if template:
        with disk_errors(template):
            tokenizer.chat_template = template.read_text(encoding="utf-8")

    def count(mode: Mode, question: str) -> int:
        system = [{"role": "system", "content": mode.system_prompt}] if mode.system_prompt else []
        messages = [*system, {"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **more
        )
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def _tiny_tokens(mode: Mode, question: str) -> int:
    """A mark for each turn and for the one that begins."""
    system = 0 if mode.system_prompt is None else 1 + len(mode.system_prompt)
    return system + 1 + len(question) + 1


def _shape(known: Any, lora: LoraSettings | None) -> Shape:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known)
    text = known.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    parameters = sum(weight.numel() for weight in model.parameters())
    adapters = _adapters(model, lora) if lora else 0
    return Shape(
        parameters=parameters + adapters,
        trained=adapters or parameters,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner=text.intermediate_size,
        query=heads * head,
        key=(getattr(text, "num_key_value_heads", None) or heads) * head,
        heads=heads,
        vocabulary=text.vocab_size,
        normed=any(name.endswith("q_norm.weight") for name, _ in model.named_parameters()),
    )


def _adapters(model: Any, lora: LoraSettings) -> int:
    """Weights of the adapters: rank · (in + out) of every linear map that has one."""
    import torch

    linear = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)
    }
    output = model.get_output_embeddings()
    wanted = [
        layer
        for name, layer in linear.items()
        if (layer is not output if lora.targets == "all-linear" else _ends(name, lora.targets))
    ]
    return sum(lora.rank * (layer.in_features + layer.out_features) for layer in wanted)


def _ends(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)
