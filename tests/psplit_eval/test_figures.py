"""What plots share: names as pictures can show them, styles that differ, curves, files."""

import csv
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.figures import (
    STYLES,
    Plot,
    add_legend,
    blank_figure,
    draw_curve,
    fold,
    legend_name,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    write_figure,
)
from psplit_eval.stats import Estimate

NAN = math.nan
KNOWN = Estimate(1.0, 0.5, 1.5, 9)
BARE = Estimate(2.0, NAN, NAN, 3)
UNDEFINED = Estimate(NAN, NAN, NAN, 0)


@given(st.text("ab_- ", min_size=1, max_size=60), st.integers(1, 30))
def test_folding_drops_nothing_but_spaces(text, width):
    folded = fold(text, width)
    assert folded.replace("\n", "").replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= width for line in folded.split("\n"))


def test_names_are_broken_behind_an_underscore_and_lines_are_kept():
    assert fold("one_long_name_of_a_task", 12) == "one_long_\nname_of_a_\ntask"
    assert fold("first line\nsecond", 30) == "first line\nsecond"


def test_a_name_is_shown_as_it_is():
    assert plain("KL(a‖b) [%] \\x") == "KL(a‖b) [%] \\x"
    assert plain("a\nb\t高") == r"a\nb\t\u9ad8"
    figure = blank_figure(3, 1)
    figure.suptitle(plain(r"$\frac$ and $ \sum$"))
    figure.draw_without_rendering()  # raises ValueError where it is read as mathematics


def test_many_modes_have_styles_of_their_own():
    modes = [f"mode_{number}" for number in range(4 * STYLES)]
    styles = [tuple(mode_style(modes, mode).items()) for mode in modes]
    assert len(set(styles)) == len(modes)
    colours = {mode_style(modes, mode)["color"] for mode in modes[:STYLES]}
    assert len(colours) == STYLES


def test_a_legend_names_each_curve_once_even_with_an_underscore_first():
    figure, axes = panel_grid(2, "bits", sharey=True)
    for axis in axes:
        for mode in ("_high", "normal"):
            draw_curve(axis, [0, 1], [KNOWN, KNOWN], legend_name(mode), mode_style([mode], mode))
    add_legend(figure, axes)
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == [
        "_high",
        "normal",
    ]


@pytest.mark.parametrize(
    ("estimates", "bars"),
    [
        ([KNOWN, KNOWN, BARE], 0),  # a band
        ([KNOWN, BARE, KNOWN], 2),  # no band is between them
        ([BARE, KNOWN, UNDEFINED], 1),
        ([BARE, BARE, UNDEFINED], 0),
    ],
)
def test_an_interval_is_a_band_or_where_that_has_no_width_a_bar(estimates, bars):
    figure, (axis,) = panel_grid(1, "bits", sharey=False)
    draw_curve(axis, [0, 1, 2], estimates, "mode", mode_style(["mode"], "mode"))
    segments = [s for c in axis.containers for s in c.lines[2][0].get_segments()]
    assert len(segments) == bars
    assert all([low[1], high[1]] == [0.5, 1.5] for low, high in segments)
    figure.draw_without_rendering()


def test_panels_stand_four_in_a_row_and_the_first_of_each_has_a_label():
    _, axes = panel_grid(6, "bits", sharey=True)
    assert [axis.get_ylabel() for axis in axes] == ["bits", "", "", "", "bits", ""]


def test_a_long_heading_takes_more_lines():
    figure = blank_figure(2, 1)
    set_heading(figure, "word " * 20)
    assert figure.get_suptitle().count("\n") >= 4


def test_a_picture_and_its_numbers_lie_side_by_side(tmp_path):
    rows = [("a,b", 0.1, NAN, 3), ("c", 1 / 3, -1e-9, 0)]
    words = "What it shows.", "a is 1."
    made = write_figure(tmp_path, "x", blank_figure(2, 1), words, ("name", "v", "low", "n"), rows)
    assert made == Plot(tmp_path, "x", *words)
    assert {path.name for path in tmp_path.iterdir()} == {"x.png", "x.svg", "x.csv"}
    assert made.png.read_bytes()[:4] == b"\x89PNG"
    assert ElementTree.parse(made.svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with made.csv.open() as file:
        found = list(csv.DictReader(file))
    assert [list(row.values()) for row in found] == [
        ["a,b", "0.1", "", "3"],
        ["c", repr(1 / 3), "-1e-09", "0"],
    ]
