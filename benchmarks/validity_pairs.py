"""Do the same-answer probabilities say what people say? Cross-validated by prompt.

    python benchmarks/validity_pairs.py            # benchmarks/results/validity_pairs.csv
    python benchmarks/validity_pairs.py --fit      # and psplit_eval/fitted/equivalence.json
    python benchmarks/validity_pairs.py --surprise FILE   # and a language model (surprise.py)

NoveltyBench's pairs (770 prompts, each with two answers that one of eight people called the same or
not): AUC of each similarity alone and of the fitted model on prompts that it was not fitted to.
Then what classes are worth: against the classes that people put alternate uses in (SocialMuse), and
against two sets of classes of unstated or machine origin (NoveltyBench). The data are found by
PSPLIT_TEST_DATA. MiniLM takes some minutes; `--vectors FILE` keeps what it gives.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from labelled import ROOT, Array, Embedder, Row, data, row_of, write_results
from numpy.typing import NDArray

from psplit_eval.equivalence import (
    FEATURES,
    EquivalenceModel,
    WordWeights,
    pair_features,
    same_answer_classes,
    same_answer_probabilities,
)

FITTED = ROOT / "psplit_eval" / "fitted" / "equivalence.json"
PAIRS = "noveltybench/human_pairs.jsonl.gz"
FOLDS, SEEDS, RESAMPLES = 10, 5, 1000
PENALTY = 0.1
WORDS, RARE = 1500, 4
LINKAGES = ("average", "first", "any", "all")


@dataclass(frozen=True)
class Pairs:
    """What people said of pairs: `same` (n,), features (n, FEATURES), and who and what it was.

    `is_test`: in the split that NoveltyBench's authors tested their classifier on.
    """

    same: Array
    features: Array
    prompts: list[str]
    people: list[str]
    words: Array
    is_test: NDArray[np.bool_]

    def of(self, rows: Any) -> Pairs:
        of = np.arange(len(self.same))[rows]
        return Pairs(
            self.same[of],
            self.features[of],
            [self.prompts[i] for i in of],
            [self.people[i] for i in of],
            self.words[of],
            self.is_test[of],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="write the model that psplit ships")
    parser.add_argument("--vectors", type=Path, help="an .npz file to keep embeddings in")
    parser.add_argument("--surprise", type=Path, help="what surprise.py wrote of pairs")
    options = parser.parse_args()
    embed = Embedder(options.vectors)
    rows = list(data(PAIRS))
    answers = [row[key] for row in rows for key in ("generation_0", "generation_1")]
    weights = WordWeights.counted(answers, WORDS, RARE)
    pairs = read_pairs(rows, embed, weights)
    outside = np.stack([out_of_fold(pairs.features, pairs, seed) for seed in range(SEEDS)])
    results = [*single_results(pairs), *fitted_results(pairs, outside)]
    results += [*people_results(pairs), *published_results(), *split_results(pairs)]
    if options.surprise:
        results += surprise_results(pairs, options.surprise)
    model = fitted_model(pairs, outside, weights)
    results += [row for name in LINKAGES for row in class_results(model, embed, name)]
    embed.keep()
    if options.fit:
        FITTED.write_text(json.dumps(as_json(model, results), indent=1) + "\n", encoding="utf-8")
    write_results("validity_pairs", results)


def read_pairs(rows: Sequence[Row], embed: Embedder, weights: WordWeights) -> Pairs:
    answers = [(row["generation_0"], row["generation_1"]) for row in rows]
    embed(
        [text for row, both in zip(rows, answers, strict=True) for text in (row["prompt"], *both)]
    )
    return Pairs(
        same=np.array([float(row["similar"]) for row in rows]),
        features=np.array(
            [
                pair_features(row["prompt"], both, embed, weights)[0, 1]
                for row, both in zip(rows, answers, strict=True)
            ]
        ),
        prompts=[row["prompt"] for row in rows],
        people=[row["labeler"] for row in rows],
        words=np.array([np.mean([len(text.split()) for text in both]) for both in answers]),
        is_test=np.array([row["orig_split"] == "val" for row in rows]),
    )


def fit(features: Array, same: Array) -> tuple[float, Array, Array]:
    """Logistic regression with an L2 penalty on standardised features.

    Intercept, coefficients and what stands in for an undefined feature: its mean.
    """
    from sklearn.linear_model import LogisticRegression

    fill = np.nanmean(features, axis=0)
    filled = np.where(np.isnan(features), fill, features)
    centre, scale = filled.mean(axis=0), filled.std(axis=0)
    found = LogisticRegression(C=PENALTY, max_iter=1000).fit((filled - centre) / scale, same)
    coefficients = found.coef_[0] / scale
    return float(found.intercept_[0] - coefficients @ centre), coefficients, fill


def out_of_fold(features: Array, pairs: Pairs, seed: int) -> Array:
    """Each pair's probability by a model fitted to other prompts."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    p = np.full(len(pairs.same), np.nan)
    for train, test in folds.split(features, pairs.same, pairs.prompts):
        p[test] = predicted(fit(features[train], pairs.same[train]), features[test])
    return p


