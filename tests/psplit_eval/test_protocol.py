"""Which test decides about which metric, on small arms."""

import re

import numpy as np
import pytest
from scipy import stats as scipy_stats

from psplit_eval.protocol import BELOW, PROTOCOL, compare_docs, rule_of
from psplit_eval.stats import FEW_DOCS, MINIMUM_DOCS, mcnemar_difference

ONES = np.array([1.0] * 9 + [0.0] * 6)
MIXED = np.array([0.0] * 12 + [1.0] * 3)


@pytest.mark.parametrize(
    ("metric", "row"),
    [
        ("accuracy_avg", 0),
        ("accuracy_pass_at_16", 1),
        ("accuracy_maj_at_4", 2),
        ("entropy_bits", 3),
        ("entropy_bits_estimate", 3),
        ("tokens_mean", 4),
        ("quality_fit", 4),
        ("mtld_cut", 4),
        ("ngram_overlap_2_with_high", 5),
        ("utility_k", 6),
        ("vendi_cut", 6),
        ("quality", 7),
        ("exact_match", 7),
        ("accuracy_avg_of_something", 7),
    ],
)
def test_a_metric_has_one_row(metric, row):
    assert rule_of(metric) is PROTOCOL[row]


def test_every_metric_that_the_table_names_is_in_the_row_that_names_it():
    for rule in PROTOCOL:
        for name in re.findall(r"`([^`]+)`", rule.metrics):
            metric = name.replace("_K", "_4").replace("PART", "fit").replace("MODE", "high")
            assert rule_of(metric) is rule, name


def test_the_table_says_the_tests_that_are_made():
    rng = np.random.default_rng(0)
    a, b = rng.random(30), rng.random(30)
    for rule in PROTOCOL:
        arms = ((a, a + 1), (b, b + 1)) if rule.ratio else (a, b)
        found = compare_docs(rule, *arms)
        assert found.test == rule.test
    assert str(MINIMUM_DOCS) in BELOW
    assert str(FEW_DOCS) in BELOW


def test_single_answers_are_tested_by_mcnemar_where_the_row_says_so():
    for rule in PROTOCOL:
        if rule.ratio:
            continue
        found = compare_docs(rule, ONES, MIXED, True, one_sample=True)
        assert (found.test == "McNemar's test, mid-p") == rule.once
    found = compare_docs(rule_of("accuracy_avg"), ONES, MIXED, True, one_sample=True)
    assert found == mcnemar_difference(ONES, MIXED)


def test_mcnemar_is_never_made_of_means_or_of_several_samples():
    rule = rule_of("accuracy_avg")
    several = compare_docs(rule, ONES, MIXED, True, one_sample=False)
    assert several.p == pytest.approx(scipy_stats.ttest_rel(MIXED, ONES).pvalue)
    halves = compare_docs(rule, ONES / 2, MIXED, True, one_sample=True)
    assert "McNemar" not in halves.test


def test_a_ratio_is_compared_as_a_ratio():
    bits, tokens = np.arange(1.0, 13), np.full(12, 2.0)
    other = bits[::-1] + 1
    found = compare_docs(rule_of("entropy_bits"), (bits, tokens), (other, tokens))
    assert found.value_a == pytest.approx(78 / 24)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(other / 2, bits / 2).pvalue)


@pytest.mark.parametrize("rule", PROTOCOL, ids=lambda rule: rule.pattern[:20])
def test_below_the_minimum_there_are_values_alone(rule):
    few = np.array([1.0, 0.0, 1.0, 1.0])
    arms = ((few, few + 1), (few, few + 1)) if rule.ratio else (few, few)
    found = compare_docs(rule, *arms, one_sample=True)
    assert found.difference == 0
    assert np.isnan(found.p)
