"""A checkpoint's tokenizer and chat template: messages to a prompt, token ids to an answer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psplit_eval.backends import Messages, cut_at_stops
from psplit_eval.errors import TemplateError
from psplit_eval.thinking import Thinking, Thought

__all__ = ["ChatTemplate", "Reply"]


@dataclass(frozen=True)
class Reply:
    """What a response says. `tokens` counts those up to the one that ended it, itself included."""

    text: str
    thought: str | None
    finish_reason: str
    tokens: int


class ChatTemplate:
    """Renders and reads for one model in process, whatever engine draws.

    `tokenizer` is one of transformers'. `override` replaces its template.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        override: str | None = None,
        thinking: Thinking | None = None,
    ) -> None:
        """`name` is the model's, for messages. Raises TemplateError without a template."""
        if override is not None:
            tokenizer.chat_template = override
        if not tokenizer.chat_template:
            raise TemplateError(
                f"model {name!r}: its tokenizer has no chat template; give one with "
                "--chat-template FILE"
            )
        self.tokenizer = tokenizer
        self.thinking = thinking or Thinking()
        marks = (self.thinking.start, self.thinking.end)
        named = tokenizer.chat_template
        text = named if isinstance(named, str) else "".join(named.values())
        self._may_think = bool(self.thinking.enabled) or any(mark in text for mark in marks)
        special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        self._hidden = {i for i, content in special.items() if content not in marks}
        self._special_marks = len(self._hidden) < len(special)

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps."""
        template = self.tokenizer.chat_template
        return {
            "chat_template": template if isinstance(template, str) else dict(template),
            "bare_prompt": self.render([{"role": "user", "content": "QUESTION"}]),
            **self.thinking.describe(),
        }

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """See `backends.Backend.render`. Raises TemplateError where the template refuses."""
        import jinja2

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    **self.thinking.arguments(),
                )
            )
        except jinja2.exceptions.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise TemplateError(
                f"the chat template rejects messages of the roles {roles} ({error}); give one that "
                "takes a system message with --chat-template FILE"
            ) from error

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt, no special tokens added."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens, but for the marks of a thought where they are such."""
        if self._special_marks:
            shown = [i for i in ids if i not in self._hidden]
            return str(self.tokenizer.decode(shown, skip_special_tokens=False))
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def may_think(self, prompt: str) -> bool:
        """Whether a response may hold a thought, so that an engine must not look for stop strings.

        Not where the prompt ends with a finished thought, as templates write when told not to.
        """
        if prompt.rstrip().endswith(self.thinking.end):
            return False
        return self._may_think or self.thinking.opens(prompt)

    def reply(
        self, prompt: str, ids: Sequence[int], finish_reason: str, until: Sequence[str]
    ) -> Reply:
        """Read a response: its thought, and its answer before the first stop string.

        It ends with the token that completes a stop string in the answer, though the engine may
        have gone on. A thought that did not end leaves no answer: it is truncated.
        """

        def read(count: int) -> Thought:
            return self.thinking.split(self.decode(ids[:count]), self.thinking.opens(prompt))

        def stopped(count: int) -> bool:
            answer = read(count).answer
            return any(stop in answer for stop in until)

        tokens, found = len(ids), read(len(ids))
        if not found.ended:
            return Reply("", found.thought, "length", tokens)
        if until and stopped(tokens):
            tokens, finish_reason = bisect_left(range(tokens), True, key=stopped), "stop"
            found = read(tokens)
        return Reply(cut_at_stops(found.answer, until), found.thought, finish_reason, tokens)
