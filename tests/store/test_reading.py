"""Scans that DuckDB makes of files which Python code opens: they must not wait for each other's lock."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from pipelines import sql
from pipelines.store import reading

ROWS = pa.table({"n": range(10), "even": [n % 2 == 0 for n in range(10)]})


class Locked:
    """Arrow's scanner, of which only the reader starts with Python's lock held."""

    projected_schema = ROWS.schema

    def to_reader(self) -> pa.RecordBatchReader:
        raise AssertionError("this one would hold the lock while Arrow's threads wait for it")

    def to_batches(self) -> Any:
        return iter(ROWS.to_batches())


def test_a_reader_is_made_of_batches() -> None:
    assert reading.Scanner(Locked()).to_reader().read_all() == ROWS


@pytest.mark.parametrize("make", [reading.unlocked, reading.bounded])
def test_duckdb_reads_through_it(make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", tmp_path.as_uri())
    scans: list[Any] = []
    started = reading.Scanner.to_reader

    def noted(self: reading.Scanner) -> pa.RecordBatchReader:
        scans.append(self)
        return started(self)

    monkeypatch.setattr(reading.Scanner, "to_reader", noted)
    rows = make(ds.dataset(ROWS)).filter(pc.field("n") > 3)
    assert sql.query("SELECT sum(n) AS n FROM rows WHERE even", {"rows": rows})["n"].to_pylist() == [4 + 6 + 8]
    assert scans


def test_the_rest_of_a_scanner_is_arrows() -> None:
    rows = reading.unlocked(ds.dataset(ROWS), batch_readahead=1)
    assert rows.to_table() == ROWS
    assert rows.filter(pc.field("even")).count_rows() == 5
    assert rows.scanner(columns=["n"]).to_table() == ROWS.select(["n"])
    assert rows.head(2) == ROWS.slice(0, 2)
