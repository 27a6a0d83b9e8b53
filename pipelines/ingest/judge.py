"""judge: hold each row of a batch against every rule, once, and note what was found.

DuckDB evaluates the rules over the staged rows, which stream. The rows that break one are noted, each with all that it
breaks, and a sample of the others. Whoever counts, parts or shows rows, or holds the rules to account, reads the notes.
They lie in a file of this machine: memory is bounded by DuckDB's own limit, however many rows are bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.ingest.extract import declared, extracted_schema
from pipelines.ingest.rules import Rule, check_rules, rules, unique_columns
from pipelines.problem import Problem, Query
from pipelines.temporary import temporary_folder

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ELSEWHERE = ("event_time", "known_time", "cutoff_time")  # beside the key
NOTED_TOGETHER = 2_048  # rows, however long they are
SAMPLE_BYTES = 32 << 20  # of texts of good rows, about
SPARE, FEWEST = 1.1, 100  # so many times as many, and so many more, are noted as are wanted: a hash gives about as many
LARGEST_HASH = 2**64 - 1


@dataclass(frozen=True)
class Noted:
    """What was found of the rows of a query.

    `staged` are these rows, `rules` what they were held against. `rows` has the bad ones, and a sample of the others:
    the columns of extracted rows, whether one is `_good`, whether it is a `_later` statement about its event, and
    `_broken_<n>` for the n-th rule. Faults, which rows tell themselves, have no `_broken_<n>`.
    """

    query: Query
    staged: Any
    rules: list[Rule]
    rows: ds.Dataset


@contextmanager
def judge(
    problem: Problem, query: Query, staged: Any, exempt: Sequence[str] = (), elsewhere: Any = None, sampled: int = 0
) -> Iterator[Noted]:
    """Judge the rows of a query. What was noted is there until the end of the context.

    Args:
        staged: extracted rows (an Arrow table or dataset).
        exempt: names of rules that do not apply.
        elsewhere: statements about the same keys in other partitions (columns of `ELSEWHERE`), for rules that look
            beyond the batch.
        sampled: how many good rows are to be seen in the notes. About as many are there, by a hash of their keys, so
            that a repeated run notes the same; of long ones as many as `SAMPLE_BYTES` have room for.

    Raises:
        ConfigError: one of validation.rules cannot be evaluated.
    """
    check_rules(problem)
    checks = [check for check in rules(problem, query) if check.name not in exempt]
    schema = _schema(problem, query, checks)
    with temporary_folder() as folder:
        found = _found(problem, query, staged, elsewhere, checks, sampled)
        rows = store.spilled(Path(folder, "noted.arrow"), (batch.select(schema.names) for batch in found), schema)
        yield Noted(query, staged, checks, rows)


def drawn(key: str) -> str:
    """SQL for a number between 0 and 1 that only the key decides."""
    return f"hash({key}) / {LARGEST_HASH}"


def texts(problem: Problem, query: Query) -> list[str]:
    """The columns of a query whose values may be long."""
    return [name for name, kind in declared(problem, query).items() if kind in ("string", "text")]


def _schema(problem: Problem, query: Query, checks: Sequence[Rule]) -> pa.Schema:
    verdicts = [f"_broken_{n}" for n, check in enumerate(checks) if not check.is_fault]
    return pa.schema(
        [*extracted_schema(problem, query), *((name, pa.bool_()) for name in ("_later", "_good", *verdicts))]
    )


def _found(
    problem: Problem, query: Query, staged: Any, elsewhere: Any, checks: Sequence[Rule], sampled: int
) -> Iterator[pa.RecordBatch]:
    """The rows of `Noted`, and more columns. Of a row that is not noted no verdict is written out."""
    tables = {
        "staged": staged,
        "elsewhere": elsewhere_schema(problem).empty_table() if elsewhere is None else elsewhere,
    }
    conditions = {f"_broken_{n}": check.broken for n, check in enumerate(checks) if not check.is_fault}
    verdicts = ", ".join(f"coalesce({broken}, false) AS {name}" for name, broken in conditions.items())
    breaks_one = " OR ".join(["len(faults) > 0", *(f"({broken})" for broken in conditions.values())])
    broke_one = " OR ".join(["len(faults) > 0", *conditions])
    # The staged rows stream past a small table.
    with (
        sql.connection(tables, joins_as_written=True) as database,
        sql.explained(str(problem.folder / "problem.yaml")),
    ):
        marks = _mark(problem, query, database)
        marked = ", ".join(f"coalesce({mark}, false) AS {mark}" for mark in marks)
        is_drawn = _is_drawn(problem, query, database, sampled) if sampled else "false"
        yield from database.sql(f"""
            WITH looked_up AS (SELECT staged.*, {marked} FROM staged LEFT JOIN _marked ON number = _number),
            judged AS (SELECT *, {verdicts} FROM looked_up WHERE {breaks_one} OR {is_drawn})
            SELECT *, NOT ({broke_one}) AS _good FROM judged
        """).to_arrow_reader(NOTED_TOGETHER)


def _is_drawn(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection, sampled: int) -> str:
    """SQL condition for the rows that are noted even if they are good."""
    (there,) = database.sql("SELECT count(*) FROM staged").fetchall()[0]
    key, rows = sql.quote(problem.key), max(there, 1)
    chance = min((SPARE * sampled + FEWEST) / rows, 1.0)
    length = " + ".join(["1", *(f"coalesce(strlen({sql.quote(name)}), 0)" for name in texts(problem, query))])
    return f"{drawn(key)} <= {chance!r} AND {drawn(key)} * ({length}) <= {SPARE * SAMPLE_BYTES / rows!r}"


def _mark(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection) -> list[str]:
    """Make the table `_marked`, of what rows break because of others, by their `_number`; gives its other columns."""
    marks = _statements(problem, query, database)
    parts = ["FROM _statements"]
    for name in unique_columns(problem, query):
        marks.append(f"_shared_{name}")
        parts.append(_shared(problem, name))
    either = ", ".join(f"bool_or({mark}) AS {mark}" for mark in marks)
    together = " UNION ALL BY NAME ".join(f"({part})" for part in parts)
    database.execute(f"CREATE TEMP TABLE _marked AS SELECT _number, {either} FROM ({together}) GROUP BY _number")
    return marks


def _statements(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection) -> list[str]:
    """Make the table `_statements`, of the rows whose key comes more than once; gives its columns beside `_number`.

    Nearly every key comes once: hashes of the keys alone say which may not, and only those are looked at. Labels are
    told apart by the event's time too: two events may have the same key.
    """
    key, about = sql.quote(problem.key), "event_time" if query == "labels" else "CAST(NULL AS TIMESTAMPTZ)"
    due = "cutoff_time" if query == "events" else "CAST(NULL AS TIMESTAMPTZ)"
    database.execute(f"""
        CREATE TEMP TABLE _repeated AS
        SELECT _hash FROM (
            SELECT hash({key}) AS _hash FROM staged
            UNION ALL SELECT DISTINCT hash({key}) FROM elsewhere
        ) GROUP BY _hash HAVING count(*) > 1
    """)
    database.execute(f"""
        CREATE TEMP TABLE _said AS
        SELECT number AS _number, {key} AS _key, {about} AS _about, event_time, known_time, {due} AS cutoff_time,
            len(faults) > 0 AS _has_faults, false AS _is_published
        FROM staged WHERE {key} IS NOT NULL AND hash({key}) IN (FROM _repeated)
        UNION ALL
        SELECT NULL, {key}, NULL, event_time, known_time, cutoff_time, false, true
        FROM elsewhere WHERE {key} IS NOT NULL AND hash({key}) IN (FROM _repeated)
    """)
    marks = {
        "_twice": "known_time IS NOT NULL AND count(_number) OVER (PARTITION BY _key, _about, known_time) > 1",
        "_later": "coalesce(known_time > min(known_time) OVER (PARTITION BY _key), false)",
    }
    joined = ""
    if query == "events":
        marks["_is_another"] = "_time IS NOT NULL"
        joined = f"LEFT JOIN ({_others()}) ON _key = _other AND event_time = _time"
    selected = ", ".join(f"{mark} AS {name}" for name, mark in marks.items())
    database.execute(f"""
        CREATE TEMP TABLE _statements AS
        SELECT * FROM (SELECT _number, {selected} FROM _said {joined}) WHERE _number IS NOT NULL
    """)
    return [*marks]


def _others() -> str:
    """SQL query for keys and times, of `_said`, at which a key names another event already.

    A statement with another event_time corrects the time of an event if it says when that was learnt, and then either
    before the event was to happen (it was moved) or after it happened (it had been noted wrongly). What is learnt once
    the event is over, and by its own cut-off still lies ahead, is another event; so is what has no known_time of its
    own (one that equals the cut-off is a default). Of the events of one key that is the first, or that is published
    already; all rows of the others are told.
    """
    return """
        WITH times AS (
            SELECT _key, event_time, min(known_time) AS _known, arg_min(cutoff_time, known_time) AS _cutoff,
                bool_or(_is_published) AS _is_published
            FROM _said WHERE NOT _has_faults AND event_time IS NOT NULL GROUP BY _key, event_time
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
        SELECT _key AS _other, event_time AS _time FROM settled WHERE NOT _is_it AND (_is_known OR _event > 0)
    """


def _shared(problem: Problem, name: str) -> str:
    """SQL query for the rows, by `_number`, whose value of a unique column several events have."""
    key, value = sql.quote(problem.key), sql.quote(name)
    return f"""
        WITH repeated AS (SELECT hash({value}) AS _hash FROM staged GROUP BY _hash HAVING count(*) > 1),
        candidates AS MATERIALIZED (
            SELECT number AS _number, {value} AS _value, {key} AS _key FROM staged
            WHERE {value} IS NOT NULL AND hash({value}) IN (FROM repeated)
        )
        SELECT _number, true AS _shared_{name} FROM candidates SEMI JOIN (
            SELECT _value FROM candidates GROUP BY _value
            HAVING count(DISTINCT _key) + count(*) FILTER (_key IS NULL) > 1
        ) USING (_value)
    """


def elsewhere_schema(problem: Problem) -> pa.Schema:
    """Columns of statements in other partitions."""
    schema = table_schema(problem, "events")
    return pa.schema([schema.field(name) for name in (problem.key, *ELSEWHERE)])
