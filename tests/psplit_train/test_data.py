"""The prompts of a training run."""

import gzip
import hashlib
import json
import os
import subprocess
import sys

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.accuracy import AnswerFormat, grade
from psplit_eval.catalog import Catalog
from psplit_eval.errors import DataError, InfrastructureError, UnknownNameError, UsageError
from psplit_eval.harness import load_task
from psplit_eval.store import Sample
from psplit_train.config import DataSettings
from psplit_train.data import Prompt, read_data, to_dataset, write_held_out
from psplit_train.tasks import TASKS

STORY = (
    "A lighthouse keeper has not spoken to anyone for a year when a boat without a crew drifts in"
)


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def read(said=None, **settings):
    return read_data(DataSettings(**settings), (said if said is not None else []).append)


def questions(prompts):
    return [prompt.question for prompt in prompts]


@pytest.fixture
def numbered(tmp_path):
    return write(
        tmp_path / "numbered.jsonl",
        [{"question": f"How many is {n}?", "answer": n, "level": n % 3} for n in range(50)],
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_generated_task_is_split(name):
    task, data = TASKS[name], read(task=name, held_out=7, seed=3)
    assert data.answer_format == task.answer_format
    assert len(data.held_out) == 7
    assert len(data.train) + 7 == len(task.rows(3))
    assert data.dropped == data.repeated == 0
    asked = questions([*data.train, *data.held_out])
    assert len(set(asked)) == len(asked)
    assert all(text.endswith(f"\n\n{task.instruction}") for text in asked)
    bare = read(task=name, held_out=7, seed=3, instruction="")
    assert {row["question"] for row in task.rows(3)} == set(
        questions([*bare.train, *bare.held_out])
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_file_is_read(tmp_path, suffix):
    rows = [{"id": 1, "problem": " 2 + 2? ", "solution": 4}, {"problem": "1/3?", "solution": 0.5}]
    path = write(tmp_path / f"few{suffix}", rows)
    data = read(
        file=path,
        prompt_field="problem",
        answer_field="solution",
        instruction="Box it.",
        answer_pattern=r"= (\d+)",
    )
    assert questions(data.train) == ["2 + 2?\n\nBox it.", "1/3?\n\nBox it."]
    assert [prompt.answer for prompt in data.train] == ["4", "0.5"]
    assert [prompt.extra for prompt in data.train] == [{"id": 1}, {}]
    assert (data.name, data.answer_format) == ("few", AnswerFormat(r"= (\d+)"))


def test_gsm8k_as_published(real_rows, tmp_path):
    """The published answer is a worked solution that ends in `#### 42`; shared rows keep it."""
    rows = list(real_rows("gsm8k/train.jsonl.gz"))
    raw = [
        {"question": row["question"], "answer": f"{row['solution']}\n#### {row['answer']}"}
        for row in rows
    ]
    test = write(tmp_path / "test.jsonl", real_rows("gsm8k/test.jsonl"))
    said = []
    data = read(
        said, file=write(tmp_path / "train.jsonl.gz", raw), target_pattern=r"#### (.+)",
        held_out=100, against=(str(test),),
    )  # fmt: skip
    answers = {" ".join(row["question"].split()): row["answer"] for row in rows}
    both = [*data.train, *data.held_out]
    assert all(answers[" ".join(p.question.split())] == p.answer for p in both)
    assert data.dropped == 4  # as tests/psplit_train/test_contamination.py counts them
    assert len(both) == len(rows) - 4 - data.repeated
    assert any("share 13 words" in line for line in said)
    assert len(read(file=tmp_path / "train.jsonl.gz", decontaminate=False).train) == 7473


@given(
    st.lists(st.sampled_from(["a", " a", "a  b", "a b", "c\n", "d", "e", "f"]), min_size=3),
    st.integers(0, 2), st.integers(0, 5),
)  # fmt: skip
def test_no_question_is_in_both_or_twice(tmp_path_factory, texts, held_out, seed):
    rows = [{"question": text, "answer": str(n)} for n, text in enumerate(texts)]
    path = write(tmp_path_factory.mktemp("rows") / "r.jsonl", rows)
    different = {" ".join(text.split()) for text in texts}
    if len(different) <= held_out:
        with pytest.raises(DataError, match="held out"):
            read(file=path, held_out=held_out, seed=seed)
        return
    data = read(file=path, held_out=held_out, seed=seed)
    asked = [" ".join(text.split()) for text in questions([*data.train, *data.held_out])]
    assert sorted(asked) == sorted(different)
    assert len(data.held_out) == held_out
    assert data.repeated == len(texts) - len(different)


def test_the_first_of_repeated_questions_counts(tmp_path):
    rows = [{"question": "a b", "answer": "1"}, {"question": " a  b", "answer": "2"}]
    said = []
    data = read(said, file=write(tmp_path / "r.jsonl", rows))
    assert [prompt.answer for prompt in data.train] == ["1"]
    assert said == ["r: 1 of 2 prompts repeat another one; dropped"]


def test_what_is_held_out_is_drawn_by_the_seed_and_does_not_move_with_the_limit(numbered):
    data = [read(file=numbered, held_out=9, seed=seed) for seed in (1, 1, 2)]
    assert data[0] == data[1]
    assert questions(data[0].held_out) != questions(data[2].held_out)
    cut = read(file=numbered, held_out=9, seed=1, limit=10)
    assert cut.held_out == data[0].held_out
    assert len(cut.train) == 10
    assert set(questions(cut.train)) < set(questions(data[0].train))
    assert questions(cut.train) != questions(data[0].train)[:10]  # drawn, not the first ones
    places = [int(prompt.answer) for prompt in data[0].train]
    assert places == sorted(places)


def test_the_sum_names_what_is_trained_on(numbered):
    data = read(file=numbered, limit=2)
    rows = [json.dumps([p.question, p.answer]) for p in data.train]
    lines = "".join(f"{row}\n" for row in rows)
    assert data.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert data.sha256 != read(file=numbered, limit=2, instruction="Box it.").sha256
    assert data.train[0].key == hashlib.sha256(f"{rows[0]}\n".encode()).hexdigest()[:16]


def test_what_an_evaluation_set_holds_is_dropped(tmp_path, real_rows):
    shipped = json.loads(
        (Catalog().task("psplit_story").path.parent / "data" / "psplit_story.jsonl")
        .read_text()
        .split("\n")[0]
    )["premise"]
    rows = [{"question": f"Story: {shipped}", "answer": "1"}, {"question": "2+2?", "answer": "4"}]
    path = write(tmp_path / "r.jsonl", rows)
    assert len(shipped.split()) >= 13
    data = read(file=path)
    assert (questions(data.train), data.dropped) == (["2+2?"], 1)
    assert len(read(file=path, decontaminate=False).train) == 2
    more = write(tmp_path / "more.jsonl", [{"q": "2 + 2 ?"}])
    with pytest.raises(DataError, match="0 prompts"):
        read(file=path, against=(str(more),))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "1"}, r"row 2: no question, expected a text.*it has answer: name"),
        ({"question": "", "answer": "1"}, "row 2: question is ''"),
        ({"question": "x", "answer": None}, "row 2: answer is None"),
        ({"question": "x", "answer": float("nan")}, "row 2: answer is nan"),
        ({"question": "x", "answer": True}, "row 2: answer is True"),
        ({"question": ["x"], "answer": "1"}, r"row 2: question is \['x'\]"),
    ],
)
def test_a_row_that_lacks_something_is_named(tmp_path, row, message):
    path = write(tmp_path / "r.jsonl", [{"question": "q", "answer": "1"}, row])
    with pytest.raises(DataError, match=message):
        read(file=path)


