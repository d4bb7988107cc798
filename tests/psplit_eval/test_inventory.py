"""Runs are listed, described and deleted as they are, whatever state a kill left them in."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import judgeable
import pytest

from psplit_eval.cli import main
from psplit_eval.inventory import prune_runs
from psplit_eval.manifest import locked
from psplit_eval.schema import MIGRATIONS
from psplit_eval.store import Sample, Store


def sample(mode, idx, *, error=None, finish="stop", tokens=5):
    good = error is None
    return Sample(
        mode, "sums", 0, idx, "d", "r", "p", 7, 1, "42" if good else None, None,
        (1,) if good else None, finish if good else None, 3, tokens if good else None, 1.0, 2.0,
        error, 0.1, "2026-01-01T00:00:00Z",
    )  # fmt: skip


def manifest(age_days=1.0, **changes):
    created = datetime.now(UTC) - timedelta(days=age_days)
    return {
        "format": 1,
        "psplit_version": "0.1.0",
        "created_at": created.isoformat(timespec="seconds"),
        "command": ["psplit-eval", "run", "--model", "owner/name"],
        "checkpoint": {"name": "owner/name", "fingerprint": "abcdef0123456789", "path": "/m"},
        "model": {"backend": "hf", "dtype": "float32", "device": "cpu", "parameters": 12345},
        "modes": [
            {"name": "normal", "system_prompt": None, "role": "normal", "sampling": {}},
            {"name": "high", "system_prompt": "Be bold.\nBe odd.", "role": "high", "sampling": {}},
        ],
        "tasks": {
            "sums": {
                "docs": 1,
                "docs_in_all": 64,
                "samples": 3,
                "sampling": {"temperature": 0.6, "top_k": 0, "max_tokens": 48},
            }
        },
        "wall_seconds": 12.5,
        "cpu_seconds": 20.0,
        "tokens": 25,
        "libraries": {"torch": "2.13.0", "trl": None},
        **changes,
    }


GOOD = (sample("normal", 0), sample("normal", 1, finish="length"), sample("high", 0))


def make_run(folder: Path, samples=GOOD, content=None) -> Path:
    folder.mkdir(parents=True)
    with Store(folder / "samples.sqlite") as store:
        store.add_samples(samples)
    (folder / ".lock").touch()
    text = json.dumps(manifest() if content is None else content)
    (folder / "manifest.json").write_text(text)
    return folder


def listed(capsys, *arguments):
    assert main(["runs", *map(str, arguments), "--json"]) == 0
    return {Path(run["run"]).name: run for run in json.loads(capsys.readouterr().out)["runs"]}


def damage(store: Path):
    content = bytearray(store.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    store.write_bytes(content)


def test_a_run_is_listed_with_what_is_there_and_what_is_missing(tmp_path, capsys):
    make_run(tmp_path / "deep" / "a", [*GOOD, sample("high", 1, error="server gone")])
    run = listed(capsys, "list", tmp_path)["a"]
    assert (run["samples"], run["missing"], run["failed"]) == (3, 3, 1)
    assert (run["model"], run["modes"], run["tasks"]) == (
        "owner/name",
        ["normal", "high"],
        ["sums"],
    )
    files = [path for path in (tmp_path / "deep" / "a").rglob("*") if path.is_file()]
    assert run["size_bytes"] == sum(path.stat().st_size for path in files)
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert "3 (1 failed)" in capsys.readouterr().out


def test_the_newest_run_comes_first(tmp_path, capsys):
    for name, age in (("old", 9), ("new", 1), ("older", 30)):
        make_run(tmp_path / name, content=manifest(age))
    assert list(listed(capsys, "list", tmp_path)) == ["new", "old", "older"]


def test_broken_runs_are_listed_with_the_reason(tmp_path, capsys):
    make_run(tmp_path / "fine")
    make_run(tmp_path / "manifest").joinpath("manifest.json").write_text("{")
    make_run(tmp_path / "form", content={"format": 1, "modes": 3, "tasks": {}})
    make_run(tmp_path / "format", content=manifest() | {"format": 2})
    damage(make_run(tmp_path / "damaged") / "samples.sqlite")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with sqlite3.connect(foreign / "samples.sqlite") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "samples.sqlite").touch()
    runs = listed(capsys, "list", tmp_path)
    reasons = {name: run["problem"] for name, run in runs.items()}
    assert next(iter(reasons)) == "fine"
    assert reasons.pop("fine") is None
    for name, words in {
        "manifest": "no manifest of format 1",
        "form": "not of the form",
        "format": "format 2",
        "damaged": "damaged",
        "foreign": "not a psplit store",
        "killed": "killed before its first sample",
    }.items():
        assert words in reasons.pop(name)
    assert not reasons
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert "broken:" in capsys.readouterr().out


def test_looking_changes_nothing_and_does_not_migrate(tmp_path, capsys):
    run = tmp_path / "old"
    run.mkdir()
    with sqlite3.connect(run / "samples.sqlite") as db:
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        db.execute(
            "INSERT INTO samples VALUES ('normal', 'sums', 0, 0, 'd', 'r', 'p', 1, 1, 't', NULL, "
            "NULL, 'stop', 3, 5, 1.0, 1.0, NULL, 0.1, 'now')"
        )
    db.close()
    (run / "manifest.json").write_text(json.dumps(manifest()))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert listed(capsys, "list", tmp_path)["old"]["samples"] == 1
    assert main(["runs", "describe", str(run)]) == 0
    assert main(["runs", "prune", str(tmp_path), "--older-than", "0"]) == 0
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_store_killed_in_the_middle_of_a_write_says_how_to_put_it_right(tmp_path, capsys):
    run = make_run(tmp_path / "torn", [sample("normal", i) for i in range(200)])
    code = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 1'); db.execute('BEGIN')\n"
        'db.execute("UPDATE samples SET text = hex(zeroblob(9000))")\n'
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, run / "samples.sqlite"], check=False)
    assert (run / "samples.sqlite-journal").is_file()
    assert "killed in the middle of a write" in listed(capsys, "list", tmp_path)["torn"]["problem"]
    assert main(["runs", "prune", str(tmp_path), "--older-than", "0", "--yes"]) == 0
    assert run.is_dir()
    with Store(run / "samples.sqlite"):
        pass
    capsys.readouterr()
    assert listed(capsys, "list", tmp_path)["torn"]["samples"] == 200


def test_hidden_folders_and_the_insides_of_runs_are_not_searched(tmp_path, capsys):
    make_run(tmp_path / "a")
    make_run(tmp_path / "a" / "inner")
    make_run(tmp_path / ".cache" / "b")
    assert list(listed(capsys, "list", tmp_path)) == ["a"]


@pytest.mark.parametrize("action", ["list", "prune"])
def test_a_root_that_is_no_folder_is_refused(action, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["runs", action]) == 2
    assert "'runs': no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_root_says_so(tmp_path, capsys):
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"


def test_a_description_has_what_made_the_run_and_how_far_it_got(tmp_path, capsys):
    run = make_run(tmp_path / "a", [*GOOD, sample("high", 1, error="gone")])
    assert main(["runs", "describe", str(run)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "abcdef012345\n", "hf, float32, cpu, 12,345 parameters", "--model owner/name",
        "12 s wall, 20 s CPU", "25 drawn", '"Be bold. Be odd."', "(no system message)", "1 of 64",
        "temperature 0.6, max_tokens 48", "torch 2.13.0",
    ):  # fmt: skip
        assert words in shown
    assert "top_k" not in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("sums ")]
    assert ["sums", "normal", "2", "1", "0", "1", "10"] in rows
    assert ["sums", "high", "1", "2", "1", "0", "5"] in rows
    assert main(["runs", "describe", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checkpoint"]["fingerprint"] == "abcdef0123456789"
    assert [(c["mode"], c["missing"]) for c in found["cells"]] == [("normal", 1), ("high", 2)]


def test_a_run_with_nothing_but_names_is_described(tmp_path, capsys):
    """What an import knows: no checkpoint files, precision, lengths or times."""
    modes = [{"name": "normal"}]
    bare = {"format": 1, "modes": modes, "tasks": {"sums": {}}, "model": {"backend": "lm-eval"}}
    run = make_run(tmp_path / "a", [sample("normal", 0, finish=None, tokens=None)], bare)
    assert main(["runs", "describe", str(run)]) == 0
    assert "backend     lm-eval\n" in capsys.readouterr().out
    entry = listed(capsys, "list", tmp_path)["a"]
    assert (entry["samples"], entry["missing"], entry["created_at"]) == (1, 0, None)
    assert main(["runs", "list", str(tmp_path)]) == 0


def test_scored_answers_are_missing_by_docs(tmp_path, capsys):
    scored = [sample("normal", i, finish="scored") for i in range(4)]
    tasks = {"sums": {"docs": 3, "samples": 1, "sampling": {}}}
    content = manifest() | {"tasks": tasks, "modes": manifest()["modes"][:1]}
    make_run(tmp_path / "a", scored, content)
    assert listed(capsys, "list", tmp_path)["a"]["missing"] == 2


def test_control_characters_do_not_reach_the_terminal(tmp_path, capsys):
    evil = "\x1b[2Jgone"
    modes = [{"name": "m", "system_prompt": evil, "sampling": {}}]
    checkpoint = {"name": evil, "path": evil}
    make_run(tmp_path / "a", content=manifest() | {"modes": modes, "checkpoint": checkpoint})
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert main(["runs", "describe", str(tmp_path / "a")]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (lambda run: shutil.rmtree(run), 2, "no run"),
        (lambda run: (run / "manifest.json").write_text("[]"), 2, "no manifest of format 1"),
        (lambda run: damage(run / "samples.sqlite"), 4, "damaged"),
    ],
)
def test_a_run_that_cannot_be_described_is_one_line(tmp_path, capsys, break_it, code, words):
    run = make_run(tmp_path / "a")
    break_it(run)
    assert main(["runs", "describe", str(run)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "--out" not in line


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def mixed(tmp_path):
    """Every kind of folder; returns the root."""
    make_run(tmp_path / "fine")
    make_run(tmp_path / "old", content=manifest(40))
    make_run(tmp_path / "failed", [sample("normal", 0, error="gone")])
    make_run(tmp_path / "empty", [])
    make_run(tmp_path / "notes", []).joinpath("notes.txt").write_text("mine")
    (make_run(tmp_path / "plots", []) / "plots").mkdir()
    gallery = Path(__file__).parents[2] / "figures"
    for drawn in (*gallery.glob("quick/*.[ps][nv]g"), *gallery.glob("judges/*")):
        (tmp_path / "plots" / "plots" / drawn.name).touch()
    (make_run(tmp_path / "own-plot", []) / "plots").mkdir()
    (tmp_path / "own-plot" / "plots" / "mine.png").touch()
    (make_run(tmp_path / "linked", []) / "report.md").symlink_to(
        tmp_path / "fine" / "manifest.json"
    )
    (make_run(tmp_path / "torn", []) / "manifest.json").write_text("{")
    damage(make_run(tmp_path / "damaged", content=manifest(400)) / "samples.sqlite")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".lock").touch()
    with Store(tmp_path / "killed" / "samples.sqlite"):
        pass
    (tmp_path / "no-lock").mkdir()
    (tmp_path / "no-lock" / "samples.sqlite").touch()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "manifest.json").write_text("{}")
    return tmp_path


def test_without_yes_nothing_is_deleted(mixed, capsys):
    before = sorted(mixed.rglob("*"))
    assert main(["runs", "prune", str(mixed), "--older-than", "30"]) == 0
    shown = capsys.readouterr().out
    assert "5 runs" in shown
    assert "add --yes" in shown
    assert sorted(mixed.rglob("*")) == before


def test_with_yes_empty_runs_go_and_all_else_stays(mixed, capsys):
    due = {"failed", "empty", "plots", "killed"}
    everything = set(names(mixed))
    runs = listed(capsys, "prune", mixed, "--yes")
    assert {name for name, run in runs.items() if run["outcome"] == "deleted"} == due
    assert set(names(mixed)) == everything - due
    kept = {name: run["obstacle"] for name, run in runs.items() if run["outcome"] == "kept"}
    assert kept == {
        "notes": "holds other files: notes.txt",
        "own-plot": "holds other files: plots/mine.png",
        "linked": "holds other files: report.md",
    }
    assert names(mixed / "fine") == [".lock", "manifest.json", "samples.sqlite"]


def test_older_than_takes_old_runs_too_and_says_what_is_freed(mixed, capsys):
    assert main(["runs", "prune", str(mixed), "--older-than", "30", "--yes"]) == 0
    assert "40 days old" in capsys.readouterr().out
    assert not (mixed / "old").exists()
    assert (mixed / "fine").exists()
    assert (mixed / "damaged").exists()
    assert main(["runs", "prune", str(mixed), "--older-than", "0.5", "--yes"]) == 0
    assert "1 run deleted" in capsys.readouterr().out
    assert not (mixed / "fine").exists()


@pytest.mark.parametrize("given", ["-1", "nan", "soon", "inf"])
def test_an_age_that_is_no_number_of_days_is_refused(mixed, given, capsys):
    assert main(["runs", "prune", str(mixed), f"--older-than={given}", "--yes"]) == 2
    assert given in capsys.readouterr().err
    assert (mixed / "empty").exists()


@pytest.mark.parametrize("flags", [[], ["--yes"]])
def test_a_run_in_use_is_left_alone(tmp_path, capsys, flags):
    run = make_run(tmp_path / "a", [])
    with locked(run):
        pruned = listed(capsys, "prune", tmp_path, *flags)
    assert (pruned["a"]["outcome"], pruned["a"]["obstacle"]) == ("kept", "in use by another psplit")
    assert names(run) == [".lock", "manifest.json", "samples.sqlite"]


def test_a_run_that_got_a_sample_meanwhile_is_left_alone(tmp_path, monkeypatch):
    """Between the look at it and its lock."""
    run = make_run(tmp_path / "a", [])

    @contextmanager
    def late(folder):
        with Store(folder / "samples.sqlite") as store:
            store.add_samples(GOOD)
        with locked(folder):
            yield

    monkeypatch.setattr("psplit_eval.inventory.locked", late)
    (pruned,) = prune_runs(tmp_path, delete=True)
    assert (pruned.outcome, run.is_dir()) == ("kept", True)


def test_where_deleting_fails_the_others_still_go(tmp_path, capsys, monkeypatch):
    make_run(tmp_path / "a", [])
    make_run(tmp_path / "b", [])
    unlink = Path.unlink

    def full(path, *arguments, **named):
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied")
        unlink(path, *arguments, **named)

    monkeypatch.setattr(Path, "unlink", full)
    assert main(["runs", "prune", str(tmp_path), "--yes"]) == 4
    shown = capsys.readouterr().out
    assert "NOT deleted" in shown
    assert "1 run deleted" in shown
    assert names(tmp_path) == ["a"]


def test_all_that_a_real_run_leaves_is_known_and_can_go(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    tasks = ["--tasks", "psplit_sums,psplit_story", "--limit", "2", "--samples", "2"]
    tasks += ["--reference", "none"]
    short = ["--set", "max_tokens=4", "--out", str(out)]
    assert main(["run", "--model", str(tiny), "--modes", "normal,high", *tasks, *short]) == 0
    capsys.readouterr()
    assert listed(capsys, "list", tmp_path)["run"]["samples"] == 16
    assert main(["runs", "describe", str(out)]) == 0
    assert main(["runs", "prune", str(tmp_path), "--older-than", "0", "--yes"]) == 0
    assert not out.exists()


def test_a_run_that_was_viewed_can_go(tmp_path, capsys):
    from psplit_eval.browsing import StoredSamples

    run = judgeable.make_run(tmp_path / "a")
    viewed = StoredSamples(run)
    while viewed.prepare("words", patience=30):
        pass
    viewed.close()
    (run / ".view" / "words.1.1.new").touch()
    assert main(["runs", "prune", str(tmp_path), "--older-than", "0", "--yes"]) == 0
    assert not run.exists()
    run = judgeable.make_run(tmp_path / "b")
    (run / ".view").mkdir()
    (run / ".view" / "notes.txt").touch()
    capsys.readouterr()
    assert main(["runs", "prune", str(tmp_path), "--older-than", "0", "--yes"]) == 0
    assert (run / ".view" / "notes.txt").exists()
    assert "notes.txt" in capsys.readouterr().out


def test_looking_at_runs_imports_nothing_heavy(tmp_path):
    run = make_run(tmp_path / "a")
    code = (
        "import sys; from psplit_eval.cli import main\n"
        "main(['runs', 'list', sys.argv[1]]); main(['runs', 'describe', sys.argv[2]])\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'numpy', 'pyarrow', 'shtab'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")
