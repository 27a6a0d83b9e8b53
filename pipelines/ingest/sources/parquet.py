"""Parquet files and Delta tables, scanned where they lie: nothing is copied, and conditions reach the files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.config import Source
from pipelines.errors import DataError
from pipelines.ingest.sources.columnar import (
    ELEMENT_BYTES,
    HEAD_ROWS,
    Lengths,
    Part,
    check_parts,
    create_view,
    lengths,
    readable,
    types_of,
)
from pipelines.ingest.sources.columns import check_count
from pipelines.ingest.sources.files import (
    SHOWN_CHARACTERS,
    File,
    expand,
    locate,
    place,
    reading,
    store_fault,
    too_large,
)
from pipelines.ingest.sources.limits import (
    LONG_ROW_BYTES,
    MANY_GROUPS,
    MAX_RECORD_BYTES,
    MOST_EXPANSION,
    SMALL_GROUP_ROWS,
    UNPACKED_BYTES,
)
from pipelines.ingest.sources.pages import pages
from pipelines.ingest.sources.typed import GROUP_BYTES, MAX_GROUP_ROWS
from pipelines.ingest.sources.window import Window
from pipelines.problem import Problem
from pipelines.sql import connection, literal, quote
from pipelines.store.reading import unlocked


def open_parquet(
    database: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    files: list[File],
    window: Window,
    folder: Path,
    *,
    head: bool,
) -> tuple[int | None, int, list[Any]]:
    """A view of Parquet files; gives their rows, where that is known without a look at the time column, how many
    bytes of texts and lists a row has at most, where they lie on this machine, and the files' footers.

    Files on this machine whose rows are long, or that are cut into thousands of small groups, land in `folder`, as many
    rows at a time as a query holds well.

    Raises:
        DataError: a file is truncated or no Parquet.
        SchemaError: a file's columns differ.
    """
    from pyarrow.fs import LocalFileSystem

    parts, footers, rows, is_cut_up = [], [], 0, False
    for file in files:
        part, metadata = _footer(file)
        _check_lists(metadata, set(source.columns), file)
        check_count(part.schema.names, source, file.name)
        parts.append(part)
        footers.append(metadata)
        rows += metadata.num_rows
        is_cut_up |= MANY_GROUPS < metadata.num_row_groups > metadata.num_rows // SMALL_GROUP_ROWS
    check_parts(name, source, parts)
    groups: dict[Any, tuple[pa.Schema, list[File]]] = {}
    for part, file in zip(parts, files, strict=True):
        groups.setdefault(part.shape, (part.schema, []))[1].append(file)
    relations = [
        _scan(database, f"evergreen: {name} {index}", together, schema)
        for index, (schema, together) in enumerate(groups.values())
    ]
    create_view(database, name, source, relations, window)
    row_bytes = 0
    if not head and isinstance(files[0].system, LocalFileSystem):
        wanted = ", ".join(map(quote, source.columns or parts[0].schema.names))
        for relation in relations:  # not of the view: of it DuckDB would write out each row's text
            within = _within(database, relation, window)
            lengths_of = lengths(database, f"(SELECT {wanted} FROM {relation} WHERE {within})")
            row_bytes = max(row_bytes, sum(length.longest for length in lengths_of.values()))
            _check_lengths(name, lengths_of, files)
        if row_bytes > LONG_ROW_BYTES or is_cut_up:
            database.execute(f"DROP VIEW {quote(name)}")
            relations = [
                _in_small_groups(file, part.schema, source, folder / f"{name}-{index}.parquet", row_bytes)
                for index, (file, part) in enumerate(zip(files, parts, strict=True))
            ]
            create_view(database, name, source, relations, window)
    return None if window.column else rows, row_bytes, footers


def _within(database: duckdb.DuckDBPyConnection, relation: str, window: Window) -> str:
    """SQL condition: a relation's rows that are read."""
    return window.condition(types_of(database, relation)[window.column]) if window.column else "true"


def _check_lengths(name: str, lengths_of: Mapping[str, Lengths], files: Sequence[File]) -> None:
    """Raise DataError where a column has values longer than a row may be, or that few bytes stand for too many."""
    where = files[0].name if len(files) == 1 else f"source {name}: {files[0].name} and {len(files) - 1} more files"
    size = sum(file.size for file in files)
    for column, length in lengths_of.items():
        if length.longest > MAX_RECORD_BYTES:
            raise _too_long_a_value(column, length.longest, where)
        if length.longest > LONG_ROW_BYTES and length.all > max(UNPACKED_BYTES, MOST_EXPANSION * size):
            raise DataError(
                f"{column[:SHOWN_CHARACTERS]}: {size:,} bytes stand for texts of {length.all:,}, over "
                f"{MOST_EXPANSION} times as much",
                where=where,
                cure="copy the file again from where it comes; if it is whole, leave the column out of the source's "
                "columns, with extra_columns: ignore",
            )


