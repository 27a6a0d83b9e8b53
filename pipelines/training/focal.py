"""Focal loss for boosting: rows that are classified well already count little (Lin et al. 2017).

    loss = -a (1 - p)**gamma log(p)

p is the probability given to the true class: the sigmoid of the margin, or of its negative. a is `alpha` for class 1
and 1 - alpha for class 0, or 1 where alpha is None. With gamma 0 and no alpha it is log loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Gradients = tuple[np.ndarray, np.ndarray]
SMALLEST = 1e-16  # XGBoost's own floor for the Hessian of log loss


def derivatives(margin: np.ndarray, y: np.ndarray, gamma: float, alpha: float | None) -> Gradients:
    """Exact first and second derivative of each row's loss with respect to its margin, float64, shape (n,).

    With z the margin towards the true class: dL/dz = (1-p)^g (g p log p - (1-p)), d2L/dz2 = p (1-p)^g ((1-p)(2g+1) +
    g log p (1-p-gp)). The second is negative where a row is badly wrong: focal loss is not convex there.

    >>> [found.round(3).tolist() for found in derivatives(np.zeros(2), np.array([0, 1]), 0.0, None)]
    [[0.5, -0.5], [0.25, 0.25]]
    """
    sign = np.where(y == 1, 1.0, -1.0)
    p, q, log_p = _chances(sign * margin)
    factor = _alpha(y, alpha) * q**gamma
    first = sign * factor * (gamma * p * log_p - q)
    second = factor * p * (q * (2 * gamma + 1) + gamma * log_p * (q - gamma * p))
    return first, second


def curvature(margin: np.ndarray, y: np.ndarray, gamma: float, alpha: float | None) -> np.ndarray:
    """Second derivative with the factor (1-p)^gamma held fixed, as if it were a row's weight; positive everywhere."""
    p, q, _ = _chances(np.where(y == 1, 1.0, -1.0) * margin)
    return np.asarray(_alpha(y, alpha) * q**gamma * p * q)


def focal_objective(
    y: np.ndarray, weight: np.ndarray, gamma: float, alpha: float | None
) -> Callable[[np.ndarray, Any], Gradients]:
    """Objective for XGBoost: gradient and Hessian, times the weights.

    XGBoost divides by sums of Hessians, so they have to be positive. Where the exact one is below `curvature`, which is
    where a row is wrong (p under about 0.1), `curvature` stands in: the step there is that of weighted log loss.
    """

    def objective(margin: np.ndarray, _: Any) -> Gradients:
        margin = margin.astype(np.float64)
        first, second = derivatives(margin, y, gamma, alpha)
        second = np.maximum(np.maximum(second, curvature(margin, y, gamma, alpha)), SMALLEST)
        return first * weight, second * weight

    return objective


def first_score(y: np.ndarray, weight: np.ndarray, alpha: float | None) -> float:
    """Probability that boosting starts from: the weighted share of class 1. (XGBoost starts at 0.5 where the objective
    is not its own, and would spend its first rounds on the way to the share.)"""
    share = float(np.average(y, weights=weight * _alpha(y, alpha)))
    return min(max(share, 1e-6), 1 - 1e-6)


def _chances(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sigmoid(z), 1 - sigmoid(z), log sigmoid(z), none of which loses its digits where z is large."""
    log_p, log_q = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    return np.exp(log_p), np.exp(log_q), log_p


def _alpha(y: np.ndarray, alpha: float | None) -> np.ndarray:
    return np.ones(len(y)) if alpha is None else np.where(y == 1, alpha, 1 - alpha)
