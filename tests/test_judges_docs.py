"""docs/judges.md says what the code and the committed results say."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from psplit_eval.cards import CARE, LIMITS, NOT_USABLE, PURPOSES, USABLE, read_card
from psplit_eval.goldset import gold_items, gold_pairs, injections
from psplit_eval.rubrics import rubric_names

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "judges.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"
SUBSETS = ("natural", "adv_neighbor", "adv_gptinst", "adv_gptout")


@pytest.mark.parametrize("name", LIMITS)
def test_every_measure_stands_there_with_its_limits(name):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    assert row.replace("\\|", "|").endswith(f"| {LIMITS[name]} |")


@pytest.mark.parametrize("name", PURPOSES)
def test_every_purpose_stands_there(name):
    assert f"`{name}`" in PAGE


def test_numbers_of_texts_and_attacks():
    kinds = {attack.kind for attack in injections()}
    assert f"{len(injections())} of {len(kinds)} kinds" in PAGE
    pairs = {name: len(gold_pairs(name)) for name in rubric_names()}
    assert set(pairs.values()) == {72, 48}
    assert f"{pairs['story']} pairs for\n`story`, {pairs['uses']} for each other" in PAGE
    assert f"{sum(len(gold_items(name)) for name in pairs)} texts" in PAGE


def test_the_table_of_replayed_judges():
    with (RESULTS / "judges_replayed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert f"all {len(rows)} rows" in PAGE
    found = Counter((row["evaluator"], row["subset"], row["choice"]) for row in rows)
    for judge in {row["evaluator"] for row in rows}:
        cells = [
            " / ".join(str(found[judge, subset, level]) for level in (USABLE, CARE, NOT_USABLE))
            for subset in SUBSETS
        ]
        assert f"| {judge} | {' | '.join(cells)} |" in PAGE


def test_the_table_of_simulated_judges():
    with (RESULTS / "audit_rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    found: dict[str, list[str]] = {}
    for row in rows:
        right, length = (round(100 * float(row[name])) for name in ("right", "by_length"))
        judge = f"by length in {length} %, else right in {right} %" if length else ""
        judge = "by length alone" if length == 100 else judge or f"right in {right} %"
        cell = " / ".join(row[name] for name in ("usable", "care", "not_usable"))
        found.setdefault(judge, []).append(cell)
    assert len(found) == 8
    for judge, cells in found.items():
        assert f"| {judge} | {' | '.join(cells)} |" in PAGE
    assert {row["rubric"] for row in rows[:8]} == {"story"}  # the table's first column
    assert f"simulated, {rows[0]['judges']} of a kind" in PAGE


def test_noise_denies_few_good_judges_and_the_love_of_length_is_found():
    with (RESULTS / "audit_rates.csv").open() as file:
        for row in csv.DictReader(file):
            if float(row["right"]) >= 0.9 and float(row["by_length"]) == 0:
                assert int(row["usable"]) >= 0.8 * int(row["judges"])
            if float(row["by_length"]) > 0.5:
                assert int(row["not_usable"]) == int(row["judges"])
            if 0 < float(row["by_length"]) < 0.5:
                assert int(row["usable"]) <= 0.1 * int(row["judges"])


def test_the_small_model_s_card():
    card = read_card(RESULTS / "audit_smollm2_story.json")
    for name in ("choice agreement", "choice position", "choice flips", "scores agreement"):
        assert f"{card.measure(name).estimate.value:.2f}" in PAGE
    for purpose in ("scores", "choice"):
        assert card.verdict(purpose) == NOT_USABLE


def test_what_a_judge_costs():
    with (RESULTS / "judging.csv").open() as file:
        for row in csv.DictReader(file):
            assert f"| {row['way']} | {float(row['cpu_seconds_a_text']):.1f} |" in PAGE


def test_the_run_that_was_judged():
    judged = json.loads((RESULTS / "judgements_quick.json").read_text())
    (preferred,) = judged["preferences"]
    assert f"{preferred['flips']} of {preferred['pairs']}" in PAGE
