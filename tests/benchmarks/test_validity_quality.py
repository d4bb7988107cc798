"""The study of quality: its corruptions, its committed numbers, and a short form of itself."""

import importlib
import random
import sys
from pathlib import Path

import pytest

from psplit_eval.quality import Observed, quality

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("validity_quality")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def results(study):
    return study.read_results()


@pytest.fixture
def story(study):
    prompt, text = importlib.import_module("quality_texts").EXAMPLES[0]
    return study.Case("example", "good", prompt, text)


def broken(study, story, kind):
    return study.CORRUPTIONS[kind](story, random.Random(1))


def test_shuffled_texts_keep_their_words(study, story):
    words = story.text.split()
    assert sorted(broken(study, story, "shuffle").split()) == sorted(words)
    half = broken(study, story, "shuffle_half").split()
    assert half[: len(words) // 2] == words[: len(words) // 2]
    assert sorted(half) == sorted(words)
    assert half != words


@pytest.mark.parametrize(("kind", "share"), [("replaced_10", 0.1), ("replaced_40", 0.4)])
def test_as_many_words_are_replaced_as_is_said(study, story, kind, share):
    before, after = story.text.split(), broken(study, story, kind).split()
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    assert changed == pytest.approx(share * len(before), abs=2)


@pytest.mark.parametrize(
    "kind", ["loop_sentence", "loop_word", "random_words", "random_words_half"]
)
def test_broken_texts_are_as_long_as_whole_ones(study, story, kind):
    assert len(broken(study, story, kind).split()) == len(story.text.split())


def test_a_prompt_is_on_one_side_only(study, real_rows):
    row = next(real_rows("hanna/stories.jsonl.gz"))
    sides = {study.Case("s", kind, row["prompt"], kind).held_out for kind in ("good", "cut")}
    assert len(sides) == 1


# --- what was found ---

SALAD = (
    "shuffle",
    "shuffle_half",
    "random_words",
    "random_words_half",
    "random_characters",
    "replaced_20",
    "replaced_40",
)


@pytest.mark.parametrize("kind", [*SALAD, "loop_sentence", "loop_word", "echo"])
def test_salad_loops_and_echoes_fail(results, kind):
    assert results["corruption", kind, "auc_quality"] >= 0.98
    assert results["corruption", kind, "failing_share"] >= 0.95


def test_good_texts_pass(results):
    assert results["good", "all", "failing_share"] <= 0.04
    for source in ("hanna_human", "macgyver_human", "novelty_human", "hanna_llm", "ttcw"):
        assert results["good", source, "failing_share"] <= 0.06


def test_quality_falls_with_temperature_where_plain_diversity_rises(results):
    heats = [f"temperature_{heat}" for heat in ("0.7", "1.0", "1.3", "1.5", "2.0")]
    means = [results["smollm", heat, "quality_mean"] for heat in heats]
    assert means == sorted(means, reverse=True)
    plain = [results["smollm", heat, "semantic_distance"] for heat in heats]
    kept = [results["smollm", heat, "effective_diversity"] for heat in heats]
    assert plain[0] < plain[1] < plain[2]  # then all is salad, and salads are alike
    assert max(kept[2:]) < 0.1 < min(kept[:2])


def fluency(bits):
    text = "The ovens were hot when Tomas came down the stairs and nobody had slept at all."
    return quality(Observed(text, "", [bits] * 40)).parts["fluency"]


def test_bounds_are_those_that_were_read_off(results):
    """1 at the median of good texts, 1/2 between the last good ones and the first broken ones."""
    half, last, broken = (
        results["bounds", "fluency", name] for name in ("good_half", "good_last", "broken_first")
    )
    assert last < broken
    assert fluency(half) == pytest.approx(1, abs=0.05)
    assert fluency((last + broken) / 2) == pytest.approx(0.5, abs=0.05)
