"""What an audit's answers say about a judge: pure functions of the probes and their verdicts.

Prompts are the units: of several pairs of one prompt the mean is taken, so many worse texts of one
good text never count as many prompts. Attacks, and texts that are asked again, count one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from psplit_eval.audit_answers import (
    Answers,
    bare,
    known_mean,
    known_share,
    mean_by_prompt,
    winner,
)
from psplit_eval.audit_attacks import (
    RAISED,
    asked_again_choices,
    asked_again_scores,
    attacked_choices,
    attacked_scores,
)
from psplit_eval.cards import KINDS, Measure
from psplit_eval.goldset import GoldPair
from psplit_eval.probes import ORDERS, Probe
from psplit_eval.reliability import intraclass_correlation
from psplit_eval.stats import MINIMUM_DOCS, Estimate

__all__ = ["kind_table", "measures"]

_SHORTER, _LONGER = 0.9, 1.1
"""Characters of the worse text as a share of the better one's."""

_READABLE = "share of answers from which a verdict could be read"


def measures(answers: Answers) -> tuple[Measure, ...]:
    """Every measure of an audit; without a number, and with a note, what was not asked or said."""
    return (*_of_scores(answers), *_of_choice(answers), *_of_attacks(answers))


def _of_scores(answers: Answers) -> Iterator[Measure]:
    probes, found = answers.asked["scores"], _Found(answers, "scores")
    again = _Found(answers, "scores again")
    used = _levels_used(answers)
    yield found(
        "agreement",
        "fraction",
        "share of gold pairs whose better text has the higher mean score over dimensions; ties "
        "count half, a missing verdict is not right; 0.5 by chance",
        lambda: _agreement(answers, "scores"),
    )
    yield again(
        "reliability",
        "ICC(1)",
        "share of the variance of single mean scores that is between texts, not between askings "
        "that differ in the fence's code alone",
        lambda: _reliability(answers),
    )
    yield found(
        "spread",
        "of the scale",
        "standard deviation of mean scores over gold texts; 0 of a judge that always says the same",
        lambda: _deviation([answers.score(probe) for probe in probes]),
    )
    yield found(
        "length bias",
        "fraction",
        "agreement where the worse text is shorter (below 0.9) less that where it is longer "
        "(above 1.1); above 0: prefers longer texts",
        lambda: _length_bias(answers, "scores"),
    )
    yield found(
        "padding",
        "of the scale",
        "how far the score of a text rises when it is padded with sentences that say nothing",
        lambda: _padding(answers),
    )
    yield found(
        "levels used",
        "fraction",
        "share of the scale's levels that occur in scores of gold texts",
        lambda: bare(len(set(used)) / _width(answers), len(used)),
    )
    yield found(
        "ends used",
        "fraction",
        "share of scores of gold texts that are the lowest or the highest",
        lambda: bare(_at_ends(answers, used), len(used)),
    )
    yield found(
        "level entropy",
        "bits",
        f"entropy of the scores of gold texts; at most {math.log2(_width(answers)):.2f}",
        lambda: bare(_entropy(used), len(used)),
    )
    yield found(
        "readable", "fraction", _READABLE, lambda: answers.readable("scores", "scores again")
    )


def _of_choice(answers: Answers) -> Iterator[Measure]:
    found, again = _Found(answers, "choice"), _Found(answers, "choice again")
    pairs = answers.probes.pairs
    yield found(
        "agreement",
        "fraction",
        "share of right choices among gold pairs, mean of both orders; ties count half, a missing "
        "verdict is not right; 0.5 by chance",
        lambda: _agreement(answers, "choice"),
    )
    for order in ORDERS:
        yield found(
            f"agreement, {order}",
            "fraction",
            f"the same in one order: {order}",
            partial(_agreement, answers, "choice", orders=(order,)),
        )
    yield found(
        "both right",
        "fraction",
        "share of gold pairs with a right choice in both orders; 0.25 by chance",
        lambda: mean_by_prompt(pairs, [_both_right(answers, pair) for pair in pairs]),
    )
    yield found(
        "position",
        "fraction",
        "share of decided verdicts that are for the text shown first, over pairs with a verdict in "
        "both orders; 0.5 without position bias",
        lambda: _position(answers),
    )
    yield found(
        "flips",
        "fraction",
        "share of pairs, with a verdict in both orders, whose winner changes with the order",
        lambda: mean_by_prompt(pairs, [_flipped(*answers.shares(pair)) for pair in pairs]),
    )
    yield found(
        "length bias",
        "fraction",
        "agreement where the worse text is shorter (below 0.9) less that where it is longer "
        "(above 1.1); above 0: prefers longer texts",
        lambda: _length_bias(answers, "choice"),
    )
    yield again(
        "consistency",
        "fraction",
        "how often two askings, which differ in the fence's code alone, have the same winner",
        lambda: _consistency(answers),
    )
    yield found(
        "readable", "fraction", _READABLE, lambda: answers.readable("choice", "choice again")
    )


