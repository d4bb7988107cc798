"""The samples that a report shows: a stated selection, the modes side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from psplit_eval.arms import Arm
from psplit_eval.store import Doc, Sample, Store
from psplit_eval.text import cut

__all__ = ["SELECTION", "Excerpt", "Said", "select"]

_DOCS = 2
_TASKS = 12
_CHARACTERS = 1200
SELECTION = (
    f"Not picked by what they say: the first {_DOCS} docs of every task (of the first {_TASKS} "
    f"that have text), the first sample of every mode, at most {_CHARACTERS:,} characters of each. "
    "psplit-eval view RUN shows all samples."
)
"""What a reader has to know of the selection."""


@dataclass(frozen=True)
class Said:
    """What a mode was asked, and the first that it said, both cut; `about`: how it ended."""

    mode: str
    prompt: str
    text: str
    about: str


@dataclass(frozen=True)
class Excerpt:
    """One doc, its reference answer ('' for none), and what each mode said."""

    task: str
    doc_id: int
    target: str
    said: tuple[Said, ...]


def select(store: Store, arms: Sequence[Arm], tasks: Iterable[str]) -> list[Excerpt]:
    """The selection that SELECTION states, from the store.

    Answers that were only scored say nothing of the model's own words, and are not shown; nor are
    docs without a sample.
    """
    of_tasks = (_of_task(store, arms, task) for task in tasks)
    shown = islice((excerpts for excerpts in of_tasks if excerpts), _TASKS)
    return [excerpt for excerpts in shown for excerpt in excerpts]


def _of_task(store: Store, arms: Sequence[Arm], task: str) -> list[Excerpt]:
    modes = [arm.mode for arm in arms if arm.task == task]
    found = (_excerpt(store, doc, modes) for doc in islice(store.docs(task), _DOCS))
    return [excerpt for excerpt in found if excerpt.said]


def _excerpt(store: Store, doc: Doc, modes: Sequence[str]) -> Excerpt:
    first = ((mode, store.sample((mode, doc.task, doc.doc_id, 0))) for mode in modes)
    said = tuple(
        _said(store, sample, mode)
        for mode, sample in first
        if sample is not None and sample.text is not None and sample.finish_reason != "scored"
    )
    return Excerpt(doc.task, doc.doc_id, cut(doc.target, _CHARACTERS), said)


def _said(store: Store, sample: Sample, mode: str) -> Said:
    prompt = store.prompt(sample.prompt_hash, mode)
    asked = cut(prompt.text if prompt else "", _CHARACTERS)
    return Said(mode, asked, cut(sample.text or "", _CHARACTERS), ", ".join(_about(store, sample)))


def _about(store: Store, sample: Sample) -> Iterator[str]:
    correct = store.sample_metric(sample.key, "correct")
    if correct is not None:
        yield "right" if correct else "wrong"
    if sample.completion_tokens is not None:
        yield f"{sample.completion_tokens:,} tokens"
    if sample.truncated:
        yield "cut at the token limit"
