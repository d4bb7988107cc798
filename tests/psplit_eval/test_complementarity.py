"""Two modes beside each other: every number against subsets by enumeration, and by simulation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.complementarity import (
    DocSolutions,
    Solutions,
    complementary_findings,
    doc_solutions,
)
from psplit_eval.creativity import CreativityScorer
from psplit_eval.measures import HarnessScorer
from psplit_eval.scoring import AccuracyScorer, Answers
from psplit_eval.store import Doc, Metric, Sample, Store

BOXED = AccuracyScorer(AnswerFormat())


def doc_of(a, b, number=0, answers="", tokens=(math.nan, math.nan)):
    """A doc from what each sample says: '-' is wrong, any other letter a right answer."""
    sides = []
    for said, size in zip((a, b), tokens, strict=True):
        counts = tuple(map(said.count, answers)) if answers else None
        sides.append(Solutions(len(said), len(said) - said.count("-"), counts, size))
    return DocSolutions(number, *sides)


def findings(docs):
    return {f.measure: f for f in complementary_findings("t", "normal", "high", docs)}


def values(docs):
    return {name: found.estimate.value for name, found in findings(docs).items()}


def by_enumeration(a, b, k, of_pair):
    """Mean over all pairs of k samples of a and k of b, exactly."""
    pairs = itertools.product(itertools.combinations(a, k), itertools.combinations(b, k))
    seen = [Fraction(of_pair(set(x) - {"-"}, set(y) - {"-"})) for x, y in pairs]
    return float(sum(seen) / len(seen))


SAID = st.text("xyz-", min_size=1, max_size=6)
SHARES = {
    "only_a": lambda x, y: bool(x) and not y,
    "only_b": lambda x, y: bool(y) and not x,
    "both": lambda x, y: bool(x) and bool(y),
    "either": lambda x, y: bool(x | y),
    "neither": lambda x, y: not x and not y,
}


@given(SAID, SAID)
def test_shares_are_means_over_all_pairs_of_subsets(a, b):
    found = values([doc_of(a, b)])
    for k in {1, min(len(a), len(b))}:
        for kind, of_pair in SHARES.items():
            expected = by_enumeration(a, b, k, of_pair)
            assert found[f"{kind}_at_{k}"] == pytest.approx(expected, abs=1e-12)


@given(SAID, SAID)
def test_distinct_right_answers_are_means_over_all_subsets(a, b):
    found = values([doc_of(a, b, answers="xyz")])
    for k in {1, min(len(a), len(b))}:
        of_a = by_enumeration(a, b, k, lambda x, _: len(x))
        of_b = by_enumeration(a, b, k, lambda _, y: len(y))
        assert found[f"distinct_right_a_at_{k}"] == pytest.approx(of_a, abs=1e-12)
        assert found[f"distinct_right_b_at_{k}"] == pytest.approx(of_b, abs=1e-12)
        gap = found[f"distinct_right_difference_at_{k}"]
        assert gap == pytest.approx(of_b - of_a, abs=1e-12)
        ratio = pytest.approx(of_b / of_a if of_a else math.nan, nan_ok=True)
        assert found[f"distinct_right_ratio_at_{k}"] == ratio


@given(SAID.filter(lambda s: len(s) > 1), SAID.filter(lambda s: len(s) > 1))
def test_a_mixed_budget_is_half_of_each_over_all_pairs_of_subsets(a, b):
    found = values([doc_of(a, b, answers="xyz")])
    for k in {2, min(len(a), len(b)) // 2 * 2}:
        mixed = by_enumeration(a, b, k // 2, lambda x, y: bool(x | y))
        alone = [by_enumeration(a, b, k, lambda x, y, i=i: bool((x, y)[i])) for i in (0, 1)]
        kinds = by_enumeration(a, b, k // 2, lambda x, y: len(x | y))
        alone_kinds = [by_enumeration(a, b, k, lambda x, y, i=i: len((x, y)[i])) for i in (0, 1)]
        expected = {"pass_mixed": mixed, "distinct_right_mixed": kinds}
        for i, mode in enumerate("ab"):
            expected[f"pass_{mode}"] = alone[i]
            expected[f"mixed_less_{mode}"] = mixed - alone[i]
            expected[f"distinct_right_mixed_less_{mode}"] = kinds - alone_kinds[i]
        for name, value in expected.items():
            assert found[f"{name}_at_{k}"] == pytest.approx(value, abs=1e-12)


@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=9))
def test_shares_make_up_all_and_agree_with_pass_at_k(pairs):
    docs = [doc_of(a, b, number) for number, (a, b) in enumerate(pairs)]
    found = values(docs)
    for name in [name for name in found if name.startswith("only_a_at_")]:
        only_a, only_b, both, either, neither = (
            found[name.replace("only_a", kind)] for kind in SHARES
        )
        assert only_a + only_b + both == pytest.approx(either, abs=1e-12)
        assert either + neither == pytest.approx(1, abs=1e-12)


def test_estimates_are_unbiased_and_what_b_adds_beyond_luck_is_mixed_less_a():
    """4000 draws of one doc: a says x with chance 0.3; b says x 0.2, y 0.2. By hand at k = 2:
    pass_a 1 − 0.7² = 0.51, pass_b 1 − 0.6² = 0.64."""
    rng = np.random.default_rng(5)
    docs = []
    for number in range(4000):
        a = "".join(rng.choice(list("x-"), 5, p=[0.3, 0.7]))
        b = "".join(rng.choice(list("xy-"), 4, p=[0.2, 0.2, 0.6]))
        docs.append(doc_of(a, b, number, answers="xy"))
    found = findings(docs)
    truth = {
        "only_a_at_1": 0.3 * 0.6,
        "only_b_at_1": 0.7 * 0.4,
        "only_b_at_4": 0.7**4 * (1 - 0.6**4),
        "neither_at_4": (0.7 * 0.6) ** 4,
        "pass_mixed_at_2": 1 - 0.7 * 0.6,
        "mixed_less_a_at_2": 0.58 - 0.51,
        "mixed_less_b_at_2": 0.58 - 0.64,
        "mixed_less_b_at_4": 0.6**4 - 0.7**2 * 0.6**2,
        "distinct_right_a_at_4": 1 - 0.7**4,
        "distinct_right_b_at_4": 2 * (1 - 0.8**4),
        "distinct_right_mixed_at_2": (1 - 0.7 * 0.8) + 0.2,
    }
    for name, value in truth.items():
        estimate = found[name].estimate
        error = (estimate.ci_high - estimate.ci_low) / 3.92
        assert abs(estimate.value - value) < 4 * error, name
        assert error < 0.03
    only_b, pass_a = (found[name].estimate.value for name in ("only_b_at_1", "pass_a_at_2"))
    pass_a_1 = found["only_a_at_1"].estimate.value + found["both_at_1"].estimate.value
    gain = found["mixed_less_a_at_2"].estimate.value
    assert only_b - (pass_a - pass_a_1) == pytest.approx(gain, abs=1e-12)  # doc by doc the same


def test_two_arms_of_one_mode_gain_nothing_from_mixing_at_the_nominal_rate():
    """Of 300 comparisons of a mode with itself some 5 % are significant: 15 ± 3.8, so below 30."""
    rng = np.random.default_rng(11)
    low = 0
    for _ in range(300):
        chances = rng.beta(0.7, 0.9, 40)
        right = rng.binomial(8, chances, (2, 40))
        docs = [
            DocSolutions(i, Solutions(8, int(a)), Solutions(8, int(b)))
            for i, (a, b) in enumerate(right.T)
        ]
        low += findings(docs)["mixed_less_a_at_8"].p < 0.05
    assert 3 <= low < 30


def test_what_was_seen_is_counted():
    docs = [doc_of("x-", "--", 0), doc_of("--", "-x-", 1), doc_of("xx", "-x", 2)]
    found = findings([*docs, doc_of("--", "--", 3), doc_of("x", "", 4)])
    seen = {name: f.estimate.value for name, f in found.items() if name.startswith("seen_")}
    assert seen == {"seen_only_a": 1, "seen_only_b": 1, "seen_both": 1, "seen_neither": 1}
    one = found["seen_only_a"]
    assert "as seen" in one.note
    assert "2 of a, 2 to 3 of b" in one.note
    assert "unequal" in one.note
    assert math.isnan(one.estimate.ci_low)


def test_intervals_and_tests_over_docs_are_those_of_the_per_doc_values():
    """scipy's paired t-test and interval of the differences, on values by hand."""
    from scipy import stats

    rng = np.random.default_rng(3)
    right = rng.binomial(4, 0.5, (40, 2))
    docs = [
        DocSolutions(i, Solutions(4, int(a)), Solutions(4, int(b)))
        for i, (a, b) in enumerate(right)
    ]
    gaps = []
    for a, b in right:
        said = ["x" * a + "-" * (4 - a), "x" * b + "-" * (4 - b)]
        mixed = by_enumeration(*said, 1, lambda x, y: bool(x | y))
        gaps.append(mixed - by_enumeration(*said, 2, lambda x, _: bool(x)))
    found = findings(docs)["mixed_less_a_at_2"]
    expected = stats.ttest_1samp(gaps, 0)
    assert found.p == pytest.approx(expected.pvalue)
    limits = (found.estimate.ci_low, found.estimate.ci_high)
    assert limits == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.unit, found.test) == ("fraction", "paired t-test on per-doc values")
    assert {f.test for f in findings(docs).values() if not f.measure.startswith("mixed")} == {""}


