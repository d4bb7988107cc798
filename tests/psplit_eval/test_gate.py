"""Rules decided on two runs: three answers, the right p, and what cannot be compared is refused."""

import json
import math
import sqlite3

import numpy as np
import pytest
from gated import ALIKE, BETTER, DOCS, ODD, WORSE, gated, made, per_doc, right
from scipy import stats

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.errors import RunMismatchError, UnknownNameError, UsageError
from psplit_eval.gate import Outcome, decide_rules
from psplit_eval.scoring import AccuracyScorer

NOT_WORSE = "{kind: non-inferior, task: t, mode: normal, margin: 0.05}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    of = {"before": None, "alike": ALIKE, "worse": WORSE, "better": BETTER, "odd": ODD}
    return {name: made(folder, name, each) for name, each in of.items()}


@pytest.fixture
def ask(tmp_path, runs):
    """A gate of a candidate by its name against 'before', on rules."""

    def on(candidate, *lines, **fields):
        return gated(tmp_path, runs["before"], runs[candidate], *lines, **fields)

    return on


def outcomes(found):
    return [check.outcome.value for check in found.checks]


def gaps(of, against=None):
    return np.subtract(per_doc(of), per_doc(against or right()))


# Every kind of rule, in each of its answers


@pytest.mark.parametrize(
    ("rule", "of", "expected"),
    [
        (NOT_WORSE, "alike", "pass"),
        (NOT_WORSE, "better", "pass"),
        (NOT_WORSE, "worse", "fail"),
        (NOT_WORSE, "odd", "inconclusive"),
        ("{kind: superior, task: t, mode: normal}", "better", "pass"),
        ("{kind: superior, task: t, mode: normal}", "worse", "fail"),
        ("{kind: superior, task: t, mode: normal}", "alike", "inconclusive"),
        ("{kind: superior, task: t, mode: normal, margin: 0.05}", "better", "pass"),
        ("{kind: superior, task: t, mode: normal, margin: 0.2}", "better", "fail"),
        ("{kind: superior, task: t, mode: normal, margin: 0.11}", "better", "inconclusive"),
        ("{kind: equal, task: t, mode: normal, margin: 0.05}", "alike", "pass"),
        ("{kind: equal, task: t, mode: normal, margin: 0.05}", "better", "fail"),
        ("{kind: equal, task: t, mode: normal, margin: 0.05}", "worse", "fail"),
        ("{kind: equal, task: t, mode: normal, margin: 0.05}", "odd", "inconclusive"),
        ("{kind: at-least, task: t, mode: normal, bound: 0.4}", "alike", "pass"),
        ("{kind: at-least, task: t, mode: normal, bound: 0.6}", "alike", "fail"),
        ("{kind: at-least, task: t, mode: normal, bound: 0.5}", "alike", "inconclusive"),
        ("{kind: at-most, task: t, mode: normal, bound: 0.6}", "alike", "pass"),
        ("{kind: at-most, task: t, mode: normal, bound: 0.4}", "alike", "fail"),
        ("{kind: at-most, task: t, metric: truncated, mode: normal, bound: 0.2}", "alike", "pass"),
        ("{kind: at-most, task: t, metric: entropy_bits, mode: high, bound: 6}", "alike", "pass"),
        ("{kind: at-least, task: t, metric: entropy_bits, mode: high, bound: 6}", "alike", "fail"),
    ],
)
def test_three_answers_of_every_kind(ask, rule, of, expected):
    found = ask(of, rule)
    assert outcomes(found) == [expected]
    assert found.exit_code == {"pass": 0, "fail": 1, "inconclusive": 3}[expected]


def test_p_of_a_margin_is_that_of_a_paired_t_test(ask):
    (check,) = ask("odd", NOT_WORSE).checks
    tested = stats.ttest_1samp(gaps(ODD), -0.05, alternative="greater")
    assert check.p == pytest.approx(tested.pvalue)
    assert check.p_against == pytest.approx(1 - tested.pvalue)
    both = stats.ttest_1samp(gaps(ODD), 0).confidence_interval(0.95)
    assert check.limits == pytest.approx(tuple(both))
    assert (check.found.n, check.unit, check.metric) == (DOCS, "fraction", "accuracy_avg")


