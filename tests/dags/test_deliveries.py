"""The DAGs of a problem of deliveries: they parse, look each day, and tell those after them which deliveries came."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import yaml
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from include import assets
from include.timetable import NewDeliveries
from pipelines.handoffs.base import HandOff
from pipelines.handoffs.ingestion import Published
from tests.config.test_deliveries import SHORT
from tests.handed_on import example

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag


@pytest.fixture
def ingest(parse: Callable[[], DagBag], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    folder = tmp_path / "shop"
    folder.mkdir()
    partitions = {"every": "delivery", "at": "05:30", "timezone": "Europe/Berlin"}
    (folder / "problem.yaml").write_text(yaml.safe_dump(SHORT | {"partitions": partitions}))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    bag = parse()
    assert not bag.import_errors and sorted(bag.dags) == [
        f"shop.{dag}" for dag in ("ingest", "monitor", "score", "train")
    ]
    return bag.dags["shop.ingest"]


def test_it_looks_once_a_day_without_a_key_and_takes_one_by_hand(ingest: DAG) -> None:
    scheduled = DagSerialization.from_dict(DagSerialization.to_dict(ingest))
    table = scheduled.timetable
    assert isinstance(table, NewDeliveries) and table.partitions == ingest.timetable.partitions  # type: ignore[attr-defined]
    assert not table.partitioned and table.partitioned_at_runtime and table.can_be_scheduled
    restriction = TimeRestriction(earliest=scheduled.start_date, latest=None, catchup=False)
    info = table.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert info is not None and info.partition_key is None
    at = info.run_after.in_timezone("Europe/Berlin")
    assert (at.hour, at.minute) == (5, 30) and at <= datetime.now(UTC)
    scheduled.validate_partition_key("d00003")
    first = ingest.params.get_param("first")
    assert first.resolve() is None and first.resolve(value="d00003") == "d00003"


def published(**changes: Any) -> HandOff:
    return example(Published).model_copy(update=changes)


@pytest.mark.parametrize(
    ("key", "first", "told"),
    [(None, None, ["d00004", "d00006"]), ("d00004", None, None), (None, "d00004", None)],
    ids=["a look", "by its key", "a bulk history"],
)
def test_what_came_is_scored_and_monitored(
    ingest: DAG, monkeypatch: pytest.MonkeyPatch, key: str | None, first: str | None, told: list[str] | None
) -> None:
    """A run with a key hands its own on; a bulk history wakes nothing."""
    outlets = {assets.events("shop"): Mock()}
    task: Any = ingest.get_task("publish")
    names = {name: f"{name}.csv" for name in ("d00004", "d00005", "d00006")}
    done = published(first="d00004", last="d00006", refused=["d00005"], deliveries=names)
    monkeypatch.setattr("pipelines.stages.ingest.publish.publish", lambda problem, validated, restate: done)
    monkeypatch.setattr("include.boundary._context", lambda: {"outlet_events": outlets, "task": task, "ti": Mock()})
    monkeypatch.setattr("include.boundary._measured", lambda *_: nullcontext(Mock()))
    run = SimpleNamespace(partition_key=key)
    task.python_callable("shop", {}, dag_run=run, params={"first": first, "restate": False})
    ((outlet, event),) = outlets.items()
    assert outlet in task.outlets
    if told is None:
        event.add_partitions.assert_not_called()
    else:
        event.add_partitions.assert_called_once_with(told)


def test_a_run_that_is_told_nothing_looks(ingest: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("pipelines.stages.ingest.extract.extract", lambda *given: asked.append(given))
    task: Any = ingest.get_task("extract")
    for key, first, last in ((None, None, None), ("d00003", None, None), (None, "d00001", "d00002")):
        run, params = SimpleNamespace(partition_key=key), {"first": first, "last": last}
        task.python_callable(*task.op_args, dag_run=run, params=params)
    assert asked == [("shop", None, None), ("shop", "d00003", "d00003"), ("shop", "d00001", "d00002")]
