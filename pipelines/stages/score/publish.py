"""publish: the shards become the partition, in one commit, and a manifest says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.scoring import ScoredPartition, ScoredShard
from pipelines.paths import manifest_uri, score_staging_uri
from pipelines.problem import Problem
from pipelines.release.versions import version_problem
from pipelines.stages.score.shards import events_to_score

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def publish(problem_name: str, partition: str, scored: list[ScoredShard]) -> ScoredPartition:
    """Commit the shards to `features`, then to `predictions`, one commit each; last comes the manifest.

    Whoever waits for the manifest finds the whole partition.

    Raises:
        DataError: the shards are not one row per event of the partition.
    """
    problem = problem_of(problem_name, scored[0])
    staging = score_staging_uri(problem, partition)
    if done := store.finished(staging, ScoredPartition):
        return done
    version = scored[0].version
    trained_problem = version_problem(problem, version)
    staged = store.staged(*(shard.uri for shard in scored))
    events = scored[0].events
    if events is None:
        counted = events_to_score(problem, partition, scored[0].as_of, scored[0].events_version)
        events = counted.count_rows()
    _check_complete(problem, partition, staged, events)
    manifest = manifest_uri(problem, partition)
    store.delete(manifest)
    features = table_schema(trained_problem, "features")
    store.write_table(trained_problem, "features", staged.scanner(columns=features.names).to_reader(), [partition])
    schema, now = table_schema(problem, "predictions"), datetime.now(UTC)
    table_version = store.write_table(
        problem,
        "predictions",
        pa.RecordBatchReader.from_batches(schema, _predictions(staged, schema, version, now)),
        [partition],
    )
    rows = sum(shard.rows for shard in scored)
    unseen: Counter[str] = Counter()
    for shard in scored:
        unseen.update(shard.unseen)
    store.write_json(
        manifest,
        {
            "partition": partition,
            "rows": rows,
            "model_version": version,
            "table_version": table_version,
            "table": store.table_uri(problem, "predictions"),
            "files": store.partition_files(problem, "predictions", partition),
            "unseen": dict(sorted(unseen.items())),
            "config": scored[0].config,
        },
    )
    result = ScoredPartition(
        config=scored[0].config,
        partition=partition,
        rows=rows,
        version=version,
        predictions_version=table_version,
        manifest=manifest,
    )
    store.finish(staging, result)
    return result


def _predictions(staged: ds.Dataset, schema: pa.Schema, version: str, now: datetime) -> Iterator[pa.RecordBatch]:
    constants: dict[str, object] = {"model_version": version, "variant": "champion", "scored_time": now}
    constants |= dict.fromkeys(("experiment", "unit", "propensity"))  # no release is under way
    for batch in staged.scanner(columns=[n for n in schema.names if n not in constants]).to_reader():
        columns = [
            pa.array([constants[f.name]] * batch.num_rows, f.type) if f.name in constants else batch.column(f.name)
            for f in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _check_complete(problem: Problem, partition: str, staged: ds.Dataset, events: int) -> None:
    """`events`: how many `plan` has counted, in the version of the table that was scored."""
    counted = f"SELECT count(*) AS rows, count(DISTINCT {sql.quote(problem.key)}) AS keys FROM staged"
    counts = sql.query(counted, {"staged": staged}).to_pylist()[0]
    if not counts["rows"] == counts["keys"] == events:
        raise DataError(
            f"{counts['rows']} scores for {counts['keys']} keys, but {events} events",
            where=f"partition {partition}",
            cure=f"clear the run from plan on; if it stays, {problem.key} is not unique in events",
        )
