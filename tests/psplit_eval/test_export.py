"""What is exported is what is stored, in three formats, whatever the text."""

import csv
import gzip
import json
import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psplit_eval.cli import main
from psplit_eval.export import ENDINGS, TABLES, export_run
from psplit_eval.glance import stored_rows
from psplit_eval.store import CrossScore, Doc, Metric, Prompt, Sample, Store

STORES = Path(__file__).parent / "stores"
NASTY = 'null \0, quote ", newline \n, return \r\n, tab \t, \u2028, é, 😀, comma'
SAMPLE = Sample(
    "normal", "sums", 0, 0, "dh", "rh", "ph", 2**63 - 1, 1, NASTY, None, (1, 2), "stop", 3, 2,
    1.5, 0.1 + 0.2, None, 0.25, "2026-01-01T00:00:00Z",
)  # fmt: skip
FAILED = replace(
    SAMPLE, sample_idx=1, text=None, completion_ids=None, finish_reason=None, error="server gone",
    completion_tokens=None, entropy_sum_bits=None, nll_sum_nats=None,
)  # fmt: skip
CUT = replace(SAMPLE, mode="high", text="", finish_reason="length", seed=None)


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    with Store(folder / "samples.sqlite") as store:
        store.add_plan(
            [Prompt("ph", mode, f"{mode}: {NASTY}", (5, 6)) for mode in ("normal", "high")],
            [Doc("sums", 0, "dh", {"question": NASTY, "n": 1}, "42")],
        )
        store.add_samples([SAMPLE, FAILED, CUT])
        store.replace_metrics(
            "sums",
            [
                Metric("normal", "sums", 0, 0, "correct", 1.0),
                Metric("high", "sums", 0, 0, "correct", 0.0),
                Metric("normal", "sums", 0, 0, "brevity", math.nan),
                Metric("normal", "sums", 0, 0, "truncated", 0.0),
                Metric("normal", "sums", 0, None, "accuracy_avg", 1.0),
            ],
        )
    return folder


def export(run, out, *arguments):
    return main(["export", str(run), "--out", str(out), *arguments])


