"""Claims about a difference against a stated margin, each with three answers.

'Not significantly worse' is not 'not worse': a claim is true where the data rule out its opposite,
false where they rule out the claim, and otherwise open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from psplit_eval.stats import Difference

__all__ = ["Claim", "Decision", "Verdict", "decide"]


class Claim(Enum):
    """What is claimed of b against a, m being the margin and 'better' the metric's direction."""

    SUPERIOR = "superior"
    """Better by more than m (by default 0)."""
    NON_INFERIOR = "non-inferior"
    """Not worse by m or more."""
    EQUIVALENT = "equivalent"
    """Neither better nor worse by m or more: two one-sided tests (TOST, Schuirmann 1987)."""


class Verdict(Enum):
    """Whether a claim holds."""

    YES = "yes"
    NO = "no"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Decision:
    """`p`: of the claim's opposite, one-sided (NaN where nothing is known); `boundary`: the
    difference b − a that the data are nearest to and have to be told from. `p_adjusted`: p in its
    family, where there is one. `p_against`: of the claim itself; a 'no' rests on it and on
    `p_against_adjusted`."""

    claim: Claim
    margin: float
    alpha: float
    verdict: Verdict
    p: float
    boundary: float
    p_adjusted: float = math.nan
    p_against: float = math.nan
    p_against_adjusted: float = math.nan

    def boundaries(self, found: Difference) -> list[float]:
        """What the difference has to be told from: of equivalence both margins, if it lies
        between."""
        if self.claim is Claim.EQUIVALENT and abs(found.difference) < self.margin:
            return [-self.margin, self.margin]
        return [self.boundary]


def decide(
    found: Difference,
    claim: Claim,
    margin: float = 0.0,
    higher_is_better: bool = True,
    alpha: float = 0.05,
) -> Decision:
    """Decide a claim at level α, each one-sided; `margin` ≥ 0 in the metric's unit.

    The chance to say 'yes' where the claim is false is α at most, and so is that of a false 'no',
    if means over docs are normal; docs/error_rates.md says what few, skewed docs make of it.
    Raises ValueError for a margin that is negative or not finite, or 0 for a claim that needs room,
    and for an alpha outside (0, 1).
    """
    if not 0 <= margin < math.inf or (margin == 0 and claim is not Claim.SUPERIOR):
        raise ValueError(f"margin {margin}: expected a finite one, above 0 for {claim.value}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha}: expected more than 0 and less than 1")
    spread = found.spread if higher_is_better else found.spread.mirrored()
    boundary = margin if claim is Claim.SUPERIOR else -margin
    if claim is Claim.EQUIVALENT:
        boundary = math.copysign(margin, spread.centre)
        p = max(spread.p_below(-margin), spread.p_above(margin))
        against = 2 * min(spread.p_above(-margin), spread.p_below(margin))  # either would do
    else:
        p, against = spread.p_below(boundary), spread.p_above(boundary)
    verdict = Verdict.YES if p < alpha else Verdict.NO if against < alpha else Verdict.INCONCLUSIVE
    boundary = boundary if higher_is_better else -boundary
    against = min(1.0, against) if against == against else math.nan
    return Decision(claim, margin, alpha, verdict, p, boundary, p_against=against)
