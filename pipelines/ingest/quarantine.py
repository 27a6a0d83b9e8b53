"""Quarantine: rows that were set aside, and how one that a person has mended gets back in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, TypeGuard

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.config import did_you_mean
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.extract import cast_rows, declared, extracted_schema, good_columns
from pipelines.ingest.rules import LATE
from pipelines.ingest.validate import bad_rows, identified
from pipelines.problem import Problem, Query

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


def from_sources(problem: Problem, rejected: pa.Table, partition: str) -> pa.Table:
    """Rows that a source could not give (source, row, rules), shaped like the table `quarantine`."""
    with sql.connection({"rejected": rejected}) as database:
        return identified(
            problem, database, f"SELECT {sql.literal(partition)} AS partition, source, row, rules FROM rejected"
        )


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
        DataError: the row came from a source and cannot be released.
    """
    query = _releasable(query)
    types = declared(problem, query)
    after: dict[str, Any] = json.loads(row)
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
    bad = bad_rows(problem, query, extracted, exempt=[LATE])
    if bad.num_rows:
        raise DataError(
            f"the row still breaks {', '.join(bad['rules'][0].as_py())}",
            where=f"{query}, {problem.key} {row.get(problem.key)!r}",
            cure="set the columns that are named, or leave the row where it is",
        )
    good = extracted.select(good_columns(problem, query))
    place = good.column_names.index("known_time")
    known = pa.array([known_time], good.schema.field("known_time").type)
    return good.set_column(place, good.schema.field("known_time"), known)


def apply_repairs(
    problem: Problem, query: Query, bad: pa.Table, repairs: Mapping[str, Repair]
) -> tuple[pa.Table, pa.Table]:
    """What is still bad, and what was repaired: so that a release survives a new ingest of its partition.

    `bad` has the shape of `quarantine`, the repaired rows that of good extracted ones. `repairs` are the releases
    so far, by id. A repaired row that breaks a rule which was made since stays set aside. One whose repaired time
    lies in another partition than the batch's is given too: that partition has it already, or has to get it.
    """
    schema = pa.schema([extracted_schema(problem, query).field(name) for name in good_columns(problem, query)])
    is_released = pc.is_in(bad["id"], pa.array(list(repairs), pa.string()))
    repaired: dict[str, pa.Table] = {}
    for row_id in bad["id"].filter(is_released).to_pylist():  # as many as people have mended by hand
        try:
            repaired[row_id] = repair(problem, query, repairs[row_id].row, repairs[row_id].known_time)
        except DataError:
            continue
    still = bad.filter(pc.invert(pc.is_in(bad["id"], pa.array(list(repaired), pa.string()))))
    return still, pa.concat_tables([schema.empty_table(), *repaired.values()])


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
