"""What an ingest takes in beside its own partitions: rows that came late, events that moved; and labels of no event."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import quarantine, sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import holds_now
from pipelines.asof.ingested import ingested
from pipelines.errors import DataError
from pipelines.ingest.arrivals import Outside, counted, late, lookback, outside, unaccounted
from pipelines.ingest.extract import extracted_schema, good_columns
from pipelines.ingest.judge import ELSEWHERE, Noted, elsewhere_schema, judge
from pipelines.ingest.orphans import NONE, Orphans, orphans
from pipelines.ingest.rules import LATE
from pipelines.ingest.validate import some
from pipelines.problem import Problem, Query
from pipelines.stages.ingest import parted

if TYPE_CHECKING:
    import duckdb

OTHER_KEYS = 0.5  # of a partition's published events: with as many new ones and none of the old, its keys have changed
FEWEST_KEYS = 5  # published, of which none is delivered: one event that went and one that came are no other way


class Seen(NamedTuple):
    """What a query gave, beside the rows that are staged for the run's own partitions."""

    read: int
    """rows that the run answers for, counted apart from their staging: its own, late and outside ones"""
    late: int
    outside: Outside


def looked_back(problem: Problem, first: str) -> list[str]:
    """The ingested partitions before `first` in which the run looks for rows that came late."""
    # A delivery comes as a whole: what is added to it later is a correction, when it is ingested again.
    return [] if problem.partitions.by_delivery else lookback(problem, first, ingested(problem))


def span_read(problem: Problem, keys: Sequence[str], back: Sequence[str]) -> tuple[str, str]:
    """First and last partition of which sources are read: beyond the problem's own first and last one, too, so that
    rows which lie just outside, as those of a wrong time zone do, are counted."""
    parts, reach = problem.partitions, problem.validation.lookback_partitions
    first, last = (back[0] if back else keys[0]), keys[-1]
    if parts.by_delivery:
        return first, last
    if first <= parts.first_key:
        first = parts.shift(first, -reach)
    if parts.last_key and last >= parts.last_key:
        last = parts.shift(last, reach)
    return first, last


def see(
    problem: Problem,
    query: Query,
    database: duckdb.DuckDBPyConnection,
    keys: Sequence[str],
    back: Sequence[str],
    staging: str,
    now: datetime,
) -> Seen:
    """Count what the query gives beyond the run's partitions `keys`, and stage the rows that came late for `back`.

    Raises:
        DataError: a partition of `back` is delivered under other keys.
    """
    counts = counted(problem, query, database, keys[0])
    beyond = outside(problem.partitions, counts, keys, now)
    schema = extracted_schema(problem, query)
    rows = schema.empty_table()
    if back:
        # What was superseded since came in its time, too.
        there = _statements(problem, query, back, pc.field("withdrawn_time").is_null())
        batches = late(problem, query, database, back, there)
        rows = pa.Table.from_batches((batch.cast(schema) for batch in batches), schema)
    if rows.num_rows:
        _check_keys(problem, query, rows, counts, there)
        rows = unaccounted(problem, query, rows, there, _accounted(problem, query, back))
    store.stage(f"{staging}/{query}.late", rows, schema)
    return Seen(sum(counts.get(key, 0) for key in keys) + rows.num_rows + beyond.rows, rows.num_rows, beyond)


