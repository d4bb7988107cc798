"""What judges said, as numbers: from ledgers whose every verdict is known."""

import math
from statistics import fmean

import numpy as np
import pytest
from heard_run import ANSWER, DOCS, MODES, SAMPLES, STORY, TRUSTED, Run, noisy
from scipy import stats as scipy_stats

from psplit_eval.cards import CARE, NOT_USABLE, USABLE
from psplit_eval.judge_tables import judge_tables
from psplit_eval.judged import PANEL, Belief


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_means_are_over_docs_and_differences_paired_by_doc(run):
    run.scored(noisy)
    scored = next(s for s in run.read().scored if s.primary)
    docs = {
        mode: [fmean(noisy(mode, doc, i) for i in range(SAMPLES)) for doc in range(DOCS)]
        for mode in MODES
    }
    for mode in MODES:
        estimate = scored.by_mode[mode]
        low, high = scipy_stats.t.interval(
            0.95, DOCS - 1, fmean(docs[mode]), scipy_stats.sem(docs[mode])
        )
        found = (estimate.value, estimate.ci_low, estimate.ci_high, estimate.n)
        assert found == pytest.approx((fmean(docs[mode]), low, high, DOCS))
    (finding,) = scored.findings
    gaps = np.subtract(docs["high"], docs["normal"])
    assert finding.estimate.value == pytest.approx(gaps.mean())
    assert (finding.mode_a, finding.mode_b) == ("normal", "high")


def test_a_missing_verdict_is_counted_and_left_out(run):
    run.scored(lambda m, d, i: None if (m, d, i) == ("high", 0, 0) else noisy(m, d, i))
    scored = run.read(allow_missing=True).scored[0]
    assert scored.missing == {"normal": 0, "high": 1}
    rest = [fmean(noisy("high", d, i) for i in range(SAMPLES)) for d in range(1, DOCS)]
    assert scored.by_mode["high"].value == pytest.approx(fmean([noisy("high", 0, 1), *rest]))


def test_above_one_per_cent_missing_there_is_no_inference(run):
    run.scored(lambda m, d, i: None if (m, d, i) == ("high", 0, 0) else noisy(m, d, i))
    scored = run.read().scored[0]
    assert math.isnan(scored.by_mode["high"].ci_low)
    assert scored.findings[0].test == ""
    assert run.read({("openai:a", STORY.hash): TRUSTED}).said()[0].direction == 0


def test_what_was_not_asked_for_yet_is_missing_too(run):
    """A judging that was stopped: the first docs are no random part of all."""
    run.scored(lambda m, d, i: noisy(m, d, i) if d < 6 else ...)
    scored = run.read().scored[0]
    assert scored.asked == {"normal": DOCS * SAMPLES, "high": DOCS * SAMPLES}
    assert scored.missing == {"normal": 12, "high": 12}
    assert math.isnan(scored.by_mode["normal"].ci_low)
    table = judge_tables(run.read())[0]
    assert table.rows[0][-1] == "24 of 48"


def test_pairs_that_were_not_asked_for_yet_are_missing_too(run):
    run.chosen(lambda a, b, d: 0.7 if a == "high" else 0.3, planned=40)
    (preferred,) = run.read().preferred
    assert (preferred.unasked, preferred.withheld) == (16, True)
    assert math.isnan(preferred.found.rate.ci_low)


def test_a_position_bias_is_no_preference(run):
    run.chosen(lambda a, b, d: 1.0)
    (preferred,) = run.read().preferred
    assert preferred.found.rate.value == 0.5
    assert preferred.found.shown_first.value == 1
    assert preferred.found.flips == DOCS * SAMPLES


