"""Pages on training: commands run, configs are read, tables say what trainings write."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from pages import DOCS, PAGES, ROOT, named, section, table, training_commands

from psplit_train.cli import main
from psplit_train.loading import read_config

COMMANDS = list(dict.fromkeys(command for page in PAGES for command in training_commands(page)))
"""Of all pages, each once."""
REFERENCE = DOCS / "reference" / "training.md"
ABOUT = sorted(
    [DOCS / "training.md", *(DOCS / "howto").glob("train-*.md"), DOCS / "howto" / "sweep.md"]
)
DEMO = "psplit-train run configs/demo.yaml"


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 10
    assert DEMO in COMMANDS


SMALL = (
    *("train.steps=2", "train.queries=2", "train.rollouts=4", "train.micro_batch=null"),
    *("max_new_tokens=4", "checkpoints.every=null", "log.rollouts_every=1"),
)
"""What makes any training quick."""
SHORT_WARMUP = ("warmup.steps=2", "warmup.batch=4")
EVALUATED = ("evaluate.every=null", "evaluate.samples=2")
NOT_EVALUATED = ("evaluate=null",)


def smaller(words):
    """The command with less of everything. A dry run does not get shorter, so it stays."""
    if "--dry-run" not in words and words[0] != "tasks":
        demo = "configs/demo.yaml" in words
        evaluated = shlex.split(DEMO)[1:] == words
        sets = [*SMALL, *(SHORT_WARMUP if demo else ())]
        sets += EVALUATED if evaluated else NOT_EVALUATED
        words = [*words, *(word for one in sets for word in ("--set", one))]
    if words[0] == "sweep":
        words = [re.sub(r"^(\w+=[^,]+,[^,]+),.*", r"\1", word) for word in words]
        words += ["--seeds", "1", "--jobs", "2"]  # the last one counts
    return words


def located(words, model):
    """With a model that is there in the place of those on the hub, which are big."""
    if any(word.startswith("configs/paper/") for word in words):
        words = [*words, "--set", f"model.checkpoint={model}"]
    return words


@pytest.fixture
def workplace(tiny, tmp_path, monkeypatch):
    """What a reader has: the clone's configs, and what the how-to makes."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "path/to").mkdir(parents=True)
    shutil.copytree(tiny, tmp_path / "path/to/base")
    page = DOCS / "howto" / "train-two-modes.md"
    (config,) = re.findall(r"```yaml\n(.*?)```", section(page, "## 2. A config"), re.DOTALL)
    (tmp_path / "my_training.yaml").write_text(config)
    (row,) = re.findall(r"```json\n(.*?)\n```", section(page, "## 1. Data"), re.DOTALL)
    rows = [{**json.loads(row), "question": f"How much is {a} + 4?"} for a in range(20)]
    (tmp_path / "my_rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_runs(command, workplace, tiny):
    """Two steps of a few short responses; of a sweep two values and one seed."""
    words = smaller(located(shlex.split(command)[1:], tiny))
    assert main(words) == 0
    if command == DEMO:
        assert_the_folder_is_as_described(workplace / "runs/train/demo")


def first_names(title):
    """Every name in the first cells of the tables of a section of the reference."""
    return [name for row in table(section(REFERENCE, title)) for name in named(row[0])]


def assert_the_folder_is_as_described(out):
    known = [re.sub("N", "2", name).rstrip("/") for name in first_names("## A run's folder")]
    folders, files = known[: known.index("model.safetensors")], set(
        known[known.index("model.safetensors") :]
    )
    assert {path.name for path in out.iterdir()} == {
        Path(name).parts[0] for name in folders if name != "best"
    } - {"hidden"}
    for name in folders:
        assert name == "best" or (out / name).exists(), name
    assert {path.name for path in (out / "checkpoint-2").iterdir()} == files - {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    keys = first_names("## training_log.jsonl")
    lines = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    written = {general(key) for line in lines for key in line}
    assert written <= set(keys)
    own = {key for key in keys if key.isidentifier() is False and key in written}
    assert {"reward/MODE", "entropy_bits/MODE", "kl_bits/A_B", "bonus/MODE", "ratio/A_B"} <= own
    (rollouts,) = [row for row in table(section(REFERENCE, "## A run's folder")) if "rollouts" in row[0]]
    row = json.loads((out / "rollouts/step-1.jsonl").read_text().splitlines()[0])
    assert list(row) == named(rollouts[1])[1:]


def general(key):
    """A key of the log with MODE, A and B in the place of modes."""
    kind, _, of = key.partition("/")
    if kind in ("kl_bits", "ratio", "clipped"):
        return f"{kind}/A_B"
    return f"{kind}/MODE" if of in ("normal", "high") else key
