"""How original people would find a use of an object: a linear model over MiniLM's embeddings.

Fitted to mean ratings of originality between 1 and 5; `fitted/originality.json` says on what, and
how well it does on objects that it has not seen. Semantic distance between use and object alone is
SemDis (Beaty and Johnson 2021, Behavior Research Methods 53, 757–780).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEATURES",
    "OriginalityModel",
    "originality_model",
    "predicted_originality",
    "use_features",
]

Array = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[Any]]

FEATURES = ("length", "length_squared", "distance")
"""What is known of a use, in the order of `use_features`; the embedding's dimensions follow.

length          ln (1 + words): raters find longer uses more original, and so does the model
length_squared  its square
distance        1 − cosine of the embeddings of use and object
then            the use's embedding without its part along the object's
"""


@dataclass(frozen=True)
class OriginalityModel:
    """rating = intercept + features · coefficients, within the scale 1 … 5."""

    intercept: float
    coefficients: Array

    def ratings(self, features: Array) -> Array:
        """(n, features) to (n,)."""
        return np.clip(self.intercept + features @ self.coefficients, 1.0, 5.0)


@lru_cache(maxsize=1)
def originality_model() -> OriginalityModel:
    """The model that psplit ships."""
    text = (resources.files("psplit_eval") / "fitted" / "originality.json").read_text("utf-8")
    fitted = json.loads(text)
    named = [fitted["coefficients"][name] for name in FEATURES]
    return OriginalityModel(fitted["intercept"], np.array([*named, *fitted["embedding"]]))


def predicted_originality(
    item: str, uses: Sequence[str], embed: Embed, model: OriginalityModel | None = None
) -> Array:
    """Mean rating that people would give each use of `item`: (n,), in 1 … 5, higher is better.

    `embed` gives MiniLM's unit vector a text. Good for comparing uses of one object: its mean over
    an object's uses depends on the object and on who rated, which no model can know.
    """
    if not uses:
        return np.zeros(0)
    return (model or originality_model()).ratings(use_features(item, uses, embed))


def use_features(item: str, uses: Sequence[str], embed: Embed) -> Array:
    """`FEATURES` and the embedding of each use: (n, 3 + dimension)."""
    vectors = np.asarray(embed([item, *uses]), dtype=np.float64)
    along = vectors[1:] @ vectors[0]
    length = np.log1p([len(re.findall(r"\w+", use)) for use in uses])
    rest = vectors[1:] - np.outer(along, vectors[0])
    return np.column_stack([length, length**2, 1.0 - along, rest])
