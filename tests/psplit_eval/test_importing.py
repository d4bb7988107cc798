"""Samples that lm_eval logged become a run, with lm_eval's own numbers to the last digit."""

import csv
import json
import random
from itertools import islice

import pytest

from psplit_eval.catalog import Catalog
from psplit_eval.cli import main
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.store import Store

SIZE = 40


def logged(task, rows, respond, folder, system=None, repeats=1):
    """What plain lm_eval leaves of a task on local rows; `respond(doc)` answers in the model."""
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    class Replay(LM):
        tokenizer_name = "replay"

        def apply_chat_template(self, chat_history, add_generation_prompt=True):
            return "\n".join(f"{m['role']}: {m['content']}" for m in chat_history)

        def chat_template(self, chat_template=False):
            return "plain"

        def generate_until(self, requests, disable_tqdm=False):
            return [respond(request.doc) for request in requests]

        def loglikelihood(self, requests, disable_tqdm=False):
            return [respond(request.args[1]) for request in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

    file = folder / "rows.jsonl"
    folder.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = {"data_files": dict.fromkeys(("train", "validation", "test"), str(file))}
    local = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": splits}
    local |= {"custom_dataset": None}
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    found = lm_eval.simple_evaluate(
        Replay(),
        tasks=[Catalog().members(task)[0].config() | local | {"repeats": repeats}],
        apply_chat_template=True,
        system_instruction=system,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
        evaluation_tracker=tracker,
    )
    samples = found.pop("samples")
    tracker.general_config_tracker.model_name = "replay"
    tracker.general_config_tracker.model_name_sanitized = "replay"
    tracker.save_results_aggregated(found, samples)
    tracker.save_results_samples(task, samples[task])
    return folder / "out", found["results"][task]


def values(run, task):
    with (run / "leaderboard.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == task]
    return {(row["mode"], row["metric"]): float(row["value"] or "nan") for row in rows}


def mean(run, task, metric):
    with Store(run / "samples.sqlite") as store:
        found = [m.value for m in store.metrics(task) if m.metric == metric]
    return sum(found) / len(found)


def some_right(rng):
    """A model that boxes the right answer, another doc's, or says nothing in a box."""

    def respond(doc):
        text = rng.choice([r"It is \boxed{%s}.", "It is %s.", r"\boxed{%s1} or so", r"\boxed{A}"])
        return text.replace("%s", str(doc["answer"]))

    return respond


def test_a_general_task_has_the_same_accuracy_in_lm_eval_and_here(
    general_task, general_rows, tmp_path
):
    task, rows = general_task, list(islice(general_rows, SIZE))
    respond = some_right(random.Random(task))
    out, results = logged(task, rows, respond, tmp_path / "logs", repeats=3)
    assert main(["import", str(out), "--out", str(tmp_path / "run")]) == 0
    assert mean(tmp_path / "run", task, "accuracy_avg") == results["accuracy_avg,all"]
    assert 0.1 < results["accuracy_avg,all"] < 0.9


SUMS = [{"a": a, "b": 3, "answer": str(a + 3)} for a in range(12)]


@pytest.fixture
def sums(tmp_path):
    """Logs of psplit_sums without a system prompt and with that of mode high."""
    rng = random.Random(7)
    texts = ["{answer}", "{answer}, or so", "7", "so {b}"]
    folders = []
    for name, system in (("plain", None), ("high", BUILTIN_MODES["high"].system_prompt)):
        out, _ = logged(
            "psplit_sums",
            SUMS,
            lambda doc: rng.choice(texts).format(**doc),
            tmp_path / name,
            system,
            repeats=4,
        )
        folders.append(out)
    return folders


def test_two_lm_eval_runs_become_one_run_in_two_modes(sums, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["import", *map(str, sums), "--out", str(run)]) == 0
    assert "psplit_sums" in capsys.readouterr().out
    with Store(run / "samples.sqlite") as store:
        samples, docs = list(store.samples()), list(store.docs())
        prompts = {prompt.prompt_hash: prompt.text for prompt in store.prompts("high")}
    assert len(samples) == 2 * 12 * 4
    assert [doc.doc for doc in docs] == SUMS
    assert [doc.target for doc in docs] == [row["answer"] for row in SUMS]
    assert {sample.mode for sample in samples} == {"normal", "high"}
    assert all(BUILTIN_MODES["high"].system_prompt in text for text in prompts.values())
    assert {(s.seed, s.finish_reason, s.entropy_sum_bits) for s in samples} == {(None, None, None)}
    comparisons = json.loads((run / "comparison.json").read_text())["comparisons"]
    assert {(c["arm_a"], c["arm_b"]) for c in comparisons} == {("normal", "high")}
    assert "entropy_bits" not in {c["metric"] for c in comparisons}
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["checkpoint"]["name"] == "replay"
    assert manifest["tasks"]["psplit_sums"]["samples"] == 4
    page = (run / "report.html").read_text()
    assert "logged by lm_eval" in page


def test_what_lm_eval_does_not_log_is_not_made_up(sums, tmp_path):
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "run")]) == 0
    found = values(tmp_path / "run", "psplit_sums")
    assert found["normal", "truncated"] != found["normal", "truncated"]  # NaN: not known
    assert "not known" in (tmp_path / "run" / "report.md").read_text()


