"""What pairwise verdicts of a judge say: win rates, position bias, strengths, at equal length.

A verdict is a share: 1 for one text, 0 for the other, 0.5 for a tie. Pairs are judged in both
orders, and a pair counts once both verdicts are there. Docs are a sample and clusters: of several
pairs of the same two arms in a doc the mean is taken, so many pairs never count as many docs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psplit_eval.errors import UnknownNameError
from psplit_eval.logistic import Shares
from psplit_eval.resampling import Array
from psplit_eval.stats import MINIMUM_DOCS, Estimate, mean_estimate, paired_mean_difference

__all__ = [
    "RESAMPLES",
    "AtEqualLength",
    "Ballot",
    "Strengths",
    "WinRate",
    "at_equal_length",
    "strengths",
    "win_rate",
]

RESAMPLES = 1000
"""Resamples of docs behind the intervals of strengths, unless told otherwise; their seed is 0."""

_TOLERANCE, _ITERATIONS = 1e-12, 10_000


@dataclass(frozen=True)
class Ballot:
    """Two texts of one doc, from the arms `a` and `b`, judged in both orders.

    `first`: the verdict when a's text was shown first, `swapped`: when b's was; both as a's share
    in [0, 1], None where there is no verdict. `length_a`, `length_b`: of the texts, in words or
    tokens (NaN: not known). Raises ValueError for a pair of one arm with itself, and numbers out of
    range.
    """

    doc: Hashable
    a: str
    b: str
    first: float | None
    swapped: float | None
    length_a: float = math.nan
    length_b: float = math.nan

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise ValueError(f"{self.a!r} against itself: expected two arms")
        for verdict in (self.first, self.swapped):
            if verdict is not None and not 0 <= verdict <= 1:
                raise ValueError(f"verdict {verdict}: expected a share in [0, 1], or None")
        if min(self.length_a, self.length_b) < 0:
            raise ValueError(f"lengths {self.length_a}, {self.length_b}: expected 0 or more")

    @property
    def share(self) -> float | None:
        """a's share, mean of both orders; None where a verdict is missing."""
        if self.first is None or self.swapped is None:
            return None
        return (self.first + self.swapped) / 2

    @property
    def shown_first(self) -> float | None:
        """Share of the text that was shown first, mean of both orders, in which each text is so
        once: 0.5 unless places count. None where a verdict is missing."""
        if self.first is None or self.swapped is None:
            return None
        return (self.first + 1 - self.swapped) / 2

    @property
    def tied(self) -> bool:
        """A tie in both orders."""
        return self.first == self.swapped == 0.5

    @property
    def flipped(self) -> bool:
        """Each order has a winner, and not the same."""
        return self._product() < 0

    @property
    def half_decided(self) -> bool:
        """A winner in one order, a tie in the other."""
        return self._product() == 0 and not self.tied

    def _product(self) -> float:
        if self.first is None or self.swapped is None:
            return math.nan
        return (self.first - 0.5) * (self.swapped - 0.5)

    def turned(self) -> Ballot:
        """The same ballot with a and b named the other way round."""
        first, swapped = (None if x is None else 1 - x for x in (self.swapped, self.first))
        lengths = {"length_a": self.length_b, "length_b": self.length_a}
        return replace(self, a=self.b, b=self.a, first=first, swapped=swapped, **lengths)


@dataclass(frozen=True)
class WinRate:
    """How often b's text is preferred to a's; ties count half.

    `rate`: mean over docs of b's share, with an interval (`stats.mean_estimate` of fractions); `p`:
    of 0.5, by `test`. `shown_first`: share of verdicts for the text shown first, 0.5 without
    position bias, from the same pairs. `pairs` were judged: in `missing` of them a verdict is not
    there, so they are in neither; `docs_missing` have no other pairs. Of the rest are `ties` in
    both orders, `flips` whose winner changes with the order, `half_decided` a tie in one order
    only. `rate.n`: docs.
    """

    a: str
    b: str
    rate: Estimate
    p: float
    test: str
    shown_first: Estimate
    pairs: int
    missing: int
    docs_missing: int
    ties: int
    flips: int
    half_decided: int


