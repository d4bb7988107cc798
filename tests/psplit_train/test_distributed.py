"""Two processes train as one does on the same responses."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_processes import CASES, QUICK, train

WORKER = Path(__file__).parent.parent / "two_processes.py"
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """The folder of a case's results; cases that are quick are launched together, and so are the
    others."""
    done = {}

    def folder(name):
        names = [case for case in CASES if (case in QUICK) == (name in QUICK)]
        if name not in done:
            out = tmp_path_factory.mktemp("launched")
            launched_together(WORKER, out, *names)
            done.update(dict.fromkeys(names, out))
        return done[name] / name

    return folder


def launched_together(*command):
    """Two processes of a command of Python's, to their end."""
    paths = [str(WORKER.parent.parent), str(WORKER.parent), os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        [*LAUNCHER, *map(str, command)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-4000:]


def unordered(given):
    """What the loss was given, whichever process and micro-batch it was given in."""
    return sorted(given, key=lambda pair: pair[0])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_two_processes_train_as_one(launched, tmp_path, name):
    first, second = (
        torch.load(launched(name) / f"rank-{rank}.pt", weights_only=False) for rank in range(2)
    )
    alone = train(name, tmp_path)
    assert torch.equal(first["weights"], second["weights"])
    assert first["rewards"] == second["rewards"] == alone["rewards"]
    expected, found = unordered(alone["given"]), unordered(first["given"] + second["given"])
    assert [key for key, _ in found] == [key for key, _ in expected]
    assert sum(weight != 0 for _, row in expected for weight in row) > 20
    for (_, one), (_, other) in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    torch.testing.assert_close(first["weights"], alone["weights"], rtol=0, atol=2e-6)
    assert (alone["weights"] - alone["before"]).abs().max() > 1e-3
    for one, other in zip(first["log"], alone["log"], strict=True):
        same_log(one, other, whole="parts" not in CASES[name])


def same_log(found, expected, whole):
    """All that is logged; TRL's `entropy` is a mean of micro-batches' means."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name.startswith("seconds/") or name == "step_time" or (name == "entropy" and not whole):
            continue
        if value is None or math.isnan(value):
            assert found[name] is None or math.isnan(found[name]), name
        else:
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


RUN = {
    "model": {"tiny": {"layers": 1, "width": 32, "heads": 2, "characters": "0123456789+*"}},
    "data": {"task": "sums", "instruction": ""},
    "modes": ["normal", {"name": "high", "system_prompt": "*", "role": "high"}],
    "method": "policy_split_stable",
    "train": {"steps": 4, "queries": 3, "rollouts": 4, "max_new_tokens": 6, "learning_rate": 1e-3},
    "checkpoints": {"every": 2, "keep": 3},
    "log": {"rollouts_every": 1},
}


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_exactly(tmp_path):
    """From the checkpoint of step 2, each process with its own random numbers."""
    config, whole, broken = (tmp_path / name for name in ("run.json", "whole", "broken"))
    config.write_text(json.dumps(RUN))
    launched_together("-m", "psplit_train", "run", config, "--out", whole)
    shutil.copytree(whole, broken)
    for name in ("checkpoint-4", "final"):
        shutil.rmtree(broken / name)
    launched_together("-m", "psplit_train", "run", config, "--out", broken)
    first, end = (
        (folder / "model.safetensors").read_bytes() for folder in (whole / "start", whole / "final")
    )
    assert (broken / "final" / "model.safetensors").read_bytes() == end != first
    for one, other in zip(*(logged(out) for out in (whole, broken)), strict=True):
        same_log(one, other, whole=True)
    assert [line["step"] for line in logged(broken)] == [1, 2, 3, 4]
    for rows in (whole / "rollouts").iterdir():  # 3 queries of 4, over both processes
        assert len(rows.read_text().splitlines()) == 12


def logged(out):
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
