"""Metrics of all tasks in NumPy: equal to scikit-learn's, without its three seconds of import.

`METRICS` measure a `Scored`: binary, multiclass or regression. The functions on arrays are the binary ones by
themselves: labels (n, 0 or 1), scores (n, probability of 1) and weights (n, above or equal 0; None: all 1). All give
None where they are not defined, such as the AUC of one class alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.config import METRICS_OF
from pipelines.metrics.metric_sums import ADDITIVE, RANKED, per_score, sides
from pipelines.metrics.scored import Scored

Array = NDArray[Any]
# What a model knows, on a scale that is the same for all problems: 1 is all that there is to know.
SKILL = {"binary": "auc", "multiclass": "auc", "regression": "r2"}


class Measure(NamedTuple):
    function: Callable[[Scored], float | None]
    higher_is_better: bool


def auc(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Area under the ROC curve: how often a positive outranks a negative, ties counting half.

    Fawcett, An introduction to ROC analysis (2006). None unless both classes are there.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    return _ranked("auc", _binary(labels, scores, weights))


def average_precision(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Precision at each score, weighted by the recall it adds; None without a positive.

    >>> average_precision(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.8]))
    0.8333333333333333
    """
    return _ranked("average_precision", _binary(labels, scores, weights))


def log_loss(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Mean negative log-likelihood in nats; scores of 0 and 1 are moved inside by one float64 epsilon."""
    return _additive("log_loss", _binary(labels, scores, weights))


def brier(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """Mean squared distance of score and label (Brier 1950)."""
    return _additive("brier", _binary(labels, scores, weights))


def mean_score(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """What the model says that the positive rate is."""
    outcome = _binary(labels, scores, weights)
    return _mean(outcome.scores, outcome.weights)


def positive_rate(labels: Array, scores: Array, weights: Array | None = None) -> float | None:
    """What the positive rate is."""
    outcome = _binary(labels, scores, weights)
    return _mean(outcome.labels, outcome.weights)


def measure(scored: Scored) -> dict[str, float | None]:
    """All metrics of the rows' task; `cost` only where decisions have costs, None where one is not defined.

    >>> halves = Scored("regression", (), np.array([1.0, 2.0]), np.array([1.5, 2.5]), np.ones(2))
    >>> measure(halves)
    {'rmse': 0.5, 'mae': 0.5, 'r2': 0.0, 'bias': 0.5}
    """
    return {name: METRICS[name].function(scored) for name in names_of(scored)}


def names_of(scored: Scored) -> list[str]:
    """The metrics that `measure` gives, in order."""
    known = METRICS_OF[scored.task]
    return [name for name in METRICS if name in known and (name != "cost" or scored.has_costs)]


def goodness(metric: str, value: Any) -> Any:
    """The value (number or array) turned so that more is better: a bias is the better, the nearer it is to 0.

    >>> goodness("auc", 0.7), goodness("log_loss", 0.5), goodness("bias", -2.0)
    (0.7, -0.5, -2.0)
    """
    if metric == "bias":
        return -abs(value)
    return value if METRICS[metric].higher_is_better else -value


def _additive(name: str, scored: Scored) -> float | None:
    metric = ADDITIVE[name]
    with np.errstate(over="ignore", invalid="ignore"):
        sums = metric.sums(scored, np.zeros(len(scored.labels), np.int64), 1)
        return _defined(metric.combine(sums[0], scored))


def _ranked(name: str, scored: Scored) -> float | None:
    """Of several classes the mean of each against the rest; not defined while one of them is missing."""
    return _defined(np.mean([RANKED[name].combine(*per_score(*side, scored.weights)) for side in sides(scored)]))


def _binary(labels: Array, scores: Array, weights: Array | None) -> Scored:
    return Scored("binary", ("0", "1"), labels, scores, np.ones(len(labels)) if weights is None else weights)


def _mean(values: Array, weights: Array) -> float | None:
    return float(np.average(values, weights=weights)) if weights.any() else None


def _defined(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


METRICS: dict[str, Measure] = {
    **{name: Measure(partial(_ranked, name), higher_is_better=True) for name in RANKED},
    **{
        name: Measure(
            partial(_additive, name),
            higher_is_better=name in ("accuracy", "precision", "recall", "f_beta", "macro_f1", "r2"),
        )
        for name in ADDITIVE
    },
}
