"""docs/theory.md, sections 1 to 3: the bonus, z-scores, the clamp; 4 and 5: test_theory_entropy.py.

All that can happen is listed: policies are small enough.
Expected values come from enumeration, automatic differentiation (against expected updates), finite
differences, scipy, or a hand calculation that the test shows.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import skew
from softmax_policy import (
    TOKENS,
    angle,
    answer_advantage,
    bonus,
    close,
    code_advantage,
    contexts,
    covariance,
    cross_entropy,
    draws,
    entropy,
    entropy_slope,
    expected_update,
    gradient,
    group_advantage,
    jacobian,
    kl,
    modes,
    paper_advantage,
    policy,
    random_logits,
    random_steps,
    row,
    sequences,
    z_scores,
)

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "theory.md").read_text()
SEEDS = pytest.mark.parametrize("seed", range(4))
ALPHAS = pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
chances = st.lists(st.floats(0.01, 1), min_size=2, max_size=8).map(np.array)


def test_page_and_tests_name_each_other():
    named = re.findall(r"`(test_\w+)`", PAGE)
    files = HERE.glob("test_theory*.py")
    written = [name for f in files for name in re.findall(r"^def (test_\w+)", f.read_text(), re.M)]
    assert sorted(set(named)) == sorted(written)


# 1. What the bonus stands for


@SEEDS
@ALPHAS
def test_mean_bonus_is_entropy_plus_kl(seed, alpha):
    high, normal = modes(seed)
    mean = (high.softmax(-1) * bonus(high, normal, alpha)).sum()
    assert close(mean, entropy(high) + (1 - alpha) * kl(high, normal))


@SEEDS
def test_detached_log_probability_gives_the_gradient_of_entropy(seed):
    high, normal = modes(seed)
    own, other = -high.log_softmax(-1), -normal.log_softmax(-1)
    assert close(expected_update(high, high.softmax(-1), own), gradient(entropy, high))
    exact = gradient(lambda x: cross_entropy(x, normal), high)
    assert close(expected_update(high, high.softmax(-1), other), exact)


@SEEDS
@ALPHAS
def test_detached_bonus_gives_the_gradient_with_the_normal_mode_held_fixed(seed, alpha):
    high, normal = modes(seed)
    found = expected_update(high, high.softmax(-1), bonus(high, normal, alpha))
    exact = gradient(lambda x: entropy(x) + (1 - alpha) * kl(x, normal), high)
    assert close(found, exact)
    assert exact.norm() > 0.01


@SEEDS
@ALPHAS
def test_kl_part_is_flat_where_the_modes_agree(seed, alpha):
    high = random_logits(seed, TOKENS)
    normal = high + 3.0  # other logits, the same policy
    assert gradient(lambda x: kl(x, normal), high).norm() < 1e-12
    found = expected_update(high, high.softmax(-1), bonus(high, normal, alpha))
    assert close(found, gradient(entropy, high))


@SEEDS
def test_shared_weights_add_a_term_that_the_bonus_leaves_out(seed):
    shared, own, other = (random_logits(seed + i, TOKENS) for i in (0, 10, 20))
    alpha = 0.5

    def objective(weights, own, other):
        return entropy(weights + own) + (1 - alpha) * kl(weights + own, weights + other)

    def left_out(own, other):
        high = shared + own
        detached = expected_update(high, high.softmax(-1), bonus(high, shared + other, alpha))
        return gradient(lambda x: objective(x, own, other), shared) - detached

    high, normal = shared + own, shared + other
    through_normal = expected_update(normal, high.softmax(-1), row(*[1.0] * TOKENS))
    assert close(left_out(own, other), -(1 - alpha) * through_normal)
    assert left_out(own, other).norm() > 0.01
    assert left_out(own, own).norm() < 1e-12


@SEEDS
def test_bonus_moves_the_normal_mode_through_shared_weights(seed):
    shared, own = random_logits(seed, TOKENS), 0.1 * random_logits(seed + 10, TOKENS)

    def slopes(own):
        """Of the normal mode's entropy and of the high mode's: `own` weights are the latter's."""
        high = shared + own
        step = expected_update(high, high.softmax(-1), bonus(high, shared))
        return entropy_slope(shared, step), entropy_slope(high, 2 * step)

    normal, high = slopes(row(*[0.0] * TOKENS))
    assert close(normal, high / 2)
    assert normal > 0.001
    assert min(slopes(own)) > 0.001


