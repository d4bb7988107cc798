"""Complementarity against enumeration of every subset, and by simulation."""

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.accuracy import Grade
from psplit_eval.complementarity import Budget, SolvedDoc, complementary_findings

WRONG, NONE = Grade("0", False), Grade(None, False)
ANSWER = st.sampled_from([WRONG, NONE, Grade("5", True), Grade("7", True), Grade("a", True)])
SAMPLES = st.lists(ANSWER, min_size=1, max_size=6)


def by_name(findings):
    return {finding.measure: finding for finding in findings}


def subsets(samples, k):
    return list(combinations(samples, k))


def solves(samples):
    return any(grade.correct for grade in samples)


@settings(max_examples=60)
@given(SAMPLES, SAMPLES, st.data())
def test_every_number_is_the_mean_over_all_subsets(a, b, data):
    most = min(len(a), len(b))
    a, b = a[:most], b[:most]
    found = by_name(complementary_findings("t", "a", "b", [SolvedDoc(0, a, b)]))
    for k in {1, most}:
        pairs = [(solves(x), solves(y)) for x in subsets(a, k) for y in subsets(b, k)]
        for name, wanted in {
            "only_a": (True, False),
            "only_b": (False, True),
            "both": (True, True),
            "neither": (False, False),
        }.items():
            expected = fmean(pair == wanted for pair in pairs)
            assert found[f"{name}_at_{k}"].estimate.value == pytest.approx(expected)
    k = data.draw(st.integers(1, most))
    distinct = [len({g.answer for g in x if g.correct}) for x in subsets(a, k)]
    assert Budget(a).distinct_at(k) == pytest.approx(fmean(distinct))
    even = most - most % 2
    if even:
        half = [
            solves(x) or solves(y) for x in subsets(a, even // 2) for y in subsets(b, even // 2)
        ]
        assert found[f"best_mixed_at_{even}"].estimate.value == pytest.approx(fmean(half))
        gap = found[f"mixed_less_a_at_{even}"].estimate.value
        best = found[f"best_a_at_{even}"].estimate.value
        assert gap == pytest.approx(fmean(half) - best)


def drawn(rng, chance):
    return [Grade("5", True) if hit else WRONG for hit in rng.random(4) < chance]


def test_estimates_are_unbiased():
    """Docs that a solves with chance p and b with q: (1 − (1 − p)²) (1 − q)² and so on, k = 2."""
    rng = np.random.default_rng(0)
    p, q = 0.3, 0.6
    docs = [SolvedDoc(i, drawn(rng, p), drawn(rng, q)) for i in range(4000)]
    found = by_name(complementary_findings("t", "a", "b", docs))
    misses = (1 - p) ** 4, (1 - q) ** 4
    expected = {
        "only_a_at_1": p * (1 - q),
        "only_b_at_4": (1 - misses[1]) * misses[0],
        "best_a_at_4": 1 - misses[0],
        "best_mixed_at_4": 1 - (1 - p) ** 2 * (1 - q) ** 2,
        "mixed_less_b_at_4": 1 - (1 - p) ** 2 * (1 - q) ** 2 - (1 - misses[1]),
    }
    for name, value in expected.items():
        estimate = found[name].estimate
        assert abs(estimate.value - value) < 0.02, name
        assert estimate.ci_low < value < estimate.ci_high


def test_a_mixed_budget_gains_where_modes_solve_different_questions():
    right, wrong = [Grade("5", True)] * 2, [WRONG] * 2
    docs = [SolvedDoc(i, *((right, wrong) if i % 2 else (wrong, right))) for i in range(20)]
    found = by_name(complementary_findings("t", "a", "b", docs))
    assert found["best_mixed_at_2"].estimate.value == 1
    assert found["mixed_less_a_at_2"].estimate.value == 0.5
    assert found["mixed_less_a_at_2"].p < 0.01
    assert found["only_a_at_1"].estimate.value == found["only_b_at_1"].estimate.value == 0.5


def test_answers_that_mean_the_same_are_one():
    assert Budget([Grade("1/2", True), Grade("0.5", True), Grade("7", True)]).classes == (2, 1)


def test_docs_with_fewer_samples_than_most_are_left_out_and_said():
    docs = [SolvedDoc(i, [WRONG] * 4, [WRONG] * 4) for i in range(6)]
    found = complementary_findings("t", "a", "b", [*docs, SolvedDoc(9, [WRONG], [WRONG] * 4)])
    assert {f.note for f in found} == {"1 docs with fewer samples left out"}
    assert {f.estimate.n for f in found} == {6}


@pytest.mark.parametrize("grade", [WRONG, Grade("5", True)])
def test_nothing_or_everything_solved_is_defined(grade):
    docs = [SolvedDoc(i, [grade] * 2, [grade] * 2) for i in range(8)]
    found = by_name(complementary_findings("t", "a", "b", docs))
    assert found["best_mixed_at_2"].estimate.value == float(grade.correct)
    assert found["mixed_less_a_at_2"].estimate.value == 0
    assert found["mixed_less_a_at_2"].p == 1


def test_one_doc_has_values_alone_and_no_docs_say_nothing():
    (first, *_) = complementary_findings("t", "a", "b", [SolvedDoc(0, [WRONG], [WRONG])])
    assert (first.measure, first.estimate.value) == ("only_a_at_1", 0)
    assert math.isnan(first.estimate.ci_low)
    assert complementary_findings("t", "a", "b", []) == []
    assert complementary_findings("t", "a", "b", [SolvedDoc(0, [], [])]) == []
