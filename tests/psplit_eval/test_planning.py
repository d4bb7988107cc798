"""Plans: against scipy's noncentral t, and hand calculations."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.cli import main
from psplit_eval.errors import UnknownNameError
from psplit_eval.manifest import new_manifest
from psplit_eval.margins import Claim
from psplit_eval.planning import CROSSING, NOISE, Goal, PlanOptions, Spending, plan
from psplit_eval.protocol import Estimand
from psplit_eval.rescoring import score_store
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import Doc, Prompt, Sample, Store
from psplit_eval.suites import TaskSettings

PAPER = PlanOptions(suite="paper", goal=Goal(mde={"": 0.015}))


def row(found, task):
    (one,) = [row for row in found.rows if row.facts.task == task]
    return one


def chance(gap, docs, variance, alpha, sides=2):
    """Power of the paired t-test by scipy's distribution."""
    t = stats.t.ppf(1 - alpha / sides, docs - 1)
    shift = gap / math.sqrt(variance / docs)
    other = stats.nct.cdf(-t, docs - 1, shift) if sides == 2 and shift < 5 else 0.0
    return stats.nct.sf(t, docs - 1, shift) + other


@pytest.fixture(scope="module")
def paper():
    return plan(PAPER)


def test_the_papers_suite_has_its_published_sizes(paper):
    sizes = {r.facts.task: (r.facts.docs, r.facts.samples) for r in paper.rows}
    assert sizes["psplit_math500"] == (500, 8)
    assert sizes["psplit_aime"] == (60, 8)
    assert sizes["psplit_gpqa_diamond"] == (198, 8)
    assert sizes["psplit_mmlu_pro"] == (12_032, 8)
    assert "psplit_aime24" not in sizes
    assert paper.family == 6  # with stories and the average
    assert paper.answers == 2 * 8 * (500 + 60 + 198 + 12_032 + 32)


def test_what_is_detectable_is_found_with_the_wanted_chance(paper):
    math500 = row(paper, "psplit_math500")
    variance = 2 * 0.942 * 0.058 * (CROSSING + NOISE / 8)
    assert math500.alpha == 0.05 / 6
    assert chance(math500.detectable, 500, variance, 0.05 / 6) == pytest.approx(0.8, abs=1e-3)
    assert math500.chance == pytest.approx(chance(0.015, 500, variance, 0.05 / 6), abs=1e-3)
    assert chance(0.015, math500.docs_needed, variance, 0.05 / 6) >= 0.8
    assert chance(0.015, math500.docs_needed - 1, variance, 0.05 / 6) < 0.8

    def with_samples(k):
        return chance(0.015, 500, 2 * 0.942 * 0.058 * (CROSSING + NOISE / k), 0.05 / 6)

    assert with_samples(math500.samples_needed) >= 0.8 > with_samples(math500.samples_needed - 1)


def test_sixty_problems_cannot_tell_it_whatever_is_drawn(paper):
    aime = row(paper, "psplit_aime")
    crossing = 2 * 0.7029 * (1 - 0.7029) * CROSSING
    assert chance(0.015, 60, crossing, 0.05 / 6) < 0.8  # with endless samples
    assert aime.samples_needed is None
    assert aime.docs_needed > 2000
    assert "no number of samples will do" in aime.verdict
    assert "there are 60" in aime.verdict
    noise = 2 * 0.7029 * (1 - 0.7029) * NOISE
    assert chance(0.015, 60, noise / aime.samples_given, 0.05 / 6) >= 0.8


def test_docs_as_given_leave_sampling_alone():
    given = plan(PlanOptions(suite="paper", goal=Goal({"": 0.015}, estimand=Estimand.GIVEN)))
    aime = row(given, "psplit_aime")
    assert aime.samples_needed == aime.samples_given is not None
    assert aime.docs_needed is None
    assert aime.at_best == 0


def test_the_average_adds_its_tasks_in_squares(paper):
    average = row(paper, "average of tasks")
    published = {500: 0.942, 60: 0.7029, 198: 0.5689, 12_032: 0.7438}
    share = CROSSING + NOISE / 8
    error = sum(2 * p * (1 - p) * share / n for n, p in published.items()) / 16
    normal = (stats.norm.ppf(1 - 0.05 / 12) + stats.norm.ppf(0.8)) * math.sqrt(error)
    assert average.detectable == pytest.approx(normal, rel=0.03)  # t of about 100 degrees
    assert average.alpha == 0.05 / 6


def test_a_claim_is_one_sided_and_equivalence_takes_two_tests():
    goal = {"": 0.03}
    plans = {
        claim: row(
            plan(PlanOptions(tasks=["psplit_math500"], goal=Goal(goal, claim))), "psplit_math500"
        )
        for claim in (None, Claim.NON_INFERIOR, Claim.EQUIVALENT)
    }
    variance = 2 * 0.942 * 0.058 * (CROSSING + NOISE / 8)
    one = chance(0.03, 500, variance, 0.05, sides=1)
    assert plans[Claim.NON_INFERIOR].chance == pytest.approx(one, abs=1e-3)
    assert plans[Claim.EQUIVALENT].chance == pytest.approx(2 * one - 1, abs=1e-3)
    assert plans[Claim.NON_INFERIOR].detectable < plans[None].detectable
    assert plans[None].detectable < plans[Claim.EQUIVALENT].detectable


