"""docs/leaderboard.md says what the code does."""

import csv
import re
from pathlib import Path

import pytest
from boarding import make_run

from psplit_eval.board_pages import BOARD_COLUMNS
from psplit_eval.cli import main
from psplit_eval.published import published

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs" / "leaderboard.md").read_text()


def benchmark():
    with (ROOT / "benchmarks" / "results" / "rank_intervals.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_runs(tmp_path, monkeypatch, capsys):
    (command,) = re.findall(r"^    psplit-eval (leaderboard .*)$", DOC, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"runs/\w+", command):
        make_run(tmp_path / name, name)
    assert main(command.split()) == 0
    assert "base, normal" in capsys.readouterr().out
    assert (tmp_path / "board" / "leaderboard.html").is_file()


def test_every_column_of_the_csv_is_explained():
    table = DOC[DOC.index("## leaderboard.csv") : DOC.index("`leaderboard.json` (")]
    explained = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert sorted(explained) == sorted(BOARD_COLUMNS)


@pytest.mark.parametrize("row", benchmark(), ids=lambda row: f"{row['case']}, {row['docs']}")
def test_the_table_is_the_benchmarks_and_intervals_cover(row):
    assert f"| {' | '.join(row.values())} |" in DOC
    spread = (0.05 * 0.95 / int(row["boards"])) ** 0.5
    assert float(row["coverage"]) > 0.95 - 3 * spread


def test_the_published_averages_that_are_counted():
    assert f"all {2 * len(published())} published averages" in DOC
