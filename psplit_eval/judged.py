"""What judges said of a run, as numbers: scores by mode, preferences between modes, the panel.

From the run's store and ledger alone. Docs are clusters, and modes are paired by doc. A verdict
that is missing is counted and left out, never guessed. What a judge says is shown beside what its
audit says of the judge.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby
from statistics import fmean
from typing import Any, NamedTuple

from psplit_eval.arms import MAX_MISSING
from psplit_eval.calibrating import Calibrated, calibrate
from psplit_eval.cards import NOT_USABLE, USABLE
from psplit_eval.files import defined
from psplit_eval.findings import Finding, adjusted
from psplit_eval.labels import Labels
from psplit_eval.ledger import Call, Judgement, Ledger
from psplit_eval.preferences import (
    AtEqualLength,
    Ballot,
    Strengths,
    WinRate,
    at_equal_length,
    strengths,
    win_rate,
)
from psplit_eval.reliability import krippendorff_alpha
from psplit_eval.replies import FIRST
from psplit_eval.stats import Estimate, holm, mean_estimate, paired_mean_difference
from psplit_eval.store import Store

__all__ = [
    "FAMILY",
    "PANEL",
    "Belief",
    "JudgedRun",
    "Preferred",
    "Ranked",
    "Said",
    "Scored",
    "read_judged",
]

FAMILY = "judges"
"""The family of all tests on what judges say: exploratory, Benjamini–Hochberg-corrected."""
PANEL = "panel"
"""Stands for all judges together that have not failed their audit."""
_ALPHA = 0.05
_POINTS = "points"

Key = tuple[int, str, int]
"""(doc_id, mode, sample_idx)."""
Scores = Mapping[Key, Mapping[str, float] | None]
"""Sample → dimension → score; None: the verdict is missing."""


class Belief(NamedTuple):
    """What a judge's audit says of it by one rubric, for scores and for choices.

    Each is a level of `cards`, or 'not audited'.
    """

    scores: str = "not audited"
    choice: str = "not audited"

    def of(self, kind: str) -> str:
        """For one kind of question."""
        return self.scores if kind == "scores" else self.choice


@dataclass(frozen=True)
class Scored:
    """Scores of one judge, or of the panel, on one dimension of one task.

    `by_mode`: mean over docs of docs' mean scores, in points of the scale, with intervals over
    docs. `missing`: by mode, samples whose verdict is missing, of `asked`. `findings`: every mode
    against the first one, paired by doc; without tests where over 1 % of verdicts is missing.
    """

    judge: str
    rubric: str
    task: str
    dimension: str
    primary: bool
    scale: tuple[int, int]
    belief: str
    by_mode: Mapping[str, Estimate]
    missing: Mapping[str, int]
    asked: Mapping[str, int]
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Preferred:
    """How often one judge, or the panel, prefers mode b to mode a on a task.

    `equal_length`: the same if texts were equally long. `p_adjusted` in the family.
    """

    judge: str
    rubric: str
    task: str
    belief: str
    found: WinRate
    equal_length: AtEqualLength
    withheld: bool = False
    p_adjusted: float = math.nan


@dataclass(frozen=True)
class Ranked:
    """Bradley–Terry strengths of three modes or more, by one judge or the panel, raw and at equal
    length."""

    judge: str
    rubric: str
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
    """All that judges said. `agreement`: (rubric, task, dimension) → Krippendorff's α of several
    judges' scores of the same samples. `calibrated`: judges' scores with people's labels."""

    scored: Sequence[Scored] = ()
    preferred: Sequence[Preferred] = ()
    ranked: Sequence[Ranked] = ()
    agreement: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    calibrated: Sequence[Calibrated] = ()

    @property
    def judges(self) -> list[str]:
        """Of all kinds of questions, without the panel."""
        every = dict.fromkeys([*(s.judge for s in self.scored), *(p.judge for p in self.preferred)])
        return [name for name in every if name != PANEL]

    def said(self) -> list[Said]:
        """What judges say that their audit calls usable, one statement a judge, task and pair of
        modes: of the rubric's primary dimension, and of preferences. What labels have calibrated is
        unbiased whatever the judge is worth, so it is heard, in the place of the judge alone."""
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
        """Those that a test stands behind, on dimensions that decide."""
        for one in self.calibrated:
            yield from ((one, finding) for finding in one.findings if one.primary and finding.test)

    def _score_claims(self) -> Iterator[tuple[float, Said]]:
        replaced = {
            (one.judge, one.rubric, finding.task, finding.mode_a, finding.mode_b)
            for one, finding in self._calibrated_findings()
        }
        usable = [s for s in self.scored if s.belief == USABLE and s.judge != PANEL and s.primary]
        for scored in usable:
            for finding in scored.findings:
                of = (finding.task, finding.mode_a, finding.mode_b)
                if (scored.judge, scored.rubric, *of) not in replaced:
                    yield _claim(f"{scored.judge} {scored.dimension}", finding)

    def _choice_claims(self) -> Iterator[tuple[float, Said]]:
        for one in self.preferred:
            if one.belief != USABLE or one.judge == PANEL or one.withheld:
                continue
            rate = one.found.rate
            value, low, high = _limits(rate)
            text = f"{one.judge} prefers {one.found.b} in {value:.0%} [{low:.0%}, {high:.0%}]"
            direction = (value > 0.5) - (value < 0.5)
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
                {"rubric": rubric, "task": task, "dimension": name, **alpha.to_dict()}
                for (rubric, task, name), alpha in self.agreement.items()
            ],
        }


