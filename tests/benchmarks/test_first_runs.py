"""What the pages say of single trainings stands in the committed tables."""

import csv
import re
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def rows(name):
    with (RESULTS / name).open() as file:
        return list(csv.DictReader(file))


def test_smollm2_took_this_long():
    page = (ROOT / "docs" / "training_cost.md").read_text()
    step, drawn = re.search(r"(\d+) s a step,\s+of which (\d+) s draw responses", page).groups()
    steps = rows("smollm2_training.csv")
    assert [int(row["step"]) for row in steps] == list(range(1, 21))
    assert round(fmean(float(row["step_time"]) for row in steps)) == int(step)
    assert round(fmean(float(row["seconds/rollouts"]) for row in steps)) == int(drawn)
    assert all(float(row[f"reward/{mode}"]) == 0 for row in steps for mode in ("normal", "high"))


def test_the_curves_of_the_page_are_those_of_the_table():
    page = (ROOT / "docs" / "stability.md").read_text()
    section = page.split("## Measured with this trainer")[1].split("\n## ")[0]
    known = {(row["run"], row["last_step"]): row for row in rows("first_runs.csv")}
    shown = re.findall(r"^\| (\w+) \| \d+–(\d+) \| (.+) \|$", section, re.MULTILINE)
    assert len(shown) >= 4
    pairs = ("reward", "entropy_bits", "unique")
    for run, last, cells in shown:
        row = known[run, last]
        expected = [f"{row[f'{name}/normal']} / {row[f'{name}/high']}" for name in pairs]
        kl = f"{row['kl_bits/normal_high']} / {row['kl_bits/high_normal']}"
        assert cells.split(" | ") == [*expected, kl]
