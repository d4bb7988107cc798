"""People's labels and a judge's scores of a run: who is right, and what a report says of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from labelled_run import (
    FLATTERY,
    RUBRIC,
    TASK,
    Flattered,
    fill_in,
    judge,
    make_run,
    texts,
    truth,
    worth,
)
from scipy.stats import false_discovery_control

from psplit_eval.beliefs import fitting_cards
from psplit_eval.calibrating import calibrate, scale_of
from psplit_eval.calibration import Scores, calibrated_difference, calibrated_mean
from psplit_eval.cli import main
from psplit_eval.hearing import read_judged
from psplit_eval.judge_tables import calibrated_table, judge_tables
from psplit_eval.judged import Belief, JudgedRun
from psplit_eval.labels import LabelKey, Scale, keep_labels, kept_labels
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.store import Store

STORY = Scale("story", 0, 10)
MODES = ["normal", "high"]
NAME = Flattered.name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Judged, and 30 samples of each mode labelled."""
    folder = make_run(tmp_path_factory.mktemp("calibrating") / "run")
    judge(folder)
    drawn = folder.parent / "drawn.jsonl"
    assert main(["calibrate", str(folder), "--draw", "30", "--out", str(drawn)]) == 0
    fill_in(drawn)
    assert main(["calibrate", str(folder), "--labels", str(drawn)]) == 0
    return folder


@pytest.fixture
def small(tmp_path):
    return make_run(tmp_path / "run", docs=12)


def label(key):
    """The key of a label of a text's (mode, doc, sample)."""
    mode, doc, index = key
    return LabelKey(mode, TASK, doc, index, "creativity")


def found(folder, labels=None, modes=MODES, **more):
    with Ledger(folder / LEDGER) as ledger:
        return calibrate(ledger, kept_labels(folder) if labels is None else labels, modes, **more)


def read(folder, belief="not audited", labels=None):
    beliefs = {(NAME, RUBRIC.hash): Belief(belief, belief)}
    with Ledger(folder / LEDGER) as ledger, Store(folder / "samples.sqlite") as store:
        given = kept_labels(folder) if labels is None else labels
        return read_judged(store, ledger, MODES, beliefs, labels=given)


def test_labels_turn_a_deceived_judge_round(run):
    (one,) = found(run)
    apart = truth(run, "high") - truth(run, "normal")
    difference = one.differences["high"]
    assert apart < 0 < difference.judge_difference.ci_low
    assert difference.difference.ci_low < apart < difference.difference.ci_high < 0
    assert difference.judge_bias.value == pytest.approx(0.8 * FLATTERY, abs=0.5)
    for mode, mean in one.by_mode.items():
        assert mean.estimate.ci_low < truth(run, mode) < mean.estimate.ci_high
        assert mean.labels == 30
        assert mean.equivalent_labels > 30
    assert one.by_mode["high"].judge_mean.ci_low > truth(run, "high") + 1


def test_numbers_are_those_of_the_samples_put_together_by_hand(run):
    labelled = {(k.doc_id, k.sample_idx, k.mode): v for k, v in kept_labels(run)[STORY].items()}
    arms = {}
    for mode in MODES:
        of_mode = {key[1:]: text for key, text in texts(run).items() if key[0] == mode}
        judged = [worth(text) + FLATTERY * ("Behold" in text) for text in of_mode.values()]
        human = [labelled.get((*key, mode), np.nan) for key in of_mode]
        arms[mode] = Scores([doc for doc, _ in of_mode], judged, human)
    (one,) = found(run)
    assert one.by_mode == {mode: calibrated_mean(arm) for mode, arm in arms.items()}
    assert one.differences == {"high": calibrated_difference(arms["normal"], arms["high"])}
    (finding,) = one.findings
    assert (finding.mode_a, finding.mode_b) == ("normal", "high")
    assert finding.p == one.differences["high"].difference.p


def test_all_samples_labelled_is_the_human_mean(small):
    judge(small)
    labels = {label(key): worth(text) for key, text in texts(small).items()}
    (one,) = found(small, {STORY: labels})
    for mode in MODES:
        assert one.by_mode[mode].estimate.value == pytest.approx(truth(small, mode), abs=1e-12)
    apart = truth(small, "high") - truth(small, "normal")
    assert one.differences["high"].difference.difference == pytest.approx(apart, abs=1e-12)


