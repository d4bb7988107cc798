"""How the modes of a run behave beside each other: all that is known of it, from the store alone.

Token by token where the samples were cross-scored, as texts, as solutions; and three answers. The
reference mode is the one of role normal, or the first.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from psplit_eval.accuracy import Grade
from psplit_eval.arms import Arm
from psplit_eval.comparison import Design
from psplit_eval.complementarity import complementary_findings, doc_solutions
from psplit_eval.divergence import (
    Carrier,
    Pair,
    Stretch,
    carriers,
    curve,
    mean_over_tasks,
    read_sums,
    token_findings,
)
from psplit_eval.files import defined
from psplit_eval.findings import FAMILY, Finding, adjusted
from psplit_eval.judged import Said
from psplit_eval.rescoring import stored_vectors
from psplit_eval.scoring import AccuracyScorer, Scorer
from psplit_eval.stats import MINIMUM_DOCS, Difference
from psplit_eval.store import CrossSums, Sample, Store
from psplit_eval.textual import SAMPLES_AT_MOST, TextDoc, looked_at, text_findings
from psplit_eval.verdicts import (
    Answer,
    Margins,
    Split,
    accuracy_kept,
    more_creative,
    not_split,
    split,
)

__all__ = ["Behaviour", "Compared", "read_behaviour", "reference_mode", "response_text"]

Manifest = Mapping[str, Any]
Sums = Mapping[str, Mapping[str, Mapping[str, Mapping[int, CrossSums]]]]
"""Mode → task → policy → doc → sums."""


@dataclass(frozen=True)
class Compared:
    """How to decide. `baseline`: arms of another run's reference mode, each with this run's;
    `said`: what judges say that have passed their audit."""

    margins: Margins = field(default_factory=Margins)
    design: Design = field(default_factory=Design)
    baseline: Sequence[tuple[Arm, Arm]] = ()
    said: Sequence[Said] = ()


@dataclass(frozen=True)
class Behaviour:
    """`curves` and `carriers` are by (task, mode, policy), the latter with the token's text.

    `matrix`: (mode, policy) → KL(mode‖policy), mean over tasks. `placebos`: name → system prompt.
    """

    reference: str
    answers: Sequence[Answer]
    splits: Sequence[Split]
    findings: Sequence[Finding]
    curves: Mapping[tuple[str, str, str], Sequence[Stretch]]
    carriers: Mapping[tuple[str, str, str], Sequence[tuple[str, Carrier]]]
    matrix: Mapping[tuple[str, str], Difference]
    placebos: Mapping[str, str]
    margins: Margins

    def to_dict(self) -> dict[str, Any]:
        """divergence.json; undefined numbers are null."""
        return {
            "format": 1,
            "reference": self.reference,
            "family": FAMILY,
            "correction": "Benjamini-Hochberg",
            "margins": vars(self.margins),
            "answers": [answer.to_dict() for answer in self.answers],
            "placebos": dict(self.placebos),
            "splits": [_of_split(each) for each in self.splits],
            "matrix": [
                {"mode": mode, "policy": policy, "kl_bits": _of_difference(kl)}
                for (mode, policy), kl in self.matrix.items()
            ],
            "findings": [finding.to_dict() for finding in self.findings],
            "by_position": [
                {**_cell(cell), **_of_stretch(stretch)}
                for cell, stretches in self.curves.items()
                for stretch in stretches
            ],
            "tokens": [
                {**_cell(cell), "text": text, **_numbers(carrier._asdict())}
                for cell, found in self.carriers.items()
                for text, carrier in found
            ],
        }


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: defined(value) for name, value in entry.items()}


def _cell(cell: tuple[str, str, str]) -> dict[str, str]:
    return dict(zip(("task", "mode", "policy"), cell, strict=True))


def _of_split(found: Split) -> dict[str, Any]:
    return {
        "mode": found.answer.mode_b,
        "verdict": found.answer.verdict.value,
        "tasks": list(found.tasks),
        "kl_bits": _of_difference(found.kl),
        "entropy_gap_bits": _of_difference(found.entropy),
        "beyond_placebos": [excess.to_dict() for excess in found.excesses],
    }


def _of_difference(found: Difference) -> dict[str, Any]:
    low, high = found.spread.limits()
    entry = {"value": found.difference, "ci_low": low, "ci_high": high, "n_docs": found.n}
    return _numbers(entry)


def _of_stretch(stretch: Stretch) -> dict[str, Any]:
    of = {"kl": stretch.kl, "mode": stretch.entropy_mode, "policy": stretch.entropy_policy}
    return {
        "first": stretch.first,
        "last": stretch.last,
        **{
            (f"{name}_bits" if name == "kl" else f"entropy_{name}_bits"): {
                "value": defined(value.value),
                "ci_low": defined(value.ci_low),
                "ci_high": defined(value.ci_high),
                "n_docs": value.n,
            }
            for name, value in of.items()
        },
    }


def reference_mode(modes: Sequence[Mapping[str, Any]]) -> str:
    """The name of the first mode of role normal, or of the first mode."""
    normal = [mode["name"] for mode in modes if mode.get("role") == "normal"]
    return str(normal[0] if normal else modes[0]["name"])


def read_behaviour(
    store: Store, manifest: Manifest, arms: Sequence[Arm], compared: Compared
) -> Behaviour:
    """Everything, from the store; nothing is loaded, drawn or scored."""
    crossed = manifest.get("divergence") or {"policies": []}
    reference = reference_mode(manifest["modes"])
    sampled = [mode["name"] for mode in manifest["modes"]]
    policies = {policy["name"]: policy for policy in crossed["policies"]}
    modes = [name for name, policy in policies.items() if not policy["placebo"]]
    placebos = {p["name"]: p["system_prompt"] for p in policies.values() if p["placebo"]}
    drawn = [name for name, task in manifest["tasks"].items() if task["sampling"]]
    sums = {mode: {task: read_sums(store, task, mode) for task in drawn} for mode in sampled}
    pairs = [(m, p) for m in sampled for p in modes if m != p]
    cells = [(task, *pair) for pair in pairs for task in drawn if pair[1] in sums[pair[0]][task]]
    splits = list(_splits(manifest, sums[reference], list(placebos), compared.margins))
    texts = {str(k): str(v) for k, v in (crossed.get("token_texts") or {}).items()}
    findings = [
        *_token_findings(manifest, sums, cells, exact=crossed.get("exact", True)),
        *_of_samples(store, manifest, arms, reference),
    ]
    return Behaviour(
        reference=reference,
        answers=[*(found.answer for found in splits), *_answers(arms, reference, compared)],
        splits=splits,
        findings=adjusted(findings),
        curves={cell: curve(store, *cell) for cell in cells},
        carriers={
            cell: [(texts.get(str(c.token), str(c.token)), c) for c in carriers(store, *cell)]
            for cell in cells
        },
        matrix=dict(_matrix(sums, pairs)),
        placebos=placebos,
        margins=compared.margins,
    )


def _splits(
    manifest: Manifest,
    by_task: Mapping[str, Mapping[str, Mapping[int, CrossSums]]],
    placebos: Sequence[str],
    margins: Margins,
) -> Iterator[Split]:
    """Of every mode but the reference, sampled or not."""
    modes = {mode["name"]: mode for mode in manifest["modes"]}
    scored = (manifest.get("divergence") or {}).get("policies", [])
    modes |= {policy["name"]: policy for policy in scored if not policy["placebo"]}
    reference = modes.pop(reference_mode(manifest["modes"]))
    for name, mode in modes.items():
        if mode["system_prompt"] == reference["system_prompt"]:
            yield not_split(reference["name"], name)
        else:
            role = mode.get("role", "other")
            drawn = _how_all_drawn(manifest, reference["name"])
            exact = (manifest.get("divergence") or {}).get("exact", True)
            yield split(
                reference["name"], name, role, by_task, placebos, margins, drawn=drawn, exact=exact
            )


def _token_findings(
    manifest: Manifest, sums: Sums, cells: Sequence[tuple[str, str, str]], exact: bool
) -> Iterator[Finding]:
    for task, mode, policy in cells:
        own = sums[mode][task]
        if mode in own:
            pair = Pair.of(own[mode], own[policy])
            drawn = _how_drawn(manifest["tasks"][task], mode)
            yield from token_findings(task, mode, policy, pair, drawn, not exact)


def _how_all_drawn(manifest: Manifest, mode: str) -> str:
    """The ways in which the contexts of tasks were drawn, beside the plain one."""
    ways = (_how_drawn(task, mode) for task in manifest["tasks"].values() if task["sampling"])
    return " or ".join(way for way in dict.fromkeys(ways) if way)


def _how_drawn(task: Mapping[str, Any], mode: str) -> str:
    """How contexts were drawn, where not at temperature 1 without truncation."""
    settings = {**task["sampling"], **task.get("sampling_by_mode", {}).get(mode, {})}
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    other = {name: settings.get(name, value) for name, value in plain.items()}
    return ", ".join(
        f"{name.replace('_', '-')} {value:g}"
        for name, value in other.items()
        if value != plain[name]
    )


def _answers(arms: Sequence[Arm], reference: str, compared: Compared) -> Iterator[Answer]:
    """Of this run's reference against the baseline's, and of every other mode against it."""
    by_mode: dict[str, list[tuple[Arm, Arm]]] = defaultdict(list)
    firsts = {arm.task: arm for arm in arms if arm.mode == reference}
    for arm in arms:
        if arm.mode != reference and arm.task in firsts:
            by_mode[arm.mode].append((firsts[arm.task], arm))
    margins, design = compared.margins, compared.design
    for pairs in (compared.baseline, *by_mode.values()):
        if pairs and (answer := accuracy_kept(pairs, margins.accuracy, design)):
            yield answer
    for pairs in by_mode.values():
        if answer := more_creative(pairs, margins.quality, design, compared.said):
            yield answer


def _matrix(
    sums: Sums, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], Difference]]:
    for mode, policy in pairs:
        found = [
            Pair.of(own[mode], own[policy])
            for own in sums[mode].values()
            if mode in own and policy in own
        ]
        enough = [pair.divergence() for pair in found if len(pair.docs) >= MINIMUM_DOCS]
        if found:
            yield (mode, policy), mean_over_tasks(enough or [p.divergence() for p in found])


def _of_samples(
    store: Store, manifest: Manifest, arms: Sequence[Arm], reference: str
) -> Iterator[Finding]:
    """Samples of the reference beside those of every other mode, task by task."""
    crossed = manifest.get("divergence")
    by_cell = {(arm.task, arm.mode): arm for arm in arms}
    for task, mode in by_cell:
        first = by_cell.get((task, reference))
        if mode == reference or first is None or task not in manifest["tasks"]:
            continue
        if not manifest["tasks"][task]["sampling"]:  # given answers were scored
            continue
        if crossed:
            docs = list(_text_docs(store, first, mode, crossed.get("encoder", "")))
            yield from text_findings(task, reference, mode, docs)
        solved = doc_solutions(store, first.scorer, task, reference, mode)
        yield from complementary_findings(task, reference, mode, solved)


def _text_docs(store: Store, first: Arm, mode: str, encoder: str) -> Iterator[TextDoc]:
    """Docs that both modes have samples of, as many as are looked at."""
    chosen = looked_at(doc.doc_id for doc in store.docs(first.task))
    streams = [_by_doc(store, first.task, name, chosen) for name in (first.mode, mode)]
    right = {
        (metric.mode, metric.doc_id, metric.sample_idx): bool(metric.value)
        for name in (first.mode, mode)
        for metric in store.metrics(first.task, name)
        if metric.metric == "correct"
    }
    merged = heapq.merge(*streams, key=itemgetter(0))
    for _, both in groupby(merged, key=itemgetter(0)):
        samples = [of_doc for _, of_doc in both]
        if len(samples) == 2:
            yield _text_doc(store, first.scorer, samples, right, encoder)


def _by_doc(
    store: Store, task: str, mode: str, chosen: set[int]
) -> Iterator[tuple[int, list[Sample]]]:
    good = (
        sample
        for sample in store.samples(task, mode, ids=False)
        if sample.error is None and sample.doc_id in chosen
    )
    for doc_id, samples in groupby(good, key=attrgetter("doc_id")):
        yield doc_id, list(islice(samples, SAMPLES_AT_MOST))


def _text_doc(
    store: Store,
    scorer: Scorer,
    samples: Sequence[Sequence[Sample]],
    right: Mapping[tuple[str, int, int | None], bool],
    encoder: str,
) -> TextDoc:
    texts_a, texts_b = ([response_text(sample) for sample in each] for each in samples)
    vectors = stored_vectors(store, encoder, [*texts_a, *texts_b]) if encoder else {}
    known = bool(vectors) and all(text in vectors for text in (*texts_a, *texts_b))
    answers_a, answers_b = (
        [
            Grade(
                scorer.answer(s),
                right.get((s.mode, s.doc_id, s.sample_idx), False),
                scorer.several,
            )
            for s in each
        ]
        if isinstance(scorer, AccuracyScorer)
        else None
        for each in samples
    )
    return TextDoc(
        samples[0][0].doc_id,
        texts_a,
        texts_b,
        np.stack([vectors[text] for text in texts_a]) if known else None,
        np.stack([vectors[text] for text in texts_b]) if known else None,
        answers_a,
        answers_b,
    )


def response_text(sample: Sample) -> str:
    """All that a sample says, its thought first."""
    return "\n".join(part for part in (sample.thought, sample.text) if part)
