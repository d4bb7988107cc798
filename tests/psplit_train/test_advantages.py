"""Policy Split's advantages against an independent reference in plain numpy loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from split_reference import policy_split_advantages

from psplit_train.advantages import Rollouts, group_advantages, policy_split, rarity_rewards
from psplit_train.config import MethodSettings


def advantages(case, rewards_by_mode=None):
    """psplit's own, in float64, of the arguments that the reference takes."""
    modes = len(case["eta"])
    samplers = torch.tensor(case["sampler"])
    taken = torch.tensor(case["takes"])[:, samplers]
    rewards = case["rewards"][None].repeat(modes, 0) if rewards_by_mode is None else rewards_by_mode
    plain, even = group_advantages(torch.tensor(rewards), taken, case["group"])
    method = MethodSettings(
        **{
            name: case[name]
            for name in (
                "alpha",
                "kappa",
                "clip_form",
                "estimate",
                "normalise",
                "lowest_entropy_mask_ratio",
                "correctness_mask",
                "positive_only",
                "truncated_weights",
            )
        }
    )
    rollouts = Rollouts(
        case["group"],
        samplers,
        taken,
        plain,
        even,
        torch.tensor(case["mask"]),
        torch.tensor(case["log_probs"]),
        torch.tensor(case["entropies"]),
    )
    etas, references = torch.tensor(case["eta"]), torch.tensor(case["reference"])
    return policy_split(rollouts, etas.double(), references, method)


@st.composite
def cases(draw):
    """Groups of responses to a few queries, in one to three modes."""
    modes, each = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    queries, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    group = modes * each
    rows = queries * group
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(("binary", "dead", "unknown", "real")))
    rewards = random.integers(0, 2, rows).astype(float)
    if kind == "dead":
        rewards[:group] = 1.0
    if kind == "unknown":
        rewards[random.random(rows) < 0.3] = np.nan
    if kind == "real":
        rewards = random.normal(size=rows)
    takes = random.random((modes, modes)) < draw(st.sampled_from((0.0, 0.5, 1.0)))
    np.fill_diagonal(takes, True)
    lengths = random.integers(0 if draw(st.booleans()) else 1, tokens + 1, rows)
    eta = random.choice([0.0, 0.03, 0.2, -0.1, 1.0], modes)
    return {
        "rewards": rewards,
        "sampler": np.tile(np.repeat(np.arange(modes), each), queries),
        "mask": np.arange(tokens) < lengths[:, None],
        "log_probs": -random.exponential(
            draw(st.sampled_from((0.01, 1.0, 5.0))), (modes, rows, tokens)
        ),
        "entropies": random.exponential(1.0, (modes, rows, tokens)),
        "group": group,
        "eta": eta,
        "reference": random.integers(0, modes, modes),
        "alpha": draw(st.sampled_from((0.0, 0.5, 0.9, 1.0))),
        "kappa": draw(st.sampled_from((0.0, 0.5, 2.0))),
        "clip_form": draw(st.sampled_from(("code", "paper"))),
        "estimate": draw(st.sampled_from(("logprob", "entropy"))),
        "normalise": draw(st.sampled_from(("zscore", "mean", "none"))),
        "lowest_entropy_mask_ratio": draw(st.sampled_from((0.0, 0.2, 0.9))),
        "correctness_mask": draw(st.sampled_from(("none", "all_same"))),
        "takes": takes,
        "positive_only": draw(st.booleans()),
        "truncated_weights": draw(st.sampled_from((None, 0.5, 1.0, 2.0))),
    }


@settings(max_examples=400, deadline=None)
@given(cases())
def test_equal_the_reference(case):
    found = advantages(case).advantages.numpy()
    np.testing.assert_allclose(found, policy_split_advantages(**case), rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 2**32 - 1))
