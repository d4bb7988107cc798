"""A small language model as a yardstick: how surprising it finds a text, given what stands before.

It is the same for all checkpoints and modes, so that their texts are measured by one scale. It
takes plain text: no chat template, no system prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.checkpoints import BUILTIN_CHECKPOINTS, Checkpoint, resolve_checkpoint
from psplit_eval.errors import CheckpointError, MissingExtraError
from psplit_eval.memory import roomy_device
from psplit_eval.scoring import Array, Chain
from psplit_eval.text import wellformed

if TYPE_CHECKING:
    import torch

__all__ = ["REFERENCE", "ReferenceModel"]

REFERENCE = "smollm2-135m"
"""The default yardstick: the built-in checkpoint."""

_PIECE_TOKENS = 512
"""More of a piece is not read: a story has shown by then how it is written."""
_BATCH_LOGITS = 2**26
"""Logits held at once: 256 MB in float32."""


class ReferenceModel:
    """A causal language model that measures texts, loaded when it is needed; `name` says which."""

    def __init__(self, name: str = REFERENCE, say: Callable[[str], None] = lambda _: None) -> None:
        """A built-in name, a folder or a hub id; raises what `resolve_checkpoint` raises.

        `say` hears about slow steps. A built-in one is fetched when it is needed first.
        """
        self._asked, self._say = name, say
        known = name if name in BUILTIN_CHECKPOINTS else self._checkpoint.fingerprint[:12]
        self.name = known if known == name else f"{Path(name).name}@{known}"

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return resolve_checkpoint(self._asked, self._say)

    def load(self) -> None:
        """Load it now.

        Raises MissingExtraError without the `hf` extra, CheckpointError where transformers cannot,
        InfrastructureError where a built-in one cannot be fetched.
        """
        if not hasattr(self, "_model"):
            self._load()

    def _load(self) -> None:
        if not all(map(find_spec, ("torch", "transformers"))):
            raise MissingExtraError("hf", "a reference language model")
        folder = self._checkpoint.folder
        self._tokenizer, self._model = _loaded(Path(str(folder)))
        config = self._model.config.get_text_config()
        self._room = int(getattr(config, "max_position_embeddings", None) or 2**11)
        self._vocabulary = int(config.vocab_size)

    def surprisals(self, chains: Sequence[Chain]) -> list[list[Array]]:
        """Of every chain and each of its pieces −log2 p of every token; ≥ 0.

        Pieces are cut into tokens each by itself, and after 512 of them; what does not fit into the
        model's context any more has no tokens.
        """
        self.load()
        ids = [self._tokens(chain) for chain in chains]
        found: list[list[Array]] = [[]] * len(chains)
        for batch in self._batches(ids):
            for place, bits in zip(batch, self._token_bits([ids[i] for i in batch]), strict=True):
                found[place] = _by_piece(ids[place], bits)
        return found

    def _tokens(self, chain: Chain) -> list[list[int]]:
        """Token ids of what is before, then of every piece."""
        kept = [self._before(chain)]
        room = self._room - len(kept[0])
        for piece in chain.pieces:
            kept.append(self._ids(piece)[: max(0, min(_PIECE_TOKENS, room))])
            room -= len(kept[-1])
        return kept

    def _before(self, chain: Chain) -> list[int]:
        """At least one token. Of a long text its end stays: it stands nearest.

        At most half of the model's context, so that a piece has room.
        """
        most = min(_PIECE_TOKENS, self._room // 2)
        if chain.chat and self._tokenizer.chat_template:
            message = [{"role": "user", "content": wellformed(chain.before)}]
            made = {"tokenize": False, "add_generation_prompt": True}
            return self._ids(self._tokenizer.apply_chat_template(message, **made))[-most:]
        known = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, 0)
        beginning = int(next(token for token in known if token is not None))
        return [beginning, *self._ids(chain.before)[1 - most :]]

    def _ids(self, text: str) -> list[int]:
        found = self._tokenizer(wellformed(text), add_special_tokens=False, verbose=False)
        return list(found["input_ids"])

    def _batches(self, ids: Sequence[list[list[int]]]) -> Iterator[list[int]]:
        """Places of chains of about equal length, as many as their logits have room."""
        lengths = [sum(map(len, pieces)) for pieces in ids]
        order = sorted(range(len(ids)), key=lengths.__getitem__, reverse=True)
        while order:
            count = max(1, _BATCH_LOGITS // (self._vocabulary * lengths[order[0]]))
            yield order[:count]
            order = order[count:]

    def _token_bits(self, batch: Sequence[list[list[int]]]) -> list[Array]:
        """−log2 p of every token but the first, of every chain."""
        import torch

        rows = [[token for piece in pieces for token in piece] for pieces in batch]
        longest = max(map(len, rows))
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        lengths = torch.tensor([[len(tokens)] for tokens in rows])
        mask = (torch.arange(longest) < lengths).long()
        with torch.inference_mode():
            given = ids.to(self._model.device)
            logits = self._model(input_ids=given, attention_mask=mask.to(self._model.device)).logits
            nats = _nll(logits, given.roll(-1, 1)).cpu()
        return [
            (of_row[: len(tokens) - 1] / math.log(2)).numpy()
            for of_row, tokens in zip(nats, rows, strict=True)
        ]


def _nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import cross_entropy

    flat = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def _by_piece(pieces: Sequence[Sequence[int]], bits: Array) -> list[Array]:
    found, start = [], len(pieces[0]) - 1
    for piece in pieces[1:]:
        found.append(bits[start : start + len(piece)])
        start += len(piece)
    return found


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model; kept, as a process may score several runs."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and others
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"reference model {str(folder)!r}: transformers cannot open it "
            f"({error.__class__.__name__}: {reason}); give a causal language model, or none"
        ) from error
    return tokenizer, model.eval().to(roomy_device())
