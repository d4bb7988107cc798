"""Findings: what goes to divergence.json, and the correction over all that are tested."""

import math

from psplit_eval.findings import Finding, adjusted
from psplit_eval.stats import Estimate, paired_mean_difference


def finding(p=math.nan, test=""):
    return Finding("sums", "normal", "high", "kl", "bits", Estimate(0.1, 0.0, 0.2, 9), p, test)


def test_only_what_is_tested_is_corrected_and_counts():
    found = adjusted([finding(0.01, "swap test"), finding(), finding(0.04, "swap test")])
    assert [f.p_adjusted for f in found if f.test] == [0.02, 0.04]  # m p(i) / i, by hand
    assert math.isnan(found[1].p_adjusted)


def test_undefined_numbers_are_null_in_json():
    entry = finding().to_dict()
    assert (entry["p"], entry["test"], entry["note"]) == (None, None, None)
    assert (entry["value"], entry["ci_low"], entry["n_docs"]) == (0.1, 0.0, 9)


def test_a_difference_keeps_its_test_and_the_values_of_both_modes():
    difference = paired_mean_difference([1, 2, 3, 4, 5], [2, 2, 4, 4, 6])
    found = Finding.of_difference("sums", "normal", "high", "words", "words", difference)
    assert (found.estimate.value, found.estimate.n) == (0.6000000000000001, 5)
    assert (found.estimate.ci_low, found.estimate.ci_high) == (
        difference.ci_low,
        difference.ci_high,
    )
    assert (found.p, found.test) == (difference.p, "swap test of docs")
    assert found.note == "normal 3, high 3.6"


def test_a_difference_of_few_docs_is_no_member_of_the_family():
    few = paired_mean_difference([1.0, 2.0], [2.0, 2.0])
    found = Finding.of_difference("sums", "normal", "high", "words", "words", few, "said")
    assert (found.test, found.note) == ("", "said")
    assert adjusted([finding(0.04, "swap test"), found])[0].p_adjusted == 0.04
