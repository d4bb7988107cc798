"""A training run that was cut off ends as one that was not, bit for bit."""

import json
import math
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from training_cases import trainer, weights

from psplit_eval.errors import UsageError
from psplit_train.checks import check_config
from psplit_train.config import Config

STRONG = {"eta": 0.5, "kappa": 0.0}
CLIP_COV = {"name": "clip_cov", "covariance_low": 0.0, "covariance_share": 0.2}


def run(folder, start=None, every=3, steps=6, **case):
    """Train with checkpoints in `folder`; returns what came of it, and every kept rollout."""
    kept = []
    made = trainer(
        folder,
        steps=steps,
        save_strategy="steps",
        save_steps=every,
        keep_rollouts=lambda step, rows: kept.append((step, rows)),
        **case,
    )
    if start:
        torch.manual_seed(99)  # what was before must not matter
    made.train(resume_from_checkpoint=str(start) if start else None)
    return made, kept


def logged(made):
    """Metrics of each step but for times."""
    return [
        {
            name: "NaN" if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
            if not name.startswith("seconds/") and name != "step_time"
        }
        for row in made.state.log_history
        if "loss" in row
    ]


@pytest.mark.parametrize(
    ("case", "at"),
    [
        ({"method": STRONG}, 3),
        pytest.param({"method": STRONG, "count": 3}, 3, marks=pytest.mark.slow),
        ({"method": STRONG, "count": 3}, 4),
        ({"method": STRONG, "iterations": 2, "parts": 2, "count": 3}, 4),
        ({"method": CLIP_COV, "parts": 2}, 3),
        pytest.param({"method": CLIP_COV, "parts": 2, "iterations": 2}, 2, marks=pytest.mark.slow),
    ],
    ids=["plain", "in_an_epoch", "at_its_end", "reused", "random_method", "random_reused"],
)
def test_going_on_from_a_checkpoint_changes_nothing(tmp_path, case, at):
    """`count` 3 are nine prompts, so that an epoch has two batches of four."""
    whole, kept = run(tmp_path / "whole", every=at, **case)
    place = tmp_path / "whole" / f"checkpoint-{at}"
    resumed, kept_then = run(tmp_path / "resumed", start=place, every=at, **case)
    assert torch.equal(weights(whole), weights(resumed))
    for one, other in zip(
        whole.optimizer.state.values(), resumed.optimizer.state.values(), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert logged(resumed) == logged(whole)
    assert kept_then == [pair for pair in kept if pair[0] > at]
    assert kept_then
    assert not torch.equal(weights(whole), torch.cat([p.flatten() for p in saved(place)]))


def saved(folder):
    from transformers import LlamaForCausalLM

    return list(LlamaForCausalLM.from_pretrained(folder).parameters())


def test_every_epoch_has_an_order_of_its_own(tmp_path):
    """And it is TRL's."""
    from trl import GRPOTrainer

    made = trainer(tmp_path, count=4)
    ours, theirs = made._get_train_sampler(), GRPOTrainer._get_train_sampler(made)
    orders = []
    for epoch in range(3):
        made.state.epoch = float(epoch)
        orders.append(list(ours))
        assert orders[-1] == list(theirs)
    assert orders[0] != orders[1] != orders[2]
    made.state.epoch = 1.5
    assert list(ours) == orders[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"iterations": 2, "save_steps": 3},
            r"save_steps 3 .*: expected a multiple of 2, the",
        ),
        ({"parts": 2, "steps_per_generation": 6, "save_steps": 2}, "expected a multiple of 3, the"),
    ],
)
def test_checkpoints_amid_the_use_of_responses_are_refused(tmp_path, settings, words):
    with pytest.raises(UsageError, match=words):
        trainer(tmp_path, {}, steps=12, save_strategy="steps", **settings)


def test_checkpoints_between_lines_of_the_log_are_refused():
    content = {
        "model": {"tiny": {}},
        "data": {"task": "sums"},
        "checkpoints": {"every": 4},
        "log": {"every": 3},
    }
    with pytest.raises(UsageError, match=r"every 4: expected a multiple of log.every 3.*make it 6"):
        check_config(Config.model_validate(content))


