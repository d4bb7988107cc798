"""Every published baseline through the trainer: two updates on one batch of responses, whose losses
are computed again in numpy, from transformers' plain logits and the methods' formulas."""

import numpy as np
import pytest
from training_cases import FirstCharacter, Watched, model, plain_scores, trainer

from psplit_train.config import BASELINES, Config
from psplit_train.grpo import grpo_config

GROUP = 8
SETTINGS = {
    "clip_cov": {"covariance_low": 0.1, "covariance_high": 1.0, "covariance_share": 0.1},
    "kl_cov": {"covariance_share": 0.1},
    "entropy_regularisation": {"entropy_coefficient": 0.3},
}


class Snapped(Watched):
    """Keeps the weights that each update starts from."""

    def __init__(self, **settings):
        self.snapshots = []
        super().__init__(**settings)

    def _flat(self, *given):
        weights = self.model.state_dict()
        self.snapshots.append({name: value.clone() for name, value in weights.items()})
        return super()._flat(*given)


class Batch:
    """Responses, in the trainer's order: rows of (prompt, ids), as numpy's arrays (rows, T)."""

    def __init__(self, made):
        inputs, _ = made.batches[0]
        self.mask = inputs["mask"].numpy()
        self.queries = inputs["queries"].numpy()
        self.prompts = [made._drawn.prompts[query][0] for query in self.queries]
        rows = zip(inputs["completions"], inputs["mask"], strict=True)
        self.ids = [ids[mask].tolist() for ids, mask in rows]
        right = FirstCharacter().right
        texts = [made.template.decode(ids) for ids in self.ids]
        self.rewards = np.array([float(bool(text) and text[0] in right) for text in texts])

    def advantages(self):
        """GRPO's, on each token."""
        found = np.zeros(len(self.rewards))
        for query in set(self.queries.tolist()):
            group = self.rewards[self.queries == query]
            assert len(group) == GROUP
            found[self.queries == query] = (group - group.mean()) / (group.std(ddof=1) + 1e-4)
        return found[:, None] * self.mask

    def scores(self, weights):
        """log-probabilities and entropies."""
        network = model()
        network.load_state_dict(weights)
        found = np.zeros((2, *self.mask.shape))
        for row, (prompt, ids) in enumerate(zip(self.prompts, self.ids, strict=True)):
            for kind, values in enumerate(plain_scores(network, prompt, ids)):
                found[kind, row, : len(ids)] = values.numpy()
        return found


def forking_tokens(base, log_probs, entropies, mask, settings):
    """Of the 20 % of tokens with the highest entropy."""
    least = np.quantile(entropies[mask], 0.8, method="higher")
    return base * (entropies >= least)


def entropy_driven(base, log_probs, entropies, mask, settings):
    """Divided by the response's entropy relative to its group's; rows of a group are together."""
    means = (entropies * mask).sum(1) / mask.sum(1)
    level = means.reshape(-1, GROUP).mean(1).repeat(GROUP)
    return base / np.maximum(means / level, 0.1)[:, None]


def entropy_advantage(base, log_probs, entropies, mask, settings):
    return base + np.minimum(0.4 * entropies, np.abs(base) / 2) * mask


def covariances(base, log_probs, mask):
    a, p = base[mask].mean(), log_probs[mask].mean()
    return np.where(mask, (base - a) * (log_probs - p), -np.inf)


FORMULAS = {
    "forking_tokens": forking_tokens,
    "entropy_driven": entropy_driven,
    "entropy_advantage": entropy_advantage,
}


def ppo(ratio, weights, low, high):
    return -np.minimum(ratio * weights, np.clip(ratio, 1 - low, 1 + high) * weights)


def two_updates(folder, name):
    """By the settings that a config gives TRL."""
    method = {"name": name, **SETTINGS.get(name, {})}
    config = Config.model_validate(
        {"model": {"tiny": {}}, "data": {"task": "sums"}, "modes": ["normal"], "method": method}
    )
    given = grpo_config(config, folder)
    own = {key: getattr(given, key) for key in ("epsilon", "epsilon_high")}
    more = {"steps": 2, "iterations": 2, "learning_rate": 5e-3, "max_grad_norm": 0}
    return trainer(folder, method, kind=Snapped, **more, **own)


@pytest.mark.parametrize("name", BASELINES)
def test_a_method_has_the_loss_of_its_formula(tmp_path, name):
    made = two_updates(tmp_path, name)
    made.train()
    settings, batch = made.method, Batch(made)
    mask, base = batch.mask, batch.advantages()
    before, entropies = batch.scores(made.snapshots[0])
    given = made.flat[0]["advantages"].numpy()
    np.testing.assert_array_equal(given, made.flat[1]["advantages"].numpy())
    if name == "clip_cov":
        weights = checked_clip_cov(given, base, before, mask, settings)
    else:
        formula = FORMULAS.get(name, lambda base, *_: base)
        weights = formula(base, before, entropies, mask, settings)
        np.testing.assert_allclose(given, weights, rtol=1e-4, atol=1e-5)
    assert (np.abs(weights - base).max() > 0.1) == (name in (*FORMULAS, "clip_cov"))
    for step in range(2):
        now, entropies = batch.scores(made.snapshots[step])
        ratio = np.exp(now - before)
        high = 0.28 if name == "clip_higher" else 0.2
        losses = -ratio * weights if name == "kl_cov" else ppo(ratio, weights, 0.2, high)
        if name == "kl_cov":
            covariance = covariances(base, before, mask)
            least = np.sort(covariance[mask])[-int(0.1 * mask.sum())]
            losses = losses + np.where(covariance >= least, np.abs(now - before), 0)
        loss = (losses * mask).sum() / mask.sum()
        if name == "entropy_regularisation":
            loss -= 0.3 * (entropies * mask).sum() / mask.sum()
        assert made.state.log_history[step]["loss"] == pytest.approx(loss, abs=2e-5)
    assert ((ratio > 1.2) & (weights > 0) & mask).any(), "nothing was clipped: it was not tested"


def checked_clip_cov(given, base, log_probs, mask, settings):
    """The share of all tokens is taken out, at random among those of a middling covariance."""
    out = (given == 0) & (base != 0)
    np.testing.assert_allclose(given[~out], base[~out], rtol=1e-5, atol=1e-6)
    covariance = covariances(base, log_probs, mask)
    between = (covariance > settings.covariance_low) & (covariance < settings.covariance_high)
    assert out.sum() == int(settings.covariance_share * mask.sum()) < between.sum()
    assert not (out & ~between).any()
    return given