def test_patterns_and_names_that_cannot_be(tmp_path, numbered):
    with pytest.raises(DataError, match=r"row 1: '#### .* finds no answer in '0'"):
        read(file=numbered, target_pattern="#### (.+)")
    for pattern in (r"\d+", "("):
        with pytest.raises(UsageError, match="with a group"):
            read(file=numbered, target_pattern=pattern)
    with pytest.raises(UsageError, match="answer pattern"):
        read(file=numbered, answer_pattern="x")
    with pytest.raises(UsageError, match="has its own"):
        read(task="sums", answer_pattern="(x)")
    with pytest.raises(UnknownNameError, match="did you mean 'walks'"):
        read(task="walk")
    with pytest.raises(DataError, match="22 prompts, of which 22 are to be held out"):
        read(task="sums", held_out=22)


def test_rows_of_the_hub_are_those_of_a_file(tmp_path, numbered):
    """A folder stands for a data set of the hub: `datasets` reads both by the same call."""
    (tmp_path / "set").mkdir()
    numbered.rename(tmp_path / "set" / "train.jsonl")
    data = read(hub=str(tmp_path / "set"), held_out=3)
    assert len(data.train) == 47
    assert {prompt.extra["level"] for prompt in data.train} == {0, 1, 2}
    with pytest.raises(DataError, match="split 'none': cannot be loaded"):
        read(hub=str(tmp_path / "set"), split="none")