def test_claims_are_a_family_of_fractions():
    """The paper's four general tasks and their average, without the stories."""
    claim = Goal({"": 0.015}, Claim.NON_INFERIOR)
    assert plan(PlanOptions(suite="paper", goal=claim)).family == 5


def test_costs_by_hand():
    spending = Spending(
        {"": 100.0, "psplit_story": 400.0}, per_second=50.0, judges=3, price=(2, 10)
    )
    options = PlanOptions(suite="quick", modes=("a", "b", "c"), spending=spending)
    found = plan(options)
    answers = 3 * 4 * (48 + 48 + 8)
    tokens = 3 * 4 * (96 * 100 + 8 * 400)
    assert (found.answers, found.tokens) == (answers, tokens)
    assert found.seconds == tokens / 50
    assert found.judge_calls == 3 * 4 * 8 * 3
    read, written = found.judge_tokens
    assert read > 3 * found.judge_calls * 100  # the text and the rubric
    assert found.cost == pytest.approx((2 * read + 10 * written) / 1e6)
    assert found.family == (3 + 1) * 3  # tasks with the average, and pairs


def test_without_a_measured_length_tokens_are_a_limit(paper):
    assert paper.at_most
    assert row(paper, "psplit_math500").facts.tokens == 32_768
    assert math.isnan(paper.seconds)


def more_in_high(doc, more):
    return doc % 5 * (doc % 5 < 4) + more * (doc % 3 == 0)


@pytest.fixture
def pilot(tmp_path):
    """Two modes, 40 docs, 4 samples of 25 tokens: doc d is right in d % 5 of 4, 'high' one more."""
    return make_pilot(tmp_path / "pilot", more_in_high)


def make_pilot(folder, right_of, docs=40, samples=4, tasks="t"):
    scorer = AccuracyScorer(AnswerFormat(r"(\d+)"))
    mode = {"system_prompt": None, "role": "other", "sampling": {}}
    entry = {
        "title": "t", "source": "s", "sha256": "h", "scorer": scorer.to_dict(), "samples": 4,
        "docs": 40, "docs_in_all": 90, "sampling": {"max_tokens": 64},
    }  # fmt: skip
    manifest = new_manifest(
        {
            "command": [], "model": {"backend": "hf"}, "suite": None, "base_seed": 0,
            "batch_size": None,
            "checkpoint": {"name": "m", "path": "m", "fingerprint": "f", "files": {}},
            "modes": [{"name": "normal", **mode}, {"name": "high", **mode}],
            "tasks": dict.fromkeys(tasks, entry), "pools": {},
        }
    ) | {"tokens": 8000, "wall_seconds": 20.0}  # fmt: skip
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with Store(folder / "samples.sqlite") as store:
        store.add_plan(
            [Prompt("p", "normal", "x", ())],
            [Doc(task, d, "h", {}, "1") for task in tasks for d in range(docs)],
        )
        store.add_samples(
            Sample(
                mode, task, doc, i, "h", f"{mode}{doc}{i}", "p", 1, 1, "1" if i < right else "2",
                None, (1,), "stop", 3, 25, 50.0, 1.0, None, 0.1, "now",
            )
            for mode, more in (("normal", 0), ("high", 1))
            for task in tasks
            for doc in range(docs)
            for i in range(samples)
            for right in [right_of(doc, more)]
        )  # fmt: skip
        score_store(store, dict.fromkeys(tasks, scorer))
    return folder


def test_a_suite_is_planned_by_what_the_pilot_measured_of_its_tasks(tmp_path):
    pilot = make_pilot(tmp_path / "sums", more_in_high, tasks=["psplit_sums"])
    alone, whole = (
        plan(PlanOptions(suite=suite, pilot=pilot, goal=Goal({"": 0.05})))
        for suite in (None, "quick")
    )
    sums, reading = row(whole, "psplit_sums"), row(whole, "psplit_reading")
    assert sums.facts.parts == row(alone, "psplit_sums").facts.parts
    assert (sums.facts.docs, sums.facts.samples, sums.facts.tokens) == (48, 4, 25)
    assert "pilot" in sums.facts.source
    assert reading.facts.parts is None


def test_a_pilot_says_how_docs_vary_how_long_answers_are_and_how_fast(pilot):
    found = plan(PlanOptions(pilot=pilot, goal=Goal({"": 0.05})))
    one = row(found, "t")
    right = np.array([[d % 5 * (d % 5 < 4) + m * (d % 3 == 0) for d in range(40)] for m in (0, 1)])
    share = np.minimum(right, 4) / 4
    noise = (share * (1 - share) * 4 / 3).mean(1).sum()  # of one sample in each arm
    total = (share[1] - share[0]).var(ddof=1)
    assert one.facts.parts.noise == pytest.approx(noise)
    assert one.facts.parts.crossing == pytest.approx(max(0, total - noise / 4))
    assert (one.facts.docs, one.facts.tokens, one.facts.at_most) == (90, 25, False)
    assert found.seconds == pytest.approx(2 * 90 * 4 * 25 / (8000 / 20))


