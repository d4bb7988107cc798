"""Agreement, against other libraries, published examples and stored verdicts of real judges."""

import math
from collections import Counter, defaultdict
from itertools import combinations
from statistics import fmean

import evalica
import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import cohen_kappa_score

from psplit_eval.reliability import (
    cohen_kappa,
    correlation,
    fleiss_kappa,
    gold_accuracy,
    intraclass_correlation,
    krippendorff_alpha,
)
from psplit_eval.resampling import bca_limits

NAN = math.nan


def test_accuracy_by_hand():
    first = ["1", "1", "2", None, "1", None]
    swapped = ["1", "2", "2", "1", None, None]
    gold = ["1", "1", "1", "1", "1", "1"]
    found = gold_accuracy(first, swapped, gold)
    assert found.first.value == 3 / 6
    assert found.swapped.value == 2 / 6
    assert found.average.value == pytest.approx(5 / 12)
    assert found.both.value == 1 / 6
    assert (found.same.value, found.same.n) == (2 / 3, 3)  # of those with both verdicts
    assert (found.missing_first, found.missing_swapped, found.missing_both) == (2, 2, 1)
    assert (found.items, found.kappa.n) == (6, 3)


def test_a_judge_without_a_verdict_is_right_about_nothing():
    found = gold_accuracy([None] * 6, [None] * 6, ["1"] * 6)
    assert (found.average.value, found.both.value) == (0, 0)
    assert math.isnan(found.same.value)
    assert math.isnan(found.kappa.value)
    assert found.missing_both == 6


def test_no_items_and_unequal_numbers():
    assert math.isnan(gold_accuracy([], [], []).average.value)
    with pytest.raises(ValueError, match="got 1 and 2 for 1 gold"):
        gold_accuracy(["1"], ["1", "2"], ["1"])


labels = st.sampled_from("abc")


@settings(max_examples=60)
@given(st.lists(st.tuples(labels, labels), min_size=2, max_size=30))
def test_cohens_kappa_is_scikit_learns(pairs):
    a, b = zip(*pairs, strict=True)
    found = cohen_kappa(a, b, resamples=2).value
    if len({*a, *b}) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(a, b))


def test_what_is_missing_stays_out_of_kappa():
    a, b = [*"aabbab", None, "a", None], [*"abbbaa", "a", None, None]
    found = cohen_kappa(a, b)
    assert found == cohen_kappa(a[:6], b[:6])
    assert found.n == 6
    assert math.isnan(cohen_kappa("aaaaaa", "aaaaaa").value)  # no variation
    assert math.isnan(cohen_kappa([], []).value)


# Fleiss 1971, as in Wikipedia's 'Fleiss' kappa': 10 subjects, 14 raters, 5 categories
FLEISS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def test_fleiss_example():
    ratings = [[c for c, n in enumerate(row) for _ in range(n)] for row in FLEISS]
    assert fleiss_kappa(ratings).value == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_wants_as_many_ratings_of_every_item():
    with pytest.raises(ValueError, match="use krippendorff_alpha"):
        fleiss_kappa([["a", "b"], ["a", "b", "a"]])
    with pytest.raises(ValueError, match="use krippendorff_alpha"):
        fleiss_kappa([["a", "b"], ["a", None]])
    assert math.isnan(fleiss_kappa([["a", "a"]] * 6).value)
    assert math.isnan(fleiss_kappa([]).value)


# Krippendorff 2011, 'Computing Krippendorff's Alpha-Reliability', example C: four observers
OBSERVERS = [
    (1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3),
    (NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN),
]


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_krippendorffs_own_example(level, alpha):
    found = krippendorff_alpha(list(zip(*OBSERVERS, strict=True)), level)
    assert found.value == pytest.approx(alpha, abs=6e-4)
    assert found.n == 11  # one item has a single rating
    assert found.ci_low < found.value < found.ci_high <= 1


scores = st.sampled_from([1.0, 2.0, 3.5, 7.0, None])
tables = st.lists(st.lists(scores, min_size=3, max_size=3), min_size=2, max_size=15)
levels = pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])


@levels
@settings(max_examples=40)
@given(tables)
def test_alpha_is_that_of_two_libraries(level, ratings):
    pairable = [row for row in ratings if sum(value is not None for value in row) > 1]
    found = krippendorff_alpha(ratings, level, resamples=2)
    if len({v for row in pairable for v in row if v is not None}) < 2:
        assert math.isnan(found.value)  # evalica says 1
        return
    data = np.array(ratings, dtype=float).T
    assert found.value == pytest.approx(evalica.alpha(pd.DataFrame(data), level).alpha)
    expected = krippendorff.alpha(reliability_data=data, level_of_measurement=level)
    assert found.value == pytest.approx(expected)
    assert found.n == len(pairable)


