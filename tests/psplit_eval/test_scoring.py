"""Scorers: the same object for lm-eval and for stored samples."""

import math

import pytest

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.creativity import CreativityScorer
from psplit_eval.errors import DataError
from psplit_eval.measures import stored_scorer
from psplit_eval.protocol import rule_of
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import Doc, Sample

NUMBER = AccuracyScorer(AnswerFormat(r"(\d+)"))


def sample(text, index=0, reason="stop"):
    return Sample(
        *("m", "t", 3, index, "h", "r", "p", 1, 1, text, None, (1, 2), reason, 5, 2),
        *(1.0, 1.0, None, 0.1, "now"),
    )


def scored(scorer, target, *samples):
    found = {}
    for metric in scorer.score(Doc("t", 3, "h", {}, target), list(samples)):
        found.setdefault(metric.metric, []).append(metric.value)
    return found


def test_accuracy_by_hand():
    found = scored(NUMBER, "7", sample("7"), sample("7", 1), sample("8", 2), sample("none", 3))
    assert found["correct"] == [1, 1, 0, 0]
    assert found["accuracy_avg"] == [0.5]
    assert found["accuracy_pass_at_1"] == [0.5]
    assert found["accuracy_pass_at_2"] == [pytest.approx(1 - 1 / 6)]
    assert found["accuracy_pass_at_4"] == [1.0]
    assert found["accuracy_maj_at_4"] == [1.0]
    assert found["truncated"] == [0.0]


def test_a_truncated_answer_is_wrong_and_has_no_vote():
    cut = [sample("7", index, "length") for index in range(3)]
    found = scored(NUMBER, "7", *cut, sample("7", 3), sample("8", 4))
    assert found["correct"] == [0, 0, 0, 1, 0]
    # two of five subsets lack a vote and are decided by the other one, three are a tie
    assert found["accuracy_maj_at_4"] == [pytest.approx((1 + 0 + 3 * 0.5) / 5)]
    assert found["truncated"] == [0.6]


SUMS = AccuracyScorer(AnswerFormat(r"\A\s*([1-9 +]+)\s*\Z", checker="sum"))


def test_different_right_answers_are_counted_by_their_texts():
    texts = ["4+5", "4 + 5", "5+4", "2+3+4", "4+4", "9", "4+5 "]
    found = scored(SUMS, "9", *map(sample, texts, range(7)))
    assert found["correct"] == [1, 1, 1, 1, 0, 0, 1]
    assert found["accuracy_unique"] == [3]
    assert found["accuracy_avg"] == [pytest.approx(5 / 7)]
    assert not [name for name in found if "maj" in name]  # no vote among right answers
    assert SUMS.info("accuracy_unique").unit == "answers"
    assert SUMS.info("accuracy_unique").needs_equal_samples
    assert rule_of("accuracy_unique").number == "number of the set of samples"
    assert SUMS({"answer": "9"}, [texts]) == {"accuracy_avg": 5 / 7, "accuracy_unique": 3}


def test_a_truncated_or_wrong_answer_is_no_right_answer():
    assert scored(SUMS, "9", sample("4+5", 0, "length"))["accuracy_unique"] == [0]
    assert scored(SUMS, "9", sample("4+6"), sample(""))["accuracy_unique"] == [0]


def test_only_where_there_are_several_right_answers():
    assert "accuracy_unique" not in scored(NUMBER, "7", sample("7"), sample("7", 1))
    assert "checker" not in NUMBER.to_dict()["answer"]  # manifests stay as they were


def at_k(n, which):
    texts = ["7" if index % 3 else "8" for index in range(n)]
    names = scored(NUMBER, "7", *map(sample, texts, range(n)))
    prefix = f"accuracy_{which}_at_"
    return [int(name.removeprefix(prefix)) for name in names if name.startswith(prefix)]


def test_which_k_are_reported_is_one_list_cut_at_the_number_of_samples():
    assert at_k(100, "pass") == [*range(1, 17), 32, 64]
    assert at_k(100, "maj") == [4, 8, 16, 32, 64]
    for n in (1, 3, 4, 7, 8, 15, 16, 17, 31, 63):
        for which in ("pass", "maj"):
            assert at_k(n, which) == [k for k in at_k(100, which) if k <= n]


def test_lm_eval_may_hand_over_one_text_or_all():
    assert NUMBER({"answer": "7"}, ["it is 7"]) == {"accuracy_avg": 1.0}
    assert NUMBER({"answer": "7"}, [["7", "8"]]) == {"accuracy_avg": 0.5}
    diversity = CreativityScorer()({}, [["a b c", "d e f"]])
    assert diversity["div_ngram_2"] == 1.0


def test_diversity_of_one_text_is_undefined_where_it_compares():
    found = scored(CreativityScorer(), "", sample("one two three"))
    assert math.isnan(found["div_bleu_4"][0])
    assert found["div_ngram_2"] == [1.0]
    assert found["tokens_mean"] == [2.0]


@pytest.mark.parametrize("scorer", [NUMBER, SUMS, AccuracyScorer(), CreativityScorer()])
def test_a_manifest_restores_the_scorer(scorer):
    assert stored_scorer(scorer.to_dict()) == scorer


def test_an_unknown_scorer_is_an_error():
    with pytest.raises(DataError, match="'poetry'"):
        stored_scorer({"kind": "poetry"})
