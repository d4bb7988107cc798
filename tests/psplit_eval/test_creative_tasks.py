"""The creative tasks: prompts that are frozen, varied and our own; plain lm-eval runs them."""

import hashlib
import json
import math
import re
from collections import Counter
from itertools import permutations

import pytest

from psplit_eval.catalog import Catalog
from psplit_eval.harness import load_task
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.suites import shipped_folder, suite_named

TASKS = shipped_folder("tasks")
DOCS = {
    "psplit_story": 32,
    "psplit_uses": 24,
    "psplit_words": 24,
    "psplit_open": 64,
    "psplit_solve": 32,
}
GROUPED_BY = {
    "psplit_uses": ("category", 4),
    "psplit_words": ("variant", 3),
    "psplit_open": ("category", 8),
    "psplit_solve": ("category", 4),
}
TOKENS = {
    "psplit_story": 1024,
    "psplit_uses": 512,
    "psplit_words": 128,
    "psplit_open": 128,
    "psplit_solve": 512,
}
# Frozen: other prompts are a new version of the task, by its `version` and under a name of its own.
FROZEN = {
    "psplit_story": "7295f542ed929f373920c3480e2fd74affad581a756ae3e765003ad67563611f",
    "psplit_uses": "fa9dbb8dd68d4eb59288e93d7d17064243b173116140b2f3ea992e908c587e87",
    "psplit_words": "42b0e355c06f2768c9e8d061cb74887b541ca70faa46aa5527bfd144fb7431cf",
    "psplit_open": "c07d26e40d4aa7fd34d2ab9f4df63008033b7642a9b1e23395cce5ed6721fbd4",
    "psplit_solve": "c9644ae49dc80dd7bdea5da71e51b28b3f14ce95ff8db3a636767607c940dcf4",
}
PUBLISHED = {
    "noveltybench/curated.jsonl": "prompt",
    "noveltybench/wildchat_1k.jsonl.gz": "prompt",
    "macgyver/problems.jsonl.gz": "problem",
}


def rows(name):
    path = TASKS / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.fixture(scope="module")
def prompts():
    """Task → what a model without a chat template is asked, doc by doc."""
    tasks = {name: load_task(Catalog().tasks[name]) for name in DOCS}
    normal = BUILTIN_MODES["normal"]
    return {
        name: [question.text for _, (question,) in task.questions(task.docs, normal, last_message)]
        for name, task in tasks.items()
    }


def last_message(messages, add_generation_prompt=True):
    return messages[-1]["content"]


def test_the_suite_is_all_of_them():
    assert set(suite_named("creative").tasks) == set(DOCS)


@pytest.mark.parametrize("name", DOCS)
def test_the_rows_are_those_of_version_1(name):
    content = (TASKS / "data" / f"{name}.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == FROZEN[name]
    assert Catalog().tasks[name].config()["metadata"]["version"] == 1.0


@pytest.mark.parametrize("name", DOCS)
def test_prompts_are_ascii_whole_and_each_another(name, prompts):
    asked = prompts[name]
    assert len(asked) == DOCS[name]
    assert all(text.isascii() and text == text.strip() for text in asked)
    assert not [text for text in asked if re.search(r"[{}]|  |\.\.|\?\.", text)]
    assert not [one for one, other in permutations(asked, 2) if one in other]


def test_no_field_is_empty():
    for name in DOCS:
        for row in rows(name):
            assert all(value and value == clean(value) for value in row.values()), row


def clean(value):
    return [text.strip() for text in value] if isinstance(value, list) else value.strip()


@pytest.mark.parametrize("name", GROUPED_BY)
def test_kinds_are_equally_many(name):
    field, kinds = GROUPED_BY[name]
    counts = Counter(row[field] for row in rows(name))
    assert set(counts.values()) == {DOCS[name] // kinds}


def test_a_problem_has_five_things_at_hand_and_says_them(prompts):
    for row, text in zip(rows("psplit_solve"), prompts["psplit_solve"], strict=True):
        assert len(set(row["tools"])) == 5
        assert all(part in text for part in (row["situation"], row["goal"], row["constraints"]))
        assert f"At hand: {', '.join(row['tools'])}." in text


def test_samples_and_sampling_are_those_of_stories():
    for name in DOCS:
        task = load_task(Catalog().tasks[name])
        assert task.samples == 8
        assert task.sampling.to_dict() | {"max_tokens": 0} == {
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_tokens": 0,
            "until": [],
        }
        assert task.sampling.max_tokens == TOKENS[name]
        assert f"psplit_{task.scorer.form}" == name


@pytest.mark.parametrize("file", PUBLISHED)
def test_no_prompt_is_a_published_one(file, prompts, real_rows):
    """Not even eight words in a row."""
    published = {run for row in real_rows(file) for run in runs_of_words(row[PUBLISHED[file]])}
    assert published
    own = {run for asked in prompts.values() for text in asked for run in runs_of_words(text)}
    assert not own & published


def runs_of_words(text, length=8):
    words = re.findall(r"[a-z']+", text.lower())
    return zip(*(words[i:] for i in range(length)), strict=False)


def test_plain_lm_eval_gives_the_numbers_of_the_scorer(tiny):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        HFLM(pretrained=str(tiny), device="cpu", dtype="float32", batch_size=8),
        tasks=list(DOCS),
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        limit=2,
        apply_chat_template=True,
        gen_kwargs="max_gen_toks=8",
        bootstrap_iters=0,
    )
    for name in DOCS:
        scorer, logged = load_task(Catalog().tasks[name]).scorer, results["samples"][name]
        values = [scorer(row["doc"], row["resps"])["div_bleu_4"] for row in logged]
        assert len(values) == 2
        assert all(len(row["resps"][0]) == 8 for row in logged)
        assert results["results"][name]["div_bleu_4,all"] == pytest.approx(math.fsum(values) / 2)
        assert all(0 < value <= 1 for value in values)
