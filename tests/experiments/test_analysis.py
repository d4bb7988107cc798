"""Values, differences and claims of arms whose numbers were put there."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

from experiments.analysis import (
    MODES,
    claims,
    comparisons,
    creative_comparisons,
    creative_summary,
    creative_tasks,
    excess,
    matched,
    seed_mean,
    summary,
    trained_arms,
)
from experiments.records import Evaluation, Means, Record
from experiments.study import Study
from psplit_eval.errors import DataError

DOCS, SEEDS, TOKENS = 40, 5, 60.0
CONFIG = Path(__file__).parents[2] / "experiments" / "sums_train.yaml"
ARMS = {
    "base": {},
    "GRPO": {"method.name": "grpo"},
    "split": {"method.eta": "0.3"},
    "other": {"method.eta": "0.2"},
}


def study(**changes):
    content = {
        "title": "t",
        "about": "a",
        "config": CONFIG,
        "reference": "GRPO",
        "candidates": ["split"],
        "start": {"model": {}, "warmup": {"steps": 1}},
        "prompts": {"rewritten": "b", "low": "c", "placebos": ["d"]},
        "evaluate": {"steps": [1, 2]},
        "arms": [{"name": n, "main": n != "other", "set": sets} for n, sets in ARMS.items()],
    }
    return Study.model_validate({**content, **changes})


@cache
def config_of(arm, seed):
    return study().digest(study().arm(arm), seed)


def metrics(rng, accuracy, bits, unique):
    noise = rng.normal(0, 0.02, DOCS)
    return {
        "accuracy_avg": list(accuracy + noise),
        "accuracy_unique": list(unique + 10 * noise),
        "accuracy_pass_at_8": list(np.ones(DOCS)),
        "bits": list(TOKENS * (bits + noise)),
        "tokens": [TOKENS] * DOCS,
    }


def record(arm, seed, normal, high, beyond=0.3, alarms=(), docs="d"):
    """`normal`, `high`: (accuracy, bits a token, unique) of the mode."""
    rng = np.random.default_rng([seed, *map(ord, arm)])
    shift = np.array([rng.normal(0, 0.005), 0, 0])
    named = {"held_out": [f"{docs}{i}" for i in range(DOCS)]}
    named["trained"] = [f"t{docs}{i}" for i in range(DOCS)]

    def evaluation(step):
        modes = {
            mode: metrics(rng, *(np.array(of) + shift))
            for mode, of in (("normal", normal), ("high", high))
        }
        return Evaluation(step, named, {"held_out": modes, "trained": modes})

    found = [
        {"measure": "kl", "excess": beyond + 0.1},
        {"measure": "kl", "excess": beyond + rng.normal(0, 0.01)},
        {"measure": "entropy", "excess": 0.5},
    ]
    splits = [{"mode": "high", "verdict": "yes", "beyond_placebos": found}]
    evaluations = [evaluation(1), evaluation(2)]
    config = config_of(arm, seed)
    return Record(arm, seed, {}, config, {}, evaluations, splits, 20, alarms=alarms)


PLAIN, GOOD = ((0.9, 0.3, 4.0), (0.9, 0.3, 4.0)), ((0.95, 0.2, 4.5), (0.9, 0.8, 12.0))


def records(split=GOOD, **more):
    return [
        *(record("base", seed, *PLAIN) for seed in range(SEEDS)),
        *(record("GRPO", seed, *PLAIN) for seed in range(SEEDS)),
        *(record("split", seed, *split, **more) for seed in range(SEEDS)),
        *(record("other", seed, *PLAIN) for seed in range(3)),
    ]


def arms(found):
    return {each.arm.name: each for each in trained_arms(study(), found)}


def test_a_value_is_a_mean_over_checkpoints():
    some = record("split", 0, *GOOD)
    expected = np.mean(
        [e.values["held_out"]["high"]["accuracy_unique"] for e in some.evaluations], axis=0
    )
    values = arms([some])["split"].values("unique", "high")
    assert values.shape == (1, DOCS)
    np.testing.assert_allclose(values[0], expected)


def test_entropy_is_bits_a_token():
    some = record("split", 0, *GOOD)
    both = [e.values["held_out"]["high"] for e in some.evaluations]
    bits = np.sum([values["bits"] for values in both], axis=0)
    tokens = np.sum([values["tokens"] for values in both], axis=0)
    np.testing.assert_allclose(arms([some])["split"].values("entropy", "high")[0], bits / tokens)


def test_the_mean_of_an_arm_has_an_interval_of_seeds_and_docs():
    found = summary(arms(records())["GRPO"], "accuracy", "normal")
    assert found.ci_low < found.value_b < found.ci_high
    assert found.value_b == pytest.approx(0.9, abs=0.02)


def test_the_base_is_one_checkpoint_so_its_interval_is_over_docs():
    base = arms(records())["base"]
    values = base.values("accuracy", "normal").mean(axis=0)
    expected = reference.t.interval(0.95, DOCS - 1, values.mean(), reference.sem(values))
    found = summary(base, "accuracy", "normal")
    assert (found.ci_low, found.ci_high) == pytest.approx(expected)


def test_the_main_table_leaves_out_base_and_ablations():
    found = comparisons(study(), list(arms(records()).values()))
    assert {each.arm for each in found} == {"GRPO", "split"}
    assert len(found) == 5


def test_differences_are_to_the_reference_and_corrected_together():
    found = comparisons(study(), list(arms(records()).values()))
    by_name = {(each.arm, each.what): each for each in found}
    accuracy = by_name["split", "accuracy, normal less GRPO"].difference
    assert accuracy.difference == pytest.approx(0.05, abs=0.01)
    assert by_name["split", "entropy, high less normal"].difference.difference > 0.5
    ranked = sorted(each.difference.p for each in found)
    least = min(found, key=lambda each: each.difference.p)
    assert least.p_adjusted == pytest.approx(min(1, ranked[0] * len(found)))
    assert all(each.p_adjusted >= each.difference.p for each in found)


def answers(found):
    return {claim.words.split(":")[0]: claim.answer for claim in claims(study(), found)}


def test_an_arm_of_two_modes_has_all_that_is_wanted():
    assert set(answers(list(arms(records()).values())).values()) == {"yes"}


def test_what_is_missing_is_not_claimed():
    worse = ((0.80, 0.30, 4.0), (0.60, 0.35, 4.1))
    found = answers(list(arms(records(worse, beyond=0.01, alarms=("collapse",))).values()))
    assert set(found.values()) == {"no", "yes"}
    assert [words for words, answer in found.items() if answer == "yes"] == [
        "accuracy, normal, held-out less trained docs",
        "accuracy, high, held-out less trained docs",
    ]


def test_what_seeds_cannot_tell_is_inconclusive():
    near = ((0.882, 0.2, 4.5), (0.87, 0.8, 12.0))  # nearly two points below
    found = answers(list(arms(records(near)).values()))
    assert found["accuracy, normal less GRPO's"] == "inconclusive"


def test_one_seed_claims_nothing():
    some = [record("GRPO", 0, *PLAIN), record("split", 0, *GOOD)]
    assert claims(study(), list(arms(some).values())) == []
    assert comparisons(study(), list(arms(some).values())) == []


def test_beyond_placebos_is_beyond_the_nearest():
    some = record("split", 0, *GOOD, beyond=0.3)
    assert excess(some) == pytest.approx(0.3, abs=0.05)
    assert excess(some, measure="entropy") == 0.5


def test_records_of_other_docs_are_refused():
    mixed = [record("GRPO", 0, *PLAIN), record("GRPO", 1, *PLAIN, docs="e")]
    with pytest.raises(DataError, match="different docs"):
        trained_arms(study(), mixed)


def test_records_of_another_config_are_refused():
    other = replace(record("GRPO", 3, *PLAIN), config="of before")
    with pytest.raises(DataError, match=r"grpo-3\.json\.gz: of another config"):
        trained_arms(study(), [other])


def test_the_config_of_an_arm_is_its_settings_and_its_seed():
    more = {"GRPO": {"method.name": "grpo", "train.learning_rate": "1e-4"}}
    changed = study(arms=[{"name": n, "set": sets} for n, sets in {**ARMS, **more}.items()])
    assert config_of("GRPO", 0) == study().digest(study().arm("GRPO"), 0)
    assert config_of("GRPO", 0) != config_of("GRPO", 1)
    assert config_of("GRPO", 0) != changed.digest(changed.arm("GRPO"), 0)


def warmed(arm, seed, counts):
    """A record of one policy: temperature → (accuracy, different right answers) of every doc."""
    values = {
        name: metrics(np.random.default_rng(0), right, 0.3, unique)
        for name, (right, unique) in counts.items()
    }
    return replace(record(arm, seed, *PLAIN), temperatures=values)


def beside(arm, counts, split=GOOD):
    """What is found of `split`, whose high mode has 12 different right answers (GOOD)."""
    made = [warmed(arm, seed, counts) for seed in range(3)]
    made += [record("split", seed, *split) for seed in range(3)]
    return matched(study(), list(arms(made).values()))


@pytest.mark.parametrize("arm", ["base", "GRPO"])
def test_high_is_set_beside_one_policy_where_that_has_as_many_answers(arm):
    """12 of 8 and 16 lie halfway between temperatures 1.5 and 2, so accuracy does as well."""
    (found,) = beside(arm, {"1.5": (0.8, 8.0), "2": (0.6, 16.0), "3": (0.5, 20.0)})
    assert (found.arm, found.other) == ("split", arm)
    assert found.temperature == pytest.approx(1.75, abs=0.02)
    assert found.unique[0] == pytest.approx(found.unique[1])
    assert found.difference.value_a == pytest.approx(0.7, abs=0.01)
    assert found.difference.difference == pytest.approx(0.2, abs=0.02)
    assert found.p_adjusted == found.difference.p < 0.001


def test_where_one_policy_never_has_so_many_its_most_is_taken():
    (found,) = beside("GRPO", {"1.5": (0.8, 8.0), "2": (0.6, 9.0), "3": (0.5, 5.0)})
    assert found.temperature == 2
    assert found.unique[0] == pytest.approx(9, abs=0.2)
    assert found.difference.value_a == pytest.approx(0.6, abs=0.01)


def test_where_the_coolest_has_more_it_is_taken():
    few = ((0.95, 0.2, 4.5), (0.9, 0.8, 5.0))
    (found,) = beside("base", {"0.5": (0.97, 8.0), "2": (0.6, 9.0)}, few)
    assert found.temperature == 0.5


def test_without_temperatures_there_is_nothing_to_match():
    assert matched(study(), list(arms(records()).values())) == []
    some = [warmed("GRPO", 0, {"2": (0.6, 9.0)}), record("GRPO", 1, *PLAIN)]
    assert not arms(some)["GRPO"].warmed("unique"), "one record has none"


def creative(arm, seed, gain):
    """A record with stories: `gain` more dispersion in high than in normal, one doc undefined."""
    rng = np.random.default_rng([7, seed, *map(ord, arm)])
    values = {
        mode: {
            "effective_dispersion": [float("nan"), *(0.5 + more + rng.normal(0, 0.05, 19))],
            "quality": list(rng.uniform(0.6, 0.8, 20)),
            "bits": [120.0] * 20,
            "tokens": [60.0] * 20,
        }
        for mode, more in (("normal", 0.0), ("high", gain))
    }
    return replace(record(arm, seed, *PLAIN), creative={"stories": values})


def test_creative_tasks_are_compared_by_their_first_metric_where_it_is_defined():
    made = [
        creative(arm, seed, gain) for arm, gain in (("base", 0), ("split", 0.2)) for seed in (0, 1)
    ]
    both = arms(made)
    assert creative_tasks(list(both.values())) == {
        "stories": ["effective_dispersion", "quality", "entropy"]
    }
    found = {(each.arm, each.what): each for each in creative_comparisons(list(both.values()))}
    assert list(found) == [
        ("base", "stories, high less normal"),
        ("split", "stories, high less normal"),
        ("split", "stories, normal less base's"),
        ("split", "stories, high less base's"),
    ]
    gap = found["split", "stories, high less normal"]
    values = [both["split"].creative("effective_dispersion", mode, "stories") for mode in MODES]
    assert gap.difference.difference == pytest.approx(np.nanmean(values[1] - values[0]))
    assert gap.difference.n == 19
    assert gap.p_adjusted >= gap.difference.p
    start = both["base"].creative("effective_dispersion", "high", "stories").mean(axis=0)
    less = found["split", "stories, high less base's"].difference
    assert less.difference == pytest.approx(np.nanmean(values[1] - start))
    assert creative_summary(both["split"], "entropy", "high", "stories").value_b == 2.0


def test_creative_tasks_that_some_records_lack_are_left_out():
    assert (
        creative_tasks(list(arms([creative("base", 0, 0), record("split", 0, *GOOD)]).values()))
        == {}
    )
    assert creative_tasks([]) == {}


def test_a_seed_has_a_mean_by_its_answers_or_by_its_reports():
    some = record("split", 0, *GOOD)
    expected = np.mean([e.values["held_out"]["high"]["accuracy_unique"] for e in some.evaluations])
    assert seed_mean(some, "unique", "high") == pytest.approx(expected)
    bits = [
        np.sum(e.values["held_out"]["high"]["bits"]) / (DOCS * TOKENS) for e in some.evaluations
    ]
    assert seed_mean(some, "entropy", "high") == pytest.approx(np.mean(bits))
    said = {"accuracy_avg": 0.5, "entropy_bits": 0.25}
    means = [Means(step, {"held_out": {"high": said}}) for step in (1, 2)]
    left = replace(some, evaluations=[], means=means)
    assert (seed_mean(left, "accuracy", "high"), seed_mean(left, "entropy", "high")) == (0.5, 0.25)
    assert np.isnan(seed_mean(replace(some, evaluations=[]), "accuracy", "high"))