def win_rate(ballots: Iterable[Ballot], a: str, b: str) -> WinRate:
    """Win rate of arm b against arm a, by the ballots on these two, whichever is named first.

    p is that of a paired t-test of b's share against a's over docs; where they differ in fewer than
    FEW_DOCS docs it is the swap test's. Below MINIMUM_DOCS docs there is neither interval nor p,
    without docs the rate is NaN.
    """
    between = [ballot for one in ballots if (ballot := _turned(one, a, b)) is not None]
    complete = [ballot for ballot in between if ballot.share is not None]
    shares = 1 - _by_doc(complete, [ballot.share for ballot in complete])
    places = _by_doc(complete, [ballot.shown_first for ballot in complete])
    found = paired_mean_difference(1 - shares, shares, fraction=True)
    docs = {ballot.doc for ballot in between}
    return WinRate(
        a=a,
        b=b,
        rate=mean_estimate(shares, fraction=True),
        p=found.p,
        test=found.test if len(shares) >= MINIMUM_DOCS else "",
        shown_first=mean_estimate(places, fraction=True),
        pairs=len(between),
        missing=len(between) - len(complete),
        docs_missing=len(docs) - len(shares),
        ties=sum(ballot.tied for ballot in complete),
        flips=sum(ballot.flipped for ballot in complete),
        half_decided=sum(ballot.half_decided for ballot in complete),
    )


def _turned(ballot: Ballot, a: str, b: str) -> Ballot | None:
    """With `a` and `b` in these places; None of a pair of others."""
    if (ballot.a, ballot.b) == (a, b):
        return ballot
    return ballot.turned() if (ballot.a, ballot.b) == (b, a) else None


def _by_doc(ballots: Sequence[Ballot], values: Sequence[float | None]) -> Array:
    """Means of docs, in an order that does not depend on that of the docs."""
    of: dict[Hashable, list[Any]] = {}
    for ballot, value in zip(ballots, values, strict=True):
        of.setdefault(ballot.doc, []).append(value)
    return np.sort(np.array([math.fsum(found) / len(found) for found in of.values()], dtype=float))


@dataclass(frozen=True)
class Strengths:
    """Bradley–Terry strengths of arms: the chance that i is preferred to j is expit(θᵢ − θⱼ).

    `log_odds`: θ of every arm, their mean being 0. `win_rates`: expected share of every other arm
    against `reference`. Intervals by `method`; their n is docs. `pairs` were judged, in `missing`
    of them a verdict is not there. `note` says why numbers are NaN, or what a reader must know of
    them.
    """

    reference: str
    log_odds: Mapping[str, Estimate]
    win_rates: Mapping[str, Estimate]
    method: str
    pairs: int
    missing: int
    note: str = ""


@dataclass(frozen=True)
class AtEqualLength:
    """What a judge would prefer if texts were equally long, by a model of what length does.

    `strengths`: their win rates, too, are those at equal length. `p`: of every other arm against
    the reference, two-sided, of 0.5 at equal length. `length_effect`: what being longer adds to the
    log-odds of a text, at the most (tanh = 1); above 0 the judge likes longer texts.
    """

    strengths: Strengths
    p: Mapping[str, float]
    length_effect: Estimate


def strengths(ballots: Iterable[Ballot], reference: str, resamples: int = RESAMPLES) -> Strengths:
    """Strengths of two arms or more by the Bradley–Terry model (1952), ties being half wins.

    Of each doc every two arms that it has make one comparison, of their mean share. The fit is
    evalica's maximum likelihood. Intervals: docs are drawn again (seed 0), percentiles expanded for
    few docs (Hesterberg 2015, arXiv 1411.5279); a resample without finite strengths counts as
    beyond both limits, so limits may be infinite. None below MINIMUM_DOCS docs.

    All NaN, with a note, where arms were never compared, not even by way of others (undefined), or
    where some won all that they had with the others (unbounded; Ford 1957). Raises UnknownNameError
    for a reference that is in no ballot.
    """
    every = list(ballots)
    arms, complete = _arms(every, reference), _complete(every)
    points = _points(complete, arms)
    note = _unsettled(points.sum(axis=0), arms)
    found = np.full(len(arms), math.nan) if note else _bradley_terry(points.sum(axis=0))
    if np.isnan(found).any():
        note = note or f"undefined: no convergence after {_ITERATIONS} iterations"
    drawn = _redrawn(points, arms, 0 if note or len(points) < MINIMUM_DOCS else resamples)
    home, n = arms.index(reference), len(points)
    gaps, gaps_drawn = found - found[home], drawn - drawn[:, [home]]
    return Strengths(
        reference=reference,
        log_odds={arm: _of_draws(found[i], drawn[:, i], n) for i, arm in enumerate(arms)},
        win_rates={
            arm: _rate(_of_draws(gaps[i], gaps_drawn[:, i], n))
            for i, arm in enumerate(arms)
            if arm != reference
        },
        method=f"bootstrap of docs, {resamples} resamples, seed 0",
        pairs=len(every),
        missing=len(every) - len(complete),
        note=note,
    )


