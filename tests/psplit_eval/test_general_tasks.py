"""The published general tasks on real rows, and on rows of our own in GPQA's format."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from psplit_eval.catalog import Catalog
from psplit_eval.errors import DataError
from psplit_eval.harness import load_task
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.suites import shipped_folder

TASKS = shipped_folder("tasks")
GPQA_ROWS = Path(__file__).parent.parent / "data" / "gpqa_format.jsonl"  # invented for psplit
STATED = re.compile(r"answer is \(?([A-J])\)?")
PUBLISHED = {
    "psplit_math500": ("math500/test.jsonl", "problem", 400, 4096),
    "psplit_aime24": ("aime/aime24.jsonl", "problem", 30, 8192),
    "psplit_aime25": ("aime/aime25.jsonl", "problem", 30, 8192),
    "psplit_mmlu_pro": ("mmlu_pro/sample_1400.jsonl", "question", 1400, 2048),
}
HUB = {
    "psplit_math500": ("HuggingFaceH4/MATH-500", None, "test"),
    "psplit_aime24": ("HuggingFaceH4/aime_2024", None, "train"),
    "psplit_aime25": ("math-ai/aime25", None, "test"),
    "psplit_gpqa_diamond": ("Idavidrein/gpqa", "gpqa_diamond", "train"),
    "psplit_mmlu_pro": ("TIGER-Lab/MMLU-Pro", None, "test"),
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def published(real_rows, tmp_path_factory):
    """Load a published task on its real rows, once."""
    loaded = {}

    def load_once(name):
        if name not in loaded:
            path = tmp_path_factory.mktemp(name) / "rows.jsonl"
            write(path, real_rows(PUBLISHED[name][0]))
            loaded[name] = load(name, path)
        return loaded[name]

    return load_once


@pytest.fixture(scope="module")
def utils(task_module):
    return task_module("utils")


def gpqa_rows():
    return [json.loads(line) for line in GPQA_ROWS.read_text(encoding="utf-8").splitlines()]


def load(name, path):
    return load_task(Catalog().tasks[name], path)


def prompts(task):
    """What a model without a chat template is asked, doc by doc."""
    asked = task.questions(task.docs, BUILTIN_MODES["normal"], last_message)
    return [question.text for _, (question,) in asked]


def last_message(messages, add_generation_prompt=True):
    return messages[-1]["content"]


def lettered(options):
    return "\n".join(f"{'ABCDEFGHIJ'[i]}. {text.strip()}" for i, text in enumerate(options))


def accuracy(task, doc, text):
    return task.scorer(doc.doc, [text])["accuracy_avg"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_rows_give_their_answers_and_prompts_with_the_whole_question(
    name, published, real_rows
):
    file, field, count, tokens = PUBLISHED[name]
    rows = list(real_rows(file))
    task = published(name)
    assert len(task.docs) == count
    assert (task.samples, task.sampling.max_tokens) == (8, tokens)
    assert [doc.target for doc in task.docs] == [row["answer"] for row in rows]
    for text, row in zip(prompts(task), rows, strict=True):
        assert text.startswith(row[field].strip())
        assert text.endswith(r"in \boxed{}.")


def test_every_math500_solution_is_right_for_its_own_problem_and_wrong_for_the_next(published):
    task = published("psplit_math500")
    others = [*task.docs[1:], task.docs[0]]
    assert [d.doc_id for d in task.docs if accuracy(task, d, d.doc["solution"]) != 1.0] == []
    right = [
        (doc.target, other.target)
        for doc, other in zip(task.docs, others, strict=True)
        if accuracy(task, doc, other.doc["solution"])
    ]
    assert right == [("2", "2"), ("3", "3")]  # neighbours whose answers are the same


def test_an_interval_stays_text(tmp_path):
    row = {"problem": "Solve.", "answer": "[1,2]"}
    path = write(tmp_path / "rows.jsonl", [row])
    task = load("psplit_math500", path)
    assert task.docs[0].target == "[1,2]"
    assert accuracy(task, task.docs[0], r"\boxed{[1,2]}") == 1.0
    assert accuracy(task, task.docs[0], r"\boxed{(1,2)}") == 0.0


@pytest.mark.parametrize("name", ["psplit_aime24", "psplit_aime25"])
def test_aime_answers_are_whole_numbers_and_leading_zeros_do_not_matter(name, published):
    task = published(name)
    for doc in task.docs:
        number = int(doc.target)
        assert 0 <= number <= 999
        assert accuracy(task, doc, rf"so \boxed{{{number:03d}}}.") == 1.0
        assert accuracy(task, doc, rf"so \boxed{{{number + 1:03d}}}.") == 0.0
        assert accuracy(task, doc, f"so {number}.") == 0.0


def test_every_boxed_aime24_solution_is_right(published):
    task = published("psplit_aime24")
    boxed = [doc for doc in task.docs if r"\boxed" in doc.doc["solution"]]
    assert len(boxed) == 29  # the other one is in a \framebox
    assert {accuracy(task, doc, doc.doc["solution"]) for doc in boxed} == {1.0}


@settings(max_examples=50)
@given(st.integers(0, 999), st.integers(0, 999))
def test_an_aime_answer_is_right_iff_it_is_the_number(utils, target, given_number):
    for row in ({"answer": f"{target:03d}"}, {"answer": str(target)}):
        found = utils.boxed(row, [rf"\boxed{{{given_number}}}", rf"\boxed{{{given_number:03d}}}"])
        assert found["accuracy_avg"] == float(target == given_number)


def test_mmlu_pro_prompts_list_every_option_and_the_letter_fits_the_index(published):
    task = published("psplit_mmlu_pro")
    for doc, text in zip(task.docs, prompts(task), strict=True):
        assert f"\n\n{lettered(doc.doc['options'])}\n\n" in text
        assert doc.target == "ABCDEFGHIJ"[doc.doc["answer_index"]]
    assert {len(doc.doc["options"]) for doc in task.docs} == set(range(3, 11))


def test_real_mmlu_pro_outputs_are_graded_as_their_authors_did(published, real_rows):
    task = published("psplit_mmlu_pro")
    docs = {doc.doc["id"]: doc for doc in task.docs}
    stated = [r for r in real_rows("mmlu_pro/model_outputs.jsonl.gz") if STATED.search(r["output"])]
    # the key of three changed after their runs
    rows = [row for row in stated if row["gold_used_by_run"] == docs[row["id"]].target]
    assert (len(stated), len(rows)) == (3190, 3187)
    boxed = [STATED.sub(r"answer is \\boxed{\1}", row["output"], count=1) for row in rows]
    graded = [accuracy(task, docs[row["id"]], text) for row, text in zip(rows, boxed, strict=True)]
    assert graded == [float(row["correct"]) for row in rows]


def test_gpqa_rows_become_four_options_and_the_letter_of_the_right_one():
    rows, task = gpqa_rows(), load("psplit_gpqa_diamond", GPQA_ROWS)
    assert len(task.docs) == len(rows) == 12
    for doc, row, text in zip(task.docs, rows, prompts(task), strict=True):
        assert set(doc.doc) == {"question", "options", "answer"}
        texts = [value.strip() for key, value in row.items() if re.match(r"(Inc|C)orrect A", key)]
        assert sorted(doc.doc["options"]) == sorted(texts)
        assert doc.doc["options"]["ABCD".index(doc.target)] == row["Correct Answer"].strip()
        assert text.startswith(f"{row['Question'].strip()}\n\n{lettered(doc.doc['options'])}\n\n")
        assert accuracy(task, doc, rf"so \boxed{{{doc.target}}}.") == 1.0
        assert [accuracy(task, doc, rf"\boxed{{{letter}}}") for letter in "ABCD"].count(1.0) == 1
    assert len({doc.target for doc in task.docs}) == 4


def test_the_order_of_gpqa_options_depends_on_the_row_alone(tmp_path):
    rows = gpqa_rows()
    whole = {doc.doc["question"]: doc.doc for doc in load("psplit_gpqa_diamond", GPQA_ROWS).docs}
    for kept in (rows[::-1], rows[3:7], random.Random(0).sample(rows, 5)):
        part = load("psplit_gpqa_diamond", write(tmp_path / "part.jsonl", kept))
        assert [doc.doc for doc in part.docs] == [whole[r["Question"].strip()] for r in kept]


def test_the_right_letter_of_gpqa_options_is_uniform_even_where_it_sorts_first(utils):
    rows = [
        dict(zip(utils.GPQA_COLUMNS, [f"Question {i}?", "1", "2", "3", "4"], strict=True))
        for i in range(2000)
    ]
    counts = Counter(doc["answer"] for doc in utils.gpqa_docs(rows))
    assert chisquare([counts[letter] for letter in "ABCD"]).pvalue > 0.001


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"so \boxed{B}.", 1.0),
        (r"\boxed{\text{(b)}}", 1.0),
        (r"\boxed{A} no, \boxed{B}", 1.0),
        (r"\boxed{A}", 0.0),
        (r"\boxed{B:}", 1.0),
        (r"\boxed{A, B}", 0.0),
        (r"\boxed{A = B}", 0.0),
        ("The answer is B.", 0.0),
    ],
)
def test_a_choice_is_one_letter_in_a_box(utils, text, value):
    assert utils.boxed_letter({"answer": "B"}, [text]) == {"accuracy_avg": value}


WORDS = st.text(max_size=20).map(str.strip).filter(bool)


@settings(max_examples=100)
@given(WORDS, st.lists(WORDS, min_size=4, max_size=4, unique=True), st.data())
def test_any_gpqa_row_keeps_its_options_wherever_the_columns_have_the_wrong_ones(
    utils, question, answers, data
):
    right, *wrong = answers
    moved = [right, *data.draw(st.permutations(wrong))]
    docs = [
        utils.gpqa_docs([dict(zip(utils.GPQA_COLUMNS, [question, *texts], strict=True))])[0]
        for texts in (answers, [f" {text}\n" for text in moved])
    ]
    assert docs[0] == docs[1]
    assert sorted(docs[0]["options"]) == sorted(answers)
    assert docs[0]["options"]["ABCD".index(docs[0]["answer"])] == right


@pytest.mark.parametrize("column", ["Question", "Correct Answer", "Incorrect Answer 3"])
def test_a_gpqa_file_without_a_column_is_refused_by_name(column, tmp_path):
    rows = [{**gpqa_rows()[0], column: None}]
    with pytest.raises(DataError, match=f"row 1: no {column}; task 'psplit_gpqa_diamond' needs"):
        load("psplit_gpqa_diamond", write(tmp_path / "rows.jsonl", rows))


def test_other_published_tasks_name_missing_fields_too(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"question": "Which?", "answer": "A"}])
    with pytest.raises(DataError, match="row 1: no options"):
        load("psplit_mmlu_pro", path)


@pytest.fixture
def hub(monkeypatch):
    """A hub of our own: rows by data set, config and split, each as the published one names it."""
    from lm_eval.tasks import TaskManager

    kept = {}
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None, **_: kept[path, name])

    def load_stock(name, *sets):
        for path, config, split, rows in sets:
            kept[path, config] = {split: datasets.Dataset.from_list(rows)}
        return TaskManager(include_path=str(TASKS), include_defaults=False).load([name])

    return load_stock


@pytest.mark.parametrize("name", HUB)
def test_plain_lm_eval_builds_the_same_prompts_and_grades_all_repeats(
    name, hub, real_rows, tmp_path
):
    file = PUBLISHED.get(name, (None,))[0]
    rows = list(real_rows(file))[:20] if file else gpqa_rows()
    task = hub(name, (*HUB[name], rows))["tasks"][name]
    ours = load(name, write(tmp_path / "rows.jsonl", rows))
    assert task.config.repeats == 8
    assert [task.fewshot_context(doc, 0) for doc in task.eval_docs] == prompts(ours)
    for doc, own in zip(task.eval_docs, ours.docs, strict=True):
        answers = [rf"\boxed{{{own.target}}}"] * 3 + ["none"] * 5
        assert task.process_results(doc, [answers]) == {"accuracy_avg": 3 / 8}


def test_plain_lm_eval_pools_the_two_years_of_aime(hub, real_rows):
    years = ["psplit_aime24", "psplit_aime25"]
    rows = [list(real_rows(PUBLISHED[year][0])) for year in years]
    sets = [(*HUB[year], found) for year, found in zip(years, rows, strict=True)]
    loaded = hub("psplit_aime", *sets)
    assert [len(task.eval_docs) for task in loaded["tasks"].values()] == [30, 30]
    assert loaded["group_map"] == {"psplit_aime": years}
    (metric,) = loaded["groups"]["psplit_aime"].aggregate_metric_list
    assert (metric.metric, metric.weight_by_size) == ("accuracy_avg", True)
