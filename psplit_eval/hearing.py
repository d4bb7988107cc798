"""What judges said of a run, read from its store and ledger.

Docs are clusters, and modes are paired by doc. A verdict that is missing is counted and left out,
never guessed; so is one that was not asked for yet.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, groupby
from statistics import fmean
from typing import Any, NamedTuple

from psplit_eval.arms import MAX_MISSING
from psplit_eval.calibrating import calibrate
from psplit_eval.cards import NOT_USABLE
from psplit_eval.findings import Finding, adjusted
from psplit_eval.judged import FROM_BEST, PANEL, Belief, JudgedRun, Preferred, Ranked, Scored
from psplit_eval.labels import Labels
from psplit_eval.ledger import Call, Cell, Judgement, Ledger
from psplit_eval.preferences import Ballot, WinRate, at_equal_length, strengths, win_rate
from psplit_eval.reliability import krippendorff_alpha
from psplit_eval.replies import FIRST
from psplit_eval.stats import Estimate, mean_estimate, paired_mean_difference
from psplit_eval.store import Store

__all__ = ["read_judged"]

_POINTS = "points"

Key = tuple[int, str, int]
"""(doc_id, mode, sample_idx)."""
Scores = Mapping[Key, Mapping[str, float] | None]
"""Sample → dimension → score; None: the verdict is missing."""


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
    names = _labels(ledger.rubrics())
    return _corrected(JudgedRun(scored, preferred, ranked, agreement, calibrated, names))


def _labels(rubrics: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Rubric hash → its name, with version and hash where another one is called so, too."""
    names = Counter(str(rubric["name"]) for rubric in rubrics.values())
    return {
        rubric_hash: f"{rubric['name']} v{rubric['version']} ({rubric_hash[:6]})"
        if names[str(rubric["name"])] > 1
        else str(rubric["name"])
        for rubric_hash, rubric in rubrics.items()
    }


def _panel(row: tuple[str, str, str, str]) -> tuple[str, str, str]:
    return row[1], row[2], row[3]


class _Cell(NamedTuple):
    """What scores are of. `planned`: samples of every mode that there are to judge."""

    judge: str
    rubric_hash: str
    task: str
    belief: str
    planned: Mapping[str, int]


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

    def _beliefs_of(self, judges: Iterable[str], rubric_hash: str, kind: str) -> dict[str, str]:
        """Of every judge, and of the panel, which is as good as its worst member."""
        known = [judge for judge in judges if judge != PANEL]
        found = {judge: self._belief(judge, rubric_hash, kind) for judge in known}
        panel = self._trusted(known, rubric_hash, kind)
        if panel:
            found[PANEL] = max((found[judge] for judge in panel), key=FROM_BEST.index)
        return found

    def _counts(self, judge: str, rubric_hash: str, kind: str) -> bool:
        belief = self._beliefs.get((judge, rubric_hash), Belief())
        creative = bool(self._rubrics[rubric_hash].get("creative"))
        return creative and judge != PANEL and belief.counts(kind)

    def _planned(self, judge: str, judges: Iterable[str], rubric_hash: str) -> dict[Cell, int]:
        """How many questions there are for a judge; for the panel, the most of any judge."""
        found: dict[Cell, int] = {}
        for one in judges if judge == PANEL else [judge]:
            for cell, number in self._ledger.planned(one, rubric_hash).items():
                found[cell] = max(number, found.get(cell, 0))
        return found

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
        panel = self._trusted(judges, rubric_hash, "scores")
        beliefs = self._beliefs_of(judges, rubric_hash, "scores")
        if panel:
            by_judge[PANEL] = _together([by_judge[judge] for judge in panel], names)
        found = []
        for judge, scores in by_judge.items():
            planned = self._planned(judge, panel, rubric_hash)
            of_modes = {mode: planned.get(("scores", task, mode, ""), 0) for mode in self._modes}
            cell = _Cell(judge, rubric_hash, task, beliefs[judge], of_modes)
            found += [self._scored(cell, name, scores) for name in names]
        alphas = {
            (rubric_hash, task, name): _alpha([by_judge[judge] for judge in judges], name)
            for name in (names if len(judges) > 1 else ())
        }
        return found, alphas

    def _read_scores(self, judge: str, rubric_hash: str, task: str) -> dict[Key, Any]:
        rows = self._ledger.judged(judge, rubric_hash, "scores", task)
        return {(j.doc_id, j.mode, j.sample_idx): call.verdict for j, call in rows}

    def _scored(self, cell: _Cell, name: str, scores: Scores) -> Scored:
        rubric = self._rubrics[cell.rubric_hash]
        there = Counter(key[1] for key in scores)
        read = Counter(key[1] for key, verdict in scores.items() if verdict is not None)
        every = {mode: max(cell.planned[mode], there[mode]) for mode in self._modes}
        asked = {mode: number for mode, number in every.items() if number}
        missing = {mode: number - read[mode] for mode, number in asked.items()}
        withheld = self._withheld(sum(missing.values()), sum(asked.values()))
        docs = {mode: _doc_means(scores, mode, name) for mode in asked}
        estimates = {mode: mean_estimate(list(docs[mode].values())) for mode in asked if docs[mode]}
        measure = f"{cell.judge} {rubric['name']} {name}"
        return Scored(
            judge=cell.judge,
            rubric=str(rubric["name"]),
            rubric_hash=cell.rubric_hash,
            task=cell.task,
            dimension=name,
            primary=name == rubric["primary"],
            scale=(rubric["scale"]["low"], rubric["scale"]["high"]),
            belief=cell.belief,
            by_mode={mode: _bare(e) if withheld else e for mode, e in estimates.items()},
            missing=missing,
            asked=asked,
            findings=[
                _difference(cell.task, a, b, measure, docs, withheld)
                for a, b in _against_first(list(asked))
                if docs[a].keys() & docs[b].keys()
            ],
            counts=self._counts(cell.judge, cell.rubric_hash, "scores"),
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
        beliefs = self._beliefs_of(by_judge, rubric_hash, "choice")
        for judge, ballots in by_judge.items():
            planned = self._planned(judge, set(by_judge) - {PANEL}, rubric_hash)
            for a, b in combinations(self._compared(ballots), 2):
                between = [ballot for ballot in ballots if {ballot.a, ballot.b} == {a, b}]
                if not between:
                    continue
                found, fair = win_rate(between, a, b), at_equal_length(between, a)
                unasked = max(0, planned.get(("choice", task, a, b), 0) - found.pairs)
                withheld = self._withheld(found.missing + unasked, found.pairs + unasked)
                yield Preferred(
                    judge=judge,
                    rubric=name,
                    rubric_hash=rubric_hash,
                    task=task,
                    belief=beliefs[judge],
                    found=_untested(found) if withheld else found,
                    equal_length=fair,
                    unasked=unasked,
                    withheld=withheld,
                    counts=self._counts(judge, rubric_hash, "choice"),
                )

    def ranks(
        self, by_judge: Mapping[str, Sequence[Ballot]], rubric_hash: str, task: str
    ) -> Iterator[Ranked]:
        """Strengths of three modes or more by every judge."""
        name = str(self._rubrics[rubric_hash]["name"])
        beliefs = self._beliefs_of(by_judge, rubric_hash, "choice")
        for judge, ballots in by_judge.items():
            modes = self._compared(ballots)
            if len(modes) > 2:
                raw, fair = strengths(ballots, modes[0]), at_equal_length(ballots, modes[0])
                yield Ranked(judge, name, rubric_hash, task, beliefs[judge], raw, fair)

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
