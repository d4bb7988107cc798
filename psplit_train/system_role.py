"""System messages in a chat template: whether it takes them, adds one, or can be made to.

A mode's prompt has to reach the model in the system role, as evaluation sends it. A template that
refuses or drops system messages gets them from `with_system_role`, as turns in its own style; what
such a turn means, the weights learn in the warm-up.

A mode without a system prompt sends no system message. Where the template then adds one of its
own, that is what the mode is trained and evaluated with: it is recorded, not taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from psplit_eval.errors import TemplateError
from psplit_eval.modes import Mode, holds_system_prompt
from psplit_eval.templates import ChatTemplate

__all__ = [
    "Messages",
    "check_modes",
    "default_system_prompt",
    "in_mode",
    "messages_of",
    "with_system_role",
]

_SYSTEM, _QUESTION, _ANSWER = "zqsystemqz", "zqquestionqz", "zqanswerqz"
"""Texts that no template has of its own."""

_ROLE_WORDS = re.compile("user|human", re.IGNORECASE)

_WITH_SYSTEM = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system_turn = START + messages[0]['content'] + END -%}
{%- set messages = messages[1:] -%}
{%- else -%}
{%- set system_turn = none -%}
{%- endif -%}
{%- set conversation %}ORIGINAL{% endset -%}
{%- if system_turn is none -%}
{{ conversation }}
{%- else -%}
{{ BEGINNING + system_turn + conversation[LENGTH:] }}
{%- endif -%}
"""


Messages = Sequence[dict[str, Any]]


def in_mode(messages: Messages, mode: Mode) -> list[dict[str, Any]]:
    """A prompt as this mode asks it: its system prompt, where it has one, in the system role."""
    if mode.system_prompt is None:
        return list(messages)
    return [{"role": "system", "content": mode.system_prompt}, *messages]


def messages_of(mode: Mode, question: str) -> list[dict[str, Any]]:
    """What is asked in a mode, of a question alone."""
    return in_mode([{"role": "user", "content": question}], mode)


def check_modes(template: ChatTemplate, modes: Sequence[Mode]) -> None:
    """Raise TemplateError where a mode's system prompt is not in its prompts, or two modes' prompts
    are the same text.

    The same condition as evaluation has (`psplit_eval.modes.holds_system_prompt`), on a text that
    can't be in the prompt otherwise, too: a mode's own may be one character.
    """
    rendered: dict[str, str] = {}
    for mode in modes:
        if mode.system_prompt is not None:
            _check_kept(template, mode)
        text = template.render(messages_of(mode, _QUESTION))
        if text in rendered:
            raise TemplateError(
                f"modes {rendered[text]!r} and {mode.name!r}: the chat template makes the same "
                "prompt of both; give one of them another system_prompt"
            )
        rendered[text] = mode.name


def _check_kept(template: ChatTemplate, mode: Mode) -> None:
    for tried in (Mode(mode.name, _SYSTEM), mode):
        try:
            kept = holds_system_prompt(tried, template.render(messages_of(tried, _QUESTION)))
        except TemplateError as error:
            raise TemplateError(_unheard(mode, "rejects system messages")) from error
        if not kept:
            raise TemplateError(_unheard(mode, "drops its system prompt"))


def _unheard(mode: Mode, what: str) -> str:
    return (
        f"mode {mode.name!r}: the chat template {what}; give one that keeps them as "
        "model.chat_template, and a warm-up to learn it"
    )


def default_system_prompt(template: ChatTemplate) -> str | None:
    """The system prompt that a template adds where no system message is given; None: it adds none.

    That of SmolLM2 and Qwen2.5, for example. None where the template takes no system message.
    """
    user = {"role": "user", "content": _QUESTION}
    try:
        given = template.render([{"role": "system", "content": _SYSTEM}, user])
    except TemplateError:
        return None
    before, kept, after = given.partition(_SYSTEM)
    between = after.partition(_QUESTION)[0]
    bare = template.render([user]).partition(_QUESTION)[0]
    added = bare.startswith(before) and bare.endswith(between)
    inner = bare[len(before) : len(bare) - len(between)]
    return inner if kept and added and inner else None


