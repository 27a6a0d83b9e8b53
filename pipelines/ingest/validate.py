"""validate: what follows from the notes that `judge` has made of extracted rows: counts, good rows, and bad ones to set
aside, each with all it broke. They stream: memory is bounded, however many rows are bad.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.ingest.extract import BATCH_ROWS, declared, extracted_schema, json_row
from pipelines.ingest.judge import Noted
from pipelines.problem import Problem, Query
from pipelines.store.reading import bounded_on_disk
from pipelines.store.staging import FORMAT
from pipelines.temporary import temporary_folder

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
    """A batch in numbers.

    `partitions` has one row for each of the batch's partitions, in order: partition, rows, bad, newest (event_time of
    the good rows), and `null_share_<column>` for each column of events that has a limit for it (of the good rows; null
    when there are none). `broken_in` has the number of rows that broke each rule, by partition, where there were any.
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

    @property
    def good(self) -> dict[str, int]:
        """The number of rows that broke none, by partition."""
        keys, rows, bad = (self.partitions[name].to_pylist() for name in ("partition", "rows", "bad"))
        return {key: of_all - of_bad for key, of_all, of_bad in zip(keys, rows, bad, strict=True)}

    def rows_in(self, keys: Collection[str]) -> int:
        """Rows of these partitions."""
        is_there = pc.is_in(self.partitions["partition"], pa.array([*keys], pa.string()))
        return int(pc.sum(self.partitions["rows"].filter(is_there), min_count=0).as_py())


def summary(problem: Problem, noted: Noted, keys: Sequence[str]) -> Summary:
    """Count a batch that was judged; `keys` are the partitions it is for.

    Raises:
        DataError: a row lies in another one.
    """
    measured = [name for name, column in problem.columns.items() if column.max_null_share is not None]
    if noted.query == "labels":
        measured = []
    nulls = "".join(f", (count(*) - count({sql.quote(name)})) / count(*) AS null_share_{name}" for name in measured)
    faults = {check.name: check.broken for check in noted.rules if check.is_fault}
    others = {check.name: f"_broken_{n}" for n, check in enumerate(noted.rules) if not check.is_fault}
    with sql.connection({"staged": noted.staged, "noted": noted.rows}, joins_as_written=True) as database:
        good = database.sql(f"""
            SELECT partition, count(*) AS good, max(event_time) AS newest{nulls}
            FROM staged ANTI JOIN (SELECT number FROM noted WHERE NOT _good) USING (number) GROUP BY partition
        """).to_arrow_table()
        bad = database.sql(
            "SELECT partition, count(*) AS bad FROM noted WHERE NOT _good GROUP BY partition"
        ).to_arrow_table()
        broken_in = _broken_in(database, faults, "len(faults) > 0") | _broken_in(database, others, "NOT _good")
    strangers = sorted({*good["partition"].to_pylist(), *bad["partition"].to_pylist()} - set(keys))
    if strangers:
        raise DataError(
            f"rows of {some(strangers)} in a batch of {some(list(keys))}",
            where=f"staged {noted.query}",
            cure="clear the run from extract on: two runs may have shared a staging folder",
        )
    partitions = sql.query(
        """
        SELECT partition, coalesce(good, 0) + coalesce(bad, 0) AS rows, coalesce(bad, 0) AS bad,
            good_rows.* EXCLUDE (partition, good)
        FROM wanted LEFT JOIN good_rows USING (partition) LEFT JOIN bad_rows USING (partition) ORDER BY place
        """,
        {
            "wanted": pa.table({"partition": pa.array(keys, pa.string()), "place": range(len(keys))}),
            "good_rows": good,
            "bad_rows": bad,
        },
    )
    return Summary(noted.query, partitions, broken_in)


def _broken_in(
    database: duckdb.DuckDBPyConnection, conditions: Mapping[str, str], which: str
) -> dict[str, dict[str, int]]:
    """For each rule, by its name, how many of the noted rows of a partition fulfil the condition that breaks it."""
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in conditions.values())
    by_partition = database.sql(f"SELECT partition, {counts} FROM noted WHERE {which} GROUP BY partition").fetchall()
    return {
        name: {key: broken[place] for key, *broken in by_partition if broken[place]}
        for place, name in enumerate(conditions)
    }


def bad_rows(
    problem: Problem, noted: Noted, limit: int | None = None, partitions: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows that break a rule, in the shape of the table `quarantine`: each with every rule that it broke.

    They are streamed, in no order: however many there are, a batch of them is held. `row` is the row as it came, as far
    as that was kept, else as it was cast. With a `limit` only so many of them are given, whichever come first: a sample
    of a batch that is too bad to publish; with `partitions` only theirs, held against the rules among all rows all the
    same.
    """
    bounded = "" if limit is None else f"LIMIT {limit}"
    within = "" if partitions is None else f"AND {among(partitions)}"
    names = [
        f"CASE WHEN _broken_{n} THEN {sql.literal(check.name)} END"
        for n, check in enumerate(noted.rules)
        if not check.is_fault
    ]
    rules_broken = f"list_concat(faults, list_filter([{', '.join(names)}], lambda rule: rule IS NOT NULL))"
    bad = f"(SELECT * FROM noted WHERE NOT _good {within} {bounded})"
    rows = f"SELECT partition, source, row, rules FROM ({_as_it_came(problem, noted.query, bad, rules_broken)})"
    yield from identified(problem, sql.stream(rows, {"noted": noted.rows}, batch_rows=BATCH_ROWS))


def bad_numbers(noted: Noted) -> Iterator[pa.RecordBatch]:
    """The `number` of each row that breaks a rule, in order: the good rows are those with another one."""
    numbers = "SELECT number FROM noted WHERE NOT _good ORDER BY number"
    return sql.stream(numbers, {"noted": noted.rows}, batch_rows=NUMBERS_TOGETHER)


def good_rows(problem: Problem, noted: Noted) -> Iterator[pa.RecordBatch]:
    """The rows that break no rule, as they were extracted."""
    schema = extracted_schema(problem, noted.query)
    columns = ", ".join(map(sql.quote, schema.names))
    rows = f"SELECT {columns} FROM staged ANTI JOIN (SELECT number FROM noted WHERE NOT _good) USING (number)"
    tables = {"staged": noted.staged, "noted": noted.rows}
    for batch in sql.stream(rows, tables, batch_rows=BATCH_ROWS, joins_as_written=True):
        yield batch.cast(schema)


def among(partitions: Sequence[str]) -> str:
    """SQL condition: a row lies in one of these partitions."""
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
