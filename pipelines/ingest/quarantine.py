"""Quarantine: rows that were set aside, and how one that a person has mended gets back in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, TypeGuard

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.config import did_you_mean
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.extract import cast_rows, declared, extracted_schema, good_columns
from pipelines.ingest.judge import judge
from pipelines.ingest.rules import LATE
from pipelines.ingest.validate import SHORTENED, bad_rows, identified
from pipelines.problem import Problem, Query

if TYPE_CHECKING:
    import pyarrow.dataset as ds

SHOWN_CHARACTERS = 120  # of a row in a list


class WaitingRow(TypedDict):
    """A row in quarantine, as a list shows it."""

    id: str
    partition: str
    source: str
    """The query or the source that gave it."""
    rules: list[str]
    """Those that it broke."""
    row: str
    """How its JSON begins."""


@dataclass(frozen=True)
class Repair:
    """A row as a person has mended it (like `row` of the table `quarantine`), and when: then it became known."""

    row: Mapping[str, Any]
    known_time: datetime


def from_sources(
    problem: Problem, rejected: Iterator[pa.RecordBatch], partition: str, others: ds.Dataset | None = None
) -> Iterator[pa.RecordBatch]:
    """Rows that a source could not give (source, row, rules), in the shape of the table `quarantine`, batch by batch.

    They stand in `partition`. Those of the table's rows `others` are left out: a run of other partitions has set them
    aside already.
    """

    def placed() -> Iterator[pa.RecordBatch]:
        for batch in rejected:
            yield batch.append_column("partition", pa.array([partition] * batch.num_rows, pa.string()))

    return identified(problem, placed(), others)


def listing(quarantine: pa.Table, released: set[str]) -> list[WaitingRow]:
    """The rows that wait, by partition, then id.

    A row without a time is set aside by every run, and listed once, in the first partition that has it.
    """
    cut = f"CASE WHEN length(row) > {SHOWN_CHARACTERS} THEN left(row, {SHOWN_CHARACTERS}) || '...' ELSE row END"
    rows = f"""
        SELECT id, min(partition) AS partition, any_value(source) AS source, any_value(rules) AS rules,
            any_value({cut}) AS row
        FROM quarantine WHERE id NOT IN (SELECT id FROM released) GROUP BY id ORDER BY partition, id
    """
    done = pa.table({"id": pa.array(sorted(released), pa.string())})
    rejected: list[WaitingRow] = sql.query(rows, {"quarantine": quarantine, "released": done}).to_pylist()
    return rejected


def edited(problem: Problem, query: str, row: str, changes: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table `quarantine` (its JSON) with some values changed; an empty text leaves a value out.

    Raises:
        ConfigError: a column is unknown, or a value is not of its type.
        DataError: the row came from a source, or was cut, and cannot be released.
    """
    query = _releasable(query)
    types = declared(problem, query)
    after: dict[str, Any] = json.loads(row)
    if SHORTENED in after:
        raise DataError(
            "of this row only the beginnings of its texts were kept: too many long ones were set aside with it",
            where=query,
            cure="mend it in the source itself, then ingest its partition again",
        )
    for name, text in changes.items():
        if name not in types:
            raise ConfigError(
                f"{query} have no column {name!r}{did_you_mean(name, types)}",
                where=f"{name}={text}",
                cure=f"columns are {', '.join(types)}",
            )
        after[name] = _value(name, text, types[name])
    return after