def test_p_of_equality_is_that_of_two_one_sided_tests(ask):
    (check,) = ask("alike", "{kind: equal, task: t, mode: normal, margin: 0.05}").checks
    below = stats.ttest_1samp(gaps(ALIKE), -0.05, alternative="greater").pvalue
    above = stats.ttest_1samp(gaps(ALIKE), 0.05, alternative="less").pvalue
    assert check.p == pytest.approx(max(below, above))


@pytest.mark.parametrize(("kind", "sign"), [("at-least", 1), ("at-most", -1)])
def test_a_bound_is_held_against_a_score_interval(ask, kind, sign):
    """By Wilson's formula with the docs' effective number."""
    (check,) = ask("better", f"{{kind: {kind}, task: t, mode: normal, bound: 0.7}}").checks
    values = np.array(per_doc(BETTER))
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(DOCS)
    docs = mean * (1 - mean) / error**2
    score = (mean - 0.7) / math.sqrt(0.7 * 0.3 / docs)
    assert check.p == pytest.approx(stats.t.sf(sign * score, DOCS - 1))
    assert check.p_against == pytest.approx(stats.t.cdf(sign * score, DOCS - 1))
    assert check.found.value_b == pytest.approx(mean)
    assert check.found.difference == pytest.approx(mean - 0.7)


def test_a_bound_near_one_does_not_pass_too_easily(tmp_path):
    """99 of 100 right: had the truth been 0.96, it would be so, or better, in 8.7 % of tries."""
    run = made(tmp_path, "a", lambda m, d, i: d != 7, docs=range(100), samples=1)
    same = made(tmp_path, "b", lambda m, d, i: d != 8, docs=range(100), samples=1)
    (check,) = gated(
        tmp_path, run, same, "{kind: at-least, task: t, mode: high, bound: 0.96}"
    ).checks
    exact = stats.binom.sf(98, 100, 0.96)
    assert 0.7 * exact < check.p < 1.4 * exact  # Student's p is 0.002
    assert check.outcome is Outcome.OPEN


def test_all_right_is_as_sure_as_the_binomial_says(tmp_path):
    runs = [made(tmp_path, name, lambda m, d, i: True, docs=range(40)) for name in "ab"]
    (check,) = gated(tmp_path, *runs, "{kind: at-least, task: t, mode: high, bound: 0.95}").checks
    assert check.p == pytest.approx(0.95**40)
    assert check.outcome is Outcome.OPEN


def test_docs_as_given_vary_by_their_samples_alone(ask):
    """By the variance of the samples of a doc, and Satterthwaite's degrees of freedom."""
    (check,) = ask("alike", NOT_WORSE, docs="given").checks
    shares = np.array([per_doc(right()), per_doc(ALIKE)])
    noise = shares * (1 - shares) / 3  # of a mean of four: s² / 4, s² = 4/3 · p (1 − p)
    error = math.sqrt(noise.sum()) / DOCS
    freedom = noise.sum() ** 2 / (noise**2 / 5).sum()
    assert check.p == pytest.approx(stats.t.sf(0.05 / error, freedom), rel=1e-6)


def test_what_does_not_vary_given_the_docs_is_not_known(tmp_path):
    runs = [made(tmp_path, name, lambda m, d, i: d % 2 == 0, docs=range(20)) for name in "ab"]
    (check,) = gated(tmp_path, *runs, NOT_WORSE, docs="given").checks
    assert check.outcome is Outcome.OPEN
    assert check.why == "not tested: no doc's samples vary, so nothing tells how others would"


def test_a_difference_that_is_everywhere_the_same_is_not_known(ask):
    rule = "{kind: equal, task: t, metric: entropy_bits, mode: high, margin: 0.5}"
    (check,) = ask("alike", rule).checks
    assert check.outcome is Outcome.OPEN
    assert check.why.startswith("not tested: every doc differs by as much")


def test_lower_is_better_where_it_is(tmp_path):
    cut = [
        made(tmp_path, name, entry={"scorer": AccuracyScorer(AnswerFormat(r"(\d+)")).to_dict()})
        for name in "ab"
    ]
    with sqlite3.connect(cut[1] / "samples.sqlite") as db:
        db.execute("UPDATE samples SET finish_reason = 'length' WHERE doc_id % 3 < 2")
    db.close()
    from psplit_eval.cli import main

    assert main(["score", str(cut[1])]) == 0
    rule = "{kind: KIND, task: t, metric: truncated, mode: normal, margin: 0.1}"
    kinds = ("non-inferior", "superior", "equal")
    found = gated(tmp_path, *cut, *(rule.replace("KIND", kind) for kind in kinds))
    assert outcomes(found) == ["fail", "fail", "fail"]
    back = gated(tmp_path, *cut[::-1], *(rule.replace("KIND", kind) for kind in kinds))
    assert outcomes(back) == ["pass", "pass", "fail"]


