"""A whole run at the smallest size: config, start, training, checkpoints, the published model."""

import json

import pytest

from psplit_eval.errors import RunMismatchError
from psplit_eval.modes import checkpoint_modes
from psplit_train.loading import read_config
from psplit_train.running import run

CONFIG = """
model: {tiny: {layers: 1, width: 32, heads: 2, characters: "0123456789+*"}}
data: {task: sums, instruction: "", held_out: 6}
modes: [normal, {name: high, system_prompt: "*", role: high}]
train: {steps: 4, queries: 2, rollouts: 4, max_new_tokens: 8, learning_rate: 1e-3}
warmup: {steps: 2, batch: 8}
checkpoints: {every: 2}
log: {rollouts_every: 2}
"""


class Heard:
    """A screen that keeps what is said."""

    def __init__(self):
        self.said, self.made = [], 0

    def say(self, text):
        self.said.append(text)

    def steps(self, total, done=0):
        from contextlib import nullcontext

        def watch(steps, note):
            self.made += steps

        return nullcontext(watch)


def trained(folder, *sets):
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    screen = Heard()
    final = run(read_config(path, sets), folder / "out", screen)
    return final, screen


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def log(folder):
    return lines(folder / "out/training_log.jsonl")


def test_a_run_leaves_a_model_that_knows_its_modes(tmp_path):
    final, screen = trained(tmp_path)
    assert screen.made == 4
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4]
    assert {path.name for path in (tmp_path / "out").glob("checkpoint-*")} == {
        "checkpoint-2",
        "checkpoint-4",
    }
    modes = checkpoint_modes(final)
    assert [(mode.name, mode.system_prompt) for mode in modes.values()] == [
        ("normal", None),
        ("high", "*"),
    ]
    assert {"README.md", "model.safetensors", "training_log.jsonl"} <= {
        path.name for path in final.iterdir()
    }
    kept = sorted(path.name for path in (tmp_path / "out/rollouts").iterdir())
    assert kept == ["step-1.jsonl", "step-3.jsonl"]
    rows = lines(tmp_path / "out/rollouts/step-1.jsonl")
    assert [row["mode"] for row in rows] == ["normal", "normal", "high", "high"] * 2
    assert not list((tmp_path / "out").glob(".partial*"))


def test_the_same_call_again_does_nothing_more_and_more_steps_go_on(tmp_path):
    trained(tmp_path)
    final, screen = trained(tmp_path)
    assert screen.made == 0
    final, screen = trained(tmp_path, "train.steps=6")
    assert screen.made == 2
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert lines(final / "training_log.jsonl")[-1]["step"] == 6


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(RunMismatchError, match=r"method\.eta: 0\.03, now 0\.1"):
        trained(tmp_path, "method.eta=0.1")
    with pytest.raises(RunMismatchError, match=r"train\.steps"):
        trained(tmp_path, "train.steps=6", "train.schedule=linear")


def test_an_alarm_ends_training_at_the_last_good_checkpoint(tmp_path):
    """Entropy that was 'inflated' from the start cannot be; rewards all equal are dead groups."""
    sets = ["stability.stop=true", "stability.alarms.window=2", "stability.alarms.dead_share=0"]
    final, screen = trained(tmp_path, *sets, "train.steps=8", "checkpoints.keep=5")
    assert screen.made == 2
    assert any("dead" in line for line in screen.said)
    assert lines(final / "training_log.jsonl")[-1]["step"] == 2
    again, later = trained(tmp_path, *sets, "train.steps=8", "checkpoints.keep=5")
    assert later.made == 0
    assert again == final


def test_a_controller_moves_eta_within_its_bounds(tmp_path):
    controller = "stability.controller={target_bits: 9, high: 0.5, rate: 0.1}"
    trained(tmp_path, controller, "method=policy_split_stable")
    etas = [line["eta/high"] for line in log(tmp_path)]
    assert etas[0] == 0.2
    assert etas[1] > 0.2
    assert etas == sorted(etas)
    assert max(etas) <= 0.5
