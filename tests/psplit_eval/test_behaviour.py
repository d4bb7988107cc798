"""What is known of a run's modes beside each other, put together from the store."""

import json
import math

import pytest
from behaving import PLACEBOS, PLAIN, SPLIT, behaviour, fill, manifest, mode, opened, policy, sample

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.arms import Arm
from psplit_eval.behaviour import Compared, reference_mode, response_text
from psplit_eval.margins import Verdict
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.verdicts import Margins


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as each:
        yield each


def written(found):
    """divergence.json as it is read again; no number in it may be undefined."""
    return json.loads(json.dumps(found.to_dict(), allow_nan=False))


def verdicts(found):
    return {(a.question, a.mode_a, a.mode_b): a.verdict.value for a in found.answers}


@pytest.mark.parametrize(
    ("modes", "name"),
    [
        ([mode("high"), mode("normal")], "normal"),
        ([mode("high"), mode("low")], "high"),
        ([mode("high"), mode("plain", None, "normal"), mode("normal")], "plain"),
        ([{"name": "old"}, {"name": "older"}], "old"),
    ],
)
def test_the_reference_is_the_first_normal_mode_or_the_first(modes, name):
    assert reference_mode(modes) == name


def test_modes_far_apart_are_split(store):
    fill(store, SPLIT)
    found = behaviour(store, manifest())
    assert verdicts(found) == {("split", "normal", "high"): "yes"}
    assert found.placebos == PLACEBOS
    content = written(found)
    assert (content["format"], content["reference"]) == (1, "normal")
    assert content["splits"][0]["kl_bits"]["value"] == pytest.approx(0.8, abs=0.05)
    assert content["splits"][0]["entropy_gap_bits"]["value"] == pytest.approx(0.6, abs=0.05)
    matrix = {(m["mode"], m["policy"]): m["kl_bits"]["value"] for m in content["matrix"]}
    assert matrix.keys() == {("normal", "high"), ("high", "normal")}
    assert matrix["high", "normal"] == pytest.approx(0.5, abs=0.05)
    kl = {(f["mode_a"], f["mode_b"]): f for f in content["findings"] if f["measure"] == "kl_bits"}
    assert kl.keys() == matrix.keys()
    assert kl["normal", "high"]["value"] == pytest.approx(matrix["normal", "high"])


def test_a_run_that_was_never_scored_has_an_answer_too(store):
    store.add_samples([sample("normal", "t", 0, 0), sample("high", "t", 0, 0)])
    for content in (manifest(policies=None), manifest(policies=None, divergence=None)):
        found = behaviour(store, content)
        assert verdicts(found) == {("split", "normal", "high"): "inconclusive"}
        assert "psplit-eval diverge" in found.answers[0].evidence
        assert written(found)["matrix"] == []


def test_a_manifest_without_roles_is_read(store):
    fill(store, SPLIT)
    content = manifest()
    for each in (*content["modes"], *content["divergence"]["policies"]):
        del each["role"]
    found = behaviour(store, content)
    assert found.splits[0].excesses[1].direction == 1  # of no role: the one that it takes


def test_one_mode_has_no_answers(store):
    fill(store, {("high", "high"): (0.0, 2.0)})
    found = behaviour(store, manifest(["high"], ["high"]))
    assert written(found)["answers"] == written(found)["splits"] == []


def test_two_modes_of_one_prompt_are_not_split_whatever_was_scored(store):
    fill(store, {("a", "a"): (0.0, 2.0), ("a", "b"): (0.0, 2.0), ("b", "a"): (0.0, 2.0)})
    modes = [mode("a", "Be brief."), mode("b", "Be brief.")]
    found = behaviour(store, manifest(modes, [policy("a", "Be brief."), policy("b", "Be brief.")]))
    assert verdicts(found) == {("split", "a", "b"): "no"}
    content = written(found)
    assert content["splits"][0]["kl_bits"]["value"] is None
    assert {each["share"] for each in content["tokens"]} == {None}
    assert {m["kl_bits"]["value"] for m in content["matrix"]} == {0.0}


def test_modes_that_were_tried_without_samples_are_answered_too(store):
    low = {("normal", "low"): (0.7, 1.2), ("high", "low"): (0.9, 1.2)}
    fill(store, SPLIT | low)
    found = behaviour(store, manifest(policies=["normal", "high", "low", *PLACEBOS]))
    assert verdicts(found) == {
        ("split", "normal", "high"): "yes", ("split", "normal", "low"): "yes"
    }  # fmt: skip
    assert {p for _, p in found.matrix} == {"normal", "high", "low"}
    assert {m for m, _ in found.matrix} == {"normal", "high"}


@pytest.mark.parametrize(
    ("task", "note"),
    [
        ({}, ""),
        ({"temperature": 0.6, "top_k": 20}, "temperature 0.6, top-k 20"),
        ({"top_p": 0.95}, "top-p 0.95"),
        ({"min_p": 0.1}, "min-p 0.1"),
        ({"temperature": 0.0}, "temperature 0"),
    ],
)
def test_contexts_that_were_drawn_otherwise_are_labelled(store, task, note):
    fill(store, SPLIT)
    tasks = {"t": {"sampling": PLAIN | task}}
    found = behaviour(store, manifest(tasks=tasks)).findings
    of_tokens = [f for f in found if f.unit == "bits a token"]
    assert ("kl_sampled_bits" in {f.measure for f in of_tokens}) == (not note)
    if note:
        assert {f.note for f in of_tokens} == {f"contexts drawn at {note}"}
    else:
        assert not any("drawn" in f.note for f in of_tokens)


