"""Topics: messages are landed in the table `topics`, each once, and read from there like other rows.

To land is to append what the brokers have beyond the last message that was landed, up to where the topic ended when the
landing began, and to note in the same commit how far each partition has been read. A landing that is killed has
committed a batch as a whole or not at all; of two at once one loses, and goes on from where the other has got.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.config import MESSAGE_COLUMNS, Source
from pipelines.errors import DataError, ServiceUnavailable, TransientError
from pipelines.ingest.sources.broker import Broker, Span, connected
from pipelines.ingest.sources.columns import check_columns, check_names
from pipelines.ingest.sources.files import place
from pipelines.ingest.sources.jsonlines import SCHEMA, SHOWN_CHARACTERS, Lines, are_deep, keys_of
from pipelines.ingest.sources.limits import MAX_JSON_LEVELS, MAX_RECORD_BYTES
from pipelines.ingest.sources.lines import TOO_LONG
from pipelines.ingest.sources.typed import Landing, Texts, typed
from pipelines.ingest.sources.window import NANOSECONDS, Window
from pipelines.problem import Problem

if TYPE_CHECKING:
    from confluent_kafka import Message

COMMIT_BYTES = 64 << 20  # of messages that are landed in one commit: they are held in memory
COMMIT_MESSAGES = 250_000
LANDING_TRIES = 20
LOOKED_AT = 20_000  # messages of a topic of which nothing has landed yet
MAX_KEY_CHARACTERS = 1_000
OWN_TIME = "message_time"

log = logging.getLogger(__name__)


class Landed(NamedTuple):
    """What a landing did."""

    messages: int
    commits: int


# Landing ---------------------------------------------------------------------------------------------------


def land_topics(problem: Problem) -> dict[str, Landed]:
    """Land what is new in the topics of a problem's sources, by source.

    Raises:
        ConfigError: no such topic, a setting is wrong, or the client is not installed.
        AccessError: the brokers refuse who asks.
        ServiceUnavailable: they do not answer.
        DataError: they have deleted messages that were not landed yet.
    """
    return {name: _land(problem, name, source) for name, source in problem.sources.items() if source.kind == "topic"}


def _land(problem: Problem, name: str, source: Source) -> Landed:
    messages = commits = 0
    with connected(problem, name, source) as broker:
        there = broker.there()  # what comes later is landed by the next run
        for left in reversed(range(LANDING_TRIES)):
            try:
                for rows, before, after in _new(problem, name, source, broker, there):
                    store.append_from(problem, "topics", rows, before, after)
                    messages, commits = messages + rows.num_rows, commits + 1
                break
            except ServiceUnavailable:
                raise
            except TransientError:
                if not left:
                    raise
                time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - spreads writers, hides nothing
                store.refresh(problem, "topics")
    log.info("source %s: %s messages of topic %s landed", name, f"{messages:,}", source.topic)
    return Landed(messages, commits)


def _new(
    problem: Problem, name: str, source: Source, broker: Broker, there: Mapping[int, Span]
) -> Iterator[tuple[pa.Table, dict[str, int | None], dict[str, int]]]:
    """What is there and not landed yet, in tables for a commit each, with the positions of its readers before and
    after it."""
    readers = {partition: f"{name}/{source.topic}/{partition}" for partition in there}
    position = store.positions(problem, "topics", readers.values())
    spans = _spans(problem, name, source, there, {number: position[reader] for number, reader in readers.items()})
    batch: list[pa.Table] = []
    after: dict[str, int] = {}
    for messages, reached in broker.messages(spans):
        batch.append(_rows(name, source, messages))
        after |= {readers[number]: offset for number, offset in reached.items()}
        if sum(rows.nbytes for rows in batch) >= COMMIT_BYTES or sum(map(len, batch)) >= COMMIT_MESSAGES:
            yield _dated(problem, source, batch), {reader: position[reader] for reader in after}, after
            position |= after
            batch, after = [], {}
    if any(map(len, batch)):
        yield _dated(problem, source, batch), {reader: position[reader] for reader in after}, after


def _spans(
    problem: Problem, name: str, source: Source, there: Mapping[int, Span], landed: Mapping[int, int | None]
) -> dict[int, Span]:
    """What is to be landed of each partition.

    Raises:
        DataError: messages are gone from the brokers before they were landed, or the topic was made anew.
    """
    where = f"topic {source.topic} ({place(problem, name)})"
    spans, lost = {}, {}
    for partition, (low, high) in there.items():
        start = landed[partition]
        if start is not None and start > high:
            raise DataError(
                f"partition {partition} ends at offset {high:,}, and {start:,} have been landed of it: the topic was "
                "deleted and made anew",
                where=where,
                cure="give its source another name, and select from both in events.sql (UNION ALL)",
            )
        if start is not None and start < low:
            lost[partition] = Span(start, low)
        spans[partition] = Span(low if start is None else max(start, low), high)
    if not lost:
        return spans
    count = sum(span.end - span.start for span in lost.values())
    which = ", ".join(f"{span.start:,} to {span.end - 1:,} of partition {number}" for number, span in lost.items())
    if source.lost_messages == "accept":
        log.warning("source %s goes on without %s messages that are lost: %s", name, f"{count:,}", which)
        return spans
    raise DataError(
        f"{count:,} messages are lost: the brokers have deleted them, and they were not landed yet (offsets {which})",
        where=where,
        cure=f"nothing was read. Let the topic keep messages longer (retention.ms) than ingest may stand still; to go "
        f"on without them, set sources.{name}.lost_messages: accept, and take it out again after the next run",
    )


def _rows(name: str, source: Source, messages: list[Message]) -> pa.Table:
    """Messages as rows of the table `topics`, which are not dated yet."""
    payloads = [message.value() for message in messages]
    sizes = [len(payload) if payload is not None else 0 for payload in payloads]
    kept = pa.array(
        [
            payload[:SHOWN_CHARACTERS] if payload is not None and size > MAX_RECORD_BYTES else payload
            for payload, size in zip(payloads, sizes, strict=True)
        ],
        pa.binary(),
    )
    times = pa.array([_sent(message) for message in messages], pa.int64()).cast(pa.timestamp("ms", "UTC"))
    return pa.table(
        {
            "source": pa.array([name] * len(messages), pa.string()),
            "topic": pa.array([source.topic] * len(messages), pa.string()),
            "message_partition": pa.array([message.partition() for message in messages], pa.int64()),
            "message_offset": pa.array([message.offset() for message in messages], pa.int64()),
            "message_time": times.cast(pa.timestamp("us", "UTC")),
            "message_key": pa.array([_text(message.key()) for message in messages], pa.string()),
            "payload": kept,
            "bytes": pa.array(sizes, pa.int64()),
        }
    )


def _dated(problem: Problem, source: Source, batch: list[pa.Table]) -> pa.Table:
    """Rows of the table `topics`, dated by the time column, or by when they were sent where it says nothing."""
    rows, now = pa.concat_tables(batch), datetime.now(UTC)
    column, time_text = source.time_column or OWN_TIME, "NULL"
    if column != OWN_TIME:
        pointer = sql.literal("/" + column.replace("~", "~0").replace("/", "~1"))
        text = f"trim(json_extract_string(line, {pointer}))"
        is_object = "fault IS NULL AND json_valid(line) AND json_type(line) = 'OBJECT'"
        time_text = f"CASE WHEN {is_object} THEN {text} END"
    lines, faults = _lines(rows["payload"].combine_chunks(), rows["bytes"].combine_chunks())
    asked = pa.table({"number": np.arange(rows.num_rows), "line": lines, "fault": faults})
    low, high = (f"TIMESTAMPTZ '{bound:%Y-%m-%d}T00:00:00Z'" for bound in NANOSECONDS)
    parsed = f"SELECT number, {typed('time_text', 'timestamp', problem.partitions.timezone)} AS moment FROM texts"
    query = f"""
        WITH texts AS (SELECT number, {time_text} AS time_text FROM asked)
        SELECT CASE WHEN moment BETWEEN {low} AND {high} THEN moment END AS moment FROM ({parsed}) ORDER BY number"""
    with sql.connection({"asked": asked}, problem.partitions.timezone) as database:
        moments = database.sql(query).to_arrow_table()["moment"].combine_chunks().cast(pa.timestamp("us", "UTC"))
    times = pc.coalesce(moments, rows["message_time"].combine_chunks(), pa.scalar(now, pa.timestamp("us", "UTC")))
    dated_by = pa.array([column] * rows.num_rows, pa.string())
    rows = rows.append_column("event_time", times).append_column("dated_by", dated_by)
    return rows.select(table_schema(problem, "topics").names)


def _sent(message: Message) -> int | None:
    """When a message was sent, or reached its broker: milliseconds since 1970."""
    from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

    kind, milliseconds = message.timestamp()
    low, high = (int(bound.timestamp() * 1000) for bound in NANOSECONDS)
    return None if kind == TIMESTAMP_NOT_AVAILABLE or not low <= milliseconds <= high else milliseconds


def _text(key: str | bytes | None) -> str | None:
    if key is None or isinstance(key, str):
        return key
    return key.decode("utf-8", "backslashreplace").replace("\0", "\\0")[:MAX_KEY_CHARACTERS]


def _lines(payloads: pa.Array, sizes: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Payloads as texts, and what is wrong with those that are no lines of JSON for a parser to look at."""
    plain = payloads.fill_null(b"")
    try:
        texts = plain.cast(pa.string())
        is_text = np.ones(len(plain), bool)
    except pa.ArrowInvalid:
        texts, is_text = _escaped(plain)
    if (nuls := pc.match_substring(texts, "\0").to_numpy(zero_copy_only=False)).any():
        is_text &= ~nuls
        texts = pc.replace_substring(texts, "\0", "\\0")
    is_short = sizes.to_numpy() <= MAX_RECORD_BYTES
    ends = np.cumsum(pc.binary_length(plain).to_numpy())
    starts = np.concatenate(([0], ends[:-1]))
    is_deep = are_deep(b"".join(plain.to_pylist()), starts, ends, is_short & is_text)
    faults = np.select(
        [~is_short, ~is_text, is_deep], [TOO_LONG, "not valid utf-8", f"deeper than {MAX_JSON_LEVELS} levels"], ""
    )
    return texts, pc.if_else(pa.array(faults == ""), pa.scalar(None, pa.string()), pa.array(faults, pa.string()))