def read_judged(
    store: Store,
    ledger: Ledger,
    modes: Sequence[str],
    beliefs: Mapping[tuple[str, str], Belief],
    allow_missing: bool = False,
    labels: Labels | None = None,
) -> JudgedRun:
    """Everything that the ledger knows of the run's samples.

    `modes`: those of the run, the one to compare with first. `beliefs`: (judge, rubric hash) → what
    its audit says. `labels`: people's, which scores are calibrated with. A panel are two judges or
    more, by one rubric on one task, that have not failed.
    """
    reader = _Reader(store, ledger, modes, beliefs, allow_missing)
    scored, preferred, ranked = list[Scored](), list[Preferred](), list[Ranked]()
    agreement: dict[tuple[str, str, str], Estimate] = {}
    panels = groupby(sorted(ledger.panels(), key=_panel), key=_panel)
    for (rubric_hash, kind, task), of_panel in panels:
        judges = [row[0] for row in of_panel]
        if kind == "scores":
            found, alphas = reader.scores(judges, rubric_hash, task)
            scored += found
            agreement |= alphas
        else:
            ballots = reader.ballots(judges, rubric_hash, task)
            preferred += reader.choices(ballots, rubric_hash, task)
            ranked += reader.ranks(ballots, rubric_hash, task)
    calibrated = calibrate(ledger, labels or {}, modes, allow_missing)
    return _corrected(JudgedRun(scored, preferred, ranked, agreement, calibrated))


def _panel(row: tuple[str, str, str, str]) -> tuple[str, str, str]:
    return row[1], row[2], row[3]


