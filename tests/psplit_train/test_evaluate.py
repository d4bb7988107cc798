"""Checkpoints are evaluated by psplit-eval itself, and the best of them is found.

The model is random and tiny; what is asked are sums, in a task folder as held-out prompts are.
"""

import json
import math
import shutil
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import (
    CheckpointError,
    DataError,
    InfrastructureError,
    UnknownNameError,
    UsageError,
)
from psplit_eval.leaderboard import csv_text
from psplit_eval.modes import BUILTIN_MODES, Mode
from psplit_train.cards import Measured
from psplit_train.checkpoints import write_modes
from psplit_train.config import EvaluateSettings
from psplit_train.evaluate import (
    Evaluated,
    best,
    check_evaluation,
    evaluate_checkpoint,
    evaluate_or_say,
    read_evaluations,
)

MODES = (BUILTIN_MODES["normal"], Mode("bold", "Be bold.", "high"))
QUICK = EvaluateSettings(samples=2, limit=3)
TASK = """
task: held_out_sums
custom_dataset: !function rows.rows
test_split: test
output_type: generate_until
doc_to_text: "What is {{a}} + {{b}}?"
doc_to_target: "{{answer}}"
generation_kwargs: {do_sample: true, temperature: 1.0, max_gen_toks: 4, until: []}
repeats: 2
filter_list:
  - name: all
    filter: [{function: custom, filter_fn: !function rows.keep_all}]
process_results: !function rows.number
metric_list: [{metric: accuracy_avg, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0, psplit: {title: held-out sums, source: a test}}
"""
ROWS = """
import datasets
from psplit_eval.accuracy import AnswerFormat
from psplit_eval.scoring import AccuracyScorer

number = AccuracyScorer(AnswerFormat(r"(\\d+)"))

def rows(**_):
    found = [{"a": a, "b": 2, "answer": str(a + 2)} for a in range(1, 6)]
    return {"test": datasets.Dataset.from_list(found)}

def keep_all(responses, docs):
    return responses
"""


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held-out")
    (folder / "held_out_sums.yaml").write_text(TASK)
    (folder / "rows.py").write_text(ROWS)
    return folder


def checkpoint(source, out, step):
    folder = out / f"checkpoint-{step}"
    shutil.copytree(source, folder)
    write_modes(folder, MODES)
    return folder


def samples(run):
    with sqlite3.connect(run / "samples.sqlite") as store:
        return store.execute("SELECT mode, task, COUNT(*) FROM samples GROUP BY 1, 2").fetchall()


@pytest.mark.slow
def test_a_checkpoint_is_asked_the_held_out_prompts_and_goes_on_where_it_was(
    tiny, adapter, held_out, tmp_path, monkeypatch
):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)  # as torchrun tells a training's processes
    folder = checkpoint(tiny, tmp_path, 20)
    found = evaluate_checkpoint(folder, QUICK, MODES, held_out, tmp_path, 7)
    assert found.step == 20
    assert samples(found.run) == [("bold", "held_out_sums", 6), ("normal", "held_out_sums", 6)]
    manifest = json.loads((found.run / "manifest.json").read_text())
    assert manifest["base_seed"] == 7
    assert [mode["system_prompt"] for mode in manifest["modes"]] == [None, "Be bold."]
    accuracy = [row for row in found.rows if row.metric == "accuracy_avg"]
    assert [row.mode for row in accuracy] == ["normal", "bold"]
    assert all(row.task == "held_out_sums" and 0 <= row.value <= 1 for row in accuracy)
    assert found.values["bold"]["entropy_bits"] > 0
    assert read_evaluations(tmp_path) == [found]

    # a killed one: a doc's samples are gone, and are drawn again as they were
    with sqlite3.connect(found.run / "samples.sqlite") as store:
        before = store.execute("SELECT text FROM samples ORDER BY 1").fetchall()
        store.execute("DELETE FROM samples WHERE doc_id = 1")
    store.close()
    assert evaluate_checkpoint(folder, QUICK, MODES, held_out, tmp_path, 7) == found
    with sqlite3.connect(found.run / "samples.sqlite") as store:
        assert store.execute("SELECT text FROM samples ORDER BY 1").fetchall() == before
    store.close()

    # other weights of the same step, here an adapter on a base, are measured anew
    shutil.rmtree(folder)
    folder = checkpoint(adapter, tmp_path, 20)
    shutil.copy(tiny / "chat_template.jinja", folder)
    other = evaluate_checkpoint(folder, QUICK, MODES[:1], held_out, tmp_path, 0)
    assert samples(other.run) == [("normal", "held_out_sums", 6)]
    manifest = json.loads((other.run / "manifest.json").read_text())
    assert manifest["checkpoint"]["adapter"] == str(folder.resolve())
    assert manifest["checkpoint"]["path"] == str(tiny.resolve())
    assert read_evaluations(tmp_path) == [other]


def test_an_evaluation_that_fails_is_said_in_one_line(tiny, held_out, tmp_path):
    folder = checkpoint(tiny, tmp_path, 20)
    (folder / "model.safetensors").unlink()
    said = []
    assert evaluate_or_say(folder, QUICK, MODES, held_out, tmp_path, 0, said.append) is None
    (line,) = said
    assert line.startswith("checkpoint-20 is not evaluated, training goes on: ")
    assert "step-20.log" in line
    assert "\n" not in line
    assert read_evaluations(tmp_path) == []


