"""reservoir: so many rows of a stream of unknown length, each with the same chance, in one pass."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipelines.errors import DataError


def reservoir(batches: Iterable[pa.RecordBatch], k: int, seed: int) -> pa.Table:
    """`k` rows of the stream, in its order; all of them where there are fewer. Each has the chance min(1, k / N).

    The same distribution as algorithm R (Vitter, Random Sampling with a Reservoir, 1985), which decides row by row:
    here each row gets a random key and the k smallest stay, so that a batch is one comparison with the k-th smallest
    key so far. That threshold falls, and after n rows a batch keeps about k / n of its own. Memory: twice k rows and
    one batch. Keys come from one generator in the order of the rows: how the stream is cut changes nothing.

    Raises:
        DataError: the stream has no batch, not even an empty one, so that its columns are unknown.

    >>> numbers = [pa.record_batch({"n": range(start, start + 100)}) for start in (0, 100, 200)]
    >>> reservoir(numbers, k=3, seed=0)["n"].to_pylist()
    [11, 196, 269]
    """
    random = np.random.default_rng(seed)
    threshold = np.inf
    kept: list[pa.RecordBatch] = []
    keys: list[np.ndarray] = []
    held = 0
    schema = None
    for batch in batches:
        schema = batch.schema
        drawn = random.random(batch.num_rows)
        below = np.flatnonzero(drawn < threshold)
        if len(below):
            kept.append(batch.take(pa.array(below)))
            keys.append(drawn[below])
            held += len(below)
        if held >= 2 * k:
            kept, keys, threshold = _smallest(kept, keys, k)
            held = k
    if schema is None:
        raise DataError("the stream has no batch", where="reservoir", cure="give it at least an empty one")
    if held > k:
        kept, keys, threshold = _smallest(kept, keys, k)
    return pa.Table.from_batches(kept, schema).combine_chunks()


def _smallest(
    kept: list[pa.RecordBatch], keys: list[np.ndarray], k: int
) -> tuple[list[pa.RecordBatch], list[np.ndarray], float]:
    """The rows with the `k` smallest keys in the stream's order, and the largest of these keys."""
    flat = np.concatenate(keys)
    # Stable: of two rows with one key the earlier stays, as it does where a batch meets the threshold.
    stay = np.sort(np.argsort(flat, kind="stable")[:k])
    rows = pa.Table.from_batches(kept).take(pa.array(stay)).combine_chunks()
    return rows.to_batches(), [flat[stay]], float(flat[stay].max())
