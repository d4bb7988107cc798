"""What would the audit have said of judges that others have asked?

    python benchmarks/judges_replayed.py    # benchmarks/results/judges_replayed.csv, minutes

LLMBar's authors (Zeng et al., arXiv 2310.07641) stored the verdicts of six models under up to 14
strategies, in both orders, on 373 pairs whose better answer is certain. Each model and strategy is
audited as a recorded judge on each subset: 'natural', and three of adversarial pairs, whose worse
answer is the more pleasing one. The data are found by PSPLIT_TEST_DATA.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelled import Row, data

from psplit_eval.audit import AuditOptions, audit
from psplit_eval.cards import Card
from psplit_eval.judges import JudgeName
from psplit_eval.rubrics import find_rubric

RESULTS = Path(__file__).parent / "results" / "judges_replayed.csv"
SUBSETS = ("natural", "adv_neighbor", "adv_gptinst", "adv_gptout")
MEASURES = ("agreement", "both right", "position", "flips", "length bias", "readable")

Key = tuple[str, str, str]
"""Subset, evaluator, strategy."""


def main() -> None:
    verdicts = by_judge(data("llmbar/judge_verdicts.jsonl.gz"))
    gold = {
        subset: [row for row in data("llmbar/llmbar.jsonl") if row["subset"] == subset]
        for subset in SUBSETS
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for key in sorted(verdicts, key=lambda key: (SUBSETS.index(key[0]), *key[1:])):
            rows.append(row_of(key, replayed(Path(folder), gold[key[0]], verdicts[key])))
            print(*rows[-1].values(), sep="  ", flush=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def by_judge(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """Stored verdicts of every judge on every subset that has texts."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        subset = row["id"].rpartition("-")[0]
        if subset in SUBSETS:
            found.setdefault((subset, row["evaluator"], row["strategy"]), []).append(row)
    return found


def recorded(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """LLMBar's verdicts as lines of a recorded judge.

    `winner` is that of the order output 1, output 2, `winner_swapped` of the other one; both name
    the output, not its place. `label` is the better output.
    """
    for row in rows:
        label = str(row["label"])
        of_order = {"1": row["winner"], "2": row["winner_swapped"]}  # by the output shown first
        for order, shown_first in (("better", label), ("worse", "21"[int(label) - 1])):
            said = of_order[shown_first]
            verdict = None if said is None else {"first": float(said == shown_first)}
            yield {"about": f"{row['id']}/{order} first", "verdict": verdict}


def replayed(folder: Path, gold: Iterable[Row], verdicts: Iterable[Row]) -> Card:
    """The card of a judge, from what it said."""
    write(folder / "gold.jsonl", gold)
    write(folder / "judge.jsonl", recorded(verdicts))
    options = AuditOptions(
        judges=[JudgeName("recorded", str(folder / "judge.jsonl"))],
        rubric=find_rubric("answer"),
        gold=[str(folder / "gold.jsonl")],
        repeats=0,
        attacks=False,
        folder=folder / "audits",
    )
    return audit(options, Silent()).cards[0]


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def judging(self, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda _: None


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def row_of(key: Key, card: Card) -> Row:
    row: Row = dict(zip(("subset", "evaluator", "strategy"), key, strict=True))
    row["pairs"] = card.gold["pairs"]
    for name in MEASURES:
        found = card.measure(f"choice {name}")
        row[name.replace(" ", "_")] = f"{found.estimate.value:.4f}"
        if name == "agreement":
            row["low"], row["high"] = (
                f"{limit:.4f}" for limit in (found.estimate.ci_low, found.estimate.ci_high)
            )
    row["choice"] = card.verdict("choice")
    levels = {name: card.measure(f"choice {name}").level for name in MEASURES}
    decisive = [name for name, level in levels.items() if level == row["choice"]]
    row["because"] = "" if row["choice"] == "usable" else ", ".join(decisive)
    return row


if __name__ == "__main__":
    main()
