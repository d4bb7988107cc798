"""Everything about two modes' texts on a task."""

import math
import random

import numpy as np
import pytest

from psplit_eval import twosample
from psplit_eval.accuracy import Grade
from psplit_eval.textual import TextDoc, text_findings

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "roof", "perhaps", "wait"]
VECTORS = {
    "energy_distance",
    "mmd_squared",
    "energy_distance_within_docs",
    "energy_share_within_docs",
    "classifier_accuracy",
}
BLEU = {"self_bleu_4_a", "self_bleu_4_b", "cross_bleu_4", "bleu_4_self_minus_cross"}
ANSWERS = {f"answer_agreement_{of}" for of in ("within_a", "within_b", "across", "deficit")}
MARKERS = {
    f"{marker}_{of}"
    for marker in ("hedging", "rechecking", "alternatives")
    for of in ("per_100_words", "share")
} | {"words", "characters"}


def docs(n, k=3, vectors=True, answers=True):
    rng, draw = np.random.default_rng(0), random.Random(0)

    def texts():
        return [" ".join(draw.choices(WORDS, k=9)) for _ in range(k)]

    def grades():
        return [Grade(draw.choice("AC"), False) for _ in range(k)] if answers else None

    def embedded():
        return rng.normal(size=(k, 5)).astype(np.float32) if vectors else None

    return [
        TextDoc(i, texts(), texts(), embedded(), embedded(), grades(), grades()) for i in range(n)
    ]


def values(findings):
    return {finding.measure: finding.estimate.value for finding in findings}


def test_everything_that_can_be_had_is_reported_once():
    found = text_findings("sums", "normal", "high", docs(12))
    assert {finding.measure for finding in found} == VECTORS | BLEU | MARKERS | ANSWERS
    assert len(found) == len(VECTORS | BLEU | MARKERS | ANSWERS)
    assert {(f.task, f.mode_a, f.mode_b) for f in found} == {("sums", "normal", "high")}
    assert all(math.isfinite(f.estimate.value) and f.estimate.n == 12 for f in found)
    assert all(math.isfinite(f.p) == bool(f.test) for f in found)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("answers", [True, False])
def test_what_there_is_nothing_for_is_left_out(vectors, answers):
    found = text_findings("t", "a", "b", docs(6, vectors=vectors, answers=answers))
    expected = BLEU | MARKERS | (VECTORS if vectors else set()) | (ANSWERS if answers else set())
    assert {finding.measure for finding in found} == expected
    assert text_findings("t", "a", "b", []) == []


def test_the_order_of_docs_plays_no_part():
    all_docs = docs(14)
    shuffled = random.Random(1).sample(all_docs, len(all_docs))
    one, other = (text_findings("t", "a", "b", given) for given in (all_docs, shuffled))
    assert values(one) == pytest.approx(values(other))
    assert [f.p for f in one] == pytest.approx([f.p for f in other], nan_ok=True)


def test_costly_tests_look_at_the_same_docs_of_a_longer_list(monkeypatch):
    monkeypatch.setattr(twosample, "DOCS_AT_MOST", 8)
    found = {f.measure: f.estimate.n for f in text_findings("t", "a", "b", docs(20))}
    assert {found[name] for name in VECTORS | BLEU} == {8}
    assert {found[name] for name in MARKERS | ANSWERS} == {20}


def test_the_same_samples_in_both_modes_differ_in_nothing():
    same = [
        TextDoc(d.doc_id, ["a cat sat on it"] * 3, ["a cat sat on it"] * 3, v, v, g, g)
        for d in docs(8)
        for v, g in [(np.ones((3, 5)), [Grade("A", False)] * 3)]
    ]
    found = text_findings("t", "a", "b", same)
    none = values(found)
    for name in MARKERS | {"bleu_4_self_minus_cross", "answer_agreement_deficit"}:
        assert none[name] == 0
    assert none["classifier_accuracy"] == 0.5
    assert none["answer_agreement_across"] == none["cross_bleu_4"] == 1
    assert none["energy_distance"] == pytest.approx(0, abs=1e-12)
    assert all(f.p == 1 for f in found if f.test)


@pytest.mark.parametrize(
    ("given", "undefined"),
    [
        (docs(1), {"energy_distance", "mmd_squared", "classifier_accuracy"}),
        (
            docs(7, k=1),
            BLEU | ANSWERS | {"energy_distance_within_docs", "energy_share_within_docs"},
        ),
        (docs(7, k=0), BLEU | ANSWERS | VECTORS | MARKERS),
    ],
    ids=["one doc", "one sample a doc", "no samples"],
)
def test_too_little_is_nan_with_a_reason(given, undefined):
    for finding in text_findings("t", "a", "b", given):
        assert math.isnan(finding.estimate.value) == (finding.measure in undefined)
        assert finding.note.startswith("undefined") == (finding.measure in undefined)
        if len(given) == 1 or finding.measure in undefined:
            assert finding.test == ""


def test_empty_texts_are_texts_without_words():
    empty = [TextDoc(i, ["", ""], ["", ""], np.zeros((2, 3)), np.zeros((2, 3))) for i in range(6)]
    found = {f.measure: f for f in text_findings("t", "a", "b", empty)}
    assert found["words"].estimate.value == found["hedging_share"].estimate.value == 0
    for name in VECTORS | BLEU | {"hedging_per_100_words"}:
        assert math.isnan(found[name].estimate.value)
        assert found[name].note.startswith("undefined")
