"""What a model is shown in a supervised stage: prompts and responses, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psplit_eval.modes import Mode
from psplit_eval.templates import ChatTemplate
from psplit_train.system_role import messages_of
from psplit_train.tiny import check_text

__all__ = ["Example", "Row", "Turns"]

Example = tuple[str, str]
"""A question as it is asked, and a right response to it."""
_QUESTION, _ANSWER = "zqquestionqz", "zqanswerqz"  # texts that no template has of its own


@dataclass(frozen=True)
class Row:
    """Token ids of an example: a prompt, and a response with the token that ends its turn."""

    prompt: Sequence[int]
    response: Sequence[int]


class Turns:
    """What a model of one tokenizer and template is shown: prompts and responses as token ids.

    A response that has no thought is put after an empty one where the template's finished turns
    hold one (Qwen3) or its prompts begin one (DeepSeek-R1): otherwise it would be the thought. It
    ends as the template ends a turn, up to the first token at which generation stops.
    """

    def __init__(self, template: ChatTemplate, ends: Sequence[int]) -> None:
        """`ends`: the tokens at which generation stops; the first, where a turn has none."""
        self.template = template
        user = {"role": "user", "content": _QUESTION}
        prompt, whole = template.render([user]), self._finished(user)
        self._opened = template.thinking.opens(prompt)
        self._before = self._beginning(prompt, whole)
        self._end = self._ending(whole.partition(_ANSWER)[2], ends)

    def rows(self, examples: Sequence[tuple[Mode, Example]]) -> list[Row]:
        """Examples under their modes' prompts. Raises DataError for characters without a token."""
        tokenizer = self.template.tokenizer
        texts = {
            "system prompt": [mode.system_prompt or "" for mode, _ in examples],
            "question": [question for _, (question, _) in examples],
            "response": [answer for _, (_, answer) in examples],
        }
        for kind, some in texts.items():
            check_text(tokenizer, dict.fromkeys(some), kind)
        said = [self._said(answer) for answer in texts["response"]]
        prompts = self._prompts([(mode, question) for mode, (question, _) in examples])
        wholes = [prompt + text for prompt, text in zip(prompts, said, strict=True)]
        ids = _encoded(tokenizer, {*prompts, *said, *wholes})
        return [
            Row(ids[prompt], [*_after(ids[prompt], ids[whole], ids[text]), *self._end])
            for prompt, text, whole in zip(prompts, said, wholes, strict=True)
        ]

    def _prompts(self, asked: Sequence[tuple[Mode, str]]) -> list[str]:
        """As sampling has them; each is rendered once."""
        known: dict[tuple[str, str], str] = {}
        for mode, question in asked:
            if (mode.name, question) not in known:
                known[mode.name, question] = self.template.render(messages_of(mode, question))
        return [known[mode.name, question] for mode, question in asked]

    def _said(self, answer: str) -> str:
        """What a model says to give an answer, but for the end."""
        thinking = self.template.thinking
        if thinking.end not in answer:
            return self._before + answer
        if not self._opened:
            return answer
        return answer.lstrip().removeprefix(thinking.start).lstrip("\n")

    def _finished(self, user: Mapping[str, str]) -> str:
        return str(
            self.template.tokenizer.apply_chat_template(
                [user, {"role": "assistant", "content": _ANSWER}],
                tokenize=False,
                **self.template.thinking.arguments(),
            )
        )

    def _beginning(self, prompt: str, whole: str) -> str:
        """What the template writes between a prompt and an answer."""
        if whole.startswith(prompt):
            return whole[len(prompt) :].partition(_ANSWER)[0]
        return f"\n{self.template.thinking.end}\n\n" if self._opened else ""

    def _ending(self, after: str, ends: Sequence[int]) -> list[int]:
        ids = list(self.template.encode(after))
        last = next((place for place, token in enumerate(ids) if token in ends), None)
        return [ends[0]] if last is None else ids[: last + 1]


def _encoded(tokenizer: Any, texts: set[str]) -> dict[str, list[int]]:
    listed = sorted(texts)
    return dict(zip(listed, tokenizer(listed, add_special_tokens=False)["input_ids"], strict=True))


def _after(prompt: Sequence[int], whole: Sequence[int], alone: Sequence[int]) -> Sequence[int]:
    """The tokens that a response adds to its prompt's; those of its own where it changes them."""
    return whole[len(prompt) :] if whole[: len(prompt)] == prompt else alone
