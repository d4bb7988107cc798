"""What quality is judged by, for every text of quality_texts.py: a folder that can be continued."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quality_texts import Case

from psplit_eval.embedding import Encoder
from psplit_eval.reference import ReferenceModel
from psplit_eval.scoring import Chain

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
    reference, encoder = ReferenceModel(), Encoder()
    for some in _batches(cases):
        chains = [Chain(case.prompt, (case.text,), chat=True) for case in some]
        vectors = encoder.encode([part for case in some for part in (case.prompt, case.text)])
        for case, (bits,), prompt, text in zip(
            some, reference.surprisals(chains), vectors[::2], vectors[1::2], strict=True
        ):
            yield {
                "key": case.key,
                "bits": [round(float(x), 2) for x in bits],
                "cosine": round(float(prompt @ text), 4),
            }


def _batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    """Neighbours of like length, so that little is padding."""
    for start in range(0, len(cases), 16 * BATCH):
        some = sorted(cases[start : start + 16 * BATCH], key=lambda c: len(c.prompt + c.text))
        for first in range(0, len(some), BATCH):
            yield some[first : first + BATCH]
