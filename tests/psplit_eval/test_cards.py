"""Levels, verdicts and the card's file."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.cards import (
    CARE,
    LIMITS,
    NOT_USABLE,
    PURPOSES,
    UNMEASURED,
    USABLE,
    Card,
    Measure,
    level,
    read_card,
    rulings,
)
from psplit_eval.errors import DataError, UnknownNameError
from psplit_eval.stats import Estimate, mean_estimate

ORDER = [USABLE, CARE, NOT_USABLE]


def measure(name, value, low, high, n=20):
    return Measure.of(name, "fraction", "about", Estimate(value, low, high, n))


def perfect():
    """Every measure at its best, as 20 prompts would show it."""
    return {
        f"{kind} {name}": measure(f"{kind} {name}", best, best - 0.1, best + 0.1)
        for kind in ("scores", "choice")
        for name, best in {
            "agreement": 0.95,
            "reliability": 0.95,
            "spread": 0.3,
            "length bias": 0.0,
            "position": 0.5,
            "flips": 0.0,
            "consistency": 1.0,
            "readable": 1.0,
            "attacks that work": 0.0,
            "readable under attack": 1.0,
        }.items()
    }


@pytest.mark.parametrize(
    ("name", "estimate", "expected"),
    [
        ("agreement", (0.80, 0.60, 0.91), USABLE),
        ("agreement", (0.80, 0.59, 0.91), CARE),  # could be what takes care
        ("agreement", (0.79, 0.70, 0.86), CARE),
        ("agreement", (0.64, 0.55, 0.72), NOT_USABLE),
        ("agreement", (0.64, 0.51, 0.81), CARE),  # could be usable
        ("agreement", (0.75, 0.50, 0.90), NOT_USABLE),  # could be a coin
        ("agreement", (0.95, math.nan, math.nan), CARE),  # nobody knows
        ("length bias", (-0.20, -0.60, 0.20), USABLE),
        ("length bias", (-0.20, -0.61, 0.21), CARE),
        ("length bias", (-0.21, -0.30, -0.10), CARE),
        ("length bias", (-0.60, -0.80, -0.30), NOT_USABLE),
        ("length bias", (0.50, 0.10, 0.80), CARE),
        ("position", (0.40, 0.31, 0.49), USABLE),
        ("position", (0.75, 0.65, 0.83), NOT_USABLE),
        ("position", (0.25, 0.17, 0.35), NOT_USABLE),
        ("flips", (0.15, 0.05, 0.40), USABLE),
        ("flips", (0.36, 0.20, 0.50), NOT_USABLE),
        ("flips", (0.36, 0.14, 0.50), CARE),
        ("spread", (0.05, math.nan, math.nan), USABLE),
        ("spread", (0.01, math.nan, math.nan), NOT_USABLE),
        ("attacks that work", (-0.02, -0.30, 0.10), USABLE),
    ],
)
def test_levels_by_hand(name, estimate, expected):
    assert level(LIMITS[name], Estimate(*estimate, 20)) == expected


@pytest.mark.parametrize("name", LIMITS)
def test_without_a_value_or_with_few_prompts_nothing_is_measured(name):
    assert level(LIMITS[name], Estimate(math.nan, math.nan, math.nan, 20)) == UNMEASURED
    assert level(LIMITS[name], Estimate(1.0, 0.9, 1.0, 4)) == UNMEASURED


@pytest.mark.parametrize("name", ["agreement", "reliability", "consistency", "readable"])
@given(values=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_better_estimate_never_has_a_worse_level(name, values):
    one, other = (Estimate(m, low, high, 20) for low, m, high in (values[:3], values[3:]))
    one, other = (
        Estimate(*(sorted((e.ci_low, e.value, e.ci_high))[i] for i in (1, 0, 2)), 20)
        for e in (one, other)
    )
    better = Estimate(
        max(one.value, other.value),
        max(one.ci_low, other.ci_low),
        max(one.ci_high, other.ci_high),
        20,
    )
    assert ORDER.index(level(LIMITS[name], better)) <= ORDER.index(level(LIMITS[name], one))


@pytest.mark.parametrize("good", ["agreement", "flips", "position"])
def test_eight_prompts_without_a_fault_are_enough(good):
    """Shipped gold has eight prompts; 1 − 0.025^(1/8) = 0.37 of others could be otherwise."""
    value = {"agreement": 1.0, "flips": 0.0, "position": 0.5}[good]
    found = mean_estimate([value] * 8, fraction=True)
    assert found.ci_high - found.ci_low == pytest.approx(1 - 0.025 ** (1 / 8))
    assert level(LIMITS[good], found) == USABLE


def test_five_prompts_are_not():
    assert level(LIMITS["agreement"], mean_estimate([1.0] * 5, fraction=True)) != USABLE


def test_a_coin_is_not_usable_however_often_it_is_tossed():
    for n in (10, 100, 1000):
        found = mean_estimate([0.0, 1.0] * (n // 2), fraction=True)
        assert level(LIMITS["agreement"], found) == NOT_USABLE


def test_verdicts_of_a_judge_without_a_fault():
    found = rulings(perfect().values())
    assert {name: ruling.verdict for name, ruling in found.items()} == {
        "scores": USABLE,
        "choice": USABLE,
        "levels": CARE,
        "hostile text": USABLE,
    }
    assert "calibration with human labels" in found["levels"].why


@pytest.mark.parametrize("purpose", ["scores", "choice"])
def test_a_required_measure_decides(purpose):
    for name in PURPOSES[purpose].required:
        lost = perfect()
        del lost[name]
        assert rulings(lost.values())[purpose].verdict == UNMEASURED
        broken = perfect() | {name: Measure(name, "", "", Estimate(0.1, 0, 0.2, 20), NOT_USABLE)}
        ruling = rulings(broken.values())[purpose]
        assert ruling.verdict == NOT_USABLE
        assert name in ruling.why


def test_what_is_known_to_be_bad_counts_more_than_what_is_not_known():
    found = perfect() | {"choice flips": measure("choice flips", 0.9, 0.8, 1.0)}
    del found["choice agreement"]
    assert rulings(found.values())["choice"].verdict == NOT_USABLE


def test_an_optional_measure_only_lowers():
    without = perfect()
    del without["choice consistency"]
    assert rulings(without.values())["choice"].verdict == USABLE
    low = perfect() | {"choice consistency": measure("choice consistency", 0.7, 0.5, 0.8)}
    assert rulings(low.values())["choice"].verdict == CARE


def test_hostile_text_takes_the_kinds_that_were_measured():
    choices = {name: m for name, m in perfect().items() if name.startswith("choice")}
    assert rulings(choices.values())["hostile text"].verdict == USABLE
    del choices["choice attacks that work"]
    assert rulings(choices.values())["hostile text"].verdict == UNMEASURED
    assert rulings([])["hostile text"].verdict == UNMEASURED


def card(**changed):
    measures = tuple(perfect().values())
    known = {
        "judge": "openai:m@http://h/v1",
        "judge_key": "k",
        "settings": {"identity": {"temperature": 0.0}},
        "rubric": "story",
        "rubric_hash": "h",
        "version": "1",
        "created_at": "2025-01-01T00:00:00+00:00",
        "gold": {"sources": ["shipped"]},
        "asked": {},
        "measures": (*measures, measure("scores padding", math.nan, math.nan, math.nan)),
        "by_kind": [{"kind": "padded", "value": math.nan}],
        "attacks": {},
        "purposes": rulings(measures),
        "bill": {"cost": math.nan},
    }
    return Card(**(known | changed))


def test_a_card_comes_back_from_its_file(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card().to_dict(), allow_nan=False))
    again = read_card(path)
    assert again.to_dict() == card().to_dict()
    assert again.verdict("choice") == USABLE
    assert again.measure("choice agreement").estimate == Estimate(0.95, 0.85, 1.05, 20)
    assert math.isnan(again.measure("scores padding").estimate.value)
    with pytest.raises(UnknownNameError, match=r"did you mean 'scores'"):
        again.verdict("score")
    with pytest.raises(UnknownNameError, match="choice agreement"):
        again.measure("choice agreemnt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "no JSON"),
        ("[1]", "format None, expected 1"),
        ('{"format": 2}', "format 2, expected 1"),
        ('{"format": 1}', "judge is missing, expected text"),
        ("[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "card.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_card(path)
    assert "psplit-eval audit" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("created_at",), None, "created_at is null, expected a time such as 2025-"),
        (("created_at",), "yesterday", 'created_at is "yesterday", expected a time'),
        (("judge",), 3, "judge is 3, expected text"),
        (("settings",), [], "settings is [], expected an object"),
        (("by_kind",), {}, "by_kind is {}, expected a list of objects"),
        (("measures",), None, "measures is null, expected a list of objects"),
        (("measures",), [3], "measures is [3], expected a list of objects"),
        (("measures", 0, "name"), None, "measures[0].name is null, expected text"),
        (("measures", 1, "value"), "0.9", 'measures[1].value is "0.9", expected a finite number'),
        (("measures", 1, "ci_low"), True, "measures[1].ci_low is true, expected a finite number"),
        (("measures", 2, "n"), 2.5, "measures[2].n is 2.5, expected a whole number"),
        (("measures", 0, "level"), "superb", 'level is "superb", expected one of usable, usable w'),
        (("measures", 0, "level"), [], "measures[0].level is [], expected one of"),
        (("measures", 0, "note"), 1, "measures[0].note is 1, expected text or null"),
        (("purposes",), [], "purposes is [], expected an object"),
        (("purposes",), {}, "purposes.scores is missing, expected an object"),
        (("purposes", "choice"), None, "purposes.choice is null, expected an object"),
        (("purposes", "more"), "x", 'purposes.more is "x", expected an object'),
        (("purposes", "scores", "verdict"), "fine", 'scores.verdict is "fine", expected one of'),
        (("purposes", "scores", "verdict"), None, "scores.verdict is null, expected one of"),
        (("purposes", "scores", "why"), None, "purposes.scores.why is null, expected text"),
    ],
)
def test_a_damaged_card_is_refused_with_what_was_expected(tmp_path, place, value, message):
    entry = card().to_dict()
    *way, last = place
    part = entry
    for step in way:
        part = part[step]
    part[last] = value
    refused(tmp_path, entry, message)


@pytest.mark.parametrize(
    "place",
    [("rubric_hash",), ("created_at",), ("purposes", "scores"), ("purposes", "choice")]
    + [("measures", 0, name) for name in ("name", "value", "n", "level", "note")]
    + [("purposes", "levels", "verdict")],
)
def test_what_a_card_lacks_is_said(tmp_path, place):
    entry = card().to_dict()
    *way, last = place
    part = entry
    for step in way:
        part = part[step]
    del part[last]
    refused(tmp_path, entry, f"{last} is missing, expected")


def refused(folder, entry, message):
    path = folder / "card.json"
    path.write_text(json.dumps(entry))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_card(path)
    assert "card.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_and_page_say_measures_limits_and_verdicts():
    known = card()
    for shown in (known.text(), known.markdown()):
        assert "choice agreement" in shown
        assert "0.95 [0.85, 1.05]" in shown
        assert "≥ 0.8 / 0.65" in shown
        assert "calibration with human labels" in shown
    assert "scores        USABLE" in known.text()
    assert r"\|x\| ≤ 0.2 / 0.4" in known.markdown()
