"""Rows of a Delta table as a dataset of ours: the rows that Delta reads, without the files that cannot matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from pipelines import sql
from pipelines.store import rows as rows_module
from pipelines.store.rows import Files, dataset_of
from tests.examples import dear

START = datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
TIMES = pa.timestamp("us", "UTC")


def written(folder: Path, rows: pa.Table, **options: Any) -> DeltaTable:
    write_deltalake(str(folder), rows, partition_by=["partition", "source"], **options)
    return DeltaTable(str(folder))


def ours(table: DeltaTable, folder: Path) -> Any:
    return dataset_of(table, SubTreeFileSystem(str(folder), LocalFileSystem()))


names = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F), max_size=6)


@settings(max_examples=dear(100))
@given(
    st.lists(
        st.tuples(names, st.none() | names, st.none() | st.timedeltas(timedelta(), timedelta(days=900))),
        min_size=1,
        max_size=12,
    ),
    st.timedeltas(timedelta(), timedelta(days=900)),
    st.lists(names, max_size=4),
    st.integers(2, 4),
)
def test_rows_are_those_that_delta_reads(
    tmp_path_factory: pytest.TempPathFactory, cells: list[Any], since: timedelta, keys: list[str], width: int
) -> None:
    """Of groups within groups, and of one of all; whatever is asked for."""
    folder = tmp_path_factory.mktemp("rows")
    rows = pa.table(
        {
            "partition": [partition or "none" for partition, _, _ in cells],
            "source": pa.array([source for _, source, _ in cells], pa.string()),
            "event_time": pa.array([None if after is None else START + after for _, _, after in cells], TIMES),
            "number": range(len(cells)),
        }
    )
    table = written(folder, rows)
    everything = table.to_pyarrow_dataset().to_table()
    since_then, is_among = pc.field("event_time") >= START + since, sql.is_among("partition", [*keys, cells[0][0]])
    is_other = (pc.field("source") == cells[0][1]) | since_then if cells[0][1] is not None else since_then
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "WIDTH", width)
        dataset = ours(table, folder)
        for wanted in (since_then, pc.field("source").is_null(), is_among, ~is_among, is_other, is_among & since_then):
            expected = everything.filter(wanted).sort_by("number")
            assert dataset.to_table(filter=wanted).sort_by("number") == expected
            assert dataset.filter(wanted).to_table().sort_by("number") == expected
            assert dataset.filter(wanted).count_rows() == expected.num_rows
        assert dataset.to_table().sort_by("number") == everything.sort_by("number")
        assert (
            dataset.filter(is_among).filter(since_then).count_rows()
            == everything.filter(is_among & since_then).num_rows
        )


def test_files_of_other_partitions_and_times_are_not_read(tmp_path: Path) -> None:
    days = [START + timedelta(days=day) for day in range(4)]
    rows = pa.table(
        {
            "partition": [f"{day:%Y-%m-%d}" for day in days],
            "source": ["natural"] * 4,
            "number": range(4),
            "event_time": pa.array(days, TIMES),
        }
    )
    dataset = ours(written(tmp_path, rows), tmp_path)
    assert len(list(dataset.get_fragments())) == 4
    for wanted in (pc.field("partition") == "2024-01-04", pc.field("event_time") >= days[3]):
        (fragment,) = dataset.get_fragments(filter=wanted)
        assert "2024-01-04" in fragment.path


def test_a_column_that_came_later_is_null_for_whoever_chooses_by_it(tmp_path: Path) -> None:
    later = pa.field("unit", pa.string())
    dataset = ours(written(tmp_path, day_files(4)), tmp_path)
    dataset = dataset.replace_schema(dataset.schema.append(later))
    assert dataset.filter(pc.field("unit") == "a").count_rows() == 0
    assert dataset.filter(pc.field("unit").is_null() & (pc.field("partition") == "2024-01-02")).count_rows() == 1


def day_files(count: int) -> pa.Table:
    days = [START + timedelta(days=day) for day in range(count)]
    return pa.table(
        {
            "partition": [f"{day:%Y-%m-%d}" for day in days],
            "source": ["natural"] * count,
            "number": range(count),
            "event_time": pa.array(days, TIMES),
        }
    )


def test_a_scan_describes_the_groups_that_it_needs_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[int] = []
    describe = Files._described

    def noted(self: Files, start: int, end: int) -> Any:
        described.append(end - start)
        return describe(self, start, end)

    monkeypatch.setattr(Files, "_described", noted)
    count = 400
    dataset = ours(written(tmp_path, day_files(count)), tmp_path)
    assert described == []
    newest = START + timedelta(days=count - 1)
    keys = [f"{newest - timedelta(days=back):%Y-%m-%d}" for back in range(15)]
    for wanted in (pc.field("partition") == keys[0], pc.field("event_time") >= newest, sql.is_among("partition", keys)):
        dataset.to_table(filter=wanted)
    assert described == [8, 8], "two groups of eight have them all, and are described once"
    assert dataset.count_rows() == count
    assert described == [8] * 50


def test_who_scans_past_the_dataset_is_told_instead_of_given_no_rows(tmp_path: Path) -> None:
    dataset = ours(written(tmp_path, day_files(2)), tmp_path)
    assert dataset.count_rows() == 2
    with pytest.raises(FileNotFoundError, match="read through the method scanner"):
        ds.dataset([dataset]).to_table()


def test_what_arrow_cannot_read_is_said_as_delta_says_it(tmp_path: Path) -> None:
    rows = pa.table({"partition": ["a"], "source": ["b"], "number": [1]})
    table = written(tmp_path, rows, configuration={"delta.enableDeletionVectors": "true"})
    with pytest.raises(DeltaProtocolError, match="deletionVectors"):
        ours(table, tmp_path)
