"""A whole run at the smallest size: config, start, training, checkpoints, the published model."""

import json
import math

import pytest

from psplit_eval.errors import RunMismatchError, UsageError
from psplit_eval.manifest import locked
from psplit_eval.modes import checkpoint_modes
from psplit_train import running
from psplit_train.cards import Measured
from psplit_train.evaluate import Evaluated
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
    trained(tmp_path, controller, "method={name: policy_split, eta: 0.2, kappa: 0}")
    etas = [line["eta/high"] for line in log(tmp_path)]
    assert etas[0] == 0.2
    assert etas[1] > 0.2
    assert etas == sorted(etas)
    assert max(etas) <= 0.5


def test_bonuses_shrink_in_proportion_beyond_the_target_of_their_gap(tmp_path):
    """The gap of an untrained model is about 0, so a target of almost nothing is soon exceeded."""
    method = "{name: policy_split_stable, eta: 0.2, eta_normal: 0.1, target_gap_bits: 0.0000001}"
    trained(tmp_path, f"method={method}", "train.steps=8")
    etas = [(line["eta/high"], line["eta/normal"]) for line in log(tmp_path)]
    assert etas[0] == (0.2, -0.1)
    assert 0 < min(high for high, _ in etas) < 0.2 == max(high for high, _ in etas)
    assert [normal / high for high, normal in etas] == pytest.approx([-0.5] * len(etas))


def steps(folder):
    return sorted(int(path.name[11:]) for path in (folder / "out").glob("checkpoint-*"))


def test_a_training_that_an_alarm_ended_between_checkpoints_stays_ended(tmp_path):
    sets = ["stability.stop=true", "stability.alarms.window=3", "stability.alarms.dead_share=0"]
    final, screen = trained(tmp_path, *sets, "train.steps=8", "checkpoints.keep=5")
    assert screen.made == 3
    assert steps(tmp_path) == [2, 3]
    assert any("step 2, the earliest that is left" in line for line in screen.said)
    assert "dead: the share of groups" in (final / "README.md").read_text()
    assert sum("dead" in line for line in screen.said) == 1
    _, later = trained(tmp_path, *sets, "train.steps=8", "checkpoints.keep=5")
    assert later.made == 0
    assert steps(tmp_path) == [2, 3]


def test_an_alarm_without_any_checkpoint_before_it_leaves_a_model(tmp_path):
    sets = ["stability.stop=true", "stability.alarms.window=2", "stability.alarms.dead_share=0"]
    final, _ = trained(tmp_path, *sets, "checkpoints.every=null")
    assert (final / "model.safetensors").is_file()
    assert steps(tmp_path) == [2]


def test_whenever_an_alarm_rings_there_is_a_checkpoint_before_its_window(tmp_path):
    """After step 8 it may ring at 9 with a window of 4: the steps 6 to 9."""
    quiet = ["stability.alarms.window=4", "stability.alarms.dead_share=null"]
    trained(tmp_path, *quiet, "train.steps=8", "checkpoints.every=1", "checkpoints.keep=1")
    kept = steps(tmp_path)
    assert kept[0] in (2, 3, 4, 5)
    assert kept[-1] == 8
    assert len(kept) <= 3


def evaluation(value, asked):
    """In place of psplit-eval, which takes its time: the number that it finds at every step."""

    def evaluate(folder, settings, modes, task_folder, out, seed, say, **_):
        step = int(folder.name[11:])
        asked.append(step)
        rows = (Measured("held_out", "normal", "accuracy_avg", value, math.nan, math.nan, True),)
        return Evaluated(step, out / "evaluations" / f"step-{step}", rows)

    return evaluate


def test_an_evaluation_that_a_kill_came_before_is_made_up_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(running, "evaluate_or_say", evaluation(0.5, asked))
    sets = ["evaluate.every=2", "evaluate.samples=2"]
    trained(tmp_path, *sets)
    assert asked == [2, 4]
    assert "0.5" in (tmp_path / "out/checkpoint-2/README.md").read_text()
    asked.clear()
    trained(tmp_path, *sets, "train.steps=6")  # nothing was noted of step 4
    assert asked == [4, 6]


def test_a_metric_without_a_value_ends_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "evaluate_or_say", evaluation(math.nan, []))
    monkeypatch.setattr(
        running,
        "read_evaluations",
        lambda out: [evaluation(math.nan, [])(out / "checkpoint-2", None, (), None, out, 0, None)],
    )
    final, screen = trained(tmp_path, "evaluate.every=2", "evaluate.samples=2")
    assert final.is_dir()
    assert sum("no checkpoint is called best" in line for line in screen.said) == 1


def test_a_folder_in_use_is_refused(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(UsageError, match="in use"):
        trained(tmp_path)


def test_what_came_after_the_last_checkpoint_is_forgotten(tmp_path):
    trained(tmp_path)
    kept = tmp_path / "out/rollouts"
    (kept / "step-5.jsonl").write_text("of a run that was killed")
    with (tmp_path / "out/training_log.jsonl").open("a") as file:
        file.write('{"step": 5}\n{"step": 6, "rew\n')
    trained(tmp_path, "train.steps=6", "log.rollouts_every=0")
    assert sorted(path.name for path in kept.iterdir()) == ["step-1.jsonl", "step-3.jsonl"]
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
