"""The benchmark of scale works at a small size, and what it claims is in the kept results."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scale.csv"


@pytest.mark.slow
def test_every_step_runs_and_nothing_is_left(tmp_path):
    command = [sys.executable, "benchmarks/scale.py", "--samples", "800", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for step in ("draw", "go on", "merge", "score", "report", "export"):
        assert f"| 800 | {step} |" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_million_samples_are_appended_evenly_and_read_in_bounded_memory():
    with RESULTS.open() as file:
        rows = {(int(r["samples"]), r["step"]): r for r in csv.DictReader(file)}
    assert 0.7 < float(rows[10**6, "draw"]["last_to_first"]) < 1.3
    for step in ("merge", "score", "report", "export"):
        assert float(rows[10**6, step]["peak_mb"]) < 1000
