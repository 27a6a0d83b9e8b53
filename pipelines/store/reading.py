"""How rows are read: small files whole, and nobody far ahead of whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.store.address import is_far, store_uri

if TYPE_CHECKING:
    import pyarrow.dataset as ds

WHOLE_BYTES = 8 * 2**20  # a file of up to this size is fetched by one request, whichever of its columns are wanted


def bounded(rows: ds.Dataset) -> ds.Dataset:
    """The same rows, of which whoever scans them, DuckDB too, reads little ahead.

    Left alone, Arrow's threads fill gigabytes while whoever reads is busy. On disk there is no need to read ahead at
    all; an object store lets one wait for each request.
    """
    import pyarrow.dataset as ds

    far = is_far(store_uri())
    bounds = {"batch_readahead": 4 if far else 1, "fragment_readahead": 4 if far else 1, "use_threads": far}

    class Bounded(ds.UnionDataset):  # type: ignore[misc]
        def scanner(self, **options: Any) -> ds.Scanner:
            return super().scanner(**{**options, **bounds})

    return Bounded(rows.schema, [rows])
