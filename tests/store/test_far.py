"""Tables on S3: how many requests they take, and what holds when others write, tables are deleted, answers are lost."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from benchmarks.requests import Request
from pipelines import store
from pipelines.errors import DataError, TransientError
from pipelines.problem import Problem
from pipelines.store import far as far_tables
from pipelines.store import objects
from pipelines.store.far import FarTable
from tests.store.kettles import statements

ToyProblem = Callable[..., Problem]
Since = Callable[[], list[Request]]


def kinds(requests: list[Request]) -> dict[str, int]:
    return dict(Counter(one.kind for one in requests))


def day(number: int) -> str:
    return f"2024-01-{number:02}"


def write(problem: Problem, number: int, count: int = 2) -> int:
    return store.write_table(problem, "labels", statements(day(number), count), [day(number)])


def uri(problem: Problem) -> str:
    return store.table_uri(problem, "labels")


def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no copies are there."""
    (tmp_path / "other").mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "other"))


def test_a_task_opens_a_table_once_and_writes_with_what_it_knows(toy: ToyProblem, far: Since) -> None:
    write(toy(), 1)
    far()
    with store.task():
        assert store.partition_keys(toy(), "labels") == [day(1)]
        assert store.table_version(toy(), "labels") == 0
        assert store.dataset(toy(), "labels").count_rows() == 2
        assert kinds(far()) == {"LIST": 1}, "what this machine has written it need not fetch"
        assert write(toy(), 2) == 1
        assert kinds(far()) == {"PUT": 2}, "the rows, then the commit"
        assert store.dataset(toy(), "labels", 0).count_rows() == 2
        assert store.dataset(toy(), "labels").count_rows() == 4, "a task sees its own writes"
        assert far() == []