@pytest.mark.slow
def test_a_hub_out_of_reach_is_one_line(tmp_path):
    code = (
        "from psplit_train.config import DataSettings\nfrom psplit_train.data import read_data\n"
        "from psplit_eval.errors import PsplitError\n"
        "try: read_data(DataSettings(hub='openai/gsm8k'), print)\n"
        "except PsplitError as error: print(error.exit_code, error)"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **offline}, capture_output=True, text=True
    )
    assert done.stdout.startswith("4 data set 'openai/gsm8k': the hub cannot be reached"), done
    assert done.stdout.count("\n") == 1
    assert InfrastructureError.exit_code == 4


def test_a_dataset_has_one_users_message(numbered):
    made = to_dataset(read(file=numbered, limit=2).train)
    assert isinstance(made, datasets.Dataset)
    assert made.column_names == ["prompt", "question", "answer", "key"]
    first = made[0]
    assert first["prompt"] == [{"role": "user", "content": first["question"]}]
    assert first["answer"] in first["question"]


def sample(task, doc_id, index, text):
    return Sample(
        *("m", task, doc_id, index, "h", "r", "p", 1, 1, text, None, (1, 2), "stop", 5, 2),
        *(1.0, 1.0, None, 0.1, "now"),
    )


def test_held_out_prompts_are_a_task_of_the_evaluator(tmp_path):
    data = read(task="sums_without", held_out=5, instruction="")
    folder = write_held_out(tmp_path / "deep" / "folder", data, "held_out", max_tokens=16)
    loaded = load_task(Catalog([folder]).task("held_out"))
    assert [doc.doc["question"] for doc in loaded.docs] == questions(data.held_out)
    scorer = loaded.scorer
    assert scorer.answer_format == data.answer_format
    for doc in loaded.docs:
        right = [
            f"{a}+{b}+{c}"
            for a in range(1, 10)
            for b in range(1, 10)
            for c in range(1, 10)
            if grade(f"{a}+{b}+{c}", doc.target, data.answer_format).correct
        ][:3]
        texts = [*right, right[0].replace("+", " + "), "1+1"]
        samples = [sample("held_out", doc.doc_id, n, text) for n, text in enumerate(texts)]
        found = {m.metric: m.value for m in scorer.score(doc, samples) if m.sample_idx is None}
        assert found["accuracy_unique"] == len(right)
        assert found["accuracy_avg"] == (len(right) + 1) / len(texts)


def test_held_out_prompts_of_one_answer_have_their_pattern_and_odd_letters(tmp_path):
    rows = [{"question": f"„{n}“\u2028?\n", "answer": f"{n}é"} for n in range(4)]
    path = write(tmp_path / "r.jsonl", rows)
    data = read(file=path, held_out=3, answer_pattern=r"""['"]=(\S+)\Z""")
    loaded = load_task(Catalog([write_held_out(tmp_path / "t", data, "t2")]).task("t2"))
    assert [(doc.doc["question"], doc.target) for doc in loaded.docs] == [
        (prompt.question, prompt.answer) for prompt in data.held_out
    ]
    assert loaded.scorer.answer_format == data.answer_format


def test_nothing_held_out_and_names_no_task_can_have_are_refused(tmp_path):
    with pytest.raises(DataError, match="no held-out prompts"):
        write_held_out(tmp_path, read(task="sums"), "held_out")
    for name in ("", "a b", "../x", "Ä"):
        with pytest.raises(UsageError, match="task name"):
            write_held_out(tmp_path, read(task="sums", held_out=1), name)


def test_a_prompt_names_itself_by_question_and_answer():
    one, same, other = (Prompt.of(q, a, {}) for q, a in (("q", "a"), ("q", "a"), ("qa", "")))
    assert one == same
    assert one.key != other.key
