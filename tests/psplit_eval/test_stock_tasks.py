"""lm-eval's own tasks: the same prompts, the same answers and the same numbers as by lm_eval."""

import json
import sqlite3

import pytest

from psplit_eval.catalog import Catalog
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.cli import main
from psplit_eval.errors import DataError, UsageError
from psplit_eval.harness import load_task
from psplit_eval.hf import HFBackend
from psplit_eval.measures import stored_scorer, working_scorer
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.sampling import plan
from psplit_eval.store import Sample, Store
from psplit_eval.suites import TaskSettings

WORDS = ["books", "pens", "cups", "hats", "coins", "maps", "keys", "stamps"]


def arc_row(i):
    texts = [WORDS[(i + j) % 8] for j in range(4)]
    return {
        "id": f"q{i}",
        "question": f"What does Anna have? Number {i}.",
        "choices": {"text": texts, "label": ["A", "B", "C", "D"]},
        "answerKey": "ABCD"[i % 4],
    }


def gsm8k_row(i):
    return {"question": f"What is {i} + 4?", "answer": f"{i} + 4 = {i + 4}\n#### {i + 4}"}


ROWS = {
    "arc_easy": [arc_row(i) for i in range(8)],
    "gsm8k": [gsm8k_row(i) for i in range(8)],
    "lambada_openai": [{"text": f"Anna has {i} books and {i} pens"} for i in range(8)],
}


@pytest.fixture(params=ROWS)
def name(request):
    return request.param


@pytest.fixture
def file(name, tmp_path):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    return path