@SEEDS
def test_token_bonus_leaves_out_what_a_token_does_to_later_contexts(seed):
    first, second = random_steps(seed, 3, 2)

    def sequence_entropy(x, y):
        return entropy(x) + (x.softmax(-1) * entropy(y)).sum()

    def update(to_go):
        """Expected update with a token's own surprisal, or that of all tokens from it on."""
        law, log_first, log_second = (
            contexts([first, second])[-1],
            first.log_softmax(-1)[:, None],
            second.log_softmax(-1),
        )
        credit = -log_first - log_second if to_go else -log_first

        def surrogate(x, y):
            scores = credit * x.log_softmax(-1)[:, None] - log_second * y.log_softmax(-1)
            return (law * scores).sum()

        return gradient(surrogate, first, second)

    fixed = first.softmax(-1)
    contexts_fixed = gradient(lambda x, y: entropy(x) + (fixed * entropy(y)).sum(), first, second)
    exact = gradient(sequence_entropy, first, second)
    assert all(close(a, b) for a, b in zip(update(False), contexts_fixed, strict=True))
    assert all(close(a, b) for a, b in zip(update(True), exact, strict=True))
    assert (contexts_fixed[0] - exact[0]).norm() > 0.01


@SEEDS
@ALPHAS
def test_mean_bonus_on_shared_responses_is_a_cross_entropy(seed, alpha):
    high, normal = modes(seed)
    mean = (normal.softmax(-1) * bonus(high, normal, alpha)).sum()
    assert close(mean, alpha * cross_entropy(normal, high) + (1 - alpha) * entropy(normal))
    assert close(mean, entropy(normal) + alpha * kl(normal, high))


@SEEDS
def test_ppo_loss_at_ratio_one_is_the_plain_policy_gradient(seed):
    high, normal = modes(seed)
    advantage, old = bonus(high, normal) - 1.5, high.log_softmax(-1)  # of both signs
    for law in (high.softmax(-1), normal.softmax(-1)):

        def clipped(x, law=law):
            ratio = (x.log_softmax(-1) - old).exp()
            return (law * torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)).sum()

        assert close(gradient(clipped, high), expected_update(high, law, advantage))


@SEEDS
@ALPHAS
def test_shared_quarter_has_another_objective(seed, alpha):
    high, normal = modes(seed)
    law, log_normal = normal.softmax(-1), normal.log_softmax(-1)
    found = expected_update(high, law, bonus(high, normal, alpha))

    def objective(x):
        log_high = x.log_softmax(-1)
        return -(law * (alpha / 2 * log_high**2 + (1 - alpha) * log_normal * log_high)).sum()

    assert close(found, gradient(objective, high))
    own = expected_update(high, high.softmax(-1), bonus(high, normal, alpha))
    assert (found - own).norm() > 0.05
    agreeing = expected_update(normal, law, bonus(normal, normal, alpha))
    assert close(agreeing, gradient(entropy, normal))


def test_shared_quarter_can_lower_the_entropy_of_the_high_mode():
    high, normal = policy(0.4, 0.3, 0.3), policy(0.9, 0.05, 0.05)
    values = bonus(high, normal)
    own, shared = (expected_update(high, x.softmax(-1), values) for x in (high, normal))
    assert entropy_slope(high, own) > 0 > entropy_slope(high, shared)
    agreeing = expected_update(high, high.softmax(-1), bonus(high, high))
    assert entropy_slope(high, agreeing) > 0


@SEEDS
def test_constant_advantage_on_shared_responses_pulls_the_high_mode_to_the_normal(seed):
    high, normal = modes(seed)
    found = expected_update(high, normal.softmax(-1), row(*[0.7] * TOKENS))
    assert close(found, -0.7 * gradient(lambda x: kl(normal, x), high))
    assert close(found, 0.7 * (normal.softmax(-1) - high.softmax(-1)))


@SEEDS
def test_importance_weights_restore_the_objective_and_truncated_ones_do_not(seed):
    high, normal = modes(seed)
    law, values = normal.softmax(-1), bonus(high, normal)
    weights = high.softmax(-1) / law
    own = expected_update(high, high.softmax(-1), values)
    assert close(expected_update(high, law, weights * values), own)
    assert (expected_update(high, law, weights.clamp(max=1) * values) - own).norm() > 0.01


# 2. What z-scores do