RUN = {
    "model": {"tiny": {"layers": 1, "width": 32, "heads": 2, "characters": "0123456789+*"}},
    "data": {"task": "sums", "instruction": "", "held_out": 2},
    "modes": ["normal", {"name": "high", "system_prompt": "*", "role": "high"}],
    "method": {"name": "policy_split_stable", "rarity": True, "target_gap_bits": 1e-7},
    "train": {"steps": 12, "queries": 2, "rollouts": 4, "max_new_tokens": 6, "learning_rate": 1e-3},
    "stability": {"alarms": {"window": 2, "dead_share": 0.1, "kl_bits": 0.001}},
    "checkpoints": {"every": 4, "keep": 3},
    "log": {"rollouts_every": 3},
}


class Quiet:
    """A screen; `at` is called with every step that is told."""

    def __init__(self, at=lambda step: None):
        self.at, self.step = at, 0

    def say(self, text):
        pass

    @contextmanager
    def steps(self, total, done=0):
        self.step = done
        yield self.advance

    def advance(self, steps, note):
        self.step += steps
        self.at(self.step)


@pytest.mark.parametrize("iterations", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_killed_run_ends_as_one_that_was_left_alone(tmp_path, iterations):
    """kill -9 during step 7, after the checkpoint of step 4, with another one half written."""
    from psplit_train.running import run as run_config

    content = {**RUN, "train": {**RUN["train"], "iterations": iterations}}
    config = Config.model_validate(content)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_config(config, whole, Quiet())
    killed_in_step(7, content, broken)
    assert lines(broken / "training_log.jsonl")[-1]["step"] == 6
    (broken / ".partial-checkpoint-8" / "checkpoint-8").mkdir(parents=True)
    (broken / ".partial-checkpoint-8" / "checkpoint-8" / "optimizer.pt").write_bytes(b"half")
    with (broken / "training_log.jsonl").open("a") as log:
        log.write('{"step": 7, "los')
    run_config(config, broken, Quiet())
    assert not list(broken.glob(".partial*"))
    assert lines(broken / "training_log.jsonl") == lines(whole / "training_log.jsonl")
    assert [line["step"] for line in lines(broken / "training_log.jsonl")] == list(range(1, 13))
    assert len({line["eta/high"] for line in lines(whole / "training_log.jsonl")}) > 6, "steered"
    for name in ("model.safetensors", "psplit_modes.json", "README.md"):
        assert (broken / "final" / name).read_bytes() == (whole / "final" / name).read_bytes(), name
    for found in (state_of, rollouts_of):
        assert found(broken) == found(whole)
    assert state_of(whole)["alarms"], "no alarm was given: the test saw no monitor"
    assert sorted(p.name for p in broken.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_a_run_that_ended_amid_the_use_of_responses_is_not_made_longer(tmp_path):
    from psplit_train.running import run as run_config

    def of(steps):
        train = {**RUN["train"], "iterations": 2, "steps": steps}
        return Config.model_validate({**RUN, "train": train, "checkpoints": {}})

    run_config(of(3), tmp_path, Quiet())
    with pytest.raises(UsageError, match=r"train\.steps 4: the run ended with step 3"):
        run_config(of(4), tmp_path, Quiet())


def state_of(out):
    return json.loads((out / "checkpoint-12" / "psplit_state.json").read_text())


def rollouts_of(out):
    return {path.name: path.read_text() for path in (out / "rollouts").iterdir()}


def lines(log):
    """What was logged, but for times."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    timed = ("seconds/", "step_time")
    return [{n: v for n, v in line.items() if not n.startswith(timed)} for line in found]


def killed_in_step(step, content, out):
    """A run in a process of its own that stands still in this step until it is killed."""
    code = (
        "import json, sys, time\nfrom pathlib import Path\nimport torch\n"
        "from test_resuming import Quiet\n"
        "from psplit_train.config import Config\nfrom psplit_train.running import run\n"
        "torch.set_num_threads(1)\n"
        "def at(step):\n"
        f"    if step == {step}:\n"
        "        print('here', flush=True)\n"
        "        time.sleep(600)\n"
        "run(Config.model_validate(json.loads(sys.argv[1])), Path(sys.argv[2]), Quiet(at))\n"
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), str(here.parent.parent), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(content), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
        process.wait()