class _Reader:
    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        modes: Sequence[str],
        beliefs: Mapping[tuple[str, str], Belief],
        allow_missing: bool,
    ) -> None:
        self._store, self._ledger, self._modes = store, ledger, modes
        self._beliefs, self._allow_missing = beliefs, allow_missing
        self._rubrics = ledger.rubrics()

    def _belief(self, judge: str, rubric_hash: str, kind: str) -> str:
        return self._beliefs.get((judge, rubric_hash), Belief()).of(kind)

    def _trusted(self, judges: Sequence[str], rubric_hash: str, kind: str) -> list[str]:
        """Those that are a panel: of judges that have not failed, if there are two."""
        good = [j for j in judges if self._belief(j, rubric_hash, kind) != NOT_USABLE]
        return good if len(good) > 1 else []

    def scores(
        self, judges: Sequence[str], rubric_hash: str, task: str
    ) -> tuple[list[Scored], dict[tuple[str, str, str], Estimate]]:
        rubric = self._rubrics[rubric_hash]
        by_judge = {judge: self._read_scores(judge, rubric_hash, task) for judge in judges}
        names = list(rubric["dimensions"])
        found = [
            self._scored(judge, rubric, rubric_hash, task, name, scores)
            for judge, scores in by_judge.items()
            for name in names
        ]
        panel = self._trusted(judges, rubric_hash, "scores")
        if panel:
            together = _together([by_judge[judge] for judge in panel], names)
            found += [
                self._scored(PANEL, rubric, rubric_hash, task, name, together) for name in names
            ]
        alphas = {
            (str(rubric["name"]), task, name): _alpha(list(by_judge.values()), name)
            for name in (names if len(judges) > 1 else ())
        }
        return found, alphas

    def _read_scores(self, judge: str, rubric_hash: str, task: str) -> dict[Key, Any]:
        rows = self._ledger.judged(judge, rubric_hash, "scores", task)
        return {(j.doc_id, j.mode, j.sample_idx): call.verdict for j, call in rows}

    def _scored(
        self,
        judge: str,
        rubric: Mapping[str, Any],
        rubric_hash: str,
        task: str,
        name: str,
        scores: Scores,
    ) -> Scored:
        modes = [mode for mode in self._modes if any(key[1] == mode for key in scores)]
        docs = {mode: _doc_means(scores, mode, name) for mode in modes}
        lacking = {
            mode: sum(k[1] == mode and v is None for k, v in scores.items()) for mode in modes
        }
        asked = {mode: sum(key[1] == mode for key in scores) for mode in modes}
        withheld = self._withheld(sum(lacking.values()), sum(asked.values()))
        estimates = {mode: mean_estimate(list(docs[mode].values())) for mode in modes if docs[mode]}
        measure = f"{judge} {rubric['name']} {name}"
        return Scored(
            judge=judge,
            rubric=str(rubric["name"]),
            task=task,
            dimension=name,
            primary=name == rubric["primary"],
            scale=(rubric["scale"]["low"], rubric["scale"]["high"]),
            belief="" if judge == PANEL else self._belief(judge, rubric_hash, "scores"),
            by_mode={mode: _bare(e) if withheld else e for mode, e in estimates.items()},
            missing=lacking,
            asked=asked,
            findings=[
                _difference(task, a, b, measure, docs, withheld)
                for a, b in _against_first(modes)
                if docs[a].keys() & docs[b].keys()
            ],
        )

    def _withheld(self, missing: int, asked: int) -> bool:
        return missing > MAX_MISSING * asked and not self._allow_missing

    def ballots(
        self, judges: Sequence[str], rubric_hash: str, task: str
    ) -> dict[str, list[Ballot]]:
        """Of every judge, and of the panel where there is one."""
        lengths = self._lengths(task)
        by_judge = {
            judge: list(_ballots(self._ledger.judged(judge, rubric_hash, "choice", task), lengths))
            for judge in judges
        }
        panel = self._trusted(judges, rubric_hash, "choice")
        if panel:
            by_judge[PANEL] = list(_common([by_judge[judge] for judge in panel]))
        return {judge: [ballot for _, ballot in keyed] for judge, keyed in by_judge.items()}

    def choices(
        self, by_judge: Mapping[str, Sequence[Ballot]], rubric_hash: str, task: str
    ) -> Iterator[Preferred]:
        """What every judge prefers, of every two modes."""
        name = str(self._rubrics[rubric_hash]["name"])
        for judge, ballots in by_judge.items():
            belief = "" if judge == PANEL else self._belief(judge, rubric_hash, "choice")
            for a, b in combinations(self._compared(ballots), 2):
                between = [ballot for ballot in ballots if {ballot.a, ballot.b} == {a, b}]
                if between:
                    found, fair = win_rate(between, a, b), at_equal_length(between, a)
                    withheld = self._withheld(found.missing, found.pairs)
                    found = _untested(found) if withheld else found
                    yield Preferred(judge, name, task, belief, found, fair, withheld)

    def ranks(
        self, by_judge: Mapping[str, Sequence[Ballot]], rubric_hash: str, task: str
    ) -> Iterator[Ranked]:
        """Strengths of three modes or more by every judge."""
        name = str(self._rubrics[rubric_hash]["name"])
        for judge, ballots in by_judge.items():
            belief = "" if judge == PANEL else self._belief(judge, rubric_hash, "choice")
            modes = self._compared(ballots)
            if len(modes) > 2:
                raw, fair = strengths(ballots, modes[0]), at_equal_length(ballots, modes[0])
                yield Ranked(judge, name, task, belief, raw, fair)

    def _compared(self, ballots: Iterable[Ballot]) -> list[str]:
        arms = {arm for ballot in ballots for arm in (ballot.a, ballot.b)}
        return [mode for mode in self._modes if mode in arms]

    def _lengths(self, task: str) -> dict[Key, int]:
        """Words of every sample."""
        samples = self._store.samples(task, ids=False)
        return {(s.doc_id, s.mode, s.sample_idx): len((s.text or "").split()) for s in samples}


def _doc_means(scores: Scores, mode: str, name: str) -> dict[int, float]:
    found: dict[int, list[float]] = defaultdict(list)
    for (doc, of_mode, _), verdict in scores.items():
        if of_mode == mode and verdict is not None:
            found[doc].append(verdict[name])
    return {doc: fmean(values) for doc, values in sorted(found.items())}


def _difference(
    task: str,
    a: str,
    b: str,
    measure: str,
    docs: Mapping[str, Mapping[int, float]],
    withheld: bool,
) -> Finding:
    both = sorted(docs[a].keys() & docs[b].keys())
    found = paired_mean_difference([docs[a][d] for d in both], [docs[b][d] for d in both])
    finding = Finding.of_difference(task, a, b, measure, _POINTS, found)
    if withheld:
        return replace(finding, estimate=_bare(finding.estimate), p=math.nan, test="")
    return finding


def _untested(found: WinRate) -> WinRate:
    return replace(found, rate=_bare(found.rate), p=math.nan, test="")


