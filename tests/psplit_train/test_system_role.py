"""System messages in real chat templates: those that TRL ships for its own tests and training."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from psplit_eval.errors import TemplateError
from psplit_eval.modes import Mode
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking
from psplit_train.system_role import (
    check_modes,
    default_system_prompt,
    messages_of,
    with_system_role,
)
from psplit_train.tiny import TINY_TEMPLATE

# That of HuggingFaceTB/SmolLM2-135M-Instruct, from its tokenizer_config.json.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DROPPING = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<|user|>\n"
    "{{ message['content'] }}<|end|>\n{% elif message['role'] == 'assistant' %}<|assistant|>\n"
    "{{ message['content'] }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
BOLD = "Be bold."
MODES = (Mode("normal", None, "normal"), Mode("high", BOLD, "high"))
HI = [{"role": "user", "content": "Hi"}]
TALK = [*HI, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go"}]


def shipped(name):
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def tokenizer(template):
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(BPE()), bos_token="<bos>", eos_token="<eos>"
    )
    made.chat_template = template
    return made


def opened(template, thinking=None):
    return ChatTemplate(tokenizer(template), "model", None, thinking)


def said(template, messages, **more):
    return tokenizer(template).apply_chat_template(messages, tokenize=False, **more)


TAKING = {
    "smollm2": SMOLLM2,
    "tiny": TINY_TEMPLATE,
    **{
        name: shipped(name)
        for name in (
            *("qwen2_5", "qwen3", "qwen3_5_think", "llama3", "llama3_1", "gemma3", "gemma4"),
            *("phi3", "deepseek_r1_distill", "glm4moe", "cohere", "lfm2", "nemotron_3_nano"),
        )
    },
}


@pytest.mark.parametrize("name", TAKING)
def test_templates_that_take_a_system_message_need_no_other(name):
    assert with_system_role(tokenizer(TAKING[name])) is None
    check_modes(opened(TAKING[name]), MODES)


@pytest.mark.parametrize(
    ("template", "added"),
    [
        (SMOLLM2, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        (
            shipped("qwen2_5"),
            "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        ),
        (shipped("qwen3"), None),
        (shipped("llama3_1"), None),
        (shipped("gemma"), None),
        (shipped("gemma3"), None),
        (shipped("deepseek_r1_distill"), None),
        (TINY_TEMPLATE, None),
        (DROPPING, None),
    ],
)
def test_what_a_template_adds_by_itself(template, added):
    assert default_system_prompt(opened(template)) == added


@pytest.mark.parametrize("template", [SMOLLM2, shipped("qwen2_5")])
def test_no_system_prompt_is_the_templates_own_and_a_modes_takes_its_place(template):
    chat = opened(template)
    added = default_system_prompt(chat)
    bare = chat.render(messages_of(MODES[0], "Hi"))
    assert bare == chat.render(HI)
    assert added in bare
    assert chat.render(messages_of(MODES[1], "Hi")) == bare.replace(added, BOLD)


def test_a_mode_that_says_what_the_template_adds_is_no_second_mode():
    added = default_system_prompt(opened(SMOLLM2))
    with pytest.raises(TemplateError, match=r"'normal' and 'same': .*the same prompt of both"):
        check_modes(opened(SMOLLM2), (MODES[0], Mode("same", added)))


def test_gemma_refuses_and_is_taught_in_its_own_style():
    gemma = shipped("gemma")
    with pytest.raises(TemplateError, match=r"mode 'high': the chat template rejects"):
        check_modes(opened(gemma), MODES)
    made = with_system_role(tokenizer(gemma))
    check_modes(opened(made), MODES)
    asked = [{"role": "system", "content": BOLD}, *HI]
    assert said(made, asked, add_generation_prompt=True) == (
        "<bos><start_of_turn>system\nBe bold.<end_of_turn>\n"
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_template_that_drops_is_taught_in_its_own_style():
    with pytest.raises(TemplateError, match=r"mode 'high': the chat template drops its system"):
        check_modes(opened(DROPPING), MODES)
    made = with_system_role(tokenizer(DROPPING))
    check_modes(opened(made), MODES)
    asked = [{"role": "system", "content": BOLD}, *TALK]
    assert said(made, asked) == "<|system|>\nBe bold.<|end|>\n" + said(DROPPING, TALK)


def test_turns_that_begin_with_the_mark_of_the_beginning_keep_it():
    """SmolLM2's tokenizer has `<|im_start|>` as bos_token: it is a turn's, not the talk's alone."""
    made = tokenizer(DROPPING.replace("<|user|>", "<|im_start|>user"))
    made.bos_token = "<|im_start|>"
    template = with_system_role(made)
    messages = [{"role": "system", "content": BOLD}, *HI]
    text = made.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert text == "<|im_start|>system\nBe bold.<|end|>\n<|im_start|>user\nHi<|end|>\n"


def test_a_prompt_of_one_character_is_seen_to_be_dropped():
    """The evaluator's check alone would find it in the question, or a mark."""
    with pytest.raises(TemplateError, match="drops its system prompt"):
        check_modes(opened(DROPPING), (MODES[0], Mode("high", "s", "high")))
    check_modes(opened(TINY_TEMPLATE), (MODES[0], Mode("high", "s", "high")))


@pytest.mark.parametrize("template", [shipped("gemma"), DROPPING])
@given(
    talk=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5),
    ask=st.booleans(),
)
def test_talk_without_a_system_message_stays_as_it_was(template, talk, ask):
    made = _made(template)
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(["", *talk])]
    usual = said(template, messages, add_generation_prompt=ask)
    assert said(made, messages, add_generation_prompt=ask) == usual


_MADE = {}


def _made(template):
    if template not in _MADE:
        _MADE[template] = with_system_role(tokenizer(template))
    return _MADE[template]


def test_a_system_role_in_capitals():
    capital = DROPPING.replace("<|user|>", "### User:").replace("<|assistant|>", "### Assistant:")
    made = with_system_role(tokenizer(capital))
    assert said(made, [{"role": "system", "content": BOLD}, *HI]).startswith("### System:\nBe bold")


def test_marks_in_other_scripts_and_quotes_are_kept():
    odd = DROPPING.replace("<|user|>", '«"user"\\n» 漢\U0001f600')
    made = with_system_role(tokenizer(odd))
    wanted = '«"system"\\n» 漢\U0001f600\nBe bold.<|end|>\n' + said(odd, HI)
    assert said(made, [{"role": "system", "content": BOLD}, *HI]) == wanted


def test_why_not_is_said():
    with pytest.raises(TemplateError, match=r"'\[INST\] … \[/INST\]' names no role"):
        with_system_role(tokenizer(MISTRAL))
    placed = "{% if messages|length == 1 %}[only]{% endif %}" + DROPPING
    with pytest.raises(TemplateError, match="turns differ with their place"):
        with_system_role(tokenizer(placed))
    counting = DROPPING + "{{ messages[0]['content']|length }}"
    with pytest.raises(TemplateError):
        with_system_role(tokenizer(counting))


@pytest.mark.parametrize("enabled", [True, False, None])
def test_thinking_is_told_to_the_template(enabled):
    chat = opened(shipped("qwen3"), Thinking(enabled))
    check_modes(chat, MODES)
    text = chat.render(messages_of(MODES[1], "Hi"))
    assert text.startswith(f"<|im_start|>system\n{BOLD}<|im_end|>\n<|im_start|>user\nHi")
    assert text.endswith("</think>\n\n") == (enabled is False)
