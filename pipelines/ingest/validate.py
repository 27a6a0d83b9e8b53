"""validate: hold extracted rows against the problem's rules; every bad row is set aside with all it broke.

DuckDB evaluates the rules over the staged rows, which stream: memory is bounded by the bad rows, the events with more
than one statement, and DuckDB's own limit.
"""

from __future__ import annotations

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
from pipelines.ingest.extract import declared, json_row
from pipelines.ingest.rules import Rule, check_rules, rules, unique_columns
from pipelines.problem import Problem, Query


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
        is_there = pc.is_in(self.partitions["partition"], pa.array([*keys], pa.string()))
        return int(pc.sum(self.partitions["rows"].filter(is_there), min_count=0).as_py())


def summary(problem: Problem, query: Query, staged: Any, keys: Sequence[str]) -> Summary:
    """Count a batch: `staged` are extracted rows (an Arrow table or dataset), `keys` the partitions it is for.

    Raises:
        ConfigError: one of validation.rules cannot be evaluated.
    """
    with judged(problem, query, staged) as (database, checks):
        columns = list(problem.columns) if query == "events" else []
        counts = [f"count(*) FILTER (_good AND {sql.quote(name)} IS NULL)" for name in columns]
        nulls = [f"{count} / nullif(count(*) FILTER (_good), 0) AS null_share_{name}"
                 for name, count in zip(columns, counts, strict=True)]  # fmt: skip
        told = [f"count(*) FILTER (_broken_{n}) AS _broken_{n}" for n, one in enumerate(checks) if not one.is_fault]
        found = database.sql(f"""
            SELECT partition, count(*) AS rows, count(*) FILTER (NOT _good) AS bad,
                max(event_time) FILTER (_good) AS newest, {", ".join(nulls + told)}
            FROM judged GROUP BY partition
        """).to_arrow_table()
        faults = [f"count(*) FILTER ({one.broken})" for one in checks if one.is_fault]
        faulty = database.sql(
            f"SELECT {', '.join(['partition', *faults])} FROM staged WHERE len(faults) > 0 GROUP BY partition"
        ).fetchall()
        names = [one.name for one in checks if one.is_fault]
        broken = {name: {row[0]: row[place] for row in faulty} for place, name in enumerate(names, start=1)}
        places = found["partition"].to_pylist()
        for number, one in enumerate(checks):
            if not one.is_fault:
                broken[one.name] = dict(zip(places, found[f"_broken_{number}"].to_pylist(), strict=True))
        strangers = sorted(set(found["partition"].to_pylist()) - set(keys))
        if strangers:
            raise DataError(
                f"rows of {some(strangers)} in a batch of {some(list(keys))}",
                where=f"staged {query}",
                cure="clear the run from extract on: two runs may have shared a staging folder",
            )
        wanted = pa.table({"key": pa.array(keys, pa.string()), "place": range(len(keys))})
        database.register("counted", found.drop_columns([name for name in found.column_names if "_broken_" in name]))
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
) -> pa.Table:
    """The rows that break a rule, shaped like the table `quarantine`: each with every rule that it broke.

    `row` is the row as it came, as far as that was kept, else as it was cast. With a `limit` only so many of them are
    given, whichever come first: a sample of a batch that is too bad to publish; with `partitions` only theirs, held
    against the rules among all rows all the same. Rules named in `exempt` do not apply.
    """
    with judged(problem, query, staged, exempt) as (database, checks):
        bounded = "" if limit is None else f"LIMIT {limit}"
        within = "" if partitions is None else f"AND {_among(partitions)}"
        database.execute(f"CREATE TEMP TABLE _bad AS SELECT * FROM judged WHERE NOT _good {within} {bounded}")
        names = [f"CASE WHEN _broken_{n} THEN {sql.literal(one.name)} END"
                 for n, one in enumerate(checks) if not one.is_fault]  # fmt: skip
        delay = problem.labels.delay_days if query == "labels" else 0
        kinds = declared(problem, query)
        as_cast = json_row(dict.fromkeys(kinds, False))
        replaced = f"* REPLACE (known_time - to_days({delay}) AS known_time)" if delay else "*"
        rows = f"""
            SELECT partition, {sql.literal(query)} AS source, coalesce(raw, {as_cast}) AS row,
                list_concat(faults, list_filter([{", ".join(names)}], lambda rule: rule IS NOT NULL)) AS rules
            FROM (SELECT {replaced} FROM _bad)
        """
        return identified(problem, database, rows)


