"""A stored run, a judge that fine words deceive, and people that they do not.

Every text says what it is worth. People see that. The judge gives 2.5 points more where it reads
'Behold', as most texts of mode high begin: alone, it prefers the mode that is worse.
"""

import json
import re

import numpy as np
from comparing import SCORER

from psplit_eval.files import write_json
from psplit_eval.inquiry import Inquiry
from psplit_eval.judges import Reply
from psplit_eval.judging import JudgeOptions, questions_of
from psplit_eval.ledger import LEDGER, Judgement, Ledger
from psplit_eval.manifest import new_manifest
from psplit_eval.rescoring import score_store
from psplit_eval.rubrics import find_rubric
from psplit_eval.store import Doc, Prompt, Sample, Store

TASK = "psplit_story"
MODES = {"normal": None, "high": "Be wild, HIGHLY so."}
RUBRIC = find_rubric("story")
WORTH = {"normal": 5.5, "high": 5.0}
FLATTERY = 2.5


def worth(text):
    """What people say of a text."""
    return float(re.search(r"worth (\S+)", text).group(1))


class Flattered:
    """A judge; `silent`: texts that it says nothing of begin so."""

    name, writes, by_name, special = "openai:flattered", True, False, ()

    def __init__(self, silent="(nothing)"):
        self._silent = silent

    def describe(self):
        return {"identity": self.name}

    def expected_tokens(self, question):
        return 0.0, 0.0

    def most_tokens(self, question):
        return 0.0, 0.0

    def ask(self, questions):
        for key, question in questions:
            yield [(key, self._reply(question.user))]

    def _reply(self, text):
        if self._silent in text:
            return Reply(None, unreadable="no verdict")
        score = worth(text) + FLATTERY * ("Behold" in text)
        return Reply(dict.fromkeys(RUBRIC.names, score))


def make_run(folder, docs=40, samples=2, modes=MODES):
    """A run that is scored and reported on nothing but that its answers are there."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    with Store(folder / "samples.sqlite") as store:
        store.add_plan(
            [
                Prompt(f"p{doc}", mode, f"{prompt or ''}Tell of number {doc}.", ())
                for doc in range(docs)
                for mode, prompt in modes.items()
            ],
            [Doc(TASK, doc, f"h{doc}", {"n": doc}, "1") for doc in range(docs)],
        )
        store.add_samples(
            _sample(mode, doc, index, rng)
            for doc in range(docs)
            for mode in modes
            for index in range(samples)
        )
        score_store(store, {TASK: SCORER})
    write_json(folder / "manifest.json", _manifest(docs, samples, modes))
    return folder


def _sample(mode, doc, index, rng):
    value = WORTH[mode] + 1.2 * np.sin(doc) + rng.uniform(-0.8, 0.8)
    begins = "Behold" if rng.uniform() < {"normal": 0.1, "high": 0.9}[mode] else "Once"
    text = f"{begins} {index}, a tale worth {value:.3f} of number {doc}."
    return Sample(
        *(mode, TASK, doc, index, f"h{doc}", f"{mode}{doc}.{index}", f"p{doc}", 1, 1, text, None),
        *((1, 2), "stop", 5, 2, 4.0, 1.0, None, 0.1, "now"),
    )


def _manifest(docs, samples, modes):
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 8}
    return new_manifest(
        {
            "command": [],
            "checkpoint": {"name": "made"},
            "model": {"backend": "openai", "urls": ["http://localhost:1/v1"]},
            "modes": [
                {"name": mode, "system_prompt": prompt, "role": mode, "sampling": {}}
                for mode, prompt in modes.items()
            ],
            "suite": None,
            "tasks": {
                TASK: {
                    "samples": samples,
                    "docs": docs,
                    "docs_in_all": docs,
                    "title": "Tales",
                    "source": "made up",
                    "scorer": SCORER.to_dict(),
                    "sampling": sampling,
                }
            },
            "pools": {},
            "base_seed": 0,
            "batch_size": None,
        }
    )


def judge(folder, by=None, samples=None):
    """Have all samples scored by the rubric, as `judging.judge_run` does."""
    by = by or Flattered()
    options = JudgeOptions(folder=folder, judges=[], rubric=RUBRIC, samples=samples)
    manifest = json.loads((folder / "manifest.json").read_text())
    with Store(folder / "samples.sqlite") as store, Ledger(folder / LEDGER) as ledger:
        ledger.introduce(by.name, by.describe(), RUBRIC.hash, RUBRIC.to_dict())
        items = questions_of(store, manifest, TASK, options, by)
        for settled in Inquiry(by, ledger, RUBRIC).settle(items):
            ledger.add(
                (), [Judgement(c.judge, c.rubric_hash, *item, c.call_hash) for item, c in settled]
            )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(folder):
    """(mode, doc_id, sample_idx) → text."""
    with Store(folder / "samples.sqlite") as store:
        return {(s.mode, s.doc_id, s.sample_idx): s.text for s in store.samples(TASK)}


def truth(folder, mode):
    """What people would say of all samples of a mode."""
    return float(np.mean([worth(text) for (m, *_), text in texts(folder).items() if m == mode]))


def fill_in(path, every=1):
    """People score every so manieth row of a drawn file, from its text alone."""
    content = rows(path)
    for row in content[::every]:
        row["value"] = worth(row["text"])
    path.write_text("".join(f"{json.dumps(row)}\n" for row in content))
