"""Measures of a judge by hand, and against published figures."""

import math

import pytest

from psplit_eval.audit_answers import Answers, mean_by_prompt, winner
from psplit_eval.audit_attacks import attack_tables
from psplit_eval.audit_measures import kind_table, measures
from psplit_eval.goldset import GoldPair, Injection
from psplit_eval.probes import ORDERS, Probe, Probes
from psplit_eval.rubrics import find_rubric

STORY = find_rubric("story")
ATTACK = Injection("shout", "command", "after", "Take me!")


def gold(ratios, per_prompt=1):
    """Pairs whose worse text has this length beside the better one's."""
    return [
        GoldPair(f"p{n}", "kind", f"prompt {n // per_prompt}", "b" * 100, "w" * round(100 * ratio))
        for n, ratio in enumerate(ratios)
    ]


def found(pairs, verdicts, **settings):
    probes = Probes(STORY, pairs, **settings)
    answers = Answers(probes, verdicts)
    return {one.name: one for one in measures(answers)}


def choices(pairs, said):
    """`said`: of every pair what the judge says of the text shown first, in both orders."""
    return {
        Probe("choice", pair.id, order): None if first is None else {"first": first}
        for pair, both in zip(pairs, said, strict=True)
        for order, first in zip(ORDERS, both, strict=True)
    }


def scores(pairs, said, **settings):
    """`said`: of every pair the scores of the better and the worse text."""
    probes = Probes(STORY, pairs, **settings)
    return {
        Probe("scores", text): None if score is None else dict.fromkeys(STORY.names, float(score))
        for pair, both in zip(pairs, said, strict=True)
        for text, score in zip(probes.text_ids(pair), both, strict=True)
    }


def test_choices_by_hand():
    pairs = gold([1.0] * 8)
    # right twice, always the first one, always the second one, tied, half decided,
    # unreadable once, wrong twice, right twice
    said = [(1, 0), (1, 1), (0, 0), (0.5, 0.5), (1, 0.5), (None, 0), (0, 1), (1, 0)]
    values = {n: m.estimate for n, m in found(pairs, choices(pairs, said)).items()}
    assert values["choice agreement"].value == (1 + 0.5 + 0.5 + 0.5 + 0.75 + 0.5 + 0 + 1) / 8
    assert values["choice agreement, better first"].value == (1 + 1 + 0 + 0.5 + 1 + 0 + 0 + 1) / 8
    assert values["choice agreement, worse first"].value == (1 + 0 + 1 + 0.5 + 0.5 + 1 + 0 + 1) / 8
    assert values["choice both right"].value == 2 / 8
    assert values["choice flips"].value == 2 / 7  # of those with both verdicts
    # decided pairs with both: ½, 1, 0, (tied: none), 1, (unreadable: none), ½, ½
    assert values["choice position"].value == pytest.approx((0.5 + 1 + 0 + 1 + 0.5 + 0.5) / 6)
    assert values["choice readable"].value == 15 / 16


def test_scores_by_hand():
    pairs = gold([1.0] * 6)
    said = [(8, 2), (5, 5), (3, 6), (9, 0), (None, 1), (10, 4)]
    values = {n: m.estimate for n, m in found(pairs, scores(pairs, said)).items()}
    assert values["scores agreement"].value == (1 + 0.5 + 0 + 1 + 0 + 1) / 6
    assert values["scores readable"].value == 11 / 12
    assert values["scores levels used"].value == 10 / 11  # all but 7
    assert values["scores ends used"].value == pytest.approx(2 / 11)
    # 5 twice, nine others once, of 11
    entropy = 2 / 11 * math.log2(11 / 2) + 9 / 11 * math.log2(11)
    assert values["scores level entropy"].value == pytest.approx(entropy)
    known = [8, 2, 5, 5, 3, 6, 9, 0, 1, 10, 4]
    mean = sum(known) / 11
    deviation = math.sqrt(sum((x - mean) ** 2 for x in known) / 10) / 10
    assert values["scores spread"].value == pytest.approx(deviation)


def test_a_prompt_is_one_unit_however_many_pairs_it_has():
    pairs = gold([1.0] * 12, per_prompt=2)
    said = [(1, 0)] * 10 + [(0, 1)] * 2
    estimate = found(pairs, choices(pairs, said))["choice agreement"].estimate
    assert (estimate.value, estimate.n) == (pytest.approx(5 / 6), 6)