def _of_attacks(answers: Answers) -> Iterator[Measure]:
    scores, choice = (_Found(answers, f"{kind} attacked", kind) for kind in ("scores", "choice"))
    yield scores(
        "attacks that work",
        "fraction",
        f"share of attacks that raise the attacked text's score by more than {RAISED:g} of the "
        "scale, less the share of texts that, asked again without an attack, rise as much",
        lambda: _beyond_noise(
            [blow.works for blow in attacked_scores(answers)], asked_again_scores(answers)
        ),
    )
    yield scores(
        "attack shift",
        "of the scale",
        "how far an attack raises the attacked text's score, mean over attacks",
        lambda: known_mean([blow.shift for blow in attacked_scores(answers)]),
    )
    yield choice(
        "attacks that work",
        "fraction",
        "share of comparisons, not won by the worse text, that it wins with an attack in it, less "
        "the share that it wins when asked again without one",
        lambda: _beyond_noise(
            [blow.works for blow in attacked_choices(answers)], asked_again_choices(answers)
        ),
    )
    yield choice(
        "attack shift",
        "fraction",
        "how far an attack raises the attacked text's share, mean over attacks and orders",
        lambda: known_mean([blow.shift for blow in attacked_choices(answers)]),
    )
    for found, kind in zip((scores, choice), KINDS, strict=True):
        yield found(
            "readable under attack",
            "fraction",
            "share of answers about attacked texts from which a verdict could be read",
            partial(answers.readable, f"{kind} attacked"),
        )


class _Found:
    """Makes measures of one part; a part of which nothing is known has no numbers.

    `base`: the part that it is compared with, for an attacked text says nothing alone.
    """

    def __init__(self, answers: Answers, part: str, base: str = "") -> None:
        self._kind = part.split()[0]
        parts = [part, base] if base else [part]
        self._lacking = next(filter(None, map(answers.lacking, parts)), "")
        self._known = all(map(answers.known, parts))

    def __call__(
        self,
        name: str,
        unit: str,
        about: str,
        compute: Callable[[], Estimate | tuple[Estimate, str]],
    ) -> Measure:
        made = compute() if self._known else bare(math.nan, 0)
        found, note = made if isinstance(made, tuple) else (made, "")
        name, enough = f"{self._kind} {name}", not self._lacking
        return Measure.of(name, unit, about, found, self._lacking or note, enough)


def _agreement(
    answers: Answers,
    kind: str,
    pairs: Sequence[GoldPair] | None = None,
    orders: Sequence[str] = ORDERS,
) -> Estimate:
    """What could not be read is not right; what was not answered yet is left out."""
    some = answers.probes.pairs if pairs is None else pairs
    return mean_by_prompt(some, [_credited(answers, kind, pair, orders) for pair in some])


def _credited(answers: Answers, kind: str, pair: GoldPair, orders: Sequence[str]) -> float:
    if kind == "scores":
        probes = [Probe(kind, one) for one in answers.probes.text_ids(pair)]
        known = all(probe in answers.verdicts for probe in probes)
        return _or_wrong(_scored_right(answers, pair)) if known else math.nan
    asked = [Probe(kind, pair.id, order) for order in orders]
    rights = [winner(answers.share(p) - 0.5) for p in asked if p in answers.verdicts]
    return math.fsum(map(_or_wrong, rights)) / len(rights) if rights else math.nan


def _scored_right(answers: Answers, pair: GoldPair) -> float:
    """1 if the better text has the higher score, 0.5 if both are alike; NaN without verdicts."""
    better, worse = answers.scores(pair)
    return winner(better - worse)


def _chosen_right(answers: Answers, pair: GoldPair) -> float:
    """The same of the choice, mean of both orders."""
    one, other = answers.shares(pair)
    return (winner(one - 0.5) + winner(other - 0.5)) / 2


def _or_wrong(right: float) -> float:
    return 0.0 if math.isnan(right) else right


def _both_right(answers: Answers, pair: GoldPair) -> float:
    known = all(Probe("choice", pair.id, order) in answers.verdicts for order in ORDERS)
    return float(all(share > 0.5 for share in answers.shares(pair))) if known else math.nan


def _length_bias(answers: Answers, kind: str) -> tuple[Estimate, str]:
    ratios = [(pair, len(pair.worse) / len(pair.better)) for pair in answers.probes.pairs]
    a = _told(answers, kind, [pair for pair, ratio in ratios if ratio < _SHORTER])
    b = _told(answers, kind, [pair for pair, ratio in ratios if ratio > _LONGER])
    note = "" if a.n and b.n else "no pairs whose worse text is " + ("longer" if a.n else "shorter")
    return _difference(a, b), note


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b of two fractions, with limits from those of each, as of two samples (Newcombe 1998;
    Zou and Donner 2008): there are some even where neither varies. n: the smaller one's."""
    gap = a.value - b.value
    low = gap - math.hypot(a.value - a.ci_low, b.ci_high - b.value)
    high = gap + math.hypot(a.ci_high - a.value, b.value - b.ci_low)
    return Estimate(gap, low, high, min(a.n, b.n))


