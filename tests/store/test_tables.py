from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.errors import ConfigError, DataError, ServiceUnavailable, TransientError
from pipelines.problem import Problem
from pipelines.store import near, staging
from pipelines.store.tables import opened
from tests.store.kettles import NOON, statements

ToyProblem = Callable[..., Problem]


def test_a_table_that_nobody_wrote_is_empty(toy: ToyProblem, place: str) -> None:
    assert store.table_version(toy(), "labels") is None
    assert store.partition_keys(toy(), "labels") == []
    assert store.dataset(toy(), "labels").count_rows() == 0


def test_a_write_replaces_its_partitions_and_no_other(toy: ToyProblem, place: str) -> None:
    both = pa.concat_tables([statements("2024-01-01", 3), statements("2024-01-02", 2)])
    first = store.write_table(toy(), "labels", both, ["2024-01-01", "2024-01-02"])
    again = store.write_table(toy(), "labels", statements("2024-01-02", 5), ["2024-01-02"])
    assert store.dataset(toy(), "labels").count_rows() == 8
    assert store.dataset(toy(), "labels", first).count_rows() == 5, "a pinned version never changes"
    assert again == first + 1
    assert store.partition_keys(toy(), "labels") == ["2024-01-01", "2024-01-02"]


def test_writers_of_other_partitions_that_come_at_once_are_all_in_and_known_by_their_versions(
    toy: ToyProblem, place: str
) -> None:
    days = [f"2024-01-0{day}" for day in range(1, 5)]

    def written(day: str) -> int:
        store.make_table(toy(), "labels")
        return store.write_table(toy(), "labels", statements(day, 3), [day])

    with ThreadPoolExecutor(len(days)) as pool:
        versions = dict(zip(days, pool.map(written, days), strict=True))
    newest = max(versions.values())
    assert store.dataset(toy(), "labels", newest).count_rows() == 3 * len(days)
    assert store.rewritten(toy(), "labels", versions, newest) == []
    after = store.write_table(toy(), "labels", statements(days[1], 2), [days[1]])
    assert store.rewritten(toy(), "labels", versions, after) == [days[1]]


def test_a_table_keeps_its_log_short(toy: ToyProblem, store_folder: Path) -> None:
    for _ in range(12):
        store.write_table(toy(), "labels", statements("2024-01-01", 1), ["2024-01-01"])
    log = store_folder / "kettle" / "labels" / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    assert store.dataset(toy(), "labels", 3).count_rows() == 1, "older versions can still be read"


def test_a_commit_of_many_files_is_not_read_from_its_text_again(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "LARGE_COMMIT", 2_000)
    log = store_folder / "kettle" / "labels" / "_delta_log"
    days = [f"2024-01-0{day}" for day in range(1, 9)]
    store.write_table(toy(), "labels", pa.concat_tables(statements(day, 1) for day in days), days)
    assert [path.name for path in log.glob("*.checkpoint.parquet")] == [f"{0:020}.checkpoint.parquet"]
    store.write_table(toy(), "labels", statements(days[0], 2), days[:1])
    assert len(list(log.glob("*.checkpoint.parquet"))) == 1, "the next one is small"
    assert store.dataset(toy(), "labels").count_rows() == 9
    assert store.dataset(toy(), "labels", 0).count_rows() == 8
    assert store.partition_keys(toy(), "labels") == days


def decision(problem: Problem, number: int, kind: str = "monitoring") -> pa.Table:
    row = {
        "decision": f"{kind}:{number}",
        "kind": kind,
        "partition": "2024-01-01",
        "verdict": "",
        "action": "none",
        "reason": "",
        "evidence": "{}",
        "decided_time": NOON,
    }
    return pa.Table.from_pylist([row], table_schema(problem, "ledger"))


