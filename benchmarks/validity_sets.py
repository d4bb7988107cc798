"""Do metrics of diversity order sets of answers as people do? Sets of Tevet & Berant 2021.

    python benchmarks/validity_sets.py fit --cache DIR      # the fitted metric's coefficients
    python benchmarks/validity_sets.py --cache DIR --quick  # the sets that people rated, too
    python benchmarks/validity_sets.py --cache DIR --limit 100     # and 100 a task of the others
    python benchmarks/validity_sets.py --cache DIR          # all sets: hours on two cores

"Evaluating the Evaluation of Diversity in Natural Language Generation", arXiv 2004.02990.

The sets are read from $PSPLIT_TEST_DATA/diversity_eval (default ../shared/data). What models make
of a set is kept in DIR, so a run that was stopped goes on. Every row of
benchmarks/results/validity_sets.csv says how one metric does on one task of one data set: the area
under the ROC curve of high against low content diversity, or Spearman's correlation with the
sampling temperature or with people's mean rating. Metrics are turned so that more is more diverse.

`fit` takes sets of McDiv on every fourth context (by a hash), and none that the sets with ratings
have. Where `fitted` is yes, rows on contexts that were fitted on are left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from psplit_eval.content import content_diversity, content_features, in_context
from psplit_eval.diversity import (
    compression_ratio,
    distinct,
    div_bleu,
    div_ngram,
    expectation_adjusted_distinct,
    self_repetition,
    tokenise,
)
from psplit_eval.semantic import mean_pairwise_distance, vendi_score
from psplit_eval.surprise import foretold, layouts

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("PSPLIT_TEST_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results" / "validity_sets.csv"
FITTED = ROOT / "psplit_eval" / "fitted" / "content_diversity.json"
COLUMNS = ("dataset", "task", "metric", "statistic", "value", "n", "fitted")
TASKS = ("prompt_gen", "resp_gen", "story_gen")
RATED = {
    "contest_200": "contest_200_human",
    "mcdiv_nuggets_200": "mcdiv_nuggets_200_human",
    "dectest_200": "dectest_200_human",
}
UNRATED = {"mcdiv_nuggets": "mcdiv_nuggets", "mcdiv": "mcdiv", "dectest_1000": "dectest_1000"}
FEATURES = (
    "distance_beyond_prompt",
    "distance_in_context",
    "closeness_to_prompt",
    "mutual_bits",
)
FOLDS, DOCS_AT_ONCE, VOCABULARY = 10, 8, 10_000

Row = Mapping[str, Any]
Array = NDArray[np.float64]


def rows(dataset: str) -> list[Row]:
    path = DATA / "diversity_eval" / f"{(RATED | UNRATED)[dataset]}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def some_rows(dataset: str, limit: int | None) -> list[Row]:
    """So many sets of every task, by a hash of their contexts; None: all."""
    found = sorted(rows(dataset), key=lambda row: hashed(context_of(row)))
    return [row for task in TASKS for row in [r for r in found if r["task"] == task][:limit]]


# --- metrics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerSet:
    """One set of answers, and what models made of it."""

    row: Row
    made: Mapping[str, float]

    @cached_property
    def texts(self) -> list[str]:
        return [str(text) for text in self.row["responses"]]

    @cached_property
    def tokens(self) -> list[list[str]]:
        return [tokenise(text) for text in self.texts]


Metric = Callable[[AnswerSet], float]

LEXICAL: Mapping[str, Metric] = {
    "div_ngram_2": lambda s: div_ngram(s.tokens, 2),
    "distinct_1": lambda s: distinct(s.tokens, 1),
    "distinct_2": lambda s: distinct(s.tokens, 2),
    "ead_1": lambda s: expectation_adjusted_distinct(s.tokens, VOCABULARY, 1),
    "div_bleu_4": lambda s: div_bleu(s.tokens, 4),
    "self_repetition_2": lambda s: -self_repetition(s.tokens, 2),
    "compression_ratio": lambda s: -compression_ratio([" ".join(text) for text in s.tokens]),
    "words": lambda s: float(np.mean([len(text) for text in s.tokens])),
}
MADE: Mapping[str, Metric] = {
    "mean_pairwise_distance": lambda s: s.made["mean_pairwise_distance"],
    "vendi": lambda s: s.made["vendi"],
    "distance_beyond_prompt": lambda s: s.made["distance_beyond_prompt"],
    "distance_in_context": lambda s: s.made["distance_in_context"],
    "mean of these two": lambda s: (
        (s.made["distance_beyond_prompt"] + s.made["distance_in_context"]) / 2
    ),
    "closeness_to_prompt": lambda s: s.made["closeness_to_prompt"],
    "mutual_bits": lambda s: -s.made["mutual_bits"],
    "content_diversity": lambda s: content_diversity(s.made),
}
"""`mutual_bits` and those below it are asked of a language model, the others of an encoder."""


def published(name: str) -> Metric:
    """A metric of which the authors stored the values."""
    return lambda s: float(s.row["reference_metrics"].get(name, math.nan))


def people(answers: AnswerSet) -> float:
    """The mean of the ratings of some ten people: what a metric can reach at best."""
    return float(answers.row.get("human_diversity_mean") or math.nan)


# --- what models make of a set ----------------------------------------------------------------


@dataclass
class Models:
    """Features of sets, kept in a file; the models are loaded when one is missing."""

    folder: Path
    known: dict[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._path.is_file():
            self.known = dict(map(json.loads, self._path.read_text().splitlines()))

    @property
    def _path(self) -> Path:
        return self.folder / "validity_sets.jsonl"

    @cached_property
    def _encoder(self) -> Any:
        from psplit_eval.embedding import Encoder

        return Encoder()

    @cached_property
    def _reference(self) -> Any:
        from prefixes import PrefixReference

        return PrefixReference()

    def make(self, wanted: Sequence[Row]) -> None:
        missing = {key: row for row in wanted if (key := key_of(row)) not in self.known}
        print(f"{len(missing)} of {len(wanted)} sets to do", flush=True)
        with self._path.open("a") as file:
            for some in chunks(list(missing.items()), DOCS_AT_ONCE):
                for (key, _), made in zip(some, self._of([row for _, row in some]), strict=True):
                    self.known[key] = made
                    file.write(json.dumps([key, made]) + "\n")
                file.flush()

    def _of(self, some: Sequence[Row]) -> Iterator[dict[str, float]]:
        texts = [text for row in some for text in self._embedded(row)]
        vectors, start = self._encoder.encode(texts), 0
        for row in some:
            k = len(row["responses"])
            alone, after, prompt = np.split(vectors[start : start + 2 * k + 1], [k, 2 * k])
            start += 2 * k + 1
            read = self._reference.surprisals(layouts(row["context"], row["responses"]))
            yield {
                "mean_pairwise_distance": mean_pairwise_distance(alone),
                "vendi": vendi_score(alone),
                **content_features(alone, after, prompt[0], foretold(read)),
            }

    @staticmethod
    def _embedded(row: Row) -> list[str]:
        after = [in_context(row["context"], text) for text in row["responses"]]
        return [*row["responses"], *after, row["context"]]

    def answers(self, row: Row) -> AnswerSet:
        return AnswerSet(row, self.known[key_of(row)])


def key_of(row: Row) -> str:
    return hashed(json.dumps([row["context"], row["responses"]]))


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# --- the fitted metric ------------------------------------------------------------------------


def context_of(row: Row) -> str:
    return " ".join(row["context"].lower().split())


def rated_contexts() -> set[str]:
    return {context_of(row) for dataset in RATED for row in rows(dataset)}


def is_fitted_on(context: str, rated: set[str]) -> bool:
    return context not in rated and int(hashed(context), 16) % 4 == 0


def fit(models: Models, limit: int) -> dict[str, Any]:
    """Logistic regression (L2, C = 1, standardised) on McDiv's high and low sets, nuggets first."""
    rated, found = rated_contexts(), {}
    for dataset in ("mcdiv_nuggets", "mcdiv"):
        of_dataset = [row for row in rows(dataset) if is_fitted_on(context_of(row), rated)]
        found.update({key_of(row): row for row in sorted(of_dataset, key=key_of)})
    chosen = list(found.values())[:limit]
    models.make(chosen)
    x = np.array([[models.known[key_of(row)][name] for name in FEATURES] for row in chosen])
    y = np.array([row["label_value"] for row in chosen])
    whole = np.isfinite(x).all(axis=1)
    chosen = [row for row, ok in zip(chosen, whole, strict=True) if ok]
    x, y = x[whole], y[whole]
    out_of_fold = cross_validated(x, y, [context_of(row) for row in chosen])
    return described(x, y, chosen, out_of_fold)


