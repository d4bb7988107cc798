"""Do predicted originality and kinds of uses say what people say? On objects left out.

    python benchmarks/validity_aut.py            # benchmarks/results/validity_aut.csv
    python benchmarks/validity_aut.py --fit      # and psplit_eval/fitted/originality.json
    python benchmarks/validity_aut.py --surprise FILE   # and a language model (surprise.py)

Originality: 20 121 uses of 21 objects with people's mean rating (Ocsai), each object's predicted by
a model fitted to the others, and where single ratings are stored (four studies) beside how well one
person's agree with those of the others. Kinds: sets of ideas that two people put in kinds
(SocialMuse), beside how well these two agree. The data are found by PSPLIT_TEST_DATA. MiniLM takes
some minutes; `--vectors FILE` keeps what it gives.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from labelled import ROOT, Array, Embedder, Row, data, row_of, write_results
from numpy.typing import NDArray

from psplit_eval.originality import FEATURES, OriginalityModel, use_features
from psplit_eval.uses import use_kinds

FITTED = ROOT / "psplit_eval" / "fitted" / "originality.json"
PENALTY = 1000.0
MINIMUM = 100
"""Uses of an object below which no correlation is given for it."""
SET_SIZE, SETS = 20, 30


@dataclass(frozen=True)
class Ratings:
    """Uses of objects and their mean rating, with what is known of each use."""

    items: NDArray[np.str_]
    uses: list[str]
    rating: Array
    features: Array

    def of(self, rows: Any) -> Ratings:
        uses = np.array(self.uses, dtype=object)[rows].tolist()
        return Ratings(self.items[rows], uses, self.rating[rows], self.features[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="write the model that psplit ships")
    parser.add_argument("--vectors", type=Path, help="an .npz file to keep embeddings in")
    parser.add_argument("--surprise", type=Path, help="what surprise.py wrote of uses")
    options = parser.parse_args()
    embed = Embedder(options.vectors)
    ratings = read_ratings(embed)
    columns = candidates(ratings, embed)
    results = [*originality_results("ocsai", ratings, columns), *study_results(ratings, columns)]
    if options.surprise:
        results += surprise_results(ratings, options.surprise)
    results += kind_results(embed)
    embed.keep()
    if options.fit:
        FITTED.write_text(json.dumps(as_json(fit(ratings), results), indent=1) + "\n", "utf-8")
    write_results("validity_aut", results)


def read_ratings(embed: Embedder) -> Ratings:
    rows = list(data("aut/ocsai1_main2.jsonl.gz"))
    embed([text for row in rows for text in (row["item"], row["response"])])
    items = np.array([row["item"] for row in rows])
    uses = [row["response"] for row in rows]
    features = np.zeros((len(rows), len(FEATURES) + embed(["x"]).shape[1]))
    for item in np.unique(items):
        of = np.flatnonzero(items == item)
        features[of] = use_features(str(item), [uses[i] for i in of], embed)
    return Ratings(items, uses, np.array([row["score"] for row in rows]), features)


def candidates(ratings: Ratings, embed: Embedder) -> dict[str, tuple[Array, bool]]:
    """Values of each use, and whether they come from a fit (to other objects)."""
    short = len(FEATURES)
    return {
        "length": (ratings.features[:, 0], False),
        "distance": (ratings.features[:, 2], False),
        "distance_from_others": (from_others(ratings, embed), False),
        "length_fitted": (outside(ratings, slice(0, 2)), True),
        "length_and_distance_fitted": (outside(ratings, slice(0, short)), True),
        "originality": (outside(ratings, slice(None)), True),
    }


def from_others(ratings: Ratings, embed: Embedder) -> Array:
    """1 − cosine with the mean embedding of all other uses of the object."""
    values = np.zeros(len(ratings.rating))
    for item in np.unique(ratings.items):
        of = np.flatnonzero(ratings.items == item)
        vectors = embed([ratings.uses[i] for i in of])
        others = vectors.sum(axis=0) - vectors
        values[of] = 1 - (others * vectors).sum(axis=1) / np.linalg.norm(others, axis=1)
    return values


def outside(ratings: Ratings, columns: slice) -> Array:
    """Each use's rating by a model fitted to the other objects."""
    values = np.zeros(len(ratings.rating))
    for item in np.unique(ratings.items):
        of = ratings.items == item
        model = fit(ratings.of(~of), columns)
        values[of] = model.intercept + ratings.features[of][:, columns] @ model.coefficients
    return values


