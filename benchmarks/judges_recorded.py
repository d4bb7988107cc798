"""What recorded verdicts and scores of LLM judges, and of people, are worth.

    python benchmarks/judges_recorded.py      # benchmarks/results/judges_recorded.csv

LLMBar (Zeng et al. 2024): verdicts of six judges on pairs with a right answer, in both orders and
under several prompts. HANNA (Chhun et al. 2024): scores of five judges under four prompts each,
beside the mean of three people. TTCW (Chakrabarty et al. 2024): 14 tests of 48 stories by three
experts. The data are found by PSPLIT_TEST_DATA; nothing is asked of a model. Takes ten minutes.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from labelled import data

from psplit_eval.preferences import Ballot, at_equal_length, win_rate
from psplit_eval.reliability import (
    correlation,
    fleiss_kappa,
    gold_accuracy,
    krippendorff_alpha,
)
from psplit_eval.stats import Estimate, mean_estimate

RESULTS = Path(__file__).parent / "results" / "judges_recorded.csv"
COLUMNS = ("dataset", "part", "judge", "prompt", "statistic", "value", "ci_low", "ci_high", "n")

Row = dict[str, Any]


def main() -> None:
    rows = [*llmbar(), *hanna(), *ttcw()]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row(dataset: str, part: str, judge: str, prompt: str, statistic: str, found: Estimate) -> Row:
    numbers = [f"{x:.4f}" for x in (found.value, found.ci_low, found.ci_high)]
    return dict(
        zip(COLUMNS, (dataset, part, judge, prompt, statistic, *numbers, found.n), strict=True)
    )


def llmbar() -> Iterator[Row]:
    files = defaultdict(list)
    for said in data("llmbar/judge_verdicts.jsonl.gz"):
        files[said["id"].rsplit("-", 1)[0], said["evaluator"], said["strategy"]].append(said)
    words = {
        text["id"]: [len(text[name].split()) for name in ("output_1", "output_2")]
        for text in data("llmbar/llmbar.jsonl")
    }
    for key, rows in files.items():
        yield from verdicts(key, rows)
        if key[2].startswith("Vanilla") and rows[0]["id"] in words:
            yield from of_equal_length(key, rows, words)


def verdicts(key: tuple[str, str, str], rows: list[Row]) -> Iterator[Row]:
    as_row = partial(row, "llmbar", *key)
    first, swapped = ([said[name] for said in rows] for name in ("winner", "winner_swapped"))
    found = gold_accuracy(first, swapped, [str(said["label"]) for said in rows], resamples=1000)
    places = win_rate([ballot(said) for said in rows], "right", "wrong").shown_first
    yield as_row("accuracy", found.average)
    yield as_row("right_in_both_orders", found.both)
    yield as_row("same_in_both_orders", found.same)
    yield as_row("kappa_of_orders", found.kappa)
    yield as_row("share_shown_first", places)


def ballot(said: Row, lengths: tuple[float, float] = (np.nan, np.nan)) -> Ballot:
    """The right text of a pair against the wrong one; its first order is that of the data."""
    one, two = (
        None if said[name] is None else float(said[name] == "1")
        for name in ("winner", "winner_swapped")
    )
    arms = ("right", "wrong") if said["label"] == 1 else ("wrong", "right")
    return Ballot(said["id"], *arms, one, two, *lengths)


def of_equal_length(
    key: tuple[str, str, str], rows: list[Row], words: dict[str, list[int]]
) -> Iterator[Row]:
    found = at_equal_length([ballot(said, words[said["id"]]) for said in rows], "wrong")
    as_row = partial(row, "llmbar", *key)
    yield as_row("accuracy_at_equal_length", found.strengths.win_rates["right"])
    yield as_row("length_effect_log_odds", found.length_effect)


def hanna() -> Iterator[Row]:
    stories = list(data("hanna/human_vs_llm_scores.jsonl.gz"))
    for name in stories[0]["llm_judges"]:
        for criterion in stories[0]["human"]:
            as_row = partial(row, "hanna", criterion, *name.rsplit(" ", 1))
            people = [story["human"][criterion] for story in stories]
            scores = [story["llm_judges"][name][criterion] for story in stories]
            for kind in ("kendall", "spearman", "pearson"):
                yield as_row(kind, correlation(scores, people, kind, resamples=500))
            yield as_row("score_minus_peoples", mean_estimate(np.subtract(scores, people)))


def ttcw() -> Iterator[Row]:
    said = defaultdict(list)
    names = {}
    for one in data("ttcw/expert_annotations.jsonl.gz"):
        said[one["ttcw_idx"], one["story_id"]].append(one["binary_verdict"])
        names[one["ttcw_idx"]] = one["category"]
    tests = {name: [x for (i, _), x in said.items() if i == idx] for idx, name in names.items()}
    for name, ratings in {**tests, "all tests": list(said.values())}.items():
        as_row = partial(row, "ttcw", name, "three experts", "")
        yield as_row("krippendorff_alpha", krippendorff_alpha(ratings))
        yield as_row("fleiss_kappa", fleiss_kappa(ratings))


if __name__ == "__main__":
    main()
