"""`psplit-eval gate`: exit codes, files, and what a user sees of mistakes."""

import json
import re

import pytest
from gated import ALIKE, BETTER, ODD, WORSE, made, rules

from psplit_eval.cli import main
from psplit_eval.gate_files import GATE_FILES

RULE = "{kind: non-inferior, task: t, mode: normal, margin: 0.05}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    of = {"before": None, "alike": ALIKE, "worse": WORSE, "better": BETTER, "odd": ODD}
    made(folder, "warm", ALIKE, sampling={"temperature": 1.5})
    made(folder, "holes", ALIKE, failed=[(0, 0), (9, 1), (20, 2)])
    for name, each in of.items():
        made(folder, name, each)
    return folder


@pytest.fixture
def gate(runs, tmp_path, capsys):
    """Exit code, and what was printed to either stream."""

    def call(candidate, *options, lines=(RULE,), **fields):
        file = rules(tmp_path, *lines, **fields)
        words = ["--baseline", runs / "before", "--candidate", runs / candidate, "--rules", file]
        capsys.readouterr()
        code = main(["gate", *map(str, [*words, *options])])
        return code, capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("candidate", "policy", "code"),
    [
        ("alike", "report", 0),
        ("better", "report", 0),
        ("worse", "report", 1),
        ("odd", "report", 3),
        ("odd", "pass", 0),
        ("odd", "fail", 1),
        ("worse", "pass", 1),
        ("alike", "fail", 0),
    ],
)
def test_exit_codes(gate, candidate, policy, code):
    found, said = gate(candidate, inconclusive=policy)
    assert found == code
    assert said.err == ""
    outcome = {"worse": "Fail", "odd": "Inconclusive"}.get(candidate, "Pass")
    assert said.out.splitlines()[-1].startswith(f"{outcome}: ")


def test_files_are_written_and_json_is_printed(gate, tmp_path):
    code, said = gate("worse", "--out", tmp_path / "out", "--json")
    assert code == 1
    assert json.loads(said.out) == json.loads((tmp_path / "out" / "gate.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(GATE_FILES)
    assert gate("alike", "--out", tmp_path / "out")[0] == 0
    assert json.loads((tmp_path / "out" / "gate.json").read_text())["outcome"] == "pass"


def refused(found, pattern):
    code, said = found
    assert (code, said.out) == (2, "")
    assert said.err.startswith("psplit-eval: ")
    assert said.err.count("\n") == 1
    assert re.search(pattern, said.err), said.err


def test_mistakes_are_one_line_and_exit_code_2(gate, tmp_path):
    refused(gate("alike", lines=("{kind: best}",)), r"gate.yaml, line 3: kind 'best', expected one")
    refused(gate("none"), r"none")
    refused(gate("before"), r"the baseline's own folder")
    refused(gate("warm"), r"temperature: 0\.6 in '.*before' but 1\.5 in '.*warm'; if that is meant")
    refused(gate("alike", "--allow-different", "prompt"), r"unknown difference 'prompt': did you")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    refused(gate("alike", "--out", tmp_path / "full"), r"holds other files \(notes.txt\)")
    assert not (tmp_path / "full" / "gate.json").exists()


def test_nothing_is_written_where_a_gate_is_refused(gate, tmp_path):
    refused(gate("warm", "--out", tmp_path / "out"), "temperature")
    assert not (tmp_path / "out").exists()


def test_what_is_meant_can_be_allowed(gate):
    assert gate("warm", "--allow-different", "sampling")[0] == 0
    assert gate("holes")[0] == 3
    assert gate("holes", "--allow-missing")[0] == 0


def test_a_rules_file_that_is_not_there(runs, capsys):
    words = ["--baseline", str(runs / "before"), "--candidate", str(runs / "alike")]
    assert main(["gate", *words, "--rules", "nowhere.yaml"]) == 2
    assert "no such file; give a YAML file of rules" in capsys.readouterr().err


def test_options_that_are_needed_are_said(capsys):
    assert main(["gate", "--baseline", "a"]) == 2
    assert "--candidate" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_the_machines_fault(gate, tmp_path):
    (tmp_path / "file").write_text("")
    code, said = gate("alike", "--out", tmp_path / "file" / "deeper")
    assert code == 4
    assert said.err.count("\n") == 1
