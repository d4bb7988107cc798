"""Answers in common, against enumeration of pairs and hand counts."""

import math
from itertools import combinations, product
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.accuracy import Grade
from psplit_eval.agreement import agreement, agreement_findings


def graded(letters):
    """'B' is right, '-' no answer."""
    return [Grade(None if x == "-" else x, x == "B") for x in letters]


def by_measure(findings):
    return {finding.measure: finding for finding in findings}


def test_by_hand():
    found = agreement(graded("BBA"), graded("BAAC"))
    assert found.within_a == 1 / 3  # BB of BB BA BA
    assert found.within_b == 1 / 6  # AA of six
    assert found.across == (2 + 2) / 12  # B-B twice, A-A twice
    assert found.deficit == pytest.approx(1 / 4 - 1 / 3)


def test_equivalent_answers_are_the_same_and_silence_agrees_with_nothing():
    a = [Grade("1/2", False), Grade("0.5", False), Grade(None, False)]
    b = [Grade(r"\frac{1}{2}", False), Grade(None, False)]
    found = agreement(a, b)
    assert (found.within_a, found.within_b, found.across) == (1 / 3, 0, 2 / 6)


letters = st.text("ABC-", max_size=6)


@given(letters, letters)
def test_it_is_the_share_of_pairs(a, b):
    def share(pairs):
        same = [x == y != "-" for x, y in pairs]
        return fmean(same) if same else math.nan

    found = agreement(graded(a), graded(b))
    assert found.within_a == pytest.approx(share(combinations(a, 2)), nan_ok=True)
    assert found.within_b == pytest.approx(share(combinations(b, 2)), nan_ok=True)
    assert found.across == pytest.approx(share(product(a, b)), nan_ok=True)


def docs_of(p, q, n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (graded(rng.choice(list("ABC-"), 4, p=p)), graded(rng.choice(list("ABC-"), 4, p=q)))
        for _ in range(n)
    ]


def test_the_deficit_is_half_the_squared_distance_of_the_answers_distributions():
    p, q = [0.6, 0.2, 0.1, 0.1], [0.2, 0.5, 0.1, 0.2]
    truth = 0.5 * ((0.6 - 0.2) ** 2 + (0.2 - 0.5) ** 2)  # of A, B and C; silence is no answer
    gap = by_measure(agreement_findings("t", "a", "b", docs_of(p, q, 600)))
    found = gap["answer_agreement_deficit"]
    assert found.estimate.ci_low < truth < found.estimate.ci_high
    assert found.estimate.ci_low > 0.05
    assert found.p < 1e-6


def test_modes_that_answer_as_one_have_no_deficit():
    p = [0.5, 0.3, 0.1, 0.1]
    found = by_measure(agreement_findings("t", "a", "b", docs_of(p, p, 200)))
    gap = found["answer_agreement_deficit"]
    assert gap.estimate.ci_low < 0 < gap.estimate.ci_high
    assert gap.p > 0.05
    across = found["answer_agreement_across"].estimate
    assert across.ci_low < 0.5**2 + 0.3**2 + 0.1**2 < across.ci_high
    assert found["answer_agreement_across"].test == ""


def test_all_four_are_of_the_docs_with_two_samples_in_each_mode():
    docs = [(graded("BB"), graded("BB")), (graded("B"), graded("AA")), (graded(""), graded("A"))]
    found = agreement_findings("t", "a", "b", docs)
    assert [finding.estimate.n for finding in found] == [1] * 4
    assert [finding.estimate.value for finding in found] == [1, 1, 1, 0]
    assert all(math.isnan(finding.p) and finding.test == "" for finding in found)


def test_nothing_answered_agrees_with_nothing():
    found = agreement_findings("t", "a", "b", [(graded("--"), graded("--"))] * 6)
    assert [finding.estimate.value for finding in found] == [0] * 4
    assert found[-1].p == 1


def test_without_such_docs_all_is_nan_and_says_why():
    for finding in agreement_findings("t", "a", "b", [(graded("A"), graded("A"))]):
        assert math.isnan(finding.estimate.value)
        assert finding.note == "undefined: needs a doc with two samples in each mode"