def test_a_partition_of_many_appends_becomes_one_file_and_loses_none(
    toy: ToyProblem, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "MOST_FILES", 4)
    problem = toy()
    assert store.append_once(problem, "ledger", decision(problem, 0, "gate"), "decision")
    files = []
    for number in range(11):
        assert store.append_once(problem, "ledger", decision(problem, number), "decision")
        assert not store.append_once(problem, "ledger", decision(problem, number), "decision"), "it is there already"
        files.append(len(store.partition_files(problem, "ledger", "monitoring")))
    assert files == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]
    there = store.dataset(problem, "ledger").to_table()["decision"].to_pylist()
    assert sorted(there) == sorted(["gate:0", *(f"monitoring:{number}" for number in range(11))])
    version = store.table_version(problem, "ledger")
    assert version is not None
    assert store.dataset(problem, "ledger", version - 7).count_rows() == 12 - 7, "former versions stay as they were"


def test_of_two_that_append_where_files_are_many_neither_overwrites_the_other(
    toy: ToyProblem, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "MOST_FILES", 1)
    problem, numbers = toy(), range(6)
    store.append_once(problem, "ledger", decision(problem, 100), "decision")
    with ThreadPoolExecutor(len(numbers)) as pool:
        assert all(pool.map(lambda n: store.append_once(problem, "ledger", decision(problem, n), "decision"), numbers))
    assert store.dataset(problem, "ledger").count_rows() == len(numbers) + 1


def test_writing_no_rows_empties_a_partition(toy: ToyProblem, place: str) -> None:
    store.write_table(toy(), "labels", statements("2024-01-01", 3), ["2024-01-01"])
    store.write_table(toy(), "labels", statements("2024-01-01", 3).slice(0, 0), ["2024-01-01"])
    assert store.dataset(toy(), "labels").count_rows() == 0


def test_writers_that_share_a_partition_replace_their_own_rows(toy: ToyProblem, place: str) -> None:
    day = "2024-01-01"
    store.write_table(toy(), "labels", statements(day, 3), [day], within="natural")
    store.write_table(toy(), "labels", statements(day, 2, "hand"), [day], within="hand")
    store.write_table(toy(), "labels", statements(day, 4), [day], within="natural")
    sources = store.dataset(toy(), "labels").to_table()["source"].value_counts().to_pylist()
    assert {one["values"]: one["counts"] for one in sources} == {"natural": 4, "hand": 2}
    with pytest.raises(DataError, match="rows of hand in a write of natural"):
        store.write_table(toy(), "labels", statements(day, 1, "hand"), [day], within="natural")


