"""The A/A study: its designs, its tests, its committed numbers, and a short form of itself."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from psplit_eval.store import Metric, Sample, Store

ROOT = Path(__file__).parent.parent.parent


def _load_script():
    spec = importlib.util.spec_from_file_location("benchmarks_aa", ROOT / "benchmarks" / "aa.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


aa = _load_script()
Cell = aa.Cell


@pytest.fixture(scope="module")
def data():
    return aa.load()


@pytest.fixture(scope="module")
def results():
    return aa.read_results()


def rate(data, cell, metric, test, repetitions=1500):
    p = aa.p_values(data, cell, repetitions, [metric], [test])
    return float((p < aa.ALPHA).mean())


@pytest.mark.parametrize(
    ("cell", "metric"),
    [
        (Cell("split", 30, 1), "accuracy_avg"),
        (Cell("split", 120, 8), "entropy_bits"),
        (Cell("swap", 30, 16), "accuracy_avg"),
        (Cell("swap", 60, 8), "tokens_mean"),
        (Cell("swap", 240, 16), "entropy_bits"),
    ],
)
def test_our_comparison_keeps_its_level_on_real_samples(data, cell, metric):
    assert 0.03 <= rate(data, cell, metric, aa.DOCS) <= 0.065


def test_counting_samples_as_questions_fails_on_different_docs(data):
    cell = Cell("halves", 60, 16)
    assert rate(data, cell, "accuracy_avg", aa.NAIVE_UNPAIRED) >= 0.30
    assert rate(data, cell, "accuracy_avg", aa.DOCS_UNPAIRED) <= 0.065


@pytest.mark.parametrize(("metric", "least"), [("accuracy_avg", 0.09), ("entropy_bits", 0.15)])
def test_counting_pairs_of_samples_as_questions_fails_between_modes(data, metric, least):
    cell = Cell("swap", 60, 16)
    assert rate(data, cell, metric, aa.NAIVE) >= least
    assert rate(data, cell, metric, aa.DOCS) <= 0.065


def test_giving_up_the_pairing_costs_power_not_false_positives(data):
    assert rate(data, Cell("split", 60, 8), "accuracy_avg", aa.NAIVE_UNPAIRED) <= 0.025


@pytest.mark.parametrize("unit", ["docs", "samples"])
@pytest.mark.parametrize("metric", aa.METRICS[:2])
def test_the_tests_are_scipys(data, unit, metric):
    a, b = data[metric][:, 0, :40], data[metric][:, 1, :40]
    left, right = (x[0].mean(1) if unit == "docs" else x[0].ravel() for x in (a, b))
    paired = stats.ttest_rel(right, left).pvalue
    if (metric, unit) == ("accuracy_avg", "samples"):  # numbers 0 and 1: McNemar's mid-p
        gained, lost = int((right > left).sum()), int((right < left).sum())
        coins = stats.binom(gained + lost, 0.5)
        paired = 2 * coins.cdf(min(gained, lost)) - coins.pmf(min(gained, lost))
    welch = stats.ttest_ind(right, left, equal_var=False).pvalue
    assert aa.Test(unit, True).p(metric, a, b) == pytest.approx(paired)
    assert aa.Test(unit, False).p(metric, a, b) == pytest.approx(welch)


def test_an_unpaired_ratio_has_its_standard_error_from_the_jackknife(data):
    arms = [
        data["entropy_bits"][:, mode, half].sum(2)
        for mode, half in ((0, slice(90)), (1, slice(None)))
    ]
    gap, variance = 0.0, 0.0
    for sign, (up, down) in zip((-1, 1), arms, strict=True):
        left_out = (up.sum() - up) / (down.sum() - down)
        gap += sign * up.sum() / down.sum()
        variance += (len(up) - 1) * left_out.var()
    expected = 2 * stats.norm.sf(abs(gap) / math.sqrt(variance))
    found = aa.DOCS_UNPAIRED.p("entropy_bits", *(arm[..., None] for arm in arms))
    assert math.log(found) == pytest.approx(math.log(expected), rel=0.1, abs=0.05)


def test_paired_samples_of_accuracy_are_mcnemars_test(data):
    a, b = data["accuracy_avg"][:, 0], data["accuracy_avg"][:, 1]
    gained, lost = ((x[0] > y[0]).sum() for x, y in ((b, a), (a, b)))
    mcnemar = 2 * stats.norm.sf(abs(gained - lost) / math.sqrt(gained + lost))
    assert aa.NAIVE.p("accuracy_avg", a, b) == pytest.approx(mcnemar, rel=0.1)


@pytest.mark.parametrize("metric", aa.METRICS)
def test_with_one_sample_a_doc_the_unit_does_not_matter(data, metric):
    a, b = data[metric][:, 0, :, :1], data[metric][:, 1, :, :1]
    assert aa.DOCS.p(metric, a, b) == pytest.approx(aa.NAIVE.p(metric, a, b))


@pytest.mark.parametrize("metric", aa.METRICS)
def test_equal_means_are_equal_and_shift_every_sample_alike(data, metric):
    up, down = data[metric]
    ratios = up.sum((1, 2)) / down.sum((1, 2))
    assert ratios[2] == pytest.approx(ratios[3])
    assert ratios[0] != pytest.approx(ratios[1], rel=1e-6)
    shift = (up[2:] - up[:2]) / down[:2]
    assert shift.std((1, 2)) == pytest.approx(np.zeros(2), abs=1e-9)


def _members(where, n, k):
    return [np.broadcast_to(part, (n, k)) for part in where]


@pytest.mark.parametrize(
    ("design", "k"),
    [("split", 8), ("halves", 16), ("swap", 16), ("swap_equal_means", 8), ("real", 4)],
)
def test_designs_draw_what_they_say(design, k):
    n, rng = 30, np.random.default_rng(1)
    arms = [_members(where, n, k) for where in aa.DESIGNS[design](rng, 80, n, k)]
    triples = [set(zip(*(part.ravel().tolist() for part in arm), strict=True)) for arm in arms]
    docs = [set(arm[1].ravel().tolist()) for arm in arms]
    assert [len(t) for t in triples] == [n * k] * 2  # no sample twice in an arm
    assert not triples[0] & triples[1]
    assert [len(d) for d in docs] == [n, n]
    assert len(docs[0] & docs[1]) == (0 if design == "halves" else n)
    modes = set(zip(*(arm[0][:, 0].tolist() for arm in arms), strict=True))
    both = {"swap": {(0, 1), (1, 0)}, "swap_equal_means": {(2, 3), (3, 2)}, "real": {(0, 1)}}
    assert modes == both.get(design, {(0, 0)})


def test_an_undefined_p_claims_nothing():
    p = np.array([math.nan, 0.01, 0.2, math.nan])
    assert [found.tolist() for _, found in aa._rejections(p, 1)] == [[False, True, False, False]]
    assert [found.tolist() for _, found in aa._rejections(p, 2)] == [[True, False]] * 2


def test_the_shares_of_variance_are_those_of_simulated_samples():
    rng = np.random.default_rng(3)
    doc, by_mode = rng.normal(0, 2, (1, 4000, 1)), rng.normal(0, 1, (2, 4000, 1))
    mode = np.array([0, 1]).reshape(2, 1, 1)
    values = 5 + doc + mode + by_mode + rng.normal(0, 1.5, (2, 4000, 16))
    shares = aa.variance_shares(np.stack([values, np.ones_like(values)]))
    assert shares == pytest.approx(np.array([4, 0.5, 1, 2.25]) / 7.75, abs=0.03)


def test_the_extract_is_what_the_store_holds(tmp_path, monkeypatch):
    def sample(mode, doc, index):
        value = doc + index / 10
        return Sample(
            mode, aa.TASK, doc, index, "d", "r", "p", 1, 1, "x", None, (1,), "stop", 5,
            index + 1, value, value, None, 0.1, "now",
        )  # fmt: skip

    samples = [sample(m, d, i) for m in aa.MODES for d in range(3) for i in range(16)]
    samples[20] = replace(samples[20], error="lost")  # doc 1 of the first mode is incomplete
    right = [
        Metric(s.mode, s.task, s.doc_id, s.sample_idx, "correct", s.doc_id / 2) for s in samples
    ]
    with Store(tmp_path / "samples.sqlite") as store:
        store.add_samples(samples)
        store.replace_metrics(aa.TASK, right)
    monkeypatch.setattr(aa, "EXTRACT", tmp_path / "out.csv")
    assert aa.extract(tmp_path) == 2
    found = aa.load(tmp_path / "out.csv")
    assert found["accuracy_avg"][0, :2, :, 0].tolist() == [[0, 1], [0, 1]]
    assert found["tokens_mean"][0, 1, 0].tolist() == list(range(1, 17))
    assert found["entropy_bits"][0, 0, 1].tolist() == [2 + i / 10 for i in range(16)]


def test_the_extract_is_one_large_run(data):
    assert data["accuracy_avg"].shape[1:] == (4, 256, 16)
    assert set(np.unique(data["accuracy_avg"][0, :2])) == {0, 1}
    assert (data["tokens_mean"][0] >= 1).all()


@pytest.mark.parametrize(
    ("cell", "metric", "test"),
    [
        (Cell("split", 30, 4), "accuracy_avg", aa.DOCS),
        pytest.param(
            *(Cell("halves", 120, 16), "entropy_bits", aa.NAIVE_UNPAIRED), marks=pytest.mark.slow
        ),
        (Cell("swap", 60, 16), "tokens_mean", aa.NAIVE),
    ],
)
def test_the_committed_numbers_come_out_again(data, results, cell, metric, test):
    p = aa.p_values(data, cell, aa.REPETITIONS, [metric], [test])[:, 0, 0]
    wanted = {"design": cell.design, "n_docs": cell.n, "k_samples": cell.k, "metric": metric}
    (row,) = aa._found(results, test, family=1, **wanted)
    assert int(row["rejected"]) == int((p < aa.ALPHA).sum())
    assert int(row["undefined_p"]) == int(np.isnan(p).sum())


def test_holm_is_asked_about_the_whole_family():
    p = np.array([0.04, 0.9, 0.9, 0.01])
    assert [found.tolist() for _, found in aa._rejections(p, 2)] == [[True, True], [False, True]]


def test_every_committed_cell_is_there_and_ours_keeps_its_level(results):
    there = {
        (r["design"], int(r["n_docs"]), int(r["k_samples"]), int(r["family"])) for r in results
    }
    assert there == {(c.design, c.n, c.k, c.family) for c in [*aa.CELLS, *aa.FAMILY_CELLS]}
    for design in aa.TITLES:
        ours = aa._found(results, aa.COMPARED[design][0], design=design)
        single = [float(row["rate"]) for row in ours if row["family"] == "1"]
        family = [float(row["rate"]) for row in ours if row["correction"] == "Holm"]
        assert len(single) == 3 * len([c for c in aa.CELLS if c.design == design])
        assert len(family) == 3 * len([c for c in aa.FAMILY_CELLS if c.design == design])
        assert max(single + family) <= 0.06


def test_the_page_shows_the_committed_numbers(data, results):
    page = (ROOT / "docs" / "aa.md").read_text()
    single = aa.single_table(results, list(aa.TITLES))
    real = aa.single_table(results, ("real",))
    for lines in (aa.variance_table(data), single, aa.family_table(results), real):
        assert "\n".join(lines) in page
