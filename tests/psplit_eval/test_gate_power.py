"""What a gate can find out at its size, against simulated gates and by hand."""

import math

import numpy as np
import pytest

from psplit_eval.gate import Check, Gate
from psplit_eval.gate_power import explain, power_table
from psplit_eval.gate_rules import Kind, Rule, Rules
from psplit_eval.power import Components
from psplit_eval.stats import paired_mean_difference

RULE = Rule(1, "sums", Kind.NON_INFERIOR, ("normal",), task="t", margin=0.1)
PARTS = Components(0.01, 0.2, 4.0)


def gate(tmp_path, *checks, alpha=0.05):
    rules = Rules(tmp_path / "r.yaml", tuple(c.rule for c in checks), alpha)
    return Gate(rules, "a", "b", checks)


def check(rule=RULE, parts=PARTS, docs=60):
    rng = np.random.default_rng(1)
    found = paired_mean_difference(rng.random(docs), rng.random(docs))
    return Check(rule, "t", "normal", "accuracy_avg", "fraction", found, 0.1, 0.9, parts=parts)


def test_the_chances_are_those_of_simulated_gates(tmp_path):
    """Docs' differences are normal with the variance that is given; each gate is a t-test."""
    (power,) = explain(gate(tmp_path, check()))
    rng = np.random.default_rng(2)
    from scipy.stats import ttest_1samp

    passed = ttest_1samp(
        rng.normal(0, PARTS.now**0.5, (20_000, 60)), -0.1, axis=1, alternative="greater"
    )
    assert power.passes == pytest.approx(np.mean(passed.pvalue < 0.05), abs=0.01)
    failed = ttest_1samp(
        rng.normal(-0.2, PARTS.now**0.5, (20_000, 60)), -0.1, axis=1, alternative="less"
    )
    assert power.stopped == pytest.approx(np.mean(failed.pvalue < 0.05), abs=0.01)


def test_more_checks_see_less(tmp_path):
    (one,) = explain(gate(tmp_path, check()))
    many = explain(gate(tmp_path, *[check() for _ in range(4)]))
    assert many[0].level == pytest.approx(one.level / 4)
    assert many[0].noticed > one.noticed
    assert many[0].passes < one.passes
    assert many[0].docs_for > one.docs_for


def test_so_many_docs_do(tmp_path):
    (power,) = explain(gate(tmp_path, check()))
    (enough,) = explain(gate(tmp_path, check(docs=power.docs_for)))
    (few,) = explain(gate(tmp_path, check(docs=power.docs_for - 1)))
    assert few.passes < 0.8 <= enough.passes


def test_rules_without_a_margin_have_only_what_is_noticed(tmp_path):
    rule = Rule(1, "r", Kind.AT_LEAST, ("normal",), task="t", bound=0.4)
    (power,) = explain(gate(tmp_path, check(rule)))
    assert power.noticed > 0
    assert math.isnan(power.passes)
    assert power.docs_for is None


def test_what_is_not_known_is_said(tmp_path):
    (power,) = explain(gate(tmp_path, check(parts=None)))
    assert math.isnan(power.noticed)
    assert power.to_dict()["noticed"] is None
    assert power_table([power]).rows[0][4] == "not known"


def test_an_equality_is_harder_than_not_being_worse(tmp_path):
    equal = Rule(1, "r", Kind.EQUAL, ("normal",), task="t", margin=0.1)
    both = explain(gate(tmp_path, check(), check(equal)))
    assert both[1].passes < both[0].passes
    assert both[1].docs_for > both[0].docs_for
