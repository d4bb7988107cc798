"""Rates of verdicts on simulated judges: committed rows come out again."""

import csv
import importlib.util
import random
from pathlib import Path

import pytest

from psplit_eval.goldset import gold_pairs
from psplit_eval.probes import ORDERS, Probe

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("audit_rates", BENCHMARKS / "audit_rates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_judge_is_right_as_often_as_it_is_said_to_be(study):
    pairs = gold_pairs("story") * 20
    draws = random.Random(1)
    right = [study.said([pair], study.Kind(0.8), draws) for pair in pairs]
    for order, first in zip(ORDERS, (1.0, 0.0), strict=True):
        hits = sum(
            said[Probe("choice", pair.id, order)] == {"first": first}
            for pair, said in zip(pairs, right, strict=True)
        )
        assert hits / len(pairs) == pytest.approx(0.8, abs=0.04)  # 4 standard errors


def test_a_judge_by_length_takes_the_longer_text(study):
    pairs = gold_pairs("story")
    said = study.said(pairs, study.Kind(0.95, 1.0), random.Random(1))
    for pair in pairs:
        longer = float(len(pair.better) > len(pair.worse))
        assert said[Probe("choice", pair.id, ORDERS[0])] == {"first": longer}


@pytest.mark.parametrize("number", [4, 13])
def test_committed_rows_come_out_again(study, number):
    with study.RESULTS.open(encoding="utf-8") as file:
        row = list(csv.DictReader(file))[number]
    kind = study.Kind(float(row["right"]), float(row["by_length"]))
    found = study.row_of(row["rubric"], kind, int(row["judges"]))
    assert {name: str(value) for name, value in found.items()} == row
