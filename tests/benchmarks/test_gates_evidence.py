"""The evidence on gates: its populations, its path to the gate's code, its rows, its page."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import gates_resampled as resampled
from benchmarks import gates_tables, sequential_gates, sequential_stakes
from psplit_eval import sequential
from psplit_eval.betting import sequential_p
from psplit_eval.comparison import components, difference
from psplit_eval.gate import Outcome
from psplit_eval.gate_rules import Kind, Rule

PAGE = Path(__file__).parent.parent.parent / "docs" / "gates_evidence.md"
ALPHA = 0.05


# --- simulated ---


@pytest.mark.parametrize("mean", [0.5, 0.8])
def test_simulated_docs_have_the_variance_that_the_formula_gives(mean):
    """Beta with parameters that sum to 2: E[p (1 − p)] is m (1 − m) 2 / 3, var p m (1 − m) / 3; a
    tenth of docs has another's chance, which makes 0.1 × 2 var p."""
    parts = sequential_gates.beta_docs(mean, 2.0).components()
    assert parts.noise == pytest.approx(2 * mean * (1 - mean) * 2 / 3, rel=1e-3)
    assert parts.crossing == pytest.approx(0.2 * mean * (1 - mean) / 3, rel=0.05)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("truth", [-0.2, -0.05, 0.0, 0.1])
def test_differences_have_the_mean_that_is_asked_for(number, truth):
    population = sequential_gates.populations()[number]
    x = population.differences(np.random.default_rng(1), (200, 1000), 4, truth)
    assert np.all(np.abs(x) <= 1)
    assert x.mean() == pytest.approx(truth, abs=4 * x.std() / math.sqrt(x.size))
    if truth == 0:
        assert x.var() == pytest.approx(population.components().variance(4), rel=0.02)


def test_chances_stay_chances_when_they_are_shifted():
    chances = np.array([0.0, 0.4, 1.0])
    for gap in (-0.4, -0.1, 0.1, 0.5):
        moved = sequential_gates.shifted(chances, gap)
        assert np.all((moved >= 0) & (moved <= 1))
        assert moved.mean() == pytest.approx(chances.mean() + gap)


def test_bets_are_those_of_a_gate_in_rounds():
    population = sequential_gates.beta_docs(0.8, 2.0)
    x = population.differences(np.random.default_rng(2), (3, 90), 4, -0.02)
    rule = Rule(1, "r", Kind.NON_INFERIOR, ("normal",), margin=0.05)
    found = sequential_gates.bets(x, 0.05)
    for row, docs in ((0, 1), (1, 32), (2, 90)):
        expected = sequential._both_ways(rule, x[row, :docs])
        assert (found.p[row, docs - 1], found.against[row, docs - 1]) == pytest.approx(expected)


def test_stakes_that_were_tried_are_compared_with_those_there_are():
    x = sequential_gates.beta_docs(0.8, 2.0).differences(np.random.default_rng(2), (3, 90), 4, 0)
    first, *others = sequential_stakes.VARIANTS
    assert first.p(x, -0.05) == pytest.approx(sequential_p(x, -0.05, 0.05))
    assert first.p(-x, 0.05) == pytest.approx(sequential_p(-x, 0.05, 0.05))
    for other in others:
        assert not np.allclose(other.p(x, -0.05), first.p(x, -0.05)), other.name


@pytest.mark.parametrize(("margin", "docs"), [(0.02, 157), (0.05, 62), (0.1, 30)])
def test_no_gate_passes_on_fewer_docs_than_the_page_says(margin, docs):
    """Of docs that all agree each multiplies the capital by 1 + 0.95 m / (1 − m) at the most."""
    assert docs == math.ceil(math.log(20) / math.log1p(0.95 * margin / (1 - margin)))
    p = sequential_p(np.zeros(docs + 20), -margin, margin)
    assert p[docs - 2] > ALPHA
    assert p[docs + 5] < ALPHA  # a few more, until the variance is known to be small
    assert f"{docs} docs" in PAGE.read_text(encoding="utf-8")


