"""A whole study in small: trained, killed cell by cell, evaluated, reported, gone on with."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from experiments.records import read_records, read_stopped
from experiments.study import read_study
from psplit_train.loading import read_config, write_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The committed study with three arms, few steps and few docs."""
    folder = tmp_path_factory.mktemp("study")
    study = yaml.safe_load((ROOT / "experiments" / "sums.yaml").read_text())
    chosen = {"base": 2, "GRPO": 2, "opposed": 2, "η 0.5": 1}
    study["arms"] = [
        {**arm, "seeds": chosen[arm["name"]]} for arm in study["arms"] if arm["name"] in chosen
    ]
    study["ablations"] = [{"title": "by η", "setting": "method.eta", "arms": ["opposed", "η 0.5"]}]
    study["candidates"] = ["opposed"]
    study["evaluate"] = {"steps": [1, 2], "samples": 8, "temperatures": [0.5, 2]}
    study["creative"] = {"tasks": ["psplit_words"], "samples": 2, "max_tokens": 4}
    study["start"]["model"]["context"] = 512  # of psplit_words
    study["start"]["warmup"] = {"steps": 3, "batch": 8}
    train = yaml.safe_load((ROOT / "experiments" / "sums_train.yaml").read_text())
    train["train"] |= {"steps": 2, "queries": 2, "rollouts": 4}
    train["checkpoints"]["every"] = 1
    train["data"]["held_out"] = 6
    (folder / "sums.yaml").write_text(yaml.safe_dump(study))
    (folder / "sums_train.yaml").write_text(yaml.safe_dump(train))
    return folder


def run(folder, *more):
    command = [sys.executable, "-m", "experiments", "sums.yaml", "--pages", "pages", *more]
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    environment = {**own, "HOME": os.environ["HOME"]}  # of built-in checkpoints
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_study_is_run_and_gone_on_with(small):
    part = run(small, "--arms", "base,GRPO")
    assert part.returncode == 4, part.stderr  # not all of it is there
    assert [(r.arm, r.seed) for r in read_records(small / "records" / "sums")] == [
        *(("GRPO", 0), ("GRPO", 1), ("base", 0), ("base", 1)),
    ]
    whole = run(small)
    assert whole.returncode == 0, whole.stderr
    assert "grpo" not in whole.stderr.lower(), "what is there is not trained again"
    records = read_records(small / "records" / "sums")
    assert len(records) == 7
    for record in records:
        assert [e.step for e in record.evaluations] == ([0] if record.arm == "base" else [1, 2])
        assert {split["mode"] for split in record.splits} == {"high", "high_rewritten", "low"}
        warmed = record.temperatures
        assert set(warmed) == ({"0.5", "2"} if record.arm in ("base", "GRPO") else set())
        assert {len(values["accuracy_unique"]) for values in warmed.values()} <= {6}
        words = record.creative["psplit_words"]
        assert next(iter(words["high"])) == "effective_association"
        assert {len(values) for mode in words.values() for values in mode.values()} == {24}
    page = (small / "pages" / "sums.md").read_text()
    assert "7 of 7 records" in page
    assert "of opposed | found" in page
    assert "| η 0.5 | psplit_words, high less base's |" in page
    pictures = {path.stem for path in (small / "pages" / "sums").glob("*.png")}
    assert pictures == {"arms", "by_eta", "creative", "curves", "others", "prompts", "temperatures"}


def test_logs_of_trainings_that_were_stopped_are_kept(tmp_path):
    """45 of 1 500 steps: windows of 20, and no evaluation."""
    for name in ("sums.yaml", "sums_train.yaml"):
        (tmp_path / name).write_text((ROOT / "experiments" / name).read_text())
    study = read_study(tmp_path / "sums.yaml")
    cell = next(cell for arm, cell in study.cells() if arm.name == "opposed" and cell.seed == 1)
    cells = tmp_path / "runs" / "experiments" / "sums" / "cells"
    log = cells / cell.name / "training_log.jsonl"
    rows = [
        {"step": step, "reward/high": step / 100, "entropy_bits/high": 0.5, "step_time": 2.0}
        | ({"unique/high": step} if step % 2 == 0 else {})
        | ({"eta/high": step} if step > 20 else {})
        for step in range(1, 46)
    ]
    for seed, more in ((1, "model.checkpoint=elsewhere"), (2, "method.eta=0.3")):
        place = cells / replace(cell, seed=seed).name
        place.mkdir(parents=True)
        (place / log.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        sets = [*replace(cell, seed=seed).sets, more]
        write_config(read_config(study.config, sets), place / "config.yaml")
    pair = {"arm_a": "normal", "value_a": 0.75, "arm_b": "high", "value_b": 0.5}
    told = [
        {**pair, "task": "held_out", "metric": "accuracy_avg"},
        {**pair, "task": "average of tasks", "metric": "accuracy_avg"},
    ]
    split = {
        "mode": "high",
        "verdict": "yes",
        "beyond_placebos": [{"measure": "kl", "excess": 0.2}],
    }
    for place, content in (
        ("eval-1300/comparison.json", {"comparisons": told}),
        ("splits/divergence.json", {"splits": [split]}),
    ):
        (log.parent / place).parent.mkdir()
        (log.parent / place).write_text(json.dumps(content))
    said = run(tmp_path, "--stopped")
    assert said.returncode == 0, said.stderr
    assert "opposed, seed 1: stopped at step 45" in said.stderr
    (record,) = read_stopped(tmp_path / "records" / "sums")
    assert "opposed, seed 2: not kept, as it was given method.eta: 0.3, now 0.35" in said.stderr
    assert record.log["reward/high"] == pytest.approx([0.105, 0.305])
    assert record.log["unique/high"] == pytest.approx([11, 31]), "of the same steps"
    assert record.log["eta/high"] == pytest.approx([float("nan"), 30.5], nan_ok=True)
    assert record.study == study.frame(study.arm("opposed"))
    assert (record.steps, record.seconds, record.evaluations) == (45, 90.0, [])
    means = {"normal": {"accuracy_avg": 0.75}, "high": {"accuracy_avg": 0.5}}
    assert [(each.step, each.values) for each in record.means] == [(1300, {"held_out": means})]
    assert (record.splits, record.creative) == ([split], {})
    assert read_records(tmp_path / "records" / "sums") == []
    page = (tmp_path / "pages" / "sums.md").read_text()
    assert "| opposed | 1 | 45 | high | 0.205 | 0.500 |" in page
    assert (tmp_path / "pages" / "sums" / "stopped.png").is_file()


def test_an_arm_that_is_none_is_said_in_one_line(small):
    said = run(small, "--arms", "oposed")
    assert said.returncode == 2
    assert "did you mean 'opposed'" in said.stderr
    assert "Traceback" not in said.stderr
