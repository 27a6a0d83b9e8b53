"""How rows are read: small files whole, and nobody far ahead of whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.store.address import is_far, store_uri

if TYPE_CHECKING:
    import pyarrow.dataset as ds

WHOLE_BYTES = 8 * 2**20  # a file of up to this size is fetched by one request, whichever of its columns are wanted


class Scanner:
    """Arrow's scanner, but for its reader: that one starts without Python's lock.

    Arrow starts a reader with the lock held, and waits there for a thread of its own. Where the files are opened by
    Python code (`PyFileSystem`, of which are Delta's too) that thread waits for the lock: both wait for ever.
    """

    def __init__(self, scanner: ds.Scanner) -> None:
        self._scanner = scanner

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._scanner.projected_schema, self._scanner.to_batches())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scanner, name)


def unlocked(rows: ds.Dataset, **bounds: Any) -> ds.Dataset:
    """The same rows, which DuckDB too can scan where Python code opens the files; each scan has these `bounds`."""
    import pyarrow.dataset as ds

    class Unlocked(ds.UnionDataset):  # type: ignore[misc]
        """It asks the dataset within for each scan: that one may choose among its files by itself (`TableRows`)."""

        def __init__(self, within: ds.Dataset) -> None:
            super().__init__(within.schema, [within])
            self._within = within

        def filter(self, expression: pc.Expression) -> Unlocked:
            return Unlocked(self._within.filter(expression))

        def get_fragments(self, filter: pc.Expression | None = None) -> Any:
            return self._within.get_fragments(filter=filter)

        def scanner(self, **options: Any) -> Any:
            return Scanner(self._within.scanner(**{**options, **bounds}))

    return Unlocked(rows)


def bounded(rows: ds.Dataset) -> ds.Dataset:
    """The same rows of the store, of which whoever scans them, DuckDB too, reads little ahead.

    Left alone, Arrow's threads fill gigabytes while whoever reads is busy. On disk there is no need to read ahead at
    all; an object store lets one wait for each request.
    """
    if is_far(store_uri()):
        return unlocked(rows, batch_readahead=4, fragment_readahead=4, use_threads=True)
    return bounded_on_disk(rows)


def bounded_on_disk(rows: ds.Dataset) -> ds.Dataset:
    """As `bounded`, of rows on this machine."""
    return unlocked(rows, batch_readahead=1, fragment_readahead=1, use_threads=False)
