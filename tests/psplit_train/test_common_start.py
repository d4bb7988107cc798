"""Cells of a sweep start from the same weights, where what they are made of is not swept."""

import json
from pathlib import Path

import pytest

from psplit_train.cli import main

CONFIG = """
model: {tiny: {layers: 1, width: 16, heads: 2, characters: "0123456789+*"}}
data: {task: sums, instruction: ""}
modes: [normal, {name: high, system_prompt: "*", role: high}]
train: {steps: 1, queries: 2, rollouts: 4, max_new_tokens: 6}
warmup: {steps: 2, batch: 8}
"""


@pytest.mark.parametrize(
    ("swept", "folders"),
    [
        ("eta=0.1,0.2", {"sweep/start"}),
        pytest.param("warmup.batch=4,8", {"sweep/cells/batch=4-seed-0"}, marks=pytest.mark.slow),
    ],
)
def test_a_warm_up_is_done_once_for_all_cells(tmp_path, monkeypatch, capsys, swept, folders):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    words = ["sweep", "config.yaml", "--set", swept, "--seeds", "1", "--out", "sweep", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["out"] == "sweep"
    made = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("warmed")}
    assert folders <= made
    assert len(made) == (1 if folders == {"sweep/start"} else 2)


@pytest.mark.slow
def test_what_all_cells_set_alike_is_told_once(tmp_path, monkeypatch, capsys):
    """It is in no name, and a cell that was begun with another value is refused."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "config.yaml", "--set", "eta=0.1,0.2", "--seeds", "1", "--out", "sweep"]
    assert main([*command, "--set", "train.epsilon=0.3"]) == 0
    names = sorted(path.name for path in Path("sweep/cells").iterdir())
    assert names == ["eta=0.1-seed-0", "eta=0.2-seed-0"]
    assert all("epsilon: 0.3" in Path("sweep/cells", n, "config.yaml").read_text() for n in names)
    assert "In all cells: train.epsilon=0.3." in capsys.readouterr().out
    assert "In all cells: train.epsilon=0.3." in Path("sweep/sweep.md").read_text()
    assert main([*command, "--set", "train.epsilon=0.2"]) == 2
    assert "begun with another content" in capsys.readouterr().err
