"""Questions with several right answers."""

import itertools
import re

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.accuracy import AnswerFormat, Grade, answer_classes, answer_key, grade
from psplit_eval.checkers import CHECKERS, adds_up, arrives, solves
from psplit_eval.errors import DataError, UnknownNameError, UsageError


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("9", "4+5", True),
        ("9", "4 + 5", True),
        ("9", "2+3+4", True),
        ("9", "9", False),  # one digit is no sum
        ("9", "1+1+3+4", False),
        ("9", "0+9", False),
        ("9", "4+6", False),
        ("9", "10-1", False),
        ("9", "+4+5", False),
        ("9", "４+5", False),  # a digit of another script
        ("17 without 4", "8+9", True),
        ("17 without 4", "4+4+9", False),
        ("17 without 8", "8+9", False),
    ],
)
def test_sums_by_hand(reference, answer, right):
    assert adds_up(reference, answer) is right


@given(st.integers(2, 27), st.none() | st.integers(1, 9), st.text("0123456789+- e", max_size=8))
def test_sums_are_what_python_makes_of_them(total, forbidden, answer):
    reference = f"{total}" if forbidden is None else f"{total} without {forbidden}"
    parts = [part.strip() for part in answer.split("+")]
    digits = len(parts) in (2, 3) and all(len(p) == 1 and p in "123456789" for p in parts)
    right = digits and eval(answer) == total and str(forbidden) not in parts
    assert adds_up(reference, answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("urr", True),
        ("u r r", True),
        ("uurdr", True),
        ("rru", False),  # onto the wall
        ("ur", False),
        ("urrr", False),
        ("lurr", False),  # off the grid
        ("ududurr", True),
        ("udududurr", False),  # nine steps
        ("", False),
        ("URR", False),
    ],
)
def test_walks_by_hand(answer, right):
    assert arrives("a1 to c2 not b1", answer) is right


def test_walks_are_those_of_a_graph():
    """networkx counts walks by powers of the adjacency matrix of the grid without the wall."""
    graph = networkx.grid_2d_graph(4, 4)
    graph.remove_node((1, 0))
    nodes = list(graph)
    matrix = networkx.to_numpy_array(graph, nodelist=nodes, dtype=int)
    power = matrix.copy()
    for length in range(1, 7):
        answers = map("".join, itertools.product("udrl", repeat=length))
        found = sum(arrives("a1 to c2 not b1", answer) for answer in answers)
        assert found == power[nodes.index((0, 0)), nodes.index((2, 1))]
        power = power @ matrix


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("a + b = 14", "5 and 9", True),
        ("a + b = 14", " 9  and\n5 ", True),
        ("a + b = 14", "7 and 8", False),
        ("a + b = 14", "14", False),
        ("a + b = 14", "0 and 14", False),
        ("a + b = 14", "4 and 5 and 5", False),  # one amount too many
        ("a + b + c = 14", "4 and 5 and 5", True),
        ("a + b + c = 14", "5 and 9", False),
        ("a - b = 4", "9 and 5", True),
        ("a - b = 4", "5 and 9", False),
        ("a - b = 4", "99 and 95", True),
        ("a - b = 4", "100 and 96", False),
        ("a - b = 4", "9, 5", False),
        ("a - b = 4", "٩ and 5", False),  # a digit of another script
    ],
)
def test_amounts_by_hand(reference, answer, right):
    assert solves(reference, answer) is right


@given(st.lists(st.integers(1, 99), min_size=1, max_size=4), st.integers(1, 99))
def test_amounts_are_what_python_makes_of_them(amounts, total):
    answer = " and ".join(map(str, amounts))
    for left in ("a + b", "a + b + c", "a - b"):
        names = dict(zip("abc", amounts, strict=False))
        right = len(amounts) == left.count(" ") // 2 + 1 and eval(left, {}, names) == total
        assert solves(f"{left} = {total}", answer) is right


@pytest.mark.parametrize(
    ("checker", "reference"),
    [("sum", "x"), ("sum", "17 without 0"), ("walk", "a1 to e1 not b2"), ("walk", "a1 to b2")]
    + [("amounts", text) for text in ("a * b = 6", "a + b", "a + b = 0", "a - b - c = 6")],
)
def test_a_reference_of_another_form_is_named(checker, reference):
    with pytest.raises(DataError, match=re.escape(f"{reference!r}: expected a")):
        CHECKERS[checker](reference, "1+1")


def test_a_format_names_its_checker():
    sums = AnswerFormat(r"= (\S+)", checker="sum")
    assert grade("so = 4+5", "9", sums) == Grade("4+5", True, several=True)
    assert grade("so = 9", "9", sums).correct is False
    assert AnswerFormat().several is False
    with pytest.raises(UnknownNameError, match="did you mean 'sum'"):
        AnswerFormat(checker="sums")
    with pytest.raises(UsageError, match="no letter"):
        AnswerFormat(letter=True, checker="sum")


def test_answers_with_the_same_value_are_different_where_there_are_several():
    given = ["4+5", "5 + 4", "4 + 5", None, "7+7", "14"]
    grades = [Grade(text, index < 3, several=True) for index, text in enumerate(given)]
    assert answer_classes(grades) == [0, 1, 0, None, 2, 3]
    single = [Grade(text, index < 3) for index, text in enumerate(given)]
    assert answer_classes(single) == [0, 0, 0, None, 1, 1]


def test_keys_of_answers():
    sums = AnswerFormat(r"(\S+)", checker="sum")
    assert answer_key("4 + 5", sums) == answer_key("4+5", sums) != answer_key("5+4", sums)
    plain = AnswerFormat()
    assert answer_key("$1,234$", plain) == answer_key("1234", plain)
    assert answer_key("$", plain) == "$"  # no normal form, still a text of its own