def test_docs_with_too_few_samples_are_dropped_and_counted():
    full = [doc_of("x-x-", "-xx-", i) for i in range(19)]
    found = findings([*full, doc_of("x", "xxxx", 19)])
    at_4 = found["only_a_at_4"]
    assert at_4.estimate.n == 19
    assert "1 of 20 docs lack what it needs" in at_4.note
    assert found["only_a_at_1"].estimate.n == 20
    assert "lack" not in found["only_a_at_1"].note


def test_k_falls_where_more_than_a_tenth_of_the_docs_has_fewer():
    full = [doc_of("x-x-", "-xx-", i) for i in range(17)]
    found = findings([*full, *(doc_of("x--", "xxxx", i) for i in (17, 18, 19))])
    assert "only_a_at_3" in found
    assert "only_a_at_4" not in found
    assert found["pass_mixed_at_2"].estimate.n == 20


def test_one_sample_in_a_mode_has_no_mixed_budget():
    found = findings([doc_of("x", "xx--", i, answers="x") for i in range(8)])
    mixed = found["mixed_less_a_at_2"]
    assert math.isnan(mixed.estimate.value)
    assert mixed.test == ""
    assert "undefined: no doc has it" in mixed.note
    assert "8 of 8 docs lack" in mixed.note
    assert found["only_a_at_1"].estimate.value == pytest.approx(0.5)