def test_t_tests_are_scipys():
    x = sequential_gates.beta_docs(0.5, 2.0).differences(np.random.default_rng(3), (4, 64), 4, 0)
    found = sequential_gates.t_tests(x, 0.05, np.array([32, 64]))
    for place, docs in enumerate((32, 64)):
        expected = stats.ttest_1samp(x[:, :docs], -0.05, axis=1, alternative="greater").pvalue
        assert found.p[:, place] == pytest.approx(expected)
        assert found.against[:, place] == pytest.approx(1 - expected)


def test_a_gate_stops_at_the_first_look_that_decides():
    p = np.array([[0.5, 0.04, 0.01], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.04]])
    against = np.array([[1, 1, 1], [1, 0.01, 0.01], [1, 1, 1], [1, 1, 1]])
    looks = np.array([32, 64, 70])
    found = sequential_gates.tally(sequential_gates.Looks(p, against), looks, 70)
    assert found.passed.tolist() == [True, False, False, True]
    assert found.failed.tolist() == [False, True, False, False]
    assert found.docs.tolist() == [64, 64, 70, 70]
    early = sequential_gates.tally(sequential_gates.Looks(p, against), looks, 64)
    assert early.passed.tolist() == [True, False, False, False]
    assert early.docs.tolist() == [64, 64, 64, 64]


def test_looks_are_after_every_round_and_at_the_end():
    assert sequential_gates.looks_at(32, 70).tolist() == [32, 64, 70]
    assert sequential_gates.looks_at(32, 20).tolist() == [20]


def test_a_rule_of_three_is_decided_at_a_third_of_alpha():
    """Holm by hand: 0.01 × 3 is below 0.05 at once; then 0.02 × 2, then 0.04."""
    open_, sure = np.array([[0.5, 0.5]]), np.array([[1.0, 1.0]])
    looks = [np.array([32, 64])] * 3
    p = [np.array([[0.01, 0.01]]), np.array([[0.03, 0.02]]), np.array([[0.2, 0.04]])]
    paths = [sequential_gates.Looks(each, sure) for each in p]
    assert sequential_gates._gate_of(paths, 0, looks) == ([Outcome.PASS] * 3, 32 + 64 + 64)
    paths[2] = sequential_gates.Looks(open_, np.array([[0.5, 0.016]]))
    outcomes = [Outcome.PASS, Outcome.PASS, Outcome.FAIL]
    assert sequential_gates._gate_of(paths, 0, looks) == (outcomes, 32 + 64 + 64)


@pytest.fixture(scope="module")
def rows():
    return sequential_gates.read_results()


def test_committed_rows_of_the_simulation_come_out_again(rows):
    population = sequential_gates.real_docs()[0]
    found = sequential_gates.one_rule(population, 0.1, 8, "equal")
    asked = {name: found[0][name] for name in ("population", "margin", "k", "truth")}
    assert found == [row for row in rows if asked.items() <= row.items()]
    assert len(found) == 7


def test_bets_keep_their_level_whenever_one_looks(rows):
    """Above 5 % only as far as counts of a 5 % chance go, with 1 in 1 000 over all settings."""
    betted = [row for row in rows if row["test"] == "bets"]
    assert len(betted) == 4 * 8 * 5 * 4
    for row in betted:
        tries = int(row["repetitions"])
        most = stats.binom.isf(1e-3 / len(betted), tries, ALPHA) / tries
        if row["truth"] in ("boundary", "worse"):
            assert float(row["passed"]) <= most, row
        if row["truth"] != "worse":
            assert float(row["failed"]) <= most, row


def test_a_fixed_test_that_is_looked_at_often_does_not(rows):
    looked = [
        row
        for row in rows
        if row["test"] == "t test" and row["looks"] != "once" and row["truth"] == "boundary"
    ]
    assert np.mean([float(row["passed_low"]) > ALPHA for row in looked]) > 0.9


def test_families_keep_their_level():
    for row in sequential_gates.read_results(sequential_gates.FAMILIES):
        assert float(row["any_false_pass_low"]) <= ALPHA
        assert float(row["any_false_fail_low"]) <= ALPHA


# --- resampled ---


@pytest.fixture(scope="module")
def normal():
    (found,) = resampled.samples_of(["normal"])
    return found