def test_a_mode_of_its_own_temperature_is_labelled_alone(store):
    fill(store, SPLIT)
    hot = {
        "t": {"sampling": dict(PLAIN), "sampling_by_mode": {"high": PLAIN | {"temperature": 2.0}}}
    }
    found = behaviour(store, manifest(tasks=hot)).findings
    notes = {f.mode_a: f.note for f in found if f.measure == "kl_bits"}
    assert notes == {"normal": "", "high": "contexts drawn at temperature 2"}
    assert {f.mode_a for f in found if f.measure == "kl_sampled_bits"} == {"normal"}


def test_estimates_of_a_server_are_called_so(store):
    fill(store, SPLIT)
    content = manifest()
    content["divergence"]["exact"] = False
    (note,) = {f.note for f in behaviour(store, content).findings if f.measure == "kl_bits"}
    assert "lower bound" in note


def test_tasks_that_were_only_scored_say_nothing(store):
    fill(store, SPLIT, task="given")
    found = behaviour(store, manifest(tasks={"given": {"sampling": {}}}))
    assert verdicts(found)["split", "normal", "high"] == "inconclusive"
    assert list(found.findings) == []


def test_the_matrix_leaves_tasks_of_few_docs_out_where_there_are_others(store):
    fill(store, SPLIT)
    fill(store, {pair: (9 * kl, e) for pair, (kl, e) in SPLIT.items()}, docs=3, task="few")
    tasks = {name: {"sampling": dict(PLAIN)} for name in ("t", "few")}
    both = behaviour(store, manifest(tasks=tasks)).matrix["normal", "high"]
    assert both.difference == pytest.approx(0.8, abs=0.05)
    alone = behaviour(store, manifest(tasks={"few": tasks["few"]})).matrix["normal", "high"]
    assert alone.difference == pytest.approx(7.2, abs=0.5)
    assert math.isnan(alone.ci_low)


def test_tokens_are_shown_by_their_texts_as_far_as_known(store):
    fill(store, SPLIT)
    content = manifest()
    content["divergence"]["token_texts"] = {"0": "so", "1": " much"}
    tokens = [t for t in written(behaviour(store, content))["tokens"] if t["mode"] == "normal"]
    assert {t["token"]: t["text"] for t in tokens} == {0: "so", 1: " much", 2: "2"}
    assert {t["places"] for t in tokens} == {16}
    assert sum(t["share"] for t in tokens) == pytest.approx(1)


def test_positions_are_of_all_modes_and_policies_but_placebos(store):
    fill(store, SPLIT)
    places = written(behaviour(store, manifest()))["by_position"]
    assert {(p["mode"], p["policy"]) for p in places} == {("normal", "high"), ("high", "normal")}
    first = next(p for p in places if p["mode"] == "normal" and p["first"] == 0)
    assert first["kl_bits"]["value"] == pytest.approx(0.8, abs=0.05)
    assert first["entropy_mode_bits"]["value"] == pytest.approx(2.0, abs=0.05)
    assert first["entropy_policy_bits"]["value"] == pytest.approx(2.6, abs=0.05)


def test_margins_are_those_that_were_given(store):
    fill(store, SPLIT)
    found = behaviour(store, manifest(), compared=Compared(Margins(kl=0.9)))
    assert found.answers[0].verdict is Verdict.NO
    assert written(found)["margins"]["kl"] == 0.9


def arm(mode, right, run="", docs=40):
    scorer = AccuracyScorer(AnswerFormat(r"(\d+)"))
    values = {doc: float(doc % 10 < right) for doc in range(docs)}
    return Arm(
        task="t", mode=mode, scorer=scorer, values={"accuracy_avg": values}, bits={}, tokens={},
        planned=docs, missing=0, truncated=0, right=None, docs=frozenset(values),
        good=dict.fromkeys(values, 1), run=run,
    )  # fmt: skip


def test_accuracy_is_answered_of_every_mode_and_of_the_baseline(store):
    arms = [arm("normal", 6), arm("high", 2), arm("low", 6)]
    baseline = [(arm("normal", 9, "before"), arm("normal", 6, "now"))]
    content = manifest(["normal", "high", "low"], None)
    compared = Compared(Margins(accuracy=0.2), baseline=baseline)
    found = verdicts(behaviour(store, content, arms, compared))
    assert {key: value for key, value in found.items() if key[0] == "accuracy kept"} == {
        ("accuracy kept", "before/normal", "now/normal"): found[
            "accuracy kept", "before/normal", "now/normal"
        ],
        ("accuracy kept", "normal", "high"): "no",
        ("accuracy kept", "normal", "low"): "yes",
    }
    assert found["accuracy kept", "before/normal", "now/normal"] != "yes"


def test_a_response_is_its_thought_and_its_text():
    from dataclasses import replace

    said = sample("normal", "t", 0, 0)
    assert response_text(said) == "normal 0"
    assert response_text(replace(said, thought="hm")) == "hm\nnormal 0"
    assert response_text(replace(said, text=None)) == ""
