"""Rules on judges: only those that passed their audit are heard, and then as any other metric."""

import json
import re
import shutil
from collections import defaultdict

import numpy as np
import pytest
from gated import gated
from labelled_run import FLATTERY, RUBRIC, TASK, Flattered, judge, make_run, texts, worth
from scipy import stats

from psplit_eval.cards import CARE, HOSTILE, NOT_USABLE, PURPOSES, USABLE, Card, Ruling
from psplit_eval.errors import RunMismatchError, UnknownNameError, UsageError
from psplit_eval.gate import Outcome
from psplit_eval.inquiry import asked_as
from psplit_eval.ledger import LEDGER, Ledger

NAME = Flattered.name
RULE = (
    f"{{kind: non-inferior, task: {TASK}, mode: normal, margin: 0.05, judge: '{NAME}', "
    f"rubric: story, dimension: {RUBRIC.names[0]}}}"
)
LOW, HIGH = (float(RUBRIC.to_dict()["scale"][end]) for end in ("low", "high"))


def audited(run, verdict=USABLE, judge=None, **changed):
    """Put a card of the judge into a run."""
    settings = (judge or Flattered()).describe()
    of = {name: Ruling(verdict, "so it was") for name in PURPOSES}
    of |= {name: Ruling(level, "so it was") for name, level in changed.items()}
    card = Card(
        judge=NAME,
        judge_key=asked_as(NAME, settings),
        settings=settings,
        rubric="story",
        rubric_hash=RUBRIC.hash,
        version="1",
        created_at="2025-01-01T00:00:00+00:00",
        gold={},
        asked={},
        measures=(),
        by_kind=[],
        attacks={},
        purposes=of,
        bill={},
    )
    (run / "audits").mkdir(exist_ok=True)
    (run / "audits" / "card.json").write_text(json.dumps(card.to_dict()))


def judged(folder, samples, by=None):
    """A run whose every sample the judge scored."""
    run = make_run(folder, samples=samples)
    judge(run, by)
    plan(run, 40 * samples)
    return run


def plan(run, number):
    """So many scores a mode were asked for."""
    cells = {("scores", TASK, mode, ""): number for mode in ("normal", "high")}
    with Ledger(run / LEDGER) as ledger:
        ledger.plan(NAME, RUBRIC.hash, cells)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    return judged(folder / "before", 2), judged(folder / "after", 3)


@pytest.fixture
def runs(made, tmp_path):
    """Of one checkpoint, but other samples; without audits."""
    return tuple(shutil.copytree(run, tmp_path / run.name) for run in made)


def by_hand(run):
    """doc → mean score of mode normal as a fraction of the scale, from the texts."""
    found = defaultdict(list)
    for (mode, doc, _), text in texts(run).items():
        if mode == "normal":
            score = worth(text) + FLATTERY * ("Behold" in text)
            found[doc].append((score - LOW) / (HIGH - LOW))
    return {doc: np.mean(scores) for doc, scores in found.items()}


def test_a_judge_that_passed_is_heard(tmp_path, runs):
    for run in runs:
        audited(run)
    (check,) = gated(tmp_path, *runs, RULE).checks
    before, after = map(by_hand, runs)
    gaps = [after[doc] - before[doc] for doc in before]
    tested = stats.ttest_1samp(gaps, -0.05, alternative="greater")
    assert check.p == pytest.approx(tested.pvalue)
    assert check.found.difference == pytest.approx(np.mean(gaps))
    assert check.found.value_b == pytest.approx(np.mean(list(after.values())))
    assert (check.metric, check.unit) == (f"{NAME} {RUBRIC.names[0]}", "fraction")
    assert check.outcome is Outcome.PASS


