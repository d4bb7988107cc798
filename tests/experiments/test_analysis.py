"""Values, differences, claims and pages of arms whose numbers were put there."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats as reference

from experiments.__main__ import main
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
from experiments.measuring import PROMPTS
from experiments.page import write_page
from experiments.records import Evaluation, Means, Record, write_record
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


def content(**changes):
    given = {
        "title": "t",
        "about": "a",
        "config": str(CONFIG),
        "reference": "GRPO",
        "candidates": ["split"],
        "start": {"model": {}, "warmup": {"steps": 1}},
        "prompts": {"rewritten": "b", "low": "c", "placebos": ["d"]},
        "evaluate": {"steps": [1, 2]},
        "arms": [{"name": n, "main": n != "other", "set": sets} for n, sets in ARMS.items()],
    }
    return {**given, **changes}


def study(**changes):
    return Study.model_validate(content(**changes))


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


def record(arm, seed, normal, high, beyond=0.3, alarms=(), docs="d", learnt=0.0):
    """`normal`, `high`: (accuracy, bits a token, unique) of the mode; `learnt`: accuracy of trained
    docs above that of held-out ones."""
    rng = np.random.default_rng([seed, *map(ord, arm)])
    shift = np.array([rng.normal(0, 0.005), 0, 0])
    named = {"held_out": [f"{docs}{i}" for i in range(DOCS)]}
    named["trained"] = [f"t{docs}{i}" for i in range(DOCS)]

    def evaluation(step):
        tasks = {
            task: {
                mode: metrics(rng, *(np.array(of) + shift + (more, 0, 0)))
                for mode, of in (("normal", normal), ("high", high))
            }
            for task, more in (("held_out", 0), ("trained", learnt))
        }
        return Evaluation(step, named, tasks)

    found = [
        {"measure": "kl", "excess": beyond + 0.1},
        {"measure": "kl", "excess": beyond + rng.normal(0, 0.01)},
        {"measure": "entropy", "excess": 0.5},
    ]
    splits = [{"mode": mode, "verdict": "yes", "beyond_placebos": found} for mode in PROMPTS]
    evaluations = [evaluation(1), evaluation(2)]
    config = config_of(arm, seed)
    return Record(arm, seed, {}, config, {"torch": "2"}, evaluations, splits, 20, alarms=alarms)


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


BOUNDS = (
    ("accuracy, normal less GRPO's", lambda x: ((0.88 + x / 20, 0.2, 4.0), (0.9, 0.8, 12.0))),
    ("accuracy, high less 0.9 × normal", lambda x: ((0.9, 0.2, 4.0), (0.81 + x / 20, 0.8, 12.0))),
    ("entropy, high less normal", lambda x: ((0.9, 0.2, 4.0), (0.9, 0.5 + x / 20, 12.0))),
    ("unique right answers, high at least 2 × GRPO's", lambda x: (PLAIN[0], (0.9, 0.8, 8 + x))),
    ("unique right answers, high at least 2 × normal's", lambda x: (PLAIN[0], (0.9, 0.8, 8 + x))),
)


@pytest.mark.parametrize(("off", "answer"), [(-0.6, "no"), (0.6, "yes")])
def test_a_claim_holds_just_above_its_bound_and_not_below(off, answer):
    for words, split in BOUNDS:
        assert answers(list(arms(records(split(off))).values()))[words] == answer, words
    beyond = answers(list(arms(records(beyond=0.1 + off / 20)).values()))
    assert beyond["KL of high beyond the nearest placebo"] == answer
    learnt = answers(list(arms(records(learnt=0.05 - off / 20)).values()))
    for mode in MODES:
        assert learnt[f"accuracy, {mode}, held-out less trained docs"] == answer


def claimed(found):
    return {claim.words.split(":")[0]: claim for claim in claims(study(), found)}


def test_a_claim_has_a_one_sided_p_corrected_over_all_of_them():
    """By scipy of one, and Holm's of the least and the greatest by hand."""
    made = records(((0.9, 0.2, 4.5), (0.87, 0.55, 10.0)), beyond=0.11)
    found = claimed(list(arms(made).values()))
    values = [excess(each) for each in made if each.arm == "split"]
    test = reference.ttest_1samp(values, 0.1, alternative="greater")
    claim = found["KL of high beyond the nearest placebo"]
    assert claim.p == pytest.approx(test.pvalue)
    limits = reference.t.interval(0.95, SEEDS - 1, np.mean(values), reference.sem(values))
    assert (claim.low, claim.high) == pytest.approx(limits)
    ranked = sorted((each for each in found.values() if not each.counted), key=lambda e: e.p)
    assert len(ranked) == 8
    assert ranked[0].p_adjusted == pytest.approx(8 * ranked[0].p, abs=0)
    assert ranked[1].p_adjusted == pytest.approx(max(8 * ranked[0].p, 7 * ranked[1].p), abs=0)


