"""The reference itself, against numbers worked out by hand (the working is in the comments)."""

import math

import numpy as np
import pytest
from split_reference import policy_split_advantages

# One query, rows 0 and 1 drawn by mode 0 (normal), rows 2 and 3 by mode 1 (high), a token each.
# Rewards 1 0 0 0: mean 1/4, squares 9/16 + 3 * 1/16 = 3/4, over 3 = 1/4, deviation 1/2.
RIGHT, WRONG = 0.75 / 0.5001, -0.25 / 0.5001
# Bonus of the high mode, alpha 1/2, from -log pi_high = 0 2 1 4 and -log pi_normal = 2 0 1 2:
# b = 1 1 1 3: mean 3/2, squares 3 * 1/4 + 9/4 = 3, over 3 = 1, deviation 1.
LOW, TOP = -0.5 / 1.0001, 1.5 / 1.0001
NORMAL = [-2.0, 0.0, -1.0, -2.0]
HIGH = [0.0, -2.0, -1.0, -4.0]


def one_query(**changes):
    """(2, 4): the advantages of the query above, a token a row."""
    asked = {
        "rewards": [1, 0, 0, 0],
        "sampler": [0, 0, 1, 1],
        "mask": np.ones((4, 1)),
        "log_probs": np.array([NORMAL, HIGH])[:, :, None],
        "entropies": np.zeros((2, 4, 1)),
        "group": 4,
        "eta": [0.0, 0.4],
        "reference": [0, 0],
        **changes,
    }
    return policy_split_advantages(**asked)[:, :, 0]


def close(*expected):
    return pytest.approx(np.array(expected), abs=1e-12)


def test_the_normal_mode_has_grpo_s_advantage():
    assert one_query()[0] == close(RIGHT, WRONG, WRONG, WRONG)


def test_the_clamp_of_the_code():
    # bounds |A| / 2 = .75 .25 .25 .25; .4 * B = -.2 -.2 -.2 .6: only the last is cut, to .25
    high = one_query()[1]
    assert high == close(RIGHT + 0.4 * LOW, *[WRONG + 0.4 * LOW] * 2, WRONG - WRONG / 2)


def test_the_clamp_of_the_paper():
    # B = -.5 -.5 -.5 1.5 against the same bounds: -.5, then -.25 twice, then .25; times .4
    high = one_query(clip_form="paper")[1]
    cut = 0.4 * WRONG / 2
    assert high == close(RIGHT + 0.4 * LOW, WRONG + cut, WRONG + cut, WRONG - cut)


def test_no_clamp():
    high = one_query(kappa=0)[1]
    assert high == close(RIGHT + 0.4 * LOW, *[WRONG + 0.4 * LOW] * 2, WRONG + 0.4 * TOP)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_a_dead_group_learns_nothing_unless_the_clamp_is_off(form):
    assert not one_query(rewards=[1, 1, 1, 1], clip_form=form).any()
    high = one_query(rewards=[1, 1, 1, 1], clip_form=form, kappa=0)[1]
    assert high == close(*[0.4 * LOW] * 3, 0.4 * TOP)


def test_alpha_mixes_the_two_log_probabilities():
    # alpha 1: b = 0 2 1 4: mean 7/4, squares (49 + 1 + 9 + 81) / 16 = 35/4, over 3
    high = one_query(alpha=1.0, kappa=0)[1]
    spread = math.sqrt(35 / 12) + 1e-4
    size = np.array([0, 2, 1, 4]) - 7 / 4
    assert high == close(*(np.array([RIGHT, WRONG, WRONG, WRONG]) + 0.4 * size / spread))


def test_the_other_normalisations():
    a = np.array([RIGHT, WRONG, WRONG, WRONG])
    ranged = one_query(normalise="mean", kappa=0)[1]  # b = 1 1 1 3: range 2
    assert ranged == close(*(a + 0.4 * np.array([-0.5, -0.5, -0.5, 1.5]) / 2.0001))
    assert one_query(normalise="none", kappa=0)[1] == close(*(a + 0.4 * np.array([1, 1, 1, 3])))


def test_an_entropy_in_place_of_the_log_probability():
    # H_high = 0 2 1 4 and H_normal = 2 0 1 2 make the same b, whatever the log-probabilities
    entropies = -np.array([NORMAL, HIGH])[:, :, None]
    high = one_query(entropies=entropies, log_probs=np.zeros((2, 4, 1)), estimate="entropy")[1]
    assert high == close(*one_query()[1])


def test_the_lowest_bonuses_are_dropped_below_the_quantile_not_at_it():
    # b = 0 2 1 4 (alpha 1), half: the quantile stands between 1 and 2, so 0 and 1 go
    high = one_query(alpha=1.0, normalise="none", kappa=0, lowest_entropy_mask_ratio=0.5)[1]
    assert high == close(RIGHT, WRONG + 0.4 * 2, WRONG, WRONG + 0.4 * 4)
    # a third: position 1 of 0 1 2 4, which is the value 1 itself, and it stays
    high = one_query(alpha=1.0, normalise="none", kappa=0, lowest_entropy_mask_ratio=1 / 3)[1]
    assert high == close(RIGHT, WRONG + 0.4 * 2, WRONG + 0.4 * 1, WRONG + 0.4 * 4)


def test_a_bonus_only_where_all_rewards_are_equal():
    mixed = one_query(correctness_mask="all_same", kappa=0)
    assert mixed[1] == close(RIGHT, WRONG, WRONG, WRONG)
    same = one_query(correctness_mask="all_same", kappa=0, rewards=[0, 0, 0, 0])
    assert same[1] == close(*[0.4 * LOW] * 3, 0.4 * TOP)


