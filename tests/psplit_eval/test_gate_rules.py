"""Rules of a gate: what a file may say, and that every mistake is said with its line."""

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import DataError
from psplit_eval.gate_rules import Falls, Kind, read_rules
from psplit_eval.protocol import Estimand

RULE = "{kind: non-inferior, task: t, mode: normal, margin: 0.02}"


@pytest.fixture
def read(tmp_path):
    def rules(content):
        path = tmp_path / "gate.yaml"
        path.write_text(content, encoding="utf-8")
        return read_rules(path)

    return rules


def test_every_field_is_read(read):
    found = read(
        """
format: 1
alpha: 0.01
docs: given
inconclusive: fail
rules:
  - name: Maths
    kind: non-inferior
    task: psplit_gsm8k
    metric: accuracy_pass_at_4
    mode: [normal, high]
    margin: 0.02
  - {kind: superior, suite: creative, mode: high, margin: 0.1}
  - {kind: superior, task: t, mode: high}
  - {kind: equal, task: t, metric: entropy_bits, mode: normal, margin: 0.3}
  - {kind: at-most, task: t, metric: truncated, mode: normal, bound: 0.05}
  - {kind: at-least, task: s, judge: "openai:m", rubric: story, dimension: creativity,
     mode: high, bound: -0.5}
  - {kind: split, mode: high}
"""
    )
    assert (found.alpha, found.estimand, found.falls) == (0.01, Estimand.GIVEN, Falls.SHUT)
    first, *others = found.rules
    assert (first.name, first.line, first.kind) == ("Maths", 7, Kind.NON_INFERIOR)
    assert (first.task, first.metric, first.modes) == (
        "psplit_gsm8k",
        "accuracy_pass_at_4",
        ("normal", "high"),
    )
    assert (first.margin, first.suite) == (0.02, "")
    assert [rule.kind.value for rule in others] == [
        *("superior", "superior", "equal", "at-most", "at-least", "split")
    ]
    assert [rule.margin for rule in others] == [0.1, 0, 0.3, 0, 0, 0]
    assert [rule.bound for rule in others] == [0, 0, 0, 0.05, -0.5, 0]
    judged = others[4]
    assert (judged.judge, judged.rubric, judged.dimension) == ("openai:m", "story", "creativity")
    assert (others[5].task, others[5].suite) == ("", "")


def test_what_is_left_out_has_defaults(read):
    found = read(f"format: 1\nrules: [{RULE}]\n")
    assert (found.alpha, found.estimand, found.falls) == (0.05, Estimand.SAMPLE, Falls.SAID)
    (rule,) = found.rules
    assert rule.name == "t normal non-inferior"


def test_a_name_is_one_line(read):
    (rule,) = read('format: 1\nrules: [{name: "a\\n\\t b", kind: split, mode: m}]').rules
    assert rule.name == "a b"


def rule(**fields):
    content = {"kind": "non-inferior", "task": "t", "mode": "normal", "margin": 0.02} | fields
    kept = {name: value for name, value in content.items() if value is not None}
    return f"format: 1\nrules:\n- {json.dumps(kept)}\n"


