"""A rule on a split, on a model that is two policies and on one that is one."""

import shutil

import pytest
from diverged import PLAIN, diverge, sampled
from gated import gated

from psplit_eval.gate import Outcome

MODES = ["--modes", "normal,high", *PLAIN]
RULE = "{kind: split, mode: high}"


@pytest.fixture(scope="module")
def two(split_model, tmp_path_factory):
    """Of a model that was trained to be two policies."""
    out = tmp_path_factory.mktemp("runs") / "two"
    return sampled(split_model, out, *MODES, docs=12, samples=3, tokens=12)


@pytest.fixture(scope="module")
def one(tiny, tmp_path_factory):
    """Of a model that no prompt changes much."""
    out = tmp_path_factory.mktemp("runs") / "one"
    return sampled(tiny, out, *MODES, docs=12, samples=3, tokens=12)


def test_two_policies_are_split(two, one, tmp_path):
    found = gated(tmp_path, one, two, RULE)
    (check,) = found.checks
    assert (check.outcome, found.exit_code) == (Outcome.PASS, 0)
    assert (check.task, check.mode, check.metric) == ("psplit_sums", "high", "split")
    assert check.p < 1e-3
    assert check.why.startswith("KL ")


def test_one_policy_is_not(two, one, tmp_path):
    found = gated(tmp_path, two, one, RULE)
    (check,) = found.checks
    assert (check.outcome, found.exit_code) == (Outcome.FAIL, 1)
    assert check.p_against < 0.05


def test_it_counts_among_all_checks(two, one, tmp_path):
    (alone,) = gated(tmp_path, one, two, RULE).checks
    rule = "{kind: at-least, task: psplit_sums, mode: [normal, high], bound: 0.9}"
    split, *rest = gated(tmp_path, one, two, RULE, rule).checks
    assert len(rest) == 2
    assert split.p_adjusted == pytest.approx(3 * alone.p)


def test_with_one_placebo_no_split_is_believed(two, one, tmp_path):
    run = shutil.copytree(two, tmp_path / "run")
    assert diverge(run, "--placebos", "1") == 0
    (check,) = gated(tmp_path, one, run, RULE).checks
    assert check.outcome is Outcome.OPEN
    assert check.p != check.p
