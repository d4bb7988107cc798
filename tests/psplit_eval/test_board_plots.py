"""A board's pictures and their numbers."""

import csv

import pytest
from boarding import by_doc, make_run

from psplit_eval.board_plots import draw_board
from psplit_eval.entrants import read_entrants
from psplit_eval.ranking import make_board

NORMAL = {"normal": None}


def drawn(folder, *runs, models=None):
    board = make_board(read_entrants(list(map(str, runs))), models)
    folder.mkdir()
    return board, {plot.name: plot for plot in draw_board(board, folder)}


def numbers(plot):
    with plot.csv.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_forest_has_the_numbers_of_its_column(tmp_path):
    a = make_run(tmp_path / "a", "a", by_doc(1))
    b = make_run(tmp_path / "b", "b", by_doc(2))
    warm = make_run(tmp_path / "w", "b", by_doc(2), modes=NORMAL, sampling={"temperature": 1.0})
    board, plots = drawn(tmp_path / "p", a, b, warm)
    assert set(plots) == {"accuracy_entropy", "forest_t_accuracy_avg", "forest_t_entropy_bits"}
    found = numbers(plots["forest_t_accuracy_avg"])
    assert [line["row"] for line in found] == [row.entrant.name for row in board.rows]
    for line, row in zip(found, board.rows, strict=True):
        cell = row.cells["t", "accuracy_avg"]
        assert float(line["value"]) == pytest.approx(cell.value.estimate.value)
        assert line["rank_high"] == (str(cell.ranks.high) if cell.ranks else "")
    alone = numbers(plots["forest_t_entropy_bits"])
    assert {line["rank_low"] for line in alone} == {""}
    assert "rank" in plots["forest_t_accuracy_avg"].alt
    assert "not ranked" in plots["forest_t_accuracy_avg"].alt
    assert "rank" not in plots["forest_t_entropy_bits"].alt
    assert all(plot.png.stat().st_size and plot.svg.stat().st_size for plot in plots.values())


def test_accuracy_against_entropy_has_published_points_that_are_named_so(tmp_path):
    a = make_run(tmp_path / "a", "a", tasks=["psplit_math500"], modes=NORMAL)
    _, plots = drawn(tmp_path / "p", a, models=["qwen3-8b"])
    found = numbers(plots["accuracy_entropy"])
    assert [line["source"] for line in found] == ["run"] + ["published"] * 5
    assert found[1]["row"] == "qwen3-8b, original"
    assert float(found[1]["accuracy"]) == pytest.approx(0.942)
    assert (found[1]["accuracy_ci_low"], found[1]["n_docs"]) == ("", "")
    assert "published figures, not measured here" in plots["accuracy_entropy"].caption


def test_temperatures_of_a_mode_are_one_line_of_the_frontier(tmp_path):
    made = {"tasks": ["psplit_story"], "docs": range(6)}
    runs = [
        make_run(tmp_path / f"{i}", "a", modes=NORMAL, sampling={"temperature": t}, **made)
        for i, t in enumerate((1.5, 0.6, 1.0))
    ]
    other = make_run(tmp_path / "other", "b", **made)
    _, plots = drawn(tmp_path / "p", *runs, other)
    found = numbers(plots["frontier"])
    points = [(line["series"], line["label"]) for line in found if not line["doc"]]
    assert points == [
        ("a, normal", "T 0.6"),
        ("a, normal", "T 1.0"),
        ("a, normal", "T 1.5"),
        ("b, high", ""),
        ("b, normal", ""),
    ]


def test_no_data_no_picture(tmp_path):
    run = make_run(tmp_path / "a", tasks=["psplit_story"], samples=1, modes=NORMAL, docs=range(3))
    _, plots = drawn(tmp_path / "p", run)
    assert "frontier" not in plots
    assert "forest_psplit_story_div_bleu_4" not in plots
