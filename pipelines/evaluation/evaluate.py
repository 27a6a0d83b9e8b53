"""evaluate: every model's metrics on the same held-out rows, and the candidate that wants to serve."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pipelines.config import Training
from pipelines.errors import DataError
from pipelines.evaluation.metrics import METRICS

Array = NDArray[Any]


def measure(labels: Array, scores: Array, weights: Array) -> dict[str, float | None]:
    """All metrics of one model; None where one is not defined on these rows."""
    return {name: metric.function(labels, scores, weights) for name, metric in METRICS.items()}


def pick_challenger(training: Training, validation: dict[str, dict[str, float | None]]) -> str:
    """The candidate that is best on the *validation* split: the test split only judges it. Never the baseline.

    Raises:
        DataError: no candidate has the metric.
    """
    metric = training.select_by
    sign = 1 if METRICS[metric].higher_is_better else -1
    found = {
        name: value
        for name, metrics in validation.items()
        if name != training.baseline and (value := metrics.get(metric)) is not None
    }
    if not found:
        raise DataError(
            f"no candidate has a validation {metric}", where="training.select_by", cure="look at the train tasks' logs"
        )
    return max(found, key=lambda name: sign * found[name])
