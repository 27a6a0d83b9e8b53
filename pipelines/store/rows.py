"""The rows of a Delta table as an Arrow dataset that costs little, however many files and partitions there are."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import DeltaTable
    from numpy.typing import NDArray
    from pyarrow.fs import FileSystem

PLAIN_READER = 1  # protocol version of tables whose files are all there is to know
TIME = "event_time"
TIMES = pa.timestamp("us", "UTC")
ROUNDED_US = 1_000  # a table's log may have times without their microseconds
WIDTH = 8  # files, or groups, of a group


def dataset_of(table: DeltaTable, filesystem: FileSystem) -> ds.Dataset:
    """The rows of `table`, lazily; `filesystem` has the table's folder at its root.

    Delta's own `to_pyarrow_dataset` makes expressions of the statistics of all columns of each file, half a millisecond
    a file, and every scan simplifies them all. Here a file is known by its partition and by the span of its events'
    times, which is what stages choose by; what they ask of other columns is decided by the statistics within the files.
    """
    if table.protocol().min_reader_version != PLAIN_READER:
        return table.to_pyarrow_dataset(filesystem=filesystem)  # or it says which feature it cannot read
    return TableRows(pa.schema(table.schema().to_arrow()), Files(table, filesystem))


class Files:
    """The files of a table, of which only those are described that a scan may need.

    They lie in groups of neighbouring partitions, these in larger groups, and so on, each of up to eight: a filter
    chooses among the largest first, then among what lies within those. A day's scan of a table of 5,000 days looks at
    some 40 descriptions.
    """

    def __init__(self, table: DeltaTable, filesystem: FileSystem) -> None:
        self._schema = pa.schema(table.schema().to_arrow())
        self._filesystem = filesystem
        self._format = ds.ParquetFileFormat(
            default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True)
        )
        self._columns: list[str] = table.metadata().partition_columns
        files = pa.table(table.get_add_actions(flatten=True))
        order = [(f"partition.{column}", "ascending") for column in reversed(self._columns)]
        self._files = files.sort_by(order) if order else files
        self._first, self._last, self._has_span = self._spans()
        self._groups: dict[tuple[int, int], ds.Dataset] = {}
        self._fragments: dict[int, list[ds.Fragment]] = {}
        self._bounds = self._changes()
        self._size = WIDTH
        while self._size * WIDTH < files.num_rows:
            self._size *= WIDTH
        self._largest = self._described_groups(self._bounds, self._size)

    def fragments(self, schema: pa.Schema, wanted: pc.Expression | None = None) -> list[ds.Fragment]:
        """Those that may hold rows which `wanted`, about columns of `schema`, lets through."""
        return list(self._within(self._largest, self._size, schema, wanted))

    def dataset(self, schema: pa.Schema, wanted: pc.Expression | None = None) -> ds.Dataset:
        """Rows of these files, as far as `schema` has their columns: more than `wanted` lets through."""
        return ds.FileSystemDataset(
            self.fragments(schema, wanted), self._schema, self._format, self._filesystem
        ).replace_schema(schema)

    def _values(self, column: str) -> pa.ChunkedArray:
        return self._files[f"partition.{column}"]

    def _within(
        self, groups: ds.Dataset, size: int, schema: pa.Schema, wanted: pc.Expression | None
    ) -> Iterator[ds.Fragment]:
        """Files of those of the described groups, of `size` files each, that may hold wanted rows."""
        for group in groups.replace_schema(schema).get_fragments(filter=wanted):
            start, end = map(int, group.path.split("-"))
            if size == WIDTH:
                if start not in self._fragments:
                    self._fragments[start] = list(self._described(start, end))
                yield from self._fragments[start]
            else:
                yield from self._within(self._parts(start, end, size // WIDTH), size // WIDTH, schema, wanted)

    def _parts(self, start: int, end: int, size: int) -> ds.Dataset:
        """The groups of a group, described when they are first asked for."""
        if (start, size) not in self._groups:
            self._groups[start, size] = self._described_groups([start, end], size)
        return self._groups[start, size]

    def _changes(self) -> list[int]:
        """No group reaches over these: its files differ in the first column that the table is partitioned by alone."""
        count = self._files.num_rows
        is_new = np.zeros(count, bool)
        for column in self._columns[1:]:
            codes = self._values(column).combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
            is_new[1:] |= codes[1:] != codes[:-1]
        return [0, *np.flatnonzero(is_new).tolist(), count]

    def _described_groups(self, bounds: list[int], size: int) -> ds.Dataset:
        """A dataset with a fragment for each group of `size` files, named by the places of its first file and of that
        after its last. Nobody reads it: it finds groups."""
        described = []
        for start, end in _cut(bounds, size):
            holds = self._lies_within(start, end)
            for place, column in enumerate(self._columns):
                values = self._values(column)
                first, last = values[start], values[end - 1]  # nulls come last
                if first.equals(last):
                    holds &= self._is(column, first)
                elif not place and last.is_valid:
                    field, kind = pc.field(column), self._schema.field(column).type
                    holds &= (field >= first.cast(kind)) & (field <= last.cast(kind))
            name = f"{start}-{end}"
            described.append(self._format.make_fragment(name, self._filesystem, partition_expression=holds))
        return ds.FileSystemDataset(described, self._schema, self._format, self._filesystem)

    def _described(self, start: int, end: int) -> Iterator[ds.Fragment]:
        paths = self._files["path"].slice(start, end - start).to_pylist()
        values = [self._values(column).slice(start, end - start) for column in self._columns]
        for place, path in enumerate(paths):
            holds = self._lies_within(start + place, start + place + 1)
            for column, of_files in zip(self._columns, values, strict=True):
                holds &= self._is(column, of_files[place])
            yield self._format.make_fragment(unquote(path), self._filesystem, partition_expression=holds)

    def _is(self, column: str, value: pa.Scalar) -> pc.Expression:
        field = pc.field(column)
        return field == value.cast(self._schema.field(column).type) if value.is_valid else field.is_null()

    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """For each file between which moments (microseconds) its events lie, and whether that is known of all."""
        names = [f"{name}.{TIME}" for name in ("min", "max", "null_count")]
        count = self._files.num_rows
        if not set(names) <= set(self._files.column_names):
            return np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, bool)
        first, last, missing = (self._files[name] for name in names)
        is_known = pc.and_(pc.and_(first.is_valid(), last.is_valid()), pc.equal(missing, 0)).fill_null(False)
        moments = (bound.cast(TIMES).cast(pa.int64()).fill_null(0).to_numpy() for bound in (first, last))
        return *moments, is_known.to_numpy()

    def _lies_within(self, start: int, end: int) -> pc.Expression:
        """Between which times the events of these files lie, as far as that is known."""
        if not self._has_span[start:end].all():
            return pc.scalar(True)
        first = pa.scalar(int(self._first[start:end].min()), TIMES)
        last = pa.scalar(int(self._last[start:end].max()) + ROUNDED_US, TIMES)
        return (pc.field(TIME) >= first) & (pc.field(TIME) <= last)


def _cut(bounds: list[int], size: int) -> Iterator[tuple[int, int]]:
    """
    >>> list(_cut([0, 5, 7], 3))
    [(0, 3), (3, 5), (5, 7)]
    """
    for first, last in pairwise(bounds):
        for start in range(first, last, size):
            yield start, min(start + size, last)


class TableRows(ds.UnionDataset):  # type: ignore[misc]
    """A table's rows, of which a scan reads the files alone that `Files` finds for its filter."""

    def __init__(self, schema: pa.Schema, files: Files, wanted: pc.Expression | None = None) -> None:
        super().__init__(schema, [_unreadable(schema)])
        self._files = files
        self._wanted = wanted

    def filter(self, expression: pc.Expression) -> TableRows:
        return TableRows(self.schema, self._files, self._both(expression))

    def replace_schema(self, schema: pa.Schema) -> TableRows:
        return TableRows(schema, self._files, self._wanted)

    def get_fragments(self, filter: pc.Expression | None = None) -> Iterator[ds.Fragment]:
        wanted = self._both(filter)
        yield from self._files.dataset(self.schema, wanted).get_fragments(filter=wanted)

    def scanner(self, filter: pc.Expression | None = None, **options: Any) -> ds.Scanner:
        wanted = self._both(filter)
        return self._files.dataset(self.schema, wanted).scanner(filter=wanted, **options)

    def _both(self, expression: pc.Expression | None) -> pc.Expression | None:
        if expression is None or self._wanted is None:
            return self._wanted if expression is None else expression
        return self._wanted & expression


def _unreadable(schema: pa.Schema) -> ds.Dataset:
    """What code finds that scans a `TableRows` from without: an error, instead of no rows."""
    from pyarrow.fs import LocalFileSystem

    parquet, system = ds.ParquetFileFormat(), LocalFileSystem()
    fragment = parquet.make_fragment("a table is read through the method scanner of its dataset", system)
    return ds.FileSystemDataset([fragment], schema, parquet, system)
