"""A small run without any model: what its samples say is known, and what a judge must not see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.manifest import new_manifest
from psplit_eval.measures import stored_scorer
from psplit_eval.requests import digest
from psplit_eval.rescoring import score_store
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import Doc, Prompt, Sample, Store

SECRET = "Be wild,  and tell\nno one."
"""The high mode's system prompt."""
THOUGHT = "The judge must never read this."
MODES: dict[str, str | None] = {"normal": None, "high": SECRET}
SCORERS = {
    "psplit_story": {"kind": "diversity", "form": "story", "prompt": "Write about {{about}}."},
    "sums": AccuracyScorer(AnswerFormat()).to_dict(),
    "stock": {
        "kind": "lm-eval",
        "name": "stock",
        "definition": "0",
        "overrides": {},
        "primary": "exact_match",
        "higher_is_better": {"exact_match": True},
    },
}
DOCS = 2
SAMPLES = 2


def story(mode: str, doc: int, index: int) -> str:
    return f"A story {doc}-{index} that was told in the {len(mode)}th hour."


def sample(mode: str, task: str, doc: int, index: int, prompt: str, **changes: Any) -> Sample:
    made = Sample(
        *(mode, task, doc, index, "h", f"{mode}{task}{doc}{index}", digest(prompt), 1, 1),
        *(story(mode, doc, index), THOUGHT, None, "stop", 5, 9, None, None, None, 0.1, "now"),
    )
    return replace(made, **changes)


def rendered(system: str | None, doc: int, served: bool) -> str:
    """A prompt as an engine stores it: a template that strips, or messages as JSON."""
    question = f"What is {doc} + {doc}?"
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    if served:
        return json.dumps(messages, ensure_ascii=False)
    turns = "".join(
        f"<|im_start|>{m['role']}\n{m['content'].strip()}<|im_end|>\n" for m in messages
    )
    return f"{turns}<|im_start|>assistant\n"


def make_run(
    folder: Path,
    modes: dict[str, str | None] | None = None,
    tasks: tuple[str, ...] = ("psplit_story", "sums"),
    *,
    served: bool = False,
    scored: bool = False,
    more: tuple[Sample, ...] = (),
) -> Path:
    """A run's folder, with `more` samples in place of those with their keys.

    `scored`: by what needs no model, so that it can be reported.
    """
    modes = MODES if modes is None else modes
    folder.mkdir(parents=True)
    changed = {each.key: each for each in more}
    with Store(folder / "samples.sqlite") as store:
        for task in tasks:
            for doc in range(DOCS):
                row = {"about": f"door {doc}", "question": f"{doc}"}
                prompts = {mode: rendered(system, doc, served) for mode, system in modes.items()}
                store.add_plan(
                    [Prompt(digest(text), mode, text, ()) for mode, text in prompts.items()],
                    [Doc(task, doc, "h", row, "1")],
                )
                made = [
                    sample(mode, task, doc, index, prompts[mode])
                    for mode in modes
                    for index in range(SAMPLES)
                ]
                store.add_samples([changed.get(each.key, each) for each in made])
        if scored:
            score_store(store, {task: stored_scorer(SCORERS[task]) for task in tasks})
    (folder / "manifest.json").write_text(json.dumps(manifest(modes, tasks)))
    return folder


def manifest(modes: dict[str, str | None], tasks: tuple[str, ...]) -> dict[str, Any]:
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 8}
    entry = {"sampling": sampling, "samples": SAMPLES, "docs": DOCS, "docs_in_all": DOCS}
    entry |= {"title": "Made", "source": "made up", "sha256": "0"}
    parts = {
        "command": ["psplit-eval", "run"],
        "checkpoint": {"name": "m", "fingerprint": "f"},
        "model": {"backend": "openai", "urls": ["http://localhost:1/v1"]},
        "suite": None,
        "pools": {},
        "batch_size": None,
        "base_seed": 0,
        "modes": [
            {"name": name, "system_prompt": system, "role": "other", "sampling": {}}
            for name, system in modes.items()
        ],
        "tasks": {task: entry | {"scorer": SCORERS[task]} for task in tasks},
    }
    return new_manifest(parts)
