"""Metrics of a binary classifier in NumPy: equal to scikit-learn's, without its three seconds of import.

Every one takes labels (n, 0 or 1), scores (n, probability of 1) and weights (n, above or equal 0; None: all 1),
and gives None where it is not defined, such as the AUC of one class alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError

Array = NDArray[Any]
Function = Callable[[Array, Array, Array | None], float | None]


class Measure(NamedTuple):
    function: Function
    higher_is_better: bool


def auc(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Area under the ROC curve: how often a positive outranks a negative, ties counting half.

    Fawcett, An introduction to ROC analysis (2006). None unless both classes are there.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    positives, negatives = _per_score(*_checked(labels, scores, weights))
    pairs = positives.sum() * negatives.sum()
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs)


def average_precision(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Precision at each score, weighted by the recall it adds; None without a positive.

    >>> average_precision(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.8]))
    0.8333333333333333
    """
    positives, negatives = (side[::-1] for side in _per_score(*_checked(labels, scores, weights)))
    total = positives.sum()
    if not total:
        return None
    found = np.cumsum(positives)
    return float(positives @ (found / (found + np.cumsum(negatives))) / total)


def log_loss(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Mean negative log-likelihood in nats; scores of 0 and 1 are moved inside by one float64 epsilon."""
    labels, scores, weights = _checked(labels, scores, weights)
    epsilon = np.finfo(np.float64).eps
    likelihood = np.where(labels == 1, scores, 1 - scores)
    return _mean(-np.log(np.clip(likelihood, epsilon, 1 - epsilon)), weights)


def brier(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Mean squared distance of score and label (Brier 1950)."""
    labels, scores, weights = _checked(labels, scores, weights)
    return _mean(np.square(scores - labels), weights)


def mean_score(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """What the model says that the positive rate is."""
    _, scores, weights = _checked(labels, scores, weights)
    return _mean(scores, weights)


def positive_rate(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """What the positive rate is."""
    labels, _, weights = _checked(labels, scores, weights)
    return _mean(labels, weights)


METRICS: dict[str, Measure] = {
    "auc": Measure(auc, higher_is_better=True),
    "average_precision": Measure(average_precision, higher_is_better=True),
    "log_loss": Measure(log_loss, higher_is_better=False),
    "brier": Measure(brier, higher_is_better=False),
}


def _checked(labels: Array, scores: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """As float64, without the rows of weight 0."""
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    weights = np.ones_like(labels) if weights is None else np.asarray(weights, np.float64)
    if not labels.shape == scores.shape == weights.shape:
        raise DataError(
            f"{labels.size} labels, {scores.size} scores and {weights.size} weights",
            where="metrics",
            cure="join them by the key first",
        )
    if not np.all((labels == 0) | (labels == 1)):
        raise DataError("a label is neither 0 nor 1", where="metrics", cure="leave out the rows without a label")
    if not np.all((scores >= 0) & (scores <= 1)):
        raise DataError("a score is not a probability", where="metrics", cure="look at the model's raw scores")
    if not np.all((weights >= 0) & np.isfinite(weights)):
        raise DataError("a weight is negative or not finite", where="metrics", cure="correct the sampling weights")
    used = weights > 0
    return labels[used], scores[used], weights[used]


def _per_score(labels: Array, scores: Array, weights: Array) -> tuple[Array, Array]:
    """Weight of the positives and of the negatives at each distinct score, lowest score first."""
    distinct, place = np.unique(scores, return_inverse=True)
    positives = np.bincount(place, weights * labels, len(distinct))
    return positives, np.bincount(place, weights * (1 - labels), len(distinct))


def _mean(values: Array, weights: Array) -> float | None:
    return float(np.average(values, weights=weights)) if values.size else None
