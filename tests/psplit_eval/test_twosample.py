"""Two-sample tests, against direct sums, scikit-learn, scipy and nltk, and by simulation."""

import math
from itertools import product
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from scipy.stats import energy_distance
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut

from psplit_eval import twosample
from psplit_eval.diversity import tokenise
from psplit_eval.twosample import (
    bleu_findings,
    classifier_test,
    energy_kernel,
    gaussian_kernel,
    mean_off_diagonal,
    median_distance,
    paired_vectors,
    swap_matrices,
    swap_p_value,
    vector_findings,
    within_doc_distance,
)


def drawn(n, k, shift=0.0, d=6, seed=0, topic=1.0):
    """n docs, k + k samples around a topic of the doc; b's moved by `shift` along one direction."""
    rng = np.random.default_rng(seed)
    docs = []
    for _ in range(n):
        centre = topic * rng.normal(size=d)
        a, b = centre + rng.normal(size=(2, k, d))
        b[:, 0] += shift
        docs.append((a.astype(np.float32), b.astype(np.float32)))
    return docs


def by_measure(findings):
    return {finding.measure: finding for finding in findings}


def direct(kernel, left, right):
    """Mean of k over all pairs, by a double loop on distances."""
    return fmean(kernel(math.dist(x, y)) for x in left for y in right)


