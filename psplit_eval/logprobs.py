"""Numbers from the log-probabilities that an engine gives of its most probable tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["entropy_estimate_bits"]


def entropy_estimate_bits(top_logprobs: Sequence[float]) -> float:
    """A lower bound of one position's entropy, in bits, from log-probabilities in nats.

    All tokens that are not listed count as one outcome with the mass that is left. Equal to the
    entropy where every token is listed; nan where none is.
    """
    if not top_logprobs:
        return math.nan
    listed = [math.exp(logprob) for logprob in top_logprobs]
    total = sum(listed)
    rest = 1.0 - total if total < 1.0 else 0.0  # above 1 by rounding: nothing is left
    bits = -sum(mass * math.log2(mass) for mass in (*listed, rest) if mass != 0.0)
    return 0.0 if bits < 0.0 else bits