def _in_small_groups(file: File, schema: pa.Schema, source: Source, path: Path, row_bytes: int) -> str:
    """Copy the wanted columns of a file, a few rows at a time; gives SQL that reads them."""
    import pyarrow.parquet as pq

    names = [column for column in schema.names if not source.columns or column in source.columns]
    rows = max(1, min(MAX_GROUP_ROWS, GROUP_BYTES // max(1, row_bytes)))
    with _parquet(file.name), file.system.open_input_file(file.path) as stream:
        batches = pq.ParquetFile(stream).iter_batches(rows, columns=names)
        with pq.ParquetWriter(path, pa.schema([schema.field(name) for name in names]), compression="lz4") as writer:
            for batch in batches:
                writer.write_batch(batch)
    return f"read_parquet({literal(str(path))})"


def _footer(file: File) -> tuple[Part, Any]:
    import pyarrow.parquet as pq

    with _parquet(file.name), file.system.open_input_file(file.path) as stream:
        metadata = pq.read_metadata(stream)
        _check_expansion(metadata, file)
        schema = metadata.schema.to_arrow_schema()
    return Part(file.name, schema, lambda: _head(file)), metadata


def _check_expansion(metadata: Any, file: File) -> None:
    """Raise DataError where a column unpacks to more than its size in the file lets one believe."""
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if 0 <= group.total_byte_size <= UNPACKED_BYTES:
            continue
        for number in range(group.num_columns):
            column = group.column(number)
            packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
            if unpacked > max(UNPACKED_BYTES, MOST_EXPANSION * packed) or min(packed, unpacked) < 0:
                raise _expands(column.path_in_schema, packed, unpacked, file)


def _check_lists(metadata: Any, wanted: set[str], file: File) -> None:
    """Raise DataError where a column has more values for each row than a row may have bytes: a query would hold
    thousands of such rows to see how long they are."""
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        rows = max(1, group.num_rows)
        most = rows * MAX_RECORD_BYTES // ELEMENT_BYTES
        for number in range(group.num_columns):
            column = group.column(number)
            if column.num_values > most and (not wanted or column.path_in_schema.partition(".")[0] in wanted):
                raise _too_long_a_value(column.path_in_schema, ELEMENT_BYTES * column.num_values // rows, file.name)


def _too_long_a_value(column: str, size: int, where: str) -> DataError:
    return DataError(
        f"{column[:SHOWN_CHARACTERS]}: a value of {size:,} bytes, and at most {MAX_RECORD_BYTES >> 20} MB are read",
        where=where,
        cure="write it in parts, or leave the column out of the source's columns, with extra_columns: ignore",
    )


def _check_page_headers(metadata: Any, file: File) -> None:
    """As `_check_expansion`, by what the pages say of themselves: Arrow believes them, whatever the footer says."""
    with _parquet(file.name), file.system.open_input_file(file.path) as stream:
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            for number in range(group.num_columns):
                column = group.column(number)
                if column.compression == "UNCOMPRESSED":
                    continue  # a page is as long as it lies there
                start = column.dictionary_page_offset or column.data_page_offset
                packed, unpacked = column.total_compressed_size, 0
                for page in pages(stream, start, start + packed):
                    unpacked += page.unpacked
                    if unpacked > max(UNPACKED_BYTES, MOST_EXPANSION * packed):
                        raise _expands(column.path_in_schema, packed, unpacked, file)


def _expands(column: str, packed: int, unpacked: int, file: File) -> DataError:
    return DataError(
        f"{column[:SHOWN_CHARACTERS]}: {packed:,} bytes unpack to {unpacked:,}, over {MOST_EXPANSION} times as much",
        where=file.name,
        cure="copy the file again from where it comes; if it is whole, write it in smaller row groups",
    )


def _head(file: File) -> pa.Table:
    import pyarrow.parquet as pq

    with _parquet(file.name), file.system.open_input_file(file.path) as stream:
        batch = next(pq.ParquetFile(stream).iter_batches(HEAD_ROWS), None)
        return pa.Table.from_batches([batch] if batch is not None else [], None if batch is not None else pa.schema([]))


def _scan(database: duckdb.DuckDBPyConnection, label: str, files: list[File], schema: pa.Schema) -> str:
    """SQL that reads files of one schema: DuckDB's own reader on disk, Arrow's elsewhere, and for durations.

    A duration is a plain integer in a Parquet file: only Arrow knows of what.
    """
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    has_durations = any(pa.types.is_duration(kind) for kind in schema.types)
    if isinstance(files[0].system, LocalFileSystem) and not has_durations:
        paths = ", ".join(literal(_unglobbed(file.path)) for file in files)
        return f"read_parquet([{paths}], hive_partitioning = false)"
    fragments = [_streaming().make_fragment(file.path, filesystem=file.system) for file in files]
    database.register(label, unlocked(ds.FileSystemDataset(fragments, readable(schema), _streaming(), files[0].system)))
    return quote(label)


def _unglobbed(path: str) -> str:
    """A path in which the characters of a glob stand for themselves."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _streaming() -> Any:
    """Parquet read through a small buffer: without it Arrow fetches whole row groups ahead, a gigabyte of them."""
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


@contextmanager
def _parquet(name: str) -> Iterator[None]:
    with reading(name):
        try:
            yield
        except pa.ArrowMemoryError as error:
            raise too_large(name) from error
        except pa.ArrowException as error:
            raise DataError(
                f"truncated, corrupt or no Parquet: {str(error).splitlines()[0][:SHOWN_CHARACTERS]}",
                where=name,
                cure="copy the file again from where it comes, or declare the source's format",
            ) from error


# Delta ---------------------------------------------------------------------------------------------------


def open_delta(
    database: duckdb.DuckDBPyConnection, problem: Problem, name: str, source: Source, window: Window, *, head: bool
) -> tuple[int | None, list[File], list[Any]]:
    """A view of the newest version of a Delta table; gives its rows (None: to be counted), its files and the footers of
    those that were opened.

    Raises:
        DataError: there is no table, or one that needs what this reader does not know, or a file is corrupt.
        SchemaError: its columns differ.
    """
    import pyarrow.dataset as ds

    uri = delta_uri(problem, name, source)
    with _delta(uri):
        dataset = _delta_table(uri).to_pyarrow_dataset()
    part = Part(uri, dataset.schema, lambda: _delta_head(uri, dataset))
    check_parts(name, source, [part])
    parquet = _streaming()
    fragments = [
        parquet.make_fragment(
            fragment.path, filesystem=fragment.filesystem, partition_expression=fragment.partition_expression
        )
        for fragment in dataset.get_fragments()
    ]
    label = f"evergreen: {name}"
    database.register(label, unlocked(ds.FileSystemDataset(fragments, dataset.schema, parquet, dataset.filesystem)))
    create_view(database, name, source, [quote(label)], window)
    files = [File(dataset.filesystem, fragment.path, f"{uri}/{fragment.path}", -1) for fragment in fragments]
    footers = []
    if not head and (window.column is None or not uri.startswith("s3://")):  # far files that are skipped stay unopened
        for fragment, file in zip(fragments, files, strict=True):
            with _parquet(file.name):
                footers.append(fragment.metadata)
                _check_expansion(fragment.metadata, file)
                _check_lists(fragment.metadata, set(source.columns), file)
                if not uri.startswith("s3://"):  # where each page would be a request
                    _check_page_headers(fragment.metadata, file)
    with _delta(uri):
        return (None if window.column else dataset.count_rows()), files, footers


def delta_uri(problem: Problem, name: str, source: Source) -> str:
    path = expand(source.path or "", place(problem, name))
    system_path = locate(path, problem.folder)[1] if not path.startswith("s3://") else path
    return system_path.rstrip("/")


def _delta_table(uri: str) -> Any:
    from deltalake import DeltaTable

    options = {}
    if uri.startswith("s3://") and (endpoint := os.environ.get("AWS_ENDPOINT_URL")):
        options = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower()}
    return DeltaTable(uri, storage_options=options)


def _delta_head(uri: str, dataset: Any) -> pa.Table:
    with _delta(uri):
        return dataset.head(HEAD_ROWS)


@contextmanager
def _delta(uri: str) -> Iterator[None]:
    from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

    with reading(uri):
        try:
            yield
        except TableNotFoundError as error:
            raise DataError("there is no Delta table", where=uri, cure="correct the source's path") from error
        except DeltaProtocolError as error:
            raise DataError(
                f"a Delta table that cannot be read: {error}",
                where=uri,
                cure="write it without that feature (deletion vectors, column mapping)",
            ) from error
        except (DeltaError, pa.ArrowInvalid) as error:
            raise store_fault(str(error), uri) from error


# Corrupt pages ---------------------------------------------------------------------------------------------


def check_pages(files: Iterable[File]) -> None:
    """Read files from end to end, and raise DataError for the first that is corrupt.

    A footer does not tell that the pages below it can be read: this is asked only once a scan has failed.
    """
    for file in files:
        part, _ = _footer(file)
        with connection({}) as database:
            try:
                rows = database.sql(f"FROM {_scan(database, 'evergreen: file', [file], part.schema)}").to_arrow_reader()
                for _ in rows:
                    pass
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise DataError(
                    f"corrupt: {str(error).splitlines()[0][:SHOWN_CHARACTERS]}",
                    where=file.name,
                    cure="copy the file again from where it comes",
                ) from error
