"""What judges said of a run, as data: scores by mode, preferences between modes, the panel.

What a judge says is kept beside what its audit says of the judge, and `JudgedRun.said` is what a
verdict may hear of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from psplit_eval.calibrating import Calibrated
from psplit_eval.cards import CARE, NOT_USABLE, UNMEASURED, USABLE
from psplit_eval.files import defined
from psplit_eval.findings import Finding
from psplit_eval.preferences import AtEqualLength, Strengths, WinRate
from psplit_eval.stats import Estimate, holm

__all__ = [
    "FAMILY",
    "FROM_BEST",
    "PANEL",
    "Belief",
    "JudgedRun",
    "Preferred",
    "Ranked",
    "Said",
    "Scored",
]

FAMILY = "judges"
"""The family of all tests on what judges say: exploratory, Benjamini–Hochberg-corrected."""
PANEL = "panel"
"""Stands for all judges together that have not failed their audit."""
_ALPHA = 0.05


class Belief(NamedTuple):
    """What a judge's audit says of it by one rubric: for scores, for choices, for hostile text.

    Each is a level of `cards`, or 'not audited'.
    """

    scores: str = "not audited"
    choice: str = "not audited"
    hostile: str = "not audited"

    def of(self, kind: str) -> str:
        """For one kind of question."""
        return self.scores if kind == "scores" else self.choice

    def counts(self, kind: str) -> bool:
        """Whether a verdict may rest on it: usable, and not known to obey the texts it judges."""
        return self.of(kind) == USABLE and self.hostile != NOT_USABLE


FROM_BEST = (USABLE, CARE, UNMEASURED, Belief().scores, NOT_USABLE)
"""What may be believed of a judge, from the best to the worst."""


@dataclass(frozen=True)
class Scored:
    """Scores of one judge, or of the panel, on one dimension of one task.

    `by_mode`: mean over docs of docs' mean scores, in points of the scale, with intervals over
    docs. `missing`: by mode, samples without a verdict, be it that none could be read or that none
    was asked for yet, of `asked`, those that there are to judge. `findings`: every mode against the
    first one, paired by doc; without tests where over 1 % is missing. `counts`: whether a verdict
    about creativity may rest on it.
    """

    judge: str
    rubric: str
    rubric_hash: str
    task: str
    dimension: str
    primary: bool
    scale: tuple[int, int]
    belief: str
    by_mode: Mapping[str, Estimate]
    missing: Mapping[str, int]
    asked: Mapping[str, int]
    findings: Sequence[Finding]
    counts: bool


@dataclass(frozen=True)
class Preferred:
    """How often one judge, or the panel, prefers mode b to mode a on a task.

    `equal_length`: the same if texts were equally long. `unasked`: pairs that neither order of was
    asked about yet. `withheld`: over 1 % of pairs is missing. `counts`: as of `Scored`.
    `p_adjusted` in the family.
    """

    judge: str
    rubric: str
    rubric_hash: str
    task: str
    belief: str
    found: WinRate
    equal_length: AtEqualLength
    unasked: int
    withheld: bool
    counts: bool
    p_adjusted: float = math.nan


@dataclass(frozen=True)
class Ranked:
    """Bradley–Terry strengths of three modes or more, by one judge or the panel, raw and at equal
    length."""

    judge: str
    rubric: str
    rubric_hash: str
    task: str
    belief: str
    raw: Strengths
    equal_length: AtEqualLength


@dataclass(frozen=True)
class Said:
    """What a judge that has passed its audit says about two modes on a task, for a verdict.

    `direction`: 1 if mode b is higher, −1 if it is lower, 0 if neither is shown (Holm-corrected
    over all such statements).
    """

    task: str
    mode_a: str
    mode_b: str
    direction: int
    text: str


@dataclass(frozen=True)
class JudgedRun:
    """All that judges said. `agreement`: (rubric hash, task, dimension) → Krippendorff's α of
    several judges' scores of the same samples. `calibrated`: judges' scores with people's labels.
    `rubrics`: rubric hash → what it is called here."""

    scored: Sequence[Scored] = ()
    preferred: Sequence[Preferred] = ()
    ranked: Sequence[Ranked] = ()
    agreement: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    calibrated: Sequence[Calibrated] = ()
    rubrics: Mapping[str, str] = field(default_factory=dict)

    @property
    def judges(self) -> list[str]:
        """Of all kinds of questions, without the panel."""
        every = dict.fromkeys([*(s.judge for s in self.scored), *(p.judge for p in self.preferred)])
        return [name for name in every if name != PANEL]

    def said(self) -> list[Said]:
        """What judges say about creativity that their audit calls usable, one statement a judge,
        task and pair of modes: of the rubric's primary dimension, and of preferences.

        Only by rubrics that are about creativity, and of judges that are not known to obey the
        texts. A preference that is another at equal length has no direction. What labels have
        calibrated is unbiased whatever the judge is worth, so it is heard, in the place of the
        judge alone.
        """
        claims = [*self._calibrated_claims(), *self._score_claims(), *self._choice_claims()]
        corrected = holm([p for p, _ in claims])
        return [
            replace(said, direction=said.direction if p < _ALPHA else 0)
            for p, (_, said) in zip(corrected, claims, strict=True)
        ]

    def _calibrated_claims(self) -> Iterator[tuple[float, Said]]:
        for one, finding in self._calibrated_findings():
            labels = sum(one.differences[finding.mode_b].labels)
            name = f"{one.judge}, calibrated with {labels} labels,"
            yield _claim(f"{name} {one.dimension}", finding)

    def _calibrated_findings(self) -> Iterator[tuple[Calibrated, Finding]]:
        """Those that a test stands behind, on dimensions that decide about creativity."""
        for one in self.calibrated:
            if one.primary and one.creative:
                yield from ((one, finding) for finding in one.findings if finding.test)

    def _score_claims(self) -> Iterator[tuple[float, Said]]:
        replaced = {
            (one.judge, one.rubric, finding.task, finding.mode_a, finding.mode_b)
            for one, finding in self._calibrated_findings()
        }
        for scored in (scored for scored in self.scored if scored.counts and scored.primary):
            for finding in scored.findings:
                of = (finding.task, finding.mode_a, finding.mode_b)
                if (scored.judge, scored.rubric, *of) not in replaced:
                    yield _claim(f"{scored.judge} {scored.dimension}", finding)

    def _choice_claims(self) -> Iterator[tuple[float, Said]]:
        for one in self.preferred:
            if not one.counts or one.withheld:
                continue
            value, low, high = _limits(one.found.rate)
            fair = one.equal_length.strengths.win_rates[one.found.b].value
            text = f"{one.judge} prefers {one.found.b} in {value:.0%} [{low:.0%}, {high:.0%}]"
            direction = (value > 0.5) - (value < 0.5)
            if direction and not (fair - 0.5) * direction > 0:
                direction, text = 0, f"{text}, not at equal length"
            yield one.found.p, Said(one.task, one.found.a, one.found.b, direction, text)

    def to_dict(self) -> dict[str, Any]:
        """The content of judgements.json; undefined numbers are null."""
        return {
            "format": 1,
            "scores": [_scored_entry(scored) for scored in self.scored],
            "calibrated": [one.to_dict() for one in self.calibrated],
            "preferences": [_preferred_entry(preferred) for preferred in self.preferred],
            "strengths": [_ranked_entry(ranked) for ranked in self.ranked],
            "agreement": [
                {"rubric": self.rubrics[rubric], "task": task, "dimension": name, **alpha.to_dict()}
                for (rubric, task, name), alpha in self.agreement.items()
            ],
        }


def _claim(name: str, finding: Finding) -> tuple[float, Said]:
    """Its p, and what it says of the higher mode."""
    value, low, high = _limits(finding.estimate)
    text = f"{name} {value:+.2f} [{low:+.2f}, {high:+.2f}]"
    direction = (value > 0) - (value < 0)
    return finding.p, Said(finding.task, finding.mode_a, finding.mode_b, direction, text)


def _limits(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.ci_low, estimate.ci_high


def _scored_entry(scored: Scored) -> dict[str, Any]:
    return {
        "judge": scored.judge,
        "rubric": scored.rubric,
        "rubric_hash": scored.rubric_hash,
        "task": scored.task,
        "dimension": scored.dimension,
        "primary": scored.primary,
        "scale": list(scored.scale),
        "audit": scored.belief,
        "modes": {mode: estimate.to_dict() for mode, estimate in scored.by_mode.items()},
        "asked": dict(scored.asked),
        "missing": dict(scored.missing),
        "differences": [finding.to_dict() for finding in scored.findings],
    }


def _preferred_entry(preferred: Preferred) -> dict[str, Any]:
    found = preferred.found
    fair = preferred.equal_length
    entry = {
        "judge": preferred.judge,
        "rubric": preferred.rubric,
        "rubric_hash": preferred.rubric_hash,
        "task": preferred.task,
        "audit": preferred.belief,
        "mode_a": found.a,
        "mode_b": found.b,
        "win_rate_b": found.rate.to_dict(),
        "p": found.p,
        "p_adjusted": preferred.p_adjusted,
        "test": found.test or None,
        "shown_first": found.shown_first.to_dict(),
        "pairs": found.pairs,
        "missing": found.missing,
        "unasked": preferred.unasked,
        "ties": found.ties,
        "flips": found.flips,
        "half_decided": found.half_decided,
        "win_rate_b_at_equal_length": fair.strengths.win_rates[found.b].to_dict(),
        "length_effect": fair.length_effect.to_dict(),
        "note": fair.strengths.note or None,
    }
    return {name: defined(value) for name, value in entry.items()}


def _ranked_entry(ranked: Ranked) -> dict[str, Any]:
    return {
        "judge": ranked.judge,
        "rubric": ranked.rubric,
        "rubric_hash": ranked.rubric_hash,
        "task": ranked.task,
        "audit": ranked.belief,
        "log_odds": {m: e.to_dict() for m, e in ranked.raw.log_odds.items()},
        "log_odds_at_equal_length": {
            m: e.to_dict() for m, e in ranked.equal_length.strengths.log_odds.items()
        },
        "method": ranked.raw.method,
        "note": ranked.raw.note or ranked.equal_length.strengths.note or None,
    }
