"""Score a given response by a chat server: what is sent, and what an answer says. No network.

OpenAI's protocol has no such thing; vLLM's server has (names of version 0.33, read in its source,
never tried on a real one): a chat that ends with an assistant's message to be continued, and the
log-probabilities of the prompt, which then holds the response. The prompt's tokens are asked for,
too. Where the response begins is known from the same chat without it, rendered as it was for
sampling: what follows those very tokens was never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from psplit_eval.backends import Messages
from psplit_eval.chat import FailedRequestError
from psplit_eval.errors import UsageError
from psplit_eval.estimates import Given
from psplit_eval.logprobs import TopTokens

__all__ = ["cannot_score", "prompt_body", "read_given", "read_prompt_ids", "response_body"]

Answer = Mapping[str, Any]
Ids = tuple[int, ...]

_REFUSED = (400, 422)
_NOT_KNOWN = re.compile(
    r"prompt.logprobs|return_token_ids"
    r"|(unknown|unrecogni[sz]ed|unexpected|not permitted|support).*(continue_final|add_generation)"
    r"|(continue_final|add_generation).*(unknown|unrecogni[sz]ed|unexpected|not permitted|support)",
    re.IGNORECASE,
)
"""A refusal of what is asked for, and not of one response that a template changes."""
_LEAST_LOGPROB = -9000.0  # vLLM writes −9999 for minus infinity
_MOST_MASS = 1.01
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"


class _NotGivenError(FailedRequestError):
    """The answer lacks what every other answer will lack, too."""


def prompt_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """What to send to hear the tokens of a prompt; `body` asks for one token as an answer."""
    sampled = ("logprobs", "top_logprobs", "stop")
    kept = {name: value for name, value in body.items() if name not in sampled}
    return {**kept, "return_token_ids": True}


def response_body(body: Mapping[str, Any], text: str, top: int) -> dict[str, Any]:
    """What to send to hear the `top` most probable tokens at every token of a response, `text`."""
    messages: Messages = [*body["messages"], {"role": "assistant", "content": text}]
    return {
        **prompt_body(body),
        "messages": messages,
        "add_generation_prompt": False,
        "continue_final_message": True,
        "prompt_logprobs": top,
    }


def read_prompt_ids(answer: Answer) -> Ids:
    """The tokens of the prompt. Raises FailedRequestError."""
    ids = answer.get("prompt_token_ids")
    if ids is None:
        raise _NotGivenError("an answer without prompt_token_ids", retry=False)
    if not (isinstance(ids, list) and all(type(i) is int for i in ids)):
        raise FailedRequestError("prompt_token_ids that are no list of numbers", retry=False)
    return tuple(ids)


def read_given(answer: Answer, prompt: Ids, text: str, drawn: Ids) -> Given:
    """The tokens of the response `text` behind `prompt`, and what is listed at each.

    `drawn`: the tokens that it was sampled as, () where they are not known; the last one may be an
    end token, which is no part of the text, or one that a stop string cut. If they are not met
    again, the tokens' own texts must give the response, but for white space, which some tokenizers
    leave out of a single token's text, and for characters that several tokens share.

    Raises FailedRequestError for a response that the server does not show whole behind the very
    prompt, UsageError for numbers that are no log-probabilities.
    """
    entries = answer.get("prompt_logprobs")
    if entries is None:
        raise _NotGivenError("an answer without prompt_logprobs", retry=False)
    ids = read_prompt_ids(answer)
    if not isinstance(entries, list) or len(entries) != len(ids):
        raise FailedRequestError("prompt_logprobs of other tokens than the prompt's", retry=False)
    if ids[: len(prompt)] != prompt:
        raise FailedRequestError(
            "with the response the prompt is cut into other tokens than without it", retry=False
        )
    own, listed = ids[len(prompt) :], entries[len(prompt) :]
    if not (drawn and own in (drawn, drawn[:-1])):
        _check_text([_entry(known, token) for known, token in zip(listed, own, strict=True)], text)
    top = TopTokens.of([_logprobs(known) for known in listed])
    if not np.isfinite(top.of_tokens(own)).all():
        raise FailedRequestError("a token of the response has no log-probability", retry=False)
    if np.exp(top.logprobs).sum(1).max(initial=0.0) > _MOST_MASS:
        raise UsageError(
            "the server's prompt_logprobs are no log-probabilities: those of one token come to "
            "more than 1; start it with --logprobs-mode raw_logprobs"
        )
    return Given(own, top)


def cannot_score(error: FailedRequestError) -> bool:
    """Whether no response can be scored by the server, whichever it is."""
    refused = error.status in _REFUSED and _NOT_KNOWN.search(str(error)) is not None
    return refused or isinstance(error, _NotGivenError)


def _entry(known: Any, token: int) -> Mapping[str, Any]:
    """What is said of one token at its position."""
    entry = known.get(str(token)) if isinstance(known, dict) else None
    if not isinstance(entry, dict):
        raise FailedRequestError("a token of the response has no log-probability", retry=False)
    return entry


def _logprobs(known: Any) -> dict[int, float]:
    try:
        values = {int(token): float(entry["logprob"]) for token, entry in known.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FailedRequestError("prompt_logprobs in a form of their own", retry=False) from None
    return {t: value if value > _LEAST_LOGPROB else -np.inf for t, value in values.items()}


def _check_text(entries: Sequence[Mapping[str, Any]], text: str) -> None:
    shown = _unspaced("".join(str(entry.get("decoded_token") or "") for entry in entries))
    parts = map(re.escape, re.split(f"{_UNREADABLE}+", shown))
    if not re.fullmatch(".+".join(parts), _unspaced(text), re.DOTALL):
        raise FailedRequestError(
            "the chat template changes the response, so its tokens are others", retry=False
        )


def _unspaced(text: str) -> str:
    return "".join(text.split())