# All rules together


def holm_by_definition(p):
    """The smallest level at which Holm's procedure (1979) claims each, found step by step."""
    order, worst, adjusted = sorted(range(len(p)), key=lambda i: p[i]), 0.0, {}
    for step, place in enumerate(order):
        worst = max(worst, p[place] * (len(p) - step))
        adjusted[place] = min(1.0, worst)
    return [adjusted[i] for i in range(len(p))]


MANY = (
    NOT_WORSE,
    "{kind: superior, task: t, mode: high}",
    "{kind: equal, task: t, mode: [high, normal], metric: accuracy_pass_at_2, margin: 0.06}",
    "{kind: at-least, task: t, mode: normal, bound: 0.41}",
    "{kind: at-most, task: t, mode: normal, bound: 0.44}",
)


def test_holm_is_over_all_checks(ask):
    found = ask("alike", *MANY)
    assert len(found.checks) == 6
    for_it = holm_by_definition([check.p for check in found.checks])
    against = holm_by_definition([check.p_against for check in found.checks])
    assert [check.p_adjusted for check in found.checks] == pytest.approx(for_it)
    assert [check.p_against_adjusted for check in found.checks] == pytest.approx(against)
    said = [
        "pass" if yes < 0.05 else "fail" if no < 0.05 else "inconclusive"
        for yes, no in zip(for_it, against, strict=True)
    ]
    assert outcomes(found) == said
    assert set(said) == {"pass", "fail", "inconclusive"}


def test_more_rules_make_each_harder(ask):
    rule = "{kind: non-inferior, task: t, mode: normal, margin: 0.042}"
    assert outcomes(ask("alike", rule)) == ["pass"]
    rest = [f"{{name: n{i}, kind: superior, task: t, mode: normal}}" for i in range(20)]
    assert outcomes(ask("alike", rule, *rest))[0] == "inconclusive"


def test_what_is_not_known_is_a_member_of_the_family(ask):
    (alone,) = ask("alike", NOT_WORSE).checks
    unknown = "{kind: equal, task: t, metric: entropy_bits, mode: high, margin: 0.5}"
    first, second = ask("alike", NOT_WORSE, unknown).checks
    assert first.p_adjusted == pytest.approx(2 * alone.p)
    assert math.isnan(second.p_adjusted)
    assert second.outcome is Outcome.OPEN


def test_alpha_decides(ask):
    assert outcomes(ask("alike", NOT_WORSE, alpha=0.05)) == ["pass"]
    assert outcomes(ask("alike", NOT_WORSE, alpha=0.001)) == ["inconclusive"]


@pytest.mark.parametrize(
    ("policy", "codes"), [("report", [0, 1, 3]), ("pass", [0, 1, 0]), ("fail", [0, 1, 1])]
)
def test_the_policy_says_which_way_an_open_gate_falls(ask, policy, codes):
    gates = [ask(name, NOT_WORSE, inconclusive=policy) for name in ("alike", "worse", "odd")]
    assert [found.exit_code for found in gates] == codes
    assert [found.outcome.value for found in gates] == ["pass", "fail", "inconclusive"]


def test_one_failure_is_a_failure_whatever_is_open(ask):
    open_one = "{kind: superior, task: t, mode: normal, margin: 0.01, name: o}"
    found = ask("worse", NOT_WORSE, "{kind: at-most, task: t, mode: high, bound: 0.37}", open_one)
    assert "fail" in outcomes(found)
    assert (found.outcome, found.exit_code) == (Outcome.FAIL, 1)


def test_nothing_is_decided_twice():
    assert decide_rules([], 0.05) == []


# What it would take


def test_what_is_open_says_how_many_docs_decide_it(ask):
    """By the normal approximation, which is near for many docs; these samples, which are no random
    ones, vary more within docs than the docs do: of that, then."""
    (check,) = ask("odd", NOT_WORSE).checks
    shares = np.array([per_doc(right()), per_doc(ODD)])
    variance = (shares * (1 - shares) / 3).sum(axis=0).mean()
    assert variance > gaps(ODD).var(ddof=1)
    apart = gaps(ODD).mean() + 0.05
    by_hand = variance * ((stats.norm.isf(0.05) + stats.norm.isf(0.2)) / apart) ** 2
    assert check.need.docs == pytest.approx(by_hand, rel=0.02)
    with_others = ask("odd", NOT_WORSE, "{kind: superior, task: t, mode: [normal, high]}")
    assert with_others.checks[0].need.docs > 1.3 * check.need.docs


