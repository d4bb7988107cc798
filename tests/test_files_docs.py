"""docs/reference/files.md says what lies in files: held against files that psplit makes."""

import contextlib
import csv
import json
import re
import sqlite3

import pytest
from faultserver import FaultServer
from pages import DOCS, named, section, table

from psplit_eval.cli import main
from psplit_eval.export import ENDINGS, TABLES
from psplit_eval.labels import LABELS
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.modes import ROLES, checkpoint_modes
from psplit_eval.requests import Sampling
from psplit_eval.rubrics import read_rubric
from psplit_eval.store import Store
from psplit_eval.suites import shipped_folder

PAGE = DOCS / "reference" / "files.md"


@pytest.fixture(scope="module")
def work(tiny, tmp_path_factory):
    """A run of two tasks that was diverged, judged, labelled and audited."""
    folder = tmp_path_factory.mktemp("files")
    run, audits = folder / "run", folder / "audits"
    tasks = ["--tasks", "psplit_sums,psplit_story", "--limit", "6", "--samples", "2"]
    given = ["--set", "max_tokens=8", "--reference", "none"]
    psplit("run", "--model", tiny, *tasks, *given, "--out", run)
    with FaultServer(models=("MODEL",), judge=verdict) as server:
        judge = ["--judge", f"openai:MODEL@{server.url}", "--rubric", "story"]
        psplit("audit", *judge, "--pairs", "6", "--repeats", "1", "--out", audits)
        psplit("judge", run, *judge, "--both", "--audits", audits)
    labels = [
        {"mode": mode, "task": "psplit_story", "doc_id": doc, "sample_idx": 0}
        | {"dimension": "creativity", "value": 2 + doc % 3}
        for mode in ("normal", "high")
        for doc in range(6)
    ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    psplit("calibrate", run, "--rubric", "story", "--labels", folder / "labels.jsonl")
    return folder


def psplit(*words):
    assert main(list(map(str, words))) == 0


def verdict(body):
    """From the schema that it is given, by the length of the question."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return None
    size = len(body["messages"][-1]["content"])
    content = {
        name: "fine" if name == "reason" else "AB"[size % 2] if name == "better" else size % 11
        for name in schema["properties"]
    }
    message = {"role": "assistant", "content": json.dumps(content)}
    usage = {"prompt_tokens": size // 4, "completion_tokens": 30}
    return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def read(work, name):
    return json.loads((work / "run" / name).read_text())


def fields(title):
    """Every name in the first cells of a section's table."""
    return [name for row in table(section(PAGE, title)) for name in named(row[0])]


def columns(title):
    return {named(row[0])[0]: row[1] for row in table(section(PAGE, title))}


@pytest.mark.parametrize(
    ("file", "kind"), [("samples.sqlite", Store), ("judgements.sqlite", Ledger)]
)
def test_the_schema_is_the_real_one(file, kind, tmp_path):
    with kind(tmp_path / file) as made:
        version = made.version
    text = section(PAGE, f"## {file}")
    assert f"Version {version}" in text
    with contextlib.closing(sqlite3.connect(tmp_path / file)) as db:
        names = [
            row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        assert sorted(re.findall(r"^### `(\w+)`$", text, flags=re.MULTILINE)) == sorted(names)
        for name in names:
            real = {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({name})")}
            assert columns(f"### `{name}`") == real


def test_the_folder_has_these_files(work):
    known = fields("## A run's folder")
    known = {name.rstrip("/") for name in known if not re.fullmatch("[a-z]+", name)}
    here = {path.name for path in (work / "run").iterdir()}
    assert here == known - {"training_log.jsonl", "trainer_state.json", ".view"}


def test_the_manifest(work):
    manifest = read(work, "manifest.json")
    absent = {"shard", "shards", "imported_from"}
    assert set(manifest) == set(fields("## manifest.json")) - absent
    rows = {named(row[0])[0]: named(row[1]) for row in table(section(PAGE, "## manifest.json"))}
    assert set(manifest["checkpoint"]) == set(rows["checkpoint"])
    assert set(manifest["modes"][0]) == set(rows["modes"])
    assert set(manifest["tasks"]["psplit_sums"]) == set(rows["tasks"])
    assert set(manifest["divergence"]) == set(rows["divergence"])
    assert set(rows["model"]) <= set(manifest["model"])


def test_the_leaderboard(work):
    with (work / "run" / "leaderboard.csv").open() as file:
        head = next(csv.reader(file))
    assert head == fields("## leaderboard.csv")
    rows = {row[0]: row[1] for row in table(section(PAGE, "## leaderboard.csv"))}
    units = named(rows["`unit`"])
    with (work / "run" / "leaderboard.csv").open() as file:
        assert {row["unit"] for row in csv.DictReader(file)} <= set(units)


def test_comparisons(work):
    content = read(work, "comparison.json")
    assert set(content) == {"format", "comparisons"}
    assert set(content["comparisons"][0]) == set(fields("## comparison.json"))
    psplit("report", work / "run", "--margin", "0.05")
    (claimed, *_) = [c for c in read(work, "comparison.json")["comparisons"] if c["claim"]]
    rows = {named(row[0])[0]: named(row[1]) for row in table(section(PAGE, "## comparison.json"))}
    assert set(claimed["claim"]) == set(rows["margin"])
    assert set(claimed["dropped"]) == set(rows["n_docs"]) - {"dropped"}
    assert set(claimed["effects"]) <= set(rows["effect_size"])
    needed = [c["needed"] for c in content["comparisons"] if c["needed"]]
    assert all(set(need) == set(rows["needed"]) for need in needed)


def test_judgements(work):
    content = read(work, "judgements.json")
    rows = {named(row[0])[0]: named(row[1]) for row in table(section(PAGE, "## judgements.json"))}
    assert set(content) == set(rows)
    for name in ("scores", "calibrated", "preferences"):
        assert list(content[name][0]) == rows[name]


def test_cards(work):
    (card,) = [json.loads(path.read_text()) for path in (work / "audits").glob("*.json")]
    rows = table(section(PAGE, "## Audit cards"))
    assert set(card) == set(fields("## Audit cards"))
    within = {named(row[0])[0]: named(row[1]) for row in rows}
    assert set(card["gold"]) == set(within["gold"])
    assert list(card["measures"][0]) == within["measures"]
    assert list(card["by_kind"][0]) == within["by_kind"]
    assert {*card["purposes"], *card["purposes"]["scores"]} == set(within["purposes"])
    assert set(next(iter(card["asked"].values()))) == set(within["asked"])


def test_plots(work):
    described = {
        file: named(row[1].partition(";")[0])
        for row in table(section(PAGE, "## Plots"))
        for file in named(row[0])
    }
    made = {path.name: path for path in (work / "run" / "plots").glob("*.csv")}
    assert set(described) - {"training.csv"} == set(made)
    for name, path in made.items():
        with path.open() as file:
            assert next(csv.reader(file)) == described[name]
        assert path.with_suffix(".png").exists()
        assert path.with_suffix(".svg").exists()


def test_a_board(work, tmp_path, capsys):
    words = ("leaderboard", f"a={work / 'run'}", "--out", tmp_path / "board")
    found = printed(capsys, *words)
    text = section(PAGE, "## Boards")
    assert list(found) == json_fields("leaderboard")
    assert {path.name for path in (tmp_path / "board").iterdir()} <= set(named(text))
    with (tmp_path / "board" / "leaderboard.csv").open() as file:
        head = next(csv.reader(file))
    more = [name for row in table(text) for name in named(row[0])]
    assert head == [*fields("## leaderboard.csv"), *more]


def test_exports(work, tmp_path):
    text = section(PAGE, "## Exports")
    rows = {named(row[0])[0]: named(row[1]) for row in table(text)}
    assert set(rows) == set(TABLES)
    for what, known in TABLES.items():
        assert rows[what][: len(known)] == list(known)
        out = tmp_path / f"{what}.csv"
        psplit("export", work / "run", "--what", what, "--out", out)
        with out.open(newline="") as file:
            assert next(csv.reader(file))[: len(known)] == list(known)
    assert all(f"`{ending}`" in text for ending in ENDINGS)


def printed(capsys, *words):
    capsys.readouterr()
    psplit(*words, "--json")
    return json.loads(capsys.readouterr().out)


def json_fields(command):
    for row in table(section(PAGE, "## What --json prints")):
        if command in named(row[0]):
            return named(row[1])
    raise AssertionError(command)


def test_what_json_prints(work, tmp_path, capsys):
    run = work / "run"
    assert set(printed(capsys, "report", run)) == set(json_fields("report"))
    for command, words in {
        "compare": ("compare", run, run),
        "plan": ("plan", "--suite", "paper", "--mde", "0.015"),
        "export": ("export", run, "--out", tmp_path / "a.csv"),
        "doctor": ("doctor",),
        "runs list": ("runs", "list", work),
        "runs prune": ("runs", "prune", work),
    }.items():
        found = set(printed(capsys, *words))
        assert found == set(json_fields(command)), command
    assert set(printed(capsys, "tasks")) == set(json_fields("tasks"))


def test_the_modes_file_is_one_that_is_read(tmp_path):
    text = section(PAGE, "### psplit_modes.json")
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "psplit_modes.json").write_text(example)
    modes = checkpoint_modes(tmp_path)
    assert [mode.role for mode in modes.values()] == ["normal", "high"]
    rows = {named(row[0])[0]: named(row[1]) for row in table(text)}
    assert set(rows) == set(modes["high"].to_dict())
    assert tuple(rows["role"]) == ROLES
    assert set(rows["sampling"]) == set(Sampling().to_dict())


def test_rubrics_have_these_fields():
    rubric = read_rubric(shipped_folder("judges") / "story.yaml")
    assert set(fields("### Rubrics")) == set(rubric.to_dict())


def test_the_prices_are_some_that_are_read(tmp_path):
    from psplit_eval.inquiry import read_prices

    (example,) = re.findall(r"```yaml\n(.*?)```", section(PAGE, "### Prices"), flags=re.DOTALL)
    (tmp_path / "prices.yaml").write_text(example)
    assert read_prices(tmp_path / "prices.yaml")["MODEL"].written == 1.6


def test_labels_that_are_drawn_and_kept(work, tmp_path):
    out = tmp_path / "drawn.jsonl"
    psplit("calibrate", work / "run", "--rubric", "story", "--draw", "2", "--out", out)
    words = set(named(section(PAGE, "### Labels")))
    assert set(json.loads(out.read_text().splitlines()[0])) <= words
    kept = json.loads((work / "run" / LABELS).read_text().splitlines()[0])
    assert set(kept) <= words


def test_the_ledger_has_this_name():
    assert f"`{LEDGER}`" in PAGE.read_text()