KERNELS = {
    "energy": (energy_kernel, lambda distance: -distance),
    "gaussian": (gaussian_kernel(0.7), lambda distance: math.exp(-(distance**2) / (2 * 0.7**2))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_matrix_is_that_of_a_double_loop(name, monkeypatch):
    monkeypatch.setattr(twosample, "_ROWS", 5)  # several blocks, and docs larger than a block
    docs = paired_vectors([*drawn(3, 2), *drawn(2, 4, seed=1), (np.eye(6)[:3], np.eye(6)[3:])])
    kernel, plain = KERNELS[name]
    (matrix,) = swap_matrices(docs, [kernel])
    for (i, one), (j, other) in product(enumerate(docs), repeat=2):
        expected = (
            direct(plain, one.a, other.a)
            - direct(plain, one.a, other.b)
            - direct(plain, one.b, other.a)
            + direct(plain, one.b, other.b)
        )
        assert matrix[i, j] == pytest.approx(expected, abs=1e-6)


def test_the_matrix_sums_to_the_energy_distance_of_scipy():
    """On a line: unit vectors of one dimension are 1 and −1 (scipy gives the root)."""
    docs = paired_vectors([([[1], [1], [-1]], [[-1], [-1], [1]]), ([[1], [1]], [[-1], [1]])])
    (matrix,) = swap_matrices(docs, [energy_kernel])
    a, b = (np.concatenate([getattr(doc, arm)[:, 0] for doc in docs]) for arm in "ab")
    weights = np.concatenate([np.full(len(doc.a), 1 / len(doc.a)) for doc in docs])
    assert matrix.sum() / 4 == pytest.approx(energy_distance(a, b, weights, weights) ** 2)


def test_a_swap_of_docs_only_moves_signs():
    docs = drawn(5, 3, shift=1.0)
    signs = np.array([1, -1, -1, 1, -1])
    swapped = [(a, b) if s > 0 else (b, a) for (a, b), s in zip(docs, signs, strict=True)]
    (matrix,) = swap_matrices(paired_vectors(docs), [energy_kernel])
    (other,) = swap_matrices(paired_vectors(swapped), [energy_kernel])
    np.testing.assert_allclose(other, matrix * np.outer(signs, signs), atol=1e-7)


def test_p_is_the_share_of_all_swaps_by_enumeration():
    (matrix,) = swap_matrices(paired_vectors(drawn(7, 2, shift=0.7)), [energy_kernel])
    values = [np.array(s) @ matrix @ np.array(s) for s in product((1, -1), repeat=7)]
    expected = np.mean([value >= values[0] - 1e-9 for value in values])
    assert 2 / 2**7 <= swap_p_value(matrix) == pytest.approx(expected)


def test_random_swaps_come_near_all_swaps(monkeypatch):
    (matrix,) = swap_matrices(paired_vectors(drawn(10, 2, shift=0.3, seed=2)), [energy_kernel])
    exact = swap_p_value(matrix)
    monkeypatch.setattr(twosample, "_EXACT_DOCS", 1)
    found = swap_p_value(matrix)
    assert found == pytest.approx(exact, abs=0.02)
    assert found == swap_p_value(matrix, seed=0) != swap_p_value(matrix, seed=1)


def test_the_least_p_counts_what_was_seen():
    matrix = np.ones((40, 40))  # every swap but that of all docs gives less
    assert swap_p_value(matrix, resamples=999) == 1 / 1000


@pytest.mark.parametrize("statistic", ["energy", "classifier"])
def test_p_is_not_too_small_too_often_where_modes_are_alike(statistic):
    """600 runs of 9 docs with strong topics: at 5 %, at most 0.05 + 3 standard errors are below."""
    small = 0
    for seed in range(1000, 1600):
        docs = paired_vectors(drawn(9, 3, seed=seed, topic=3.0))
        if statistic == "energy":
            p = swap_p_value(swap_matrices(docs, [energy_kernel])[0])
        else:
            p = classifier_test(docs).p
        small += p <= 0.05
    assert small / 600 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    assert small > 0  # it can be small


def test_alike_modes_are_at_a_distance_of_0_on_average():
    """Means of 60 runs: within 4 standard errors of 0, though the biased form is far above."""
    pooled, within, biased = [], [], []
    for seed in range(60):
        docs = paired_vectors(drawn(8, 3, seed=seed))
        (matrix,) = swap_matrices(docs, [energy_kernel])
        pooled.append(mean_off_diagonal(matrix))
        within.append(fmean(within_doc_distance(doc)[0] for doc in docs))
        biased.append(matrix.mean())
    for values in (pooled, within):
        assert abs(fmean(values)) < 4 * np.std(values) / math.sqrt(60)
    assert fmean(biased) > 10 * np.std(biased) / math.sqrt(60)


@pytest.mark.parametrize("name", KERNELS)
def test_the_distance_within_a_doc_is_that_of_a_double_loop(name):
    kernel, plain = KERNELS[name]
    (doc,) = paired_vectors(drawn(1, 4, shift=1))
    pairs = [(i, j) for i, j in product(range(4), repeat=2) if i != j]
    inner = sum(fmean(plain(math.dist(arm[i], arm[j])) for i, j in pairs) for arm in (doc.a, doc.b))
    value, bound = within_doc_distance(doc, kernel)
    between = direct(plain, doc.a, doc.b)
    assert value == pytest.approx(inner - 2 * between, abs=1e-6)
    assert bound == pytest.approx(-2 * between)


def test_the_bandwidth_is_the_median_of_all_pairs():
    docs = paired_vectors([([[1, 0]], [[0, 1]]), ([[-1, 0]], [[1, 0]])])
    # by hand: (1,0)-(0,1) √2, (1,0)-(−1,0) 2, (1,0)-(1,0) 0, √2, √2, 2
    assert median_distance(docs) == pytest.approx(math.sqrt(2))
    assert math.isnan(median_distance([]))


def test_arms_are_cut_to_equal_numbers_and_samples_without_direction_left_out():
    a = [[0, 0], [2, 0], [0, 3], [math.nan, 1]]
    b = [[0, 1], [5, 0], [1, 1]]
    (doc,) = paired_vectors([(a, b), ([[0, 0]], b), ([], b)])
    assert doc.a.tolist() == [[1, 0], [0, 1]]
    assert doc.b.tolist() == [[0, 1], [1, 0]]


def test_cost_is_bounded(monkeypatch):
    assert len(paired_vectors(drawn(twosample.DOCS_AT_MOST + 9, 1))) == twosample.DOCS_AT_MOST
    monkeypatch.setattr(twosample, "_SAMPLES_AT_MOST", 40)
    assert {len(doc.a) for doc in paired_vectors(drawn(5, 9))} == {4}
    with pytest.raises(ValueError, match="expected vectors of shape"):
        paired_vectors([([1.0, 0.0], [[1.0, 0.0]])])


def test_accuracies_are_those_of_ridge_regression_by_scikit_learn():
    docs = paired_vectors(drawn(12, 3, shift=1.0, d=4))
    samples = np.concatenate([arm for doc in docs for arm in (doc.a, doc.b)])
    labels = np.tile(np.repeat([1.0, -1.0], 3), 12)
    owner = np.repeat(np.arange(12), 6)
    right = np.empty(len(labels))
    for seen, held in LeaveOneGroupOut().split(samples, labels, owner % twosample.FOLDS):
        spread = np.cov(samples[seen].T, bias=True)
        penalty = twosample.PENALTY * np.trace(spread) / len(spread) * len(seen)
        model = Ridge(alpha=penalty).fit(samples[seen], labels[seen])
        right[held] = np.sign(model.predict(samples[held])) == labels[held]
    expected = right.reshape(12, 6).mean(axis=1)
    np.testing.assert_allclose(classifier_test(docs).accuracies, expected)
    assert 0.5 < expected.mean() < 1


def test_a_swap_of_labels_is_a_classifier_of_its_own():
    """p by exact enumeration, the arms being swapped before everything else."""
    docs = drawn(6, 2, shift=0.8, d=3, seed=4)
    means = []
    for signs in product((1, -1), repeat=6):
        swapped = [(a, b) if s > 0 else (b, a) for (a, b), s in zip(docs, signs, strict=True)]
        means.append(classifier_test(paired_vectors(swapped)).accuracies.mean())
    expected = np.mean([mean >= means[0] - 1e-9 for mean in means])
    assert classifier_test(paired_vectors(docs)).p == pytest.approx(expected)


def test_what_is_parted_is_told_and_what_is_the_same_is_not():
    side = 10 * np.eye(6)[0]
    parted = [(a + side, b - side) for a, b in drawn(20, 3)]
    apart = classifier_test(paired_vectors(parted))
    assert apart.accuracies.tolist() == [1.0] * 20
    assert apart.p <= 0.001
    same = drawn(20, 3)
    alike = classifier_test(paired_vectors([(a, a) for a, _ in same]))
    assert alike.accuracies.tolist() == [0.5] * 20
    assert alike.p == 1


def test_findings_of_modes_that_differ_and_of_modes_that_do_not():
    differ = by_measure(vector_findings("t", "normal", "high", drawn(30, 4, shift=1.5)))
    alike = by_measure(vector_findings("t", "normal", "high", drawn(30, 4)))
    for name in ("energy_distance", "mmd_squared", "classifier_accuracy"):
        assert differ[name].p <= 0.001 < 0.05 < alike[name].p
        assert differ[name].test == "swap test of docs, one-sided"
        assert differ[name].estimate.n == 30
    assert differ["classifier_accuracy"].estimate.ci_low > 0.5
    for name in ("energy_distance_within_docs", "energy_share_within_docs"):
        assert differ[name].estimate.ci_low > 0
        assert alike[name].estimate.ci_low < 0 < alike[name].estimate.ci_high
        assert differ[name].test == ""
    share = differ["energy_share_within_docs"].estimate
    assert 0 < share.ci_low < share.value < share.ci_high < 1


def test_the_same_texts_everywhere_are_no_distance():
    docs = [(np.ones((3, 5)), np.ones((3, 5)))] * 8
    found = by_measure(vector_findings("t", "a", "b", docs))
    for name in ("energy_distance", "mmd_squared"):
        assert found[name].estimate.value == pytest.approx(0, abs=1e-12)
        assert found[name].p == 1
    assert found["energy_distance_within_docs"].estimate.value == 0
    assert math.isnan(found["energy_share_within_docs"].estimate.value)
    assert "the same" in found["energy_share_within_docs"].note
    assert (found["classifier_accuracy"].estimate.value, found["classifier_accuracy"].p) == (0.5, 1)


def test_below_five_docs_values_alone():
    for finding in vector_findings("t", "a", "b", drawn(4, 3, shift=3)):
        assert math.isfinite(finding.estimate.value)
        assert math.isnan(finding.estimate.ci_low)
        assert math.isnan(finding.p)
        assert finding.test == ""


@pytest.mark.parametrize(
    ("docs", "defined"),
    [
        ([], set()),
        (drawn(1, 3), {"energy_distance_within_docs", "energy_share_within_docs"}),
        (drawn(6, 1), {"energy_distance", "mmd_squared", "classifier_accuracy"}),
        ([(np.zeros((2, 3)), np.ones((2, 3)))] * 6, set()),
    ],
    ids=["none", "one doc", "one sample a doc", "no direction"],
)
def test_what_cannot_be_known_is_nan_and_says_why(docs, defined):
    for finding in vector_findings("t", "a", "b", docs):
        assert math.isfinite(finding.estimate.value) == (finding.measure in defined)
        assert finding.note.startswith("undefined: needs") == (finding.measure not in defined)


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 3), st.floats(0, 5))
def test_values_stay_in_their_ranges(seed, n, k, shift):
    docs = paired_vectors(drawn(n, k, shift, d=3, seed=seed))
    (matrix,) = swap_matrices(docs, [energy_kernel])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9  # of negative type: Székely and Rizzo
    assert 0 <= matrix.mean() <= 4
    test = classifier_test(docs)
    assert (test.accuracies >= 0).all()
    assert (test.accuracies <= 1).all()
    assert 0 < test.p <= 1