def test_an_imported_run_scores_again_from_its_store(sums, tmp_path):
    run = tmp_path / "run"
    main(["import", str(sums[0]), "--out", str(run)])
    before = (run / "leaderboard.csv").read_bytes()
    (run / "leaderboard.csv").unlink()
    assert main(["score", str(run)]) == 0
    assert (run / "leaderboard.csv").read_bytes() == before


def test_rows_of_two_filters_count_once_and_keep_both_metrics(tmp_path):
    rows = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(12)]
    rng = random.Random(1)

    def respond(doc):
        number = doc["answer"].split()[-1]
        return rng.choice([f"#### {number}", f"It is {number}", "no idea"])

    out, results = logged("gsm8k", rows, respond, tmp_path / "logs")
    assert main(["import", str(out), "--out", str(tmp_path / "run")]) == 0
    for metric, key in (
        ("exact_match_strict_match", "exact_match,strict-match"),
        ("exact_match_flexible_extract", "exact_match,flexible-extract"),
    ):
        with Store(tmp_path / "run" / "samples.sqlite") as store:
            found = [m.value for m in store.metrics() if (m.metric, m.sample_idx) == (metric, None)]
        assert len(found) == 12
        assert sum(found) / 12 == results[key]
    assert results["exact_match,strict-match"] < results["exact_match,flexible-extract"]


def test_scored_answers_keep_their_log_probabilities(tmp_path):
    row = {
        "question": "Which?",
        "choices": {"text": ["a cat", "a dog", "a cow"], "label": ["A", "B", "C"]},
    }
    rows = [row | {"id": str(i), "answerKey": "ABC"[i % 3]} for i in range(6)]
    scores = {"cat": (-1.5, True), "dog": (-2.5, False), "cow": (-3.0, False)}
    out, results = logged(
        "arc_easy", rows, lambda answer: scores[answer.split()[-1]], tmp_path / "logs"
    )
    assert main(["import", str(out), "--out", str(tmp_path / "run")]) == 0
    assert values(tmp_path / "run", "arc_easy")["normal", "acc"] == pytest.approx(1 / 3, abs=1e-6)
    assert results["acc,none"] == pytest.approx(1 / 3)
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        first = [s for s in store.samples() if s.doc_id == 0]
    assert [(-s.nll_sum_nats, s.is_greedy) for s in first] == list(scores.values())


def test_one_answer_for_every_repeat_is_said(tmp_path, capsys):
    out, _ = logged("psplit_sums", SUMS, lambda doc: "7", tmp_path / "logs", repeats=4)
    assert main(["import", str(out), "--out", str(tmp_path / "run")]) == 0
    assert "repeats of every doc are the same text" in capsys.readouterr().err


def rewritten(folder, change):
    """The only samples file of a log, with every row changed."""
    (path,) = folder.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(row)) + "\n" for row in rows))
    return path


def test_an_empty_answer_of_a_chat_server_is_missing_not_text(sums, tmp_path):
    path = rewritten(sums[0], lambda row: row | {"resps": [["", "7", "7", "8"]]})
    results = path.with_name(path.name.replace("samples_psplit_sums", "results")).with_suffix("")
    results = results.with_name(results.name + ".json")
    content = json.loads(results.read_text())
    content["config"] = {"model": "local-chat-completions"}
    results.write_text(json.dumps(content))
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "run")]) == 0
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        lost = [sample for sample in store.samples() if sample.error]
    assert len(lost) == 12
    assert {sample.text for sample in lost} == {None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/folder"], "no samples that lm_eval logged"),
        (["PLAIN", "normal=HIGH"], "are both task 'psplit_sums' in mode 'normal'"),
        (["RENAMED"], "expected a name as lm_eval gives it"),
        (["UNKNOWN"], "unknown task 'my_poems'"),
        (["NO_DOC"], "expected a row as lm_eval logs it"),
        (["OTHER_DOCS", "high=HIGH"], "is another one in another mode"),
        (["ODD_PROMPT"], "name its mode: MODE=PATH"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, words, sums, tmp_path, capsys):
    plain, high = sums
    (file,) = plain.rglob("samples_*.jsonl")
    changed = {
        "RENAMED": lambda: file.rename(file.with_name("answers.jsonl")),
        "UNKNOWN": lambda: file.rename(
            file.with_name(file.name.replace("psplit_sums", "my_poems"))
        ),
        "NO_DOC": lambda: rewritten(
            plain, lambda row: {k: v for k, v in row.items() if k != "doc"}
        ),
        "OTHER_DOCS": lambda: rewritten(plain, lambda row: row | {"doc": row["doc"] | {"a": 99}}),
        "ODD_PROMPT": lambda: odd_prompt(file),
    }
    made = changed.get(arguments[0], lambda: None)()
    place = str(made) if arguments[0] in ("RENAMED", "UNKNOWN", "ODD_PROMPT") else str(plain)
    places = dict.fromkeys(changed, place) | {"PLAIN": str(plain), "HIGH": str(high)}
    given = [
        argument.replace(key, value)
        for argument in arguments
        for key, value in [next(((k, v) for k, v in places.items() if k in argument), ("", ""))]
    ]
    assert main(["import", *given, "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1]
    assert not (tmp_path / "run").exists()


def odd_prompt(file):
    (path,) = file.parent.glob("results_*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"system_instruction": "Sing."}))
    return file


def test_a_run_is_never_imported_into(sums, tmp_path, capsys):
    command = ["import", str(sums[0]), "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert main(command) == 2
    assert "a run already" in capsys.readouterr().err


def test_a_null_answer_is_missing_and_a_number_is_no_answer(sums, tmp_path, capsys):
    rewritten(sums[0], lambda row: row | {"resps": [["7", None, "8"]]})
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "run")]) == 0
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        assert [s.sample_idx for s in store.samples() if s.error] == [1] * 12
    rewritten(sums[0], lambda row: row | {"resps": [["7", 3, "8"]]})
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "other")]) == 2
    assert "response 3, expected text" in capsys.readouterr().err


