"""Under which conditions an arm's samples were drawn and scored, and in what two arms differ.

A doc is the same where its content is (its hash), whatever its number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm
from psplit_eval.manifest import Manifest
from psplit_eval.store import Store

__all__ = [
    "MODE_PROMPT",
    "TEMPLATE",
    "Conditions",
    "Difference",
    "conditions_of",
    "differences",
    "numbered",
    "same_docs",
]

TEMPLATE, MODE_PROMPT = "the chat template", "the mode's system prompt"
"""What explains other prompt texts."""

Docs = Mapping[int, tuple[str, str]]
"""Number of a doc → its hash, and what names its prompts."""


@dataclass(frozen=True)
class Conditions:
    """What the samples of one arm were drawn with and measured by.

    `sampling`: the settings in this mode; `task_sampling`: those of the task in a mode without
    settings of its own. `measured_by`: models by which creative answers are measured, and those
    that were not to be had. `model` is the manifest's. `docs_in_all`: docs of the whole task.
    """

    run: Path
    task: str
    mode: str
    docs: Docs
    scorer: Mapping[str, Any]
    measured_by: Mapping[str, Any]
    sampling: Mapping[str, Any]
    task_sampling: Mapping[str, Any]
    few_shot: Mapping[str, Any] | None
    system_prompt: str | None
    model: Mapping[str, Any]
    fingerprint: str | None
    docs_in_all: int | None = None

    @property
    def where(self) -> str:
        return f"{self.task}, {self.mode}"


@dataclass(frozen=True)
class Difference:
    """What differs, and how it is in either arm.

    `kind`: 'data', 'scorer', 'yardsticks', 'prompts' or 'sampling'. `because`: of prompts, what
    explains it; empty: the task itself must be another.
    """

    kind: str
    where: str
    a: object
    b: object
    because: tuple[str, ...] = ()


def conditions_of(folder: Path, manifest: Manifest, store: Store, arm: Arm) -> Conditions:
    """Those of an arm of a run; no texts of samples are read."""
    entry = manifest["tasks"][arm.task]
    mode = next(mode for mode in manifest["modes"] if mode["name"] == arm.mode)
    return Conditions(
        run=folder,
        task=arm.task,
        mode=arm.mode,
        docs=store.doc_prompts(arm.task, arm.mode),
        scorer=entry["scorer"],
        measured_by=_measured_by(manifest),
        sampling=entry.get("sampling_by_mode", {}).get(arm.mode, entry["sampling"]),
        task_sampling=entry["sampling"],
        few_shot=entry.get("few_shot"),
        system_prompt=mode["system_prompt"],
        model=manifest["model"],
        fingerprint=manifest["checkpoint"].get("fingerprint"),
        docs_in_all=entry.get("docs_in_all"),
    )


def _measured_by(manifest: Manifest) -> dict[str, Any]:
    """The models' names; where one was not to be had, what is left measures another thing."""
    absent = manifest.get("unmeasured_by")
    return {**manifest.get("yardsticks", {}), **({"not to be had": absent} if absent else {})}


def differences(a: Conditions, b: Conditions) -> Iterator[Difference]:
    """Everything in which two arms of one task must not differ, unless it is meant.

    In one mode: prompt texts and all sampling settings, too; in two modes: those of the task.
    """
    shared = _shared(a.docs, b.docs)
    if not shared:
        docs = [f"{len(arm.docs)} docs" for arm in (a, b)]
        yield Difference("data", a.where, docs[0], f"{docs[1]}, none of them the same")
    if a.scorer != b.scorer:
        yield Difference("scorer", a.where, a.scorer, b.scorer)
    if a.scorer["kind"] == "diversity" and a.measured_by != b.measured_by:
        yield Difference("yardsticks", f"{a.where}, measured by", a.measured_by, b.measured_by)
    if a.mode != b.mode:
        if a.few_shot != b.few_shot:
            yield Difference("prompts", f"{a.where}, examples before", a.few_shot, b.few_shot)
        yield from _unlike(a.where, a.task_sampling, b.task_sampling)
        return
    other = sum(one != another for one, another in shared)
    if other:
        because = tuple(_why(a, b))
        reason = f" ({' and '.join(because) or 'the task'} differs)"
        count = f"another for {other} of {len(shared)} docs{reason}"
        yield Difference("prompts", a.where, "one prompt text", count, because)
    yield from _unlike(a.where, a.sampling, b.sampling)


def _shared(before: Docs, after: Docs) -> list[tuple[str, str]]:
    """What names the prompts of every doc that both have, in either."""
    prompts = {key: before[doc][1] for key, doc in numbered(before)}
    return [(prompts[key], after[doc][1]) for key, doc in numbered(after) if key in prompts]


def _why(a: Conditions, b: Conditions) -> Iterator[str]:
    """The likely reasons for other prompt texts."""
    if a.model.get("chat_template") != b.model.get("chat_template"):
        yield TEMPLATE
    if a.system_prompt != b.system_prompt:
        yield MODE_PROMPT


def _unlike(where: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    """Settings that both know and do not share; lm_eval does not log all."""
    for name in sorted(one.keys() & other.keys()):
        if one[name] != other[name]:
            yield Difference("sampling", f"{where}, {name}", one[name], other[name])


def same_docs(before: Docs, after: Docs) -> dict[int, int]:
    """Docs of `after` → number of the same doc in `before`, or a number that it does not have."""
    places = dict(numbered(before))
    free = max(before, default=-1) + 1
    return {doc: places.get(key, free + index) for index, (key, doc) in enumerate(numbered(after))}


def numbered(docs: Docs) -> Iterable[tuple[tuple[str, int], int]]:
    """((hash, how often it came before), doc): equal rows of one task stay apart."""
    seen: Counter[str] = Counter()
    for doc, (doc_hash, _) in sorted(docs.items()):
        yield (doc_hash, seen[doc_hash]), doc
        seen[doc_hash] += 1
