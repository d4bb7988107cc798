"""What the studies on labelled data share: the data, psplit's encoder, rows of results."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psplit_eval.embedding import Encoder

__all__ = ["DATA", "ROOT", "Array", "Embedder", "Row", "data", "row_of", "write_results"]

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("PSPLIT_TEST_DATA", ROOT.parent / "shared" / "data"))
_COLUMNS = ("dataset", "metric", "statistic", "value", "spread", "n", "fitted")

Array = NDArray[np.float64]
Row = dict[str, Any]


def data(name: str) -> Iterator[Row]:
    """Rows of a JSON Lines file of the labelled data, packed or not."""
    path = DATA / name
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


class Embedder:
    """Texts to unit vectors by psplit's encoder: each once, or once for all with a file."""

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._encoder = file, Encoder()
        self._known: dict[str, NDArray[np.float32]] = {}
        if file is not None and file.is_file():
            with np.load(file) as kept:
                self._known = dict(zip(kept["sums"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        sums = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {s: text for s, text in zip(sums, texts, strict=True) if s not in self._known}
        if new:
            self._known |= dict(zip(new, self._encoder.encode([*new.values()]), strict=True))
        return np.array([self._known[s] for s in sums]).reshape(len(texts), -1)

    def keep(self) -> None:
        if self._file is not None:
            np.savez(self._file, sums=list(self._known), vectors=np.array([*self._known.values()]))


def row_of(
    dataset: str, metric: str, statistic: str, value: Any, spread: Any, n: int, fitted: bool
) -> Row:
    """A row of results; `spread` may be '' where there is none."""
    numbers = (round(float(value), 4), spread if spread == "" else round(float(spread), 4))
    return dict(zip(_COLUMNS, (dataset, metric, statistic, *numbers, n, int(fitted)), strict=True))


def write_results(name: str, rows: Sequence[Row]) -> None:
    """Print the rows, and put them into the file of results that is called `name`."""
    path = Path(__file__).parent / "results" / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values(), sep="  ")
