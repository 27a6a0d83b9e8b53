"""validate: hold extracted rows against the problem's rules; every bad row is set aside with all it broke.

DuckDB evaluates the rules over the staged rows, which stream, and what it sets aside streams on: memory is bounded by
DuckDB's own limit, however many rows are bad.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.ingest.extract import BATCH_ROWS, declared, extracted_schema, json_row
from pipelines.ingest.rules import Rule, check_rules, rules, unique_columns
from pipelines.problem import Problem, Query
from pipelines.store.reading import bounded_on_disk
from pipelines.store.staging import FORMAT
from pipelines.temporary import temporary_folder

ELSEWHERE = ("event_time", "known_time", "cutoff_time")  # beside the key
NUMBERS = pa.schema([("number", pa.int64())])
NUMBERS_TOGETHER = 131_072  # of rows, in a batch of nothing else
# What setting rows aside takes, however many they are.
SET_ASIDE_MEMORY = "128MB"  # of queries
BATCH_BYTES = 8 << 20  # of rows on their way
# Delta gathers 8,192 rows before it writes any, and holds several copies of them: of long rows so much stays whole.
LONG_BYTES, WHOLE_BYTES = 8 << 10, 8 << 20
SHORTENED = "evergreen: cut"  # a value of rows that do not
SHOWN_CHARACTERS = 200
CAME = pa.schema(
    [("partition", pa.string()), ("source", pa.string()), ("row", pa.string()), ("rules", pa.list_(pa.string()))]
)
NUMBERED = CAME.append(pa.field("number", pa.int64()))


def some(names: Sequence[str]) -> str:
    """The first few of many names.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True)
class Summary:
    """A batch in numbers, its rows once passed over.

    `partitions` has one row for each of the batch's partitions, in order: partition, rows, bad, newest (event_time of
    the good rows), and `null_share_<column>` for each column of events (of the good rows; null when there are none).
    `broken_in` has the number of rows that broke each rule, by partition.
    """

    query: Query
    partitions: pa.Table
    broken_in: dict[str, dict[str, int]]

    @property
    def broken(self) -> dict[str, int]:
        """The number of rows that broke each rule."""
        return {rule: sum(counts.values()) for rule, counts in self.broken_in.items()}

    @property
    def rows(self) -> int:
        return sum(self.partitions["rows"].to_pylist())

    @property
    def bad(self) -> int:
        return sum(self.partitions["bad"].to_pylist())

    def rows_in(self, keys: Collection[str]) -> int:
        """Rows of these partitions."""
        return self._sum("rows", keys)

    def bad_in(self, keys: Collection[str]) -> int:
        """Those of them that break a rule."""
        return self._sum("bad", keys)

    def _sum(self, column: str, keys: Collection[str]) -> int:
        is_there = pc.is_in(self.partitions["partition"], pa.array([*keys], pa.string()))
        return int(pc.sum(self.partitions[column].filter(is_there), min_count=0).as_py())


