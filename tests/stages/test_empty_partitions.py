"""A seasonal table: weeks without rows are ingested, scored and watched as what they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import ledger, local_run, store, summary
from pipelines.asof.clock import present
from pipelines.asof.ingested import empty, ingested
from pipelines.errors import DataError, NothingToDo
from pipelines.health.state import health_of
from pipelines.paths import manifest_uri
from pipelines.problem import load_problem
from pipelines.stages import stage
from tests.mlflow_database import mlflow_in

pytestmark = pytest.mark.slow

WEEKS = [(datetime(2024, 1, 1) + timedelta(weeks=n)).date().isoformat() for n in range(16)]
CLOSED = [WEEKS[3], WEEKS[4], WEEKS[12], WEEKS[13]]  # nobody boils water then
HISTORY = (WEEKS[0], WEEKS[11])
A_WEEK = 150
PROBLEM: dict[str, Any] = {
    "description": "Does the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "week", "first": WEEKS[0]},
    "sources": {"kettles": {"path": "kettles.parquet"}},
    "columns": {"litres": {"type": "float", "available": "cutoff"}, "watts": {"type": "float", "available": "cutoff"}},
    "features": {"columns": ["litres", "watts"]},
    "training": {
        "candidates": {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}},
        "baselines": ["prior"],
    },
    "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": -0.1}, "gain_over_champion": {"auc": 0.0}},
    "monitoring": {"report_rows": None, "policy": {"updates": "manual"}},
}


def kettles(closed: list[str] = CLOSED) -> pa.Table:
    return pa.concat_tables([_week(place) for place, week in enumerate(WEEKS) if week not in closed])


def _week(place: int) -> pa.Table:
    random, start = np.random.default_rng(place), datetime.fromisoformat(WEEKS[place]).replace(tzinfo=UTC)
    litres, watts, noise = random.normal(size=(3, A_WEEK))
    times = [start + timedelta(hours=n) for n in range(A_WEEK)]
    return pa.table(
        {
            "kettle_id": [f"{WEEKS[place]} {n}" for n in range(A_WEEK)],
            "litres": litres,
            "watts": watts,
            "filled": pa.array(times, pa.timestamp("us", "UTC")),
            "label": (litres + watts + noise > 0).astype(np.int8),
        }
    )


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A history with two empty weeks, a model, and two more weeks: one in season, one out of it."""
    root = tmp_path_factory.mktemp("season")
    folder = root / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(PROBLEM))
    (folder / "events.sql").write_text("SELECT kettle_id, filled AS event_time, litres, watts FROM kettles")
    (folder / "labels.sql").write_text(
        "SELECT kettle_id, filled AS event_time, filled + INTERVAL 1 HOUR AS known_time, label FROM kettles"
    )
    pq.write_table(kettles(), folder / "kettles.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
        patch.setenv("EVERGREEN_STORE_URI", (root / "store").as_uri())
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(root))
        patch.chdir(root)  # MLflow keeps artifacts beside its database
        published = local_run.ingest("kettle", *HISTORY)
        assert (published.events, published.empty) == (10 * A_WEEK, 2)
        local_run.train("kettle")
        yield load_problem("kettle")


@pytest.fixture(scope="module")
def closed_week(season: Any) -> str:
    """Ingested, scored and watched."""
    local_run.ingest("kettle", CLOSED[2], CLOSED[2])
    assert local_run.score("kettle", CLOSED[2]).rows == 0
    with pytest.raises(NothingToDo, match="empty: the partition has no rows"):
        local_run.monitor("kettle", CLOSED[2])
    return CLOSED[2]


def test_a_week_without_rows_is_remembered_as_ingested(season: Any, closed_week: str) -> None:
    assert empty(season) == CLOSED[:3]
    assert ingested(season) == WEEKS[:13]
    assert store.partition_keys(season, "events") == [week for week in WEEKS[:12] if week not in CLOSED]


def test_it_counts_in_no_training_window(season: Any, closed_week: str) -> None:
    labelled = stage("train.label")("kettle", CLOSED[2])
    assert labelled.rows == 10 * A_WEEK
    assert labelled.as_of == season.partitions.end(CLOSED[2]).isoformat(), "it goes by, all the same"


