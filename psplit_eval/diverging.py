"""Make a run ready for the question whether its modes are two policies: score and embed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from psplit_eval.backends import Backend, CrossScoring, EngineOptions, Watch
from psplit_eval.behaviour import reference_mode, response_text
from psplit_eval.comparison import Design
from psplit_eval.cross_scoring import Policies, Policy, cross_score, lacking, open_tokens
from psplit_eval.divergence import carriers
from psplit_eval.engines import check_engine, find_model, open_backend
from psplit_eval.errors import RunMismatchError, UsageError
from psplit_eval.files import write_json
from psplit_eval.manifest import Manifest, locked, open_run
from psplit_eval.modes import Mode, checkpoint_modes, resolve_modes
from psplit_eval.placebos import placebo_prompts
from psplit_eval.rescoring import Yardsticks
from psplit_eval.store import Store
from psplit_eval.stored import RunResult, baseline_pairs, report_run
from psplit_eval.text import shortened
from psplit_eval.textual import SAMPLES_AT_MOST, looked_at
from psplit_eval.verdicts import Margins

__all__ = [
    "PLACEBOS",
    "DivergeOptions",
    "Diverging",
    "add_divergence",
    "check_others",
    "diverge_run",
]

PLACEBOS = 3
"""How many neutral prompts a split is measured against, unless said."""


_PLACEBO = "placebo_"
_UNKNOWN = object()


class _Shown(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None: ...

    def scoring(self, total: int) -> AbstractContextManager[Watch]: ...


@dataclass(frozen=True)
class Diverging:
    """What samples are scored under beside their own modes.

    `others`: modes that no sample is drawn in. `placebos`: how many of psplit's own neutral
    prompts (None: the placebos of before, or PLACEBOS); `given`: neutral prompts of the user's,
    used before those.
    """

    others: Sequence[Mode] = ()
    placebos: int | None = None
    given: Sequence[str] = ()


@dataclass(frozen=True)
class DivergeOptions:
    """What the command line says. `model` '': where the run says that it lay.

    `names` and `given_modes`: modes to score under beside the run's own; see `stored.report_run`
    for `design`, `margins` and `baseline`.
    """

    folder: Path
    model: str = ""
    names: Sequence[str] = ()
    given_modes: Sequence[Mode] = ()
    placebos: int | None = None
    given_placebos: Sequence[str] = ()
    engine: EngineOptions | None = None
    measured_by: Mapping[str, str] = field(default_factory=dict)
    design: Design | None = None
    margins: Margins | None = None
    baseline: Path | None = None


def diverge_run(options: DivergeOptions, screen: _Shown) -> RunResult:
    """Score a stored run under all modes and placebos, as far as that lacks, and report.

    Raises UsageError where there is no run, for modes that cannot be scored and an engine that
    cannot score; RunMismatchError for another checkpoint or precision than the run's.
    """
    manifest = open_run(options.folder)
    engine = _engine(options.engine, manifest)
    if manifest["model"]["backend"] == "lm-eval":
        raise UsageError(
            f"run {str(options.folder)!r}: imported, its token ids are not known, so its samples "
            "cannot be scored again; sample it with psplit-eval run"
        )
    if options.baseline:  # what cannot be compared is found out before anything is scored
        baseline_pairs(options.baseline, options.folder, manifest)
    if manifest["model"]["backend"] == "openai" != engine.backend:
        raise UsageError(
            f"run {str(options.folder)!r}: sampled from a server, so its token ids are not known "
            f"and backend {engine.backend} cannot score it; give --backend openai"
        )
    check_engine(engine)
    yardsticks = Yardsticks.named(
        {**manifest.get("yardsticks", {}), **options.measured_by}, screen.say
    )
    known = manifest["checkpoint"]
    name = options.model or known["path"] or known["name"]
    checkpoint = find_model(name, engine, screen.say)
    _check_same("checkpoint of fingerprint", known["fingerprint"], checkpoint.fingerprint, options)
    sampled = {mode["name"] for mode in manifest["modes"]}
    declared = checkpoint_modes(checkpoint.folder) if checkpoint.folder else {}
    asked = bool(options.names or options.given_modes)
    others = resolve_modes(options.names, options.given_modes, declared) if asked else []
    new = [mode for mode in others if mode.name not in sampled or mode in options.given_modes]
    wanted = Diverging(new, options.placebos, options.given_placebos)
    check_others(manifest, wanted)
    backend = open_backend(checkpoint, engine, screen.say)
    dtype = backend.describe().get("dtype")
    _check_same("precision", manifest["model"].get("dtype"), dtype, options)
    with locked(options.folder), Store(options.folder / "samples.sqlite") as store:
        added = add_divergence(store, options.folder, manifest, backend, wanted, yardsticks, screen)
    found = report_run(options.folder, options.design, options.margins, options.baseline)
    return replace(found, sampled=added, notes=[*yardsticks.notes, *found.notes])


def _engine(given: EngineOptions | None, manifest: Manifest) -> EngineOptions:
    """As given; the run's own backend, precision, adapter and servers where nothing is said."""
    model, adapter = manifest["model"], manifest["checkpoint"].get("adapter")
    engine = given or EngineOptions(backend=model["backend"])
    if adapter and engine.adapter is None:
        engine = replace(engine, adapter=Path(adapter))
    if model.get("dtype") and engine.dtype == "auto":
        engine = replace(engine, dtype=model["dtype"])
    if engine.backend == "openai" and not engine.base_url:
        engine = replace(engine, base_url=tuple(model.get("urls", ())))
    return engine