def test_a_draw_deals_samples_of_one_doc_to_both_runs(normal):
    """A doc with one right answer of 16 can have it in one of the two, or in neither."""
    right = np.zeros((1, 16))
    right[0, 3] = 1
    rng = np.random.default_rng(1)
    drawn = [resampled.Samples(right).drawn(rng, np.array([0]), 8, 0.0) for _ in range(2000)]
    assert {(a.sum(), b.sum()) for a, b in drawn} == {(1.0, 0.0), (0.0, 1.0)}
    assert np.mean([b.sum() for _, b in drawn]) == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize("gap", [-0.2, -0.04, 0.0, 0.04, 0.2])
def test_a_candidate_is_moved_by_the_gap(normal, gap):
    chosen = np.tile(np.arange(len(normal.right)), 200)
    a, b = normal.drawn(np.random.default_rng(1), chosen, 8, gap)
    x = b.mean(axis=1) - a.mean(axis=1)
    assert x.mean() == pytest.approx(gap, abs=4 * x.std() / math.sqrt(x.size))
    if gap == 0:
        assert x.var() == pytest.approx(normal.components().variance(8), rel=0.03)


def test_arms_say_what_the_samples_are(normal):
    a, b = normal.drawn(np.random.default_rng(1), np.arange(256), 8, 0.0)
    arms = resampled.arm_of("normal", a), resampled.arm_of("normal", b)
    found = difference(*arms, resampled.METRIC)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.p == pytest.approx(stats.ttest_rel(b.mean(axis=1), a.mean(axis=1)).pvalue)
    parts = components(*arms, resampled.METRIC)
    assert parts is not None
    assert parts.noise == pytest.approx(normal.components().noise, rel=0.1)


@pytest.mark.parametrize(
    ("outcomes", "gap"), [({Outcome.PASS}, 0.1), ({Outcome.FAIL}, -0.2), ({Outcome.OPEN}, -0.05)]
)
def test_a_gate_of_real_arms_is_decided(normal, outcomes, gap):
    a, b = normal.drawn(np.random.default_rng(4), np.arange(256), 8, gap)
    pair = resampled.arm_of("normal", a), resampled.arm_of("normal", b)
    assert {resampled.fixed_gate([pair], 0.05)} == outcomes


@pytest.fixture(scope="module")
def tried():
    return sequential_gates.read_results(resampled.RESULTS)


def test_committed_rows_of_resamples_come_out_again(tried):
    for found in (
        resampled.fixed_cell(["normal"], 0.1, 8, "same"),
        resampled.sequential_cell("high", 0.1, 8, "worse", 2.0),
    ):
        assert found in tried


def test_what_the_page_says_of_resamples_is_so(tried):
    """A better candidate never failed, an equal one hardly, a worse one hardly ever passed."""
    for row in tried:
        if row["case"] == "better":
            assert float(row["failed"]) == 0
            assert float(row["passed"]) > 0.99
        if row["case"] == "same":
            assert float(row["failed"]) <= 0.001
        if row["case"] == "worse":
            assert float(row["passed"]) <= 0.001


# --- page ---


def test_the_page_has_the_tables_of_the_committed_numbers():
    page = PAGE.read_text(encoding="utf-8")
    for lines in gates_tables.tables():
        assert "\n".join(lines) in page


# --- for real ---


def test_the_page_says_what_the_gates_of_broken_checkpoints_said():
    results = PAGE.parent.parent / "benchmarks" / "results" / "gates_broken.json"
    found = json.loads(results.read_text())
    rows = [line for line in PAGE.read_text().split("\n") if line.startswith("| ")]
    named = {"the same": "same", "noise": "noise", "broken template": "template"}
    named["the same, `--allow-different prompts`"] = "template, prompts allowed"
    for title, name in named.items():
        (row,) = [line for line in rows if line.startswith(f"| {title} |")]
        _, _, values, code, why, _ = (cell.strip() for cell in row.split("|"))
        said = "\n".join(found[name]["said"])
        assert int(code) == found[name]["exit_code"]
        assert not values or f"{values}, " in said
        assert "refused" not in why or "the chat template differs" in said
