"""What plots share: names as pictures can show them, styles that differ, curves, files."""

import csv
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from psplit_eval.figures import (
    STYLES,
    Plot,
    add_legend,
    blank_figure,
    draw_curve,
    fold,
    legend_name,
    legend_room,
    mode_style,
    panel_grid,
    plain,
    set_heading,
    some_of,
    widen,
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
    assert plain("exe\u202etxt") == r"exe\u202etxt"
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


def test_pictures_are_on_opaque_white(tmp_path):
    """Dark pages invert them, and so need to know what is behind them."""
    figure, (axis,) = panel_grid(1, "bits", sharey=False)
    axis.plot([0, 1], [0, 1], alpha=0.3)
    made = write_figure(tmp_path, "x", figure, ("", ""), ("a",), [])
    with Image.open(made.png) as image:
        pixels = image.convert("RGBA")
        assert pixels.getchannel("A").getextrema() == (255, 255)
        assert pixels.getpixel((0, 0)) == (255, 255, 255, 255)
        assert image.info.keys() == {"dpi"}  # nothing of when or by what
    assert "fill: #ffffff" in made.svg.read_text()


def test_letters_of_an_svg_need_no_font(tmp_path):
    figure = blank_figure(3, 1)
    set_heading(figure, "Entropy")
    made = write_figure(tmp_path, "x", figure, ("", ""), ("a",), [])
    assert "<text" not in made.svg.read_text()


@pytest.mark.parametrize(("dots", "image"), [(400, False), (2000, True)])
def test_many_dots_of_an_svg_are_an_image(dots, image, tmp_path):
    figure, (axis,) = panel_grid(1, "bits", sharey=False)
    axis.plot(range(dots), range(dots), marker="o", linestyle="none")
    svg = write_figure(tmp_path, "x", figure, ("", ""), ("a",), []).svg
    assert ("<image" in svg.read_text()) == image
    assert svg.stat().st_size < 120_000


def test_panels_and_titles_are_where_the_png_has_them(tmp_path):
    """Both are drawn of one layout: the SVG is that of matplotlib's own savefig."""
    made = []
    for name in ("ours", "its"):
        figure, axes = panel_grid(2, "bits", sharey=True)
        for axis in axes:
            axis.plot([0, 1], [0, 1], label="a mode")
            axis.set_title("title")
        add_legend(figure, axes)
        if name == "ours":
            write_figure(tmp_path, name, figure, ("", ""), ("a",), [])
        else:
            figure.savefig(tmp_path / "its.png", dpi=160)
        made.append([axis.get_position().bounds for axis in axes])
    assert made[0] == [pytest.approx(bounds) for bounds in made[1]]
    with Image.open(tmp_path / "ours.png") as ours, Image.open(tmp_path / "its.png") as its:
        assert ours.tobytes() == its.tobytes()


@given(st.lists(st.integers(), max_size=500), st.integers(1, 100))
def test_some_of_many_docs_stand_at_even_distances(docs, most):
    kept = some_of(docs, most)
    assert len(kept) <= most
    assert kept == docs[:: max(1, math.ceil(len(docs) / most))]
    assert bool(kept) == bool(docs)


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.5, 0.501], (0.45, 0.55)),  # widened on both sides
        ([0.0, 0.0], (-0.0055, 0.1045)),  # nothing far below 0
        ([0.0, 1.0], (-0.05, 1.05)),  # wide enough
        ([-0.01, 0.01], (-0.05, 0.05)),
    ],
)
def test_an_axis_spans_something(values, limits):
    figure, (axis,) = panel_grid(1, "bits", sharey=False)
    axis.plot([0, 1], values)
    widen(axis, 0.1)
    assert axis.get_ylim() == pytest.approx(limits, abs=0.001)
    figure.clear()


def test_a_long_legend_has_room():
    names = [f"a mode with quite a long name of {i}" for i in range(40)]
    assert legend_room(names) > legend_room(["short"])
    figure, axes = panel_grid(1, "bits", sharey=False, beside=legend_room(names))
    for name in names:
        axes[0].plot([0, 1], [0, 1], label=name)
    add_legend(figure, axes)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0
    assert legend.y1 <= figure.bbox.height
    assert axes[0].get_window_extent().width > 200