def _check_same(what: str, before: object, now: object, options: DivergeOptions) -> None:
    if before is not None and now is not None and before != now:
        raise RunMismatchError(
            f"run {str(options.folder)!r}: made with {what} {shortened(before, 40)}, this command "
            f"has {shortened(now, 40)}; give the same --model, --dtype and --adapter"
        )


def check_others(manifest: Manifest, wanted: Diverging) -> None:
    """Raise UsageError for a mode that cannot be scored without samples of its own."""
    sampled = {mode["name"]: mode for mode in manifest["modes"]}
    if not all(text.strip() for text in wanted.given):
        raise UsageError("--placebo: expected a text, got an empty one; give a neutral prompt")
    for mode in wanted.others:
        if mode.name.startswith(_PLACEBO):
            raise UsageError(
                f"mode {mode.name!r}: placebos are called {_PLACEBO}1 and so on; rename the mode"
            )
        if mode.name in sampled and sampled[mode.name]["system_prompt"] != mode.system_prompt:
            raise UsageError(
                f"mode {mode.name!r}: the run's samples have another system prompt under that "
                "name; give it another one"
            )
        if mode.name not in sampled and mode.system_prompt is None:
            raise UsageError(
                f"mode {mode.name!r}: has no system prompt and no samples in this run, so its "
                "prompts are not known; sample it with psplit-eval run"
            )
    if not any(mode["system_prompt"] for mode in sampled.values()) and (
        wanted.others or wanted.placebos != 0 or wanted.given
    ):
        raise UsageError(
            "the run has no mode with a system prompt, in whose place another could be put; "
            "sample one, or give --placebos 0 and no other modes"
        )


def add_divergence(
    store: Store,
    folder: Path,
    manifest: Manifest,
    backend: Backend,
    wanted: Diverging,
    yardsticks: Yardsticks,
    screen: _Shown,
) -> int:
    """Score every sample of the run under every policy, and embed all texts, as far as that lacks.

    The manifest says then what they were scored under. Returns how many numbers were added. Raises
    UsageError for an engine that cannot do it and modes that cannot be scored.
    """
    check_others(manifest, wanted)
    engine = _scoring(backend)
    policies = _policies(manifest, backend, wanted)
    tasks = [name for name, task in manifest["tasks"].items() if task["sampling"]]
    placebos = [policy.name for policy in policies.placebos]
    entry = _begun(store, folder, manifest, policies, engine)
    started, total = time.monotonic(), open_tokens(store, policies, tasks)
    try:
        if total:
            screen.say("scoring all samples under all modes and placebos")
        with screen.scoring(total) as watch:
            work = lacking(store, policies, tasks, backend)
            added = cross_score(store, engine, work, placebos, watch)
    finally:
        entry["seconds"] = round(entry["seconds"] + time.monotonic() - started, 2)
        write_json(folder / "manifest.json", manifest)
    entry["encoder"] = yardsticks.embed(store, _texts(store, tasks))
    entry["token_texts"] = _token_texts(store, policies, tasks, engine)
    write_json(folder / "manifest.json", manifest)
    return added


def _scoring(backend: Backend) -> CrossScoring:
    if not isinstance(backend, CrossScoring):
        raise UsageError(
            f"backend {backend.describe()['backend']}: cannot score given responses under other "
            "prompts; give --backend hf, or --no-divergence"
        )
    if backend.exact and not backend.can_score:
        raise UsageError(
            "an encoder-decoder's tokens cannot be scored under other prompts; expected a causal "
            "model; give --no-divergence"
        )
    return backend


