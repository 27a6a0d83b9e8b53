"""Row weights that make rare, or expensive, classes count."""

from __future__ import annotations

import numpy as np

from pipelines.config import Imbalance
from pipelines.errors import ConfigError


def reweighed(
    imbalance: Imbalance, y: np.ndarray, weight: np.ndarray, classes: int, costs: np.ndarray | None
) -> np.ndarray:
    """Weights for a fit, float64, shape (n,): each row's own, times the factor of its class.

    Their sum stays, so that regularisation and min_child_weight mean what they meant. Classes are counted by weight;
    one without rows takes part in nothing. Focal loss weighs rows itself: the weights stay as they are.

    Args:
        y: class codes, (n,).
        costs: what the decision (column) costs, by what was true (row), (classes, classes).

    Raises:
        ConfigError: cost_matrix without costs.

    >>> reweighed(Imbalance(method="class_weight"), np.array([0, 0, 0, 1]), np.ones(4), 2, None).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    weight = np.asarray(weight, dtype=np.float64)
    total = weight.sum()
    if imbalance.method in ("none", "focal") or total <= 0:
        return weight
    mass = np.bincount(y, weights=weight, minlength=classes)
    factor = np.zeros(len(mass))
    present = mass > 0
    match imbalance.method:
        case "class_weight":
            factor[present] = 1 / mass[present]
        case "class_balanced":
            counted = mass[present] * np.count_nonzero(weight > 0) / total  # a weight of 2 everywhere is no second row
            factor[present] = 1 / effective_number(counted, imbalance.beta)
        case "cost_matrix":
            if costs is None:
                raise ConfigError(
                    "imbalance: cost_matrix needs costs, and there are none",
                    where="problem.yaml, costs.matrix",
                    cure="name what wrong decisions cost, or choose class_weight",
                )
            factor = cost_of_error(np.asarray(costs, dtype=np.float64))
    changed = weight * factor[y]
    made = changed.sum()
    return changed * (total / made) if made > 0 else weight


def effective_number(counts: np.ndarray, beta: float) -> np.ndarray:
    """What so many rows are worth where new ones repeat the old: (1 - beta^n) / (1 - beta) (Cui et al. 2019).

    >>> effective_number(np.array([1.0, 10.0, 10000.0]), 0.99).round(1).tolist()
    [1.0, 9.6, 100.0]
    """
    with np.errstate(divide="ignore"):  # beta 0: all counts are worth one row
        return np.asarray(-np.expm1(counts * np.log(beta)) / (1 - beta))


def cost_of_error(costs: np.ndarray) -> np.ndarray:
    """What deciding wrong costs more than deciding right, by the true class, mean over the wrong decisions, (k,).

    Zero where being wrong is no loss: nothing can be learnt from such a class.

    >>> cost_of_error(np.array([[0.0, 10.0], [80.0, -20.0]])).tolist()
    [10.0, 100.0]
    """
    wrong = len(costs) - 1
    right = np.diag(costs)
    mean = (costs.sum(axis=1) - right) / wrong if wrong else right
    return np.asarray(np.clip(mean - right, 0, None))
