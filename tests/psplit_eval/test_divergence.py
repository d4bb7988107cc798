"""Estimates from cross-scores, against sums and tests done by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from psplit_eval.divergence import (
    CARRIERS,
    Pair,
    carriers,
    curve,
    mean_over_tasks,
    read_sums,
    token_findings,
)
from psplit_eval.store import CrossScore, CrossSums, Sample, Store

RNG = np.random.default_rng(2)


def score(doc, index, policy, kl, entropy, *, mode="n", keep=True, nll=1.0):
    """A cross-score by its numbers of every token."""
    by_token = np.array([kl, entropy], np.float32).tobytes() if keep else None
    total = math.fsum(kl)
    return CrossScore(
        *(mode, "t", doc, index, policy, len(kl), math.fsum(entropy), nll * len(kl)),
        *(total, 2 * total, total / 4, by_token),
    )


def sample(doc, index, ids, mode="n"):
    return Sample(
        *(mode, "t", doc, index, "h", f"{mode}{doc}{index}", "p", 1, 1, "x", None, ids),
        *("stop", 5, len(ids or ()), 4.0, 1.0, None, 0.1, "now"),
    )


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "samples.sqlite") as opened:
        yield opened


def fill(store, docs):
    """`docs`: doc → (ids, KL to policy h, own entropy, entropy of h), one list a sample."""
    for doc, samples in docs.items():
        for index, (ids, kl, own, other) in enumerate(samples):
            store.add_samples([sample(doc, index, ids)])
            store.add_cross_scores(
                [score(doc, index, "n", [0.0] * len(own), own), score(doc, index, "h", kl, other)]
            )


def test_sums_are_read_by_policy_and_doc(store):
    fill(store, {3: [((1, 2), [1.0, 2.0], [1.0, 1.0], [3.0, 3.0]), ((5,), [4.0], [1.0], [0.5])]})
    found = read_sums(store, "t", "n")
    assert set(found) == {"n", "h"}
    assert found["h"] == {3: CrossSums("h", 3, 2, 3, 6.5, 3.0, 7.0, 14.0, 1.75)}
    assert read_sums(store, "t", "other") == {}


def random_sums(policy, docs, tokens, level):
    return {
        doc: CrossSums(policy, doc, 4, int(n), *(n * RNG.uniform(0.5, 1.5, 5) * level))
        for doc, n in zip(docs, tokens, strict=True)
    }


TOKENS = RNG.integers(1, 90, 30)
OWN, OTHER = (
    random_sums(policy, range(30), TOKENS, level) for policy, level in (("n", 1), ("h", 2))
)


def test_a_pair_pools_bits_over_tokens_with_docs_as_clusters():
    """Σ bits / Σ tokens; p of the paired t-test on linearised ratios, written out."""
    pair = Pair.of(OWN, OTHER)
    kl = np.array([OTHER[d].kl_sum_bits for d in range(30)])
    assert pair.kl().value == pytest.approx(kl.sum() / TOKENS.sum())
    assert pair.js().value == pytest.approx(
        sum(s.js_sum_bits for s in OTHER.values()) / TOKENS.sum()
    )
    gap = np.array([OTHER[d].entropy_sum_bits - OWN[d].entropy_sum_bits for d in range(30)])
    found, ratio = pair.entropy(), gap.sum() / TOKENS.sum()
    assert found.difference == pytest.approx(ratio)
    linear = (gap - ratio * TOKENS) / TOKENS.mean()
    t = ratio / (linear.std(ddof=1) / math.sqrt(30))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 29), rel=1e-6)
    assert pair.surprisal().value_b == pytest.approx(
        sum(s.nll_sum_bits for s in OTHER.values()) / TOKENS.sum()
    )
    more = pair.divergence()
    assert more.difference == pytest.approx(
        (kl.sum() - sum(s.kl_sum_bits for s in OWN.values())) / TOKENS.sum()
    )


def test_a_pair_has_docs_of_equal_samples_and_defined_numbers_only():
    other = dict(OTHER)
    other[0] = other[0]._replace(samples=3)
    other[1] = other[1]._replace(tokens=other[1].tokens + 1)
    other[2] = other[2]._replace(js_sum_bits=math.nan)
    del other[3]
    own = dict(OWN)
    own[4] = own[4]._replace(entropy_sum_bits=math.inf)
    pair = Pair.of(own, other)
    assert list(pair.docs) == list(range(5, 30))
    assert pair.rows_a.shape == pair.rows_b.shape == (25, 5)


def test_nothing_in_common_is_undefined_not_zero():
    pair = Pair.of({}, OTHER)
    assert (list(pair.docs), pair.rows_a.shape) == ([], (0, 5))
    assert math.isnan(pair.kl().value)
    assert math.isnan(pair.entropy().difference)
    empty = {0: CrossSums("n", 0, 4, 0, 0.0, 0.0, 0.0, 0.0, 0.0)}  # texts without a token
    assert math.isnan(Pair.of(empty, empty).kl().value)
    assert math.isnan(Pair.of(empty, empty).entropy().p)


def test_few_docs_have_values_without_inference():
    one = {0: OWN[0]}, {0: OTHER[0]}
    pair = Pair.of(*one)
    assert pair.kl().value == pytest.approx(OTHER[0].kl_sum_bits / OTHER[0].tokens)
    assert math.isnan(pair.kl().ci_low)
    assert math.isnan(pair.entropy().p)


def test_a_policy_is_no_bit_from_itself():
    pair = Pair.of(OTHER, OTHER)
    assert pair.entropy().difference == pair.surprisal().difference == 0


def test_findings_name_what_they_are():
    found = {f.measure: f for f in token_findings("t", "n", "h", Pair.of(OWN, OTHER))}
    assert list(found) == [
        *("kl_bits", "kl_sampled_bits", "js_bits", "entropy_gap_bits", "surprisal_gap_bits")
    ]
    assert {(f.task, f.mode_a, f.mode_b, f.unit) for f in found.values()} == {
        ("t", "n", "h", "bits a token")
    }
    gap = found["surprisal_gap_bits"]
    assert found["kl_sampled_bits"].estimate == gap.estimate
    assert {name for name, f in found.items() if f.test} == {
        "entropy_gap_bits", "surprisal_gap_bits"
    }  # fmt: skip


def test_contexts_of_another_temperature_are_labelled_and_their_log_ratios_no_kl():
    drawn = {
        f.measure: f
        for f in token_findings("t", "n", "h", Pair.of(OWN, OTHER), "temperature 0.6, top-k 20")
    }
    assert "kl_sampled_bits" not in drawn
    assert {f.note for f in drawn.values()} == {"contexts drawn at temperature 0.6, top-k 20"}


def test_estimates_are_called_lower_bounds_where_they_are():
    found = {
        f.measure: f.note for f in token_findings("t", "n", "h", Pair.of(OWN, OTHER), "", True)
    }
    bounded = {name for name, note in found.items() if "lower bound" in note}
    assert bounded == {"kl_bits", "js_bits", "entropy_gap_bits"}


def test_the_mean_over_tasks_is_plain():
    some = {doc: OTHER[doc] for doc in range(7)}
    tasks = [Pair.of(OWN, OTHER).divergence(), Pair.of(OWN, some).divergence()]
    assert mean_over_tasks(tasks[:1]) is tasks[0]
    assert mean_over_tasks(tasks).difference == pytest.approx(
        (tasks[0].difference + tasks[1].difference) / 2
    )


def test_a_curve_is_cut_where_positions_double(store):
    """Ten tokens whose KL is their position: 0; 1; 2 + 3; 4 … 7; 8 + 9."""
    places = [float(i) for i in range(10)]
    fill(
        store,
        {
            0: [(tuple(range(10)), places, [1.0] * 10, [2.0] * 10)],
            1: [((4, 5, 6), [0.0, 3.0, 5.0], [1.0] * 3, [4.0] * 3), ((4,), [8.0], [1.0], [4.0])],
        },
    )
    found = curve(store, "t", "n", "h")
    assert [(s.first, s.last) for s in found] == [(0, 0), (1, 1), (2, 3), (4, 7), (8, 15)]
    # doc 0 has 0 there, doc 1 has 0 and 8 in three samples' first tokens
    assert found[0].kl.value == pytest.approx((0 + 0 + 8) / 3)
    assert found[1].kl.value == pytest.approx((1 + 3) / 2)
    assert found[2].kl.value == pytest.approx((2 + 3 + 5) / 3)
    assert found[3].kl.value == pytest.approx((4 + 5 + 6 + 7) / 4)
    assert found[4].kl.value == pytest.approx((8 + 9) / 2)
    assert [s.kl.n for s in found] == [2, 2, 2, 1, 1]
    assert {s.entropy_mode.value for s in found} == {1.0}
    assert found[0].entropy_policy.value == pytest.approx((2 + 4 + 4) / 3)
    assert math.isnan(found[0].kl.ci_low)


def test_curves_and_carriers_leave_out_what_is_undefined_or_not_kept(store):
    fill(store, {0: [((1,), [1.0], [1.0], [1.0])], 1: [((2,), [math.nan], [1.0], [1.0])]})
    store.add_samples(
        [sample(2, 0, (3,)), sample(3, 0, (4,)), sample(4, 0, None), sample(5, 0, ())]
    )
    store.add_cross_scores(
        [
            *(score(2, 0, policy, [5.0], [1.0], keep=False) for policy in "nh"),
            score(3, 0, "h", [6.0], [1.0]),  # not scored under its own mode yet
            *(score(4, 0, policy, [7.0], [1.0]) for policy in "nh"),  # a server's: ids not known
            *(score(5, 0, policy, [], []) for policy in "nh"),  # says nothing
        ]
    )
    (stretch,) = curve(store, "t", "n", "h")
    assert stretch.kl.value == pytest.approx((1 + 7) / 2)
    assert [(c.token, c.places, c.share) for c in carriers(store, "t", "n", "h")] == [(1, 1, 1.0)]
    assert curve(store, "t", "n", "no such policy") == []
    assert carriers(store, "t", "n", "no such policy") == []


def test_carriers_are_the_tokens_at_whose_places_the_divergence_is(store):
    fill(
        store,
        {
            0: [((7, 8, 7), [1.0, 0.5, 3.0], [1.0] * 3, [1.0] * 3)],
            1: [((9, 8), [0.0, 0.5], [1.0] * 2, [1.0] * 2)],
        },
    )
    found = carriers(store, "t", "n", "h")
    assert [(c.token, c.places, c.kl_bits) for c in found] == [
        (7, 2, 4.0),
        (8, 2, 1.0),
        (9, 1, 0.0),
    ]
    assert [c.share for c in found] == [0.8, 0.2, 0.0]
    assert [c.token for c in carriers(store, "t", "n", "h", 1)] == [7]


def test_no_divergence_has_no_shares(store):
    fill(store, {0: [((7, 8), [0.0, 0.0], [1.0] * 2, [1.0] * 2)]})
    assert all(math.isnan(c.share) for c in carriers(store, "t", "n", "h"))


def test_few_carriers_are_named(store):
    ids = tuple(range(100))
    fill(store, {0: [(ids, [float(i) for i in ids], [1.0] * 100, [1.0] * 100)]})
    found = carriers(store, "t", "n", "h")
    assert [c.token for c in found] == list(range(99, 99 - CARRIERS, -1))
    assert sum(c.share for c in found) < 1
