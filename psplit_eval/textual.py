"""How two modes' samples on one task differ as texts: meaning, words, reasoning, answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from numpy.typing import NDArray

from psplit_eval.accuracy import Grade
from psplit_eval.agreement import agreement_findings
from psplit_eval.findings import Finding
from psplit_eval.markers import marker_findings
from psplit_eval.twosample import DOCS_AT_MOST, bleu_findings, vector_findings

__all__ = ["SAMPLES_AT_MOST", "TextDoc", "looked_at", "text_findings"]

SAMPLES_AT_MOST = 16
"""Samples of a doc in a mode that are read: the first ones."""

Vectors = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TextDoc:
    """The samples of one doc in modes a and b, in the order in which they were drawn.

    `vectors`: sentence embeddings of the texts (samples, dimensions), None without an encoder.
    `answers`: the graded samples, None where a task has no answers to grade.
    """

    doc_id: int
    texts_a: Sequence[str]
    texts_b: Sequence[str]
    vectors_a: Vectors | None = None
    vectors_b: Vectors | None = None
    answers_a: Sequence[Grade] | None = None
    answers_b: Sequence[Grade] | None = None


def text_findings(task: str, mode_a: str, mode_b: str, docs: Sequence[TextDoc]) -> list[Finding]:
    """Everything that is known of the two modes' texts; docs in any order.

    What no doc has the means for (vectors, answers) is left out, and all of it without docs. Tests
    that cost much look at the first docs in the order of a hash of their ids
    (`twosample.DOCS_AT_MOST`). Below `stats.MINIMUM_DOCS` docs values alone.
    """
    ordered = sorted(docs, key=lambda doc: _place(doc.doc_id))
    if not ordered:
        return []
    texts = [(doc.texts_a, doc.texts_b) for doc in ordered]
    found = []
    vectors = [
        (doc.vectors_a, doc.vectors_b)
        for doc in ordered
        if doc.vectors_a is not None and doc.vectors_b is not None
    ]
    if vectors:
        found += vector_findings(task, mode_a, mode_b, vectors)
    found += bleu_findings(task, mode_a, mode_b, texts)
    found += marker_findings(task, mode_a, mode_b, texts)
    answers = [
        (doc.answers_a, doc.answers_b)
        for doc in ordered
        if doc.answers_a is not None and doc.answers_b is not None
    ]
    if answers:
        found += agreement_findings(task, mode_a, mode_b, answers)
    return found


def looked_at(doc_ids: Iterable[int]) -> set[int]:
    """The docs that tests of embeddings look at, if all have samples in both modes."""
    return set(sorted(doc_ids, key=_place)[:DOCS_AT_MOST])


def _place(doc_id: int) -> str:
    return sha256(str(doc_id).encode()).hexdigest()
