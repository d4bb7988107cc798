"""Generated tasks: their questions, and the right answers that are drawn for warm-up."""

import re
import time
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from psplit_eval.accuracy import grade
from psplit_train.config import TinySettings
from psplit_train.tasks import TASKS


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


SHORT = [task for task in TASKS.values() if task.name != "stories"]
"""Tasks of tiny models."""


def test_a_task_has_its_name_and_enough_questions():
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    numbers = {name: len(task.rows(0)) for name, task in TASKS.items()}
    sums = {"sums": 22, "sums_without": 174, "sums_avoiding": 2216}
    assert numbers == {**sums, "walks": 696, "stories": 208}


def test_rows_are_the_same_for_a_seed_and_no_question_is_there_twice(task):
    rows = task.rows(3)
    assert rows == task.rows(3) != task.rows(4)
    assert len({row["question"] for row in rows}) == len(rows)


@pytest.mark.parametrize("task", SHORT, ids=lambda task: task.name)
def test_a_tiny_model_can_read_and_write_all_of_it(task):
    random = Random(0)
    known = set(task.characters)
    assert known <= set(TinySettings().characters)
    for row in task.rows(0):
        answer = task.worked(row, random)
        assert set(row["question"] + answer) <= known
        assert len(row["question"]) <= 16
        assert len(answer) <= task.longest <= 12


def test_what_is_drawn_is_right_by_the_checker_of_evaluation(task):
    random = Random(1)
    for row in task.rows(0):
        for _ in range(5):
            text = task.worked(row, random)
            assert grade(text, row["answer"], task.answer_format).correct, (row, text)


def test_every_question_has_many_right_answers(task):
    """But of the plain sums 26, of which there are three, and 27, which is 9+9+9."""
    random = Random(2)
    few = {
        row["question"]
        for row in task.rows(0)
        if len({task.worked(row, random) for _ in range(100)}) < 4
    }
    assert few == ({"26", "27"} if task.name == "sums" else set())


def test_what_is_drawn_is_the_same_for_the_same_generator(task):
    row = task.rows(0)[0]
    drawn = [[task.worked(row, random) for _ in range(9)] for random in (Random(5), Random(5))]
    assert drawn[0] == drawn[1]


def test_right_sums_have_equal_chances():
    by_hand = [(a, b) for a in range(1, 10) for b in range(1, 10) if a + b == 9]
    by_hand += [(a, b, 9 - a - b) for a in range(1, 9) for b in range(1, 9) if 0 < 9 - a - b < 10]
    right = {"+".join(map(str, digits)) for digits in by_hand if 4 not in digits}
    random, row = Random(0), {"answer": "9 without 4"}
    drawn = Counter(TASKS["sums_without"].worked(row, random) for _ in range(6000))
    assert set(drawn) == right
    assert chisquare(list(drawn.values())).pvalue > 1e-4


def test_walks_of_a_length_have_equal_chances():
    """a1 to c2 not b1: by hand one walk of three steps; lengths are 3, 5 and 7."""
    random, row = Random(0), {"answer": "a1 to c2 not b1"}
    drawn = Counter(TASKS["walks"].worked(row, random) for _ in range(9000))
    lengths = Counter(len(text) for text in drawn.elements())
    assert set(lengths) == {3, 5, 7}
    assert chisquare(list(lengths.values())).pvalue > 1e-4
    assert {text for text in drawn if len(text) == 3} == {"urr"}
    of_five = [count for text, count in drawn.items() if len(text) == 5]
    assert chisquare(of_five).pvalue > 1e-4


def test_a_wall_stands_between_start_and_end():
    for row in TASKS["walks"].rows(0):
        start, end, wall = re.findall(r"[a-d][1-4]", row["question"])
        for part in (0, 1):
            low, high = sorted((start[part], end[part]))
            assert low <= wall[part] <= high
        assert len({start, end, wall}) == 3