def bad_numbers(problem: Problem, query: Query, staged: Any) -> pa.Array:
    """The `number` of each row that breaks a rule, in order: the good rows are those with another one."""
    with judged(problem, query, staged) as (database, _):
        numbers = database.sql("SELECT number FROM judged WHERE NOT _good ORDER BY number").to_arrow_table()["number"]
        return numbers.combine_chunks()


def _among(partitions: Sequence[str]) -> str:
    return f"partition IN ({', '.join(map(sql.literal, partitions)) or 'NULL'})"


def identified(problem: Problem, database: duckdb.DuckDBPyConnection, rows: str) -> pa.Table:
    """The SQL query `rows` (partition, source, row, rules) in the shape of `quarantine`: with an id for each.

    An id is a hash of what came and from where, so that every run gives the same row the same one; copies of a row
    are numbered.
    """
    found = database.sql(f"""
        SELECT partition, left(sha256(concat(source, chr(10), row, number)), 16) AS id, source, row, rules
        FROM (
            SELECT *, CASE WHEN copy > 1 THEN concat(chr(10), copy) END AS number
            FROM (
                SELECT *, row_number() OVER (PARTITION BY source, row ORDER BY partition, rules) AS copy FROM ({rows})
            )
        )
        ORDER BY partition, id
    """).to_arrow_table()
    return found.cast(table_schema(problem, "quarantine"))


@contextmanager
def judged(
    problem: Problem, query: Query, staged: Any, exempt: Sequence[str] = ()
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Rule]]]:
    """A database with the view `judged`: `staged`, whether a row is `_good`, and `_broken_<n>` for the n-th rule.

    Rules named in `exempt` do not apply. Faults, which rows tell themselves, have no `_broken_<n>`.
    """
    check_rules(problem)
    checks = [one for one in rules(problem, query) if one.name not in exempt]
    with sql.connection({"staged": staged}) as database, sql.explained(str(problem.folder / "problem.yaml")):
        # A join may not be turned round: the staged rows stream past small tables, in their order.
        database.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        joined = [_statements(problem, database)]
        joined += [_shared(problem, name, database) for name in unique_columns(problem, query)]
        verdicts = [f"coalesce({one.broken}, false) AS _broken_{n}"
                    for n, one in enumerate(checks) if not one.is_fault]  # fmt: skip
        any_broken = " OR ".join(f"_broken_{n}" for n, one in enumerate(checks) if not one.is_fault)
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


def _statements(problem: Problem, database: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """A join that tells of rows whose key comes more than once; and the columns that it adds.

    Nearly every key comes once: hashes of the keys alone say which may not, and only those are looked at.
    """
    key = sql.quote(problem.key)
    database.execute(f"""
        CREATE TEMP TABLE _repeated AS SELECT hash({key}) AS _hash FROM staged GROUP BY _hash HAVING count(*) > 1
    """)
    database.execute(f"""
        CREATE TEMP TABLE _statements AS
        SELECT *, min(_known) OVER (PARTITION BY _key) AS _first FROM (
            SELECT {key} AS _key, known_time AS _known, count(*) AS _copies FROM staged
            WHERE {key} IS NOT NULL AND hash({key}) IN (SELECT _hash FROM _repeated) GROUP BY ALL)
    """)
    return (
        f"LEFT JOIN _statements ON staged.{key} = _key AND staged.known_time = _known",
        "coalesce(_copies > 1, false) AS _twice, coalesce(known_time > _first, false) AS _later",
    )


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