def summary(problem: Problem, query: Query, staged: Any, keys: Sequence[str], elsewhere: Any = None) -> Summary:
    """Count a batch: `staged` are extracted rows (an Arrow table or dataset), `keys` the partitions it is for.

    `elsewhere`: see `judged`.

    Raises:
        ConfigError: one of validation.rules cannot be evaluated.
    """
    with judged(problem, query, staged, elsewhere=elsewhere) as (database, checks):
        columns = list(problem.columns) if query == "events" else []
        counts = [f"count(*) FILTER (_good AND {sql.quote(name)} IS NULL)" for name in columns]
        nulls = [
            f"{count} / nullif(count(*) FILTER (_good), 0) AS null_share_{name}"
            for name, count in zip(columns, counts, strict=True)
        ]
        broken_counts = [
            f"count(*) FILTER (_broken_{n}) AS _broken_{n}" for n, check in enumerate(checks) if not check.is_fault
        ]
        counted = database.sql(f"""
            SELECT partition, count(*) AS rows, count(*) FILTER (NOT _good) AS bad,
                max(event_time) FILTER (_good) AS newest, {", ".join(nulls + broken_counts)}
            FROM judged GROUP BY partition
        """).to_arrow_table()
        faults = [f"count(*) FILTER ({check.broken})" for check in checks if check.is_fault]
        faulty = database.sql(
            f"SELECT {', '.join(['partition', *faults])} FROM staged WHERE len(faults) > 0 GROUP BY partition"
        ).fetchall()
        names = [check.name for check in checks if check.is_fault]
        broken = {name: {row[0]: row[place] for row in faulty} for place, name in enumerate(names, start=1)}
        places = counted["partition"].to_pylist()
        for number, check in enumerate(checks):
            if not check.is_fault:
                broken[check.name] = dict(zip(places, counted[f"_broken_{number}"].to_pylist(), strict=True))
        strangers = sorted(set(counted["partition"].to_pylist()) - set(keys))
        if strangers:
            raise DataError(
                f"rows of {some(strangers)} in a batch of {some(list(keys))}",
                where=f"staged {query}",
                cure="clear the run from extract on: two runs may have shared a staging folder",
            )
        wanted = pa.table({"key": pa.array(keys, pa.string()), "place": range(len(keys))})
        database.register(
            "counted", counted.drop_columns([name for name in counted.column_names if "_broken_" in name])
        )
        database.register("wanted", wanted)
        partitions = database.sql("""
            SELECT key AS partition, coalesce(rows, 0) AS rows, coalesce(bad, 0) AS bad,
                counted.* EXCLUDE (partition, rows, bad)
            FROM wanted LEFT JOIN counted ON partition = key ORDER BY place
        """).to_arrow_table()
    return Summary(query, partitions, broken)


def bad_rows(
    problem: Problem,
    query: Query,
    staged: Any,
    limit: int | None = None,
    exempt: Sequence[str] = (),
    partitions: Sequence[str] | None = None,
    elsewhere: Any = None,
) -> Iterator[pa.RecordBatch]:
    """The rows that break a rule, in the shape of the table `quarantine`: each with every rule that it broke.

    They are streamed, in no order: however many there are, a batch of them is held. `row` is the row as it came, as far
    as that was kept, else as it was cast. With a `limit` only so many of them are given, whichever come first: a sample
    of a batch that is too bad to publish; with `partitions` only theirs, held against the rules among all rows all the
    same. Rules named in `exempt` do not apply; `elsewhere`: see `judged`.
    """
    with judged(problem, query, staged, exempt, elsewhere) as (database, checks):
        bounded = "" if limit is None else f"LIMIT {limit}"
        within = "" if partitions is None else f"AND {_among(partitions)}"
        names = [
            f"CASE WHEN _broken_{n} THEN {sql.literal(check.name)} END"
            for n, check in enumerate(checks)
            if not check.is_fault
        ]
        rules_broken = f"list_concat(faults, list_filter([{', '.join(names)}], lambda rule: rule IS NOT NULL))"
        bad = f"(SELECT * FROM judged WHERE NOT _good {within} {bounded})"
        rows = f"SELECT partition, source, row, rules FROM ({_as_it_came(problem, query, bad, rules_broken)})"
        yield from identified(problem, database.sql(rows).to_arrow_reader(BATCH_ROWS))


def bad_numbers(
    problem: Problem, query: Query, staged: Any, exempt: Sequence[str] = (), elsewhere: Any = None
) -> Iterator[pa.RecordBatch]:
    """The `number` of each row that breaks a rule, in order: the good rows are those with another one."""
    with judged(problem, query, staged, exempt, elsewhere) as (database, _):
        numbers = database.sql("SELECT number FROM judged WHERE NOT _good ORDER BY number")
        yield from numbers.to_arrow_reader(NUMBERS_TOGETHER)


def good_rows(
    problem: Problem, query: Query, staged: Any, exempt: Sequence[str] = (), elsewhere: Any = None
) -> Iterator[pa.RecordBatch]:
    """The rows that break no rule, as they were extracted."""
    schema = extracted_schema(problem, query)
    columns = ", ".join(map(sql.quote, schema.names))
    with judged(problem, query, staged, exempt, elsewhere) as (database, _):
        for batch in database.sql(f"SELECT {columns} FROM judged WHERE _good").to_arrow_reader(BATCH_ROWS):
            yield batch.cast(schema)


def _among(partitions: Sequence[str]) -> str:
    return f"partition IN ({', '.join(map(sql.literal, partitions)) or 'NULL'})"


