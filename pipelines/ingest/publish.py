"""publish: what a delivery changes in what is known: corrections, withdrawals and returns become statements.

A table keeps statements, not states. What was learnt stays as it was learnt: of an old row only `superseded_time` and
`withdrawn_time` ever change, from null to a moment (Snodgrass, Developing Time-Oriented Database Applications in SQL,
1999, ch. 10). So the same delivery, published twice, changes nothing, and the past can be read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import TableName, table_schema
from pipelines.errors import DataError
from pipelines.ingest.statement_chains import chains_sql, columns, quoted
from pipelines.problem import Problem

BATCH_ROWS = 16_384


def event_statements(
    problem: Problem,
    current: Any,
    delivered: Any,
    now: datetime,
    *,
    ingested: Collection[str] = (),
    restated: Collection[str] = (),
) -> pa.RecordBatchReader:
    """All statements that the delivered partitions of `events` hold afterwards, streamed, in no order.

    `current` are their statements so far (dataset or table), `delivered` the good rows of this run for the same
    partitions (dataset, table or reader: the key, event_time, known_time, cutoff_time, the declared columns and
    partition; an event once, or once for each known_time). Of events that are new, or say what they said, rows
    stream through; the others alone are sorted.

    - A partition's first delivery is believed: its known_times are kept. What a later one adds was not known before
      `now`. `ingested` are partitions that were delivered before without any event, which `current` cannot tell.
    - Other content is a correction, known `now` (or later, if the delivery says so): whatever the source says of when
      it learnt it, nobody here did before. A known_time that equals the cut-off, and has moved along with it, is a
      default and no observation.
    - What is delivered no more is withdrawn `now`; if it comes back it starts at statement 0.
    - A cut-off that has passed is not moved by what is learnt later: an event is predicted once. One moved to before
      the moment at which that is learnt becomes that moment.
    - `restated` partitions: what was published was our own mistake; the delivery is taken as if it were the first.

    Raises:
        DataError: a key was delivered twice with the same known_time.
    """
    kind = _Statements("events", identity(problem, "events"), ["event_time", "cutoff_time", *problem.columns])
    return _published(problem, kind, current, delivered, now, ingested, restated)


def natural_label_statements(
    problem: Problem,
    current: Any,
    delivered: Any,
    now: datetime,
    *,
    ingested: Collection[str],
    restated: Collection[str] = (),
) -> pa.RecordBatchReader:
    """All natural statements that the delivered partitions of `labels` hold afterwards; see `event_statements`.

    `delivered` has the key, event_time, known_time, label and partition; statements differ if their labels do.
    `ingested` are the partitions whose events were ingested before: that no label came then says that none was known.
    Statements that arrived in different partitions do not touch each other: which of them holds is decided where
    labels are read, so that it does not matter how partitions are cut into runs. Nor do statements about events of
    different times, which may share their key.
    """
    kind = _Statements("labels", identity(problem, "labels"), ["label"])
    return _published(problem, kind, current, delivered, now, ingested, restated)


def identity(problem: Problem, table: TableName) -> list[str]:
    """The columns that name what statements are about. A key that comes in several deliveries is a row of each."""
    if table == "labels":
        return ["partition", problem.key, "event_time"]
    return ["partition", problem.key] if problem.partitions.by_delivery else [problem.key]


def changes(problem: Problem, table: TableName, before: Any, after: Any) -> dict[str, int]:
    """How many events (or labels) of a table's partitions are new, unchanged, corrected, withdrawn and returned.

    `before` and `after` are the partitions' statements, as datasets or tables. What was withdrawn already is counted
    no more. What they say is compared by hashes: for a log, not for a decision.
    """
    who = quoted(identity(problem, table))
    said = [name for name in table_schema(problem, table).names if name not in ("superseded_time", "withdrawn_time")]
    sides = " UNION ALL ".join(
        f"SELECT {who}, {flag} AS is_new, hash({quoted(said)}) AS said, withdrawn_time IS NULL AS is_live FROM {side}"
        for side, flag in (("before", "false"), ("after", "true"))
    )
    counted = f"""
        WITH events AS (
            SELECT bool_or(NOT is_new) AS is_old,
                coalesce(bool_or(is_live) FILTER (NOT is_new), false) AS was_live,
                coalesce(bool_or(is_live) FILTER (is_new), false) AS is_live,
                bit_xor(said) FILTER (NOT is_new) IS DISTINCT FROM bit_xor(said) FILTER (is_new) AS is_other
            FROM ({sides}) GROUP BY {who}
        )
        SELECT count_if(NOT is_old AND is_live) AS new,
            count_if(was_live AND is_live AND NOT is_other) AS unchanged,
            count_if(was_live AND is_live AND is_other) AS corrected,
            count_if(was_live AND NOT is_live) AS withdrawn,
            count_if(is_old AND NOT was_live AND is_live) AS returned
        FROM events
    """
    if not sql.query(
        "SELECT 1 FROM before LIMIT 1", {"before": before}
    ).num_rows:  # a first delivery, however large, needs no look at each key
        still = "SELECT count(*) AS new FROM after WHERE superseded_time IS NULL AND withdrawn_time IS NULL"
        counted = f"SELECT new, 0 AS unchanged, 0 AS corrected, 0 AS withdrawn, 0 AS returned FROM ({still})"
    row = sql.query(counted, {"before": before, "after": after}).to_pylist()[0]
    return {name: int(count) for name, count in row.items()}


def check_accounts(read: int, *, published: int, quarantined: int, late: int, outside: int) -> None:
    """Each row that a run read is published, set aside, taken in late or counted as outside, and only one of these.

    Raises:
        DataError: the rows that were read are not as many as those that went somewhere.
    """
    accounted = published + quarantined + late + outside
    if read != accounted:
        raise DataError(
            f"{read} rows were read, but {accounted} are accounted for: {published} published, {quarantined} set "
            f"aside, {late} late, {outside} outside",
            cure="clear the run from extract on: a source changed while it was read, or two runs have shared a staging "
            "folder",
        )


@dataclass(frozen=True)
class _Statements:
    """Statements of a table: the columns that name what they are about, and those in which they may differ."""

    table: TableName
    identity: list[str]
    content: list[str]


def _published(
    problem: Problem,
    kind: _Statements,
    current: Any,
    delivered: Any,
    now: datetime,
    ingested: Collection[str],
    restated: Collection[str],
) -> pa.RecordBatchReader:
    schema = table_schema(problem, kind.table)
    if restated:
        current = current.filter(~pc.field("partition").isin(pa.array(sorted(restated), pa.string())))
        ingested = set(ingested) - set(restated)
    batches = _resolved(problem, kind, current, delivered, now, ingested)
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches))


def _resolved(
    problem: Problem, kind: _Statements, current: Any, delivered: Any, now: datetime, ingested: Collection[str]
) -> Iterator[pa.RecordBatch]:
    names = table_schema(problem, kind.table).names
    partitions = pa.table({"partition": pa.array(sorted(ingested), pa.string())})
    tables = {"current_rows": current, "delivered_rows": delivered, "ingested_rows": partitions}
    with sql.connection(tables) as database:
        if isinstance(delivered, pa.RecordBatchReader):  # can be read once only, and is needed more often
            database.execute("CREATE TEMP TABLE delivered_copy AS SELECT * FROM delivered_rows")
            database.execute("CREATE TEMP VIEW delivered_all AS SELECT * FROM delivered_copy")
        else:
            database.execute("CREATE TEMP VIEW delivered_all AS SELECT * FROM delivered_rows")
        for statement in _views(kind, names):
            database.execute(statement)
        is_first = not database.sql("SELECT 1 FROM told LIMIT 1").fetchall()
        database.execute(f"CREATE TEMP TABLE busy AS {_busy(kind, is_first)}")
        parts = [_streamed(kind, names, is_first)]
        if database.sql("SELECT 1 FROM busy LIMIT 1").fetchall():
            for side in ("told", "now"):  # few rows, read again and again: not by scanning all each time
                rows = "told" if side == "told" else "now_known"
                database.execute(
                    f"CREATE TEMP TABLE {side}_busy AS SELECT * FROM {rows} WHERE _h IN (SELECT _h FROM busy)"
                )
            _check_chains(problem, kind, database)
            parts.append(chains_sql(kind.identity, kind.content, names))
        query = " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)
        yield from database.sql(query, params={"now": now}).to_arrow_reader(BATCH_ROWS)


# What the one side or the other lacks. Labels have no cut-off (one that never passes stands in) and no numbers.
_LABELS_LACK = {"cutoff_time": "TIMESTAMPTZ 'infinity'", "statement": "CAST(0 AS BIGINT)"}
_NATURAL = {"source": "'natural'", "confidence": "CAST(1 AS DOUBLE)", "labeler": "'outcome'"}


def _views(kind: _Statements, names: list[str]) -> list[str]:
    """`now_known` and `told`: the rows of both sides; `ingested`: partitions that were delivered before."""
    identity, is_label = quoted(kind.identity), kind.table == "labels"
    lack = _LABELS_LACK if is_label else {}
    ours = ("statement", "superseded_time", "withdrawn_time")
    given = [name for name in [*names, *lack] if name not in ours]
    return [
        f"CREATE TEMP VIEW now_known AS SELECT {columns(given, lack | (_NATURAL if is_label else {}))}, "
        f"hash({identity}) AS _h FROM delivered_all",
        f"CREATE TEMP VIEW told AS SELECT {columns([*names, *lack], lack)}, hash({identity}) AS _h FROM current_rows "
        + ("WHERE source = 'natural'" if is_label else ""),
        "CREATE TEMP TABLE ingested AS SELECT partition FROM ingested_rows UNION SELECT partition FROM told",
    ]


def _busy(kind: _Statements, is_first: bool) -> str:
    """Hashes of what needs a closer look: events with several rows on a side, a closed statement, or other content."""
    *others, last = map(sql.quote, kind.identity)
    # One hash alone takes keys that look alike for the same.
    other = ", ".join([*others, f"{last} || '~'"])
    several = f"SELECT _h FROM now_known GROUP BY _h, hash({other}) HAVING count(*) > 1"
    differs = " OR ".join(f"d.{column} IS DISTINCT FROM c.{column}" for column in map(sql.quote, kind.content))
    if is_first:
        return several
    return f"""
        {several}
        UNION
        SELECT _h FROM told GROUP BY _h HAVING count(*) > 1 OR count(superseded_time) > 0 OR count(withdrawn_time) > 0
        UNION
        SELECT d._h FROM now_known AS d JOIN told AS c USING ({quoted(kind.identity)}) WHERE {differs}
    """


def _streamed(kind: _Statements, names: list[str], is_first: bool) -> str:
    """What needs no look at its neighbours: events that are new, delivered again as they were, or delivered no more."""
    identity = quoted(kind.identity)
    new = {
        "known_time": "CASE WHEN partition IN (SELECT partition FROM ingested) THEN greatest(known_time, $now) "
        "ELSE known_time END",
        "statement": "CAST(0 AS BIGINT)",
        "superseded_time": "CAST(NULL AS TIMESTAMPTZ)",
        "withdrawn_time": "CAST(NULL AS TIMESTAMPTZ)",
    }
    old = {"withdrawn_time": "CASE WHEN _is_there IS NULL THEN greatest($now, known_time + to_microseconds(1)) END"}
    if is_first:
        return f"SELECT {columns(names, new)} FROM now_known WHERE _h NOT IN (SELECT _h FROM busy)"
    return f"""
        SELECT {columns(names, new)} FROM now_known ANTI JOIN told USING ({identity})
        WHERE _h NOT IN (SELECT _h FROM busy)
        UNION ALL
        SELECT {columns(names, old)} FROM told
        LEFT JOIN (SELECT {identity}, true AS _is_there FROM now_known) USING ({identity})
        WHERE _h NOT IN (SELECT _h FROM busy)
    """


def _check_chains(problem: Problem, kind: _Statements, database: Any) -> None:
    key = sql.quote(problem.key)
    twice = database.sql(
        f"SELECT {key}, known_time FROM now_busy "
        f"GROUP BY {quoted([*kind.identity, 'known_time'])} HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
    ).fetchall()
    if twice:
        raise DataError(
            f"two rows say what was known of {twice[0][0]!r} at {twice[0][1].isoformat()}",
            where=f"problem {problem.name}, {kind.table} to publish",
            cure=f"give one row for each {problem.key} and known_time; validation sets such rows aside",
        )