def test_one_doc_has_values_and_no_interval():
    found = findings([doc_of("x-", "--")])
    one = found["only_a_at_2"]
    assert one.estimate.value == 1
    assert math.isnan(one.estimate.ci_low)
    assert "fewer than 5 docs" in one.note
    assert math.isnan(found["mixed_less_b_at_2"].p)


@pytest.mark.parametrize(("said", "solved"), [("----", 0), ("xxxx", 1)])
def test_no_doc_solved_and_all_solved(said, solved):
    """With 30 docs alike up to 1 − 0.025^(1/30) = 11.6 % may be otherwise (exact binomial)."""
    found = findings([doc_of(said, said, i, answers="x") for i in range(30)])
    unseen = 1 - 0.025 ** (1 / 30)
    either, neither = found["either_at_4"].estimate, found["neither_at_4"].estimate
    assert (either.value, neither.value) == (solved, 1 - solved)
    assert (neither if solved else either).ci_high == pytest.approx(unseen)
    assert found["only_b_at_4"].estimate.value == 0
    gain = found["mixed_less_a_at_4"]
    assert (gain.estimate.value, gain.p) == (0, 1)
    ratio = found["distinct_right_ratio_at_4"]
    assert ratio.estimate.value == pytest.approx(1 if solved else math.nan, nan_ok=True)
    assert ("undefined: the mode that it is divided by has 0" in ratio.note) == (not solved)