def test_without_sharing_each_mode_has_its_own_group():
    # rewards 1 0: mean 1/2, squares 1/2, over 1: deviation sqrt(1/2). High: 0 0, so A = 0;
    # its b = 1 3: mean 2, squares 2, over 1: deviation sqrt(2)
    own = one_query(takes=np.eye(2, dtype=bool), kappa=0)
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    b = 1 / (math.sqrt(2) + 1e-4)
    assert own[0] == close(a, -a, 0, 0)
    assert own[1] == close(0, 0, -0.4 * b, 0.4 * b)


def test_one_way_sharing():
    to_normal = one_query(takes=np.array([[True, True], [False, True]]))
    assert to_normal[0] == close(RIGHT, WRONG, WRONG, WRONG)
    assert not to_normal[1, :2].any()


def test_shared_rows_only_where_they_are_better_than_the_mean():
    kept = one_query(positive_only=True)
    assert kept[0] == close(RIGHT, WRONG, 0, 0)
    assert kept[1] == close(RIGHT + 0.4 * LOW, 0, *one_query()[1][2:])


def test_truncated_weights_on_shared_rows():
    # normal on rows 2, 3: pi_n / pi_h = exp(-1 + 1) = 1 and exp(-2 + 4), cut to 1
    # high on rows 0, 1: exp(0 + 2), cut to 1, and exp(-2 - 0) = .1353
    plain, cut = one_query(), one_query(truncated_weights=1.0)
    assert cut[0] == close(*plain[0])
    assert cut[1] == close(plain[1][0], math.exp(-2) * plain[1][1], *plain[1][2:])
    wider = one_query(truncated_weights=3.0)
    assert wider[0] == close(*plain[0][:3], 3 * plain[0][3])
    assert wider[1] == close(3 * plain[1][0], math.exp(-2) * plain[1][1], *plain[1][2:])


def test_an_unknown_reward_is_left_out():
    # 1 0 and unknown unknown: deviation sqrt(1/2) of the two that are known; both A = 0 elsewhere
    found = one_query(rewards=[1, 0, math.nan, math.nan])
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert found[0] == close(a, -a, 0, 0)
    assert found[1] == close(a + 0.4 * LOW, -a + 0.4 * LOW, 0, 0)
    assert not one_query(rewards=[1, math.nan, math.nan, math.nan]).any()
    # with no clamp its tokens have a bonus like others
    assert one_query(rewards=[math.nan] * 4, kappa=0)[1] == close(*[0.4 * LOW] * 3, 0.4 * TOP)


def test_a_reward_of_its_own_for_a_mode():
    own = one_query(rewards=None, rewards_by_mode=[[1, 0, 0, 0], [0, 0, 0, 1]], eta=[0, 0])
    assert own[0] == close(RIGHT, WRONG, WRONG, WRONG)
    assert own[1] == close(WRONG, WRONG, WRONG, RIGHT)


def test_a_bonus_of_the_normal_mode_with_its_sign():
    # its own log-probability alone: b = 2 0 1 2, unnormalised, times -.1; bounds .75 .25 .25 .25
    normal = one_query(eta=[-0.1, 0.0], normalise="none")[0]
    assert normal == close(RIGHT - 0.2, WRONG, WRONG - 0.1, WRONG - 0.2)


def test_tokens_are_pooled_over_a_query_and_masked_ones_are_nothing():
    # Row 0 has two tokens, row 1 one; b = 1 1 | 4 over the query: mean 2, squares 6, over 2 = 3.
    # A second query of the same rewards and other bonuses has statistics of its own.
    mask = np.array([[1, 1], [1, 0], [1, 1], [0, 0]])
    log_probs = -np.array([[[1, 1], [4, 99], [5, 5], [99, 99]]], dtype=float)
    found = policy_split_advantages(
        [1, 0, 0, 1], [0, 0, 0, 0], mask, log_probs, log_probs,
        group=2, eta=[1.0], reference=[0], kappa=0,
    )[0]  # fmt: skip
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    low, top = -1 / (math.sqrt(3) + 1e-4), 2 / (math.sqrt(3) + 1e-4)
    assert found == close([a + low, a + low], [-a + top, 0], [-a, -a], [0, 0])


def test_three_modes_one_of_them_of_low_entropy():
    # A row each of normal, high and low, rewards 1 1 0: mean 2/3, squares 1/9 + 1/9 + 4/9 = 2/3,
    # over 2 = 1/3. The low mode (eta -.5) takes high as its reference, alpha 1/4, b as it is:
    # 1/4 * (4 0 0) + 3/4 * (0 4 8) = 1 3 6
    log_probs = -np.array([[1, 1, 1], [0, 4, 8], [4, 0, 0]], dtype=float)[:, :, None]
    found = policy_split_advantages(
        [1, 1, 0], [0, 1, 2], np.ones((3, 1)), log_probs, log_probs,
        group=3, eta=[0, 0.5, -0.5], reference=[0, 0, 1], alpha=0.25, kappa=0, normalise="none",
    )[:, :, 0]  # fmt: skip
    a = np.array([1 / 3, 1 / 3, -2 / 3]) / (math.sqrt(1 / 3) + 1e-4)
    assert found[0] == close(*a)
    # high, with normal: 1/4 * (0 4 8) + 3/4 * (1 1 1) = .75 1.75 2.75
    assert found[1] == close(*(a + 0.5 * np.array([0.75, 1.75, 2.75])))
    assert found[2] == close(*(a - 0.5 * np.array([1, 3, 6])))
