"""The command line as a person meets it: exit codes, one-line errors, what a run leaves."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from psplit_eval.cli import main
from psplit_eval.leaderboard import COLUMNS
from psplit_eval.store import Store

SMALL = ["--tasks", "psplit_sums,psplit_story", "--limit", "6", "--samples", "2"]
SHORT = ["--set", "max_tokens=6"]


def evaluate(*arguments):
    return main(["run", *map(str, arguments)])


def small(model):
    """A small run of that model, which reads its own stories: SmolLM2 takes 20 seconds for it."""
    return ["--model", model, "--reference", model, *SMALL, *SHORT]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    code = evaluate(*small(tiny), "--modes", "normal,high", "--out", out)
    assert code == 0
    return out


def samples(run):
    with Store(run / "samples.sqlite") as store:
        return {
            s.key: (s.text, s.completion_ids, s.entropy_sum_bits, s.seed) for s in store.samples()
        }


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from psplit_eval.cli import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'scipy', 'numpy', 'matplotlib'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done


def test_a_run_leaves_every_promised_file(finished):
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*")}
    assert {
        "manifest.json",
        "samples.sqlite",
        "leaderboard.csv",
        "comparison.json",
        "report.md",
        "report.html",
        "plots/accuracy.png",
        "plots/accuracy.csv",
        "plots/pass_at_k.png",
        "plots/entropy.png",
        "plots/diversity.png",
    } <= names
    assert not [name for name in names if name.endswith(".partial")]


def test_the_leaderboard_has_the_columns_and_metrics_that_tools_rely_on(finished):
    with (finished / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    found = {(row["mode"], row["task"], row["metric"]) for row in rows}
    for mode in ("normal", "high"):
        assert {
            (mode, "psplit_sums", "accuracy_avg"),
            (mode, "psplit_sums", "accuracy_pass_at_2"),
            (mode, "psplit_sums", "entropy_bits"),
            (mode, "psplit_story", "div_ngram_2"),
            (mode, "psplit_story", "div_bleu_4"),
        } <= found


def test_the_comparison_names_test_family_and_correction(finished):
    content = json.loads((finished / "comparison.json").read_text())
    assert content["format"] == 1
    primary = [c for c in content["comparisons"] if c["primary"]]
    assert {c["task"] for c in primary} == {"psplit_sums", "psplit_story"}
    for entry in content["comparisons"]:
        assert entry["arm_a"] == "normal"
        assert entry["arm_b"] == "high"
        assert entry["test"].startswith(("paired t-test", "swap test"))  # few docs differ here
        assert entry["estimand"] == "docs as sample"
        assert entry["correction"] == ("Holm" if entry["primary"] else "Benjamini-Hochberg")
        assert entry["pairing"] == "by doc"


def test_the_manifest_says_what_was_run(finished, tiny):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["model"]["dtype"] == "float32"
    assert [mode["name"] for mode in manifest["modes"]] == ["normal", "high"]
    assert set(manifest["checkpoint"]["files"]) >= {"config.json", "model.safetensors"}
    assert manifest["tasks"]["psplit_sums"]["samples"] == 2
    assert manifest["tokens"] > 0


def test_hostile_model_text_stays_text(tiny, tmp_path):
    hostile = "be </pre><script>alert(1)</script> | `` odd"
    mode = f"odd={hostile}"
    assert evaluate(*small(tiny), "--mode", mode, "--limit", "2", "--out", tmp_path / "r") == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_same_command_again_draws_nothing(finished, tiny, capsys):
    before = samples(finished)
    code = evaluate(*small(tiny), "--modes", "normal,high", "--out", finished, "--json")
    result = json.loads(capsys.readouterr().out)
    assert (code, result["sampled"]) == (0, 0)
    assert samples(finished) == before


def test_a_bigger_command_extends_the_run(finished, tiny, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = samples(run)
    arguments = ["--tasks", "psplit_sums,psplit_story,psplit_reading", "--limit", "7"]
    evaluate(
        *(*small(tiny), "--modes", "normal,high,low", *arguments, "--samples", "3"),
        *("--out", run, "--json"),
    )
    after = samples(run)
    assert {key: after[key] for key in before} == before
    assert len(after) == 3 * 3 * 7 * 3
    manifest = json.loads((run / "manifest.json").read_text())
    assert [mode["name"] for mode in manifest["modes"]] == ["normal", "high", "low"]


def test_one_prompt_under_two_labels_is_sampled_independently(tiny, tmp_path, capsys):
    """An A/A run: nothing can differ but chance."""
    evaluate(
        *(*small(tiny), "--mode", "a=Be brief.", "--mode", "b=Be brief."),
        *("--out", tmp_path / "aa"),
    )
    found = samples(tmp_path / "aa")
    pairs = [(value, found["b", *key[1:]]) for key, value in found.items() if key[0] == "a"]
    assert all(a[3] != b[3] for a, b in pairs)
    assert sum(a[1] != b[1] for a, b in pairs) > len(pairs) / 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "smollm2-135n"], 2, "did you mean 'smollm2-135m'?"),
        (["--model", "TINY", "--tasks", "psplit_sum"], 2, "did you mean 'psplit_sums'?"),
        (["--model", "TINY", "--modes", "normal,hihg"], 2, "did you mean 'high'?"),
        (["--model", "TINY", "--suite", "quik"], 2, "did you mean 'quick'?"),
        (["--model", "TINY", "--samples", "0"], 2, "samples 0: expected 1 or more"),
        (["--model", "TINY", "--limit", "many"], 2, "expected N or TASK=N"),
        (["--model", "TINY", "--set", "temprature=1"], 2, "did you mean 'temperature'?"),
        (["--model", "TINY", "--set", "top_p=2"], 2, "expected a number from"),
        (["--model", "TINY", "--batch-size", "0"], 2, "--batch-size 0"),
        (["--model", "TINY", "--dtype", "int8"], 2, "--dtype 'int8'"),
        (["--model", "TINY", "--device", "cuda:99"], 2, "--device 'cuda:99'"),
        (["--model", "TINY", "--mode", "x=@/no/such/file"], 2, "/no/such/file"),
        (["--model", "TINY", "--data", "psplit_sums=/no/rows.jsonl"], 2, "/no/rows.jsonl"),
        (["--model", "TINY", "--frobnicate"], 2, "unrecognized arguments"),
        (["--model", "EMPTY"], 2, "config.json"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, code, words, tiny, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"TINY": str(tiny), "EMPTY": str(tmp_path / "empty")}
    given = [places.get(argument, argument) for argument in arguments]
    assert evaluate(*given, "--out", tmp_path / "out") == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1]
    assert not [line for line in lines if "Traceback" in line]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", "1"], "seed 0, this command has 1"),
        (["--set", "temperature=0.9"], "temperature"),
        (["--mode", "high=Another prompt."], "mode 'high' with system_prompt"),
    ],
)
def test_a_run_of_other_settings_is_refused(finished, tiny, change, words, capsys):
    before = samples(finished)
    command = [*small(tiny), "--modes", "normal,high", "--out", finished]
    assert evaluate(*command, *change) == 2
    assert words in capsys.readouterr().err
    assert samples(finished) == before


def test_a_run_of_another_checkpoint_is_refused(finished, tiny, tmp_path, capsys):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"note": 1}))
    command = [*small(tiny), "--model", other, "--modes", "normal,high", "--out", finished]
    assert evaluate(*command) == 2
    assert "checkpoint of fingerprint" in capsys.readouterr().err


def test_a_damaged_store_is_an_infrastructure_error(finished, tiny, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    store = run / "samples.sqlite"
    content = bytearray(store.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    store.write_bytes(content)
    command = [*small(tiny), "--modes", "normal,high", "--out", run]
    assert evaluate(*command) == 4
    assert "damaged" in capsys.readouterr().err.strip().splitlines()[-1]


def test_someone_elses_folder_is_left_alone(tiny, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert evaluate("--model", tiny, *SMALL, *SHORT, "--out", tmp_path) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_killed_run_that_goes_on_equals_one_that_was_never_killed(tiny, tmp_path):
    tasks = ["--tasks", "psplit_sums", "--limit", "24", "--samples", "4", "--set", "max_tokens=40"]
    command = ["--model", str(tiny), *tasks, "--batch-size", "16", "--modes", "normal,high"]
    command += ["--encoder", "none", "--no-divergence"]  # of samples, not of what is made of them
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "psplit_eval.cli", "run", *command, "--out", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    store, deadline = killed / "samples.sqlite", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if store.exists() and _stored(store) >= 32:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < _stored(store) < 192
    assert evaluate(*command, "--out", killed) == 0
    assert evaluate(*command, "--out", tmp_path / "whole") == 0
    assert samples(killed) == samples(tmp_path / "whole")


@pytest.mark.slow
def test_a_group_stands_for_its_tasks_and_is_reported_as_one(tiny, tmp_path):
    rows = [{"problem": f"{i} + 1?", "answer": str(i + 1)} for i in range(6)]
    data = []
    for name in ("psplit_aime24", "psplit_aime25"):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data += ["--data", f"{name}={file}"]
    settings = ["--samples", "2", "--samples", "psplit_aime=3", "--samples", "psplit_aime25=1"]
    command = ["--model", tiny, "--tasks", "psplit_aime", *data, *settings, *SHORT]
    assert evaluate(*command, "--out", tmp_path / "run") == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["pools"] == {"psplit_aime": ["psplit_aime24", "psplit_aime25"]}
    assert {name: task["samples"] for name, task in manifest["tasks"].items()} == {
        "psplit_aime24": 3,
        "psplit_aime25": 1,
    }
    with (tmp_path / "run" / "leaderboard.csv").open() as file:
        pooled = [row for row in csv.DictReader(file) if row["task"] == "psplit_aime"]
    assert {row["n_docs"] for row in pooled} == {"12"}
    assert {row["n_samples"] for row in pooled} == {"24"}
    more = ["--tasks", "psplit_aime,psplit_sums", "--limit", "psplit_sums=2"]
    assert evaluate(*command, *more, "--out", tmp_path / "run") == 0
    extended = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert extended["pools"] == manifest["pools"]


def test_settings_of_tasks_that_are_not_in_the_run_are_refused(tiny, tmp_path, capsys):
    for option in (["--samples", "psplit_aime=3"], ["--data", "psplit_aime24=rows.jsonl"]):
        code = evaluate("--model", tiny, "--tasks", "psplit_sums", *option, "--out", tmp_path / "r")
        assert code == 2
        assert "unknown task (of those in this run)" in capsys.readouterr().err


def test_a_mode_stands_above_the_suite_and_below_the_command(tiny, tmp_path):
    import shutil

    hot = tmp_path / "hot"
    shutil.copytree(tiny, hot)
    mode = {"name": "hot", "system_prompt": None, "role": "other", "sampling": {"temperature": 1.5}}
    (hot / "psplit_modes.json").write_text(json.dumps({"format": 1, "modes": [mode]}))
    command = ["--model", hot, "--modes", "hot", "--tasks", "psplit_sums", "--limit", "2", *SHORT]
    effective = []
    for extra in ([], ["--set", "temperature=0.2"]):
        out = tmp_path / f"run{len(effective)}"
        assert evaluate(*command, *extra, "--out", out) == 0
        task = json.loads((out / "manifest.json").read_text())["tasks"]["psplit_sums"]
        effective.append(task["sampling_by_mode"]["hot"]["temperature"])
    assert effective == [1.5, 0.2]


def test_settings_of_a_group_hold_for_its_tasks_named_before(tiny, tmp_path):
    (tmp_path / "pair.yaml").write_text("group: pair\ntask: [psplit_sums, psplit_reading]\n")
    command = ["--tasks", "psplit_sums,pair", "--include-path", tmp_path, "--samples", "1"]
    settings = ["--samples", "pair=2", "--limit", "2", *SHORT]
    assert evaluate("--model", tiny, *command, *settings, "--out", tmp_path / "run") == 0
    tasks = json.loads((tmp_path / "run" / "manifest.json").read_text())["tasks"]
    assert {name: task["samples"] for name, task in tasks.items()} == {
        "psplit_sums": 2,
        "psplit_reading": 2,
    }


def test_a_broken_task_file_is_named_where_a_task_is_missing(tiny, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("task: [oops\n")
    code = evaluate("--model", tiny, "--tasks", "mine", "--include-path", tmp_path)
    assert code == 2
    assert "bad.yaml': lm-eval cannot read it" in capsys.readouterr().err


def test_a_listing_survives_files_that_are_not_there(tmp_path, capsys):
    (tmp_path / "lost.yaml").write_text("task: lost\ndataset_kwargs: {file: nowhere.jsonl}\n")
    (tmp_path / "odd.yaml").write_text("group: odd\ntask: [{task: inside, dataset_path: x}]\n")
    assert main(["tasks", "--include-path", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["tasks"]["lost"]["rows"] is None
    assert listed["groups"]["odd"] == ["inside"]


@pytest.mark.slow
def test_many_tasks_make_no_endless_folder_name(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"psplit_sums_in_a_variant_with_a_long_name_{i}" for i in range(5)]
    text = (Path(__file__).parents[2] / "tasks" / "psplit_sums.yaml").read_text()
    shared = str(Path(__file__).parents[2] / "tasks")
    (tmp_path / "mine").mkdir()
    for name in names:
        changed = text.replace("task: psplit_sums", f"task: {name}")
        changed = changed.replace("data/psplit", f"{shared}/data/psplit")
        (tmp_path / "mine" / f"{name}.yaml").write_text(changed)
    (tmp_path / "mine" / "utils.py").write_text((Path(shared) / "utils.py").read_text())
    command = ["--tasks", ",".join(names), "--include-path", "mine", "--limit", "1", *SHORT]
    assert evaluate("--model", tiny, "--samples", "1", *command) == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert len(made.name) <= 80


def _stored(path):
    import sqlite3

    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM samples").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_tasks_lists_every_task_with_size_and_source(capsys):
    assert main(["tasks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["tasks"]["psplit_story"]["rows"] == 32
    assert listed["tasks"]["psplit_gsm8k"]["rows"] is None
    assert all(task["source"] and task["title"] for task in listed["tasks"].values())
    assert main(["tasks"]) == 0
    assert "psplit_reading" in capsys.readouterr().out
