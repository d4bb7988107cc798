"""What a gate says: a terminal's table, gate.json, JUnit XML, and Markdown for a job summary."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from xml.etree import ElementTree

from psplit_eval.documents import Document, Section, to_markdown
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.gate import Check, Gate, Outcome
from psplit_eval.gate_rules import Falls, Kind
from psplit_eval.power import Need
from psplit_eval.tables import Table, tables_text
from psplit_eval.text import shortened_inside, visible

__all__ = ["GATE_FILES", "gate_text", "gate_verdict", "write_gate"]

_WIDTH = 100
"""Letters in a line of a terminal."""
_INDENT = " " * 14
_CELL = 32
"""Letters in each of three columns."""

GATE_FILES = ("gate.json", "gate.md", "junit.xml")
"""What `write_gate` writes."""

_SAID = {
    Outcome.PASS: "Pass: every rule is fulfilled ({all} checks).",
    Outcome.FAIL: "Fail: {failed} of {all} checks failed, {open} are inconclusive.",
    Outcome.OPEN: "Inconclusive: {open} of {all} checks, and none failed.",
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
    """For a terminal: what was found of every check, what differs between the runs, the verdict."""
    found = [f"{gate.candidate} against {gate.baseline}\n{fill(_note(gate), _WIDTH)}"]
    found += map(_lines, gate.checks)
    differing = _differing(gate)
    narrow = tuple(tuple(shortened_inside(cell, _CELL) for cell in row) for row in differing.rows)
    table = tables_text([replace(differing, rows=narrow)])
    return "\n\n".join([*map(visible, found), table, gate_verdict(gate)])


def _lines(check: Check) -> str:
    """As far in as the outcomes are wide."""
    below = (
        fill(said, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        for said in _said(check)
    )
    return "\n".join([f"{check.outcome.value:{len(_INDENT)}}{_title(check)}", *below])


def _said(check: Check) -> list[str]:
    """What was claimed, what was found, and why no more."""
    said = [_claim(check)]
    if check.found and check.found.n:
        value, difference, p, docs = _numbers(check)
        off = f", from the bound {difference}" if check.rule.kind.bounded else f", {difference}"
        said.append(f"{value}{off}; p {p}; {docs} docs")
    return [*said, *_why(check)]


def _why(check: Check) -> list[str]:
    """What the numbers do not say."""
    return [said for said in (check.why, _need(check.need) if check.need else "") if said]


def _need(need: Need) -> str:
    counts = [f"{need.docs:,} docs"] if need.docs else []
    counts += [f"{need.samples:,} samples a doc"] if need.samples else []
    if not counts:
        return "No number of docs or samples decides it if the truth is what was seen."
    return f"About {' or '.join(counts)} decide it if the truth is what was seen."


def write_gate(folder: Path, gate: Gate) -> None:
    """Write GATE_FILES. Raises InfrastructureError for a full disk."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "gate.json", gate.to_dict())
    write_text(folder / "gate.md", _markdown(gate))
    write_text(folder / "junit.xml", _junit(gate))


def _table(gate: Gate) -> Table:
    checks = sorted(gate.checks, key=lambda check: _ORDER.index(check.outcome))
    rows = ((c.outcome.value, f"{_title(c)}: {_claim(c)}", *_numbers(c)) for c in checks)
    header = ("outcome", "rule", "value", "difference", "p", "docs")
    return Table("Checks", _note(gate), header, tuple(rows))


_ORDER = (Outcome.FAIL, Outcome.OPEN, Outcome.PASS)


def _note(gate: Gate) -> str:
    return (
        "Fractions are shown times 100, differences (from the baseline, or from the bound) with "
        "95 % intervals over docs. p: one-sided, of what the outcome rules out, Holm-corrected "
        f"over all checks, alpha {gate.rules.alpha:g}; of an inconclusive check the smaller of two."
    )


def _differing(gate: Gate) -> Table:
    header = ("what", "baseline", "candidate")
    note = "Docs are paired by content; all that matters and is not listed here is the same."
    return Table("What differs between the runs", note, header, tuple(gate.facts))


def _title(check: Check) -> str:
    """The rule, and where it was looked at as far as its name does not say it."""
    rule = check.rule
    words = set(rule.name.replace(",", " ").split())
    task = check.task if rule.suite or (rule.task and rule.task not in words) else ""
    mode = check.mode if len(rule.modes) > 1 or check.mode not in words else ""
    where = ", ".join(part for part in (task, mode) if part)
    return f"{rule.name} ({where})" if where else rule.name


def _claim(check: Check) -> str:
    """What has to hold, in words."""
    rule = check.rule
    said = f"{check.metric} {_CLAIMS[rule.kind]}"
    if rule.kind is Kind.SUPERIOR and rule.margin == 0:
        return f"{check.metric} better"
    return said.format(_number(check, rule.bound if rule.kind.bounded else rule.margin))


_CLAIMS = {
    Kind.NON_INFERIOR: "not worse by {} or more",
    Kind.SUPERIOR: "better by more than {}",
    Kind.EQUAL: "changed by less than {}",
    Kind.AT_LEAST: "above {}",
    Kind.AT_MOST: "below {}",
    Kind.SPLIT: "from the reference mode",
}


def _numbers(check: Check) -> tuple[str, str, str, str]:
    """The value, before and after; the difference with its interval; p; docs."""
    found, p = check.found, _p(check)
    if found is None or not found.n:
        return "–", "–", p, "–"
    low, high = (_number(check, value, True) for value in check.limits)
    difference = _number(check, found.difference, True)
    interval = f" [{low}, {high}]" if math.isfinite(sum(check.limits)) else ""
    before = "" if check.rule.kind.bounded else f"{_number(check, found.value_a)} to "
    return f"{before}{_number(check, found.value_b)}", f"{difference}{interval}", p, str(found.n)


def _number(check: Check, value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    scale, digits = (100, 1) if check.unit == "fraction" else (1, 3)
    return f"{scale * value:{'+' if sign else ''}.{digits}f}"


def _p(check: Check) -> str:
    """Of what the outcome rules out; of an open check the smaller one."""
    passing, failing = check.p_adjusted, check.p_against_adjusted
    known = {Outcome.PASS: [passing], Outcome.FAIL: [failing], Outcome.OPEN: [passing, failing]}
    p = min((one for one in known[check.outcome] if one == one), default=math.nan)
    return "–" if math.isnan(p) else f"{p:.3f}" if p >= 0.0005 else "<0.001"


def _markdown(gate: Gate) -> str:
    reasons = [f"{_title(c)}: {' '.join(_why(c))}" for c in gate.checks if _why(c)]
    sections = [
        Section("Why, and what it takes", said=reasons),
        Section("Runs", tables=[_differing(gate)]),
    ]
    title = f"Gate: {gate.candidate} against {gate.baseline}"
    document = Document(title, gate_verdict(gate), found=[_table(gate)], sections=sections)
    return to_markdown(document, whole="gate.json")


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
        said = _xml("\n".join(_said(check)))
        if _is_failure(check, shut):
            message = _xml(f"{check.outcome.value}: {_claim(check)}")
            ElementTree.SubElement(case, "failure", message=message).text = said
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
    return visible(text).replace("\ufffe", "⟨U+FFFE⟩").replace("\uffff", "⟨U+FFFF⟩")
