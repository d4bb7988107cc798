"""Extraction and equivalence against real gold, and accuracy over k samples against hand counts."""

import csv
import itertools
import math
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.accuracy import (
    AnswerFormat,
    Grade,
    Votes,
    answer_classes,
    answer_groups,
    equivalent,
    extract_answer,
    extract_boxed,
    grade,
    maj_at_k,
    pass_at_k,
    pass_at_k_variance,
)
from psplit_eval.errors import UsageError

PAIRS = Path(__file__).parent.parent / "data" / "answer_pairs.tsv"  # made by hand
GSM8K_SOLUTIONS = AnswerFormat(pattern=r"(?m)^A:[ \t]*(.*)$")
MMLU_PRO_OUTPUTS = AnswerFormat(pattern=r"answer is \(?([A-J])\)?", letter=True, first=True)


def answer_pairs(kind):
    with PAIRS.open(newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(left, right) for found, left, right in rows if found == kind]


def test_the_pair_table_is_as_large_as_promised():
    assert min(len(set(answer_pairs(kind))) for kind in ("same", "different")) >= 60


@pytest.mark.parametrize(("target", "answer"), answer_pairs("same"))
def test_equivalent_pairs(target, answer):
    assert equivalent(target, answer)


@pytest.mark.parametrize(("target", "answer"), answer_pairs("different"))
def test_pairs_that_are_not_equivalent(target, answer):
    assert not equivalent(target, answer)


def test_every_gsm8k_flag_of_the_authors_is_reproduced(real_rows):
    gold = {row["id"]: row["answer"] for row in real_rows("gsm8k/test.jsonl")}
    rows = list(real_rows("gsm8k/model_solutions.jsonl.gz"))
    wrong = [
        row["id"]
        for row in rows
        if grade(row["solution"], gold[row["id"]], GSM8K_SOLUTIONS).correct != row["is_correct"]
    ]
    assert len(rows) == 4000
    assert wrong == []


def test_every_stated_mmlu_pro_letter_is_found_and_none_is_made_up(real_rows):
    rows = list(real_rows("mmlu_pro/model_outputs.jsonl.gz"))
    states = [bool(re.search(r"answer is \(?[A-J]\)?", row["output"])) for row in rows]
    # the other 109 hold a letter that the recorder guessed though the text states none
    kept = [row for row, stated in zip(rows, states, strict=True) if stated or row["pred"] is None]
    assert (len(kept), sum(states)) == (3391, 3190)
    found = [extract_answer(row["output"], MMLU_PRO_OUTPUTS) for row in kept]
    assert found == [row["pred"] for row in kept]


def test_every_math500_solution_is_right_against_its_own_answer(real_rows):
    rows = list(real_rows("math500/test.jsonl"))
    assert len(rows) == 400
    assert [
        r["unique_id"]
        for r in rows
        if not grade(r["solution"], r["answer"], AnswerFormat()).correct
    ] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\fbox{ 7 }", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed 5", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_the_last_complete_box_counts(text, found):
    assert extract_boxed(text) == found


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B. heat}", "B"),
        (r"\boxed{\text{(C) A flow of heat}}", "C"),
        (r"\boxed{{D}}", "D"),
        (r"\boxed{D) 12}", "D"),
        (r"\boxed{A heat}", None),
        (r"\boxed{B.5}", None),
        (r"\boxed{C}", "C"),
        (r"\boxed{\text{c}}", "C"),
        (r"\boxed{(D)}", "D"),
        (r"\boxed{A.}", "A"),
        (r"\boxed{A and B}", None),
        (r"\boxed{}", None),
    ],
)
def test_option_letters(text, letter):
    assert extract_answer(text, AnswerFormat(letter=True)) == letter


def test_a_letter_is_compared_as_a_letter():
    assert grade(r"\boxed{e}", "E", AnswerFormat(letter=True)).correct
    assert not grade(r"\boxed{A}", "E", AnswerFormat(letter=True)).correct


