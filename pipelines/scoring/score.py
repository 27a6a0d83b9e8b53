"""score: feature rows to scores and decisions, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.artifacts import arrow_type
from pipelines.errors import DataError
from pipelines.metrics.scored import SUM_TOLERANCE, shown

if TYPE_CHECKING:
    from pipelines.training.model import Model

PROBABILITIES = "list<float>"


def score(model: Model, features: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch with `score`, `decision` and `probabilities` appended, as the table `predictions` keeps them.

    Binary: the probability of 1, and 1 or 0 by the model's threshold. Multiclass: the probability of the class that
    the model decides for, its name, and the probabilities of all. Regression: the number, and no decision.

    Raises:
        DataError: the model gave something that is no probability, or no finite number.
    """
    for batch in features:
        scores = np.asarray(model.scores(pa.Table.from_batches([batch])), np.float64)
        _check(model.task, scores)
        decided = model.decide(scores)
        columns = [*batch.columns, pa.array(shown(scores, decided)), _names(model, decided), _probabilities(scores)]
        yield pa.RecordBatch.from_arrays(columns, [*batch.schema.names, "score", "decision", "probabilities"])


def _check(task: str, scores: NDArray[Any]) -> None:
    if task == "regression":
        what, is_good = "finite numbers", bool(np.isfinite(scores).all())
    else:
        what, is_good = "probabilities", bool(np.all((scores >= 0) & (scores <= 1)))
        if scores.ndim == 2:
            is_good &= bool(np.all(np.abs(scores.sum(axis=1) - 1) <= SUM_TOLERANCE))
    if not is_good:
        raise DataError(
            f"the model gave scores that are no {what}",
            where="score",
            cure="roll back to the version before (alias champion in MLflow) and look at this one",
        )


def _names(model: Model, decided: NDArray[Any]) -> pa.Array:
    if model.task == "regression":
        return pa.nulls(len(decided), pa.string())
    return pa.array(list(model.classes), pa.string()).take(pa.array(decided))


def _probabilities(scores: NDArray[Any]) -> pa.Array:
    kind = arrow_type(PROBABILITIES)
    if scores.ndim == 1:
        return pa.nulls(len(scores), kind)
    offsets = pa.array(np.arange(0, scores.size + 1, scores.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(scores.ravel()), type=kind)