def row_ids(problem: Problem, query: Query, staged: Any) -> pa.Table:
    """number, id: the ids that extracted rows have, or would have, in the table `quarantine`."""
    rows = sql.stream(_as_it_came(problem, query, "staged", "faults"), {"staged": staged})
    parts = [batch.select(["number", "id"]) for batch in _with_ids(rows, NUMBERED)]
    return pa.Table.from_batches(parts, pa.schema([NUMBERED.field("number"), ("id", pa.string())]))


def identified(problem: Problem, rows: Iterator[pa.RecordBatch], others: Any = None) -> Iterator[pa.RecordBatch]:
    """Rows (partition, source, row, rules) in the shape of `quarantine`, with an id for each, batch by batch.

    An id is a hash of what came and from where, so that every run gives the same row the same one; copies of a row
    are numbered. Rows whose id is among `others` (a dataset or table) are left out. Of rows over LONG_BYTES the first
    WHOLE_BYTES are whole; of the texts of others the beginnings are kept, which SHORTENED marks.
    """
    schema, left = table_schema(problem, "quarantine"), WHOLE_BYTES
    for batch in _with_ids(rows, CAME, others):
        kept, left = _shortened(batch, left)
        yield kept.select(schema.names).cast(schema)


def _shortened(batch: pa.RecordBatch, left: int) -> tuple[pa.RecordBatch, int]:
    """The rows of a batch, of which long ones are whole as long as they are no more than `left` bytes; how many are
    left then."""
    lengths = pc.binary_length(batch["row"])
    if not batch.num_rows or pc.max(lengths).as_py() <= LONG_BYTES:
        return batch, left
    rows = batch["row"].to_pylist()
    for place in pc.indices_nonzero(pc.greater(lengths, LONG_BYTES)).to_pylist():
        left -= lengths[place].as_py()
        if left < 0:
            rows[place] = json.dumps({SHORTENED: True} | _beginnings(rows[place]))
    column = batch.schema.get_field_index("row")
    return batch.set_column(column, "row", pa.array(rows, pa.string())), max(left, 0)


def _beginnings(row: str) -> dict[str, Any]:
    """The values of a row, its JSON, of which long ones are cut."""
    kept = {}
    for name, value in json.loads(row).items():
        text = value if isinstance(value, str) else json.dumps(value)
        kept[name] = value if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return kept


def _with_ids(rows: Iterator[pa.RecordBatch], schema: pa.Schema, others: Any = None) -> Iterator[pa.RecordBatch]:
    """Rows with the columns of a schema, and `id`: they are put down on this machine, since an id needs a second look.

    Copies are counted, and made again by their numbers: what is sorted is one of each. Nearly every row is its only
    one: hashes alone say which may not be.
    """
    import pyarrow.dataset as ds

    numbers = "number" in schema.names
    columns = ", ".join(schema.names)
    counted = "partition, source, row, rules" + (", list(number) AS number" if numbers else "")
    again = "partition, source, row, rules" + (", unnest(number) AS number" if numbers else "")
    earlier = "PARTITION BY source, row ORDER BY partition, rules ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    with temporary_folder() as folder:
        path = f"{folder}/rows.arrow"
        together = _put_down(rows, path, schema)
        tables = {"came": bounded_on_disk(ds.dataset(path, format="ipc")), "others": others}
        if others is None:
            tables["others"] = pa.table({"id": pa.array([], pa.string())})
        with sql.connection(tables, is_private=True) as database:
            database.execute(f"SET memory_limit = {sql.literal(SET_ASIDE_MEMORY)}")
            database.execute("SET threads = 1")
            database.execute("""
                CREATE TEMP TABLE _copied AS
                SELECT _hash FROM (SELECT hash(source, row) AS _hash FROM came) GROUP BY _hash HAVING count(*) > 1
            """)
            with_ids = f"""
                WITH copies AS (
                    SELECT {columns}, 1 AS _copy FROM came WHERE hash(source, row) NOT IN (SELECT _hash FROM _copied)
                    UNION ALL
                    SELECT {again}, unnest(range(_before + 1, _before + _count + 1)) AS _copy FROM (
                        SELECT *, coalesce(sum(_count) OVER ({earlier}), 0)::BIGINT AS _before FROM (
                            SELECT {counted}, count(*) AS _count FROM came
                            WHERE hash(source, row) IN (SELECT _hash FROM _copied)
                            GROUP BY partition, source, row, rules
                        )
                    )
                ),
                identified AS (
                    SELECT {columns}, left(sha256(concat(source, chr(10), row,
                        CASE WHEN _copy > 1 THEN concat(chr(10), _copy) END)), 16) AS id
                    FROM copies
                )
                SELECT {columns}, id FROM identified ANTI JOIN others USING (id)
            """
            yield from database.sql(with_ids).to_arrow_reader(together)


