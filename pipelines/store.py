"""The only module that touches S3 or disk: Delta tables, Arrow files on their way between tasks, and small files.

`EVERGREEN_STORE_URI` says where (`s3://bucket/prefix` or `file:///folder`); the standard `AWS_*` variables say how.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.artifacts import TABLES, TableName, table_schema
from pipelines.errors import AccessError, ConfigError, DataError, EvergreenError, ServiceUnavailable, TransientError

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from pyarrow.fs import FileSystem

    from pipelines.problem import Problem

APPEND_TRIES = 20
STATUS = re.compile(r"(?<![\d.])\d{3}(?![\d.]*\d)")  # of HTTP; "after 2.140122 s" says nothing of a 401
STAGED_FILE_ROWS = 500_000
ROW_GROUP_ROWS = 32_768  # a writer holds one for each partition: Delta's default, a million, fills the memory
# A reader fetches every commit since the last checkpoint, one small object each.
TABLE_SETTINGS = {"delta.checkpointInterval": "10"}


def store_uri(*parts: str) -> str:
    """URI of something in the store; raises ConfigError when no store is configured."""
    root = os.environ.get("EVERGREEN_STORE_URI", "").rstrip("/")
    if not root.startswith(("s3://", "file:///")):
        raise ConfigError(
            f"EVERGREEN_STORE_URI is {root!r}" if root else "EVERGREEN_STORE_URI is not set",
            where="environment",
            cure="set it to s3://bucket/prefix or file:///folder, or start the embedded store with `evergreen up`",
        )
    return "/".join([root, *parts])


def table_uri(problem: Problem, name: TableName) -> str:
    """`features` keeps one table per feature set version, since their columns differ."""
    return store_uri(problem.name, name, *([problem.feature_set] if name == "features" else []))


def storage_options() -> dict[str, str]:
    """What Delta needs beside the AWS_* variables that it reads by itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if not store_uri().startswith("s3://"):
        return {}
    options = {"aws_conditional_put": "etag"}
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
    if endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


# Tables -------------------------------------------------------------------------------------------------


def table_version(problem: Problem, name: TableName) -> int | None:
    """Newest version of a table; None when nobody has written it yet."""
    table = _table(problem, name)
    return None if table is None else table.version()


def dataset(problem: Problem, name: TableName, version: int | None = None) -> ds.Dataset:
    """A table as an Arrow dataset (lazy; filters reach the files); empty when nobody has written it yet.

    Its columns are the contract's: those that were declared since an old row was written are null there.
    """
    import pyarrow.dataset as ds

    table, schema = _table(problem, name, version), table_schema(problem, name)
    if table is None and version is not None:
        raise DataError(
            f"version {version} of {name} cannot be read any more: its log is gone",
            where=table_uri(problem, name),
            cure="keep the table's log as long as you want to make models again",
        )
    if table is None:
        return ds.dataset(schema.empty_table())
    with _explained(table_uri(problem, name)):
        return _bounded(table.to_pyarrow_dataset().replace_schema(schema))


def partition_keys(problem: Problem, name: TableName, version: int | None = None) -> list[str]:
    """Partition keys that a table holds rows of, sorted; read from the table's log alone."""
    table = _table(problem, name, version)
    if table is None:
        return []
    column = TABLES[name].partition_by
    with _explained(table_uri(problem, name)):
        return sorted({str(values[column]) for values in table.partitions()})