def test_rewards_may_differ_by_mode(case, seed):
    modes, rows = len(case["eta"]), len(case["rewards"])
    rewards = np.random.default_rng(seed).normal(size=(modes, rows))
    found = advantages(case, rewards).advantages.numpy()
    expected = policy_split_advantages(**case, rewards_by_mode=rewards)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_what_is_not_scored_does_not_matter(case):
    """Log-probabilities of rows that no mode needs may be NaN."""
    samplers, modes = case["sampler"], len(case["eta"])
    needed = case["takes"][:, samplers].copy()
    for mode in range(modes):
        if case["eta"][mode] and case["alpha"] < 1:
            needed[case["reference"][mode]] |= case["takes"][mode][samplers]
    expected = advantages(case)
    for name in ("log_probs", "entropies"):
        case[name] = np.where(needed[..., None] & case["mask"], case[name], np.nan)
    found = advantages(case)
    for one, other in zip(
        (found.advantages, found.size, found.clamped),
        (expected.advantages, expected.size, expected.clamped),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_the_clamp_keeps_the_sign_and_the_limits_of_both_forms(case):
    case |= {"kappa": 2.0, "positive_only": False, "truncated_weights": None}
    bonus = advantages(case)
    modes = len(case["eta"])
    taken = torch.tensor(case["takes"])[:, torch.tensor(case["sampler"])]
    rewards = torch.tensor(case["rewards"][None].repeat(modes, 0))
    plain, _ = group_advantages(rewards, taken, case["group"])
    share = np.ones(modes) if case["clip_form"] == "code" else np.abs(case["eta"])
    limit = plain.abs()[..., None] / 2 * torch.tensor(share)[:, None, None]
    assert (bonus.size <= limit + 1e-12).all()
    if case["clip_form"] == "code":
        assert (bonus.advantages * plain[..., None] >= 0).all()
    assert not bonus.advantages[:, :, :][(plain == 0)].any()


def test_the_published_settings_change_an_advantage_by_1_5_or_by_50_per_cent():
    """method.md: with eta 0.03 and kappa 2 the paper's form changes A by at most 1.5 %, the
    code's by up to 50 %; here one token's bonus is very large."""
    case = {
        "rewards": np.array([1.0, 0.0, 0.0, 1.0]),
        "sampler": np.array([0, 0, 1, 1]),
        "mask": np.ones((4, 100), bool),
        "log_probs": np.full((2, 4, 100), -1e-9),
        "entropies": np.zeros((2, 4, 100)),
        "group": 4,
        "eta": np.array([0.0, 0.03]),
        "reference": np.array([0, 0]),
        "takes": np.ones((2, 2), bool),
    } | MethodSettings().model_dump(include={"alpha", "kappa", "estimate", "normalise"})
    case |= {"lowest_entropy_mask_ratio": 0.0, "correctness_mask": "none"}
    case |= {"positive_only": False, "truncated_weights": None}
    case["log_probs"][:, 0, 0] = -20.0  # B of about 20 standard deviations
    changes = {}
    for form in ("paper", "code"):
        bonus = advantages(case | {"clip_form": form})
        changes[form] = (bonus.size[1, 0, 0] / (0.5 / (1 / 3**0.5 + 1e-4))).item()
    assert changes["paper"] == pytest.approx(0.015, rel=1e-6)
    assert changes["code"] == pytest.approx(0.5, rel=1e-6)


def test_a_rare_right_answer_earns_more():
    rewards = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    answers = torch.tensor([7, 7, 5, -1, 9, -1])
    expected = torch.tensor([0.5, 0.5, 1.0, 0.0, 1.0, 0.0])
    assert rarity_rewards(rewards, answers, 6).tolist() == expected.tolist()
    apart = rarity_rewards(rewards, answers, 1)
    assert apart.tolist() == rewards.tolist()


def test_a_mode_without_a_bonus_needs_no_scores_of_its_reference():
    """In the paper's form 0 · clip(B) is 0 where B is not known."""
    unknown = torch.full((2, 2, 1), torch.nan)
    log_probs = unknown.clone()
    log_probs[0] = -1.0
    taken = torch.ones(2, 2, dtype=torch.bool)
    rollouts = Rollouts(
        group=2,
        samplers=torch.tensor([0, 1]),
        taken=taken,
        advantages=torch.tensor([[1.0, -1.0], [0.5, -0.5]]),
        even=torch.zeros(2, 2, dtype=torch.bool),
        mask=torch.ones(2, 1, dtype=torch.bool),
        log_probs=log_probs,
        entropies=unknown,
    )
    method = MethodSettings(clip_form="paper", alpha=1.0)
    found = policy_split(rollouts, torch.tensor([0.1, 0.0]), torch.tensor([0, 0]), method)
    assert torch.equal(found.advantages[1, :, 0], rollouts.advantages[1])
    assert not found.advantages.isnan().any()
