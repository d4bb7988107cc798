"""Texts that evaluation sets hold, too."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import DataError
from psplit_train.contamination import (
    WORDS,
    OverlapIndex,
    evaluation_files,
    evaluation_texts,
    overlapping,
)

LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."


def overlaps(text, *known):
    return overlapping([text], OverlapIndex.of(known)) == [True]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LONG, True),
        (LONG.lower().replace(" ", ", "), True),
        (LONG.removeprefix("One "), True),  # thirteen words
        (LONG.removeprefix("One two "), False),  # twelve
        (f"Before it. {LONG.removesuffix('fourteen.')} And after.", True),
        (LONG.replace("seven", "7"), False),
        ("", False),
        ("?!", False),
    ],
)
def test_thirteen_words_in_a_row(text, found):
    assert overlaps(text, LONG) is found


def test_a_short_text_is_found_where_it_is_all_of_a_text():
    assert overlaps("What is 2 + 3?", "what is 2+3")
    assert not overlaps("What is 2 + 3?", "What is 2 + 33?")
    assert not overlaps("one two", LONG)  # a part of a longer one
    assert not overlaps("", "")


@given(st.lists(st.text("ab .,A", max_size=60), max_size=4), st.text("ab .,A", max_size=60))
def test_as_the_definition_says_word_by_word(known, text):
    def words(of):
        return re.sub(r"[^a-z0-9]+", " ", of.lower()).split()

    def shares(a, b):
        if len(a) < WORDS:
            return bool(a) and a == b
        spaced = f" {' '.join(b)} "
        return any(f" {' '.join(a[i : i + WORDS])} " in spaced for i in range(len(a) - WORDS + 1))

    expected = any(shares(words(text), words(one)) for one in known)
    assert overlaps(text, *known) is expected


def test_published_rl_data_was_cleaned_against_the_problems(real_rows):
    """PROVENANCE.md: the rows that share a 13-word run with these sets were dropped."""
    sets = {
        "math500/test.jsonl": "problem",
        "aime/aime24.jsonl": "problem",
        "aime/aime25.jsonl": "problem",
        "gsm8k/test.jsonl": "question",
    }
    docs = [row[field] for name, field in sets.items() for row in real_rows(name)]
    index = OverlapIndex.of(docs)
    problems = [row["problem"] for row in real_rows("rl_math/deepmath_int.jsonl")]
    assert len(problems) == 1930
    assert sum(overlapping(problems, index)) == 0
    assert all(overlapping(docs, index))


def test_a_worked_solution_gives_a_problem_away_too(real_rows):
    """Found by this filter: a MATH-500 solution holds the formula of a problem to train on."""
    solutions = [row["solution"] for row in real_rows("math500/test.jsonl")]
    problems = [row["problem"] for row in real_rows("rl_math/deepmath_int.jsonl")]
    found = overlapping(problems, OverlapIndex.of(solutions))
    (dirty,) = (text for text, is_dirty in zip(problems, found, strict=True) if is_dirty)
    assert dirty.startswith("Find the minimum value of \\( P = \\left(a + b + c + d")


def test_gsm8k_train_has_four_questions_that_are_nearly_test_questions(real_rows):
    """Counted apart by searching strings of 13 normalised words in each other."""
    test = [row["question"] for row in real_rows("gsm8k/test.jsonl")]
    train = [row["question"] for row in real_rows("gsm8k/train.jsonl.gz")]
    found = overlapping(train, OverlapIndex.of(test))
    dirty = [text for text, is_dirty in zip(train, found, strict=True) if is_dirty]
    assert len(dirty) == 4
    assert sum(text.startswith("A train travels") for text in dirty) == 2


def test_every_shipped_task_is_an_evaluation_set(tmp_path):
    files = evaluation_files([])
    names = {path.stem for path in files}
    assert {"psplit_story", "psplit_open", "psplit_solve", "psplit_reading"} <= names
    texts = list(evaluation_texts(files))
    story = json.loads(
        next(p for p in files if p.stem == "psplit_story").read_text().split("\n")[0]
    )
    assert story["premise"] in texts
    assert all(len(text.split()) > 1 or not text.isalnum() for text in texts)


def test_files_and_folders_that_are_named_count_with_every_text_however_deep(tmp_path):
    (tmp_path / "deep").mkdir()
    row = {"id": 7, "answer": "42", "parts": [{"text": "a b"}, {"more": ["c d", 5]}]}
    (tmp_path / "deep" / "one.jsonl").write_text(json.dumps(row))
    own = len(evaluation_files([]))
    (path,) = evaluation_files([str(tmp_path)])[own:]
    assert list(evaluation_texts([path])) == ["a b", "c d"]  # a lone number asks nothing
    assert evaluation_files([str(path)])[own:] == [path]


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no \.jsonl"):
        evaluation_files([str(tmp_path)])
    with pytest.raises(DataError, match="cannot be read"):
        list(evaluation_texts(evaluation_files([str(tmp_path / "none.jsonl")])))
