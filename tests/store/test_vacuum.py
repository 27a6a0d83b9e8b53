"""Files that no version of a table needs, and those that must stay."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from pipelines import store
from pipelines.store.files import local
from pipelines.store.tables import opened
from pipelines.store.vacuum import unneeded, vacuum
from tests.conftest import ToyProblem
from tests.store.kettles import statements

AT_ONCE = timedelta(0)
DAY = "2024-01-01"


def test_files_of_pinned_versions_stay_and_the_others_go(toy: ToyProblem, place: str) -> None:
    problem = toy()
    for rows in range(1, 5):
        store.write_table(problem, "labels", statements(DAY, rows), [DAY])
    uri = store.table_uri(problem, "labels")
    replaced = unneeded(uri, {1}, AT_ONCE)
    assert len(replaced) == 2 and all(file.size > 0 and file.uri.startswith(f"{uri}/partition=") for file in replaced)
    assert unneeded(uri, {1}, timedelta(days=1)) == [], "somebody may still read what was the newest yesterday"
    assert store.dataset(problem, "labels", 2).count_rows() == 3, "to look deletes nothing"

    vacuum(uri, {1}, AT_ONCE)
    assert [store.dataset(problem, "labels", version).count_rows() for version in (1, 3)] == [2, 4]
    assert not {file.uri for file in replaced} & {file.uri for file in store.listing(uri)}
    assert unneeded(uri, {1}, AT_ONCE) == []
    with store.task():  # a table that was opened before goes on
        store.write_table(problem, "labels", statements("2024-01-02", 2), ["2024-01-02"])
    assert store.dataset(problem, "labels").count_rows() == 6
    assert store.dataset(problem, "labels", 1).count_rows() == 2


def test_a_write_that_is_under_way_loses_nothing(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy()
    store.write_table(problem, "labels", statements(DAY, 1), [DAY])
    uri = store.table_uri(problem, "labels")
    writer = opened(uri)
    written, abandoned = (local(uri) / f"partition={DAY}" / name for name in ("written.parquet", "abandoned.parquet"))
    for path in (written, abandoned):
        path.write_bytes(b"rows of a commit that is still to come")
    os.utime(abandoned, (0, 0))
    assert [Path(file.uri).name for file in unneeded(uri, (), timedelta(days=1))] == ["abandoned.parquet"]
    vacuum(uri, (), timedelta(days=1))
    assert written.exists() and not abandoned.exists()
    rows = statements("2024-01-02", 3)
    writer.replace(rows.to_reader(), ["partition", "source"], {"partition": {"2024-01-02"}})
    assert store.dataset(problem, "labels").count_rows() == 4, "the commits of a vacuum are in nobody's way"


def test_of_a_table_that_nobody_wrote_nothing_goes(toy: ToyProblem, store_folder: Path) -> None:
    uri = store.table_uri(toy(), "labels")
    assert unneeded(uri, (), AT_ONCE) == []
    vacuum(uri, (), AT_ONCE)
    assert list(store.listing(uri)) == []
