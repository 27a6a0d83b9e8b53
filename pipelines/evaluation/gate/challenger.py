"""evaluate: which of the candidates wants to serve?"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from pipelines.config import Bootstrap, Training
from pipelines.documents.evaluation import Selection
from pipelines.errors import DataError
from pipelines.metrics.bootstrap import gains
from pipelines.metrics.metrics import METRICS, goodness
from pipelines.metrics.scored import Scored


def pick_challenger(training: Training, validation: dict[str, dict[str, float | None]]) -> str:
    """The candidate that is best on the *validation* split: the test split only judges it. Never a baseline.

    Raises:
        DataError: no candidate has the metric.
    """
    metric = training.select_by
    goodness_of = {
        name: goodness(metric, value)
        for name, metrics in validation.items()
        if name not in training.baselines
        and not training.candidates[name].is_baseline
        and (value := metrics.get(metric)) is not None
        and math.isfinite(value)
    }
    if not goodness_of:
        raise DataError(
            f"no candidate has a validation {metric}", where="training.select_by", cure="look at the train tasks' logs"
        )
    return max(goodness_of, key=lambda name: goodness_of[name])


def selection(
    training: Training, best: str, candidates: dict[str, Scored], blocks: NDArray[Any], rule: Bootstrap
) -> Selection:
    """How sure the choice of `best` is, from all candidates' scores of the validation rows.

    A tie is where the interval of the gain over another candidate holds 0, or there is none. Among ties the better
    mean is taken all the same (it is the best guess there is), and told as what it is.
    """
    metric = training.select_by
    values = {name: METRICS[metric].function(scored) for name, scored in candidates.items()}
    ties = {}
    for name, scored in candidates.items():
        if name != best and values[name] is not None:
            gain = gains(candidates[best], scored, blocks, rule, [metric])[metric]
            if gain["low"] is None or gain["low"] <= 0:
                ties[name] = gain
    return {"metric": metric, "chosen": best, "values": values, "ties": ties}
