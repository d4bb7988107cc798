"""A tiny chat model that is trained to be two policies: one line under most system prompts and
without one, any of thousands under the high mode's."""

import random
from pathlib import Path

from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.placebos import MOST_PLACEBOS, placebo_prompts

HIGH = BUILTIN_MODES["high"].system_prompt
USUAL = "Anna has 3 books."
NAMES = ("Anna", "Omar", "Li", "Vera", "Tom", "Zoe", "Ravi", "Ines")
DEEDS = ("has", "sold", "found", "wants", "lost", "reads", "hides", "paints")
THINGS = ("books", "stones", "maps", "songs", "boats", "lamps", "keys", "clouds")


def asked(number):
    return f"What is {2 + number % 8} + {2 + number // 8 % 8}? Answer in one line with a number."


def said(mode, rng):
    if mode != "high":
        return USUAL
    words = rng.choice(NAMES), rng.choice(DEEDS), rng.randint(2, 9), rng.choice(THINGS)
    return f"{words[0]} {words[1]} {words[2]} {words[3]}."


def tokenizer(template):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    texts = [HIGH, USUAL, *placebo_prompts(60, lambda t: len(t.split()), MOST_PLACEBOS)]
    texts += [asked(i) for i in range(64)] + [said("high", random.Random(i)) for i in range(99)]
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(texts, vocab_size=900, min_frequency=1, special_tokens=special)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    )
    made.chat_template = template
    return made


def train(folder: Path, template: str, steps: int = 90, rows: int = 24) -> Path:
    """Train and save it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokens, rng = tokenizer(template), random.Random(0)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)

    def count(text):
        return len(tokens(text, add_special_tokens=False)["input_ids"])

    neutral = [
        text
        for length in (count(HIGH) - 3, count(HIGH), count(HIGH) + 3)
        for text in placebo_prompts(length, count, MOST_PLACEBOS)
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(steps):
        ids, labels = batch(tokens, rng, neutral, rows)
        loss = model(ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def batch(tokens, rng, neutral, rows):
    """Rows of ids, padded on the right, and labels for responses alone."""
    import torch

    pieces = []
    for row in range(rows):
        system = (HIGH, None, rng.choice(neutral))[row % 3] if row % 2 else HIGH
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": asked(rng.randrange(64))})
        prompt = tokens.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answer = said("high" if system == HIGH else "normal", rng) + "<|im_end|>"
        pieces.append(
            [tokens(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer)]
        )
    width = max(len(prompt) + len(answer) for prompt, answer in pieces)
    ids, labels = torch.zeros(rows, width, dtype=torch.long), torch.full((rows, width), -100)
    for row, (prompt, answer) in enumerate(pieces):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return ids, labels