def regression(x: Array, y: Array) -> tuple[Array, float]:
    """Weights of the features as they are, and the value where all are at their means."""
    from sklearn.linear_model import LogisticRegression

    scale = x.std(axis=0)
    model = LogisticRegression(C=1.0, max_iter=1000).fit((x - x.mean(axis=0)) / scale, y)
    return model.coef_[0] / scale, float(model.intercept_[0])


def cross_validated(x: Array, y: Array, contexts: Sequence[str]) -> Array:
    """Of every set, the value by a model of the other folds; a context lies in one fold."""
    folds = np.array([int(hashed("fold " + context), 16) % FOLDS for context in contexts])
    values = np.empty(len(y))
    for fold in range(FOLDS):
        inside = folds == fold
        weights, _ = regression(x[~inside], y[~inside])
        values[inside] = (x[inside] - x[~inside].mean(axis=0)) @ weights
    return values


def described(x: Array, y: Array, chosen: Sequence[Row], out_of_fold: Array) -> dict[str, Any]:
    weights, intercept = regression(x, y)
    tasks = np.array([row["task"] for row in chosen])
    bounds = zip(FEATURES, weights, x.mean(axis=0), x.min(axis=0), x.max(axis=0), strict=True)
    return {
        "features": {
            name: {"weight": w, "mean": mean, "low": low, "high": high}
            for name, w, mean, low, high in bounds
        },
        "intercept": intercept,
        "encoder": "all-MiniLM-L6-v2",
        "reference": "smollm2-135m",
        "fitted_by": "benchmarks/validity_sets.py fit",
        "data": "McDiv, nuggets first: every fourth context, none of those that people rated",
        "sets": len(y),
        "contexts": len({context_of(row) for row in chosen}),
        "auc_out_of_fold": {
            task: auc(y[tasks == task], out_of_fold[tasks == task]) for task in TASKS
        },
        "folds": f"{FOLDS}, by context",
    }