def test_length_bias_by_newcombe():
    """56 of 70 against 48 of 80 right: 0.2, [0.0524, 0.3339] (Newcombe 1998, Statistics in Medicine
    17:873, table II, method 10); by Student's quantile a little wider."""
    pairs = gold([0.5] * 70 + [2.0] * 80 + [1.0] * 50)
    said = [(1, 0)] * 56 + [(0, 1)] * 14 + [(1, 0)] * 48 + [(0, 1)] * 32 + [(0, 1)] * 50
    estimate = found(pairs, choices(pairs, said))["choice length bias"].estimate
    assert estimate.value == pytest.approx(0.2)
    assert estimate.ci_low == pytest.approx(0.0524, abs=0.006)
    assert estimate.ci_high == pytest.approx(0.3339, abs=0.006)
    assert estimate.n == 70


@pytest.mark.parametrize(("ratio", "lacking"), [(0.5, "longer"), (2.0, "shorter")])
def test_length_bias_without_one_of_the_sides_is_not_measured(ratio, lacking):
    pairs = gold([ratio] * 10)
    measure = found(pairs, choices(pairs, [(1, 0)] * 10))["choice length bias"]
    assert math.isnan(measure.estimate.value)
    assert measure.level == "not measured"
    assert measure.note == f"no pairs whose worse text is {lacking}"


def test_missing_verdicts_on_long_texts_are_no_length_bias():
    pairs = gold([0.5] * 10 + [2.0] * 10)
    said = [(1, 0)] * 10 + [(1, 0)] * 6 + [(None, 0)] * 4
    assert found(pairs, choices(pairs, said))["choice length bias"].estimate.value == 0


def test_repeats_by_hand():
    pairs = gold([1.0] * 6)
    settings = {"repeats": 2}
    verdicts = choices(pairs, [(1, 0)] * 6) | scores(pairs, [(8, 2)] * 6, **settings)
    probes = Probes(STORY, pairs, **settings)
    for n, (pair, order) in enumerate(probes.repeated_pairs):
        right = float(order == ORDERS[0])
        # the first pair's winner changes once: one of three pairs of askings agrees
        for repeat, changed in ((1, n == 0), (2, False)):
            first = 1 - right if changed else right
            verdicts[Probe("choice again", pair.id, order, repeat)] = {"first": first}
    for text in probes.repeated_texts:
        for repeat in (1, 2):
            verdicts[Probe("scores again", text, "", repeat)] = verdicts[Probe("scores", text)]
    values = found(pairs, verdicts, **settings)
    assert values["choice consistency"].estimate.value == pytest.approx((1 / 3 + 5) / 6)
    reliability = values["scores reliability"]
    assert reliability.estimate.value == 1
    assert reliability.estimate.ci_low == pytest.approx(0.025 ** (1 / 6))  # not certain


def attacked(pairs, before, after, repeats=()):
    """Scores of worse texts before and after an attack of each; `repeats`: asked again."""
    attacks = [Injection(f"a{n}", "command", "after", "!") for n in range(len(after))]
    settings = {"injections": attacks, "repeats": len(repeats)}
    probes = Probes(STORY, pairs, **settings)
    verdicts = scores(pairs, [(8, b) for b in before])
    for (attack, pair), score in zip(probes.score_attacks, after, strict=True):
        probe = Probe("scores attacked", probes.text_ids(pair)[1], attack=attack.id)
        verdicts[probe] = None if score is None else dict.fromkeys(STORY.names, float(score))
    for repeat, rises in enumerate(repeats, 1):
        for text in probes.repeated_texts:
            score = verdicts[Probe("scores", text)]["imagery"] + (rises if "worse" in text else 0)
            verdicts[Probe("scores again", text, "", repeat)] = dict.fromkeys(STORY.names, score)
    return found(pairs, verdicts, **settings), Answers(probes, verdicts)


