"""What two modes solve apart and together, as pictures with their numbers."""

import csv

import pytest

from psplit_eval.complementarity import DocSolutions, Solutions, complementary_findings
from psplit_eval.figures import blank_figure
from psplit_eval.overlap_plots import draw_overlap

MODES = ["normal", "high", "low"]
RIGHT = {"normal": [4, 0, 2, 0, 1, 4, 0, 0], "high": [4, 1, 0, 0, 3, 4, 0, 2], "low": [0] * 8}
"""Of four samples of eight docs."""


def findings(task="sums", a="normal", b="high", samples=4, docs=8):
    solved = [
        DocSolutions(doc, *(Solutions(samples, min(RIGHT[m][doc], samples)) for m in (a, b)))
        for doc in range(docs)
    ]
    return complementary_findings(task, a, b, solved)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_docs_are_counted_by_who_solved_them(tmp_path):
    """By hand: of RIGHT, docs 0, 4, 5 by both, 2 by normal alone, 1, 7 by high alone, 3, 6 by
    neither."""
    overlap, _ = draw_overlap(findings(), MODES, tmp_path)
    counts = {row["part"]: int(row["docs"]) for row in rows(overlap.csv)}
    assert counts == {"only_a": 1, "both": 3, "only_b": 2, "neither": 2}
    said = "sums: normal alone 1, both 3, high alone 2, neither 2"
    assert said in overlap.alt


def test_chances_are_of_the_largest_number_of_samples(tmp_path):
    found = {f.measure: f.estimate for f in findings()}
    _, complement = draw_overlap(findings(), MODES, tmp_path)
    table = {row["measure"]: row for row in rows(complement.csv)}
    for name in ("only_a", "only_b", "mixed_less_a", "mixed_less_b"):
        estimate = found[f"{name}_at_4"]
        assert (table[name]["k"], float(table[name]["value"])) == ("4", estimate.value)
        assert float(table[name]["ci_high"]) == estimate.ci_high
    # with all four samples pass@4 is 1 where one is right: 1 doc of 8
    assert found["only_a_at_4"].value == 1 / 8
    assert "sums, k = 4: normal, not high 12.5 %" in complement.alt


def test_bars_are_as_long_as_their_shares(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "psplit_eval.figures.blank_figure",
        lambda *size: drawn.append(blank_figure(*size)) or drawn[-1],
    )
    draw_overlap(findings(), MODES, tmp_path)
    lengths = [patch.get_width() for patch in drawn[0].axes[0].patches]
    assert lengths == [1 / 8, 3 / 8, 2 / 8, 2 / 8]
    lefts = [patch.get_x() for patch in drawn[0].axes[0].patches]
    assert lefts == [0, 1 / 8, 4 / 8, 6 / 8]


def test_every_task_and_two_modes_are_there(tmp_path):
    found = [*findings(), *findings(b="low"), *findings("reading", b="low")]
    made = draw_overlap(found, MODES, tmp_path)
    assert [plot.name for plot in made] == ["overlap", "complement"]
    cells = {(row["task"], row["mode_a"], row["mode_b"]) for row in rows(made[0].csv)}
    assert cells == {
        ("sums", "normal", "high"),
        ("sums", "normal", "low"),
        ("reading", "normal", "low"),
    }
    assert made[1].png.read_bytes()[:4] == b"\x89PNG"


def test_without_graded_tasks_there_is_no_picture(tmp_path):
    others = [f for f in findings() if f.measure.startswith("tokens")]
    assert others
    assert draw_overlap(others, MODES, tmp_path) == draw_overlap([], MODES, tmp_path) == []


def test_undefined_numbers_are_not_drawn_and_are_empty_cells(tmp_path):
    """One sample a mode: a mixed budget needs two."""
    _, complement = draw_overlap(findings(samples=1), MODES, tmp_path)
    table = {row["measure"]: row for row in rows(complement.csv)}
    assert table["mixed_less_a"]["value"] == ""
    assert float(table["only_b"]["value"]) == 2 / 8
    assert "half of each" not in complement.alt


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("docs", [1, 8])
def test_hostile_names_and_few_docs_are_drawn(docs, tmp_path):
    RIGHT["_$x$ " + "long " * 12] = RIGHT["high"]
    made = draw_overlap(
        findings("<b>$", b="_$x$ " + "long " * 12, docs=docs), list(RIGHT), tmp_path
    )
    assert len(made) == 2
