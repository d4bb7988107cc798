"""Three questions about two modes, and when they are left open."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.arms import Arm, with_pools
from psplit_eval.comparison import AVERAGE, Design
from psplit_eval.creativity import CreativityScorer
from psplit_eval.judged import Said
from psplit_eval.margins import Verdict
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import CrossSums
from psplit_eval.verdicts import Margins, accuracy_kept, more_creative, not_split, split

YES, NO, OPEN = Verdict.YES, Verdict.NO, Verdict.INCONCLUSIVE
MARGINS = Margins()
RNG = np.random.default_rng(11)
TOKENS = 50


def sums(policy, kl, gap, tokens=TOKENS, samples=4):
    """Docs where a policy has so much KL and so much more entropy than the reference's 2 bits."""
    return {
        doc: CrossSums(
            *(policy, doc, samples, tokens, (2 + more) * tokens, 3.0 * tokens),
            *(bits * tokens, bits * tokens, 0.1 * tokens),
        )
        for doc, (bits, more) in enumerate(zip(kl, gap, strict=True))
    }


def around(value, docs=20, spread=0.02, rng=RNG):
    return rng.normal(value, spread, docs)


def policies(docs=20, spread=0.02, rng=RNG, **levels):
    """One task: policy → (KL, entropy gap) as means over docs; the reference has none of either."""
    made = {"normal": sums("normal", np.zeros(docs), np.zeros(docs))}
    for name, (kl, gap) in levels.items():
        made[name] = sums(name, around(kl, docs, spread, rng), around(gap, docs, spread, rng))
    return made


PLACEBOS = {"p1": (0.02, 0.0), "p2": (0.05, 0.01), "p3": (0.03, 0.0)}


def decided(role="high", margins=MARGINS, placebos=PLACEBOS, tasks=1, **mode):
    by_task = {f"t{i}": policies(mode=tuple(mode.values()), **placebos) for i in range(tasks)}
    return split("normal", "mode", role, by_task, list(placebos), margins)


def test_a_mode_beyond_every_placebo_is_a_policy_of_its_own():
    found = decided(kl=0.5, gap=0.3)
    assert found.answer.verdict is YES
    assert found.kl.difference == pytest.approx(0.5, abs=0.02)
    assert found.entropy.difference == pytest.approx(0.3, abs=0.02)
    assert {(e.measure, e.placebo) for e in found.excesses} == {
        ("entropy", "normal"),
        *((measure, placebo) for measure in ("kl", "entropy") for placebo in PLACEBOS),
    }
    nearest = next(e for e in found.excesses if (e.measure, e.placebo) == ("kl", "p2"))
    assert nearest.difference.difference == pytest.approx(0.45, abs=0.02)
    assert "beyond p2, the nearest of 3 (needs more than 0.1)" in found.answer.evidence
    assert found.tasks == ["t0"]


@pytest.mark.parametrize("near", [{"p2": (0.49, 0.01)}, {"p2": (0.02, 0.29)}])
def test_one_placebo_that_does_as_much_is_enough_for_a_no(near):
    assert decided(kl=0.5, gap=0.3, placebos=PLACEBOS | near).answer.verdict is NO


@pytest.mark.parametrize(
    ("role", "gap", "verdict"),
    [
        ("high", 0.3, YES),
        ("high", -0.3, NO),
        ("high", 0.0, NO),
        ("low", -0.3, YES),
        ("low", 0.3, NO),
        ("other", 0.3, YES),
        ("other", -0.3, YES),
        ("other", 0.0, NO),
    ],
)
def test_entropy_differs_in_the_direction_of_the_role(role, gap, verdict):
    assert decided(role, kl=0.5, gap=gap).answer.verdict is verdict


def test_other_margins_may_give_other_answers():
    assert decided(kl=0.5, gap=0.3, margins=Margins(kl=0.6)).answer.verdict is NO
    assert decided(kl=0.5, gap=0.3, margins=Margins(entropy=0.4)).answer.verdict is NO
    nothing = dict.fromkeys(PLACEBOS, (0.0, 0.0))
    assert decided(kl=0.14, gap=0.3, placebos=nothing).answer.verdict is YES


