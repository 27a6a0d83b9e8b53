"""A day costs what it reads, and it reads the days around it, however many there were before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth
from pipelines import local_run, store
from pipelines.dataset import waiting as waiting_module
from pipelines.dataset.waiting import Judgeable, judgeable
from pipelines.errors import NothingToDo
from pipelines.handoffs.monitoring import Profiled
from pipelines.problem import load_problem
from pipelines.stages import stage
from pipelines.stages.waiting import handed_on
from tests.handed_on import example
from tests.mlflow_database import mlflow_in

pytestmark = pytest.mark.slow

DAYS, GONE = 75, 10


@pytest.fixture(scope="module")
def kettle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Eleven weeks of days are published, a version serves, and the files of the first days are gone from the disk."""
    folder = tmp_path_factory.mktemp("growth")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("EVERGREEN_PROBLEMS", "EVERGREEN_STORE_URI", "MLFLOW_TRACKING_URI"):
            patch.setenv(name, "")  # what `lay_out` sets is taken back
        growth.lay_out(folder, DAYS + 3)
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(folder))
        local_run.ingest(growth.NAME, growth.key(0), growth.key(DAYS - 1))
        local_run.train(growth.NAME, growth.key(DAYS - 1))
        for table in ("events", "labels", "features"):
            for day in range(GONE):
                files = store.partition_files(load_problem(growth.NAME), table, growth.key(day))  # type: ignore[arg-type]
                for file in files:
                    Path(file).unlink()
        yield growth.NAME


def test_a_day_reads_no_file_of_the_far_past(kettle: str) -> None:
    config = load_problem(kettle)
    with pytest.raises(FileNotFoundError):
        store.dataset(config, "events").to_table()
    for day in map(growth.key, range(DAYS, DAYS + 3)):
        assert local_run.ingest(kettle, day, day).events == growth.ROWS
        assert local_run.score(kettle, day).rows == growth.ROWS
        with pytest.raises(NothingToDo):
            local_run.monitor(kettle, day)
    estimates = store.dataset(config, "estimates").to_table().to_pylist()
    assert {row["partition"] for row in estimates if row["realised"] is not None} == {
        growth.key(DAYS),
        growth.key(DAYS + 1),
    }


def test_what_labels_are_on_their_way_is_looked_up_once(kettle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    look_up = waiting_module.waiting

    def noted(config: Any, partition: str, *given: Any) -> set[str]:
        looked_up.append(partition)
        return look_up(config, partition, *given)

    monkeypatch.setattr(waiting_module, "waiting", noted)
    newest = growth.key(DAYS + 2)
    with pytest.raises(NothingToDo):
        local_run.monitor(kettle, newest)
    assert looked_up == [newest]


def test_what_is_handed_on_is_what_a_stage_would_find(kettle: str) -> None:
    config, newest = load_problem(kettle), growth.key(DAYS + 2)
    profiled = stage("monitor.profile")(kettle, newest)
    assert profiled.late == [newest], "labels come a day later"
    keys = [growth.key(day) for day in range(DAYS + 3)]
    by_itself, handed = judgeable(config, newest), handed_on(config, profiled)
    assert by_itself == handed == handed_on(config, example(Profiled, partition=newest))
    assert handed.among(reversed(keys)) == keys[:-1]
    assert Judgeable(config, newest, frozenset(keys[:2])).among(keys) == keys[2:-1]
