"""assemble: the rows that a fit is given, straight from the tables `events` and `labels`, with nothing in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import targets
from pipelines.dataset import training_sets
from pipelines.dataset.label import SPLITS, label, label_batches, label_number, require_usable
from pipelines.dataset.shares import shares

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
    rows = ds.dataset(label(problem, events, labels, as_of, split))
    names = _named(split)
    schema, batches = training_sets.sampled(problem, rows, names)
    drawn = ds.dataset(_table(schema, batches))
    features = _table(*_features(problem, events, labels, as_of, drawn))
    return {name: sql.query(_joined(problem), {"f": features, "s": _of(drawn, name)}) for name in names}


def assembled_on_disk(
    problem: Problem, events: ds.Dataset, labels: ds.Dataset, as_of: datetime, split: dict[str, str], folder: Path
) -> ds.Dataset:
    """As `assembled`, of the training split alone, in a file of `folder`: for more than fit in memory."""
    schema, batches = label_batches(problem, events, labels, as_of, split)
    rows = store.spilled(folder / "labelled.arrow", batches, schema)
    require_usable(problem, rows, split)
    schema, batches = training_sets.sampled(problem, rows, _named(split))
    drawn = store.spilled(folder / "drawn.arrow", batches, schema)
    schema, features = _features(problem, events, labels, as_of, drawn)
    train = _of(drawn, "train")
    made = sql.query(f"{_joined(problem)} LIMIT 0", {"s": train, "f": schema.empty_table()}).schema
    reader = pa.RecordBatchReader.from_batches(schema, features)
    joined = sql.stream(_joined(problem), {"s": train, "f": reader}, joins_as_written=True)
    return store.spilled(folder / "train.arrow", joined, made)


def _table(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches, schema)


def _named(split: dict[str, str]) -> list[str]:
    """The splits that there are, the oldest first."""
    return [name for name in SPLITS if name in split.values()]


def _features(
    problem: Problem, events: ds.Dataset, labels: ds.Dataset, as_of: datetime, drawn: ds.Dataset
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Features of all events in the partitions that rows were drawn of, a share of these after the other."""
    from pipelines.features.featurize import featurize

    found = sql.query("SELECT DISTINCT partition FROM drawn ORDER BY partition", {"drawn": drawn})
    keys = found["partition"].to_pylist()
    looked_at = events.filter(sql.is_among("partition", keys))
    counted = sql.query("SELECT partition, count(*) AS rows FROM events GROUP BY partition", {"events": looked_at})
    rows = dict(zip(counted["partition"].to_pylist(), counted["rows"].to_pylist(), strict=True))
    schema = table_schema(problem, "features")

    def batches() -> Iterator[pa.RecordBatch]:
        for share in shares(keys, rows):
            wanted = targets(events.filter(sql.is_among("partition", share)), as_of)
            yield from (batch.cast(schema) for batch in featurize(problem, wanted, events, labels))

    return schema, batches()


def _of(drawn: ds.Dataset, split: str) -> ds.Dataset:
    return drawn.filter(pc.field("split") == split)


def _joined(problem: Problem) -> str:
    key = sql.quote(problem.key)
    return f"""SELECT f.*, {label_number(problem, "s.label")} AS label, s.weight
        FROM f JOIN s USING ({key}, partition) ORDER BY f.event_time, f.{key}"""
