"""featurize: what a model sees of an event, as it could be known at the event's cut-off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.config import did_you_mean
from pipelines.errors import DataError
from pipelines.features.derive import derived
from pipelines.features.history import add_history, group_columns
from pipelines.problem import Problem


def featurize(
    problem: Problem, targets: Any, events: Any, labels: Any, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Feature rows of `targets`, streamed: key, partition, event_time, then the features in the model's order.

    `targets` are rows of `events`, one per event to compute; `events` and `labels` are the statements whose past
    they look back on (Arrow datasets or tables, read more than once: no readers). The rows come in no order: who
    needs one sorts.

    Columns are taken from the target as they are. History counts, of each other event, the one statement that held
    at the target's own cut-off, so no row of the future can change a feature, to the last bit; training and scoring
    both come here, so neither can see what the other does not. An event counts for a window when it lies in
    [cut-off - window, cut-off); a missing value in a column of `by` forms no group and has no history.

    Raises:
        DataError: a column's values are too large to be added up.
    """
    with sql.connection({}, is_private=True) as database:
        database.register("targets", targets)
        if problem.features.history:
            counted_events, counted_labels = _that_may_count(problem, targets, events, labels)
            database.register("events", counted_events)
            database.register("labels", counted_labels)
            add_history(problem, database)
        yield from database.sql(_features(problem)).to_arrow_reader(batch_rows)


def featurize_row(problem: Problem, event: dict[str, Any], events: Any, labels: Any) -> dict[str, Any]:
    """The feature row of one event, by the same SQL as `featurize`: for a prediction that is asked for one by one.

    `event` has the key, event_time, and every column that a feature is made of (None where it has no value); also
    cutoff_time unless that is event_time.

    Raises:
        DataError: `event` lacks a column, has one that is not declared, or a value of another type.
    """
    used = {problem.key, "event_time", *problem.features.columns, *group_columns(problem)}
    used |= {name for cross in problem.features.crosses.values() for name in cross.of}
    used |= {part.of for part in problem.features.datetime.values()} - {"cutoff_time"}
    schema = table_schema(problem, "events")
    where = f"event {event.get(problem.key)!r} of {problem.name}"
    if missing := sorted(used - set(event)):
        raise DataError(f"lacks {', '.join(missing)}", where=where, cure="give None where there is no value")
    for name, value in event.items():
        if name not in schema.names:
            hint = did_you_mean(name, schema.names)
            raise DataError(f"{name!r} is no column of events{hint}", where=where, cure="leave it out")
        if isinstance(value, datetime) and value.tzinfo is None:
            raise DataError(f"{name} has no time zone: {value}", where=where, cure="give a time such as 12:00+00:00")
    row = {"cutoff_time": event["event_time"], **event}
    columns = {}
    for field in schema:
        try:
            columns[field.name] = pa.array([row.get(field.name)], field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"{field.name}: not of type {field.type}: {row[field.name]!r}", where=where, cure="mend the value"
            ) from error
    for name in (problem.key, "event_time", "cutoff_time"):
        if row[name] is None:
            raise DataError(f"{name}: missing", where=where, cure="every event has one")
    if "partition" not in event:
        columns["partition"] = pa.array([problem.partitions.key_of(event["event_time"])])
    (batch,) = featurize(problem, pa.table(columns, schema=schema), events, labels)
    features_of_row: dict[str, Any] = batch.to_pylist()[0]
    return features_of_row


def _that_may_count(problem: Problem, targets: Any, events: Any, labels: Any) -> tuple[Any, Any]:
    """The statements of `events` and `labels` that some target's window may reach: files without any are passed over.

    A label about an older event does not count, but may stand before one that would: where people say it, or where it
    arrived in the window. (No label is known before its event, so what it stands before arrived in the window too.)
    Where such a label has the key of an event that is reached, events back to its own tell whether the key came again.
    """
    times = sql.query("SELECT min(cutoff_time) AS a, max(cutoff_time) AS z FROM targets", {"targets": targets})
    earliest, latest = times["a"][0].as_py(), times["z"][0].as_py()
    if earliest is None:
        return events, labels
    longest = max(feature.window_days for feature in problem.features.history.values())
    start = earliest - timedelta(days=min(longest, earliest.toordinal() - 2))
    since = pc.scalar(start)
    # By partition, as files are told apart by it: no file says when its labels were known.
    partitions = problem.partitions
    arrived = partitions.key_of(max(start, partitions.start(partitions.first_key)))
    is_known = pc.field("known_time") < pc.scalar(latest)
    is_reached = pc.field("event_time") >= since
    may_stand = is_reached | (pc.field("partition") >= arrived) | (pc.field("source") == "hand")
    standing = labels.filter(may_stand & is_known)
    if any(feature.of == "label" for feature in problem.features.history.values()):
        key = sql.quote(problem.key)
        tables = {"older": standing.filter(~is_reached), "reached": events.filter(is_reached & is_known)}
        query = f"SELECT min(event_time) AS oldest FROM older WHERE {key} IN (SELECT {key} FROM reached)"
        oldest = sql.query(query, tables)["oldest"][0].as_py()
        if oldest is not None:
            is_reached |= pc.field("event_time") >= pc.scalar(oldest)
    return events.filter(is_reached & is_known), standing


def _features(problem: Problem) -> str:
    """The query behind `featurize`, over `targets` and the table `history`."""
    key = sql.quote(problem.key)
    columns = [f"t.{sql.quote(name)}" for name in problem.features.columns]
    columns += [f"h.{sql.quote(name)}" for name in problem.features.history]
    columns += [f"{value} AS {sql.quote(name)}" for name, value in derived(problem).items()]
    same = [f"t.{name} IS NOT DISTINCT FROM h.{name}" for name in map(sql.quote, group_columns(problem))]
    match = " AND ".join([*same, "t.cutoff_time = h.cutoff_time"])
    history = f"JOIN history AS h ON {match}" if problem.features.history else ""
    return f"SELECT t.{key}, t.partition, t.event_time, {', '.join(columns)} FROM targets AS t {history}"
