"""Logistic regression of shares in [0, 1], with docs as clusters. Knows nothing of models."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from psplit_eval.resampling import Array
from psplit_eval.spread import Spread
from psplit_eval.stats import MINIMUM_DOCS, Estimate

__all__ = ["Coefficients", "Shares"]

_ROUNDING = 1e-24


@dataclass(frozen=True)
class Coefficients:
    """Coefficients (columns,) on the log-odds scale and their covariance, or NaN.

    The covariance is over docs, before a correction by docs / (docs − columns) for few of them.
    """

    values: Array
    covariance: Array
    docs: int

    def estimate(self, combination: Array) -> Estimate:
        """Of a weighted sum of coefficients: a 95 % interval by Student's t, docs − columns degrees
        of freedom. No limits below MINIMUM_DOCS docs, or without a doc more than columns."""
        spread = self._spread(combination)
        return Estimate(spread.centre, *spread.limits(), self.docs)

    def p(self, combination: Array) -> float:
        """Two-sided, of a weighted sum that is 0; NaN where there are no limits."""
        spread = self._spread(combination)
        return 2 * min(spread.p_below(0.0), spread.p_above(0.0))

    def _spread(self, combination: Array) -> Spread:
        centre, freedom = float(combination @ self.values), self.docs - len(combination)
        if self.docs < MINIMUM_DOCS or freedom < 1:
            return Spread(centre, math.nan, math.nan, self.docs)
        variance = float(combination @ self.covariance @ combination) * self.docs / freedom
        error = math.sqrt(variance) if variance > _ROUNDING or math.isnan(variance) else 0.0
        return Spread(centre, error, freedom, self.docs)


@dataclass(frozen=True)
class Shares:
    """What is regressed: `design` (rows, columns), `share` of each row in [0, 1], its `weight`
    above 0, and the doc that it is of; no intercept is added."""

    design: Array
    share: Array
    weight: Array
    doc: Sequence[Hashable]

    def collinear(self) -> bool:
        """Whether a column says nothing that the others do not say."""
        columns: int = self.design.shape[1]
        return not len(self.design) or int(np.linalg.matrix_rank(self.design)) < columns

    def separated(self) -> bool:
        """Whether a plane parts all shares above 0 from all below 1: coefficients have no end then.

        By linear programming (Konis 2007, Linear programming algorithms for detecting separated
        data). Shares between 0 and 1 are on both sides, so they have to lie in the plane.
        """
        from scipy.optimize import linprog

        sides = np.concatenate([self.design[self.share > 0], -self.design[self.share < 1]])
        best = linprog(-sides.sum(axis=0), A_ub=-sides, b_ub=np.zeros(len(sides)), bounds=(-1, 1))
        least: float = best.fun
        return least < -1e-7

    def unfitted(self) -> Coefficients:
        """NaN, of what is collinear or separated."""
        size = self.design.shape[1]
        nothing = np.full((size, size), math.nan)
        return Coefficients(nothing[0], nothing, len(set(self.doc)))

    def fit(self) -> Coefficients:
        """Maximum likelihood, and the sandwich of docs' scores (Liang and Zeger 1986).

        For shares that are no wins and losses it is quasi-likelihood (Papke and Wooldridge 1996):
        right where the mean is. Not to be asked for what is collinear or separated.
        """
        from scipy.optimize import minimize
        from scipy.special import expit

        x, y, w = self.design, self.share, self.weight / self.weight.sum()

        def curvature(beta: Array) -> Array:
            chance = expit(x @ beta)
            return np.asarray((x.T * (w * chance * (1 - chance))) @ x)

        beta = minimize(
            lambda beta: w @ (np.logaddexp(0, x @ beta) - y * (x @ beta)),
            np.zeros(x.shape[1]),
            jac=lambda beta: x.T @ (w * (expit(x @ beta) - y)),
            hess=curvature,
            method="trust-exact",
            options={"gtol": 1e-10},
        ).x
        docs = {doc: row for row, doc in enumerate(dict.fromkeys(self.doc))}
        scores = np.zeros((len(docs), x.shape[1]))
        residuals = w * (y - expit(x @ beta))
        np.add.at(scores, [docs[doc] for doc in self.doc], x * residuals[:, None])
        bread = np.linalg.inv(curvature(beta))
        return Coefficients(beta, bread @ scores.T @ scores @ bread, len(docs))
