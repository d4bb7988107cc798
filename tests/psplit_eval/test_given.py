"""What a server says of a response's tokens is believed only where it is whole."""

import math

import pytest

from psplit_eval.chat import FailedRequestError
from psplit_eval.errors import UsageError
from psplit_eval.given import (
    cannot_score,
    prompt_body,
    read_given,
    read_prompt_ids,
    response_body,
)

PROMPT = (1, 5)


def answer(*tokens, prompt=PROMPT, first=None):
    """A whole answer; tokens of the response as (id, text), each of probability 1/2."""
    entries = [{str(i): {"logprob": -9.0, "rank": 3, "decoded_token": "?"}} for i in prompt[1:]]
    entries += [
        {
            str(token): {"logprob": math.log(0.5), "rank": 1, "decoded_token": text},
            str(token + 100): {"logprob": math.log(0.25), "rank": 2, "decoded_token": "!"},
        }
        for token, text in tokens
    ]
    ids = [*prompt, *(token for token, _ in tokens)]
    return {"prompt_token_ids": ids, "prompt_logprobs": [first, *entries]}


def test_tokens_and_what_is_listed():
    given = read_given(answer((7, "So"), (8, " it is")), PROMPT, "So it is", ())
    assert given.ids == (7, 8)
    assert sorted(given.top.tokens[0].tolist()) == [7, 107]
    assert given.top.of_tokens([7, 8]) == pytest.approx([math.log(0.5)] * 2)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([(7, "So"), (8, "it"), (9, "is")], "So it is"),  # SentencePiece: a space is not shown
        ([(7, "Yes "), (8, "�"), (9, "�")], "Yes 😀"),  # one character of two tokens
        ([(7, "Yes "), (8, ""), (9, "😀")], "Yes 😀"),  # as newer versions of vLLM show it
        ([(7, "�"), (8, "a"), (9, "�b")], "éaéb"),
    ],
)
def test_texts_of_single_tokens_need_not_show_all(tokens, text):
    assert len(read_given(answer(*tokens), PROMPT, text, ()).ids) == 3


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([(7, "So"), (8, " it")], "So it is"),
        ([(7, "SO")], "So"),
        ([(7, "Well"), (8, "So")], "So"),
        ([(7, "a�")], "a"),
        ([], "So"),
    ],
)
def test_another_text_than_the_response_is_refused(tokens, text):
    with pytest.raises(FailedRequestError, match="changes the response") as raised:
        read_given(answer(*tokens), PROMPT, text, (3, 4))
    assert not raised.value.retry


def test_known_tokens_need_no_texts():
    found = answer((7, "?"), (8, "?"))
    assert read_given(found, PROMPT, "So", (7, 8)).ids == (7, 8)
    assert read_given(found, PROMPT, "So", (7, 8, 2)).ids == (7, 8)  # an end token
    with pytest.raises(FailedRequestError):
        read_given(found, PROMPT, "So", (7, 8, 2, 2))


@pytest.mark.parametrize("prompt", [(1, 6), (1, 5, 7), (1, 5, 7, 9)])
def test_another_prompt_is_refused(prompt):
    with pytest.raises(FailedRequestError, match="other tokens than without it"):
        read_given(answer((8, "So")), prompt, "So", ())


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt_logprobs": "none"},
        {"prompt_logprobs": [None]},
        {"prompt_logprobs": [None, {}, {"7": {"rank": 1}}]},
        {"prompt_logprobs": [None, {}, {"x": {"logprob": -1.0}, "7": {"logprob": -1.0}}]},
        {"prompt_logprobs": [None, {}, None]},
        {"prompt_logprobs": [None, {}, {"8": {"logprob": -1.0}}]},
        {"prompt_logprobs": [None, {}, {"7": {"logprob": -9999.0}}]},
        {"prompt_logprobs": [None, {}, {"7": {"logprob": math.nan}}]},
        {"prompt_token_ids": [1, 5, "7"]},
        {"prompt_token_ids": [1, 5, True]},
        {"prompt_token_ids": 3},
    ],
)
def test_half_an_answer_is_none(changed):
    with pytest.raises(FailedRequestError) as raised:
        read_given({**answer((7, "So")), **changed}, PROMPT, "So", (7,))
    assert not raised.value.retry  # it would come again
    assert not cannot_score(raised.value)


def test_masses_above_one_are_no_log_probabilities():
    found = answer((7, "So"))
    found["prompt_logprobs"][-1]["107"]["logprob"] = 2.0
    with pytest.raises(UsageError, match="raw_logprobs"):
        read_given(found, PROMPT, "So", ())


@pytest.mark.parametrize("name", ["prompt_logprobs", "prompt_token_ids"])
def test_a_server_without_the_fields_cannot_score(name):
    with pytest.raises(FailedRequestError) as raised:
        read_given({**answer((7, "So")), name: None}, PROMPT, "So", ())
    assert cannot_score(raised.value)
    assert read_prompt_ids(answer((7, "So"))) == (1, 5, 7)


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (400, "Unknown parameter: prompt_logprobs", True),
        (400, "Requested prompt logprobs of 20, which is greater than max allowed: 5", True),
        (422, "Extra inputs are not permitted (continue_final_message)", True),
        (400, "continue_final_message is set but the final message does not appear", False),
        (400, "maximum context length is 8", False),
        (500, "prompt_logprobs", False),
    ],
)
def test_a_refusal_of_one_response_is_not_one_of_all(status, text, expected):
    assert cannot_score(FailedRequestError(text, status=status)) == expected


def test_bodies_ask_for_what_is_read_and_nothing_of_a_sample():
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "m", "messages": messages, "logprobs": True, "top_logprobs": 5, "stop": ["a"]}
    assert prompt_body(body) == {"model": "m", "messages": messages, "return_token_ids": True}
    asked = response_body(body, "So", 20)
    assert asked["messages"] == [*messages, {"role": "assistant", "content": "So"}]
    assert (asked["prompt_logprobs"], asked["return_token_ids"]) == (20, True)
    assert (asked["add_generation_prompt"], asked["continue_final_message"]) == (False, True)
    assert body["messages"] == messages