def neighbours(problem: Problem, keys: Sequence[str], staging: str, published: Collection[str]) -> ds.Dataset:
    """Stage what is published of the staged events' keys in the partitions around the run's: partition, key,
    `ELSEWHERE`.

    As many partitions as rows are looked for in that came late, before the run's and after. An event that moved there,
    or from there, has its former times with it. That a correction came after the cut-off makes no event younger:
    `known_time` is the cut-off at the latest.
    """
    parts, back = problem.partitions, problem.validation.lookback_partitions
    oldest, newest = parts.shift(keys[0], -back), parts.shift(keys[-1], back)
    around = sorted(key for key in published if oldest <= key <= newest and key not in set(keys))
    schema = table_schema(problem, "events")
    schema = pa.schema([schema.field(name) for name in ("partition", problem.key, *ELSEWHERE)])
    uri, nothing = f"{staging}/elsewhere", schema.empty_table()
    # A key that comes again in another delivery is no event that has moved.
    if not around or parts.by_delivery:
        store.stage(uri, nothing, schema)
        return ds.dataset(nothing)
    key, rows = sql.quote(problem.key), store.dataset(problem, "events")
    superseded = pc.field("superseded_time").is_valid() & pc.field("withdrawn_time").is_null()
    neighbouring = sql.stream(
        f"""WITH there AS MATERIALIZED (
                SELECT {key} FROM (FROM live UNION ALL FROM past WHERE partition NOT IN (SELECT key FROM run))
                SEMI JOIN (FROM own UNION ALL FROM late) USING ({key})
            )
            SELECT partition, {key}, event_time, least(known_time, cutoff_time) AS known_time, cutoff_time
            FROM (FROM live UNION ALL FROM past) SEMI JOIN there USING ({key})""",
        {
            "live": rows.filter(sql.is_among("partition", around) & holds_now()),
            "past": rows.filter(sql.is_among("partition", [*keys, *around]) & superseded),
            "run": pa.table({"key": keys}),
            "own": store.staged(f"{staging}/events").scanner(columns=[problem.key]).to_reader(),
            "late": store.staged(f"{staging}/events.late").scanner(columns=[problem.key]).to_reader(),
        },
    )
    return store.staged(uri) if store.stage(uri, neighbouring, schema) else ds.dataset(nothing)


def elsewhere(query: Query, around: ds.Dataset) -> ds.Dataset | None:
    """What rules about a query have to know of `neighbours`: labels may be about events of any time."""
    return around if query == "events" else None


def rejected_by_others(problem: Problem, keys: Sequence[str]) -> ds.Dataset:
    """The rows that a source could not give and that a run of other partitions than `keys` has set aside.

    They come again where a source is read by time and the run looks back.
    """
    by_time = [name for name, source in problem.sources.items() if source.time_column]
    by_time += [problem.delivered] if problem.partitions.column is not None else []
    of_others = sql.is_among("source", by_time) & ~sql.is_among("partition", keys)
    return store.dataset(problem, "quarantine").filter(of_others)


@contextmanager
def judged_late(problem: Problem, query: Query, staging: str, around: ds.Dataset) -> Iterator[Noted | None]:
    """What was found of the late rows of a query, until the end of the context; None where there are none.

    What comes late was not known by its cut-off, and need not have been.
    """
    rows = store.staged(f"{staging}/{query}.late")
    if not rows.count_rows():
        yield None
        return
    beside = None
    if query == "events":
        uri = f"{staging}/events.late.elsewhere"
        store.stage(uri, _around_late(problem, staging, around), elsewhere_schema(problem))
        beside = store.staged(uri)
    with judge(problem, query, rows, [LATE], beside) as noted:
        yield noted


def part_late(problem: Problem, query: Query, staging: str, noted: Noted | None) -> int:
    """Note which of the late rows of a query break a rule; gives how many."""
    uri = f"{staging}/{query}.late"
    if noted is None:
        parted.all_good(uri)
        return 0
    return parted.part(problem, noted, uri)


def _around_late(problem: Problem, staging: str, around: ds.Dataset) -> Iterator[pa.RecordBatch]:
    """What is published or staged of the late events' keys."""
    schema = elsewhere_schema(problem)
    yield from around.scanner(columns=schema.names).to_batches()
    key, has_times = sql.quote(problem.key), " AND ".join(f"{name} IS NOT NULL" for name in ELSEWHERE)
    own = f"SELECT {key}, {', '.join(ELSEWHERE)} FROM staged SEMI JOIN late USING ({key}) WHERE {has_times}"
    tables = {"staged": store.staged(f"{staging}/events"), "late": store.staged(f"{staging}/events.late")}
    yield from sql.stream(own, tables)


