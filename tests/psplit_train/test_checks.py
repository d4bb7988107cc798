"""Settings that do not go together."""

import pytest

from psplit_eval.errors import UsageError
from psplit_train.checks import check_config, holds_groups, micro_batch, update_share
from psplit_train.config import Config


def config(**sections):
    return Config(**{"model": {"tiny": {}}, "data": {"task": "sums"}, **sections})


def test_defaults_pass_without_a_word():
    assert check_config(config()) == []
    assert check_config(config(method="policy_split_stable")) == []
    assert check_config(config(method="grpo")) == []


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"train": {"iterations": 4}, "checkpoints": {"every": 6}},
            "checkpoints.every 6: expected a multiple of train.iterations 4, as resuming inside a "
            "batch of responses is not exact; make it 8",
        ),
        (
            {"checkpoints": {"every": 4}, "evaluate": {"every": 6}},
            "evaluate.every 6: expected a multiple of checkpoints.every 4; make it 8",
        ),
        (
            {"evaluate": {"every": 6}},
            "evaluate.every 6: expected a multiple of checkpoints.every, which is not set; set "
            "checkpoints.every to 6",
        ),
        (
            {"train": {"micro_batch": 24}},
            "train.micro_batch 24: expected a divisor of the 64 responses of a process (8 queries "
            "× 8 rollouts / 1 processes); make it 16",
        ),
        (
            {"train": {"rollouts": 2}, "method": {"sharing": "off"}},
            "train.rollouts 2: one response of each mode, expected two or more",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_fix(sections, said):
    with pytest.raises(UsageError) as caught:
        check_config(config(**sections))
    assert str(caught.value).startswith(said)


def test_what_is_refused_passes_once_it_is_mended():
    assert check_config(config(train={"iterations": 4}, checkpoints={"every": 8})) == []
    assert check_config(config(checkpoints={"every": 4}, evaluate={"every": 8})) == []
    assert check_config(config(evaluate={})) == []  # at the end only
    assert check_config(config(train={"micro_batch": 16})) == []
    assert check_config(config(train={"rollouts": 2})) == []  # shared: two in a group


def test_processes_share_evenly():
    train = {"queries": 3, "rollouts": 8, "micro_batch": 4}
    assert check_config(config(train=train), processes=3) == []
    with pytest.raises(UsageError, match="its 24 responses are not shared evenly by 5 processes"):
        check_config(config(train=train), processes=5)
    with pytest.raises(UsageError, match=r"divisor of the 3 responses of a process.*make it 3"):
        check_config(config(train=train), processes=8)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"method": {"correctness_mask": "all_same"}}, "every bonus is 0"),
        ({"method": {"rarity": True}, "data": {"file": "x"}}, "one right answer"),
        ({"train": {"beta": 0.1}, "model": {"tiny": {}, "lora": {}}}, "without its adapters"),
        ({"warmup": {"keep": {"requests": "x"}}}, "no warm-up to keep anything"),
        (
            {"warmup": {"steps": 2, "keep": {"requests": "x"}}, "model": {"tiny": {}}},
            "from nothing",
        ),
        ({"modes": ["normal"]}, "nothing is split"),
        ({"method": {"sharing": "off", "positive_only": True}}, "method.positive_only with"),
        ({"method": {"sharing": "off", "truncated_weights": 1}}, "method.truncated_weights with"),
        ({"stability": {"controller": {"target_bits": 1}}, "modes": ["a", "b"]}, "none is trained"),
        ({"stability": {"controller": {"target_bits": 1}}, "method": "grpo"}, "none is trained"),
        ({"stability": {"stop": True}}, "set checkpoints.every"),
    ],
)
def test_what_is_pointless_is_said(sections, said):
    (line,) = check_config(config(**sections))
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"stability": {"controller": {"target_bits": 1}}},
            "both would move eta; set target_gap_bits to null",
        ),
        ({"modes": ["normal", {"name": "high", "eta": 0}]}, "mode 'high': eta 0, expected one"),
    ],
)
def test_what_cannot_hold_a_gap_is_refused(sections, said):
    with pytest.raises(UsageError, match=said):
        check_config(config(method={"target_gap_bits": 0.4}, **sections))
    assert check_config(config(method={"target_gap_bits": 0.4})) == []


@pytest.mark.parametrize(
    "sections",
    [
        {"method": {"correctness_mask": "all_same", "kappa": 0}},
        {"method": {"rarity": True}},
        {"warmup": {"steps": 2, "keep": {"requests": "x"}}, "model": {"checkpoint": "x"}},
        {"train": {"beta": 0.1}},
        {"modes": ["normal"], "method": "grpo"},
        {"method": {"sharing": "to_normal", "positive_only": True}},
        {"stability": {"controller": {"target_bits": 1}}},
        {"stability": {"stop": True}, "checkpoints": {"every": 5}},
        {"model": {"checkpoint": "x", "dtype": "bfloat16"}},  # weights stay float32
    ],
)
def test_what_has_a_point_is_not_said(sections):
    assert check_config(config(**sections)) == []


@pytest.mark.parametrize(
    ("train", "processes", "share", "micro", "whole"),
    [
        ({}, 1, 64, 64, True),
        ({}, 2, 32, 32, True),
        ({}, 16, 4, 4, False),
        ({"micro_batch": 8}, 2, 32, 8, True),
        ({"micro_batch": 4}, 2, 32, 4, False),
        ({"queries": 3, "micro_batch": 12}, 1, 24, 12, False),  # half a group too much
    ],
)
def test_shares(train, processes, share, micro, whole):
    made = config(train=train)
    assert update_share(made, processes) == share
    assert micro_batch(made, processes) == micro
    assert holds_groups(made, processes) is whole
