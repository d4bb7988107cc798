"""Pages on training: commands run, configs are read, tables say what trainings write."""

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import get_args

import pytest
from pages import DOCS, PAGES, ROOT, named, section, table, training_commands

from psplit_train.cli import main
from psplit_train.config import METHODS, AlarmSettings, MethodSettings
from psplit_train.loading import read_config
from psplit_train.sharing import split_of

COMMANDS = list(dict.fromkeys(command for page in PAGES for command in training_commands(page)))
"""Of all pages, each once."""
GUIDE, HOWTO = DOCS / "training.md", DOCS / "howto" / "train-two-modes.md"
REFERENCE = DOCS / "reference" / "training.md"
DEMO = "psplit-train run configs/demo.yaml"
OF_ADAPTERS = {"adapter_model.safetensors", "adapter_config.json"}


def blocks(page, kind, title=None):
    """The blocks of code of a kind in a page, or in one of its sections."""
    text = section(page, title) if title else page.read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 10
    assert DEMO in COMMANDS


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    """What a reader has: the clone's configs, and what the how-to makes."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(tiny, folder / "path/to/base")
    (config,) = blocks(HOWTO, "yaml", "## 2. A config")
    (folder / "my_training.yaml").write_text(config)
    (example,) = blocks(HOWTO, "json", "## 1. Data")
    rows = [{**json.loads(example), "question": f"How much is {a} + 4?"} for a in range(20)]
    (folder / "my_rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    solved = [{"question": f"{a} + 4 = ?", "answer": f"Add.\n#### {a + 4}"} for a in range(20)]
    (folder / "gsm8k").mkdir()  # as the data set's rows are
    with gzip.open(folder / "gsm8k" / "train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in solved)
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A copy of them, in which commands are given."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.chdir(shutil.copytree(files, tmp_path / "here"))
    return tmp_path / "here"


SMALL = (
    *("train.steps=2", "train.queries=2", "train.rollouts=4", "train.micro_batch=null"),
    *("max_new_tokens=4", "checkpoints.every=1", "log.rollouts_every=1"),
)
"""What makes any training quick."""
SHORT_WARMUP = ("warmup.steps=2", "warmup.batch=4")
EVALUATED = ("evaluate.every=null", "evaluate.samples=2", "evaluate.limit=4")
NOT_EVALUATED = ("evaluate=null",)


def smaller(words):
    """The command with less of everything, of a sweep two values and a seed. Dry runs, which are
    no shorter for it, and `tasks` stay as they are."""
    if "--dry-run" in words or words[0] == "tasks":
        return words
    demo, evaluated = "configs/demo.yaml" in words, words == shlex.split(DEMO)[1:]
    sets = [*SMALL, *(SHORT_WARMUP if demo else ())]
    sets += EVALUATED if evaluated else NOT_EVALUATED
    if words[0] == "sweep":
        words = [re.sub(r"^(\w+=[^,]+,[^,]+),.*", r"\1", word) for word in words]
        words = [*words, "--seeds", "1", "--jobs", "2"]  # of two the last one counts
    return [*words, *(word for one in sets for word in ("--set", one))]


def located(words, model):
    """With a model and rows that are there in the place of those of the hub."""
    if "configs/smollm2_gsm8k.yaml" in words:
        return [*words, "--set", f"model.checkpoint={model}", "--set", "train.max_new_tokens=64"]
    if not any(word.startswith("configs/paper/") for word in words):
        return words
    sets = (
        *(f"model.checkpoint={model}", "data.file=my_rows.jsonl", "data.answer_field=answer"),
        *("train.queries=16", "train.max_new_tokens=64"),  # of what these have room for
    )
    return [*words, *(word for one in sets for word in ("--set", one))]


def tried(command):
    """A sweep trains several models."""
    slow = command.startswith("psplit-train sweep")
    return pytest.param(command, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("command", [tried(one) for one in COMMANDS if one != DEMO])
def test_a_command_of_the_pages_runs(command, here, tiny):
    """Two steps of a few short responses, in place of what a page's command would take."""
    assert main(smaller(located(shlex.split(command)[1:], tiny))) == 0