@SEEDS
def test_constant_baseline_changes_nothing(seed):
    high, normal = modes(seed)
    values, law = bonus(high, normal), high.softmax(-1)
    assert close(expected_update(high, law, values - 2.5), expected_update(high, law, values))


def group_update(logits, n, weigh):
    """Exact mean, over all groups of n tokens, of 1/n Σ weigh(b) · ∇ log π, with b = −log π."""
    tokens, law = draws(logits, n)
    weights = law[:, None] * weigh(-logits.log_softmax(-1)[tokens]) / n
    return gradient(lambda x: (weights * x.log_softmax(-1)[tokens]).sum(), logits)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_group_mean_shrinks_the_gradient_by_one_nth(n):
    logits = random_logits(1, 3)
    found = group_update(logits, n, lambda b: b - b.mean(-1, keepdim=True))
    assert close(found, (n - 1) / n * gradient(entropy, logits))


@pytest.mark.parametrize("responses", [1, 2])
def test_group_mean_over_tokens_of_one_response_takes_away_later_credit(responses):
    first, second = random_steps(3, 3, 2)
    rows, law = draws(sequences([first, second]), responses)
    tokens = rows // 3  # the first token of each response
    own = -first.log_softmax(-1)[tokens]
    later = -second.log_softmax(-1).flatten()[rows]
    mean = torch.cat([own, later], dim=1).mean(1, keepdim=True)
    weights = law[:, None] * (own - mean) / responses
    update = gradient(lambda x: (weights * x.log_softmax(-1)[tokens]).sum(), first)
    wanted = gradient(entropy, first)
    through = gradient(lambda x: (x.softmax(-1) * entropy(second)).sum(), first)
    assert close(update, wanted - (wanted + through) / (2 * responses))
    assert angle(update, wanted) > 1


@given(chances, st.floats(0.1, 10), st.floats(-5, 5))
def test_z_scores_forget_units(values, scale, shift):
    values = torch.from_numpy(values) + torch.arange(len(values)) / 7  # not all equal
    scores = z_scores(values)
    assert close(z_scores(scale * values + shift), scores, atol=1e-6)
    assert close(z_scores(values / np.log(2)), scores, atol=1e-6)  # bits
    assert close(scores.sum(), 0.0, atol=1e-6)
    assert close(scores.square().mean(), 1.0, atol=1e-6)


def test_same_eta_is_another_weight_of_entropy_in_another_group():
    narrow, wide = policy(0.4, 0.3, 0.3), policy(0.9, 0.07, 0.03)
    weights = []
    for logits in (narrow, wide):
        law, b = logits.softmax(-1), -logits.log_softmax(-1)
        found, exact = expected_update(logits, law, z_scores(b, law)), gradient(entropy, logits)
        weight = 1 / covariance(law, b, b).sqrt()
        assert close(found, weight * exact)
        weights.append(weight.item())
    assert [round(weight, 1) for weight in weights] == [7.1, 1.2]
    assert "gets 7.1 η" in PAGE
    assert "gets 1.2 η" in PAGE


def scored_bonus(logits):
    """Expected update of z-scored −log π (group without end), written out in the logits."""
    law, b = logits.softmax(-1), -logits.log_softmax(-1)
    weights = z_scores(b, law)
    return law * weights - law * (law * weights).sum()


@SEEDS
def test_z_scored_bonus_is_the_gradient_of_no_function(seed):
    logits = random_logits(seed, TOKENS)

    def plain(x):
        law, b = x.softmax(-1), -x.log_softmax(-1)
        return law * (b - entropy(x))

    assert close(plain(logits), gradient(entropy, logits))
    symmetric, turning = jacobian(plain, logits), jacobian(scored_bonus, logits)
    assert close(symmetric, symmetric.T)
    assert (turning - turning.T).abs().max() > 0.01


def test_standard_deviation_of_a_small_group_turns_the_gradient():
    logits = policy(0.6, 0.3, 0.1)
    exact = gradient(entropy, logits)
    small, larger = (angle(group_update(logits, n, z_scores), exact) for n in (2, 9))
    assert (f"{small:.0f}°", f"{larger:.0f}°") == ("15°", "9°")
    assert "15° for groups of 2 tokens, 9° for 9" in PAGE
    plain = group_update(logits, 4, lambda b: b - b.mean(-1, keepdim=True))
    assert angle(plain, exact) < 1e-3


# 3. What the clamp does

numbers = st.floats(-5, 5, allow_subnormal=False)


