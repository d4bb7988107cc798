"""What a gate says: a terminal's table, gate.json, JUnit XML, and Markdown for a job summary."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from psplit_eval.documents import Document, Section, to_markdown
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.gate import Check, Gate, Outcome
from psplit_eval.gate_rules import Falls, Kind
from psplit_eval.tables import Table, tables_text
from psplit_eval.text import visible

__all__ = ["GATE_FILES", "gate_text", "gate_verdict", "write_gate"]

GATE_FILES = ("gate.json", "gate.md", "junit.xml")
"""What `write_gate` writes."""

_SAID = {
    Outcome.PASS: "Pass: every rule is fulfilled.",
    Outcome.FAIL: "Fail: {failed} of {all} checks show a regression.",
    Outcome.OPEN: "Inconclusive: {open} of {all} checks are open, none shows a regression.",
}
_FALLS = {
    Falls.OPEN: " The rules let an inconclusive gate pass.",
    Falls.SHUT: " The rules let an inconclusive gate fail.",
    Falls.SAID: "",
}


def gate_verdict(gate: Gate) -> str:
    """The gate in a sentence."""
    outcomes = [check.outcome for check in gate.checks]
    said = _SAID[gate.outcome].format(
        failed=outcomes.count(Outcome.FAIL), open=outcomes.count(Outcome.OPEN), all=len(outcomes)
    )
    return said + (_FALLS[gate.rules.falls] if gate.outcome is Outcome.OPEN else "")


def gate_text(gate: Gate) -> str:
    """For a terminal: the table of checks, what is behind those that did not pass, the verdict."""
    why = [
        f"{check.rule.name} ({check.task}, {check.mode}): {check.why}" for check in _unclear(gate)
    ]
    return "\n\n".join([tables_text([_table(gate)]), *map(visible, why), gate_verdict(gate)])


def write_gate(folder: Path, gate: Gate) -> None:
    """Write GATE_FILES. Raises InfrastructureError for a full disk."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "gate.json", gate.to_dict())
    write_text(folder / "gate.md", _markdown(gate))
    write_text(folder / "junit.xml", _junit(gate))


def _unclear(gate: Gate) -> list[Check]:
    return [check for check in gate.checks if check.why and check.outcome is not Outcome.PASS]


def _table(gate: Gate) -> Table:
    return Table(
        f"{gate.candidate} against {gate.baseline}",
        "Fractions are shown times 100, differences with 95 % intervals over docs. p of pass: of "
        "the rule's opposite, p of fail: of the rule, one-sided, each Holm-corrected over all "
        f"checks, alpha {gate.rules.alpha:g}.",
        (
            *("rule", "task", "mode", "metric", "claim", "baseline", "candidate"),
            *("difference", "p of pass", "p of fail", "docs", "outcome"),
        ),
        tuple(map(_row, gate.checks)),
    )


def _row(check: Check) -> tuple[str, ...]:
    found, kind = check.found, check.rule.kind
    if found is None:
        values = ("–", "–", "–")
    else:
        low, high = check.limits
        interval = f"{_number(check, found.difference, True)} [{_number(check, low, True)}, "
        interval += f"{_number(check, high, True)}]"
        a = "–" if kind.bounded else _number(check, found.value_a)
        values = (a, _number(check, found.value_b), interval)
    return (
        *(check.rule.name, check.task, check.mode, check.metric, _claim(check)),
        *values,
        *(_p(check.p_adjusted), _p(check.p_against_adjusted)),
        str(found.n) if found else "–",
        check.outcome.value,
    )


def _claim(check: Check) -> str:
    rule = check.rule
    if rule.kind is Kind.SPLIT:
        return "split"
    amount = rule.bound if rule.kind.bounded else rule.margin
    return f"{rule.kind.value} {_number(check, amount)}"


def _number(check: Check, value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    scale, digits = (100, 1) if check.unit == "fraction" else (1, 3)
    return f"{scale * value:{'+' if sign else ''}.{digits}f}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _markdown(gate: Gate) -> str:
    differing = Table(
        "What differs between the runs", "", ("what", "baseline", "candidate"), tuple(gate.facts)
    )
    reasons = [f"{c.rule.name} ({c.task}, {c.mode}): {c.why}" for c in _unclear(gate)]
    sections = [Section("Why", said=reasons), Section("Runs", tables=[differing])]
    title = f"Gate: {gate.candidate} against {gate.baseline}"
    return to_markdown(Document(title, gate_verdict(gate), found=[_table(gate)], sections=sections))


def _junit(gate: Gate) -> str:
    """A test case a check; what is open is skipped, or a failure where the rules say so."""
    shut = gate.rules.falls is Falls.SHUT
    failed = [c for c in gate.checks if _is_failure(c, shut)]
    opened = [c for c in gate.checks if c.outcome is Outcome.OPEN and not shut]
    suite = ElementTree.Element(
        "testsuite",
        name=f"psplit-eval gate: {_xml(gate.candidate)} against {_xml(gate.baseline)}",
        tests=str(len(gate.checks)),
        failures=str(len(failed)),
        errors="0",
        skipped=str(len(opened)),
    )
    for check in gate.checks:
        name = _xml(f"{check.rule.name} [{check.task}, {check.mode}]")
        case = ElementTree.SubElement(suite, "testcase", classname="psplit.gate", name=name)
        said = _xml(f"{', '.join(_row(check))}. {check.why}".strip())
        if _is_failure(check, shut):
            ElementTree.SubElement(case, "failure", message=check.outcome.value).text = said
        elif check.outcome is Outcome.OPEN:
            ElementTree.SubElement(case, "skipped", message=said)
        ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suite)
    body = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _is_failure(check: Check, shut: bool) -> bool:
    return check.outcome is Outcome.FAIL or (shut and check.outcome is Outcome.OPEN)


def _xml(text: str) -> str:
    """Without letters that XML 1.0 cannot hold."""
    return visible(text)
