"""What a run says in tables: values, comparisons by family, claims, completeness.

Every cell is text; how a table looks is the report's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from psplit_eval.arms import Arm, Value
from psplit_eval.comparison import POWER, Comparison
from psplit_eval.protocol import Estimand
from psplit_eval.stats import Estimate
from psplit_eval.tables import Table

__all__ = [
    "completeness_table",
    "further_tables",
    "headline",
    "in_words",
    "primary_tables",
    "values_table",
]

_SAME_AS_ANOTHER = ("accuracy_pass_at_1",)  # accuracy_avg, by definition
_EFFECTS = ("cohens_dz", "cliffs_delta", "odds_ratio")
_TESTS = {
    "paired t-test on per-doc values": "paired t",
    "paired t-test on linearised ratios": "paired t, linearised",
    "t-test stratified by task": "t, stratified",
    "t-test given the docs": "t, docs given",
    "swap test of docs": "swap test",
    "McNemar's test, mid-p": "McNemar",
}
"""Short names, so that a row stays on a page; comparison.json has the long ones."""
_BETTER = {True: "higher", False: "lower", None: "–"}


def headline(arms: Sequence[Arm], values: Sequence[Value]) -> Iterator[Value]:
    """What a short table shows of every task, in the order of its scorer."""
    scorers = {arm.task: arm.scorer for arm in arms}
    for task, of_task in groupby(values, key=attrgetter("task")):
        names = scorers[task].headline
        found = [value for value in of_task if not names or value.metric in names]
        yield from sorted(found, key=lambda v: names.index(v.metric) if names else 0)


def primary_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """What decides: the primary family, and the claims against the margin."""
    primary = [c for c in comparisons if c.primary]
    note = (
        "Family 'primary': one metric a task and pair, and the plain mean over tasks that one "
        "fraction decides; p two-sided, Holm-corrected over this table. To tell: docs, or else "
        f"samples a doc, for a chance of {POWER:.0%} to tell the difference from 0 in this family, "
        "if it is as large as here."
    )
    return [_comparison_table("Primary comparisons", note, primary), _margin_table(primary)]


def further_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """The primary comparisons by other methods, and the exploratory ones."""
    return [
        _methods_table([c for c in comparisons if c.primary]),
        _comparison_table(
            "Exploratory comparisons",
            "Family 'exploratory': all other metrics; p Benjamini-Hochberg-corrected over this "
            "table. Read these as leads, not as claims.",
            [c for c in comparisons if c.family == "exploratory"],
        ),
    ]


def in_words(comparison: Comparison) -> str:
    """One comparison as a sentence."""
    c = comparison
    scale, digits = _scale(c.unit)
    a, b = (_number(x, scale, digits) for x in (c.result.value_a, c.result.value_b))
    p = "" if math.isnan(c.p_adjusted) else f", p {_number(c.p_adjusted)}"
    difference = _interval(c, c.result.difference, (c.result.ci_low, c.result.ci_high))
    per_cent, points = (" %", " points") if c.unit == "fraction" else ("", "")
    return (
        f"{c.task}, {c.metric}: {b}{per_cent} in {c.arm_b} against {a}{per_cent} in {c.arm_a}; "
        f"difference {difference}{points}{p}: {c.verdict}."
    )


def values_table(values: Sequence[Value], title: str = "Results by mode") -> Table:
    """Values with their intervals, a row a task and metric, a column a mode."""
    modes = list(dict.fromkeys(value.mode for value in values))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for value in values:
        if value.metric not in _SAME_AS_ANOTHER:
            rows.setdefault((value.task, value.metric), {})[value.mode] = _estimate(value)
    better = {(v.task, v.metric): _BETTER[v.higher_is_better] for v in values}
    estimate = ""
    if any(metric == "entropy_bits_estimate" for _, metric in rows):
        estimate = "; the estimate is a lower bound: all but the most probable tokens count as one"
    return Table(
        title,
        "Value [95 % interval over docs]. Fractions are shown times 100; entropy_bits is bits a "
        f"token, pooled: all bits over all tokens{estimate}.",
        ("task", "metric", "better", *modes),
        tuple(
            (*key, better[key], *(cells.get(mode, "") for mode in modes))
            for key, cells in rows.items()
        ),
    )


def _estimate(value: Value) -> str:
    scale, digits = _scale(value.unit)
    estimate = value.estimate
    text = _number(estimate.value, scale, digits)
    if math.isnan(estimate.ci_low):
        return text
    low, high = (_number(x, scale, digits) for x in (estimate.ci_low, estimate.ci_high))
    return f"{text} [{low}, {high}]"


def _scale(unit: str) -> tuple[float, int]:
    return (100.0, 1) if unit == "fraction" else (1.0, 1 if unit == "tokens" else 3)


def _number(value: float, scale: float = 1.0, digits: int = 3, sign: bool = False) -> str:
    if not math.isfinite(value):
        return "–" if math.isnan(value) else f"{value:+.0f}"[0] + "∞"
    return f"{value * scale:{'+' if sign else ''}.{digits}f}"


def _comparison_table(title: str, note: str, comparisons: Sequence[Comparison]) -> Table:
    estimands = ", ".join(dict.fromkeys(c.estimand.value for c in comparisons))
    short = ("Benjamini-Hochberg", "BH")
    corrections = dict.fromkeys(c.correction.replace(*short) for c in comparisons)
    p = f"p ({', '.join(corrections)})"
    header = ("task", "metric", "difference of", "difference [95 %]", p, "verdict", "values")
    return Table(
        title,
        f"{note} Fractions are shown times 100. Paired by doc, {estimands}; d_z is the effect "
        "size: mean over standard deviation of the docs' differences.",
        (*header, "test", "d_z", "docs", "to tell"),
        tuple(
            (
                *_which(c),
                _interval(c, c.result.difference, (c.result.ci_low, c.result.ci_high)),
                _number(c.p_adjusted),
                c.verdict,
                " − ".join(
                    _number(x, *_scale(c.unit)) for x in (c.result.value_b, c.result.value_a)
                ),
                _TESTS.get(c.result.test, c.result.test),
                _number(c.result.effect_size, digits=2, sign=True),
                _docs(c),
                "" if c.decision else _to_tell(c),
            )
            for c in comparisons
        ),
    )


def _docs(comparison: Comparison) -> str:
    left = comparison.left.said(comparison.arm_a, comparison.arm_b)
    return f"{comparison.result.n} ({left})" if left else str(comparison.result.n)


def _which(comparison: Comparison) -> tuple[str, str, str]:
    return comparison.task, comparison.metric, f"{comparison.arm_b} − {comparison.arm_a}"


def _interval(comparison: Comparison, value: float, limits: tuple[float, float]) -> str:
    scale, digits = _scale(comparison.unit)
    shown, low, high = (_number(x, scale, digits, sign=True) for x in (value, *limits))
    return f"{shown} [{low}, {high}]"


def _to_tell(comparison: Comparison) -> str:
    """What it would take, in words; empty where nothing is open, or nothing differs."""
    need = comparison.need
    if need is None:
        return ""
    docs = "" if comparison.estimand is Estimand.GIVEN else _amount(need.docs, "docs")
    samples = _amount(need.samples, "samples a doc") if need.samples_known else ""
    return "; ".join(part for part in (docs, samples) if part)


def _amount(count: int | None, what: str) -> str:
    return f"no number of {what}" if count is None else f"{count:,} {what}"


def _margin_table(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        "Claims against the margin",
        "Family 'claims': the primary comparisons that are fractions; p one-sided, Holm-corrected "
        "over this table. Three answers: yes (p of yes under 0.05), no (p of no, of the opposite, "
        "under 0.05), inconclusive. Margin times 100. "
        f"To tell: for a chance of {POWER:.0%} to tell the difference from the margin, if it is "
        "as large as here.",
        (
            *("task", "metric", "difference of", "claim", "margin", "p of yes (Holm)"),
            *("p of no (Holm)", "verdict", "to tell"),
        ),
        tuple(
            (
                *_which(c),
                c.decision.claim.value,
                _number(c.decision.margin, *_scale(c.unit)),
                _number(c.decision.p_adjusted),
                _number(c.decision.p_against_adjusted),
                c.decision.verdict.value,
                _to_tell(c),
            )
            for c in comparisons
            if c.decision
        ),
    )


def _methods_table(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        "The primary comparisons by other methods",
        "A check, not a choice: the test above decides. p uncorrected; intervals 95 %, by "
        "bootstrap over docs; effect sizes with 95 % intervals.",
        (
            *("task", "metric", "difference of", "p", "swap test", "Wilcoxon", "BCa"),
            *("studentised", "d_z", "Cliff's delta", "odds ratio"),
        ),
        tuple(
            (
                *_which(c),
                _number(c.result.p),
                _number(c.checks.swap_test_p),
                _number(c.checks.wilcoxon_p),
                _limits(c, c.checks.bootstrap_bca),
                _limits(c, c.checks.bootstrap_studentised),
                *(_effect(c.effects.get(name)) for name in _EFFECTS),
            )
            for c in comparisons
            if c.checks
        ),
    )


def _limits(comparison: Comparison, limits: tuple[float, float]) -> str:
    low, high = limits
    scale, digits = _scale(comparison.unit)
    return f"[{_number(low, scale, digits, sign=True)}, {_number(high, scale, digits, sign=True)}]"


def _effect(effect: Estimate | None) -> str:
    if effect is None or math.isnan(effect.value):
        return "–"
    value, low, high = (_number(x, digits=2) for x in (effect.value, effect.ci_low, effect.ci_high))
    return f"{value} [{low}, {high}]"


def completeness_table(arms: Sequence[Arm]) -> Table:
    """What is missing or was cut, a row a task and mode."""
    rows = []
    for arm in arms:
        bounds = arm.accuracy_bounds
        rows.append(
            (
                arm.task,
                arm.mode,
                str(arm.planned),
                str(arm.missing),
                "not known" if arm.truncated is None else str(arm.truncated),
                "–" if bounds is None else f"{bounds[0] * 100:.1f} to {bounds[1] * 100:.1f}",
            )
        )
    return Table(
        "Missing and truncated samples",
        "Missing: not drawn yet, or could not be had; the same command goes on. Truncated: cut at "
        "the token limit; a psplit task counts such an answer as wrong. Bounds: accuracy (times "
        "100) if all missing were wrong; right.",
        ("task", "mode", "samples", "missing", "truncated", "accuracy bounds"),
        tuple(rows),
    )
