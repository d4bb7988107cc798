"""What primary comparisons say beyond a difference: effects, needs, claims, docs as given."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from comparing import SCORER, arms_from, grid, primary, sample
from scipy import stats

from psplit_eval.arms import Arm
from psplit_eval.comparison import AVERAGE, Design, Left, compare_modes, compare_pairs
from psplit_eval.conclusions import verdict
from psplit_eval.creativity import CreativityScorer
from psplit_eval.effects import cliffs_delta, cohens_dz, odds_ratio
from psplit_eval.margins import Claim, Verdict, decide
from psplit_eval.power import Components, docs_needed, needed
from psplit_eval.protocol import Estimand
from psplit_eval.resampling import swap_test
from psplit_eval.run_tables import primary_tables
from psplit_eval.stats import (
    fixed_docs_difference,
    holm,
    paired_mean_difference,
    stratified_difference,
    wilcoxon_p,
)


@pytest.fixture
def arms_of(tmp_path):
    return arms_from(tmp_path)


def arm(mode, values, *, metric="accuracy_avg", scorer=SCORER, samples=4, noise=None, **changes):
    """An arm of one metric: doc → value, and doc → samples (or one number for all docs)."""
    values = values if isinstance(values, dict) else dict(enumerate(values))
    good = samples if isinstance(samples, dict) else dict.fromkeys(values, samples)
    parts = {
        "task": "t", "mode": mode, "scorer": scorer, "values": {metric: values}, "bits": {},
        "tokens": {}, "planned": sum(good.values()), "missing": 0, "truncated": 0, "right": None,
        "docs": frozenset(good), "good": good, "noise": {metric: noise} if noise else {},
    }  # fmt: skip
    return Arm(**(parts | changes))


RNG = np.random.default_rng(6)
LEFT, RIGHT = RNG.binomial(4, 0.5, 60) / 4, RNG.binomial(4, 0.6, 60) / 4


def noise_of(values, samples=4):
    return {doc: p * (1 - p) / (samples - 1) for doc, p in enumerate(values)}


def pair(a=LEFT, b=RIGHT, **changes):
    return [arm("a", a, noise=noise_of(a), **changes), arm("b", b, noise=noise_of(b), **changes)]


def test_a_primary_comparison_has_effects_and_checks():
    found = primary(compare_modes(pair()))
    assert found.effects["cohens_dz"] == cohens_dz(LEFT, RIGHT)
    assert found.effects["cliffs_delta"] == cliffs_delta(LEFT, RIGHT)
    assert found.effects["odds_ratio"] == odds_ratio(LEFT, RIGHT)
    assert found.result.effect_size == pytest.approx(found.effects["cohens_dz"].value)
    assert found.checks.wilcoxon_p == wilcoxon_p(LEFT, RIGHT)
    assert found.checks.swap_test_p == swap_test(LEFT[:, None], RIGHT[:, None])
    for limits in (found.checks.bootstrap_bca, found.checks.bootstrap_studentised):
        assert limits == pytest.approx((found.result.ci_low, found.result.ci_high), abs=0.02)


def test_what_is_needed_is_more_than_there_is():
    """Against the functions of `power` on the two parts of the variance, by hand."""
    little = dict.fromkeys(range(60), 1e-6)
    other = np.roll(LEFT, 7) * 0.9 + 0.05 * (LEFT < 0.5)
    arms = [arm("a", LEFT, noise=little), arm("b", other, noise=little)]
    found = primary(compare_modes(arms))
    assert found.verdict == "inconclusive"
    gap, variance = abs(found.result.difference), found.result.spread.error**2 * 60
    assert found.need.docs == docs_needed(gap, variance)
    assert found.need.docs > 60
    assert found.need.samples is None  # docs differ too much for any number of samples
    assert found.to_dict()["needed"]["samples_a_doc"] is None
    tables = {table.title: table for table in primary_tables([found])}
    assert tables["Primary comparisons"].rows[0][-1].endswith("no number of samples a doc")


def test_samples_are_needed_where_they_are_what_varies():
    """All docs have the same chance, so that nothing but samples differs."""
    rng = np.random.default_rng(1)
    a, b = rng.binomial(4, 0.5, 200) / 4, rng.binomial(4, 0.53, 200) / 4
    found = primary(compare_modes(pair(a, b)))
    assert found.need.samples_known
    assert found.need.samples > 4
    assert found.need.docs > 200


def test_unequal_samples_count_each_with_its_own_noise():
    """s² / 4 and s² / 8 of one s²: one sample a doc in each arm is 2 s²."""
    rng = np.random.default_rng(3)
    a, b = rng.binomial(4, 0.5, 200) / 4, rng.binomial(8, 0.52, 200) / 8
    arms = [
        arm("a", a, samples=4, noise=dict.fromkeys(range(200), 0.24 / 4)),
        arm("b", b, samples=8, noise=dict.fromkeys(range(200), 0.24 / 8)),
    ]
    found = primary(compare_modes(arms))
    crossing = max(0.0, np.var(b - a, ddof=1) - 0.24 / 4 - 0.24 / 8)
    parts = Components(crossing, 0.48)
    assert found.need.samples == needed([abs(found.result.difference)], 200, parts).samples
    assert found.samples == ("4", "8")


def test_without_noise_nothing_is_said_of_samples():
    found = primary(compare_modes([arm("a", LEFT), arm("b", np.roll(LEFT, 1) * 0.95)]))
    assert (found.need.samples, found.need.samples_known) == (None, False)
    assert "samples" not in primary_tables([found])[0].rows[0][-1]


def test_nothing_is_needed_where_nothing_is_open_or_nothing_differs():
    assert primary(compare_modes(pair(LEFT * 0.1, RIGHT * 0.1 + 0.5))).need is None
    assert primary(compare_modes(pair(LEFT, LEFT))).need is None


def test_what_is_needed_counts_the_correction_in():
    """Two tasks and their average: each is left a third of alpha at worst."""
    other = np.roll(LEFT, 7) * 0.9 + 0.05 * (LEFT < 0.5)
    arms = [arm(mode, x, task=t) for t in "tu" for mode, x in (("a", LEFT), ("b", other))]
    found = [c for c in compare_modes(arms) if c.primary]
    gap, variance = abs(found[0].result.difference), found[0].result.spread.error ** 2 * 60
    assert found[0].need.docs == docs_needed(gap, variance, alpha=0.05 / 3)


def test_equivalence_needs_room_on_both_sides():
    """Power of the two one-sided tests together, by the noncentral t of scipy."""
    other = np.roll(LEFT, 1)
    gap, variance = other.mean() - LEFT.mean(), np.var(other - LEFT, ddof=1)
    design = Design(claim=Claim.EQUIVALENT, margin=0.05)
    found = primary(compare_modes([arm("a", LEFT), arm("b", other)], design))
    assert found.decision.verdict is Verdict.INCONCLUSIVE

    def chance(n):
        t = stats.t.ppf(0.95, n - 1)
        shifts = [room / math.sqrt(variance / n) for room in (0.05 + gap, 0.05 - gap)]
        return sum(stats.nct.sf(t, n - 1, shift) for shift in shifts) - 1

    assert chance(found.need.docs) >= 0.8 > chance(found.need.docs - 1)


def test_a_claim_that_no_metric_can_decide_is_said():
    arms = [arm(mode, LEFT, scorer=CreativityScorer()) for mode in "ab"]
    arms = [replace(a, values={"effective_dispersion": a.values["accuracy_avg"]}) for a in arms]
    design = Design(claim=Claim.NON_INFERIOR, margin=0.05)
    assert "decides nothing" in verdict(compare_modes(arms, design), design=design)


def test_claims_are_in_the_verdict():
    found = compare_modes(pair(LEFT, RIGHT), Design(claim=Claim.NON_INFERIOR, margin=0.3))
    said = (
        "Non-inferior at a margin of 0.3 (family 'claims', one-sided, Holm-corrected, alpha 0.05)"
    )
    assert verdict(found).endswith(f"{said}: yes: t (b against a).")


def test_given_docs_are_compared_by_their_samples():
    found = primary(compare_modes(pair(), Design(estimand=Estimand.GIVEN)))
    noise = [np.array(list(noise_of(x).values())) for x in (LEFT, RIGHT)]
    counts = np.full(len(LEFT), 4)
    expected = fixed_docs_difference(LEFT, RIGHT, (noise[0], noise[1]), (counts, counts))
    assert found.result == expected
    assert found.to_dict()["estimand"] == "docs as given"
    assert found.checks is None  # they all resample docs
    assert found.to_dict()["checks"] == {}
    assert found.need is None or found.need.docs is None


def test_docs_cannot_be_given_where_nothing_says_how_much_they_vary():
    given_docs = Design(estimand=Estimand.GIVEN)
    half = [arm("a", LEFT, noise=noise_of(LEFT)), arm("b", RIGHT)]
    found = primary(compare_modes(half, given_docs))
    assert found.verdict == "not tested: how much accuracy_avg varies given a doc is not known"
    assert "two samples a doc" in found.remedy
    assert math.isnan(found.result.p)
    one = {doc: value for doc, value in noise_of(RIGHT).items() if doc}
    half = [arm("a", LEFT, noise=noise_of(LEFT)), arm("b", RIGHT, noise=one)]
    assert primary(compare_modes(half, given_docs)).withheld


def test_claims_are_corrected_over_claims_and_for_both_answers():
    """Three tasks and their average, p of the claims times 4, 3, 2, 1 in order."""
    shifts = {"t": 0.03, "u": 0.0, "v": -0.13}
    arms = [
        arm(mode, LEFT * 0.8 + (shift + 0.05 * RIGHT if mode == "b" else 0.05), task=task)
        for task, shift in shifts.items()
        for mode in "ab"
    ]
    arms = [replace(a, values={m: {d: abs(v) for d, v in x.items()} for m, x in a.values.items()})
            for a in arms]  # fmt: skip
    design = Design(claim=Claim.NON_INFERIOR, margin=0.05)
    found = [c for c in compare_modes(arms, design) if c.primary]
    alone = [decide(c.result, Claim.NON_INFERIOR, 0.05) for c in found]
    assert [c.decision.p for c in found] == [d.p for d in alone]
    assert [c.decision.p_adjusted for c in found] == holm([d.p for d in alone])
    against = [c.decision.p_against_adjusted for c in found]
    assert against == holm([d.p_against for d in alone])
    assert against[2] < 0.05 < found[2].decision.p_adjusted  # what a 'no' rests on is shown
    (table,) = [t for t in primary_tables(found) if t.title == "Claims against the margin"]
    assert table.rows[2][6:8] == (f"{against[2]:.3f}", "no")
    assert [c.decision.verdict for c in found[:3]] == [Verdict.YES, Verdict.YES, Verdict.NO]
    said = found[2].to_dict()["claim"]
    assert (said["claim"], said["margin"], said["verdict"]) == ("non-inferior", 0.05, "no")


@pytest.mark.parametrize(("t", "alone"), [(1.9, "yes"), (-1.9, "no")])
def test_one_claim_of_many_is_not_decided_at_its_own_level(t, alone):
    """One-sided p 0.031 alone is none of three, whichever answer it is."""
    gaps = np.resize([0.02, -0.02], 60)
    gaps = gaps + t * gaps.std(ddof=1) / math.sqrt(60) - 0.05
    tasks = [[arm("a", [0.5] * 60, task=task), arm("b", 0.5 + gaps, task=task)] for task in "tuv"]
    design = Design(claim=Claim.NON_INFERIOR, margin=0.05)
    assert primary(compare_pairs(tasks[:1], design)).decision.verdict.value == alone
    every = [c for c in compare_pairs(tasks, design) if c.primary]
    of_tasks = [c for c in every if c.task != AVERAGE]  # together they do tell
    assert {c.decision.verdict for c in of_tasks} == {Verdict.INCONCLUSIVE}


def test_the_average_of_tasks_is_of_the_primary_family():
    arms = [
        arm(mode, values, task=task)
        for task, b in (("t", RIGHT), ("u", RIGHT[:20]))
        for mode, values in (("a", LEFT[: len(b)]), ("b", b))
    ]
    comparisons = compare_modes(arms)
    *tasks, found = [c for c in comparisons if c.primary]
    assert (found.task, found.family, found.correction) == (AVERAGE, "primary", "Holm")
    of_tasks = [(LEFT, RIGHT), (LEFT[:20], RIGHT[:20])]
    expected = stratified_difference([paired_mean_difference(*task, True) for task in of_tasks])
    assert found.result == expected
    together = holm([*(c.result.p for c in tasks), expected.p])
    assert [c.p_adjusted for c in (*tasks, found)] == together
    assert found.result.n == 80
    assert (found.effects, found.checks, found.need, found.decision) == ({}, None, None, None)


@pytest.mark.parametrize("docs", [0, 1, 4])
def test_below_the_minimum_of_docs_is_not_tested_which_is_not_inconclusive(docs):
    b = arm("b", dict(enumerate(RIGHT[:docs])) | {8: 0.5})
    design = Design(claim=Claim.NON_INFERIOR, margin=0.1)
    found = compare_modes([arm("a", dict(enumerate(LEFT[:docs]))), b], design)
    assert primary(found).verdict == f"not tested: docs: {docs}, expected 5 or more"
    assert primary(found).decision is None
    assert verdict(found).endswith("Take more docs.")


def test_the_average_may_tell_what_no_task_can():
    """Neither task alone is significant (p 0.06), both together are (p 0.007, of three: 0.02)."""
    gaps = np.resize([0.02, -0.02], 60)
    gaps = gaps + 1.92 * gaps.std(ddof=1) / math.sqrt(60)
    arms = [
        arm(mode, values, task=task)
        for task in "tu"
        for mode, values in (("a", [0.5] * 60), ("b", 0.5 + gaps))
    ]
    found = compare_modes(arms, Design(claim=Claim.SUPERIOR))
    assert verdict(found).startswith(
        "1 of 3 primary comparisons are significant (two-sided, Holm-corrected, alpha 0.05): "
        f"{AVERAGE} accuracy_avg: b is higher than a by 0.005 (p 0.02"
    )
    assert found[-1].decision.verdict is Verdict.YES


def test_docs_that_are_left_out_are_counted_by_reason():
    values_a = {0: 0.5, 1: math.nan, 2: 0.5, 3: 0.5, 4: 0.25, 5: 1.0, 6: 0.75, 7: 0.5}
    docs = frozenset(range(12))
    a = arm("a", values_a, docs=docs)
    kept = {doc: value for doc, value in enumerate([0.25, 0.5, 1, 0.5, 0.5, 0.75, 0.5]) if doc}
    b = arm("b", kept | {8: 0.5, 9: 0.25}, docs=docs)
    found = primary(compare_modes([a, b]))
    assert found.left == Left(only_a=2, only_b=2, neither=2, undefined=1, unequal=0)
    assert found.result.n + sum(found.left) == 12
    said = "2 only in x, 2 only in y, 2 in neither, 1 undefined"
    assert found.left.said("x", "y") == said
    (table,) = [t for t in primary_tables([found]) if t.title == "Primary comparisons"]
    assert "5 (2 only in a, 2 only in b, 2 in neither, 1 undefined)" in table.rows[0]
    assert found.to_dict()["dropped"]["only_b"] == 2
    assert found.n_docs_dropped == 7


def test_metrics_of_sets_are_compared_on_equal_numbers_only():
    story = {"metric": "utility_k", "scorer": CreativityScorer("open")}
    mixed = dict(enumerate([8] * 6 + [4] * 6))
    arms = [arm("a", LEFT[:12], samples=8, **story), arm("b", RIGHT[:12], samples=mixed, **story)]
    found = primary(compare_modes(arms))
    assert (found.result.n, found.left) == (6, Left(unequal=6))
    assert found.samples == ("8", "4 to 8")
    none = [arms[0], arm("b", RIGHT[:12], samples=4, **story)]
    assert primary(compare_modes(none)).withheld == "8 samples a doc against 4"


def test_unequal_arms_compare_accuracy_of_all_samples_and_pass_at_k(arms_of):
    """4 against 8: accuracy is that of all samples, pass@4 and maj@4 of both, pass@8 of none."""
    samples = [
        sample(mode, doc, index, "1" if (doc + index * (mode == "b")) % 3 else "2")
        for mode, count in (("a", 4), ("b", 8))
        for doc in range(12)
        for index in range(count)
    ]
    found = {c.metric: c for c in compare_modes(arms_of(samples))}
    rights = [sum((doc + index) % 3 > 0 for index in range(8)) / 8 for doc in range(12)]
    assert found["accuracy_avg"].result.value_b == pytest.approx(np.mean(rights))
    assert found["accuracy_avg"].samples == ("4", "8")
    assert found["accuracy_pass_at_4"].result.n == 12
    assert found["accuracy_maj_at_4"].result.n == 12
    assert not {"accuracy_pass_at_8", "accuracy_maj_at_8"} & set(found)


@pytest.mark.parametrize(("count", "mcnemar"), [(1, True), (2, False)])
def test_mcnemars_test_is_for_one_sample_a_doc(arms_of, count, mcnemar):
    """Both samples of a doc agree, so that its mean is 0 or 1 either way."""
    samples = [
        sample(mode, doc, index, "1" if (doc % 3 if mode == "a" else doc % 5) else "2")
        for mode in "ab"
        for doc in range(40)
        for index in range(count)
    ]
    test = primary(compare_modes(arms_of(samples))).result.test
    assert test.startswith("McNemar") == mcnemar


def test_the_noise_of_an_arm_by_hand(arms_of):
    """1 of 4 right: s² = 4 / 3 · 3 / 16 = 1 / 4, of the mean 1 / 16. pass@2 without a right sample
    is 0 (once), without a wrong one 2 / 3 (three times): 3 / 4 times 4 · 3 / 16 · (2 / 3)²."""
    (found,) = [x for x in arms_of(grid(lambda mode, doc, index: index < doc)) if x.mode == "a"]
    assert found.noise["accuracy_avg"][1] == pytest.approx(1 / 16)
    assert found.noise["accuracy_avg"][0] == found.noise["accuracy_avg"][5] == 0
    assert found.noise["accuracy_pass_at_2"][1] == pytest.approx(1 / 4)
    assert found.noise["accuracy_pass_at_4"] == {}
    assert "accuracy_maj_at_4" not in {name for name, docs in found.noise.items() if docs}


def test_one_sample_tells_no_noise(arms_of):
    one = [s for s in grid(lambda mode, doc, index: doc % 2) if s.sample_idx == 0]
    assert arms_of(one)[0].noise["accuracy_avg"] == {}


@pytest.mark.parametrize("values", [[0.5], [1.0] * 8, [math.nan] * 8, [0.0] * 4])
@pytest.mark.parametrize("design", [
    Design(), Design(estimand=Estimand.GIVEN), Design(claim=Claim.EQUIVALENT, margin=0.1),
])  # fmt: skip
def test_whatever_the_docs_the_entry_is_json(values, design):
    for comparison in compare_modes(pair(values, values), design):
        json.dumps(comparison.to_dict(), allow_nan=False)
        assert primary_tables([comparison])


def test_infinite_limits_are_null_in_json():
    """One doc of eight differs: many resamples have no spread, and bootstrap-t no limits."""
    b = [1.0] + [0.5] * 7
    entry = primary(compare_modes(pair([0.5] * 8, b))).to_dict()
    json.dumps(entry, allow_nan=False)
    assert None in entry["checks"]["bootstrap_studentised"]
