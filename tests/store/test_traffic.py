"""What a process has asked of an S3 server is what a proxy before the server has seen."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from benchmarks.requests import Request
from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.store import objects, traffic
from tests.conftest import ToyProblem

Far = Callable[[], list[Request]]


def test_requests_and_bytes_are_counted_as_they_pass(toy: ToyProblem, far: Far) -> None:
    problem, uri = toy(), store.store_uri("kettle", "notes.json")
    far()
    before = traffic.so_far()
    with store.task():
        store.write_bytes(uri, b"x" * 1000)
    with store.task():
        assert store.read_bytes(uri) == b"x" * 1000
        assert store.find_bytes(f"{uri}.absent") is None
        assert [file.size for file in store.listing(store.store_uri("kettle"))] == [1000]
        schema = table_schema(problem, "runs")
        row = {field.name: "2026-11" if field.type == pa.string() else 0 for field in schema}
        store.append_once(problem, "runs", pa.Table.from_pylist([row], schema), "id")
    now = traffic.so_far()
    seen = far()
    assert now.requests - before.requests == len(seen) >= 6
    assert now.bytes_read - before.bytes_read >= 1000
    assert now.bytes_written - before.bytes_written > 2000, "rows and their commit, too"


def test_a_request_that_is_repeated_counts_each_time(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = store.store_uri("kettle", "notes.json")
    store.write_bytes(uri, b"x")
    far()
    before = traffic.so_far()
    for _ in range(3):
        with pytest.raises(FileExistsError):
            objects.write(uri, b"y", is_new=True)
    now = traffic.so_far()
    assert now.requests - before.requests == len(far()) == 3
    assert now.bytes_written == before.bytes_written, "nothing was written"
