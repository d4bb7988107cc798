"""lm-eval's measures on stored samples: looked up by name, defined where a task's code fails."""

import json
import math
import os
import shutil

import pytest

from psplit_eval.catalog import Catalog
from psplit_eval.cli import main
from psplit_eval.errors import DataError, UsageError
from psplit_eval.harness import load_task
from psplit_eval.measures import stored_scorer, working_scorer
from psplit_eval.store import Sample, Store

TASK = """
task: poems
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
process_results: !function judge.judge
metric_list: [{metric: rhyme, aggregation: mean, higher_is_better: true}]
"""
JUDGE = "def judge(doc, results):\n    return {'rhyme': len(results[0])}\n"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "mine"
    made.mkdir()
    (made / "poems.yaml").write_text(TASK)
    (made / "judge.py").write_text(JUDGE)
    rows = [{"q": f"Poem {i}?", "a": "x"} for i in range(6)]
    (made / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture
def run(folder, tiny, tmp_path):
    out = tmp_path / "run"
    words = ["run", "--model", str(tiny), "--tasks", "poems", "--include-path", str(folder)]
    data = ["--data", f"poems={folder / 'rows.jsonl'}", "--set", "max_tokens=4"]
    assert main([*words, *data, "--out", str(out)]) == 0
    return out


def load(folder, name="poems"):
    return load_task(Catalog([folder]).tasks[name], folder / "rows.jsonl")


def sample(text, index=0):
    return Sample(
        *("m", "poems", 0, index, "h", "r", "p", 1, 1, text, None, (1,), "stop", 5, 1, 1.0),
        *(1.0, None, 0.1, "now"),
    )


def test_lm_evals_tasks_are_measured_in_other_processes_too(folder, run, monkeypatch):
    (folder / "judge.py").write_text(
        "import os\ndef judge(doc, results):\n    return {'rhyme': os.getpid()}\n"
    )
    monkeypatch.setenv("PSPLIT_WORKERS", "1")
    assert main(["score", str(run), "--include-path", str(folder)]) == 0
    with Store(run / "samples.sqlite") as store:
        (number,) = {m.value for m in store.metrics() if m.metric == "rhyme"}
    assert number != os.getpid()


def means(scorer, doc, *texts):
    found = scorer.score(doc, [sample(text, i) for i, text in enumerate(texts)])
    return {metric.metric: metric.value for metric in found if metric.sample_idx is None}


def test_a_definition_is_the_same_wherever_its_files_lie(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere" / "deep")
    one, other = load(folder), load(tmp_path / "elsewhere" / "deep")
    assert one.scorer == other.scorer
    assert one.sha256 == other.sha256


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("poems.yaml", "mean", "nanmean"),
        ("judge.py", "len(results[0])", "0.5"),
        ("base", "{{q}}", "{{q}} Now!"),
    ],
)
def test_a_definition_covers_what_a_task_includes_and_names(folder, file, old, new):
    if file == "base":
        (folder / "base").write_text(TASK)
        (folder / "poems.yaml").write_text("include: base\ntask: poems\n")
    before = load(folder).sha256
    path = folder / file
    path.write_text(path.read_text().replace(old, new))
    assert load(folder).sha256 != before


def test_scoring_again_needs_the_folder_and_takes_the_task_as_it_is_now(run, folder, capsys):
    assert main(["score", str(run)]) == 2
    assert "give the folder by --include-path" in capsys.readouterr().err
    again = ["score", str(run), "--include-path", str(folder)]
    assert main(again) == 0
    assert "has changed" not in capsys.readouterr().err
    (folder / "judge.py").write_text(JUDGE.replace("len(results[0])", "7"))
    assert main(again) == 0
    assert "task poems: its definition has changed" in capsys.readouterr().err
    with Store(run / "samples.sqlite") as store:
        assert {m.value for m in store.metrics() if m.metric == "rhyme"} == {7.0}
    assert main(again) == 0
    assert "has changed" not in capsys.readouterr().err


