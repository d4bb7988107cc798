"""What a gate says: for a terminal, as JSON, as JUnit XML, as Markdown."""

import html
import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from gated import ALIKE, ODD, WORSE, gated, made

from psplit_eval.gate import Check, Gate, Outcome
from psplit_eval.gate_files import GATE_FILES, gate_text, gate_verdict, write_gate
from psplit_eval.gate_rules import Falls, Kind, Rule, Rules

PASSES = "{name: Kept, kind: non-inferior, task: t, mode: normal, margin: 0.05}"
FAILS = "{kind: at-least, task: t, mode: high, bound: 0.6}"
OPEN = "{kind: superior, task: t, mode: [normal, high]}"
UNKNOWN = "{kind: equal, task: t, metric: entropy_bits, mode: high, margin: 0.5}"


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    runs = made(folder, "before"), made(folder, "after", ALIKE)
    return gated(folder, *runs, PASSES, FAILS, OPEN, UNKNOWN)


@pytest.fixture
def written(tmp_path):
    def files(gate):
        write_gate(tmp_path / "out", gate)
        return {name: (tmp_path / "out" / name).read_text(encoding="utf-8") for name in GATE_FILES}

    return files


def falling(gate, falls):
    return replace(gate, rules=replace(gate.rules, falls=falls))


def test_the_verdict_counts(gate):
    assert gate_verdict(gate) == "Fail: 1 of 5 checks failed, 3 are inconclusive."
    without = replace(gate, checks=[c for c in gate.checks if c.outcome is not Outcome.FAIL])
    assert gate_verdict(without) == "Inconclusive: 3 of 4 checks, and none failed."
    assert gate_verdict(falling(without, Falls.OPEN)).endswith(
        "The rules let an inconclusive gate pass."
    )
    assert gate_verdict(falling(without, Falls.SHUT)).endswith(
        "The rules let an inconclusive gate fail."
    )
    passed = replace(gate, checks=gate.checks[:1])
    assert gate_verdict(falling(passed, Falls.SHUT)) == "Pass: every rule is fulfilled (1 checks)."


def test_a_terminal_has_a_paragraph_a_check(gate):
    text = gate_text(gate)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "pass          Kept (t, normal)" in lines
    assert "fail          t high at-least" in lines
    assert "inconclusive  t normal, high superior (high)" in lines
    place = lines.index("pass          Kept (t, normal)")
    assert lines[place + 1] == "              accuracy_avg not worse by 5.0 or more"
    number = r"50.0 to 50.0, \+0.0 \[-3.8, \+3.8\]; p 0.0\d\d; 60 docs"
    assert re.fullmatch(number, lines[place + 2].strip())
    assert lines[place + 3] == ""
    assert re.search(r"accuracy_avg above 60.0\n +\S+, from the bound -\S+ \[", text)
    assert "every doc differs by as much" in text
    assert "all that matters and is not listed here is the same" in text
    assert lines[-1] == gate_verdict(gate)


def test_json_has_all_of_it(gate, written):
    content = json.loads(written(gate)["gate.json"])
    assert content == json.loads(json.dumps(gate.to_dict()))
    assert (content["format"], content["outcome"], content["exit_code"]) == (1, "fail", 1)
    assert (content["baseline"], content["candidate"]) == ("before", "after")
    kept, bound, *_, unknown = content["checks"]
    assert (kept["rule"], kept["line"], kept["kind"]) == ("Kept", 3, "non-inferior")
    assert (kept["margin"], kept["bound"], kept["outcome"]) == (0.05, None, "pass")
    assert (bound["margin"], bound["bound"], bound["baseline"]) == (None, 0.6, None)
    assert kept["baseline"] + kept["difference"] == pytest.approx(kept["candidate"])
    assert kept["ci_low"] < kept["difference"] < kept["ci_high"]
    assert (unknown["p"], unknown["ci_low"], unknown["outcome"]) == (None, None, "inconclusive")
    assert [check["needed"] for check in (kept, bound, unknown)] == [None] * 3
    assert {row["what"] for row in content["differences"]} >= {"checkpoint", "fingerprint"}


def cases(text):
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuite"
    return root, list(root.iter("testcase"))


@pytest.mark.parametrize(
    ("falls", "failures", "skipped"), [(Falls.SAID, 1, 3), (Falls.OPEN, 1, 3), (Falls.SHUT, 4, 0)]
)
def test_junit_counts_as_the_policy_says(gate, written, falls, failures, skipped):
    root, found = cases(written(falling(gate, falls))["junit.xml"])
    said = {name: int(root.get(name)) for name in ("tests", "failures", "skipped", "errors")}
    assert said == {"tests": 5, "failures": failures, "skipped": skipped, "errors": 0}
    assert len(found) == 5
    assert sum(case.find("failure") is not None for case in found) == failures
    assert sum(case.find("skipped") is not None for case in found) == skipped


