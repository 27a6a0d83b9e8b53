"""Tables on S3: how many requests they take, and what holds when others write, tables are deleted, answers are lost."""

from __future__ import annotations

import errno
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow.fs import LocalFileSystem

from benchmarks.requests import Request
from pipelines import store, temporary
from pipelines.errors import ConfigError, DataError, TransientError
from pipelines.problem import Problem
from pipelines.store import far as far_tables
from pipelines.store import objects, staging
from pipelines.store.copies import LogCopies, RowCopies
from pipelines.store.explained import explained
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


def replace(table: FarTable, number: int, count: int = 2) -> int:
    reader = statements(day(number), count).to_reader()
    return table.replace(reader, ["partition", "source"], {"partition": {day(number)}})


def log_object(problem: Problem, name: str) -> str:
    return f"{uri(problem)}/_delta_log/{name}"


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
    write(toy(), 1)
    one, other = FarTable(uri(toy())), FarTable(uri(toy()))
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


def test_a_write_that_came_second_knows_its_own_version(
    toy: ToyProblem, far: Since, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And makes the checkpoint that is due, whoever writes the same rows right after it."""
    for number in range(1, 9):
        write(toy(), number)
    late, third = FarTable(uri(toy())), FarTable(uri(toy()))
    replace(FarTable(uri(toy())), 20)
    put = objects.write

    def then_another(uri: str, content: bytes, is_new: bool = False) -> str:
        etag = put(uri, content, is_new)
        if uri.endswith(f"{9:020}.json"):
            monkeypatch.setattr(objects, "write", put)
            third.refresh()
            replace(third, 21, 7)
        return etag

    monkeypatch.setattr(objects, "write", then_another)
    assert replace(late, 21) == 9
    rows = late.dataset()
    assert rows is not None
    assert rows.to_table(filter=pc.field("partition") == day(21)).num_rows == 2
    assert third.version == 10
    assert objects.is_there(log_object(toy(), f"{9:020}.checkpoint.parquet"))
    late.refresh()
    assert late.version == 10
    delta = DeltaTable(uri(toy()), storage_options=store.storage_options())
    assert delta.to_pyarrow_dataset().count_rows() == 8 * 2 + 2 + 7


def test_a_column_that_one_adds_while_others_write(toy: ToyProblem, far: Since) -> None:
    write(toy(), 1)
    adding, other = FarTable(uri(toy())), FarTable(uri(toy()))
    write(toy(), 2)
    rows = statements(day(3), 2).append_column("note", pa.array(["a", "b"]))
    adding.replace(rows.to_reader(), ["partition", "source"], {"partition": {day(3)}})
    assert adding.version == 2
    with pytest.raises(CommitFailedError):
        replace(other, 4)
    other.refresh()
    assert replace(other, 4) == 3
    for table in (DeltaTable(uri(toy()), storage_options=store.storage_options()), adding.at(), other.at()):
        assert table is not None
        assert "note" in {field.name for field in table.schema().fields}
    notes = other.dataset().to_table()["note"].to_pylist()  # type: ignore[union-attr]
    assert sorted(note or "" for note in notes) == [""] * 6 + ["a", "b"]


def test_a_commit_of_many_files_gets_a_checkpoint_at_once(
    toy: ToyProblem, far: Since, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toy(), 1)
    monkeypatch.setattr("pipelines.store.far.LARGE_COMMIT", 0)
    write(toy(), 2)
    assert not objects.is_there(log_object(toy(), f"{0:020}.checkpoint.parquet"))
    assert objects.is_there(log_object(toy(), f"{1:020}.checkpoint.parquet"))
    assert store.dataset(toy(), "labels").count_rows() == 4
    assert DeltaTable(uri(toy()), storage_options=store.storage_options()).version() == 1


def test_what_is_committed_is_in_though_its_checkpoint_is_not(
    toy: ToyProblem, far: Since, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 10):
        write(toy(), number)
    put = objects.write

    def refused(uri: str, content: bytes, is_new: bool = False) -> str:
        if "checkpoint" in uri:
            raise OSError("no (HTTP status 503)")
        return put(uri, content, is_new)

    monkeypatch.setattr(objects, "write", refused)
    with store.task():
        assert write(toy(), 10) == 9
        assert write(toy(), 11) == 10
        assert store.dataset(toy(), "labels").count_rows() == 22
    assert "no checkpoint of version 9" in caplog.text
    assert store.dataset(toy(), "labels").count_rows() == 22


def test_a_table_that_was_written_anew_is_not_taken_for_the_old_one(toy: ToyProblem, far: Since) -> None:
    for number in range(1, 13):
        write(toy(), number)
    store.delete_folder(uri(toy()))
    assert store.table_version(toy(), "labels") is None
    for number in range(1, 13):
        write(toy(), number, 1)
    assert store.dataset(toy(), "labels").count_rows() == 12


def test_a_table_that_is_written_anew_while_it_is_opened(
    toy: ToyProblem, far: Since, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 13):
        write(toy(), number)
    start = LogCopies.start

    def others_come_first(copies: LogCopies) -> str:
        found = start(copies)
        monkeypatch.setattr(LogCopies, "start", start)
        store.delete_folder(uri(toy()))
        for number in range(1, 4):
            write(toy(), number, 1)
        return found

    monkeypatch.setattr(LogCopies, "start", others_come_first)
    assert store.dataset(toy(), "labels").count_rows() == 3


@pytest.mark.parametrize("name", ["0000000001.0000000001", "80a083e8-7026-4e79-81be-64bd76c43a11"])
def test_other_writers_checkpoints_are_read(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Those in parts, and those of version 2, where the commits before them are gone."""
    for number in range(1, 13):
        write(toy(), number)
    usual = log_object(toy(), f"{9:020}.checkpoint.parquet")
    objects.write(log_object(toy(), f"{9:020}.checkpoint.{name}.parquet"), objects.read(usual))
    objects.write(log_object(toy(), f"{3:020}.{11:020}.compacted.json"), b"")
    for gone in (usual, log_object(toy(), "_last_checkpoint"), *(log_object(toy(), f"{n:020}.json") for n in range(9))):
        objects.delete(gone)
    another_machine(tmp_path, monkeypatch)
    assert store.dataset(toy(), "labels").count_rows() == 24
    far()
    assert store.table_version(toy(), "labels") == 11
    assert kinds(far()) == {"LIST": 1}
    with pytest.raises(DataError, match="version 4 of labels cannot be read"):
        store.dataset(toy(), "labels", 4)
    for number in range(13, 22):
        write(toy(), number)
    assert objects.is_there(log_object(toy(), f"{19:020}.checkpoint.parquet"))
    delta = DeltaTable(uri(toy()), storage_options=store.storage_options())
    assert delta.to_pyarrow_dataset().count_rows() == store.dataset(toy(), "labels").count_rows() == 42


def test_a_log_that_was_cleaned_up_to_its_checkpoint(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toy(), 1)
    table = FarTable(uri(toy()))
    for number in range(2, 13):
        replace(table, number)
    stale = FarTable(uri(toy()))
    for number in range(13, 23):
        replace(table, number)
    for number in range(20):
        objects.delete(log_object(toy(), f"{number:020}.json"))
    stale.refresh()
    assert stale.version == 21
    assert replace(stale, 1) == 22
    another_machine(tmp_path, monkeypatch)
    assert store.dataset(toy(), "labels").count_rows() == 44
    with pytest.raises(DataError, match="version 10 of labels cannot be read"):
        store.dataset(toy(), "labels", 10)


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


def test_large_files_are_uploaded_one_by_one(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes as many connections as there may be."""
    monkeypatch.setattr(far_tables, "WHOLE_BYTES", 100)
    upload, turn = objects.upload, threading.Lock()

    def alone(path: Path, uri: str) -> None:
        assert turn.acquire(blocking=False)
        time.sleep(0.01)
        upload(path, uri)
        turn.release()

    monkeypatch.setattr(objects, "upload", alone)
    rows = pa.concat_tables([statements(day(number), 2) for number in range(1, 9)])
    store.write_table(toy(), "labels", rows, [day(number) for number in range(1, 9)])
    assert kinds(far()) == {"LIST": 1, "PUT": 9}
    assert [path for path in tmp_path.rglob("*.parquet") if "work" in path.parts] == []
    assert store.dataset(toy(), "labels").to_table().num_rows == 16


def copies_in(folder: Path) -> Path:
    (copies,) = folder.glob("evergreen-copies-*")
    return copies


@pytest.mark.parametrize("kind", ["logs/*", "rows"])
def test_what_a_crash_has_left_of_a_copy_is_not_read(toy: ToyProblem, far: Since, tmp_path: Path, kind: str) -> None:
    write(toy(), 1)
    write(toy(), 2)
    for copy in copies_in(tmp_path).glob(f"{kind}/*"):
        copy.write_bytes(b"")
    assert store.dataset(toy(), "labels").to_table().num_rows == 4


def test_copies_may_be_deleted_at_any_time(toy: ToyProblem, far: Since, tmp_path: Path) -> None:
    with store.task():
        write(toy(), 1)
        store.dataset(toy(), "labels")
        for kind in ("logs", "rows"):
            shutil.rmtree(copies_in(tmp_path) / kind)
        for number in range(2, 12):
            write(toy(), number)
        assert store.dataset(toy(), "labels").to_table().num_rows == 22
    assert store.dataset(toy(), "labels").to_table().num_rows == 22


def test_what_cannot_be_kept_is_used_all_the_same(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toy(), 1)
    another_machine(tmp_path, monkeypatch)

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert store.dataset(toy(), "labels").to_table().num_rows == 2
    assert write(toy(), 2) == 1
    far()
    assert store.dataset(toy(), "labels").to_table().num_rows == 4
    assert kinds(far()) == {"LIST": 1, "GET": 4}


def test_rows_are_kept_up_to_a_limit(far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_COPIES_MB", "1")
    monkeypatch.setattr(RowCopies, "_unswept", None)
    sweep, sweeps = RowCopies._make_room, []
    monkeypatch.setattr(RowCopies, "_make_room", lambda self: sweeps.append(1) or sweep(self))
    for number in range(200):
        RowCopies("s3://bucket/t").add(f"{number}", bytes(20_000))
    sizes = [copy.stat().st_size for copy in copies_in(tmp_path).glob("rows/*")]
    assert 0.9 * 2**20 < sum(sizes) < 1.1 * 2**20
    assert len(sweeps) < 60, "each looks at all copies"
    assert RowCopies("s3://bucket/t").find("199", 20_000) == bytes(20_000)
    assert RowCopies("s3://bucket/t").find("0", 20_000) is None


def test_nobody_has_to_keep_copies(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_COPIES_MB", "0")
    write(toy(), 1)
    assert store.dataset(toy(), "labels").to_table().num_rows == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.setenv("EVERGREEN_COPIES_MB", "none")
    with pytest.raises(ConfigError, match="'none' is no number of megabytes"):
        store.table_version(toy(), "labels")


def test_a_machine_without_room_says_where(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=f"disk is full\n  where: {tmp_path}"), explained("s3://bucket/t"):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="no folder for temporary files"):
        store.table_version(toy(), "labels")


def test_other_keys_are_used_at_once(far: Since, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("first", "second"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        address = objects._client().generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
        assert f"Credential={key}%2F" in address


@pytest.mark.parametrize("name", ["link", "ä b", "50%", "#1?"])
def test_the_folder_for_temporary_files_may_be_a_link_and_have_any_name(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    folder.symlink_to(tmp_path) if name == "link" else folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    write(toy(), 1)
    write(toy(), 1, 3)
    assert store.dataset(toy(), "labels").count_rows() == 3
    (file,) = store.partition_files(toy(), "labels", day(1))
    assert file.startswith(f"{uri(toy())}/partition=")
    assert objects.is_there(file)


@pytest.mark.parametrize("name", ["a[1]", "a%20b"])
def test_a_folder_that_delta_cannot_read_is_told(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with pytest.raises(ConfigError, match="Delta cannot work in a folder"):
        write(toy(), 1)


def test_a_drive_that_knows_no_locks_will_do(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(temporary.fcntl, "flock", unknown)
    monkeypatch.setattr(temporary, "LOCKED_WITHIN_S", 0.0)
    with store.task():
        write(toy(), 1)
        store.table_version(toy(), "events")
        assert write(toy(), 2) == 1, "nobody has removed the folder that is used"
    assert list(tmp_path.glob("evergreen-copies-*/work/*")) == []


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


def test_staged_rows_that_are_passed_on_are_read_by_another_process(
    toy: ToyProblem, far: Since, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Arrow's client writes, the server of these tests does not take: here it writes to a folder.
    (tmp_path / "x").mkdir()
    monkeypatch.setattr(staging, "_located", lambda _uri: (LocalFileSystem(), str(tmp_path / "x")))
    rows, place = statements(day(1), 9), store.store_uri("kettle", "staging", "x")
    store.stage(place, rows, rows.schema)
    store.stage(place, rows, rows.schema, is_passed_on=True)
    passed_on = pickle.dumps(list(store.staged(place).get_fragments()))
    program = "import pickle, sys; print(sum(file.count_rows() for file in pickle.load(sys.stdin.buffer)))"
    done = subprocess.run([sys.executable, "-c", program], input=passed_on, capture_output=True, check=True)
    assert done.stdout == b"9\n"


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
