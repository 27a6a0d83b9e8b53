"""Ingest's clock: a run after each partition has closed, from the first to the last and not beyond."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from include import wiring
from include.wiring import clock, key_or_none
from pipelines.config import Partitions
from pipelines.health import kept


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
        ("hour", "2013-03-10T06Z", "2013-03-10T08Z", ["2013-03-10T06Z", "2013-03-10T07Z", "2013-03-10T08Z"]),
        ("hour", "2013-11-03T05Z", "2013-11-03T06Z", ["2013-11-03T05Z", "2013-11-03T06Z"]),  # both 01:00
        ("month", date(2013, 2, 1), date(2013, 4, 1), ["2013-02-01", "2013-03-01", "2013-04-01"]),
        ("quarter", date(2012, 10, 1), date(2013, 4, 1), ["2012-10-01", "2013-01-01", "2013-04-01"]),
    ],
)
def test_runs_for_each_partition_once(
    every: Literal["hour", "day", "week", "month", "quarter"],
    first: date | str,
    last: date | str,
    keys: list[str],
    at: str,
) -> None:
    dag = scheduled(catchup=True, every=every, first=first, last=last, at=at, timezone="America/New_York")
    assert all_keys(dag) == keys


def test_an_hour_runs_after_its_delay_and_a_month_on_the_first_day_of_the_next() -> None:
    hours = scheduled(catchup=True, every="hour", first="2013-03-10T06Z", timezone="America/New_York")
    info = hours.next_dagrun_info(last_automated_run_info=None)
    assert info.run_after == datetime(2013, 3, 10, 7, 10, tzinfo=UTC)
    assert info.partition_date == datetime(2013, 3, 10, 6, tzinfo=UTC)
    assert hours.timetable.summary == "hour closed, +00:10"
    months = scheduled(catchup=True, every="month", first=date(2013, 2, 1), timezone="America/New_York")
    assert months.next_dagrun_info(last_automated_run_info=None).run_after == datetime(2013, 3, 1, 9, tzinfo=UTC)
    assert months.timetable.summary == "month closed, 04:00"


@pytest.mark.parametrize(
    ("every", "good", "bad"),
    [("hour", "2013-03-10T06Z", "2013-03-10"), ("day", "2013-03-10", "2013-03-10T06Z"), ("hour", None, "06Z")],
)
def test_a_param_takes_a_key_of_the_problems_rhythm_or_none(
    every: Literal["hour", "day"], good: str | None, bad: str
) -> None:
    schema = key_or_none(Partitions(every=every, first=date(2013, 1, 1)))
    assert Param(good, **schema).resolve() == good
    with pytest.raises(ParamValidationError):
        Param(bad, **schema).resolve()


def test_unpausing_does_nothing_once_the_data_has_ended() -> None:
    dag = scheduled(every="week", first=date(2012, 12, 31), last=date(2013, 12, 30))
    assert dag.next_dagrun_info(last_automated_run_info=None) is None


def test_unpausing_takes_the_partition_that_closed_last_while_data_comes() -> None:
    partitions = Partitions(every="day", first=date(2020, 1, 1))
    dag = scheduled(every="day", first=date(2020, 1, 1))
    info = dag.next_dagrun_info(last_automated_run_info=None)
    assert info.run_after.date().isoformat() == partitions.shift(info.partition_key, 1)
    assert info.run_after.year > 2020


def test_a_task_that_failed_for_good_leaves_how_its_problem_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    written_down: list[str] = []
    monkeypatch.setattr(kept, "try_to_keep", written_down.append)
    wiring.keep_health({"ti": SimpleNamespace(dag_id="kettle.train"), "exception": None})
    assert written_down == ["kettle"], "one that was killed has no exception"
