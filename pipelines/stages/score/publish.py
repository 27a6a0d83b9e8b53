"""publish: the shards become the partition, in one commit, and a manifest says so."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import pyarrow as pa

from pipelines import sql, store
from pipelines.artifacts import TableName, table_schema
from pipelines.errors import ConfigError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.releases import Assignment, Variant
from pipelines.handoffs.scoring import ScoredPartition, ScoredShard
from pipelines.paths import manifest_uri, score_staging_uri
from pipelines.problem import Problem
from pipelines.release.assign import is_challengers, unit_of
from pipelines.stages.score.shards import events_to_score
from pipelines.stages.score.sides import Outcome, Side, outcome
from pipelines.summary import unscored, unscored_in_words

if TYPE_CHECKING:
    import pyarrow.dataset as ds

log = logging.getLogger(__name__)

Sides = Mapping[Variant, Side]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def publish(problem_name: str, partition: str, scored: list[ScoredShard]) -> ScoredPartition:
    """Commit the shards to `features`, then to `predictions`, one commit each; last comes the manifest.

    Whoever waits for the manifest finds the whole partition. Where a release has assigned its rows, each is served by
    its version, and what the other one gave it goes to `shadow_predictions`; where the challenger has failed or strays
    too far, it is taken back first, and the champion serves them all.

    Raises:
        DataError: the shards are not one row per event of the partition.
    """
    problem = problem_of(problem_name, scored[0])
    staging = score_staging_uri(problem, partition)
    if done := store.finished(staging, ScoredPartition):
        return done
    sides = {variant: Side(problem, [shard for shard in scored if shard.variant == variant]) for variant in VARIANTS}
    champion, challenger = sides["champion"], sides["challenger"]
    events = scored[0].events
    if events is None:
        counted = events_to_score(problem, partition, scored[0].as_of, scored[0].events_version)
        events = counted.count_rows()
    for side in sides.values():
        if side.shards and side.failed is None:
            side.require_complete(events)
    end = Outcome(scored[0].assignment)
    if end.assignment is not None:
        end = outcome(problem, partition, end.assignment, champion, challenger)
    manifest = manifest_uri(problem, partition)
    store.delete(manifest)
    _write_features(champion, partition)
    if end.assignment is not None and challenger.trained_problem.feature_set != champion.trained_problem.feature_set:
        _write_features(challenger, partition)
    versions: Counter[str] = Counter()
    table_version = _publish_rows(problem, partition, end.assignment, sides, versions)
    store.write_json(
        manifest,
        {
            "partition": partition,
            "rows": champion.rows,
            "model_version": champion.version,
            "versions": dict(versions),
            "table_version": table_version,
            "table": store.table_uri(problem, "predictions"),
            "files": store.partition_files(problem, "predictions", partition),
            "unseen": champion.unseen,
            "assignment": None if end.assignment is None else end.assignment.model_dump(mode="json"),
            "gaps": [gap.model_dump() for gap in end.gaps],
            "config": scored[0].config,
        },
    )
    left_out = unscored_in_words(problem, [key for key in unscored(problem) if key < partition])
    if left_out:
        log.warning("%s", left_out)
    result = ScoredPartition(
        config=scored[0].config,
        partition=partition,
        rows=champion.rows,
        version=champion.version,
        challenger=challenger.version if challenger.shards else None,
        challenger_rows=versions[challenger.version] if end.assignment else None,
        taken_back=end.taken_back,
        predictions_version=table_version,
        manifest=manifest,
        verdict="partitions were missed" if left_out else None,
        reason=left_out,
    )
    store.finish(staging, result)
    return result


def _write_features(side: Side, partition: str) -> None:
    names = table_schema(side.trained_problem, "features").names
    rows = side.staged.scanner(columns=names).to_reader()
    store.write_table(side.trained_problem, "features", rows, [partition])


def _publish_rows(
    problem: Problem, partition: str, assignment: Assignment | None, sides: Sides, versions: Counter[str]
) -> int:
    """Replace the partition in `predictions`, whose new version is given; `versions` counts its rows by version.

    First in `shadow_predictions`: who finds a row that a release has assigned finds what the other version gave it.
    """
    now = datetime.now(UTC)
    if assignment is None:
        if problem.release.by_steps and partition in store.partition_keys(problem, "shadow_predictions"):
            _write(problem, "shadow_predictions", partition, iter(()))  # of a challenger that was taken back since
        return _write(problem, "predictions", partition, _counting(_predictions(sides["champion"], now), versions))
    _write(problem, "shadow_predictions", partition, _assigned(problem, assignment, sides, now, is_shadow=True))
    served = _assigned(problem, assignment, sides, now, is_shadow=False)
    return _write(problem, "predictions", partition, _counting(served, versions))


def _write(problem: Problem, name: TableName, partition: str, rows: Iterator[pa.RecordBatch]) -> int:
    reader = pa.RecordBatchReader.from_batches(table_schema(problem, name), rows)
    return store.write_table(problem, name, reader, [partition])


def _counting(rows: Iterator[pa.RecordBatch], versions: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows as they are; `versions` grows by the version of each as they pass."""
    for batch in rows:
        for group in batch.column("model_version").value_counts().to_pylist():
            versions[group["values"]] += group["counts"]
        yield batch


