"""From a store to arms, comparisons and a verdict."""

import math

import pytest
from comparing import arms_from, grid, primary, sample

from psplit_eval.arms import Arm, arm_values, with_pools
from psplit_eval.comparison import Design, compare_modes, compare_pairs
from psplit_eval.conclusions import verdict
from psplit_eval.creativity import CreativityScorer
from psplit_eval.margins import Claim


@pytest.fixture
def arms_of(tmp_path):
    return arms_from(tmp_path)


def test_values_are_per_doc_and_samples_are_not_docs(arms_of):
    arms = arms_of(grid(lambda mode, doc, index: (doc + index) % 2 == 0))
    values = {(v.mode, v.metric): v for v in arm_values(arms[0])}
    assert values["a", "accuracy_avg"].estimate.value == 0.5
    assert values["a", "accuracy_avg"].estimate.n == 12
    assert values["a", "accuracy_avg"].n_samples == 48
    assert values["a", "entropy_bits"].estimate.value == 2.0


def test_a_difference_without_spread_is_tested_by_swapping_docs(arms_of):
    arms = arms_of(grid(lambda mode, doc, index: index < (1 if mode == "a" else 3) + doc % 2))
    found = primary(compare_modes(arms))
    assert found.result.difference == pytest.approx(0.5)
    assert found.result.p == 2 / 2**12
    assert math.isnan(found.result.effect_size)
    assert found.verdict == "higher"


def test_a_difference_that_varies_is_tested(arms_of):
    arms = arms_of(grid(lambda mode, doc, index: mode == "b" or index < doc % 3))
    comparisons = compare_modes(arms)
    found = primary(comparisons)
    assert found.verdict == "higher"
    assert found.p_adjusted == found.result.p < 0.001
    assert "b is higher than a" in verdict(comparisons)


def test_no_difference_says_so_and_claims_no_equality(arms_of):
    arms = arms_of(grid(lambda mode, doc, index: (doc * 7 + index + (mode == "a")) % 3 == 0))
    text = verdict(compare_modes(arms))
    assert text.startswith("No significant difference")
    assert "no proof of equality" in text


def test_one_mode_has_nothing_to_compare(arms_of):
    arms = arms_of([s for s in grid(lambda *_: True) if s.mode == "a"])
    assert "nothing to compare" in verdict(compare_modes(arms))


def test_missing_samples_are_counted_bounded_and_stop_inference(arms_of):
    samples = grid(lambda mode, doc, index: index < doc % 4)
    samples[0] = sample("a", 0, 0, None)
    arms = arms_of(samples)
    assert (arms[0].planned, arms[0].missing) == (48, 1)
    assert arms[0].accuracy_bounds == (18 / 48, 19 / 48)
    found = primary(compare_modes(arms))
    assert math.isnan(found.result.p)
    assert found.verdict == "not tested: 2.1% of the samples are missing"
    assert found.to_dict()["p"] is None
    allowed = primary(compare_modes(arms, Design(allow_missing=True)))
    assert not allowed.withheld


def test_one_sample_a_doc_is_not_called_too_few_docs():
    empty = {"bits": {}, "tokens": {}, "planned": 6, "missing": 0, "truncated": 0, "right": None}
    values = {"effective_dispersion": dict.fromkeys(range(6), math.nan)}
    arms = [
        Arm("t", mode, CreativityScorer(), values, **empty, good=dict.fromkeys(range(6), 1))
        for mode in "ab"
    ]
    found = compare_modes(arms)
    assert primary(found).withheld == "effective_dispersion is undefined for every doc"
    assert "two samples a doc" in verdict(found)


def test_values_at_equal_length_are_paired_at_one_length_only():
    """Runs cut their texts to what their own modes reach."""

    def arm(run, lengths):
        values = {
            "distinct_2_cut": {doc: 0.5 + doc / 20 for doc in range(6)},
            "cut_tokens": dict(enumerate(lengths)),
            "cut_samples": dict.fromkeys(range(6), 8.0),
        }
        docs = dict.fromkeys(range(6), 8)
        empty = {"bits": {}, "tokens": {}, "planned": 48, "missing": 0, "truncated": 0}
        return Arm("t", "m", CreativityScorer(), values, **empty, right=None, good=docs, run=run)

    pair = arm("a", [32.0] * 6), arm("b", [32.0] * 4 + [16.0] * 2)
    found = {c.metric: c.result.n for c in compare_pairs([pair])}
    assert found["distinct_2_cut"] == 4
    assert found["cut_tokens"] == 6