def test_a_judges_bound_and_a_metrics_rule_stand_side_by_side(tmp_path, runs):
    for run in runs:
        audited(run)
    bound = RULE.replace("non-inferior", "at-least").replace("margin: 0.05", "bound: 0.9")
    plain = f"{{kind: equal, task: {TASK}, mode: normal, margin: 0.5}}"
    found = gated(tmp_path, *runs, RULE, bound, plain)
    assert [check.metric for check in found.checks] == [
        *([f"{NAME} {RUBRIC.names[0]}"] * 2),
        "accuracy_avg",
    ]
    assert found.checks[1].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("verdict", "changed", "said"),
    [
        (None, {}, "says 'not audited' of scores"),
        (NOT_USABLE, {}, "says 'not usable' of scores"),
        (CARE, {}, f"says {CARE!r} of scores"),
        (USABLE, {HOSTILE: NOT_USABLE}, "'not usable' of hostile text, expected 'usable'"),
    ],
)
def test_a_judge_that_did_not_pass_is_refused(tmp_path, runs, verdict, changed, said):
    if verdict:
        for run in runs:
            audited(run, verdict, **changed)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        gated(tmp_path, *runs, RULE)
    assert f"psplit-eval audit --judge {NAME} --rubric story" in str(caught.value)


def test_it_must_have_passed_in_both_runs(tmp_path, runs):
    audited(runs[0])
    with pytest.raises(UsageError, match="not audited"):
        gated(tmp_path, *runs, RULE)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (RULE.replace("flattered", "flatterd"), f"'openai:flatterd': did you mean '{NAME}'?"),
        (RULE.replace("rubric: story", "rubric: stori"), "'stori': did you mean 'story'?"),
        (
            RULE.replace(RUBRIC.names[0], RUBRIC.names[0][:-1]),
            f"dimension of story '{RUBRIC.names[0][:-1]}': did you mean '{RUBRIC.names[0]}'?",
        ),
        (RULE.replace(TASK, "psplit_stroy"), "'psplit_stroy': did you mean 'psplit_story'?"),
    ],
)
def test_what_is_not_there_is_named_with_a_guess(tmp_path, runs, rule, said):
    for run in runs:
        audited(run)
    with pytest.raises(UnknownNameError, match=re.escape(said)):
        gated(tmp_path, *runs, rule)


def test_a_run_that_was_not_judged_is_refused(tmp_path, runs):
    bare = make_run(tmp_path / "bare")
    for pair in ((runs[0], bare), (bare, runs[0])):
        for run in runs:
            audited(run)
        with pytest.raises(UsageError, match=r"bare' was not judged; psplit-eval judge RUN"):
            gated(tmp_path, *pair, RULE)


class Other(Flattered):
    """The same name, asked otherwise."""

    def describe(self):
        return {"identity": "warmer"}


def test_a_judge_that_was_asked_otherwise_is_refused(tmp_path, runs):
    other = judged(tmp_path / "other", 1, Other())
    audited(runs[0])
    audited(other, judge=Other())
    with pytest.raises(RunMismatchError, match=r"was not asked alike in .* judge both by one com"):
        gated(tmp_path, runs[0], other, RULE)


def test_verdicts_that_are_missing_decide_nothing_unless_allowed(tmp_path, runs):
    holes = judged(tmp_path / "holes", 2, Flattered(silent="Once 1"))
    for run in (runs[0], holes):
        audited(run)
    (check,) = gated(tmp_path, runs[0], holes, RULE).checks
    assert check.outcome is Outcome.OPEN
    assert "of the samples are missing" in check.why
    (allowed,) = gated(tmp_path, runs[0], holes, RULE, allow_missing=True).checks
    assert allowed.p_adjusted == allowed.p


def test_questions_that_were_planned_and_never_asked_are_missing(tmp_path, runs):
    plan(runs[1], 600)
    for run in runs:
        audited(run)
    (check,) = gated(tmp_path, *runs, RULE).checks
    assert "80.0% of the samples are missing" in check.why


def test_docs_as_given_are_not_for_judges(tmp_path, runs):
    for run in runs:
        audited(run)
    (check,) = gated(tmp_path, *runs, RULE, docs="given").checks
    assert check.outcome is Outcome.OPEN
    assert "varies given a doc is not known" in check.why