def test_the_gap_itself_has_to_exceed_the_margin_too():
    """A mode with less entropy than the reference, whose placebos have less still."""
    cold = dict.fromkeys(PLACEBOS, (0.02, -0.4))
    found = decided(kl=0.5, gap=-0.14, placebos=cold)
    assert found.answer.verdict is NO
    assert "beyond normal, the nearest" in found.answer.evidence


def test_a_mode_amid_the_placebos_is_no_policy_of_its_own_whatever_its_role():
    wide = {"p1": (0.02, -0.4), "p2": (0.02, 0.35), "p3": (0.02, -0.3)}
    assert decided("other", kl=0.5, gap=0.01, placebos=wide).answer.verdict is NO


def test_two_placebos_are_too_few_for_a_yes():
    few = {name: PLACEBOS[name] for name in ("p1", "p2")}
    assert decided(kl=0.5, gap=0.3, placebos=few).answer.verdict is OPEN
    assert decided(kl=0.06, gap=0.3, placebos=few).answer.verdict is NO


def test_bounds_decide_nothing_and_other_temperatures_are_said():
    made = {"t": policies(mode=(0.5, 0.3), **PLACEBOS)}
    found = split("normal", "mode", "high", made, list(PLACEBOS), MARGINS, exact=False)
    assert found.answer.verdict is OPEN
    assert "bounds from the most probable tokens" in found.answer.evidence
    warm = split("normal", "mode", "high", made, list(PLACEBOS), MARGINS, drawn="temperature 0.6")
    assert warm.answer.verdict is YES
    assert warm.answer.evidence.endswith("; contexts drawn at temperature 0.6")


def test_p_values_are_those_of_students_t():
    """One task, equal lengths: the excess is a mean of docs' differences in bits a token."""
    made = policies(mode=(0.2, 0.2), p=(0.05, 0.0))
    found = split("normal", "mode", "high", {"t": made}, ["p"] * 3, MARGINS)
    kl, entropy = found.excesses[:2]
    gaps = [(made["mode"][d].kl_sum_bits - made["p"][d].kl_sum_bits) / TOKENS for d in range(20)]
    assert kl.p == pytest.approx(
        scipy_stats.ttest_1samp(gaps, 0.1, alternative="greater").pvalue, rel=1e-6
    )
    assert kl.p_against == pytest.approx(1 - kl.p)
    entry = entropy.to_dict()
    assert entry["ci_low"] < entry["excess"] < entry["ci_high"]
    assert (entry["n_docs"], entry["margin"]) == (20, 0.05)


@pytest.mark.parametrize(("p", "verdict"), [(0.02, OPEN), (0.0105, OPEN), (0.0095, NO)])
def test_a_no_is_tested_at_its_share_of_alpha(p, verdict):
    """Bonferroni: one of five excesses is below its margin with this p, and 0.05 / 5 = 0.01."""
    noise = np.random.default_rng(0).normal(0, 1, 20)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    level = 0.1 - float(scipy_stats.t.isf(p, 19)) * 0.01 / math.sqrt(20)
    nothing = np.zeros(20)
    made = {
        "normal": sums("normal", nothing, nothing),
        "p1": sums("p1", nothing, nothing),
        "p2": sums("p2", nothing - 1, nothing),
        "mode": sums("mode", level + 0.01 * noise, 0.5 + 0.01 * noise),
    }
    found = split("normal", "mode", "high", {"t": made}, ["p1", "p2"], MARGINS)
    assert min(e.p_against for e in found.excesses) == pytest.approx(p, rel=1e-4)
    assert found.answer.verdict is verdict


def test_without_placebos_nothing_is_said_of_a_split():
    found = decided(kl=0.5, gap=0.3, placebos={})
    assert found.answer.verdict is OPEN
    assert "no placebo says what any other prompt would do" in found.answer.evidence
    assert found.kl.difference == pytest.approx(0.5, abs=0.02)