def _put_down(rows: Iterator[pa.RecordBatch], path: str, schema: pa.Schema) -> int:
    """Write rows to an Arrow file, as many together as are held well; gives how many of the longest that are."""
    longest = 1
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema, options=FORMAT) as writer:
        for came in rows:
            batch = came.select(schema.names).cast(schema)
            longest = max(longest, pc.max(pc.binary_length(batch["row"])).as_py() or 1)
            together = _together(longest)
            for start in range(0, batch.num_rows, together):
                writer.write_batch(batch.slice(start, together))
    return _together(longest)


def _together(longest: int) -> int:
    return max(1, min(BATCH_ROWS, BATCH_BYTES // longest))


def _as_it_came(problem: Problem, query: Query, relation: str, rules: str) -> str:
    """SQL query for extracted rows, each as it came: partition, source, row, number, and `rules`, an expression."""
    delay = problem.labels.delay_days if query == "labels" else 0
    types = declared(problem, query)
    as_cast = json_row(dict.fromkeys(types, False), [name for name, kind in types.items() if kind == "embedding"])
    replaced = f"* REPLACE (known_time - to_days({delay}) AS known_time)" if delay else "*"
    return f"""
        SELECT partition, {sql.literal(query)} AS source, coalesce(raw, {as_cast}) AS row, number, {rules} AS rules
        FROM (SELECT {replaced} FROM {relation})
    """


@contextmanager
def judged(
    problem: Problem, query: Query, staged: Any, exempt: Sequence[str] = (), elsewhere: Any = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Rule]]]:
    """A database with the view `judged`: `staged`, whether a row is `_good`, and `_broken_<n>` for the n-th rule.

    Rules named in `exempt` do not apply. Faults, which rows tell themselves, have no `_broken_<n>`. `elsewhere` are
    statements about the same keys in other partitions (columns of `ELSEWHERE`), for rules that look beyond the batch.
    """
    check_rules(problem)
    checks = [check for check in rules(problem, query) if check.name not in exempt]
    tables = {"staged": staged, "elsewhere": _elsewhere(problem, elsewhere)}
    where = str(problem.folder / "problem.yaml")
    # The staged rows stream past small tables, in their order.
    with sql.connection(tables, joins_as_written=True) as database, sql.explained(where):
        joined = [_statements(problem, query, database)]
        if query == "events":
            joined.append(_others(problem, database))
        joined += [_shared(problem, name, database) for name in unique_columns(problem, query)]
        verdicts = [
            f"coalesce({check.broken}, false) AS _broken_{n}" for n, check in enumerate(checks) if not check.is_fault
        ]
        any_broken = " OR ".join(f"_broken_{n}" for n, check in enumerate(checks) if not check.is_fault)
        database.execute(f"""
            CREATE TEMP VIEW judged AS
            WITH looked_up AS (
                SELECT staged.*, {", ".join(columns for _, columns in joined)}
                FROM staged {" ".join(join for join, _ in joined)}
            ),
            verdicts AS (SELECT *, {", ".join(verdicts)} FROM looked_up)
            SELECT *, NOT (len(faults) > 0 OR {any_broken}) AS _good FROM verdicts
        """)
        yield database, checks


