"""lm-eval's tasks as psplit reads them."""

import gzip
import json

import pytest

from psplit_eval.errors import DataError, TemplateError, UsageError
from psplit_eval.harness import load_task, read_rows
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.requests import Sampling
from psplit_eval.suites import task_files

FILES = task_files()


def joined(messages):
    return "\n".join(f"{m['role']}: {m['content']}" for m in messages)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_shipped_task_says_all_of_itself():
    task = load_task("psplit_sums", FILES["psplit_sums"])
    assert len(task.docs) == 64
    assert task.samples == 4
    assert task.sampling == Sampling(0.6, 20, 0.95, 0.0, 48, ("\n",))
    assert [doc.doc_id for doc in task.docs] == list(range(64))
    assert all(int(doc.target) == doc.doc["a"] + doc.doc["b"] for doc in task.docs)


def test_the_prompt_holds_the_modes_system_text_and_the_question():
    task = load_task("psplit_sums", FILES["psplit_sums"])
    high = BUILTIN_MODES["high"]
    doc = task.docs[0]
    text = task.prompt(doc, high, joined)
    assert text.startswith(f"system: {high.system_prompt}")
    assert f"{doc.doc['a']} + {doc.doc['b']}" in text
    assert "system" not in task.prompt(doc, BUILTIN_MODES["normal"], joined)


def test_a_template_that_drops_the_system_text_is_an_error():
    task = load_task("psplit_sums", FILES["psplit_sums"])
    with pytest.raises(TemplateError, match="drops its system prompt"):
        task.prompt(task.docs[0], BUILTIN_MODES["high"], lambda messages: messages[-1]["content"])


def test_local_rows_take_the_place_of_the_hubs(tmp_path):
    rows = write(tmp_path / "rows.jsonl", {"question": "1+1?", "answer": "so\n#### 1,002"})
    task = load_task("psplit_gsm8k", FILES["psplit_gsm8k"], rows)
    assert [doc.target for doc in task.docs] == ["1002"]
    assert "1+1?" in task.prompt(task.docs[0], BUILTIN_MODES["normal"], joined)


def test_real_gsm8k_rows_give_their_numbers(real_rows, tmp_path):
    published = list(real_rows("gsm8k/test.jsonl"))[:50]
    task = load_task("psplit_gsm8k", FILES["psplit_gsm8k"], write(tmp_path / "r.jsonl", *published))
    assert [doc.target for doc in task.docs] == [row["answer"] for row in published]


def test_the_sum_names_the_exact_rows(tmp_path):
    one = write(tmp_path / "1.jsonl", {"question": "a", "answer": "1"})
    two = write(tmp_path / "2.jsonl", {"question": "a", "answer": "2"})
    load = [
        load_task("psplit_gsm8k", FILES["psplit_gsm8k"], path).sha256 for path in (one, one, two)
    ]
    assert load[0] == load[1] != load[2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"question": "a"}\n', "row 1: no answer; task 'psplit_gsm8k' needs answer, question"),
        ('{"question": "a", "answer": null}\n', "row 1: no answer"),
        ('{"question": "a", "answer": "1"}\n{oops\n', "line 2: not JSON"),
        ("[1]\n", "line 1: expected a JSON object"),
        ("\n", "empty"),
    ],
)
def test_bad_rows_are_named(tmp_path, content, words):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        load_task("psplit_gsm8k", FILES["psplit_gsm8k"], path)


def test_rows_may_be_compressed(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert read_rows(path) == [{"a": 1}]
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("output_type: loglikelihood", "expected output_type generate_until"),
        ("generation_kwargs: {num_beams: 4}", "num_beams cannot be honoured"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(tmp_path, line, words):
    import shutil

    folder = tmp_path / "tasks"
    shutil.copytree(FILES["psplit_sums"].parent, folder)
    path = folder / "psplit_sums.yaml"
    path.write_text(path.read_text() + f"\n{line}\n")
    with pytest.raises(UsageError, match=words):
        load_task("psplit_sums", path)
