"""A sweep runs every cell once, goes on where it was, and outlives cells that fail.

The cells are real processes of a stand-in for the training; see trainings.py.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import DataError, RunMismatchError, UsageError
from psplit_train.sweep import Cell, cells, read_sweep, sweep

STAND_IN = (sys.executable, str(Path(__file__).parent.parent / "trainings.py"))
GRID = {"method.eta": ["0.01", "0.1"]}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("steps: 4\n")
    return path


def swept(config, sets, seeds, jobs=2, say=None, **more):
    said = []
    out = config.parent / "sweep"
    sweep(
        config,
        sets,
        seeds,
        out,
        jobs,
        say or said.append,
        command=STAND_IN,
        **{"devices": (), **more},
    )
    return out, said


def starts(out, name):
    return list(map(json.loads, (out / "cells" / name / "starts.jsonl").read_text().splitlines()))


def test_a_grid_is_every_combination_with_every_seed():
    found = cells({"method.eta": ["0", "0.1"], "method.kappa": ["2"]}, [0, 7])
    assert [cell.name for cell in found] == [
        "eta=0,kappa=2-seed-0",
        "eta=0,kappa=2-seed-7",
        "eta=0.1,kappa=2-seed-0",
        "eta=0.1,kappa=2-seed-7",
    ]
    assert found[3].sets == ["method.eta=0.1", "method.kappa=2", "train.seed=7"]
    assert found[3].label == "eta=0.1, kappa=2"


def test_a_list_is_taken_as_it_is_and_nothing_to_set_is_the_config():
    listed = [{"method.name": "grpo"}, {"method.name": "policy_split", "method.eta": "0.1"}]
    assert [cell.label for cell in cells(listed, [0])] == [
        "name=grpo",
        "name=policy_split, eta=0.1",
    ]
    (cell,) = cells({}, [3])
    assert (cell.name, cell.label, cell.sets) == ("base-seed-3", "as given", ["train.seed=3"])


def test_names_that_end_alike_are_told_apart():
    (cell,) = cells({"train.seed_of": ["1"], "data.seed_of": ["2"]}, [0])
    assert cell.label == "train.seed_of=1, data.seed_of=2"


values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


@given(st.lists(values, min_size=1, max_size=5, unique=True))
def test_every_cell_has_a_folder_of_its_own_that_any_file_system_takes(texts):
    names = [cell.name for cell in cells({"data.file": texts}, [0, 1])]
    assert len(set(names)) == 2 * len(texts)
    assert all(len(name.encode()) <= 255 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("sets", "seeds", "said"),
    [
        (GRID, [], "seeds none: expected at least one"),
        (GRID, [1, 1], "seeds 1, 1: .* each once"),
        ({"eta": []}, [0], "--set eta: expected values"),
        ({"eta": ["1", "1"]}, [0], "'eta=1' is given twice"),
        ([], [0], "without any"),
        ({"train.seed": ["1"]}, [0], "--seeds"),
        ({"seed": ["1"]}, [0], "--seeds"),
    ],
)
def test_what_is_no_sweep_is_refused(sets, seeds, said):
    with pytest.raises(UsageError, match=said):
        cells(sets, seeds)


def test_every_cell_is_run_and_finished_ones_are_not_run_again(config):
    out, said = swept(config, GRID, [0, 1])
    found = read_sweep(out)
    assert len(found.cells) == 4
    assert all(map(found.finished, found.cells))
    assert found.exit_code == 0
    (start,) = starts(out, "eta=0.1-seed-1")
    assert start["sets"] == {"method.eta": "0.1", "train.seed": "1"}
    assert sum("done in" in line for line in said) == 4
    _, said = swept(config, {"method.eta": ["0.01", "0.1", "0.2"]}, [0, 1, 2])
    assert said[0] == "4 of 9 cells are finished already"
    assert [len(starts(out, cell.name)) for cell in read_sweep(out).cells] == [1] * 9


def test_comments_may_change_and_settings_may_not(config):
    base = config.parent / "base.yaml"
    base.write_text("seconds: 0\n")
    config.write_text("base: base.yaml\nsteps: 4\n")
    out, _ = swept(config, GRID, [0])
    config.write_text("# said again\nsteps: 4\nbase: base.yaml\n")
    swept(config, GRID, [0])
    base.write_text("seconds: 0.1\n")
    with pytest.raises(RunMismatchError, match=r"eta=0\.01-seed-0: begun with another content"):
        swept(config, GRID, [0])
    assert len(starts(out, "eta=0.01-seed-0")) == 1
    swept(config, {"method.eta": ["0.5"]}, [0])
    assert len(read_sweep(out).cells) == 3


def test_a_cell_that_fails_is_said_with_its_last_line_and_the_others_go_on(config):
    config.write_text("steps: 4\nfail: method.eta=0.01\n")
    out, said = swept(config, GRID, [0, 1], jobs=1)
    found = read_sweep(out)
    assert found.exit_code == 4
    assert found.failures == {
        f"eta=0.01-seed-{seed}": (2, "stand-in: lr 7 is too high; lower it") for seed in (0, 1)
    }
    assert [cell.label for cell in found.unfinished] == ["eta=0.01"] * 2
    (first, _) = (line for line in said if "failed" in line)
    assert "exit code 2: stand-in: lr 7 is too high; lower it (" in first
    assert "\n" not in first


def test_a_cell_that_failed_is_tried_again_once_the_cause_is_gone(config, monkeypatch):
    config.write_text("steps: 4\nfail: method.eta=0.01\n")
    swept(config, GRID, [0])
    config.write_text("steps: 4\n")
    with pytest.raises(RunMismatchError, match="delete that folder"):
        swept(config, GRID, [0])
    config.write_text("steps: 4\nfail: method.eta=0.01\n")
    out, _ = swept(config, GRID, [0])
    assert len(starts(out, "eta=0.01-seed-0")) == 2


def test_as_many_cells_run_at_a_time_as_there_are_jobs(config):
    config.write_text("steps: 4\nseconds: 0.5\n")
    out, _ = swept(config, {"method.eta": ["1", "2", "3", "4"]}, [0], jobs=2)
    spans = []
    for cell in read_sweep(out).cells:
        ended = float((out / "cells" / cell.name / "ended").read_text())
        spans.append((starts(out, cell.name)[0]["time"], ended))
    together = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert max(together) == 2


def test_gpus_are_dealt_one_a_cell(config, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config.write_text("steps: 4\nseconds: 0.3\n")
    out, _ = swept(config, {"method.eta": ["1", "2", "3", "4"]}, [0], jobs=None, devices=("3", "5"))
    told = [starts(out, cell.name)[0]["env"] for cell in read_sweep(out).cells]
    assert sorted(env["CUDA_VISIBLE_DEVICES"] for env in told) == ["3", "3", "5", "5"]
    assert {env["CUDA_VISIBLE_DEVICES"] for env in told[:2]} == {"3", "5"}
    assert all(int(env["OMP_NUM_THREADS"]) >= 1 for env in told)


def test_threads_that_the_user_set_stay(config, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    out, _ = swept(config, {}, [0])
    assert starts(out, "base-seed-0")[0]["env"] == {"OMP_NUM_THREADS": "3"}


SWEEP = """
import sys
from pathlib import Path
from psplit_train.sweep import sweep
config, out, *command = sys.argv[1:]
sets = {"method.eta": ["1", "2", "3"]}
sweep(Path(config), sets, [0], Path(out), 2, lambda text: print(text, flush=True),
      command=command, devices=())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_reaches_the_cells_and_the_sweep_goes_on_later(number, config):
    config.write_text("steps: 4\nseconds: 60\n")
    out = config.parent / "sweep"
    command = [sys.executable, "-c", SWEEP, str(config), str(out), *STAND_IN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        begun = [out / "cells" / f"eta={eta}-seed-0" / "starts.jsonl" for eta in (1, 2)]
        until(lambda: all(path.is_file() for path in begun))
        process.send_signal(number)
        said = process.stdout.read().decode()
        assert process.wait(20) != 0
    assert "stopping 2 cells" in said
    stopped = sorted(path.parent.name for path in out.glob("cells/*/stopped"))
    assert stopped == ["eta=1-seed-0", "eta=2-seed-0"]
    assert not (out / "cells" / "eta=3-seed-0").exists()
    found = read_sweep(out)
    assert found.failures == {}
    assert len(found.unfinished) == 3


def test_a_cell_that_ignores_ctrl_c_is_ended_all_the_same(config):
    config.write_text("steps: 4\nseconds: 60\nshy: method.eta=0.1\n")
    out = config.parent / "sweep"
    others = set(psutil.Process().children())  # of tests before
    pids = []

    def interrupt(text):
        if text.endswith("begun"):
            until(lambda: (out / "cells" / "eta=0.1-seed-0" / "starts.jsonl").is_file())
            pids.extend(child.pid for child in set(psutil.Process().children()) - others)
            time.sleep(0.3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(config, {"method.eta": ["0.1"]}, [0], say=interrupt, patience=0.5)
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_two_sweeps_do_not_share_a_folder(config):
    from psplit_eval.manifest import locked

    with locked(config.parent / "sweep"), pytest.raises(UsageError, match="in use by another"):
        swept(config, GRID, [0])


def test_what_cannot_be_started_or_read_is_an_error(config, tmp_path):
    with pytest.raises(UsageError, match="no-such-program"):
        sweep(config, {}, [0], tmp_path / "a", 1, print, command=["no-such-program"], devices=())
    with pytest.raises(UsageError, match="--jobs 0"):
        swept(config, {}, [0], jobs=0)
    with pytest.raises(DataError, match="give an existing YAML file"):
        swept(tmp_path / "absent.yaml", {}, [0])
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(DataError, match="not YAML"):
        swept(tmp_path / "bad.yaml", {}, [0])


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "cells": [{}]}'])
def test_a_record_of_somebody_else_is_refused_in_one_line(text, tmp_path):
    with pytest.raises(UsageError, match="no sweep"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(DataError, match="not the record of a sweep") as raised:
        read_sweep(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_cell_is_equal_by_what_it_sets():
    assert Cell({"eta": "1"}, 0) == Cell({"eta": "1"}, 0) != Cell({"eta": "1"}, 1)
