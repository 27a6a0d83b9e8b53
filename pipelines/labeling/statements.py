"""What the labels by functions, people and models share: which events they are about, and how they are stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import TableName, table_schema
from pipelines.asof.as_known import in_the_partition, labels_as_known, labels_of, targets
from pipelines.asof.clock import INSTANT
from pipelines.config import LabelSource
from pipelines.dataset.label import mature
from pipelines.errors import DataError
from pipelines.labeling.combine import ABSTAINS, Votes
from pipelines.problem import Problem

Constant = str | datetime | None  # the same value in all rows of a column
WINDOW = 8  # newest partitions that are looked at, beside those that wait for their labels


class Window(NamedTuple):
    """Which events are looked at (`keys`: their partitions) and when it is (`arrival`: newest partition)."""

    keys: list[str]
    arrival: str
    present: datetime


def window_of(problem: Problem, partition: str | None) -> Window:
    """The WINDOW newest partitions until `partition` (or of all), and those whose labels are still on their way."""
    available = store.partition_keys(problem, "events")
    if partition is not None:
        problem.partitions.parse(partition)
    waiting = problem.partitions.as_many_as(timedelta(days=problem.labels.mature_after_days))
    keys = [key for key in available if partition is None or key <= partition][-(WINDOW + waiting) :]
    if not keys:
        raise DataError(
            f"no events have been ingested{f' until {partition}' if partition else ''}",
            where=f"problem {problem.name}",
            cure=f"run {problem.name}.ingest first",
        )
    return Window(keys, max(available), problem.present(max(available), datetime.now(UTC)))


def events_of(problem: Problem, window: Window, sources: Sequence[LabelSource]) -> pa.Table:
    """The events that are looked at, as they are predicted, with `label` as known from `sources`; null without one.

    Where no label by maturity means negative, they are.
    """
    key, parts = sql.quote(problem.key), problem.partitions
    columns = [problem.key, "event_time", "known_time", "cutoff_time", "partition", *problem.columns]
    events = store.dataset(problem, "events")
    time = pc.field("event_time")
    about = (time >= pc.scalar(parts.start(window.keys[0]))) & (time < pc.scalar(parts.end(window.keys[-1])))
    is_negative = problem.labels.after_maturity == "negative"
    negative = mature(problem, window.arrival, window.keys) if is_negative else []
    return sql.query(
        f"""WITH known AS MATERIALIZED ({labels_as_known(problem, sources)}),
                of_events AS ({labels_of(problem, "events", in_the_partition(problem))})
            SELECT {", ".join(f"e.{sql.quote(name)}" for name in columns)},
                coalesce(l.label, CASE WHEN list_contains($negative, e.partition) THEN CAST(0 AS TINYINT) END) AS label
            FROM events AS e
            LEFT JOIN of_events AS l USING ({key}, event_time)
            ORDER BY e.event_time, e.{key}""",
        {
            "events": targets(events.filter(sql.is_among("partition", window.keys)), window.present),
            "labels": store.dataset(problem, "labels").filter(about),
        },
        {"as_of": window.present, "negative": negative or [""]},
    )


def with_abstentions(column: pa.ChunkedArray) -> Votes:
    """A column of 1, 0 and null as votes."""
    return np.asarray(pc.fill_null(column.cast(pa.int8()), ABSTAINS).to_numpy(), dtype=np.int8)


def write_votes(problem: Problem, window: Window, batch: str, kind: str, votes: pa.Table) -> None:
    """Replace the votes of a batch by rows of key, event_time, voter and vote."""
    constants: dict[str, Constant] = {
        "batch": batch,
        "partition": window.arrival,
        "kind": kind,
        "known_time": window.present - INSTANT,
    }
    store.write_table(problem, "votes", _with_constants(problem, "votes", votes, constants), [batch])


def state(problem: Problem, window: Window, source: LabelSource, rows: pa.Table, labeler: Any, about: pa.Table) -> None:
    """State the labels of `rows` (key, event_time, label, confidence), known from now on.

    They take the place of what this source has stated about the events `about` (key, event_time) since the newest
    partition came; statements that arrived before, or are about other events, stay.
    """
    arrived = (pc.field("partition") == window.arrival) & (pc.field("source") == source)
    former = store.dataset(problem, "labels").to_table(filter=arrived)
    others = f"SELECT * FROM former ANTI JOIN about USING ({sql.quote(problem.key)}, event_time)"
    kept = sql.query(others, {"former": former, "about": about}).cast(former.schema)
    stated = rows.select([problem.key, "event_time", "label", "confidence"]).append_column("labeler", labeler)
    constants: dict[str, Constant] = {
        "partition": window.arrival,
        "known_time": window.present - INSTANT,
        "source": source,
        "superseded_time": None,
        "withdrawn_time": None,
    }
    stated = _with_constants(problem, "labels", stated, constants)
    store.write_table(problem, "labels", pa.concat_tables([kept, stated]), [window.arrival], within=source)


def _with_constants(problem: Problem, name: TableName, rows: pa.Table, constants: Mapping[str, Constant]) -> pa.Table:
    """The rows in the shape of a table, with the same value in all rows for each column of `constants`."""
    schema = table_schema(problem, name)
    columns = [
        pa.repeat(pa.scalar(constants[field.name], field.type), rows.num_rows)
        if field.name in constants
        else rows[field.name].cast(field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