def test_a_checkpoint_that_does_not_know_its_modes_is_refused(tiny, held_out, tmp_path):
    folder = checkpoint(tiny, tmp_path, 20)
    other = (MODES[0], Mode("bold", "Be very bold.", "high"))
    with pytest.raises(CheckpointError, match="'bold' as it was trained"):
        evaluate_checkpoint(folder, QUICK, other, held_out, tmp_path, 0)


def test_a_folder_without_a_step_needs_one(tiny, held_out, tmp_path):
    with pytest.raises(UsageError, match="give its step"):
        evaluate_checkpoint(tiny, QUICK, MODES, held_out, tmp_path, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"options": {"tempreature": 1}}, "--tempreature"),
        ({"options": {"backend": "vlm"}}, "'vlm'.*did you mean 'vllm'"),
        ({"options": {"set": ["temperature=hot"]}}, "temperature"),
        ({"options": {"batch_size": "many"}}, "many"),
        ({"options": {"out": "elsewhere"}}, "options.out: psplit-train sets it itself"),
        ({"suite": "quik"}, "did you mean 'quick'"),
        ({"modes": ("hihg",)}, "did you mean 'high'"),
    ],
)
def test_what_would_fail_hours_later_is_refused_at_once(settings, said, held_out):
    with pytest.raises(UsageError, match=said):
        check_evaluation(EvaluateSettings(**settings), MODES, held_out)


def test_what_can_be_run_passes_the_check(held_out):
    check_evaluation(QUICK, MODES, held_out)
    options = {"batch-size": 4, "set": ["temperature=1"], "thinking": "off", "encoder": None}
    tasks = ("psplit_sums", "held_out_sums")
    settings = EvaluateSettings(tasks=tasks, modes=("low", "bold"), options=options, placebo=True)
    check_evaluation(settings, MODES, held_out)


def test_nothing_to_ask_is_an_error_that_names_the_settings(tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(UsageError, match=r"data\.held_out above 0"):
            check_evaluation(EvaluateSettings(), MODES, folder)


def evaluated(step, *values, mode="normal", higher=True):
    rows = (
        Measured(f"task-{i}", mode, "accuracy_avg", value, 0.0, 1.0, higher)
        for i, value in enumerate(values)
    )
    return Evaluated(step, None, tuple(rows))


def test_a_mean_is_over_tasks_and_undefined_where_one_is():
    assert evaluated(1, 0.25, 0.75).values == {"normal": {"accuracy_avg": 0.5}}
    assert math.isnan(evaluated(1, 0.25, math.nan).values["normal"]["accuracy_avg"])


def test_the_best_step_is_the_earliest_of_the_highest_mean():
    """By hand: means .4, .6, .6 and undefined; of the lowest .4."""
    every = [
        evaluated(30, 0.5, 0.7),
        evaluated(10, 0.4, 0.4),
        evaluated(20, 0.6, 0.6),
        evaluated(40, 1.0, math.nan),
        evaluated(5, 1.0, 1.0, mode="bold"),
    ]
    assert best(every, "accuracy_avg", "normal") == 20
    down = [evaluated(1, 0.6, higher=False), evaluated(2, 0.4, higher=False)]
    assert best(down, "accuracy_avg", "normal") == 2


def test_there_is_no_best_without_a_direction_or_a_value():
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy_avg'"):
        best([evaluated(1, 0.5)], "accuracy", "normal")
    with pytest.raises(UnknownNameError, match="mode 'bold'"):
        best([evaluated(1, 0.5)], "accuracy_avg", "bold")
    with pytest.raises(UsageError, match="no value is better"):
        best([evaluated(1, 0.5, higher=None)], "accuracy_avg", "normal")
    with pytest.raises(UsageError, match="undefined in mode"):
        best([evaluated(1, math.nan)], "accuracy_avg", "normal")


@given(st.dictionaries(st.integers(1, 99), st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1))
def test_no_step_is_better_than_the_best_and_none_as_good_is_earlier(values):
    chosen = best([evaluated(s, v) for s, v in values.items()], "accuracy_avg", "normal")
    assert values[chosen] == max(values.values())
    assert chosen == min(step for step, value in values.items() if value == values[chosen])


@pytest.mark.parametrize(
    "text",
    [
        "step,mode\n1,normal\n",
        "step\nx\n",
        csv_text(["step", "mode"], [["1", "a"]]),
        "step\n\xff\n",
    ],
)
def test_a_table_of_somebody_else_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "evaluations").mkdir()
    path = tmp_path / "evaluations" / "evaluations.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="not a table of evaluations") as raised:
        read_evaluations(tmp_path)
    assert "\n" not in str(raised.value)


def test_errors_of_the_machine_are_infrastructure_errors(tiny, held_out, tmp_path):
    folder = checkpoint(tiny, tmp_path, 20)
    (tmp_path / "evaluations").write_text("a file")
    with pytest.raises((InfrastructureError, UsageError)) as raised:
        evaluate_checkpoint(folder, QUICK, MODES, held_out, tmp_path, 0)
    assert "\n" not in str(raised.value)
