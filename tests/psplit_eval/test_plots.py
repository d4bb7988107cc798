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


def creative(mode, quality, dispersion, task="story"):
    docs = range(8)
    values = {
        "quality": {doc: quality + doc / 100 for doc in docs},
        "dispersion_beyond_prompt": {doc: dispersion + doc / 100 for doc in docs},
    }
    return Arm(task, mode, CreativityScorer(), values, {}, {}, 16, 0, 0, None)


def described(**modes):
    """A manifest of modes: name → (system prompt, sampling)."""
    return {
        "modes": [
            {"name": name, "system_prompt": prompt, "sampling": sampling}
            for name, (prompt, sampling) in modes.items()
        ],
        "tasks": {"story": {"sampling": {"temperature": 0.6, "top_p": 0.95}}},
    }


def tradeoff(tmp_path, manifest, modes):
    arms = [creative(mode, 0.5, 0.3) for mode in modes]
    plot = draw(arms, tmp_path, manifest=manifest)[-1]
    assert plot.name == "tradeoff"
    return [row for row in rows(plot.csv) if not row["doc"]], plot


def test_modes_of_one_prompt_are_joined_in_the_order_of_their_temperatures(tmp_path):
    manifest = described(
        hot=(None, {"temperature": 1.5}),
        normal=(None, {}),
        high=("Be wild.", {"temperature": 1.0}),
        narrow=(None, {"temperature": 0.9, "top_p": 0.5}),
    )
    found, plot = tradeoff(tmp_path, manifest, ["hot", "normal", "high", "narrow"])
    assert [(row["name"], row["series"], row["label"]) for row in found] == [
        ("normal", "hot", "T 0.6"),
        ("hot", "hot", "T 1.5"),
        ("high", "high", ""),
        ("narrow", "narrow", ""),
    ]
    assert "several temperatures" in plot.caption


def test_an_aa_test_is_no_series(tmp_path):
    manifest = described(a=(None, {}), b=(None, {"temperature": 0.6}))
    found, _ = tradeoff(tmp_path, manifest, ["a", "b"])
    assert [(row["series"], row["label"]) for row in found] == [("a", ""), ("b", "")]
    found, _ = tradeoff(tmp_path, None, ["a", "b"])
    assert [row["series"] for row in found] == ["a", "b"]


def test_docs_stand_beside_the_points_of_the_frontier(tmp_path):
    plot = draw([creative("normal", 0.5, 0.3)], tmp_path)[-1]
    table = rows(plot.csv)
    assert [row["doc"] for row in table] == ["", *map(str, range(8))]
    assert float(table[3]["quality"]) == 0.5 + 2 / 100
    assert float(table[0]["quality"]) == pytest.approx(0.535)


def test_the_main_numbers_are_in_words(tmp_path):
    made = {plot.name: plot for plot in draw([arm("normal"), arm("high")], tmp_path)}
    by_mode = {row["mode"]: row for row in rows(made["accuracy"].csv)}
    low, high = (100 * float(by_mode["high"][name]) for name in ("ci_low", "ci_high"))
    assert f"high 37.5 % [{low:.1f}, {high:.1f}]" in made["accuracy"].alt
    assert "high 37.5 % [" in made["pass_at_k"].alt
    assert "at k = 1 and 37.5 %" in made["pass_at_k"].alt
    assert "normal median 2.70, 2.00 to 3.40, 8 docs" in made["entropy"].alt  # of 2, 2.2 … 3.4
    assert all(len(plot.alt) <= 600 for plot in made.values())
    assert all(plot.caption.endswith(".") for plot in made.values())


def test_of_thousands_of_docs_the_table_has_all_and_the_picture_stays_small(tmp_path):
    docs = range(3000)
    values = {"accuracy_avg": dict.fromkeys(docs, 0.5)}
    bits = {doc: doc / 100 for doc in docs}
    many = Arm("task", "m", AccuracyScorer(), values, bits, dict.fromkeys(docs, 9), 1, 0, 0, 1)
    entropy = draw([many], tmp_path)[-1]
    assert len(rows(entropy.csv)) == 3000
    assert entropy.svg.stat().st_size < 100_000


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
