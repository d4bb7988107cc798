"""Small runs for tests of boards: no model, and every sample right or wrong as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.cli import main
from psplit_eval.creativity import CreativityScorer
from psplit_eval.manifest import new_manifest
from psplit_eval.rescoring import score_store
from psplit_eval.scoring import AccuracyScorer, Scorer
from psplit_eval.store import Doc, Prompt, Sample, Store

NUMBER = AccuracyScorer(AnswerFormat(r"(\d+)"))
STORY = CreativityScorer("story", "Write about {{about}}.")
SAMPLING = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_tokens": 64}
PAPER = ("psplit_math500", "psplit_aime24", "psplit_aime25", "psplit_gpqa_diamond")
PAPER = (*PAPER, "psplit_mmlu_pro")
WORDS = ("door", "sea", "light", "stone", "old", "wind", "red", "child", "river", "night", "lamp")

Right = Callable[[str, int, int], bool]
"""Whether a mode's sample of a doc is right."""


def scorer_of(task: str) -> Scorer:
    return STORY if task == "psplit_story" else NUMBER


def by_doc(level: int) -> Right:
    """Of a doc's four samples 0, 1 or 2 by its number, and `level` more; one less in mode high."""
    return lambda mode, doc, index: index < doc % 3 + level - (mode == "high")


def share(right: int) -> Right:
    """So many of every doc's four samples."""
    return lambda mode, doc, index: index < right


def make_run(
    folder: Path,
    name: str = "one",
    right: Right | None = None,
    *,
    tasks: Sequence[str] = ("t",),
    docs: Sequence[int] = range(12),
    by_place: bool = False,
    modes: Mapping[str, str | None] | None = None,
    samples: int = 4,
    sampling: Mapping[str, Any] | None = None,
    bits: float = 4.0,
    failed: Sequence[tuple[int, int]] = (),
    prompt: str = "",
    fingerprint: str | None = "",
    entry: Mapping[str, Any] | None = None,
    **model: Any,
) -> Path:
    """A scored run.

    `by_place`: docs are numbered as they come, whatever their content. `failed`: (doc, sample) that
    could not be had; `prompt` names other prompt texts; `entry` and `model` change the manifest; a
    `fingerprint` of None: no files are known. Without `right` two of every four samples are right.
    """
    modes = {"normal": None, "high": "Be high."} if modes is None else modes
    fingerprint = f"of {name}" if fingerprint == "" else fingerprint
    entries = {
        task: {
            "title": task, "source": "s", "sha256": "h", "scorer": scorer_of(task).to_dict(),
            "sampling": {**SAMPLING, **(sampling or {})}, "samples": samples, "docs": len(docs),
            "docs_in_all": len(docs), **(entry or {}),
        }
        for task in tasks
    }  # fmt: skip
    parts = {
        "command": ["psplit-eval", "run"],
        "checkpoint": {"name": name, "fingerprint": fingerprint},
        "model": {"backend": "hf", "dtype": "float32", "device": "cpu", "chat_template": "plain"}
        | model,
        "modes": [
            {"name": mode, "system_prompt": text, "role": "other", "sampling": {}}
            for mode, text in modes.items()
        ],
        "suite": None, "tasks": entries, "pools": {}, "base_seed": 0, "batch_size": None,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(new_manifest(parts)))
    number = {doc: place if by_place else doc for place, doc in enumerate(docs)}
    with Store(folder / "samples.sqlite") as store:
        for task in tasks:
            store.add_plan(
                [Prompt("p", "normal", "text", ())],
                [
                    Doc(task, number[doc], f"{task}{doc}", {"about": f"door {doc}"}, "1")
                    for doc in docs
                ],
            )
            made = [
                _sample(task, mode, doc, index, right or share(2), prompt, bits)
                for mode in modes
                for doc in docs
                for index in range(samples)
            ]
            store.add_samples(_stored(each, number, failed) for each in made)
        score_store(store, {task: scorer_of(task) for task in tasks})
    return folder


def _sample(
    task: str, mode: str, doc: int, index: int, right: Right, prompt: str, bits: float
) -> Sample:
    text = "1" if right(mode, doc, index) else "2"
    if task == "psplit_story":
        words = [WORDS[(doc + 3 * index + 5 * i * (1 + index)) % len(WORDS)] for i in range(20)]
        text = f"The story of the {' '.join(words)}."
    spread = bits * (1.5 if mode == "high" else 1.0) * (1 + (doc * 5 + index) % 7 / 10)
    return Sample(
        *(mode, task, doc, index, f"{task}{doc}", f"{mode}{task}{doc}{index}"),
        *(f"p{prompt}{mode}{task}{doc}", 1, 1, text, None, (1, 2), "stop", 3),
        *(10, spread, 1.0, None, 0.1, "now"),
    )


def _stored(sample: Sample, number: Mapping[int, int], failed: Sequence[tuple[int, int]]) -> Sample:
    kept = replace(sample, doc_id=number[sample.doc_id])
    if (sample.doc_id, sample.sample_idx) in failed:
        return replace(kept, text=None, error="gone")
    return kept


def board(capsys: Any, *arguments: object) -> dict[str, Any]:
    """What `leaderboard --json` prints."""
    capsys.readouterr()
    assert main(["leaderboard", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: Any, *arguments: object) -> str:
    """The line that a user sees."""
    capsys.readouterr()
    assert main(["leaderboard", *map(str, arguments)]) == 2
    line = str(capsys.readouterr().err)
    assert line.count("\n") == 1
    return line


def rows(found: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(model, mode, setting) → row."""
    return {(row["model"], row["mode"], row["setting"]): row for row in found["rows"]}


def cell(row: Mapping[str, Any], task: str, metric: str = "accuracy_avg") -> dict[str, Any]:
    (found,) = [c for c in row["cells"] if (c["task"], c["metric"]) == (task, metric)]
    return dict(found)