def repair(problem: Problem, query: str, row: Mapping[str, Any], known_time: datetime) -> pa.Table:
    """One mended row in the shape of good extracted rows, if it breaks no rule any more.

    It is cast and judged like every extracted row and belongs to the partition that its own times say, but it is
    known since `known_time` only, so it need not have been known by its cut-off. Columns that the problem no longer
    has are left out.

    Raises:
        DataError: it still breaks rules (each is named), or it came from a source and cannot be released.
    """
    query = _releasable(query)
    types = declared(problem, query)
    given = {name: _as_column(value) for name, value in row.items() if name in types}
    lacking = [
        name for name in types if name not in given and (name not in ("cutoff_time", "known_time") or query == "labels")
    ]
    given |= {name: pa.nulls(1, pa.string()) for name in lacking}
    if query == "events":  # a label's own known_time still decides where it arrived
        given["known_time"] = pa.array([known_time], pa.timestamp("us", tz="UTC"))
    with sql.connection({"given": pa.table(given)}, problem.partitions.timezone) as database:
        actual_types = {str(column[0]): str(column[1]) for column in database.sql("DESCRIBE given").fetchall()}
        cast = database.sql(cast_rows(problem, query, "SELECT * FROM given", actual_types), params={"first": ""})
        extracted = cast.to_arrow_table().append_column("number", pa.array([0], pa.int64()))
        extracted = extracted.cast(extracted_schema(problem, query))
    with judge(problem, query, extracted, exempt=[LATE]) as noted:
        bad = [batch for batch in bad_rows(problem, noted) if batch.num_rows]
    if bad:
        raise DataError(
            f"the row still breaks {', '.join(bad[0]['rules'][0].as_py())}",
            where=f"{query}, {problem.key} {row.get(problem.key)!r}",
            cure="set the columns that are named, or leave the row where it is",
        )
    good = extracted.select(good_columns(problem, query))
    place = good.column_names.index("known_time")
    known = pa.array([known_time], good.schema.field("known_time").type)
    return good.set_column(place, good.schema.field("known_time"), known)


class Mending:
    """What people have released of a query, taken out of its bad rows as they stream by: so a release survives a new
    ingest of its partition.

    A repaired row that breaks a rule which was made since stays set aside. One whose repaired time lies in another
    partition than the batch's is given too: that partition has it already, or has to get it.

    Args:
        repairs: the releases so far, by id.
    """

    def __init__(self, problem: Problem, query: Query, repairs: Mapping[str, Repair]) -> None:
        self._problem, self._query, self._repairs = problem, query, repairs
        self._repaired: dict[str, pa.Table] = {}

    def still_bad(self, bad: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The others, shaped like the table `quarantine`."""
        released = pa.array(list(self._repairs), pa.string())
        for batch in bad:
            for row_id in batch["id"].filter(pc.is_in(batch["id"], released)).to_pylist():
                self._repair(row_id)
            repaired = pa.array(list(self._repaired), pa.string())
            yield batch.filter(pc.invert(pc.is_in(batch["id"], repaired)))

    @property
    def repaired(self) -> pa.Table:
        """The repaired rows that came by so far, in the shape of good extracted ones."""
        columns = good_columns(self._problem, self._query)
        schema = pa.schema([extracted_schema(self._problem, self._query).field(name) for name in columns])
        return pa.concat_tables([schema.empty_table(), *self._repaired.values()])

    def _repair(self, row_id: str) -> None:
        released = self._repairs[row_id]
        with suppress(DataError):
            self._repaired[row_id] = repair(self._problem, self._query, released.row, released.known_time)


def _releasable(query: str) -> Query:
    if not _is_query(query):
        raise DataError(
            f"a row that the source {query} could not give is no event and no label yet",
            where=f"source {query}",
            cure="mend it in the source itself, then ingest its partition again",
        )
    return query


def _is_query(name: str) -> TypeGuard[Query]:
    return name in ("events", "labels")


def _value(name: str, text: str, kind: str) -> Any:
    """A text that somebody typed as a JSON value of the column's type; raises ConfigError when it is none."""
    if text == "":
        return None
    try:
        match kind:
            case "integer" | "int8":
                return int(text)
            case "float" if math.isfinite(float(text)):
                return float(text)
            case "string" | "text" | "embedding":
                return text
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "timestamp":
                return datetime.fromisoformat(text).isoformat(sep=" ")
        raise ValueError(text)
    except (ValueError, KeyError):
        example = {"integer": "3", "int8": "1", "float": "3.5", "boolean": "true"}.get(
            kind, "2024-01-31T12:00:00+00:00"
        )
        raise ConfigError(
            f"{name}: not of type {kind}: {text!r}", where=f"{name}={text}", cure=f"give one such as {example}"
        ) from None


def _as_column(value: Any) -> pa.Array:
    """A JSON value as a column of one row; what SQL has no plain type for stays text."""
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return pa.array([value])
    if value is None or isinstance(value, str):
        return pa.array([value], pa.string())
    return pa.array([json.dumps(value)], pa.string())
