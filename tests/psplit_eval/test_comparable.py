"""Which rows can be held against each other."""

from dataclasses import replace
from pathlib import Path

import pytest

from psplit_eval.comparable import standings
from psplit_eval.conditions import Conditions

DOCS = {i: (f"h{i}", f"p{i}") for i in range(3)}


def conditions(run="a", mode="normal", **changes):
    made = Conditions(
        run=Path(run),
        task="t",
        mode=mode,
        docs=DOCS,
        scorer={"kind": "accuracy"},
        measured_by={},
        sampling={"temperature": 0.6},
        task_sampling={"temperature": 0.6},
        few_shot=None,
        system_prompt=None,
        model={"chat_template": "plain"},
        fingerprint=run,
    )
    if "temperature" in changes:
        sampling = {"temperature": changes.pop("temperature")}
        changes |= {"sampling": sampling, "task_sampling": sampling}
    return replace(made, **changes)


def standing(*rows):
    found = standings({i: [row] for i, row in enumerate(rows)}, {i: f"row {i}" for i in range(9)})
    return [found[i] for i in range(len(rows))]


def ranked(*rows):
    return [not found.obstacle for found in standing(*rows)]


def test_checkpoints_and_modes_are_what_a_board_is_about():
    high = {"mode": "high", "system_prompt": "Be high."}
    docs = {i: (f"h{i}", f"other {i}") for i in range(3)}
    rows = [conditions("a"), conditions("a", docs=docs, **high), conditions("b")]
    assert standing(*rows) == standing(rows[0]) * 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 1.0}, "temperature: 1.0 against 0.6"),
        ({"scorer": {"kind": "other"}}, "scorer: {'kind': 'other'} against {'kind': 'accuracy'}"),
        ({"docs": {0: ("h0", "p0")}}, "docs: 1 against 3, 1 of them the same"),
        ({"docs": {0: ("new", "p0")}}, "docs: 1 docs against 3 docs, none of them the same"),
        ({"docs": {**DOCS, 0: ("h0", "new")}}, "prompt texts: one prompt text against another for"),
        ({"few_shot": {"examples": 5}, "mode": "high"}, "examples before: {'examples': 5} against"),
        ({"model": {"chat_template": "plain", "thinking": True}}, "told to think: True against"),
    ],
)
def test_what_else_differs_is_an_obstacle(changes, said):
    first = conditions("a", model={"chat_template": "plain", "thinking": False})
    second = conditions("b", model={"chat_template": "plain", "thinking": False})
    found = standing(first, second, conditions("c", **changes))
    assert [not one.obstacle for one in found] == [True, True, False]
    assert f"not comparable with row 0: {said}" in found[2].obstacle
    assert "(c against a)" in found[2].obstacle


def test_a_template_belongs_to_its_checkpoint():
    docs = {i: (f"h{i}", f"other {i}") for i in range(3)}
    other = conditions("b", docs=docs, model={"chat_template": "other"})
    found = standing(conditions("a"), other)
    assert [one.obstacle for one in found] == ["", ""]
    assert found[1].remark == "beside row 0: chat template: another one (b against a)"
    same = replace(other, fingerprint="a")  # one checkpoint, two templates
    assert ranked(conditions("a"), same) == [True, False]


def test_another_prompt_of_a_mode_is_said():
    docs = {i: (f"h{i}", f"other {i}") for i in range(3)}
    rows = [
        conditions("a", mode="high", system_prompt="Be high."),
        conditions("b", mode="high", system_prompt="Dream.", docs=docs),
    ]
    found = standing(*rows)
    assert [one.obstacle for one in found] == ["", ""]
    assert "system prompt: Dream. against Be high." in found[1].remark


def test_the_largest_group_of_runs_is_the_reference():
    warm = {"temperature": 1.0}
    one, two, three = conditions("a", **warm), conditions("b"), conditions("c")
    assert ranked(one, two, three) == [False, True, True]
    assert ranked(one, two) == [True, False]  # a tie: the first counts
    three_modes = [conditions("a", mode=f"m{i}", **warm) for i in range(3)]
    assert ranked(*three_modes, two, three) == [False] * 3 + [True] * 2


def test_a_setting_that_a_run_does_not_know_stands_beside_either():
    """lm_eval logs no temperature: the imported run fits to each of two that do not fit."""
    silent = conditions("c", sampling={}, task_sampling={})
    assert ranked(conditions("a"), conditions("b", temperature=1.0), silent) == [True, False, True]


def test_a_pool_is_comparable_where_all_of_its_tasks_are():
    def pool(run, **changes):
        return [conditions(run), conditions(run, task="u", **changes)]

    found = standings({0: pool("a"), 1: pool("b", temperature=1.0)}, {0: "x", 1: "y"})
    assert found[0].obstacle == ""
    assert "u: temperature: 1.0 against 0.6" in found[1].obstacle