@levels
def test_an_interval_of_alpha_holds_the_truth_as_often_as_it_says(level):
    """Three raters who say the truth half of the time, and one of two values else: α is 0.25."""
    rng = np.random.default_rng(0)

    def item():
        truth = rng.integers(0, 2)
        return [int(truth) if rng.random() < 0.5 else int(rng.integers(0, 2)) for _ in range(3)]

    found = [krippendorff_alpha([item() for _ in range(60)], level, 300) for _ in range(100)]
    held = sum(one.ci_low <= 0.25 <= one.ci_high for one in found)
    assert held >= 88  # 95 % of 100: fewer in 0.4 % of all cases


# By the version that summed all coincidences anew for every resample and every item left out
ALPHAS = {
    "nominal": (0.743421052631579, 0.31575231477935206, 1.0),
    "ordinal": (0.8153875037548813, 0.22378692837333905, 0.9972722605558312),
    "interval": (0.8491071428571428, 0.2500873496420034, 1.0),
}


@levels
def test_intervals_are_those_of_all_coincidences(level):
    found = krippendorff_alpha(list(zip(*OBSERVERS, strict=True)), level)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(ALPHAS[level], abs=1e-10)


@levels
@pytest.mark.parametrize("size", [1, 3])
def test_clusters_are_drawn_and_left_out_as_a_whole(level, size):
    """α of each resample, and without each cluster, by another library."""
    rng = np.random.default_rng(3)
    docs = rng.integers(1, 5, (8, size, 1)) + rng.integers(0, 3, (8, size, 3)) / 2

    def alpha(rows):
        data = rows.reshape(-1, 3).T
        return krippendorff.alpha(reliability_data=data, level_of_measurement=level)

    draws = np.random.Generator(np.random.SFC64(0))
    drawn = np.array([alpha(docs[draws.integers(0, 8, 8)]) for _ in range(200)])
    without = np.array([alpha(np.delete(docs, doc, axis=0)) for doc in range(8)])
    found = krippendorff_alpha(
        docs.reshape(-1, 3).tolist(),
        level,
        200,
        [f"doc {n}" for n in range(8) for _ in range(size)],
    )
    whole = alpha(docs)
    drawn[np.abs(drawn - whole) < 1e-9] = whole  # what is equal but for rounding
    expected = whole, *bca_limits(whole, drawn, without)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(expected, abs=1e-10)
    assert found.n == 8


@levels
@settings(max_examples=30)
@given(tables)
def test_clusters_of_one_are_no_clusters(level, ratings):
    each = [f"item {n}" for n in range(len(ratings))]
    found, plain = (krippendorff_alpha(ratings, level, 50, c) for c in (each, None))
    assert vars(found) == pytest.approx(vars(plain), nan_ok=True)


@levels
@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(scores, min_size=3, max_size=3))))
def test_alpha_itself_does_not_depend_on_clusters(level, rows):
    of, ratings = [cluster for cluster, _ in rows], [row for _, row in rows]
    found = krippendorff_alpha(ratings, level, 2, of)
    assert found.value == pytest.approx(krippendorff_alpha(ratings, level, 2).value, nan_ok=True)
    rated = [sum(value is not None for value in row) > 1 for row in ratings]
    assert found.n == len({cluster for cluster, is_in in zip(of, rated, strict=True) if is_in})


def test_every_item_has_a_cluster():
    with pytest.raises(ValueError, match="a cluster for each of 2 items, got 1"):
        krippendorff_alpha([[1, 2], [2, 2]], clusters=["doc"])


@levels
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e9 + 0.1])
def test_without_variation_alpha_is_undefined(level, value):
    same = [[value] * 3] * 7
    assert math.isnan(krippendorff_alpha(same, level).value)
    found = krippendorff_alpha([*same, [value, value, value + 1]], level)
    assert found.value == pytest.approx(0)  # as many pairs differ as by chance
    assert math.isnan(found.ci_low)  # undefined without the one item that differs


def test_numbers_far_from_zero_are_as_good_as_others():
    rng = np.random.default_rng(4)
    near = (rng.integers(0, 9, (30, 1)) + rng.integers(0, 3, (30, 2))) / 8
    plain, far = (krippendorff_alpha(x.tolist(), "interval", 200) for x in (near, near + 2**30))
    assert vars(far) == pytest.approx(vars(plain), abs=1e-12)


