"""Cross-scoring: every stored sample under the prompt of every mode, and under placebos.

Nothing is sampled. Prompts of sampled modes are the stored ones; those of other policies are made
of them, by putting another system prompt in the place of the mode's own. What is stored already is
not scored again, so a killed command goes on.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from psplit_eval.backends import Backend, Case, Crossed, CrossScoring, Watch
from psplit_eval.errors import TemplateError
from psplit_eval.modes import Mode
from psplit_eval.requests import digest
from psplit_eval.store import CrossScore, Prompt, Sample, Store

__all__ = ["Policies", "Policy", "Work", "cross_score", "lacking", "open_tokens"]

_MARK = "SYSTEM PROMPT"
_CALL_TOKENS = 2**15
"""Tokens of responses that are handed to the engine together."""
_SECONDS_TOGETHER = 2.0
"""What is found within so many seconds is committed together."""


@dataclass(frozen=True)
class Policy:
    """A system prompt under which samples are scored: a mode's, or a placebo's."""

    name: str
    system_prompt: str | None
    placebo: bool = False
    role: str = "other"

    def to_dict(self) -> dict[str, Any]:
        """The form used in manifests."""
        return {
            "name": self.name,
            "system_prompt": self.system_prompt,
            "placebo": self.placebo,
            "role": self.role,
        }


@dataclass(frozen=True)
class Policies:
    """What samples are scored under.

    `sampled`: the run's modes; `others`: modes that no sample is drawn in; `placebos`: under which
    the samples of `reference` alone are scored.
    """

    sampled: Sequence[Mode]
    others: Sequence[Mode]
    placebos: Sequence[Policy]
    reference: str

    @cached_property
    def of_modes(self) -> list[Policy]:
        return [
            Policy(mode.name, mode.system_prompt, role=mode.role)
            for mode in (*self.sampled, *self.others)
        ]

    @property
    def every(self) -> list[Policy]:
        return [*self.of_modes, *self.placebos]


@dataclass
class Work:
    """Cases of equal policies and pairs, and whose every response of them is."""

    cases: list[Case] = field(default_factory=list)
    owners: list[Sequence[Sample]] = field(default_factory=list)
    tokens: int = 0

    @property
    def samples(self) -> int:
        """Responses, a sample counting once in each case that it is in."""
        return sum(map(len, self.owners))

    def add(self, case: Case, owners: Sequence[Sample]) -> None:
        self.cases.append(case)
        self.owners.append(owners)
        self.tokens += sum(sample.completion_tokens or 0 for sample in owners)


def lacking(
    store: Store, policies: Policies, tasks: Iterable[str], backend: Backend
) -> Iterator[Work]:
    """What is to be scored still, in parts for one call of the engine each.

    Failed samples are left out, answers that were only scored, and samples of which neither token
    ids nor text are known. Raises TemplateError where a system prompt is not in the prompt that was
    made of it.
    """
    for task in tasks:
        parts: dict[object, Work] = {}
        prompts = _Prompts(store, policies, task, backend)
        for doc in _docs(store, task, policies):
            for names, samples in _wanted(doc, policies, prompts.of_doc(doc.doc_id)):
                known = {name: prompts.prompt(name, doc.doc_id) for name in names}
                case = _case(samples, known)
                kind = case.policies, tuple(case.pairs)
                part = parts.setdefault(kind, Work())
                part.add(case, samples)
                if part.tokens >= _CALL_TOKENS:
                    yield parts.pop(kind)
        yield from parts.values()


def open_tokens(store: Store, policies: Policies, tasks: Iterable[str]) -> int:
    """Tokens of the samples that `lacking` will yield, once for modes and once for placebos."""
    return sum(
        sample.completion_tokens or 1
        for task in tasks
        for doc in _docs(store, task, policies)
        for _, samples in _wanted(doc, policies, lambda _: True)
        for sample in samples
    )


@dataclass(frozen=True)
class _Doc:
    """Samples of one doc by mode, and the policies that each was scored under."""

    doc_id: int
    by_mode: Mapping[str, Sequence[Sample]]
    scored: Mapping[tuple[str, int], set[str]]


def _docs(store: Store, task: str, policies: Policies) -> Iterator[_Doc]:
    modes = [mode.name for mode in policies.sampled]
    scored: dict[int, dict[tuple[str, int], set[str]]] = defaultdict(dict)
    for mode in modes:
        for doc_id, index, policy in store.cross_scored(task, mode):
            scored[doc_id].setdefault((mode, index), set()).add(policy)
    streams = [filter(_can_be_scored, store.samples(task, mode)) for mode in modes]
    merged = heapq.merge(*streams, key=attrgetter("doc_id"))
    for doc_id, samples in groupby(merged, key=attrgetter("doc_id")):
        by_mode: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            by_mode[sample.mode].append(sample)
        yield _Doc(doc_id, by_mode, scored.pop(doc_id, {}))


def _can_be_scored(sample: Sample) -> bool:
    known = sample.completion_ids is not None or bool(sample.text)
    return sample.error is None and sample.finish_reason != "scored" and known


def _wanted(
    doc: _Doc, policies: Policies, can: Callable[[str], bool]
) -> Iterator[tuple[list[str], list[Sample]]]:
    """Policies, and the samples that are not scored under all of them yet."""

    def open_under(names: Sequence[str], samples: Iterable[Sample]) -> list[Sample]:
        nothing: set[str] = set()
        return [
            sample
            for sample in samples
            if not doc.scored.get((sample.mode, sample.sample_idx), nothing).issuperset(names)
        ]

    modes = [policy.name for policy in policies.of_modes if can(policy.name)]
    if found := open_under(modes, (s for samples in doc.by_mode.values() for s in samples)):
        yield modes, found
    placebos = [policy.name for policy in policies.placebos if can(policy.name)]
    if found := open_under(placebos, doc.by_mode.get(policies.reference, ())):
        yield [policies.reference, *placebos], found


class _Prompts:
    """The prompt of every doc of a task under every policy."""

    def __init__(self, store: Store, policies: Policies, task: str, backend: Backend) -> None:
        self._store, self._backend = store, backend
        self._hashes = {
            mode.name: {
                doc: hashes[: len(hashes) // 2]
                for doc, (_, hashes) in store.doc_prompts(task, mode.name).items()
            }
            for mode in policies.sampled
        }
        self._texts = {policy.name: policy.system_prompt for policy in policies.every}

    def of_doc(self, doc_id: int) -> Callable[[str], bool]:
        """Whether there is a prompt for a policy, by its name."""
        pattern = self._pattern(doc_id)

        def can(name: str) -> bool:
            known = doc_id in self._hashes.get(name, ())
            return known or (pattern is not None and self._texts[name] is not None)

        return can

    def prompt(self, name: str, doc_id: int) -> Prompt:
        """As it was sampled with, or made of that of another mode."""
        stored = self._hashes.get(name, {}).get(doc_id)
        prompt = self._store.prompt(stored, name) if stored else None
        if prompt is not None:
            return prompt
        pattern = self._pattern(doc_id)
        assert pattern is not None
        text = self._with(self._texts[name] or "", *pattern)
        return Prompt(digest(text), name, text, self._backend.encode(text))

    def _pattern(self, doc_id: int) -> tuple[str, str] | None:
        """A mode with a system prompt that the doc was asked in, and the hash of that prompt."""
        for mode, hashes in self._hashes.items():
            if self._texts[mode] and doc_id in hashes:
                return mode, hashes[doc_id]
        return None

    def _with(self, system_prompt: str, mode: str, prompt_hash: str) -> str:
        """The prompt of a mode with another system prompt in the place of its own."""
        prompt = self._store.prompt(prompt_hash, mode)
        assert prompt is not None
        put = str if prompt.token_ids else _in_json  # a server's messages have no token ids here
        own = put(self._texts[mode] or "")
        head = self._head if prompt.text.startswith(self._head + own) else ""
        before, found, after = prompt.text[len(head) :].partition(own)
        if found:
            return head + before + put(system_prompt) + after
        raise TemplateError(
            f"mode {mode!r}: its system prompt is not in the stored prompt, expected it there as "
            "it is; leave it out: psplit-eval diverge RUN --placebos 0, or run --no-divergence"
        )

    @cached_property
    def _head(self) -> str:
        """What a prompt has before its system prompt: a short one may stand in there, too."""
        messages = [{"role": "system", "content": _MARK}, {"role": "user", "content": "?"}]
        head, found, _ = self._backend.render(messages).partition(_MARK)
        return head if found else ""


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _case(samples: Sequence[Sample], prompts: Mapping[str, Prompt]) -> Case:
    """Pairs are of a mode that has samples here and any other policy, each once."""
    modes = dict.fromkeys(sample.mode for sample in samples)
    pairs = dict.fromkeys(
        (mode, name) if name not in modes or mode < name else (name, mode)
        for mode in modes
        for name in prompts
        if name != mode
    )
    return Case(
        [sample.completion_ids or () for sample in samples],
        {name: prompt.token_ids for name, prompt in prompts.items()},
        list(pairs),
        [sample.text or "" for sample in samples],
        {name: prompt.text for name, prompt in prompts.items()},
    )


def cross_score(
    store: Store, backend: CrossScoring, work: Iterable[Work], placebos: Iterable[str], watch: Watch
) -> int:
    """Score and store; returns how many numbers of samples under a policy were added.

    Of `placebos` sums are kept, of other policies also the numbers of every token. What was found
    is committed every few seconds, and when an error or an interruption ends the work. Raises what
    the engine raises.
    """
    sums_alone, added = set(placebos), 0
    ready: list[CrossScore] = []
    since = time.monotonic()
    try:
        for part in work:
            for number, found in backend.cross_score(part.cases, watch):
                ready += _scores(part.owners[number], found, sums_alone)
                if time.monotonic() - since > _SECONDS_TOGETHER:
                    store.add_cross_scores(ready)
                    added, since = added + len(ready), time.monotonic()
                    ready.clear()
    finally:
        store.add_cross_scores(ready)
    return added + len(ready)


def _scores(owners: Sequence[Sample], found: Crossed, sums_alone: set[str]) -> Iterator[CrossScore]:
    beside = sums_alone.intersection(found.policies)
    for i, sample in enumerate(owners):
        for policy in found.policies:
            if beside and policy == sample.mode:  # it has its numbers from the case of all modes
                continue
            kl, back, js = _between(found, i, sample.mode, policy)
            entropy, surprisal = found.entropy(i, policy), found.surprisal(i, policy)
            by_token = np.stack([kl, entropy]).astype(np.float32).tobytes()
            yield CrossScore(
                mode=sample.mode,
                task=sample.task,
                doc_id=sample.doc_id,
                sample_idx=sample.sample_idx,
                policy=policy,
                tokens=len(entropy),
                entropy_sum_bits=float(entropy.sum()),
                nll_sum_bits=float(surprisal.sum()),
                kl_sum_bits=float(kl.sum()),
                kl_back_sum_bits=float(back.sum()),
                js_sum_bits=float(js.sum()),
                by_token=None if policy in sums_alone else by_token,
            )


def _between(found: Crossed, response: int, mode: str, policy: str) -> Sequence[Any]:
    """KL(mode‖policy), KL(policy‖mode) and JS by token; 0 of a mode and itself."""
    if (mode, policy) in found.pairs:
        return found.between(response, (mode, policy))
    if (policy, mode) in found.pairs:
        kl, back, js = found.between(response, (policy, mode))
        return back, kl, js
    return [np.zeros(len(found.entropy(response, policy)))] * 3