def test_no_docs_no_findings_and_docs_without_samples_are_undefined():
    assert complementary_findings("t", "a", "b", []) == []
    found = findings([doc_of("", "", i, answers="x") for i in range(3)])
    assert all(math.isnan(f.estimate.value) for f in found.values())
    assert all("undefined" in f.note for f in found.values())


def test_distinct_answers_are_left_out_where_they_are_not_known():
    assert not [name for name in findings([doc_of("x-", "xx")]) if "distinct" in name]


def test_cost_is_said_in_tokens_beside_every_mixed_budget():
    docs = [doc_of("x-", "xx", i, tokens=(10.0 + i, 30.0 + i)) for i in range(6)]
    found = findings([*docs, doc_of("xx", "xx", 6)])
    assert found["tokens_per_sample_a"].estimate.value == 12.5
    assert found["tokens_per_sample_difference"].estimate.value == 20
    assert "alike" in found["tokens_per_sample_difference"].note
    assert found["tokens_per_sample_ratio"].estimate.value == pytest.approx(32.5 / 12.5)
    assert "1 of 7 docs" in found["tokens_per_sample_b"].note
    assert "not equal tokens: 12.5 a sample in a, 32.5 in b" in found["pass_mixed_at_2"].note
    unknown = findings([doc_of("x-", "xx")])
    assert "tokens a sample are not known" in unknown["pass_mixed_at_2"].note
    assert math.isnan(unknown["tokens_per_sample_a"].estimate.value)


@pytest.mark.parametrize("arguments", [(2, 3), (2, -1), (3, 2, (1,)), (3, 2, (3, -1))], ids=str)
def test_counts_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        Solutions(*arguments)


def test_right_answers_have_to_match_up():
    with pytest.raises(ValueError, match="doc 3"):
        DocSolutions(3, Solutions(2, 1, (1,)), Solutions(2, 1, (1, 0)))


def sample(mode, doc, index, text, reason="stop", tokens=5):
    return Sample(
        *(mode, "t", doc, index, f"h{doc}", "r", "p", 1, 1, text, None, None, reason, 5),
        *(tokens, 1.0, 1.0, None if text else "gone", 0.1, "now"),
    )


@pytest.fixture
def store(tmp_path):
    """Two docs, graded by psplit's own scorer; doc 1 has no sample of mode high that is there."""
    docs = [Doc("t", 0, "h0", {}, "1/2"), Doc("t", 1, "h1", {}, "7")]
    samples = [
        sample("normal", 0, 0, r"\boxed{0.5}", tokens=4),
        sample("normal", 0, 1, r"\boxed{3}", tokens=8),
        sample("normal", 0, 2, r"\boxed{1/2}", "length", tokens=9),
        sample("high", 0, 0, r"\boxed{\frac12}"),
        sample("high", 0, 1, None, tokens=99),
        sample("normal", 1, 0, r"\boxed{7}"),
        sample("high", 1, 0, None),
    ]
    with Store(tmp_path / "samples.sqlite") as opened:
        opened.add_plan([], docs)
        opened.add_samples(samples)
        metrics = []
        for doc in docs:
            kept = [s for s in samples if s.doc_id == doc.doc_id and s.text]
            by_mode = {mode: [s for s in kept if s.mode == mode] for mode in ("normal", "high")}
            given = {mode: some for mode, some in by_mode.items() if some}
            metrics += Answers(doc, given).scored_by(BOXED)
        opened.replace_metrics("t", metrics)
        yield opened


