"""A sweep's report has means and spreads over all finished seeds, by hand and by numpy."""

import csv
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import write_training

from psplit_eval.errors import DataError, UsageError
from psplit_eval.figures import blank_figure
from psplit_eval.leaderboard import csv_text
from psplit_train.sweep import cells
from psplit_train.sweep_report import Outcome, outcomes, write_sweep_report

MODES = ("normal", "high")
EVALUATIONS = ("step", "mode", "task", "metric", "value", "ci_low", "ci_high", "higher_is_better")


def log(reward, steps=20, **more):
    """Rewards that are 0 up to the last tenth, where they are as given; other measures always."""
    last = steps - max(1, steps // 10)
    for step in range(1, steps + 1):
        yield {"step": step, "reward/high": reward if step > last else 0.0, **more}


def swept(folder, sets, seeds, trained=None, failed=None):
    """The folder of a sweep: `trained` gives a cell's log entries, or None where it has no end."""
    entries = []
    for cell in cells(sets, seeds):
        lines = trained(cell) if trained else log(0.5)
        if lines is not None:
            write_training(folder / "cells" / cell.name, lines)
        ended = None if lines is not None else failed
        entries.append(
            {"settings": dict(cell.settings), "seed": cell.seed, "config": "a", "failed": ended}
        )
    content = {"format": 1, "config": "demo.yaml", "cells": entries}
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def evaluated(folder, name, rows):
    place = folder / "cells" / name / "evaluations"
    place.mkdir()
    lines = [[str(cell) for cell in row] for row in rows]
    (place / "evaluations.csv").write_text(csv_text(EVALUATIONS, lines))


def one(found, label, measure, mode="high", source="log", to=""):
    (each,) = (
        e
        for e in found
        if (e.label, e.measure, e.mode, e.source, e.to) == (label, measure, mode, source, to)
    )
    return each


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_setting_is_the_mean_over_its_seeds_and_never_its_best(tmp_path):
    """By hand: 0.2, 0.4 and 0.9 have the mean 0.5 and the deviation sqrt(0.26 / 2)."""
    rewards = {0: 0.2, 1: 0.4, 2: 0.9}
    swept(tmp_path, {"method.eta": ["0.1"]}, [0, 1, 2], lambda cell: log(rewards[cell.seed]))
    report = write_sweep_report(tmp_path)
    found = one(report.outcomes, "eta=0.1", "reward")
    assert found.values == pytest.approx(rewards)
    assert found.mean == pytest.approx(0.5)
    assert found.deviation == pytest.approx(math.sqrt(0.13))
    assert re.search(r"eta=0\.1 +3 of 3 +high +0\.500 ± 0\.361", report.text)
    (row,) = read(report.table)
    numbers = [row[name] for name in ("seeds", "mean", "sd", "low", "high")]
    assert numbers == ["3", "0.5", "0.360555", "0.2", "0.9"]
    assert (row["method.eta"], row["measure"], row["mode"]) == ("0.1", "reward", "high")
    assert report.exit_code == 0


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6))
@settings(max_examples=30)
def test_means_and_deviations_are_numpys(values):
    found = Outcome("a", {}, "log", "reward", "high", "", dict(enumerate(values)))
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    if len(values) > 1:
        assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        assert (found.estimate.ci_low, found.estimate.ci_high) == (min(values), max(values))
    else:
        assert math.isnan(found.deviation)
        assert math.isnan(found.estimate.ci_low)


def test_seeds_that_failed_are_counted_and_named(tmp_path):
    failed = [2, "lr 7 is too high; lower it"]
    swept(tmp_path, {}, [0, 1, 2], lambda cell: None if cell.seed == 2 else log(0.5), failed)
    report = write_sweep_report(tmp_path)
    assert re.search(r"as given +2 of 3 +high +0\.500 ± 0\.000", report.text)
    said = "Left out: base-seed-2, failed with exit code 2: lr 7 is too high; lower it"
    assert f"{said} (logs/base-seed-2.log)" in report.text
    assert said in report.file.read_text()
    assert report.exit_code == 4


def test_one_seed_has_no_spread_and_undefined_values_no_part(tmp_path):
    def trained(cell):
        kl = {"kl_bits/high_normal": None if cell.seed else 0.25, "entropy_bits/normal": None}
        return log(0.5, **kl)

    swept(tmp_path, {}, [0, 1], trained)
    report = write_sweep_report(tmp_path)
    kl = one(report.outcomes, "as given", "kl_bits", to="normal")
    assert kl.values == {0: 0.25}
    assert math.isnan(kl.deviation)
    assert re.search(r"kl_bits to normal\n.* 0\.250$", report.text, re.MULTILINE)
    assert not [each for each in report.outcomes if each.measure == "entropy_bits"]


