"""Labeling functions: what each of them says of each event (Huyen, ch. 4; Ratner et al., Snorkel, 2017)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.config import LabelingFunction
from pipelines.errors import ConfigError
from pipelines.problem import Problem

ROW = "_row"  # no declared column starts with an underscore


def votes(problem: Problem, events: pa.Table) -> pa.Table:
    """What every labeling function says of every event: one int8 column per function, rows as in `events`.

    1 and 0 are votes, null abstains. Functions in SQL run in one query over the columns of `events`; those in Python
    get the whole table, once each.

    Raises:
        ConfigError: a function fails, or says something else; the message names it and its place.
    """
    weak = problem.labels.weak
    assert weak is not None
    in_sql = {name: function.sql for name, function in weak.functions.items() if function.sql is not None}
    columns = _evaluated(problem, events, in_sql) if in_sql else {}
    for name, function in weak.functions.items():
        if function.python is not None:
            columns[name] = _called(problem, name, function.python, events)
    checked = {
        name: _checked(_place(problem, name, function), columns[name]) for name, function in weak.functions.items()
    }
    return pa.table(checked)


def _evaluated(problem: Problem, events: pa.Table, functions: dict[str, str]) -> dict[str, pa.ChunkedArray]:
    rows = pa.array(range(events.num_rows), pa.int64())
    with sql.connection({"events": events.append_column(ROW, rows)}) as database:
        try:
            return _select(database, functions)
        except duckdb.Error:
            for name, text in functions.items():  # which of them was it?
                with sql.explained(_place(problem, name, LabelingFunction(sql=text))):
                    _select(database, {name: text})
            raise


def _select(database: duckdb.DuckDBPyConnection, functions: dict[str, str]) -> dict[str, pa.ChunkedArray]:
    # Each expression ends with its line: a comment at its end swallows nothing.
    listed = ",\n".join(f"({text}\n) AS {sql.quote(name)}" for name, text in functions.items())
    selected = database.sql(f"SELECT {listed} FROM events ORDER BY {ROW}").to_arrow_table()
    return {name: selected[name] for name in functions}


def _called(problem: Problem, name: str, reference: str, events: pa.Table) -> pa.ChunkedArray:
    where = _place(problem, name, LabelingFunction(python=reference))
    module, _, attribute = reference.partition(":")
    try:
        function: Callable[[pa.Table], Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{reference} cannot be imported: {error}",
            where=where,
            cure="give module:function of a module on PYTHONPATH",
        ) from error
    try:
        said = function(events)
    except Exception as error:  # somebody else's code: whatever it raises is about their function
        raise ConfigError(
            f"{reference} fails: {type(error).__name__}: {error}", where=where, cure="mend the function"
        ) from error
    try:
        cast_votes = said if isinstance(said, pa.Array | pa.ChunkedArray) else pa.array(said, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(
            f"{reference} gives no array: {type(said).__name__}", where=where, cure="return one vote per event"
        ) from error
    if len(cast_votes) != events.num_rows:
        raise ConfigError(
            f"{reference} gives {len(cast_votes)} votes for {events.num_rows} events",
            where=where,
            cure="return one vote per event, in the order of the table; null where it abstains",
        )
    return cast_votes if isinstance(cast_votes, pa.ChunkedArray) else pa.chunked_array([cast_votes])


def _checked(where: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As int8, every value 1, 0 or null."""
    cure = "give 1, 0, or null where the function abstains"
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.int8())
    if not (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        raise ConfigError(f"votes are {kind}, neither boolean nor a number", where=where, cure=cure)
    numbers = column.cast(pa.float64(), safe=False)
    strange = pc.unique(numbers.filter(pc.invert(pc.is_in(numbers, pa.array([0.0, 1.0, None], pa.float64())))))
    if len(strange):
        listed = ", ".join(f"{value:g}" for value in strange.slice(0, 5).to_pylist())
        raise ConfigError(f"votes are 1, 0 or null, and some are {listed}", where=where, cure=cure)
    return numbers.cast(pa.int8())


def _place(problem: Problem, name: str, function: LabelingFunction) -> str:
    language = "sql" if function.sql is not None else "python"
    return f"{problem.folder / 'problem.yaml'}, labels.weak.functions.{name}.{language}"
