"""A tiny chat model, a reward that a few first characters earn, and trainers of both."""

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import GRPOConfig

from psplit_eval.templates import ChatTemplate
from psplit_train.config import MethodSettings, ModeSettings
from psplit_train.rewards import Graded
from psplit_train.sharing import split_of
from psplit_train.trainer import PolicySplitTrainer

CHARACTERS = "0123456789+= abcdefghl!"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}<s>{{ m.content }}"
    "{% elif m.role == 'user' %}<u>{{ m.content }}"
    "{% else %}<a>{{ m.content }}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
PROMPTS = {"normal": None, "high": "h", "low": "l", "long": "abcdefgh" * 5}


def tokenizer():
    marks = ["<pad>", "<eos>", "<u>", "<a>", "<s>"]
    vocabulary = {token: number for number, token in enumerate([*marks, *CHARACTERS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=marks[2:],
    )
    fast.chat_template = TEMPLATE
    return fast


def model(seed=0):
    """Weights large enough that its modes differ and its distributions are not flat."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(CHARACTERS) + 5,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


class FirstCharacter:
    """Reward 1 for a response that begins with one of these; graded as psplit's reward does."""

    __name__ = "reward"

    def __init__(self, right="0123456789"):
        self.right, self.graded = right, []

    def __call__(self, prompts, completions, completion_ids, **columns):
        texts = [messages[-1]["content"] for messages in completions]
        right = [bool(text) and text[0] in self.right for text in texts]
        self.graded = [
            Graded(one, True, text, False) for one, text in zip(right, texts, strict=True)
        ]
        return [float(one) for one in right]


class Watched(PolicySplitTrainer):
    """Keeps what TRL's loss is given, and its micro-batches."""

    def __init__(self, **settings):
        self.flat, self.batches = [], []
        super().__init__(**settings)

    def _flat(self, inputs, taken, weights, old):
        flat = super()._flat(inputs, taken, weights, old)
        self.flat.append(flat)
        self.batches.append((inputs, taken))
        return flat


def plain_scores(network, prompt, completion):
    """log-probability and entropy of each token, by transformers' plain logits, float32."""
    with torch.no_grad():
        logits = network(torch.tensor([[*prompt, *completion]])).logits[0]
    log_probs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    own = log_probs.gather(1, torch.tensor(completion)[:, None])[:, 0]
    return own, -(log_probs.exp() * log_probs).sum(-1)


def questions(count=10):
    texts = [f"{a}+{b}=" for a in range(count) for b in range(count)]
    return [{"prompt": [{"role": "user", "content": text}], "question": text} for text in texts]


def arguments(folder, *, queries=4, group=8, parts=1, steps=1, iterations=1, **more):
    """GRPOConfig of `queries` × `group` responses a step, in `parts` micro-batches."""
    settings = {
        "max_steps": steps,
        "per_device_train_batch_size": queries * group // parts,
        "gradient_accumulation_steps": parts,
        "num_generations": group,
        "num_iterations": iterations,
        "max_completion_length": 8,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 3,
    }
    return GRPOConfig(str(folder), **settings | more)


def trainer(folder, method=None, modes=("normal", "high"), start=0, kind=None, count=10, **more):
    """A trainer of `modes` (or of mappings of mode settings) by the method of these settings, on
    `count` × `count` questions."""
    method = MethodSettings(**(method or {}))
    named = [
        ModeSettings(**mode)
        if isinstance(mode, dict)
        else ModeSettings(name=mode, system_prompt=PROMPTS[mode])
        for mode in modes
    ]
    named = named if method.splits else named[:1]
    wanted = ("share_prefixes", "step_end", "peft_config", "keep_rollouts", "finish_checkpoint")
    own = {name: more.pop(name) for name in wanted if name in more}
    model(start).save_pretrained(folder / "start")  # by the first process alone
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    made = (kind or PolicySplitTrainer)(
        model=LlamaForCausalLM.from_pretrained(folder / "start"),
        args=arguments(folder, **more),
        reward=FirstCharacter(),
        split=split_of(named, method),
        method=method,
        template=ChatTemplate(tokenizer(), "tiny"),
        train_dataset=Dataset.from_list(questions(count)),
        **own,
    )
    made.remove_callback(PrinterCallback)
    return made


def weights(trained):
    return torch.cat([p.detach().flatten().clone() for p in trained.model.parameters()])
