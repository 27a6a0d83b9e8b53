"""A Delta table in a folder, opened once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from pipelines.errors import TransientError
from pipelines.sql import is_among, literal
from pipelines.store.rows import TIME, dataset_of

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ROW_GROUP_ROWS = 32_768  # a writer holds one for each partition: Delta's default, a million, fills the memory
MOST_FILES = 64  # of a partition to which rows are appended
CHECKPOINT_EVERY = 10  # commits; a reader fetches every commit since the last checkpoint
LARGE_COMMIT = 2**18  # bytes, of some 500 files: a reader takes them from a checkpoint in half the time
PROPERTIES = WriterProperties(max_row_group_size=ROW_GROUP_ROWS)
SMALL = WriterProperties(max_row_group_size=ROW_GROUP_ROWS, compression="ZSTD")  # of rows that are kept for good
ALONE = CommitProperties(max_commit_retries=0)  # fails if anybody has committed since
# Of each file the log tells what `dataset_of` passes it over by, and no more: who opens a table reads all of it.
SETTINGS = {"delta.checkpointInterval": str(CHECKPOINT_EVERY), "delta.dataSkippingStatsColumns": TIME}

log = logging.getLogger(__name__)


class WriteOptions(TypedDict, total=False):
    """Of deltalake's `write_deltalake`."""

    mode: Literal["append", "overwrite"]
    schema_mode: Literal["merge", "overwrite"]
    predicate: str
    commit_properties: CommitProperties
    writer_properties: WriterProperties


