"""Texts that evaluation sets hold, too: found by 13 words in a row that both have.

The overlap of Brown et al. 2020 (arXiv 2005.14165, appendix C), with N = 13. Words are compared in
lower case, letters and digits only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from psplit_eval.errors import DataError
from psplit_eval.rows import read_rows
from psplit_eval.suites import shipped_folder

__all__ = ["WORDS", "OverlapIndex", "evaluation_files", "evaluation_texts", "overlapping"]

WORDS = 13
"""How many words in a row make an overlap."""

_WORD = re.compile(r"[^\W_]+")
_Words = tuple[str, ...]


@dataclass(frozen=True)
class OverlapIndex:
    """What evaluation sets hold: runs of 13 words, and whole texts of fewer words."""

    runs: frozenset[_Words]
    wholes: frozenset[_Words]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Of all texts; those without a word count for nothing."""
        known = [found for found in map(_words, texts) if found]
        runs = frozenset(run for words in known for run in _runs(words))
        return cls(runs, frozenset(words for words in known if len(words) < WORDS))


def overlapping(texts: Sequence[str], index: OverlapIndex) -> list[bool]:
    """Of every text whether it shares 13 words in a row with the index.

    A text of fewer words does where all of it is a text of the index. One without words never does.
    """
    return [_overlaps(_words(text), index) for text in texts]


def _overlaps(words: _Words, index: OverlapIndex) -> bool:
    if len(words) < WORDS:
        return words in index.wholes
    return any(run in index.runs for run in _runs(words))


def _words(text: str) -> _Words:
    return tuple(_WORD.findall(text.lower()))


def _runs(words: _Words) -> Iterator[_Words]:
    return (words[start : start + WORDS] for start in range(len(words) - WORDS + 1))


def evaluation_files(against: Iterable[str]) -> list[Path]:
    """The data files of psplit's own tasks, then those that `against` names: JSON Lines files, or
    folders of which every such file counts. Raises DataError for what is neither."""
    own = sorted((shipped_folder("tasks") / "data").glob("*.jsonl"))
    return [*own, *(path for name in against for path in _named(Path(name)))]


def _named(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [*path.rglob("*.jsonl"), *path.rglob("*.jsonl.gz")]
    if not found:
        raise DataError(f"evaluation set {str(path)!r}: no .jsonl or .jsonl.gz in it; name a file")
    return sorted(found)


def evaluation_texts(files: Iterable[Path]) -> Iterator[str]:
    """Every text of two words or more in the rows of the files, however deep.

    One word or number alone is an answer or a label, no question. Raises DataError for a file that
    cannot be read.
    """
    for path in files:
        for row in read_rows(path):
            yield from (text for text in _texts(row) if len(_words(text)) > 1)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _texts(part)