@pytest.mark.parametrize("pattern", ["(", "no group"])
def test_an_unusable_pattern_is_refused(pattern):
    with pytest.raises(UsageError, match="answer pattern"):
        AnswerFormat(pattern=pattern)


@given(st.text())
def test_any_text_is_graded_without_a_crash(text):
    assert isinstance(extract_answer(text, AnswerFormat()), str | None)
    grade(text, "1", GSM8K_SOLUTIONS)


@given(st.integers(1, 9), st.data())
def test_pass_at_k_equals_the_share_of_subsets_that_hold_a_right_one(n, data):
    correct = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    subsets = list(itertools.combinations([1] * correct + [0] * (n - correct), k))
    expected = Fraction(sum(map(any, subsets)), len(subsets))
    assert pass_at_k(n, correct, k) == pytest.approx(float(expected), abs=1e-12)


def test_pass_at_more_than_n_is_undefined_and_bad_counts_are_refused():
    assert math.isnan(pass_at_k(4, 2, 5))
    for arguments in [(4, 5, 1), (4, -1, 1), (4, 2, 0)]:
        with pytest.raises(UsageError):
            pass_at_k(*arguments)


def votes(text, right="a"):
    return [Grade(None if c == "-" else c, c == right) for c in text]


def vote_by_hand(answers, right="a"):
    """Share of right answers among the most frequent ones; '-' has no vote."""
    counts = Counter(answers.replace("-", ""))
    tied = [answer for answer, count in counts.items() if count == max(counts.values())]
    return Fraction(tied.count(right), len(tied)) if tied else Fraction(0)


@pytest.mark.parametrize(
    ("answers", "value"),
    [
        ("aab", 1.0),
        ("abb", 0.0),
        ("ab", 0.5),
        ("abc", 1 / 3),
        ("bbcc", 0.0),
        ("a---", 1.0),
        ("---", 0.0),
    ],
)
def test_majority_vote_of_all_samples_with_its_tie_rule(answers, value):
    assert vote_by_hand(answers) == Fraction(value).limit_denominator(10)
    assert maj_at_k(votes(answers), len(answers)) == value


@given(st.text("abcd-", min_size=1, max_size=9), st.data())
def test_majority_vote_is_the_mean_over_all_subsets(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    subsets = [vote_by_hand("".join(s)) for s in itertools.combinations(answers, k)]
    expected = float(sum(subsets) / len(subsets))
    assert maj_at_k(votes(answers), k) == pytest.approx(expected, abs=1e-13)


def test_majority_vote_of_three_of_four_by_hand():
    """Of aabc: aab, aac win; abc is a tie of three, twice."""
    assert maj_at_k(votes("aabc"), 3) == pytest.approx((1 + 1 + 2 / 3) / 4, abs=1e-15)


@given(st.text("abcdefg-", min_size=1, max_size=40))
def test_majority_vote_at_its_ends_is_the_share_of_right_ones_and_the_vote_of_all(answers):
    grades = votes(answers)
    assert maj_at_k(grades, len(answers)) == float(vote_by_hand(answers))
    share = answers.count("a") / len(answers)
    assert maj_at_k(grades, 1) == pytest.approx(share, abs=1e-14)


@pytest.mark.parametrize("classes", [1, 2, 5, 16, 64, 256])
@pytest.mark.parametrize("k", [2, 4, 31, 128, 509, 510])
def test_of_equally_frequent_answers_each_wins_as_often(classes, k):
    """By symmetry, however many samples: the only answer that is worth 1 gets 1 / classes."""
    size = 512 // classes
    found = Votes(right=size, wrong=(size,) * (classes - 1), silent=0).maj_at(k)
    assert found == pytest.approx(1 / classes, rel=1e-12)


def test_more_votes_help_the_most_frequent_answer_and_hurt_a_rarer_one():
    most = Votes(right=200, wrong=(150, 100), silent=62)
    rarer = Votes(right=150, wrong=(200, 1, 1, 1), silent=159)
    ks = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    ups, downs = ([v.maj_at(k) for k in ks] for v in (most, rarer))
    assert ups[0] == pytest.approx(200 / 512)
    assert ups == sorted(ups)
    assert ups[-1] == 1.0
    assert downs[3:] == sorted(downs[3:], reverse=True)
    assert downs[-1] == 0.0
    assert all(0 <= value <= 1 for value in ups + downs)


def test_a_majority_vote_of_thousands_stays_a_number():
    """Only the right answer is ever given: the vote is lost where nobody answers."""
    few = Votes(right=2, wrong=(), silent=3998)
    missed = Fraction(math.comb(3998, 1000), math.comb(4000, 1000))
    assert few.maj_at(1000) == pytest.approx(float(1 - missed), rel=1e-11)
    assert Votes(right=1500, wrong=(1500,), silent=0).maj_at(1024) == pytest.approx(0.5, rel=1e-11)


def test_majority_vote_groups_answers_that_mean_the_same():
    grades = [Grade("1/2", False), Grade("0.5", False), Grade("7", True), Grade("7.0", True)]
    assert Votes.of([*grades, Grade(None, False)]) == Votes(right=2, wrong=(2,), silent=1)
    assert maj_at_k(grades[:3], 3) == 0.0


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (["1/2", "3", "0.5", "$3$", r"\frac{1}{2}", "4"], [0, 1, 0, 1, 0, 2]),
        (["$", "$", r"\$"], [0, 0, 1]),  # nothing is left of them: only the same is the same
        (["50%", "0.5", "50"], [0, 0, 0]),
        (["0.5", "50", "50%"], [0, 1, 0]),
        ([], []),
    ],
)
def test_groups_of_answers_are_numbered_as_they_appear(answers, groups):
    assert answer_groups(answers) == groups


