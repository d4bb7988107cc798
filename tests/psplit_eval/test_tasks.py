"""The shipped tasks: frozen rows, and plain lm-eval runs them to the same number."""

import json
import random
from itertools import islice

import pytest

from psplit_eval.suites import shipped_folder

TASKS = shipped_folder("tasks")


@pytest.fixture(scope="module")
def generate(task_module):
    return task_module("generate")


def rows(name):
    path = TASKS / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["sums", "reading"])
def test_committed_rows_are_what_the_script_writes(generate, name):
    made = getattr(generate, name)(random.Random(f"{generate.SEED}/psplit_{name}"))
    assert made == rows(f"psplit_{name}")
    assert len({json.dumps(row) for row in made}) == generate.ROWS


def test_reading_asks_for_a_number_that_is_in_the_story():
    for row in rows("psplit_reading"):
        name, thing = row["question"].split()[4], row["question"].split()[2]
        assert f"{name} has {row['answer']} {thing}." in row["story"]


def test_the_premises_are_32_of_several_genres():
    premises = rows("psplit_story")
    assert len({row["premise"] for row in premises}) == len(premises) == 32
    assert len({row["genre"] for row in premises}) >= 5


@pytest.mark.slow
def test_plain_lm_eval_gives_the_same_accuracy(smollm2, tmp_path):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from psplit_eval.cli import main
    from psplit_eval.store import Store

    stock = HFLM(pretrained=str(smollm2.folder), device="cpu", dtype="float32", batch_size=8)
    results = lm_eval.simple_evaluate(
        stock,
        tasks=["psplit_sums"],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        limit=8,
        apply_chat_template=True,
        gen_kwargs="do_sample=False,temperature=0",
        bootstrap_iters=0,
        log_samples=False,
    )
    expected = results["results"]["psplit_sums"]["accuracy_avg,all"]
    command = ["run", "--model", "smollm2-135m", "--modes", "normal", "--tasks", "psplit_sums"]
    limits = ["--limit", "8", "--samples", "1", "--set", "temperature=0"]
    assert main([*command, *limits, "--out", str(tmp_path / "run")]) == 0
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        values = [m.value for m in store.metrics() if m.metric == "accuracy_avg"]
    assert sum(values) / len(values) == expected
    assert 0 < expected < 1


@pytest.mark.slow
def test_greedy_answers_and_accuracy_are_those_of_plain_lm_eval(
    general_task, general_rows, smollm2, tmp_path
):
    """SmolLM2, five docs, 200 tokens, in mode high: the same texts, and so the same accuracy."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from psplit_eval.catalog import Catalog
    from psplit_eval.cli import main
    from psplit_eval.modes import BUILTIN_MODES
    from psplit_eval.store import Store

    name, file = general_task, tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in islice(general_rows, 5)))
    local = {"dataset_path": "json", "dataset_name": None}
    local |= {"dataset_kwargs": {"data_files": dict.fromkeys(("train", "test"), str(file))}}
    results = lm_eval.simple_evaluate(
        HFLM(pretrained=str(smollm2.folder), device="cpu", dtype="float32", batch_size=5),
        tasks=[Catalog().tasks[name].config() | local | {"repeats": 1}],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        system_instruction=BUILTIN_MODES["high"].system_prompt,
        gen_kwargs="do_sample=False,temperature=0,max_gen_toks=200",
        bootstrap_iters=0,
    )
    command = ["run", "--model", "smollm2-135m", "--modes", "high", "--tasks", name]
    greedy = ["--samples", "1", "--set", "temperature=0", "--set", "max_tokens=200"]
    data = ["--data", f"{name}={file}", "--out", str(tmp_path / "run")]
    assert main([*command, *greedy, *data]) == 0
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        ours = {sample.doc_id: sample for sample in store.samples()}
        values = [m.value for m in store.metrics() if m.metric == "accuracy_avg"]
    theirs = {row["doc_id"]: row["resps"][0][0] for row in results["samples"][name]}
    assert {doc: sample.text for doc, sample in ours.items()} == theirs
    finished = [row for row in results["samples"][name] if not ours[row["doc_id"]].truncated]
    assert sum(values) == sum(row["accuracy_avg"] for row in finished)