def test_scored_answers_of_lm_eval_and_psplit_compare(tiny, tmp_path, capsys):
    """The same model on the same rows: the same prompts and, but for the last digits, numbers."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    choices = {"text": ["a cat", "a dog", "a cow"], "label": ["A", "B", "C"]}
    rows = [
        {"id": str(i), "question": f"Which, {i}?", "choices": choices, "answerKey": "ABC"[i % 3]}
        for i in range(8)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = {"data_files": dict.fromkeys(("train", "validation", "test"), str(file))}
    local = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": splits}
    tracker = EvaluationTracker(output_path=str(tmp_path / "logs"))
    found = lm_eval.simple_evaluate(
        HFLM(pretrained=str(tiny), device="cpu", dtype="float32", batch_size=4),
        tasks=[Catalog().members("arc_easy")[0].config() | local],
        apply_chat_template=True,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
        evaluation_tracker=tracker,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(found, samples)
    tracker.save_results_samples("arc_easy", samples["arc_easy"])
    assert main(["import", str(tmp_path / "logs"), "--out", str(tmp_path / "theirs")]) == 0
    words = ["run", "--model", str(tiny), "--modes", "normal", "--tasks", "arc_easy"]
    data = ["--data", f"arc_easy={file}", "--out", str(tmp_path / "ours")]
    assert main([*words, *data]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "theirs"), str(tmp_path / "ours"), "--json"]) == 0
    comparisons = json.loads(capsys.readouterr().out)["comparisons"]
    assert {c["metric"]: c["difference"] for c in comparisons} == {"acc": 0.0, "acc_norm": 0.0}
    assert {c["n_docs"] for c in comparisons} == {8}


@pytest.mark.parametrize(
    "change",
    [
        {"date": "abc"},
        {"date": 1e300},
        {"config": "x"},
        {"model_name": ["a"]},
        {"system_instruction": 3},
        {"n-samples": 7},
    ],
    ids=str,
)
def test_results_of_another_form_are_one_line(change, sums, tmp_path, capsys):
    (path,) = sums[0].rglob("results_*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "run")]) == 2
    assert "not lm_eval's results" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"doc_id": [1]},
        {"doc_id": 10**30},
        {"arguments": {}},
        {"arguments": 3},
        {"resps": []},
        {"doc": 5},
    ],
    ids=str,
)
def test_rows_of_another_form_are_one_line(change, sums, tmp_path, capsys):
    rewritten(sums[0], lambda row: row | change)
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "samples_psplit_sums" in line


def test_a_log_is_imported_once_and_labels_that_contradict_it_are_said(sums, tmp_path, capsys):
    plain, high = map(str, sums)
    assert main(["import", f"a={plain}", f"b={plain}", "--out", str(tmp_path / "run")]) == 2
    assert "named twice" in capsys.readouterr().err
    swapped = [f"high={plain}", f"normal={high}"]
    assert main(["import", *swapped, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "mode 'high' was sampled without a system prompt" in said
    assert "mode 'normal' was sampled with a system prompt" in said


def test_what_transformers_sets_by_itself_is_known(sums, tmp_path):
    (path,) = sums[0].rglob("results_*.json")
    content = json.loads(path.read_text()) | {"config": {"model": "hf"}}
    path.write_text(json.dumps(content))
    kwargs = {"gen_args_0": {"arg_0": "?", "arg_1": {"do_sample": True, "temperature": 0.8}}}
    rewritten(sums[0], lambda row: row | {"arguments": kwargs})
    assert main(["import", str(sums[0]), "--out", str(tmp_path / "run")]) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    sampling = manifest["tasks"]["psplit_sums"]["sampling"]
    assert (sampling["temperature"], sampling["top_k"]) == (0.8, 50)
    assert "top_p" not in sampling
