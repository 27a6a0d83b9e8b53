from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset.reservoir import reservoir
from pipelines.errors import DataError


def stream(rows: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, batch_rows):
        yield pa.record_batch({"n": np.arange(start, min(start + batch_rows, rows))})


def drawn(rows: int, batch_rows: int, k: int, seed: int) -> list[int]:
    found: list[int] = reservoir(stream(rows, batch_rows), k, seed)["n"].to_pylist()
    return found


def test_rows_are_distinct_and_come_in_the_order_of_the_stream() -> None:
    assert drawn(300, 100, 3, 0) == [11, 196, 269]
    found = drawn(100_000, 1000, 500, 7)
    assert len(found) == 500 and found == sorted(set(found))
    assert found == drawn(100_000, 1000, 500, 7) != drawn(100_000, 1000, 500, 8)


@settings(max_examples=100, deadline=None)
@given(k=st.integers(1, 60), cuts=st.lists(st.integers(0, 200), max_size=12), seed=st.integers(0, 1000))
def test_the_cut_of_the_stream_changes_nothing(k: int, cuts: list[int], seed: int) -> None:
    """Empty batches too, and strings of any length, against the same rows in one batch."""
    table = pa.record_batch({"n": np.arange(200), "text": [f"{'x' * (n % 7)}{n}" for n in range(200)]})
    edges = sorted([0, *cuts, 200])
    pieces = [table.slice(first, last - first) for first, last in itertools.pairwise(edges)]
    whole = reservoir([table], k, seed)
    assert whole.equals(reservoir(pieces, k, seed))
    assert whole.num_rows == k


def test_a_stream_with_fewer_rows_is_kept_whole() -> None:
    assert drawn(10, 3, 50, 0) == list(range(10))
    assert reservoir([pa.record_batch({"n": pa.array([], pa.int64())})], 5, 0).num_rows == 0
    with pytest.raises(DataError, match="the stream has no batch"):
        reservoir([], 5, 0)


def test_each_row_has_the_same_chance_and_so_has_each_pair() -> None:
    """400 seeds, 60 rows in uneven batches, 18 drawn: frequencies within 4.5 standard deviations, pairs within 5."""
    seeds, rows, k = 400, 60, 18
    together = np.zeros((rows, rows))
    for seed in range(seeds):
        found = drawn(rows, 7, k, seed)
        together[np.ix_(found, found)] += 1
    one, two = k / rows, k * (k - 1) / (rows * (rows - 1))
    assert np.abs(np.diag(together) - seeds * one).max() < 4.5 * np.sqrt(seeds * one * (1 - one))
    pairs = together[np.triu_indices(rows, 1)]
    assert np.abs(pairs - seeds * two).max() < 5 * np.sqrt(seeds * two * (1 - two))


def test_fifty_million_rows_take_no_more_memory_than_the_reservoir() -> None:
    """Peak growth over the whole stream, Arrow's and NumPy's: a few times 2 k rows and one batch."""
    k, batch_rows = 10_000, 2**16
    highest = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal highest
        for batch in stream(50_000_000, batch_rows):
            yield batch
            highest = max(highest, pa.total_allocated_bytes() - before)

    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        found = reservoir(batches(), k, 0)
        _, numpy_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.num_rows == k
    mean = found["n"].to_numpy().mean()
    assert abs(mean - 25e6) < 5 * 50e6 / np.sqrt(12 * k), "from the whole of the stream"
    assert highest < 2 * k * 8 * 4, "of Arrow: the rows that are kept, and a copy while they are sorted out"
    assert numpy_peak < batch_rows * 8 * 6 + 2 * k * 8 * 6, "of NumPy: keys and positions"
