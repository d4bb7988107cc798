"""Cells of a sweep start from the same weights, where what they are made of is not swept."""

import json

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
