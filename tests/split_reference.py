"""Policy Split's whole advantage in plain numpy loops: what the tensors of training are held to.

Written from the paper (arXiv 2604.11510, Eqs. 2–6) and what the authors' code adds to it, with no
look at the trainer's own code and nothing in common with it. M modes, R rows (responses), T tokens.
"""

import math

import numpy as np

EPSILON = 1e-4  # TRL's, added to every standard deviation and range


def policy_split_advantages(
    rewards,
    sampler,
    mask,
    log_probs,
    entropies,
    *,
    group,
    eta,
    reference,
    alpha=0.5,
    kappa=2.0,
    clip_form="code",
    estimate="logprob",
    normalise="zscore",
    lowest_entropy_mask_ratio=0.0,
    correctness_mask="none",
    takes=None,
    positive_only=False,
    truncated_weights=None,
    rewards_by_mode=None,
):
    """(M, R, T): what token t of row r is worth to mode m.

    rewards (R,), NaN: unknown; sampler (R,): number of the mode that drew a row; mask (R, T): a
    response's own tokens; log_probs and entropies (M, R, T): nats, under each mode's prompt;
    group: rows of a query, which stand together; eta (M,): bonus weights with their signs;
    reference (M,): numbers of the modes that are mixed in; takes (M, M): whether mode m trains on
    rows that mode s drew, None: all on all; rewards_by_mode (M, R): in place of rewards.

    0 on masked tokens and where mode m does not train on the row. A row of unknown reward is left
    out of the reward's statistics and has A = 0; its tokens are tokens like others. Fewer than two
    known rewards: A = 0. Fewer than two tokens: B = 0 (z-score). A query with no known reward
    counts as one whose rewards are all equal.
    """
    modes, rows, tokens = np.shape(log_probs)
    mask = np.asarray(mask, dtype=bool)
    log_probs = np.asarray(log_probs, dtype=np.float64)
    entropies = np.asarray(entropies, dtype=np.float64)
    if takes is None:
        takes = np.ones((modes, modes), dtype=bool)
    if rewards_by_mode is None:
        rewards_by_mode = [rewards] * modes
    result = np.zeros((modes, rows, tokens))
    for m in range(modes):
        own, other = (
            (log_probs[m], log_probs[reference[m]])
            if estimate == "logprob"
            else (-entropies[m], -entropies[reference[m]])
        )
        bonus = -alpha * own - (1 - alpha) * other  # Eq. 6
        seen = [float(reward) for reward in rewards_by_mode[m]]
        for first in range(0, rows, group):
            taken = [r for r in range(first, first + group) if takes[m][sampler[r]]]
            worth = _row_advantages([seen[r] for r in taken])
            places = [(r, t) for r in taken for t in range(tokens) if mask[r, t]]
            size = _normalised([bonus[place] for place in places], normalise)
            size = _without_lowest(size, lowest_entropy_mask_ratio)
            known = [seen[r] for r in taken if not math.isnan(seen[r])]
            if correctness_mask == "all_same" and any(reward != known[0] for reward in known):
                size = [0.0 for _ in size]
            for (r, t), b in zip(places, size, strict=True):
                a = worth[taken.index(r)]
                value = a + _weighed(b, a, eta[m], kappa, clip_form)
                if sampler[r] != m:
                    if positive_only and a <= 0:
                        value = 0.0
                    if truncated_weights is not None:
                        apart = log_probs[m, r, t] - log_probs[sampler[r], r, t]
                        value *= math.exp(min(apart, math.log(truncated_weights)))
                result[m, r, t] = value
    return result


def _row_advantages(rewards):
    """Eq. 2, with TRL's epsilon and Bessel's correction."""
    known = [reward for reward in rewards if not math.isnan(reward)]
    if len(known) < 2:
        return [0.0 for _ in rewards]
    mean, deviation = _moments(known)
    return [0.0 if math.isnan(r) else (r - mean) / (deviation + EPSILON) for r in rewards]


def _moments(values):
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _normalised(bonus, how):
    """Eq. 4 (zscore), or what the code offers in its place."""
    if not bonus or how == "none":
        return bonus
    if how == "mean":
        mean = math.fsum(bonus) / len(bonus)
        return [(b - mean) / (max(bonus) - min(bonus) + EPSILON) for b in bonus]
    if len(bonus) < 2:
        return [0.0]
    mean, deviation = _moments(bonus)
    return [(b - mean) / (deviation + EPSILON) for b in bonus]


def _without_lowest(size, share):
    if not size or share == 0:
        return size
    least = _quantile(size, share)
    return [0.0 if b < least else b for b in size]


def _quantile(values, share):
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _weighed(b, a, eta, kappa, form):
    """Eq. 3 (paper), or as the authors' code has it."""
    if kappa == 0:
        return eta * b
    bound = abs(a) / kappa
    if form == "code":
        return min(max(eta * b, -bound), bound)
    return eta * min(max(b, -bound), bound)
