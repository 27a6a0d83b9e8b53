"""score: feature rows to probabilities, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.errors import DataError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def score(model: Pipeline, features: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch with `score` appended: the probability of the positive class, one per row.

    Raises:
        DataError: the model gave something that is no probability.
    """
    from pipelines.training.candidates import positive_scores

    for batch in features:
        scores = positive_scores(model, pa.Table.from_batches([batch]))
        if not np.all((scores >= 0) & (scores <= 1)):
            raise DataError(
                "the model gave scores that are no probabilities",
                where="score",
                cure="roll back to the version before (alias champion in MLflow) and look at this one",
            )
        yield pa.RecordBatch.from_arrays([*batch.columns, pa.array(scores)], [*batch.schema.names, "score"])
