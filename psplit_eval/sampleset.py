"""The samples of one doc in one mode: every number of how they differ and how good they are.

What needs a model (embeddings, surprisals) is left out where the evidence has none. Lexical and
semantic values come raw and at equal length (`CUT`), since length moves nearly all of them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from statistics import fmean
from typing import Any

import numpy as np

from psplit_eval import diversity, semantic, syntactic
from psplit_eval.content import (
    content_diversity,
    content_features,
    distance_beyond_prompt,
    distances_beyond_prompt,
    in_context,
)
from psplit_eval.equivalence import (
    distinct_k,
    same_answer_classes,
    same_answer_probabilities,
    utility_k,
)
from psplit_eval.quality import (
    Observed,
    Quality,
    effective_distinct,
    effective_diversity,
    passes,
    passing_share,
    quality,
)
from psplit_eval.richness import hd_d, mtld
from psplit_eval.scoring import Array, Chain, Evidence, Wanted
from psplit_eval.store import Sample
from psplit_eval.surprise import foretold, layouts

__all__ = ["CUT", "CUT_AT", "OVERLAP", "SampleSet", "lexical", "wanted_of_samples"]

CUT = "_cut"
"""Marks a value of the first tokens alone, as many as most samples of all modes have."""
CUT_AT = ("cut_tokens", "cut_samples")
"""How many tokens, of how many samples of each mode."""
OVERLAP = "ngram_overlap_2_with_"
"""Begins the metric of two modes: the other's name follows."""
_ONE_MEANING = 0.5
"""Of 1 − cosine: no two texts of a semantic cluster are further apart. A round number, unfitted."""
_VOCABULARY = 50_000
"""Different words that expectation-adjusted distinct reckons with."""

Values = Iterator[tuple[str, float]]


def wanted_of_samples(
    prompt: str, by_mode: Mapping[str, Sequence[Sample]], answers: bool = True
) -> Wanted:
    """The evidence that `SampleSet.values` can use, for all modes of a doc.

    `answers`: what `answer_values` needs, too.
    """
    sets = [_said(samples) for samples in by_mode.values()]
    tokens = [_tokens(samples) for samples in by_mode.values()]
    length = diversity.equal_length(*tokens)
    cut = [text for of_mode in tokens for text in _beginnings(of_mode, length)]
    texts = [text for said in sets for text in said]
    chains = [_answer(prompt, text) for text in texts]
    placed: list[str] = []
    if answers and prompt:
        placed = [in_context(prompt, text) for text in texts]
        chains += [chain for said in sets for chain in _pairs(prompt, said)]
    return Wanted([*texts, *cut, *placed, *([prompt] if prompt else [])], chains)


