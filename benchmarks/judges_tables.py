"""The tables of docs/judges_evidence.md, from benchmarks/results/judges_recorded.csv.

python benchmarks/judges_tables.py
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "judges_recorded.csv"
PROMPT = "Vanilla"
"""The authors' plain prompt: which answer follows the instruction better, with their rules."""

Found = dict[tuple[str, ...], dict[str, str]]


def main() -> None:
    found = read()
    print(*pairs(found), "", *stories(found), "", *experts(found), sep="\n")


def read() -> Found:
    with RESULTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("dataset", "part", "judge", "prompt", "statistic")
    return {tuple(row[name] for name in names): row for row in rows}


def pairs(found: Found) -> list[str]:
    """Judges of LLMBar with the plain prompt, on natural pairs and on adversarial neighbours."""
    statistics = {
        "accuracy": "accuracy",
        "right_in_both_orders": "both",
        "same_in_both_orders": "same",
        "kappa_of_orders": "κ",
        "share_shown_first": "shown first",
        "length_effect_log_odds": "length effect",
    }
    judges = sorted({key[2] for key in found if key[0] == "llmbar"})
    rows = [
        [judge, part, *(shown(found.get(("llmbar", part, judge, PROMPT, s))) for s in statistics)]
        for part in ("natural", "adv_neighbor")
        for judge in judges
    ]
    return table(["judge", "pairs", *statistics.values()], rows)


def stories(found: Found) -> list[str]:
    """Best and worst judge of every criterion of HANNA, and how far apart their levels are."""
    by_criterion: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(dict))
    for (dataset, part, judge, prompt, statistic), row in found.items():
        if dataset == "hanna":
            by_criterion[part][statistic][f"{judge} {prompt}"] = row
    rows = []
    for criterion, of in by_criterion.items():
        best, worst = (
            pick(of["kendall"], key=lambda judge: float(of["kendall"][judge]["value"]))
            for pick in (max, min)
        )
        levels = [float(row["value"]) for row in of["score_minus_peoples"].values()]
        cells = [f"{judge}: {shown(of['kendall'][judge])}" for judge in (best, worst)]
        rows.append([criterion, *cells, f"{min(levels):+.2f} to {max(levels):+.2f}"])
    return table(["criterion", "best: Kendall's τ", "worst", "score less people's"], rows)


def experts(found: Found) -> list[str]:
    rows = [
        [key[1], shown(row), shown(found[*key[:4], "fleiss_kappa"])]
        for key, row in found.items()
        if key[0] == "ttcw" and key[4] == "krippendorff_alpha"
    ]
    return table(["test", "Krippendorff's α", "Fleiss' κ"], rows)


def shown(row: dict[str, str] | None) -> str:
    if row is None or row["value"] == "nan":
        return "–"
    value, low, high = (f"{float(row[name]):.2f}" for name in ("value", "ci_low", "ci_high"))
    return value if low == "nan" else f"{value} [{low}, {high}]"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    main()
