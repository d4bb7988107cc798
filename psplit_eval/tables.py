"""What a report says in tables: values, comparisons by family, claims, completeness, settings.

Every cell is text; how a table looks is the report's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from psplit_eval.arms import Arm, Value
from psplit_eval.comparison import POWER, Comparison
from psplit_eval.protocol import Estimand
from psplit_eval.stats import Estimate

__all__ = ["Table", "family_tables", "run_tables"]

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


@dataclass(frozen=True)
class Table:
    """A titled table; every cell is text. `grey`: rows that are shown, and are no evidence."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first: bool = False
    """Stands before the plots, and on the terminal."""
    grey: frozenset[int] = frozenset()
    prose: bool = False
    """Its last column has sentences: a page breaks them into lines, a terminal has no room."""


def run_tables(
    manifest: Mapping[str, Any],
    arms: Sequence[Arm],
    values: Sequence[Value],
    comparisons: Sequence[Comparison],
) -> list[Table]:
    short = list(_headline(arms, values))
    tables = [replace(_values_table(short), first=True), *family_tables(comparisons)]
    if len(short) < len(values):
        tables.append(_values_table(values, "All metrics"))
    return [*tables, _completeness_table(arms), _settings_table(manifest)]


def _headline(arms: Sequence[Arm], values: Sequence[Value]) -> Iterator[Value]:
    """What a short table shows of every task, in the order of its scorer."""
    scorers = {arm.task: arm.scorer for arm in arms}
    for task, of_task in groupby(values, key=attrgetter("task")):
        names = scorers[task].headline
        found = [value for value in of_task if not names or value.metric in names]
        yield from sorted(found, key=lambda v: names.index(v.metric) if names else 0)


def family_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """By family; the primary one also against the margin and by other methods."""
    primary = [c for c in comparisons if c.primary]
    table = _comparison_table(
        "Primary comparisons",
        "Family 'primary': one metric a task and pair, and the plain mean over tasks that one "
        "fraction decides; p two-sided, Holm-corrected over this table. To tell: docs, or else "
        f"samples a doc, for a chance of {POWER:.0%} to tell the difference from 0 in this family, "
        "if it is as large as here.",
        primary,
    )
    return [
        *(replace(table, first=True) for table in (table, _margin_table(primary))),
        _methods_table(primary),
        _comparison_table(
            "Exploratory comparisons",
            "Family 'exploratory': all other metrics; p Benjamini-Hochberg-corrected over this "
            "table. Read these as leads, not as claims.",
            [c for c in comparisons if c.family == "exploratory"],
        ),
    ]


def _values_table(values: Sequence[Value], title: str = "Results by mode") -> Table:
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


def _completeness_table(arms: Sequence[Arm]) -> Table:
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


def _settings_table(manifest: Mapping[str, Any]) -> Table:
    model, machine = manifest["model"], manifest["machine"]
    rows = [("checkpoint", str(manifest["checkpoint"]["name"])), *_origin(manifest, model)]
    for mode in manifest["modes"]:
        rows.append((f"mode {mode['name']}", mode["system_prompt"] or _no_prompt(model)))
    for name, task in manifest["tasks"].items():
        sampling = ", ".join(f"{k} {v!r}" for k, v in task["sampling"].items())
        rows.append(
            (
                f"task {name}",
                f"{task['title']}; {task['docs']} of {task['docs_in_all']} docs, "
                f"{task['samples']} samples a doc; {sampling}; source: {task['source']}"
                f"{_shots(task)}",
            )
        )
    rows += _measured_by(manifest)
    if model.get("thinking") is not None:
        rows.append(("told to think", "yes" if model["thinking"] else "no"))
    imported = model["backend"] == "lm-eval"
    if not imported:
        took = f"{manifest['tokens']:,} tokens in {manifest['wall_seconds']:,.0f} s"
        rows.append(("sampled", took))
    rows += [
        (
            "imported on" if imported else "machine",
            f"{machine['system']}, {machine['cpus']} CPUs, Python {machine['python']}",
        ),
        ("software", _software(manifest)),
    ]
    return Table("Settings", "manifest.json has all of them.", ("what", "value"), tuple(rows))


def _measured_by(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The models without whose names the numbers of creative tasks say little."""
    names = manifest.get("yardsticks")
    if names and any(task["scorer"]["kind"] == "diversity" for task in manifest["tasks"].values()):
        words = names["word_vectors"] or names["encoder"]
        absent = ", ".join(manifest.get("unmeasured_by") or [])
        yield (
            "creative tasks measured by",
            f"sentence encoder {names['encoder']}, reference model {names['reference']}, vectors "
            f"of words {words}{f'; not to be had: {absent}' if absent else ''}",
        )


def _no_prompt(model: Mapping[str, Any]) -> str:
    bare = model.get("bare_prompt")
    made = f"; of a bare question the chat template makes {bare!r}" if bare else ""
    return f"no system message is sent{made}"


def _shots(task: Mapping[str, Any]) -> str:
    shots = task.get("few_shot")
    return f"; {shots['examples']} examples before each, from {shots['from']}" if shots else ""


def _origin(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, str]]:
    if model["backend"] == "lm-eval":
        return [("samples", "imported: logged by lm_eval, not drawn by psplit")]
    if "urls" in model:
        rows = [("servers", ", ".join(model["urls"])), ("base seed", str(manifest["base_seed"]))]
        left_out = ", ".join(model.get("left_out", ()))
        return [*rows, ("not taken by the servers", left_out)] if left_out else rows
    return [
        *([("parameters", f"{model['parameters']:,}")] if model.get("parameters") else []),
        ("files' fingerprint", manifest["checkpoint"]["fingerprint"]),
        ("precision and device", f"{model['dtype']} on {model['device']} ({model['backend']})"),
        ("base seed", str(manifest["base_seed"])),
    ]


def _software(manifest: Mapping[str, Any]) -> str:
    libraries = {"psplit": manifest["psplit_version"], **manifest["libraries"]}
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version)
