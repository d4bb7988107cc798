"""What makes a FaultServer score given responses as vLLM's server does, by a small real model.

Give `PromptScores(folder)` as its `judge`. Log-probabilities of the prompt stand at the top of the
answer: a list over its tokens, null first, then from token id (text, as JSON has it) to logprob,
rank and decoded_token, for the token itself and the most probable ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

MOST = 20


@dataclass
class PromptScores:
    """`omits` fields of an answer; `template` replaces the model's; `most` may be asked for."""

    folder: Path
    omits: tuple[str, ...] = ()
    template: str | None = None
    most: int = MOST
    context: int = 1024
    changed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        if self.template:
            self.tokenizer.chat_template = self.template

    def __call__(self, body: dict[str, Any]) -> tuple[int, Any]:
        top = body.get("prompt_logprobs")
        if top is not None and top > self.most:
            text = f"Requested prompt logprobs of {top}, which is greater than max allowed: "
            return 400, {"error": {"message": f"{text}{self.most}", "type": "BadRequestError"}}
        opened = body.get("add_generation_prompt", True), body.get("continue_final_message", False)
        if all(opened):
            return 400, {"error": {"message": "Cannot set both `continue_final_message` and …"}}
        try:
            text = self.tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=opened[0],
                continue_final_message=opened[1],
            )
        except ValueError as error:  # the last message is not to be found in what was made of it
            return 400, {"error": {"message": str(error)}}
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) + 1 > self.context:
            text = f"This model's maximum context length is {self.context} tokens."
            return 400, {"error": {"message": text}}
        return 200, self._answer(ids, top, bool(body.get("return_token_ids")))

    def _answer(self, ids: list[int], top: int | None, with_ids: bool) -> dict[str, Any]:
        message = {"role": "assistant", "content": "a number"}
        answer = {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": 1},
            "prompt_logprobs": None if top is None else self._listed(ids, top),
            "prompt_token_ids": ids if with_ids else None,
            **self.changed,
        }
        return {name: value for name, value in answer.items() if name not in self.omits}

    def _listed(self, ids: list[int], top: int) -> list[Any]:
        with torch.inference_mode():
            rows = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [None, *(self._position(r, t, top) for r, t in zip(rows[:-1], ids[1:], strict=True))]

    def _position(self, row: torch.Tensor, token: int, top: int) -> dict[str, Any]:
        best = row.topk(top).indices.tolist()
        rank = int((row >= row[token]).sum())
        ranks = {token: rank} | {i: place for place, i in enumerate(best, 1)}
        return {
            str(i): {
                "logprob": float(row[i]),
                "rank": place,
                "decoded_token": self.tokenizer.decode([i]),
            }
            for i, place in ranks.items()
        }
