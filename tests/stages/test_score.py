from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipelines import local_run, store
from pipelines.errors import DataError
from pipelines.problem import load_problem
from pipelines.stages import stage
from pipelines.store.files import has_folder
from tests.stages.conftest import in_shards

WEEK = "2013-02-11"

pytestmark = pytest.mark.slow

# A scoring task that says so when its first batch is on the way to the table, and then waits to be killed.
STUCK = """
import sys, time
from pipelines.stages import stage
from pipelines.stages.score import publish as publishing
whole = publishing._predictions
def stuck(*arguments):
    for batch in whole(*arguments):
        yield batch
        print("writing", flush=True)
        time.sleep(60)
publishing._predictions = stuck
shards = stage("score.plan")("flight_delay", sys.argv[1])
stage("score.publish")("flight_delay", sys.argv[1], [stage("score.score")("flight_delay", shard) for shard in shards])
"""


def rows(problem: str) -> dict[str, int]:
    table = store.dataset(load_problem(problem), "predictions").to_table(columns=["partition"])
    return {one["values"]: one["counts"] for one in pc.value_counts(table["partition"]).to_pylist()}


def test_a_partition_is_scored_one_row_per_event_and_again_without_a_change(loop_after: Callable[..., str]) -> None:
    loop = loop_after(1, is_scored=False)
    in_shards(loop)
    shards = stage("score.plan")(loop, WEEK)
    assert len(shards) == 3, "6,119 events in shards of at most 3,000"
    published = local_run.score(loop, WEEK)
    events = store.dataset(load_problem(loop), "events").to_table(filter=pc.field("partition") == WEEK)
    assert rows(loop) == {WEEK: events.num_rows}
    table = store.dataset(load_problem(loop), "predictions").to_table()
    assert set(table["flight_id"].to_pylist()) == set(events["flight_id"].to_pylist())
    before = table.sort_by("flight_id").select(["flight_id", "score", "model_version"])

    again = local_run.score(loop, WEEK)
    after = store.dataset(load_problem(loop), "predictions").to_table().sort_by("flight_id")
    assert after.select(before.schema.names).equals(before)
    assert again.predictions_version > published.predictions_version


def test_the_manifest_names_files_that_hold_the_partition(loop_after: Callable[..., str]) -> None:
    loop = loop_after(1, is_scored=False)
    published = local_run.score(loop, WEEK)
    manifest = json.loads(Path(published.manifest.removeprefix("file://")).read_text())
    plain = sum(pq.ParquetFile(name.removeprefix("file://")).metadata.num_rows for name in manifest["files"])
    assert plain == manifest["rows"] == published.rows
    assert manifest["table_version"] == DeltaTable(manifest["table"]).version()
    assert not has_folder(store.store_uri(loop, "staging", "score", WEEK))


def test_a_task_killed_in_mid_write_leaves_what_was_there_and_a_retry_one_row_per_event(
    loop_after: Callable[..., str],
) -> None:
    loop = loop_after(1, is_scored=False)
    in_shards(loop)
    scored = local_run.score(loop, WEEK)
    before = rows(loop)
    task = subprocess.Popen([sys.executable, "-c", STUCK, WEEK], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert task.stdout is not None
    assert task.stdout.readline() == "writing\n"
    task.send_signal(signal.SIGKILL)
    assert task.wait() == -signal.SIGKILL
    task.stdout.close()
    assert rows(loop) == before, "a reader sees the old rows, whole"
    assert not store.exists(scored.manifest), "and whoever waits for the manifest goes on waiting"

    local_run.score(loop, WEEK)
    table = store.dataset(load_problem(loop), "predictions").to_table()
    assert rows(loop) == before
    assert table["flight_id"].combine_chunks().unique().__len__() == table.num_rows
    assert store.exists(scored.manifest)


def test_a_retry_after_the_last_write_gives_what_was_done(loop: str) -> None:
    extracted = stage("ingest.extract")(loop, WEEK, WEEK)
    validated = stage("ingest.validate")(loop, extracted)
    assert stage("ingest.publish")(loop, validated) == stage("ingest.publish")(loop, validated)
    scored = [stage("score.score")(loop, shard) for shard in stage("score.plan")(loop, WEEK)]
    assert stage("score.publish")(loop, WEEK, scored) == stage("score.publish")(loop, WEEK, scored)


def test_the_champion_goes_on_with_its_own_features_when_the_config_changes(loop_after: Callable[..., str]) -> None:
    loop = loop_after(1)
    before = store.dataset(load_problem(loop), "predictions").to_table().sort_by("flight_id")["score"]
    path = load_problem(loop).folder / "problem.yaml"
    path.write_text(path.read_text().replace("window_days: 28", "window_days: 7"))
    local_run.score(loop, WEEK)
    assert store.dataset(load_problem(loop), "predictions").to_table().sort_by("flight_id")["score"].equals(before)


def test_a_partition_that_was_not_ingested_is_told(loop: str) -> None:
    with pytest.raises(DataError, match="partition 2013-06-03 has no events"):
        stage("score.plan")(loop, "2013-06-03")


def test_shards_that_miss_an_event_are_not_published(loop_after: Callable[..., str]) -> None:
    loop = loop_after(1, is_scored=False)
    in_shards(loop)
    scored = [stage("score.score")(loop, shard) for shard in stage("score.plan")(loop, WEEK)]
    with pytest.raises(DataError, match="scores for"):
        stage("score.publish")(loop, WEEK, scored[:2])
    assert rows(loop) == {}