def predicted(model: tuple[float, Array, Array], features: Array) -> Array:
    intercept, coefficients, fill = model
    filled = np.where(np.isnan(features), fill, features)
    return np.asarray(1 / (1 + np.exp(-(intercept + filled @ coefficients))), dtype=np.float64)


def fitted_model(pairs: Pairs, outside: Array, weights: WordWeights) -> EquivalenceModel:
    """The model of all pairs; its threshold calls as many pairs the same as people did."""
    threshold = float(np.mean([np.quantile(p, 1 - pairs.same.mean()) for p in outside]))
    intercept, coefficients, fill = fit(pairs.features, pairs.same)
    return EquivalenceModel(
        intercept,
        coefficients=dict(zip(FEATURES, coefficients.tolist(), strict=True)),
        fill=dict(zip(FEATURES, fill.tolist(), strict=True)),
        threshold=round(threshold, 3),
        weights=weights,
    )


def auc(same: Array, value: Array) -> float:
    """P(a same pair has the higher value), ties half; pairs without a value are left out."""
    from sklearn.metrics import roc_auc_score

    there = ~np.isnan(value)
    return float(roc_auc_score(same[there], value[there]))


def single_results(pairs: Pairs) -> Iterator[Row]:
    for i, name in enumerate(FEATURES):
        value = pairs.features[:, i]
        there = int((~np.isnan(value)).sum())
        yield result("human_pairs", name, "auc", auc, pairs.same, value[None], there, False)


def fitted_results(pairs: Pairs, outside: Array) -> Iterator[Row]:
    """On unseen prompts: means over seeds, spreads by resampling prompts."""
    said, short = pairs.same, pairs.words < 150
    named = partial(result, "human_pairs", "same_answer_probability", fitted=True)
    for name, statistic in {
        "auc": auc,
        "brier": lambda y, p: float(np.mean((p - y) ** 2)),
        "calibration_error": calibration_error,
        "accuracy_at_threshold": at_threshold,
    }.items():
        yield named(name, statistic, said, outside, len(said))
    for name, kept in {"auc_below_150_words": short, "auc_from_150_words": ~short}.items():
        yield named(name, auc, said[kept], outside[:, kept], int(kept.sum()))
    within = []
    for person in sorted(set(pairs.people)):
        kept = np.array(pairs.people) == person
        within.append(named(f"auc_{person}", auc, said[kept], outside[:, kept], int(kept.sum())))
    values = [row["value"] for row in within]
    mean, spread = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    yield row_of(
        "human_pairs", "same_answer_probability", "auc_within_person", mean, spread, 8, True
    )
    yield from within


def people_results(pairs: Pairs) -> Iterator[Row]:
    """The share of pairs that each person called the same.

    Pairs were dealt out at random, but most of the last person's are the split 'val'.
    """
    for person in sorted(set(pairs.people)):
        said = pairs.same[np.array(pairs.people) == person]
        error = said.std(ddof=1) / math.sqrt(len(said))
        yield row_of("human_pairs", person, "share_same", said.mean(), error, len(said), False)


def published_results() -> Iterator[Row]:
    """What NoveltyBench's authors print for the 100 pairs of their 'val' split, half of them same.

    Its repository, plots/roc.json. Their classifier was fitted to the split 'train'.
    """
    for metric, value, fitted in (
        ("bleu", 0.6604, False),
        ("rouge_1", 0.6768, False),
        ("bert_score", 0.6768, False),
        ("gpt_4o_mini", 0.7636, False),
        ("deberta_v3_large_fine_tuned", 0.812, True),
    ):
        yield row_of("val_split_100", metric, "auc_published", value, "", 100, fitted)


def split_results(pairs: Pairs) -> Iterator[Row]:
    """The same division for this model: fitted to 'train', tested on what is here of 'val'."""
    train, test = pairs.of(~pairs.is_test), pairs.of(pairs.is_test)
    p = predicted(fit(train.features, train.same), test.features)[None]
    n = len(test.same)
    yield result("val_split", "same_answer_probability", "auc", auc, test.same, p, n, True)


def surprise_results(pairs: Pairs, file: Path) -> Iterator[Row]:
    """What a language model adds, on the pairs that it has read."""
    read = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    of = [row["row"] for row in read]
    some = pairs.of(of)
    evidence = {
        "bits_saved_a_token": [(row["alone"] - row["given"]) / row["tokens"] for row in read],
        "log_odds_of_yes": [row["yes"] for row in read],
    }
    named = partial(result, "human_pairs_read_by_smollm2", statistic="auc", compute=auc)
    for name, values in evidence.items():
        yield named(name, same=some.same, values=np.array([values]), n=len(of), fitted=False)
    with_it = np.column_stack([some.features, *evidence.values()])
    for name, features in (("without_it", some.features), ("with_it", with_it)):
        p = np.stack([out_of_fold(features, some, seed) for seed in range(SEEDS)])
        yield named(name, same=some.same, values=p, n=len(of), fitted=True)


