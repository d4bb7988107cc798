"""examples/train-eval-gate: train, evaluate, rank and gate by the very commands of its script."""

import json
import re
import shlex
import shutil
import subprocess
from itertools import pairwise

import pytest
from pages import ROOT, commands, links, training_commands

from psplit_eval.cli import main as evaluator
from psplit_eval.gate_files import GATE_FILES
from psplit_eval.gate_rules import Kind, read_rules
from psplit_train.cli import main as trainer
from psplit_train.config import RewardSettings
from psplit_train.loading import read_config

EXAMPLE = ROOT / "examples" / "train-eval-gate"
FILES = ("train.yaml", "broken.yaml", "gate.yaml", "run.sh")
PROGRAMS = {"psplit-train": trainer, "psplit-eval": evaluator}


def typed():
    """The commands of the script as words, its variable in its place."""
    text = (EXAMPLE / "run.sh").read_text()
    (asked,) = re.findall(r'^ASK="(.*)"$', text, flags=re.MULTILINE)
    lines = [shlex.split(line.replace("$ASK", asked)) for line in text.splitlines()]
    return [words for words in lines if words and words[0] in PROGRAMS]


COMMANDS = typed()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of the example, in which its commands are given."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in FILES:
        shutil.copy(EXAMPLE / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(words, sets=(), samples=None):
    """The exit code of a command, with settings on top of a training's."""
    if words[:2] == ["psplit-train", "run"]:
        words = [*words, *(word for one in sets for word in ("--set", one))]
    pairs = pairwise(["", *words])
    words = [samples if samples and before == "--samples" else word for before, word in pairs]
    return PROGRAMS[words[0]](words[1:])


def test_the_script_trains_asks_ranks_and_gates():
    assert [" ".join(words[:2]) for words in COMMANDS] == [
        *["psplit-train run"] * 2,
        *["psplit-eval run"] * 3,
        "psplit-eval leaderboard",
        *["psplit-eval gate"] * 2,
    ]
    asked = {tuple(words[4:-2]) for words in COMMANDS if words[:2] == ["psplit-eval", "run"]}
    assert len(asked) == 1  # all three the same


def test_the_page_has_the_commands_of_the_script():
    page = EXAMPLE / "README.md"
    read = {*map(tuple, map(shlex.split, training_commands(page) + commands(page)))}
    assert set(map(tuple, COMMANDS)) <= read


def test_the_page_leads_to_every_file_and_nowhere_else():
    found = [file for file, _ in links(EXAMPLE / "README.md")]
    assert set(FILES) <= set(found)
    assert all((EXAMPLE / file).exists() for file in found)


@pytest.mark.parametrize("failing", [words[-1] for words in COMMANDS])
def test_the_script_ends_with_the_code_of_the_first_command_that_fails(place, failing):
    """bash runs the script itself; what stands for the programs says which folder is written."""
    told = 'told() { echo "${@: -1}"; [ "${@: -1}" != FAILING ] || return 3; }'
    code = f'{told}; psplit-train() {{ told "$@"; }}; psplit-eval() {{ told "$@"; }}; . ./run.sh'
    bash = ["bash", "-c", code.replace("FAILING", failing), "run.sh"]
    done = subprocess.run(bash, capture_output=True, text=True, check=False)
    folders = [words[-1] for words in COMMANDS]
    assert done.stdout.split() == folders[: folders.index(failing) + 1], done.stderr
    assert done.returncode == 3


def test_one_mistake_tells_the_broken_training_from_the_good_one():
    good, broken = (read_config(EXAMPLE / name) for name in ("train.yaml", "broken.yaml"))
    assert broken.reward == RewardSettings(correct=0, format=1)
    assert broken.model_copy(update={"reward": RewardSettings()}) == good


def test_the_rules_are_read():
    rules = read_rules(EXAMPLE / "gate.yaml").rules
    assert [(rule.kind, rule.metric, rule.margin) for rule in rules] == [
        (Kind.NON_INFERIOR, "", 0.06),
        (Kind.NON_INFERIOR, "accuracy_unique", 1.0),
    ]


def test_the_commands_run(place, capsys):
    """Two steps of each training: too few to part the candidates from their start."""
    tiny = ("warmup.steps=2", "train.steps=2", "queries=2", "rollouts=4", "checkpoints.every=1")
    *before, good, broken = COMMANDS
    assert [given(words, tiny, samples="2") for words in before] == [0] * len(before)
    assert (place / "runs/board/leaderboard.html").is_file()
    assert given(COMMANDS[2], samples="2") == 0
    assert "0 samples drawn" in capsys.readouterr().out  # given again, it goes on
    assert {given(good), given(broken)} <= {1, 3}
    for name in ("gate_good", "gate_broken"):
        assert {path.name for path in (place / "runs" / name).iterdir()} == set(GATE_FILES)


@pytest.mark.slow
def test_the_gate_lets_the_good_one_pass_and_stops_the_broken_one(place):
    codes = [given(words, ["train.steps=100"]) for words in COMMANDS]
    assert codes == [0, 0, 0, 0, 0, 0, 0, 1]
    log = (place / "runs/broken/training_log.jsonl").read_text().splitlines()
    last = json.loads(log[-1])
    assert last["reward/normal"] > 0.9  # by its own reward all is well
    good, broken = (
        json.loads((place / f"runs/{name}/gate.json").read_text())
        for name in ("gate_good", "gate_broken")
    )
    assert (good["outcome"], broken["outcome"]) == ("pass", "fail")
    right = [check for check in broken["checks"] if check["rule"] == "Answers are right"]
    assert [(check["mode"], check["outcome"]) for check in right] == [
        ("normal", "fail"),
        ("high", "fail"),
    ]
    assert all(check["ci_high"] < -0.06 and check["p_against_adjusted"] < 0.05 for check in right)
    said = (place / "runs/gate_broken/gate.md").read_text()
    assert "Answers are right" in said.partition("| pass |")[0]
