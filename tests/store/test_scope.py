from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines import ledger, store, temporary
from pipelines.artifacts import table_schema
from pipelines.problem import Problem
from pipelines.store import near, scope
from pipelines.store.scope import Kept
from tests.store.kettles import statements

ToyProblem = Callable[..., Problem]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch, store_folder: object) -> list[str]:
    """URIs of the tables that Delta opens, as it does."""
    opened = []

    class Counting(near.DeltaTable):  # type: ignore[misc]
        def __init__(self, uri: str, **options: object) -> None:
            opened.append(uri)
            super().__init__(uri, **options)

    monkeypatch.setattr(near, "DeltaTable", Counting)
    return opened


def test_a_task_opens_a_table_once(toy: ToyProblem, opens: list[str]) -> None:
    day = "2024-01-01"
    with store.task():
        store.write_table(toy(), "labels", statements(day, 3), [day])
        opens.clear()
        for _ in range(3):
            store.write_table(toy(), "labels", statements(day, 2), [day])
            assert store.dataset(toy(), "labels").count_rows() == 2
        assert store.table_version(toy(), "labels") == 3
        assert opens == []
        for _ in range(2):
            assert store.dataset(toy(), "labels", 0).count_rows() == 3
        assert len(opens) == 1, "a pinned version is opened once, too"
    store.partition_keys(toy(), "labels")
    store.partition_keys(toy(), "labels")
    assert len(opens) == 3, "without a task each call looks anew"


def test_a_task_keeps_to_what_it_has_opened_until_it_is_told(toy: ToyProblem, place: str) -> None:
    def of_another_task() -> None:
        with ThreadPoolExecutor(1) as pool:  # a thread has no task of its own
            pool.submit(note, "b").result()

    def note(decision: str) -> None:
        ledger.record(
            toy(), decision=decision, kind="test", partition="2024-01-01", verdict="", action="", reason="", evidence={}
        )

    with store.task():
        note("a")
        of_another_task()
        assert len(ledger.decisions(toy(), "test")) == 1
        store.refresh(toy(), "ledger")
        assert len(ledger.decisions(toy(), "test")) == 2
        of_another_task()
        note("c")
    assert sorted(row["decision"] for row in ledger.decisions(toy(), "test")) == ["a", "b", "c"]


def test_a_task_ends_with_what_it_knew(toy: ToyProblem, store_folder: object) -> None:
    with store.task():
        outer = scope.current()
        with store.task():
            assert scope.current() not in (None, outer)
        assert scope.current() is outer
    assert scope.current() is None
    with pytest.raises(ZeroDivisionError), store.task():
        _ = 1 / 0
    assert scope.current() is None


def test_a_process_that_forked_starts_with_nothing(toy: ToyProblem, far: object) -> None:
    """Of its parent's task, whose folders it leaves alone."""
    store.write_json(store.store_uri("kettle", "a.json"), {"a": 1})
    with store.task():
        assert store.read_json(store.store_uri("kettle", "a.json")) == {"a": 1}
        table = near.Table.__new__(near.Table)
        scope.current().tables["x"] = table  # type: ignore[union-attr]
        child = os.fork()
        if not child:
            is_right = scope.current() is None
            with store.task():
                is_right &= scope.current().tables == {}  # type: ignore[union-attr]
                is_right &= store.read_json(store.store_uri("kettle", "a.json")) == {"a": 1}
            os._exit(0 if is_right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert scope.current().tables == {"x": table}  # type: ignore[union-attr]


def test_what_a_killed_task_has_left_is_removed(
    toy: ToyProblem, far: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.task():
        store.partition_keys(toy(), "labels")
        (used,) = tmp_path.glob("evergreen-copies-*/work/*")
        left = used.with_name("evergreen-table-left")
        left.mkdir()
        store.partition_keys(toy(), "events")
        assert left.exists(), "it may be that somebody is about to use it"
        monkeypatch.setattr(temporary, "LOCKED_WITHIN_S", 0.0)
        store.partition_keys(toy(), "quarantine")
        assert used.exists()
        assert not left.exists()
    assert list(tmp_path.glob("evergreen-copies-*/work/*")) == []


def test_of_many_that_append_the_same_and_others_each_comes_in_once(toy: ToyProblem, place: str) -> None:
    name = "a decision whose name is longer than what Delta keeps of a text in a file's statistics " * 2

    def note(decision: str) -> bool:
        return ledger.record(
            toy(),
            decision=f"{name}{decision}",
            kind="test",
            partition="2024-01-01",
            verdict="",
            action="",
            reason="",
            evidence={},
        )

    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(note, "abcdabcd"))
    assert sum(new) == 4
    kept = [row["decision"].removeprefix(name) for row in ledger.decisions(toy(), "test")]
    assert sorted(kept) == ["a", "b", "c", "d"]
    assert not note("a")
    assert store.dataset(toy(), "ledger").schema.equals(table_schema(toy(), "ledger"))


def test_objects_are_kept_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "KEPT_BYTES", 10)
    kept, fetched = Kept(), []

    def fetch(name: str) -> Callable[[], bytes]:
        return lambda: fetched.append(name) or b"12345"  # type: ignore[func-returns-value]

    for name in ("a", "b", "a", "c", "a", "b"):
        assert kept.get(name, fetch(name)) == b"12345"
    assert fetched == ["a", "b", "c", "b"], "the longest unused goes first"
    kept.forget("")
    assert kept.get("a", lambda: None) is None
    assert kept.get("a", fetch("a")) is None, "that nothing is there is kept in mind"
