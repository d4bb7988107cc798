"""What a gate can find out at its size, before anyone trusts a green light.

How docs' differences vary comes from the two runs. Every check is looked at by itself, at the level
that Holm's correction leaves at worst.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psplit_eval.comparison import POWER
from psplit_eval.files import defined
from psplit_eval.gate import Check, Gate
from psplit_eval.gate_rules import Kind
from psplit_eval.power import detectable, docs_needed, power
from psplit_eval.protocol import Estimand
from psplit_eval.tables import Table

__all__ = ["Power", "explain", "power_table"]


@dataclass(frozen=True)
class Power:
    """What one check can tell; NaN where nothing is known of how docs differ.

    `level`: of one test. `noticed`: how far from the boundary (of an equality, outside) the truth
    must lie for a chance of POWER that the check is decided. Of rules with a margin `passes` is the
    chance that a candidate passes that truly equals the baseline, `stopped` that one fails that is
    worse by twice the margin, and `docs_for` the docs for `passes` to be POWER (None: no number
    will do, or nothing is known).
    """

    check: Check
    docs: int
    level: float
    noticed: float
    passes: float = math.nan
    stopped: float = math.nan
    docs_for: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """An entry of the JSON; undefined numbers are null."""
        check = self.check
        return {
            "rule": check.rule.name,
            "task": check.task,
            "mode": check.mode,
            "metric": check.metric,
            "unit": check.unit,
            "docs": self.docs,
            "level": self.level,
            "chance": POWER,
            "noticed": defined(self.noticed),
            "passes_if_equal": defined(self.passes),
            "stopped_if_worse_by_twice_the_margin": defined(self.stopped),
            "docs_for_passing_if_equal": self.docs_for,
        }


def explain(gate: Gate) -> list[Power]:
    """The power of every check, from the spread that its runs show."""
    level = gate.rules.alpha / max(1, len(gate.checks))
    given = gate.rules.estimand is Estimand.GIVEN
    return [_power(check, level, given) for check in gate.checks]


def _power(check: Check, level: float, given: bool) -> Power:
    docs, parts = (check.found.n if check.found else 0), check.parts
    variance = parts.variance(parts.samples, given) if parts else math.nan
    if math.isnan(variance):
        return Power(check, docs, level, math.nan)
    noticed = detectable(docs, variance, POWER, level, sides=1)
    margin = check.rule.margin
    if check.rule.kind not in (Kind.NON_INFERIOR, Kind.EQUAL):
        return Power(check, docs, level, noticed)
    one = power(margin, docs, variance, level, sides=1)
    both = check.rule.kind is Kind.EQUAL  # two tests have to hold, or one of two has to fail
    wanted = (1 + POWER) / 2 if both else POWER
    return Power(
        check,
        docs,
        level,
        noticed,
        passes=max(0.0, 2 * one - 1) if both else one,
        stopped=power(margin, docs, variance, level / 2 if both else level, sides=1),
        docs_for=docs_needed(margin, variance, wanted, level, sides=1),
    )


def power_table(powers: Sequence[Power]) -> Table:
    """For people."""
    level = powers[0].level if powers else math.nan
    return Table(
        "What these rules can tell at this size",
        "By how docs differ between these two runs; each check at level "
        f"{level:.3g}, one-sided, which is what Holm's correction leaves at worst. Noticed: how "
        f"far beyond the boundary the truth must lie to be decided with a chance of {POWER:.0%}. "
        "Passes: chance that a candidate passes that equals the baseline. Stopped: that one fails "
        f"that is worse by twice the margin. Docs: for a chance of {POWER:.0%} to pass if equal, "
        "at as many samples. Fractions are shown times 100.",
        ("rule", "task", "mode", "docs", "noticed", "passes", "stopped", "docs needed"),
        tuple(map(_row, powers)),
    )


def _row(power: Power) -> tuple[str, ...]:
    check = power.check
    scale, digits = (100, 1) if check.unit == "fraction" else (1, 3)
    known = not math.isnan(power.noticed)
    needed = "–" if power.docs_for is None else f"{power.docs_for:,}"
    return (
        *(check.rule.name, check.task, check.mode, str(power.docs)),
        f"{scale * power.noticed:.{digits}f}" if known else "not known",
        *("–" if math.isnan(x) else f"{x:.0%}" for x in (power.passes, power.stopped)),
        needed,
    )
