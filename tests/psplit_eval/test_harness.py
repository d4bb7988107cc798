"""lm-eval's tasks as psplit reads them."""

import gzip
import json

import pytest

from psplit_eval.catalog import Catalog, TaskSource
from psplit_eval.errors import DataError, TemplateError, UsageError
from psplit_eval.harness import load_task
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.requests import Sampling
from psplit_eval.rows import read_rows

TASKS = Catalog().tasks


def joined(messages, add_generation_prompt=True):
    lines = "\n".join(f"{m['role']}: {m['content']}" for m in messages)
    return lines + ("\nassistant:" if add_generation_prompt else "")


def last(messages, add_generation_prompt=True):
    return messages[-1]["content"]


def prompt(task, doc, mode, render=joined):
    ((_, (question,)),) = task.questions([doc], mode, render)
    assert question.answer is None
    return question.text


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_shipped_task_says_all_of_itself():
    task = load_task(TASKS["psplit_sums"])
    assert len(task.docs) == 64
    assert task.samples == 4
    assert task.sampling == Sampling(0.6, 20, 0.95, 0.0, 48, ("\n",))
    assert [doc.doc_id for doc in task.docs] == list(range(64))
    assert all(int(doc.target) == doc.doc["a"] + doc.doc["b"] for doc in task.docs)


def test_the_prompt_holds_the_modes_system_text_and_the_question():
    task = load_task(TASKS["psplit_sums"])
    high = BUILTIN_MODES["high"]
    doc = task.docs[0]
    text = prompt(task, doc, high)
    assert text.startswith(f"system: {high.system_prompt}")
    assert f"{doc.doc['a']} + {doc.doc['b']}" in text
    assert "system" not in prompt(task, doc, BUILTIN_MODES["normal"])


def test_a_template_that_drops_the_system_text_is_an_error():
    task = load_task(TASKS["psplit_sums"])
    with pytest.raises(TemplateError, match="drops its system prompt"):
        prompt(task, task.docs[0], BUILTIN_MODES["high"], last)


def test_local_rows_take_the_place_of_the_hubs(tmp_path):
    rows = write(tmp_path / "rows.jsonl", {"question": "1+1?", "answer": "so\n#### 1,002"})
    task = load_task(TASKS["psplit_gsm8k"], rows)
    assert [doc.target for doc in task.docs] == ["1002"]
    assert "1+1?" in prompt(task, task.docs[0], BUILTIN_MODES["normal"])


def test_real_gsm8k_rows_give_their_numbers(real_rows, tmp_path):
    published = list(real_rows("gsm8k/test.jsonl"))[:50]
    task = load_task(TASKS["psplit_gsm8k"], write(tmp_path / "r.jsonl", *published))
    assert [doc.target for doc in task.docs] == [row["answer"] for row in published]


def test_the_sum_names_the_exact_rows(tmp_path):
    one = write(tmp_path / "1.jsonl", {"question": "a", "answer": "1"})
    two = write(tmp_path / "2.jsonl", {"question": "a", "answer": "2"})
    load = [load_task(TASKS["psplit_gsm8k"], path).sha256 for path in (one, one, two)]
    assert load[0] == load[1] != load[2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"question": "a"}\n', "row 1: no answer; task 'psplit_gsm8k' needs answer, question"),
        ('{"question": "a", "answer": null}\n', "row 1: no answer"),
        ('{"question": "a", "answer": "1"}\n{oops\n', "line 2: not JSON"),
        ('{"question": "\\ud800", "answer": "1"}\n', "line 1: not JSON in UTF-8"),
        ("[1]\n", "line 1: expected a JSON object"),
        ("\n", "empty"),
    ],
)
def test_bad_rows_are_named(tmp_path, content, words):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        load_task(TASKS["psplit_gsm8k"], path)


def test_rows_may_be_compressed(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert read_rows(path) == [{"a": 1}]
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("output_type: loglikelihood_rolling", "likelihood of plain text"),
        ("output_type: poetry", "'poetry', expected generate_until"),
        ("unsafe_code: true", "no sandbox"),
        ("doc_to_image: picture", "pictures"),
        ("generation_kwargs: {num_beams: 4}", "num_beams cannot be honoured"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(tmp_path, line, words):
    import shutil

    folder = tmp_path / "tasks"
    shutil.copytree(TASKS["psplit_sums"].path.parent, folder)
    path = folder / "psplit_sums.yaml"
    path.write_text(path.read_text() + f"\n{line}\n")
    with pytest.raises(UsageError, match=words):
        load_task(TaskSource("psplit_sums", path))
