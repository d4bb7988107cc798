"""The other methods, against hand calculations (in the comments), numpy and plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from psplit_train.baselines import (
    LEAST_RELATIVE_ENTROPY,
    clip_cov,
    covariances,
    entropy_advantage,
    entropy_driven,
    entropy_regularisation,
    forking_tokens,
    kl_cov,
    kl_penalty,
)

JUNK = math.nan  # stands on masked tokens


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def masked(rows):
    """Numbers and their mask: tokens that hold junk are masked."""
    values = tensor(rows)
    return values, ~values.isnan()


batches = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    elements=st.integers(-40, 40).map(lambda n: n / 8) | st.just(math.nan),
)


# -- forking tokens (Wang et al. 2506.01939) ------------------------------------------------------


def test_forking_tokens_are_those_of_the_highest_entropy_over_all_rows():
    # of 0.1 .. 1.0 a fifth: the 2 highest, wherever they stand
    entropies, mask = masked([[0.1, 0.9, 0.3, 0.4, 0.5, JUNK], [1.0, 0.2, 0.6, 0.7, 0.8, JUNK]])
    found = forking_tokens(entropies, mask, 0.2)
    assert found.nonzero().tolist() == [[0, 1], [1, 0]]


def test_tokens_as_high_as_the_threshold_all_count():
    entropies, mask = masked([[0.0, 0.0, 0.0, 0.0, 0.0]])
    assert forking_tokens(entropies, mask, 0.2).all()


def test_without_tokens_there_is_no_fork():
    assert not forking_tokens(tensor([[JUNK]]), torch.zeros(1, 1, dtype=torch.bool), 0.2).any()


@given(batches, st.sampled_from([0.05, 0.2, 0.25, 0.5, 0.9, 1.0]))
def test_the_threshold_is_the_quantile_that_numpy_has(rows, share):
    entropies, mask = masked(rows)
    found = forking_tokens(entropies, mask, share)
    if not mask.any():
        assert not found.any()
        return
    # 1e-6: where numpy interpolates between equal neighbours it may end a rounding error above
    least = np.nanquantile(rows, 1 - share) - 1e-6
    assert found.tolist() == (np.nan_to_num(rows, nan=-math.inf) >= least).tolist()


# -- Clip-Cov and KL-Cov (Cui et al. 2505.22617) --------------------------------------------------

# A = 1 1 -3 and log pi = -1 -2 -6 | mean A = -1/3, mean log pi = -3:
# covariances (4/3)(2) (4/3)(1) (-8/3)(-3)
ADVANTAGES = [[1.0, 1.0], [-3.0, JUNK]]
LOG_PROBS = [[-1.0, -2.0], [-6.0, JUNK]]
COVARIANCES = [[8 / 3, 4 / 3], [8.0, 0.0]]


def test_covariances_by_hand():
    advantages, mask = masked(ADVANTAGES)
    found = covariances(advantages, tensor(LOG_PROBS), mask)
    assert found.tolist() == [pytest.approx(row) for row in COVARIANCES]


@given(batches, st.integers(0, 99))
def test_their_mean_is_the_covariance_of_numpy(rows, seed):
    advantages, mask = masked(rows)
    log_probs = -np.random.default_rng(seed).exponential(size=rows.shape)
    found = covariances(advantages, torch.tensor(log_probs), mask)
    known = mask.numpy()
    assert not found[~mask].any()
    if mask.any():
        expected = np.cov(rows[known], log_probs[known], bias=True)[0, 1] if known.any() else 0
        assert float(found[mask].mean()) == pytest.approx(expected, abs=1e-9)


def clipped(share, low, high, seed=0):
    advantages, mask = masked(ADVANTAGES)
    generator = torch.Generator().manual_seed(seed)
    kept = clip_cov(advantages, tensor(LOG_PROBS), mask, share, low, high, generator)
    return [token for token in [(0, 0), (0, 1), (1, 0)] if kept[token] == 0]


def test_clip_cov_draws_among_the_tokens_between_its_bounds():
    assert clipped(1.0, 1.0, 5.0) == [(0, 0), (0, 1)]  # 8 lies above
    assert clipped(1.0, 2.0, 9.0) == [(0, 0), (1, 0)]
    assert clipped(1.0, 9.0, 99.0) == []


def test_clip_cov_draws_at_least_one_token_and_at_most_its_share():
    # a third of 3 tokens is 1, and so is less: any of the two candidates
    assert {tuple(clipped(1 / 3, 1.0, 5.0, seed)) for seed in range(20)} == {((0, 0),), ((0, 1),)}
    assert {len(clipped(0.0002, 1.0, 5.0, seed)) for seed in range(20)} == {1}
    assert clipped(0.0002, 1.0, 5.0, 3) == clipped(0.0002, 1.0, 5.0, 3)


def test_clip_cov_draws_every_candidate_as_often():
    advantages = torch.tensor([[1.0, -1.0] * 10], dtype=torch.float64)
    log_probs = advantages - 2  # every covariance is 1
    mask = torch.ones(1, 20, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(20)
    for _ in range(2000):
        kept = clip_cov(advantages, log_probs, mask, 0.25, 0.5, 1.5, generator)
        counts += (kept == 0).flatten()
    assert counts.sum() == 5 * 2000
    # each is drawn 500 times of 2000, deviation 19.4: five deviations
    assert (counts - 500).abs().max() < 97


def test_clip_cov_leaves_other_advantages_and_the_given_tensor_alone():
    advantages, mask = masked(ADVANTAGES)
    before = advantages.clone()
    kept = clip_cov(advantages, tensor(LOG_PROBS), mask, 1.0, 1.0, 5.0)
    assert kept[1, 0] == -3.0
    assert torch.equal(advantages.nan_to_num(9), before.nan_to_num(9))


def test_kl_cov_takes_the_highest_covariances():
    advantages, mask = masked(ADVANTAGES)
    taken = {s: kl_cov(advantages, tensor(LOG_PROBS), mask, s) for s in (0.0002, 0.67, 1.0)}
    assert taken[0.0002].tolist() == [[False, False], [True, False]]
    assert taken[0.67].tolist() == [[True, False], [True, False]]
    assert taken[1.0].tolist() == mask.tolist()
    assert not kl_cov(advantages, advantages, torch.zeros_like(mask), 1.0).any()


def test_a_share_is_rounded_down_but_not_by_a_rounding_error():
    advantages = torch.arange(100, dtype=torch.float64)[None] - 50
    mask = torch.ones(1, 100, dtype=torch.bool)
    for share, count in [(0.29, 29), (0.0199, 1), (0.001, 1), (0.57, 57)]:  # 0.29 * 100 < 29
        assert int(kl_cov(advantages, advantages, mask, share).sum()) == count


def test_the_penalty_of_kl_cov_and_its_slope():
    log_ratio = torch.tensor([[0.5, -0.25, 0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([[True, True, False, True]])
    penalty = kl_penalty(log_ratio, tokens, 2.0)
    assert penalty.tolist() == [[1.0, 0.5, 0.0, 0.0]]
    penalty.sum().backward()
    assert log_ratio.grad.tolist() == [[2.0, -2.0, 0.0, 0.0]]


# -- entropy-driven advantage (EDGE-GRPO 2507.21848) ----------------------------------------------


def test_entropy_driven_by_hand():
    # P = 1 and 3, mean 2: P^ = 1/2 and 3/2. Second group: P = (1 + 2) / 2 and 1/2, mean 1
    entropies, mask = masked([[1.0, 1.0], [3.0, JUNK], [1.0, 2.0], [0.5, 0.5]])
    found = entropy_driven(tensor([1.0, -3.0, 3.0, 0.0]), entropies, mask, 2)
    assert found.tolist() == [2.0, -2.0, 2.0, 0.0]


def test_an_entropy_of_zero_is_bounded():
    # P = 0 and 2: P^ would be 0
    entropies, mask = masked([[0.0], [2.0]])
    found = entropy_driven(tensor([1.0, -1.0]), entropies, mask, 2)
    assert found.tolist() == [1 / LEAST_RELATIVE_ENTROPY, -0.5]


def test_a_group_without_entropy_or_a_row_without_tokens_keeps_its_advantages():
    entropies, mask = masked([[0.0], [0.0], [JUNK], [5.0]])
    found = entropy_driven(tensor([1.0, -1.0, 0.5, -0.5]), entropies, mask, 2)
    assert found.tolist() == [1.0, -1.0, 0.5, -0.5]


@given(batches, st.integers(0, 99))
def test_entropy_driven_keeps_signs_and_bounds(rows, seed):
    entropies, mask = masked(np.abs(rows))
    advantages = torch.tensor(np.random.default_rng(seed).normal(size=len(rows)))
    found = entropy_driven(advantages, entropies, mask, len(rows))
    assert (found.sign() == advantages.sign()).all()
    size = found.abs() / advantages.abs()
    assert (size <= 1 / LEAST_RELATIVE_ENTROPY + 1e-9).all()
    assert (size >= 1 / len(rows) - 1e-9).all()  # P_i is at most the sum of all


# -- entropy advantage (Cheng et al. 2506.14758) --------------------------------------------------


def test_entropy_advantage_by_hand():
    # .4 * H = .4 .8 .4 1.2 against |A| / 2 = 1 .5 .5 0
    advantages, mask = masked([[2.0, 1.0], [-1.0, 0.0], [-1.0, JUNK]])
    entropies = tensor([[1.0, 2.0], [1.0, 3.0], [JUNK, JUNK]]).requires_grad_()
    mask[2, 0] = False
    found = entropy_advantage(advantages, entropies, mask, 0.4, 2.0)
    assert found[:2].tolist() == [[2.4, 1.5], [-0.6, 0.0]]
    assert found[2, 0] == -1.0
    assert not found.requires_grad


@given(batches, st.floats(1, 8), st.floats(0, 3))
def test_entropy_advantage_never_turns_a_sign_and_never_takes_away(rows, kappa, coefficient):
    advantages, mask = masked(rows)
    entropies = torch.tensor(np.abs(rows[::-1, ::-1]).copy())
    found = entropy_advantage(advantages, entropies.nan_to_num(1.0), mask, coefficient, kappa)
    assert (found[mask] >= advantages[mask]).all()
    assert (found[mask] * advantages[mask] >= 0).all()


# -- entropy regularisation -----------------------------------------------------------------------


def test_entropy_regularisation_is_a_mean_whose_gradient_flows():
    entropies, mask = masked([[1.0, 2.0], [6.0, JUNK]])
    entropies.requires_grad_()
    term = entropy_regularisation(entropies, mask, 0.5)
    assert float(term.detach()) == 1.5  # .5 * 9 / 3
    term.backward()
    assert entropies.grad.tolist() == [pytest.approx([0.5 / 3] * 2), pytest.approx([0.5 / 3, 0])]


def test_parts_of_a_batch_add_up_to_its_term():
    entropies, mask = masked([[1.0, 2.0], [6.0, JUNK], [3.0, JUNK]])
    whole = entropy_regularisation(entropies, mask, 0.3)
    parts = [entropy_regularisation(entropies[r], mask[r], 0.3, mask.sum()) for r in range(3)]
    assert float(sum(parts)) == pytest.approx(float(whole))
    assert float(entropy_regularisation(entropies, torch.zeros_like(mask), 0.3)) == 0.0
