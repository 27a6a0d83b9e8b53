"""The problem's tables: rows by partition in Delta tables, of which each write is one commit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.artifacts import TABLES, TableName, table_schema
from pipelines.errors import DataError, EvergreenError, TransientError
from pipelines.sql import is_among
from pipelines.store.address import is_far, table_uri
from pipelines.store.explained import explained
from pipelines.store.reading import bounded
from pipelines.store.scope import current

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.problem import Problem
    from pipelines.store.near import Table

APPEND_TRIES = 20
WRITTEN_TOGETHER = 2_048  # rows: Delta's writer has so many batches waiting, however large they are


def table_version(problem: Problem, name: TableName) -> int | None:
    """Newest version of a table; None when nobody has written it yet."""
    return _table(problem, name).version


def refresh(problem: Problem, name: TableName) -> None:
    """Take in what others have written to a table since the running task opened it: for who reads, then decides by it
    what to append."""
    with explained(table_uri(problem, name)):
        if task := current():
            opened = task.tables.get(table_uri(problem, name))
            if opened is not None:
                opened.refresh()


def dataset(problem: Problem, name: TableName, version: int | None = None) -> ds.Dataset:
    """A table as an Arrow dataset (lazy; filters reach the files); empty when nobody has written it yet.

    Its columns are the contract's: those that were declared since an old row was written are null there.
    """
    import pyarrow.dataset as ds

    schema = table_schema(problem, name)
    with explained(table_uri(problem, name)):
        rows = _table(problem, name).dataset(version)
        if rows is None and version is not None:
            raise DataError(
                f"version {version} of {name} cannot be read any more: its log is gone",
                where=table_uri(problem, name),
                cure="keep the table's log as long as you want to make models again",
            )
        return ds.dataset(schema.empty_table()) if rows is None else bounded(rows.replace_schema(schema))


def partition_keys(problem: Problem, name: TableName, version: int | None = None) -> list[str]:
    """Partition keys that a table holds rows of, sorted; read from the table's log alone."""
    with explained(table_uri(problem, name)):
        return list(_table(problem, name).keys(TABLES[name].partition_by, version))


def partition_rows(problem: Problem, name: TableName) -> dict[str, int]:
    """How many rows a table has of each partition; read from the table's log alone."""
    with explained(table_uri(problem, name)):
        return _table(problem, name).rows(TABLES[name].partition_by)


def partition_files(problem: Problem, name: TableName, key: str) -> list[str]:
    """URIs of the Parquet files that hold one partition now: for readers that know no Delta."""
    from pipelines.sql import literal

    with explained(table_uri(problem, name)):
        return _table(problem, name).files(f"{TABLES[name].partition_by} = {literal(key)}")


def write_table(
    problem: Problem,
    name: TableName,
    rows: pa.Table | pa.RecordBatchReader,
    keys: Sequence[str],
    within: str | None = None,
) -> int:
    """Replace the partitions `keys` of a table by `rows`, in one commit; gives the table's new version.

    Readers see all of the old rows or all of the new. Rows are streamed, cast to the contract and checked; columns
    that the problem declares since are added to the table. In a table whose writers share partitions (`Table.within`)
    only the rows with that value of `within` are replaced; without one, all.

    Raises:
        DataError: a row lies in another partition, or lacks a value that the contract asks for.
        TransientError: another writer has changed the same partitions meanwhile.
    """
    shape, uri, schema = TABLES[name], table_uri(problem, name), table_schema(problem, name)
    column = shape.partition_by
    allowed = {column: set(keys)} | ({shape.within: {within}} if shape.within and within else {})
    faults: list[EvergreenError] = []
    checked = pa.RecordBatchReader.from_batches(
        schema, _noting(faults, _checked(rows, schema, where=uri, allowed=allowed))
    )
    with explained(uri), _own_faults(faults):
        return _table(problem, name).replace(checked, shape.folders, allowed)


def make_table(problem: Problem, name: TableName) -> None:
    """Make a table that nobody has written yet, without rows: for several writers that come at once, of which only one
    could make it."""
    from deltalake.exceptions import CommitFailedError

    uri, table = table_uri(problem, name), _table(problem, name)
    if table.version is not None:
        return
    nothing = table_schema(problem, name).empty_table().to_reader()
    with explained(uri):
        try:
            table.replace(nothing, TABLES[name].folders, {})
        except CommitFailedError:  # others were first
            table.refresh()


def rewritten(problem: Problem, name: TableName, written: Mapping[str, int | None], version: int | None) -> list[str]:
    """Of the partitions that versions of a table have `written` those of which `version` has other rows; sorted, and
    read from the table's log alone."""
    column, older = TABLES[name].partition_by, {key: at for key, at in written.items() if at != version}
    if not older:
        return []
    with explained(table_uri(problem, name)):
        table = _table(problem, name)
        files = {at: table.paths(column, at) for at in {version, *older.values()}}
    return sorted(key for key, at in older.items() if files[at].get(key) != files[version].get(key))