JUDGE = {"judge": "j", "rubric": "story", "dimension": "creativity"}
WRONG = {
    "an empty file": ("", 1, "an empty file", "examples/ci/gate.yaml"),
    "a list": ("- 1\n", 1, "a list", "rules"),
    "no rules": ("format: 1\n", 1, "no field 'rules'", "a list of rules"),
    "no format": (f"rules: [{RULE}]\n", 1, "no field 'format'", "1"),
    "a later format": (f"format: 2\nrules: [{RULE}]\n", 1, "format: '2'", "from 1 to 1"),
    "an empty list": ("format: 1\nrules: []\n", 2, "an empty list", "a list of rules"),
    "another field": (f"format: 1\nrule: 1\nrules: [{RULE}]", 2, "field 'rule'", "format, alpha"),
    "a wide alpha": (f"format: 1\nrules: [{RULE}]\nalpha: 5", 3, "alpha: '5'", "to 0.5"),
    "alpha 0": (f"format: 1\nalpha: 0\nrules: [{RULE}]", 2, "alpha: '0'", "a number from 1e-06"),
    "other docs": (f"format: 1\ndocs: all\nrules: [{RULE}]", 2, "docs 'all'", "sample, given"),
    "another way": (
        f"format: 1\ninconclusive: open\nrules: [{RULE}]",
        *(2, "inconclusive 'open'", "one of pass, fail, report"),
    ),
    "a rule that is none": ("format: 1\nrules: [good]", 2, "'good'", "a rule, such as {task:"),
    "one name twice": (f"format: 1\nrules:\n- {RULE}\n- {RULE}", 4, "a second time", "every name"),
    "a field twice": ("format: 1\nrules:\n- {kind: split, kind: split}", 3, "'kind' a sec", "once"),
    "a merge": ("format: 1\nrules:\n- {<<: {}, kind: split}", 3, "field '<<'", "one of name"),
    "no kind": (rule(kind=None), 3, "a rule without 'kind'", "one of non-inferior, superior"),
    "another kind": (rule(kind="better"), 3, "kind 'better'", "one of non-inferior"),
    "no mode": (rule(mode=None), 3, "without 'mode'", "a mode, or a list of modes"),
    "no modes": (rule(mode=[]), 3, "an empty list", "a mode, or a list of modes"),
    "a mode twice": (rule(mode=["a", "a"]), 3, "mode 'a' a second time", "every mode once"),
    "a mode that is none": (rule(mode=[{"a": 1}]), 3, "mode a mapping", "a text"),
    "a null": (rule(mode=[None]), 3, "mode 'null'", "a text"),
    "no margin": (rule(margin=None), 3, "without 'margin'", "0.02 is two points"),
    "margin 0": (rule(margin=0), 3, "margin 0", "above 0"),
    "margin 0 of equal": (rule(kind="equal", margin=0), 3, "margin 0", "exact equality"),
    "margin below 0": (rule(margin=-0.02), 3, "margin: '-0.02'", "a number from 0"),
    "a margin in words": (rule(margin="2 points"), 3, "margin: '2 points'", "a number"),
    "a bound where a margin is": (rule(bound=0.5), 3, "field 'bound'", "name, kind, task"),
    "a margin where a bound is": (
        rule(kind="at-least", bound=0.5),
        *(3, "field 'margin' in a rule of kind at-least", "metric, mode, bound"),
    ),
    "no bound": (rule(kind="at-most", margin=None), 3, "without 'bound'", "must reach"),
    "task and suite": (rule(suite="general"), 3, "non-inferior", "either 'task' or 'suite'"),
    "neither": (rule(task=None), 3, "non-inferior", "either 'task' or 'suite'"),
    "another suite": (rule(task=None, suite="genral"), 3, "suite 'genral'", "quick, general"),
    "a task of a split": (rule(kind="split", margin=None), 3, "'task' in a rule", "mode"),
    "a metric of a judge": (rule(metric="m", **JUDGE), 3, "field 'metric'", "judge, rubric"),
    "a judge without rubric": (rule(judge="j", dimension="d"), 3, "without 'rubric'", "judge's"),
    "a rubric without judge": (rule(rubric="story"), 3, "field 'rubric'", "metric, mode, margin"),
    "an unknown field": (rule(tasks="t"), 3, "field 'tasks'", "name, kind, task, suite"),
    "an empty name": (rule(name=""), 3, "name ''", "a text"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named_with_its_line(read, case):
    content, line, found, expected = WRONG[case]
    with pytest.raises(DataError) as caught:
        read(content)
    said = re.fullmatch(r"(.*), line (\d+): (.*), expected (.*); correct it", str(caught.value))
    assert said, str(caught.value)
    assert (int(said[2]), said[1].endswith("gate.yaml")) == (line, True)
    assert found in said[3]
    assert expected in said[4]


def test_the_line_is_that_of_the_value(read):
    with pytest.raises(DataError, match=r"line 6: margin: 'x', expected"):
        read("format: 1\nrules:\n- kind: equal\n  task: t\n  mode: m\n  margin: x\n")


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"no such file; give a YAML file of rules"):
        read_rules(tmp_path / "none.yaml")
    with pytest.raises(DataError, match=r"no such file"):
        read_rules(tmp_path)


WORDS = st.sampled_from(
    [
        *("format", "alpha", "docs", "inconclusive", "rules", "name", "kind", "task", "suite"),
        *("metric", "mode", "margin", "bound", "judge", "rubric", "dimension", "split", "equal"),
        *("at-least", "normal", "quick", "given", "1", "0.02", "~", "yes", "", "\n", "é\u202e\x85"),
    ]
)
SCALARS = WORDS | st.text(max_size=8) | st.integers() | st.floats() | st.booleans() | st.none()
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=12,
)
FIELDS = st.dictionaries(WORDS, TREES, max_size=6)
FILES = FIELDS | st.builds(
    lambda rules: {"format": 1, "rules": rules}, st.lists(FIELDS, max_size=3)
)


def outcome(path):
    """The rules, or what is complained of."""
    try:
        return read_rules(path), ""
    except DataError as error:
        return None, str(error)


@given(FILES | TREES)
def test_wild_files_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("wild") / "gate.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=False))
    found, said = outcome(path)
    if found is None:
        assert re.search(r", line [1-9]\d*: .*, expected .*; correct it$", said, re.DOTALL)
    else:
        assert found.rules
        assert all(each.modes and each.name for each in found.rules)


@given(st.text(alphabet=st.sampled_from("formatules:1 \n-{}[]&*!'\"~<>|%@`,#?"), max_size=60))
def test_wild_text_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("wild") / "gate.yaml"
    path.write_text(content)
    found, said = outcome(path)
    assert found or re.search(r", line [1-9]", said)


def test_aliases_that_hold_themselves_are_refused(read):
    with pytest.raises(DataError):
        read("format: 1\nrules: &a [*a]\n")
    with pytest.raises(DataError):
        read("&a {format: 1, rules: [*a]}\n")
    assert len(read("format: 1\nrules: [&a {kind: split, mode: [m, n]}]").rules) == 1
