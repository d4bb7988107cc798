"""What people would say of a run: a judge's scores of all samples, calibrated with a few labels.

From the run's ledger and its labels alone, by `calibration`. Which samples were labelled is taken
to be a random draw of those that the judge scored: nothing in a file can show that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psplit_eval.arms import MAX_MISSING
from psplit_eval.calibration import (
    CalibratedDifference,
    CalibratedMean,
    Scores,
    calibrated_difference,
    calibrated_mean,
)
from psplit_eval.files import defined
from psplit_eval.findings import Finding
from psplit_eval.labels import LabelKey, Labels, Scale
from psplit_eval.ledger import Ledger
from psplit_eval.replies import Verdict
from psplit_eval.stats import Difference, Estimate

__all__ = ["Calibrated", "calibrate", "scale_of"]

_POINTS = "points"
_WITHHELD = "over 1 % of verdicts are missing: no interval and no test"

Key = tuple[int, str, int]
"""(doc_id, mode, sample_idx)."""


@dataclass(frozen=True)
class Calibrated:
    """One judge's scores on one dimension of one task, calibrated with people's.

    In points of the scale. `by_mode`: of every mode that was scored. `differences`: other mode →
    it less the first mode, over docs scored in both; `findings`: the same as tests, in order. Of
    every mode: `asked` samples, those of them whose verdict is `missing`, and labels `unused`, as
    their samples have no verdict of this judge. Where over 1 % of verdicts is missing, there is no
    interval and no test.
    """

    judge: str
    rubric: str
    task: str
    dimension: str
    primary: bool
    creative: bool
    scale: tuple[int, int]
    by_mode: Mapping[str, CalibratedMean]
    differences: Mapping[str, CalibratedDifference]
    findings: Sequence[Finding]
    asked: Mapping[str, int]
    missing: Mapping[str, int]
    unused: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """An entry of judgements.json; undefined numbers are null."""
        pairs = zip(self.findings, self.differences.values(), strict=True)
        return {
            "judge": self.judge,
            "rubric": self.rubric,
            "task": self.task,
            "dimension": self.dimension,
            "primary": self.primary,
            "creative": self.creative,
            "scale": list(self.scale),
            "modes": {mode: _mean_entry(found) for mode, found in self.by_mode.items()},
            "differences": [f.to_dict() | _difference_entry(found) for f, found in pairs],
            "asked": dict(self.asked),
            "missing": dict(self.missing),
            "unused_labels": dict(self.unused),
        }


def scale_of(rubric: Mapping[str, Any]) -> Scale:
    """By what labels have to be given to count for a rubric, which is as `Rubric.to_dict`."""
    ends = rubric["scale"]
    return Scale(str(rubric["name"]), int(ends["low"]), int(ends["high"]))


def calibrate(
    ledger: Ledger, labels: Labels, modes: Sequence[str], allow_missing: bool = False
) -> list[Calibrated]:
    """Every judge that scored by a rubric, on every task and dimension that has labels by it.

    `modes`: those of the run, the one to compare with first. Labels by a rubric of the same name
    and scale count. Without labels there is nothing; with few a number is NaN, and its note says
    why.
    """
    found = []
    rubrics = ledger.rubrics()
    for judge, rubric_hash, kind, task in ledger.panels():
        rubric = rubrics[rubric_hash]
        known = {k: v for k, v in labels.get(scale_of(rubric), {}).items() if k.task == task}
        if kind == "scores" and known:
            rows = ledger.judged(judge, rubric_hash, kind, task)
            verdicts = {(j.doc_id, j.mode, j.sample_idx): call.verdict for j, call in rows}
            one = _Judge(judge, rubric, task, verdicts, modes, allow_missing)
            found += list(one.calibrated(known))
    return sorted(found, key=lambda one: (one.task, one.rubric))


@dataclass(frozen=True)
class _Judge:
    """What one judge said of a task."""

    judge: str
    rubric: Mapping[str, Any]
    task: str
    verdicts: Mapping[Key, Verdict | None]
    modes: Sequence[str]
    allow_missing: bool

    def calibrated(self, labels: Mapping[LabelKey, float]) -> Iterator[Calibrated]:
        """Dimension by dimension, of those that have labels."""
        for name in self.rubric["dimensions"]:
            people = {
                (key.doc_id, key.mode, key.sample_idx): value
                for key, value in labels.items()
                if key.dimension == name
            }
            if people and self._scored_modes():
                yield self._of_dimension(name, people)

    def _of_dimension(self, name: str, people: Mapping[Key, float]) -> Calibrated:
        asked, missing, unused = (dict[str, int]() for _ in range(3))
        for mode in self.modes:
            verdicts = [v for key, v in self.verdicts.items() if key[1] == mode]
            asked[mode], missing[mode] = len(verdicts), verdicts.count(None)
            labelled = [key for key in people if key[1] == mode]
            unused[mode] = sum(self.verdicts.get(key) is None for key in labelled)
        lacking = sum(missing.values()) > MAX_MISSING * sum(asked.values())
        means, differences = self._numbers(name, people, lacking and not self.allow_missing)
        scale = scale_of(self.rubric)
        return Calibrated(
            judge=self.judge,
            rubric=scale.rubric,
            task=self.task,
            dimension=name,
            primary=name == self.rubric["primary"],
            creative=bool(self.rubric.get("creative")),
            scale=(scale.low, scale.high),
            by_mode=means,
            differences=differences,
            findings=[self._finding(name, means, b, d) for b, d in differences.items()],
            asked=asked,
            missing=missing,
            unused=unused,
        )

    def _scored_modes(self) -> list[str]:
        """With one verdict or more."""
        scored = {mode for (_, mode, _), verdict in self.verdicts.items() if verdict is not None}
        return [mode for mode in self.modes if mode in scored]

    def _numbers(
        self, name: str, people: Mapping[Key, float], withheld: bool
    ) -> tuple[dict[str, CalibratedMean], dict[str, CalibratedDifference]]:
        arms = {mode: self._scores(name, people, mode) for mode in self._scored_modes()}
        means = {mode: calibrated_mean(arm) for mode, arm in arms.items()}
        first, *others = arms
        differences = {mode: calibrated_difference(arms[first], arms[mode]) for mode in others}
        if withheld:
            means = {mode: _bare_mean(found) for mode, found in means.items()}
            differences = {mode: _bare_difference(found) for mode, found in differences.items()}
        return means, differences

    def _scores(self, name: str, people: Mapping[Key, float], mode: str) -> Scores:
        scored = {k: v[name] for k, v in self.verdicts.items() if k[1] == mode and v is not None}
        return Scores(
            [doc for doc, _, _ in scored],
            list(scored.values()),
            [people.get(key, math.nan) for key in scored],
        )

    def _finding(
        self, name: str, means: Mapping[str, CalibratedMean], b: str, found: CalibratedDifference
    ) -> Finding:
        measure = f"{self.judge} {self.rubric['name']} {name}, calibrated"
        a = next(iter(means))
        finding = Finding.of_difference(
            self.task, a, b, measure, _POINTS, found.difference, found.note
        )
        return replace(finding, test="") if math.isnan(finding.p) else finding


def _bare_mean(found: CalibratedMean) -> CalibratedMean:
    return replace(
        found,
        estimate=_bare(found.estimate),
        judge_mean=_bare(found.judge_mean),
        human_mean=_bare(found.human_mean),
        judge_bias=_bare(found.judge_bias),
        note=_noted(found.note),
    )


def _bare_difference(found: CalibratedDifference) -> CalibratedDifference:
    return replace(
        found,
        difference=found.difference.bare(),
        judge_difference=found.judge_difference.bare(),
        human_difference=found.human_difference.bare(),
        judge_bias=_bare(found.judge_bias),
        note=_noted(found.note),
    )


def _bare(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value, math.nan, math.nan, estimate.n)


def _noted(note: str) -> str:
    return "; ".join(part for part in (_WITHHELD, note) if part)


def _mean_entry(found: CalibratedMean) -> dict[str, Any]:
    return {
        **found.estimate.to_dict(),
        "judge_mean": found.judge_mean.to_dict(),
        "human_mean": found.human_mean.to_dict(),
        **_of_labels(found),
        "labels": found.labels,
        "note": found.note or None,
    }


def _difference_entry(found: CalibratedDifference) -> dict[str, Any]:
    """Beside what a finding has."""
    return {
        "judge_difference": _interval(found.judge_difference),
        "human_difference": _interval(found.human_difference),
        **_of_labels(found),
        "labels": list(found.labels),
    }


def _of_labels(found: CalibratedMean | CalibratedDifference) -> dict[str, Any]:
    return {
        "judge_bias": found.judge_bias.to_dict(),
        "judge_weight": defined(found.judge_weight),
        "equivalent_labels": defined(found.equivalent_labels),
    }


def _interval(found: Difference) -> dict[str, Any]:
    return Estimate(found.difference, found.ci_low, found.ci_high, found.n).to_dict()
