"""docs/gates.md is up to date: fields, kinds, and what gate.json has."""

import json

import pytest
from gated import ODD, gated, made
from pages import DOCS, named, section, table

from psplit_eval.gate_files import GATE_FILES, write_gate
from psplit_eval.gate_rules import Kind, read_rules

PAGE = DOCS / "gates.md"


def first_cells(title):
    return [named(row[0]) for row in table(section(PAGE, title))]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """gate.json of a gate with an inconclusive check."""
    folder = tmp_path_factory.mktemp("gate")
    rule = "{kind: non-inferior, task: t, mode: normal, margin: 0.05}"
    write_gate(folder, gated(folder, made(folder, "a"), made(folder, "b", ODD), rule))
    return json.loads((folder / "gate.json").read_text())


def test_gate_json(content):
    text = section(PAGE, "## Outputs")
    assert set(content) - {"format"} <= set(named(text))
    cells = [named(row[0]) for row in table(text)]
    files, checks = cells[: len(GATE_FILES)], cells[len(GATE_FILES) :]
    assert [name for names in files for name in names] == list(GATE_FILES)
    assert [name for names in checks for name in names if name] == list(content["checks"][0])
    assert set(content["differences"][0]) <= set(named(text))


def test_what_json_prints(content):
    rows = table(section(DOCS / "reference" / "files.md", "## What --json prints"))
    (said,) = [row[1] for row in rows if named(row[0]) == ["gate"]]
    assert named(said.partition(":")[0]) == list(content)


def test_every_kind_stands_there():
    assert [name for names in first_cells("## Kinds") for name in names] == [k.value for k in Kind]


def test_every_field_is_taken(tmp_path):
    """A field that stands there is none that the reader does not know, and it knows no other."""
    fields = [name for names in first_cells("## Rules") for name in names]
    path = tmp_path / "gate.yaml"
    path.write_text("format: 1\nrules:\n- {kind: split, mode: m, wrong: 1}\n")
    said = complaint(path)
    known = said.partition("expected one of ")[2].partition(";")[0].split(", ")
    assert set(known) <= set(fields)
    path.write_text("wrong: 1\n")
    of_file = complaint(path).partition("expected one of ")[2].partition(";")[0].split(", ")
    assert set(fields) == {*known, *of_file}


def complaint(path):
    from psplit_eval.errors import DataError

    with pytest.raises(DataError) as caught:
        read_rules(path)
    return str(caught.value)


def test_exit_codes():
    codes = [row[0] for row in table(section(PAGE, "## Exit codes"))]
    assert sorted(codes) == ["0", "1", "2", "3", "4"]