@given(numbers, numbers, st.floats(0, 10), st.floats(0.2, 5))
def test_clamp_keeps_the_sign_of_the_advantage(advantage, score, eta, kappa):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (advantage, score))
    if kappa > 1.001:  # the thousandth is for rounding
        assert torch.sign(code_advantage(a, b, eta, kappa)) == torch.sign(a)
    if kappa > 1.001 * eta:
        assert torch.sign(paper_advantage(a, b, eta, kappa)) == torch.sign(a)


def test_clamp_loses_the_sign_beyond_its_condition():
    a, b = torch.as_tensor(1.0), torch.as_tensor(-9.0)
    assert code_advantage(a, b, 1.0, 1.0) == 0
    assert code_advantage(a, b, 1.0, 0.5) == -1
    assert paper_advantage(a, b, 2.0, 2.0) == 0
    assert paper_advantage(a, b, 2.0, 1.0) == -1
    assert code_advantage(a, b, 1.0, 0) == -8


def test_largest_change_is_one_and_a_half_percent_or_a_half():
    a, scores = torch.as_tensor(0.8), torch.linspace(-50, 50, 1001, dtype=torch.float64)
    for form, largest in ((paper_advantage, 0.03 / 2), (code_advantage, 1 / 2)):
        change = (form(a, scores, 0.03, 2.0) - a).abs().max() / a
        assert change.item() == pytest.approx(largest, rel=1e-5)


def test_paper_clamps_at_half_a_standard_deviation_and_code_at_sixteen():
    a, scores = torch.as_tensor(1.0), torch.linspace(-20, 20, 4001, dtype=torch.float64)
    for form, bound in ((paper_advantage, 0.5), (code_advantage, 0.5 / 0.03)):
        free = scores[(form(a, scores, 0.03, 2.0) - a - 0.03 * scores).abs() < 1e-9]
        assert free.max().item() == pytest.approx(bound, abs=0.01)
    law, _, scores = power_law()
    beyond = [law[scores.abs() > bound].sum().item() for bound in (0.5, 0.5 / 0.03)]
    assert [f"{share:.0%}" for share in beyond] == ["64%", "0%"]
    assert beyond[1] <= (0.03 / 0.5) ** 2 <= 0.004  # Chebyshev's inequality


@pytest.mark.parametrize("right", [[0] * 8, [1] * 8])
def test_no_bonus_where_all_answers_are_right_or_all_wrong(right):
    advantage, scores = group_advantage(right), random_logits(2, 8)
    for form in (paper_advantage, code_advantage):
        assert (form(advantage, scores, 5.0, 2.0) == 0).all()
    assert (code_advantage(advantage, scores, 5.0, 0) == 5 * scores).all()


@given(st.integers(2, 32), st.data())
def test_mean_size_of_advantages_follows_from_accuracy(n, data):
    k = data.draw(st.integers(1, n - 1))
    advantage, accuracy = group_advantage([1] * k + [0] * (n - k)), k / n
    assert advantage.abs().mean().item() == pytest.approx(2 * (accuracy * (1 - accuracy)) ** 0.5)
    assert advantage[0].item() == pytest.approx(((1 - accuracy) / accuracy) ** 0.5)
    assert advantage[-1].item() == pytest.approx(-((accuracy / (1 - accuracy)) ** 0.5))


def clamped_part(logits, right, eta, kappa):
    """Expected update by the bonus alone, code's form, group without end."""
    law = logits.softmax(-1)
    advantage = answer_advantage(right, law)
    scores = z_scores(-logits.log_softmax(-1), law)
    return expected_update(logits, law, code_advantage(advantage, scores, eta, kappa) - advantage)


@pytest.mark.parametrize("eta", [0.03, 1.0, 100.0])
def test_clamped_bonus_vanishes_as_accuracy_nears_one_whatever_eta(eta):
    sizes = []
    for wrong in (0.5, 1e-2, 1e-4, 1e-6):
        logits = policy(0.6 * (1 - wrong), 0.4 * (1 - wrong), 0.7 * wrong, 0.3 * wrong)
        right = row(1.0, 1.0, 0.0, 0.0)
        sizes.append(clamped_part(logits, right, eta, 2.0).norm().item())
        assert sizes[-1] <= 2 * (wrong * (1 - wrong)) ** 0.5 / 2 * 2**0.5
        assert clamped_part(logits, right, eta, 0).norm() > 0.05 * eta
    assert sizes[-1] < 2e-3