def test_samples_without_a_verdict_are_left_out_and_counted(small):
    judge(small, Flattered(silent="number 3."))  # both samples of one doc, in both modes
    known = texts(small)
    labels = {label(key): worth(text) for key, text in known.items()}
    (one,) = found(small, {STORY: labels}, allow_missing=True)
    assert (one.asked, one.missing) == ({"normal": 24, "high": 24}, {"normal": 2, "high": 2})
    assert one.unused == {"normal": 2, "high": 2}
    rest = [worth(text) for (mode, doc, _), text in known.items() if mode == "high" and doc != 3]
    assert one.by_mode["high"].estimate.value == pytest.approx(np.mean(rest), abs=1e-12)
    assert one.by_mode["high"].labels == 22
    cells = calibrated_table(JudgedRun(calibrated=[one])).rows[1]
    assert "2 of 24; 2 labels" in cells


def test_where_many_verdicts_are_missing_nothing_is_tested(small):
    judge(small, Flattered(silent="number 3."))
    labels = {STORY: {label(key): worth(text) for key, text in texts(small).items()}}
    (allowed,) = found(small, labels, allow_missing=True)
    (one,) = found(small, labels)
    (finding,) = one.findings
    assert finding.test == ""
    assert np.isnan([finding.p, finding.estimate.ci_low, finding.estimate.ci_high]).all()
    for mode, mean in one.by_mode.items():
        assert mean.estimate.value == allowed.by_mode[mode].estimate.value
        assert np.isnan(mean.estimate.ci_low)
        assert mean.note.startswith("over 1 % of verdicts are missing")
    assert allowed.findings[0].test


def test_labels_of_a_sample_that_was_not_judged_do_not_count(small):
    judge(small, samples=1)
    labels = {label(key): worth(text) for key, text in texts(small).items()}
    (one,) = found(small, {STORY: labels})
    assert one.unused == {"normal": 12, "high": 12}
    assert one.asked == {"normal": 12, "high": 12}
    assert one.by_mode["normal"].labels == 12


def test_with_few_labels_numbers_are_undefined_and_say_why(small):
    judge(small)
    labels = {label((mode, doc, 0)): 5.0 for mode in MODES for doc in range(4)}
    (one,) = found(small, {STORY: labels})
    assert np.isnan(one.by_mode["high"].estimate.value)
    assert one.by_mode["high"].note.startswith("undefined: 4 labelled docs")
    assert (one.findings[0].test, one.findings[0].note[:9]) == ("", "undefined")
    entry = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert entry["modes"]["high"]["value"] is None
    assert entry["differences"][0]["value"] is None


def test_a_mode_without_labels_is_shown_as_unknown(small):
    judge(small)
    labels = {label(key): worth(t) for key, t in texts(small).items() if key[0] == "high"}
    (one,) = found(small, {STORY: labels})
    assert one.by_mode["high"].estimate.value == pytest.approx(truth(small, "high"))
    assert one.by_mode["normal"].note.startswith("undefined: 0 labelled docs")
    assert np.isnan(one.differences["high"].difference.difference)


def test_labels_by_another_scale_or_rubric_do_not_count(small):
    judge(small)
    labels = {label(key): worth(text) for key, text in texts(small).items()}
    assert scale_of(RUBRIC.to_dict()) == STORY
    assert len(found(small, {STORY: labels})) == 1
    assert found(small, {Scale("story", 1, 10): labels, Scale("uses", 0, 10): labels}) == []
    assert found(small, {}) == []


def test_every_labelled_dimension_of_every_judge_is_calibrated(small):
    class Honest(Flattered):
        name = "openai:honest"

        def _reply(self, text):
            return super()._reply(text.replace("Behold", "Lo"))

    judge(small)
    judge(small, Honest())
    known = texts(small)
    labels = {
        label(key)._replace(dimension=name): worth(text)
        for key, text in known.items()
        for name in RUBRIC.names[:2]
        if key[1] % 2
    }
    every = {(one.judge, one.dimension): one for one in found(small, {STORY: labels})}
    assert list(every) == [(j, d) for j in (NAME, Honest.name) for d in RUBRIC.names[:2]]
    assert [one.primary for one in every.values()] == [
        n == RUBRIC.primary for n in RUBRIC.names[:2]
    ] * 2
    honest = every[Honest.name, "creativity"]
    assert honest.by_mode["high"].judge_bias.value == pytest.approx(0, abs=1e-9)
    assert honest.by_mode["high"].estimate.value == pytest.approx(truth(small, "high"), abs=0.05)


