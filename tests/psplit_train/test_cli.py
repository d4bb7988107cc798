"""`psplit-train`: exit codes, what is printed where, and what it costs to ask for help."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from psplit_eval import __version__
from psplit_eval.cli import main as evaluate
from psplit_train.cli import Terminal, command_parser, main

CONFIG = """
model: {tiny: {}}
data: {task: sums, instruction: ''}
modes: [normal, {name: high, system_prompt: be bold, role: high}]
train: {max_new_tokens: 32}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file in the folder that commands are given in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from psplit_train.cli import main\n"
        "try:\n"
        "    main(['run', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'trl', 'transformers', 'pydantic', 'scipy', 'numpy', 'datasets'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--dry-run" in done.stdout


def test_it_runs_as_a_module_which_launchers_start():
    done = subprocess.run(
        [sys.executable, "-m", "psplit_train", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"psplit {__version__}\n")


def test_every_command_has_help_and_an_option_for_machines():
    actions = {action.dest: action for action in command_parser()._actions}
    commands = next(a for a in actions.values() if a.choices).choices
    assert set(commands) == {"run", "sweep", "tasks"}
    for command in commands.values():
        assert "--json" in command.format_help()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: COMMAND; see psplit-train --help"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "required: CONFIG; see psplit-train run --help"),
        (["run", "none.yaml"], "config 'none.yaml': no such file; give a YAML file of settings"),
        (["run", "small.yaml", "--set", "etta=1"], "--set etta=1: unknown setting 'etta': did you"),
        (["run", "small.yaml", "--set", "steps=1"], "'steps' is in several sections"),
        (["run", "small.yaml", "--overwrite"], "--overwrite: expected with --fresh"),
        (["run", "small.yaml", "--processes", "2"], "--processes: expected with --dry-run"),
        (["run", "small.yaml", "--dry-run", "--processes", "0"], "expected 1 or more"),
        (
            ["run", "small.yaml", "--dry-run", "--processes", "7"],
            "not shared evenly by 7 processes",
        ),
        (["sweep", "small.yaml", "--set", "eta=1,1"], "expected values that differ"),
        (
            ["sweep", "small.yaml", "--set", "eta=1,x"],
            "--set method.eta=x: method.eta 'x', expected",
        ),
        (["sweep", "small.yaml", "--seeds", "0"], "--seeds 0: expected a number of seeds"),
        (["sweep", "small.yaml", "--seeds", "1,x"], "--seeds 1,x: expected a number of seeds"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(config, capsys, words, said):
    assert main(words) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("psplit-train: ")
    assert found.err.count("\n") == 1
    assert said in found.err


def test_fresh_takes_only_an_empty_place(config, capsys):
    out = config.parent / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    words = ["run", str(config), "--out", str(out), "--fresh"]
    assert main(words) == 2
    assert "is there already; give another --out, leave out --fresh" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 2
    assert "is no training run; delete it yourself" in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "kept"


def test_warnings_are_said_before_anything_is_done(config, capsys):
    words = ["run", str(config), "--set", "correctness_mask=all_same", "--fresh", "--out", "."]
    assert main(words) == 2  # there is something in this folder
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("psplit-train: note: method.correctness_mask all_same with kappa")
    assert "is there already" in said[1]


def test_the_launchers_processes_count(config, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "7")
    assert main(["run", str(config)]) == 2
    assert "not shared evenly by 7 processes" in capsys.readouterr().err


def test_only_the_first_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    other = Terminal()
    other.say("hidden")
    with other.steps(2) as watch:
        watch(2, "hidden")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    first = Terminal()
    first.say("shown")
    with first.steps(4, 1) as watch:
        watch(3, "reward 0.5")
    said = capsys.readouterr().err
    assert said.startswith("psplit-train: shown\n")
    assert "4/4 steps" in said
    assert "reward 0.5" in said


def test_ctrl_c_says_how_to_go_on(config, capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("psplit_train.loading.read_config", pressed)
    assert main(["run", str(config)]) == 130
    assert "give the same command again (without --fresh) to go on" in capsys.readouterr().err


def test_a_full_disk_is_exit_code_4(config, capsys, monkeypatch):
    from psplit_eval.errors import InfrastructureError

    def full(*_):
        raise InfrastructureError("out: no space left; free disk space")

    monkeypatch.setattr("psplit_train.loading.read_config", full)
    assert main(["run", str(config)]) == 4
    assert capsys.readouterr().err == "psplit-train: out: no space left; free disk space\n"


class TestWithTheTasks:
    """What needs the generated tasks and the data of a run."""

    def test_a_dry_run_prints_settings_and_estimates(self, config, capsys):
        words = ["run", str(config), "--dry-run", "--set", "eta=0.1"]
        assert main(words) == 0
        found = capsys.readouterr()
        assert "\n  eta: 0.1\n" in found.out
        assert "trained rows a step    128" in found.out
        assert f"folder: {Path('runs/train/small')}" in found.out
        assert "22 prompts to train on, 0 held out" in found.err
        assert not Path("runs").exists()

    def test_a_dry_run_for_machines(self, config, capsys):
        words = ["run", str(config), "--dry-run", "--json", "--processes", "4", "--sharded"]
        assert main(words) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["estimate"]["processes"] == 4
        assert content["settings"]["train"]["queries"] == 8
        assert content["notes"] == []
        memory = content["estimate"]["memory"]
        assert memory["weights"] == content["estimate"]["shape"]["parameters"]  # 4 bytes, 4 parts

    def test_a_dry_run_says_when_a_run_is_there(self, config, capsys):
        out = config.parent / "begun"
        out.mkdir()
        (out / "config.yaml").write_text(CONFIG)
        assert main(["run", str(config), "--dry-run", "--out", str(out)]) == 0
        assert f"folder: {out} (begun already: it is gone on with)" in capsys.readouterr().out

    def test_tasks_are_listed_with_right_answers(self, capsys):
        assert main(["tasks"]) == 0
        assert "sums: " in capsys.readouterr().out
        assert main(["tasks", "--json"]) == 0
        tasks = json.loads(capsys.readouterr().out)["tasks"]
        for example in tasks["sums"]["examples"]:
            for right in example["right"]:
                assert sum(map(int, right.split("+"))) == int(example["question"])


def test_a_run_is_begun_gone_on_with_and_begun_afresh(config, capsys):
    config.write_text(
        "model: {tiny: {layers: 1, width: 16, heads: 2, characters: 0123456789+*}}\n"
        "data: {task: sums, instruction: '', held_out: 4}\n"
        "modes: [normal, {name: high, system_prompt: '*', role: high}]\n"
        "train: {steps: 1, queries: 2, rollouts: 4, max_new_tokens: 6}\n"
    )
    words = ["run", str(config), "--out", "out", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"out": "out", "final": "out/final"}
    assert main(words[:-1]) == 0
    _, _, command = capsys.readouterr().out.partition("evaluate it: psplit-eval ")
    small = ["--limit", "2", "--samples", "2", "--no-divergence", "--out", "asked"]
    assert evaluate([*shlex.split(command), *small]) == 0
    assert "held_out" in Path("asked/leaderboard.csv").read_text()
    weights = Path("out/final/model.safetensors")
    first = weights.read_bytes()
    assert main(words) == 0  # nothing is left to do
    assert weights.read_bytes() == first
    assert main([*words, "--set", "eta=0.1"]) == 2
    assert "0.1" in capsys.readouterr().err  # the setting that differs
    assert main([*words, "--fresh"]) == 2
    assert weights.read_bytes() == first
    Path("out/mine.txt").write_text("gone")
    assert main([*words, "--fresh", "--overwrite", "--set", "tiny.seed=5"]) == 0
    assert weights.read_bytes() != first
    assert not Path("out/mine.txt").exists()