TEXTS_A = [
    "The cat sat on the mat.",
    "A cat sat there on the mat.",
    "The cat was on a red mat today.",
]
TEXTS_B = [
    "The cat sat on the roof.",
    "Dogs run in the wide park.",
    "The cat sat on the mat at noon.",
]


def nltk_bleu(text, references):
    smooth = SmoothingFunction().method1
    return sentence_bleu(references, text, smoothing_function=smooth)


def test_bleu_is_that_of_nltk_with_equally_many_references():
    a, b = ([tokenise(text) for text in arm] for arm in (TEXTS_A, TEXTS_B))

    def mean(texts, references):
        left = [references[:i] + references[i + 1 :] for i in range(len(texts))]
        return fmean(map(nltk_bleu, texts, left))

    found = by_measure(bleu_findings("t", "a", "b", [(TEXTS_A, [*TEXTS_B, "One more."])]))
    values = {name: finding.estimate.value for name, finding in found.items()}
    cross = (mean(a, b) + mean(b, a)) / 2
    inner = (mean(a, a) + mean(b, b)) / 2
    assert values == pytest.approx(
        {
            "self_bleu_4_a": mean(a, a),
            "self_bleu_4_b": mean(b, b),
            "cross_bleu_4": cross,
            "bleu_4_self_minus_cross": inner - cross,
        }
    )


