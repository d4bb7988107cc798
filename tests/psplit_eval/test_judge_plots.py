"""What judges said, as pictures: numbers beside them, and no failed judge that looks like one."""

import csv
import math

import pytest
from heard_run import ANSWER, MODES, STORY, TASK, TRUSTED, Run, noisy
from labelled_run import Flattered, fill_in, judge, make_run

from psplit_eval.cards import CARE, NOT_USABLE, USABLE
from psplit_eval.cli import main
from psplit_eval.figures import blank_figure
from psplit_eval.hearing import read_judged
from psplit_eval.judge_plots import draw_judges
from psplit_eval.judged import PANEL, Belief, JudgedRun
from psplit_eval.labels import kept_labels
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.store import Store

JUDGES = {
    "openai:good": TRUSTED,
    "openai:fair": Belief(CARE, CARE, USABLE),
    "openai:failed": Belief(NOT_USABLE, NOT_USABLE, USABLE),
}


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is drawn."""
    drawn = []

    def kept(*size):
        drawn.append(blank_figure(*size))
        return drawn[-1]

    monkeypatch.setattr("psplit_eval.figures.blank_figure", kept)
    return drawn


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("judged"))
    for name in JUDGES:
        run.scored(noisy, judge=name)
        run.chosen(lambda a, b, doc: 0.9 if (a == "high") == (doc % 4 > 0) else 0.2, judge=name)
    return run.read({(name, STORY.hash): belief for name, belief in JUDGES.items()})


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def cells(table, *names):
    return {tuple(row[name] for name in names) for row in table}


def test_the_numbers_beside_the_scores_are_what_was_judged(judged, tmp_path):
    scores, _ = draw_judges(judged, tmp_path)
    table = {(row["judge"], row["dimension"], row["mode"]): row for row in rows(scores.csv)}
    assert len(table) == sum(len(scored.by_mode) for scored in judged.scored)
    for scored in judged.scored:
        for mode, e in scored.by_mode.items():
            row = table[scored.judge, scored.dimension, mode]
            assert [float(row[n]) for n in ("value", "ci_low", "ci_high", "n_docs")] == [
                *(e.value, e.ci_low, e.ci_high, e.n)
            ]
            assert (row["audit"], row["decides"]) == (scored.belief, str(int(scored.primary)))


def test_the_numbers_beside_the_preferences_are_raw_and_at_equal_length(judged, tmp_path):
    _, wins = draw_judges(judged, tmp_path)
    table = {(row["judge"], row["measure"]): row for row in rows(wins.csv)}
    for one in judged.preferred:
        assert float(table[one.judge, "raw"]["b_preferred"]) == one.found.rate.value
        fair = one.equal_length.strengths.win_rates["high"].value
        said = table[one.judge, "equal_length"]["b_preferred"]
        assert said == ("" if math.isnan(fair) else repr(fair))


def test_a_judge_that_failed_is_hollow_grey_and_says_so(judged, tmp_path, figures):
    scores, wins = draw_judges(judged, tmp_path)
    panels = {axis.get_title().split("\n")[1]: axis for axis in figures[0].axes}
    assert set(panels) == {*JUDGES, PANEL}
    failed, good = panels["openai:failed"], panels["openai:good"]
    assert "no evidence" in failed.get_title().replace("\n", " ")
    assert "no evidence" not in good.get_title().replace("\n", " ")
    fills = {
        name: {bars.lines[0].get_markerfacecolor() for bars in axis.containers}
        for name, axis in panels.items()
    }
    assert fills["openai:failed"] == {"white"}
    assert fills["openai:good"] == fills[PANEL] == {"#0072B2", "#D55E00"}
    assert failed.get_facecolor() != good.get_facecolor()
    labels = [text.get_text() for text in figures[1].axes[0].get_yticklabels()]
    assert ["no evidence" in label.replace("\n", " ") for label in labels] == [
        "failed" in label for label in labels
    ]
    assert "no evidence" in scores.caption
    assert "(audit: not usable, no evidence)" in wins.alt


def test_a_caption_does_not_explain_grey_where_nothing_is(tmp_path):
    run = Run(tmp_path)
    run.scored(noisy)
    (scores,) = draw_judges(run.read({("openai:a", STORY.hash): TRUSTED}), tmp_path)
    assert "Grey" not in scores.caption
    assert "(audit: usable): creativity normal 4." in scores.alt


def test_rubrics_have_panels_of_their_own(tmp_path, figures):
    run = Run(tmp_path)
    run.scored(noisy)
    run.scored(noisy, rubric=ANSWER)
    (scores,) = draw_judges(run.read(), tmp_path)
    assert cells(rows(scores.csv), "task", "rubric") == {(TASK, "story"), (TASK, "answer")}
    names = [{t.get_text() for t in axis.get_yticklabels()} for axis in figures[0].axes]
    assert {"creativity *", "helpfulness *"} <= set.union(*names)
    assert not set.intersection(*names) - {"originality"}


def test_calibrated_scores_are_evidence_whatever_the_audit_says(tmp_path, figures):
    folder, drawn = make_run(tmp_path / "run", docs=12), tmp_path / "drawn.jsonl"
    judge(folder, Flattered())
    assert main(["calibrate", str(folder), "--draw", "8", "--out", str(drawn)]) == 0
    fill_in(drawn)
    assert main(["calibrate", str(folder), "--labels", str(drawn)]) == 0
    with Ledger(folder / LEDGER) as ledger, Store(folder / "samples.sqlite") as store:
        judged = read_judged(store, ledger, MODES, {}, labels=kept_labels(folder))
    (scores, *_) = draw_judges(judged, tmp_path)
    audits = {row["audit"] for row in rows(scores.csv)}
    assert audits == {"not audited", "calibrated with labels"}
    titles = [axis.get_title() for axis in figures[-1].axes]
    (calibrated,) = [i for i, title in enumerate(titles) if "calibrated" in title]
    fills = {c.lines[0].get_markerfacecolor() for c in figures[-1].axes[calibrated].containers}
    assert "white" not in fills


def test_where_nobody_judged_there_is_no_picture(tmp_path):
    assert draw_judges(JudgedRun(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
def test_many_modes_and_hostile_judges_are_drawn(tmp_path):
    run = Run(tmp_path, [*MODES, "low", "_$x", "long " * 12])
    for number in range(3):
        run.scored(noisy, judge=f"openai:{'$' * number}<b>_{'m' * 40}")
    (scores,) = draw_judges(run.read(), tmp_path)
    assert scores.png.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("error")
def test_preferences_between_hostile_modes_are_drawn(tmp_path):
    run = Run(tmp_path, ["_$x", "long " * 12])
    run.chosen(lambda a, b, doc: 0.7, judge="$<b>")
    (wins,) = draw_judges(run.read(), tmp_path)
    assert [row["mode_a"] for row in rows(wins.csv)] == ["_$x", "_$x"]
