"""Every command in the README works, and its numbers are those of the committed figures."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from psplit_eval.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (psplit-eval .*?)(?:  +#.*)?$", README, flags=re.MULTILINE)


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, tiny, tmp_path, monkeypatch):
    """On the tiny model, with fewer docs and shorter responses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_prompt.txt").write_text("Be bold.")
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n")
    models = {"path/to/checkpoint", "owner/name", "CKPT", "smollm2-135m"}
    words = [str(tiny) if word in models else word for word in shlex.split(command)[1:]]
    small = ["--limit", "2", "--set", "max_tokens=8"] if words[0] == "run" else []
    assert main([*words, *small]) == 0


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_numbers_in_the_readme_are_those_of_the_committed_run():
    with (ROOT / "figures" / "quick" / "leaderboard.csv").open() as file:
        rows = {(r["task"], r["metric"], r["mode"]): r for r in csv.DictReader(file)}
    lines = re.findall(r"^\| `(psplit_\w+)` \| `(\w+)` \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert lines
    for task, metric, *cells in lines:
        for mode, cell in zip(("normal", "high"), cells, strict=True):
            row = rows[task, metric, mode]
            scale = 100 if row["unit"] == "fraction" else 1
            shown = [float(x) for x in re.findall(r"-?\d+\.\d+", cell)]
            wanted = [float(row[name]) * scale for name in ("value", "ci_low", "ci_high")]
            assert shown == pytest.approx(wanted, abs=0.051 if scale == 100 else 0.0051)