def test_what_is_not_known_is_inconclusive_and_counts_all_the_same():
    made = records()
    one = next(each for each in made if each.arm == "split")
    for split in one.splits:
        split["beyond_placebos"] = [{"measure": "kl", "excess": None}]
    found = claimed(list(arms(made).values()))
    assert found["KL of high beyond the nearest placebo"].answer == "inconclusive"
    assert found["share of seeds without an alarm"].answer == "yes"
    ranked = sorted(each.p for each in found.values() if np.isfinite(each.p))
    least = min(found.values(), key=lambda each: (np.isnan(each.p), each.p))
    assert least.p_adjusted == pytest.approx(8 * ranked[0], abs=0)


def test_modes_of_one_seed_are_compared_with_each_other():
    """Seeds differ widely, and both modes of each alike."""
    made = records()[: 2 * SEEDS]
    for seed, off in enumerate((-0.1, -0.05, 0, 0.05, 0.1)):
        normal, high = (0.8 + off, 0.4 + off, 6 + 10 * off), (0.8 + 0.9 * off, 0.9 + off, 14)
        made.append(record("split", seed, normal, (*high[:2], 14 + 20 * off)))
    both = list(arms(made).values())
    found = claimed(both)
    for words, most in (
        ("accuracy, high less 0.9 × normal", 0.05),
        ("entropy, high less normal", 0.05),
        ("unique right answers, high at least 2 × normal's", 1.0),
    ):
        assert found[words].high - found[words].low < most
    compared = {(each.arm, each.what): each.difference for each in comparisons(study(), both)}
    gap = compared["split", "entropy, high less normal"]
    assert gap.ci_high - gap.ci_low < 0.05


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


def test_low_is_beyond_placebos_where_it_has_less_entropy_than_all():
    """Normal, which psplit-eval's own answer counts as one, is none of them."""
    gaps = {"placebo_1": -0.3, "placebo_2": -0.1, "normal": -0.5}
    beyond = [{"measure": "entropy", "placebo": n, "excess": gap} for n, gap in gaps.items()]
    beyond += [{"measure": "kl", "placebo": "placebo_1", "excess": kl} for kl in (0.2, 0.4)]
    splits = [{"mode": mode, "beyond_placebos": beyond} for mode in PROMPTS]
    some = replace(record("split", 0, *GOOD), splits=splits)
    assert [excess(some, mode, "entropy") for mode in PROMPTS] == [-0.3, -0.3, -0.1]
    assert [excess(some, mode) for mode in PROMPTS] == [0.2, 0.2, 0.2]


def test_records_of_other_docs_are_refused():
    mixed = [record("GRPO", 0, *PLAIN), record("GRPO", 1, *PLAIN, docs="e")]
    with pytest.raises(DataError, match=r"grpo-0\.json\.gz and grpo-1\.json\.gz: of different"):
        trained_arms(study(), mixed)


def test_records_of_another_config_are_refused():
    other = replace(record("GRPO", 3, *PLAIN), config="of before")
    with pytest.raises(DataError, match=r"grpo-3\.json\.gz: of another config"):
        trained_arms(study(), [other])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": "of before"}, "of another start, prompts, evaluation or model"),
        ({"arm": "gone"}, "of arm 'gone', which is none of the study's"),
    ],
)
def test_records_of_another_study_are_refused(changes, said):
    known = replace(record("GRPO", 3, *PLAIN), study=study().frame(study().arm("GRPO")))
    assert trained_arms(study(), [known])
    with pytest.raises(DataError, match=rf"-3\.json\.gz: {said}.*delete it") as caught:
        trained_arms(study(), [replace(known, **changes)])
    assert "\n" not in str(caught.value)


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


def with_stories(arm, seed, drop=(), **more):
    """A creative record without some of its metrics, and with others."""
    made = creative(arm, seed, 0.2)
    stories = {
        mode: {name: found for name, found in {**values, **more}.items() if name not in drop}
        for mode, values in made.creative["stories"].items()
    }
    return replace(made, creative={"stories": stories})


