from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.prepare import Preparation
from pipelines.training.workers import share
from pipelines.training.workers.share import Share, drawn, edges

PREPARE = Preparation(["litres"], [], {"missing": {"method": "drop"}}, "binary", seed=0)


def write(rows: pa.Table, path: Path, batch_rows: int, form: str) -> str:
    if form == "parquet":
        pq.write_table(rows, path, row_group_size=batch_rows)
    else:
        with pa.ipc.new_file(path, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=batch_rows)
    return str(path)


def shares(data: ds.Dataset, workers: int, prepare: Preparation = PREPARE) -> list[Share]:
    files, ends = list(data.get_fragments()), edges(data.count_rows(), workers)
    return [Share(files, data.schema.names, *ends, prepare, None) for ends in itertools.pairwise(ends)]


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.integers(0, 30), min_size=1, max_size=3),
    batch_rows=st.integers(1, 40),
    read_at_once=st.integers(1, 12),
    workers=st.integers(1, 5),
    form=st.sampled_from(["ipc", "parquet"]),
)
def test_each_row_is_in_one_share_in_its_order(
    files: list[int], batch_rows: int, read_at_once: int, workers: int, form: str
) -> None:
    rows = pa.table({"n": np.arange(sum(files))})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "BATCH_ROWS", read_at_once)
        starts = np.cumsum([0, *files])
        paths = [
            write(rows.slice(start, count), Path(folder, f"{number}"), batch_rows, form)
            for number, (start, count) in enumerate(zip(starts, files, strict=False))
        ]
        cut = shares(ds.dataset(paths, format=form), workers)
        batches = [list(one.batches()) for one in cut]
    assert all(batch.num_rows > 0 for of_one in batches for batch in of_one)
    read = [[n for batch in of_one for n in batch["n"].to_pylist()] for of_one in batches]
    assert list(itertools.chain(*read)) == list(range(sum(files)))
    sizes = [len(rows_of_one) for rows_of_one in read]
    assert max(sizes) - min(sizes) <= 1


def test_rows_without_a_weight_or_with_a_gap_that_counts_are_not_learnt_from(tmp_path: Path) -> None:
    rows = pa.table({"litres": [1.0, None, 3.0, 4.0], "label": [0, 1, 1, 1], "weight": [1.0, 1.0, 0.0, 2.0]})
    data = ds.dataset(write(rows, tmp_path / "rows", 3, "ipc"), format="ipc")
    (only,) = shares(data, 1, PREPARE.fit(rows))
    used = list(only._replace(factors=np.array([1.0, 10.0])).used())
    assert [is_used.tolist() for is_used, _ in used] == [[True, False, False], [True]]
    assert [batch[0].tolist() for _, batch in used] == [[[1.0]], [[4.0]]]
    assert [batch[2].tolist() for _, batch in used] == [[1.0], [20.0]]


@given(seed=st.integers(-5, 2**40), number=st.integers(0, 9), cut=st.integers(0, 200))
def test_which_rows_a_round_draws_hangs_on_no_share(seed: int, number: int, cut: int) -> None:
    whole = drawn(seed, number, 0, 200, 0.7)
    parts = drawn(seed, number, 0, cut, 0.7), drawn(seed, number, cut, 200 - cut, 0.7)
    assert np.array_equal(np.concatenate(parts), whole)


def test_each_round_draws_other_rows_as_many_as_were_asked_for() -> None:
    rounds = np.array([drawn(3, number, 0, 10_000, 0.7) for number in range(10)])
    assert rounds.mean(axis=1) == pytest.approx(0.7, abs=0.02)
    assert rounds.mean(axis=0).std() == pytest.approx(np.sqrt(0.21 / 10), rel=0.05)  # as independent draws
