"""What a local judge costs: psplit's tree of answers against a forward pass an answer.

    python -m benchmarks.judging --texts 4 --out benchmarks/results/judging.csv

Scores the same texts by the rubric `story` in three ways, one after the other in one process with
one thread, and says processor seconds a text: by `LocalJudge` (all answers a prefix tree behind one
prompt, the rubric run once for all texts); by psplit's loglikelihood requests, which run an equal
prompt once but every answer by itself; and by transformers alone, one forward pass of prompt and
answer each, as scripts do that ask a model for the probability of every score.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from psplit_eval.backends import EngineOptions
from psplit_eval.engines import find_model, open_backend
from psplit_eval.goldset import gold_items
from psplit_eval.hf import HFBackend
from psplit_eval.local_judge import LocalJudge
from psplit_eval.requests import Request, Sampling
from psplit_eval.rubrics import Question, find_rubric

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/judging.csv"))
    options = parser.parse_args(arguments)
    engine = EngineOptions(dtype="float32")
    checkpoint = find_model(options.model, engine, print)
    backend = open_backend(checkpoint, engine, print)
    assert isinstance(backend, HFBackend)
    rubric = find_rubric("story")
    questions = [
        rubric.score_question(item.prompt, item.text, writes=False)
        for item in gold_items("story")[: options.texts]
    ]
    judge = LocalJudge(f"hf:{options.model}", checkpoint, backend)
    ways: dict[str, Callable[[], Any]] = {
        "tree of answers (psplit)": lambda: list(judge.ask(enumerate(questions))),
        "an answer at a time behind one prompt": lambda: _requests(backend, questions),
        "a forward pass an answer (transformers)": lambda: _passes(backend, questions[:1]),
    }
    rows = []
    for name, work in ways.items():
        texts = 1 if "transformers" in name else len(questions)
        started = time.process_time()
        work()
        rows.append((name, texts, round((time.process_time() - started) / texts, 2)))
        print(*rows[-1])
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("way", "texts", "cpu_seconds_a_text"))
        writer.writerows(rows)


def _asked(backend: HFBackend, question: Question) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Token ids of the prompt and of every answer."""
    messages = [
        {"role": "system", "content": question.system},
        {"role": "user", "content": question.user},
    ]
    prompt = backend.encode(backend.render(messages))
    answers = []
    for dimension in question.form.dimensions:
        stem, endings = question.form.answers(dimension)
        answers += [backend.encode(stem + ending) for ending in endings]
    return prompt, answers


def _requests(backend: HFBackend, questions: Sequence[Question]) -> None:
    for number, question in enumerate(questions):
        prompt, answers = _asked(backend, question)
        backend.score(
            [
                Request("m", "t", number, i, "", "", prompt, Sampling(), None, "x", ids)
                for i, ids in enumerate(answers)
            ],
            lambda *_: None,
        )


def _passes(backend: HFBackend, questions: Sequence[Question]) -> None:
    import torch

    for question in questions:
        prompt, answers = _asked(backend, question)
        with torch.inference_mode():
            for ids in answers:
                backend.model(torch.tensor([prompt + ids]))


if __name__ == "__main__":
    main()
