"""The partitions that a model was made from, as it would have been monitored on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines import sql, store
from pipelines.dataset import training_sets
from pipelines.handoffs.training import TrainingSet
from pipelines.problem import Problem

if TYPE_CHECKING:
    from pipelines.training.model import Model

HISTORY_ROWS = 200_000  # at most, over all partitions: they are held in memory and scored


def history(problem: Problem, pins: TrainingSet, model: Model, and_sets: Sequence[str] = ()) -> pa.Table:
    """`partition`, features and `score` of the events in the training set's partitions, whatever split they are in.

    With the partitions of other sets that the model has learnt from before.

    All events count, as in a partition that is scored: those without a label and those that the sampling left out too.
    Of each partition an equal number at most, by a hash of the key, the same in every run. The scores of partitions
    that the model learnt from are in-sample: they tell how scores move, not how good they are.
    """
    from pipelines.metrics.scored import scored, shown

    wanted = sql.is_among("partition", training_sets.partitions(problem, pins, and_sets=and_sets))
    features = store.dataset(problem, "features", pins.features_version).filter(wanted)
    names = ["partition", *problem.feature_names]
    counted = sql.query("SELECT partition, count(*) AS rows FROM f GROUP BY 1", {"f": features}).to_pylist()
    counts = {group["partition"]: group["rows"] for group in counted}
    chosen = sql.thinned(problem.key, counts, max(HISTORY_ROWS // max(len(counts), 1), 1))
    rows = sql.query(
        f"SELECT {', '.join(map(sql.quote, names))} FROM f WHERE {chosen}",
        {"f": features},
    )
    scores = model.scores(rows)
    outcome = scored(problem, np.zeros(rows.num_rows, np.int64), scores, threshold=model.threshold)
    return rows.append_column("score", pa.array(shown(outcome.scores, outcome.decisions), pa.float64()))
