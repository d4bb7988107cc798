"""The study of error rates: its truths, a short form of itself, its committed numbers, its page."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        path = ROOT / "benchmarks" / "error_rates.py"
        spec = importlib.util.spec_from_file_location("benchmarks_error_rates", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def results(study):
    return study.read_results()


def cell_of(study, part, population, docs, k, case):
    (cell,) = (
        cell
        for cell in study.PARTS[part]()
        if (cell.population, cell.docs, cell.k, cell.case) == (population, docs, k, case)
    )
    return cell


CLUSTERED, MILD = "binary, mean 0.5, c 0.3", "binary, mean 0.8, c 2"


@pytest.mark.parametrize(
    ("part", "population", "docs", "k", "case", "repetitions"),
    [
        ("paired", CLUSTERED, "30", 8, "equal", 1000),
        ("paired", MILD, "100", 1, "equal", 1000),
        ("paired", "normal", "100", 8, "equal", 600),
        ("ratio", "bits a token", "100", 8, "shifted", 1000),
        ("given", "normal", "100", 8, "docs differ, not on average", 1000),
        ("stratified", "binary tasks", "5 + 20 + 200", 8, "opposed", 1000),
        ("crossed", "normal, 3 seeds an arm, seeds' s.d. 0.4", "100", 8, "paired", 1000),
        ("levels", "normal, 3 seeds an arm, seeds' s.d. 0.2", "100", 8, "paired", 1500),
        ("coverage", "normal", "30", 8, "shifted", 1000),
        ("bootstrap", MILD, "30", 8, "shifted", 200),
        ("family", MILD, "50", 8, "one baseline", 200),
        ("claims", "normal", "100", 8, "on the boundary", 1000),
    ],
)
def test_promises_are_kept_within_binomial_error(
    study, part, population, docs, k, case, repetitions
):
    """Of the wanted rates the binomial counts of a chance of 1 in 10 000 on each side."""
    cell = cell_of(study, part, population, docs, k, case)
    for row in study.run_cell(replace(cell, repetitions=repetitions)):
        given = repetitions - int(row["undefined"])
        wanted = float(row["wanted_low"]), float(row["wanted_high"])
        least = stats.binom.ppf(1e-4, given, wanted[0])
        assert least <= int(row["count"]) <= stats.binom.isf(1e-4, given, wanted[1]), row


def test_simulated_power_is_the_predicted(study):
    cell = next(cell for cell in study.power_cells() if cell.case == "docs_needed" and cell.k == 8)
    (row,) = study.run_cell(replace(cell, repetitions=1500))
    assert float(row["predicted"]) >= 0.8
    assert abs(float(row["rate"]) - float(row["predicted"])) <= 0.03 + 3.7 * math.sqrt(0.16 / 1500)


@pytest.mark.parametrize(
    ("part", "population", "docs", "case"),
    [
        ("paired", "normal", "100", "equal"),
        ("crossed", "normal, 3 seeds an arm, seeds' s.d. 0.4", "100", "unpaired"),
    ],
)
def test_counting_samples_as_questions_fails(study, part, population, docs, case):
    cell = cell_of(study, part, population, docs, 8, case)
    rows = study.run_cell(replace(cell, repetitions=400))
    (naive,) = (row for row in rows if row["asked"].startswith(study.NAIVE))
    assert float(naive["rate"]) >= 0.15


# --- what is taken for the truth ---


def test_the_truth_of_normal_docs_is_known_exactly(study):
    truth = study.truth_of(study.Normal(0.4))
    assert truth.gap == pytest.approx(0.4, abs=2e-3)
    assert truth.parts.crossing == pytest.approx(2 * 0.5**2, rel=5e-3)
    assert truth.parts.noise == pytest.approx(2)
    apart = math.sqrt(2 * (1 + 0.5**2 + 1 / 8))
    delta = 2 * stats.norm.cdf(0.4 / apart) - 1
    assert study.delta_of(study.Normal(0.4), 8) == pytest.approx(delta, abs=4e-3)


def test_the_truth_of_lognormal_docs_is_known_exactly(study):
    population = study.Skewed(0.4)
    truth, mean = study.truth_of(population), math.exp((0.7**2 + 0.4**2) / 2)
    assert truth.mean_a == pytest.approx(mean, rel=3e-3)
    assert truth.mean_b == pytest.approx(mean * math.exp(0.4), rel=3e-3)
    samples = population.sampled(np.random.default_rng(1), np.ones((1, 1)), 200_000)
    assert samples.mean() == pytest.approx(1, abs=0.01)
    assert samples.var() == pytest.approx(population.noise(np.ones(1))[0], rel=0.05)


def test_binary_docs_have_the_mean_and_the_clustering_that_they_say(study):
    """Variance of Beta(mu c, (1 − mu) c): mu (1 − mu) / (c + 1)."""
    population = study.Binary(0.8, 2.0, crossing=0.0)
    means = population.means(np.random.default_rng(1), 200_000)
    assert (means[0] == means[1]).all()
    assert means.mean() == pytest.approx(0.8, abs=3e-3)
    assert means.var() == pytest.approx(0.8 * 0.2 / 3, rel=0.02)
    samples = population.sampled(np.random.default_rng(2), means[:, :1000], 64)
    assert samples.mean(axis=2) == pytest.approx(means[:, :1000], abs=0.35)
    assert samples.mean() == pytest.approx(means[:, :1000].mean(), abs=0.01)


def test_expected_bits_a_token_are_those_of_many_docs(study):
    population = study.Tokens(0.2)
    bits, tokens = population.draw(np.random.default_rng(1), 400_000, 1)
    found = bits.sum(axis=(1, 2)) / tokens.sum(axis=(1, 2))
    assert found == pytest.approx(np.array(population.ratios), rel=5e-3)


def test_mirrored_docs_differ_but_not_on_average(study):
    means = study.mirrored(study.Normal(), np.random.default_rng(1), 30)
    assert means.shape == (2, 30)
    assert np.abs(means[1] - means[0]).min() > 0
    assert (means[1] - means[0]).mean() == pytest.approx(0, abs=1e-15)


def test_paired_seeds_share_half_of_their_variance(study):
    case = study.Seeds(4000, 3.0, paired=True, binary=False)
    a, b = study.crossed(np.random.default_rng(1), case, 20, 64).mean(axis=2)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.5, abs=0.05)
    assert a.var() == pytest.approx(9, rel=0.1)


# --- how it is counted ---


def test_what_has_no_answer_is_not_counted_but_said(study):
    answers = iter([None, 1, 0, None, 1])
    cell = study.Cell("x", "x", "5", 1, "x", lambda _: {"interval: x": next(answers)})
    (row,) = study.run_cell(replace(cell, repetitions=5))
    assert (row["undefined"], row["count"], row["rate"]) == ("2", "2", "0.6667")


@pytest.mark.parametrize(
    ("rate", "interval", "verdict"),
    [
        (0.06, (0.055, 0.065), "met"),
        (0.063, (0.058, 0.068), "within Monte-Carlo error"),
        (0.07, (0.065, 0.075), "not met"),
        (0.036, (0.033, 0.039), "not met"),
    ],
)
def test_a_rate_is_judged_by_itself_and_then_by_its_interval(study, rate, interval, verdict):
    assert study.judged(rate, interval, (0.04, 0.06)) == verdict


# --- what is committed ---


def test_every_setting_is_there(study, results):
    keys = ("part", "population", "docs", "k", "case")
    there = {tuple(row[key] for key in keys) for row in results}
    cells = {
        (cell.part, cell.population, cell.docs, str(cell.k), cell.case)
        for part in study.PARTS.values()
        for cell in part()
    }
    assert there == cells


def test_the_committed_numbers_come_out_again(study, results):
    cell = cell_of(study, "given", "normal", "30", 2, "no doc differs")
    rows = study.run_cell(cell)
    for row in rows:
        assert row in results


def test_only_skewed_numbers_and_few_seeds_make_anything_wrong_too_often(study, results):
    """Everything else that is not met is too careful: docs/error_rates.md says why."""

    def wrong(row):
        if row["asked"].startswith(study.INTERVAL):
            return float(row["rate"]) < float(row["wanted_low"])
        return float(row["rate"]) > float(row["wanted_high"])

    missed = [row for row in results if row["met"] == "not met" and row["part"] != "power"]
    places = {(row["part"], row["population"]) for row in missed if wrong(row)}
    skewed = ("binary, mean 0.95, c 2", "lognormal")
    expected = {(part, data) for part in ("claims", "coverage") for data in skewed}
    expected |= {("levels", f"normal, {n} seeds an arm, seeds' s.d. 0.4") for n in (2, 3)}
    assert places == expected | {("bootstrap", "lognormal")}


def test_the_page_shows_the_committed_numbers(study, results):
    page = (ROOT / "docs" / "error_rates.md").read_text()
    for lines in study.tables(results):
        assert "\n".join(lines) in page
    for row in study.read_results(study.SPEED):
        line = f"| {row['job']} | {row['resamples']} | {row['processor_seconds']} | "
        assert line + f"{row['peak_mib']} |" in page
