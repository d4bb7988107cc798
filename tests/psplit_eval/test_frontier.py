"""Diversity against quality: which points none beats, and the picture with its numbers."""

import csv
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.frontier import FrontierPoint, draw_frontier, on_frontier
from psplit_eval.stats import Estimate

NAN = math.nan


def estimate(value, half=0.02):
    return Estimate(value, value - half, value + half, 9)


def point(quality, diversity, series="normal", label="", task="story", **more):
    return FrontierPoint(series, label, estimate(quality), estimate(diversity), task, **more)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_frontier_has_the_points_that_none_beats():
    """By hand: c is beaten by b, d by all, and equal points do not beat each other."""
    points = [point(*xy) for xy in [(0.9, 0.2), (0.5, 0.6), (0.4, 0.6), (0.1, 0.1), (0.9, 0.2)]]
    assert on_frontier(points) == [True, True, False, False, True]


def test_each_task_has_a_frontier_of_its_own():
    points = [point(0.9, 0.9, task="a"), point(0.1, 0.1, task="b")]
    assert on_frontier(points) == [True, True]


levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=12))
def test_whatever_is_not_on_the_frontier_is_beaten_by_what_is(pairs):
    found = on_frontier([point(*pair) for pair in pairs])
    best = [pair for pair, on in zip(pairs, found, strict=True) if on]
    for pair, on in zip(pairs, found, strict=True):
        beaten = any(
            other != pair and other[0] >= pair[0] and other[1] >= pair[1] for other in best
        )
        assert beaten != on


def test_the_numbers_lie_beside_the_picture(tmp_path):
    points = [
        point(0.9, 0.2, label="T 0.6", docs=[(7, 0.8, 0.25)]),
        point(0.5, 0.6, label="T 1"),
        point(0.4, 0.5, series="high"),
    ]
    plot = draw_frontier(points, tmp_path, "one")
    found = rows(plot.csv)
    assert [(row["name"], row["label"], row["doc"], row["on_frontier"]) for row in found] == [
        ("normal", "T 0.6", "", "1"),
        ("normal", "T 0.6", "7", ""),
        ("normal", "T 1", "", "1"),
        ("high", "", "", "0"),
    ]
    assert [float(found[0][name]) for name in ("quality", "diversity_ci_low")] == [0.9, 0.2 - 0.02]
    assert (found[1]["quality"], found[1]["diversity_ci_low"]) == ("0.8", "")
    assert "normal (T 1): quality 0.50 [0.48, 0.52], diversity 0.60 [0.58, 0.62]" in plot.alt
    assert "several temperatures" in plot.caption
    assert "Grey steps" in plot.caption


def test_a_caption_says_nothing_that_is_not_in_the_picture(tmp_path):
    caption = draw_frontier([point(0.9, 0.2)], tmp_path).caption
    assert not any(word in caption for word in ("temperatures", "steps", "Faint", "labelled"))


def test_undefined_points_are_left_out(tmp_path):
    undefined = FrontierPoint("x", "", Estimate(NAN, NAN, NAN, 0), estimate(0.5), "story")
    assert draw_frontier([undefined], tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert len(rows(draw_frontier([undefined, point(0.5, 0.5)], tmp_path).csv)) == 1


@pytest.mark.filterwarnings("error")
def test_many_points_and_hostile_names_are_drawn(tmp_path):
    points = [
        point(x / 9, y / 9, series=f"_${y}$ {'long ' * 12}", label=f"${x}", task=f"$t{y % 2}")
        for x in range(10)
        for y in range(10)
    ]
    plot = draw_frontier(points, tmp_path)
    assert plot.png.read_bytes()[:4] == b"\x89PNG"
    assert "the best are labelled" in plot.caption


def test_the_same_points_give_the_same_bytes(tmp_path):
    points = [point(0.9, 0.2, label="T 1"), point(0.5, 0.6, series="high", docs=[(0, 0.1, 0.2)])]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        draw_frontier(points, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
