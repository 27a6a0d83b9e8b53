"""A history in bulk, some partitions of which are not good: a table in files, and no more than extract to publish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from pipelines import local_run, quarantine, store
from pipelines.errors import DataError
from pipelines.problem import load_problem

pytestmark = pytest.mark.slow

PROBLEM, START, DAYS, A_DAY = "kettle", datetime(2024, 1, 1, tzinfo=UTC), 12, 120
YAML = """
description: Does it boil over?
owner: kitchen
key: kettle_id
partitions: {every: day, first: 2024-01-01}
sources:
  kettles: {path: kettles.parquet}
  spills: {path: spills.parquet}
columns:
  litres: {type: float, available: cutoff, min: 0, max: 1000}
  shelf: {type: string, available: cutoff}
validation: {allow_empty: false}
labels: {description: it boiled over}
features: {columns: [litres, shelf]}
training:
  baselines: [prior]
  candidates: {prior: {model: prior}, logistic: {model: logistic}}
gate: {limits: {auc: {min: 0.5}}, gain_over_baselines: {auc: 0.0}, gain_over_champion: {auc: 0.0}}
"""


def day(number: int) -> str:
    return (START + timedelta(days=number)).date().isoformat()


def deliver(folder: Path, mended: bool = False) -> int:
    """Write the source's files; gives their rows.

    Unless that has been `mended`, day 5 comes in another unit and lacks shelves, a third of day 7 is out of bounds and
    all its labels are wrong, one row of day 8 is bad, and day 9 is empty.
    """
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(DAYS):
        for row in range(A_DAY):
            litres, shelf, label = rng.gamma(4, 0.5), "top" if rng.random() < 0.5 else "bottom", rng.random() < 0.3
            if not mended:
                litres *= 1000 / 16 if number == 5 else 1
                shelf = shelf if number != 5 else None
                litres = -1.0 if (number == 7 and row < A_DAY // 3) or (number == 8 and row == 3) else litres
                label = number == 7 or label
            time = START + timedelta(days=number, hours=1 + 20 * row / A_DAY)
            if mended or number != 9:
                rows.append(
                    {
                        "kettle_id": f"{number}/{row}",
                        "event_time": time,
                        "litres": litres,
                        "shelf": shelf,
                        "label": int(label),
                        "known_time": time + timedelta(days=1),
                    }
                )
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.select(["kettle_id", "event_time", "litres", "shelf"]), folder / "kettles.parquet")
    pq.write_table(table.select(["kettle_id", "event_time", "known_time", "label"]), folder / "spills.parquet")
    return table.num_rows


@pytest.fixture
def kettle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "problems" / PROBLEM
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(YAML)
    (folder / "events.sql").write_text("SELECT * FROM kettles")
    (folder / "labels.sql").write_text("SELECT * FROM spills")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    return folder


def test_a_bulk_history_publishes_its_good_partitions_and_holds_the_others_with_all_reasons(
    kettle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, config = deliver(kettle), load_problem(PROBLEM)
    result = local_run.ingest(PROBLEM, day(0), day(DAYS - 1))
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert f"{result.verdict}\n{result.reason}" in told
    bad = [day(5), day(7), day(8), day(9)]  # the labels of day 7 are told on day 8
    assert result.refused == bad
    assert store.partition_keys(config, "events") == [day(number) for number in (*range(5), 6, 10, 11)]
    labels_read = sum(1 for number in range(DAYS - 1) if number != 9) * A_DAY
    assert result.events == 8 * A_DAY
    assert result.events + result.labels + result.quarantined == rows + labels_read
    assert result.held == result.quarantined == 3 * A_DAY + 4 * A_DAY

    assert quarantine.held(config) == set(bad)
    reasons = {row["partition"]: row["reason"] for row in quarantine.holds(config)}
    assert "litres: other values" in reasons[day(5)]
    assert "shelf: missing values" in reasons[day(5)]
    assert f"too many bad events (33.3% of {A_DAY} rows)" in reasons[day(7)]
    assert reasons[day(8)].startswith("labels: label: ")
    assert reasons[day(9)] == "no rows"
    assert result.verdict.startswith(f"4 of {DAYS} partitions refused, and held")
    assert all(key in result.reason for key in bad)
    assert "validation.shape.accepted" in result.reason
    page = store.read_bytes(
        store.store_uri(PROBLEM, "reports", f"{day(0)}_{day(DAYS - 1)}", "validation.html")
    ).decode()
    assert "4 partitions refused, and held; the others passed" in page

    deliver(kettle, mended=True)
    for number in (5, 7, 8, 9):
        assert local_run.ingest(PROBLEM, day(number), day(number)).refused == []
    assert quarantine.held(config) == set()
    assert store.dataset(config, "events").count_rows() == DAYS * A_DAY
    labels = store.dataset(config, "labels").count_rows()
    assert labels == (DAYS - 2) * A_DAY, "those of day 9 come with day 10, which was ingested before there were any"


def test_what_no_source_could_read_is_set_aside_though_the_first_partition_is_refused(kettle: Path) -> None:
    deliver(kettle, mended=True)
    table = pq.read_table(kettle / "kettles.parquet")
    litres = pc.if_else(pc.starts_with(table["kettle_id"], "0/"), -1.0, table["litres"])
    csv.write_csv(table.set_column(2, "litres", litres), kettle / "kettles.csv")
    with (kettle / "kettles.csv").open("a") as stream:
        stream.write("one,two\n")
    columns = "{kettle_id: string, event_time: timestamp, litres: float, shelf: string}"
    text = YAML.replace("kettles.parquet", f"kettles.csv, columns: {columns}")
    (kettle / "problem.yaml").write_text(text)
    result, config = local_run.ingest(PROBLEM, day(0), day(3)), load_problem(PROBLEM)
    assert result.refused == [day(0)]
    assert result.events == 3 * A_DAY
    assert (result.held, result.quarantined) == (A_DAY, A_DAY + 1)
    (row,) = quarantine.listing(config)
    assert (row["source"], row["partition"]) == ("kettles", day(1))


def test_a_bulk_history_that_mostly_is_no_good_publishes_nothing_and_holds_no_sound_partition(kettle: Path) -> None:
    deliver(kettle, mended=True)
    table = pq.read_table(kettle / "kettles.parquet")
    is_bad = pc.greater_equal(table["event_time"], pa.scalar(START + timedelta(days=4)))
    pq.write_table(table.set_column(2, "litres", pc.if_else(is_bad, -1.0, table["litres"])), kettle / "kettles.parquet")
    with pytest.raises(
        DataError, match=f"^8 of 12 partitions are refused, and 50% may be.*\n8 from {day(4)} to {day(11)}: too many"
    ):
        local_run.ingest(PROBLEM, day(0), day(DAYS - 1))
    config = load_problem(PROBLEM)
    assert store.partition_keys(config, "events") == []
    assert quarantine.held(config) == {day(number) for number in range(4, DAYS)}
