"""Findings: what goes to divergence.json, and the correction over all that are tested."""

import math

from psplit_eval.findings import Finding, adjusted
from psplit_eval.stats import Estimate


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