class SampleSet:
    """The samples of a doc in one mode, the prompt that they answer, and what is known of them.

    `without`: parts of quality that say nothing of such answers; `listed`: they are lists.
    """

    def __init__(
        self,
        prompt: str,
        samples: Sequence[Sample],
        evidence: Evidence,
        without: Sequence[str] = (),
        listed: bool = False,
    ) -> None:
        self.prompt, self.samples, self.evidence = prompt, samples, evidence
        self.texts = [sample.text or "" for sample in samples]
        self.tokens = _tokens(samples)
        self._without, self._listed = without, listed

    def values(self) -> Values:
        """Name and number of every metric of the doc; NaN where it is undefined."""
        yield from self._of_words(self.tokens, self._tags)
        yield from self._of_meaning(_said(self.samples))
        yield from self._of_both_modes()
        yield from self._quality()
        yield from self._effective()
        yield from self._at_equal_length()

    def answer_values(self) -> Values:
        """How many different answers there are, where each sample is one answer."""
        said = _said(self.samples)
        known = self.prompt and self.evidence.embed([self.prompt, *said]) is not None
        if not (known and self.evidence.usual_vectors):
            return
        classes = self._classes
        yield "distinct_k", float(distinct_k(classes))
        if self.evidence.usual_surprisals:
            yield from self._content(said)
        if self.qualities:
            kept = [value if passes(value) else 0.0 for value in self._quality_values]
            yield "utility_k", utility_k(classes, kept)
            yield "effective_distinct_k", float(effective_distinct(classes, self._passing))

    @cached_property
    def qualities(self) -> list[Quality]:
        """One a sample; empty where words cannot be looked up."""
        if importlib.util.find_spec("wordfreq") is None:
            return []
        return [
            quality(
                Observed(
                    text,
                    self.prompt,
                    self._bits(text),
                    self._cosine(text),
                    sample.truncated,
                    self._listed,
                ),
                self._without,
            )
            for text, sample in zip(self.texts, self.samples, strict=True)
        ]

    @property
    def _quality_values(self) -> list[float]:
        return [found.value for found in self.qualities]

    @property
    def _passing(self) -> list[bool]:
        return [passes(value) for value in self._quality_values]

    @cached_property
    def _classes(self) -> list[int]:
        """Samples without words are a class of their own."""
        known = dict(self.evidence.vectors)
        size = len(next(iter(known.values())))
        blank = np.zeros(size, np.float32)
        texts = [text if text.strip() else "" for text in self.texts]

        def embed(wanted: Sequence[str]) -> Array:
            return np.stack([known[text] if text else blank for text in wanted])

        return same_answer_classes(same_answer_probabilities(self.prompt, texts, embed))

    def _bits(self, text: str) -> Array:
        pieces = self.evidence.surprisals.get(_answer(self.prompt, text))
        return pieces[0] if pieces else np.zeros(0, np.float32)

    def _cosine(self, text: str) -> float:
        both = self.evidence.embed([text, self.prompt]) if text.strip() and self.prompt else None
        return math.nan if both is None else float(both[0] @ both[1])

    @cached_property
    def _tags(self) -> list[list[str]] | None:
        """None without a tagger."""
        return [syntactic.pos_tags(text) for text in self.texts] if syntactic.available() else None

    def _prompt_vector(self, size: int) -> Array:
        """Zeros, which take nothing away, where the prompt is not known."""
        found = self.evidence.embed([self.prompt]) if self.prompt else None
        return np.zeros(size, np.float32) if found is None else found[0]

    def _of_words(
        self, tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[str]] | None
    ) -> Values:
        yield from lexical(tokens)
        yield "mtld", _mean(map(mtld, tokens))
        yield "hd_d", _mean(map(hd_d, tokens))
        if tags is not None:
            yield "pos_templates", syntactic.templates_per_token(tags)
            yield "pos_compression_ratio", syntactic.pos_compression_ratio(tags)

    def _of_meaning(self, texts: Sequence[str]) -> Values:
        vectors = self.evidence.embed(texts)
        if vectors is not None:
            yield "semantic_dispersion", semantic.mean_pairwise_distance(vectors)
            yield "vendi", semantic.vendi_score(vectors)
            yield "semantic_clusters", semantic.semantic_clusters(vectors, _ONE_MEANING)
            prompt = self._prompt_vector(vectors.shape[1])
            yield "dispersion_beyond_prompt", distance_beyond_prompt(vectors, prompt)

    def _of_both_modes(self) -> Values:
        for mode, samples in self.evidence.others.items():
            yield f"{OVERLAP}{mode}", diversity.ngram_overlap(self.tokens, _tokens(samples), 2)
        lengths = [s.completion_tokens for s in self.samples if s.completion_tokens is not None]
        if lengths:  # imported samples come without
            yield "tokens_mean", fmean(lengths)

    def _effective(self) -> Values:
        """Over all samples: one without words is at no distance from anything, and never passes, so
        that to say nothing does not take the doc out."""
        said = np.array([bool(text.strip()) for text in self.texts])
        vectors = self.evidence.embed(_said(self.samples))
        unmeasured = vectors is None and (said.any() or not self.evidence.vectors)
        if unmeasured or not self.qualities:
            return
        distances = np.zeros((len(said), len(said)))
        if vectors is not None:
            prompt = self._prompt_vector(vectors.shape[1])
            distances[np.ix_(said, said)] = distances_beyond_prompt(vectors, prompt)
        yield "effective_dispersion", effective_diversity(distances, self._passing)

    def _content(self, said: Sequence[str]) -> Values:
        chains = _pairs(self.prompt, said)
        prompt, texts, placed = (
            self.evidence.embed(wanted)
            for wanted in ([self.prompt], said, [in_context(self.prompt, text) for text in said])
        )
        read = [self.evidence.surprisals[c] for c in chains if c in self.evidence.surprisals]
        if prompt is None or texts is None or placed is None or len(read) < max(1, len(chains)):
            return
        features = content_features(texts, placed, prompt[0], foretold(read))
        yield "mutual_bits", features["mutual_bits"]
        yield "content_diversity", content_diversity(features)

    def _quality(self) -> Values:
        if not self.qualities:
            return
        yield "quality", _mean(self._quality_values)
        yield "passing", passing_share(self._quality_values)
        for part in self.qualities[0].parts:
            yield f"quality_{part}", _mean(found.parts[part] for found in self.qualities)
        bits = [bits for text in self.texts if len(bits := self._bits(text))]
        if bits:
            yield "fluency_bits", _mean(each.mean() for each in bits)

    def _at_equal_length(self) -> Values:
        sets = [self.tokens, *map(_tokens, self.evidence.others.values())]
        length = diversity.equal_length(*sets)
        if length is None:
            return
        yield "cut_tokens", float(length)
        reaching = [diversity.truncated(tokens, length) for tokens in sets]
        kept = min(map(len, reaching))  # their number moves values as length does
        yield "cut_samples", float(kept)
        cut = reaching[0][:kept]
        tags = self._tags and diversity.truncated(self._tags, length)[:kept]
        for name, value in self._of_words(cut, tags):
            yield name + CUT, value
        for name, value in self._of_meaning([" ".join(tokens) for tokens in cut]):
            yield name + CUT, value