def test_a_run_from_elsewhere_runs_no_code_of_its_own(run, tmp_path, capsys):
    (run / "evil.yaml").write_text(TASK.replace("judge.judge", "evil.judge"))
    (run / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\n{JUDGE}")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["tasks"]["poems"]["scorer"] |= {"file": str(run / "evil.yaml")}
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert main(["score", str(run)]) == 2
    assert main(["report", str(run)]) == 0
    assert not (tmp_path / "pwned").exists()


def test_a_changed_definition_is_no_basis_for_a_comparison(run, folder, tiny, tmp_path, capsys):
    (folder / "judge.py").write_text(JUDGE.replace("len(results[0])", "1"))
    words = ["run", "--model", str(tiny), "--tasks", "poems", "--include-path", str(folder)]
    data = ["--data", f"poems={folder / 'rows.jsonl'}", "--set", "max_tokens=4", "--seed", "3"]
    assert main([*words, *data, "--out", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(tmp_path / "other")]) == 2
    assert "compute both by one psplit" in capsys.readouterr().err


def test_a_value_that_is_not_finite_is_undefined(folder):
    (folder / "judge.py").write_text(JUDGE.replace("len(results[0])", "float('inf')"))
    task = load(folder)
    assert math.isnan(means(task.scorer, task.docs[0], "a", "b")["rhyme"])


def test_what_a_tasks_code_raises_names_task_and_doc(folder):
    (folder / "judge.py").write_text("def judge(doc, results):\n    return doc['nothing']\n")
    task = load(folder)
    with pytest.raises(DataError, match=r"task 'poems', doc 0: .* cannot measure it \(KeyError"):
        list(task.scorer.score(task.docs[0], [sample("a")]))


def test_psplits_own_names_stay_its_own(folder):
    for name in ("poems.yaml", "judge.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("rhyme", "truncated"))
    task = load(folder)
    assert means(task.scorer, task.docs[0], "abc") == {"truncated": 0.0, "task_truncated": 3.0}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("metric: rhyme, aggregation: mean", "metric: rhyme, aggregation: bleu", "metrics rhyme"),
        ("process_results: !function judge.judge\n", "", "metric 'rhyme', expected one that"),
    ],
)
def test_metrics_that_cannot_be_had_are_refused_at_load(folder, old, new, words):
    path = folder / "poems.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UsageError, match=words):
        load(folder)


VOTES = """
task: votes
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
repeats: 3
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
filter_list:
  - {name: first, filter: [{function: take_first}]}
  - name: vote
    filter: [{function: take_first_k, k: 3}, {function: majority_vote}, {function: take_first}]
"""


def test_a_vote_among_too_few_is_no_vote(folder, tiny, tmp_path, capsys):
    (folder / "votes.yaml").write_text(VOTES)
    task = load(folder, "votes")
    assert task.least_samples == 3
    scorer = working_scorer(task.scorer.to_dict(), Catalog([folder]), task.docs[0])
    assert means(scorer, task.docs[0], "x", "x", "y") == {
        "exact_match_first": pytest.approx(2 / 3),
        "exact_match_vote": 1.0,
        "truncated": 0.0,
    }
    assert "exact_match_vote" not in means(scorer, task.docs[0], "x", "y")
    words = ["run", "--model", str(tiny), "--tasks", "votes", "--include-path", str(folder)]
    few = ["--data", f"votes={folder / 'rows.jsonl'}", "--samples", "2"]
    assert main([*words, *few, "--out", str(tmp_path / "few")]) == 2
    assert "give --samples votes=3" in capsys.readouterr().err


def test_what_a_manifest_says_is_enough_to_report_but_not_to_score(folder):
    task = load(folder)
    stored = stored_scorer(json.loads(json.dumps(task.scorer.to_dict())))
    assert stored == task.scorer
    assert stored.info("rhyme").higher_is_better is True
    with pytest.raises(DataError, match="its file is not known"):
        list(stored.score(task.docs[0], [sample("a")]))