@pytest.fixture(scope="module")
def demo(files, tmp_path_factory):
    """The folder of the demo, two steps long, evaluated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WORLD_SIZE", raising=False)
        patch.chdir(shutil.copytree(files, tmp_path_factory.mktemp("demo") / "here"))
        assert main(smaller(shlex.split(DEMO)[1:])) == 0
        return Path("runs/train/demo").absolute()


def tables(title):
    """Of each table in a section of the reference: name in a first cell → its row."""
    parts = section(REFERENCE, title).split("\n\n")
    found = [table(part) for part in parts if part.lstrip().startswith("|")]
    return [{name: row for row in rows for name in named(row[0])} for rows in found]


def test_the_folder_has_what_the_reference_says(demo):
    folder, _ = tables("## A run's folder")
    names = {re.sub(r"(step|checkpoint)-N", r"\1-2", name) for name in folder}
    names -= {"best/"}  # it is there where the last one is not the best
    here = {path.name for path in demo.iterdir()} - {"checkpoint-1"}
    assert {Path(name).parts[0] for name in names} == here
    assert all((demo / name).exists() for name in names), names


def test_checkpoints_have_the_files_that_the_reference_says(demo):
    _, checkpoint = tables("## A run's folder")
    files = set(checkpoint) - OF_ADAPTERS
    assert {path.name for path in (demo / "checkpoint-2").iterdir()} == files
    only_to_go_on = {*named(checkpoint["optimizer.pt"][0]), "psplit_state.json"}
    assert {path.name for path in (demo / "final").iterdir()} == files - only_to_go_on


def test_files_have_the_fields_that_the_reference_says(demo):
    folder, checkpoint = tables("## A run's folder")
    rollout = json.loads((demo / "rollouts/step-1.jsonl").read_text().splitlines()[0])
    assert [*rollout] == named(folder["rollouts/step-N.jsonl"][1])[1:]
    head = (demo / "evaluations/evaluations.csv").read_text().splitlines()[0]
    assert head.split(",") == named(folder["evaluations/evaluations.csv"][1])
    warmup = json.loads((demo / "warmed/warmup_log.jsonl").read_text().splitlines()[0])
    assert [*warmup] == named(folder["warmed/"][1])[3:]
    state = json.loads((demo / "checkpoint-2/psplit_state.json").read_text())
    assert [*state] == named(checkpoint["psplit_state.json"][1])


def test_the_log_has_the_keys_that_the_reference_says(demo):
    own, of_trl = map(set, tables("## training_log.jsonl"))
    lines = [json.loads(line) for line in (demo / "training_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    written = {general(key) for line in lines for key in line}
    elsewhere = {key for key in of_trl if key == "kl" or key.startswith("sampling/")}
    assert written == own | of_trl - elsewhere  # of beta above 0, and of vLLM


def general(key):
    """A key of the log with MODE, A and B in the place of modes."""
    kind, _, of = key.partition("/")
    if kind in ("kl_bits", "ratio", "clipped"):
        return f"{kind}/A_B"
    return f"{kind}/MODE" if of in ("normal", "high") else key


@pytest.mark.parametrize("number", range(len(blocks(GUIDE, "yaml"))))
def test_settings_in_the_guide_are_read(here, number):
    """What a section shows stands on top of the demo's settings."""
    text = blocks(GUIDE, "yaml")[number]
    (here / "shown.yaml").write_text(f"base: configs/demo.yaml\n{text}")
    config = read_config(here / "shown.yaml")
    if "modes:" in text:
        split = split_of(config.trained_modes, config.method)
        found = dict(zip(split.names, zip(split.etas, split.references, strict=True), strict=True))
        assert found in (
            {"normal": (-0.2, 0), "high": (0.55, 0), "neutral": (-0.2, 0)},
            {"normal": (-0.25, 0), "high": (0.35, 0), "low": (-0.1, 0), "bold": (0.35, 1)},
        )


def test_methods_in_the_guide_are_all_there_are():
    rows = table(section(GUIDE, "## Choosing a method"))
    found = [named(row[0])[0] for row in rows if named(row[0]) and named(row[0])[0] in METHODS]
    assert found == list(METHODS)


def test_the_presets_have_the_values_that_the_guide_says():
    text = section(GUIDE, "## Choosing a method")
    published, stable = MethodSettings(), MethodSettings.model_validate("policy_split_stable")
    assert f"η {published.eta:g}, α {published.alpha:g}, κ {published.kappa:g}" in text
    assert f"κ {stable.kappa:g}, η {stable.eta:g}, α {stable.alpha:g}" in text
    assert f"η₂ {stable.eta_normal:g}" in text
    assert stable.truncated_weights == 1
    of_paper, of_code = table(section(GUIDE, "### Where η stands"))
    assert f"{100 * published.eta / published.kappa:g} %" in of_paper[-1]
    assert f"{100 / published.kappa:g} %" in of_code[-1]
    assert "default" in of_code[0]
    assert published.clip_form == named(of_code[0])[0]


def test_every_way_to_share_stands_in_the_guide():
    modes = read_config(ROOT / "configs/demo.yaml").modes
    rows = {named(row[0])[0]: row for row in table(section(GUIDE, "### Sharing"))}
    assert set(rows) == set(get_args(MethodSettings.model_fields["sharing"].annotation))
    for way, (_, normal, high, trained) in rows.items():
        takes = split_of(modes, MethodSettings(sharing=way)).takes
        assert [sum(row) == 2 for row in takes] == [normal == "both", high == "both"], way
        assert sum(map(sum, takes)) / 2 == float(trained.split()[0]), way


def test_alarms_have_the_limits_that_the_guide_says():
    text = section(GUIDE, "## Monitor and controller")
    rows = {row[0]: row[1] for row in table(text)}
    alarms = AlarmSettings()
    assert f"({alarms.window} steps)" in text
    assert f"{alarms.entropy_factor:g} times" in rows["inflation"]
    assert "half of" in rows["collapse"]
    assert alarms.collapse_share == 0.5
    assert f"{alarms.kl_bits:g} bits" in rows["runaway"]
    assert f"{100 * alarms.dead_share:g} %" in rows["dead"]


def test_the_template_that_the_guide_makes_takes_a_system_message(here):
    from transformers import AutoTokenizer

    folder = here / "path/to/base"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    (code,) = blocks(GUIDE, "python", "### Templates without a system role")
    made = {}
    exec(compile(code, GUIDE.name, "exec"), made)
    said = [{"role": "system", "content": "Be bold."}, {"role": "user", "content": "7?"}]
    text = tokenizer.apply_chat_template(said, chat_template=made["template"], tokenize=False)
    assert text == ("<|im_start|>system\nBe bold.<|im_end|>\n<|im_start|>user\n7?<|im_end|>\n")
