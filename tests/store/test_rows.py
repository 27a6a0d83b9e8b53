"""Rows of a Delta table as a dataset of ours: the rows that Delta reads, without the files that cannot matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaProtocolError
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from pipelines.store.rows import dataset_of

START = datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
TIMES = pa.timestamp("us", "UTC")


def written(folder: Path, rows: pa.Table, **options: Any) -> DeltaTable:
    write_deltalake(str(folder), rows, partition_by=["partition", "source"], **options)
    return DeltaTable(str(folder))


def ours(table: DeltaTable, folder: Path) -> Any:
    return dataset_of(table, SubTreeFileSystem(str(folder), LocalFileSystem()))


names = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F), max_size=6)


@given(
    st.lists(
        st.tuples(names, st.none() | names, st.none() | st.timedeltas(timedelta(), timedelta(days=900))),
        min_size=1,
        max_size=8,
    ),
    st.timedeltas(timedelta(), timedelta(days=900)),
)
def test_rows_are_those_that_delta_reads(
    tmp_path_factory: pytest.TempPathFactory, cells: list[Any], since: timedelta
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = pa.table({
        "partition": [partition or "none" for partition, _, _ in cells],
        "source": pa.array([source for _, source, _ in cells], pa.string()),
        "event_time": pa.array([None if after is None else START + after for _, _, after in cells], TIMES),
        "number": range(len(cells)),
    })  # fmt: skip
    table = written(folder, rows)
    for wanted in (None, pc.field("event_time") >= START + since, pc.field("source").is_null()):
        found = ours(table, folder).to_table(filter=wanted).sort_by("number")
        assert found == table.to_pyarrow_dataset().to_table(filter=wanted).sort_by("number")


def test_files_of_other_partitions_and_times_are_not_read(tmp_path: Path) -> None:
    days = [START + timedelta(days=day) for day in range(4)]
    rows = pa.table({
        "partition": [f"{day:%Y-%m-%d}" for day in days], "source": ["natural"] * 4, "number": range(4),
        "event_time": pa.array(days, TIMES),
    })  # fmt: skip
    dataset = ours(written(tmp_path, rows), tmp_path)
    assert len(list(dataset.get_fragments())) == 4
    for wanted in (pc.field("partition") == "2024-01-04", pc.field("event_time") >= days[3]):
        (fragment,) = dataset.get_fragments(filter=wanted)
        assert "2024-01-04" in fragment.path


def test_what_arrow_cannot_read_is_said_as_delta_says_it(tmp_path: Path) -> None:
    rows = pa.table({"partition": ["a"], "source": ["b"], "number": [1]})
    table = written(tmp_path, rows, configuration={"delta.enableDeletionVectors": "true"})
    with pytest.raises(DeltaProtocolError, match="deletionVectors"):
        ours(table, tmp_path)