def _predictions(champion: Side, now: datetime) -> Iterator[pa.RecordBatch]:
    """Rows of a partition that no release has to do with."""
    schema = table_schema(champion.problem, "predictions")
    constants: dict[str, object] = {"model_version": champion.version, "variant": "champion", "scored_time": now}
    constants |= dict.fromkeys(("experiment", "unit", "propensity"))
    for batch in champion.staged.scanner(columns=[n for n in schema.names if n not in constants]).to_reader():
        columns = [
            pa.array([constants[f.name]] * batch.num_rows, f.type) if f.name in constants else batch.column(f.name)
            for f in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _assigned(
    problem: Problem, assignment: Assignment, sides: Sides, now: datetime, *, is_shadow: bool
) -> Iterator[pa.RecordBatch]:
    """Each row with the score of the version that serves it; or, for the shadow, with that of the other one.

    Tables are opened at once, and not when the rows are asked for: Delta opens none while it writes one.
    """
    scored = [problem.key, "partition", "event_time", "score", "decision", "probabilities"]
    own = [f"s.{sql.quote(name)}" for name in scored]
    tables: dict[str, ds.Dataset] = {variant: side.staged for variant, side in sides.items()}
    joined, row = "", "s"
    if assignment.unit != "key":
        _require_unit(problem, assignment)
        first = sides["champion"].shards[0]
        tables["e"] = events_to_score(problem, first.partition, first.as_of, first.events_version)
        joined, row = f"JOIN e USING ({sql.quote(problem.key)})", "e"
    parts = []
    for variant, side in sides.items():
        wanted = is_challengers(assignment, unit_of(problem, assignment, row), "s.partition")
        if (variant == "challenger") == is_shadow:
            wanted = f"NOT ({wanted})"
        parts.append(
            f"""SELECT {", ".join(own)}, {sql.literal(side.version)} AS model_version,
                {sql.literal(variant)} AS variant, $now AS scored_time, {sql.literal(assignment.release)} AS experiment,
                {unit_of(problem, assignment, row)} AS unit, {assignment.chance(variant)}::DOUBLE AS propensity
            FROM {variant} AS s {joined} WHERE {wanted}"""
        )
    schema = table_schema(problem, "predictions")
    rows = sql.stream(" UNION ALL ".join(parts), tables, {"now": now}, problem.scoring.batch_rows)
    return (batch.select(schema.names).cast(schema) for batch in rows)


def _require_unit(problem: Problem, assignment: Assignment) -> None:
    """
    Raises:
        ConfigError: the problem has lost the column that a partition was assigned by.
    """
    if assignment.unit not in problem.columns:
        raise ConfigError(
            f"release {assignment.release} has assigned rows by {assignment.unit}, which is no column any more",
            where=f"problem {problem.name}",
            cure=f"declare {assignment.unit} in columns again, to score what it has assigned",
        )
