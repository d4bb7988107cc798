"""Every metric of a store, computed again from what is stored: evidence first, then scores.

Evidence (embeddings, surprisals) comes from models and takes its time, so it is kept in the store
by the hash of the text: a run that is scored again needs no model.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, islice
from operator import attrgetter

import numpy as np

from psplit_eval.embedding import PACKAGED, Encoder
from psplit_eval.errors import InfrastructureError, MissingExtraError
from psplit_eval.reference import REFERENCE, ReferenceModel
from psplit_eval.scoring import Answers, Chain, Evidence, Scorer, Wanted, Witnessed
from psplit_eval.store import Sample, Store
from psplit_eval.workers import scoring_by

__all__ = ["NONE", "Yardsticks", "score_store"]

NONE = "none"
"""The name of no model."""
_AT_ONCE = 16
"""Docs whose evidence is made and committed together."""


@dataclass
class Yardsticks:
    """Which models texts are measured by: `encoder` embeds, `reference` gives surprisals.

    Each is loaded when something is missing in the store. What needs one that is 'none', or that
    is not to be had here, is left out; of the latter `notes` tell.
    """

    encoder: str = PACKAGED
    reference: str = REFERENCE
    say: Callable[[str], None] = lambda _: None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, str]:
        """The form used in manifests."""
        return {"encoder": self.encoder, "reference": self.reference}

    @cached_property
    def _encoder(self) -> Encoder | None:
        return None if self.encoder == NONE else Encoder(self.encoder)

    @cached_property
    def _reference(self) -> ReferenceModel | None:
        return None if self.reference == NONE else ReferenceModel(self.reference, self.say)

    def check(self) -> None:
        """Raise CheckpointError or UnknownNameError for names of models that are none."""
        _ = self._encoder, self._reference

    def make(self, store: Store, wanted: Sequence[Wanted]) -> None:
        """Make and store what is wanted and not stored yet."""
        if self._encoder:
            self._make_vectors(store, self._encoder, _texts(wanted))
        if self._reference:
            self._make_surprisals(store, self._reference, _chains(wanted))

    def _make_vectors(self, store: Store, encoder: Encoder, texts: Mapping[str, str]) -> None:
        lacking = sorted(texts.keys() - store.vectors(encoder.name, texts).keys())
        if lacking and self._usable(encoder):
            rows = encoder.encode([texts[key] for key in lacking])
            made = {key: row.tobytes() for key, row in zip(lacking, rows, strict=True)}
            store.add_vectors(encoder.name, made)

    def _make_surprisals(
        self, store: Store, reference: ReferenceModel, chains: Mapping[str, Chain]
    ) -> None:
        lacking = sorted(chains.keys() - store.surprisals(reference.name, chains).keys())
        if lacking and self._usable(reference):
            found = reference.surprisals([chains[key] for key in lacking])
            made = {
                key: [piece.tobytes() for piece in pieces]
                for key, pieces in zip(lacking, found, strict=True)
            }
            store.add_surprisals(reference.name, made)

    def _usable(self, model: Encoder | ReferenceModel) -> bool:
        try:
            model.load()
        except (MissingExtraError, InfrastructureError) as error:
            note = f"left out what needs {error}"
            self.notes += [] if note in self.notes else [note]
            return False
        return True

    def evidence(self, store: Store, wanted: Sequence[Wanted]) -> Evidence:
        """What is stored of all that is wanted."""
        texts, chains = _texts(wanted), _chains(wanted)
        vectors = store.vectors(self._encoder.name, texts) if self._encoder else {}
        pieces = store.surprisals(self._reference.name, chains) if self._reference else {}
        return Evidence(
            {texts[key]: np.frombuffer(vector, np.float32) for key, vector in vectors.items()},
            {
                chains[key]: [np.frombuffer(piece, np.float32) for piece in found]
                for key, found in pieces.items()
            },
        )


def score_store(
    store: Store, scorers: Mapping[str, Scorer], yardsticks: Yardsticks | None = None
) -> None:
    """Compute every metric of every task again from the stored samples, and store it.

    Without `yardsticks` no model is asked for anything, and what needs one is left out.
    """
    measured = yardsticks or Yardsticks(NONE, NONE)
    with scoring_by(scorers, sum(store.counts().values())) as score:
        for task, scorer in scorers.items():
            answers = _answers(store, task)
            if isinstance(scorer, Witnessed):
                _make_evidence(store, task, scorer, measured)
                answers = (_with_evidence(each, store, scorer, measured) for each in answers)
            store.replace_metrics(task, score(task, answers))


def _make_evidence(store: Store, task: str, scorer: Witnessed, yardsticks: Yardsticks) -> None:
    answers = _answers(store, task)
    while some := list(islice(answers, _AT_ONCE)):
        yardsticks.make(store, [wanted for each in some for wanted in _wanted(each, scorer)])


def _with_evidence(
    answers: Answers, store: Store, scorer: Witnessed, yardsticks: Yardsticks
) -> Answers:
    return replace(answers, evidence=yardsticks.evidence(store, _wanted(answers, scorer)))


def _wanted(answers: Answers, scorer: Witnessed) -> list[Wanted]:
    return [scorer.wanted(answers.doc, samples) for samples in answers.by_mode.values()]


def _answers(store: Store, task: str) -> Iterator[Answers]:
    """Doc by doc, with the samples of all modes, so that a task of any size fits into memory."""
    modes = [mode for mode, of_task in store.counts() if of_task == task]
    streams = [_good(store, task, mode) for mode in modes]
    docs = store.docs(task)
    merged = heapq.merge(*streams, key=attrgetter("doc_id"))
    for doc_id, of_doc in groupby(merged, key=attrgetter("doc_id")):
        by_mode = {mode: list(samples) for mode, samples in groupby(of_doc, key=attrgetter("mode"))}
        yield Answers(next(doc for doc in docs if doc.doc_id == doc_id), by_mode)


def _good(store: Store, task: str, mode: str) -> Iterator[Sample]:
    return (sample for sample in store.samples(task, mode, ids=False) if sample.error is None)


def _texts(wanted: Sequence[Wanted]) -> dict[str, str]:
    return {_sum(text): text for each in wanted for text in each.texts}


def _chains(wanted: Sequence[Wanted]) -> dict[str, Chain]:
    return {_sum(chain): chain for each in wanted for chain in each.chains}


def _sum(of: object) -> str:
    """As JSON, since lone halves of surrogate pairs, which models write, must not stop a run."""
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()
