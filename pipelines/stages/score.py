"""`<problem>.score`: plan -> score (per shard) -> publish, for one partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import targets
from pipelines.asof.clock import INSTANT, present
from pipelines.asof.ingested import ingested
from pipelines.errors import DataError
from pipelines.paths import manifest_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import version_problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.training.model import Model


def plan(problem: str, partition: str) -> list[dict[str, Any]]:
    """One shard per so many rows; all of them name the same champion, resolved here and once.

    Result: [{"partition", "shard", "shards", "events": how many are to be scored, of all shards, "version", "run_id",
    "as_of", "events_version", "labels_version"}].

    Raises:
        NothingToDo: no champion serves yet.
        DataError: the partition has not been ingested.
    """
    from pipelines import tracking

    config = load_problem(problem)
    config.partitions.parse(partition)
    as_of = (present(config) + INSTANT).isoformat()
    versions = {f"{name}_version": store.table_version(config, name) for name in ("events", "labels")}
    rows = _targets(config, {"partition": partition, "as_of": as_of, **versions}).count_rows()
    if not rows and partition not in ingested(config):
        raise DataError(
            f"partition {partition} has no events, and has not been ingested",
            where=f"problem {problem}",
            cure=f"run {problem}.ingest for it first",
        )
    champion = tracking.serving(config)
    shards = max(ceil(rows / config.scoring.shard_rows), 1)  # what is empty is scored too: its manifest says so
    shared = {
        "partition": partition,
        "shards": shards,
        "events": rows,
        "version": str(champion.version),
        "run_id": champion.run_id,
        "as_of": as_of,
        **versions,
    }
    store.begin(_staging(config, partition))
    return [{**shared, "shard": shard} for shard in range(shards)]


def score(problem: str, shard: dict[str, Any]) -> dict[str, Any]:
    """Stage features and scores of one shard; a retry replaces what an earlier try has left.

    Result: {"partition", "version", "as_of", "uri", "rows", "events", "events_version", "unseen": {feature: rows with a
    category that the model did not see in training}}.
    """
    from pipelines import tracking
    from pipelines.features.featurize import featurize
    from pipelines.scoring.score import score as score_rows

    config = load_problem(problem)
    its = version_problem(config, shard["version"])
    model = tracking.load_model(shard["run_id"])
    events = store.dataset(config, "events", shard["events_version"])
    labels = store.dataset(config, "labels", shard["labels_version"])
    rows_of_shard = sql.query(
        f"SELECT * FROM targets WHERE hash({sql.quote(config.key)}) % $shards = $shard",
        {"targets": _targets(config, shard)},
        {name: shard[name] for name in ("shards", "shard")},
    )
    features = featurize(its, rows_of_shard, events, labels, config.scoring.batch_rows)
    uri = _staging(config, shard["partition"], f"{shard['shard']}")
    predicted = table_schema(config, "predictions")
    schema = pa.schema(
        [*table_schema(its, "features"), *(predicted.field(name) for name in ("score", "decision", "probabilities"))]
    )
    unseen: Counter[str] = Counter()
    rows = store.stage(uri, score_rows(model, _noting_unseen(model, features, unseen)), schema)
    passed_on = {name: shard[name] for name in ("partition", "version", "as_of", "events", "events_version")}
    return passed_on | {"uri": uri, "rows": rows, "unseen": dict(sorted(unseen.items()))}


def publish(problem: str, partition: str, scored: list[dict[str, Any]]) -> dict[str, Any]:
    """Commit the shards to `features`, then to `predictions`, one commit each; last comes the manifest.

    Whoever waits for the manifest finds the whole partition. Result: {"partition", "rows", "version",
    "predictions_version", "manifest"}.

    Raises:
        DataError: the shards are not one row per event of the partition.
    """
    config = load_problem(problem)
    staging = _staging(config, partition)
    if done := store.finished(staging):
        return done
    version = scored[0]["version"]
    its = version_problem(config, version)
    staged = store.staged(*(shard["uri"] for shard in scored))
    _check_complete(config, partition, staged, scored[0]["events"])
    manifest = manifest_uri(config, partition)
    store.delete(manifest)
    features = table_schema(its, "features")
    store.write_table(its, "features", staged.scanner(columns=features.names).to_reader(), [partition])
    schema, now = table_schema(config, "predictions"), datetime.now(UTC)
    table_version = store.write_table(
        config,
        "predictions",
        pa.RecordBatchReader.from_batches(schema, _predictions(staged, schema, version, now)),
        [partition],
    )
    rows = sum(shard["rows"] for shard in scored)
    unseen: Counter[str] = Counter()
    for shard in scored:
        unseen.update(shard["unseen"])
    store.write_json(
        manifest,
        {
            "partition": partition,
            "rows": rows,
            "model_version": version,
            "table_version": table_version,
            "table": store.table_uri(config, "predictions"),
            "files": store.partition_files(config, "predictions", partition),
            "unseen": dict(sorted(unseen.items())),
        },
    )
    result = {
        "partition": partition,
        "rows": rows,
        "version": version,
        "predictions_version": table_version,
        "manifest": manifest,
    }
    return store.finish(staging, result)


def _noting_unseen(model: Model, features: Iterable[pa.RecordBatch], unseen: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The batches as they are; `unseen` grows by what is new to the model in each as it passes."""
    for batch in features:
        unseen.update(model.unseen(pa.Table.from_batches([batch])))
        yield batch


def _predictions(staged: Any, schema: pa.Schema, version: str, now: datetime) -> Iterator[pa.RecordBatch]:
    constants = {"model_version": version, "variant": "champion", "scored_time": now}
    for batch in staged.scanner(columns=[n for n in schema.names if n not in constants]).to_reader():
        columns = [
            pa.array([constants[f.name]] * batch.num_rows, f.type) if f.name in constants else batch.column(f.name)
            for f in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _targets(config: Problem, shard: dict[str, Any]) -> ds.Dataset:
    """One row per event of the shard's partition: what to score it from."""
    events = store.dataset(config, "events", shard["events_version"])
    return targets(events.filter(pc.field("partition") == shard["partition"]), datetime.fromisoformat(shard["as_of"]))


def _check_complete(config: Problem, partition: str, staged: Any, events: int) -> None:
    """`events`: how many `plan` has counted, in the version of the table that was scored."""
    counted = f"SELECT count(*) AS rows, count(DISTINCT {sql.quote(config.key)}) AS keys FROM staged"
    counts = sql.query(counted, {"staged": staged}).to_pylist()[0]
    if not counts["rows"] == counts["keys"] == events:
        raise DataError(
            f"{counts['rows']} scores for {counts['keys']} keys, but {events} events",
            where=f"partition {partition}",
            cure=f"clear the run from plan on; if it stays, {config.key} is not unique in events",
        )


def _staging(config: Problem, partition: str, *parts: str) -> str:
    return store.store_uri(config.name, "staging", "score", partition, *parts)
