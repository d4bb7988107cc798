"""Plots are made where there is data, with the numbers behind them."""

import csv
import math

import pytest

from psplit_eval.arms import Arm
from psplit_eval.creativity import CreativityScorer
from psplit_eval.plots import draw
from psplit_eval.scoring import AccuracyScorer


def arm(mode, metrics=("accuracy_avg", "accuracy_pass_at_1", "accuracy_pass_at_2")):
    docs = range(8)
    values = {name: {doc: (doc % 4) / 4 for doc in docs} for name in metrics}
    scorer = CreativityScorer() if "div_bleu_4" in metrics else AccuracyScorer()
    bits, tokens = {doc: 10.0 + doc for doc in docs}, dict.fromkeys(docs, 5)
    return Arm("task", mode, scorer, values, bits, tokens, 16, 0, 0, 4)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_every_plot_has_a_picture_and_its_numbers(count, tmp_path):
    modes = [f"mode_{i}" for i in range(count)]
    made = draw([arm(mode) for mode in modes], tmp_path)
    assert [plot.name for plot in made] == ["accuracy", "pass_at_k", "entropy"]
    assert all(plot.png.read_bytes()[:4] == b"\x89PNG" for plot in made)
    accuracy = rows(tmp_path / "accuracy.csv")
    assert [row["mode"] for row in accuracy] == modes
    assert all(float(row["value"]) == 0.375 for row in accuracy)
    entropy = rows(tmp_path / "entropy.csv")
    assert [float(row["value"]) for row in entropy[:3]] == [2.0, 2.2, 2.4]


def test_modes_with_other_numbers_of_samples_share_a_panel(tmp_path):
    """Beyond 16 samples pass@k is known for powers of two only; a mode with fewer lacks some."""
    ks = {"normal": [*range(1, 17), 32, 64], "high": [1, 2, 3]}
    arms = [arm(mode, [f"accuracy_pass_at_{k}" for k in of_mode]) for mode, of_mode in ks.items()]
    draw(arms, tmp_path)
    found = [(row["mode"], float(row["x"])) for row in rows(tmp_path / "pass_at_k.csv")]
    assert found == [(mode, k) for mode, of_mode in ks.items() for k in of_mode]


def test_diversity_is_drawn_for_diversity_tasks_only(tmp_path):
    made = draw([arm("normal", ("div_bleu_4", "div_ngram_2"))], tmp_path)
    names = {plot.name for plot in made}
    assert "diversity" in names
    assert "accuracy" not in names


def test_an_undefined_value_leaves_an_empty_cell(tmp_path):
    values = {"accuracy_avg": {0: 1.0}}
    lone = Arm("task", "m", AccuracyScorer(), values, {0: 3.0}, {0: 2}, 1, 0, 0, 1)
    draw([lone], tmp_path)
    (row,) = rows(tmp_path / "accuracy.csv")
    assert (row["value"], row["ci_low"]) == ("1.0", "")
    assert not math.isnan(float(row["value"]))


def test_the_same_arms_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        draw([arm("normal"), arm("high")], tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