def test_junit_tells_cases_apart_and_says_why(gate, written):
    _, found = cases(written(gate)["junit.xml"])
    names = [case.get("name") for case in found]
    assert len(set(names)) == 5
    assert names[0] == "Kept [t, normal]"
    failure = found[1].find("failure")
    assert failure.get("message") == "fail: accuracy_avg above 60.0"
    assert re.search(r"from the bound -\d+\.\d \[-", failure.text)
    assert "every doc differs by as much" in found[-1].find("skipped").get("message")


def test_markdown_has_failures_first(gate, written):
    text = written(gate)["gate.md"]
    rows = [line for line in text.splitlines() if re.match(r"\| (fail|inconclusive|pass) ", line)]
    assert [row.split(" ")[1] for row in rows] == ["fail", *["inconclusive"] * 3, "pass"]
    assert text.startswith("# Gate: after against before\n\n**Fail: 1 of 5 checks failed")
    assert (
        "| pass | Kept (t, normal): accuracy_avg not worse by 5.0 or more | 50.0 to 50.0 |" in text
    )
    assert "- t entropy_bits high equal: not tested: every doc differs" in text
    assert "| checkpoint | before | after |" in text


def test_many_checks_are_cut_and_the_rest_is_named(tmp_path, gate, written):
    many = replace(gate, checks=[gate.checks[0]] * 30 + [gate.checks[1]] * 5)
    text = written(many)["gate.md"]
    assert text.count("| fail |") == 5
    assert "5 more rows are in gate.json." in text


HOSTILE = [
    "<script>alert(1)</script> & | ` \" ' ]]> [x](y)",
    "one\ntwo\ttabs",
    "nul \x00 bell \x07 esc \x1b[31m",
    "turned \u202e and hidden \u200b",
    "not a character \ufffe \uffff",
    "<failure/>&amp;&#0;",
]


def hostile(name):
    """A gate whose every name is the same."""
    rule = Rule(3, name, Kind.NON_INFERIOR, (name,), task=name, metric=name, margin=0.1)
    split = Rule(4, name, Kind.SPLIT, (name,))
    unknown = Check(rule, name, name, name, "fraction", None, math.nan, math.nan, why=name)
    failed = Check(split, name, name, "split", "bits", None, 1, 0, why=name, outcome=Outcome.FAIL)
    return Gate(Rules(PATH, (rule, split)), name, name, [unknown, failed], [(name, name, name)])


PATH = "gate.yaml"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(written, name):
    files = written(hostile(name))
    _, found = cases(files["junit.xml"])
    assert len(found) == 2
    assert [child.tag for child in found[0]] == ["skipped", "system-out"]
    assert [child.tag for child in found[1]] == ["failure", "system-out"]
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202e\ufffe\uffff]", files["junit.xml"])
    for text in (files["gate.md"], gate_text(hostile(name))):
        assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202e\ud800]", text)
    assert "<script>" not in files["gate.md"]
    assert json.loads(files["gate.json"])["checks"][0]["outcome"] == "inconclusive"


def test_markup_in_names_is_text_in_markdown(written):
    text = written(hostile(HOSTILE[0]))["gate.md"]
    assert html.escape("<script>alert(1)</script> &", quote=False) in text
    rows = [line for line in text.splitlines() if line.startswith("| fail")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7


def test_a_split_says_its_evidence_whatever_it_is(written):
    rule = Rule(3, "high split", Kind.SPLIT, ("high",))
    found = Check(rule, "t", "high", "split", "bits", None, 0.001, 1.0, why="KL 2, so far")
    gate = Gate(Rules(PATH, (rule,)), "a", "b", [replace(found, outcome=Outcome.PASS)])
    assert "KL 2, so far" in gate_text(gate)
    assert "- high split: KL 2, so far" in written(gate)["gate.md"]


def test_what_is_open_says_what_it_takes(tmp_path, written):
    runs = made(tmp_path, "a"), made(tmp_path, "b", ODD)
    gate = gated(tmp_path, *runs, "{kind: non-inferior, task: t, mode: normal, margin: 0.05}")
    (check,) = gate.checks
    docs, samples = f"{check.need.docs:,} docs", f"{check.need.samples:,} samples a doc"
    said = f"About {docs}, or {samples}, decide it if the truth is what was seen."
    assert said in " ".join(gate_text(gate).split())
    files = written(gate)
    assert f"- t normal non-inferior: {said}" in files["gate.md"]
    assert said in files["junit.xml"]
    (entry,) = json.loads(files["gate.json"])["checks"]
    assert entry["needed"]["docs"] == check.need.docs
    assert entry["needed"]["power"] == 0.8


def test_a_small_p_is_no_zero(tmp_path, written):
    runs = made(tmp_path, "a"), made(tmp_path, "b", WORSE)
    found = gated(tmp_path, *runs, "{kind: non-inferior, task: t, mode: normal, margin: 0.001}")
    assert "p <0.001" in gate_text(found)


def test_a_gate_is_written_over(tmp_path, gate):
    for _ in range(2):
        write_gate(tmp_path / "out" / "deep", gate)
    assert {path.name for path in (tmp_path / "out" / "deep").iterdir()} == set(GATE_FILES)