def test_a_panel_is_as_good_as_its_worst_and_without_those_that_failed(run):
    for judge, shift in (("openai:a", 0), ("openai:b", 1), ("openai:c", 5)):
        run.scored(lambda m, d, i, shift=shift: noisy(m, d, i) + shift, judge)
    beliefs = {
        ("openai:a", STORY.hash): TRUSTED,
        ("openai:b", STORY.hash): Belief(CARE, CARE, CARE),
        ("openai:c", STORY.hash): Belief(NOT_USABLE, NOT_USABLE, NOT_USABLE),
    }
    found = run.read(beliefs)
    panel = [s for s in found.scored if s.judge == PANEL]
    assert {s.belief for s in panel} == {CARE}
    alone = {s.judge: s.by_mode["high"].value for s in found.scored if s.primary}
    assert alone[PANEL] == pytest.approx((alone["openai:a"] + alone["openai:b"]) / 2)
    unaudited = run.read()
    table = judge_tables(unaudited)[0]
    assert table.grey == frozenset(range(len(table.rows)))  # the panel's rows, too
    assert {alpha.n for alpha in found.agreement.values()} == {DOCS}


def test_judges_are_heard_on_creativity_alone(run):
    run.scored(noisy)
    run.scored(noisy, rubric=ANSWER)
    beliefs = {("openai:a", STORY.hash): TRUSTED, ("openai:a", ANSWER.hash): TRUSTED}
    (said,) = run.read(beliefs).said()
    assert "creativity" in said.text
    assert said.direction == 1


@pytest.mark.parametrize("belief", [Belief(), Belief(CARE), Belief(USABLE, USABLE, NOT_USABLE)])
def test_a_judge_that_is_not_usable_or_obeys_texts_is_not_heard(run, belief):
    run.scored(noisy)
    assert run.read({("openai:a", STORY.hash): belief}).said() == []


def test_a_preference_that_length_explains_has_no_direction(run):
    """High is always the longer: what is at equal length is unknown, or the other way round."""
    run.chosen(lambda a, b, d: 0.8 if a == "high" else 0.2)
    (said,) = run.read({("openai:a", STORY.hash): TRUSTED}).said()
    (preferred,) = run.read().preferred
    fair = preferred.equal_length.strengths.win_rates["high"].value
    assert preferred.found.rate.value == pytest.approx(0.8)
    assert said.direction == (1 if fair > 0.5 else 0)


def test_two_versions_of_a_rubric_are_told_apart(run, tmp_path):
    from psplit_eval.rubrics import read_rubric
    from psplit_eval.suites import shipped_folder

    text = (shipped_folder("judges") / "story.yaml").read_text()
    path = tmp_path / "story2.yaml"
    path.write_text(text.replace("version: 1", "version: 2").replace("Judge the story", "Judge it"))
    second = read_rubric(path)
    for rubric in (STORY, second):
        for judge in ("openai:a", "openai:b"):
            run.scored(noisy, judge, rubric)
    found = run.read()
    assert set(found.rubrics.values()) == {
        f"story v1 ({STORY.hash[:6]})",
        f"story v2 ({second.hash[:6]})",
    }
    assert len(found.agreement) == 2 * len(STORY.names)
    assert len({row[:3] for row in judge_tables(found)[0].rows}) == len(found.scored)


def test_a_judge_that_is_asked_otherwise_is_another_one(run):
    run.scored(noisy)
    assert run.ledger.introduce("openai:a", {"identity": 2}, STORY.hash, STORY.to_dict())
    assert run.read().scored == []
    assert not run.ledger.introduce("openai:a", {"identity": 2}, STORY.hash, STORY.to_dict())


def test_three_modes_have_strengths(tmp_path):
    run = Run(tmp_path, ["normal", "high", "low"])
    worth = {"normal": 0, "high": 1, "low": -1}
    run.chosen(lambda a, b, d: 1 / (1 + math.exp(worth[b] - worth[a])))
    found = run.read()
    (ranked,) = found.ranked
    values = {mode: estimate.value for mode, estimate in ranked.raw.log_odds.items()}
    assert values == pytest.approx(worth, abs=1e-6)
    assert len(found.preferred) == 3