class Table:
    """A table as it was when it was opened, or last refreshed, or as the last write through this object has left it."""

    # A version that somebody has pinned stays readable, however old it is.
    _hooks = PostCommitHookProperties(cleanup_expired_logs=False)

    def __init__(self, uri: str, place: str | None = None) -> None:
        self.uri = uri
        self._place = place or uri  # where Delta reads and writes
        self._versions: dict[int, DeltaTable] = {}
        self._datasets: dict[int, ds.Dataset] = {}
        self._keys: dict[tuple[int, str], dict[str, int]] = {}
        self._handle: DeltaTable | None = None
        self._handle = self._open()

    @property
    def version(self) -> int | None:
        """None when nobody has written it yet."""
        return self._handle.version() if self._handle else None

    def refresh(self) -> None:
        """Take in what others have written since."""
        if self._handle:
            self._handle.update_incremental()
        else:
            self._handle = self._open()

    def at(self, version: int | None = None) -> DeltaTable | None:
        """The newest known version, or that one, which is read once; None where it cannot be read any more."""
        if version is None or version == self.version:
            return self._handle
        if version not in self._versions:
            opened = self._open(version)
            if opened is None:
                return None
            self._versions[version] = opened
        return self._versions[version]

    def dataset(self, version: int | None = None) -> ds.Dataset | None:
        """Rows of a version; None where there is no such version."""
        handle = self.at(version)
        if handle is None:
            return None
        if handle.version() not in self._datasets:
            self._datasets[handle.version()] = dataset_of(handle, self._files(handle))
        return self._datasets[handle.version()]

    def keys(self, column: str, version: int | None = None) -> dict[str, int]:
        """How many files there are of each value, in order, of a column that the table is partitioned by; of none where
        there is no such version."""
        handle = self.at(version)
        if handle is None:
            return {}
        name = (handle.version(), column)
        if name not in self._keys:
            files = pa.table(handle.get_add_actions(flatten=True))
            values, counts = pc.value_counts(files[f"partition.{column}"]).flatten()
            self._keys[name] = dict(sorted(zip(map(str, values.to_pylist()), counts.to_pylist(), strict=True)))
        return self._keys[name]

    def rows(self, column: str) -> dict[str, int]:
        """How many rows there are of each value, in order, of a column that the table is partitioned by, as the log
        has it."""
        if self._handle is None:
            return {}
        files = pa.table(self._handle.get_add_actions(flatten=True))
        counted = files.group_by(f"partition.{column}").aggregate([("num_records", "sum")])
        values, counts = counted[f"partition.{column}"].to_pylist(), counted["num_records_sum"].to_pylist()
        return dict(sorted(zip(map(str, values), counts, strict=True)))

    def paths(self, column: str, version: int | None = None) -> dict[str, set[str]]:
        """The names of a version's files, by the value of a column that the table is partitioned by."""
        handle = self.at(version)
        by_value: dict[str, set[str]] = {}
        if handle is not None:
            files = pa.table(handle.get_add_actions(flatten=True)).select([f"partition.{column}", "path"])
            for value, path in zip(*(names.to_pylist() for names in files.columns), strict=True):
                by_value.setdefault(str(value), set()).add(path)
        return by_value

    def files(self, predicate: str) -> list[str]:
        """URIs of the files that hold the partitions that `predicate`, in SQL, chooses."""
        if self._handle is None:
            return []
        here = self._handle.table_uri.removeprefix("file://")
        paths = (
            file.removeprefix("file://").removeprefix(here)
            for file in self._handle.file_uris(file_pruning_predicate=predicate)
        )
        return sorted(f"{self._root(self._handle)}/{path}" for path in paths)

    def replace(self, rows: pa.RecordBatchReader, partition_by: Sequence[str], values: Mapping[str, set[str]]) -> int:
        """Write `rows` in place of those whose columns have these `values`, in one commit; gives its version.

        Raises:
            CommitFailedError: somebody has written such rows since the table was opened or refreshed.
        """
        options: WriteOptions = {"mode": "overwrite", "schema_mode": "merge", "predicate": _predicate(values)}
        self._write(rows, partition_by, options, values)
        version = self.version
        assert version is not None
        return version

    def append(self, rows: pa.Table, partition_by: Sequence[str]) -> None:
        """Write `rows` beside those that are there. Where their partitions have come to many files, these become one:
        who reads a partition opens them all.

        Raises:
            CommitFailedError: somebody has written anything since the table was opened or refreshed.
        """
        column = partition_by[0]
        counts, values = self.keys(column), set(rows[column].to_pylist())
        there = self.dataset()
        if there is None or max(counts.get(value, 0) for value in values) < MOST_FILES:
            self._write(rows, partition_by, {"mode": "append", "commit_properties": ALONE})
            return
        kept = there.to_table(filter=is_among(column, values))
        both = pa.concat_tables([kept.select(rows.schema.names).cast(rows.schema), rows])
        options: WriteOptions = {
            "mode": "overwrite",
            "predicate": _predicate({column: values}),
            "commit_properties": ALONE,
        }
        self._write(both, partition_by, options)

    def position(self, reader: str) -> int | None:
        """How far a reader's rows have got, as `append_from` has noted it; None: nothing of it is there."""
        return self._handle.transaction_version(reader) if self._handle else None

    def append_from(self, rows: pa.Table, partition_by: Sequence[str], positions: Mapping[str, int]) -> None:
        """Write `rows` beside those that are there, and in the same commit how far each reader has got with them.

        Raises:
            CommitFailedError: somebody has committed anything since the table was opened or refreshed.
        """
        noted = [Transaction(reader, position) for reader, position in positions.items()]
        alone = CommitProperties(max_commit_retries=0, app_transactions=noted)
        options: WriteOptions = {"mode": "append", "commit_properties": alone, "writer_properties": SMALL}
        self._write(rows, partition_by, options)

    def _open(self, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self.uri, version=version)
        except TableNotFoundError:
            return None

    def _files(self, handle: DeltaTable) -> FileSystem:
        """Where the table's files lie, with its folder at the root."""
        return SubTreeFileSystem(self._root(handle), LocalFileSystem())

    def _root(self, handle: DeltaTable) -> str:
        """Where the table's files are read."""
        return unquote(handle.table_uri.removeprefix("file://")).rstrip("/")

    def _write(
        self,
        rows: pa.Table | pa.RecordBatchReader,
        partition_by: Sequence[str],
        options: WriteOptions,
        replaced: Mapping[str, set[str]] | None = None,
    ) -> None:
        """`replaced`: values of columns, of which rows the write rests on what was known; None: on all rows."""
        before = self.version
        self._commit(rows, partition_by, options)
        version = self.version
        assert version is not None
        if version != before and not is_checkpoint_due(version):  # Delta has made that one itself
            assert self._handle is not None
            commit = Path(self._root(self._handle)) / "_delta_log" / f"{version:020}.json"
            if commit.stat().st_size > LARGE_COMMIT:
                self._try_checkpoint(version)

    def _commit(
        self, rows: pa.Table | pa.RecordBatchReader, partition_by: Sequence[str], options: WriteOptions
    ) -> None:
        """Write the next version as Delta does."""
        if self._handle is None:
            self._create(rows, partition_by, options)
            return
        all_options: WriteOptions = {"writer_properties": PROPERTIES, **options}
        write_deltalake(
            self._handle,
            rows,
            partition_by=list(partition_by),
            post_commithook_properties=self._hooks,
            **all_options,
        )

    def _try_checkpoint(self, version: int) -> None:
        """Where it fails the rows are in all the same: readers fetch some more commits, until the next checkpoint."""
        try:
            self._write_checkpoint(version)
        except (DeltaError, OSError, TransientError) as error:
            log.warning("no checkpoint of version %s of %s was written: %s", version, self.uri, error)

    def _write_checkpoint(self, version: int) -> None:
        """Of the version that is open."""
        assert self._handle is not None
        self._handle.create_checkpoint()

    def _create(
        self, rows: pa.Table | pa.RecordBatchReader, partition_by: Sequence[str], options: WriteOptions
    ) -> None:
        """Write the first version. Delta, asked to append or overwrite, would do so to what others have made since."""
        try:
            write_deltalake(
                self._place,
                rows,
                partition_by=list(partition_by),
                mode="error",
                writer_properties=options.get("writer_properties", PROPERTIES),
                configuration=SETTINGS,
                commit_properties=options.get("commit_properties", ALONE),
                post_commithook_properties=self._hooks,
            )
        except DeltaError as error:
            if DeltaTable.is_deltatable(self._place):
                raise CommitFailedError(f"another writer has made {self.uri}") from error
            raise
        self._handle = DeltaTable(self._place, version=0)


def is_checkpoint_due(version: int) -> bool:
    """Whether Delta makes a checkpoint of this version, however small its commit is."""
    return (version + 1) % CHECKPOINT_EVERY == 0


def _predicate(values: Mapping[str, set[str]]) -> str:
    """SQL for the rows whose columns have these values."""
    return " AND ".join(
        "(" + " OR ".join(f"{column} = {literal(value)}" for value in sorted(among)) + ")"
        for column, among in values.items()
    )