def good_late(problem: Problem, query: Query, staging: str) -> ds.Dataset:
    """The late rows of a query that break no rule."""
    return parted.good(f"{staging}/{query}.late")


def partitions_of(rows: ds.Dataset) -> set[str]:
    """The partitions in which rows lie."""
    return set(sql.query("SELECT DISTINCT partition FROM rows", {"rows": rows})["partition"].to_pylist())


def moved_from(problem: Problem, delivered: ds.Dataset, late_rows: ds.Dataset, staging: str) -> set[str]:
    """Partitions in which an event is published that was delivered, or came late, with another time."""
    key = sql.quote(problem.key)
    moved = sql.query(
        f"SELECT DISTINCT partition FROM n SEMI JOIN (SELECT {key} FROM d UNION ALL SELECT {key} FROM l) USING ({key})",
        {"n": store.staged(f"{staging}/elsewhere"), "d": delivered, "l": late_rows},
    )
    return set(moved["partition"].to_pylist())


def with_late(
    problem: Problem, query: Query, good: ds.Dataset, late_rows: ds.Dataset, beside: Sequence[str], staging: str
) -> ds.Dataset:
    """The delivery of a run: its own good rows, those that came late, and what holds in the partitions `beside`.

    So the latter's other events are delivered again as they are, and only what is new changes anything.
    """
    if not beside:
        return good
    extracted = extracted_schema(problem, query)
    schema = pa.schema([extracted.field(name) for name in good_columns(problem, query)])
    parts = (good, late_rows, _statements(problem, query, beside, holds_now()))
    uri = f"{staging}/{query}.delivered"
    store.stage(uri, chain.from_iterable(part.scanner(columns=schema.names).to_batches() for part in parts), schema)
    return store.staged(uri)


def quarantined(problem: Problem, set_aside: ds.Dataset, keys: Sequence[str]) -> tuple[pa.RecordBatchReader, list[str]]:
    """Rows of the table `quarantine` to write, and for which partitions: beside the run's own those of late rows."""
    schema = table_schema(problem, "quarantine")
    more = sorted(partitions_of(set_aside) - set(keys))
    rows: Iterator[pa.RecordBatch] = set_aside.scanner(columns=schema.names).to_batches()
    if more:
        there = store.dataset(problem, "quarantine").filter(sql.is_among("partition", more))
        others = "FROM there ANTI JOIN (SELECT id FROM set_aside) USING (id)"
        rows = chain(rows, sql.stream(others, {"there": there, "set_aside": set_aside}))
    batches = (batch.select(schema.names).cast(schema) for batch in rows)
    return pa.RecordBatchReader.from_batches(schema, batches), [*keys, *more]


def labels_without_event(problem: Problem, refused: Collection[str], keys: Sequence[str], staging: str) -> Orphans:
    """The run's good labels whose event should be there, and is not: neither published nor set aside.

    Labels about partitions that were not ingested are not looked at; `keys` are the run's own, without the refused.
    """
    key, place = sql.quote(problem.key), sql.partition_of(problem.partitions, "event_time")
    tables = {
        "own": parted.good(f"{staging}/labels", refused),
        "late": good_late(problem, "labels", staging),
        "own_events": store.staged(f"{staging}/events"),
        "late_events": store.staged(f"{staging}/events.late"),
        "there": pa.table({"partition": pa.array(sorted({*ingested(problem), *keys}), pa.string())}),
    }
    about = f"(SELECT {key}, event_time FROM own UNION ALL SELECT {key}, event_time FROM late)"
    of_run = f"(SELECT {key} FROM own_events UNION ALL SELECT {key} FROM late_events)"
    with sql.connection(tables) as database:
        # Most labels of a long history have their event in the same run: of the others alone it is asked where it lies.
        elsewhere = database.sql(f"""
            SELECT DISTINCT {place} AS partition FROM {about} ANTI JOIN {of_run} USING ({key})
            WHERE partition IN (FROM there) ORDER BY 1
        """).fetchall()
        if not elsewhere:
            return NONE
        in_these = sql.is_among("partition", [partition for (partition,) in elsewhere])
        database.register("published", store.dataset(problem, "events").filter(in_these & holds_now()))
        set_aside = in_these & (pc.field("source") == "events")
        database.register("quarantine", store.dataset(problem, "quarantine").filter(set_aside))
        database.execute(f"""
            CREATE TEMP VIEW labels AS SELECT {key} AS id FROM {about} WHERE {place} IN (FROM there);
            CREATE TEMP VIEW events AS SELECT {key} AS id FROM {of_run} UNION ALL SELECT {key} FROM published
                UNION ALL SELECT row ->> {sql.literal("$." + sql.quote(problem.key))} FROM quarantine
        """)
        return orphans(database)


