"""What is sent, and what is made of answers: pure, so over all that servers may say."""

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.chat import (
    FailedRequestError,
    Form,
    message_of,
    named_parameters,
    read_completion,
    read_sign,
    server_seed,
)
from psplit_eval.requests import Sampling
from psplit_eval.thinking import Thinking

MESSAGES = [{"role": "user", "content": "Hi"}]
NAMES = (
    *("choices", "message", "content", "logprobs", "token", "logprob", "top_logprobs", "bytes"),
    *("finish_reason", "reasoning_content", "usage", "completion_tokens", "token_ids", "error"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=20,
)


def answer(content="7", finish="stop", logprobs=None, usage=None, **message):
    choice = {"message": {"role": "assistant", "content": content} | message}
    choice |= {"finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = {"content": logprobs}
    return {"choices": [choice], "usage": usage or {}}


def position(token, logprob, *tops):
    listed = [{"token": name, "logprob": value} for name, value in tops]
    return {"token": token, "logprob": logprob, "top_logprobs": listed}


def read(given, until=(), thinking=None, stops_sent=True):
    return read_completion(given, until, thinking or Thinking(), stops_sent)


def test_everything_that_changes_a_distribution_is_sent():
    sampling = Sampling(temperature=0.6, top_k=20, top_p=0.95, max_tokens=9, until=tuple("abcde"))
    body = Form().body("m", MESSAGES, sampling, 5)
    assert body == {
        "model": "m",
        "messages": MESSAGES,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "repeat_penalty": 1.0,
        "seed": 6,
        "stop": ["a", "b", "c", "d"],
        "return_token_ids": True,
        "logprobs": True,
        "top_logprobs": 20,
        "max_tokens": 9,
    }
    told = Form().body("m", MESSAGES, sampling, 5, stops=False, thinking=Thinking(False))
    assert "stop" not in told
    assert told["chat_template_kwargs"] == {"enable_thinking": False}


@given(st.integers(0, 2**63 - 1))
def test_seeds_fit_into_31_bits_and_are_never_special(seed):
    assert 1 <= server_seed(seed) < 2**31
    assert server_seed(seed) == server_seed(seed)


def test_neighbouring_seeds_stay_apart():
    assert len({server_seed(seed) for seed in range(2**62, 2**62 + 1000)}) == 1000


def test_a_form_goes_down_step_by_step_to_nothing():
    form, asked = Form(), []
    while form is not None:
        body = form.body("m", MESSAGES, Sampling(), 1)
        asked.append([body.get(name) for name in ("logprobs", "top_logprobs", "top_k")])
        form = form.adapted(["logprobs", "top_k"], [])
    assert asked[:3] == [[True, 20, 0], [True, 5, -1], [True, None, None]]
    assert asked[3:] == [[None, None, None]]


@pytest.mark.parametrize(("asked", "sent"), [(0, None), (3, 3), (20, 20)])
def test_as_many_log_probabilities_are_asked_for_as_wanted(asked, sent):
    body = Form(asked).body("m", MESSAGES, Sampling(), 1)
    assert (body.get("top_logprobs"), "logprobs" in body) == (sent, bool(asked))
    assert Form(asked).left_out() == []


def test_tokens_are_always_limited():
    form = Form().without(["max_tokens"])
    assert form.body("m", MESSAGES, Sampling(max_tokens=3), 1)["max_completion_tokens"] == 3
    assert form.adapted(["max_tokens"], []) is None


def test_of_two_that_do_not_go_together_the_one_without_effect_goes():
    form = Form().adapted(["temperature", "top_p"], [Sampling(temperature=0.6)])
    assert form.left_out() == ["top_p"]


def openai_error(message, **more):
    return json.dumps({"error": {"message": message, "param": None, "code": None, **more}})


@pytest.mark.parametrize(
    ("status", "body", "names"),
    [
        (400, openai_error("Unrecognized request arguments supplied: min_p, top_k"), 2),
        (400, openai_error("Unsupported parameter: use 'max_completion_tokens'", param="seed"), 1),
        (400, openai_error("Requested sample logprobs of 20, greater than max allowed: 5"), 1),
        (400, openai_error("Unsupported value", param="messages"), 0),
        (422, json.dumps({"detail": [{"loc": ["body", "min_p"], "msg": "Extra inputs"}]}), 1),
        (400, json.dumps({"object": "error", "message": "top_k must be -1, or at least 1"}), 1),
        (400, "'stop' is not supported", 1),
        (500, openai_error("logprobs is not supported for models created without logits_all"), 1),
        (500, openai_error("seed mismatch in worker"), 0),
        (503, "no seed", 0),
        (403, openai_error("You are not allowed to request logprobs from this model"), 1),
        (404, openai_error("The model `seed` does not exist"), 0),
        (429, "seed", 0),
        (None, "seed", 0),
        (400, openai_error("This model's maximum context length is 8 tokens, max_tokens 9"), 0),
        (400, openai_error("max_tokens is too large: 65536"), 0),
        (400, openai_error("Invalid prompt: 'At what temperature does it boil?' was flagged"), 0),
        (403, openai_error("Please stop."), 0),
        (422, json.dumps({"detail": [{"loc": 5, "msg": "odd"}]}), 0),
    ],
)
def test_what_an_error_is_about(status, body, names):
    assert len(named_parameters(status, body)) == names


def test_no_text_for_all_the_tokens_is_a_truncated_answer():
    """Servers that do not show thoughts say so of a thought that took all there was."""
    found = read(answer(None, "length"))
    assert (found.text, found.finish_reason, found.thought) == ("", "length", None)


@given(st.text() | JSON.map(json.dumps))
def test_any_error_body_is_read(body):
    assert isinstance(message_of(body), str)
    assert set(named_parameters(400, body)) <= {"logprobs"}


@given(JSON)
def test_an_answer_is_read_or_has_failed(content):
    for part in (content, {"choices": [content]}, answer(content), answer("x", logprobs=content)):
        if not isinstance(part, dict):
            continue
        for reader in (read, lambda given: read_sign(given, Thinking())):
            with suppress(FailedRequestError):
                reader(part)


@pytest.mark.parametrize(
    ("given", "words", "retry"),
    [
        (answer(None), "content is null", True),
        (answer([{"type": "text"}]), "content is a list", True),
        ({"choices": []}, "no choices", True),
        ({"error": {"message": "engine is loading"}}, "engine is loading", True),
        ({"choices": [{"message": None}]}, "without a message", True),
        (answer(finish=None), "finish reason", True),
        (answer(finish="content_filter"), "content filter", False),
        (answer(finish="tool_calls"), "tool", False),
        (answer(tool_calls=[{}]), "tool", False),
    ],
)
def test_an_answer_without_text_has_failed(given, words, retry):
    with pytest.raises(FailedRequestError, match=words) as caught:
        read(given)
    assert caught.value.retry is retry


def test_an_empty_answer_is_an_answer():
    found = read(answer("", usage={"prompt_tokens": 5, "completion_tokens": 1}))
    assert (found.text, found.finish_reason, found.tokens, found.prompt_tokens) == (
        "",
        "stop",
        1,
        5,
    )


def test_log_probabilities_become_sums():
    half, quarter = math.log(1 / 2), math.log(1 / 4)
    places = [
        position("a", half, ("a", half), ("b", half)),
        position("c", quarter, ("d", half)),  # chosen but not listed: 1/2, 1/4, rest 1/4
    ]
    found = read(answer("ac", logprobs=places, usage={"completion_tokens": 3}))
    assert found.nll_sum_nats == pytest.approx(-half - quarter)
    assert found.entropy_estimate_sum_bits == pytest.approx(1.0 + 1.5)
    assert found.entropy_sum_bits is None
    assert found.tokens == 2  # the positions that the sums are over; the end token is not listed


@pytest.mark.parametrize(
    ("places", "tokens"),
    [
        ([position("a", -9999.0, ("b", -0.1))], 1),
        ([position("a", -math.inf, ("b", -0.1))], 1),
        ([position("a", -0.1)], 4),
        ([position("a", math.nan, ("b", -0.1))], 1),
    ],
)
def test_what_is_not_known_of_every_token_is_not_summed(places, tokens):
    found = read(answer("a", logprobs=places, usage={"completion_tokens": tokens}))
    assert found.nll_sum_nats is None
    assert found.text == "a"


def test_a_stop_string_that_the_server_went_past_ends_the_answer_and_its_counts():
    places = [position(t, math.log(1 / 2), (t, math.log(1 / 2))) for t in ("a", "b\n", "\nc", "d")]
    given = answer("ab\n\ncd", "length", places, {"completion_tokens": 4})
    given["choices"][0]["token_ids"] = [1, 2, 3, 4]
    found = read(given, ["\n\n", "x"])
    assert (found.text, found.finish_reason, found.tokens, found.ids) == (
        "ab",
        "stop",
        3,
        (1, 2, 3),
    )
    assert found.nll_sum_nats == pytest.approx(3 * math.log(2))
    assert found.entropy_estimate_sum_bits == pytest.approx(3)


ON = Thinking(True)


@pytest.mark.parametrize(
    ("given", "thinking", "text", "thought", "finish"),
    [
        (answer("\n\n7", reasoning_content="Hm.\n"), Thinking(), "7", "Hm.", "stop"),
        (answer("7", reasoning="Hm."), Thinking(), "7", "Hm.", "stop"),
        (answer(None, "length", reasoning_content="Hm"), Thinking(), "", "Hm", "length"),
        (answer("", "stop", reasoning_content="Hm"), Thinking(), "", "Hm", "stop"),
        (answer("<think>Hm.</think>\n7"), Thinking(), "7", "Hm.", "stop"),
        (answer("<think>Hm", "length"), Thinking(), "", "Hm", "length"),
        (answer("Hm.</think>7"), Thinking(), "7", "Hm.", "stop"),
        (answer("Hm.</think>7"), ON, "7", "Hm.", "stop"),
        (answer("Hm", "length"), ON, "", "Hm", "length"),
        (answer("7"), ON, "7", None, "stop"),
        (answer("a </think> b"), Thinking(False), "a </think> b", None, "stop"),
        (answer("<a>Hm\n</a>7\n8"), Thinking(None, "<a>", "</a>"), "7", "Hm", "stop"),
    ],
)
def test_thought_and_answer_are_told_apart(given, thinking, text, thought, finish):
    found = read(given, ["\n8"], thinking)
    assert (found.text, found.thought, found.finish_reason) == (text, thought, finish)


def test_a_thought_that_a_stop_string_cut_is_asked_for_again():
    with pytest.raises(FailedRequestError, match="stop string") as caught:
        read(answer("<think>Hm", "stop"), ["\n"])
    assert caught.value.retry
    assert read(answer("<think>Hm", "stop"), ["\n"], stops_sent=False).finish_reason == "length"