def partition_files(problem: Problem, name: TableName, key: str) -> list[str]:
    """URIs of the Parquet files that hold one partition now: for readers that know no Delta."""
    table = _table(problem, name)
    with _explained(table_uri(problem, name)):
        return sorted(table.file_uris(file_pruning_predicate=f"{TABLES[name].partition_by} = '{key}'")) if table else []


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
    """
    from deltalake import WriterProperties, write_deltalake

    table = TABLES[name]
    uri, column = table_uri(problem, name), table.partition_by
    schema = table_schema(problem, name)
    allowed = {column: set(keys)} | ({table.within: {within}} if table.within and within else {})
    faults: list[EvergreenError] = []
    checked = pa.RecordBatchReader.from_batches(
        schema, _noting(faults, _checked(rows, schema, where=uri, allowed=allowed))
    )
    exists = _table(problem, name) is not None
    predicate = " AND ".join(
        "(" + " OR ".join(f"{one} = '{value}'" for value in sorted(values)) + ")" for one, values in allowed.items()
    )
    with _explained(uri), _own_faults(faults):
        write_deltalake(
            uri,
            checked,
            mode="overwrite",
            schema_mode="merge",
            predicate=predicate if exists else None,
            partition_by=[column, *([table.within] if table.within else [])],
            writer_properties=WriterProperties(max_row_group_size=ROW_GROUP_ROWS),
            configuration=None if exists else TABLE_SETTINGS,
            storage_options=storage_options(),
        )
    version = table_version(problem, name)
    assert version is not None
    return version


def append_once(problem: Problem, name: TableName, rows: pa.Table, key: str) -> bool:
    """Append rows whose `key` the table does not hold yet; whether any was new. Safe to repeat.

    Raises:
        TransientError: other writers came first, each time it was tried.
    """
    uri, schema = table_uri(problem, name), table_schema(problem, name)
    rows = pa.Table.from_batches(_checked(rows, schema, where=uri), schema=schema)
    for left in reversed(range(APPEND_TRIES)):
        try:
            return _append_once(uri, rows, key, TABLES[name].partition_by)
        except TransientError:
            if not left:
                raise
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - spreads writers, hides nothing
    raise AssertionError("unreachable")


def _append_once(uri: str, rows: pa.Table, key: str, partition_by: str) -> bool:
    from deltalake import DeltaTable

    with _explained(uri):
        table = DeltaTable.create(
            uri,
            schema=rows.schema,
            mode="ignore",
            partition_by=[partition_by],
            configuration=TABLE_SETTINGS,
            storage_options=storage_options(),
        )
        merged = (
            table.merge(rows, f"old.{key} = new.{key}", source_alias="new", target_alias="old")
            .when_not_matched_insert_all()
            .execute()
        )
    return bool(merged["num_target_rows_inserted"])


def _table(problem: Problem, name: TableName, version: int | None = None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    uri = table_uri(problem, name)
    with _explained(uri):
        try:
            return DeltaTable(uri, version=version, storage_options=storage_options())
        except TableNotFoundError:
            return None


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
        yield batch


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


# Files --------------------------------------------------------------------------------------------------


def read_bytes(uri: str) -> bytes:
    """Raises DataError when nothing is there."""
    system, path = _locate(uri)
    with _explained(uri), system.open_input_file(path) as stream:
        return bytes(stream.readall())


def write_bytes(uri: str, content: bytes) -> str:
    """Whole or not at all on S3; gives the URI back."""
    system, path = _locate(uri)
    with _explained(uri):
        _make_parent(system, path)
        with system.open_output_stream(path, compression=None) as stream:  # as it is, whatever its name ends in
            stream.write(content)
    return uri


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def write_json(uri: str, value: Any) -> str:
    return write_bytes(uri, json.dumps(value, indent=1, sort_keys=True).encode())


def exists(uri: str) -> bool:
    from pyarrow.fs import FileType

    system, path = _locate(uri)
    with _explained(uri):
        return bool(system.get_file_info(path).type != FileType.NotFound)


def delete(uri: str) -> None:
    """Delete a file or a whole folder; nothing there is fine."""
    from pyarrow.fs import FileType

    system, path = _locate(uri)
    with _explained(uri):
        match system.get_file_info(path).type:
            case FileType.Directory:
                system.delete_dir(path)
            case FileType.File:
                system.delete_file(path)


def stage(uri: str, rows: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Stream rows into Arrow files below `uri`; gives how many rows. A repeated call replaces them.

    Arrow's own format, compressed: between two tasks rows are written once and read a few times, and Parquet costs
    several times as much to decode (`python -m benchmarks.etl`). Several files, since whoever reads one keeps it in
    memory until its end.
    """
    delete(uri)
    system, path = _locate(uri)
    batches = iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    count, part, is_over = 0, 0, False
    with _explained(uri):
        while not is_over:
            name = f"{path}/{part:05}.arrow"
            _make_parent(system, name)
            with system.open_output_stream(name) as stream, pa.ipc.new_file(stream, schema, options=options) as writer:
                end = count + STAGED_FILE_ROWS
                while count < end and not is_over:
                    batch = next(batches, None)
                    is_over = batch is None
                    if batch is not None:
                        writer.write_batch(batch.cast(schema))
                        count += batch.num_rows
            part += 1
    return count