@pytest.mark.parametrize("belief", ["usable", "not usable", "not audited"])
def test_a_calibrated_judge_is_heard_whatever_its_audit_says(run, belief):
    (said,) = read(run, belief).said()
    assert said.text.startswith(f"{NAME}, calibrated with 60 labels, creativity -0.")
    assert (said.task, said.mode_a, said.mode_b, said.direction) == (TASK, *MODES, -1)


def test_without_labels_the_audit_decides_who_is_heard(run):
    (said,) = read(run, "usable", {}).said()
    assert said.text.startswith(f"{NAME} creativity +1.")
    assert said.direction == 1
    assert read(run, "not usable", {}).said() == []


def test_labels_too_few_for_a_test_do_not_silence_an_audited_judge(run):
    few = {STORY: dict(list(kept_labels(run)[STORY].items())[:4])}
    (said,) = read(run, "usable", few).said()
    assert said.text.startswith(f"{NAME} creativity")
    assert read(run, "not usable", few).said() == []


def test_labels_on_a_dimension_that_does_not_decide_are_not_heard(run):
    labels = {k._replace(dimension="imagery"): v for k, v in kept_labels(run)[STORY].items()}
    assert "imagery" in RUBRIC.names
    judged = read(run, "not usable", {STORY: labels})
    assert [one.dimension for one in judged.calibrated] == ["imagery"]
    assert judged.said() == []


def test_calibrated_tests_are_members_of_the_family(run):
    """Against scipy's Benjamini-Hochberg, over what the judge alone says and this together."""
    judged = read(run)
    every = [f for one in (*judged.scored, *judged.calibrated) for f in one.findings]
    assert [f.measure.endswith(", calibrated") for f in every].count(True) == 1
    expected = false_discovery_control([f.p for f in every])
    assert [f.p_adjusted for f in every] == pytest.approx(list(expected))


def test_the_report_says_it_without_grey_and_makes_it_again(run):
    with Ledger(run / LEDGER) as ledger:
        assert fitting_cards(run / "audits", ledger) == {}  # the judge is not audited
    table = calibrated_table(read(run))
    assert table.grey == frozenset()
    assert "random draw" in table.note
    assert [row[3] for row in table.rows] == ["normal", "high", "high − normal"]
    titles = [one.title for one in judge_tables(read(run))]
    assert titles.index(table.title) == titles.index("Judges: scores") + 1
    for name in ("report.md", "report.html", "judgements.json"):
        (run / name).unlink()
    assert main(["report", str(run)]) == 0
    for name in ("report.md", "report.html"):
        assert "Judges: calibrated with human labels" in (run / name).read_text()
    (entry,) = json.loads((run / "judgements.json").read_text())["calibrated"]
    (one,) = found(run)
    assert entry["modes"]["high"]["value"] == one.by_mode["high"].estimate.value
    assert entry["modes"]["high"]["judge_weight"] == one.by_mode["high"].judge_weight
    assert entry["differences"][0]["labels"] == [30, 30]
    assert entry["differences"][0]["p_adjusted"] >= entry["differences"][0]["p"] > 0


def test_a_run_without_labels_has_no_such_table(small, capsys):
    judge(small)
    assert main(["report", str(small)]) == 0
    assert "calibrated" not in (small / "report.md").read_text()
    assert json.loads((small / "judgements.json").read_text())["calibrated"] == []


def test_the_first_mode_is_the_one_to_compare_with(run):
    (one,), (other,) = found(run), found(run, modes=["high", "normal"])
    assert list(other.differences) == ["normal"]
    assert other.findings[0].estimate.value == pytest.approx(-one.findings[0].estimate.value)
    assert replace(other, differences={}, findings=[]).missing == one.missing


def test_later_labels_change_what_is_said(small):
    judge(small)
    labels = {label(key): worth(text) for key, text in texts(small).items()}
    keep_labels(small, STORY, labels)
    (before,) = found(small)
    keep_labels(small, STORY, {key: 10.0 for key in labels if key.mode == "high"})
    (after,) = found(small)
    assert after.by_mode["normal"] == before.by_mode["normal"]
    assert after.by_mode["high"].estimate.value == 10.0
