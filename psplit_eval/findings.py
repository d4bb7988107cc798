"""What is found about the behaviour of two modes: a number, its interval, perhaps a test."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from psplit_eval.files import defined
from psplit_eval.stats import MINIMUM_DOCS, Difference, Estimate, benjamini_hochberg

__all__ = ["FAMILY", "Finding", "adjusted"]

FAMILY = "behaviour"
"""The family of all tests on how two modes behave: exploratory, Benjamini–Hochberg-corrected."""


@dataclass(frozen=True)
class Finding:
    """One measure of mode b beside mode a on one task.

    `estimate` has the interval over docs. `p` is two-sided unless `test` says otherwise (NaN: not
    tested), `p_adjusted` is p in its family. `note` says what a reader must know, such as that the
    number is an estimate.
    """

    task: str
    mode_a: str
    mode_b: str
    measure: str
    unit: str
    estimate: Estimate
    p: float = math.nan
    test: str = ""
    note: str = ""
    p_adjusted: float = math.nan

    @classmethod
    def of_difference(
        cls,
        task: str,
        mode_a: str,
        mode_b: str,
        measure: str,
        unit: str,
        found: Difference,
        note: str = "",
    ) -> Self:
        """b − a over paired docs; without a test below MINIMUM_DOCS.

        `note`: without one, the values of both modes.
        """
        estimate = Estimate(found.difference, found.ci_low, found.ci_high, found.n)
        values = f"{mode_a} {found.value_a:.4g}, {mode_b} {found.value_b:.4g}"
        test = found.test if found.n >= MINIMUM_DOCS else ""
        said = note or values
        return cls(task, mode_a, mode_b, measure, unit, estimate, found.p, test, said)

    def to_dict(self) -> dict[str, Any]:
        """An entry of divergence.json; undefined numbers are null."""
        entry = {
            "task": self.task,
            "mode_a": self.mode_a,
            "mode_b": self.mode_b,
            "measure": self.measure,
            "unit": self.unit,
            "value": self.estimate.value,
            "ci_low": self.estimate.ci_low,
            "ci_high": self.estimate.ci_high,
            "n_docs": self.estimate.n,
            "test": self.test or None,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "note": self.note or None,
        }
        return {name: defined(value) for name, value in entry.items()}


def adjusted(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with p adjusted over all that are tested."""
    every = list(findings)
    tested = [finding for finding in every if finding.test]
    corrected = iter(benjamini_hochberg([finding.p for finding in tested]))
    return [replace(f, p_adjusted=next(corrected)) if f.test else f for f in every]
