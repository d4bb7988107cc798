"""Claims about a difference against a stated margin, each with three answers.

'Not significantly worse' is not 'not worse': a claim is true where the data rule out its opposite,
false where they rule out the claim, and otherwise open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

from psplit_eval.stats import Difference, Spread

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
    family, where there is one."""

    claim: Claim
    margin: float
    alpha: float
    verdict: Verdict
    p: float
    boundary: float
    p_adjusted: float = math.nan


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
    Raises ValueError for a negative margin, or one of 0 for a claim that needs room.
    """
    if margin < 0 or (margin == 0 and claim is not Claim.SUPERIOR):
        raise ValueError(f"margin {margin}: expected more than 0 for {claim.value}")
    spread = found.spread if higher_is_better else _mirrored(found.spread)
    boundary = margin if claim is Claim.SUPERIOR else -margin
    if claim is Claim.EQUIVALENT:
        boundary = math.copysign(margin, spread.centre)
        p = max(spread.p_below(-margin), spread.p_above(margin))
        against = 2 * min(spread.p_above(-margin), spread.p_below(margin))  # either would do
    else:
        p, against = spread.p_below(boundary), spread.p_above(boundary)
    verdict = Verdict.YES if p < alpha else Verdict.NO if against < alpha else Verdict.INCONCLUSIVE
    return Decision(claim, margin, alpha, verdict, p, boundary if higher_is_better else -boundary)


def _mirrored(spread: Spread) -> Spread:
    low, high = spread.reach
    return replace(spread, centre=-spread.centre, reach=(high, low))