def _statements(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """A join that tells of rows whose key comes more than once; and the columns that it adds.

    Labels are told apart by the event's time too: two events may have the same key. Nearly every key comes once:
    hashes of the keys alone say which may not, and only those are looked at.
    """
    key = sql.quote(problem.key)
    about = "event_time" if query == "labels" else "CAST(NULL AS TIMESTAMPTZ)"
    database.execute(f"""
        CREATE TEMP TABLE _repeated AS
        SELECT _hash FROM (
            SELECT hash({key}) AS _hash FROM staged
            UNION ALL SELECT DISTINCT hash({key}) FROM elsewhere
        ) GROUP BY _hash HAVING count(*) > 1
    """)
    database.execute(f"""
        CREATE TEMP TABLE _statements AS
        SELECT *, min(_known) OVER (PARTITION BY _key) AS _first FROM (
            SELECT {key} AS _key, _about, known_time AS _known, sum(_row) AS _copies FROM (
                SELECT {key}, {about} AS _about, known_time, 1 AS _row FROM staged
                UNION ALL SELECT {key}, NULL, known_time, 0 FROM elsewhere)
            WHERE {key} IS NOT NULL AND hash({key}) IN (SELECT _hash FROM _repeated) GROUP BY ALL)
    """)
    return (
        f"LEFT JOIN _statements ON staged.{key} = _statements._key AND staged.known_time = _known "
        f"AND {about} IS NOT DISTINCT FROM _about",
        "coalesce(_copies > 1, false) AS _twice, coalesce(known_time > _first, false) AS _later",
    )


def _others(problem: Problem, database: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """A join that tells of rows whose key names another event already; and the column that it adds.

    A statement with another event_time corrects the time of an event if it says when that was learnt, and then either
    before the event was to happen (it was moved) or after it happened (it had been noted wrongly). What is learnt once
    the event is over, and by its own cut-off still lies ahead, is another event; so is what has no known_time of its
    own (one that equals the cut-off is a default). Of the events of one key that is the first, or that is published
    already; all rows of the others are told.
    """
    key = sql.quote(problem.key)
    database.execute(f"""
        CREATE TEMP TABLE _others AS
        WITH said AS (
            SELECT {key} AS _key, event_time, known_time, cutoff_time, false AS _is_published FROM staged
            WHERE hash({key}) IN (SELECT _hash FROM _repeated) AND len(faults) = 0
            UNION ALL
            SELECT {key}, event_time, known_time, cutoff_time, true FROM elsewhere
        ),
        times AS (
            SELECT _key, event_time, min(known_time) AS _known, arg_min(cutoff_time, known_time) AS _cutoff,
                bool_or(_is_published) AS _is_published
            FROM said WHERE _key IS NOT NULL AND event_time IS NOT NULL GROUP BY _key, event_time
        ),
        marked AS (
            SELECT *, coalesce((_known >= lag(event_time) OVER one AND _known <= _cutoff)
                OR (_known = _cutoff AND lag(_known) OVER one = lag(_cutoff) OVER one)
                OR _known = lag(_known) OVER one, false) AS _is_other
            FROM times WINDOW one AS (PARTITION BY _key ORDER BY _known, event_time)
        ),
        numbered AS (
            SELECT *, count_if(_is_other) OVER (
                PARTITION BY _key ORDER BY _known, event_time ROWS UNBOUNDED PRECEDING) AS _event
            FROM marked
        ),
        settled AS (
            SELECT *, bool_or(_is_published) OVER (PARTITION BY _key) AS _is_known,
                bool_or(_is_published) OVER (PARTITION BY _key, _event) AS _is_it
            FROM numbered
        )
        SELECT _key, event_time AS _time FROM settled WHERE NOT _is_it AND (_is_known OR _event > 0)
    """)
    return (
        f"LEFT JOIN _others ON staged.{key} = _others._key AND staged.event_time = _time",
        "_time IS NOT NULL AS _is_another",
    )


def _elsewhere(problem: Problem, rows: Any) -> Any:
    schema = table_schema(problem, "events")
    return pa.schema([schema.field(name) for name in (problem.key, *ELSEWHERE)]).empty_table() if rows is None else rows


def _shared(problem: Problem, name: str, database: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """A join that tells of values of a unique column which several events have; and the column that it adds."""
    key, value = sql.quote(problem.key), sql.quote(name)
    database.execute(f"""
        CREATE TEMP TABLE _shared_{name} AS
        WITH repeated AS (SELECT hash({value}) AS _hash FROM staged GROUP BY _hash HAVING count(*) > 1)
        SELECT {value} AS _value_of_{name} FROM staged
        WHERE {value} IS NOT NULL AND hash({value}) IN (SELECT _hash FROM repeated)
        GROUP BY {value} HAVING count(DISTINCT {key}) + count(*) FILTER ({key} IS NULL) > 1
    """)
    return (
        f"LEFT JOIN _shared_{name} ON staged.{value} = _value_of_{name}",
        f"_value_of_{name} IS NOT NULL AS _shared_{name}",
    )