def test_creative_metrics_are_those_of_all_records():
    made = [creative("base", 0, 0), with_stories("split", 0, ["quality"], passing=[1.0] * 20)]
    tasks = creative_tasks(list(arms(made).values()))
    assert tasks == {"stories": ["effective_dispersion", "entropy"]}
    made = [creative("base", 0, 0), with_stories("split", 0, ["effective_dispersion"])]
    with pytest.raises(DataError, match=r"stories: .* by effective_dispersion and quality"):
        creative_tasks(list(arms(made).values()))


def test_what_is_defined_in_no_doc_of_a_seed_has_no_difference():
    made = [creative("split", 0, 0.2), with_stories("split", 1, quality=[float("nan")] * 20)]
    both = arms(made)
    assert np.isnan(creative_summary(both["split"], "quality", "high", "stories").value_b)
    undefined = with_stories("split", 1, effective_dispersion=[float("nan")] * 20)
    (found,) = creative_comparisons(list(arms([made[0], undefined]).values()))
    assert np.isnan([found.difference.difference, found.difference.p]).all()


def page_of(folder, made, **changes):
    for each in made:
        write_record(folder / "records", each)
    given = study(**changes)
    return write_page(given, Path("t.yaml"), folder / "records", folder / "pages").read_text()


def test_a_page_without_evaluations(tmp_path):
    assert "[arms](../../experiments/t.yaml)). Evaluated" in page_of(tmp_path, [])


def test_a_page_of_ablations_only_has_no_main_table(tmp_path):
    page = page_of(tmp_path, [record("other", seed, *PLAIN) for seed in range(2)])
    assert "## Other methods" in page
    assert "in brackets 95 % intervals" in page
    assert "main table" not in page
    assert {path.name for path in (tmp_path / "pages" / "t").glob("*.png")} == {"others.png"}


def test_a_study_is_finished_when_each_of_its_arms_is(tmp_path):
    some = [{"name": n, "main": True, "set": ARMS[n], "seeds": 2} for n in ("GRPO", "split")]
    made = [record("GRPO", seed, *PLAIN) for seed in range(3)]
    page = page_of(tmp_path, [*made, record("split", 0, *GOOD)], arms=some)
    assert "3 of 4 records are there. **Not finished**" in page
    assert "4 of 4 records are there. This" in page_of(
        tmp_path, [record("split", 1, *GOOD)], arms=some
    )


def test_what_a_page_knows_not_is_left_empty(tmp_path):
    empty = {name: [float("nan")] * 20 for name in ("effective_dispersion", "quality")}
    made = [with_stories(arm, seed, **empty) for arm, seed in (("base", 0), ("split", 0))]
    made += [creative(arm, seed, 0.2) for arm, seed in (("split", 1), ("GRPO", 0), ("GRPO", 1))]
    made[1].splits[0]["beyond_placebos"] = [{"measure": "kl", "excess": None}]
    page = page_of(tmp_path, made, creative={"tasks": ["stories"]})
    assert "| split | 2 | normal |  |  | 2.000 |" in page
    assert "| split | stories, high less normal |  |  |  |" in page
    assert "nan" not in page


def written(folder, made, **changes):
    """A study's file, its records beside it, and a start that was kept."""
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump(content(evaluate={"steps": [1400, 1500]}, **changes)))
    kept = folder / "starts" / "t" / "psplit_warmup.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"settings": {"steps": 1, "batch": 64, "learning_rate": 0.001, "seed": 0}}')
    for each in made:
        write_record(folder / "records" / "t", each)
    return str(path)


def test_a_record_of_the_base_that_is_missing_is_missed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = [record(arm, seed, *PLAIN) for arm in list(ARMS)[1:] for seed in range(3)]
    path = written(tmp_path, made)
    given = [path, "--arms", "GRPO,split,other", "--jobs", "1", "--pages", "pages"]
    assert main(given) == 4, capsys.readouterr().err
    for seed in range(3):
        write_record(tmp_path / "records" / "t", record("base", seed, *PLAIN))
    assert main(given) == 0


def test_a_stale_record_is_found_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, [replace(record("GRPO", 0, *PLAIN), config="of before")])
    assert main([path, "--jobs", "1"]) == 2
    assert "record grpo-0.json.gz: of another config" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


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
