"""The kept result holds what docs/benchmarks.md says of it."""

import csv
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "kills.csv"


def test_every_killed_run_equals_the_undisturbed_one():
    rows = list(csv.DictReader(RESULTS.read_text().splitlines()))
    assert len(rows) == 20
    assert {row["equal"] for row in rows} == {"True"}
    stored = {int(row["stored"]) for row in rows}
    assert (min(stored), max(stored)) == (0, 96)
    moments = [float(row["killed_at_seconds"]) for row in rows]
    assert (round(min(moments)), round(max(moments))) == (4, 31)