@pytest.mark.parametrize(
    ("right", "shape", "estimand", "said"),
    [
        (lambda doc, more: 0, {}, Estimand.SAMPLE, "every doc of the pilot differs alike"),
        (more_in_high, {"docs": 4}, Estimand.SAMPLE, "the pilot has fewer than 5 docs"),
        (more_in_high, {"samples": 1}, Estimand.GIVEN, "take two samples a doc or more"),
        (lambda doc, more: 4 * more, {}, Estimand.GIVEN, "differs alike"),
        (lambda doc, more: 4 * (doc % 2), {}, Estimand.GIVEN, "differs alike"),
        (lambda doc, more: 4 * more * (doc % 2), {}, Estimand.GIVEN, "a doc's samples vary"),
    ],
)
def test_a_pilot_that_tells_nothing_reaches_nothing(tmp_path, right, shape, estimand, said):
    folder = make_pilot(tmp_path / "poor", right, **shape)
    found = plan(PlanOptions(pilot=folder, goal=Goal({"": 0.05}, estimand=estimand)))
    one = row(found, "t")
    assert math.isnan(one.detectable)
    assert math.isnan(one.chance)
    assert said in one.verdict


def test_one_sample_a_doc_says_nothing_of_what_more_would_do(tmp_path, capsys):
    """Neither that 'no number of samples will do', nor how many would."""
    folder = make_pilot(tmp_path / "single", lambda doc, more: (doc + more) % 2, 40, 1, "tu")
    found = plan(PlanOptions(pilot=folder, goal=Goal({"": 0.05})))
    assert [r.facts.task for r in found.rows] == ["t", "u", "average of tasks"]
    for one in found.rows:
        assert one.detectable > 0.05 > one.chance - 0.5
        assert math.isnan(one.at_best)
        assert (one.samples_needed, one.samples_given) == (None, None)
        assert "no number of samples" not in one.verdict
        assert "what more samples do is not known" in one.verdict
    assert row(found, "t").docs_needed > 90
    assert main(["plan", "--pilot", str(folder), "--json"]) == 0
    assert "NaN" not in capsys.readouterr().out  # which is no JSON


def test_a_pilot_has_no_settings_of_tasks_that_it_lacks(pilot):
    for settings in ({"nope": TaskSettings(samples=3)}, {"nope": TaskSettings(limit=9)}):
        with pytest.raises(UnknownNameError, match="nope"):
            plan(PlanOptions(pilot=pilot, settings=settings))


def test_below_the_minimum_of_docs_nothing_is_promised():
    """A report gives no p for 4 docs, so no plan may count on that few."""
    few = PlanOptions(tasks=["psplit_math500"], goal=Goal({"": 0.9}))
    limited = replace(few, settings={"": TaskSettings(limit=4)})
    assert "fewer than 5 docs" in row(plan(limited), "psplit_math500").verdict
    assert row(plan(few), "psplit_math500").docs_needed == 5


def test_the_command_prints_a_table_or_json(capsys, pilot):
    assert main(["plan", "--suite", "paper", "--mde", "0.015"]) == 0
    text = capsys.readouterr().out
    assert "psplit_mmlu_pro" in text
    assert "reached" in text
    assert "at most" in text
    assert main(["plan", "--pilot", str(pilot), "--mde", "t=0.1", "--limit", "50", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["tasks"][0]["docs"] == 50
    assert content["tasks"][0]["verdict"]
    assert content["judge_calls"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mde", "nothing=0.1"], "unknown task"),
        (["--mde", "0"], "expected a number above 0"),
        (["--mde", "nan"], "expected a number above 0"),
        (["--mde", "x=y"], "expected a number above 0"),
        (["--mde", "1.5"], "a fraction below 1 for psplit_sums, such as 0.015 for 1.5 points"),
        (["--mde", "psplit_sums=5"], "a fraction below 1 for psplit_sums"),
        (["--power", "1"], "expected a number above 0 and below 1"),
        (["--alpha", "0"], "expected a number above 0 and below 1"),
        (["--crossing", "-1"], "expected a share"),
        (["--modes", "normal"], "expected two or more"),
        (["--published", "gpt"], "unknown published model"),
        (["--pilot", "nowhere"], "nowhere"),
        (["--suite", "papers"], "unknown suite"),
        (["--judge-price", "1"], "expected IN,OUT"),
        (["--judges", "-1"], "expected 0 or more"),
        (["--tokens-per-second", "0"], "expected a number above 0"),
        (["--tokens", "psplit_gsm8k=9"], "unknown task"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, said):
    suite = [] if "--suite" in arguments or "--pilot" in arguments else ["--suite", "quick"]
    assert main(["plan", *suite, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