def staged(*uris: str) -> ds.Dataset:
    """Staged rows as one dataset, in the order in which they were staged."""
    import pyarrow.dataset as ds
    from pyarrow.fs import FileSelector

    with _explained(uris[0]):
        system = _locate(uris[0])[0]
        files = [sorted(one.path for one in system.get_file_info(FileSelector(_locate(uri)[1]))) for uri in uris]
        return _bounded(ds.dataset([name for names in files for name in names], filesystem=system, format="ipc"))


def _bounded(rows: ds.Dataset) -> ds.Dataset:
    """The same rows, of which whoever scans them, DuckDB too, reads little ahead.

    Left alone, Arrow's threads fill gigabytes while whoever reads is busy. On disk there is no need to read ahead at
    all; an object store lets one wait for each request.
    """
    import pyarrow.dataset as ds

    is_far = store_uri().startswith("s3://")
    bounds = {"batch_readahead": 4 if is_far else 1, "fragment_readahead": 4 if is_far else 1, "use_threads": is_far}

    class Bounded(ds.UnionDataset):  # type: ignore[misc]
        def scanner(self, **options: Any) -> ds.Scanner:
            return super().scanner(**{**options, **bounds})

    return Bounded(rows.schema, [rows])


def finish(staging: str, result: dict[str, Any]) -> dict[str, Any]:
    """Note a stage's result beside its staging folder, then delete the folder; gives the result back."""
    write_json(f"{staging}.done.json", result)
    delete(staging)
    return result


def finished(staging: str) -> dict[str, Any] | None:
    """The result that `finish` noted, for the retry of a stage that died after its last write."""
    if exists(staging) or not exists(f"{staging}.done.json"):
        return None
    noted: dict[str, Any] = read_json(f"{staging}.done.json")
    return noted


def begin(staging: str) -> None:
    """Clear what an earlier run has left in a staging folder, and its note."""
    delete(staging)
    delete(f"{staging}.done.json")


def _locate(uri: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import LocalFileSystem, S3FileSystem

    if uri.startswith("file://"):
        return LocalFileSystem(), uri.removeprefix("file://")
    scheme, _, endpoint = os.environ.get("AWS_ENDPOINT_URL", "").rpartition("://")
    return S3FileSystem(
        endpoint_override=endpoint or None,
        scheme=scheme or "https",
        region=os.environ.get("AWS_REGION", "us-east-1"),
        connect_timeout=10,
    ), uri.removeprefix("s3://")


def _make_parent(system: FileSystem, path: str) -> None:
    from pyarrow.fs import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        system.create_dir(path.rpartition("/")[0], recursive=True)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what pyarrow and Delta raise into an error that says what, where and what next."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except EvergreenError:
        raise
    except FileNotFoundError as error:
        raise DataError("there is nothing at this address", where=uri, cure="run the stage that writes it") from error
    except CommitFailedError as error:
        raise TransientError("another writer changed the table meanwhile", where=uri, cure="try again") from error
    except (DeltaError, OSError) as error:
        text = str(error)
        status = set(STATUS.findall(text))
        if status & {"401", "403"} or any(
            word in text
            for word in (
                "ACCESS_DENIED",
                "AccessDenied",
                "SignatureDoesNotMatch",
                "InvalidAccessKey",
                "Forbidden",
                "Unauthorized",
            )
        ):
            raise AccessError(
                "the store refused the credentials", where=uri, cure="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        if any(word in text for word in ("NoSuchBucket", "NO_SUCH_BUCKET", "bucket does not exist")):
            raise ConfigError(
                "the bucket does not exist", where=uri, cure="create it, or correct EVERGREEN_STORE_URI"
            ) from error
        if "507" in status or any(word in text for word in ("No space left", "ENOSPC")):
            raise DataError("the disk is full", where=uri, cure="free some space and run again") from error
        if status & {"500", "503"} or any(
            word in text
            for word in (
                "NETWORK_CONNECTION",
                "onnect",
                "timed out",
                "timeout",
                "error sending request",
                "SLOW_DOWN",
            )
        ):
            raise ServiceUnavailable(
                "the store does not answer",
                where=f"{uri} at {os.environ.get('AWS_ENDPOINT_URL', 'AWS')}",
                cure="is it running? `evergreen up` starts the embedded one",
            ) from error
        raise DataError(
            f"the store failed: {text.splitlines()[0]}", where=uri, cure="look at the store's own log"
        ) from error
