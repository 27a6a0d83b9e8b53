"""truth: what a partition's scores turned out to be, once labels are there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.asof.as_known import labels_as_known, labels_of
from pipelines.dataset.label import label_number
from pipelines.metrics.scored import Scored, scored
from pipelines.problem import Problem


class Realised(NamedTuple):
    """How one partition's scores turned out."""

    partition: str
    scored: Scored
    """The rows that have a label, in the order of their time; maybe none."""
    unknown_labels: dict[str, int]
    """Labels of each class that the model does not know: no metric can take them, so these rows are left out."""


def realised(
    trained_problem: Problem,
    predictions: Any,
    labels: Any,
    partitions: Sequence[str],
    version: str,
    threshold: float,
    as_of: datetime,
) -> list[Realised]:
    """Rows of each of `partitions` that `version` scored and that have a label, with labels as known at `as_of`.

    `predictions` and `labels` are the tables, as datasets. `its` is the config that the model was trained with: a
    label is a number, the place of its class there. A score that is no number is left out: `detect` tells it.
    """
    key, parts, label = (
        sql.quote(trained_problem.key),
        trained_problem.partitions,
        label_number(trained_problem, "known.label"),
    )
    time = pc.field("event_time")
    start, end = pc.scalar(parts.start(min(partitions))), pc.scalar(parts.end(max(partitions)))
    is_its = sql.is_among("partition", partitions) & (pc.field("model_version") == version)
    tables = {"p": predictions.filter(is_its), "labels": labels.filter((time >= start) & (time < end))}
    joined = f"""WITH known AS MATERIALIZED ({labels_as_known(trained_problem)}),
            of_events AS ({labels_of(trained_problem, "p")})
        SELECT {{}} FROM p JOIN of_events AS known USING ({key}, event_time)"""
    moment = {"as_of": as_of}
    rows = sql.query(
        joined.format(f"p.partition, p.score, p.probabilities, {label} AS label")
        + f" WHERE {label} IS NOT NULL AND isfinite(p.score) ORDER BY p.event_time, p.{key}",
        tables,
        moment,
    )
    unknown = sql.query(
        joined.format("p.partition, known.label::VARCHAR AS label, count(*) AS rows")
        + f" WHERE known.label IS NOT NULL AND {label} IS NULL GROUP BY ALL ORDER BY ALL",
        tables,
        moment,
    ).to_pylist()
    turned_out = scored(
        trained_problem, rows["label"].to_numpy(), scores_of(trained_problem, rows), threshold=threshold
    )
    return [
        Realised(
            partition,
            turned_out.take(pc.equal(rows["partition"], partition).to_numpy()),
            {row["label"]: row["rows"] for row in unknown if row["partition"] == partition},
        )
        for partition in sorted(partitions)
    ]


def scores_of(trained_problem: Problem, predictions: pa.Table) -> np.ndarray[Any, Any]:
    """Scores as metrics take them: (n,), or of several classes (n, k)."""
    if trained_problem.task != "multiclass":
        return np.asarray(predictions["score"].to_numpy())
    flat = pc.list_flatten(predictions["probabilities"].combine_chunks())
    return np.asarray(flat).reshape(predictions.num_rows, len(trained_problem.classes))
