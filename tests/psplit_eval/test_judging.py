"""Which samples of a run a judge is asked about, what it sees of them, and what is kept."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from judgeable import MODES, SECRET, THOUGHT, make_run, sample, story
from pretending import PretendJudge, sevens

from psplit_eval.errors import InfrastructureError, UnknownNameError, UsageError
from psplit_eval.inquiry import Price
from psplit_eval.judges import JudgeName, Reply
from psplit_eval.judging import CHOICE, SCORES, JudgeOptions, judge_run
from psplit_eval.ledger import Ledger
from psplit_eval.replies import FIRST, Choice
from psplit_eval.rubrics import find_rubric
from psplit_eval.suites import shipped_folder

STORY, SOLVE = find_rubric("story"), find_rubric("solve")


class Silent:
    def __init__(self):
        self.totals, self.heard = [], 0

    def say(self, text):
        pass

    @contextmanager
    def judging(self, total):
        self.totals.append(total)

        def hear(number):
            self.heard += number

        yield hear


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def ask():
    """Judge a run by pretended judges; gives what came of it, and the judges."""

    def asked(folder, *judges, screen=None, **options):
        judges = judges or (PretendJudge(),)
        by_model = {judge.name.partition(":")[2]: judge for judge in judges}
        names = [JudgeName("openai", model) for model in by_model]
        found = judge_run(
            JudgeOptions(
                folder=folder,
                judges=names,
                opens=lambda name, *_: by_model[name.model],
                **{"rubric": STORY, **options},
            ),
            screen or Silent(),
        )
        return found, *judges

    return asked


def judged(folder, judge="openai:pretend", rubric=STORY, kind=SCORES, task="psplit_story"):
    with Ledger(folder / "judgements.sqlite") as ledger:
        return list(ledger.judged(judge, rubric.hash, kind, task))


def shown(judge):
    return "\n".join(question.system + question.user for question in judge.asked)


def test_every_sample_of_the_tasks_that_the_rubric_is_for_is_scored(run, ask):
    screen = Silent()
    (found,), judge = ask(run, screen=screen)
    assert found.items == found.bill.asked == len(judge.asked) == 8
    places = [(j.doc_id, j.mode, j.sample_idx) for j, _ in judged(run)]
    assert places == [(d, m, i) for d in (0, 1) for m in ("high", "normal") for i in (0, 1)]
    assert {call.verdict["creativity"] for _, call in judged(run)} == {7}
    assert judged(run, task="sums") == []
    assert (screen.totals, screen.heard) == ([8], 8)


def test_a_judge_sees_the_question_and_the_answer_and_nothing_else(run, ask):
    _, judge = ask(run, kinds=(SCORES, CHOICE))
    _, other = ask(run, rubric=SOLVE, tasks=["sums"], kinds=(SCORES, CHOICE))
    for asked in (judge, other):
        assert "wild" not in shown(asked)
        assert THOUGHT not in shown(asked)
        assert "high" not in "".join(question.user for question in asked.asked)
    assert "Write about door 1." in shown(judge)
    assert "What is 1 + 1?" in shown(other)


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("only", [["high"], ["high", "longer"]])
def test_a_system_prompt_that_every_mode_has_is_taken_out(served, only, tmp_path, ask):
    modes = {name: MODES.get(name, SECRET + " Again and again.") for name in only}
    run = make_run(tmp_path / "run", modes, served=served)
    _, judge = ask(run, rubric=SOLVE, tasks=["sums"])
    assert "wild" not in shown(judge)
    assert "Again" not in shown(judge)
    assert "What is 0 + 0?" in shown(judge)


def test_stock_tasks_and_imports_are_judged_too(tmp_path, ask):
    run = make_run(tmp_path / "run", tasks=("stock",))
    _, judge = ask(run, rubric=SOLVE, tasks=["stock"])
    assert "What is 1 + 1?" in shown(judge)
    more = tuple(
        sample(mode, "stock", doc, index, "not stored")
        for mode in MODES
        for doc in (0, 1)
        for index in (0, 1)
    )
    run = make_run(tmp_path / "import", tasks=("stock",), more=more)
    (found,), judge = ask(run, rubric=SOLVE, tasks=["stock"])
    assert found.items == 8
    assert f"=== {SOLVE.prompt} " not in shown(judge)


def test_a_question_asked_of_both_modes_is_the_same_question(run, ask):
    _, judge = ask(run)
    prompts = {
        question.user.partition("=== story")[0].partition("\n")[2] for question in judge.asked
    }
    assert len({prompt.partition("\n===")[0] for prompt in prompts}) == 2  # one a doc


def test_failed_and_scored_samples_are_left_out(tmp_path, ask):
    more = (
        sample("high", "psplit_story", 0, 0, "p", text=None, error="server gone"),
        sample("high", "psplit_story", 0, 1, "p", finish_reason="scored"),
        sample("normal", "psplit_story", 1, 0, "p", text="", finish_reason="length"),
    )
    run = make_run(tmp_path / "run", more=more)
    (found,), _ = ask(run, kinds=(SCORES, CHOICE))
    places = [(j.mode, j.doc_id, j.sample_idx) for j, _ in judged(run)]
    assert found.items == 6 + 4
    assert not {("high", 0, 0), ("high", 0, 1)} & set(places)
    assert ("normal", 1, 0) in places  # an empty answer is an answer
    assert {j.doc_id for j, _ in judged(run, kind=CHOICE)} == {1}


def test_pairs_are_shown_in_both_orders(run, ask):
    def first(question):
        value = 1.0 if "4th" in question.user.partition("story B")[0] else 0.0
        return Reply({FIRST: value}, prompt_tokens=1, completion_tokens=1)

    (found,), judge = ask(run, PretendJudge(first), kinds=(CHOICE,))
    assert found.items == len(judge.asked) == 2 * 2 * 2
    assert all(isinstance(question.form, Choice) for question in judge.asked)
    kept = judged(run, kind=CHOICE)
    pairs = {(j.mode, j.other_mode) for j, _ in kept}
    assert pairs == {("normal", "high"), ("high", "normal")}
    assert all(j.sample_idx == j.other_idx for j, _ in kept)
    # the 4th hour is told of in high only: it is the better one wherever it stands
    assert all((call.verdict[FIRST] == 1) == (j.mode == "high") for j, call in kept)


def test_three_modes_are_three_pairs(tmp_path, ask):
    run = make_run(tmp_path / "run", {"normal": None, "high": SECRET, "low": "Calm."})
    (found,), _ = ask(run, kinds=(CHOICE,))
    assert found.items == 3 * 2 * 2 * 2


@pytest.mark.parametrize(("samples", "items"), [(1, 4), (2, 8), (9, 8)])
def test_so_many_samples(samples, items, run, ask):
    (found,), _ = ask(run, samples=samples)
    assert found.items == items
    assert {j.sample_idx for j, _ in judged(run)} == set(range(min(2, samples)))


def test_the_first_samples_are_the_same_ones_in_every_mode(tmp_path, ask):
    gone = sample("high", "psplit_story", 0, 0, "p", text=None, error="server gone")
    run = make_run(tmp_path / "run", more=(gone,))
    ask(run, samples=1, kinds=(SCORES, CHOICE))
    assert {j.sample_idx for j, _ in judged(run)} == {0}
    assert {j.doc_id for j, _ in judged(run, kind=CHOICE)} == {1}


def test_judging_again_asks_nothing_and_more_samples_only_the_rest(run, ask):
    ask(run, samples=1)
    (found,), judge = ask(run)
    assert (found.bill.known, len(judge.asked)) == (4, 4)
    (found,), judge = ask(run)
    assert (found.bill.known, len(judge.asked)) == (8, 0)
    assert len(judged(run)) == 8


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InfrastructureError("gone")])
def test_an_interrupted_run_is_resumed_and_equals_a_whole_one(error, tmp_path, ask):
    whole, cut = make_run(tmp_path / "whole"), make_run(tmp_path / "cut")
    ask(whole)
    with pytest.raises(type(error)):
        ask(cut, PretendJudge(fails_after=3, error=error, places=2))
    assert len(judged(cut)) == 3
    _, judge = ask(cut)
    assert len(judge.asked) == 5

    def kept(folder):
        return [(j, replace(c, created_at="")) for j, c in judged(folder)]

    assert kept(cut) == kept(whole)


def test_equal_texts_are_one_question_and_all_have_its_verdict(tmp_path, ask):
    more = [
        sample(mode, "psplit_story", 0, index, "p", text="The same.")
        for mode in MODES
        for index in (0, 1)
    ]
    run = make_run(tmp_path / "run", more=tuple(more))
    (found,), judge = ask(run)
    assert (found.items, found.bill.known, len(judge.asked)) == (8, 3, 5)
    assert len(judged(run)) == 8


def test_several_judges_and_rubrics_lie_side_by_side(run, ask):
    cold = PretendJudge(lambda q: Reply(dict.fromkeys(q.form.dimensions, 1.0)), name="openai:cold")
    found, _, _ = ask(run, PretendJudge(), cold)
    assert [one.judge for one in found] == ["openai:pretend", "openai:cold"]
    ask(run, rubric=SOLVE, tasks=["psplit_story"])
    assert {c.verdict["creativity"] for _, c in judged(run)} == {7}
    assert {c.verdict["creativity"] for _, c in judged(run, "openai:cold")} == {1}
    assert len(judged(run, rubric=SOLVE)) == 8
    with Ledger(run / "judgements.sqlite") as ledger:
        assert ledger.judges().keys() == {"openai:pretend", "openai:cold"}
        assert {rubric["name"] for rubric in ledger.rubrics().values()} == {"story", "solve"}


def test_unreadable_verdicts_are_missing_not_numbers(run, ask):
    def answer(question):
        return Reply(None, "no score", tries=2) if "0-0" in question.user else sevens(question)

    (found,), _ = ask(run, PretendJudge(answer))
    assert found.bill.unreadable == 2
    kept = {(j.mode, j.doc_id, j.sample_idx): call.verdict for j, call in judged(run)}
    assert kept["normal", 0, 0] is kept["high", 0, 0] is None
    assert len(kept) == 8


def test_a_dry_run_asks_and_writes_nothing_and_is_right(run, ask):
    before = {path.name for path in run.iterdir()}
    prices = {"pretend": Price(1e4, 1e5)}
    (dry,), judge = ask(run, dry_run=True, prices=prices)
    assert judge.asked == []
    assert {path.name for path in run.iterdir()} - {".lock"} == before
    assert dry.bill.cost == pytest.approx(16.0)
    (found,), judge = ask(run, prices=prices, samples=1)
    (dry,), _ = ask(run, dry_run=True, prices=prices)
    assert (dry.bill.asked, dry.bill.known, dry.bill.earlier) == (4, 4, pytest.approx(8.0))
    (found,), judge = ask(run, prices=prices)
    assert found.bill.cost == pytest.approx(dry.bill.cost)


def test_a_budget_is_kept_judge_by_judge(run, ask):
    prices = {"pretend": Price(1e4, 1e5), "other": Price(1e4, 1e5)}
    judges = PretendJudge(places=3), PretendJudge(places=3, name="openai:other")
    found, *_ = ask(run, *judges, prices=prices, max_cost=7.0)
    assert [(one.bill.asked, one.bill.left) for one in found] == [(3, 5), (3, 5)]
    assert len(judged(run)) == 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tasks": ["stroy"]}, UnknownNameError, "unknown task"),
        ({"rubric": find_rubric("uses")}, UsageError, "rubric 'uses': for .*psplit_uses"),
        ({"samples": 0}, UsageError, "--samples 0: expected 1 or more"),
        ({"max_cost": 5.0}, UsageError, "no price is known"),
        ({"max_cost": -5.0}, UsageError, "expected a number above 0"),
        ({"prices": {"x": Price(1, 1)}}, UnknownNameError, "unknown model in --prices"),
    ],
)
def test_a_wrong_wish_leaves_no_ledger(options, error, words, run, ask):
    with pytest.raises(error, match=words) as caught:
        ask(run, **options)
    assert "\n" not in str(caught.value)
    assert not (run / "judgements.sqlite").exists()


def test_one_mode_has_nothing_to_compare(tmp_path, ask):
    run = make_run(tmp_path / "run", {"normal": None})
    with pytest.raises(UsageError, match="one mode, so there is nothing to compare"):
        ask(run, kinds=(CHOICE,))
    (found,), _ = ask(run, kinds=(SCORES, CHOICE))
    assert found.items == 4


def test_a_folder_without_a_run_is_one_line(tmp_path, ask):
    with pytest.raises(UsageError, match="no run"):
        ask(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_files_of_one_name_are_not_one_judge(run, tmp_path):
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        row = {"about": folder, "verdict": None}
        (tmp_path / folder / "v.jsonl").write_text(json.dumps(row))
        names.append(JudgeName.parse(f"recorded:{tmp_path / folder / 'v.jsonl'}"))
    with pytest.raises(UsageError, match=r"another one is called recorded:v\.jsonl"):
        judge_run(JudgeOptions(folder=run, judges=names, rubric=STORY), Silent())


def test_samples_are_only_read(run, ask):
    before = (run / "samples.sqlite").read_bytes()
    ask(run, kinds=(SCORES, CHOICE))
    assert (run / "samples.sqlite").read_bytes() == before


def test_stories_are_what_the_run_says(run, ask):
    _, judge = ask(run)
    for mode in MODES:
        for doc in (0, 1):
            assert story(mode, doc, 1) in shown(judge)


def test_verdicts_count_for_the_rubric_that_was_given(run, ask, tmp_path):
    """Other rubrics may ask the very same: what decides is no part of a question."""
    (tmp_path / "mine.yaml").write_text(
        (shipped_folder("judges") / "story.yaml")
        .read_text()
        .replace("primary: creativity", "primary: imagery")
    )
    mine = find_rubric(str(tmp_path / "mine.yaml"))
    ask(run)
    (found,), judge = ask(run, rubric=mine)
    assert (found.bill.asked, found.bill.known, judge.asked) == (0, 8, [])
    assert mine.hash != STORY.hash
    assert len(judged(run, rubric=mine)) == len(judged(run)) == 8
