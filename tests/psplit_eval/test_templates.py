"""Prompts and answers by a checkpoint's own tokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import TemplateError
from psplit_eval.hf import HFBackend
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking

USER = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def tokenizer(tiny):
    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture
def template(tokenizer):
    return ChatTemplate(tokenizer, "tiny")


def test_prompts_are_those_of_the_hf_engine(template, tiny):
    hf = HFBackend(resolve_checkpoint(str(tiny)), device="cpu")
    for messages in (USER, [{"role": "system", "content": "Be bold."}, *USER]):
        text = template.render(messages)
        assert text == hf.render(messages)
        assert template.encode(text) == hf.encode(text)
    started = [*USER, {"role": "assistant", "content": "So"}]
    assert template.render(started, add_generation_prompt=False) == hf.render(started, False)
    said = hf.describe()
    wanted = {key: said[key] for key in ("chat_template", "bare_prompt")}
    assert template.describe() == wanted | {"thinking": None, "think_tags": None}


def test_a_template_may_be_given_and_must_be_there(tokenizer):
    assert ChatTemplate(tokenizer, "tiny", "{{ messages[0].content }}!").render(USER) == "Hi!"
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match=r"'tiny'.*--chat-template"):
        ChatTemplate(tokenizer, "tiny")


def test_a_template_that_refuses_is_one_line(tokenizer):
    template = ChatTemplate(tokenizer, "tiny", "{{ raise_exception('no system') }}")
    with pytest.raises(TemplateError, match="roles user"):
        template.render(USER)


@pytest.mark.parametrize(("enabled", "told"), [(True, "True"), (False, "False"), (None, "unsaid")])
def test_the_template_is_told_to_think_or_not(tokenizer, enabled, told):
    text = "{{ enable_thinking if enable_thinking is defined else 'unsaid' }}"
    assert ChatTemplate(tokenizer, "tiny", text, Thinking(enabled)).render(USER) == told


def test_who_may_think(tokenizer):
    plain = ChatTemplate(tokenizer, "tiny")
    assert not plain.may_think("assistant\n")
    assert plain.may_think("assistant\n<think>\n")
    assert not plain.may_think("assistant\n<think>\n\n</think>\n\n")
    assert ChatTemplate(tokenizer, "tiny", None, Thinking(True)).may_think("assistant\n")
    naming = "{{ messages[0].content.split('</think>')[-1] }}"
    assert ChatTemplate(tokenizer, "tiny", naming).may_think("assistant\n")


def reply(template, text, until=(), prompt="", finish_reason="stop"):
    return template.reply(prompt, template.encode(text), finish_reason, until)


def test_a_thought_is_read_apart(template):
    found = reply(template, "<think>3 and 4</think>\nThe answer is 7.")
    assert (found.thought, found.text) == ("3 and 4", "The answer is 7.")
    assert found.tokens == len(template.encode("<think>3 and 4</think>\nThe answer is 7."))
    opened = reply(template, "3 and 4</think>7", prompt="assistant\n<think>\n")
    assert (opened.thought, opened.text) == ("3 and 4", "7")


def test_a_thought_without_end_is_truncated(template):
    found = reply(template, "<think>3 and", finish_reason="stop")
    assert (found.text, found.thought, found.finish_reason) == ("", "3 and", "length")


def test_stop_strings_are_looked_for_in_the_answer(template):
    text = "<think>one; two</think>three; four"
    found = reply(template, text, (";",), finish_reason="length")
    assert (found.text, found.thought, found.finish_reason) == ("three", "one; two", "stop")
    assert template.decode(template.encode(text)[: found.tokens]).endswith("three;")
    assert reply(template, text, ("five",), finish_reason="length").finish_reason == "length"


def test_marks_that_are_special_tokens_are_seen(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    template = ChatTemplate(tokenizer, "tiny")
    found = reply(template, "<think>3 and 4</think>7<|im_end|>")
    assert (found.thought, found.text) == ("3 and 4", "7")


@settings(max_examples=60)
@given(
    st.text("Hi thereAn?<>/k", max_size=30),
    st.lists(st.text("ent h>", min_size=1, max_size=3), max_size=3),
)
def test_the_answer_ends_with_the_first_token_that_completes_a_stop(tiny, text, until):
    template = _template(tiny)
    ids = template.encode(text)
    found = template.reply("", ids, "length", until)
    assert not any(stop in found.text for stop in until)
    stops = [n for n in range(1, len(ids) + 1) if any(s in template.decode(ids[:n]) for s in until)]
    if "<think>" not in text:
        assert found.tokens == (stops[0] if stops else len(ids))
        assert found.finish_reason == ("stop" if stops else "length")


_TEMPLATES = {}


def _template(tiny):
    return _TEMPLATES.setdefault(tiny, ChatTemplate(AutoTokenizer.from_pretrained(tiny), "tiny"))
