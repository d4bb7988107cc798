"""The audit replayed on stored verdicts: the translation, and the committed figures."""

import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(
        "judges_replayed", BENCHMARKS / "judges_replayed.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(BENCHMARKS))
    return module


def committed():
    text = (BENCHMARKS / "results" / "judges_replayed.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(row["subset"], row["evaluator"], row["strategy"]): row for row in rows}


@pytest.mark.parametrize(
    ("label", "winner", "swapped", "better_first", "worse_first"),
    [
        (1, "1", "1", 1.0, 0.0),  # right twice
        (2, "2", "2", 1.0, 0.0),
        (1, "1", "2", 1.0, 1.0),  # what is shown first
        (2, "1", "2", 1.0, 1.0),
        (1, "2", "1", 0.0, 0.0),  # what is shown last
        (2, "1", None, None, 1.0),
    ],
)
def test_verdicts_are_told_by_the_place_of_the_better_text(
    study, label, winner, swapped, better_first, worse_first
):
    row = {"id": "x", "label": label, "winner": winner, "winner_swapped": swapped}
    found = {line["about"]: line["verdict"] for line in study.recorded([row])}
    assert found == {
        f"x/{order} first": None if first is None else {"first": first}
        for order, first in (("better", better_first), ("worse", worse_first))
    }


def test_committed_figures_are_those_of_the_authors(real_rows):
    """LLMBar's own statistics (Zeng et al., arXiv 2310.07641), judge by judge."""
    stored = {
        (row["subset"], row["evaluator"], row["strategy"]): row
        for row in real_rows("llmbar/judge_statistics.jsonl.gz")
    }
    rows = committed()
    assert len(rows) == 260
    for key, row in rows.items():
        for name, theirs in (("agreement", "correct_average"), ("both_right", "correct_both")):
            percent = float(stored[key][theirs].rpartition("=")[2].strip(" %"))
            assert 100 * float(row[name]) == pytest.approx(percent, abs=0.06), key


def test_a_committed_row_comes_out_again(study, real_rows, tmp_path):
    key = ("adv_gptout", "GPT-4", "Vanilla")
    gold = [row for row in real_rows("llmbar/llmbar.jsonl") if row["subset"] == key[0]]
    verdicts = study.by_judge(real_rows("llmbar/judge_verdicts.jsonl.gz"))[key]
    found = study.row_of(key, study.replayed(tmp_path, gold, verdicts))
    assert {name: str(value) for name, value in found.items()} == committed()[key]


def test_who_is_usable():
    choice = Counter((key[1], row["choice"]) for key, row in committed().items())
    natural = {key[1:]: row["choice"] for key, row in committed().items() if key[0] == "natural"}
    assert all(verdict == "usable" for key, verdict in natural.items() if key[0] == "GPT-4")
    assert natural["Falcon", "CoT"] == "not usable"
    assert choice["Falcon", "usable"] == choice["LLaMA2", "usable"] == 0
    # pairs made so that the worse answer pleases more are beyond all but the two best models
    adversarial = Counter(
        (key[1], row["choice"]) for key, row in committed().items() if key[0] != "natural"
    )
    for name in ("ChatGPT", "ChatGPT-0301", "Falcon", "LLaMA2"):
        assert adversarial[name, "usable"] == adversarial[name, "usable with care"] == 0