def test_judges_who_differ_by_doc_are_as_uncertain_as_docs_are_few():
    """24 docs of 8 samples: what two judges add differs by doc, and less by sample; α is 0.5."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(24), 8)
    held = Counter()
    for _ in range(200):
        truth = rng.normal(0, 1, 24)[of] + rng.normal(0, 0.5, 192)
        given = truth[:, None] + rng.normal(0, 1, (24, 2))[of] + rng.normal(0, 0.5, (192, 2))
        for name, clusters in (("docs", of.tolist()), ("samples", None)):
            found = krippendorff_alpha(given.tolist(), "interval", 300, clusters)
            held[name] += found.ci_low <= 0.5 <= found.ci_high
    assert held["docs"] >= 176  # of 200
    assert held["samples"] < 150


def test_numbers_are_wanted_where_order_matters():
    with pytest.raises(ValueError, match="'good': expected a finite number"):
        krippendorff_alpha([["good", "bad"]], "ordinal")
    with pytest.raises(ValueError, match="inf: expected a finite number"):
        correlation([1, math.inf], [1, 2])
    with pytest.raises(ValueError, match="'good'"):
        intraclass_correlation([["good", 3]])
    assert krippendorff_alpha([["good", "bad"], ["bad", "bad"]]).value == pytest.approx(0)


# Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(1,1) = .17
SHROUT = [(9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7)]


def test_shrout_and_fleiss_example():
    assert intraclass_correlation(SHROUT).value == pytest.approx(0.166, abs=5e-4)


def test_unequal_numbers_of_scores_by_hand():
    found = intraclass_correlation([(1, 3), (4, 4, 7), (9, None), ()])
    between = 2 * (2 - 3.8) ** 2 + 3 * (5 - 3.8) ** 2  # one degree of freedom
    within = (1 + 1 + 1 + 1 + 4) / 3
    size = 5 - (4 + 9) / 5
    assert found.value == pytest.approx((between - within) / (between + (size - 1) * within))
    assert found.n == 2


@pytest.mark.parametrize("ratings", [[(1, 2)], [(1,), (2,)], [], [(3, 3)] * 6])
def test_without_variation_or_repeats_consistency_is_undefined(ratings):
    assert math.isnan(intraclass_correlation(ratings).value)


def test_a_judge_that_repeats_itself_is_wholly_consistent():
    found = intraclass_correlation([(n, n, n) for n in range(8)])
    assert found.value == 1
    assert math.isnan(found.ci_low)  # no variation among resamples


def test_the_share_of_variance_between_items_is_found():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        ratings = rng.normal(size=(40, 1)) + rng.normal(size=(40, 3))
        found = intraclass_correlation(ratings.tolist(), resamples=300)
        held += found.ci_low <= 0.5 <= found.ci_high
    assert held >= 88


EXPECTED = {
    "pearson": lambda x, y: scipy_stats.pearsonr(x, y).statistic,
    "spearman": lambda x, y: scipy_stats.spearmanr(x, y).statistic,
    "kendall": lambda x, y: scipy_stats.kendalltau(x, y).statistic,
}
kinds = pytest.mark.parametrize("kind", list(EXPECTED))


@kinds
def test_correlations_are_scipys(kind):
    rng = np.random.default_rng(7)
    x = rng.integers(0, 6, 40).astype(float)
    y = x + rng.normal(0, 2, 40).round()
    gaps = [None, *x, 3.0, NAN], [1.0, *y, None, 2.0]
    found = correlation(*gaps, kind)
    assert found.value == pytest.approx(EXPECTED[kind](x, y))
    assert found.n == 40
    interval = scipy_stats.bootstrap(
        (x, y), EXPECTED[kind], paired=True, vectorized=False, n_resamples=2000, rng=1
    ).confidence_interval
    # both BCa; psplit's is expanded for few items, so it is a little wider
    assert interval.low - 0.05 < found.ci_low < interval.low + 0.01
    assert interval.high - 0.01 < found.ci_high < interval.high + 0.05


@kinds
def test_undefined_correlations(kind):
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3], kind).value)
    assert math.isnan(correlation([1], [2], kind).value)
    assert math.isnan(correlation([], [], kind).value)
    four = correlation([1, 2, 3, 4], [1, 2, 4, 3], kind)
    assert four.value > 0
    assert math.isnan(four.ci_low)


@kinds
@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=5, max_size=12))
def test_correlations_mirror(kind, pairs):
    x, y = zip(*pairs, strict=True)
    forth, back = correlation(x, y, kind, 50), correlation(y, x, kind, 50)
    assert forth.value == pytest.approx(back.value, nan_ok=True)
    assert forth.ci_low == pytest.approx(back.ci_low, nan_ok=True)
    turned = correlation(x, [-v for v in y], kind, 50)
    assert turned.value == pytest.approx(-forth.value, nan_ok=True)


def test_where_resamples_are_often_undefined_there_is_no_interval():
    found = correlation([0, 0, 0, 0, 1], [1, 2, 3, 4, 5])
    assert found.value == pytest.approx(EXPECTED["spearman"]([0, 0, 0, 0, 1], [1, 2, 3, 4, 5]))
    assert math.isnan(found.ci_low)  # 33 % of resamples do not vary


def counted(text):
    """The count of '81 / 100 = 81.0%'."""
    return int(text.split("/")[0])


def test_statistics_of_stored_judges_are_reproduced(real_rows):
    """284 files of LLMBar's authors (Zeng et al. 2024): six judges, several strategies each."""
    files = defaultdict(list)
    for row in real_rows("llmbar/judge_verdicts.jsonl.gz"):
        files[row["id"].rsplit("-", 1)[0], row["evaluator"], row["strategy"]].append(row)
    tested = Counter()
    for said in real_rows("llmbar/judge_statistics.jsonl.gz"):
        rows = files[said["subset"], said["evaluator"], said["strategy"]]
        first, swapped = ([row[name] for row in rows] for name in ("winner", "winner_swapped"))
        found = gold_accuracy(first, swapped, [str(row["label"]) for row in rows], resamples=2)
        n = said["n"]
        assert found.items == n
        assert found.first.value * n == pytest.approx(counted(said["correct_False"]))
        assert found.swapped.value * n == pytest.approx(counted(said["correct_True"]))
        assert found.both.value * n == pytest.approx(counted(said["correct_both"]))
        average = float(said["correct_average"].rstrip("%"))
        assert 100 * found.average.value == pytest.approx(average)
        # to the authors two unparsed verdicts are the same one
        same = round(found.same.value * found.same.n) + found.missing_both
        assert same == counted(said["equal"])
        tested["files"] += 1
        if found.missing_first + found.missing_swapped == 0:
            expected = said["kappa_agreement"]
            assert found.kappa.value == pytest.approx(expected, abs=1e-9, nan_ok=True)
            tested["kappa"] += 1
    assert tested == {"files": 284, "kappa": 219}


