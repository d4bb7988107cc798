"""lm-eval's own tasks: the same prompts, the same answers and the same numbers as by lm_eval."""

import json
import sqlite3

import pytest

from psplit_eval.backends import HFBackend
from psplit_eval.catalog import Catalog
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.cli import main
from psplit_eval.errors import UsageError
from psplit_eval.harness import load_task
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
    class Talker(HFBackend):
        can_score = False

    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS["arc_easy"][0]) + "\n")
    task = load_task(Catalog().members("arc_easy")[0], tmp_path / "rows.jsonl")
    backend = Talker(resolve_checkpoint(str(tiny)), device="cpu")
    with pytest.raises(UsageError, match="task 'arc_easy': scores given answers"):
        plan(backend, [BUILTIN_MODES["normal"]], [(task, TaskSettings())], 0)
