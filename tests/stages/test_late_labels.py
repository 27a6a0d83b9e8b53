"""A table whose labels come half a day after the event, with a config that says nothing of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import inline, store
from pipelines.problem import load_problem
from pipelines.release.reproduce import training_rows
from pipelines.stages import train
from tests.required import OF_TASK, REQUIRED

pytestmark = pytest.mark.slow
DAYS, A_DAY, TOOK = 8, 48, timedelta(hours=12)
LAST = "2024-01-08"


@pytest.fixture
def kettle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    days = {"partitions": {"every": "day", "first": "2024-01-01", "last": LAST}}
    (folder / "problem.yaml").write_text(yaml.safe_dump(REQUIRED | OF_TASK["binary"] | days))
    (folder / "events.sql").write_text("SELECT kettle_id, filled AS event_time, litres, watts, shelf FROM kettles")
    (folder / "labels.sql").write_text("SELECT kettle_id, filled AS event_time, known_time, label FROM kettles")
    random, count = np.random.default_rng(5), DAYS * A_DAY
    filled = [datetime(2024, 1, 1, tzinfo=UTC) + n * timedelta(days=1) / A_DAY for n in range(count)]
    litres = random.normal(size=count)
    kettles = pa.table({
        "kettle_id": [f"k{n}" for n in range(count)],
        "filled": filled, "known_time": [time + TOOK for time in filled],
        "litres": litres, "watts": random.normal(size=count), "shelf": random.choice(["top", "low"], count),
        "label": (litres + 2 * random.normal(size=count) > 0).astype(np.int8),
    })  # fmt: skip
    pq.write_table(kettles, folder / "kettles.parquet")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    inline.ingest("kettle", "2024-01-01", LAST)
    return "kettle"


def test_a_training_leaves_the_day_whose_labels_are_on_their_way_to_the_next_one(kettle: str) -> None:
    labelled = train.label(kettle)
    assert labelled["too_young"] == [LAST]
    checked = train.check(kettle, train.featurize(kettle, train.sample(kettle, labelled)))
    assert checked["leaks"] == {"checked": True, "findings": []}

    config = load_problem(kettle)
    events, labels = store.dataset(config, "events"), store.dataset(config, "labels")
    as_of = datetime.fromisoformat(checked["as_of"])
    again = training_rows(config, events, labels, LAST, as_of, held=labelled["waiting"])
    assert max(again["test"]["partition"].to_pylist()) == "2024-01-07"
