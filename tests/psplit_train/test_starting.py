"""The start of a run: one for all of its processes, and for all runs that ask for the same."""

import json
import os
import subprocess
import sys

import pytest
import torch

from psplit_eval.errors import RunMismatchError
from psplit_train.loading import read_config
from psplit_train.starting import prepare, trainer_for

CONFIG = """
model: {tiny: {layers: 1, width: 32, heads: 2, characters: "0123456789+*"}}
data: {task: sums, instruction: "", held_out: 6}
modes: [normal, {name: high, system_prompt: "*", role: high}]
train: {steps: 2, queries: 2, rollouts: 4, max_new_tokens: 8}
warmup: {steps: 2, batch: 8}
"""


def prepared(folder, *sets):
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    config = read_config(path, sets)
    return config, prepare(config, folder / "out", lambda text: None)


def test_a_common_start_is_for_the_same_data_and_weights(tmp_path):
    shared = f"warmup.folder={tmp_path / 'shared'}"
    _, first = prepared(tmp_path, shared)
    _, again = prepared(tmp_path, shared, "train.seed=1", "method=grpo")
    assert again.folder == first.folder == tmp_path / "shared/warmed"
    with pytest.raises(RunMismatchError, match="same examples"):
        prepared(tmp_path, shared, "data.held_out=7")
    with pytest.raises(RunMismatchError, match="same mixed"):
        prepared(tmp_path, shared, "model.dtype=bfloat16")


def test_a_common_start_of_another_checkpoint_is_refused(tmp_path):
    """Two folders may have the same last name."""
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        prepared(tmp_path / str(seed), f"model.tiny.seed={seed}", "warmup.steps=0")
    shared = f"warmup.folder={tmp_path / 'shared'}"
    prepared(tmp_path, shared, f"model.checkpoint={tmp_path / '0/out/start'}")
    with pytest.raises(RunMismatchError, match="same weights"):
        prepared(tmp_path, shared, f"model.checkpoint={tmp_path / '1/out/start'}")


def test_weights_are_float32_whatever_they_are_computed_in(tmp_path):
    config, start = prepared(tmp_path, "model.dtype=bfloat16", "warmup.steps=0")
    nothing = {"step_end": None, "keep_rollouts": None, "finish_checkpoint": None}
    made = trainer_for(config, tmp_path / "out", start, **nothing)
    assert {weight.dtype for weight in made.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_make_one_start_and_one_run(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    words = ["-m", "psplit_train", "run", "config.yaml", "--out", "out", "--json"]
    done = subprocess.run(
        [*launcher, "--standalone", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"out": "out", "final": "out/final"}
    assert "2 steps of 8 examples" in done.stderr
    assert (tmp_path / "out/warmed/model.safetensors").is_file()
    lines = (tmp_path / "out/training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