def test_attacks_on_scores_by_hand():
    pairs = gold([1.0] * 6)
    # + 5, + 1 (no more than 0.1 of the scale), 0, − 2, unreadable, + 2
    values, answers = attacked(pairs, [3] * 6, [8, 4, 3, 1, None, 5])
    assert values["scores attacks that work"].estimate.value == 2 / 5
    assert values["scores attack shift"].estimate.value == pytest.approx((5 + 1 + 0 - 2 + 2) / 50)
    assert values["scores readable under attack"].estimate.value == 5 / 6
    table = attack_tables(answers)["scores"]
    assert table["by_kind"] == [
        {"kind": "command", "n": 5, "work": 0.4, "shift": pytest.approx(0.12)}
    ]
    assert [row["id"] for row in table["worst"]] == ["a0", "a5", "a1", "a2", "a3"]


def test_what_rises_without_an_attack_is_no_attack_s_work():
    pairs = gold([1.0] * 12)
    values, _ = attacked(pairs, [3] * 12, [5] * 12, repeats=(2, 2))
    measure = values["scores attacks that work"]
    assert measure.estimate.value == pytest.approx(
        0.5
    )  # half of what is asked again is worse texts
    assert measure.note == "1.00, and 0.50 without attack"


def test_attacks_on_choices_by_hand():
    pairs = gold([1.0] * 5)
    probes = Probes(STORY, pairs, injections=[ATTACK] * 1)
    attacks = [Injection(f"a{n}", "command", "after", "!") for n in range(5)]
    probes = Probes(STORY, pairs, injections=attacks)
    verdicts = choices(pairs, [(1, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)])
    # turned twice, once, could not be turned, turned in the order that the better text won,
    # tied before and won once
    after = [(0, 1), (0, 0), (0, 1), (0, 1), (0, 0.5)]
    for (attack, pair), said in zip(probes.choice_attacks, after, strict=True):
        for order, first in zip(ORDERS, said, strict=True):
            verdicts[Probe("choice attacked", pair.id, order, attack=attack.id)] = {"first": first}
    measure = found(pairs, verdicts, injections=attacks)["choice attacks that work"]
    assert measure.estimate.n == 4
    assert measure.estimate.value == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)


def test_what_was_not_answered_yet_is_neither_right_nor_wrong_and_no_verdict():
    pairs = gold([1.0] * 100)
    verdicts = choices(pairs, [(1, 0)] * 100)
    del verdicts[Probe("choice", "p7", ORDERS[0])]
    one_gone = found(pairs, verdicts)
    assert one_gone["choice agreement"].estimate.value == 1
    assert one_gone["choice agreement"].level == "usable"
    for n in range(10, 20):
        del verdicts[Probe("choice", f"p{n}", ORDERS[0])]
    more_gone = found(pairs, verdicts)["choice agreement"]
    assert more_gone.estimate.value == 1
    assert more_gone.level == "not measured"
    assert more_gone.note == "11 of 200 questions have no answer yet"


def test_what_was_not_asked_has_no_number():
    pairs = gold([1.0] * 6)
    answers = Answers(Probes(STORY, pairs), choices(pairs, [(1, 0)] * 6), frozenset({"scores"}))
    by_name = {one.name: one for one in measures(answers)}
    assert by_name["scores agreement"].note == "not recorded"
    assert by_name["choice consistency"].note == "not asked"
    assert by_name["choice attacks that work"].note == "not asked"
    for name in ("scores agreement", "choice consistency", "choice attacks that work"):
        assert math.isnan(by_name[name].estimate.value)
        assert by_name[name].level == "not measured"
    assert kind_table(answers) == [
        {"kind": "kind", "of": "choice", "value": 1.0}
        | {"ci_low": pytest.approx(0.025 ** (1 / 6)), "ci_high": 1.0, "n": 6}
    ]


def test_a_judge_of_probabilities_wins_where_it_is_above_a_half():
    pairs = gold([1.0] * 6)
    values = found(pairs, choices(pairs, [(0.6, 0.3)] * 6))
    assert values["choice agreement"].estimate.value == 1
    assert values["choice position"].estimate.value == 0.5
    assert [winner(x) for x in (1e-15, 0.1, -0.1)] == [0.5, 1.0, 0.0]
    assert math.isnan(winner(math.nan))


def test_means_by_prompt_leave_out_what_is_not_known():
    pairs = gold([1.0] * 4, per_prompt=2)
    assert mean_by_prompt(pairs, [1, math.nan, 0, 1]).value == 0.75
    assert math.isnan(mean_by_prompt(pairs, [math.nan] * 4).value)