def calibration_error(same: Array, p: Array, bins: int = 10) -> float:
    """Mean |said − happened| over ten bins of equal numbers of pairs."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    gaps = [len(part) * abs(float(p[part].mean() - same[part].mean())) for part in parts]
    return sum(gaps) / len(p)


def at_threshold(same: Array, p: Array) -> float:
    """Share of pairs told right where as many are called the same as people did."""
    return float(np.mean((p >= np.quantile(p, 1 - same.mean())) == (same > 0)))


def class_results(model: EquivalenceModel, embed: Embedder, linkage: str) -> Iterator[Row]:
    """How well classes agree with given ones, mean over sets of answers."""
    from sklearn.metrics import adjusted_rand_score, v_measure_score

    for dataset, sets in (
        ("socialmuse_20_ideas", list(use_sets(20))),
        ("human_responses", list(answer_sets("noveltybench/human_responses.jsonl"))),
        ("gemini", list(answer_sets("noveltybench/gemini15pro_curated_generations.jsonl.gz"))),
    ):
        found = []
        for prompt, texts, gold in sets:
            p = same_answer_probabilities(prompt, texts, embed, model)
            classes = linked(p, model.threshold, linkage)
            found.append(
                (
                    adjusted_rand_score(gold, classes),
                    v_measure_score(gold, classes),
                    len(set(classes)) - len(set(gold)),
                    len(set(gold)),
                )
            )
        rand, v, bias, true = np.array(found, dtype=np.float64).T
        correlation = np.corrcoef(bias + true, true)[0, 1]
        for name, values in {
            "adjusted_rand": rand,
            "v_measure": v,
            "classes_too_many": bias,
        }.items():
            spread = values.std(ddof=1) / math.sqrt(len(values))
            yield row_of(
                dataset, f"classes_{linkage}", name, values.mean(), spread, len(sets), True
            )
        yield row_of(
            dataset,
            f"classes_{linkage}",
            "distinct_k_correlation",
            correlation,
            "",
            len(sets),
            True,
        )


def linked(p: Array, threshold: float, linkage: str) -> list[int]:
    """Classes by psplit's way (average) and by others, in the order of the answers."""
    if linkage == "average":
        return same_answer_classes(p, threshold)
    pick = {"first": lambda met: met[0], "any": max, "all": min}[linkage]
    members: list[list[int]] = []
    for i, row in enumerate(p):
        home = next((group for group in members if pick(row[group]) >= threshold), None)
        members.append([i]) if home is None else home.append(i)
    number = {answer: c for c, group in enumerate(members) for answer in group}
    return [number[i] for i in range(len(p))]


def use_sets(size: int, a_object: int = 40) -> Iterator[tuple[str, list[str], list[int]]]:
    """Ideas for one object in a random order, and the buckets of the first of two people."""
    rng = np.random.default_rng(0)
    rows = list(data("aut/socialmuse_human_buckets.jsonl.gz"))
    for item in sorted({row["object"] for row in rows}):
        of_item = [row for row in rows if row["object"] == item]
        for _ in range(a_object):
            chosen = [of_item[i] for i in rng.choice(len(of_item), size, replace=False)]
            prompt = f"What are creative uses for a {item.replace('_', ' ')}?"
            yield (
                prompt,
                [row["idea"] for row in chosen],
                [row["bucket_annotator1"] for row in chosen],
            )


def answer_sets(name: str) -> Iterator[tuple[str, list[str], list[int]]]:
    for row in data(name):
        yield row["prompt"], row["generations"], row["partition"]


def result(
    dataset: str,
    metric: str,
    statistic: str,
    compute: Callable[[Array, Array], float],
    same: Array,
    values: Array,
    n: int,
    fitted: bool,
) -> Row:
    """The statistic's mean over repeats of `values` (repeats, n), and its standard error.

    By resampling pairs: a prompt has one.
    """
    rng = np.random.default_rng(0)
    mean = float(np.mean([compute(same, repeat) for repeat in values]))
    again = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(same), size=len(same))
        if 0 < same[chosen].mean() < 1:
            again.append(compute(same[chosen], values[0][chosen]))
    return row_of(dataset, metric, statistic, mean, float(np.std(again)), n, fitted)


def as_json(model: EquivalenceModel, results: Sequence[Row]) -> dict[str, Any]:
    """The model, and how well it does where it was not fitted."""
    validated = {
        row["statistic"]: row["value"]
        for row in results
        if (row["dataset"], row["metric"]) == ("human_pairs", "same_answer_probability")
        and "annotator" not in row["statistic"]
    }
    return {
        "format": 1,
        "fitted_to": "NoveltyBench, 770 pairs of answers; benchmarks/validity_pairs.py",
        "embeddings": "all-MiniLM-L6-v2",
        "cross_validated": {"folds": FOLDS, "by": "prompt", "seeds": SEEDS, **validated},
        "threshold": model.threshold,
        "intercept": model.intercept,
        "coefficients": dict(model.coefficients),
        "fill": dict(model.fill),
        "weights": {
            "texts": model.weights.texts,
            "rare": model.weights.rare,
            "frequencies": dict(model.weights.frequencies),
        },
    }


if __name__ == "__main__":
    main()