def _arms(ballots: Sequence[Ballot], reference: str) -> list[str]:
    arms = sorted({arm for ballot in ballots for arm in (ballot.a, ballot.b)})
    if reference not in arms:
        raise UnknownNameError("arm", reference, arms)
    return arms


def _complete(ballots: Iterable[Ballot]) -> list[Ballot]:
    return [ballot for ballot in ballots if ballot.share is not None]


def _points(ballots: Sequence[Ballot], arms: Sequence[str]) -> Array:
    """(docs, arms, arms): what the first arm won against the second, 1 between them in a doc."""
    docs = {doc: row for row, doc in enumerate(dict.fromkeys(one.doc for one in ballots))}
    points = np.zeros((len(docs), len(arms), len(arms)))
    for ballot in ballots:
        share, a, b = ballot.share or 0.0, arms.index(ballot.a), arms.index(ballot.b)
        points[docs[ballot.doc], a, b] += share
        points[docs[ballot.doc], b, a] += 1 - share
    total = points + points.transpose(0, 2, 1)
    return np.divide(points, total, out=np.zeros_like(points), where=total > 0)


def _unsettled(wins: Array, arms: Sequence[str]) -> str:
    """Why strengths cannot be told from what each arm (row) won against each; '' if they can.

    They can where from every arm a chain of wins leads to every other.
    """
    from scipy.sparse.csgraph import connected_components

    groups, group = connected_components(wins > 0, directed=False)
    if groups > 1:
        apart = _named(arms, group == group[0]), _named(arms, group != group[0])
        return f"undefined: {apart[0]} never met {apart[1]}"
    groups, group = connected_components(wins > 0, connection="strong")
    if groups == 1:
        return ""
    unbeaten = next(
        of for number in range(groups) if not wins[np.ix_(~(of := group == number), of)].any()
    )
    return f"unbounded: {_named(arms, unbeaten)} won all against {_named(arms, ~unbeaten)}"


def _named(arms: Sequence[str], which: NDArray[np.bool_]) -> str:
    return ", ".join(repr(arm) for arm, chosen in zip(arms, which, strict=True) if chosen)


def _bradley_terry(wins: Array) -> Array:
    """Strengths (arms,), their mean being 0; NaN if evalica's iterations do not come to an end."""
    import evalica

    winners, losers = np.nonzero(wins)
    found = evalica.bradley_terry(
        winners.tolist(),
        losers.tolist(),
        [evalica.Winner.X] * len(winners),
        weights=wins[winners, losers].tolist(),
        tolerance=_TOLERANCE,
        limit=_ITERATIONS,
    )
    if found.iterations >= _ITERATIONS:
        return np.full(len(wins), math.nan)
    scores = np.log(found.scores.reindex(range(len(wins))).to_numpy(dtype=np.float64))
    return np.asarray(scores - scores.mean())


def _redrawn(points: Array, arms: Sequence[str], resamples: int) -> Array:
    """Strengths of docs drawn again (resamples, arms); NaN where they are not finite.

    Docs with equal points are drawn together, so the order of docs does not matter.
    """
    kinds, sizes = np.unique(
        points.reshape(len(points), len(arms) ** 2), axis=0, return_counts=True
    )
    rng = np.random.Generator(np.random.SFC64(0))
    drawn = np.full((resamples, len(arms)), math.nan)
    for row in range(resamples):
        counts = rng.multinomial(len(points), sizes / len(points))
        wins = (counts @ kinds).reshape(len(arms), len(arms))
        if not _unsettled(wins, arms):
            drawn[row] = _bradley_terry(wins)
    return drawn


def _of_draws(value: float, drawn: Array, n: int) -> Estimate:
    from scipy.special import ndtr, stdtrit

    if not len(drawn):
        return Estimate(float(value), math.nan, math.nan, n)
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, 0.975))))
    low = np.quantile(np.nan_to_num(drawn, nan=-math.inf), tail, method="lower")
    high = np.quantile(np.nan_to_num(drawn, nan=math.inf), 1 - tail, method="higher")
    return Estimate(float(value), float(low), float(high), n)


def _rate(log_odds: Estimate) -> Estimate:
    from scipy.special import expit

    low, high = float(expit(log_odds.ci_low)), float(expit(log_odds.ci_high))
    return Estimate(float(expit(log_odds.value)), low, high, log_odds.n)


