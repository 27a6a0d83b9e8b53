"""past_error: how far estimates were off where the labels have come, and what that says about the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.documents.measures import Interval

LAST = 26  # labelled partitions, the newest: half a year of weeks
FEWEST = 5  # errors; fewer say too little of how large the next may be
UNBOUNDED = ("log_loss", "cost")  # above; a Brier score of several classes is at most 2


def past_errors(rows: pa.Table, partitions: Sequence[str]) -> dict[str, NDArray[Any]]:
    """|estimated - realised| of each metric in the newest of `partitions` that have both, oldest first.

    `rows` are of the table `estimates`, of any version: a new champion starts with what its forerunners showed.

    >>> rows = pa.table({"partition": ["b", "a", "c"], "metric": ["auc"] * 3, "value": [0.5, 0.75, 1.0],
    ...                  "realised": [0.75, 0.75, None]})
    >>> past_errors(rows, ["a", "b", "c"])["auc"].tolist()
    [0.0, 0.25]
    """
    wanted = pc.is_in(rows["partition"], value_set=pa.array(partitions, pa.string()))
    rows = rows.filter(pc.and_(wanted, pc.is_valid(rows["realised"]))).sort_by("partition")
    errors = np.abs(rows["value"].to_numpy() - rows["realised"].to_numpy())
    metrics = rows["metric"].to_numpy(zero_copy_only=False)
    return {str(name): errors[metrics == name][-LAST:] for name in np.unique(metrics)}


def widened(metric: str, interval: Interval, errors: NDArray[Any], confidence: float) -> Interval:
    """The interval, at least as wide as past errors ask for, and within the metric's range.

    Conformal (Vovk et al., Algorithmic learning in a random world, 2005; Lei et al. 2018): if errors come as they
    came, the next is at most the ceil((n + 1) confidence)-th smallest of n with that confidence. Where n is too small
    for it, the largest stands in, which n / (n + 1) of the errors to come will not exceed. Never narrower than before:
    errors of quiet weeks must not shrink what the rows themselves say.

    >>> widened("auc", {"value": 0.75, "low": 0.7, "high": 0.8}, np.array([0.25, 0.125, 0, 0, 0]), 0.95)
    {'value': 0.75, 'low': 0.5, 'high': 1.0}
    """
    value, low, high = interval["value"], interval["low"], interval["high"]
    if value is None or low is None or high is None:
        return interval
    if len(errors) >= FEWEST:
        rank = min(int(np.ceil((len(errors) + 1) * confidence)), len(errors))
        reach = float(np.sort(errors)[rank - 1])
        low, high = min(low, value - reach), max(high, value + reach)
    top = np.inf if metric in UNBOUNDED else 2.0 if metric == "brier" else 1.0
    return {"value": value, "low": max(low, 0.0), "high": min(high, top)}
