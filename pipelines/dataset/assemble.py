"""assemble: the rows that a fit is given, straight from the tables `events` and `labels`, with nothing in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import targets
from pipelines.dataset import training_sets
from pipelines.dataset.label import SPLITS, label, label_number

if TYPE_CHECKING:
    from pipelines.problem import Problem


def assembled(
    problem: Problem, events: ds.Dataset, labels: ds.Dataset, as_of: datetime, split: dict[str, str]
) -> dict[str, pa.Table]:
    """Rows of each split in `split` as the stages label, sample and featurize make them: what
    `training_sets.split` reads.

    `events` and `labels` are the tables at the versions that are learnt from, `split` is the split of each partition.

    Raises:
        DataError: a split has no rows, or one class only.
    """
    drawn, features = _drawn(problem, events, labels, as_of, split)
    schema = table_schema(problem, "features")
    tables = {"f": pa.Table.from_batches(features, schema=schema)}
    names = [name for name in SPLITS if name in split.values()]
    return {name: sql.query(_joined(problem), tables | {"s": _of(drawn, name)}) for name in names}


def assembled_batches(
    problem: Problem, events: ds.Dataset, labels: ds.Dataset, as_of: datetime, split: dict[str, str]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """As `assembled`, of the training split alone and batch by batch: for more than fit in memory."""
    drawn, features = _drawn(problem, events, labels, as_of, split)
    rows, schema = _of(drawn, "train"), table_schema(problem, "features")
    made = sql.query(_joined(problem), {"s": rows.slice(0, 0), "f": schema.empty_table()}).schema
    reader = pa.RecordBatchReader.from_batches(schema, features)
    return made, sql.stream(_joined(problem), {"s": rows, "f": reader})


def _drawn(
    problem: Problem, events: ds.Dataset, labels: ds.Dataset, as_of: datetime, split: dict[str, str]
) -> tuple[pa.Table, Iterator[pa.RecordBatch]]:
    """Rows with split, label and weight; and features of all events in their partitions."""
    from pipelines.features.featurize import featurize

    labelled = label(problem, events, labels, as_of, split)
    drawn = training_sets.sampled(problem, ds.dataset(labelled), [name for name in SPLITS if name in split.values()])
    keys = sorted(set(drawn["partition"].to_pylist()))
    schema = table_schema(problem, "features")
    wanted = targets(events.filter(sql.is_among("partition", keys)), as_of)
    return drawn, (batch.cast(schema) for batch in featurize(problem, wanted, events, labels))


def _of(drawn: pa.Table, split: str) -> pa.Table:
    return drawn.filter(pc.equal(drawn["split"], split)).drop_columns(["event_time"])


def _joined(problem: Problem) -> str:
    key = sql.quote(problem.key)
    return f"""SELECT f.*, {label_number(problem, "s.label")} AS label, s.weight
        FROM s JOIN f USING ({key}, partition) ORDER BY f.event_time, f.{key}"""