# --- how a metric does ------------------------------------------------------------------------


def auc(labels: Array, values: Array) -> float:
    """Probability that a high set has a higher value than a low one; ties count half."""
    high = labels == 1
    ranks, pairs = stats.rankdata(values)[high], int(high.sum()) * int((~high).sum())
    return float((ranks.sum() - high.sum() * (high.sum() + 1) / 2) / pairs) if pairs else math.nan


def spearman(targets: Array, values: Array) -> float:
    return float(stats.spearmanr(targets, values).statistic)


def measured(dataset: str, sets: Sequence[AnswerSet], rated: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of one data set: every metric on every task, and the mean over tasks."""
    stored = sets[0].row["reference_metrics"]
    metrics = {**LEXICAL, **MADE, **{f"published {name}": published(name) for name in stored}}
    if "human_diversity_mean" in sets[0].row:
        metrics["people"] = people
    for name, metric in metrics.items():
        fitted = name == "content_diversity"
        used = [s for s in sets if not (fitted and is_fitted_on(context_of(s.row), rated))]
        labels = {"auc" if "dectest" not in dataset else "spearman_temperature": "label_value"}
        if "human_diversity_mean" in sets[0].row and name != "people":
            labels["spearman_people"] = "human_diversity_mean"
        values = [metric(s) for s in used]
        for statistic, label in labels.items():
            of_tasks = list(by_task(used, values, statistic, label))
            for task, value, n in [*of_tasks, mean_of(of_tasks)]:
                yield dict(
                    zip(
                        COLUMNS,
                        (dataset, task, name, statistic, round(value, 4), n, yes(fitted)),
                        strict=True,
                    )
                )


def by_task(
    sets: Sequence[AnswerSet], values: Sequence[float], statistic: str, label: str
) -> Iterator[tuple[str, float, int]]:
    """(task, value, sets); sets without a value are left out."""
    for task in TASKS:
        pairs = np.array(
            [
                (float(s.row[label]), value)
                for s, value in zip(sets, values, strict=True)
                if s.row["task"] == task and math.isfinite(value)
            ]
        ).reshape(-1, 2)
        yield task, (auc if statistic == "auc" else spearman)(pairs[:, 0], pairs[:, 1]), len(pairs)


def mean_of(of_tasks: Sequence[tuple[str, float, int]]) -> tuple[str, float, int]:
    values = [value for _, value, _ in of_tasks]
    return "mean", float(np.mean(values)), sum(n for _, _, n in of_tasks)


def yes(flag: bool) -> str:
    return "yes" if flag else "no"


# --- the command ------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("table", "fit"), default="table")
    parser.add_argument("--cache", type=Path, required=True, help="folder of what models made")
    parser.add_argument("--quick", action="store_true", help="only the sets that people rated")
    parser.add_argument("--limit", type=int, help="sets a task of those that nobody rated")
    parser.add_argument("--sets", type=int, default=500, help="sets to fit on (default 500)")
    options = parser.parse_args()
    models = Models(options.cache)
    if options.what == "fit":
        FITTED.write_text(json.dumps(fit(models, options.sets), indent=1) + "\n")
        print(FITTED.read_text())
        return
    table(models, list(RATED if options.quick else RATED | UNRATED), options.limit)


def table(models: Models, datasets: Sequence[str], limit: int | None = None) -> None:
    """Rows of data sets that are not measured now stay as they are."""
    kept = [row for row in read_results() if row["dataset"] not in datasets]
    rated = rated_contexts()
    for dataset in datasets:
        used = rows(dataset) if dataset in RATED else some_rows(dataset, limit)
        models.make(used)
        kept += measured(dataset, [models.answers(row) for row in used], rated)
        write_results(kept)


def read_results() -> list[dict[str, str]]:
    if not RESULTS.is_file():
        return []
    with RESULTS.open() as file:
        return list(csv.DictReader(file))


def write_results(found: Sequence[Mapping[str, Any]]) -> None:
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
