"""Parquet files and Delta tables, scanned where they lie: nothing is copied, and conditions reach the files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.config import Source
from pipelines.errors import DataError
from pipelines.ingest.sources.columnar import HEAD_ROWS, Part, check_parts, create_view, readable
from pipelines.ingest.sources.files import File, expand, locate, place, reading, store_fault
from pipelines.ingest.sources.window import Window
from pipelines.problem import Problem
from pipelines.sql import connection, literal, quote
from pipelines.store.reading import unlocked


def open_parquet(
    database: duckdb.DuckDBPyConnection, name: str, source: Source, files: list[File], window: Window
) -> int | None:
    """A view of Parquet files; gives their rows, where that is known without a look at the time column.

    Raises:
        DataError: a file is truncated or no Parquet.
        SchemaError: a file's columns differ.
    """
    parts, rows = [], 0
    for file in files:
        part, count = _footer(file)
        parts.append(part)
        rows += count
    check_parts(name, source, parts)
    groups: dict[Any, tuple[pa.Schema, list[File]]] = {}
    for part, file in zip(parts, files, strict=True):
        groups.setdefault(part.shape, (part.schema, []))[1].append(file)
    relations = [
        _scan(database, f"evergreen: {name} {index}", together, schema)
        for index, (schema, together) in enumerate(groups.values())
    ]
    create_view(database, name, source, relations, window)
    return None if window.column else rows


def _footer(file: File) -> tuple[Part, int]:
    import pyarrow.parquet as pq

    with _parquet(file.name), file.system.open_input_file(file.path) as stream:
        metadata = pq.read_metadata(stream)
        schema = metadata.schema.to_arrow_schema()
    return Part(file.name, schema, lambda: _head(file)), metadata.num_rows


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
        except pa.ArrowInvalid as error:
            raise DataError(
                f"truncated, corrupt or no Parquet: {str(error).splitlines()[0]}",
                where=name,
                cure="copy the file again from where it comes, or declare the source's format",
            ) from error


# Delta ---------------------------------------------------------------------------------------------------


def open_delta(
    database: duckdb.DuckDBPyConnection, problem: Problem, name: str, source: Source, window: Window
) -> tuple[int | None, list[File]]:
    """A view of the newest version of a Delta table; gives its rows (None: to be counted) and its files.

    Raises:
        DataError: there is no table, or one that needs what this reader does not know.
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
    with _delta(uri):
        return (None if window.column else dataset.count_rows()), files


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
                    f"corrupt: {str(error).splitlines()[0]}",
                    where=file.name,
                    cure="copy the file again from where it comes",
                ) from error