def fit(ratings: Ratings, columns: slice = slice(None)) -> OriginalityModel:
    """Ridge regression within objects, all objects with the weight of the root of their size.

    Ratings and features are taken as differences from their object's means: how high an object was
    rated says more about its study than about its uses.
    """
    from sklearn.linear_model import Ridge

    x, y = ratings.features[:, columns], ratings.rating
    scale = np.maximum(x.std(axis=0), 1e-9)
    within, target, weight = x / scale, y.copy(), np.zeros(len(y))
    for item in np.unique(ratings.items):
        of = ratings.items == item
        within[of] -= within[of].mean(axis=0)
        target[of] -= target[of].mean()
        weight[of] = 1 / math.sqrt(of.sum())
    found = Ridge(PENALTY).fit(within, target, sample_weight=weight / weight.mean())
    coefficients = found.coef_ / scale
    return OriginalityModel(float(y.mean() - x.mean(axis=0) @ coefficients), coefficients)


def originality_results(
    dataset: str, ratings: Ratings, columns: dict[str, tuple[Array, bool]]
) -> Iterator[Row]:
    """Mean correlation within objects; the spread is its standard error over objects."""
    length = ratings.features[:, 0]
    large = [item for item in np.unique(ratings.items) if (ratings.items == item).sum() >= MINIMUM]
    for name, (values, fitted) in columns.items():
        for statistic, compute in correlations().items():
            found = []
            for item in large:
                of = ratings.items == item
                found.append(compute(values[of], ratings.rating[of], length[of]))
            mean, error = np.mean(found), np.std(found, ddof=1) / math.sqrt(len(found))
            yield row_of(
                dataset, name, f"{statistic}_within_object", mean, error, len(large), fitted
            )
        pooled = np.corrcoef(values, ratings.rating)[0, 1]
        yield row_of(dataset, name, "pearson_pooled", pooled, "", len(values), fitted)


def correlations() -> dict[str, Callable[[Array, Array, Array], float]]:
    from scipy.stats import pearsonr, spearmanr

    def without_length(values: Array, length: Array) -> Array:
        return values - np.polyval(np.polyfit(length, values, 2), length)

    return {
        "pearson": lambda value, rating, length: float(pearsonr(value, rating)[0]),
        "spearman": lambda value, rating, length: float(spearmanr(value, rating)[0]),
        "pearson_at_equal_length": lambda value, rating, length: float(
            pearsonr(without_length(value, length), without_length(rating, length))[0]
        ),
    }


def study_results(ratings: Ratings, columns: dict[str, tuple[Array, bool]]) -> Iterator[Row]:
    """Of the studies with single ratings: how well people agree, and how well the model does."""
    predicted: dict[tuple[str, str], float] = {}
    for item, use, value in zip(
        ratings.items, ratings.uses, columns["originality"][0], strict=True
    ):
        predicted[str(item), use.lower()] = float(value)
    rows = list(data("aut/rater_level.jsonl.gz"))
    for study in sorted({row["study"] for row in rows}):
        for item in sorted({row["item"] for row in rows if row["study"] == study}):
            of = [
                row
                for row in rows
                if (row["study"], row["item"]) == (study, item)
                and None not in row["ratings"]
                and (item, row["response"].lower()) in predicted
            ]
            given = np.array([row["ratings"] for row in of])
            said = np.array([predicted[item, row["response"].lower()] for row in of])
            yield from agreement_results(f"{study}_{item}", given, said)


def agreement_results(dataset: str, given: Array, said: Array) -> Iterator[Row]:
    """`given` (uses, raters): one rater against the mean of the others, mean over raters."""
    others = [np.delete(given, rater, axis=1).mean(axis=1) for rater in range(given.shape[1])]
    pairs = [np.corrcoef(given[:, i], rest)[0, 1] for i, rest in enumerate(others)]
    model = [np.corrcoef(said, rest)[0, 1] for rest in others]
    n = len(given)
    yield row_of(
        dataset, "one_rater", "pearson_with_others", np.mean(pairs), np.std(pairs), n, False
    )
    yield row_of(dataset, "one_rater", "icc_2_1", intraclass(given), "", n, False)
    yield row_of(
        dataset, "originality", "pearson_with_others", np.mean(model), np.std(model), n, True
    )
    mean = np.corrcoef(said, given.mean(axis=1))[0, 1]
    yield row_of(dataset, "originality", "pearson_with_mean", mean, "", n, True)


def intraclass(given: Array) -> float:
    """ICC(2,1) of Shrout and Fleiss (1979): agreement of single raters who are a sample."""
    n, k = given.shape
    rows, columns = given.mean(axis=1), given.mean(axis=0)
    between, raters = k * rows.var(ddof=1), n * columns.var(ddof=1)
    left = given - rows[:, None] - columns + given.mean()
    error = float((left**2).sum()) / ((n - 1) * (k - 1))
    return float((between - error) / (between + (k - 1) * error + k * (raters - error) / n))