def _escaped(payloads: pa.Array) -> tuple[pa.Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Payloads as texts, with bytes that are none as escapes; and which of them have no such bytes."""
    texts, is_text = [], []
    for payload in payloads.to_pylist():
        try:
            texts.append(payload.decode())
            is_text.append(True)
        except UnicodeDecodeError:
            texts.append(payload.decode("utf-8", "backslashreplace"))
            is_text.append(False)
    return pa.array(texts, pa.string()), np.array(is_text, bool)


# Reading ---------------------------------------------------------------------------------------------------

LINES = pa.schema(
    [
        *SCHEMA,
        ("message_partition", pa.int64()),
        ("message_time", pa.timestamp("us", "UTC")),
        ("message_key", pa.string()),
    ]
)


def read_topic(
    database: duckdb.DuckDBPyConnection,
    problem: Problem,
    name: str,
    source: Source,
    window: Window,
    path: str,
    *,
    head: bool,
) -> tuple[Texts, datetime | None]:
    """Write the messages that may lie in a window into a Parquet file; say how columns are read from them, and when the
    newest was sent.

    They are those that have landed; where none has yet, the first of the topic; with `head` none, but the brokers are
    asked for the topic. Messages without a payload (tombstones) are left out, and of messages with the same key and
    payload all but the first. A column that no message has is null.

    Raises:
        SchemaError: messages have columns that are not declared.
        what `land_topics` would raise.
    """
    where = f"topic {source.topic} ({place(problem, name)})"
    sent: list[datetime] = []
    with closing(Landing(path, LINES)) as writer:
        for rows in _messages(problem, name, source, window, head=head):
            writer.write(_as_lines(rows))
            newest = pc.max(rows["message_time"]).as_py()
            sent += [newest] if newest is not None else []
    repeats = f"evergreen: repeats of {name}"
    _note_repeats(database, repeats, path)
    lines = Lines(
        f"(SELECT * FROM read_parquet({sql.literal(path)}, file_row_number = true) "
        f"ANTI JOIN {sql.quote(repeats)} USING (message_partition, number))",
        writer.fewest,
        counted="offset",
        row=f"json_object('topic', {sql.literal(source.topic or '')}, 'partition', message_partition, 'offset', "
        f"number, 'message', left(line, {SHOWN_CHARACTERS}))",
        beside={
            "message_partition": "CAST(message_partition AS VARCHAR)",
            "message_offset": "CAST(number AS VARCHAR)",
            "message_time": "strftime(message_time AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')",
            "message_key": "message_key",
        },
    )
    keys = dict.fromkeys((key for of_file in keys_of(database, source, lines).values() for key in of_file), "")
    own = {column: kind for column, kind in source.columns.items() if column not in MESSAGE_COLUMNS}
    check_columns(name, source, own, keys, where, may_lack=True)
    check_names([*source.columns], where)
    return lines.texts(list(source.columns), is_typed=False), max(sent, default=None)


def _messages(problem: Problem, name: str, source: Source, window: Window, *, head: bool) -> Iterator[pa.Table]:
    """Rows of the table `topics` that are read for a window."""
    is_ours = (pc.field("source") == name) & (pc.field("topic") == source.topic)
    if not head:
        landed = store.dataset(problem, "topics").filter(is_ours)
        if landed.scanner(columns=["topic"]).head(1).num_rows:
            # What was dated by another column is looked through as a whole.
            is_dated_otherwise = pc.field("dated_by") != (source.time_column or OWN_TIME)
            is_within = (pc.field("event_time") >= window.start) & (pc.field("event_time") < window.end)
            wanted = is_dated_otherwise | is_within if window.column is not None else pc.scalar(True)
            for batch in landed.filter(wanted & pc.field("payload").is_valid()).scanner().to_batches():
                yield pa.Table.from_batches([batch])
            return
    with connected(problem, name, source) as broker:
        there = broker.there()
        if head:
            return
        most = LOOKED_AT // max(1, len(there))
        spans = {number: Span(low, min(high, low + most)) for number, (low, high) in there.items()}
        for messages, _ in broker.messages(spans):
            rows = _rows(name, source, messages)
            yield rows.filter(pc.field("payload").is_valid())


def _as_lines(rows: pa.Table) -> pa.RecordBatch:
    lines, faults = _lines(rows["payload"].combine_chunks(), rows["bytes"].combine_chunks())
    partitions = rows["message_partition"].combine_chunks()
    files = pc.binary_join_element_wise(rows["topic"].combine_chunks(), partitions.cast(pa.string()), ", partition ")
    columns = [files, rows["message_offset"], lines, faults, partitions, rows["message_time"], rows["message_key"]]
    columns = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
    return pa.record_batch(columns, schema=LINES)


def _note_repeats(database: duckdb.DuckDBPyConnection, table: str, path: str) -> None:
    """Make a table of the messages that were sent before, with the same key: producers that get no answer repeat."""
    digest = "md5_number(concat(length(message_key), ' ', message_key, line))"
    database.execute(f"""
        CREATE OR REPLACE TEMP TABLE {sql.quote(table)} AS
        WITH digests AS (
            SELECT message_partition, number, {digest} AS digest FROM read_parquet({sql.literal(path)})
            WHERE message_key IS NOT NULL
        ),
        several AS (SELECT digest FROM digests GROUP BY digest HAVING count(*) > 1)
        SELECT message_partition, number FROM digests SEMI JOIN several USING (digest)
        QUALIFY row_number() OVER (PARTITION BY digest ORDER BY message_partition, number) > 1""")
