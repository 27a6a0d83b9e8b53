"""Curves over all thresholds of a binary model: what deciding earlier or later would bring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics.metric_sums import per_score
from pipelines.metrics.scored import Scored

Array = NDArray[Any]
POINTS = 200


def curves(scored: Scored) -> dict[str, dict[str, list[float]]]:
    """precision_recall {"recall", "precision"}, roc {"false_positive_rate", "true_positive_rate"}, threshold_cost
    {"threshold", "cost"}: at most 200 points each, spread along the curve.

    None of them for other tasks, roc and precision_recall only where both classes are there, threshold_cost (mean
    cost of a row) only with costs.
    """
    if scored.task != "binary" or not scored.weights.any():
        return {}
    used = scored.take(scored.weights > 0)
    positives, negatives = per_score(used.scores, used.labels == 1, used.weights)
    hits, alarms = (np.concatenate([[0.0], np.cumsum(side[::-1])]) for side in (positives, negatives))
    curves_by_name: dict[str, dict[str, list[float]]] = {}
    if hits[-1] and alarms[-1]:
        recall = hits / hits[-1]
        curves_by_name["precision_recall"] = _thinned(recall=recall[1:], precision=hits[1:] / (hits + alarms)[1:])
        curves_by_name["roc"] = _thinned(false_positive_rate=alarms / alarms[-1], true_positive_rate=recall)
    if used.costs is not None:
        cells = [[alarms[-1] - alarms, alarms], [hits[-1] - hits, hits]]
        cost = sum(used.costs[actual, decided] * cells[actual][decided] for actual in (0, 1) for decided in (0, 1))
        thresholds = np.concatenate([[np.nextafter(used.scores.max(), 2)], np.unique(used.scores)[::-1]])
        curves_by_name["threshold_cost"] = _thinned(
            threshold=thresholds[::-1], cost=(cost / (hits[-1] + alarms[-1]))[::-1]
        )
    return curves_by_name


def _thinned(**columns: Array) -> dict[str, list[float]]:
    """At most 200 of the points, at about the same distance along the curve, its ends among them."""
    steps = sum(np.abs(np.diff(values)) / (np.ptp(values) or 1.0) for values in columns.values())
    length = np.concatenate([[0.0], np.cumsum(steps)])
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))
    return {name: values[np.minimum(chosen, len(length) - 1)].tolist() for name, values in columns.items()}
