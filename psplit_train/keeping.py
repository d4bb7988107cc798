"""What a model says before a supervised stage, to be mixed into it, so that it still says it after.

A stage on one kind of question teaches its form for all others, too: a language model that is shown
sums answers a request for a story by a sum. Its own answers to other requests hold it back, and ask
for no data that it was made of (self-synthesised rehearsal, arXiv 2403.01244).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import CheckpointError, DataError
from psplit_eval.hf import HFBackend
from psplit_eval.modes import Mode
from psplit_eval.requests import Request, Sampling, digest, sample_seed
from psplit_eval.templates import ChatTemplate
from psplit_eval.text import shortened
from psplit_eval.thinking import Thinking
from psplit_train.system_role import messages_of
from psplit_train.tiny import check_text
from psplit_train.turns import Row

__all__ = ["check_requests", "own_answers", "read_requests"]

Say = Callable[[str], None]
Asked = tuple[Mode, str]

_TASK = "keep"  # in the seeds of answers
_SAID = 5  # lines said on the way, about


def read_requests(path: Path) -> list[str]:
    """The requests of a text file, one a line, each once. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"warmup.keep.requests {str(path)!r}: cannot be read ({error.__class__.__name__}); "
            "give a text file in UTF-8, a request a line"
        ) from error
    requests = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not requests:
        raise DataError(
            f"warmup.keep.requests {str(path)!r}: no requests, expected one a line; write some, or "
            "leave warmup.keep out"
        )
    return requests


def check_requests(
    requests: Sequence[str], modes: Sequence[Mode], template: ChatTemplate, context: int | None
) -> None:
    """Raise DataError for a request with characters that have no token, or that leaves no room for
    an answer in the model's `context` (tokens; None: unknown)."""
    check_text(template.tokenizer, requests, "request")
    for mode, text in product(modes, requests) if context else ():
        tokens = len(template.encode(template.render(messages_of(mode, text))))
        if tokens >= (context or 0):
            raise DataError(
                f"warmup.keep.requests: {shortened(text, 60)!r} in mode {mode.name!r} has {tokens} "
                f"tokens, expected less than {context} (the model's context); leave it out"
            )


def own_answers(
    folder: Path,
    asked: Sequence[Asked],
    say: Say,
    *,
    max_tokens: int,
    seed: int = 0,
    chat_template: str | None = None,
    thinking: Thinking | None = None,
    mixed: bool = False,
) -> list[Row]:
    """A response of the model in `folder` to every request in its mode, in their order.

    Drawn at temperature 1 from the whole distribution, so that what is shown is what the model does
    anyway; one that is longer than `max_tokens` has no end. A request asked again gets another
    answer. `mixed`: computed in bfloat16; the rest as `warm_up` has it. Raises CheckpointError for
    a model that can't be asked.
    """
    engine = HFBackend(
        resolve_checkpoint(str(folder), say),
        dtype="bfloat16" if mixed else "float32",
        chat_template=chat_template,
        thinking=thinking,
        say=say,
    )
    requests = _requests(engine, asked, Sampling(max_tokens=max_tokens), seed)
    answers: dict[tuple[object, ...], Row] = {}
    said = 0
    for group in engine.run(engine.groups(requests), lambda *_: None):
        for request, answer in group:
            if isinstance(answer, Exception):
                raise CheckpointError(
                    f"model {str(folder)!r}: {answer} when it was to answer what warmup.keep asks "
                    "for; give a model that runs, or leave warmup.keep out"
                ) from answer
            answers[request.key] = Row(request.prompt_ids, answer.ids or ())
        if len(answers) * _SAID // len(requests) > said:
            said = len(answers) * _SAID // len(requests)
            say(f"warm-up: {len(answers)}/{len(requests)} of its own answers to keep")
    return [answers[request.key] for request in requests]


def _requests(
    engine: HFBackend, asked: Sequence[Asked], sampling: Sampling, seed: int
) -> list[Request]:
    number = {text: i for i, text in enumerate(dict.fromkeys(text for _, text in asked))}
    before: Counter[tuple[str, str]] = Counter()
    requests = []
    for mode, text in asked:
        prompt, of_doc = engine.render(messages_of(mode, text)), digest(text)
        again = before[mode.name, text]
        before[mode.name, text] += 1
        requests.append(
            Request(
                mode=mode.name,
                task=_TASK,
                doc_id=number[text],
                sample_idx=again,
                doc_hash=of_doc,
                prompt_hash=digest(prompt),
                prompt_ids=engine.encode(prompt),
                sampling=sampling,
                seed=sample_seed(seed, mode.name, _TASK, of_doc, again),
                prompt=prompt,
            )
        )
    return requests