def append_once(problem: Problem, name: TableName, rows: pa.Table, key: str) -> bool:
    """Append rows whose `key` the table does not hold yet; whether any was new. Safe to repeat.

    A key is of one partition ever: it is looked for in those of `rows`.

    Raises:
        TransientError: other writers came first, each time it was tried.
    """
    uri, schema = table_uri(problem, name), table_schema(problem, name)
    rows = pa.Table.from_batches(_checked(rows, schema, where=uri), schema=schema)
    table = _table(problem, name)
    for left in reversed(range(APPEND_TRIES)):
        try:
            with explained(uri):
                return _append_once(table, rows, key, TABLES[name].partition_by)
        except TransientError:
            if not left:
                raise
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - spreads writers, hides nothing
            with explained(uri):
                table.refresh()
    raise AssertionError("unreachable")


def _append_once(table: Table, rows: pa.Table, key: str, partition_by: str) -> bool:
    """The commit fails if there is any since the rows that were looked through."""
    there = table.dataset()
    if there is not None:
        is_wanted = pc.field(key).isin(rows[key].combine_chunks()) & is_among(
            partition_by, rows[partition_by].to_pylist()
        )
        known = there.to_table(columns=[key], filter=is_wanted)
        rows = rows.filter(pc.invert(pc.is_in(rows[key], value_set=known[key].combine_chunks())))
    if not rows.num_rows:
        return False
    table.append(rows, [partition_by])
    return True


def positions(problem: Problem, name: TableName, readers: Iterable[str]) -> dict[str, int | None]:
    """How far each reader's rows have got, as `append_from` has noted it; None: nothing of it is there."""
    with explained(table_uri(problem, name)):
        table = _table(problem, name)
        return {reader: table.position(reader) for reader in readers}


def append_from(
    problem: Problem, name: TableName, rows: pa.Table, before: Mapping[str, int | None], after: Mapping[str, int]
) -> None:
    """Append what readers have read between the positions `before` and `after`, and note these, all in one commit.

    Raises:
        TransientError: others have got further meanwhile, or written anything; nothing was appended.
    """
    uri, schema = table_uri(problem, name), table_schema(problem, name)
    rows = pa.Table.from_batches(_checked(rows, schema, where=uri), schema=schema)
    table = _table(problem, name)
    # Delta refuses a position that is behind the one that is noted, and takes one that is noted already.
    if any(table.position(reader) != position for reader, position in before.items()):
        raise TransientError("another run has read the same meanwhile", where=uri, cure="try again")
    with explained(uri):
        table.append_from(rows, TABLES[name].folders, after)


def _table(problem: Problem, name: TableName) -> Table:
    """The table as the running task knows it."""
    uri, task = table_uri(problem, name), current()
    with explained(uri):
        if task is None:
            return opened(uri)
        if uri not in task.tables:
            task.tables[uri] = opened(uri)
        table: Table = task.tables[uri]
        return table


def opened(uri: str) -> Table:
    """The table at `uri` as it is now, whether anybody has written it yet or not."""
    from pipelines.store.far import FarTable
    from pipelines.store.near import Table

    return FarTable(uri) if is_far(uri) else Table(uri)


def _checked(
    rows: pa.Table | pa.RecordBatchReader,
    schema: pa.Schema,
    *,
    where: str,
    allowed: dict[str, set[str]] | None = None,
) -> Iterator[pa.RecordBatch]:
    required = [field.name for field in schema if not field.nullable]
    batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
    for batch in batches:
        missing = [name for name in schema.names if name not in batch.schema.names]
        if missing:
            raise DataError(f"rows lack the columns {', '.join(missing)}", where=where, cure="add them to the query")
        for name in required:
            if batch.column(name).null_count:
                raise DataError(
                    f"{batch.column(name).null_count} rows have no {name}",
                    where=where,
                    cure=f"every row needs {name}; look at the query or the stage that made these rows",
                )
        batch = batch.select(schema.names).cast(schema)
        for column, keys in (allowed or {}).items():
            strangers = set(batch.column(column).unique().to_pylist()) - keys
            if strangers:
                raise DataError(
                    f"rows of {_shown(strangers)} in a write of {_shown(keys)}",
                    where=where,
                    cure=f"a write replaces whole values of {column}: give it those rows alone",
                )
        for start in range(0, batch.num_rows, WRITTEN_TOGETHER):
            yield batch.slice(start, WRITTEN_TOGETHER)


def _shown(keys: set[str]) -> str:
    """
    >>> _shown({"natural"}), _shown({"2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"})
    ('natural', '2024-01-01 to 2024-01-04 (4)')
    """
    return ", ".join(sorted(keys)) if len(keys) <= 3 else f"{min(keys)} to {max(keys)} ({len(keys)})"


def _noting(faults: list[EvergreenError], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Keep our own errors: Delta's writer, in Rust, only passes their text on."""
    try:
        yield from batches
    except EvergreenError as error:
        faults.append(error)
        raise


@contextmanager
def _own_faults(faults: list[EvergreenError]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if faults:
            raise faults[0] from error
        raise
