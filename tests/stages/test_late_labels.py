"""A table whose labels come half a day after the event, with a config that says nothing of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import ledger, local_run, store
from pipelines.dataset.waiting import judgeable, waiting
from pipelines.errors import NothingToDo
from pipelines.handoffs.training import Leaks
from pipelines.problem import load_problem
from pipelines.release.reproduce import training_rows
from pipelines.stages import stage
from tests.handed_on import featurized
from tests.required import OF_TASK, REQUIRED

pytestmark = pytest.mark.slow
DAYS, A_DAY = 10, 48
LAST = "2024-01-10"


@pytest.fixture
def took() -> timedelta:
    """From the event to its label."""
    return timedelta(hours=12)


@pytest.fixture
def kettle(took: timedelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    days = {"partitions": {"every": "day", "first": "2024-01-01", "last": LAST}}
    (folder / "problem.yaml").write_text(yaml.safe_dump(REQUIRED | OF_TASK["binary"] | days))
    (folder / "events.sql").write_text("SELECT kettle_id, filled AS event_time, litres, watts, shelf FROM kettles")
    (folder / "labels.sql").write_text("SELECT kettle_id, filled AS event_time, known_time, label FROM kettles")
    random, count = np.random.default_rng(5), DAYS * A_DAY
    filled = [datetime(2024, 1, 1, tzinfo=UTC) + n * timedelta(days=1) / A_DAY for n in range(count)]
    litres = random.normal(size=count)
    kettles = pa.table(
        {
            "kettle_id": [f"k{n}" for n in range(count)],
            "filled": filled,
            "known_time": [time + took for time in filled],
            "litres": litres,
            "watts": random.normal(size=count),
            "shelf": random.choice(["top", "low"], count),
            "label": (litres + 2 * random.normal(size=count) > 0).astype(np.int8),
        }
    )
    pq.write_table(kettles, folder / "kettles.parquet")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    local_run.ingest("kettle", "2024-01-01", LAST)
    return "kettle"


def test_a_training_leaves_the_day_whose_labels_are_on_their_way_to_the_next_one(kettle: str) -> None:
    labelled = stage("train.label")(kettle)
    assert labelled.too_young == [LAST]
    checked = stage("train.check")(kettle, featurized(kettle, labelled))
    assert checked.leaks == Leaks(checked=True, findings=[])

    config = load_problem(kettle)
    events, labels = store.dataset(config, "events"), store.dataset(config, "labels")
    as_of = datetime.fromisoformat(checked.as_of)
    again = training_rows(config, events, labels, LAST, as_of, held=labelled.waiting)
    assert max(again["test"]["partition"].to_pylist()) == "2024-01-09"


@pytest.mark.parametrize(
    ("took", "whole", "late"),
    [
        (timedelta(hours=12), 9, {LAST}),
        (timedelta(hours=36), 8, {"2024-01-09", LAST}),
        (timedelta(minutes=5), 10, set()),
    ],
)
def test_scores_are_judged_by_a_day_once_its_labels_are_in(kettle: str, whole: int, late: set[str]) -> None:
    """The labels that came first may be those of the fast ones."""
    config = load_problem(kettle)
    days = store.partition_keys(config, "events")
    assert judgeable(config, LAST).among(days) == days[:whole]
    assert waiting(config, LAST, days) == late
    a_week_later = config.partitions.end("2024-01-17")
    assert waiting(config, LAST, days, a_week_later) == set()


@pytest.mark.parametrize("took", [timedelta(hours=36)])
def test_monitoring_says_which_labels_it_waits_for(
    kettle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    path = tmp_path / "problems" / "kettle" / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["gate"] = {"min_rows": 50}
    raw |= {"monitoring": {"policy": {"min_labels": 20}}, "dataset": {"split": {"embargo": False}}}
    path.write_text(yaml.safe_dump(raw))
    local_run.train(kettle, "2024-01-07")
    for day in ("2024-01-08", "2024-01-09", LAST):
        local_run.score(kettle, day)
    with pytest.raises(NothingToDo, match="labels of 2024-01-09 are still on their way"):
        local_run.monitor(kettle, LAST)
    (row,) = [row for row in ledger.decisions(load_problem(kettle), "monitoring") if row["partition"] == LAST]
    assert [pool["partition"] for pool in row["evidence"]["realised"]] == ["2024-01-08"]
