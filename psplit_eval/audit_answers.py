"""What a judge said to the probes of its audit, and means of it, with prompts as units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from psplit_eval.goldset import GoldPair
from psplit_eval.probes import ORDERS, PARTS, Probe, Probes
from psplit_eval.replies import FIRST, Verdict
from psplit_eval.stats import Estimate, mean_estimate

__all__ = ["Answers", "bare", "known_mean", "known_share", "mean_by_prompt", "winner"]

_ENOUGH = 0.98
"""Share of a part's questions that have to be answered, else its measures are not taken."""


@dataclass(frozen=True)
class Answers:
    """What a judge said to `probes`.

    `verdicts`: None where none could be read. What is not there was not answered (yet). `absent`:
    parts that a recorded judge was never asked.
    """

    probes: Probes
    verdicts: Mapping[Probe, Verdict | None]
    absent: frozenset[str] = frozenset()

    @cached_property
    def asked(self) -> dict[str, list[Probe]]:
        """Part → its probes."""
        found: dict[str, list[Probe]] = {part: [] for part in PARTS}
        for probe in self.probes:
            found[probe.part].append(probe)
        return found

    def counts(self) -> dict[str, dict[str, Any]]:
        """Part → questions, answers and verdicts."""
        return {
            part: {
                "questions": len(probes),
                "answered": sum(probe in self.verdicts for probe in probes),
                "verdicts": sum(self.verdicts.get(probe) is not None for probe in probes),
                "recorded": part not in self.absent,
            }
            for part, probes in self.asked.items()
        }

    def known(self, part: str) -> bool:
        """Whether a part was asked."""
        return bool(self.asked[part]) and part not in self.absent

    def lacking(self, part: str) -> str:
        """Why too little is known of a part; '' if enough is."""
        probes = self.asked[part]
        if not probes:
            return "not asked"
        if part in self.absent:
            return "not recorded"
        there = sum(probe in self.verdicts for probe in probes)
        if there < _ENOUGH * len(probes):
            return f"{len(probes) - there} of {len(probes)} questions have no answer yet"
        return ""

    def score(self, probe: Probe) -> float:
        """Mean over dimensions as a share of the scale, in [0, 1]; NaN without a verdict."""
        verdict = self.verdicts.get(probe)
        if verdict is None:
            return math.nan
        rubric = self.probes.rubric
        mean = math.fsum(verdict.values()) / len(verdict)
        return (mean - rubric.low) / (rubric.high - rubric.low)

    def share(self, probe: Probe) -> float:
        """Of the better text in a comparison, in [0, 1]; NaN without a verdict."""
        verdict = self.verdicts.get(probe)
        if verdict is None:
            return math.nan
        first = float(verdict[FIRST])
        return first if probe.order == ORDERS[0] else 1 - first

    def shares(self, pair: GoldPair) -> tuple[float, float]:
        """Of the better text in both orders."""
        one, other = (self.share(Probe("choice", pair.id, order)) for order in ORDERS)
        return one, other

    def scores(self, pair: GoldPair) -> tuple[float, float]:
        """Of the better and of the worse text."""
        better, worse = (self.score(Probe("scores", one)) for one in self.probes.text_ids(pair))
        return better, worse

    def readable(self, *parts: str) -> Estimate:
        """Share of answers with a verdict, over the parts that were asked."""
        probes = [p for part in parts if part not in self.absent for p in self.asked[part]]
        known = [probe for probe in probes if probe in self.verdicts]
        return known_share([float(self.verdicts[probe] is not None) for probe in known])


def winner(margin: float) -> float:
    """1 above 0, 0.5 at 0 (but for rounding), 0 below it; NaN stays NaN."""
    return margin if math.isnan(margin) else (1 + float(np.sign(round(margin, 12)))) / 2


def bare(value: float, n: int) -> Estimate:
    """A number without an interval."""
    return Estimate(value, math.nan, math.nan, n)


def known_share(values: Sequence[float]) -> Estimate:
    """Mean of fractions that are not NaN, with its interval."""
    return mean_estimate([value for value in values if not math.isnan(value)], fraction=True)


def known_mean(values: Sequence[float]) -> Estimate:
    """Mean of what is not NaN, with its interval."""
    return mean_estimate([value for value in values if not math.isnan(value)])


def mean_by_prompt(pairs: Sequence[GoldPair], values: Sequence[float]) -> Estimate:
    """Mean over prompts of fractions, one a pair; pairs whose value is NaN are left out."""
    of: dict[str, list[float]] = {}
    for pair, value in zip(pairs, values, strict=True):
        if not math.isnan(value):
            of.setdefault(pair.prompt, []).append(value)
    return known_share([math.fsum(some) / len(some) for some in of.values()])