def lexical(tokens: Sequence[Sequence[str]]) -> Values:
    """What needs nothing but tokens."""
    yield "div_ngram_2", diversity.div_ngram(tokens, 2)
    yield "div_bleu_4", diversity.div_bleu(tokens, 4)
    yield "distinct_2", diversity.distinct(tokens, 2)
    yield "ead_1", diversity.expectation_adjusted_distinct(tokens, _VOCABULARY)
    yield "self_repetition_4", diversity.self_repetition(tokens, 4)
    yield "compression_ratio", diversity.compression_ratio([" ".join(t) for t in tokens])


def _answer(prompt: str, text: str) -> Chain:
    return Chain(prompt, (text,), chat=bool(prompt))


def _pairs(prompt: str, texts: Sequence[str]) -> list[Chain]:
    return [Chain(before, pieces) for before, pieces in layouts(prompt, texts)] if prompt else []


def _said(samples: Sequence[Sample]) -> list[str]:
    """Texts with words: the others have no meaning to differ in."""
    return [sample.text for sample in samples if sample.text and sample.text.strip()]


def _tokens(samples: Sequence[Sample]) -> list[Sequence[str]]:
    return [_tokenised(sample.text or "") for sample in samples]


@lru_cache(maxsize=512)
def _tokenised(text: str) -> tuple[str, ...]:
    """Kept for a while: a doc's texts are needed for its evidence and in every mode."""
    return tuple(diversity.tokenise(text))


def _beginnings(tokens: Sequence[Sequence[str]], length: int | None) -> list[str]:
    return [] if length is None else [" ".join(t) for t in diversity.truncated(tokens, length)]


def _mean(values: Iterable[Any]) -> float:
    """Of those that are defined; NaN where none is."""
    kept = [float(value) for value in values if not math.isnan(value)]
    return fmean(kept) if kept else math.nan
