"""Word vectors of the user's own: a file in the text format of GloVe or word2vec.

Such files have gigabytes, so only the rows of words that are asked for are kept.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from psplit_eval.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WordVectors", "read_vectors"]

_SAMPLE = 1 << 20


class WordVectors:
    """An encoder of single words by a file; used in place of a sentence encoder."""

    def __init__(self, path: Path) -> None:
        """`name` says which file: by its size, beginning and end. Raises DataError."""
        self._path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                begin = file.read(_SAMPLE)
                file.seek(max(0, size - _SAMPLE))
                parts = b"%d %b %b" % (size, begin, file.read())
        except OSError as error:
            raise _unreadable(path, error) from error
        self.name = f"{path.name}@{hashlib.sha256(parts).hexdigest()[:12]}"

    def load(self) -> None:
        """Nothing is kept: every call of `encode` reads the file once."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a word (n × d), of length 1; a word that the file lacks is a row of zeros.

        Raises DataError for a file in another format.
        """
        import numpy as np

        found, size = _read(self._path, set(texts))
        rows: NDArray[np.float32] = np.zeros((len(texts), size), np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text in found:
                row += found[text]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def read_vectors(path: Path, words: Set[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors (d numbers each) of those words that the file has; `.gz` is unpacked.

    A row is a word and its numbers, separated by spaces; a first row of two numbers, which
    word2vec writes, is skipped. A word that is there twice has its first row; rows with another
    number of fields than the first are passed over (some words of GloVe 840B have spaces). Raises
    DataError for a file that cannot be read or is in another format, with the line.
    """
    return _read(path, words)[0]


def _read(path: Path, words: Set[str]) -> tuple[dict[str, NDArray[np.float32]], int]:
    """The vectors that are there, and how many numbers a vector has."""
    import numpy as np

    found: dict[str, NDArray[np.float32]] = {}
    with _opened(path) as file:
        lines = enumerate(file, 1)
        size, first = _begin(path, lines)
        for number, line in chain(first, lines):
            word, _, rest = line.partition(" ")
            if word in words and word not in found and len(fields := rest.split()) == size:
                found[word] = np.array(_numbers(path, number, fields), np.float32)
                if len(found) == len(words):
                    break
    return found, size


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace", newline="\n") as file:
            yield file
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _begin(path: Path, lines: Iterator[tuple[int, str]]) -> tuple[int, list[tuple[int, str]]]:
    """How many numbers a row has, by the first one, and that row again."""
    number, line = next(lines, (1, ""))
    if len(line.split()) == 2:  # word2vec's: how many words, how many numbers
        number, line = next(lines, (2, ""))
    fields = line.split()[1:]
    return len(_numbers(path, number, fields)), [(number, line)]


def _numbers(path: Path, line: int, fields: Sequence[str]) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise DataError(
            f"word vectors {str(path)!r}, line {line}: expected a word and its numbers, separated "
            "by spaces, as GloVe and word2vec write text"
        )
    return numbers


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"word vectors {str(path)!r}: cannot be read ({error.__class__.__name__}); expected a "
        "text file (or .gz of one) with a word and its numbers in every row"
    )
