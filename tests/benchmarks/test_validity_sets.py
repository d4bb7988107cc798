"""The study of diversity metrics on rated sets: statistics, models, committed numbers."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


def _load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


study = _load_script("validity_sets")
prefixes = _load_script("prefixes")


def committed(dataset, metric, statistic="auc"):
    return {
        row["task"]: float(row["value"])
        for row in study.read_results()
        if (row["dataset"], row["metric"], row["statistic"]) == (dataset, metric, statistic)
    }


def test_area_under_the_curve_by_hand():
    # of four pairs high-low: 3 > 1, 3 > 2, 2 = 2 (a half), 2 > 1
    assert study.auc(np.array([1, 1, 0, 0]), np.array([3, 2, 1, 2])) == 3.5 / 4
    assert np.isnan(study.auc(np.array([1, 1]), np.array([3, 2])))


def test_a_context_lies_in_one_fold_and_rated_ones_are_never_fitted_on():
    contexts = [f"context {i}" for i in range(400)]
    fitted = {c for c in contexts if study.is_fitted_on(c, rated=set(contexts[:200]))}
    assert not fitted & set(contexts[:200])
    assert 25 < len(fitted) < 75
    x = np.random.default_rng(3).normal(size=(400, 2))
    labels = (np.arange(400) // 4 % 2).astype(float)
    # by context the labels are a matter of chance: nothing is to be learned, also out of fold
    values = study.cross_validated(x, labels, [contexts[i // 4] for i in range(400)])
    assert 0.4 < study.auc(labels, values) < 0.6


def test_the_weights_are_those_of_the_features_as_they_are():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4000, 2)) * [1, 100] + [5, 50]
    y = (rng.random(4000) < 1 / (1 + np.exp(-(2 * (x[:, 0] - 5) - 0.01 * (x[:, 1] - 50))))).astype(
        int
    )
    weights, intercept = study.regression(x, y)
    assert weights == pytest.approx([2, -0.01], rel=0.15)
    assert abs(intercept) < 0.15


def test_lexical_metrics_on_one_task_are_as_committed(real_rows):
    rows = real_rows("diversity_eval/contest_200_human.jsonl.gz")
    sets = [study.AnswerSet(row, {}) for row in rows if row["task"] == "story_gen"]
    labels = np.array([s.row["label_value"] for s in sets])
    for name in ("div_bleu_4", "distinct_2"):
        values = np.array([study.LEXICAL[name](s) for s in sets])
        assert study.auc(labels, values) == pytest.approx(
            committed("contest_200", name)["story_gen"], abs=1e-3
        )


@pytest.mark.parametrize(("dataset", "best"), [("contest_200", 0.889), ("mcdiv_nuggets_200", 0.9)])
def test_the_committed_numbers_hold_what_the_docs_say(dataset, best):
    assert committed(dataset, "published SentBert")["mean"] == pytest.approx(best, abs=5e-4)
    fitted = committed(dataset, "content_diversity")["mean"]
    assert best < fitted < committed(dataset, "people")["mean"]


def test_lexical_metrics_are_shown_to_be_weak_where_words_are_controlled():
    assert committed("mcdiv_nuggets_200", "distinct_2")["mean"] < 0.6


def test_a_tree_sees_its_ancestors_only():
    tree = prefixes.Tree([7, 8])
    left = tree.add(tree.end, [1, 2])
    right = tree.add(tree.end, [3])
    assert tree.add(tree.end, [1, 2]) == left  # equal beginnings are one node
    assert tree.ids == [7, 8, 1, 2, 3]
    assert tree.depths == [0, 1, 2, 3, 2]
    assert tree.parents == [-1, 0, 1, 2, 1]
    assert [np.flatnonzero(row).tolist() for row in tree.seen()] == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 4],
    ]
    assert right == (4,)
    assert tree.add(4, []) == ()


@pytest.mark.slow
def test_the_fast_reference_measures_what_the_product_does(smollm2, real_rows):
    from psplit_eval.reference import ReferenceModel
    from psplit_eval.scoring import Chain
    from psplit_eval.surprise import foretold, layouts, mutual_bits

    exact, fast = prefixes.PrefixReference(exact=True), prefixes.PrefixReference()
    model = ReferenceModel()
    for _, row in zip(
        range(4), real_rows("diversity_eval/contest_200_human.jsonl.gz"), strict=False
    ):
        given = layouts(row["context"], row["responses"])
        expected = model.surprisals([Chain(*each) for each in given])
        found = exact.surprisals(given)
        for pieces, others in zip(found, expected, strict=True):
            for piece, other in zip(pieces, others, strict=True):
                assert piece == pytest.approx(other, abs=1e-3)
        rough = mutual_bits(foretold(fast.surprisals(given)))
        # bfloat16: 0.05 on average, where sets differ by 1.8 (standard deviations)
        assert rough == pytest.approx(mutual_bits(foretold(expected)), abs=0.3)
