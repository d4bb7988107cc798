"""A small store of cross-scores, its manifest, and how its modes behave."""

import numpy as np

from psplit_eval.behaviour import Compared, read_behaviour
from psplit_eval.store import CrossScore, Doc, Sample, Store

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 8}
PROMPTS = {"normal": None, "high": "Be wild.", "low": "Be calm."}
PLACEBOS = {"placebo_1": "Sit.", "placebo_2": "Stand.", "placebo_3": "Lie."}
PROMPTS |= PLACEBOS
ROLES = {"normal": "normal", "high": "high", "low": "low"}


def entry(name, prompt="", **more):
    return {"name": name, "system_prompt": prompt if prompt != "" else PROMPTS[name], **more}


def mode(name, prompt="", role=None):
    return entry(name, prompt, role=role or ROLES.get(name, "other"), sampling={})


def policy(name, prompt="", role=None):
    role = role or ROLES.get(name, "other")
    return entry(name, prompt, role=role, placebo=name.startswith("placebo"))


def manifest(modes=("normal", "high"), policies=("normal", "high", *PLACEBOS), **more):
    """`policies` None: nothing was scored. Names or entries."""
    content = {
        "modes": [mode(m) if isinstance(m, str) else m for m in modes],
        "tasks": {"t": {"sampling": dict(PLAIN)}},
        "pools": {},
    }
    if policies is not None:
        named = [policy(p) if isinstance(p, str) else p for p in policies]
        content["divergence"] = {"policies": named, "exact": True, "encoder": ""}
    return content | more


def score(mode, task, doc, index, policy, kl, entropy=2.0, tokens=3):
    by_token = np.array([[kl] * tokens, [entropy] * tokens], np.float32).tobytes()
    total = kl * tokens
    return CrossScore(
        *(mode, task, doc, index, policy, tokens, entropy * tokens, 2.5 * tokens),
        *(total, 2 * total, total / 4, None if policy.startswith("placebo") else by_token),
    )


def sample(mode, task, doc, index, tokens=3):
    return Sample(
        *(mode, task, doc, index, "h", f"{mode}{task}{doc}{index}", "p", 1, 1, f"{mode} {index}"),
        *(None, tuple(range(tokens)), "stop", 5, tokens, 2.0 * tokens, 1.0, None, 0.1, "now"),
    )


def fill(store, levels, docs=8, samples=2, task="t", rng=None):
    """`levels`: (mode, policy) → (KL, entropy), about which the docs lie."""
    rng = rng or np.random.default_rng(0)
    store.add_plan([], [Doc(task, doc, "h", {}, "1") for doc in range(docs)])
    for (name, under), (kl, entropy) in levels.items():
        for doc in range(docs):
            noise = rng.uniform(0.95, 1.05)
            for index in range(samples):
                store.add_samples([sample(name, task, doc, index)])
                store.add_cross_scores(
                    [score(name, task, doc, index, under, kl * noise, entropy * noise)]
                )


def behaviour(store, content, arms=(), compared=None):
    return read_behaviour(store, content, arms, compared or Compared())


def opened(folder):
    return Store(folder / "samples.sqlite")


SPLIT = {
    ("normal", "normal"): (0.0, 2.0),
    ("normal", "high"): (0.8, 2.6),
    **{("normal", name): (0.05, 2.0) for name in PLACEBOS},
    ("high", "high"): (0.0, 2.6),
    ("high", "normal"): (0.5, 2.0),
}
