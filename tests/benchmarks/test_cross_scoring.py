"""What docs/benchmarks.md says of cross-scoring is what was measured."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
H100 = json.loads((ROOT / "benchmarks" / "results" / "cross_scoring_h100.json").read_text())
STAGES = {"quick": "quick", "large": "big"}


def rows():
    section = PAGE.split("## Cross-scoring")[1].split("\n## ")[0]
    table = section.split("| H100 |")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return [row for row in cells if row]


@pytest.mark.parametrize("row", rows(), ids=lambda row: " ".join(row[:2]))
def test_the_table_of_the_h100_is_what_was_measured(row):
    found = H100["without"][f"{STAGES[row[0]]} {row[1]}"]
    assert float(row[2]) == found["sampling_seconds"]
    assert float(row[3]) == found["modes_seconds"]
    ratio = found["modes_seconds"] / found["sampling_seconds"]
    assert int(row[4].rstrip("%")) == pytest.approx(100 * ratio, abs=0.51)
    assert float(row[5]) == pytest.approx(found["entropy_off_max"], rel=0.05)


def test_every_stage_is_in_the_table():
    assert {f"{STAGES[row[0]]} {row[1]}" for row in rows()} == set(H100["without"])


def test_what_cudnn_cost_was_measured():
    slow = H100["with cuDNN attention"]["quick bfloat16"]["sampling_seconds"]
    (said,) = re.findall(r"Sampling in bfloat16 took ([\d.]+) s before", PAGE)
    assert float(said) == slow


def test_the_tree_saves_a_quarter():
    quick = H100["without"]["quick float32"]
    assert 1 - quick["context_runs"] / (2 * quick["tokens"]) == pytest.approx(0.25, abs=0.02)
    assert "saves a quarter of the tokens" in PAGE


def test_the_cpu_took_what_is_said():
    found = json.loads((ROOT / "benchmarks" / "results" / "cross_scoring_cpu.json").read_text())
    took, drawing = found["modes_and_three_placebos_seconds"], found["sampling_cpu_seconds"]
    said = f"took {took:.0f} s, beside {drawing:.0f} processor seconds of\nsampling"
    assert said in PAGE
    assert f"{took / drawing:.1f} times as long" in PAGE