def test_files_of_a_partition_are_named_as_they_lie(
    toy: ToyProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", f"file://{tmp_path}/ä b")
    store.write_table(toy(), "labels", statements("2024-01-01", 2), ["2024-01-01"])
    (file,) = store.partition_files(toy(), "labels", "2024-01-01")
    assert Path(file).is_file()


def test_of_two_that_make_a_table_one_is_told(toy: ToyProblem, place: str) -> None:
    """Neither appends to what it has not seen, nor takes its own for all there is."""
    uri, partition_by = store.table_uri(toy(), "labels"), ["partition", "source"]
    first, other, third = (opened(uri) for _ in range(3))
    first.replace(statements("2024-01-01", 2).to_reader(), partition_by, {"partition": {"2024-01-01"}})
    with pytest.raises(CommitFailedError):
        other.replace(statements("2024-01-02", 3).to_reader(), partition_by, {"partition": {"2024-01-02"}})
    with pytest.raises(CommitFailedError):
        third.append(statements("2024-01-02", 3), partition_by)
    rows = opened(uri).dataset()
    assert rows is not None
    assert rows.count_rows() == 2
    for table in (other, third):
        table.refresh()
        table.append(statements("2024-01-02", 3), partition_by)
    assert (other.version, third.version) == (1, 2)


def test_of_many_that_make_a_table_at_once_no_rows_are_lost(toy: ToyProblem, place: str) -> None:
    days = [f"2024-01-0{number}" for number in range(1, 7)]

    def write(day: str) -> int:
        try:
            store.write_table(toy(), "labels", statements(day, 2), [day])
        except TransientError:
            return 0
        return 2

    with ThreadPoolExecutor(len(days)) as pool:
        written = sum(pool.map(write, days))
    assert store.dataset(toy(), "labels").count_rows() == written > 0


def test_names_may_hold_any_characters(toy: ToyProblem, place: str) -> None:
    day = "2024-01-01"
    for source in ("it's", "a b", "a/b", "50%", "a%20b", "ü", "x=y", '"'):
        for count in (3, 1):
            store.write_table(toy(), "labels", statements(day, count, source), [day], within=source)
        found = store.dataset(toy(), "labels").to_table()["source"].to_pylist()
        assert found.count(source) == 1
    assert len(store.partition_files(toy(), "labels", "it's")) == 0
    assert len(store.partition_files(toy(), "labels", day)) == 8


def test_a_column_that_is_declared_later_is_null_in_old_rows(toy: ToyProblem, place: str) -> None:
    def event(problem: Problem, day: str) -> pa.Table:
        row = {
            "kettle_id": day,
            "partition": day,
            "event_time": NOON,
            "known_time": NOON,
            "cutoff_time": NOON,
            "statement": 0,
            "shelf": "top",
            "litres": 1.0,
            "age": 2,
            "colour": "red",
        }
        return pa.Table.from_pylist([row], schema=table_schema(problem, "events"))

    more = toy(**{"columns.colour": {"type": "string"}})
    first = store.write_table(toy(), "events", event(toy(), "2024-01-01"), ["2024-01-01"])
    store.write_table(more, "events", event(more, "2024-01-02"), ["2024-01-02"])
    found = store.dataset(more, "events").to_table().sort_by("partition")
    assert found["colour"].to_pylist() == [None, "red"]
    assert store.dataset(more, "events", first).to_table()["colour"].to_pylist() == [None]
    assert "colour" not in store.dataset(toy(), "events").schema.names


def test_rows_of_another_partition_are_refused_and_nothing_is_written(toy: ToyProblem, place: str) -> None:
    store.write_table(toy(), "labels", statements("2024-01-01", 3), ["2024-01-01"])
    with pytest.raises(DataError, match="rows of 2024-01-02 in a write of 2024-01-01"):
        store.write_table(toy(), "labels", statements("2024-01-02", 1), ["2024-01-01"])
    assert store.dataset(toy(), "labels").count_rows() == 3


def test_rows_that_break_the_contract_are_refused(toy: ToyProblem, place: str) -> None:
    rows = statements("2024-01-01", 2)
    with pytest.raises(DataError, match="rows lack the columns label"):
        store.write_table(toy(), "labels", rows.drop_columns(["label"]), ["2024-01-01"])
    holes = rows.set_column(rows.schema.get_field_index("label"), "label", pa.array([1, None], pa.int8()))
    with pytest.raises(DataError, match="1 rows have no label"):
        store.write_table(toy(), "labels", holes, ["2024-01-01"])


def test_a_write_streams_its_batches(toy: ToyProblem, place: str) -> None:
    seen = 0

    def batches() -> object:
        nonlocal seen
        for _ in range(50):
            seen += 1
            yield from statements("2024-01-01", 10).to_batches()

    reader = pa.RecordBatchReader.from_batches(statements("2024-01-01", 1).schema, batches())
    store.write_table(toy(), "labels", reader, ["2024-01-01"])
    assert (seen, store.dataset(toy(), "labels").count_rows()) == (50, 500)


def test_files_come_back_as_they_were_written(place: str) -> None:
    uri = store.store_uri("kettle", "notes", "a.json")
    assert not store.exists(uri)
    store.write_json(uri, {"b": [1, 2]})
    assert store.read_json(uri) == {"b": [1, 2]}
    store.delete_folder(store.store_uri("kettle", "notes"))
    assert not store.exists(uri)
    store.delete(uri)
    with pytest.raises(DataError, match="there is nothing at this address"):
        store.read_bytes(uri)


def test_a_name_does_not_change_the_content(store_folder: Path) -> None:
    store.write_bytes(store.store_uri("kettle", "rows.csv.gz"), b"as it is")
    assert (store_folder / "kettle" / "rows.csv.gz").read_bytes() == b"as it is"


def test_staged_rows_are_replaced_by_a_repeated_call(place: str) -> None:
    rows, uri = statements("2024-01-01", 7), store.store_uri("kettle", "staging", "x")
    assert store.stage(uri, rows, rows.schema) == 7
    assert store.stage(uri, rows.slice(0, 2), rows.schema) == 2
    assert store.staged(uri).count_rows() == 2
    assert store.stage(uri, rows.slice(0, 0), rows.schema) == 0
    assert store.staged(uri).to_table().equals(rows.slice(0, 0))
    store.delete_folder(uri)
    with pytest.raises(DataError, match=r"nothing is staged here\n.*\n.*clear the run from its first task on"):
        store.staged(uri)


def test_many_staged_rows_lie_in_several_files_in_their_order(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "FILE_ROWS", 10)
    uri, rows = store.store_uri("kettle", "staging", "x"), pa.table({"n": range(45)})
    assert store.stage(uri, rows.to_batches(max_chunksize=4), rows.schema) == 45
    assert len(list((store_folder / "kettle" / "staging" / "x").iterdir())) == 4
    assert store.staged(uri).to_table().equals(rows)
    assert store.staged(uri, uri).count_rows() == 90


@pytest.mark.parametrize("value", ["", "ftp://x", "relative/folder"])
def test_a_store_that_is_not_configured_is_told(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", value)
    with pytest.raises(ConfigError, match="EVERGREEN_STORE_URI"):
        store.store_uri("kettle")


def test_a_server_that_is_not_there_is_told(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "EVERGREEN_STORE_URI": "s3://nowhere",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ServiceUnavailable, match="the store does not answer"):
        store.read_bytes("s3://nowhere/x")
    with pytest.raises(ServiceUnavailable, match="the store does not answer"):
        store.table_version(toy(), "labels")


def messages(problem: Problem, first: int, count: int) -> pa.Table:
    schema = table_schema(problem, "topics")
    rows = [
        {
            "source": "pots",
            "topic": "pots",
            "message_partition": 0,
            "message_offset": offset,
            "payload": b"{}",
            "bytes": 2,
            "event_time": NOON,
            "dated_by": "message_time",
        }
        for offset in range(first, first + count)
    ]
    return pa.Table.from_pylist(rows, schema)


def test_rows_and_how_far_their_reader_has_got_are_one_commit(toy: ToyProblem, place: str) -> None:
    problem = toy()
    assert store.positions(problem, "topics", ["a", "b"]) == {"a": None, "b": None}
    store.append_from(problem, "topics", messages(problem, 0, 2), {"a": None}, {"a": 2})
    for number in range(2, 14):  # past a checkpoint of the log
        store.append_from(problem, "topics", messages(problem, number, 1), {"a": number}, {"a": number + 1})
    assert store.positions(problem, "topics", ["a", "b"]) == {"a": 14, "b": None}
    for before in (None, 2, 13):
        with pytest.raises(TransientError, match="another run has read the same"):
            store.append_from(problem, "topics", messages(problem, 13, 1), {"a": before}, {"a": 14})
    with store.task():  # opened before another one writes
        assert store.positions(problem, "topics", ["a"]) == {"a": 14}
        with ThreadPoolExecutor(1) as pool:  # in a thread, no task is known
            other = pool.submit(store.append_from, problem, "topics", messages(problem, 14, 1), {"a": 14}, {"a": 15})
            other.result()
        with pytest.raises(TransientError, match="another writer"):
            store.append_from(problem, "topics", messages(problem, 14, 1), {"a": 14}, {"a": 15})
        store.refresh(problem, "topics")
        assert store.positions(problem, "topics", ["a"]) == {"a": 15}
    offsets = store.dataset(problem, "topics").to_table(columns=["message_offset"])["message_offset"].to_pylist()
    assert sorted(offsets) == list(range(15))
