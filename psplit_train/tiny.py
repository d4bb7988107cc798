"""A chat model made from nothing: a small Llama with a token for every character.

It learns short tasks on a laptop in a minute, and opens like any other Hugging Face checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from psplit_eval.errors import DataError, RunMismatchError, UsageError
from psplit_eval.files import new_folder, write_json
from psplit_train.config import TinySettings

__all__ = ["TINY_TEMPLATE", "check_text", "make_tiny", "tiny_tokenizer"]

_PAD, _END, _UNKNOWN = "<pad>", "<eos>", "<unk>"
_ROLES = ("<system>", "<user>", "<assistant>")

TINY_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('the roles are system, user and assistant') }}{% endif %}"
    "{{ '<' + message['role'] + '>' + message['content'] }}"
    f"{{% if message['role'] == 'assistant' %}}{_END}{{% endif %}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""A turn is its role's mark, one token, and its text; only the assistant's ends with a mark of its
own. A system prompt of one character costs two tokens. No system message is added."""

_RECORD = "psplit_tiny.json"


def make_tiny(settings: TinySettings, folder: Path) -> Path:
    """Write an untrained chat model and its tokenizer into `folder`, and return it.

    The same settings give the same files, byte for byte (with the same torch). The folder is
    written whole or not at all; one of the same settings is kept as it is. Raises UsageError for
    settings of which there is no model, RunMismatchError where something else lies in `folder`.
    """
    _check_shape(settings)
    wanted = {"format": 1, "settings": settings.model_dump(mode="json")}
    if folder.is_dir() and any(folder.iterdir()):
        _check_same(folder, wanted)
        return folder
    tokenizer = tiny_tokenizer(settings)
    model = _model(settings, tokenizer)
    with new_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_json(partial / _RECORD, wanted)
    return folder


def check_text(tokenizer: Any, texts: Iterable[str], kind: str = "text") -> None:
    """Raise DataError for the first of `texts` that has characters without a token.

    They would silently become the unknown token of `tokenizer`, a fast one of transformers'; one
    that has none (of bytes) takes any text. `kind` says what the texts are.
    """
    listed = list(texts)
    unknown = tokenizer.unk_token_id
    if unknown is None or not listed:
        return
    rows = tokenizer(listed, add_special_tokens=False)["input_ids"]
    for text, ids in zip(listed, rows, strict=True):
        if unknown in ids:
            raise DataError(
                f"{kind} {_shortened(text)!r}: the tokenizer has no token for "
                f"{_without_token(tokenizer, text)}; put it into model.tiny.characters, or leave "
                "it out of the text"
            )


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _without_token(tokenizer: Any, text: str) -> str:
    """The characters, quoted, in the order of their first place in the text."""
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = zip(read["input_ids"], read["offset_mapping"], strict=True)
    found = (text[slice(*place)] for token, place in places if token == tokenizer.unk_token_id)
    return " ".join(dict.fromkeys(map(repr, found)))


def _check_shape(settings: TinySettings) -> None:
    width, heads = settings.width, settings.heads
    if width % (2 * heads):  # positions are rotations of pairs
        raise UsageError(
            f"model.tiny.width {width}: expected a multiple of {2 * heads}, twice model.tiny.heads;"
            f" give {max(1, round(width / (2 * heads))) * 2 * heads}"
        )
    if not settings.characters:
        raise UsageError("model.tiny.characters: expected at least one; give those of the task")


def _check_same(folder: Path, wanted: dict[str, Any]) -> None:
    record = folder / _RECORD
    try:
        found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    except (OSError, ValueError):
        found = None
    if found != wanted:
        raise RunMismatchError(
            f"{folder}: holds something else than the tiny model of these settings; give another "
            "folder, or delete it"
        )


def tiny_tokenizer(settings: TinySettings) -> Any:
    """With a token for each character and `TINY_TEMPLATE`. Raises UsageError as `make_tiny`."""
    _check_shape(settings)
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    special = (_PAD, _END, _UNKNOWN, *_ROLES)
    tokens = dict.fromkeys([*special, *settings.characters])
    model = WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=_UNKNOWN)
    characters = Tokenizer(model)
    characters.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    characters.decoder = Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=characters,
        pad_token=_PAD,
        eos_token=_END,
        unk_token=_UNKNOWN,
        extra_special_tokens=list(_ROLES),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=settings.context,
    )
    made.chat_template = TINY_TEMPLATE
    return made


def _model(settings: TinySettings, tokenizer: Any) -> Any:
    """A Llama with tied embeddings; its random numbers are its own."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        **ends,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, **ends)
    return model
