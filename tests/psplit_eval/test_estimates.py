"""Answers in any order become cases; what is not known stays undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.backends import Case
from psplit_eval.estimates import Estimates, Given
from psplit_eval.logprobs import TopTokens, divergence_bounds_bits, entropy_bounds_bits

PAIRS = [("a", "b"), ("b", "c")]
PROMPTS = {"a": (1,), "b": (2,), "c": (3,)}


def case(*responses, texts=()):
    return Case(responses, PROMPTS, PAIRS, texts)


def answered(policy, ids):
    """Two tokens a position, of masses that differ by policy and token."""
    masses = [(0.1 * (1 + "abc".index(policy)) + 0.01 * i, 0.3) for i in ids]
    listed = [
        dict(zip((i, i + 50), map(math.log, mass), strict=True))
        for i, mass in zip(ids, masses, strict=True)
    ]
    return Given(tuple(ids), TopTokens.of(listed))


def work(estimates, cases, order=lambda questions: questions):
    found = dict(estimates.unasked())
    for question in order(list(estimates.questions())):
        ids = cases[question.case].responses[question.response]
        if whole := estimates.take(question, answered(question.policy, ids)):
            assert whole[0] not in found
            found[whole[0]] = whole[1]
    return found


def test_rows_are_where_crossed_looks_for_them():
    cases = [case((4, 5, 6), (7,))]
    (found,) = work(Estimates(cases), cases).values()
    tops = {name: answered(name, (4, 5, 6)).top for name in "abc"}
    for name, top in tops.items():
        np.testing.assert_array_equal(found.entropy(0, name), entropy_bounds_bits(top))
        masses = [0.1 * (1 + "abc".index(name)) + 0.01 * i for i in (4, 5, 6)]
        np.testing.assert_allclose(found.surprisal(0, name), -np.log2(masses))
    for a, b in PAIRS:
        expected = divergence_bounds_bits(tops[a], tops[b])
        np.testing.assert_array_equal(found.between(0, (a, b)), expected)
    assert [rows.shape for rows in found.rows] == [(12, 3), (12, 1)]


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.lists(st.integers(4, 7), max_size=3).map(tuple), max_size=4),
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_answers_in_any_order_and_equal_responses_once(responses, random):
    cases = [case(*each) for each in responses]

    def shuffled(questions):
        distinct = [len({r for r in each if r}) for each in responses]
        assert len(questions) == 3 * sum(distinct)
        random.shuffle(questions)
        return questions

    found = work(Estimates(cases), cases, shuffled)
    assert sorted(found) == list(range(len(cases)))
    for number, each in enumerate(cases):
        assert [rows.shape for rows in found[number].rows] == [(12, len(r)) for r in each.responses]
        for i, ids in enumerate(each.responses):
            assert np.isfinite(found[number].rows[i]).all()
            if ids:
                expected = entropy_bounds_bits(answered("b", ids).top)
                np.testing.assert_array_equal(found[number].entropy(i, "b"), expected)


@pytest.mark.parametrize("wrong", ["error", "tokens"])
def test_a_response_that_one_policy_lacks_is_undefined_under_all(wrong):
    cases = [case((4, 5), (6, 7))]
    estimates = Estimates(cases)
    for question in estimates.questions():
        ids = cases[0].responses[question.response]
        answer = answered(question.policy, ids)
        if question.response == 0 and question.policy == "b":
            answer = RuntimeError("too long") if wrong == "error" else answered("b", (4,))
        whole = estimates.take(question, answer)
    assert np.isnan(whole[1].rows[0]).all()
    assert np.isfinite(whole[1].rows[1]).all()
    assert [rows.shape for rows in whole[1].rows] == [(12, 2), (12, 2)]
    words = "too long" if wrong == "error" else "after the prompt of another mode"
    assert [(words in reason, n) for reason, n in estimates.lost.items()] == [(True, 1)]


def test_by_text_tokens_may_be_others_and_their_number_unknown():
    cases = [case((4, 5), (), (6, 2), (), texts=("ab", "cd", "e", ""))]
    estimates = Estimates(cases, by_text=True)
    made = {0: (9, 9), 1: (8,), 2: (6,)}
    for question in estimates.questions():
        failed = question.response == 1
        answer = ValueError("no") if failed else answered(question.policy, made[question.response])
        whole = estimates.take(question, answer)
    assert [rows.shape[1] for rows in whole[1].rows] == [2, 1, 1, 0]
    assert np.isnan(whole[1].rows[1]).all()
    assert estimates.recut == 1  # (4, 5); of (6, 2) only the end token is missing
