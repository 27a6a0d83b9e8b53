"""truth: what a partition's scores turned out to be, once labels are there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.dataset.known import labels_as_known
from pipelines.dataset.label import label_number
from pipelines.evaluation.scored import Scored, scored
from pipelines.problem import Problem


def realised(
    its: Problem, predictions: Any, labels: Any, partition: str, version: str, threshold: float, as_of: datetime
) -> tuple[Scored, dict[str, int]]:
    """The partition's rows that `version` scored and that have a label, with labels as known at `as_of`.

    `predictions` and `labels` are the tables, as datasets. `its` is the config that the model was trained with: a
    label is a number, the place of its class there. A class that the model does not know is left out, since no metric
    could take it; how many labels of each there are comes second. So is a score that is no number: `detect` tells it.
    """
    key, parts, label = sql.quote(its.key), its.partitions, label_number(its, "known.label")
    time, start, end = pc.field("event_time"), pc.scalar(parts.start(partition)), pc.scalar(parts.end(partition))
    is_its = (pc.field("partition") == partition) & (pc.field("model_version") == version)
    tables = {"p": predictions.filter(is_its), "labels": labels.filter((time >= start) & (time < end))}
    joined = f"WITH known AS ({labels_as_known(its)}) SELECT {{}} FROM p JOIN known USING ({key})"
    moment = {"as_of": as_of}
    rows = sql.query(
        joined.format(f"p.score, p.probabilities, {label} AS label")
        + f" WHERE {label} IS NOT NULL AND isfinite(p.score) ORDER BY p.event_time, p.{key}",
        tables,
        moment,
    )
    unknown = sql.query(
        joined.format("known.label::VARCHAR AS label, count(*) AS rows")
        + f" WHERE known.label IS NOT NULL AND {label} IS NULL GROUP BY 1 ORDER BY 1",
        tables,
        moment,
    )
    told = dict(zip(unknown["label"].to_pylist(), unknown["rows"].to_pylist(), strict=True))
    return scored(its, rows["label"].to_numpy(), scores_of(its, rows), threshold=threshold), told


def scores_of(its: Problem, predictions: pa.Table) -> np.ndarray[Any, Any]:
    """Scores as metrics take them: (n,), or of several classes (n, k)."""
    if its.task != "multiclass":
        return np.asarray(predictions["score"].to_numpy())
    flat = pc.list_flatten(predictions["probabilities"].combine_chunks())
    return np.asarray(flat).reshape(predictions.num_rows, len(its.classes))