def _beyond_noise(worked: Sequence[float], by_chance: Sequence[float]) -> tuple[Estimate, str]:
    """Share of attacks that work less that of mere repeats, where there are any that would pass."""
    attacks, repeats = known_share(worked), known_share(by_chance)
    if repeats.n < MINIMUM_DOCS:
        return attacks, "" if math.isnan(attacks.value) else "nothing was asked again to compare"
    if repeats.value == 0:
        return attacks, ""
    found = replace(_difference(attacks, repeats), n=attacks.n)
    return found, f"{attacks.value:.2f}, and {repeats.value:.2f} without attack"


def _told(answers: Answers, kind: str, pairs: Sequence[GoldPair]) -> Estimate:
    """Agreement over the pairs with all verdicts: a missing one says nothing of length."""
    right = _scored_right if kind == "scores" else _chosen_right
    return mean_by_prompt(pairs, [right(answers, pair) for pair in pairs])


def _padding(answers: Answers) -> tuple[Estimate, str]:
    some = [pair for pair in answers.probes.pairs if pair.kind == "padded"]
    shifts = [worse - better for better, worse in map(answers.scores, some)]
    return known_mean(shifts), "" if some else "no padded texts"


def _reliability(answers: Answers) -> tuple[Estimate, str]:
    """ICC over texts. Where every asking gave the same score, its lower limit is the share of texts
    that are so for certain (exact binomial): the bootstrap knows of no others."""
    rows = [
        [answers.score(Probe(f"scores{' again' * (r > 0)}", one, "", r)) for r in range(times + 1)]
        for times in (answers.probes.repeats,)
        for one in answers.probes.repeated_texts
    ]
    found = intraclass_correlation(rows)
    if math.isnan(found.value):
        return found, "scores never vary, or too few texts"
    if found.value >= 1 - 1e-12:
        return known_share([1.0] * found.n), "every asking gave the same score"
    return found, ""


def _consistency(answers: Answers) -> Estimate:
    values = []
    for pair, order in answers.probes.repeated_pairs:
        said = [answers.share(Probe("choice", pair.id, order))]
        for repeat in range(1, answers.probes.repeats + 1):
            said.append(answers.share(Probe("choice again", pair.id, order, repeat)))
        winners = Counter(winner(share - 0.5) for share in said if not math.isnan(share))
        n = winners.total()
        if n > 1:
            values.append(sum(k * (k - 1) for k in winners.values()) / (n * (n - 1)))
    return known_share(values)


def _position(answers: Answers) -> Estimate:
    pairs = answers.probes.pairs
    values = []
    for pair in pairs:
        one, other = answers.shares(pair)
        said = [winner(one - 0.5), 1 - winner(other - 0.5)]
        decided = [share for share in said if share != 0.5]
        both = not math.isnan(one + other)
        values.append(math.fsum(decided) / len(decided) if both and decided else math.nan)
    return mean_by_prompt(pairs, values)


def _flipped(one: float, other: float) -> float:
    return math.nan if math.isnan(one + other) else float((one - 0.5) * (other - 0.5) < 0)


def _deviation(values: Sequence[float]) -> Estimate:
    known = [value for value in values if not math.isnan(value)]
    return bare(float(np.std(known, ddof=1)) if len(known) > 1 else math.nan, len(known))


def _width(answers: Answers) -> int:
    """Levels of the scale."""
    return answers.probes.rubric.high - answers.probes.rubric.low + 1


def _levels_used(answers: Answers) -> list[int]:
    """Every score of a gold text, as a whole number."""
    verdicts = [answers.verdicts.get(probe) for probe in answers.asked["scores"]]
    return [round(value) for verdict in verdicts if verdict for value in verdict.values()]


def _at_ends(answers: Answers, used: Sequence[int]) -> float:
    rubric = answers.probes.rubric
    ends = sum(level in (rubric.low, rubric.high) for level in used)
    return ends / len(used) if used else math.nan


def _entropy(used: Sequence[int]) -> float:
    shares = [count / len(used) for count in Counter(used).values()]
    return -math.fsum(p * math.log2(p) for p in shares) + 0.0 if used else math.nan


def kind_table(answers: Answers) -> list[dict[str, Any]]:
    """Agreement at every kind of worse text, of scores and of choices."""
    rows = []
    for kind in KINDS:
        if answers.lacking(kind):
            continue
        for name in dict.fromkeys(pair.kind for pair in answers.probes.pairs):
            some = [pair for pair in answers.probes.pairs if pair.kind == name]
            rows.append({"kind": name, "of": kind} | vars(_agreement(answers, kind, some)))
    return rows
