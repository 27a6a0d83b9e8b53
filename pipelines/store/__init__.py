"""The only package that touches S3 or disk: Delta tables, Arrow files on their way between tasks, and small files.

`EVERGREEN_STORE_URI` says where (`s3://bucket/prefix` or `file:///folder`); the standard `AWS_*` variables say how.

On S3 every request costs some 10 to 50 ms, and money: a small object is read and written whole, by one request each;
within a task (`task`) a table is opened once, and no object is read twice; a table's log is kept on this machine
(`far`), so that what a task has read of it is no news to the next. `EVERGREEN_COPIES_MB` says how much is kept, if
anything (`copies`).
"""

from pipelines.store.address import storage_options, store_uri, table_uri
from pipelines.store.files import (
    Stored,
    delete,
    delete_folder,
    exists,
    find_bytes,
    find_json,
    folders,
    listing,
    read_bytes,
    read_json,
    write_bytes,
    write_json,
)
from pipelines.store.scope import task
from pipelines.store.staging import begin, finish, finished, spilled, stage, staged
from pipelines.store.tables import (
    append_from,
    append_once,
    dataset,
    make_table,
    partition_files,
    partition_keys,
    partition_rows,
    positions,
    refresh,
    rewritten,
    table_version,
    write_table,
)

__all__ = [
    "Stored",
    "append_from",
    "append_once",
    "begin",
    "dataset",
    "delete",
    "delete_folder",
    "exists",
    "find_bytes",
    "find_json",
    "finish",
    "finished",
    "folders",
    "listing",
    "make_table",
    "partition_files",
    "partition_keys",
    "partition_rows",
    "positions",
    "read_bytes",
    "read_json",
    "refresh",
    "rewritten",
    "spilled",
    "stage",
    "staged",
    "storage_options",
    "store_uri",
    "table_uri",
    "table_version",
    "task",
    "write_bytes",
    "write_json",
    "write_table",
]