@given(text=st.text("123456789+ udlr.\n", max_size=20))
def test_only_a_whole_response_of_the_right_form_is_an_answer(text):
    sums, walks = TASKS["sums"].answer_format, TASKS["walks"].answer_format
    plain = re.sub(r"\s+", "", text)
    found = grade(text, "9", sums).answer
    parts = plain.split("+")
    fits = len(parts) in (2, 3) and all(len(part) == 1 and part.isdigit() for part in parts)
    assert (found is not None) is fits
    steps = grade(text, "a1 to c2 not b1", walks).answer
    assert (steps is not None) is (0 < len(plain) <= 8 and set(plain) <= set("udlr"))


def test_a_check_takes_less_than_a_millisecond(task):
    random, rows = Random(0), task.rows(0)
    texts = [(task.worked(row, random), row["answer"]) for row in rows for _ in range(5)]
    start = time.process_time()
    for text, answer in texts:
        grade(text, answer, task.answer_format)
    assert (time.process_time() - start) / len(texts) < 1e-3


def test_no_part_of_walks_repeats_a_sum():
    """A checker reads its own references only: tasks cannot be mixed up silently."""
    for name, other in (("sums", "walks"), ("walks", "sums")):
        reference = TASKS[other].rows(0)[0]["answer"]
        text = TASKS[name].worked(TASKS[name].rows(0)[0], Random(0))
        with pytest.raises(Exception, match="expected a"):
            grade(text, reference, TASKS[name].answer_format)


STORY_WORDS = {
    "apples": lambda a, b, c: a + b + c,
    "books": lambda a, b, c: a + b + c,
    "loaves": lambda a, b, c: a + b + c,
    "mice": lambda a, b, c: a + b + c,
    "flowers": lambda a, b, c: a + b + c,
    "miles": lambda a, b, c: a + b + c,
    "older": lambda a, b: a - b,
    "more marbles": lambda a, b: a - b,
    "won against": lambda a, b: a - b,
    "warmer": lambda a, b: a - b,
    "dollars more": lambda a, b: a - b,
    "taller": lambda a, b: a - b,
    "laps more": lambda a, b: a - b,
    "longer": lambda a, b: a - b,
}
"""What is told apart by a word of it; all other stories are of two parts of a whole."""


def test_a_worked_answer_fits_what_the_story_says():
    """What a story asks for is decided by its words here, by its equation there."""
    stories, random = TASKS["stories"], Random(3)
    for row in stories.rows(0):
        found = [made for word, made in STORY_WORDS.items() if word in row["question"]]
        made = found[0] if found else lambda a, b: a + b
        amounts = [int(part) for part in stories.worked(row, random).split(" and ")]
        assert made(*amounts) == sum(map(int, re.findall(r"\d+", row["question"]))), row


def test_stories_are_short_and_their_answers_too():
    stories, random = TASKS["stories"], Random(4)
    for row in stories.rows(0):
        assert len(row["question"]) <= 120
        assert set(row["question"]) <= set(stories.characters)
        assert len(stories.worked(row, random)) <= stories.longest


def test_worked_answers_of_a_story_have_equal_chances():
    """By hand: 1 and 6 to 6 and 1; and differences of numbers up to 12."""
    random, stories = Random(0), TASKS["stories"]
    for reference, right in (
        ("a + b = 7", {f"{a} and {7 - a}" for a in range(1, 7)}),
        ("a - b = 4", {f"{b + 4} and {b}" for b in range(1, 9)}),
    ):
        drawn = Counter(stories.worked({"answer": reference}, random) for _ in range(6000))
        assert set(drawn) == right
        assert chisquare(list(drawn.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5 and 9", "5 and 9"),
        (" 5 and 9\n", "5 and 9"),
        ("4 and 5 and 5", "4 and 5 and 5"),
        ("They get 5 and 9", None),
        ("5 and 9 grapes", None),
        ("5 + 9", None),
        ("05 and 9", None),
    ],
)
def test_a_story_is_answered_by_the_numbers_alone(text, answer):
    assert grade(text, "a + b = 14", TASKS["stories"].answer_format).answer == answer
