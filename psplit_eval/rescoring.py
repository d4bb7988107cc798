"""Every metric of a store, computed again from what is stored: evidence first, then scores.

Evidence (embeddings, surprisals) comes from models and takes its time, so it is kept in the store
by the hash of the text: a run that is scored again needs no model.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from psplit_eval.embedding import PACKAGED, Encoder
from psplit_eval.errors import InfrastructureError, MissingExtraError
from psplit_eval.reference import REFERENCE, ReferenceModel
from psplit_eval.scoring import Answers, Array, Chain, Evidence, Scorer, Wanted, Witnessed
from psplit_eval.store import Sample, Store
from psplit_eval.wordvectors import WordVectors
from psplit_eval.workers import scoring_by

__all__ = ["NONE", "Yardsticks", "answers_by_doc", "score_store", "stored_vectors"]

T = TypeVar("T")

NONE = "none"
"""The name of no model."""
_WORD_LISTS = ("spylls", "textblob", "wordfreq")
_AT_ONCE = 16
"""Docs whose evidence is made and committed together."""
_TEXTS_AT_ONCE = 256


@dataclass
class Yardsticks:
    """What texts are measured by.

    `encoder` embeds texts, and single words unless there are `word_vectors`, a file; `reference`
    gives surprisals. Each is loaded when something is missing in the store. What needs one that is
    'none', or that is not to be had here, is left out; of the latter `notes` tell.
    """

    encoder: str = PACKAGED
    reference: str = REFERENCE
    word_vectors: str = ""
    say: Callable[[str], None] = field(default=lambda _: None, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)
    _absent: set[str] = field(default_factory=set, init=False, repr=False)

    @classmethod
    def named(cls, names: Mapping[str, str], say: Callable[[str], None] = lambda _: None) -> Self:
        """Those of `to_dict`, or some of them; checked: raises what `check` raises."""
        given = {**cls().to_dict(), **names}
        made = cls(given["encoder"], given["reference"], given["word_vectors"], say=say)
        made.check()
        return made

    def to_dict(self) -> dict[str, str]:
        """The form used in manifests."""
        return {name: getattr(self, name) for name in ("encoder", "reference", "word_vectors")}

    @cached_property
    def _encoder(self) -> Encoder | None:
        return None if self.encoder == NONE else Encoder(self.encoder)

    @cached_property
    def _reference(self) -> ReferenceModel | None:
        return None if self.reference == NONE else ReferenceModel(self.reference, self.say)

    @cached_property
    def _words(self) -> Encoder | WordVectors | None:
        return WordVectors(Path(self.word_vectors)) if self.word_vectors else self._encoder

    def check(self) -> None:
        """Raise CheckpointError, UnknownNameError or DataError for what cannot be one of these."""
        _ = self._reference, self._words, self._encoder

    def make(self, store: Store, wanted: Wanted) -> bool:
        """Make and store what is wanted and not stored yet; whether there was any."""
        made = []
        if self._encoder:
            made.append(self._make_vectors(store, self._encoder, _by_sum(wanted.texts)))
        if self._words:
            made.append(self._make_vectors(store, self._words, _by_sum(wanted.words)))
        if self._reference:
            made.append(self._make_surprisals(store, self._reference, _by_sum(wanted.chains)))
        return any(made)

    def _make_vectors(
        self, store: Store, encoder: Encoder | WordVectors, texts: Mapping[str, str]
    ) -> bool:
        lacking = sorted(texts.keys() - store.vectors(encoder.name, texts).keys())
        if not (lacking and self._usable(encoder)):
            return False
        rows = encoder.encode([texts[key] for key in lacking])
        made = {key: row.tobytes() for key, row in zip(lacking, rows, strict=True)}
        store.add_vectors(encoder.name, made)
        return True

    def _make_surprisals(
        self, store: Store, reference: ReferenceModel, chains: Mapping[str, Chain]
    ) -> bool:
        lacking = sorted(chains.keys() - store.surprisals(reference.name, chains).keys())
        if not (lacking and self._usable(reference)):
            return False
        found = reference.surprisals([chains[key] for key in lacking])
        made = {
            key: [piece.tobytes() for piece in pieces]
            for key, pieces in zip(lacking, found, strict=True)
        }
        store.add_surprisals(reference.name, made)
        return True

    def embed(self, store: Store, texts: Iterable[str]) -> str:
        """Make and store embeddings that lack; the encoder's name, '' where there is none."""
        if self._encoder is None or not self._usable(self._encoder):
            return ""
        waiting = iter(texts)
        while some := list(islice(waiting, _TEXTS_AT_ONCE)):
            self._make_vectors(store, self._encoder, _by_sum(some))
        return self._encoder.name

    def look_for_words(self) -> None:
        """Note it if there are no word lists: they are no models, so nothing of them is stored."""
        note = f"left out what needs {MissingExtraError('semantic', 'word lists')}"
        if not all(map(importlib.util.find_spec, _WORD_LISTS)) and note not in self.notes:
            self.notes.append(note)

    @property
    def absent(self) -> list[str]:
        """Names of those that texts should have been measured by, and that were not to be had."""
        return sorted(self._absent)

    def _usable(self, model: Encoder | WordVectors | ReferenceModel) -> bool:
        if model.name in self._absent:
            return False
        try:
            model.load()
        except (MissingExtraError, InfrastructureError) as error:
            self._absent.add(model.name)  # to find it out again takes minutes without a network
            self.notes.append(f"left out what needs {error}")
            return False
        return True

    def evidence(self, store: Store, wanted: Wanted) -> Evidence:
        """What is stored of all that is wanted."""
        chains = _by_sum(wanted.chains)
        pieces = store.surprisals(self._reference.name, chains) if self._reference else {}
        return Evidence(
            _vectors(store, self._encoder, wanted.texts),
            {chains[key]: list(map(_numbers, found)) for key, found in pieces.items()},
            _vectors(store, self._words, wanted.words),
            usual_vectors=self.encoder in (PACKAGED, NONE),
            usual_surprisals=self.reference in (REFERENCE, NONE),
        )

    def note_unusual(self) -> None:
        """Note what is left out since it was fitted with other models."""
        usual = (self.encoder, PACKAGED), (self.reference, REFERENCE)
        other = [known for name, known in usual if name not in (known, NONE)]
        if other:
            self.notes.append(
                f"left out what was fitted with {' and '.join(other)}; the floor of quality was "
                "set with them, too: compare with texts that are measured alike only"
            )