def test_tasks_weigh_the_same_and_those_of_few_docs_are_left_out():
    by_task = {
        "few": policies(docs=4, mode=(9.0, 9.0), p=(0.0, 0.0)),
        "small": policies(docs=10, mode=(0.3, 0.3), p=(0.0, 0.0)),
        "big": policies(docs=90, mode=(0.5, 0.5), p=(0.0, 0.0)),
        "unscored": {"normal": policies()["normal"]},
    }
    found = split("normal", "mode", "high", by_task, ["p"] * 3, MARGINS)
    assert found.tasks == ["small", "big"]
    assert found.kl.difference == pytest.approx(0.4, abs=0.02)
    assert found.answer.verdict is YES
    nothing = split("normal", "mode", "high", {"few": by_task["few"]}, ["p"] * 3, MARGINS)
    assert nothing.answer.verdict is OPEN
    assert "no task has 5 docs or more" in nothing.answer.evidence
    assert math.isnan(nothing.kl.difference)


def test_docs_that_are_not_whole_say_nothing():
    """A doc with an undefined sum, and one that was scored for fewer samples under the placebo."""
    made = policies(mode=(0.5, 0.3), p=(0.0, 0.0))
    made["mode"][0] = made["mode"][0]._replace(kl_sum_bits=math.nan)
    made["p"][1] = made["p"][1]._replace(samples=3, tokens=40)
    found = split("normal", "mode", "high", {"t": made}, ["p"] * 3, MARGINS)
    assert found.answer.verdict is YES
    assert [excess.difference.n for excess in found.excesses] == [18] * 6 + [
        19
    ]  # the last: no placebo


def test_a_task_of_few_whole_docs_does_not_spoil_the_others():
    good = policies(mode=(0.5, 0.3), p=(0.0, 0.0))
    few = policies(mode=(0.5, 0.3), p=(0.0, 0.0))
    for doc in range(16):
        few["p"][doc] = few["p"][doc]._replace(entropy_sum_bits=math.nan)
    found = split("normal", "mode", "high", {"few": few, "good": good}, ["p"] * 3, MARGINS)
    assert (found.answer.verdict, found.tasks) == (YES, ["good"])
    assert split("normal", "mode", "high", {"few": few}, ["p"] * 3, MARGINS).answer.verdict is OPEN


def test_texts_without_a_token_leave_everything_undefined():
    silent = {
        name: sums(name, np.zeros(6), np.zeros(6), tokens=0) for name in ("normal", "mode", "p")
    }
    found = split("normal", "mode", "high", {"t": silent}, ["p"] * 3, MARGINS)
    assert found.answer.verdict is OPEN
    assert found.excesses[0].to_dict()["excess"] is None
    assert found.answer.evidence.startswith("KL undefined, undefined beyond p")


def test_two_modes_of_one_prompt_are_one_policy():
    found = not_split("a", "b")
    assert found.answer.verdict is NO
    assert found.answer.evidence == "both modes have the same system prompt"
    assert found.answer.to_dict()["verdict"] == "no"


def test_the_level_is_kept_where_the_excess_is_the_margin():
    """KL is beyond the placebo by exactly the margin, entropy far more: a yes is a mistake, and so
    is a no. 5 % may be, and 400 runs are within 3 standard errors of it below 8.3 %."""
    rng, runs = np.random.default_rng(4), 400
    said = {YES: 0, NO: 0, OPEN: 0}
    for _ in range(runs):
        made = policies(15, 0.1, rng, mode=(0.15, 0.9), p=(0.05, 0.0))
        said[split("normal", "mode", "high", {"t": made}, ["p"] * 3, MARGINS).answer.verdict] += 1
    assert 0.01 * runs < said[YES] < 0.083 * runs
    assert said[NO] < 0.083 * runs


# Accuracy

NUMBER = AccuracyScorer(AnswerFormat(r"(\d+)"))
DOCS = 200