def _bare(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value, math.nan, math.nan, estimate.n)


def _against_first(modes: Sequence[str]) -> list[tuple[str, str]]:
    return [(modes[0], mode) for mode in modes[1:]]


def _together(by_judge: Sequence[Scores], names: Sequence[str]) -> dict[Key, Any]:
    """Mean score of all judges, of the samples that all were asked about; None if one lacks."""
    keys = set.intersection(*(set(scores) for scores in by_judge))
    found: dict[Key, Any] = {}
    for key in sorted(keys):
        verdicts = [scores[key] for scores in by_judge]
        known = [verdict for verdict in verdicts if verdict is not None]
        complete = len(known) == len(verdicts)
        found[key] = {name: fmean(v[name] for v in known) for name in names} if complete else None
    return found


def _alpha(by_judge: Sequence[Scores], name: str) -> Estimate:
    """Interval α of the judges' scores of samples, in clusters: docs."""
    keys = sorted({key for scores in by_judge for key in scores})
    ratings = [
        [verdict[name] if (verdict := scores.get(key)) else None for scores in by_judge]
        for key in keys
    ]
    return krippendorff_alpha(ratings, "interval", clusters=[doc for doc, _, _ in keys])


Pair = tuple[int, str, int, str, int]


def _ballots(
    rows: Iterable[tuple[Judgement, Call]], lengths: Mapping[Key, int]
) -> Iterator[tuple[Pair, Ballot]]:
    """Both orders of every pair as one ballot, by doc and samples."""
    shown: dict[Pair, dict[bool, float | None]] = defaultdict(dict)
    for judgement, call in rows:
        one = (judgement.mode, judgement.sample_idx)
        other = (judgement.other_mode, judgement.other_idx)
        straight = one < other
        pair = (judgement.doc_id, *(one + other if straight else other + one))
        share = call.verdict[FIRST] if call.verdict else None
        shown[pair][straight] = share if straight or share is None else 1 - share
    for pair, orders in sorted(shown.items()):
        doc, a, i, b, j = pair
        yield (
            pair,
            Ballot(
                doc,
                a,
                b,
                orders.get(True),
                orders.get(False),
                lengths.get((doc, a, i), 0),
                lengths.get((doc, b, j), 0),
            ),
        )


def _common(by_judge: Sequence[Sequence[tuple[Pair, Ballot]]]) -> Iterator[tuple[Pair, Ballot]]:
    """One ballot a pair that all judges have, of their mean verdicts; None where one lacks."""
    found = [dict(keyed) for keyed in by_judge]
    for pair in sorted(set.intersection(*map(set, found))):
        ballots = [of_judge[pair] for of_judge in found]
        orders = [
            None if None in values else fmean(value for value in values if value is not None)
            for values in ([b.first for b in ballots], [b.swapped for b in ballots])
        ]
        yield pair, replace(ballots[0], first=orders[0], swapped=orders[1])


def _corrected(run: JudgedRun) -> JudgedRun:
    """With p adjusted over all tests of the family."""
    tests = [finding for scored in run.scored for finding in scored.findings]
    tests += [finding for one in run.calibrated for finding in one.findings]
    choices = [
        Finding(p.task, p.found.a, p.found.b, p.judge, "", p.found.rate, p.found.p, p.found.test)
        for p in run.preferred
    ]
    done = iter(adjusted([*tests, *choices]))
    scored = [replace(s, findings=[next(done) for _ in s.findings]) for s in run.scored]
    calibrated = [replace(c, findings=[next(done) for _ in c.findings]) for c in run.calibrated]
    preferred = [replace(p, p_adjusted=next(done).p_adjusted) for p in run.preferred]
    return replace(run, scored=scored, preferred=preferred, calibrated=calibrated)


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
        "task": scored.task,
        "dimension": scored.dimension,
        "primary": scored.primary,
        "scale": list(scored.scale),
        "audit": scored.belief or None,
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
        "task": preferred.task,
        "audit": preferred.belief or None,
        "mode_a": found.a,
        "mode_b": found.b,
        "win_rate_b": found.rate.to_dict(),
        "p": found.p,
        "p_adjusted": preferred.p_adjusted,
        "test": found.test or None,
        "shown_first": found.shown_first.to_dict(),
        "pairs": found.pairs,
        "missing": found.missing,
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
        "task": ranked.task,
        "audit": ranked.belief or None,
        "log_odds": {m: e.to_dict() for m, e in ranked.raw.log_odds.items()},
        "log_odds_at_equal_length": {
            m: e.to_dict() for m, e in ranked.equal_length.strengths.log_odds.items()
        },
        "method": ranked.raw.method,
        "note": ranked.raw.note or ranked.equal_length.strengths.note or None,
    }