def _begun(
    store: Store, folder: Path, manifest: Manifest, policies: Policies, engine: CrossScoring
) -> dict[str, Any]:
    """The manifest's entry, written before the first score: so it tells of every score that the
    store has under what prompt it is, whenever the work ends. Others are forgotten."""
    before = manifest.get("divergence") or {}
    known = {policy["name"]: policy["system_prompt"] for policy in before.get("policies", ())}
    other_kind = before.get("exact", engine.exact) != engine.exact  # bounds beside exact numbers
    for policy in policies.every:
        if other_kind or known.get(policy.name, _UNKNOWN) != policy.system_prompt:
            store.forget_policy(policy.name)
    entry = {"encoder": "", "seconds": 0.0, **before}
    entry["policies"] = [policy.to_dict() for policy in policies.every]
    entry["exact"] = engine.exact
    manifest["divergence"] = entry
    write_json(folder / "manifest.json", manifest)
    return entry


def _policies(manifest: Manifest, backend: Backend, wanted: Diverging) -> Policies:
    sampled = [
        Mode(mode["name"], mode["system_prompt"], mode.get("role", "other"), mode["sampling"])
        for mode in manifest["modes"]
    ]
    names = {mode.name for mode in sampled}
    others = {mode.name: mode for mode in (*_before(manifest), *wanted.others)}
    rest = [mode for name, mode in others.items() if name not in names]
    reference = reference_mode(manifest["modes"])
    length = _length([*sampled, *rest], reference, backend)
    texts = _placebo_texts(manifest, wanted, length, lambda text: _tokens(text, backend))
    free = (name for i in count(1) if (name := f"{_PLACEBO}{i}") not in names)
    placebos = [Policy(name, text, placebo=True) for name, text in zip(free, texts, strict=False)]
    return Policies(sampled, rest, placebos, reference)


def _placebo_texts(
    manifest: Manifest, wanted: Diverging, length: int, count_tokens: Callable[[str], int]
) -> Sequence[str]:
    """As asked for; unasked, those of before, or psplit's own."""
    known = (manifest.get("divergence") or {}).get("policies", ())
    before = [policy["system_prompt"] for policy in known if policy["placebo"]]
    if wanted.placebos is None and not wanted.given and before:
        return before
    number = PLACEBOS if wanted.placebos is None else wanted.placebos
    own = placebo_prompts(length, count_tokens, number) if length else []
    return list(dict.fromkeys([*wanted.given, *own]))


def _before(manifest: Manifest) -> Iterator[Mode]:
    """Modes without samples that were scored before: they stay in the report."""
    for policy in (manifest.get("divergence") or {}).get("policies", ()):
        if not policy["placebo"]:
            yield Mode(policy["name"], policy["system_prompt"], policy["role"])


def _length(modes: Iterable[Mode], reference: str, backend: Backend) -> int:
    """Tokens of the system prompt that placebos stand beside: the high mode's, or the first's."""
    others = [mode for mode in modes if mode.system_prompt and mode.name != reference]
    chosen = sorted(others, key=lambda mode: mode.role != "high")[:1]
    return sum(_tokens(mode.system_prompt or "", backend) for mode in chosen)


def _tokens(text: str, backend: Backend) -> int:
    """By the model's tokenizer; of a server, which keeps it to itself, words."""
    return len(backend.encode(text)) or len(text.split())


def _texts(store: Store, tasks: Iterable[str]) -> Iterator[str]:
    """All that is said to the docs whose embeddings are looked at."""
    for task in tasks:
        docs = looked_at(doc.doc_id for doc in store.docs(task))
        for sample in store.samples(task, ids=False):
            looked = sample.doc_id in docs and sample.sample_idx < SAMPLES_AT_MOST
            if sample.error is None and looked:
                yield response_text(sample)


def _token_texts(
    store: Store, policies: Policies, tasks: Sequence[str], engine: CrossScoring
) -> Mapping[str, str]:
    """The texts of tokens that a report names: it has no tokenizer."""
    named = {
        carrier.token
        for task in tasks
        for mode in policies.sampled
        for policy in policies.of_modes
        if policy.name != mode.name
        for carrier in carriers(store, task, mode.name, policy.name)
    }
    return {str(token): engine.token_text(token) for token in sorted(named)}