def with_system_role(tokenizer: Any) -> str | None:
    """A chat template that takes a system message; None where the tokenizer's own does.

    A message of role system becomes a turn before the first of the user's, in the style of the
    user's turns: `<start_of_turn>user` makes `<start_of_turn>system`. Conversations without one
    stay as they were, letter for letter. A template that puts the system prompt into the user's
    turn (Gemma 3) takes it. Raises TemplateError that says why not where the user's turns name no
    role to replace (`[INST]`), or where the turns of a conversation aren't alike.
    """
    template = tokenizer.get_chat_template()
    if _takes_system(tokenizer, template):
        return None
    beginning, start, end = _user_turn(tokenizer, template)
    words = _ROLE_WORDS.findall(start)
    if len(words) != 1:
        raise TemplateError(
            f"chat template: its user's turn {start + '…' + end!r} names no role in whose place "
            "'system' could stand; write one that takes a system message, and give it as "
            "model.chat_template"
        )
    start = _ROLE_WORDS.sub(_system_like(words[0]), start)
    made = _wrapped(template, beginning, start, end)
    _check_made(tokenizer, template, made, (beginning, start, end))
    return made


def _render(tokenizer: Any, template: str, turns: Sequence[tuple[str, str]], ask: bool) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return str(
        tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=ask
        )
    )


_FIRST = (("user", _QUESTION),)
_LATER = (("user", "1"), ("assistant", _ANSWER), ("user", _QUESTION))


def _takes_system(tokenizer: Any, template: str) -> bool:
    import jinja2

    try:
        return _SYSTEM in _render(tokenizer, template, (("system", _SYSTEM), *_FIRST), True)
    except jinja2.exceptions.TemplateError:
        return False


def _user_turn(tokenizer: Any, template: str) -> tuple[str, str, str]:
    """What stands before all turns, before a user's text, and after it."""
    start, _, end = _render(tokenizer, template, _FIRST, False).partition(_QUESTION)
    beginning = tokenizer.bos_token or ""
    if not start.startswith(beginning):
        beginning = ""
    start = start.removeprefix(beginning)
    asking = _render(tokenizer, template, _FIRST, True).partition(_QUESTION)[2]
    later = _render(tokenizer, template, _LATER, False).partition(_QUESTION)[0]
    if later.endswith(beginning + start):  # every turn begins so, as ChatML's where that is <bos>
        beginning, start = "", beginning + start
    if not (asking.startswith(end) and later.endswith(start)):
        raise TemplateError(
            "chat template: it takes no system message, and its turns differ with their place, so "
            "none can be put before them; write one that takes a system message, and give it as "
            "model.chat_template"
        )
    return beginning, start, end


def _system_like(word: str) -> str:
    return "SYSTEM" if word.isupper() else "System" if word[0].isupper() else "system"


def _wrapped(template: str, beginning: str, start: str, end: str) -> str:
    values = {
        "START": _literal(start),
        "END": _literal(end),
        "BEGINNING": _literal(beginning),
        "LENGTH": str(len(beginning)),
        "ORIGINAL": template.removesuffix("\n"),  # as Jinja does of a whole template
    }
    return re.sub("|".join(values), lambda found: values[found[0]], _WITH_SYSTEM)


def _literal(text: str) -> str:
    """As a string in Jinja, which reads Python's escapes."""
    return json.dumps(text, ensure_ascii=False)


def _check_made(tokenizer: Any, template: str, made: str, parts: tuple[str, str, str]) -> None:
    """A template may do what nobody expects: try it."""
    beginning, start, end = parts
    for turns in (_FIRST, _LATER):
        for ask in (False, True):
            usual = _render(tokenizer, template, turns, ask)
            wanted = beginning + start + _SYSTEM + end + usual[len(beginning) :]
            found = _render(tokenizer, made, (("system", _SYSTEM), *turns), ask)
            if _render(tokenizer, made, turns, ask) != usual or found != wanted:
                raise TemplateError(
                    "chat template: it takes no system message, and does not bear one put before "
                    "it; write one that does, and give it as model.chat_template"
                )
