"""Gates on runs that are not alike, not whole, or not two: what is refused, what is said."""

import sqlite3

import pytest
from gated import ALIKE, DOCS, gated, made

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.errors import RunMismatchError, UnknownNameError, UsageError
from psplit_eval.gate import Outcome
from psplit_eval.scoring import AccuracyScorer

NOT_WORSE = "{kind: non-inferior, task: t, mode: normal, margin: 0.05}"
OTHER = AccuracyScorer(AnswerFormat("(x)"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: made(folder, name, of) for name, of in (("before", None), ("alike", ALIKE))}


def outcomes(found):
    return [check.outcome.value for check in found.checks]


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


def test_a_run_that_was_not_diverged_may_be_split_or_not(tmp_path, runs):
    (check,) = gated(tmp_path, runs["before"], runs["alike"], "{kind: split, mode: high}").checks
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