def _vectors(
    store: Store, encoder: Encoder | WordVectors | None, texts: Sequence[str]
) -> dict[str, Array]:
    return stored_vectors(store, encoder.name, texts) if encoder else {}


def stored_vectors(store: Store, encoder: str, texts: Sequence[str]) -> dict[str, Array]:
    """Text → its embedding of length 1 by the encoder of that name, as far as it is stored."""
    by_sum = _by_sum(texts)
    found = store.vectors(encoder, by_sum)
    return {by_sum[key]: _numbers(vector) for key, vector in found.items()}


def _numbers(stored: bytes) -> Array:
    return np.frombuffer(stored, np.float32)


def score_store(
    store: Store, scorers: Mapping[str, Scorer], yardsticks: Yardsticks | None = None
) -> None:
    """Compute every metric of every task again from the stored samples, and store it.

    Without `yardsticks` no model is asked for anything, and what needs one is left out.
    """
    measured = yardsticks or Yardsticks(NONE, NONE)
    if any(isinstance(scorer, Witnessed) for scorer in scorers.values()):
        measured.note_unusual()
    with scoring_by(scorers, sum(store.counts().values())) as score:
        for task, scorer in scorers.items():
            answers = answers_by_doc(store, task)
            if isinstance(scorer, Witnessed):
                measured.look_for_words()
                _make_evidence(store, task, scorer, measured)
                answers = (_with_evidence(each, store, scorer, measured) for each in answers)
            store.replace_metrics(task, score(task, answers))


def _make_evidence(store: Store, task: str, scorer: Witnessed, yardsticks: Yardsticks) -> None:
    """A few docs at a time; words at the end, since a file of word vectors is read as a whole."""
    answers = answers_by_doc(store, task)
    words: set[str] = set()
    done, docs = 0, sum(1 for _ in store.docs(task))
    while some := list(islice(answers, _AT_ONCE)):
        wanted = [scorer.wanted(each.doc, each.by_mode) for each in some]
        texts = [text for each in wanted for text in each.texts]
        chains = [chain for each in wanted for chain in each.chains]
        done += len(some)
        if yardsticks.make(store, Wanted(texts, chains)):
            yardsticks.say(f"{task}: texts of {done} of {docs} docs are read")
        words.update(word for each in wanted for word in each.words)
    yardsticks.make(store, Wanted(words=sorted(words)))


def _with_evidence(
    answers: Answers, store: Store, scorer: Witnessed, yardsticks: Yardsticks
) -> Answers:
    wanted = scorer.wanted(answers.doc, answers.by_mode)
    return replace(answers, evidence=yardsticks.evidence(store, wanted))


def answers_by_doc(store: Store, task: str) -> Iterator[Answers]:
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


def _by_sum(items: Sequence[T]) -> dict[str, T]:
    return {_sum(item): item for item in items}


def _sum(of: object) -> str:
    """As JSON, since lone halves of surrogate pairs, which models write, must not stop a run."""
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()
