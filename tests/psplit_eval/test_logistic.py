"""Logistic regression of shares, against statsmodels, scikit-learn and simulation."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from psplit_eval.logistic import Coefficients, Shares

# lengths of a and b, share of b, doc
ROWS = np.array(
    [
        (100, 120, 1.0, 0),
        (90, 150, 1.0, 1),
        (130, 110, 0.5, 2),
        (120, 125, 0.0, 3),
        (100, 90, 0.0, 4),
        (80, 160, 0.5, 5),
        (140, 100, 0.5, 6),
        (95, 130, 1.0, 7),
        (100, 140, 0.0, 0),
        (110, 100, 1.0, 1),
        (120, 170, 1.0, 2),
        (90, 95, 0.5, 3),
        (150, 120, 0.0, 4),
        (100, 130, 1.0, 5),
        (105, 90, 0.0, 6),
        (130, 135, 0.5, 7),
    ]
)
GAPS = ROWS[:, 1] - ROWS[:, 0]
DESIGN = np.column_stack([np.ones(16), np.tanh(GAPS / GAPS.std(ddof=1))])
SHARES = Shares(DESIGN, ROWS[:, 2], np.ones(16), ROWS[:, 3].tolist())

# statsmodels 0.15.0: GLM(share, design, Binomial()).fit(cov_type="cluster"), its errors without
# their own correction for few clusters
VALUES, ERRORS = (-0.12493277, 1.38600683), (0.42633134, 0.49765299)


def test_coefficients_and_clustered_errors_equal_statsmodels():
    found = SHARES.fit()
    assert found.values == pytest.approx(VALUES, abs=1e-8)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(ERRORS, abs=1e-8)


def test_intervals_and_p_are_students_over_docs():
    from scipy.stats import t

    found, error = SHARES.fit(), ERRORS[1] * math.sqrt(8 / 6)
    slope = found.estimate(np.array([0.0, 1.0]))
    half = t(6).ppf(0.975) * error
    assert (slope.ci_low, slope.ci_high) == pytest.approx((VALUES[1] - half, VALUES[1] + half))
    assert slope.n == 8
    expected = 2 * t(6).sf(VALUES[1] / error)
    assert found.p(np.array([0.0, 1.0])) == pytest.approx(expected)


def test_of_wins_and_losses_coefficients_are_scikit_learns():
    rng = np.random.default_rng(5)
    x = np.column_stack([np.ones(80), rng.normal(size=80), rng.normal(size=80)])
    y = (rng.random(80) < 1 / (1 + np.exp(-x @ [0.3, 1.0, -0.5]))).astype(float)
    weight = rng.integers(1, 4, 80).astype(float)
    expected = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(x, y, weight)
    found = Shares(x, y, weight, list(range(80))).fit()
    assert found.values == pytest.approx(expected.coef_[0], abs=1e-5)


def test_a_share_is_so_many_wins_and_losses():
    split = np.concatenate([DESIGN, DESIGN])
    wins = np.concatenate([np.ones(16), np.zeros(16)])
    weight = np.concatenate([SHARES.share, 1 - SHARES.share]) + 1e-300
    found = Shares(split, wins, weight, [*SHARES.doc, *SHARES.doc]).fit()
    assert found.values == pytest.approx(SHARES.fit().values, abs=1e-8)
    assert found.covariance == pytest.approx(SHARES.fit().covariance, abs=1e-8)


def intercept_and(x, share):
    design = np.column_stack([np.ones(len(x)), x])
    return Shares(design, np.array(share, dtype=float), np.ones(len(x)), list(range(len(x))))


@pytest.mark.parametrize(
    ("x", "share", "separated"),
    [
        ([-2, -1, 1, 2], [0, 0, 1, 1], True),
        ([-2, -1, 1, 2], [0, 1, 0, 1], False),
        ([-2, -1, 1, 2], [1, 1, 1, 1], True),
        ([-2, 0, 0, 2], [0, 1, 0, 1], True),  # all but in the plane: quasi-complete
        ([-2, 0, 2], [0, 0.5, 1], True),
        ([-2, 1, 2], [0, 0.5, 0.5], False),  # the plane of two shares is that of x² = x
        ([-2, -1, 1, 2], [0.4, 0.5, 0.6, 0.7], False),
    ],
)
def test_separation(x, share, separated):
    assert intercept_and(x, share).separated() == separated


def test_collinear_columns():
    assert intercept_and([3, 3, 3], [0, 1, 0.5]).collinear()
    assert not intercept_and([3, 2, 3], [0, 1, 0.5]).collinear()


def test_without_a_fit_all_is_nan():
    nothing = SHARES.unfitted()
    found = nothing.estimate(np.array([1.0, 0.0]))
    assert all(math.isnan(v) for v in (found.value, found.ci_low, nothing.p(np.ones(2))))


def test_few_docs_have_no_interval():
    found = intercept_and([-1, -1, 1, 1], [0.2, 0.6, 0.5, 0.9]).fit()
    estimate = found.estimate(np.array([1.0, 0.0]))
    assert math.isfinite(estimate.value)
    assert math.isnan(estimate.ci_low)
    assert math.isnan(found.p(np.array([1.0, 0.0])))
    assert isinstance(found, Coefficients)
