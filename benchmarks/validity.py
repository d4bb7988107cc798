"""The tables of docs/validity.md, from the results of the studies: `python benchmarks/validity.py`.

validity_sets.py makes the results on sets; figures/creative has the leaderboards of the runs at two
temperatures. validity_pairs.py, validity_aut.py and validity_quality.py make those of other pages.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
TASKS = ("prompt_gen", "resp_gen", "story_gen", "mean")
SETS = ("contest_200", "mcdiv_nuggets_200")
COLUMNS = {
    "conTest, 200": ("contest_200", "auc"),
    "nuggets, 200": ("mcdiv_nuggets_200", "auc"),
    "McDiv": ("mcdiv", "auc"),
    "nuggets": ("mcdiv_nuggets", "auc"),
    "conTest: ρ people": ("contest_200", "spearman_people"),
    "decTest: ρ people": ("dectest_200", "spearman_people"),
    "decTest: ρ temperature": ("dectest_1000", "spearman_temperature"),
}
NOT_OURS = (
    *("published SentBert", "published BertScore", "published AveragedDistinctNgrams", "people"),
)
NOT_SHOWN = ("mean of these two", "closeness_to_prompt", "words")
OTHER_NAMES = {
    "distance_beyond_prompt": "dispersion_beyond_prompt",
    "mean_pairwise_distance": "semantic_dispersion",
}
"""What a run's results call what psplit's functions compute."""
IN_DETAIL = (
    *("content_diversity", "distance_beyond_prompt", "mutual_bits", "mean_pairwise_distance"),
    *("div_bleu_4", "distinct_2", "published SentBert", "people"),
)

RUNS = Path(__file__).parents[1] / "figures" / "creative"
TEMPERATURES = ("1.0", "1.5")
MODES = ("normal", "high")
OF_RUNS = (
    *("distinct_2", "div_bleu_4", "semantic_dispersion", "dispersion_beyond_prompt", "distinct_k"),
    *("quality", "passing", "effective_dispersion", "utility_k", "effective_originality"),
    *("valid_words", "effective_association", "entropy_bits"),
)

Values = Mapping[tuple[str, str, str, str], float]


def read() -> tuple[Values, set[str]]:
    """(dataset, task, metric, statistic) → value; and the metrics that are fitted."""
    with (RESULTS / "validity_sets.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {
        (row["dataset"], row["task"], row["metric"], row["statistic"]): float(row["value"])
        for row in rows
        if row["value"]
    }
    return values, {row["metric"] for row in rows if row["fitted"] == "yes"}


def overview(values: Values, fitted: set[str]) -> Iterator[str]:
    """Means over the three tasks, best on the two 200-sets first, then what is not psplit's."""
    metrics = dict.fromkeys(metric for _, _, metric, _ in values)
    own = [
        m for m in metrics if not m.startswith("published ") and m not in (*NOT_OURS, *NOT_SHOWN)
    ]
    own.sort(key=lambda m: -sum(values.get((d, "mean", m, "auc"), 0) for d in SETS))
    yield from _head(["metric", *COLUMNS])
    for metric in [*own, *NOT_OURS]:
        cells = (values.get((d, "mean", metric, s)) for d, s in COLUMNS.values())
        yield _row([_name(metric, metric in fitted), *map(_cell, cells)])


def by_task(values: Values) -> Iterator[str]:
    """AUC on the two 200-sets, task by task."""
    yield from _head(
        ["metric", *(f"{name}: {t}" for name in ("conTest", "nuggets") for t in TASKS)]
    )
    for metric in IN_DETAIL:
        cells = (values.get((d, task, metric, "auc")) for d in SETS for task in TASKS)
        yield _row([_name(metric), *map(_cell, cells)])


def temperatures() -> Iterator[str]:
    """Of every creative task its values at both temperatures, in both modes."""
    boards = [_board(RUNS / f"t{temperature}.csv") for temperature in TEMPERATURES]
    yield from _head(["task", "metric", *(f"{m}, T {t}" for m in MODES for t in TEMPERATURES)])
    for task in dict.fromkeys(task for task, _, _ in boards[0]):
        for metric in OF_RUNS:
            cells = [board.get((task, metric, mode)) for mode in MODES for board in boards]
            if any(cells):
                yield _row([task, f"`{metric}`", *(cell or "–" for cell in cells)])


def _board(path: Path) -> dict[tuple[str, str, str], str]:
    with path.open() as file:
        return {
            (row["task"], row["metric"], row["mode"]): f"{float(row['value']):.2f}"
            for row in csv.DictReader(file)
            if row["value"]
        }


def _name(metric: str, fitted: bool = False) -> str:
    if metric in NOT_OURS:
        return metric
    return f"`{OTHER_NAMES.get(metric, metric)}`{' (fitted)' if fitted else ''}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("0.", ".", 1)


def _head(names: Iterable[str]) -> Iterator[str]:
    cells = list(names)
    yield _row(cells)
    yield _row("---" for _ in cells)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    values, fitted = read()
    print("\n".join([*overview(values, fitted), "", *by_task(values), "", *temperatures()]))


if __name__ == "__main__":
    main()
