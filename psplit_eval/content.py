"""How much a doc's answers differ in what they say, beyond what the prompt makes them all say.

The embedding of an answer holds what the prompt is about, and what the answer adds. Answers to one
prompt share the first part, which hides differences in the second. So that part is taken away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psplit_eval.semantic import mean_pairwise_distance
from psplit_eval.surprise import Foretold, mutual_bits

__all__ = [
    "beyond_prompt",
    "closeness_to_prompt",
    "content_diversity",
    "content_features",
    "distance_beyond_prompt",
    "distances_beyond_prompt",
    "in_context",
]

Array = NDArray[np.float64]
_NOTHING = 1e-3
"""Of a vector of length 1, a rest as short as this is rounding."""


def in_context(prompt: str, text: str) -> str:
    """The text as it is embedded after its prompt."""
    return f"{prompt.strip()} {text.strip()}"


def beyond_prompt(vectors: ArrayLike, prompt: ArrayLike) -> Array:
    """Embeddings without their part along the prompt's; shapes (k, d), (d,) → (n ≤ k, d).

    Vectors are brought to length 1 before; the result is not. What has no rest (a text without
    words, or one that only repeats the prompt) adds nothing and is left out.
    """
    rows, axis = _unit(vectors), _unit(prompt)[0]
    rest = rows - np.outer(rows @ axis, axis)
    kept: Array = rest[np.linalg.norm(rest, axis=1) > _NOTHING]
    return kept


def _unit(vectors: ArrayLike) -> Array:
    """Rows of length 1; zeros stay."""
    rows = np.atleast_2d(np.asarray(vectors, np.float64))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(lengths > 0, lengths, 1)
    return unit


def closeness_to_prompt(vectors: ArrayLike, prompt: ArrayLike) -> float:
    """Mean cosine of answers (k × d) and their prompt (d); in [−1, 1].

    No measure of diversity: it tells answers that go different ways from answers that leave the
    topic. Answers without words are left out; NaN where none is left, or the prompt has none.
    """
    rows, axis = _unit(vectors), _unit(prompt)[0]
    cosines = (rows @ axis)[rows.any(axis=1)]
    return float(cosines.mean()) if axis.any() and len(cosines) else math.nan


def distance_beyond_prompt(vectors: ArrayLike, prompt: ArrayLike) -> float:
    """Mean of 1 − cosine over all pairs of what answers add to the prompt; higher: more diverse.

    In [0, k / (k − 1)] for k answers; 0 where all add the same. `vectors` (k × d) are embeddings of
    the answers, or of prompt and answer (`in_context`); `prompt` (d) is the prompt's. Does not
    depend on k in expectation. NaN where fewer than two answers add anything.
    """
    return mean_pairwise_distance(beyond_prompt(vectors, prompt))


def distances_beyond_prompt(vectors: ArrayLike, prompt: ArrayLike) -> Array:
    """1 − cosine of what each two answers add to the prompt; (k, d), (d,) → (k, k), in [0, 2].

    0 for an answer and itself, and where one of the two adds nothing.
    """
    rows, axis = _unit(vectors), _unit(prompt)[0]
    rest = rows - np.outer(rows @ axis, axis)
    adding = np.linalg.norm(rest, axis=1) > _NOTHING
    unit = _unit(np.where(adding[:, None], rest, 0.0))
    distances: Array = np.clip(1.0 - unit @ unit.T, 0.0, 2.0) * np.outer(adding, adding)
    np.fill_diagonal(distances, 0.0)
    return distances


def content_features(
    texts: ArrayLike, texts_in_context: ArrayLike, prompt: ArrayLike, pairs: Foretold
) -> dict[str, float]:
    """What `content_diversity` needs, of embeddings (k × d, k × d, d) and `surprise.foretold`."""
    return {
        "distance_beyond_prompt": distance_beyond_prompt(texts, prompt),
        "distance_in_context": distance_beyond_prompt(texts_in_context, prompt),
        "closeness_to_prompt": closeness_to_prompt(texts, prompt),
        "mutual_bits": mutual_bits(pairs),
    }


def content_diversity(features: Mapping[str, float]) -> float:
    """Probability that people would call the answers diverse in content; in [0, 1].

    Logistic regression on `content_features`, fitted to high and low sets of McDiv (Tevet & Berant
    2021, arXiv 2004.02990): 5 answers of up to 40 words, English, by people who were asked to say
    different things, or one thing in different words. Coefficients and cross-validation stand in
    fitted/content_diversity.json; they hold for the packaged encoder and the built-in reference
    model only. Each feature counts as far as it went there and stays at that bound beyond, so that
    long or equal texts give no wild values; for other k and longer texts nothing is validated.
    It rises with the sampling temperature, but orders single sets by it worse than plain distances
    do (benchmarks/results/validity_sets.csv): closeness to the prompt and predictable answers,
    which come with low temperatures, count for it. NaN where a feature is.
    """
    model = _fitted()
    total = float(model["intercept"])
    for name, term in model["features"].items():
        value = features[name]
        if math.isnan(value):
            return math.nan
        total += term["weight"] * (min(max(value, term["low"]), term["high"]) - term["mean"])
    return 1 / (1 + math.exp(-total))


@lru_cache(maxsize=1)
def _fitted() -> dict[str, Any]:
    text = (files("psplit_eval") / "fitted" / "content_diversity.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
