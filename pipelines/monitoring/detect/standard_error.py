"""How far chance alone moves a metric among so many rows: standard errors, as if rows came one by one.

That rows of a day have their weather in common is left out: whatever its cause, a partition's scores were that far off.
Among few rows they are off by chance, and that is what has to be told from a drop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics.metric_sums import sides
from pipelines.metrics.scored import Scored

Array = NDArray[Any]


def standard_errors(truth: Scored) -> dict[str, float]:
    """Standard errors of auc and calibration_gap, of a regression of r2 and bias; those that are not defined are left
    out, as are all with fewer than two rows. Weights do not count.

    >>> scored = Scored("regression", (), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]), np.ones(3))
    >>> {name: round(error, 3) for name, error in standard_errors(scored).items()}
    {'r2': 0.354, 'bias': 0.272}
    """
    if len(truth.labels) < 2:
        return {}
    if truth.task == "regression":
        return _of_numbers(truth.labels, truth.scores)
    each = [_of_auc(scores, is_positive) for scores, is_positive in sides(truth)]
    errors = {}
    if None not in each:
        # One class against the rest each: their mean is at most as uncertain as they are on average.
        errors["auc"] = float(np.mean([error for error in each if error is not None]))
    if truth.task == "binary":
        errors["calibration_gap"] = _of_mean(truth.scores - truth.labels)
    return errors


def _of_numbers(labels: Array, scores: Array) -> dict[str, float]:
    errors = {"bias": _of_mean(scores - labels)}
    spread = np.square(labels - labels.mean())
    if not spread.mean():
        return errors
    squares = np.square(scores - labels)
    unexplained = squares.mean() / spread.mean()
    # By the influence of each row on R2 (Hampel 1974).
    return {"r2": _of_mean((unexplained * spread - squares) / spread.mean()), **errors}


def _of_auc(scores: Array, is_positive: Array) -> float | None:
    """By the places of positives among negatives, and the reverse (DeLong, DeLong and Clarke-Pearson 1988)."""
    positives, negatives = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    if not len(positives) or not len(negatives):
        return None
    above, below = _places(positives, negatives), _places(negatives, positives)
    return float(np.sqrt(_variance(above) / len(positives) + _variance(below) / len(negatives)))


def _variance(places: Array) -> float:
    """Of shares; one alone may be any."""
    return float(places.var(ddof=1)) if len(places) > 1 else 0.25


def _places(values: Array, others: Array) -> Array:
    """Share of the others (sorted) that lie below each value, ties counting half."""
    ranks: Array = (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / 2
    return ranks / len(others)


def _of_mean(values: Array) -> float:
    return float(np.std(values) / np.sqrt(len(values)))
