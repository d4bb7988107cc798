"""docs/theory.md, sections 4 and 5: entropy along the way, and the divergence of two modes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from softmax_policy import (
    answer_advantage,
    bonus,
    close,
    code_advantage,
    contexts,
    covariance,
    entropy,
    entropy_slope,
    expected_update,
    gradient,
    kl,
    modes,
    policy,
    random_steps,
    row,
    sequences,
    z_scores,
)

SEEDS = pytest.mark.parametrize("seed", range(4))
chances = st.lists(st.floats(0.01, 1), min_size=2, max_size=8).map(np.array)


# 4. Entropy along the way


def first_order_error(logits, direction, size, slope):
    return abs(entropy(logits + size * direction) - entropy(logits) - size * slope).item()


@SEEDS
def test_entropy_change_of_a_step_in_logits(seed):
    logits, advantage = modes(seed)
    law, logs = logits.softmax(-1), logits.log_softmax(-1)
    assert close(gradient(entropy, logits), -law * (logs + entropy(logits)))
    slope = -covariance(law, logs, advantage)
    assert close(slope, -covariance(law, logs, advantage + 1))
    assert close(entropy_slope(logits, advantage), slope, atol=1e-7)
    large, small = (first_order_error(logits, advantage, e, slope) for e in (2e-3, 1e-3))
    assert large / small == pytest.approx(4, rel=0.05)  # what is left is of second order


@SEEDS
def test_entropy_change_of_a_policy_gradient_step(seed):
    logits, advantage = modes(seed)
    law = logits.softmax(-1)
    step = expected_update(logits, law, advantage)
    centred = law * (advantage - (law * advantage).sum())
    assert close(step, centred)
    slope = -covariance(law, logits.log_softmax(-1), centred)
    assert close(entropy_slope(logits, step), slope, atol=1e-7)
    not_centred = -covariance(law, logits.log_softmax(-1), law * (advantage + 1))
    assert (not_centred - slope).abs() > 0.001


@SEEDS
def test_step_in_logits_is_the_natural_policy_gradient(seed):
    logits, advantage = modes(seed)
    law = logits.softmax(-1)
    fisher = torch.diag(law) - torch.outer(law, law)
    step = torch.linalg.pinv(fisher) @ expected_update(logits, law, advantage)
    assert close(step - step.mean(), advantage - advantage.mean())


@given(chances)
def test_reward_of_the_likeliest_answer_never_raises_entropy(values):
    logits = torch.from_numpy(values).log()
    law = logits.softmax(-1)
    reward = (torch.arange(len(law)) == law.argmax()).double()
    for direction in (reward, law * (reward - (law * reward).sum())):
        assert covariance(law, logits.log_softmax(-1), direction) >= -1e-12


def test_reward_of_a_rare_answer_raises_entropy_until_it_is_likely():
    logits, reward = policy(0.8, 0.15, 0.05), row(0.0, 0.0, 1.0)
    path = [entropy(logits + size * reward).item() for size in np.linspace(0, 12, 60)]
    top = int(np.argmax(path))
    assert 0 < top < 59
    assert path[0] > path[-1]
    assert all(np.diff(path[: top + 1]) > 0)
    assert all(np.diff(path[top:]) < 0)


@given(chances)
def test_entropy_bonus_never_lowers_entropy(values):
    logits = torch.from_numpy(values).log()
    law, b = logits.softmax(-1), -logits.log_softmax(-1)
    natural = -covariance(law, -b, b)
    plain = -covariance(law, -b, expected_update(logits, law, b))
    assert close(natural, (law * (b - entropy(logits)) ** 2).sum())
    assert close(plain, gradient(entropy, logits).square().sum())
    assert min(natural, plain) >= -1e-12


def test_kl_part_can_lower_entropy_once_the_modes_have_parted():
    high, normal = policy(0.7, 0.3), policy(0.01, 0.99)
    for alpha, sign in ((1.0, 1), (0.5, -1)):
        b = bonus(high, normal, alpha)
        step = expected_update(high, high.softmax(-1), b)
        assert torch.sign(entropy_slope(high, b)) == sign
        assert torch.sign(entropy_slope(high, step)) == sign
    assert gradient(lambda x: kl(x, normal), high) @ step > 0


def test_bonus_raises_entropy_in_a_solved_group_only_without_a_clamp():
    logits = policy(0.7, 0.2, 0.1)
    scores, solved = z_scores(-logits.log_softmax(-1), logits.softmax(-1)), row(0.0, 0.0, 0.0)
    assert entropy_slope(logits, code_advantage(solved, scores, 0.2, 2.0)) == 0
    assert entropy_slope(logits, code_advantage(solved, scores, 0.2, 0)) > 0.01


@pytest.mark.parametrize("eta", [0.03, 0.2, 1.0, 100.0])
def test_clamped_bonus_loses_to_the_reward_at_every_eta(eta):
    logits, right = policy(0.6, 0.3, 0.1), row(1.0, 0.0, 0.0)
    law = logits.softmax(-1)
    advantage, scores = answer_advantage(right, law), z_scores(-logits.log_softmax(-1), law)
    slopes = [entropy_slope(logits, code_advantage(advantage, scores, eta, k)) for k in (2.0, 0)]
    assert slopes[0] < 0
    assert (slopes[1] > 0) == (eta >= 1)


def test_more_entropy_per_token_can_be_fewer_answers():
    # The first token is the answer, the second the wording.
    before = [policy(0.5, 0.5), policy(*[[1 - 2e-9, 1e-9, 1e-9]] * 2)]
    after = [policy(1 - 1e-9, 1e-9), policy(*[[1 / 3] * 3] * 2)]
    tokens = [entropy(sequences(steps)) / np.log(2) for steps in (before, after)]
    answers = [2 ** (entropy(steps[0]) / np.log(2)).item() for steps in (before, after)]
    assert [round(x.item(), 2) for x in tokens] == [1.0, 1.58]
    assert [round(x, 2) for x in answers] == [2.0, 1.0]


# 5. Divergence of two modes


@SEEDS
def test_sampled_log_ratio_has_mean_kl_and_can_be_negative(seed):
    p, q = modes(seed)
    ratio = p.log_softmax(-1) - q.log_softmax(-1)
    independent = torch.nn.functional.kl_div(
        q.log_softmax(-1), p.log_softmax(-1), reduction="sum", log_target=True
    )
    assert close((p.softmax(-1) * ratio).sum(), independent)
    assert ratio.min() < 0 <= kl(p, q)


def two_steps(p, q):
    """Law of all two-token sequences, log-ratios and conditional KLs by step, all (n, n)."""
    law = contexts(p)[-1]
    ratios = [a.log_softmax(-1) - b.log_softmax(-1) for a, b in zip(p, q, strict=True)]
    divergences = [kl(a, b) for a, b in zip(p, q, strict=True)]
    return (
        law,
        [ratios[0][:, None].expand_as(law), ratios[1]],
        [divergences[0].expand_as(law), divergences[1][:, None].expand_as(law)],
    )


@SEEDS
def test_full_vocabulary_kl_of_a_token_never_varies_more(seed):
    law, ratios, divergences = two_steps(random_steps(seed, 3, 2), random_steps(seed + 7, 3, 2))
    for ratio, divergence in zip(ratios, divergences, strict=True):
        assert close((law * ratio).sum(), (law * divergence).sum())
        within = (law * (ratio - divergence) ** 2).sum()
        total, between = (covariance(law, x, x) for x in (ratio, divergence))
        assert close(total, between + within)
        assert between < total


def test_full_vocabulary_kl_summed_over_a_response_can_vary_more():
    k, tiny = 8.0, 1e-12
    p = [policy(0.5, 0.5), policy([1 - tiny, tiny], [1 - tiny, tiny])]
    q = [policy(k / (k + 1), 1 / (k + 1)), policy([1 / k, 1 - 1 / k], [1 - tiny, tiny])]
    law, ratios, divergences = two_steps(p, q)
    sampled, full = sum(ratios), sum(divergences)
    assert close((law * sampled).sum(), (law * full).sum())
    assert covariance(law, sampled, sampled).item() == pytest.approx(0, abs=1e-8)
    assert covariance(law, full, full).item() == pytest.approx(np.log(k) ** 2 / 4, abs=1e-6)
    less = 0
    for seed in range(1000):
        law, *both = two_steps(random_steps(seed, 3, 2), random_steps(seed + 5000, 3, 2))
        sampled, full = (sum(steps) for steps in both)
        less += bool(covariance(law, full, full) < covariance(law, sampled, sampled))
    assert 990 < less < 1000


def kl_by_step(p, q, sampler):
    """Sum over steps of the mean conditional KL, contexts drawn from `sampler`."""
    weights = contexts(sampler)[:-1]
    return sum((w * kl(a, b)).sum() for w, a, b in zip(weights, p, q, strict=True))


@SEEDS
def test_kl_of_sequences_is_the_sum_of_the_tokens(seed):
    p, q = random_steps(seed, 3, 3), random_steps(seed + 7, 3, 3)
    assert close(kl_by_step(p, q, p), kl(sequences(p), sequences(q)))


@SEEDS
def test_contexts_of_another_temperature_weigh_the_tokens_differently(seed):
    p, q = random_steps(seed, 3, 3), random_steps(seed + 7, 3, 3)
    cooler = [logits / 0.6 for logits in p]
    assert (kl_by_step(p, q, cooler) - kl(sequences(p), sequences(q))).abs() > 0.01
    assert (kl_by_step(p, q, cooler) - kl(sequences(cooler), sequences(q))).abs() > 0.01


def test_log_ratio_of_tokens_of_another_temperature_is_no_kl():
    p, q = policy(0.6, 0.3, 0.1), policy(0.7, 0.2, 0.1)
    cooler = (p / 0.6).softmax(-1)
    found = (cooler * (p.log_softmax(-1) - q.log_softmax(-1))).sum()
    assert [round((x / np.log(2)).item(), 3) for x in (found, kl(p, q))] == [-0.028, 0.042]


def js_bits(p, q):
    middle = ((p.softmax(-1) + q.softmax(-1)) / 2).log()
    return ((kl(p, middle) + kl(q, middle)) / 2 / np.log(2)).item()


@given(chances, st.data())
def test_jensen_shannon_is_between_zero_and_one_bit(values, data):
    others = data.draw(st.lists(st.floats(0.01, 1), min_size=len(values), max_size=len(values)))
    p, q = torch.from_numpy(values).log(), row(*others).log()
    assert -1e-12 <= js_bits(p, q) < 1
    distance = jensenshannon(p.softmax(-1), q.softmax(-1), base=2)
    assert js_bits(p, q) == pytest.approx(np.nan_to_num(distance) ** 2, abs=1e-9)
    assert js_bits(p, p) == pytest.approx(0, abs=1e-12)
    tiny = 1e-15
    assert js_bits(policy(1 - tiny, tiny), policy(tiny, 1 - tiny)) == pytest.approx(1)


def test_jensen_shannon_of_tokens_does_not_add_up():
    tiny = 1e-15
    p = [policy(1 - tiny, tiny), policy(*[[1 - tiny, tiny]] * 2)]
    q = [policy(tiny, 1 - tiny), policy(*[[tiny, 1 - tiny]] * 2)]
    by_token = js_bits(p[0], q[0]) + js_bits(p[1][0], q[1][0])
    assert by_token == pytest.approx(2)
    assert js_bits(sequences(p), sequences(q)) == pytest.approx(1)


@given(chances, st.data())
def test_kl_of_top_tokens_and_the_rest_is_a_lower_bound(values, data):
    others = data.draw(st.lists(st.floats(0.01, 1), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(1, len(values) - 1))
    p, q = (torch.as_tensor(x, dtype=torch.float64).log().softmax(-1) for x in (values, others))
    top = p.argsort(descending=True)
    coarse = [torch.cat([x[top[:k]], x[top[k:]].sum()[None]]).log() for x in (p, q)]
    assert -1e-12 <= kl(*coarse) <= kl(p.log(), q.log()) + 1e-12


def test_kl_of_top_tokens_misses_what_differs_in_the_rest():
    p, q = policy(0.5, 0.49, 0.01), policy(0.5, 0.01, 0.49)
    coarse = kl(policy(0.5, 0.5), policy(0.5, 0.5))
    assert coarse == pytest.approx(0, abs=1e-12)
    assert kl(p, q) > 1
