"""The benchmark of real tables: what it sets, what it measures the plain model on, and what its page says."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from benchmarks.tables.catalogue import TABLES
from benchmarks.tables.page import page
from benchmarks.tables.play import HERE, NO_SHAPE, prepared
from benchmarks.tables.played import Alarm, Gain, Played, Stop, kept
from tests.tables.conftest import problem_of

FACTS = {"timezone", "last"}  # of the data: no choice of whoever uses it
SECTIONS = {
    "description",
    "owner",
    "task",
    "key",
    "partitions",
    "sources",
    "available",
    "columns",
    "labels",
    "features",
}
REQUIRED = {
    "partitions": {"every", "first"} | FACTS,
    "labels": {"classes"},
    "features": {"columns", "datetime"},
}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_problem_sets_nothing_but_what_is_required(name: str) -> None:
    settings = yaml.safe_load((HERE / "problems" / name / "problem.yaml").read_text())
    assert set(settings) <= SECTIONS
    for section, wanted in REQUIRED.items():
        assert set(settings.get(section, {})) <= wanted, section
    assert all(set(column) == {"type"} for column in settings["columns"].values())
    assert all(set(source) == {"path"} for source in settings["sources"].values())


def test_every_problem_has_a_table_and_every_table_a_problem() -> None:
    assert {path.name for path in (HERE / "problems").iterdir()} == set(TABLES)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([datetime(2024, 1, 8, 5, 30, tzinfo=UTC), datetime(2024, 1, 8, 6, tzinfo=UTC)]),
        pa.array([datetime(2024, 1, 7, 23, 30), datetime(2024, 1, 8, 0, 0)]),
        pa.array([date(2024, 1, 7), date(2024, 1, 8)]),
    ],
    ids=["instants", "local times", "dates"],
)
def test_a_row_lies_in_the_week_of_its_own_zone_whatever_kind_of_time_it_has(tmp_path: Path, times: pa.Array) -> None:
    problem = problem_of(
        "paid: {type: float, available: cutoff}",
        features={"columns": ["paid"], "datetime": {"day": {"part": "weekday"}}},
    )
    problem._folder = tmp_path / "orders"
    problem.folder.mkdir()
    (problem.folder / "events.sql").write_text("SELECT order_id, placed AS event_time, paid FROM orders")
    rows = pa.table({"order_id": [7, 8], "placed": times, "paid": [1.0, 2.0], "label": pa.array([1, None], pa.int8())})
    found = prepared(problem, rows).sort_by("key")
    assert found["key"].to_pylist() == ["7", "8"]
    assert found["partition"].to_pylist() == ["2024-01-01", "2024-01-08"]
    assert [day % 7 for day in found["day"].to_pylist()] == [0, 1]
    assert found["label"].to_pylist() == [1, None]


def played(name: str, **more: object) -> Played:
    settings = {
        "name": name,
        "task": "binary",
        "every": "week",
        "features": 3,
        "rows": 1_000,
        "history": ("a", "b", "c"),
        "scored": ("d", "e"),
        "empty": 1,
        "quarantined": 0,
        "refused": {},
        "stops": (),
        "verdicts": {"d": "stable", "e": "label shift"},
        "alarms": (),
        "candidate": "xgboost",
        "gains": (),
        "cpu_seconds": {"ingest": 1.25, "train": 2.5},
    }
    return Played.model_validate(settings | more)


def test_the_page_counts_what_stopped_what_was_refused_and_which_alarms_were_false() -> None:
    alarms = [
        Alarm(partition="e", verdict="label shift", action="alert", reason="a", is_right=is_right, judged="b")
        for is_right in (True, False)
    ]
    stop = Stop(stage="ingest", partitions=("c",), message="too\n  few", went_on=NO_SHAPE)
    worse = Gain(metric="auc", champion=0.6, plain=0.7, gain=-0.1, low=-0.2, high=-0.05)
    as_good = Gain(metric="auc", champion=0.6, plain=0.61, gain=-0.01, low=-0.03, high=0.01)
    text = page(
        [
            played("stops", alarms=alarms, gains=(worse,)),
            played("flights", refused={"c": "unlike those before it"}, stops=(stop,), gains=(as_good,)),
        ]
    )
    assert "| tables that go through without a stop | all | 1 of 2 |" in text
    assert "| sound partitions that ingest did not publish | at most 0.01 | 1 of 10 (0.100) |" in text
    assert "| partitions with a false alarm | at most 0.05 | 1 of 4 (0.250) |" in text
    assert "| tables whose champion is at least as good as a plain XGBoost | all | 1 of 2 |" in text
    assert "- flights, ingest c: too few (went on with `validation: {shape: null}`)" in text
    assert "- flights, c: unlike those before it" in text
    assert "| -0.01 (-0.03 to +0.01) | 4 |" in text
    assert "**Not played here: covid_tests, hotel_rates," in text and "storms.**" in text
    assert "Not played" not in page([played(name) for name in TABLES])


def test_a_table_that_was_played_is_not_played_again(tmp_path: Path) -> None:
    path = tmp_path / "stops.json"
    assert kept(path) is None
    before = played("stops", stops=(Stop(stage="train", partitions=("c",), message="m", went_on=""),))
    path.write_text(before.model_dump_json())
    assert kept(path) == before
