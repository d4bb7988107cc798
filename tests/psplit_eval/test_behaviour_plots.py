"""Pictures of how modes behave are made where there are numbers, with those numbers beside them."""

import csv
import math
from dataclasses import replace

import pytest

from psplit_eval.behaviour import Behaviour
from psplit_eval.behaviour_plots import draw_behaviour
from psplit_eval.divergence import Stretch
from psplit_eval.margins import Verdict
from psplit_eval.spread import UNKNOWN, Spread
from psplit_eval.stats import Difference, Estimate
from psplit_eval.verdicts import Answer, Excess, Margins, Split

NAN = math.nan
PLOTS = ("kl_by_position", "entropy_by_position", "modes_matrix", "beyond_placebos")


def estimate(value, n):
    return Estimate(value, *((value - 0.01, value + 0.02) if n >= 5 else (NAN, NAN)), n)


def difference(value, n):
    return Difference(
        0.5, 0.5 + value, Spread(value, 0.01, n - 1, n) if n >= 5 else UNKNOWN, NAN, n
    )


def stretches(base, n):
    spans = [(0, 0), (1, 1), (2, 3), (4, 7)]
    return [
        Stretch(*span, estimate(base + i / 64, n), estimate(base + 1 + i / 64, n), estimate(9, n))
        for i, span in enumerate(spans)
    ]


def split(mode, number, placebos, n, direction):
    excesses = [
        Excess(measure, name, difference(number / 8, n), margin, way, 0.25, 0.75)
        for name in placebos
        for measure, margin, way in (("kl", 0.1, 1), ("entropy", 0.05, direction))
    ]
    answer = Answer("split", "normal", mode, Verdict.YES, "")
    return Split(answer, difference(0.1, n), difference(0.2, n), excesses, ["t"])


def behaviour(modes=("normal", "high"), tasks=("sums", "story"), n=8, placebos=("p1", "p2")):
    pairs = [(a, b) for a in modes for b in modes if a != b]
    numbers = {pair: (1 + i) / 16 for i, pair in enumerate(pairs)}
    return Behaviour(
        reference=modes[0],
        answers=[],
        splits=[split(mode, i, placebos, n, i % 3 - 1) for i, mode in enumerate(modes[1:])],
        findings=[],
        curves={(t, *pair): stretches(numbers[pair], n) for t in tasks for pair in pairs},
        carriers={},
        matrix={pair: difference(number, n) for pair, number in numbers.items()},
        placebos=dict.fromkeys(placebos, "text"),
        margins=Margins(),
    )


def test_the_main_numbers_are_in_words(tmp_path):
    made = {plot.name: plot for plot in draw_behaviour(behaviour(tasks=("sums",)), tmp_path)}
    curve = "sums, KL(normal‖high): 0.06 [0.05, 0.08] at tokens 0, 0.11 [0.10, 0.13] at tokens 4–7"
    assert curve in made["kl_by_position"].alt
    assert "sums, high: 1.12 [1.11, 1.15] at tokens 0" in made["entropy_by_position"].alt
    assert "KL(high‖normal) 0.125 [" in made["modes_matrix"].alt
    assert "high less p1: KL 0.000 [" in made["beyond_placebos"].alt
    assert "(margin 0.1), entropy 0.000 [" in made["beyond_placebos"].alt
    assert all(len(plot.alt) <= 600 for plot in made.values())
    assert all(plot.caption.endswith(".") for plot in made.values())


def drawn(found, folder):
    folder.mkdir(parents=True, exist_ok=True)
    made = draw_behaviour(found, folder)
    files = [path for plot in made for path in (plot.png, plot.svg, plot.csv)]
    assert sorted(files) == sorted(folder.iterdir())
    assert all(plot.png.read_bytes()[:4] == b"\x89PNG" for plot in made)
    return [plot.name for plot in made]


def rows(folder, name):
    """Numbers as floats, empty cells as None."""
    with (folder / f"{name}.csv").open() as file:
        return [[_cell(cell) for cell in row] for row in list(csv.reader(file))[1:]]


def _cell(text):
    try:
        return float(text) if text else None
    except ValueError:
        return text


def of_estimate(value):
    return [None if math.isnan(x) else x for x in (value.value, value.ci_low, value.ci_high)] + [
        value.n
    ]


def of_difference(value):
    numbers = (value.difference, value.ci_low, value.ci_high)
    return [None if math.isnan(x) else x for x in numbers] + [value.n]


def of_test(excess):
    return [excess.margin, excess.direction, excess.p, excess.p_against]


@pytest.mark.parametrize("n", [8, 1])
def test_the_numbers_beside_a_picture_are_those_of_the_behaviour(n, tmp_path):
    found = behaviour(n=n)
    assert tuple(drawn(found, tmp_path)) == PLOTS
    assert rows(tmp_path, "kl_by_position") == [
        [*cell, s.first, s.last, *of_estimate(s.kl)]
        for cell, all_ in found.curves.items()
        for s in all_
    ]
    assert rows(tmp_path, "entropy_by_position") == [
        [task, mode, s.first, s.last, *of_estimate(s.entropy_mode)]
        for (task, mode, _), all_ in found.curves.items()
        for s in all_
    ]
    assert rows(tmp_path, "modes_matrix") == [
        [*pair, *of_difference(kl)] for pair, kl in found.matrix.items()
    ]
    assert rows(tmp_path, "beyond_placebos") == [
        [*("high", e.placebo, e.measure), *of_difference(e.difference), *of_test(e)]
        for e in found.splits[0].excesses
    ]