def test_its_manifest_says_that_it_was_scored_and_has_no_rows(season: Any, closed_week: str) -> None:
    manifest = store.read_json(manifest_uri(season, closed_week))
    assert (manifest["rows"], manifest["files"], manifest["model_version"]) == (0, [], "1")
    assert store.dataset(season, "predictions").count_rows() == 0


def test_its_verdict_is_empty_and_nobody_is_alarmed(season: Any, closed_week: str) -> None:
    (row,) = ledger.decisions(season, "monitoring")
    assert (row["partition"], row["verdict"], row["action"]) == (closed_week, "empty", "none")
    assert row["reason"] == "the partition has no rows"
    page = store.read_bytes(store.store_uri("kettle", "reports", closed_week, "monitoring.html")).decode()
    assert "Verdict: empty." in page and "Action: none." in page
    assert store.partition_keys(season, "profiles") == []


def test_the_summary_shows_it_among_the_others(season: Any, closed_week: str) -> None:
    rows = {one.partition: one for one in summary.partitions(season)}
    assert list(rows) == WEEKS[:13]
    assert (rows[closed_week].rows, rows[closed_week].scored, rows[closed_week].verdict) == (0, 0, "empty")
    assert health_of(season).newest("events") == closed_week


def test_a_week_that_nobody_ingested_is_no_empty_one(season: Any, closed_week: str) -> None:
    with pytest.raises(DataError, match=f"partition {WEEKS[15]} has no events, and has not been ingested"):
        stage("score.plan")("kettle", WEEKS[15])
    with pytest.raises(DataError, match=f"partition {WEEKS[15]} has no predictions"):
        stage("monitor.profile")("kettle", WEEKS[15])


def test_weeks_that_closed_while_nobody_ran_are_named_with_the_commands_that_load_them(
    season: Any, closed_week: str
) -> None:
    now = season.partitions.ingested_at(WEEKS[15])
    assert summary.missed(season, now) == WEEKS[13:]
    assert summary.missed(season, now - timedelta(seconds=1)) == WEEKS[13:15]
    assert health_of(season, now).missed == (
        f"3 weeks closed and were not ingested: {WEEKS[13]} to {WEEKS[15]}. To load what is missing, with all that "
        f"follows: airflow backfill create --dag-id kettle.ingest --from-date {WEEKS[13]} --to-date {WEEKS[15]}; "
        f"without: evergreen run ingest kettle --first {WEEKS[13]} --last {WEEKS[15]}"
    )


def test_what_comes_later_for_an_empty_week_was_not_known_before(season: Any, closed_week: str) -> None:
    local_run.ingest("kettle", CLOSED[3], CLOSED[3])
    assert empty(season) == CLOSED
    before = present(season)
    pq.write_table(kettles(CLOSED[:3]), season.folder / "kettles.parquet")
    published = local_run.ingest("kettle", CLOSED[3], CLOSED[3])
    assert (published.events, published.new, published.empty) == (A_WEEK, A_WEEK, 0)
    late = store.dataset(season, "events").to_table(filter=pc.field("partition") == CLOSED[3])
    assert pc.min(late["known_time"]).as_py() >= before
    assert empty(season) == CLOSED[:3]


def test_the_next_ingest_names_what_was_missed_before_it(tmp_path: Path, season: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
        assert local_run.ingest("kettle", WEEKS[0], WEEKS[1]).verdict is None
        published = local_run.ingest("kettle", WEEKS[6], WEEKS[6])
        assert published.verdict == "partitions were missed"
        assert published.reason.startswith(f"4 weeks closed and were not ingested: {WEEKS[2]} to {WEEKS[5]}. ")


def test_a_feed_that_never_paused_is_asked_for_and_told_what_to_set(tmp_path: Path, season: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
        local_run.ingest("kettle", WEEKS[0], WEEKS[1])
        with pytest.raises(DataError, match=f"{CLOSED[0]}: no rows") as refused:
            stage("ingest.validate")("kettle", stage("ingest.extract")("kettle", CLOSED[0], CLOSED[0]))
        assert "validation.allow_empty: true" in refused.value.cure
        with pytest.raises(DataError, match=f"2 from {CLOSED[0]} to {CLOSED[1]}: no rows"):
            local_run.ingest("kettle", CLOSED[0], CLOSED[1])
