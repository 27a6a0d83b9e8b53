"""From which score on a binary model decides for the positive class, and what decisions cost."""

from __future__ import annotations

import numpy as np

from pipelines.errors import DataError
from pipelines.problem import Problem


def cost_matrix(problem: Problem) -> list[list[float]] | None:
    """What a decision (column) costs by what was true (row), classes in the problem's order; None: nobody said."""
    if not problem.costs.matrix:
        return None
    costs = problem.costs.matrix
    return [
        [float(costs.get(actual, {}).get(decided, 0.0)) for decided in problem.classes] for actual in problem.classes
    ]


def choose_threshold(problem: Problem, scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """The threshold of a binary problem by cost or F-beta (`training.threshold.by`), chosen on these rows.

    Raises:
        DataError: there is no row to choose by.
    """
    if not weight.sum() > 0:
        raise DataError(
            "there is no validation row to choose a threshold by",
            where="training.threshold",
            cure="validate on more partitions (dataset.split.validation_partitions), or take by: fixed",
        )
    if problem.training.threshold.by == "cost":
        return least_cost(scores, y, weight, np.array(cost_matrix(problem)))
    return best_f_beta(scores, y, weight, problem.evaluation.beta)


def least_cost(scores: np.ndarray, y: np.ndarray, weight: np.ndarray, costs: np.ndarray) -> float:
    """Where the decisions cost least, `costs` being actual x decided; of equal ones the middle of the widest stretch.

    >>> scores, y = np.array([0.1, 0.3, 0.7, 0.9]), np.array([0, 0, 1, 1])
    >>> round(least_cost(scores, y, np.ones(4), np.array([[0, 1], [1, 0]])), 2)
    0.5
    """
    ends, true_positive, false_positive = _cuts(scores, y, weight)
    positive, negative = true_positive[0], false_positive[0]
    cost = (
        costs[1, 1] * true_positive
        + costs[1, 0] * (positive - true_positive)
        + costs[0, 1] * false_positive
        + costs[0, 0] * (negative - false_positive)
    )
    return _middle(ends, -cost)


def best_f_beta(scores: np.ndarray, y: np.ndarray, weight: np.ndarray, beta: float) -> float:
    """Where F-beta is greatest (van Rijsbergen, 1979); of equal ones the middle of the widest stretch."""
    ends, true_positive, false_positive = _cuts(scores, y, weight)
    given = beta**2 * true_positive[0] + true_positive + false_positive
    gain = np.divide((1 + beta**2) * true_positive, given, out=np.zeros_like(given), where=given > 0)
    return _middle(ends, gain)


def _cuts(scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The m + 1 ways to cut m distinct scores: cut i decides for all from the i-th score on, the last for none.

    Gives `ends` (m + 2,): a threshold in (ends[i], ends[i + 1]] makes cut i; and the weight that is decided positive
    rightly and wrongly at each cut.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    ends = np.concatenate([[0.0], distinct, [max(1.0, float(np.nextafter(distinct[-1], 2)))]])
    positive = np.bincount(place, weight * (y == 1), len(distinct))
    negative = np.bincount(place, weight * (y != 1), len(distinct))
    from_here = [np.append(np.cumsum(each[::-1])[::-1], 0.0) for each in (positive, negative)]
    return ends, from_here[0], from_here[1]


def _middle(ends: np.ndarray, gain: np.ndarray) -> float:
    """The middle of the widest stretch of neighbouring cuts with the greatest gain."""
    tolerance = 1e-9 * float(np.abs(gain).max())
    is_best = gain >= gain.max() - tolerance
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_best.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]  # cuts starts[j] to stops[j] - 1 are best
    widest = int(np.argmax(ends[stops] - ends[starts]))
    low, high = float(ends[starts[widest]]), float(ends[stops[widest]])
    middle = (low + high) / 2
    return middle if middle > low else high