def test_a_doc_that_one_mode_lacks_is_dropped_and_counted(arms_of):
    samples = grid(lambda mode, doc, index: index < doc % 4)
    lost = [sample("a", 0, i, None) for i in range(4)]
    arms = arms_of([*lost, *(s for s in samples if (s.mode, s.doc_id) != ("a", 0))])
    found = primary(compare_modes(arms, Design(allow_missing=True)))
    assert (found.result.n, found.n_docs_dropped) == (11, 1)


def test_truncated_answers_count_as_wrong(arms_of):
    samples = grid(lambda *_: True)
    samples[:4] = [sample("a", 0, i, "1", "length") for i in range(4)]
    arms = arms_of(samples)
    assert arms[0].truncated == 4
    assert arms[0].values["accuracy_avg"][0] == 0.0


def test_families_are_corrected_apart(arms_of):
    arms = arms_of(grid(lambda mode, doc, index: mode == "b" or index < doc % 3))
    comparisons = compare_modes(arms)
    assert {(c.primary, c.correction) for c in comparisons} == {
        (True, "Holm"),
        (False, "Benjamini-Hochberg"),
    }
    names = [c.metric for c in comparisons]
    assert "entropy_bits" in names
    assert "accuracy_pass_at_1" not in names  # the same number as accuracy_avg


def test_a_task_that_nobody_solves_is_no_evidence_of_anything(arms_of):
    text = verdict(compare_modes(arms_of(grid(lambda *_: False))))
    assert text.startswith("Nothing can be said")


def test_equal_arms_and_a_claim_that_holds_do_not_contradict_each_other(arms_of):
    """Nothing differs in 12 docs: (1 - 0.5)^12 is far below 0.05, so they are equivalent."""
    arms = arms_of(grid(lambda *_: False))
    text = verdict(compare_modes(arms, Design(claim=Claim.EQUIVALENT, margin=0.5)))
    assert text.startswith("No difference was seen")
    assert "yes: t" in text


def test_a_mode_without_any_sample_is_withheld_not_forgotten(arms_of):
    samples = [s for s in grid(lambda mode, doc, index: index < doc % 4) if s.mode == "a"]
    lost = [sample("b", doc, 0, None) for doc in range(12)]
    found = compare_modes(arms_of([*samples, *lost]))
    assert primary(found).verdict.startswith("not tested: 100.0%")
    assert "not tested" in verdict(found)


def test_a_doc_that_failed_in_both_modes_is_dropped_and_counted(arms_of):
    samples = [s for s in grid(lambda mode, doc, index: index < doc % 4) if s.doc_id]
    lost = [sample(mode, 0, i, None) for mode in "ab" for i in range(4)]
    found = compare_modes(arms_of([*lost, *samples]), Design(allow_missing=True))
    assert {c.n_docs_dropped for c in found} == {1}
    assert primary(found).result.n == 11


def test_a_mode_that_was_never_asked_for_on_a_task_is_no_arm_there(arms_of):
    samples = grid(lambda mode, doc, index: mode == "b" or index < doc % 3)
    extra = [sample("c", doc, 0, "1", task="u") for doc in range(12)]
    arms = arms_of([*samples, *extra])
    assert [(arm.task, arm.mode) for arm in arms] == [("t", "a"), ("t", "b"), ("u", "c")]
    found = primary(compare_modes(arms))
    assert found.p_adjusted == found.result.p


def test_a_withheld_comparison_hides_no_other(arms_of):
    samples = grid(lambda mode, doc, index: mode == "b" or index < doc % 3)
    lost = [sample(mode, doc, 0, None, task="u") for mode in "ab" for doc in range(12)]
    text = verdict(compare_modes(arms_of([*samples, *lost])))
    assert "2 of 3 primary comparisons are not tested" in text
    assert "1 of 1 primary comparisons are significant" in text
    assert "t accuracy_avg: b is higher than a" in text