def surprise_results(ratings: Ratings, file: Path) -> Iterator[Row]:
    """What a language model adds, on the uses that it has read."""
    read = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    bits, tokens, alone = (
        np.array([row[name] for row in read], dtype=np.float64)
        for name in ("given", "tokens", "alone")
    )
    some = ratings.of([row["row"] for row in read])
    surprise = np.column_stack([bits, bits / tokens, bits - alone, (bits - alone) / tokens])
    more = Ratings(some.items, some.uses, some.rating, np.hstack([some.features, surprise]))
    columns = {
        "bits": (bits, False),
        "bits_a_token": (bits / tokens, False),
        "without_it": (outside(some, slice(None)), True),
        "with_it": (outside(more, slice(None)), True),
    }
    yield from originality_results("ocsai_read_by_smollm2", some, columns)


def kind_results(embed: Embedder) -> Iterator[Row]:
    """Sets of ideas, in kinds by two people and by psplit; and the threshold that fits best.

    One threshold is all that is fitted: also on four objects, for the fifth.
    """
    sets = list(idea_sets())
    grid = np.round(np.arange(0.30, 0.70, 0.01), 2)
    counts = np.array(
        [[len(set(use_kinds(item, ideas, embed, t))) for t in grid] for item, ideas, _, _ in sets]
    )
    people = np.array([[len(set(one)), len(set(two))] for _, _, one, two in sets])
    items = np.array([item for item, *_ in sets])

    def calibrated(of: NDArray[np.bool_]) -> float:
        gaps = np.abs(counts[of].mean(axis=0) - people[of].mean())
        return float(grid[int(np.argmin(gaps))])

    everything = np.ones(len(sets), dtype=bool)
    yield row_of("socialmuse", "kinds", "threshold", calibrated(everything), "", len(sets), True)
    kinds = []
    for item, ideas, _, _ in sets:
        kinds.append(use_kinds(item, ideas, embed, calibrated(items != item)))
    one, two = ([s[i] for s in sets] for i in (2, 3))
    yield from partition_results("kinds", kinds, one, two, True)
    yield from partition_results("one_person", one, two, two, False)


def idea_sets() -> Iterator[tuple[str, list[str], list[str], list[str]]]:
    rng = np.random.default_rng(0)
    rows = list(data("aut/socialmuse_human_buckets.jsonl.gz"))
    for item in sorted({row["object"] for row in rows}):
        of = [row for row in rows if row["object"] == item]
        for _ in range(SETS):
            chosen = [of[i] for i in rng.choice(len(of), SET_SIZE, replace=False)]
            columns = ("idea", "bucket_annotator1", "bucket_annotator2")
            ideas, one, two = ([row[name] for row in chosen] for name in columns)
            yield item.replace("_", " "), ideas, one, two


def partition_results(
    metric: str,
    found: Sequence[Sequence[Any]],
    one: Sequence[Sequence[str]],
    two: Sequence[Sequence[str]],
    fitted: bool,
) -> Iterator[Row]:
    """Agreement with one person and the other (mean of both); spreads are standard errors."""
    from sklearn.metrics import adjusted_rand_score, v_measure_score

    n = len(found)
    for name, compute in (("adjusted_rand", adjusted_rand_score), ("v_measure", v_measure_score)):
        values = [
            (compute(a, mine) + compute(b, mine)) / 2
            for mine, a, b in zip(found, one, two, strict=True)
        ]
        error = np.std(values, ddof=1) / math.sqrt(n)
        yield row_of("socialmuse", metric, name, np.mean(values), error, n, fitted)
    sizes = np.array([[len(set(kinds)) for kinds in sets] for sets in (found, one, two)])
    people = sizes[1:].mean(axis=0)
    yield row_of("socialmuse", metric, "number", sizes[0].mean(), sizes[0].std(), n, fitted)
    yield row_of("socialmuse", metric, "number_by_people", people.mean(), people.std(), n, fitted)
    correlation = np.corrcoef(sizes[0], people)[0, 1]
    yield row_of("socialmuse", metric, "number_pearson", correlation, "", n, fitted)


def as_json(model: OriginalityModel, results: Sequence[Row]) -> dict[str, Any]:
    """The model, and how well it does on objects that it was not fitted to."""
    named = len(FEATURES)
    validated = {
        row["statistic"]: row["value"]
        for row in results
        if (row["dataset"], row["metric"]) == ("ocsai", "originality")
    }
    return {
        "format": 1,
        "fitted_to": "Ocsai, 20 121 uses of 21 objects; benchmarks/validity_aut.py",
        "embeddings": "all-MiniLM-L6-v2",
        "cross_validated": {"by": "object", **validated},
        "intercept": model.intercept,
        "coefficients": dict(zip(FEATURES, model.coefficients[:named].tolist(), strict=True)),
        "embedding": np.round(model.coefficients[named:], 5).tolist(),
    }


if __name__ == "__main__":
    main()
