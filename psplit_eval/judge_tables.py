"""What a report says in tables of what judges said, and whether they can be believed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from psplit_eval.calibrating import Calibrated
from psplit_eval.cards import NOT_USABLE, UNMEASURED, Card
from psplit_eval.judged import Belief, JudgedRun, Preferred, Scored
from psplit_eval.stats import Difference, Estimate
from psplit_eval.tables import Table

__all__ = ["UNBELIEVED", "calibrated_table", "judge_tables", "unbelieved"]

UNBELIEVED = (NOT_USABLE, UNMEASURED, Belief().scores)
"""Words of a belief that make what a judge says no evidence."""


def unbelieved(belief: str) -> bool:
    """Whether what a judge says is to be shown in grey."""
    return belief in UNBELIEVED


def judge_tables(judged: JudgedRun, cards: Sequence[Card] = ()) -> list[Table]:
    """Scores, alone and calibrated, preferences, strengths, agreement and audits; a table without
    rows is for the caller to leave out."""
    return [
        _scores(judged),
        calibrated_table(judged),
        _preferences(judged),
        _strengths(judged),
        _agreement(judged),
        _verdicts(cards),
        _measures(cards),
    ]


def _scores(judged: JudgedRun) -> Table:
    modes = list(dict.fromkeys(mode for scored in judged.scored for mode in scored.by_mode))
    rows = [
        (
            scored.task,
            _dimension(scored, judged.rubrics[scored.rubric_hash]),
            scored.judge,
            scored.belief,
            *(_of_mode(scored, mode) for mode in modes),
            *(_difference(scored, mode) for mode in modes[1:]),
            _missing(sum(scored.missing.values()), sum(scored.asked.values())),
        )
        for scored in judged.scored
    ]
    scales = dict.fromkeys(f"{s.rubric} {s.scale[0]} to {s.scale[1]}" for s in judged.scored)
    return Table(
        "Judges: scores",
        f"Points of the rubric's scale ({', '.join(scales)}), mean over docs [95 % over docs]; "
        "differences are paired by doc, p Benjamini-Hochberg-corrected over all that judges say. "
        "*: the dimension that decides. Grey (not audited, or not usable): no evidence, whatever "
        "the interval says (psplit-eval audit). Missing verdicts, unreadable or not asked for yet, "
        "are left out. The panel is of the judges that have not failed, and as good as its worst.",
        (
            *("task", "dimension", "judge", "audit"),
            *modes,
            *(f"{mode} − {modes[0]}" for mode in modes[1:]),
            "missing",
        ),
        tuple(rows),
        grey=frozenset(i for i, s in enumerate(judged.scored) if unbelieved(s.belief)),
    )


def calibrated_table(judged: JudgedRun) -> Table:
    """Judges' scores with people's labels: evidence, whatever an audit says of the judge."""
    rows = [row for one in judged.calibrated for row in _calibrated(one)]
    scales = dict.fromkeys(f"{c.rubric} {c.scale[0]} to {c.scale[1]}" for c in judged.calibrated)
    return Table(
        "Judges: calibrated with human labels",
        f"What people would say of all samples that the judge scored, in points of the rubric's "
        f"scale ({', '.join(scales)}) [95 % over docs]: prediction-powered, the judge's bias is "
        "measured on the labelled samples and taken out, so this is evidence whatever the judge's "
        "audit says. Assumed: which samples are labelled is a random draw (psplit-eval calibrate "
        "--draw), and labellers did not know the modes; no number here can show that. Equivalent: "
        "how many labels would be as certain without a judge. Left out: samples whose verdict is "
        "missing, and labels on samples without one. *: the dimension that decides. p is "
        "Benjamini-Hochberg-corrected over all that judges say.",
        (
            *("task", "dimension", "judge", "of", "calibrated", "p", "judge alone"),
            *("labels alone", "judge's bias", "labels", "equivalent", "left out", "note"),
        ),
        tuple(rows),
    )


def _calibrated(one: Calibrated) -> Iterator[tuple[str, ...]]:
    about = (one.task, f"{one.rubric} {one.dimension}{' *' if one.primary else ''}", one.judge)
    for mode, mean in one.by_mode.items():
        yield (
            *(*about, mode, _interval(mean.estimate), "–"),
            *(_interval(mean.judge_mean), _interval(mean.human_mean)),
            *(_interval(mean.judge_bias, sign=True), f"{mean.labels}"),
            *(_whole(mean.equivalent_labels), _left_out(one, mode), mean.note or "–"),
        )
    for finding, found in zip(one.findings, one.differences.values(), strict=True):
        yield (
            *(*about, f"{finding.mode_b} − {finding.mode_a}"),
            _interval(finding.estimate, sign=True),
            "–" if math.isnan(finding.p_adjusted) else f"{finding.p_adjusted:.2g}",
            *map(_signed, (found.judge_difference, found.human_difference)),
            _interval(found.judge_bias, sign=True),
            " + ".join(map(str, found.labels)),
            *(_whole(found.equivalent_labels), "–", found.note or "–"),
        )


def _left_out(one: Calibrated, mode: str) -> str:
    samples, labels = _missing(one.missing[mode], one.asked[mode]), one.unused[mode]
    return f"{samples}; {labels} label{'' if labels == 1 else 's'}" if labels else samples


def _signed(found: Difference) -> str:
    limits = found.ci_low, found.ci_high
    return _interval(Estimate(found.difference, *limits, found.n), sign=True)


def _whole(number: float) -> str:
    return "–" if math.isnan(number) else f"{number:.0f}"


def _dimension(scored: Scored, rubric: str) -> str:
    return f"{rubric} {scored.dimension}{' *' if scored.primary else ''}"


def _of_mode(scored: Scored, mode: str) -> str:
    return _interval(scored.by_mode[mode]) if mode in scored.by_mode else "–"


def _difference(scored: Scored, mode: str) -> str:
    for finding in scored.findings:
        if finding.mode_b == mode:
            p = "" if math.isnan(finding.p_adjusted) else f", p {finding.p_adjusted:.2g}"
            return f"{_interval(finding.estimate, sign=True)}{p}"
    return "–"


def _preferences(judged: JudgedRun) -> Table:
    return Table(
        "Judges: which mode is preferred",
        "Share of pairs in which b is preferred, both orders, ties half, mean over docs "
        "[95 % over docs]; at equal length: if both texts were as long (logistic regression). "
        "First: share of verdicts for the text shown first, 50 without position bias; flips: pairs "
        "whose winner changes with the order. p as above. Shares are shown times 100.",
        (
            *("task", "judge", "audit", "a", "b", "b preferred", "p", "at equal length"),
            *("first", "flips", "ties", "missing"),
        ),
        tuple(_preferred(one, judged.rubrics[one.rubric_hash]) for one in judged.preferred),
        grey=frozenset(i for i, p in enumerate(judged.preferred) if unbelieved(p.belief)),
    )


def _preferred(one: Preferred, rubric: str) -> tuple[str, ...]:
    found, fair = one.found, one.equal_length.strengths
    note = f" ({fair.note})" if fair.note else ""
    return (
        one.task,
        f"{one.judge}, {rubric}",
        one.belief,
        found.a,
        found.b,
        _share(found.rate),
        "–" if math.isnan(one.p_adjusted) else f"{one.p_adjusted:.2g}",
        f"{_share(fair.win_rates[found.b])}{note}",
        f"{100 * found.shown_first.value:.1f}",
        _missing(found.flips, found.pairs - found.missing),
        _missing(found.ties, found.pairs - found.missing),
        _missing(found.missing + one.unasked, found.pairs + one.unasked),
    )


def _strengths(judged: JudgedRun) -> Table:
    rows = [
        (
            ranked.task,
            f"{ranked.judge}, {judged.rubrics[ranked.rubric_hash]}",
            ranked.belief,
            mode,
            _interval(estimate, sign=True),
            _interval(ranked.equal_length.strengths.log_odds[mode], sign=True),
            ranked.raw.note or ranked.equal_length.strengths.note,
        )
        for ranked in judged.ranked
        for mode, estimate in ranked.raw.log_odds.items()
    ]
    grey = [unbelieved(r.belief) for r in judged.ranked for _ in r.raw.log_odds]
    return Table(
        "Judges: strengths of modes",
        "Bradley-Terry strengths in log-odds, their mean being 0: the chance that a mode is "
        "preferred to another is the logistic function of the difference [95 % over docs].",
        ("task", "judge", "audit", "mode", "strength", "at equal length", "note"),
        tuple(rows),
        grey=frozenset(i for i, is_grey in enumerate(grey) if is_grey),
    )


def _agreement(judged: JudgedRun) -> Table:
    rows = [
        (task, judged.rubrics[rubric], name, _interval(alpha), f"{alpha.n}")
        for (rubric, task, name), alpha in judged.agreement.items()
    ]
    return Table(
        "Judges: agreement of the panel",
        "Krippendorff's alpha of all judges' scores of the same samples, interval distances: 1 is "
        "agreement, 0 what chance gives [95 % over docs].",
        ("task", "rubric", "dimension", "alpha", "docs"),
        tuple(rows),
    )


def _verdicts(cards: Sequence[Card]) -> Table:
    return Table(
        "Audit of the judges: verdicts",
        "What each judge may be used for, by gold texts of certain order, repeats and attacks. "
        "How it is measured, and the limits: docs/judges.md.",
        ("judge", "rubric", "for", "verdict", "why"),
        tuple(
            (card.judge, card.rubric, purpose, ruling.verdict, ruling.why)
            for card in cards
            for purpose, ruling in card.purposes.items()
        ),
        prose=True,
    )


def _measures(cards: Sequence[Card]) -> Table:
    rows = [
        (
            card.judge,
            card.rubric,
            measure.name,
            _interval(measure.estimate),
            f"{measure.estimate.n}",
            measure.level or "",
            measure.about,
        )
        for card in cards
        for measure in card.measures
    ]
    return Table(
        "Audit of the judges: measures",
        "Value [95 %], number of units, and the level that it reaches.",
        ("judge", "rubric", "measure", "value", "n", "level", "what it is"),
        tuple(rows),
        prose=True,
    )


def _missing(number: int, of: int) -> str:
    return f"{number} of {of}" if number else "0"


def _interval(estimate: Estimate, sign: bool = False) -> str:
    if math.isnan(estimate.value):
        return "–"
    plus = "+" if sign else ""
    if math.isnan(estimate.ci_low):
        return f"{estimate.value:{plus}.2f}"
    return f"{estimate.value:{plus}.2f} [{estimate.ci_low:{plus}.2f}, {estimate.ci_high:{plus}.2f}]"


def _share(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.ci_low):
        return f"{100 * estimate.value:.1f}"
    low, high = 100 * estimate.ci_low, 100 * estimate.ci_high
    return f"{100 * estimate.value:.1f} [{low:.1f}, {high:.1f}]"