def read(path):
    """Rows as dicts, by readers that are not ours."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def as_csv(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_sample_comes_with_its_doc_prompt_and_metrics(run, tmp_path, ending, capsys):
    out = tmp_path / f"out{ending}"
    assert export(run, out) == 0
    high, first, failed = read(out)
    wanted = {
        "mode": "normal", "task": "sums", "doc_id": 0, "sample_idx": 0,
        "doc": json.dumps({"n": 1, "question": NASTY}, ensure_ascii=False), "target": "42",
        "prompt": f"normal: {NASTY}", "text": NASTY, "thought": None, "finish_reason": "stop",
        "truncated": False, "error": None, "prompt_tokens": 3, "completion_tokens": 2,
        "entropy_sum_bits": 1.5, "nll_sum_nats": 0.1 + 0.2, "seed": 2**63 - 1, "attempt": 1,
        "seconds": 0.25, "created_at": "2026-01-01T00:00:00Z", "doc_hash": "dh",
        "prompt_hash": "ph", "request_hash": "rh", "completion_ids": "[1, 2]",
        "is_greedy": None, "entropy_estimate_sum_bits": None,
        "brevity": None, "correct": 1.0, "metric_truncated": 0.0,
    }  # fmt: skip
    lost = {
        "sample_idx": 1, "text": None, "finish_reason": None, "truncated": None,
        "error": "server gone", "completion_tokens": None, "entropy_sum_bits": None,
        "nll_sum_nats": None, "completion_ids": None, "correct": None, "metric_truncated": None,
    }  # fmt: skip
    cut = {
        "mode": "high", "prompt": f"high: {NASTY}", "text": "", "finish_reason": "length",
        "truncated": True, "seed": None, "correct": 0.0, "metric_truncated": None,
    }  # fmt: skip
    rows = [wanted | cut, wanted, wanted | lost]
    if ending == ".csv":
        rows = [{name: as_csv(value) for name, value in row.items()} for row in rows]
    assert [high, first, failed] == rows
    assert list(first) == list(wanted)
    assert f"{out}: 3 samples, 29 columns" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ENDINGS)
def test_metrics_and_prompts_are_tables_too(run, tmp_path, ending, capsys):
    out = tmp_path / f"out{ending}"
    assert export(run, out, "--what", "metrics", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 5
    rows = {(row["mode"], row["metric"]): row for row in read(out)}
    average, undefined = rows["normal", "accuracy_avg"], rows["normal", "brevity"]
    nothing = "" if ending == ".csv" else None
    assert (average["sample_idx"], undefined["value"]) == (nothing, nothing)
    assert float(average["value"]) == 1.0
    assert export(run, out, "--what", "prompts", "--force") == 0
    high, normal = read(out)
    assert (high["mode"], normal["text"]) == ("high", f"normal: {NASTY}")
    assert json.loads(normal["token_ids"]) == [5, 6]


@pytest.mark.parametrize("ending", ENDINGS)
def test_cross_scores_are_a_table_and_none_in_a_store_of_before(run, tmp_path, ending):
    numbers = {"entropy_sum_bits": 2.5, "nll_sum_bits": 3.0, "kl_back_sum_bits": 0.25}
    score = CrossScore("high", "t", 0, 1, "normal", 4, kl_sum_bits=0.5, js_sum_bits=0.1, **numbers)
    with Store(run / "samples.sqlite") as store:
        store.add_cross_scores([score])
    out = tmp_path / f"out{ending}"
    assert export(run, out, "--what", "cross_scores") == 0
    (row,) = read(out)
    assert (row["policy"], int(row["tokens"]), float(row["kl_sum_bits"])) == ("normal", 4, 0.5)
    (run / "samples.sqlite").write_bytes((STORES / "v4.sqlite").read_bytes())
    assert export(run, out, "--what", "cross_scores", "--force") == 0
    assert read(out) == []


TEXT = st.text(st.characters(exclude_categories=()), max_size=20).map(
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
)
"""Lone surrogates included; a pair of them is the one character that it stands for."""


@given(texts=st.lists(TEXT, min_size=1, max_size=5))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_survives(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("r")
    Store(folder / "samples.sqlite").close()
    with sqlite3.connect(folder / "samples.sqlite") as db:
        db.executemany(
            "INSERT INTO samples SELECT 'm', 't', 0, ?, 'd', 'r', 'p', 1, 1, CAST(? AS TEXT), "
            "NULL, NULL, 'stop', 1, 1, 1.0, 1.0, NULL, 1.0, 'now', NULL, NULL",
            [(i, text.encode("utf-8", "surrogatepass")) for i, text in enumerate(texts)],
        )
    db.close()
    for ending in ENDINGS:
        out = folder / f"out{ending}"
        export_run(folder, out)
        plain = [text.encode("utf-8", "replace").decode().replace("�", "?") for text in texts]
        found = [row["text"] for row in read(out)]
        if ending.startswith(".jsonl"):
            assert found == texts
        else:
            assert [text.replace("�", "?") for text in found] == plain


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_lone_surrogate_becomes_the_replacement_character(run, tmp_path, ending):
    with sqlite3.connect(run / "samples.sqlite") as db:
        db.execute("UPDATE samples SET text = CAST(x'61EDA08062' AS TEXT)")
    db.close()
    assert export(run, tmp_path / f"out{ending}") == 0
    assert {row["text"] for row in read(tmp_path / f"out{ending}")} == {"a\ufffdb"}


def test_infinity_is_null_where_json_has_none(run, tmp_path):
    with sqlite3.connect(run / "samples.sqlite") as db:
        db.execute("UPDATE samples SET nll_sum_nats = 9e999")
    db.close()
    assert export(run, tmp_path / "a.jsonl") == export(run, tmp_path / "a.parquet") == 0
    assert "Infinity" not in (tmp_path / "a.jsonl").read_text()
    assert {row["nll_sum_nats"] for row in read(tmp_path / "a.jsonl")} == {None}
    assert {row["nll_sum_nats"] for row in read(tmp_path / "a.parquet")} == {math.inf}


def many(run, docs=700):
    with Store(run / "samples.sqlite") as store:
        store.add_samples(replace(SAMPLE, task="long", doc_id=i) for i in range(docs))
        store.replace_metrics(
            "long", (Metric("normal", "long", i, None, "m", float(i)) for i in range(docs))
        )


@pytest.mark.parametrize("ending", ENDINGS)
def test_pages_and_batches_join_without_a_gap(run, tmp_path, ending):
    many(run, 2500)
    assert export(run, tmp_path / f"s{ending}") == 0
    assert export(run, tmp_path / f"m{ending}", "--what", "metrics") == 0
    for name in ("s", "m"):
        ids = [int(r["doc_id"]) for r in read(tmp_path / f"{name}{ending}") if r["task"] == "long"]
        assert ids == list(range(2500))


def test_a_run_that_is_writing_is_not_held_up(run):
    """SQLite would keep the writer waiting, and fail it after 5 s, while a query is open."""
    many(run)
    rows = stored_rows(run / "samples.sqlite", "samples")
    next(rows)
    with Store(run / "samples.sqlite") as store:
        store.add_samples([replace(SAMPLE, doc_id=9999)])
    assert 9999 in [row[2] for row in rows]


def test_memory_does_not_grow_with_the_run(run, tmp_path):
    """Peak of Python's own memory for 8 times the rows; a page is 256 of them."""
    code = (
        "import sys, tracemalloc; from pathlib import Path; from psplit_eval.export import "
        "export_run; tracemalloc.start(); export_run(Path(sys.argv[1]), Path(sys.argv[2])); "
        "print(tracemalloc.get_traced_memory()[1])"
    )

    def peak(docs):
        many(run, docs)
        command = [sys.executable, "-c", code, str(run), str(tmp_path / f"{docs}.jsonl")]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    few = peak(1000)
    assert 0 < peak(8000) < 1.5 * few


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("out.txt", ".jsonl, .jsonl.gz, .csv, .parquet"),
        ("jsonl", ".jsonl, .jsonl.gz, .csv, .parquet"),
        ("there.csv", "--force"),
        ("nowhere/out.csv", "no folder"),
        ("folder.csv", "a folder"),
    ],
)
def test_an_unusable_file_is_one_line_and_nothing_is_written(run, tmp_path, capsys, out, words):
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert export(run, tmp_path / out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_other_mistakes_are_one_line(run, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert export(tmp_path / "none", out) == 2
    assert "no run" in capsys.readouterr().err
    assert export(run, out, "--what", "sample") == 2
    assert "did you mean 'samples'?" in capsys.readouterr().err
    assert not out.exists()


def test_a_store_that_breaks_half_way_leaves_the_old_file(run, tmp_path, capsys):
    many(run)
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with sqlite3.connect(run / "samples.sqlite") as db:
        db.execute("UPDATE samples SET text = CAST(x'FF' AS TEXT) WHERE doc_id = 600")
    db.close()
    assert export(run, out, "--force") == 4
    assert "not UTF-8" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "run"]


def test_a_full_disk_is_said_and_leaves_nothing(run, tmp_path):
    """A limit on the size of files, in a process of its own, stands in for the disk."""
    many(run, 3000)
    code = (
        "import resource, signal, sys; from psplit_eval.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for ending in (".jsonl", ".csv"):
        out = tmp_path / f"out{ending}"
        command = [sys.executable, "-c", code, "export", str(run), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 4, done
        assert len(done.stderr.splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_equal_runs_make_equal_files(run, tmp_path):
    for name in ("a", "b"):
        export_run(run, tmp_path / f"{name}.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_an_empty_run_has_a_header_and_fixed_types(tmp_path):
    from pyarrow import parquet

    run = tmp_path / "run"
    run.mkdir()
    (run / "samples.sqlite").touch()
    export_run(run, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == ",".join(TABLES["samples"]) + "\n"
    export_run(run, tmp_path / "a.parquet")
    schema = parquet.read_schema(tmp_path / "a.parquet")
    assert {name: str(schema.field(name).type) for name in ("seed", "text", "truncated")} == {
        "seed": "int64",
        "text": "string",
        "truncated": "bool",
    }


def test_a_store_of_version_1_is_exported_without_migrating_it(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    old = Path(__file__).parent / "stores" / "v1.sqlite"
    (folder / "samples.sqlite").write_bytes(old.read_bytes())
    assert export(folder, tmp_path / "out.jsonl") == 0
    assert len(read(tmp_path / "out.jsonl")) == 9
    assert (folder / "samples.sqlite").read_bytes() == old.read_bytes()