def test_clamp_turns_the_bonus():
    logits, right = policy(0.6, 0.25, 0.1, 0.05), row(1.0, 0, 0, 0)
    free, clamped = (clamped_part(logits, right, 1.0, kappa) for kappa in (0, 2.0))
    assert angle(free, gradient(entropy, logits)) < 1e-3
    assert f"{angle(clamped, free):.0f}°" == "17°"
    assert "an angle of 17°" in PAGE


def clamped_field(logits, bound):
    """Expected update of −log π − 1 clamped to ± bound(logits), written out in the logits."""
    law, limit = logits.softmax(-1), bound(logits)
    weights = (-logits.log_softmax(-1) - 1).clamp(-limit, limit)
    return law * weights - law * (law * weights).sum()


@SEEDS
def test_clamp_of_fixed_width_has_another_objective_than_entropy(seed):
    logits, width = random_logits(seed, TOKENS), 0.6

    def objective(x):
        """Σ F(π), where F is the integral of clamp(−log π − 1, ±width) from 0 to π."""
        law = x.softmax(-1)
        low, high = np.exp(-1 - width), np.exp(-1 + width)
        middle = torch.special.entr(law) - torch.special.entr(row(low)) + width * low
        at_high = -high * np.log(high) + low * np.log(low) + width * low
        outer = torch.where(law < low, width * law, at_high - width * (law - high))
        return torch.where((law < low) | (law > high), outer, middle).sum()

    found = clamped_field(logits, lambda _: row(width))
    assert close(found, gradient(objective, logits))
    assert angle(found, gradient(entropy, logits)) > 2


def test_clamp_by_the_advantage_is_the_gradient_of_no_function():
    logits = policy(0.6, 0.25, 0.1, 0.05)
    right = row(1.0, 0, 1.0, 0)

    def limit(x):
        return answer_advantage(right, x.softmax(-1)).abs() / 2

    fixed = limit(logits)
    symmetric = jacobian(lambda x: clamped_field(x, lambda _: fixed), logits)
    turning = jacobian(lambda x: clamped_field(x, limit), logits)
    assert close(symmetric, symmetric.T)
    assert (turning - turning.T).abs().max() > 0.01


def power_law():
    """Probabilities, surprisals and z-scores of 1000 tokens with p ∝ rank^−1.5."""
    logits = -1.5 * torch.arange(1, 1001, dtype=torch.float64).log()
    law, b = logits.softmax(-1), -logits.log_softmax(-1)
    return law, b, z_scores(b, law)


def weighted_skewness(values, law):
    centred = z_scores(values, law)
    return (law * centred**3).sum().item()


def test_clamp_cuts_rare_tokens_more_than_likely_ones():
    law, b, scores = power_law()
    assert weighted_skewness(b, law) == pytest.approx(1.3, abs=0.05)
    sample = np.random.default_rng(0).choice(b.numpy(), 100_000, p=law.numpy())
    assert skew(sample) == pytest.approx(weighted_skewness(b, law), abs=0.05)
    cut = [(law * scores.clamp(-c, c)).sum().item() for c in (0.25, 0.5, 1.0, 2.0)]
    assert [round(mean, 2) for mean in cut] == [-0.06, -0.11, -0.14, -0.04]
    assert "−.06, −.11, −.14, −.04" in PAGE
    assert (law * scores).sum().abs() < 1e-12


@given(st.floats(0.02, 0.48), st.floats(0.05, 1))
def test_clamped_mean_of_two_tokens_is_negative(rare, share):
    logits = policy(rare, 1 - rare)
    law = logits.softmax(-1)
    scores = z_scores(-logits.log_softmax(-1), law)
    low, high = (rare / (1 - rare)) ** 0.5, ((1 - rare) / rare) ** 0.5
    assert close(scores, row(high, -low), atol=1e-7)
    bound = share * high * 0.99
    mean = (law * scores.clamp(-bound, bound)).sum().item()
    assert mean == pytest.approx(rare * bound - (1 - rare) * min(low, bound))
    assert mean < 0


def test_clamped_mean_is_positive_where_surprisals_are_left_skewed():
    logits = policy(0.3, *[0.7 / 700] * 700)  # one likely token, many alike
    law, b = logits.softmax(-1), -logits.log_softmax(-1)
    assert weighted_skewness(b, law) < 0
    assert (law * z_scores(b, law).clamp(-0.5, 0.5)).sum() > 0
