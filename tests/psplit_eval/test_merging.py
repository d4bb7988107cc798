"""Shards that are joined equal the run that was never split; what is no whole is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from psplit_eval.cli import main
from psplit_eval.manifest import locked
from psplit_eval.merging import merge_shards
from psplit_eval.store import Store

COUNT = 3
SMALL = ["--tasks", "psplit_sums,psplit_story", "--limit", "6", "--samples", "4"]
SMALL += ["--reference", "none"]  # which would read every sample of every run
SMALL += ["--no-divergence"]  # shards are joined without a model
# responses may be long, so that groups are small, but end early
SHORT = ["--set", "max_tokens=800", "--set", 'until=["e", "a", "o"]', "--batch-size", "4"]
OWN = ("command", "created_at", "wall_seconds", "cpu_seconds", "shards")
"""What a merged manifest has of its own."""


def evaluate(model, out, *more):
    words = ["--model", model, "--modes", "normal,high", *SMALL, *SHORT, *more, "--out", out]
    return main(["run", *map(str, words)])


def merge(*words):
    return main(["merge", *map(str, words)])


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert evaluate(tiny, out) == 0
    return out


@pytest.fixture(scope="module")
def shards(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    made = [folder / f"shard-{index}" for index in range(1, COUNT + 1)]
    for index, out in enumerate(made, 1):
        assert evaluate(tiny, out, "--shard", f"{index}/{COUNT}") == 0
    return made


@pytest.fixture(scope="module")
def merged(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "run"
    assert merge(*reversed(shards), "--out", out) == 0
    return out


@pytest.fixture
def copies(shards, tmp_path):
    """Shards that a test may spoil."""
    return [shutil.copytree(shard, tmp_path / shard.name) for shard in shards]


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


class Near(dict):
    """Numbers by key; of embeddings and surprisals the last bits depend on what was read together.

    NaN equals NaN.
    """

    __hash__ = None

    def __eq__(self, other):
        near = pytest.approx(list(other.values()), rel=1e-3, abs=1e-4, nan_ok=True)
        return self.keys() == other.keys() and list(self.values()) == near


def content(run):
    with Store(run / "samples.sqlite") as store:
        samples = [replace(s, seconds=0, created_at="") for s in store.samples()]
        numbers = Near({replace(m, value=0): m.value for m in store.metrics()})
        return samples, list(store.docs()), list(store.prompts()), numbers


def refused(capsys, *words, code=2):
    """The one line that a merge ends with."""
    capsys.readouterr()
    assert merge(*words) == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_merged_shards_equal_the_run_that_was_not_split(whole, merged, shards):
    assert content(merged) == content(whole)
    for name in ("leaderboard.csv", "comparison.json"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes()
    before, after = manifest(whole), manifest(merged)
    assert {k: v for k, v in after.items() if k not in OWN} == {
        k: v for k, v in before.items() if k not in OWN
    }
    assert [shard["index"] for shard in after["shards"]] == [1, 2, 3]
    assert sum(shard["tokens"] for shard in after["shards"]) == after["tokens"]
    assert sum(len(content(shard)[0]) for shard in shards) == len(content(whole)[0])


def test_a_shard_has_its_own_docs_and_prompts_only(whole, shards):
    for shard in shards:
        samples, docs, prompts, metrics = content(shard)
        assert {(d.task, d.doc_id) for d in docs} == {(s.task, s.doc_id) for s in samples}
        assert {(p.prompt_hash, p.mode) for p in prompts} == {
            (s.prompt_hash, s.mode) for s in samples
        }
        assert not metrics
        assert not (shard / "report.html").exists()


@pytest.mark.slow
def test_the_unsplit_command_goes_on_with_a_merged_run(merged, tiny, tmp_path, capsys):
    run = shutil.copytree(merged, tmp_path / "run")
    capsys.readouterr()
    assert evaluate(tiny, run, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sampled"] == 0
    assert len(manifest(run)["shards"]) == COUNT
    assert evaluate(tiny, run, "--samples", "5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sampled"] == 2 * 2 * 6


def test_a_shard_says_how_much_it_drew_and_what_joins_all(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, "model")
    words = ["run", "--model", "model", "--modes", "normal,high", *SMALL, *SHORT]
    assert main([*words, "--shard", "2/3"]) == 0
    out = capsys.readouterr().out
    name = "runs/model-psplit_sums-psplit_story"
    assert f"in {name}-shard-2-of-3" in out
    command = f"psplit-eval merge {name}-shard-*-of-3 --out {name}"
    assert command in out
    assert "report.html" not in out
    for index in (1, 3):
        assert main([*words, "--shard", f"{index}/3"]) == 0
    folders = sorted(map(str, tmp_path.glob(f"{name}-shard-*-of-3")))
    assert merge(*folders, "--out", name) == 0


def test_a_merged_run_is_measured_by_what_its_shards_were_to_be(tiny, tmp_path):
    part, out = tmp_path / "part", tmp_path / "run"
    assert evaluate(tiny, part, "--shard", "1/1", "--encoder", "none", "--reference", tiny) == 0
    assert merge(part, "--out", out) == 0
    asked = {"encoder": "none", "reference": str(tiny), "word_vectors": ""}
    assert manifest(out)["yardsticks"] == asked


@pytest.mark.slow
def test_more_shards_than_work_groups_are_fine(tiny, whole, tmp_path, capsys):
    parts = [tmp_path / str(index) for index in range(1, 21)]
    for index, out in enumerate(parts, 1):
        assert evaluate(tiny, out, "--shard", f"{index}/20") == 0
    assert "fewer work groups than shards" in capsys.readouterr().err
    assert merge(*parts, "--out", tmp_path / "run") == 0
    assert content(tmp_path / "run") == content(whole)


def test_failed_samples_stay_failed(copies, tmp_path):
    with Store(copies[0] / "samples.sqlite") as store:
        key = next(store.samples()).key
        store._db.execute(
            "UPDATE samples SET text = NULL, error = 'gone' WHERE (mode, task, doc_id, sample_idx) "
            "= (?, ?, ?, ?)",
            key,
        )
    assert merge(*copies, "--out", tmp_path / "run") == 0
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        assert [s.key for s in store.samples() if s.error] == [key]


@pytest.mark.parametrize("command", ["score", "report", "compare"])
def test_a_shard_is_not_scored_or_compared(shards, capsys, command):
    capsys.readouterr()
    words = [shards[0], shards[1]] if command == "compare" else [shards[0]]
    assert main([command, *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "shard 1/3" in line
    assert "psplit-eval merge" in line


def test_runs_and_export_know_shards(shards, tmp_path, capsys):
    capsys.readouterr()
    assert main(["runs", "list", str(shards[0].parent)]) == 0
    assert "(shard 1/3)" in capsys.readouterr().out
    assert main(["runs", "list", str(shards[0].parent), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert sorted(run["shard"] for run in runs) == ["1/3", "2/3", "3/3"]
    assert {run["missing"] for run in runs} == {0}
    assert main(["runs", "describe", str(shards[1])]) == 0
    assert "2/3 of a run; psplit-eval merge joins all shards" in capsys.readouterr().out
    out = tmp_path / "samples.jsonl"
    assert main(["export", str(shards[0]), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == len(content(shards[0])[0])


def test_a_missing_shard_is_named_and_can_be_left_out(shards, tiny, whole, tmp_path, capsys):
    out = tmp_path / "run"
    line = refused(capsys, shards[1], "--out", out)
    assert "shard 1/3, 3/3: missing" in line
    assert not out.exists()
    assert merge(shards[0], shards[2], "--out", out, "--allow-missing", "--json") == 0
    wanted = {name: task["asked"] for name, task in manifest(whole)["tasks"].items()}
    assert {name: task["asked"] for name, task in manifest(out)["tasks"].items()} == wanted
    assert evaluate(tiny, out) == 0
    assert content(out) == content(whole)


def test_an_unfinished_shard_is_named_with_the_command_that_goes_on(copies, tmp_path, capsys):
    with Store(copies[1] / "samples.sqlite") as store:
        stored = len(list(store.samples()))
        store._db.execute("DELETE FROM samples WHERE rowid = 1")
    out = tmp_path / "run"
    line = refused(capsys, *copies, "--out", out)
    assert f"(shard 2/3): {stored - 1} of {stored} samples are drawn" in line
    assert "--shard 2/3" in line
    assert not (out / "manifest.json").exists()
    assert merge(*copies, "--out", out, "--allow-missing") == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seed", "1"], "seed"),
        (["--set", "psplit_sums.temperature=0.5"], "temperature"),
        (["--samples", "psplit_sums=3"], "--samples"),
        (["--limit", "5"], "--limit"),
        (["--batch-size", "30"], "--batch-size"),
        (["--modes", "normal,low"], "--modes"),
        (["--shard", "2/4"], "other splits"),
    ],
)
def test_shards_of_different_commands_are_refused(shards, tiny, tmp_path, capsys, change, said):
    odd = tmp_path / "odd"
    assert evaluate(tiny, odd, "--shard", "2/3", *change) == 0
    assert said in refused(capsys, shards[0], odd, shards[2], "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shards_of_another_checkpoint_are_refused(shards, tiny, tmp_path, capsys):
    model = shutil.copytree(tiny, tmp_path / "other")
    config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(config | {"note": "other"}))
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    odd = tmp_path / "odd"
    assert evaluate(model, odd, "--shard", "2/3") == 0
    line = refused(capsys, shards[0], odd, shards[2], "--out", tmp_path / "run")
    assert "checkpoint of fingerprint" in line


def test_what_is_no_set_of_shards_is_refused(shards, whole, copies, tmp_path, capsys):
    out = tmp_path / "run"
    assert "one shard twice" in refused(capsys, *shards, shards[0], "--out", out)
    assert "one shard twice" in refused(capsys, *shards, copies[1], "--out", out)
    assert "a whole run, expected a shard" in refused(capsys, *shards, whole, "--out", out)
    assert "no run" in refused(capsys, *shards, tmp_path / "nothing", "--out", out)
    assert "a run already" in refused(capsys, *shards, "--out", whole)
    assert "a run already" in refused(capsys, *shards, "--out", shards[0])
    shutil.copy(shards[0] / "samples.sqlite", copies[1] / "samples.sqlite")
    line = refused(capsys, copies[0], copies[1], copies[2], "--out", out, "--allow-missing")
    assert "that its own run wrote" in line
    assert not (out / "samples.sqlite").exists()
    with locked(copies[2]):
        assert "in use" in refused(capsys, shards[0], shards[1], copies[2], "--out", out)
    (copies[0] / "samples.sqlite").write_bytes(b"no store" * 999)
    assert "damaged" in refused(capsys, *copies, "--out", out, code=4)


def test_a_shard_folder_takes_one_shard_of_one_plan(copies, whole, tiny, capsys):
    capsys.readouterr()
    for words in (["--shard", "2/3"], ["--shard", "1/2"], [], ["--shard", "1/3", "--limit", "7"]):
        assert evaluate(tiny, copies[0], *words) == 2
        (line,) = (x for x in capsys.readouterr().err.splitlines() if "loading" not in x)
        assert "shard" in line
        assert "give another --out" in line
    assert evaluate(tiny, whole, "--shard", "1/3") == 2
    assert evaluate(tiny, copies[0], "--shard", "1/3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sampled"] == 0


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "-1/3", "1/0", "1/3/4", ""])
def test_a_shard_that_is_none_is_a_usage_error(tiny, tmp_path, capsys, text):
    assert evaluate(tiny, tmp_path / "run", f"--shard={text}") == 2
    assert "expected I/N" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_shard_goes_on_and_a_killed_merge_is_repeated(shards, tiny, whole, tmp_path):
    """Killed for real: the shard while it draws, the merge while it copies."""
    copied = shutil.copytree(shards[2], tmp_path / "three")
    shutil.rmtree(copied)
    words = ["--model", tiny, "--modes", "normal,high", *SMALL, *SHORT, "--out", copied]
    kill(["run", *map(str, words), "--shard", "3/3"], lambda: (copied / "manifest.json").exists())
    assert evaluate(tiny, copied, "--shard", "3/3") == 0
    out = tmp_path / "run"
    kill(
        ["merge", *map(str, [*shards[:2], copied]), "--out", str(out)],
        lambda: any(out.glob(".samples.sqlite.partial*")),
    )
    assert merge(*shards[:2], copied, "--out", tmp_path / "again") == 0
    if not (out / "samples.sqlite").exists():
        assert merge(*shards[:2], copied, "--out", out) == 0
    assert content(tmp_path / "again") == content(whole)


def kill(words, ready):
    process = subprocess.Popen(
        [sys.executable, "-m", "psplit_eval.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not ready():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_merge_that_is_interrupted_leaves_no_run(shards, tmp_path, monkeypatch):
    out = tmp_path / "run"
    absorb = Store.absorb

    def interrupt(store, path):
        if path.parent == shards[1]:
            raise KeyboardInterrupt
        absorb(store, path)

    monkeypatch.setattr(Store, "absorb", interrupt)
    with pytest.raises(KeyboardInterrupt):
        merge_shards(shards, out)
    assert [path.name for path in out.iterdir()] == [".lock"]
    monkeypatch.undo()
    assert merge_shards(shards, out).results
