"""Do two modes give the same answers? Agreement within and across modes, docs as units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from psplit_eval.accuracy import Grade, answer_classes
from psplit_eval.findings import Finding
from psplit_eval.stats import mean_estimate, paired_mean_difference

__all__ = ["Agreement", "agreement", "agreement_findings"]


@dataclass(frozen=True)
class Agreement:
    """Chances that two samples of one doc give the same answer, each in [0, 1].

    `within_a`, `within_b`: two different samples of one mode, NaN where it has fewer than two.
    `across`: one of each, NaN where a mode has none. Unbiased for any numbers of samples.
    """

    within_a: float
    within_b: float
    across: float

    @property
    def deficit(self) -> float:
        """How much less alike answers are across modes: mean of the two within − across.

        Its expectation is half the squared distance between the modes' answer distributions,
        ½ Σ (p − q)² over answers, in [0, 1]: 0 if both answer as one. Silence is no answer: it
        enters by the answers that lack. An estimate may be negative.
        """
        return (self.within_a + self.within_b) / 2 - self.across


def agreement(a: Sequence[Grade], b: Sequence[Grade]) -> Agreement:
    """Agreement of a doc's samples in two modes.

    Answers are the same as majority votes see it (`accuracy.answer_classes`): all right answers,
    and wrong ones that are equivalent. A sample without an answer agrees with nothing. Like
    `accuracy.equivalent`, from the main thread only.
    """
    classes = answer_classes([*a, *b])
    parts = classes[: len(a)], classes[len(a) :]
    left, right = (Counter(c for c in part if c is not None) for part in parts)
    pairs = sum(left[number] * right[number] for number in left)
    across = pairs / (len(a) * len(b)) if a and b else math.nan
    return Agreement(_within(left, len(a)), _within(right, len(b)), across)


def _within(counts: Counter[int], samples: int) -> float:
    if samples < 2:
        return math.nan
    return sum(count * (count - 1) for count in counts.values()) / (samples * (samples - 1))


def agreement_findings(
    task: str,
    mode_a: str,
    mode_b: str,
    docs: Sequence[tuple[Sequence[Grade], Sequence[Grade]]],
) -> list[Finding]:
    """Agreement within a, within b and across, and the deficit across; graded samples of a and b.

    All four over the docs with two samples or more in each mode, so that they can be set beside
    each other. NaN where there is none.
    """
    found = [agreement(a, b) for a, b in docs if min(len(a), len(b)) > 1]
    rows = np.array([(one.within_a, one.within_b, one.across) for one in found]).reshape(-1, 3)
    within_a, within_b, across = rows.T
    missing = "" if found else "undefined: needs a doc with two samples in each mode"
    finding = partial(Finding, task, mode_a, mode_b, unit="fraction", note=missing)
    columns = {"within_a": within_a, "within_b": within_b, "across": across}
    gap = paired_mean_difference(across, (within_a + within_b) / 2, fraction=True)
    note = missing or "0 if modes answer alike"
    return [
        *(
            finding(
                measure=f"answer_agreement_{name}", estimate=mean_estimate(values, fraction=True)
            )
            for name, values in columns.items()
        ),
        Finding.of_difference(
            task, mode_a, mode_b, "answer_agreement_deficit", "fraction", gap, note
        ),
    ]
