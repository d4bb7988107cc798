"""Words beside a picture: numbers as people read them, and lists of them that end in time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from psplit_eval.stats import Estimate

__all__ = ["ALT_LETTERS", "INTERVALS", "listed", "number_text", "share_text"]

ALT_LETTERS = 600
"""So long a text in the place of a picture may be; people hear it read aloud."""
INTERVALS = (
    "Bars are 95 % intervals over docs; a point without a bar has none, for want of docs or of "
    "samples."
)


def share_text(estimate: Estimate) -> str:
    """A fraction as '43.8 % [34.7, 53.2]'; without brackets where it has no interval."""
    if math.isnan(estimate.value):
        return "undefined"
    low, high = 100 * estimate.ci_low, 100 * estimate.ci_high
    limits = "" if math.isnan(low + high) else f" [{low:.1f}, {high:.1f}]"
    return f"{100 * estimate.value:.1f} %{limits}"


def number_text(estimate: Estimate, unit: str = "", places: int = 2) -> str:
    """A number as '2.50 [2.41, 2.60] bits'; without brackets where it has no interval."""
    if math.isnan(estimate.value):
        return "undefined"
    low, high = estimate.ci_low, estimate.ci_high
    limits = "" if math.isnan(low + high) else f" [{low:.{places}f}, {high:.{places}f}]"
    return f"{estimate.value:.{places}f}{limits}{' ' if unit else ''}{unit}"


def listed(start: str, parts: Iterable[str], letters: int = ALT_LETTERS) -> str:
    """`start`, then as many parts as fit, and how many are left; at least one part is there."""
    every = list(parts)
    for shown in range(len(every), 0, -1):
        left = len(every) - shown
        end = f"; {left} more: see the table of its numbers." if left else "."
        text = f"{start} {'; '.join(every[:shown])}{end}"
        if len(text) <= letters or shown == 1:
            return text
    return start
