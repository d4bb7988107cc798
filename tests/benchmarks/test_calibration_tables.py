"""The study of calibrated means: its truths, a short form of itself, its numbers, its page."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        path = ROOT / "benchmarks" / "calibration.py"
        spec = importlib.util.spec_from_file_location("benchmarks_calibration", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def results(study):
    return study.read_results()


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "judges_calibration.md").read_text()


def rates(results, part, asked, leave_out=()):
    return [
        float(row["coverage"])
        for row in results
        if row["part"] == part
        and row["asked"] == asked
        and (row["data"], int(row["labels"])) not in leave_out
    ]


# --- what is taken for the truth ---


def test_the_truth_of_simulated_scores_is_known(study):
    rng = np.random.default_rng(1)
    for population in study.POPULATIONS:
        draws = [population.draw(rng) for _ in range(300)]
        human = np.stack([human for human, _ in draws])
        error = human.mean(axis=(2, 3)).std(axis=0) / np.sqrt(300)
        assert (np.abs(human.mean(axis=(0, 2, 3)) - population.means) < 4.5 * error).all()
        assert human.shape[1:] == draws[0][1].shape == (2, study.DOCS, study.SAMPLES)


def test_skewed_scores_are_whole_numbers_on_the_scale(study):
    for scores in study.skewed_judge(np.random.default_rng(2)):
        assert set(np.unique(scores)) <= set(range(11))


# --- a short form of the study ---


def test_a_judge_biased_in_one_mode_misleads_alone_and_not_calibrated(study):
    (cell,) = (
        cell
        for cell in study.simulated_cells()
        if (cell.data, cell.labels) == ("biased in one mode, modes equal", 20)
    )
    rows = {row["asked"]: row for row in study.run_cell(replace(cell, repetitions=150))}
    assert float(rows["difference: calibrated"]["coverage"]) >= 0.88  # 4 s.d. below 95 %
    assert float(rows["difference: judge alone"]["coverage"]) <= 0.05
    assert abs(float(rows["difference: judge alone"]["bias"]) - 1) < 0.1


# --- what is committed ---


def test_every_setting_is_there_with_its_repetitions(study, results):
    parts = ("simulated", "apart", "tuning")  # those of recorded judges need their data
    cells = {(c.part, c.data, str(c.labels)) for part in parts for c in study.PARTS[part]()}
    there = {(row["part"], row["data"], row["labels"]) for row in results if row["part"] in parts}
    assert there == cells
    assert {row["part"] for row in results} == {*parts, "hanna", "given", "systems"}
    assert {row["repetitions"] for row in results} == {"2000"}


def test_intervals_keep_their_promise_but_for_few_labels_of_skewed_scores(results):
    skewed = {("skewed, 0 to 10", 10), ("skewed, 0 to 10", 20)}
    for part in ("simulated", "apart"):
        assert min(rates(results, part, "difference: calibrated")) >= 0.935
        assert max(rates(results, part, "difference: calibrated")) <= 0.97
    good = rates(results, "simulated", "mean: calibrated", leave_out=skewed)
    assert 0.93 <= min(good) <= max(good) <= 0.97
    assert min(rates(results, "simulated", "mean: calibrated")) < 0.93


def test_calibration_covers_no_less_than_labels_alone(results):
    """By more than two rates of 2 000 differ by chance, 4 standard errors."""
    for part in ("simulated", "hanna"):
        for kind in ("mean", "difference"):
            ours, alone = (
                rates(results, part, f"{kind}: {name}") for name in ("calibrated", "labels alone")
            )
            assert all(a - b > -0.028 for a, b in zip(ours, alone, strict=True))


def test_the_page_has_the_tables_of_the_results(study, results, page):
    for table in study.tables(results):
        assert "\n".join(table) in page


def test_the_page_has_no_table_of_other_numbers(study, results, page):
    lines = {line for table in study.tables(results) for line in table}
    assert {line for line in page.splitlines() if line.startswith("|")} == lines


def test_what_the_page_says_in_words_is_in_the_results(results, page):
    def span(part, judge, asked, field, form, labels=None):
        values = [
            float(row[field])
            for row in results
            if (row["part"], row["asked"]) == (part, asked)
            and row["data"].startswith(judge)
            and labels in (None, row["labels"])
        ]
        return f"{form(min(values))} to {form(max(values))}"

    saved = [
        span("hanna", judge, "mean: calibrated", "equivalent_labels", "{:.0f}".format, "100")
        for judge in ("best", "worst")
    ]
    words = " ".join(page.split())
    assert f"makes 100 labels as good as {saved[0]}, the worst as good as {saved[1]}" in words
    covered = [
        span("hanna", judge, "mean: judge alone", "coverage", lambda x: f"{100 * x:.0f}")
        for judge in ("best", "worst")
    ]
    assert f"in {covered[0]} % of cases (the best judge) and {covered[1]} % (the worst" in words
    weights = span("systems", "", "difference: calibrated", "judge_weight", "{:.2f}".format)
    assert f"λ is {weights} on average" in words
    bias = span("systems", "worst", "difference: judge alone", "bias", lambda x: f"{abs(x):.1f}")
    assert bias == "1.2 to 0.8"
    assert "by 0.8 to 1.2 points" in words


# --- recorded judges, where their scores are ---


def test_the_recorded_judges_are_those_of_the_page(study, page, real_rows, monkeypatch):
    rows = list(real_rows("hanna/human_vs_llm_scores.jsonl.gz"))
    monkeypatch.setattr(study, "read_rows", lambda path: rows)
    monkeypatch.setenv("PSPLIT_TEST_DATA", "")
    data = study.recorded()
    ordered, words = data.by_correlation(), " ".join(page.split())
    for judge in (ordered[-1], ordered[0]):
        found = [data.r(dimension, judge) for dimension in data.human]
        assert f"({judge}, {min(found):.2f} to {max(found):.2f}" in words
    assert f"though it hardly sees it: {data.r('Engagement', ordered[0]):.2f})" in words
    apart = []
    for best in (True, False):
        for dimension in data.human:
            human, scores = study._pair(dimension, best)
            gaps = human[:, 0] - human[:, 1], scores[:, 0] - scores[:, 1]
            apart.append(np.corrcoef(*gaps)[0, 1])
    assert f"correlate with −{-min(apart):.2f} to {max(apart):.2f})" in words
    (cell,) = (
        cell
        for cell in study.hanna_cells()
        if (cell.part, cell.data) == ("given", "best judge, Coherence")
    )
    found = {row["asked"]: row for row in study.run_cell(replace(cell, repetitions=60))}
    assert float(found["mean: judge alone"]["coverage"]) == 0
    assert float(found["mean: calibrated"]["coverage"]) >= 0.84  # 4 s.d. below 95 %