def test_a_majority_of_more_than_n_is_undefined_and_of_none_is_refused():
    assert math.isnan(maj_at_k([], 1))
    assert math.isnan(maj_at_k(votes("aab"), 4))
    with pytest.raises(UsageError, match="k=0"):
        maj_at_k(votes("aab"), 0)


@pytest.mark.parametrize(
    ("n", "correct", "k"), [(4, 1, 2), (8, 3, 4), (8, 8, 4), (5, 0, 1), (2, 1, 1)]
)
def test_the_variance_of_pass_at_k_is_the_jackknifes(n, correct, k):
    """By a plain loop over the sample that is left out."""
    marks = [True] * correct + [False] * (n - correct)
    without = [pass_at_k(n - 1, sum(marks[:i] + marks[i + 1 :]), k) for i in range(n)]
    mean = sum(without) / n
    expected = (n - 1) / n * sum((value - mean) ** 2 for value in without)
    assert pass_at_k_variance(n, correct, k) == pytest.approx(expected)


def test_the_variance_of_pass_at_1_is_that_of_a_mean():
    """s² / n with s² = n / (n − 1) p (1 − p), by hand for 3 of 8: (3 / 8) (5 / 8) / 7."""
    assert pass_at_k_variance(8, 3, 1) == pytest.approx(15 / 64 / 7)


@pytest.mark.parametrize(("n", "k"), [(4, 4), (1, 1), (2, 8), (0, 1)])
def test_one_sample_less_has_to_do_for_a_variance(n, k):
    assert math.isnan(pass_at_k_variance(n, 0, k))


def test_answers_are_grouped_by_meaning_and_right_ones_are_one():
    grades = [
        Grade("1/2", False),
        Grade(None, False),
        Grade("7", True),
        Grade("0.5", False),
        Grade("seven", True),  # right, however it is written
        Grade("7", False),  # right and wrong answers are never the same
        Grade("1/2", False),
    ]
    assert answer_classes(grades) == [0, None, 1, 0, 1, 2, 0]
    assert answer_classes([]) == []
    assert Votes.of(grades) == Votes(right=2, wrong=(3, 1), silent=1)