def test_without_cross_scores_there_is_no_picture(tmp_path):
    nothing = replace(behaviour(), curves={}, matrix={}, splits=[])
    assert drawn(nothing, tmp_path / "nothing") == []
    assert drawn(behaviour(modes=("normal",)), tmp_path / "one") == []


def test_without_placebos_or_numbers_by_token_the_other_pictures_are_made(tmp_path):
    assert drawn(behaviour(placebos=()), tmp_path / "a") == list(PLOTS[:3])
    empty = dict.fromkeys(behaviour().curves, ())
    assert drawn(replace(behaviour(), curves=empty), tmp_path / "b") == list(PLOTS[2:])


def test_undefined_numbers_are_no_picture(tmp_path):
    found = behaviour()
    undefined = [s._replace(kl=Estimate(NAN, NAN, NAN, 8)) for s in stretches(1, 8)]
    nothing = Difference(NAN, NAN, UNKNOWN, NAN, 0)
    excesses = [replace(e, difference=nothing) for e in found.splits[0].excesses]
    hidden = replace(
        found,
        curves=dict.fromkeys(found.curves, undefined),
        matrix=dict.fromkeys(found.matrix, nothing),
        splits=[replace(found.splits[0], excesses=excesses)],
    )
    assert drawn(hidden, tmp_path) == ["entropy_by_position"]


def test_an_undefined_number_changes_no_picture_and_is_an_empty_cell(tmp_path):
    found = replace(behaviour(modes=("normal", "high", "low"), tasks=("sums",)), splits=[])
    nothing = Difference(NAN, NAN, UNKNOWN, NAN, 0)
    undefined = [s._replace(kl=Estimate(NAN, NAN, NAN, 8)) for s in stretches(1, 8)]
    more = replace(
        found,
        curves=found.curves | {("empty", "normal", "high"): undefined},
        matrix=found.matrix | {("low", "normal"): nothing},
    )
    less = {pair: kl for pair, kl in found.matrix.items() if pair != ("low", "normal")}
    drawn(more, tmp_path / "more")
    drawn(replace(found, matrix=less), tmp_path / "less")
    for name in ("kl_by_position", "modes_matrix"):
        pictures = [(tmp_path / each / f"{name}.png").read_bytes() for each in ("more", "less")]
        assert pictures[0] == pictures[1]
    assert ["low", "normal", None, None, None, 0.0] in rows(tmp_path / "more", "modes_matrix")


def test_entropy_is_of_the_pair_with_most_docs(tmp_path):
    found = behaviour(modes=("normal", "high", "low"), tasks=("sums",))
    found = replace(found, matrix={}, splits=[])
    few = stretches(7, 5)
    drawn(replace(found, curves=found.curves | {("sums", "normal", "high"): few}), tmp_path)
    of_normal = [row[4] for row in rows(tmp_path, "entropy_by_position") if row[1] == "normal"]
    second = found.curves["sums", "normal", "low"]
    assert of_normal == [stretch.entropy_mode.value for stretch in second]


def test_of_many_modes_the_picture_shows_the_reference_and_the_table_all(tmp_path):
    found = behaviour(modes=[f"mode_{i}" for i in range(6)], tasks=("sums",))
    found = replace(found, matrix={}, splits=[])
    cell = ("sums", "mode_2", "mode_3")
    # not higher than others, so that the axis stays
    other = replace(found, curves=found.curves | {cell: stretches(0.01, 8)})
    for name, each in (("a", found), ("b", other)):
        drawn(each, tmp_path / name)
    pictures = [(tmp_path / name / "kl_by_position.png").read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    assert len(rows(tmp_path / "a", "kl_by_position")) == 30 * 4
    assert rows(tmp_path / "b", "kl_by_position") != rows(tmp_path / "a", "kl_by_position")


def test_twelve_tasks_of_long_names_are_drawn(tmp_path):
    tasks = [f"a_task_with_quite_a_long_name_of_{i}" for i in range(12)]
    found = replace(behaviour(("normal", "h" * 60), tasks, n=5), matrix={})
    assert drawn(found, tmp_path) == [PLOTS[0], PLOTS[1], PLOTS[3]]


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_drawn_and_kept_in_the_table(tmp_path):
    modes = ("_normal", "高", "a_$x$_{b")
    tasks = (r"$\frac", 'quote", comma\nand line', "<script>")
    found = behaviour(modes, tasks, placebos=("$a$ $b$", "名"))
    assert drawn(found, tmp_path) == list(PLOTS)
    table = rows(tmp_path, "kl_by_position")
    assert list(dict.fromkeys(row[0] for row in table)) == list(tasks)
    assert {row[1] for row in table} == set(modes)


def test_the_same_behaviour_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        drawn(behaviour(), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
