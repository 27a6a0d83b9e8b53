"""evaluate: which of the candidates wants to serve?"""

from __future__ import annotations

import math

from pipelines.config import Training
from pipelines.errors import DataError
from pipelines.evaluation.metrics import goodness


def pick_challenger(training: Training, validation: dict[str, dict[str, float | None]]) -> str:
    """The candidate that is best on the *validation* split: the test split only judges it. Never a baseline.

    Raises:
        DataError: no candidate has the metric.
    """
    metric = training.select_by
    found = {
        name: goodness(metric, value)
        for name, metrics in validation.items()
        if name not in training.baselines
        and not training.candidates[name].is_baseline
        and (value := metrics.get(metric)) is not None
        and math.isfinite(value)
    }
    if not found:
        raise DataError(
            f"no candidate has a validation {metric}", where="training.select_by", cure="look at the train tasks' logs"
        )
    return max(found, key=lambda name: found[name])
