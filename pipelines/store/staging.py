"""Rows on their way from one task to the next, and how a stage that has staging begins and ends.

Arrow's own format, compressed: between two tasks rows are written once and read a few times, and Parquet costs several
times as much to decode (`python -m benchmarks.etl`). On S3 rows that fit into one small object are one, of a name that
whoever reads them knows; more lie in several files, since whoever reads one keeps it in memory until its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
from pydantic import BaseModel

from pipelines.errors import DataError
from pipelines.store import files, objects, traffic
from pipelines.store.address import is_far
from pipelines.store.explained import explained
from pipelines.store.reading import WHOLE_BYTES, bounded, bounded_on_disk

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from pyarrow.fs import FileSystem

FILE_ROWS, FILE_BYTES = 500_000, 64 << 20
ONLY_FILE = "only.arrow"
DONE = ".done.json"
Result = TypeVar("Result", bound=BaseModel)
FORMAT = pa.ipc.IpcWriteOptions(compression="lz4")


def stage(
    uri: str,
    rows: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    is_passed_on: bool = False,
) -> int:
    """Stream rows into Arrow files below `uri`; gives how many rows. A repeated call replaces them.

    `is_passed_on`: who asks for them has other processes read them. Of few rows on S3 `staged` gives what it has read
    itself, which cannot be handed to another process.
    """
    given = iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)
    batches = (batch.cast(schema) for batch in given)
    if is_passed_on or not is_far(uri):
        return _write_files(uri, batches, schema)
    first, small = _small(batches, schema)
    if small is None:
        return _write_files(uri, chain(first, batches), schema)
    files.write_bytes(f"{uri}/{ONLY_FILE}", small)
    return sum(batch.num_rows for batch in first)


def staged(*uris: str) -> ds.Dataset:
    """Staged rows as one dataset, in the order in which they were staged.

    Raises:
        DataError: nothing was staged there.
    """
    import pyarrow.dataset as ds

    parts = [part for uri in uris for part in _files(uri)]
    return bounded(parts[0] if len(parts) == 1 else ds.UnionDataset(parts[0].schema, parts))


def spilled(path: Path, rows: Iterable[pa.RecordBatch], schema: pa.Schema) -> ds.Dataset:
    """Rows in a file of this machine, for the time of one task: more of them than fit in memory."""
    import pyarrow.dataset as ds

    with explained(str(path)), pa.ipc.new_file(str(path), schema, options=FORMAT) as writer:
        for batch in rows:
            writer.write_batch(batch.cast(schema))
    return bounded_on_disk(ds.dataset(str(path), format="ipc"))


def begin(staging: str) -> None:
    """Clear what an earlier run has left in a staging folder, and its note."""
    files.delete_folder(staging, DONE)


def finish(staging: str, result: BaseModel) -> None:
    """Note a stage's result beside its staging folder, then delete the folder."""
    files.write_json(f"{staging}{DONE}", result.model_dump(mode="json"))
    files.delete_folder(staging)


def finished(staging: str, kind: type[Result]) -> Result | None:
    """The result that `finish` noted, for the retry of a stage that died after its last write."""
    noted = files.find_json(f"{staging}{DONE}")
    return None if noted is None or files.has_folder(staging) else kind.model_validate(noted)


def _small(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> tuple[list[pa.RecordBatch], bytes | None]:
    """The first batches, and the content of a file of them if they are all there are and it is small."""
    first, count, sink = [], 0, pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=FORMAT) as writer:
        for batch in batches:
            first.append(batch)
            writer.write_batch(batch)
            count += batch.num_rows
            if count > FILE_ROWS or sink.tell() > WHOLE_BYTES:
                return first, None
    return first, sink.getvalue().to_pybytes()


def _write_files(uri: str, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> int:
    files.delete_folder(uri)
    system, path = _located(uri)
    count, part, is_over = 0, 0, False
    with explained(uri):
        if not is_far(uri):
            system.create_dir(path, recursive=True)
        while not is_over:
            name = f"{path}/{part:05}.arrow"
            with system.open_output_stream(name) as stream:
                with pa.ipc.new_file(stream, schema, options=FORMAT) as writer:
                    end, size = count + FILE_ROWS, 0
                    while count < end and size < FILE_BYTES and not is_over:
                        batch = next(batches, None)
                        is_over = batch is None
                        if batch is not None:
                            writer.write_batch(batch)
                            count += batch.num_rows
                            size += batch.nbytes
                if is_far(uri):
                    traffic.count(requests=1, bytes_written=stream.tell())  # at least one request
            part += 1
    return count


def _files(uri: str) -> list[ds.Dataset]:
    import pyarrow.dataset as ds
    from pyarrow.fs import FileSelector

    small = files.find_bytes(f"{uri}/{ONLY_FILE}") if is_far(uri) else None
    if small is not None:
        form, buffer = ds.IpcFileFormat(), pa.BufferReader(small)
        return [ds.FileSystemDataset([form.make_fragment(buffer)], pa.ipc.open_file(small).schema, form)]
    system, path = _located(uri)
    with explained(uri):
        infos = system.get_file_info(FileSelector(path, allow_not_found=True))
        names = sorted(info.path for info in infos)
        if not names:
            raise DataError("nothing is staged here", where=uri, cure="clear the run from its first task on")
        if is_far(uri):  # a listing, and at least one request a file
            traffic.count(requests=1 + len(names), bytes_read=sum(info.size for info in infos))
        return [ds.dataset(names, filesystem=system, format="ipc")]


def _located(uri: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import LocalFileSystem

    if is_far(uri):
        return objects.file_system(), uri.removeprefix("s3://")
    return LocalFileSystem(), str(files.local(uri))
