"""Pairwise verdicts, against hand calculations, published strengths and simulation."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import ttest_1samp

from psplit_eval.errors import UnknownNameError
from psplit_eval.preferences import Ballot, at_equal_length, strengths, win_rate


def ballot(first, swapped, doc=0, a="normal", b="high", **lengths):
    return Ballot(doc, a, b, first, swapped, **lengths)


@pytest.mark.parametrize(
    ("first", "swapped", "share", "shown_first", "kind"),
    [
        (1, 1, 1, 0.5, ""),
        (0, 0, 0, 0.5, ""),
        (1, 0, 0.5, 1, "flipped"),  # the text shown first, both times
        (0, 1, 0.5, 0, "flipped"),
        (0.5, 0.5, 0.5, 0.5, "tied"),
        (1, 0.5, 0.75, 0.75, "half_decided"),
        (0.5, 1, 0.75, 0.25, "half_decided"),
        (None, 1, None, None, ""),
        (0.5, None, None, None, ""),
    ],
)
def test_a_ballot_by_hand(first, swapped, share, shown_first, kind):
    one = ballot(first, swapped)
    assert (one.share, one.shown_first) == (share, shown_first)
    names = ("tied", "flipped", "half_decided")
    assert [name for name in names if getattr(one, name)] == ([kind] if kind else [])


def test_a_turned_ballot_says_the_same():
    one = ballot(1, 0.5, length_a=30, length_b=40).turned()
    assert one == Ballot(0, "high", "normal", 0.5, 0, 40, 30)
    assert (one.share, one.shown_first) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"b": "normal"}, "'normal' against itself"),
        ({"first": 2}, "verdict 2: expected a share"),
        ({"swapped": math.nan}, "verdict nan"),
        ({"length_a": -1}, "expected 0 or more"),
    ],
)
def test_impossible_ballots_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(ballot(1, 1), **wrong)


def test_a_win_rate_by_hand():
    docs = [
        *(ballot(0, 0, doc) for doc in range(4)),  # high wins
        *(ballot(1, 0, 4) for _ in range(50)),  # the first shown wins: many pairs, one doc
        ballot(1, 1, 5),
        ballot(0.5, 0.5, 6),
        ballot(1, 0.5, 7),
        ballot(0, None, 7),
        ballot(None, None, 8),
        ballot(1, 1, 9, b="other"),
    ]
    found = win_rate(docs, "normal", "high")
    shares = [1, 1, 1, 1, 0.5, 0, 0.5, 0.25]
    assert found.rate.value == pytest.approx(np.mean(shares))
    assert found.rate.n == 8
    assert found.shown_first.value == pytest.approx((6 * 0.5 + 1 + 0.75) / 8)
    assert (found.pairs, found.missing, found.docs_missing) == (59, 2, 1)
    assert (found.ties, found.flips, found.half_decided) == (1, 50, 1)


def test_p_is_students_over_docs_and_the_swap_tests_where_few_differ():
    rng = np.random.default_rng(3)
    verdicts = rng.choice([0, 0.5, 1], size=(60, 2), p=[0.5, 0.2, 0.3])
    docs = [ballot(*pair, doc) for doc, pair in enumerate(verdicts.tolist())]
    found = win_rate(docs, "normal", "high")
    expected = ttest_1samp(1 - verdicts.mean(axis=1), 0.5)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.test.startswith("paired t-test")
    few = win_rate([ballot(0, 0, doc) for doc in range(6)], "normal", "high")
    assert few.p == pytest.approx(2 / 2**6)  # all one way, by a fair coin
    assert few.rate.ci_low == pytest.approx(0.025 ** (1 / 6))  # Clopper and Pearson at 6 of 6


def test_without_enough_docs_nothing_is_claimed():
    none = win_rate([], "normal", "high")
    assert math.isnan(none.rate.value)
    assert none.pairs == 0
    four = win_rate([ballot(0, 0, doc) for doc in range(4)], "normal", "high")
    assert four.rate.value == 1
    assert math.isnan(four.rate.ci_low)
    assert math.isnan(four.p)
    assert four.test == ""


shares = st.sampled_from([None, 0.0, 0.5, 1.0])
ballots = st.lists(
    st.builds(
        Ballot,
        st.integers(0, 9),
        st.just("a"),
        st.just("b"),
        shares,
        shares,
        st.integers(1, 50),
        st.integers(1, 50),
    ),
    max_size=40,
)


def mirrored(found):
    rate = found.rate
    return replace(
        found,
        a=found.b,
        b=found.a,
        rate=replace(rate, value=1 - rate.value, ci_low=1 - rate.ci_high, ci_high=1 - rate.ci_low),
    )


def numbers(found):
    rate, places = found.rate, found.shown_first
    return [
        *(rate.value, rate.ci_low, rate.ci_high, rate.n, found.p),
        *(places.value, places.ci_low, places.ci_high),
        *(found.pairs, found.missing, found.docs_missing),
        *(found.ties, found.flips, found.half_decided),
    ]


@given(ballots, st.randoms(use_true_random=False))
def test_win_rates_mirror_and_know_no_order(some, random):
    found = win_rate(some, "a", "b")
    assert numbers(mirrored(win_rate(some, "b", "a"))) == pytest.approx(numbers(found), nan_ok=True)
    shuffled = [one.turned() if random.random() < 0.5 else one for one in some]
    random.shuffle(shuffled)
    assert numbers(win_rate(shuffled, "a", "b")) == pytest.approx(numbers(found), nan_ok=True)


def test_two_arms_are_the_log_odds_of_the_win_rate():
    docs = [ballot(0, 0, doc) for doc in range(12)]
    docs += [ballot(1, 0.5, doc) for doc in range(12, 20)]
    rate = win_rate(docs, "normal", "high").rate
    found = strengths(docs, "normal")
    assert rate.value == (12 + 8 / 4) / 20
    assert found.win_rates["high"].value == pytest.approx(rate.value)
    assert found.log_odds["high"].value == pytest.approx(logit(rate.value) / 2)
    assert found.log_odds["normal"].value == pytest.approx(-logit(rate.value) / 2)
    assert found.win_rates["high"].ci_low == pytest.approx(rate.ci_low, abs=0.04)
    assert found.win_rates["high"].ci_high == pytest.approx(rate.ci_high, abs=0.04)


BASEBALL = {
    # wins of each against those that follow it and losses: American League, Eastern Division, 1987
    "Milwaukee": {
        "Detroit": 7,
        "Toronto": 9,
        "New York": 7,
        "Boston": 7,
        "Cleveland": 9,
        "Bal": 11,
    },
    "Detroit": {
        "Milwaukee": 6,
        "Toronto": 7,
        "New York": 5,
        "Boston": 11,
        "Cleveland": 9,
        "Bal": 9,
    },
    "Toronto": {
        "Milwaukee": 4,
        "Detroit": 6,
        "New York": 7,
        "Boston": 7,
        "Cleveland": 8,
        "Bal": 12,
    },
    "New York": {
        "Milwaukee": 6,
        "Detroit": 8,
        "Toronto": 6,
        "Boston": 6,
        "Cleveland": 7,
        "Bal": 10,
    },
    "Boston": {
        "Milwaukee": 6,
        "Detroit": 2,
        "Toronto": 6,
        "New York": 7,
        "Cleveland": 7,
        "Bal": 12,
    },
    "Cleveland": {"Milwaukee": 4, "Detroit": 4, "Toronto": 5, "New York": 6, "Boston": 6, "Bal": 6},
    "Bal": {"Milwaukee": 2, "Detroit": 4, "Toronto": 1, "New York": 3, "Boston": 1, "Cleveland": 7},
}
# Agresti, Categorical Data Analysis, section 10.6; as in the vignette of R's BradleyTerry2
ABILITIES = {
    "Milwaukee": 1.5814,
    "Detroit": 1.4364,
    "Toronto": 1.2945,
    "New York": 1.2476,
    "Boston": 1.1077,
    "Cleveland": 0.6839,
    "Bal": 0,
}


def games():
    won = [(a, b) for a, row in BASEBALL.items() for b, n in row.items() for _ in range(n)]
    return [Ballot(doc, a, b, 1, 1) for doc, (a, b) in enumerate(won)]


def test_published_strengths_of_seven_teams():
    found = strengths(games(), "Bal", resamples=200)
    values = {team: found.log_odds[team].value for team in ABILITIES}
    assert sum(values.values()) == pytest.approx(0)
    gaps = {team: value - values["Bal"] for team, value in values.items()}
    assert gaps == pytest.approx(ABILITIES, abs=2e-4)
    assert found.win_rates["Boston"].value == pytest.approx(expit(1.1077), abs=1e-4)
    # R's standard error of Boston against Baltimore is 0.3339 with one game as a unit
    low, high = (
        logit(x) for x in (found.win_rates["Boston"].ci_low, found.win_rates["Boston"].ci_high)
    )
    assert (high - low) / (2 * 1.96) == pytest.approx(0.3339, rel=0.15)


def three_arms(n=40, seed=0):
    rng = np.random.default_rng(seed)
    chance = {("a", "b"): 0.4, ("a", "c"): 0.7, ("b", "c"): 0.6}
    return [
        Ballot(doc, x, y, *(rng.random(2) < chance[x, y]).astype(float).tolist())
        for doc in range(n)
        for x, y in combinations("abc", 2)
        if rng.random() < 0.8
    ]


def test_strengths_expect_the_wins_that_each_arm_has():
    some = three_arms()
    found = strengths(some, "a", resamples=50)
    theta = {arm: found.log_odds[arm].value for arm in "abc"}
    for arm in "abc":
        mine = [one if one.a == arm else one.turned() for one in some if arm in (one.a, one.b)]
        expected = sum(expit(theta[arm] - theta[one.b]) for one in mine)
        assert sum(one.share for one in mine) == pytest.approx(expected)


def test_strengths_know_no_order_and_many_pairs_of_a_doc_are_one():
    some = three_arms()
    found = strengths(some, "a", resamples=50)
    turned = [one.turned() for one in reversed(some)]
    again = strengths(turned, "a", resamples=50)
    assert found.note == again.note == ""
    for arm in "abc":
        one, other = found.log_odds[arm], again.log_odds[arm]
        assert (one.value, one.ci_low, one.ci_high) == pytest.approx(
            (other.value, other.ci_low, other.ci_high)
        )
    doubled = strengths([*some, *some], "a", resamples=50)
    assert doubled.win_rates["b"] == pytest.approx(found.win_rates["b"])
    assert list(found.win_rates) == ["b", "c"]


def is_nan(estimate):
    return all(math.isnan(x) for x in (estimate.value, estimate.ci_low, estimate.ci_high))


def test_arms_that_were_never_compared_have_no_strengths():
    some = [Ballot(d, a, b, 0.5, d % 2) for d in range(8) for a, b in (("a", "b"), ("c", "d"))]
    found = strengths(some, "a")
    assert found.note == "undefined: 'a', 'b' never met 'c', 'd'"
    assert all(map(is_nan, found.log_odds.values()))
    missing = [Ballot(0, "a", "b", 0.5, 0.5), Ballot(1, "b", "c", 1, None)]
    assert strengths(missing, "a").note == "undefined: 'a', 'b' never met 'c'"
    assert strengths(missing, "a").missing == 1


def test_without_a_verdict_nothing_is_known():
    some = [ballot(None, 1, doc, length_a=1, length_b=doc) for doc in range(9)]
    for found in (strengths(some, "high"), at_equal_length(some, "high").strengths):
        assert found.note == "undefined: 'high' never met 'normal'"
        assert is_nan(found.win_rates["normal"])
        assert (found.pairs, found.missing, found.win_rates["normal"].n) == (9, 9, 0)


def test_who_won_all_is_beyond_every_number():
    some = [Ballot(d, "a", "b", 0.5, d % 2) for d in range(8)]
    some += [Ballot(d, "c", "a", 1, 1) for d in range(8)]
    found = strengths(some, "a")
    assert found.note == "unbounded: 'c' won all against 'a', 'b'"
    assert all(map(is_nan, found.win_rates.values()))


def test_limits_are_infinite_where_many_resamples_have_no_end():
    some = [ballot(0, 0, doc) for doc in range(9)] + [ballot(1, 1, 9)]
    found = strengths(some, "normal")  # without its last doc a resample is one-sided: 0.9^10
    assert found.log_odds["high"].value == pytest.approx(logit(0.9) / 2)
    assert math.isinf(found.log_odds["high"].ci_high)
    assert found.win_rates["high"].ci_high == 1


def test_an_unknown_reference_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'normal'"):
        strengths([ballot(1, 1)], "norma")


def judged(n, length_effect, seed, arms=("a", "b"), longer=60.0, pairs=1):
    """By a judge to whom all arms are the same but for length; each arm is longer by `longer`."""
    rng = np.random.default_rng(seed)
    some = []
    for doc, _ in ((doc, pair) for doc in range(n) for pair in range(pairs)):
        for i, j in combinations(range(len(arms)), 2):
            lengths = rng.normal(300, 40, 2) + longer * np.array([i, j])
            gap = (lengths[1] - lengths[0]) / (40 * math.sqrt(2))
            chance = expit(-length_effect * math.tanh(gap))
            verdicts = (rng.random(2) < chance).astype(float).tolist()
            some.append(Ballot(doc, arms[i], arms[j], *verdicts, *lengths.tolist()))
    return some


def test_a_judge_of_length_alone_prefers_nobody_at_equal_length():
    some = judged(600, 1.5, seed=1)
    raw = win_rate(some, "a", "b")
    found = at_equal_length(some, "a")
    controlled = found.strengths.win_rates["b"]
    assert raw.rate.ci_low > 0.6
    assert controlled.ci_low < 0.5 < controlled.ci_high
    assert controlled.ci_high - controlled.ci_low < 0.2
    assert found.length_effect.ci_low < 1.5 < found.length_effect.ci_high
    assert found.p["b"] > 0.05


def test_where_length_does_nothing_control_changes_nothing():
    rng = np.random.default_rng(2)
    some = [
        replace(one, first=x, swapped=y)
        for one, (x, y) in zip(
            judged(800, 0, seed=2, longer=0),
            (rng.random((800, 2)) < 0.35).astype(float).tolist(),
            strict=True,
        )
    ]
    found = at_equal_length(some, "a")
    rate = win_rate(some, "a", "b").rate
    assert found.strengths.win_rates["b"].value == pytest.approx(rate.value, abs=0.02)
    assert found.p["b"] < 1e-6


def test_controlled_rates_hold_their_level():
    claims = [
        at_equal_length(judged(25, 1.5, seed, pairs=2), "a").p["b"] < 0.05 for seed in range(200)
    ]
    assert sum(claims) <= 19  # of 200 at 5 %: more in 0.3 % of all cases


def test_strengths_of_three_arms_at_equal_length():
    some = judged(300, 1.5, seed=4, arms=("a", "b", "c"))
    raw, found = strengths(some, "a", resamples=50), at_equal_length(some, "a")
    assert raw.win_rates["c"].ci_low > 0.7
    for rate in found.strengths.win_rates.values():
        assert rate.ci_low < 0.5 < rate.ci_high
    values = [found.strengths.log_odds[arm].value for arm in "abc"]
    assert sum(values) == pytest.approx(0)
    assert values[1] - values[0] == pytest.approx(logit(found.strengths.win_rates["b"].value))


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_at_equal_length_all_mirrors(seed):
    some = judged(12, 1.0, seed, pairs=2)
    one, other = at_equal_length(some, "a"), at_equal_length([b.turned() for b in some[::-1]], "b")
    assert one.strengths.note == other.strengths.note
    forth, back = one.strengths.win_rates["b"], other.strengths.win_rates["a"]
    assert forth.value == pytest.approx(1 - back.value, nan_ok=True, abs=1e-6)
    assert forth.ci_low == pytest.approx(1 - back.ci_high, nan_ok=True, abs=1e-6)
    assert one.p["b"] == pytest.approx(other.p["a"], nan_ok=True, abs=1e-6)
    assert one.length_effect.value == pytest.approx(
        other.length_effect.value, nan_ok=True, abs=1e-5
    )


def with_lengths(gaps, verdicts):
    pairs = enumerate(zip(gaps, verdicts, strict=True))
    return [
        ballot(v, v, d, a="a", b="b", length_a=100, length_b=100 + gap) for d, (gap, v) in pairs
    ]


@pytest.mark.parametrize(
    ("gaps", "verdicts", "note"),
    [
        ([7] * 8, [0, 1] * 4, "undefined: lengths of 'a' and 'b' always differ by 7"),
        ([-9, -5, -3, -1, 1, 3, 5, 9], [1] * 4 + [0] * 4, "unbounded: arms and lengths explain"),
        ([-9, -5, -3, -1, 1, 3, 5, 9], [0] * 8, "unbounded: 'b' won all against 'a'"),
        ([9], [0.5], "undefined: lengths of 'a' and 'b' always differ by 9"),
    ],
)
def test_what_length_control_cannot_tell(gaps, verdicts, note):
    found = at_equal_length(with_lengths(gaps, verdicts), "a")
    assert found.strengths.note.startswith(note)
    assert is_nan(found.strengths.win_rates["b"])
    assert is_nan(found.length_effect)
    assert math.isnan(found.p["b"])


def test_a_rate_outside_what_was_seen_says_so():
    found = at_equal_length(with_lengths([1, 2, 3, 4, 5, 6, 7, 8], [0, 1] * 4), "a")
    assert found.strengths.note == "extrapolated: 'b' is longer than 'a' in every pair"
    assert math.isfinite(found.strengths.win_rates["b"].ci_low)


def test_unknown_lengths_are_refused():
    with pytest.raises(ValueError, match="expected the lengths of both texts"):
        at_equal_length([ballot(1, 1)], "normal")
