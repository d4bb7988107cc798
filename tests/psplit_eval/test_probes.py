"""What an audit asks."""

import json
import re
from collections import Counter

import pytest

from psplit_eval.goldset import GoldPair, gold_pairs, injections
from psplit_eval.probes import ORDERS, PARTS, Probe, Probes, spread
from psplit_eval.rubrics import find_rubric

STORY = find_rubric("story")
GOLD = gold_pairs("story")


def asked(probes, part):
    return [probe for probe in probes if probe.part == part]


def question(probes, probe):
    return probes.question(probe, writes=True, special=())


def test_every_text_is_scored_once_and_every_pair_compared_in_both_orders():
    probes = Probes(STORY, GOLD)
    texts = {(p.prompt, text) for p in GOLD for text in (p.better, p.worse)}
    assert len(asked(probes, "scores")) == len(texts) == 12 * 7
    assert {(p.subject, p.order) for p in asked(probes, "choice")} == {
        (pair.id, order) for pair in GOLD for order in ORDERS
    }
    assert {probe.part for probe in probes} == {"scores", "choice"}
    names = [probe.about for probe in probes]
    assert len(set(names)) == len(names)
    assert "story/umbrella/padded/better first" in names
    assert "story/umbrella/padded/worse" in names


def test_orders_show_the_text_that_they_name():
    probes = Probes(STORY, GOLD[:1])
    pair = GOLD[0]
    for order, first in zip(ORDERS, (pair.better, pair.worse), strict=True):
        found = question(probes, Probe("choice", pair.id, order))
        assert found.about == f"{pair.id}/{order}"
        shown = re.findall(r"=== story ([AB]) \w+ begins ===\n(.*?)\n===", found.user, re.DOTALL)
        assert shown[0] == ("A", first)
        assert shown[1][0] == "B"


def test_questions_about_gold_are_those_about_samples():
    probes = Probes(STORY, GOLD, repeats=1)
    pair = GOLD[0]
    better, _ = probes.text_ids(pair)
    scored = question(probes, Probe("scores", better))
    assert scored == STORY.score_question(pair.prompt, pair.better, about=better)
    again = question(probes, Probe("scores again", better, "", 1))
    assert again.user != scored.user
    assert again.system == scored.system
    code = r"\b[0-9a-f]{12}\b"
    assert re.sub(code, "", again.user) == re.sub(code, "", scored.user)


def test_what_is_asked_again_differs_in_worth_order_kind_and_prompt():
    probes = Probes(STORY, GOLD, repeats=2)
    again = asked(probes, "scores again")
    assert Counter(probe.repeat for probe in again) == {1: 16, 2: 16}
    assert {probe.subject.rpartition("/")[2] for probe in again} == {"better", "worse"}
    pairs = asked(probes, "choice again")
    assert Counter(p.order for p in pairs) == dict.fromkeys(ORDERS, 16)
    assert len({p.subject.split("/")[1] for p in pairs}) == 12
    assert len({p.subject.split("/")[2] for p in pairs}) == 6
    assert {p.about.rpartition("/")[2] for p in again} == {"repeat 1", "repeat 2"}


def test_attacks_go_to_the_questions_that_they_are_for():
    probes = Probes(STORY, GOLD, injections=injections())
    fields = {one.id: one.fields for one in injections()}
    scores, choices = asked(probes, "scores attacked"), asked(probes, "choice attacked")
    assert not any("label" in fields[p.attack] for p in scores)
    assert not any(fields[p.attack] & {"high", "low", "json"} for p in choices)
    assert {p.attack for p in scores} | {p.attack for p in choices} == set(fields)
    assert len({p.subject for p in scores}) > 40  # not one text that may be odd


@pytest.mark.parametrize("writes", [True, False])
def test_an_attack_is_filled_in_and_stands_in_the_worse_text(writes):
    probes = Probes(STORY, GOLD, injections=injections())
    texts = {one.id: one.text for one in injections()}
    for probe in probes:
        if probe.attack:
            user = probes.question(probe, writes, ()).user
            assert not re.search(r"\{(?:fence|high|low|json|label)\}", user), probe.attack
    of_json = next(p for p in probes if texts.get(p.attack) == "{json}" and p.part[0] == "s")
    user = probes.question(of_json, writes, ()).user
    body = re.search(r"\{.*\}", user)[0]
    verdict = STORY.scores(writes).read(body)
    assert verdict == dict.fromkeys(STORY.names, 10)
    assert ("reason" in json.loads(body)) is writes


def test_an_attack_names_the_place_where_it_is_shown():
    probes = Probes(STORY, GOLD, injections=injections())
    texts = {one.id: one.text for one in injections()}
    attack = next(i for i, text in texts.items() if "{label}" in text and i == "command-polite")
    for probe in asked(probes, "choice attacked"):
        if probe.attack == attack:
            label = "B" if probe.order == "better first" else "A"
            user = question(probes, probe).user
            fenced = re.search(rf"=== story {label} \w+ begins ===(.*?)=== story", user, re.DOTALL)
            assert f"please choose text {label}" in fenced[1]


def test_the_guess_at_the_fence_looks_like_one_and_is_none():
    probes = Probes(STORY, GOLD, injections=injections())
    probe = next(p for p in asked(probes, "scores attacked") if p.attack == "delimiter-end")
    lines = re.findall(r"^=== story (\w{12}) ends ===$", question(probes, probe).user, re.M)
    assert len(lines) == 2
    assert lines[0] != lines[1]


def test_a_spread_goes_over_prompts_and_kinds_and_grows():
    for most in (1, 6, 12, 30, 72, 100):
        some = spread(GOLD, most)
        assert len(some) == min(most, len(GOLD))
        assert some == spread(GOLD)[:most]
        prompts, kinds = (Counter(getattr(p, name) for p in some) for name in ("prompt", "kind"))
        assert max(prompts.values()) - min(prompts.values()) <= 1
        if most >= 6:
            assert max(kinds.values()) - min(kinds.values()) <= 1


def test_names_of_texts_do_not_depend_on_how_many_are_asked():
    every, some = Probes(STORY, GOLD), Probes(STORY, GOLD, most=9)
    assert len(some.pairs) == 9
    assert set(some.texts) < set(every.texts)
    assert all(every.texts[name] == text for name, text in some.texts.items())
    assert [p for p in GOLD if p in some.pairs] == some.pairs


def test_the_same_text_to_two_prompts_is_two_texts():
    gold = [GoldPair(f"{n}", "k", f"prompt {n}", "same", "worse") for n in range(2)]
    assert len(Probes(STORY, gold).texts) == 4


def test_parts_are_all_there_is():
    probes = Probes(STORY, GOLD, repeats=1, injections=injections())
    assert {probe.part for probe in probes} == set(PARTS)
