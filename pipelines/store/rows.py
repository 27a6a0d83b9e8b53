"""The rows of a Delta table as an Arrow dataset that costs little, however many files and partitions there are."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

PLAIN_READER = 1  # protocol version of tables whose files are all there is to know
TIME = "event_time"
ROUNDED = timedelta(milliseconds=1)  # a table's log may have times without their microseconds


def dataset_of(table: DeltaTable, filesystem: FileSystem) -> ds.Dataset:
    """The rows of `table`, lazily; `filesystem` has the table's folder at its root.

    Delta's own `to_pyarrow_dataset` makes expressions of the statistics of all columns of each file, half a millisecond
    a file. Here a file is known by its partition and by the span of its events' times, which is what stages choose by;
    what they ask of other columns is decided by the statistics within the files.
    """
    import pyarrow.dataset as ds

    if table.protocol().min_reader_version != PLAIN_READER:
        return table.to_pyarrow_dataset(filesystem=filesystem)  # or it says which feature it cannot read
    schema = pa.schema(table.schema().to_arrow())
    columns = table.metadata().partition_columns
    files = pa.table(table.get_add_actions(flatten=True))
    values = [files[f"partition.{column}"].to_pylist() for column in columns]
    spans = _spans(files)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
    expressions: dict[tuple[object, ...], pc.Expression] = {}
    fragments = []
    for path, span, *of_file in zip(files["path"].to_pylist(), spans, *values, strict=True):
        key = tuple(of_file)
        if key not in expressions:
            expressions[key] = _lies_in(schema, columns, key)
        holds = expressions[key] if span is None else expressions[key] & span
        fragments.append(parquet.make_fragment(unquote(path), filesystem, partition_expression=holds))
    return ds.FileSystemDataset(fragments, schema, parquet, filesystem)


def _spans(files: pa.Table) -> list[pc.Expression | None]:
    """For each file between which times its events lie; None where that is not known of all of them."""
    if f"min.{TIME}" not in files.column_names:
        return [None] * files.num_rows
    bounds = (files[name].to_pylist() for name in (f"min.{TIME}", f"max.{TIME}", f"null_count.{TIME}"))
    time = pc.field(TIME)
    return [
        (time >= pc.scalar(first)) & (time <= pc.scalar(last + ROUNDED)) if first and last and missing == 0 else None
        for first, last, missing in zip(*bounds, strict=True)
    ]


def _lies_in(schema: pa.Schema, columns: list[str], values: tuple[object, ...]) -> pc.Expression:
    expression = pc.scalar(True)
    for column, value in zip(columns, values, strict=True):
        field = pc.field(column)
        is_so = field.is_null() if value is None else field == pa.scalar(value, schema.field(column).type)
        expression = expression & is_so
    return expression