def arm(mode, values, task="t", scorer=NUMBER, metric="accuracy_avg", samples=4, **changes):
    good = dict.fromkeys(range(len(values)), samples)
    parts = {
        "task": task, "mode": mode, "scorer": scorer, "values": {metric: dict(enumerate(values))},
        "bits": {}, "tokens": {}, "planned": sum(good.values()), "missing": 0, "truncated": 0,
        "right": None, "docs": frozenset(good), "good": good,
    }  # fmt: skip
    return Arm(**(parts | changes))


def accuracies(mean, docs=DOCS, samples=4):
    return RNG.binomial(samples, mean, docs) / samples


def pair(a, b, task="t", **changes):
    return arm("normal", a, task, **changes), arm("high", b, task, **changes)


BEFORE = accuracies(0.6)
SLIGHT = np.where(np.arange(DOCS) % 40 == 0, 0.25, 0.0)  # 5 docs of 200, a quarter each


def test_accuracy_is_kept_lost_or_open():
    same = accuracy_kept([pair(BEFORE, BEFORE)], 0.02, Design())
    assert (same.verdict, same.mode_a, same.mode_b) == (YES, "normal", "high")
    lost = accuracy_kept([pair(BEFORE, BEFORE * 0.7)], 0.02, Design())
    assert lost.verdict is NO
    assert "t 0." in lost.evidence
    assert lost.evidence.endswith("may lose 0.02")
    assert accuracy_kept([pair(BEFORE, accuracies(0.6))], 0.02, Design()).verdict is OPEN
    assert (
        accuracy_kept([pair(BEFORE, np.clip(BEFORE - SLIGHT, 0, 1))], 0.02, Design()).verdict is YES
    )
    assert accuracy_kept([pair(BEFORE, BEFORE * 0.7)], 0.9, Design()).verdict is YES


def test_the_average_of_tasks_decides_and_a_lost_task_is_a_loss():
    open_alone = [pair(BEFORE[:12], BEFORE[:12], "a"), pair(BEFORE, BEFORE, "b")]
    found = accuracy_kept(open_alone, 0.2, Design())
    assert AVERAGE in found.evidence
    assert found.verdict is YES
    better, worse = pair(BEFORE * 0.5, BEFORE, "a"), pair(BEFORE, BEFORE * 0.7, "b")
    found = accuracy_kept([better, worse], 0.02, Design())
    assert f"{AVERAGE} " in found.evidence
    assert found.verdict is NO


def test_a_task_that_is_not_tested_leaves_the_question_open():
    """Half of its samples are missing: the others may keep what they like."""
    kept, gone = pair(BEFORE, BEFORE, "a"), pair(BEFORE, BEFORE, "b", missing=DOCS * 2)
    assert accuracy_kept([kept], 0.02, Design()).verdict is YES
    found = accuracy_kept([kept, gone], 0.02, Design())
    assert found.verdict is OPEN
    assert "b not tested (50.0% of the samples are missing)" in found.evidence
    assert accuracy_kept([kept, gone], 0.02, Design(allow_missing=True)).verdict is YES
    assert accuracy_kept([gone], 0.02, Design()).evidence.startswith("not tested: 50.0%")
    lost = pair(BEFORE, BEFORE * 0.5, "c")
    assert accuracy_kept([lost, gone], 0.02, Design()).verdict is NO


def test_a_pool_is_decided_as_one():
    arms = [
        each for task in ("a", "b") for each in pair(BEFORE[:6], BEFORE[:6] * (task == "a"), task)
    ]
    both = with_pools(arms, {"ab": ["a", "b"]})
    by_mode = [[each for each in both if each.mode == mode] for mode in ("normal", "high")]
    found = accuracy_kept(list(zip(*by_mode, strict=True)), 0.02, Design())
    assert found.evidence.startswith("ab ")
    assert "; a " not in found.evidence


def test_what_no_fraction_decides_is_said():
    words = {"metric": "words", "scorer": _Words()}
    found = accuracy_kept([pair(BEFORE, BEFORE, **words)], 0.02, Design())
    assert found.verdict is OPEN
    assert found.evidence == "not tested: no task is decided by a fraction"


