"""From tokens to a response: where it ends, what is thought and what is answer."""

import numpy as np
import pytest
import torch

from psplit_eval.requests import Request, Sampling
from psplit_eval.responses import Responses
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking

THINKING_TEMPLATE = "{{ messages }}{% if x %}<think></think>{% endif %}"


@pytest.fixture
def tokenizer(tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def respond(tokenizer, text, prompt="Hi", context=1000, thinking=None, **settings):
    """A row that is made to draw the tokens of `text` and then the end token."""
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], 2]
    template = ChatTemplate(tokenizer, "tiny", thinking=thinking)
    responses = Responses(template, frozenset({2}), context)
    sampling = Sampling(**{"max_tokens": 500, **settings})
    row = responses.row(
        Request("m", "t", 0, 0, "d", "p", (5,) * 7, sampling, seed=1, prompt=prompt)
    )
    for token in ids:
        logits = torch.full((1, len(tokenizer)), -1e9)
        logits[0, token] = 0.0
        assert responses.draw([row], logits).tolist() == [token]
        if row.finish_reason:
            break
    return responses.completion(row, 0.5)


def test_a_response_ends_at_the_end_token(tokenizer):
    found = respond(tokenizer, "It is 7.")
    assert (found.text, found.finish_reason, found.thought) == ("It is 7.", "stop", None)
    assert found.ids[-1] == 2
    assert found.tokens == len(found.ids)
    assert found.entropy_sum_bits == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("settings", "context"), [({"max_tokens": 4}, 1000), ({}, 11)])
def test_a_limit_cuts(tokenizer, settings, context):
    found = respond(tokenizer, "It is a long story.", context=context, **settings)
    assert (len(found.ids), found.finish_reason) == (4, "length")


def test_a_stop_string_ends_the_answer_before_it(tokenizer):
    found = respond(tokenizer, "one\nEND two", until=("END",))
    assert (found.text, found.finish_reason) == ("one\n", "stop")


def test_a_stop_string_in_a_thought_stops_nothing(tokenizer):
    tokenizer.chat_template = THINKING_TEMPLATE
    for prompt, start in (("Hi", " <think>"), ("assistant\n<think>\n", "")):
        text = start + "a END b</think>\nIt is 7. END c"
        found = respond(tokenizer, text, prompt, until=("END",))
        assert (found.thought, found.text) == ("a END b", "It is 7. ")
        assert found.finish_reason == "stop"


@pytest.mark.parametrize("stop", ["\n", "\n\n"])
def test_blank_lines_after_a_thought_stop_nothing(tokenizer, stop):
    tokenizer.chat_template = THINKING_TEMPLATE
    for prompt, start in (("Hi", "<think>"), ("assistant\n<think>\n", "")):
        text = f"{start}3 + 4</think>\n\n \nIt is 7.{stop}Then"
        found = respond(tokenizer, text, prompt, until=(stop,))
        assert (found.text, found.finish_reason) == ("It is 7.", "stop")
        assert found.tokens < len(tokenizer(text)["input_ids"])


def test_a_draw_never_takes_what_has_no_weight_though_a_number_is_zero(tokenizer):
    """The numbers of a long stream, of which numpy's float32 ones are 0 once in ten million."""
    responses = Responses(ChatTemplate(tokenizer, "tiny"), frozenset(), 10**9)
    row = responses.row(Request("m", "t", 0, 0, "d", "p", (5,), Sampling(), seed=1))
    numbers = np.concatenate([row.random.standard_exponential(10**6) for _ in range(20)])
    assert numbers.astype(np.float32).min() > 0


def test_without_a_thought_stop_strings_count_from_the_beginning(tokenizer):
    tokenizer.chat_template = THINKING_TEMPLATE
    found = respond(tokenizer, "It is END c", until=("END",))
    assert (found.thought, found.text) == (None, "It is ")


def test_a_thought_that_is_cut_off_is_a_truncated_answer(tokenizer):
    tokenizer.chat_template = THINKING_TEMPLATE
    for text, settings in (("<think> I think that", {"max_tokens": 12}), ("<think> I think", {})):
        found = respond(tokenizer, text, **settings)
        assert (found.text, found.finish_reason) == ("", "length")
        assert found.thought.startswith("I")


def test_tags_that_are_special_tokens_are_seen(tokenizer):
    tokenizer.add_special_tokens({"extra_special_tokens": ["[THINK]", "[/THINK]"]})
    tags = Thinking(True, "[THINK]", "[/THINK]")
    found = respond(tokenizer, "[THINK]3 + 4[/THINK]It is 7.", thinking=tags, until=("4",))
    assert (found.thought, found.text) == ("3 + 4", "It is 7.")