def by_lm_eval(name, file, tiny):
    """lm_eval's logged samples and results, greedy where it generates."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    splits = dict.fromkeys(("train", "validation", "test"), str(file))
    task = Catalog().members(name)[0].config() | {"dataset_path": "json", "dataset_name": None}
    found = lm_eval.simple_evaluate(
        HFLM(pretrained=str(tiny), device="cpu", dtype="float32", batch_size=4),
        tasks=[task | {"dataset_kwargs": {"data_files": splits}, "fewshot_split": "test"}],
        apply_chat_template=True,
        system_instruction=BUILTIN_MODES["high"].system_prompt,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    return found["samples"][name], found["results"][name]


def by_psplit(name, file, tiny, out):
    words = ["run", "--model", str(tiny), "--modes", "high", "--tasks", name, "--out", str(out)]
    assert main([*words, "--data", f"{name}={file}"]) == 0
    with Store(out / "samples.sqlite") as store:
        docs = [m for m in store.metrics() if m.sample_idx is None]
        return list(store.samples()), {(m.doc_id, m.metric): m.value for m in docs}


def test_prompts_answers_and_numbers_are_those_of_lm_eval(name, file, tiny, tmp_path):
    rows, results = by_lm_eval(name, file, tiny)
    samples, values = by_psplit(name, file, tiny, tmp_path / "run")
    assert len({sample.doc_id for sample in samples}) == 8
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        prompts = {prompt.prompt_hash: prompt.text for prompt in store.prompts()}
    for row in rows:
        ours = [sample for sample in samples if sample.doc_id == row["doc_id"]]
        contexts = {arguments[0] for arguments in row["arguments"]}
        assert {prompts[s.prompt_hash].rstrip() for s in ours} == {c.rstrip() for c in contexts}
        answers = [response[0] for response in row["resps"]]
        for sample, answer in zip(ours, answers, strict=True):
            if isinstance(answer, str):
                assert sample.text == answer
            else:
                assert -sample.nll_sum_nats == pytest.approx(answer[0], rel=1e-4, abs=1e-4)
                assert sample.is_greedy == answer[1]
    for key, expected in results.items():
        metric, _, filter_name = key.partition(",")
        wanted = metric if filter_name == "none" else f"{metric}_{filter_name.replace('-', '_')}"
        ours = [value for (_, found), value in values.items() if found == wanted]
        if ours:
            assert sum(ours) / len(ours) == pytest.approx(expected, abs=1e-12)
    expected = {
        "arc_easy": {"acc", "acc_norm"},
        "gsm8k": {"exact_match_strict_match", "exact_match_flexible_extract", "truncated"},
        "lambada_openai": {"acc"},
    }
    assert {found for _, found in values} == expected[name]


def test_a_stored_run_is_scored_again_without_its_data(tiny, tmp_path, capsys):
    file = tmp_path / "gsm8k.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS["gsm8k"]))
    _, before = by_psplit("gsm8k", file, tiny, tmp_path / "run")
    file.unlink()
    with sqlite3.connect(tmp_path / "run" / "samples.sqlite") as db:
        db.execute("UPDATE samples SET text = '#### 7' WHERE doc_id = 3")
    assert main(["score", str(tmp_path / "run")]) == 0
    with Store(tmp_path / "run" / "samples.sqlite") as store:
        after = {(m.doc_id, m.metric): m.value for m in store.metrics() if m.sample_idx is None}
    right = {(3, "exact_match_strict_match"): 1.0, (3, "exact_match_flexible_extract"): 1.0}
    assert after == before | right
    assert "exact_match_strict_match" in capsys.readouterr().out


def test_repeats_are_measured_one_by_one_and_votes_together(tmp_path):
    """Three samples right, right, wrong: mean 2/3, the vote of all three right."""
    source = tmp_path / "votes.yaml"
    source.write_text(
        "task: votes\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\nrepeats: 3\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
        "filter_list:\n"
        "  - {name: first, filter: [{function: take_first}]}\n"
        "  - {name: vote, filter: [{function: majority_vote}, {function: take_first}]}\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"q": "1+1", "a": "2"}\n')
    task = load_task(Catalog([tmp_path]).tasks["votes"], tmp_path / "rows.jsonl")
    samples = [
        Sample(
            *("m", "votes", 0, i, "h", "r", "p", 1, 1, text, None, (1,), "stop", 5, 1, 1.0),
            *(1.0, None, 0.1, "now"),
        )
        for i, text in enumerate(["2", "2", "3"])
    ]
    content = json.loads(json.dumps(task.scorer.to_dict()))
    assert stored_scorer(content) == task.scorer
    scorer = working_scorer(content, Catalog([tmp_path]), task.docs[0])
    assert scorer == task.scorer
    found = list(scorer.score(task.docs[0], samples))
    means = {metric.metric: metric.value for metric in found if metric.sample_idx is None}
    assert means == {
        "exact_match_first": pytest.approx(2 / 3),
        "exact_match_vote": 1.0,
        "truncated": 0.0,
    }
    singles = [m.value for m in found if m.sample_idx is not None]
    assert singles == [1.0, 1.0, 0.0]
    assert task.scorer.primary == "exact_match_first"


def test_metrics_over_all_docs_at_once_are_left_out_or_refused(tmp_path):
    text = (
        "task: {name}\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        "doc_to_text: '{{{{q}}}}'\ndoc_to_target: '{{{{a}}}}'\nmetric_list:\n"
        "  - {{metric: bleu, aggregation: bleu, higher_is_better: true}}\n"
    )
    mean = "  - {metric: exact_match, aggregation: mean, higher_is_better: true}\n"
    (tmp_path / "both.yaml").write_text(text.format(name="both") + mean)
    (tmp_path / "corpus.yaml").write_text(text.format(name="corpus"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"q": "1+1", "a": "2"}\n')
    tasks = Catalog([tmp_path]).tasks
    assert load_task(tasks["both"], rows).left_out == ("bleu",)
    with pytest.raises(UsageError, match="metrics bleu with filters none, expected at least one"):
        load_task(tasks["corpus"], rows)


def test_a_tasks_own_settings_are_not_another_tasks(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS["gsm8k"][0]) + "\n")
    stock = load_task(Catalog().members("gsm8k")[0], tmp_path / "rows.jsonl")
    assert stock.sampling.temperature == 0
    assert stock.sampling.until == ("Question:", "</s>", "<|im_end|>")
    assert load_task(Catalog().tasks["psplit_gsm8k"], tmp_path / "rows.jsonl").sampling.top_k == 20


def test_given_answers_need_a_backend_that_scores(tiny, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS["arc_easy"][0]) + "\n")
    task = load_task(Catalog().members("arc_easy")[0], tmp_path / "rows.jsonl")
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu")
    backend.can_score = False
    with pytest.raises(UsageError, match="task 'arc_easy': scores given answers"):
        plan(backend, [BUILTIN_MODES["normal"]], [(task, TaskSettings())], 0)


FEW_SHOT = """
task: shots
dataset_path: json
training_split: train
test_split: test
output_type: generate_until
num_fewshot: 3
doc_to_text: "Q {{q}}"
doc_to_target: "A {{a}}"
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def prompts(task):
    def plain(messages, add_generation_prompt=True):
        return "|".join(message["content"] for message in messages)

    asked = task.questions(task.docs, BUILTIN_MODES["normal"], plain)
    return [question.text for _, (question,) in asked]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_no_doc_is_its_own_example(tmp_path):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT)
    rows = write(tmp_path / "rows.jsonl", [{"q": f"<{i}>", "a": f"[{i}]"} for i in range(12)])
    task = load_task(Catalog([tmp_path]).tasks["shots"], rows)
    assert task.few_shot == {"examples": 3, "from": str(rows)}
    for i, text in enumerate(prompts(task)):
        assert text.count("Q <") == 4
        assert text.count(f"<{i}>") == 1
        assert f"[{i}]" not in text


