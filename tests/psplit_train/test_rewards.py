"""What a response earns."""

import gc
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.accuracy import AnswerFormat, grade
from psplit_train.config import RewardSettings
from psplit_train.rewards import Graded, Reward, Verifier
from psplit_train.tasks import TASKS

BOXED = Verifier(AnswerFormat())
SUMS = Verifier(TASKS["sums_without"].answer_format)
WALKS = Verifier(TASKS["walks"].answer_format)
EOS = 2


def spin(*_):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


def reward(settings=None, verifier=SUMS, eos_ids=(EOS,)):
    return Reward(settings or RewardSettings(), verifier, eos_ids)


def asked(made, texts, answer="17 without 4", ids=None, **columns):
    ids = ids or [[5, EOS]] * len(texts)
    return made([[{"role": "user"}]] * len(texts), texts, ids, [answer] * len(texts), **columns)


@pytest.mark.parametrize(
    ("verifier", "text", "answer", "expected"),
    [
        (SUMS, "8 + 9", "17 without 4", Graded(True, True, "8+9", False)),
        (SUMS, "4+4+9", "17 without 4", Graded(False, True, "4+4+9", False)),
        (SUMS, "17", "17 without 4", Graded(False, False, None, False)),
        (WALKS, "u r r", "a1 to c2 not b1", Graded(True, True, "urr", False)),
        (BOXED, r"\boxed{\frac12}", "0.5", Graded(True, True, "0.5", False)),
        (BOXED, r"\boxed{0.50}", "0.5", Graded(True, True, "0.5", False)),
        (BOXED, r"\boxed{7 cm}", "0.5", Graded(False, True, "7", False)),
        (BOXED, "0.5", "0.5", Graded(False, False, None, False)),
    ],
)
def test_a_grade_says_right_form_and_which_answer(verifier, text, answer, expected):
    assert verifier.grade(text, answer, truncated=False) == expected


def test_a_truncated_response_is_wrong_and_answers_nothing():
    assert SUMS.grade("8+9", "17 without 4", truncated=True) == Graded(False, False, None, False)


@given(text=st.text("123456789+ \\boxed{}1/2.", max_size=30), answer=st.sampled_from(["9", "1/2"]))
def test_training_and_evaluation_agree(text, answer):
    """Whatever a response says: right for the trainer is right for the evaluator."""
    for verifier in (BOXED, Verifier(AnswerFormat(r"(\S+)"))):
        found = grade(text, answer, verifier.answer_format)
        graded = verifier.grade(text, answer, truncated=False)
        assert (graded.correct, graded.formatted) == (found.correct, found.answer is not None)
        assert (graded.key is None) is (found.answer is None)


def test_every_gsm8k_flag_of_the_authors_is_reproduced(real_rows):
    answers = {row["id"]: row["answer"] for row in real_rows("gsm8k/test.jsonl")}
    verifier = Verifier(AnswerFormat(r"(?:A:|####)\s*(\S+)"))
    checked = 0
    for row in list(real_rows("gsm8k/model_solutions.jsonl.gz"))[:800]:
        found = verifier.grade(row["solution"], answers[row["id"]], truncated=False)
        assert found.correct == row["is_correct"]
        checked += 1
    assert checked == 800


def test_a_check_that_raises_is_a_failure_and_no_crash():
    def broken(reference, answer):
        raise OSError("the checker's server is gone")

    graded = Verifier(AnswerFormat(r"(\S+)"), broken).grade("7", "7", truncated=False)
    assert graded == Graded(False, False, None, True)
    assert SUMS.grade("8+9", "no reference", truncated=False).failed


@pytest.mark.parametrize("checker", [spin, lambda *_: time.sleep(20)])
def test_a_check_that_takes_too_long_is_a_failure(checker):
    start = time.monotonic()
    verifier = Verifier(AnswerFormat(r"(\S+)"), checker, time_limit=0.05)
    assert verifier.grade("7", "7", truncated=False).failed
    assert time.monotonic() - start < 2


def test_math_verify_itself_is_stopped():
    """sympy works at this integral for long; the limit that counts is the verifier's."""
    hard = r"\boxed{\int_0^1 \frac{\sin(x^x) e^{\cos(x^3)}}{\ln(2+x^{x})} dx}"
    gc.disable()  # an alarm amid hypothesis's callback of the collector would be lost
    try:
        start = time.monotonic()
        found = Verifier(AnswerFormat(), time_limit=0.3).grade(hard, r"\frac{\pi^3}{7}", False)
        assert time.monotonic() - start < 3
    finally:
        gc.enable()
    assert found.failed


def test_grading_in_another_thread_is_refused():
    errors = []

    def work():
        try:
            SUMS.grade("8+9", "17 without 4", truncated=False)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_rewards_are_sums_of_weighted_parts():
    made = reward(RewardSettings(correct=2.0, format=0.25))
    texts = ["8+9", "8+8", "none", [{"role": "assistant", "content": "8 + 9"}]]
    assert asked(made, texts, other=["x"] * 4, trainer_state=None) == [2.25, 0.25, 0.0, 2.25]
    assert [found.key for found in made.graded] == ["8+9", "8+8", None, "8+9"]
    assert made.__name__ == "reward"


def test_a_completion_without_an_end_is_truncated():
    texts, ids = ["8+9"] * 3, [[5, EOS], [5, 6], []]
    assert asked(reward(), texts, ids=ids) == [1.0, 0.0, 0.0]
    assert asked(reward(eos_ids=()), texts, ids=ids) == [1.0, 1.0, 1.0]


def test_failed_checks_are_counted_and_told():
    calls = []
    made = reward(verifier=SUMS, settings=RewardSettings(format=1.0))
    told = {"log_metric": lambda name, value: calls.append((name, value))}
    assert asked(made, ["8+9", "none"], answer="no reference", **told) == [0.0, 0.0]
    assert asked(made, ["8+9"], **told) == [2.0]
    assert made.failures == 1
    assert [found.failed for found in made.graded] == [False]  # of the last call
    assert calls == [("failed_checks", 0.5), ("failed_checks", 0.0)]


def test_lists_of_other_lengths_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        reward()([], ["8+9"], [[EOS], [EOS]], ["17 without 4"])