class _Words:
    kind, primary, headline = "lm-eval", "words", ("words",)

    def info(self, metric):
        from psplit_eval.scoring import MetricInfo

        return MetricInfo("number", True)


def test_questions_that_no_task_asks_have_no_answer():
    story = creative(BEFORE, BEFORE, BEFORE, BEFORE)
    assert accuracy_kept([story], 0.02, Design()) is None
    assert more_creative([pair(BEFORE, BEFORE)], 0.05, Design()) is None
    assert accuracy_kept([], 0.02, Design()) is None
    assert more_creative([], 0.05, Design()) is None


# Creativity

STORY = CreativityScorer()


def creative(diverse_a, diverse_b, quality_a, quality_b, task="story", **changes):
    """An arm a side: the metric that decides stories, and the mean quality, doc by doc."""
    sides = ("normal", diverse_a, quality_a), ("high", diverse_b, quality_b)
    made = [arm(mode, diverse, task, STORY, STORY.primary, **changes) for mode, diverse, _ in sides]
    return tuple(
        replace(each, values={**each.values, "quality": dict(enumerate(quality))})
        for each, (_, _, quality) in zip(made, sides, strict=True)
    )


FLAT = around(0.5, 40)
GOOD = around(0.8, 40)


@pytest.mark.parametrize(
    ("change", "quality", "verdict"),
    [(0.2, 0.0, YES), (0.2, -0.3, NO), (0.2, -0.05, OPEN), (-0.2, 0.0, NO), (0.0, 0.0, OPEN)],
)
def test_more_creative_is_more_diverse_at_equal_quality(change, quality, verdict):
    noise = around(0, 40)
    story = creative(FLAT, FLAT + change + noise - noise.mean(), GOOD, around(0.8 + quality, 40))
    found = more_creative([story], 0.05, Design())
    assert found.verdict is verdict
    assert f"story {STORY.primary}" in found.evidence
    assert found.evidence.endswith("no judge that passed its audit")
    assert ("its quality" in found.evidence) == (change > 0)


@pytest.mark.parametrize(
    ("change", "direction", "verdict"),
    [
        (0.2, 1, YES),
        (0.2, 0, YES),
        (0.2, -1, OPEN),
        (-0.2, 1, OPEN),
        (-0.2, -1, NO),
        (0.0, 1, OPEN),
    ],
)
def test_a_judge_that_passed_its_audit_takes_an_answer_back_and_gives_none(
    change, direction, verdict
):
    noise = around(0, 40)
    story = creative(FLAT, FLAT + change + noise - noise.mean(), GOOD, around(0.8, 40))
    said = [Said("story", "normal", "high", direction, "openai:m creativity +0.50 [+0.20, +0.80]")]
    found = more_creative([story], 0.05, Design(), said)
    assert found.verdict is verdict
    assert "openai:m creativity +0.50" in found.evidence
    elsewhere = [Said("poem", "normal", "high", -1, "x"), Said("story", "normal", "low", -1, "x")]
    assert more_creative([story], 0.05, Design(), elsewhere).evidence.endswith(
        "no judge that passed its audit"
    )


def test_tasks_that_differ_in_direction_leave_it_open():
    good = around(0.8, 40)
    more = creative(FLAT, FLAT + 0.2 + around(0, 40), GOOD, good)
    less = creative(FLAT, FLAT - 0.2 + around(0, 40), GOOD, good, "poem")
    assert more_creative([more, less], 0.05, Design()).verdict is OPEN
    assert more_creative([more], 0.05, Design()).verdict is YES


def test_missing_samples_and_unknown_quality_leave_it_open():
    gone = creative(FLAT, FLAT + 0.2, GOOD, GOOD, missing=80)
    found = more_creative([gone], 0.05, Design())
    assert found.verdict is OPEN
    assert "not tested (50.0% of the samples are missing)" in found.evidence
    unknown = creative(FLAT, FLAT + 0.2 + around(0, 40), GOOD * math.nan, GOOD * math.nan)
    assert more_creative([unknown], 0.05, Design()).verdict is OPEN