def test_another_machine_fetches_each_object_once(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        write(toy(), number)
    another_machine(tmp_path, monkeypatch)
    far()
    for requests in ({"LIST": 1, "GET": 6}, {"LIST": 1}):
        with store.task():
            assert store.dataset(toy(), "labels").to_table().num_rows == 6
            assert store.dataset(toy(), "labels").count_rows() == 6
        assert kinds(far()) == requests


def test_a_long_log_costs_no_more(toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 26):
        write(toy(), number, 1)
    far()
    assert store.table_version(toy(), "labels") == 24
    listed = [one for one in far() if one.is_listing]
    assert len(listed) == 1
    another_machine(tmp_path, monkeypatch)
    assert len(store.partition_keys(toy(), "labels")) == 25
    assert kinds(far()) == {"LIST": 1, "GET": 7}, "version 19, its checkpoint, and what came since"
    for version in (3, 9, 10, 22):
        assert store.dataset(toy(), "labels", version).count_rows() == version + 1, "a pinned version stays readable"
    with pytest.raises(DataError, match="version 99 of labels cannot be read"):
        store.dataset(toy(), "labels", 99)


def test_delta_reads_what_was_committed(toy: ToyProblem, far: Since) -> None:
    for number in range(1, 13):
        write(toy(), number, number)
    store.write_table(toy(), "labels", statements(day(1), 1), [day(1)])
    table = DeltaTable(uri(toy()), storage_options=store.storage_options())
    assert table.version() == 12
    assert table.to_pyarrow_dataset().count_rows() == sum(range(1, 13))
    assert sorted(table.file_uris()) == sorted(
        file for number in range(1, 13) for file in store.partition_files(toy(), "labels", day(number))
    )


def test_what_delta_commits_itself_is_read(toy: ToyProblem, far: Since) -> None:
    from deltalake import write_deltalake

    with store.task():
        write(toy(), 1)
        rows = statements(day(2), 3)
        write_deltalake(uri(toy()), rows, mode="append", storage_options=store.storage_options())
        assert store.dataset(toy(), "labels").count_rows() == 2, "a task keeps to what it has opened"
        assert write(toy(), 3) == 2, "others' partitions are not in the way"
        assert store.dataset(toy(), "labels").count_rows() == 7


def test_two_writers_of_a_table_that_opened_it_before_either_wrote(toy: ToyProblem, far: Since) -> None:
    from pipelines.store.near import Table

    write(toy(), 1)
    one, other = FarTable(uri(toy())), FarTable(uri(toy()))

    def replace(table: Table, number: int) -> int:
        reader = statements(day(number), 2).to_reader()
        return table.replace(reader, ["partition", "source"], {"partition": {day(number)}})

    assert (replace(one, 2), replace(other, 3)) == (1, 2)
    assert store.dataset(toy(), "labels").count_rows() == 6
    one.refresh()
    assert (one.version, other.version) == (2, 2)
    replace(one, 3)
    with pytest.raises(Exception, match="another writer's"):
        replace(other, 3)
    assert other.version == 2, "it goes on with what it knows"
    assert store.dataset(toy(), "labels").count_rows() == 6
    other.refresh()
    assert replace(other, 3) == 4


def test_who_rests_on_rows_that_changed_is_told_to_try_again(toy: ToyProblem, far: Since) -> None:
    write(toy(), 1)
    with store.task():
        before = store.dataset(toy(), "labels").count_rows()
        FarTable(uri(toy())).replace(
            statements(day(1), 5).to_reader(), ["partition", "source"], {"partition": {day(1)}}
        )
        with pytest.raises(TransientError, match="another writer changed the table"):
            write(toy(), 1, before)
    assert store.dataset(toy(), "labels").count_rows() == 5


def test_an_answer_that_was_lost_is_no_other_writer(
    toy: ToyProblem, far: Since, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toy(), 1)
    put = objects.write

    def twice(uri: str, content: bytes, is_new: bool = False) -> str:
        put(uri, content, is_new)
        return put(uri, content, is_new)

    monkeypatch.setattr(objects, "write", twice)
    assert write(toy(), 2) == 1
    assert store.dataset(toy(), "labels").count_rows() == 4


def test_a_table_that_was_written_anew_is_not_taken_for_the_old_one(toy: ToyProblem, far: Since) -> None:
    for number in range(1, 13):
        write(toy(), number)
    store.delete_folder(uri(toy()))
    assert store.table_version(toy(), "labels") is None
    for number in range(1, 13):
        write(toy(), number, 1)
    assert store.dataset(toy(), "labels").count_rows() == 12


def test_a_log_with_a_gap_is_told(toy: ToyProblem, far: Since) -> None:
    for number in range(1, 4):
        write(toy(), number)
    store.delete(f"{uri(toy())}/_delta_log/{1:020}.json")
    with pytest.raises(DataError, match="commits are missing"):
        store.table_version(toy(), "labels")


def test_large_files_are_read_in_parts(toy: ToyProblem, far: Since, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_tables, "WHOLE_BYTES", 100)
    write(toy(), 1)
    far()
    found = store.dataset(toy(), "labels").to_table(columns=["label"], filter=pc.field("partition") == day(1))
    assert found.num_rows == 2
    assert [one for one in far() if one.place == "labels: rows" and not one.range] == []


def test_copies_in_a_folder_of_others_are_not_used(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toy(), 1)
    another_machine(tmp_path, monkeypatch)
    store.dataset(toy(), "labels").count_rows()
    (copies,) = (tmp_path / "other").glob("evergreen-copies-*")
    copies.chmod(0o755)
    far()
    assert store.dataset(toy(), "labels").count_rows() == 2
    assert kinds(far()) == {"LIST": 1, "GET": 2}


def test_staged_rows_take_one_request_each_way(toy: ToyProblem, far: Since) -> None:
    rows, place = statements(day(1), 9), store.store_uri("kettle", "staging", "x")
    with store.task():
        assert store.stage(place, rows, rows.schema) == 9
        assert kinds(far()) == {"PUT": 1}
        assert store.staged(place).to_table().equals(rows)
        assert far() == [], "a task knows what it has staged"
    with store.task():
        assert store.staged(place).filter(pc.field("label") == 1).count_rows() == 4
        assert store.staged(place).to_table().equals(rows)
        assert kinds(far()) == {"GET": 1}


def test_a_file_is_read_once_in_a_task(far: Since) -> None:
    place = store.store_uri("kettle", "models", "1", "lineage.json")
    assert store.find_json(place) is None
    store.write_json(place, {"a": 1})
    far()
    with store.task():
        assert [store.read_json(place), store.find_json(place)] == [{"a": 1}] * 2
        assert kinds(far()) == {"GET": 1}
        store.write_json(place, {"a": 2})
        assert store.read_json(place) == {"a": 2}
        store.delete(place)
        assert store.find_json(place) is None
        assert kinds(far()) == {"PUT": 1, "DELETE": 1}
