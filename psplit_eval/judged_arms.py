"""A judge's scores of two runs as arms, so that they are compared as any other metric is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

from psplit_eval.arms import Arm
from psplit_eval.beliefs import AUDITS, beliefs, fitting_cards
from psplit_eval.errors import RunMismatchError, UnknownNameError, UsageError
from psplit_eval.gate_rules import Rule
from psplit_eval.judged import Belief
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.paired_runs import StoredRun
from psplit_eval.scoring import AccuracyScorer

__all__ = ["judged_runs"]

_FIX = "psplit-eval judge RUN"


def judged_runs(a: StoredRun, b: StoredRun, rule: Rule) -> tuple[StoredRun, StoredRun]:
    """Both runs with arms that have the rule's dimension as their metric, a fraction of the scale.

    Samples without a verdict are missing. Raises UsageError where a judge was not asked, did not
    pass its audit for scores, or is known to obey the texts, and RunMismatchError where it was
    asked otherwise in the other run.
    """
    read = [_Judged(run, rule) for run in (a, b)]
    if read[0].asked_as != read[1].asked_as:
        raise RunMismatchError(
            f"rule {rule.name!r}: {rule.judge} was not asked alike in {str(a.folder)!r} and "
            f"{str(b.folder)!r} (its settings or the rubric differ); judge both by one command"
        )
    one, other = (replace(each.run, arms=list(each.arms())) for each in read)
    return one, other


class _Judged:
    """What one judge said of a run, by the rule's rubric."""

    def __init__(self, run: StoredRun, rule: Rule) -> None:
        self.run, self._rule = run, rule
        if not (run.folder / LEDGER).exists():
            raise UsageError(f"rule {rule.name!r}: {str(run.folder)!r} was not judged; {_FIX}")
        with Ledger(run.folder / LEDGER) as ledger:
            judges, rubrics = ledger.judges(), ledger.rubrics()
            if rule.judge not in judges:
                raise UnknownNameError(f"judge of {str(run.folder)!r}", rule.judge, judges)
            self._hash = self._newest(ledger)
            self._rubric = rubrics[self._hash]
            cards = fitting_cards(run.folder / AUDITS, ledger).values()
            self._check(beliefs(cards).get((rule.judge, self._hash), Belief()))
            self._planned = ledger.planned(rule.judge, self._hash)
            self._scores = dict(self._read(ledger))
            self.asked_as = (judges[rule.judge], self._hash)

    def _newest(self, ledger: Ledger) -> str:
        """The rubric of the rule's name that the judge scored by; the last one that was met."""
        scored = {
            h
            for judge, h, kind, _ in ledger.panels()
            if (judge, kind) == (self._rule.judge, "scores")
        }
        named = [h for h, rubric in ledger.rubrics().items() if rubric["name"] == self._rule.rubric]
        found = [rubric_hash for rubric_hash in named if rubric_hash in scored]
        if not found:
            known = {str(ledger.rubrics()[h]["name"]) for h in scored}
            where = f"rubric that {self._rule.judge} scored {str(self.run.folder)!r} by"
            raise UnknownNameError(where, self._rule.rubric, known)
        return found[-1]

    def _check(self, belief: Belief) -> None:
        if self._rule.dimension not in self._rubric["dimensions"]:
            known = self._rubric["dimensions"]
            raise UnknownNameError(f"dimension of {self._rule.rubric}", self._rule.dimension, known)
        if not belief.counts("scores"):
            raise UsageError(
                f"rule {self._rule.name!r}: the audit of {self._rule.judge} says {belief.scores!r} "
                f"of scores and {belief.hostile!r} of hostile text, expected 'usable'; psplit-eval "
                f"audit --judge {self._rule.judge} --rubric {self._rule.rubric}, or another judge"
            )

    def _read(self, ledger: Ledger) -> Iterator[tuple[tuple[str, str], dict[int, list[float]]]]:
        """(task, mode) → doc → scores as fractions of the scale."""
        low, high = (float(self._rubric["scale"][end]) for end in ("low", "high"))
        tasks = {cell[1] for cell in self._planned if cell[0] == "scores"}
        for task in tasks:
            found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
            for judgement, call in ledger.judged(self._rule.judge, self._hash, "scores", task):
                if call.verdict is not None:
                    score = float(call.verdict[self._rule.dimension])
                    found[judgement.mode][judgement.doc_id].append((score - low) / (high - low))
            for mode, docs in found.items():
                yield (task, mode), docs

    def arms(self) -> Iterator[Arm]:
        """An arm for every task and mode that was judged."""
        name = f"{self._rule.judge} {self._rule.dimension}"
        for arm in self.run.arms:
            docs = self._scores.get((arm.task, arm.mode))
            if docs is None:
                continue
            asked = self._planned.get(("scores", arm.task, arm.mode, ""), 0)
            there = sum(map(len, docs.values()))
            yield replace(
                arm,
                scorer=_Scale(name),
                values={name: {doc: fmean(scores) for doc, scores in docs.items()}},
                noise={},
                bits={},
                tokens={},
                planned=max(asked, there),
                missing=max(asked, there) - there,
                good={doc: len(scores) for doc, scores in docs.items()},
                docs=frozenset(docs),
            )


class _Scale(AccuracyScorer):
    """Of scores that are fractions of a scale; the metric is called after the judge."""

    def __init__(self, name: str) -> None:
        super().__init__()
        object.__setattr__(self, "primary", name)
