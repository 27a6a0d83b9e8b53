"""rebuild: what a partition looked like at a moment of the past, and a fingerprint to compare it by."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import holds, in_the_partition, labels_as_known, labels_of, targets
from pipelines.errors import ConfigError
from pipelines.features.featurize import featurize
from pipelines.problem import Problem

CLOSED = ("superseded_time", "withdrawn_time")  # the only columns of a statement that change later


def rebuild(problem: Problem, partition: str, as_of: datetime, events: Any, labels: Any) -> dict[str, pa.Table]:
    """A partition as it was known at `as_of`, whatever was learnt since; each table sorted by event_time and key.

    `events` and `labels` are the whole tables (datasets or Arrow tables). The result:

    - `events`: one row per event that held then: the key, partition, event_time, known_time, cutoff_time, statement
      and the declared columns.
    - `labels`: one row per event of those that had a label then, from the sources that the problem learns from: the
      key, event_time, label, source, confidence, known_time.
    - `features`: one row per event that would have been predicted then, as the table `features` keeps it.

    All are empty when nothing of the partition was known yet.

    Raises:
        ConfigError: `as_of` has no time zone, or `partition` names none.
    """
    problem.partitions.parse(partition)
    if as_of.tzinfo is None:
        raise ConfigError(f"{as_of} has no time zone", where="as of", cure="give a time such as 2024-01-31T12:00+00:00")
    at: dict[str, sql.Parameter] = {"as_of": as_of, "partition": partition}
    of_partition = f"SELECT * EXCLUDE ({', '.join(CLOSED)}) FROM events WHERE partition = $partition"
    held = sql.query(f"{of_partition} AND {holds('$as_of')}", {"events": events}, at)
    known = sql.query(
        f"""WITH known AS MATERIALIZED ({labels_as_known(problem, problem.labels.use)}),
                of_events AS ({labels_of(problem, "held", in_the_partition(problem))})
            SELECT {sql.quote(problem.key)}, event_time, label, source, confidence, known_time FROM of_events""",
        {"labels": labels, "held": held},
        {"as_of": as_of},
    )
    predicted = sql.query(of_partition, {"events": targets(events, as_of)}, {"partition": partition})
    schema = table_schema(problem, "features")
    past = (_past(problem, rows, predicted, as_of) for rows in (events, labels))
    rows = pa.Table.from_batches((batch.cast(schema) for batch in featurize(problem, predicted, *past)), schema=schema)
    order = [("event_time", "ascending"), (problem.key, "ascending")]
    return {"events": held.sort_by(order), "labels": known.sort_by(order), "features": rows.sort_by(order)}


def content_hash(table: pa.Table) -> str:
    """SHA-256 of a table's rows, the same for every order and chunking of rows, and every order of columns.

    Another value, null, column name or type, and a row more or less, give another hash.

    >>> a, b = pa.table({"x": [1, 2], "y": ["a", None]}), pa.table({"y": [None, "a"], "x": [2, 1]})
    >>> content_hash(a) == content_hash(b), content_hash(a) == content_hash(a.slice(1))
    (True, False)
    """
    names = sorted(table.schema.names)
    # A length before each value keeps ("a", "bc") from looking like ("ab", "c"), and a null from looking like a word.
    texts = [_text(name, table.schema.field(name).type) for name in names]
    parts = [f"coalesce(strlen({text}) || ':' || {text}, '-')" for text in texts]
    digests = f"SELECT unhex(sha256({' || '.join(parts)})) AS digest FROM rows ORDER BY digest"
    whole = hashlib.sha256(repr([(name, str(table.schema.field(name).type)) for name in names]).encode())
    for batch in sql.stream(digests, {"rows": table}):
        joined = pc.binary_join(pa.ListArray.from_arrays([0, batch.num_rows], batch.column(0)), b"")
        whole.update(joined[0].as_py())
    return whole.hexdigest()


def _text(name: str, kind: pa.DataType) -> str:
    return f"to_json({sql.quote(name)})::VARCHAR" if pa.types.is_nested(kind) else f"{sql.quote(name)}::VARCHAR"


def _past(problem: Problem, rows: Any, targets: pa.Table, as_of: datetime) -> pa.Table:
    """What was known at `as_of` of the statements that history may look back on: none is closed by what came later."""
    history = problem.features.history.values()
    schema = rows.schema
    if not history or not targets.num_rows:
        return schema.empty_table()
    earliest, longest = pc.min(targets["cutoff_time"]).as_py(), max(feature.window_days for feature in history)
    is_young = f"event_time >= $since{' OR source = ' + sql.literal('hand') if 'source' in schema.names else ''}"
    used = {name for feature in history for name in (*feature.by, feature.of)}
    columns = [name for name in schema.names if name in used or name not in problem.columns]
    open_then = {name: f"CASE WHEN {name} < $as_of THEN {name} END" for name in CLOSED}
    chosen = ", ".join(f"{open_then[name]} AS {name}" if name in CLOSED else sql.quote(name) for name in columns)
    return sql.query(
        f"SELECT {chosen} FROM rows WHERE known_time < $as_of AND ({is_young})",
        {"rows": rows},
        {"as_of": as_of, "since": earliest - timedelta(days=min(longest, earliest.toordinal() - 2))},
    )