def test_what_is_decided_needs_nothing(ask):
    assert [ask(name, NOT_WORSE).checks[0].need for name in ("alike", "worse")] == [None, None]


def test_equality_needs_both_sides(ask):
    """As far from one margin as the other is: the chance to miss either is shared."""
    (equal,) = ask("alike", "{kind: equal, task: t, mode: normal, margin: 0.02}").checks
    (kept,) = ask("alike", "{kind: non-inferior, task: t, mode: normal, margin: 0.02}").checks
    normal = stats.norm.isf
    ratio = (normal(0.05) + normal(0.1)) ** 2 / (normal(0.05) + normal(0.2)) ** 2
    assert equal.need.docs / kept.need.docs == pytest.approx(ratio, rel=0.05)


def test_docs_as_given_need_samples(ask):
    (check,) = ask("odd", NOT_WORSE, docs="given", alpha=0.01).checks
    assert check.need.docs is None
    assert check.need.samples > 4


# What a rule names


def test_a_list_of_modes_is_a_check_each(ask):
    found = ask("alike", "{kind: non-inferior, task: t, mode: [high, normal], margin: 0.05}")
    assert [check.mode for check in found.checks] == ["normal", "high"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (NOT_WORSE.replace("task: t", "task: tt"), "unknown task of both runs (PATH, line 3) 'tt'"),
        (NOT_WORSE.replace("normal", "norml"), "(PATH, line 3) 'norml': did you mean 'normal'?"),
        (
            NOT_WORSE.replace("mode", "metric: accuracy_agv, mode"),
            "metric of t (rule 't accuracy_agv normal non-inferior') 'accuracy_agv': did you mean "
            "'accuracy_avg'?",
        ),
        ("{kind: split, mode: hihg}", "unknown mode beside normal (PATH, line 3) 'hihg': did you"),
    ],
)
def test_what_is_not_there_is_named_with_a_guess(ask, tmp_path, rule, said):
    with pytest.raises(UnknownNameError) as caught:
        ask("alike", rule)
    assert said.replace("PATH", str(tmp_path / "gate.yaml")) in str(caught.value)


def test_a_suite_that_no_run_has(ask):
    with pytest.raises(UsageError, match=r"suite 'paper' in mode normal is not in both runs, whi"):
        ask("alike", "{kind: non-inferior, suite: paper, mode: normal, margin: 0.05}")


@pytest.mark.parametrize("kind", ["non-inferior", "superior"])
def test_what_has_no_better_side_is_not_better(ask, kind):
    with pytest.raises(UsageError, match=r"entropy_bits has no better side; use kind equal, at-"):
        ask("alike", f"{{kind: {kind}, task: t, metric: entropy_bits, mode: high, margin: 0.1}}")


@pytest.mark.parametrize("rule", ["{kind: equal, margin: 2", "{kind: non-inferior, margin: 1"])
def test_points_are_no_fractions(ask, rule):
    with pytest.raises(UsageError, match=r"margin . of accuracy_avg, .*two points are 0.02"):
        ask("alike", f"{rule}, task: t, mode: normal}}")


@pytest.mark.parametrize("bound", [50, 1.01, -0.1])
def test_a_bound_of_a_fraction_is_one(ask, bound):
    with pytest.raises(UsageError, match=r"of accuracy_avg, which is a fraction; expected 0 to 1"):
        ask("alike", f"{{kind: at-least, task: t, mode: normal, bound: {bound}}}")


def test_the_ends_of_a_fraction_are_bounds(ask):
    rule = "{name: NAME, kind: NAME, task: t, mode: normal, bound: BOUND}"
    for bound, expected in ((0, ["pass", "fail"]), (1, ["fail", "pass"])):
        lines = [
            rule.replace("NAME", kind).replace("BOUND", str(bound))
            for kind in ("at-least", "at-most")
        ]
        assert outcomes(ask("alike", *lines)) == expected