def written(rng, words, k):
    return [" ".join(rng.choice(words, 12)) for _ in range(k)]


def test_the_gap_is_0_for_modes_that_write_alike_and_positive_for_others():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(15)]
    alike = [(written(rng, words, 3), written(rng, words, 3)) for _ in range(80)]
    differ = [(written(rng, words[:8], 3), written(rng, words[7:], 3)) for _ in range(80)]
    same, other = (
        by_measure(bleu_findings("t", "a", "b", docs))["bleu_4_self_minus_cross"]
        for docs in (alike, differ)
    )
    assert same.estimate.ci_low < 0 < same.estimate.ci_high
    assert same.p > 0.05
    assert other.estimate.ci_low > 0.05
    assert other.p < 1e-6


def test_copies_have_no_gap_and_texts_without_words_are_left_out():
    copies = [
        (["the same text again"] * 2, ["the same text again", "", " ", "the same text again"])
    ]
    found = by_measure(bleu_findings("t", "a", "b", copies * 6))
    assert found["cross_bleu_4"].estimate.value == 1
    gap = found["bleu_4_self_minus_cross"]
    assert (gap.estimate.value, gap.p, gap.estimate.n) == (0, 1, 6)


@pytest.mark.parametrize("docs", [[], [(["a b c"], ["a b c", "d"])], [(["", ""], ["a", "b"])]])
def test_bleu_without_two_texts_a_mode_is_nan(docs):
    for finding in bleu_findings("t", "a", "b", docs):
        assert math.isnan(finding.estimate.value)
        assert finding.note == "undefined: needs a doc with two texts in each mode"
        assert finding.test == ""


def test_only_the_beginning_of_a_text_and_so_many_docs_are_looked_at(monkeypatch):
    monkeypatch.setattr(twosample, "BLEU_TOKENS", 3)
    monkeypatch.setattr(twosample, "DOCS_AT_MOST", 2)
    docs = [(["one two three four", "one two three five"], ["one two three", "one two three six"])]
    found = by_measure(bleu_findings("t", "a", "b", docs * 3))
    beginning = nltk_bleu(["one", "two", "three"], [["one", "two", "three"]])
    assert found["cross_bleu_4"].estimate.value == pytest.approx(beginning)
    assert found["cross_bleu_4"].estimate.n == 2