def test_solutions_are_read_from_what_the_store_has_graded(store):
    """A truncated sample is wrong, a failed one is none, a doc of one mode is left out. Right
    samples mean the one reference answer: different right answers among k are pass@k."""
    (found,) = doc_solutions(store, BOXED, "t", "normal", "high")
    assert found == DocSolutions(0, Solutions(3, 1, (1,), 7.0), Solutions(1, 1, (1,), 5.0))
    numbers = values([found])
    assert numbers["distinct_right_a_at_1"] == pytest.approx(1 / 3)


def test_right_answers_that_mean_the_same_are_one_over_both_modes(store):
    docs = [Doc("t", 2, "h2", {"what": "a prime below 10"}, "")]
    said = {"normal": ["2", "2.0", "9", "3"], "high": ["4/2", "7"]}
    samples = [
        sample(mode, 2, index, text) for mode in said for index, text in enumerate(said[mode])
    ]
    store.add_plan([], docs)
    store.add_samples(samples)
    marks = [Metric(s.mode, "t", 2, s.sample_idx, "correct", float(s.text != "9")) for s in samples]
    store.replace_metrics("t", marks)
    (found,) = doc_solutions(
        store, BOXED, "t", "normal", "high", lambda doc, sample: sample.text or ""
    )
    assert found.doc_id == 2
    assert (found.a.answers, found.b.answers) == ((2, 1, 0), (1, 0, 1))
    assert values([found])["distinct_right_b_at_2"] == 2


def test_several_right_answers_are_told_apart_by_their_texts(store):
    sums = AccuracyScorer(AnswerFormat(r"\A([1-9 +]+)\Z", checker="sum"))
    doc = Doc("t", 2, "h2", {}, "9")
    said = {"normal": ["4+5", "4 + 5", "5+4", "9"], "high": ["5+4", "3+6", "4+6"]}
    by_mode = {
        mode: [sample(mode, 2, index, text) for index, text in enumerate(texts)]
        for mode, texts in said.items()
    }
    store.add_plan([], [doc])
    store.add_samples([one for given in by_mode.values() for one in given])
    store.replace_metrics("t", list(Answers(doc, by_mode).scored_by(sums)))
    (found,) = doc_solutions(store, sums, "t", "normal", "high")
    assert (found.a.answers, found.b.answers) == ((2, 1, 0), (0, 1, 1))


def test_lm_evals_marks_are_read_where_they_are_zero_or_one(store):
    scorer = HarnessScorer("t", "sum", {}, "exact_match", {"exact_match": True})
    marks = [
        Metric(mode, "t", 0, index, "exact_match", value)
        for mode, values in {"normal": (1, 0, 1), "high": (0, 0)}.items()
        for index, value in enumerate(values)
    ]
    store.replace_metrics("t", marks)
    (found,) = doc_solutions(store, scorer, "t", "normal", "high")
    assert (found.a.samples, found.a.right, found.b.samples, found.b.right) == (3, 2, 2, 0)


def test_shares_of_a_right_answer_are_no_solutions(store):
    """Their sums may be whole numbers all the same."""
    scorer = HarnessScorer("t", "sum", {}, "f1", {"f1": True})
    marks = [Metric(mode, "t", 0, i, "f1", 0.5) for mode in ("normal", "high") for i in (0, 1)]
    store.replace_metrics("t", marks)
    assert doc_solutions(store, scorer, "t", "normal", "high") == []


def test_tasks_without_right_and_wrong_have_no_solutions(store):
    assert doc_solutions(store, CreativityScorer("story"), "t", "normal", "high") == []
    assert doc_solutions(store, BOXED, "t", "normal", "nobody") == []