def at_equal_length(ballots: Iterable[Ballot], reference: str) -> AtEqualLength:
    """Strengths and win rates at equal length, as in length-controlled AlpacaEval.

    Dubois, Galambosi, Liang and Hashimoto 2024 (arXiv 2404.04475, section 3): logistic regression
    of b's share in θ_b − θ_a + φ tanh((length_b − length_a) / s), s being the standard deviation of
    these differences between the two arms; the rate is that at a difference of 0. Their term for a
    prompt's difficulty is left out: docs are clusters instead. Docs count as in `strengths`.
    Intervals by the clustered sandwich, Student's t with docs − coefficients degrees of freedom.

    All NaN, with a note, where `strengths` are, where the difference in length never varies, and
    where length and arms explain the verdicts without rest (separation). A note, too, where one arm
    is always the longer, for then the rate is extrapolated. Raises ValueError where a length is not
    known, UnknownNameError for a reference that is in no ballot.
    """
    every = list(ballots)
    arms, complete = _arms(every, reference), _complete(every)
    if any(math.isnan(ballot.length_a + ballot.length_b) for ballot in complete):
        raise ValueError("expected the lengths of both texts of every pair that was judged")
    others, spans = [arm for arm in arms if arm != reference], _spans(complete)
    model = _model(complete, others, spans)
    wins = _points(complete, arms).sum(axis=0)
    note = _unsettled(wins, arms) or _unidentified(spans, model)
    fit = model.unfitted() if note else model.fit()
    *places, length = np.eye(len(others) + 1)
    mean: Array = np.sum(places, axis=0) / len(arms)  # the reference is at 0
    gaps = dict(zip(others, places, strict=True))
    found = Strengths(
        reference=reference,
        log_odds={arm: fit.estimate(gaps.get(arm, 0 * mean) - mean) for arm in arms},
        win_rates={arm: _rate(fit.estimate(place)) for arm, place in gaps.items()},
        method="logistic regression on length, docs as clusters",
        pairs=len(every),
        missing=len(every) - len(complete),
        note=note or _extrapolated(spans),
    )
    p = {arm: fit.p(place) for arm, place in gaps.items()}
    return AtEqualLength(found, p, fit.estimate(length))


_Spans = dict[tuple[str, str], Array]
"""Of every two arms, named in alphabetical order, the second's lengths less the first's."""


def _spans(ballots: Iterable[Ballot]) -> _Spans:
    found: dict[tuple[str, str], list[float]] = {}
    for ballot in map(_in_order, ballots):
        found.setdefault((ballot.a, ballot.b), []).append(ballot.length_b - ballot.length_a)
    return {pair: np.array(gaps) for pair, gaps in found.items()}


def _in_order(ballot: Ballot) -> Ballot:
    return ballot if ballot.a < ballot.b else ballot.turned()


def _deviation(gaps: Array) -> float:
    """Standard deviation; 0 of a single one, and of equal ones in spite of rounding."""
    return float(gaps.std(ddof=1)) if len(gaps) > 1 and np.ptp(gaps) > 0 else 0.0


def _model(ballots: Sequence[Ballot], others: Sequence[str], spans: _Spans) -> Shares:
    """A row a ballot: which arms (but the reference) it compares, then the difference in length.

    Every two arms of a doc weigh 1 together.
    """
    rows = [_in_order(ballot) for ballot in ballots]
    scale = {pair: _deviation(gaps) or math.inf for pair, gaps in spans.items()}
    times = Counter((row.doc, row.a, row.b) for row in rows)
    design = np.zeros((len(rows), len(others) + 1))
    for number, row in enumerate(rows):
        for arm, sign in ((row.a, -1), (row.b, 1)):
            if arm in others:
                design[number, others.index(arm)] = sign
        design[number, -1] = math.tanh((row.length_b - row.length_a) / scale[row.a, row.b])
    share = np.array([1 - (row.share or 0.0) for row in rows])
    weight = np.array([1 / times[row.doc, row.a, row.b] for row in rows])
    return Shares(design, share, weight, [row.doc for row in rows])


def _unidentified(spans: _Spans, model: Shares) -> str:
    """Why the effect of length cannot be told from that of the arms; '' if it can."""
    for (a, b), gaps in spans.items():
        if not _deviation(gaps):
            return f"undefined: lengths of {a!r} and {b!r} always differ by {abs(gaps[0]):g}"
    if model.collinear():
        return "undefined: arms and lengths cannot be told apart"
    if model.separated():
        return "unbounded: arms and lengths explain all verdicts without rest (separation)"
    return ""


def _extrapolated(spans: _Spans) -> str:
    """Says where texts of two arms are never equally long, nor now one, now the other longer."""
    for (a, b), gaps in spans.items():
        if gaps.min() > 0 or gaps.max() < 0:
            longer, shorter = (b, a) if gaps.min() > 0 else (a, b)
            return f"extrapolated: {longer!r} is longer than {shorter!r} in every pair"
    return ""