def test_examples_may_come_from_another_file(tmp_path):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT)
    rows = write(tmp_path / "rows.jsonl", [{"q": f"<{i}>", "a": f"[{i}]"} for i in range(4)])
    others = write(tmp_path / "train.jsonl", [{"q": f"train {i}", "a": "yes"} for i in range(9)])
    task = load_task(Catalog([tmp_path]).tasks["shots"], rows, others)
    assert task.few_shot["from"] == str(others)
    assert all(text.count("Q train") == 3 for text in prompts(task))


def test_where_examples_come_from_is_said_and_kept(tiny, tmp_path, capsys):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT)
    rows = write(tmp_path / "rows.jsonl", [{"q": f"<{i}>", "a": f"[{i}]"} for i in range(6)])
    words = ["run", "--model", str(tiny), "--tasks", "shots", "--include-path", str(tmp_path)]
    small = ["--limit", "2", "--samples", "1", "--set", "max_tokens=4", "--modes", "normal"]
    data = ["--data", f"shots={rows}"]
    assert main([*words, *small, *data, "--out", str(tmp_path / "same")]) == 0
    assert "3 examples before each question are taken from the same" in capsys.readouterr().err
    more = ["--data", f"shots:shots={rows}"]
    assert main([*words, *small, *data, *more, "--out", str(tmp_path / "own")]) == 0
    manifest = json.loads((tmp_path / "own" / "manifest.json").read_text())
    assert manifest["tasks"]["shots"]["few_shot"] == {"examples": 3, "from": str(rows)}
    assert f"3 examples before each, from {rows}" in (tmp_path / "own" / "report.md").read_text()
    assert main([*words, *small, *more, "--out", str(tmp_path / "no")]) == 2
    assert "expected the task's rows, too" in capsys.readouterr().err


def test_examples_do_not_change_when_a_run_is_extended(tmp_path):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT)
    rows = write(tmp_path / "rows.jsonl", [{"q": f"<{i}>", "a": f"[{i}]"} for i in range(12)])
    task = load_task(Catalog([tmp_path]).tasks["shots"], rows)
    assert prompts(task) == prompts(task)


def test_fewer_rows_than_examples_is_one_line(tiny, tmp_path, capsys):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT)
    rows = write(tmp_path / "rows.jsonl", [{"q": "a", "a": "b"}, {"q": "c", "a": "d"}])
    words = ["run", "--model", str(tiny), "--tasks", "shots", "--include-path", str(tmp_path)]
    assert main([*words, "--data", f"shots={rows}", "--out", str(tmp_path / "run")]) == 2
    assert "task 'shots', doc 0: the task cannot make a prompt" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_docs_hash_depends_on_its_own_content(tmp_path):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT.replace("num_fewshot: 3", "num_fewshot: 0"))
    source = Catalog([tmp_path]).tasks["shots"]
    row = {"q": "a", "a": "b", "more": {"x": 1}}
    alone = load_task(source, write(tmp_path / "1.jsonl", [row]))
    rows = [row, {"q": "c", "a": "d", "hint": "e", "more": {"x": 2, "y": 3}}]
    among = load_task(source, write(tmp_path / "2.jsonl", rows))
    assert alone.docs[0].doc_hash == among.docs[0].doc_hash
    assert among.docs[1].doc["hint"] == "e"


def test_two_kinds_of_value_in_a_field_are_refused(tmp_path):
    (tmp_path / "shots.yaml").write_text(FEW_SHOT)
    rows = write(tmp_path / "rows.jsonl", [{"q": "a", "a": 1.5}, {"q": "c", "a": 2}])
    with pytest.raises(DataError, match="row 2: a is int, in the rows before it float"):
        load_task(Catalog([tmp_path]).tasks["shots"], rows)


def test_an_empty_field_is_fine_where_the_task_allows_it(tmp_path):
    text = FEW_SHOT.replace("num_fewshot: 3", "num_fewshot: 0").replace("Q {{q}}", "{{i}} {{q}}")
    (tmp_path / "shots.yaml").write_text(text)
    rows = write(tmp_path / "rows.jsonl", [{"q": "a", "a": "b", "i": ""}])
    assert len(load_task(Catalog([tmp_path]).tasks["shots"], rows).docs) == 1


def test_likelihoods_without_a_prompt_are_left_out(tmp_path):
    source = Catalog().members("arc_easy")[0]
    metrics = "metric_list: [{metric: acc}, {metric: acc_mutual_info}]\n"
    (tmp_path / "mutual.yaml").write_text(f"include: {source.path}\ntask: mutual\n{metrics}")
    rows = write(tmp_path / "rows.jsonl", ROWS["arc_easy"])
    task = load_task(Catalog([tmp_path]).tasks["mutual"], rows)
    assert task.left_out == ("acc_mutual_info",)
    again = working_scorer(task.scorer.to_dict(), Catalog([tmp_path]), task.docs[0])
    assert again == task.scorer
    ((_, questions), *_) = task.questions(task.docs, BUILTIN_MODES["normal"], lambda m, _=1: "x")
    assert len(questions) == 4
