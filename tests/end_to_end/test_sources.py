"""Sources on a real S3 server: every format, folders and globs, and what is told when something is not there."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from pipelines import store
from pipelines.errors import AccessError, DataError
from pipelines.ingest.sources import described, opened
from pipelines.problem import Problem

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]
COLUMNS = {"id": "string", "litres": "float"}
ROWS = pa.table({"id": ["a", "b"], "litres": [1.0, 2.5]})
DAY = "2024-01-01"


@pytest.fixture
def folder(services: None) -> str:
    """Two rows in each format, below one folder of the bucket."""
    root = f"{os.environ['EVERGREEN_STORE_URI']}/sources"
    packed, parquet = io.BytesIO(), io.BytesIO()
    schema = {
        "type": "record",
        "name": "kettle",
        "fields": [{"name": "id", "type": "string"}, {"name": "litres", "type": "double"}],
    }
    fastavro.writer(packed, schema, ROWS.to_pylist())
    pq.write_table(ROWS, parquet)
    for name, content in {
        "csv/part-1.csv": b"id,litres\na,1.0\n",
        "csv/deeper/part-2.csv.gz": gzip.compress(b"id,litres\nb,2.5\nc,much\n"),
        "lines/rows.jsonl": b'{"id": "a", "litres": 1}\n{"id": "b", "litres": 2.5}\n',
        "rows.avro": packed.getvalue(),
        "parquet/rows.parquet": parquet.getvalue(),
    }.items():
        store.write_bytes(f"{root}/{name}", content)
    write_deltalake(f"{root}/delta", ROWS, mode="overwrite", storage_options=store.storage_options())
    return root


def test_every_format_is_read_from_s3(folder: str, toy: Callable[..., Problem]) -> None:
    sources = {
        "csvs": {"path": f"{folder}/csv/**/*.csv*", "format": "csv", "columns": COLUMNS},
        "lines": {"path": f"{folder}/lines", "format": "jsonl", "columns": COLUMNS},
        "packed": {"path": f"{folder}/rows.avro", "columns": COLUMNS},
        "parquet": {"path": f"{folder}/parquet", "format": "parquet", "columns": COLUMNS},
        "delta": {"path": f"{folder}/delta", "format": "delta", "columns": COLUMNS},
    }
    problem = toy(sources=sources)
    with opened(problem, DAY, DAY) as found:
        for name in sources:
            rows = found.database.sql(f"SELECT id, litres FROM {name} ORDER BY id").fetchall()
            assert rows == [("a", 1.0), ("b", 2.5)], name
        assert (found.counts["csvs"].rows, found.counts["csvs"].rejected) == (3, 1)
        assert found.rejected().read_all()["rules"].to_pylist() == [["litres: not of type float: 'much'"]]
    with described(problem) as database:
        assert [row[0] for row in database.sql("DESCRIBE delta").fetchall()] == ["id", "litres"]


def test_what_is_not_there_and_a_wrong_secret_are_told(
    folder: str, toy: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(DataError, match="nothing"),
        opened(toy(sources={"n": {"path": f"{folder}/nothing/*.csv"}}), DAY, DAY),
    ):
        pass
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for source in ({"path": f"{folder}/csv/*.csv"}, {"path": f"{folder}/delta", "format": "delta"}):
        with pytest.raises(AccessError), opened(toy(sources={"n": source}), DAY, DAY):
            pass