def check_orphans(problem: Problem, unmatched: Orphans) -> None:
    """Refuse labels of which too many have no event.

    Raises:
        DataError: with ids of both sides, and why they differ if that can be told.
    """
    limit = problem.validation.max_unmatched_label_share
    if unmatched.share > limit:
        raise DataError(
            f"{unmatched.message}; at most {limit:.1%} may have none",
            where=problem.place("labels"),
            cure=f"nothing was published: let events.sql and labels.sql give {problem.key} as the same text; if labels "
            "of events that are not wanted are meant to be there, leave them out in labels.sql, or raise "
            "validation.max_unmatched_label_share; then clear this run",
        )


def in_words(
    problem: Problem, late_rows: int, outside_of: Mapping[str, Mapping[str, int]], unmatched: Orphans | None
) -> list[str]:
    """What a run met beside its own rows, each in a few words; nothing where there was nothing."""
    parts = problem.partitions
    names = {
        "before": f"before {parts.first}",
        "after": f"after {parts.last}",
        "open": "in partitions that have not ended",
    }
    words = [f"rows that came late: {late_rows:,}"] if late_rows else []
    for query, counts in outside_of.items():
        words += [f"{query} {names[where]}: {rows:,}" for where, rows in counts.items() if rows]
    return words + ([unmatched.message] if unmatched and unmatched.without_event else [])


def _statements(problem: Problem, query: Query, keys: Sequence[str], that: pc.Expression) -> ds.Dataset:
    """What the source said of these partitions, of the statements `that` are meant."""
    rows = store.dataset(problem, query).filter(sql.is_among("partition", keys) & that)
    return rows.filter(pc.field("source") == "natural") if query == "labels" else rows


def _accounted(problem: Problem, query: Query, keys: Sequence[str]) -> set[str]:
    """Ids of the rows of these partitions that were set aside, or mended and let in since."""
    is_of_query = sql.is_among("partition", keys) & (pc.field("source") == query)
    ids = store.dataset(problem, "quarantine").to_table(columns=["id"], filter=is_of_query)["id"].to_pylist()
    return {*ids, *quarantine.releases(problem)}


def _check_keys(problem: Problem, query: Query, rows: pa.Table, counts: dict[str, int], there: ds.Dataset) -> None:
    """A partition of which nothing that is known is delivered any more, but as much else, did not come late."""
    held = "SELECT partition, count(*) AS rows FROM t WHERE superseded_time IS NULL GROUP BY 1 ORDER BY 1"
    published = sql.query(held, {"t": there}).to_pylist()
    fresh = {row["values"]: row["counts"] for row in pc.value_counts(rows["partition"]).to_pylist()}
    changed = {
        row["partition"]: row["rows"]
        for row in published
        if fresh.get(row["partition"], 0) == counts.get(row["partition"], 0) >= max(1, OTHER_KEYS * row["rows"])
    }
    if sum(changed.values()) >= FEWEST_KEYS:
        raise DataError(
            f"of {some(list(changed))} no {problem.key} that was published is delivered any more, but as many others "
            "are",
            where=problem.place(query),
            cure=f"if {problem.key} is made in another way now, ingest these partitions again (with restate); if the "
            "source gives new rows only, set validation.lookback_partitions to 0",
        )
