"""Code in the pages does what they say."""

import csv
import re

import pytest
from pages import DOCS, section

from psplit_eval.cli import main

BARE = ("--limit", "6", "--set", "max_tokens=8", "--no-divergence")


def blocks(page, title, kind):
    """The blocks of code of a kind below a heading."""
    return re.findall(rf"```{kind}\n(.*?)```", section(DOCS / page, title), flags=re.DOTALL)


def psplit(*words):
    assert main(list(map(str, words))) == 0


def test_the_tutorial_s_table_is_made_in_pandas(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    psplit("run", "--model", tiny, "--tasks", "psplit_sums", *BARE, "--out", "run")
    psplit("export", "run", "--out", "samples.parquet")
    capsys.readouterr()
    (code,) = blocks("tutorial.md", "## 10. Go on in pandas", "python")
    exec(compile(code, "tutorial.md", "exec"), {})
    with open("run/leaderboard.csv") as file:
        (row,) = [
            row
            for row in csv.DictReader(file)
            if row["metric"] == "accuracy_avg" and row["mode"] == "high"
        ]
    shown = re.search(r"psplit_sums +(\S+) +(\S+)", capsys.readouterr().out)
    assert float(shown[1]) == pytest.approx(float(row["value"]), abs=5e-4)


def test_a_task_of_one_s_own_is_scored_by_psplit(tiny, tmp_path):
    """As the page puts it together: its YAML with its scorer in the place of the metrics."""
    page = "howto/bring-a-task.md"
    (task,) = blocks(page, "## A task of lm-eval's, or in its form", "yaml")
    (scorers,) = blocks(page, "## A scorer of psplit's", "python")
    (scored,) = blocks(page, "## A scorer of psplit's", "yaml")
    folder = tmp_path / "my_tasks"
    folder.mkdir()
    (folder / "my_task.yaml").write_text(task.partition("metric_list:")[0] + scored)
    (folder / "my_scorers.py").write_text(scorers)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "{i} + 1?", "answer": "2"}}\n' for i in range(6)))
    named = ("--tasks", "my_task", "--include-path", folder, "--data", f"my_task={rows}")
    psplit("run", "--model", tiny, *named, *BARE, "--out", tmp_path / "run")
    with (tmp_path / "run" / "leaderboard.csv").open() as file:
        metrics = {row["metric"] for row in csv.DictReader(file)}
    assert {"accuracy_avg", "accuracy_pass_at_4", "accuracy_maj_at_4", "truncated"} <= metrics


def test_modes_that_are_shown_are_modes_that_are_read(tmp_path):
    from psplit_eval.modes import checkpoint_modes

    (example,) = blocks("howto/bring-a-mode.md", "## Settings of its own", "json")
    (tmp_path / "psplit_modes.json").write_text(example)
    assert checkpoint_modes(tmp_path)["high"].sampling == {"temperature": 1.0}