@pytest.fixture
def two_tasks(arms_of):
    """Task t: a right in docs 0–5, b in all; task u: both right in docs 0–2, one doc of a lost."""
    samples = [
        sample(mode, doc, index, "1" if right else "2", task=task, bits=bits)
        for task, bits, rights in (
            ("t", 4.0, {"a": range(6), "b": range(12)}),
            ("u", 6.0, {"a": range(3), "b": range(3)}),
        )
        for mode in "ab"
        for doc in range(12)
        for index, right in enumerate([doc in rights[mode]] * 4)
    ]
    lost = [s for s in samples if (s.task, s.mode, s.doc_id) == ("u", "a", 11)]
    kept = [s for s in samples if s not in lost]
    return arms_of([*kept, *(sample("a", 11, s.sample_idx, None, task="u") for s in lost)])


def test_a_pool_holds_the_docs_of_all_its_tasks(two_tasks):
    arms = with_pools(two_tasks, {"both": ["t", "u"]})
    assert [(arm.task, arm.mode, arm.pool) for arm in arms] == [
        *(("t", mode, "both") for mode in "ab"),
        *(("u", mode, "both") for mode in "ab"),
        *(("both", mode, "") for mode in "ab"),
    ]
    pooled = {arm.mode: arm for arm in arms if arm.task == "both"}
    assert len(pooled["a"].docs) == 24
    values = {v.metric: v for v in arm_values(pooled["a"])}
    assert values["accuracy_avg"].estimate.value == pytest.approx(9 / 23)
    assert values["accuracy_avg"].estimate.n == 23
    assert values["entropy_bits"].estimate.value == pytest.approx((12 * 4 + 11 * 6) / (23 * 2))
    assert (pooled["a"].planned, pooled["a"].missing, pooled["a"].right) == (96, 4, 36)


def test_a_pool_is_paired_task_by_task_and_alone_is_primary(two_tasks):
    arms = with_pools(two_tasks, {"both": ["t", "u"]})
    comparisons = compare_modes(arms, Design(allow_missing=True))
    found = primary(comparisons)
    assert (found.task, found.metric) == ("both", "accuracy_avg")
    assert found.result.difference == pytest.approx(6 / 23)
    assert (found.result.n, found.n_docs_dropped) == (23, 1)
    assert {c.task for c in comparisons if not c.primary} == {"t", "u", "both"}


def test_pools_may_overlap_and_incomplete_ones_are_left_out(two_tasks):
    pools = {"both": ["t", "u"], "again": ["u", "t"], "more": ["t", "u", "v"]}
    arms = with_pools(two_tasks, pools)
    assert [arm.task for arm in arms if arm.mode == "a"] == ["t", "again", "u", "both"]


def test_a_pool_of_one_mode_leaves_the_other_modes_comparisons_alone(arms_of):
    samples = [
        sample(mode, doc, index, "1" if (doc + index) % 3 else "2", task=task)
        for task, modes in (("t", "ab"), ("u", "a"))
        for mode in modes
        for doc in range(8)
        for index in range(2)
    ]
    arms = with_pools(arms_of(samples), {"both": ["t", "u"]})
    assert [(arm.task, arm.mode) for arm in arms if arm.task == "both"] == [("both", "a")]
    found = primary(compare_modes(arms))
    assert (found.task, found.arm_a, found.arm_b) == ("t", "a", "b")


def test_many_cut_answers_are_warned_of(arms_of):
    samples = [
        sample(mode, doc, index, "1", reason="length" if doc < cut else "stop")
        for mode, cut in (("a", 3), ("b", 6))
        for doc in range(12)
        for index in range(2)
    ]
    arms = arms_of(samples)
    text = verdict(compare_modes(arms), arms)
    assert "many answers were cut at the token limit (t 50%)" in text
    assert "Caution" not in verdict(compare_modes(arms), [])


def test_an_incomplete_arm_has_no_interval_unless_allowed(arms_of):
    kept = grid(lambda mode, doc, index: doc % 5 > index)
    arm = arms_of([*kept, *(sample("a", 20, i, None) for i in range(4))])[0]
    assert all(math.isnan(value.estimate.ci_low) for value in arm_values(arm))
    assert any(not math.isnan(v.estimate.ci_low) for v in arm_values(arm, allow_missing=True))