def test_agreement_of_creative_writing_experts(real_rows):
    """Chakrabarty et al. 2024: three experts, 14 tests, 48 stories."""
    said = defaultdict(list)
    for row in real_rows("ttcw/expert_annotations.jsonl.gz"):
        said[row["ttcw_idx"], row["story_id"]].append(row["binary_verdict"])
    by_test = defaultdict(list)
    for (test, _), verdicts in said.items():
        by_test[test].append(verdicts)
    assert len(by_test) == 14
    for ratings in [*by_test.values(), list(said.values())]:
        fleiss, alpha = fleiss_kappa(ratings, 2), krippendorff_alpha(ratings, resamples=2)
        assert fleiss.value == pytest.approx(by_pairs(ratings)[0])
        assert alpha.value == pytest.approx(by_pairs(ratings)[1])
    overall = fleiss_kappa(list(said.values()))
    assert overall.n == 672
    assert 0.3 < overall.ci_low < overall.value < overall.ci_high < 0.5


def by_pairs(ratings):
    """Fleiss' κ and α of Yes and No, from pairs of raters and the share of Yes alone."""
    differ = fmean(x != y for row in ratings for x, y in combinations(row, 2))
    every = [value for row in ratings for value in row]
    yes, n = every.count("Yes") / len(every), len(every)
    chance = 2 * yes * (1 - yes)
    return 1 - differ / chance, 1 - differ / (chance * n / (n - 1))


def test_llm_judges_of_stories_against_people(real_rows):
    """HANNA (Chhun et al. 2024): 20 judges and prompts, 6 criteria, 1056 stories."""
    rows = list(real_rows("hanna/human_vs_llm_scores.jsonl.gz"))
    assert len(rows[0]["llm_judges"]) == 20
    for judge, kind in (("Beluga-13B prompt1", "kendall"), ("ChatGPT prompt4", "spearman")):
        people, scores = (
            [row["human"]["Coherence"] for row in rows],
            [row["llm_judges"][judge]["Coherence"] for row in rows],
        )
        found = correlation(scores, people, kind, resamples=200)
        assert found.value == pytest.approx(EXPECTED[kind](scores, people))
        assert found.n == 1056
        assert found.ci_high - found.ci_low == pytest.approx(4 / math.sqrt(1056), rel=0.5)