def with_pool(run, pool="psplit_aime"):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["pools"] = {pool: ["psplit_aime24", "psplit_aime25"]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


AIME = ("psplit_aime24", "psplit_aime25")


def test_a_pool_is_one_task_of_a_suite(tmp_path):
    tasks = ("psplit_gsm8k", *AIME)
    runs = [
        with_pool(made(tmp_path, name, of, tasks=tasks, docs=range(24)))
        for name, of in (("a", right()), ("b", WORSE))
    ]
    rule = "{kind: non-inferior, suite: general, mode: normal, margin: 0.05}"
    found = gated(tmp_path, *runs, rule, "{kind: superior, task: psplit_aime, mode: high}")
    assert [(check.task, check.found.n) for check in found.checks] == [
        ("psplit_gsm8k", 24),
        ("psplit_aime", 48),
        ("psplit_aime", 48),
    ]
    single = gated(tmp_path, *runs, "{kind: superior, task: psplit_aime25, mode: high}")
    assert single.checks[0].found.n == 24


def test_a_suite_is_whole_in_both_runs(tmp_path):
    """What the candidate was not asked must not go unseen."""
    both = made(tmp_path, "both", tasks=("psplit_gsm8k", "psplit_math500"), docs=range(12))
    one = made(tmp_path, "one", tasks=("psplit_gsm8k",), docs=range(12))
    rule = "{kind: non-inferior, suite: general, mode: normal, margin: 0.05}"
    for pair in ((both, one), (one, both)):
        with pytest.raises(RunMismatchError, match=r"psplit_math500 of suite 'general'.* alone"):
            gated(tmp_path, *pair, rule)
    by_task = NOT_WORSE.replace("task: t", "task: psplit_gsm8k")
    assert len(gated(tmp_path, both, one, by_task).checks) == 1


def test_a_member_of_a_pool_that_one_run_lacks(tmp_path):
    both = with_pool(made(tmp_path, "both", tasks=("psplit_gsm8k", *AIME), docs=range(12)))
    one = made(tmp_path, "one", tasks=("psplit_gsm8k", AIME[0]), docs=range(12))
    rule = "{kind: non-inferior, suite: general, mode: normal, margin: 0.05}"
    with pytest.raises(RunMismatchError, match=r"psplit_aime25 of suite 'general'"):
        gated(tmp_path, both, one, rule)


def test_a_metric_that_is_not_measured_is_open(tmp_path):
    runs = [made(tmp_path, name, tasks=("psplit_story",), docs=range(6)) for name in "ab"]
    rule = "{kind: non-inferior, task: psplit_story, mode: normal, margin: 0.05}"
    (check,) = gated(tmp_path, *runs, rule).checks
    assert (check.metric, check.outcome) == ("effective_dispersion", Outcome.OPEN)
    assert "effective_dispersion is not measured. psplit-eval score RUN" in check.why


# Runs that are not alike

OTHER = AccuracyScorer(AnswerFormat("(x)"))


@pytest.mark.parametrize(
    ("changed", "said", "allowed"),
    [
        ({"docs": range(100, 100 + DOCS)}, "none of them the same", None),
        ({"sampling": {"temperature": 1.0}}, "t, normal, temperature: 0.6 in", "sampling"),
        ({"prompt": "x"}, "another for 60 of 60 docs (the task differs)", "prompts"),
        ({"prompt": "x", "chat_template": "o"}, "docs (the chat template differs)", "prompts"),
        (
            {"prompt": "x", "modes": {"normal": "Be so.", "high": "Be high."}},
            *("docs (the mode's system prompt differs)", "prompts"),
        ),
        ({"entry": {"scorer": OTHER.to_dict()}}, "psplit-eval score", None),
    ],
)  # fmt: skip
def test_runs_that_differ_are_refused_and_what_differs_is_said(
    tmp_path, runs, changed, said, allowed
):
    other = made(tmp_path, "other", ALIKE, **changed)
    with pytest.raises(RunMismatchError) as caught:
        gated(tmp_path, runs["before"], other, NOT_WORSE)
    assert said in str(caught.value)
    if allowed is None:
        with pytest.raises(RunMismatchError):
            gated(tmp_path, runs["before"], other, NOT_WORSE, allowed=("prompts", "sampling"))
    else:
        found = gated(tmp_path, runs["before"], other, NOT_WORSE, allowed=(allowed,))
        assert outcomes(found) == ["pass"]
        assert any(allowed in what or "temperature" in what for what, *_ in found.facts)


def test_only_modes_that_rules_name_must_be_alike(tmp_path, runs):
    modes = {"normal": None, "wild": "Be wild."}
    other = made(tmp_path, "other", ALIKE, modes=modes)
    assert outcomes(gated(tmp_path, runs["before"], other, NOT_WORSE)) == ["pass"]
    with pytest.raises(UnknownNameError, match=r"'wild': known are normal"):
        gated(tmp_path, runs["before"], other, NOT_WORSE.replace("normal", "wild"))


def test_docs_are_paired_by_content(tmp_path, runs):
    order = [(7 * doc) % DOCS for doc in range(DOCS)]
    moved = made(tmp_path, "moved", ALIKE, docs=order, by_place=True)
    (one,) = gated(tmp_path, runs["before"], runs["alike"], NOT_WORSE).checks
    (other,) = gated(tmp_path, runs["before"], moved, NOT_WORSE).checks
    assert other.p == pytest.approx(one.p)


def test_docs_in_one_run_alone_are_left_out_and_said(tmp_path, runs):
    fewer = made(tmp_path, "fewer", ALIKE, docs=range(6, 42))
    found = gated(tmp_path, runs["before"], fewer, NOT_WORSE)
    assert found.checks[0].found.n == 36
    assert ("t, normal: docs in this run only", "24", "0") in found.facts


def test_few_docs_decide_nothing(tmp_path):
    runs = [made(tmp_path, name, docs=range(4)) for name in "ab"]
    (check,) = gated(tmp_path, *runs, NOT_WORSE).checks
    assert check.outcome is Outcome.OPEN
    assert check.why == "not tested: docs: 4, expected 5 or more. Take more docs."


def test_missing_samples_decide_nothing_unless_allowed(tmp_path, runs):
    holes = made(tmp_path, "holes", ALIKE, failed=[(0, 0), (9, 1), (20, 2)])
    (check,) = gated(tmp_path, runs["before"], holes, NOT_WORSE).checks
    assert check.outcome is Outcome.OPEN
    assert "of the samples are missing. Give the run's command again to go on." in check.why
    allowed = gated(tmp_path, runs["before"], holes, NOT_WORSE, allow_missing=True)
    assert outcomes(allowed) == ["pass"]


def test_a_run_against_itself_is_refused(tmp_path, runs):
    with pytest.raises(UsageError, match=r"the baseline's own folder, expected another run"):
        gated(tmp_path, runs["before"], runs["before"] / ".." / "before", NOT_WORSE)


def test_the_same_samples_again_are_remarked(tmp_path, runs):
    again = made(tmp_path, "again", fingerprint="of before")
    found = gated(tmp_path, runs["before"], again, NOT_WORSE)
    assert any("the same weights, seed and settings" in what for what, *_ in found.facts)


def test_a_run_that_is_not_scored_is_refused(tmp_path, runs):
    bare = made(tmp_path, "bare")
    with sqlite3.connect(bare / "samples.sqlite") as db:
        db.execute("DELETE FROM metrics")
    db.close()
    with pytest.raises(UsageError, match=r"psplit-eval score"):
        gated(tmp_path, runs["before"], bare, NOT_WORSE)


def test_no_run_is_refused(tmp_path, runs):
    with pytest.raises(UsageError, match=r"none"):
        gated(tmp_path, runs["before"], tmp_path / "none", NOT_WORSE)


# Without cross-scores nothing is known of a split


def test_a_run_that_was_not_diverged_may_be_split_or_not(ask):
    (check,) = ask("alike", "{kind: split, mode: high}").checks
    assert (check.outcome, check.task, check.found) == (Outcome.OPEN, "no task", None)
    assert "psplit-eval diverge RUN" in check.why


def test_two_modes_of_one_prompt_are_not_split(tmp_path):
    modes = {"normal": None, "twin": None}
    runs = [made(tmp_path, name, docs=range(12), modes=modes) for name in "ab"]
    (check,) = gated(tmp_path, *runs, "{kind: split, mode: twin}").checks
    assert check.outcome is Outcome.FAIL
    assert check.why == "both modes have the same system prompt"


def test_a_split_is_asked_of_the_candidate_alone(tmp_path):
    """What is in use may not know the mode yet."""
    plain = made(tmp_path, "plain", docs=range(12), modes={"normal": None})
    both = made(tmp_path, "both", docs=range(12))
    rules = ("{kind: split, mode: high}", "{kind: equal, task: t, mode: normal, margin: 0.5}")
    assert outcomes(gated(tmp_path, plain, both, *rules)) == ["inconclusive", "pass"]
