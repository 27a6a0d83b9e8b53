"""Ingest's clock: a run after each partition has closed, from the first to the last and not beyond."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from include.wiring import clock
from pipelines.config import Partitions


def scheduled(catchup: bool = False, **partitions: Any) -> Any:
    """The DAG as the scheduler sees it."""
    dag = DAG("p.ingest", catchup=catchup, **clock(Partitions(**partitions)))
    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


def all_keys(dag: Any) -> list[str]:
    keys, info = [], dag.next_dagrun_info(last_automated_run_info=None)
    while info is not None:
        keys.append(info.partition_key)
        info = dag.next_dagrun_info(last_automated_run_info=info)
    return keys


@pytest.mark.parametrize("at", ["00:00", "04:00", "23:59"])
@pytest.mark.parametrize(
    ("every", "first", "last", "keys"),
    [
        ("week", date(2013, 3, 4), date(2013, 3, 18), ["2013-03-04", "2013-03-11", "2013-03-18"]),  # clocks change
        ("day", date(2013, 3, 9), date(2013, 3, 11), ["2013-03-09", "2013-03-10", "2013-03-11"]),
        ("day", date(2013, 11, 3), date(2013, 11, 3), ["2013-11-03"]),
    ],
)
def test_runs_for_each_partition_once(
    every: Literal["day", "week"], first: date, last: date, keys: list[str], at: str
) -> None:
    dag = scheduled(catchup=True, every=every, first=first, last=last, at=at, timezone="America/New_York")
    assert all_keys(dag) == keys


def test_unpausing_does_nothing_once_the_data_has_ended() -> None:
    dag = scheduled(every="week", first=date(2012, 12, 31), last=date(2013, 12, 30))
    assert dag.next_dagrun_info(last_automated_run_info=None) is None


def test_unpausing_takes_the_partition_that_closed_last_while_data_comes() -> None:
    partitions = Partitions(every="day", first=date(2020, 1, 1))
    dag = scheduled(every="day", first=date(2020, 1, 1))
    info = dag.next_dagrun_info(last_automated_run_info=None)
    assert info.run_after.date().isoformat() == partitions.shift(info.partition_key, 1)
    assert info.run_after.year > 2020