def test_the_last_evaluation_counts_not_the_best(tmp_path):
    """And where an evaluation has two tasks their plain mean does."""
    swept(tmp_path, {"method.eta": ["0", "1"]}, [0])
    rows = [
        (10, "high", "a", "accuracy_avg", 0.9, "", "", "true"),
        (20, "high", "a", "accuracy_avg", 0.2, "", "", "true"),
        (20, "high", "b", "accuracy_avg", 0.4, "", "", "true"),
        (20, "high", "b", "words_mean", 7.0, "", "", ""),
    ]
    evaluated(tmp_path, "eta=0-seed-0", rows)
    report = write_sweep_report(tmp_path)
    found = one(report.outcomes, "eta=0", "accuracy_avg", source="evaluation")
    assert found.values == {0: pytest.approx(0.3)}
    first, second = report.text.split("End of training")
    assert "eta=1" not in first
    assert "words_mean" not in report.text
    assert "eta=1" in second
    assert {row["measure"] for row in read(report.table)} >= {"words_mean", "reward"}


def test_pictures_have_a_line_a_setting_and_a_band_over_seeds(tmp_path, monkeypatch):
    made = []

    def kept(*size):
        made.append(blank_figure(*size))
        return made[-1]

    monkeypatch.setattr("psplit_eval.figures.blank_figure", kept)

    def trained(cell):
        value = float(cell.settings["method.eta"]) + cell.seed
        return log(value, 240, **{"kl_bits/normal_high": value})

    swept(tmp_path, {"method.eta": ["0.01", "0.1", "1"], "method.name": ["a"]}, [0, 1], trained)
    report = write_sweep_report(tmp_path)
    assert [plot.name for plot in report.plots] == ["training", "by_eta"]
    assert all(path.stat().st_size > 300 for p in report.plots for path in (p.png, p.svg, p.csv))
    curves, values = made
    assert [axis.get_title() for axis in curves.axes] == ["reward\nhigh", "kl_bits\nnormal to high"]
    assert [len(axis.lines) for axis in curves.axes] == [3, 3]
    rows = read(report.plots[0].csv)
    assert len(rows) == 2 * 3 * 60
    last = [
        row for row in rows if row["measure"] == "kl_bits" and row["setting"].startswith("eta=1")
    ]
    assert {(r["mean"], r["lowest"], r["highest"], r["seeds"]) for r in last} == {
        ("1.5", "1.0", "2.0", "2")
    }
    assert all(axis.get_xscale() == "log" for axis in values.axes)
    assert [label.get_text() for label in values.axes[0].get_xticklabels()] == ["0.01", "0.1", "1"]
    dots = {(row["eta"], row["seed"], row["value"]) for row in read(report.plots[1].csv)}
    assert ("0.1", "1", "1.1") in dots
    for name in re.findall(r"\]\((plots/[^)]+)\)", report.file.read_text()):
        assert (tmp_path / name).is_file()


def test_values_that_are_no_numbers_have_a_table_and_no_axis(tmp_path):
    swept(tmp_path, {"method.name": ["grpo", "policy_split"]}, [0])
    report = write_sweep_report(tmp_path)
    assert [plot.name for plot in report.plots] == ["training"]
    assert "name=policy_split" in report.text


def test_settings_that_end_alike_have_pictures_of_their_own(tmp_path):
    swept(tmp_path, {"data.limit": ["1", "2"], "evaluate.limit": ["3", "4"]}, [0])
    names = [plot.name for plot in write_sweep_report(tmp_path).plots]
    assert names == ["training", "by_data.limit", "by_evaluate.limit"]


def test_a_training_that_ended_early_is_read_at_its_own_end(tmp_path):
    swept(tmp_path, {}, [0, 1], lambda cell: log(0.5, steps=7 if cell.seed else 40))
    found = one(outcomes(tmp_path), "as given", "reward")
    assert found.values == {0: pytest.approx(0.5), 1: pytest.approx(0.5)}


def test_nothing_finished_is_said(tmp_path):
    swept(tmp_path, {}, [0, 1], lambda cell: None)
    report = write_sweep_report(tmp_path)
    assert report.text.startswith("No cell is finished yet.")
    assert "Left out: base-seed-0, not finished" in report.text
    assert report.plots == ()
    assert report.exit_code == 4


def test_names_of_settings_are_no_markup(tmp_path):
    swept(tmp_path, {"data.file": ["a|b_*c*.jsonl"]}, [0])
    text = write_sweep_report(tmp_path).file.read_text()
    assert r"file=a\|b\_\*c\*.jsonl" in text


def test_what_cannot_be_read_is_an_error_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no sweep"):
        write_sweep_report(tmp_path)
    swept(tmp_path, {}, [0])
    (tmp_path / "cells" / "base-seed-0" / "training_log.jsonl").write_text("no JSON\n\n")
    with pytest.raises(DataError, match=r"training_log\.jsonl, line 1") as raised:
        write_sweep_report(tmp_path)
    assert "\n" not in str(raised.value)
